"""One RBM as arrays: its energy, free energy and conditionals.

In the scaled space, where gaussian units have unit variance, visible units v with
biases b and hidden units h with biases c and weights w have the energy (user guide,
eq. 1)

    E(v, h) = sum_gaussian (v_i - b_i)**2 / 2 + sum_poisson log v_i!
              - sum_other b_i v_i - sum_j c_j h_j - v w h' + sum_j r(h_j),

with r(h) = 0 for bernoulli and h**2 / 2 for gaussian hidden units. A rectified hidden
unit is a pile of bernoulli copies whose biases fall by one from copy to copy.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit, gammaln, spence

from sklearn_greedy._units import (
    GAUSSIAN,
    KIND,
    POISSON,
    START,
    STOP,
    draw_units,
    log_normaliser,
    unit_means,
)

Array = npt.NDArray

HIDDEN_KINDS = ("bernoulli", "relu", "gaussian")
# The activation that goes on to the next layer and into a network.
HIDDEN_ACTIVATIONS = {"bernoulli": "logistic", "relu": "relu", "gaussian": "identity"}
KIND_OF_ACTIVATION = {
    activation: kind for kind, activation in HIDDEN_ACTIVATIONS.items()
}


@dataclass(frozen=True)
class RBM:
    """Parameters of one RBM in the scaled space.

    w : (n_visible, n_hidden); c : (n_hidden,); b : (n_visible,); blocks : table of the
    visible units, (n_blocks, 4); hidden : kind of the hidden units.
    """

    w: Array
    c: Array
    b: Array
    blocks: Array
    hidden: str = "bernoulli"

    def columns(self, kind: int) -> Array:
        """Numbers of the visible columns of a kind."""
        chosen = self.blocks[self.blocks[:, KIND] == kind]
        ranges = [np.arange(block[START], block[STOP]) for block in chosen]
        return np.concatenate(ranges) if ranges else np.empty(0, dtype=np.int64)

    def free_energy(self, v: Array) -> Array:
        """``-log sum_h exp(-E(v, h))`` of each row; v : (n, n_visible)."""
        gaussian, counts = self.columns(GAUSSIAN), self.columns(POISSON)
        bias = self.b.copy()
        bias[gaussian] = 0
        energy = -(v @ bias) - hidden_log_sums(v @ self.w + self.c, self.hidden)
        energy += 0.5 * ((v[:, gaussian] - self.b[gaussian]) ** 2).sum(axis=1)
        return energy + gammaln(v[:, counts] + 1).sum(axis=1)

    def hidden_log_weight(self, h: Array) -> Array:
        """``log sum_v exp(-E(v, h))`` of each row, without r(h); h : (n, n_hidden)."""
        gaussian = self.columns(GAUSSIAN)
        sums = log_normaliser(h @ self.w.T + self.b, self.blocks)
        return h @ self.c + sums - 0.5 * (self.b[gaussian] ** 2).sum()

    def group_scores(self, x: Array, start: int, stop: int) -> Array:
        """Minus the free energy with each unit of the softmax group start ... stop - 1
        in turn on, but for a constant of the row, (n, stop - start); x : pre-activation
        of the hidden units without that group, (n, n_hidden).
        """
        on = range(start, stop)
        return np.stack(
            [self.b[i] + hidden_log_sums(x + self.w[i], self.hidden) for i in on],
            axis=1,
        )

    def hidden_means(self, v: Array) -> Array:
        """E[h | v]; v : (n, n_visible)."""
        return hidden_means(v @ self.w + self.c, self.hidden)

    def scale_gradient(self, v: Array, weights: Array | None = None) -> Array:
        """Derivative of the mean log-likelihood by the log of the scale of each column
        (0 where it is not gaussian): ``<v_i (v_i - E[v_i | E[h | v]])> - 1``.

        With v = x / s the density of x is that of v over s, and Z does not depend on s.
        weights : of the rows in the means, or None.
        """
        residual = v - self.visible_means(self.hidden_means(v))
        out = np.zeros(v.shape[1])
        gaussian = self.columns(GAUSSIAN)
        products = np.float64(v * residual)
        out[gaussian] = np.average(products, axis=0, weights=weights)[gaussian] - 1
        return out

    def draw_hidden(self, v: Array, rng) -> Array:
        """A sample of p(h | v) per row."""
        x = v @ self.w + self.c
        if self.hidden == "bernoulli":
            return (rng.random(x.shape) < expit(x)).astype(x.dtype)
        noise = rng.standard_normal(x.shape).astype(x.dtype)
        if self.hidden == "gaussian":
            return x + noise
        return np.maximum(x + noise * np.sqrt(expit(x)), 0)

    def visible_means(self, h: Array) -> Array:
        """E[v | h]; h : (n, n_hidden)."""
        return unit_means(h @ self.w.T + self.b, self.blocks)

    def draw_visible(self, h: Array, rng) -> Array:
        """A sample of p(v | h) per row."""
        return draw_units(self.visible_means(h), self.blocks, rng)


def free_energy_gap(rbm: RBM, trained: Array, held: Array) -> float:
    """Mean free energy of training rows minus that of held-out rows: the mean
    log-likelihood of the held-out rows minus that of the training rows, without Z.
    """
    return float(rbm.free_energy(trained).mean() - rbm.free_energy(held).mean())


def hidden_means(x: Array, kind: str) -> Array:
    """E[h] at the pre-activation x: the derivative of ``hidden_log_sums``."""
    if kind == "bernoulli":
        return expit(x)
    return np.logaddexp(0, x) if kind == "relu" else x


def hidden_log_sums(x: Array, kind: str) -> Array:
    """``sum_j log sum_h exp(h x_j - r(h))`` over the last axis.

    A rectified unit stands for bernoulli copies with biases falling by one (Nair and
    Hinton 2010, eq. 1); with the sum over them as an integral it contributes
    ``integral_0^inf log(1 + exp(x - t)) dt = -Li2(-exp(x))``.
    """
    if kind == "bernoulli":
        return np.logaddexp(0, x).sum(axis=-1)
    if kind == "gaussian":
        return 0.5 * ((x**2).sum(axis=-1) + x.shape[-1] * np.log(2 * np.pi))
    tail = spence(1 + np.exp(-np.abs(x)))  # Li2(-exp(-|x|))
    # Above zero by the inversion formula of the dilogarithm.
    return np.where(x > 0, 0.5 * x**2 + np.pi**2 / 6 + tail, -tail).sum(axis=-1)
