"""Likelihood measures of RBMs: free energy and pseudo-log-likelihood.

An RBM with parameters (w, hidden bias c, visible bias b) in the scaled space, where
gaussian units have unit variance, has the free energy

    F(v) = sum_bernoulli -b_i v_i + sum_gaussian (v_i - b_i)**2 / 2
           - sum_j log(1 + exp(c_j + (v w)_j)).
"""

import numpy as np
import numpy.typing as npt
from sklearn.utils import gen_batches

from sklearn_greedy._units import BERNOULLI

Array = npt.NDArray

_BLOCK_FLOATS = 1 << 20
# Step and margin, in standard deviations, of the quadrature for gaussian units.
_STEP = 0.75
_REACH = 9.0
# Weights that would need more nodes are those of a fit that diverged.
_MOST_NODES = 100_000


def free_energy(v: Array, w: Array, c: Array, b: Array, kinds: Array) -> Array:
    """Free energy of each row; v : (n, n_visible) in the scaled space."""
    bernoulli = kinds == BERNOULLI
    hidden = np.logaddexp(0, v @ w + c).sum(axis=1)
    linear = v[:, bernoulli] @ b[bernoulli]
    square = 0.5 * ((v[:, ~bernoulli] - b[~bernoulli]) ** 2).sum(axis=1)
    return square - linear - hidden


def pseudo_log_likelihood(
    v: Array, w: Array, c: Array, b: Array, kinds: Array, columns: Array | None = None
) -> Array:
    """``sum_i log p(v_i | all other units)`` of each row, exactly for every column.

    Bernoulli units: from the free energies with the unit at 0 and at 1, weighted by
    the value (which may lie between). Gaussian units: with the normaliser over v_i
    by quadrature. ``columns``: sum over these columns only, scaled up to
    all of them. Rows and columns are taken in blocks (user guide, eqs. 11-12).
    """
    columns = np.arange(v.shape[1]) if columns is None else columns
    out = np.empty(v.shape[0], dtype=v.dtype)
    for rows in gen_batches(v.shape[0], max(1, _BLOCK_FLOATS // w.shape[1] // 8)):
        part = v[rows]
        x = part @ w + c
        out[rows] = sum(
            _log_bernoulli(part[:, i], x, w[i], b[i])
            if kinds[i] == BERNOULLI
            else _log_gaussian(part[:, i], x, w[i], b[i])
            for i in columns
        )
    return out * (v.shape[1] / len(columns))


def _softplus_sum(x: Array) -> Array:
    """``sum_j log(1 + exp(x_j))`` over the last axis."""
    return np.logaddexp(0, x).sum(axis=-1)


def _log_bernoulli(value: Array, x: Array, weights: Array, bias: float) -> Array:
    """Log p(v_i = value | rest); x : (n, n_hidden) pre-activations at ``value``."""
    off = x - value[:, None] * weights
    logit = bias + _softplus_sum(off + weights) - _softplus_sum(off)
    return value * logit - np.logaddexp(0, logit)


def _log_gaussian(value: Array, x: Array, weights: Array, bias: float) -> Array:
    """Log p(v_i = value | rest) of a unit-variance gaussian unit.

    The density ``exp(-(t - bias)**2 / 2) prod_j (1 + exp(off_j + t weights_j))`` is a
    mixture of unit normals with means between the bias plus all negative and the bias
    plus all positive weights. On such a mixture the trapezoidal rule with steps of
    3/4 is exact to rounding.
    """
    off = x - value[:, None] * weights

    def log_density(t):
        return -0.5 * (t - bias) ** 2 + _softplus_sum(off + t[:, None] * weights)

    low = bias + np.minimum(weights, 0).sum() - _REACH
    high = bias + np.maximum(weights, 0).sum() + _REACH
    if not high - low < _MOST_NODES * _STEP:
        return np.full_like(value, np.nan)
    normaliser = np.full(len(x), -np.inf)
    for t in np.arange(low, high + _STEP, _STEP):
        normaliser = np.logaddexp(normaliser, log_density(np.full(len(x), t, x.dtype)))
    return log_density(value) - normaliser - np.log(_STEP)
