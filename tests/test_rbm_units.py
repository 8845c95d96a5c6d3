"""Every kind of visible and hidden unit against sums over all states.

The visible states of a tiny RBM are listed: both values of a bernoulli unit, the
members of a softmax group, the counts of a poisson unit up to where their weight
vanishes, a fine grid for a gaussian unit. With the free energy this gives the exact
density for any kind of hidden unit.
"""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import quad
from scipy.special import logsumexp, softmax
from tools import bit_states, kernels, no_list, numeric_gradient

from sklearn_greedy._energy import HIDDEN_KINDS, RBM
from sklearn_greedy._threads import ALONE
from sklearn_greedy._units import BERNOULLI, GAUSSIAN, POISSON, SOFTMAX

F32 = np.float32
SEED = np.array([20, 26], dtype=np.uint32)
STEP = 0.4
N_HIDDEN = 2
SIDES = {
    "bernoulli": [(0, 3, BERNOULLI)],
    "gaussian": [(0, 2, GAUSSIAN)],
    "softmax": [(0, 3, SOFTMAX), (3, 5, SOFTMAX)],
    "poisson": [(0, 2, POISSON)],
    "mixed": [
        (0, 1, BERNOULLI),
        (1, 2, GAUSSIAN),
        (2, 5, SOFTMAX),
        (5, 6, POISSON),
    ],
    "mixed without counts": [(0, 1, BERNOULLI), (1, 2, GAUSSIAN), (2, 5, SOFTMAX)],
}
EVERY_SIDE = pytest.mark.parametrize("side", SIDES)
# Counts need bernoulli hidden units: under others large counts have infinite weight.
EVERY_PAIR = pytest.mark.parametrize(
    ("side", "hidden"),
    [
        (side, hidden)
        for side in SIDES
        for hidden in HIDDEN_KINDS
        if hidden == "bernoulli" or side not in ("poisson", "mixed")
    ],
)


def tiny_rbm(side, hidden, seed=0):
    rng = np.random.default_rng(seed)
    blocks = np.array([(*block, 1) for block in SIDES[side]], dtype=np.int64)
    n = blocks[-1, 1]
    w = 0.4 * rng.normal(size=(n, N_HIDDEN))
    c, b = 0.5 * rng.normal(size=N_HIDDEN), 0.5 * rng.normal(size=n)
    return RBM(w, c, b, blocks, hidden)


def visible_states(rbm):
    """All states of the visible units, and the log-weight of each in a sum."""
    parts = []
    for start, stop, kind, _ in rbm.blocks:
        if kind == SOFTMAX:
            parts.append(np.eye(stop - start))
            continue
        values = {
            BERNOULLI: np.array([0.0, 1.0]),
            GAUSSIAN: np.arange(-12, 12, STEP),
            POISSON: np.arange(0.0, 40.0),
        }[int(kind)]
        parts += [values[:, None]] * (stop - start)
    index = itertools.product(*(range(len(part)) for part in parts))
    states = np.array(
        [
            np.concatenate([p[i] for p, i in zip(parts, row, strict=True)])
            for row in index
        ]
    )
    return states, len(rbm.columns(GAUSSIAN)) * np.log(STEP)


def log_partition(rbm):
    states, log_weight = visible_states(rbm)
    return logsumexp(-rbm.free_energy(states)) + log_weight


def at(rbm, theta):
    """The same RBM with the flat parameters theta = (w, c, b)."""
    n, k = rbm.w.shape
    w, c, b = np.split(theta, [n * k, n * k + k])
    return RBM(w.reshape(n, k), c, b, rbm.blocks, rbm.hidden)


def flat(rbm):
    return np.concatenate([rbm.w.ravel(), rbm.c, rbm.b])


def kernel_statistics(rbm, rows, weights):
    """Weighted mean of (v' h, h, v) with h from the kernel's positive phase."""
    rows = np.ascontiguousarray(rows, F32)
    m, (n, k) = len(rows), rbm.w.shape
    v, h = np.empty((2 * m, n), F32), np.empty((2 * m, k), F32)
    parameters = [np.ascontiguousarray(p, F32) for p in (rbm.w, rbm.c, rbm.b)]
    kernels.cd_statistics(
        rows,
        *parameters,
        np.empty((0, k), F32),
        np.ones(1),
        parameters[1],
        np.concatenate(parameters[1:]),
        rbm.blocks,
        HIDDEN_KINDS.index(rbm.hidden),
        1,
        SEED,
        0,
        v,
        h,
        *np.empty((2, m, k), F32),
        *no_list(len(v)),
        ALONE,
    )
    h = h[:m].astype(float)
    pairs = (weights[:, None] * rows).T @ h
    return np.concatenate([pairs.ravel(), weights @ h, weights @ rows])


@EVERY_PAIR
def test_update_direction_is_the_gradient_of_the_exact_likelihood(side, hidden):
    """Positive phase of the kernel on the data minus the same on all states, weighted
    by their exact probabilities, is the finite difference of the log-likelihood.
    """
    rbm = tiny_rbm(side, hidden)
    states, _ = visible_states(rbm)
    rng = np.random.default_rng(3)
    data = states[rng.integers(0, len(states), 7)]

    def log_likelihood(theta):
        model = at(rbm, theta)
        return -model.free_energy(data).mean() - log_partition(model)

    numeric = numeric_gradient(log_likelihood, flat(rbm))
    positive = kernel_statistics(rbm, data, np.full(7, 1 / 7))
    negative = kernel_statistics(rbm, states, softmax(-rbm.free_energy(states)))
    scale = max(1.0, np.abs(numeric).max())
    assert_allclose(positive - negative, numeric, atol=2e-5 * scale)


@EVERY_SIDE
def test_free_energy_sums_over_bernoulli_hidden_states(side):
    rbm = tiny_rbm(side, "bernoulli")
    h = bit_states(N_HIDDEN)
    assert_allclose(log_partition(rbm), logsumexp(rbm.hidden_log_weight(h)), rtol=1e-9)


@pytest.mark.parametrize("side", [s for s in SIDES if s not in ("poisson", "mixed")])
def test_free_energy_integrates_over_gaussian_hidden_states(side):
    rbm = tiny_rbm(side, "gaussian")
    axis = np.arange(-14, 14, STEP)
    h = np.stack([a.ravel() for a in np.meshgrid(axis, axis)], axis=1)
    weights = rbm.hidden_log_weight(h) - 0.5 * (h**2).sum(axis=1)
    found = logsumexp(weights) + N_HIDDEN * np.log(STEP)
    assert_allclose(found, log_partition(rbm), rtol=1e-7)


def test_rectified_units_pile_up_bernoulli_copies():
    """Free energy and mean against the sum over copies, whose biases fall by one."""
    tiny = tiny_rbm("bernoulli", "relu")
    v, shifts = np.zeros((1, 3)), np.arange(400) + 0.5
    for x in (-6.0, -1.0, 0.0, 0.7, 4.0, 30.0):
        rbm = RBM(tiny.w[:, :1], np.array([x]), tiny.b, tiny.blocks, "relu")
        integral = quad(lambda t, x=x: np.logaddexp(0, x - t), 0, x + 50, limit=200)[0]
        assert_allclose(-rbm.free_energy(v), integral, rtol=1e-7)
        copies = 1 / (1 + np.exp(shifts - x))
        assert abs(rbm.hidden_means(v)[0, 0] - copies.sum()) < 0.02


def test_scale_gradient_is_that_of_the_exact_likelihood(rng):
    """Data x = s v: log p(x) = -F(x / s) - log Z - sum log s, by finite differences."""
    rbm = tiny_rbm("mixed without counts", "bernoulli")
    x = visible_states(rbm)[0][rng.integers(0, 300, 9)]

    def log_likelihood(log_scale):
        v = x.copy()
        v[:, 1] /= np.exp(log_scale[0])
        return -rbm.free_energy(v).mean() - log_scale[0]

    numeric = numeric_gradient(log_likelihood, np.zeros(1))
    gradient = rbm.scale_gradient(x)
    assert_allclose(gradient[1], numeric[0], rtol=1e-6)
    assert_allclose(np.delete(gradient, 1), 0)
    counts = np.arange(9)
    weighted = rbm.scale_gradient(x, counts)
    assert_allclose(weighted, rbm.scale_gradient(np.repeat(x, counts, axis=0)))
