"""Rules that keep us from known mistakes, one named test per row of our list.

The numbers are the rows of the list of mistakes found in comparable packages. Some rows
are tested beside the feature they guard:

* 13, 13b, 13c: label units in test_rbm_classifier.py.
* 17, 24: sparsity targets in test_rbm_options.py, noisy rectified units in
  test_rbm_units.py.
* 35, 36: annealed importance sampling in test_likelihood.py, tempered chains in
  test_rbm_exact.py.

So are parts of 19 (L-BFGS, test_mlp.py), 26 (learned scales, test_rbm_units.py and
test_rbm_options.py), 42 (dropout, test_gradients.py) and 46 (supervised layers,
test_schemes.py).
"""

import ast
import copy
import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit, log_softmax, logit, logsumexp
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tools import (
    bit_states,
    kernels,
    lists_for,
    no_list,
    rbm_constants,
    solver_constants,
    traits_of,
)

import sklearn_greedy
from sklearn_greedy import (
    GreedyPretrainedMLPClassifier,
    GreedyPretrainedMLPRegressor,
    StackedAutoencoderTransformer,
    StackedRBMTransformer,
)
from sklearn_greedy._threads import ALONE
from sklearn_greedy._training import Plan, run_epochs

SEED = np.array([3, 14], dtype=np.uint32)
F32 = np.float32
# So small a step moves nothing in float32: the network at its start.
STILL = 1e-30
STACKS = [StackedRBMTransformer, StackedAutoencoderTransformer]
MLPS = [GreedyPretrainedMLPClassifier, GreedyPretrainedMLPRegressor]
SOURCE = Path(sklearn_greedy.__file__).parent


def binary_rows(n=40, d=6, seed=0):
    rng = np.random.default_rng(seed)
    prototypes = rng.random((2, d)) < 0.5
    rows = prototypes[rng.integers(0, 2, n)] ^ (rng.random((n, d)) < 0.15)
    return rows.astype(float)


def raw_rows(n=40, d=4, seed=1):
    """Gaussian columns in units of very different size, far from zero."""
    rng = np.random.default_rng(seed)
    size = 10.0 ** np.arange(d)
    return size * (rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + 20)


def two_classes(X):
    """Labels that depend on a row alone; both classes occur."""
    weights = np.linspace(-1, 1, X.shape[1]) / X.std(axis=0)
    z = X @ weights
    return (z > np.median(z)).astype(int)


def tiny_parameters(n=4, width=3, spread=1.0, seed=0):
    rng = np.random.default_rng(seed)
    sizes = (n, width), width, n
    return [(spread * rng.normal(size=size)).astype(F32) for size in sizes]


def blocks(n, kind=kernels.BERNOULLI, sampled=1):
    return np.array([[0, n, kind, sampled]])


def cd_statistics(rows, parameters, k=1, chain=None, step=1, kind=kernels.BERNOULLI):
    """(v, h) of both phases from the kernel."""
    w, c, b = parameters
    rows = np.ascontiguousarray(rows, F32)
    chain = np.empty((0, c.size), F32) if chain is None else chain
    n_chains = len(chain) or len(rows)
    v = np.empty((len(rows) + n_chains, b.size), F32)
    h = np.empty((len(v), c.size), F32)
    s = np.empty((n_chains, c.size), F32)
    table = blocks(b.size, kind)
    hidden = kernels.BERNOULLI_HIDDEN
    plain = np.ones(1), c, np.concatenate([c, b])  # offsets that do not matter
    arguments = rows, w, c, b, chain, *plain, table, hidden, k, SEED, step
    kernels.cd_statistics(*arguments, v, h, s, s.copy(), *no_list(len(v)), ALONE)
    return v, h


def cd_gradient(v, h, m):
    """Plain gradient from copies of the statistics, as (w, c, b)."""
    n, width = v.shape[1], h.shape[1]
    grad = np.empty(n * width + width + n, F32)
    offsets = np.zeros(n, F32), np.zeros(width, F32)
    kernels.cd_gradient(v.copy(), h.copy(), m, False, *offsets, grad, ALONE)
    size = n * width
    return (
        grad[:size].reshape(n, width),
        grad[size : size + width],
        grad[size + width :],
    )


def cd_slice(rows, parameters, *, batch=4, rate=0.1, momentum=0.0, alpha=0.0, **more):
    """Flat (w, c, b) after plain CD-1 on the batches of rows."""
    theta = np.concatenate([part.ravel() for part in parameters])
    n, width = parameters[0].shape
    velocity = more.get("velocity", np.zeros_like(theta))
    chain = more.get("chain", np.empty((0, width), F32))
    m = 2 * max(batch, len(chain))
    work, lists = np.empty(m * (n + 2 * width), F32), lists_for(m, (n, width))
    kernels.cd_slice(
        rows.astype(F32),
        batch,
        theta,
        velocity,
        np.zeros(n, F32),
        np.zeros(width, F32),
        chain,
        np.ones(1),
        blocks(n),
        kernels.BERNOULLI_HIDDEN,
        1,
        rbm_constants(rate, momentum=momentum, l2=alpha),
        False,
        0.0,
        SEED,
        more.get("step", 0),
        np.empty_like(theta),
        work,
        lists,
        ALONE,
    )
    return theta


def log_likelihood(rows, w, c, b):
    """Exact mean log-likelihood of a bernoulli RBM by enumeration of all states."""
    v, h = bit_states(len(b)), bit_states(len(c))

    def log_weight(v):
        return v @ b + logsumexp(h @ c + v @ w @ h.T, axis=1)

    return np.mean(log_weight(rows)) - logsumexp(log_weight(v))


def fitted_stack(cls, X, **params):
    return cls((3,), **{"max_iter": 3, "random_state": 0, **params}).fit(X)


def parameters_of(stack):
    arrays = [*stack.coefs_, *stack.intercepts_]
    arrays += getattr(stack, "visible_intercepts_", [])
    arrays += [*getattr(stack, "decoder_coefs_", [])]
    return np.concatenate([np.ravel(a) for a in arrays])


class Recorder:
    """A model that only writes down which rows it is given."""

    batch_size, n_columns, products_per_row = 3, 1, 1
    largest_product, calls_per_step, epoch = 1, 1, 1

    def __init__(self):
        self.theta, self.seen = np.zeros(1), []

    def train(self, index, team):
        self.seen.extend(index.tolist())
        return 0.0, 1.0

    def penalty(self):
        return 0.0


def visited_rows(n, epochs, shuffle=True):
    """Rows in the order of training, one array per epoch."""
    recorder, orders = Recorder(), []
    plan = Plan(1, None, 10, shuffle, ("learning_rate", 0.1), "test")
    rng = np.random.default_rng(0)
    for _ in range(epochs):
        recorder.seen = []
        run_epochs(recorder, np.arange(n), plan, rng)
        orders.append(np.array(recorder.seen))
    return orders


# --- contrastive divergence and its statistics -----------------------------------


def test_row_01_each_phase_is_a_mean_over_its_own_rows():
    """A short batch against more chains: repeating its rows changes nothing."""
    rng = np.random.default_rng(0)
    v, h = rng.random((11, 4)).astype(F32), rng.random((11, 3)).astype(F32)
    few = cd_gradient(v, h, 3)
    many = cd_gradient(*(np.vstack([a[:3]] * 4 + [a[3:]]) for a in (v, h)), 12)
    for one, other in zip(few, many, strict=True):
        assert_allclose(one, other, atol=1e-6)


def test_row_01_large_chunks_do_not_drive_the_features_to_one():
    """``partial_fit`` with chunks far larger than a batch keeps features alive."""
    X = binary_rows(500)
    stack = StackedRBMTransformer((5,), batch_size=5, random_state=0)
    for _ in range(10):
        stack.partial_fit(X)
    H = stack.transform(X)
    assert H.std(axis=0).max() > 0.1
    assert 0.05 < H.mean() < 0.95


def test_row_02_rows_are_shuffled_anew_in_each_epoch():
    """Every epoch has its own order, unless ``shuffle=False``."""
    first, second = visited_rows(50, epochs=2)
    assert not np.array_equal(first, second)
    assert_array_equal(
        np.concatenate(visited_rows(9, 2, shuffle=False)), [*range(9)] * 2
    )


def test_row_02_visible_biases_start_at_the_logit_of_the_smoothed_mean():
    """Before any learning the model's means are the data's."""
    X = binary_rows(40)
    stack = fitted_stack(StackedRBMTransformer, X, learning_rate=STILL, centered=False)
    smoothed = (X.sum(axis=0) + 0.5) / 41
    assert_allclose(stack.visible_intercepts_[0], logit(smoothed), atol=1e-6)


def test_row_02_persistent_chains_begin_at_data():
    """With hidden units that copy the visible ones the chains are the first rows."""
    X = binary_rows(20, d=4)
    stack = StackedRBMTransformer((4,), persistent=True, batch_size=7, random_state=0)
    stack.fit(X)
    stack.coefs_, stack.intercepts_ = [60 * np.eye(4)], [np.full(4, -30.0)]
    task = stack._task(0, X, 4, SEED, "auto", resumed=True)
    assert_array_equal(stack._build(task).chain, X[:7])


def test_row_03_short_batch_is_divided_by_its_own_length():
    """One row and four copies of it give the same step (reconstruction fixed)."""
    parameters = tiny_parameters()
    parameters[0][:] = 0
    parameters[2][:] = [40, -40, 40, -40]  # the reconstruction is 1, 0, 1, 0 for sure
    row = np.array([[1.0, 1.0, 0.0, 0.0]])
    alone = cd_slice(row, parameters, batch=4)
    together = cd_slice(np.repeat(row, 4, axis=0), parameters, batch=4)
    assert_allclose(alone, together, atol=1e-7)
    assert np.abs(alone[:12]).max() > 1e-3


def test_row_04_weights_and_biases_share_one_scale():
    """Repeating all rows of both phases changes neither weights' nor biases' step."""
    rng = np.random.default_rng(0)
    v, h = rng.random((8, 4)).astype(F32), rng.random((8, 3)).astype(F32)
    once = cd_gradient(v, h, 4)
    thrice = cd_gradient(*(np.vstack([a[:4]] * 3 + [a[4:]] * 3) for a in (v, h)), 12)
    for one, other in zip(once, thrice, strict=True):
        assert_allclose(one, other, atol=1e-6)


def test_row_05_gradient_does_not_depend_on_the_number_of_visible_units():
    """More columns beside a column leave its gradient as it is."""
    rng = np.random.default_rng(0)
    v, h = rng.random((8, 4)).astype(F32), rng.random((8, 3)).astype(F32)
    narrow, wide = cd_gradient(v, h, 4), cd_gradient(np.hstack([v, v, v]), h, 4)
    assert_allclose(wide[0][:4], narrow[0], atol=1e-6)
    assert_allclose(wide[1], narrow[1], atol=1e-6)
    assert_allclose(wide[2][:4], narrow[2], atol=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_row_06_steps_climb_the_exact_likelihood(momentum):
    """The step ascends, with momentum too, and decay shrinks the weights."""
    rows = binary_rows(200, d=4)
    start = tiny_parameters(spread=0.1)
    theta = cd_slice(rows, start, batch=20, rate=0.1, momentum=momentum)
    w, c, b = theta[:12].reshape(4, 3), theta[12:15], theta[15:]
    assert log_likelihood(rows, w, c, b) > log_likelihood(rows, *start) + 0.05
    decayed = cd_slice(rows, start, batch=20, momentum=momentum, alpha=5.0)
    assert np.linalg.norm(decayed[:12]) < np.linalg.norm(theta[:12])


def test_row_06_hidden_states_are_drawn_not_kept_as_means():
    """The chain is driven by samples: two equal rows get different reconstructions."""
    v, _ = cd_statistics(np.ones((50, 4)), tiny_parameters(spread=2.0))
    assert len(np.unique(v[50:], axis=0)) > 1
    assert set(np.unique(v[50:])) == {0.0, 1.0}


def test_row_07_hidden_means_follow_each_parameter_change():
    """Two batches in one call: the second sees the parameters after the first."""
    rows, parameters = binary_rows(8, d=4), tiny_parameters()
    expected = np.concatenate([part.ravel() for part in parameters])
    for step in (0, 1):
        parts = expected[:12].reshape(4, 3), expected[12:15], expected[15:]
        batch = rows[4 * step : 4 * step + 4]
        gradient = cd_gradient(*cd_statistics(batch, parts, step=step), 4)
        expected = expected + F32(0.5) * np.concatenate([g.ravel() for g in gradient])
    assert_allclose(cd_slice(rows, parameters, rate=0.5), expected, atol=1e-6)


def test_row_08_statistics_are_probabilities_and_weights_start_small_not_zero():
    """Hidden units enter both phases as probabilities; W starts as N(0, 0.01**2)."""
    _, h = cd_statistics(binary_rows(30, d=4), tiny_parameters(), k=3)
    assert np.all((h > 0) & (h < 1))
    X = binary_rows(31, d=50)
    start = StackedRBMTransformer(
        (80,), learning_rate=STILL, max_iter=1, random_state=0
    )
    w = start.fit(X).coefs_[0]
    assert abs(w.mean()) < 5 * 0.01 / np.sqrt(w.size)
    assert_allclose(w.std(), 0.01, rtol=0.05)


def test_row_09_next_layer_trains_on_a_fresh_transform():
    """Layer 2 starts from the means of the trained layer 1's clean features."""
    X = binary_rows(60)
    stack = StackedRBMTransformer(
        (5, 4),
        learning_rate=[0.5, STILL],
        n_gibbs_steps=3,
        centered=False,
        max_iter=5,
        random_state=0,
    ).fit(X)
    clean = expit(X @ stack.coefs_[0] + stack.intercepts_[0])
    smoothed = (clean.sum(axis=0) + 0.5) / (len(X) + 1)
    assert_allclose(stack.visible_intercepts_[1], logit(smoothed), atol=1e-5)


def test_row_10_persistent_chains_survive_a_short_batch():
    """Batches of 4 and 1 move the same four chains on, whatever the rows are."""
    rows, parameters = binary_rows(5, d=4), tiny_parameters()
    chain = bit_states(3)[[1, 6, 3, 4]].astype(F32)
    by_hand, beside_other_rows = chain.copy(), chain.copy()
    for step, batch in enumerate((rows[:4], rows[4:])):
        cd_statistics(batch, parameters, chain=by_hand, step=step)
    cd_slice(rows, parameters, rate=0.0, chain=chain)
    cd_slice(1 - rows, parameters, rate=0.0, chain=beside_other_rows)
    assert_array_equal(chain, by_hand)
    assert_array_equal(chain, beside_other_rows)


@pytest.mark.parametrize("batch_size", [3, 20])
def test_row_10_persistent_chains_survive_a_change_of_the_batch_size(batch_size):
    """Training goes on with another batch size, and the old chains move on."""
    X = binary_rows(40)
    stack = StackedRBMTransformer((4,), persistent=True, batch_size=8, random_state=0)
    stack.partial_fit(X).set_params(batch_size=batch_size)
    for _ in range(5):
        stack.partial_fit(X)
    assert np.all(np.isfinite(parameters_of(stack)))
    assert len(stack._resume["layers"][0]["state"]["chain"]) >= 8


@pytest.mark.parametrize("persistent", [False, True])
def test_row_10_measures_do_not_touch_the_state_of_training(persistent):
    """Calling every public measure between two chunks does not change the second."""
    X = binary_rows(30)
    stack = StackedRBMTransformer((4,), persistent=persistent, random_state=0)
    stack.partial_fit(X)
    other = copy.deepcopy(stack)
    other.inverse_transform(other.transform(X))
    other.score_samples(X)
    other.free_energy(X)
    other.score(X)
    other.log_likelihood(X)
    other.log_partition()
    other.gibbs(X)
    other.sample(3, n_gibbs_steps=2)
    stack.partial_fit(X)
    other.partial_fit(X)
    assert_array_equal(parameters_of(stack), parameters_of(other))


def test_row_11_persistent_chains_advance_before_the_update():
    """The negative phase is the chain after a step under the present parameters."""
    rows, parameters = binary_rows(4, d=4), tiny_parameters()
    chain = bit_states(3)[[1, 6, 3, 4]].astype(F32)
    v, h = cd_statistics(rows, parameters, chain=chain.copy())
    gradient = np.concatenate([g.ravel() for g in cd_gradient(v, h, 4)])
    start = np.concatenate([part.ravel() for part in parameters])
    theta = cd_slice(rows, parameters, rate=0.5, chain=chain, step=1)
    assert_allclose(theta, start + 0.5 * gradient, atol=1e-6)


def test_row_12_kernels_write_to_their_own_buffers():
    """Inputs stay as they are and the chain never spoils the positive statistics."""
    rows, parameters = binary_rows(9, d=4).astype(F32), tiny_parameters()
    before = copy.deepcopy((rows, parameters))
    v, h = cd_statistics(rows, parameters, k=5)
    w, c, _ = parameters
    assert_array_equal(v[:9], rows)
    assert_allclose(h[:9], expit(rows @ w + c), rtol=1e-5)
    assert_array_equal(rows, before[0])
    for part, old in zip(parameters, before[1], strict=True):
        assert_array_equal(part, old)


@pytest.mark.parametrize("cls", STACKS)
def test_row_12_fit_leaves_the_data_alone(cls):
    """Read-only data are accepted and the same after ``fit``."""
    X = binary_rows().astype(F32)
    X.flags.writeable = False
    fitted_stack(cls, X).partial_fit(X)
    assert_array_equal(X, binary_rows())


# --- optimiser -------------------------------------------------------------------


def test_row_14_momentum_multiplies_the_velocity_only():
    """v = m v + lr g, checked on a three-step series for RBMs and networks."""
    gradients, rate, m = np.array([1.0, -2.0, 0.5]), 0.1, 0.9
    v1 = rate * gradients[0]
    v2 = m * v1 + rate * gradients[1]
    v3 = m * v2 + rate * gradients[2]
    theta, velocity = np.zeros(1, F32), np.zeros(1, F32)
    constants = rbm_constants(momentum=m)
    down, down_velocity = np.zeros(1, F32), np.zeros(1, F32)
    for g in gradients.astype(F32):
        kernels.momentum_ascent(theta, velocity, np.array([g]), 1, rate, constants)
        kernels.sgd_update(down, down_velocity, np.array([g]), rate, m, False, 0.0)
    assert_allclose(theta, v1 + v2 + v3, rtol=1e-5)
    assert_allclose(down, -(v1 + v2 + v3), rtol=1e-5)
    assert_allclose(velocity, v3, rtol=1e-5)


@pytest.mark.parametrize("solver", [kernels.SGD, kernels.NESTEROV, kernels.ADAM])
def test_row_15_one_optimiser_for_all_parameters(solver):
    """Equal gradients move weights and biases equally, step after step."""
    layers = np.array([[2, 3, kernels.IDENTITY, 0, 6, 0]])
    theta, state = np.zeros(9, F32), np.zeros((2, 9), F32)
    rbm, velocity = np.zeros(9, F32), np.zeros(9, F32)
    hyper = solver_constants(momentum=0.9)
    constants = rbm_constants(momentum=0.9)
    for step, g in enumerate((1.0, -0.3, 2.0)):
        grad = np.full(9, g, F32)
        kernels.update_parameters(
            theta,
            state,
            grad,
            layers,
            traits_of(1),
            solver,
            hyper,
            np.array([step]),
            0.0,
            theta[:0],
        )
        kernels.momentum_ascent(rbm, velocity, grad, 6, 0.1, constants)
    assert np.ptp(theta) == 0
    assert np.ptp(rbm) == 0
    assert theta[0] < 0 < rbm[0]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_row_16_velocity_starts_at_zero(momentum):
    """The first update does not depend on the momentum."""
    X = binary_rows(16)
    params = {"batch_size": 16, "random_state": 0}
    rate = {"learning_rate": 0.1}  # "auto" depends on the momentum
    rbm = StackedRBMTransformer((3,), momentum=momentum, **rate, **params)
    none = StackedRBMTransformer((3,), momentum=0.0, **rate, **params)
    rbm, none = rbm.partial_fit(X), none.partial_fit(X)
    assert_array_equal(parameters_of(rbm), parameters_of(none))
    params |= {"solver": "sgd", "nesterovs_momentum": False, "pretrainer": None}
    y = X[:, 0]
    net = GreedyPretrainedMLPRegressor((3,), momentum=momentum, **params)
    plain = GreedyPretrainedMLPRegressor((3,), momentum=0.0, **params)
    net, plain = net.partial_fit(X, y), plain.partial_fit(X, y)
    assert_array_equal(net.coefs_[0], plain.coefs_[0])


def test_row_18_only_weights_decay():
    """Without a gradient weights shrink and biases stay."""
    layers = np.array([[2, 3, kernels.IDENTITY, 0, 6, 0]])
    theta, rbm = np.ones(9, F32), np.ones(9, F32)
    zero, hyper = np.zeros(9, F32), solver_constants()
    state, traits = np.zeros((2, 9), F32), traits_of(1)
    kernels.update_parameters(
        theta,
        state,
        zero,
        layers,
        traits,
        kernels.SGD,
        hyper,
        np.zeros(1, np.int64),
        0.5,
        theta[:0],
    )
    kernels.momentum_ascent(rbm, np.zeros(9, F32), zero, 6, 0.1, rbm_constants(l2=0.5))
    for moved in (theta, rbm):
        assert_allclose(moved, [0.95] * 6 + [1.0] * 3)


def head_problem(head):
    """Estimator class, rows and targets with several outputs for one kind of head."""
    X = raw_rows(30, d=3) / [1.0, 10.0, 100.0] - 20
    rng = np.random.default_rng(4)
    if head == "identity":
        return GreedyPretrainedMLPRegressor, X, rng.normal(size=(30, 3))
    if head == "softmax":
        return GreedyPretrainedMLPClassifier, X, rng.permutation(30) % 3
    return GreedyPretrainedMLPClassifier, X, rng.integers(0, 2, (30, 3))


def mean_loss(parts, X, y, activation, head, alpha):
    """The documented loss in NumPy: sum over outputs, mean over rows, plus penalty."""
    functions = {
        "logistic": expit,
        "tanh": np.tanh,
        "relu": lambda z: np.maximum(z, 0),
        "identity": lambda z: z,
    }
    coefs, intercepts = parts[: len(parts) // 2], parts[len(parts) // 2 :]
    a = X
    for coef, intercept in zip(coefs[:-1], intercepts[:-1], strict=True):
        a = functions[activation](a @ coef + intercept)
    z = a @ coefs[-1] + intercepts[-1]
    if head == "identity":
        loss = 0.5 * np.sum((z - y) ** 2)
    elif head == "softmax":
        loss = -np.sum(log_softmax(z, axis=1)[np.arange(len(y)), y])
    else:
        loss = np.sum(np.logaddexp(0, z) - y * z)
    penalty = 0.5 * alpha * sum(np.sum(coef**2) for coef in coefs)
    return (loss + penalty) / len(X)


def numeric_gradient(function, parts, step=1e-5):
    gradients = []
    for part in parts:
        gradient = np.empty_like(part)
        for place in np.ndindex(part.shape):
            old = part[place]
            part[place] = old + step
            high = function(parts)
            part[place] = old - step
            gradient[place] = (high - function(parts)) / (2 * step)
            part[place] = old
        gradients.append(gradient)
    return gradients


def one_step(cls, X, y, rate, **params):
    """A network after one full-batch step of plain gradient descent."""
    net = cls(
        pretrainer=None,
        solver="sgd",
        momentum=0.0,
        nesterovs_momentum=False,
        learning_rate_init=rate,
        batch_size=len(X),
        random_state=0,
        **params,
    )
    more = {} if cls is GreedyPretrainedMLPRegressor else {"classes": np.arange(3)}
    net.partial_fit(X, y, **more)
    return net, [*map(np.copy, net.coefs_), *map(np.copy, net.intercepts_)]


@pytest.mark.parametrize("head", ["identity", "softmax", "logistic"])
def test_row_19_loss_and_gradient_agree_for_every_head(head):
    """With several outputs the reported loss is the function that is descended."""
    cls, X, y = head_problem(head)
    params = {"hidden_layer_sizes": (4,), "activation": "tanh", "alpha": 2.0}
    net, start = one_step(cls, X, y, STILL, **params)

    def loss(parts):
        return mean_loss(parts, X, y, "tanh", head, alpha=2.0)

    assert net.out_activation_ == head
    assert net.loss_ == pytest.approx(loss(start), rel=1e-5)
    _, end = one_step(cls, X, y, 0.5, **params)
    for a, b, g in zip(start, end, numeric_gradient(loss, start), strict=True):
        assert_allclose((a - b) / 0.5, g, atol=3e-6)


@pytest.mark.parametrize("batch_size", [2, 5, 30])
def test_row_20_network_penalty_does_not_depend_on_the_batch_size(batch_size):
    """alpha / (2 n) times the squared weights, n the rows of training."""
    cls, X, y = head_problem("identity")
    losses, params = [], {"learning_rate_init": STILL, "max_iter": 1, "random_state": 0}
    for alpha in (0.0, 7.0):
        net = cls((4,), pretrainer=None, alpha=alpha, batch_size=batch_size, **params)
        losses.append(net.fit(X, y).loss_)
    squares = sum(np.sum(coef**2) for coef in net.coefs_)
    assert losses[1] - losses[0] == pytest.approx(7 / (2 * len(X)) * squares, rel=1e-4)


@pytest.mark.parametrize("batch_size", [4, 16])
@pytest.mark.parametrize("cls", STACKS)
def test_row_20_stack_penalty_does_not_depend_on_the_batch_size(cls, batch_size):
    """Each update takes ``learning_rate * alpha * w`` off the weights."""
    X, alpha, rate = binary_rows(batch_size), 0.5, 0.1
    params = {"momentum": 0.0, "batch_size": batch_size, "random_state": 0}
    params[cls._rate] = rate
    if cls is StackedAutoencoderTransformer:
        params |= {"solver": "sgd", "nesterovs_momentum": False}

    def weights(alpha, **changed):
        return cls((3,), alpha=alpha, **params | changed).partial_fit(X).coefs_[0]

    start = weights(0.0, **{cls._rate: STILL})
    decay = weights(0.0) - weights(alpha)
    assert_allclose(decay, rate * alpha * start, atol=2e-7)


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("rate", [10.0, 1e12])
def test_row_21_divergence_of_a_network_ends_in_a_clear_error(rate, early_stopping):
    """The first non-finite loss or score names place, epoch and what to lower."""
    X = raw_rows()
    net = GreedyPretrainedMLPRegressor(
        (4,),
        pretrainer=None,
        activation="identity",
        solver="sgd",
        learning_rate_init=rate,
        early_stopping=early_stopping,
        random_state=0,
    )
    with pytest.raises(ValueError, match=r"diverged .*epoch .*learning_rate_init"):
        net.fit(X, X[:, 0])


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("cls", STACKS)
def test_row_21_divergence_of_a_stack_ends_in_a_clear_error(cls, early_stopping):
    """The same for the layers of a stack, before the monitor stumbles."""
    params = {} if cls is StackedRBMTransformer else {"solver": "sgd"}
    params[cls._rate] = 1e12
    stack = cls((4,), early_stopping=early_stopping, random_state=0, **params)
    with pytest.raises(ValueError, match=rf"diverged .*layer 1, epoch .*{cls._rate}"):
        stack.fit(raw_rows())


def test_row_21_string_labels_with_early_stopping():
    """Labels are encoded before rows are held out."""
    X = binary_rows(80)
    y = np.array(["no", "yes"])[two_classes(X + 1e-3 * np.arange(80)[:, None])]
    clf = GreedyPretrainedMLPClassifier(
        (4,), pretrainer=None, early_stopping=True, max_iter=5, random_state=0
    ).fit(X, y)
    assert set(clf.predict(X)) <= {"no", "yes"}
    assert np.all(np.isfinite(clf.validation_scores_))


# --- unit types ------------------------------------------------------------------


def test_row_22_gaussian_energy_and_noise_are_exact():
    """Energy from the joint density, and noise with the standard deviation."""
    X = raw_rows(50, d=2)
    stack = fitted_stack(StackedRBMTransformer, X)
    w, c, a = stack.coefs_[0], stack.intercepts_[0], stack.visible_intercepts_[0]
    square = 0.5 * (((X - a) / X.std(axis=0)) ** 2).sum(axis=1)
    h = bit_states(3)
    expected = square - logsumexp(h @ c + X @ w @ h.T, axis=1)
    assert_allclose(stack.free_energy(X), expected, rtol=1e-8)
    v = np.full((40_000, 2), 3.0, F32)
    kernels.sample_visible(
        v, blocks(2, kernels.GAUSSIAN), *kernels.stream_keys(SEED, 0, 1)
    )
    assert_allclose(v.mean(axis=0), 3, atol=4 / np.sqrt(len(v)))
    assert_allclose(v.std(axis=0), 1, atol=4 / np.sqrt(2 * len(v)))


@pytest.mark.parametrize("cls", STACKS)
def test_row_23_features_of_a_row_do_not_depend_on_its_neighbours(cls):
    """``transform`` and ``score_samples`` work row by row."""
    X = raw_rows()
    stack, order = fitted_stack(cls, X), np.random.default_rng(0).permutation(len(X))
    H, scores = stack.transform(X), stack.score_samples(X)
    assert_allclose(stack.transform(X[order]), H[order], rtol=1e-9, atol=1e-12)
    assert_allclose(stack.transform(X[7:8]), H[7:8], rtol=1e-9, atol=1e-12)
    assert_allclose(stack.score_samples(X[order][:9]), scores[order][:9], rtol=1e-9)


def test_row_25_rectifier_is_the_elementwise_maximum():
    """relu keeps the shape and every positive value."""
    z = np.array([[-1.0, 2.0, 0.0], [3.0, -4.0, 5.0]], F32)
    kernels.activate(z.reshape(-1), kernels.RELU)
    assert_array_equal(z, [[0, 2, 0], [3, 0, 5]])
    X = binary_rows()
    stack = fitted_stack(StackedAutoencoderTransformer, X)
    z = X @ stack.coefs_[0] + stack.intercepts_[0]
    assert_allclose(stack.transform(X), np.maximum(z, 0))


def test_row_26_constant_columns_get_finite_biases():
    """A column of ones or zeros has a smoothed, finite start."""
    X = binary_rows(50)
    X[:, 0], X[:, 1] = 1.0, 0.0
    stack = fitted_stack(StackedRBMTransformer, X)
    assert np.all(np.isfinite(parameters_of(stack)))
    means = expit(stack.visible_intercepts_[0])
    assert means[0] > 0.9
    assert means[1] < 0.1


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        *[(cls, {}) for cls in STACKS],
        (StackedAutoencoderTransformer, {"corruption": "salt_and_pepper"}),
    ],
)
def test_row_27_raw_and_standardised_gaussian_columns_learn_the_same(cls, options):
    """The scale of a gaussian column appears nowhere but in the folded weights."""
    X = raw_rows(60)
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    raw, scaled = (fitted_stack(cls, a, visible="gaussian", **options) for a in (X, Z))
    assert_allclose(raw.transform(X), scaled.transform(Z), atol=1e-4)
    assert_allclose(raw.coefs_[0] * X.std(axis=0)[:, None], scaled.coefs_[0], atol=1e-4)


def test_row_28_gaussian_units_take_real_values():
    """Reconstructions of gaussian columns are drawn from a normal, never 0/1."""
    rows = np.random.default_rng(0).normal(size=(500, 4))
    v, _ = cd_statistics(rows, tiny_parameters(), kind=kernels.GAUSSIAN)
    assert len(np.unique(v[500:])) > 1900
    X = raw_rows()
    stack = fitted_stack(StackedRBMTransformer, X)
    H = np.array([[0.2, 0.9, 0.4]])
    expected = stack.visible_intercepts_[0] + X.var(axis=0) * (H @ stack.coefs_[0].T)
    assert_allclose(stack.inverse_transform(H), expected, rtol=1e-6)


@pytest.mark.parametrize("cls", STACKS)
def test_row_29_values_are_never_cut_to_integers(cls):
    """0.7 is not 0, integers are numbers, and text is refused."""
    X = binary_rows()
    stack = fitted_stack(cls, X)
    assert np.abs(stack.transform(0.7 * X) - stack.transform(0 * X)).max() > 1e-3
    assert_array_equal(stack.transform(X.astype(int)), stack.transform(X))
    grey = fitted_stack(cls, 0.7 * X)
    assert (
        np.abs(parameters_of(grey) - parameters_of(fitted_stack(cls, 0 * X))).max() > 0
    )
    with pytest.raises(ValueError, match="could not convert"):
        stack.fit(np.array([["a", "b"], ["c", "d"]]))


@pytest.mark.parametrize("cls", STACKS)
def test_row_30_data_outside_the_unit_interval_are_noticed(cls):
    """ "auto" takes gaussian units; forced bernoulli units warn with the range."""
    X = np.hstack([binary_rows(), 3 * binary_rows() - 1])
    kinds = fitted_stack(cls, X).visible_kinds_
    assert_array_equal(kinds, ["bernoulli"] * 6 + ["gaussian"] * 6)
    with pytest.warns(UserWarning, match=r"reach from -1 to 2, outside \[0, 1\]"):
        fitted_stack(cls, X, visible="bernoulli")


@pytest.mark.parametrize("cls", STACKS)
def test_row_30_later_chunks_outside_the_unit_interval_are_noticed(cls):
    """Kinds come from the first chunk; one that does not fit them warns."""
    stack = cls((3,), random_state=0).partial_fit(binary_rows())
    with pytest.warns(UserWarning, match=r"outside \[0, 1\]"):
        stack.partial_fit(3 * binary_rows() - 1)


# --- measures --------------------------------------------------------------------


@pytest.mark.parametrize("cls", STACKS)
def test_row_31_scores_are_deterministic(cls):
    """The same row always has the same score, wherever it stands."""
    X = binary_rows()
    stack = fitted_stack(cls, X)
    scores = stack.score_samples(X)
    assert_array_equal(stack.score_samples(X), scores)
    twice = stack.score_samples(np.vstack([X, X]))
    assert_allclose(twice[: len(X)], twice[len(X) :], rtol=1e-12)


def test_row_32_scores_neither_round_nor_average_over_rows():
    """Between 0 and 1 the conditional expectation counts; rows stand alone."""
    X = binary_rows(d=1, n=30)
    X[0], X[1] = 0, 1
    stack = fitted_stack(StackedRBMTransformer, X, learning_rate=0.5)
    low, middle, high = stack.score_samples([[0.0], [0.3], [1.0]])
    assert middle == pytest.approx(0.7 * low + 0.3 * high, rel=1e-9)
    assert stack.score_samples([[1.0]])[0] == pytest.approx(high, rel=1e-9)
    assert low != pytest.approx(high)


def test_row_33_logarithms_of_sums_do_not_overflow():
    """Huge pre-activations give finite losses, energies and probabilities."""
    z = np.array([[1e4, -1e4, 5.0]], F32)
    y = np.array([[1.0, 0.0, 1.0]], F32)
    assert kernels.bernoulli_loss(z[0].copy(), y[0]) == pytest.approx(0.0067, rel=0.01)
    assert kernels.bernoulli_loss(-z[0], y[0]) == pytest.approx(2e4 + 5.0067, rel=1e-6)
    assert kernels.softmax_loss(-z[0], y[0, ::-1].copy()) > 1e4
    X = binary_rows()
    stack = fitted_stack(StackedRBMTransformer, X)
    stack.coefs_ = [1e4 * stack.coefs_[0]]
    assert np.all(np.isfinite(stack.free_energy(X)))
    assert np.all(np.isfinite(stack.score_samples(X)))
    clf = GreedyPretrainedMLPClassifier((3,), pretrainer=None, max_iter=2)
    proba = clf.fit(X, np.arange(40) % 3).predict_proba(1e6 * X)
    assert_allclose(proba.sum(axis=1), 1, rtol=1e-6)


def test_row_34_free_energy_has_the_one_of_the_off_state():
    """The sum over a hidden unit's two states, against enumeration."""
    X = binary_rows()
    stack = fitted_stack(StackedRBMTransformer, X, learning_rate=0.5)
    w, c, b = stack.coefs_[0], stack.intercepts_[0], stack.visible_intercepts_[0]
    expected = -(X @ b) - logsumexp(bit_states(3) @ c + X @ w @ bit_states(3).T, axis=1)
    assert_allclose(stack.free_energy(X), expected, rtol=1e-9)


@pytest.mark.parametrize("rows", [binary_rows, raw_rows])
def test_row_37_early_stopping_follows_the_held_out_pseudo_likelihood(
    rows, monkeypatch
):
    """The monitor is a normalised measure, and the best parameters are kept."""
    X = rows(80)
    held = np.arange(60, 80)
    monkeypatch.setattr("sklearn_greedy._stack.held_out_rows", lambda *_: held)
    stack = fitted_stack(
        StackedRBMTransformer,
        X,
        early_stopping=True,
        n_iter_no_change=5,
        max_iter=30,
        learning_rate=0.2 if rows is binary_rows else 0.02,
    )
    in_scaled_units = np.log(stack.visible_scale_).sum()
    score = stack.score(X[held]) + in_scaled_units
    assert score == pytest.approx(max(stack.validation_scores_[0]), rel=1e-4)


# --- autoencoders and fine-tuning ------------------------------------------------


@pytest.mark.parametrize(
    "corruption",
    [
        kernels.MASKING,
        kernels.GAUSSIAN_NOISE,
        kernels.SALT_AND_PEPPER,
        kernels.SWAP,
    ],
)
def test_row_38_only_the_input_is_corrupted(corruption):
    """The loss is that of a noisy input, a clean hidden layer and the clean target."""
    X, rng = binary_rows(10).astype(F32), np.random.default_rng(0)
    layers = np.array(
        [[6, 3, kernels.TANH, 0, 18, 0], [3, 6, kernels.IDENTITY, 21, 39, 0]]
    )
    theta = rng.normal(size=45).astype(F32)
    noisy, keys = X.copy(), kernels.stream_keys(SEED, 4, 0)
    units, limits = np.arange(6), F32([[0] * 6, [1] * 6])
    kernels.corrupt(X, noisy, corruption, 0.5, units, limits, *keys)
    hidden = np.tanh(noisy @ theta[:18].reshape(6, 3) + theta[18:21])
    z = hidden @ theta[21:39].reshape(3, 6) + theta[39:]
    expected = np.sum(np.logaddexp(0, z) - X * z)
    loss = kernels.backprop_slice(
        X,
        X,
        np.empty(0, F32),
        10,
        theta,
        np.zeros((2, 45), F32),
        np.empty(45, F32),
        layers,
        traits_of(2),
        blocks(6),
        corruption,
        np.array([0.5, 1.0]),
        units,
        limits,
        kernels.SGD,
        solver_constants(0.0),
        0.0,
        np.zeros(5),
        SEED,
        4,
        np.zeros(2, np.int64),
        np.empty(60, F32),
        np.empty(0, F32),
        np.empty(0, F32),
        np.empty(90, F32),
        np.empty(90, F32),
        np.empty(6, F32),
        lists_for(10, *layers[:, :2]),
        ALONE,
    )
    assert loss == pytest.approx(expected, rel=1e-5)
    assert np.abs(noisy - X).max() > 0.1
    assert_array_equal(X, binary_rows(10))


@pytest.mark.parametrize("activation", ["relu", "logistic", "tanh", "identity"])
def test_row_39_greedy_phase_and_final_network_are_one_function(activation):
    """At the start of fine-tuning the hidden layers give the pretrainer's features."""
    X = binary_rows()
    clf = GreedyPretrainedMLPClassifier(
        pretrainer=StackedAutoencoderTransformer(
            (5, 3), activation=activation, max_iter=3
        ),
        learning_rate_init=STILL,
        max_iter=1,
        random_state=0,
    ).fit(X, two_classes(X + 1e-3 * np.arange(40)[:, None]))
    features = clf.pretrainer_.transform(X)
    logits = features @ clf.coefs_[-1] + clf.intercepts_[-1]
    assert_allclose(clf.predict_proba(X)[:, 1:], expit(logits), atol=1e-6)
    if activation == "relu":
        assert features.min() == 0


def test_row_40_contradicting_activations_are_refused():
    """Weights learned with one activation never meet another."""
    X = binary_rows()
    y = np.arange(40) % 2
    for pretrainer in ("rbm", StackedAutoencoderTransformer((3,), activation="tanh")):
        clf = GreedyPretrainedMLPClassifier(pretrainer=pretrainer, activation="relu")
        with pytest.raises(ValueError, match="contradicts the pretrainer"):
            clf.fit(X, y)


@pytest.mark.parametrize("pretrainer", ["rbm", "autoencoder"])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_row_41_one_preprocessing_for_both_phases(pretrainer, method):
    """Pre-trained weights meet the input they were trained on, raw columns included."""
    X = raw_rows()
    reg = GreedyPretrainedMLPRegressor(
        (5,),
        pretrainer=pretrainer,
        learning_rate_init=STILL,
        max_iter=1,
        random_state=0,
    )
    getattr(reg, method)(X, X[:, 0])
    features = reg.pretrainer_.transform(X)
    expected = features @ reg.coefs_[-1] + reg.intercepts_[-1]
    assert_allclose(reg.predict(X), expected.ravel(), rtol=1e-5)
    assert features.std(axis=0).max() > 1e-3


@pytest.mark.parametrize("cls", STACKS)
def test_row_42_transform_is_deterministic(cls):
    """No noise, no sampling and no random state is used after training."""
    X = binary_rows()
    stack = fitted_stack(cls, X)
    H = stack.transform(X)
    stack.set_params(random_state=99)
    assert_array_equal(stack.transform(X), H)
    assert_array_equal(copy.deepcopy(stack).transform(X), H)


@pytest.mark.parametrize("activation", ["relu", "logistic", "tanh", "identity"])
def test_row_43_every_activation_has_its_own_derivative(activation):
    """A step is minus the numerical gradient of the forward pass that predicts."""
    cls, X, y = head_problem("identity")
    params = {"hidden_layer_sizes": (4, 3), "activation": activation, "alpha": 0.0}
    net, start = one_step(cls, X, y, STILL, **params)

    def loss(parts):
        return mean_loss(parts, X, y, activation, "identity", alpha=0.0)

    assert np.mean((net.predict(X) - y) ** 2) * 1.5 == pytest.approx(loss(start))
    _, end = one_step(cls, X, y, 0.25, **params)
    for a, b, g in zip(start, end, numeric_gradient(loss, start), strict=True):
        assert_allclose((a - b) / 0.25, g, atol=1e-5)


def test_row_43_initial_biases_differ_and_noise_is_drawn_per_row():
    """No two units start alike; no two rows of a batch share a mask."""
    _, start = one_step(*head_problem("identity"), STILL, hidden_layer_sizes=(20,))
    assert len(np.unique(start[2])) == 20
    x = np.ones((50, 20), F32)
    keys = kernels.stream_keys(SEED, 0, 0)
    noisy, limits = x.copy(), np.zeros((2, 20), F32)
    kernels.corrupt(x, noisy, kernels.MASKING, 0.5, np.arange(20), limits, *keys)
    assert len(np.unique(noisy, axis=0)) == 50


@pytest.mark.parametrize("pretrainer", ["rbm", "autoencoder", None])
def test_row_44_fine_tuning_moves_every_layer(pretrainer):
    """All weights and biases change, not the head alone."""
    X = binary_rows()
    y = two_classes(X + 1e-3 * np.arange(40)[:, None])
    params = {"pretrainer": pretrainer, "max_iter": 3, "random_state": 0}
    sizes = (5, 4)
    start = GreedyPretrainedMLPClassifier(sizes, learning_rate_init=STILL, **params)
    end = GreedyPretrainedMLPClassifier(sizes, learning_rate_init=0.01, **params)
    start, end = start.fit(X, y), end.fit(X, y)
    for name in ("coefs_", "intercepts_"):
        for a, b in zip(getattr(start, name), getattr(end, name), strict=True):
            assert np.abs(a - b).max() > 1e-4


def test_row_45_head_is_never_pretrained_and_rows_are_drawn_without_replacement():
    """The output layer starts at random, whatever the pre-training did."""
    X = binary_rows()
    y = two_classes(X + 1e-3 * np.arange(40)[:, None])
    heads = []
    for epochs in (1, 15):
        clf = GreedyPretrainedMLPClassifier(
            pretrainer=StackedRBMTransformer((4,), max_iter=epochs, learning_rate=0.5),
            learning_rate_init=STILL,
            max_iter=1,
            random_state=0,
        ).fit(X, y)
        heads.append((clf.coefs_[-1], clf.coefs_[0]))
        assert len(clf.pretrainer_.coefs_) == len(clf.coefs_) - 1
    assert_array_equal(heads[0][0], heads[1][0])
    assert np.abs(heads[0][1] - heads[1][1]).max() > 1e-3
    for order in visited_rows(20, epochs=3):
        assert_array_equal(np.sort(order), np.arange(20))


@pytest.mark.parametrize("cls", STACKS)
def test_row_46_greedy_training_leaves_the_layers_below_alone(cls):
    """A layer is the same whether or not another is trained on top of it."""
    X = binary_rows()
    params = {"max_iter": 3, "random_state": 0}
    low, high = cls((4,), **params).fit(X), cls((4, 3), **params).fit(X)
    assert_array_equal(low.coefs_[0], high.coefs_[0])
    assert_array_equal(low.intercepts_[0], high.intercepts_[0])


@pytest.mark.parametrize("cls", STACKS)
def test_row_47_scales_come_from_the_training_set(cls):
    """A rarely changing column and a constant one neither explode nor divide by 0."""
    X = raw_rows(200)
    X[:, 0] = 5.0
    X[:, 1] = 7.0
    X[::50, 1] = 8.0  # most batches see a constant
    stack = fitted_stack(cls, X, batch_size=5)
    assert_allclose(stack.visible_scale_, [1.0, *X.std(axis=0)[1:]])
    assert np.max(stack.loss_curves_[0]) < 10
    assert np.all(np.isfinite(stack.score_samples(X)))


@pytest.mark.parametrize("mean", [0.0, 1e6, 1e9])
def test_row_47_a_small_deviation_beside_a_large_mean_is_seen(mean):
    """Seconds since an epoch vary too: float64 columns are scaled as float64."""
    X = mean + np.random.default_rng(0).normal(size=(100, 2)) * [100.0, 3.0]
    stack = fitted_stack(StackedRBMTransformer, X)
    assert_allclose(stack.visible_scale_, X.std(axis=0), rtol=1e-6)
    reg = GreedyPretrainedMLPRegressor((3,), max_iter=2, random_state=0)
    reg.fit(X, X[:, 0])
    assert_allclose(reg._target_scale, X[:, 0].std(), rtol=1e-6)


@pytest.mark.parametrize(
    ("cls", "head_max_iter"),
    [(GreedyPretrainedMLPRegressor, 0), (GreedyPretrainedMLPClassifier, 3)],
)
def test_row_48_held_out_rows_are_not_trained_on(cls, head_max_iter, monkeypatch):
    """Other values in the held-out rows change their score, not the training."""
    X = raw_rows(60) / 10.0 ** np.arange(4)
    y = two_classes(X)
    train, held = np.arange(40), np.arange(40, 60)
    monkeypatch.setattr(cls, "_split", lambda *_: (train, held))
    stack = FrozenEstimator(fitted_stack(StackedAutoencoderTransformer, X))
    params = {"pretrainer": stack if head_max_iter else None, "max_iter": 5}
    params |= {"head_max_iter": head_max_iter, "early_stopping": True}
    nets = []
    for _ in range(2):
        net = cls((3,), random_state=0, **params)
        nets.append(net.fit(X, y))
        y[held] = 1 - y[held]
        X[held] += 1
    assert_array_equal(nets[0].loss_curve_, nets[1].loss_curve_)
    assert_array_equal(nets[0].head_loss_curve_, nets[1].head_loss_curve_)
    assert len(nets[0].head_loss_curve_) == head_max_iter
    assert nets[0].validation_scores_ != nets[1].validation_scores_


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        *[(cls, {}) for cls in STACKS],
        (StackedRBMTransformer, {"learn_scale": True}),
        (StackedRBMTransformer, {"persistent": True, "n_temperatures": 2}),
        (StackedRBMTransformer, {"centered": True}),
        (StackedAutoencoderTransformer, {"corruption": "swap"}),
        (StackedAutoencoderTransformer, {"unrolled_max_iter": 3}),
    ],
)
def test_row_48_held_out_rows_do_not_train_a_stack(cls, options, monkeypatch):
    """Their values in another order, so that the columns' statistics stay, change the
    validation score and nothing else.
    """
    X, rng, held = raw_rows(60), np.random.default_rng(0), np.arange(10)
    monkeypatch.setattr("sklearn_greedy._stack.held_out_rows", lambda *_: held)
    params = {"early_stopping": True, "n_iter_no_change": 10, "max_iter": 5}
    before = fitted_stack(cls, X, **params, **options)
    X[held] = rng.permuted(X[held], axis=0)
    after = fitted_stack(cls, X, **params, **options)
    assert_allclose(before.loss_curves_, after.loss_curves_, rtol=1e-9)
    if options.get("unrolled_max_iter"):
        one, other = before.unrolled_loss_curve_, after.unrolled_loss_curve_
        assert_allclose(one, other, rtol=1e-9)
    assert before.validation_scores_ != after.validation_scores_


def test_row_48_prediction_does_not_train():
    """Rows given to ``predict`` and ``score`` leave no trace."""
    X = binary_rows()
    y = np.arange(40) % 2
    clf = GreedyPretrainedMLPClassifier((3,), max_iter=2, random_state=0).fit(X, y)
    before = copy.deepcopy(clf)
    clf.predict(1 - X)
    clf.score(1 - X, y)
    clf.pretrainer_.transform(1 - X)
    for one, other in zip(clf.coefs_, before.coefs_, strict=True):
        assert_array_equal(one, other)
    clf.partial_fit(X, y)
    assert_array_equal(clf.coefs_[0], before.partial_fit(X, y).coefs_[0])


@pytest.mark.parametrize("cls", MLPS)
def test_row_48b_defaults_pretrain(cls):
    """Unless told otherwise ``fit`` pre-trains, and the layer has learned."""
    X = binary_rows(100)
    net = cls(max_iter=1).fit(X, np.arange(100) % 2)
    curve = net.pretrainer_.loss_curves_[0]
    assert net.pretrainer_.n_iter_ >= 10
    assert curve[-1] < 0.9 * curve[0]


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("cls", STACKS)
def test_row_48c_any_number_of_rows_works(cls, n):
    """Batches of three cover every row exactly once, the last may be short."""
    stack = fitted_stack(cls, binary_rows(n), batch_size=3)
    assert np.all(np.isfinite(parameters_of(stack)))
    assert_array_equal(np.sort(visited_rows(n, 1)[0]), np.arange(n))


# --- citizenship -----------------------------------------------------------------


@pytest.mark.parametrize("cls", [*STACKS, *MLPS])
def test_row_49_every_parameter_is_explicit(cls):
    """``get_params`` sees the whole constructor, so a clone is the same estimator."""
    signature = inspect.signature(cls.__init__).parameters.values()
    kinds = {parameter.kind for parameter in signature}
    assert not kinds & {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}
    names = {parameter.name for parameter in signature} - {"self"}
    assert names == set(cls().get_params(deep=False)) == set(cls._parameter_constraints)
    copied = clone(cls(hidden_layer_sizes=(7,), alpha=0.25))
    assert copied.get_params(deep=False)["hidden_layer_sizes"] == (7,)
    assert copied.alpha == 0.25


def test_row_49_a_grid_search_reaches_the_pretrainer():
    """Values set through nested names change the fitted model."""
    X = binary_rows(30)
    clf = GreedyPretrainedMLPClassifier(
        pretrainer=StackedRBMTransformer((3,), max_iter=1), max_iter=1, random_state=0
    )
    grid = {"pretrainer__hidden_layer_sizes": [(2,), (5,)]}
    search = GridSearchCV(clf, grid, cv=2, refit=False).fit(X, np.arange(30) % 2)
    assert [p["pretrainer__hidden_layer_sizes"] for p in search.cv_results_["params"]]
    found = clone(clf).set_params(pretrainer__hidden_layer_sizes=(5,))
    assert found.fit(X, np.arange(30) % 2).coefs_[0].shape == (6, 5)


def test_row_50_estimators_work_in_a_pipeline():
    """y is passed on, ``classes_`` is there, predictions are arrays."""
    X = raw_rows()
    y = np.array(["a", "b"])[two_classes(X)]
    pipe = make_pipeline(
        StandardScaler(),
        StackedRBMTransformer((4,), max_iter=2),
        GreedyPretrainedMLPClassifier((3,), max_iter=2),
    ).fit(X, y)
    assert_array_equal(pipe.classes_, ["a", "b"])
    predicted = pipe.predict(X)
    assert isinstance(predicted, np.ndarray)
    assert predicted.shape == (40,)
    with pytest.raises(TypeError, match="'y'"):
        GreedyPretrainedMLPClassifier().fit(X)
    with pytest.raises(ValueError, match="requires y to be passed"):
        GreedyPretrainedMLPClassifier().fit(X, None)


@pytest.mark.parametrize("seed", [None, 3, np.random.RandomState(3)])
@pytest.mark.parametrize("cls", [*STACKS, *MLPS])
def test_row_51_fit_changes_no_parameter_and_takes_any_seed(cls, seed):
    """Parameters after ``fit`` are the objects given, a pretrainer stays unfitted."""
    params = {"hidden_layer_sizes": [3], "max_iter": 1, "random_state": seed}
    if cls in MLPS:
        params["pretrainer"] = StackedRBMTransformer([3], max_iter=1)
    model = cls(**params)
    before = model.get_params()
    model.fit(binary_rows(20), np.arange(20) % 2)
    after = model.get_params()
    assert before.keys() == after.keys()
    assert all(before[name] is after[name] for name in before)
    assert params["hidden_layer_sizes"] == [3]
    if cls in MLPS:
        assert not hasattr(params["pretrainer"], "coefs_")


@pytest.mark.parametrize("cls", [*STACKS, *MLPS])
def test_row_52_the_global_generator_is_neither_used_nor_changed(cls):
    """With a seed the result does not depend on NumPy's global state."""
    X, y, results = binary_rows(20), np.arange(20) % 2, []
    state = np.random.get_state()  # noqa: NPY002
    try:
        for seed in (1, 2):
            np.random.seed(seed)  # noqa: NPY002
            expected = np.random.RandomState(seed).random()
            results.append(cls((3,), max_iter=2, random_state=0).fit(X, y).coefs_[0])
            assert np.random.random() == expected  # noqa: NPY002
    finally:
        np.random.set_state(state)  # noqa: NPY002
    assert_array_equal(*results)


def test_row_53_importing_patches_nothing():
    """No attribute of a scikit-learn module is replaced by the import or a fit."""
    code = """
import sys
import numpy, sklearn.base, sklearn.neural_network, sklearn.pipeline
import sklearn.utils.multiclass, sklearn.utils.validation, sklearn.model_selection
def snapshot():
    return {
        (module, name): value
        for module in before_modules
        for name, value in vars(sys.modules[module]).items()
        if callable(value)
    }
before_modules = [m for m in sys.modules if m.split(".")[0] in ("sklearn", "numpy")]
before = snapshot()
from sklearn_greedy import StackedRBMTransformer
StackedRBMTransformer((2,), max_iter=1).fit(numpy.eye(4))
after = snapshot()
changed = [key for key in before if after.get(key) is not before[key]]
assert not changed, changed
"""
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], check=True, timeout=120
    )


@pytest.mark.parametrize("cls", STACKS)
def test_row_54_frames_go_in_and_named_columns_come_out(cls):
    """Column names are kept, checked, and given to the features."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(binary_rows(), columns=list("abcdef"))
    stack = cls((3,), max_iter=1, random_state=0).set_output(transform="pandas")
    out = stack.fit_transform(frame)
    assert_array_equal(stack.feature_names_in_, list("abcdef"))
    assert list(out.columns) == [f"{cls.__name__.lower()}{i}" for i in range(3)]
    with pytest.raises(ValueError, match="feature names"):
        stack.transform(frame[list("fedcba")])


def trees():
    return {
        path.name: ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(SOURCE.glob("*.py"))
    }


def private_imports(tree):
    """Private names or modules of scikit-learn that a file imports."""
    found = []
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found += [
            name
            for name in names
            if name.split(".")[0] == "sklearn"
            and any(part.startswith("_") for part in name.split("."))
        ]
    return found


def test_row_54_no_code_is_made_from_text():
    """Parameters are set as attributes: nothing calls exec or eval."""
    calls = {
        node.func.id
        for tree in trees().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not calls & {"exec", "eval", "compile"}


def test_row_55_private_names_of_scikit_learn_are_imported_in_one_place():
    """Only ``_compat`` may import a private name, and no network class is derived."""
    users = [name for name, tree in trees().items() if private_imports(tree)]
    assert set(users) <= {"_compat.py"}
    for cls in (*STACKS, *MLPS):
        modules = {base.__module__ for base in cls.__mro__}
        assert not any("neural_network" in module for module in modules)


def test_row_55_two_classes_are_both_predicted_and_the_seed_is_passed_on():
    """A single output unit is cut at one half, and the pretrainer gets a seed."""
    X = binary_rows(100)
    y = X[:, 0].astype(int)
    params = {"learning_rate_init": 0.05, "max_iter": 30, "random_state": 0}
    one = GreedyPretrainedMLPClassifier((6,), **params).fit(X, y)
    assert set(one.predict(X)) == {0, 1}
    assert one.score(X, y) > 0.9
    other = GreedyPretrainedMLPClassifier((6,), **params).fit(X, y)
    assert_array_equal(one.pretrainer_.coefs_[0], other.pretrainer_.coefs_[0])
    assert one.pretrainer_.random_state is not None


def test_row_56_literals_are_compared_by_value():
    """``is`` never stands beside a string or a number."""
    wrong = [
        (name, node.lineno)
        for name, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        and any(isinstance(op, ast.Is | ast.IsNot) for op in node.ops)
        and any(
            isinstance(part, ast.Constant)
            and isinstance(part.value, str | int | float)
            and not isinstance(part.value, bool)
            for part in [node.left, *node.comparators]
        )
    ]
    assert not wrong
