"""A dense network as arrays: one flat parameter vector and a table of its layers."""

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.special import expit, log_expit, log_softmax, softmax, xlogy
from sklearn.utils import gen_batches
from sklearn.utils.extmath import safe_sparse_dot

from sklearn_greedy._units import BERNOULLI, GAUSSIAN, POISSON

Array = npt.NDArray

# In the order of the kernels' integer codes.
ACTIVATIONS = ("logistic", "tanh", "relu", "identity", "softplus", "elu")
# Columns of a network's table, as the kernels have them.
N_IN, N_OUT, ACTIVATION, WEIGHT, BIAS, TRANSPOSED = range(6)
# Rows that go through several layers at a time.
_FORWARD_ROWS = 8192


def activate(z: Array, activation: str) -> Array:
    """Apply an activation to z, in place, in the dtype of z."""
    if activation == "logistic":
        expit(z, out=z)
    elif activation == "tanh":
        np.tanh(z, out=z)
    elif activation == "relu":
        np.maximum(z, 0, out=z)
    elif activation == "softplus":
        np.logaddexp(0, z, out=z)
    elif activation == "elu":
        below = np.expm1(np.minimum(z, 0))
        np.maximum(z, below, out=z)
    return z


def dense_layer(X, coef: Array, intercept: Array) -> Array:
    """Pre-activations ``X @ coef + intercept`` for dense or CSR X."""
    z = safe_sparse_dot(X, coef, dense_output=True)
    z += intercept
    return z


def keep_largest(h: Array, n_active: int) -> None:
    """Zero what is below the n_active-th largest value of its row, in place."""
    if n_active >= h.shape[1]:
        return
    limit = np.partition(h, h.shape[1] - n_active, axis=1)[:, h.shape[1] - n_active]
    h[h < limit[:, None]] = 0


def forward(X, coefs, intercepts, activations, n_active=None) -> Array:
    """Output of the last layer, in the dtype of X and the parameters; n_active :
    number of units that each row keeps in each layer (None for all), or None.
    """
    in_memory = sparse.issparse(X) or isinstance(X, np.ndarray)
    if X.shape[0] > _FORWARD_ROWS and (len(coefs) > 1 or not in_memory):
        # Hidden layers may be much wider than what they lead to.
        through = coefs, intercepts, activations, n_active
        for rows in gen_batches(X.shape[0], _FORWARD_ROWS):
            part = forward(X[rows], *through)
            if rows.start == 0:
                out = np.empty((X.shape[0], part.shape[1]), part.dtype)
            out[rows] = part
        return out
    X = X if in_memory else X[:]
    kept = [None] * len(coefs) if n_active is None else n_active
    layers = zip(coefs, intercepts, activations, kept, strict=True)
    for coef, intercept, activation, n_kept in layers:
        X = activate(dense_layer(X, coef, intercept), activation)
        if n_kept is not None:
            keep_largest(X, n_kept)
    return X


def unit_log_likelihood(x: Array, z: Array, blocks: Array, scale: Array) -> Array:
    """Log-density per row of x given the pre-activation z of its columns.

    Bernoulli: ``x z - log(1 + exp(z))``; softmax: ``x z - log sum exp(z)``; gaussian:
    ``-((x - z) / scale)**2 / 2``, without the constant; poisson: minus half the
    deviance. So that it is minus the training loss.
    """
    total = np.zeros(len(z), dtype=z.dtype)
    for start, stop, kind, _ in blocks:
        part, value = z[:, start:stop], x[:, start:stop]
        if kind == GAUSSIAN:
            terms = -0.5 * ((value - part) / scale[start:stop]) ** 2
        elif kind == BERNOULLI:
            terms = (value - 1) * part + log_expit(part)
        elif kind == POISSON:
            # Of large counts float32 would leave nothing but rounding.
            value, part = value.astype(np.float64), part.astype(np.float64)
            terms = value * (1 + part) - xlogy(value, value) - np.exp(part)
        else:
            terms = value * log_softmax(part, axis=1)
        total += terms.sum(axis=1)
    return total


def layer_number(layer, n_hidden: int) -> int:
    """Number from 0 of a hidden layer, which may be counted from the end; ValueError
    where there is none.
    """
    if n_hidden == 0:
        raise ValueError("There are no hidden layers.")
    if not isinstance(layer, int | np.integer) or not -n_hidden <= layer < n_hidden:
        raise ValueError(
            f"layer={layer!r}, but the hidden layers are numbered 0 to {n_hidden - 1}."
        )
    return int(layer % n_hidden)


def output_means(z: Array, activation: str) -> Array:
    """Mean of the head's units: the canonical link of its block, out of place."""
    if activation == "softmax":
        return softmax(z, axis=1)
    if activation == "exp":
        return np.exp(z)
    return activate(z.copy(), activation)


def glorot_uniform(rng, n_in: int, n_out: int, activation: str):
    """Weights and biases as in scikit-learn's MLP (Glorot and Bengio 2010, eq. 16)."""
    factor = 2.0 if activation == "logistic" else 6.0
    bound = np.sqrt(factor / (n_in + n_out))
    return rng.uniform(-bound, bound, (n_in, n_out)), rng.uniform(-bound, bound, n_out)


def random_layers(rng, widths, activation: str):
    """Weights and biases of layers between these widths, as ``glorot_uniform``."""
    return [
        glorot_uniform(rng, n_in, n_out, activation)
        for n_in, n_out in itertools.pairwise(widths)
    ]


def fold_input(coef: Array, intercept: Array, offset: Array, scale: Array):
    """Parameters for raw input from those for ``(X - offset) / scale``."""
    if np.any(scale != 1):  # a copy of wide weights is large
        coef = coef / scale[:, None]
    return coef, intercept - offset @ coef


def unfold_input(coef: Array, intercept: Array, offset: Array, scale: Array):
    """Inverse of ``fold_input``."""
    return coef * scale[:, None], intercept + offset @ coef


def fold_output(coef: Array, intercept: Array, offset: Array, scale: Array):
    """Parameters for raw output from those for ``(y - offset) / scale``."""
    if np.any(scale != 1):
        coef = coef * scale
    return coef, intercept * scale + offset


def unfold_output(coef: Array, intercept: Array, offset: Array, scale: Array):
    """Inverse of ``fold_output``."""
    return coef / scale, (intercept - offset) / scale


def fold(coefs, intercepts, of_input, of_output):
    """Parameters of a network for raw rows and targets; of_input, of_output : offset
    and scale.
    """
    coefs, intercepts = list(coefs), list(intercepts)
    coefs[0], intercepts[0] = fold_input(coefs[0], intercepts[0], *of_input)
    coefs[-1], intercepts[-1] = fold_output(coefs[-1], intercepts[-1], *of_output)
    return coefs, intercepts


def unfold(coefs, intercepts, of_input, of_output):
    """Inverse of ``fold``."""
    coefs, intercepts = list(coefs), list(intercepts)
    coefs[0], intercepts[0] = unfold_input(coefs[0], intercepts[0], *of_input)
    coefs[-1], intercepts[-1] = unfold_output(coefs[-1], intercepts[-1], *of_output)
    return coefs, intercepts


@dataclass(frozen=True)
class Network:
    """Table of the layers of a network whose parameters are one flat vector.

    ``layers`` : (n_layers, 6) int64 with n_in, n_out, activation code, offset of the
    weights, offset of the biases, and whether the weights are stored transposed.
    """

    layers: Array
    n_parameters: int

    @classmethod
    def dense(cls, sizes, activations) -> "Network":
        """Network with layer widths ``sizes`` (inputs first)."""
        table, at = [], 0
        for n_in, n_out, activation in zip(
            sizes[:-1], sizes[1:], activations, strict=True
        ):
            code = ACTIVATIONS.index(activation)
            table.append((n_in, n_out, code, at, at + n_in * n_out, 0))
            at += (n_in + 1) * n_out
        return cls(np.array(table, dtype=np.int64), at)

    @classmethod
    def tied(cls, n_in, n_hidden, activation) -> "Network":
        """Autoencoder with one hidden layer whose decoder shares the weights."""
        code, linear = ACTIVATIONS.index(activation), ACTIVATIONS.index("identity")
        n_weights = n_in * n_hidden
        decoder_bias = n_weights + n_hidden
        table = [
            (n_in, n_hidden, code, 0, n_weights, 0),
            (n_hidden, n_in, linear, 0, decoder_bias, 1),
        ]
        return cls(np.array(table, dtype=np.int64), decoder_bias + n_in)

    def views(self, theta: Array):
        """Weights (n_in, n_out) and biases of each layer, as views into theta."""
        coefs, intercepts = [], []
        for n_in, n_out, _, weight, bias, transposed in self.layers:
            block = theta[weight : weight + n_in * n_out]
            coefs.append(
                block.reshape(n_out, n_in).T
                if transposed
                else block.reshape(n_in, n_out)
            )
            intercepts.append(theta[bias : bias + n_out])
        return coefs, intercepts

    def pack(self, coefs, intercepts, dtype=np.float32) -> Array:
        """Flat parameter vector of the given weights and biases; where weights are
        tied, the layer that comes last gives them.
        """
        theta = np.empty(self.n_parameters, dtype=dtype)
        for view, value in zip(self.views(theta)[0], coefs, strict=True):
            view[...] = value
        for view, value in zip(self.views(theta)[1], intercepts, strict=True):
            view[...] = value
        return theta
