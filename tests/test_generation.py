"""Drawn rows against the exact distributions of tiny RBMs and stacks."""

import itertools

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.special import expit, softmax
from scipy.stats import chi2, kstest, norm
from sklearn.utils._param_validation import InvalidParameterError
from tools import bit_states, random_rbm

from sklearn_greedy import StackedRBMTransformer
from sklearn_greedy._energy import HIDDEN_KINDS, RBM
from sklearn_greedy._generation import draw_down, gibbs, initial_rows, sample_stack
from sklearn_greedy._units import BERNOULLI, GAUSSIAN, POISSON, SOFTMAX

N = 6000
SIDES = {
    "bernoulli": [(0, 3, BERNOULLI)],
    "softmax": [(0, 3, SOFTMAX), (3, 5, SOFTMAX)],
    "poisson": [(0, 2, POISSON)],
    "mixed": [(0, 1, BERNOULLI), (1, 4, SOFTMAX), (4, 5, POISSON)],
}


def tiny_rbm(side, hidden="bernoulli", seed=0, width=2, scale=0.7):
    table = SIDES[side] if isinstance(side, str) else side
    return random_rbm(table, hidden, width=width, scale=scale, seed=seed)


def discrete_states(rbm):
    parts = []
    for start, stop, kind, _ in rbm.blocks:
        if kind == SOFTMAX:
            parts.append(np.eye(stop - start))
        else:
            values = np.arange(2.0 if kind == BERNOULLI else 25.0)
            parts += [values[:, None]] * (stop - start)
    rows = itertools.product(*parts)
    return np.array([np.concatenate(row) for row in rows])


def assert_drawn_from(rows, states, p):
    """Chi-square test of drawn rows, with states of low weight in one cell."""
    place = {tuple(state): k for k, state in enumerate(states)}
    counts = np.zeros(len(states) + 1)
    for row in rows:
        counts[place.get(tuple(row), len(states))] += 1
    expected = np.append(p, max(1 - p.sum(), 0)) * len(rows)
    large = expected > 5
    observed = np.append(counts[large], counts[~large].sum())
    expected = np.append(expected[large], expected[~large].sum())
    kept = expected > 0
    statistic = ((observed - expected) ** 2)[kept] / expected[kept]
    assert chi2.sf(statistic.sum(), kept.sum() - 1) > 1e-3


@pytest.mark.parametrize("side", SIDES)
def test_long_chains_have_the_exact_distribution(side, rng):
    rbm = tiny_rbm(side)
    v = gibbs(rbm, initial_rows([rbm], N, rng), 60, rng)
    states = discrete_states(rbm)
    assert_drawn_from(v, states, softmax(-rbm.free_energy(states)))


@pytest.mark.parametrize("hidden", ["bernoulli", "gaussian"])
def test_discrete_columns_under_other_hidden_units(hidden, rng):
    rbm = tiny_rbm("softmax", hidden)
    v = gibbs(rbm, initial_rows([rbm], N, rng), 60, rng)
    states = discrete_states(rbm)
    assert_drawn_from(v, states, softmax(-rbm.free_energy(states)))


def test_gaussian_columns_are_the_mixture_of_the_hidden_states(rng):
    rbm = tiny_rbm([(0, 2, GAUSSIAN)], scale=1.0)
    v = gibbs(rbm, initial_rows([rbm], N, rng), 60, rng)
    h = bit_states(2)
    p = softmax(rbm.hidden_log_weight(h))
    for column in range(2):
        means = rbm.visible_means(h)[:, column]

        def cdf(t, means=means):
            return norm.cdf(np.subtract.outer(t, means)) @ p

        assert kstest(v[:, column], cdf).pvalue > 1e-3


@pytest.mark.parametrize("side", ["bernoulli", "mixed"])
def test_clamped_columns_give_the_conditional_distribution(side, rng):
    rbm = tiny_rbm(side, scale=1.5)
    states = discrete_states(rbm)
    clamped = np.zeros(len(rbm.b), dtype=bool)
    clamped[0] = True
    start = initial_rows([rbm], N, rng)
    start[:, 0] = 1.0
    v = gibbs(rbm, start, 60, rng, clamped)
    assert_array_equal(v[:, 0], 1)
    given = states[states[:, 0] == 1]
    assert_drawn_from(v, given, softmax(-rbm.free_energy(given)))


def exact_stack(rbms):
    """p(v) = sum_h p(v | h) p_top(h) of a stack of two, over the states of v."""
    states, h = discrete_states(rbms[0]), discrete_states(rbms[1])
    top = softmax(-rbms[1].free_energy(h))
    means = rbms[0].visible_means(h)
    given = np.where(states[:, None] == 1, means, 1 - means).prod(axis=2)
    return states, given @ top


def two_layers():
    bottom = tiny_rbm("bernoulli", width=2, scale=1.5)
    top = tiny_rbm([(0, 2, BERNOULLI)], seed=5, width=3, scale=1.5)
    return [bottom, top]


def plain_scalings(rbms):
    return [(np.zeros(len(r.b)), np.ones(len(r.b))) for r in rbms]


def test_stack_draws_from_its_top_and_down(rng):
    rbms = two_layers()
    start = initial_rows(rbms, N, rng)
    v = sample_stack(rbms, start, 60, rng, scalings=plain_scalings(rbms))
    assert_drawn_from(v, *exact_stack(rbms))


def test_stack_keeps_clamped_columns_and_draws_the_others(rng):
    rbms = two_layers()
    start = initial_rows(rbms, 50, rng)
    mask = np.array([True, False, False])
    scalings = plain_scalings(rbms)
    v = sample_stack(rbms, start, 20, rng, mask, scalings=scalings)
    assert_array_equal(v[:, 0], start[:, 0])
    assert np.any(v[:, 1:] != start[:, 1:])


def test_clamped_column_moves_the_others_through_the_layers(rng):
    """A chain that stays in the top RBM forgets it, and only the clamped column itself
    is put back in the end.
    """
    columns = np.array([(0, 2, BERNOULLI, 1)])
    bottom = RBM(np.full((2, 1), 6.0), np.array([-6.0]), np.full(2, -3.0), columns)
    one = np.array([(0, 1, BERNOULLI, 1)])
    top = RBM(np.array([[8.0]]), np.array([-4.0]), np.array([-4.0]), one)
    start = np.zeros((600, 2))
    start[::2, 0] = 1
    options = {"clamped": np.array([True, False])}
    options["scalings"] = plain_scalings([bottom, top])
    v = sample_stack([bottom, top], start, 50, rng, **options)
    assert v[::2, 1].mean() > v[1::2, 1].mean() + 0.3


def test_stack_without_steps_goes_up_and_down_once():
    """What is scaled on the way up is scaled back on the way down."""
    rbms = [tiny_rbm("bernoulli", "relu"), tiny_rbm([(0, 2, GAUSSIAN)])]
    scalings = [(np.zeros(3), np.ones(3)), (np.array([0.4, 5]), np.array([0.3, 7]))]
    start = initial_rows(rbms, 200, np.random.default_rng(0))
    drawn = sample_stack(rbms, start, 0, np.random.default_rng(1), scalings=scalings)
    assert_array_equal(drawn, gibbs(rbms[0], start, 1, np.random.default_rng(1)))


def test_states_on_the_way_down_are_in_the_units_of_the_layer_below(rng):
    """Without weights in the top, they are N(offset, scale) and pass through."""
    blocks = np.array([(0, 2, GAUSSIAN, 1)])
    bottom = RBM(np.eye(2), np.zeros(2), np.zeros(2), blocks, "relu")
    top = RBM(np.zeros((2, 3)), np.zeros(3), np.zeros(2), blocks)
    offset, scale = np.array([5.0, 50.0]), np.array([2.0, 3.0])
    scalings = [(np.zeros(2), np.ones(2)), (offset, scale)]
    v = draw_down([bottom, top], np.zeros((N, 3)), scalings, rng)
    assert_allclose(v.mean(axis=0), offset, atol=0.3)
    assert_allclose(v.std(axis=0), np.sqrt(1 + scale**2), rtol=0.05)


def test_inputs_are_left_alone_and_seeds_repeat(rng):
    rbms = two_layers()
    start = initial_rows(rbms, 20, rng)
    before, scalings = start.copy(), plain_scalings(rbms)
    draws = [
        sample_stack(rbms, start, 5, np.random.default_rng(3), scalings=scalings)
        for _ in range(2)
    ]
    assert_array_equal(draws[0], draws[1])
    assert_array_equal(start, before)
    nothing = np.zeros(3, dtype=bool)
    free = gibbs(rbms[0], start, 5, np.random.default_rng(3))
    assert_array_equal(
        gibbs(rbms[0], start, 5, np.random.default_rng(3), nothing), free
    )
    assert_array_equal(gibbs(rbms[0], start, 5, rng, ~nothing), start)


def test_part_of_a_group_cannot_be_clamped(rng):
    rbm = tiny_rbm("softmax")
    mask = np.array([True, False, False, False, False])
    with pytest.raises(ValueError, match="columns 0 to 2 are one softmax group"):
        gibbs(rbm, initial_rows([rbm], 4, rng), 1, rng, mask)


@pytest.mark.parametrize("values", [[3, 0, 0], [2, -1, 0], [0, 0, 0]])
@pytest.mark.parametrize("deep", [False, True])
def test_clamped_groups_are_probabilities(deep, values, rng):
    """They were taken and given back as they were."""
    rbms = [tiny_rbm("softmax")]
    if deep:
        rbms.append(tiny_rbm([(0, 2, BERNOULLI)]))
    mask = np.array([True, True, True, False, False])
    scalings = plain_scalings(rbms)
    for row in ([0, 1, 0], [0.5, 0.25, 0.2505]):
        rows = np.array([[*row, 1.0, 0]])
        drawn = sample_stack(rbms, rows, 1, rng, mask, scalings=scalings)
        assert_array_equal(drawn[:, :3], rows[:, :3])
    rows = np.array([[0.0, 0, 1, 0, 1], [*values, 0, 1]])
    message = r"columns 0 to 2 are one softmax group, but .* row 1 are .* sum to 1"
    with pytest.raises(ValueError, match=message):
        sample_stack(rbms, rows, 1, rng, mask, scalings=scalings)


@pytest.mark.parametrize("hidden", HIDDEN_KINDS)
def test_drawn_hidden_states_have_the_means_of_the_statistics(hidden, rng):
    """But for rectified units: their noise stands for a pile of bits only well above
    zero, and has the mean of a rectified normal number.
    """
    blocks = np.array([(0, 1, BERNOULLI, 1)])
    for x in (-3.0, -0.5, 0.0, 1.0, 4.0):
        rbm = RBM(np.zeros((1, 1)), np.array([x]), np.zeros(1), blocks, hidden)
        v = np.zeros((200_000, 1))
        drawn = rbm.draw_hidden(v, rng)
        error = 4 * drawn.std() / np.sqrt(len(v))
        expected = rbm.hidden_means(v[:1])[0, 0]
        if hidden == "relu":
            s = np.sqrt(expit(x))
            rectified = x * norm.cdf(x / s) + s * norm.pdf(x / s)
            assert x < 3 or abs(rectified - expected) < 0.05
            expected = rectified
        assert abs(drawn.mean() - expected) < error + 1e-6


# --- the estimator ---------------------------------------------------------------


@pytest.fixture
def fitted(rng):
    flag = rng.integers(0, 2, 300)
    X = np.column_stack([50 + 20 * flag + rng.normal(0, 3, 300), flag, 1 - flag])
    return X, StackedRBMTransformer(
        (6,),
        visible=[("gaussian", [0]), ("bernoulli", [1, 2])],
        learning_rate=0.05,
        max_iter=100,
        random_state=0,
    ).fit(X)


def test_samples_are_in_the_units_of_the_data(fitted):
    X, stack = fitted
    drawn = stack.sample(500, n_gibbs_steps=100, random_state=0)
    assert drawn.shape == (500, 3)
    assert abs(drawn[:, 0].mean() - X[:, 0].mean()) < 8
    assert set(np.unique(drawn[:, 1:])) <= {0.0, 1.0}
    assert_array_equal(drawn, stack.sample(500, n_gibbs_steps=100, random_state=0))


def test_clamped_flag_moves_the_other_columns(fitted):
    _, stack = fitted
    init = np.full((200, 3), np.nan)
    init[:, 1] = np.arange(200) % 2
    drawn = stack.sample(init=init, clamp=[1], n_gibbs_steps=100, random_state=0)
    assert_array_equal(drawn[:, 1], init[:, 1])
    assert np.mean(drawn[:, 2] == 1 - init[:, 1]) > 0.9
    assert drawn[1::2, 0].mean() > drawn[::2, 0].mean() + 8


def test_clamped_values_come_back_to_the_last_bit(rng):
    """Scaling them and back rounds them."""
    scale = np.array([1 / 3, 0.1, 7.7, 1e-3, 1e5, 0.7])
    X = scale * rng.normal(size=(400, 6)) + [1 / 7, 3.3, 1e4, 0.1, 0.3, 9]
    stack = StackedRBMTransformer((4,), max_iter=1, random_state=0).fit(X)
    drawn = stack.sample(init=X, clamp=slice(5), n_gibbs_steps=1, random_state=0)
    assert_array_equal(drawn[:, :5], X[:, :5])


def test_missing_values_stand_for_draws_from_the_biases(fitted):
    _, stack = fitted
    missing = np.full((40, 3), np.nan)
    drawn = stack.sample(init=missing, n_gibbs_steps=0, random_state=0)
    assert_array_equal(drawn, stack.sample(40, n_gibbs_steps=0, random_state=0))


@pytest.mark.parametrize("form", ["nullable frame", "csr"])
def test_clamped_values_come_in_any_form(form, fitted):
    """Rows were taken in these forms, but the clamped values not out of them."""
    X, stack = fitted
    missing = 0.0 if form == "csr" else np.nan
    init = np.column_stack([np.full(20, missing), X[:20, 1:]])
    given = sparse.csr_array(init)
    if form == "nullable frame":
        given = pd.DataFrame(init).convert_dtypes()
        assert given.isna().to_numpy()[:, 0].all()
    drawn, expected = (
        stack.sample(init=rows, clamp=[1, 2], n_gibbs_steps=3, random_state=0)
        for rows in (given, init)
    )
    assert_array_equal(drawn, expected)
    assert_array_equal(drawn[:, 1:], X[:20, 1:])


def test_sampling_leaves_the_stack_alone(fitted):
    X, stack = fitted
    before = [a.copy() for a in (*stack.coefs_, *stack.intercepts_)]
    state = dict(vars(stack))
    stack.sample(5, n_gibbs_steps=3)
    stack.gibbs(X, n_steps=2)
    for a, b in zip(before, (*stack.coefs_, *stack.intercepts_), strict=True):
        assert_array_equal(a, b)
    assert vars(stack).keys() == state.keys()


def test_gibbs_steps_stay_near_the_rows(fitted):
    X, stack = fitted
    moved = stack.gibbs(X, n_steps=1, random_state=0)
    assert moved.shape == X.shape
    assert np.corrcoef(moved[:, 0], X[:, 0])[0, 1] > 0.5
    assert_array_equal(moved, stack.gibbs(X, n_steps=1, random_state=0))


def test_gibbs_steps_are_in_the_units_of_the_data(fitted):
    X, stack = fitted
    moved = stack.gibbs(X, n_steps=1, random_state=0)
    assert np.all(np.abs(moved.mean(axis=0) - X.mean(axis=0)) < X.std(axis=0))


def test_clamping_an_unknown_column_names_it(fitted):
    X, stack = fitted
    frame = pd.DataFrame(X, columns=["size", "flag", "other"])
    with pytest.raises(ValueError, match="no column named 'weight'"):
        stack.sample(init=frame, clamp=["flag", "weight"])


def test_errors_of_clamping_say_what_is_missing(fitted):
    _, stack = fitted
    with pytest.raises(ValueError, match="clamp needs init"):
        stack.sample(clamp=[0])
    with pytest.raises(ValueError, match="1 missing value in clamped columns"):
        stack.sample(init=[[np.nan, 1.0, 0.0]], clamp=[0])


def test_deep_stack_samples(rng):
    X = (rng.random((100, 6)) < 0.3).astype(np.float32)
    for hidden in HIDDEN_KINDS:
        stack = StackedRBMTransformer(
            (5, 4),
            hidden=[hidden, "bernoulli"],
            learning_rate=0.01,
            max_iter=3,
            random_state=0,
        ).fit(X)
        drawn = stack.sample(30, n_gibbs_steps=20, random_state=1)
        assert drawn.dtype == np.float32
        assert set(np.unique(drawn)) <= {0.0, 1.0}
        assert_allclose(drawn.mean(), X.mean(), atol=0.2)


def test_deep_stack_draws_in_the_units_of_the_data(rng):
    """Rectified features are scaled for the top RBM, and back on the way down."""
    means = np.array([[5.0, 50.0, -20.0], [9.0, 70.0, -35.0]])
    X = means[rng.integers(2, size=400)] + rng.normal(size=(400, 3))
    stack = StackedRBMTransformer(
        (16, 8),
        hidden=["relu", "bernoulli"],
        learning_rate=0.005,
        max_iter=60,
        random_state=0,
    ).fit(X)
    drawn = stack.sample(400, n_gibbs_steps=100, random_state=0)
    assert np.all(np.abs(drawn.mean(axis=0) - X.mean(axis=0)) < X.std(axis=0))


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("log_partition", {"method": "exactly"}),
        ("log_partition", {"n_runs": 0}),
        ("log_partition", {"n_temperatures": 0}),
        ("log_likelihood", {"n_samples": 0}),
        ("gibbs", {"n_steps": -1}),
        ("sample", {"n_samples": 2.5}),
        ("sample", {"n_gibbs_steps": -1}),
    ],
)
def test_parameters_of_methods_are_checked(method, params, fitted):
    """No temperatures gave a log Z far off, no draws NaN, and -3 steps none at all."""
    X, stack = fitted
    rows = [X] if method in ("log_likelihood", "gibbs") else []
    (name,) = params
    with pytest.raises(
        InvalidParameterError, match=f"'{name}' parameter of .*{method}"
    ):
        getattr(stack, method)(*rows, **params)


def test_rows_given_to_begin_with_are_told_of_by_their_name(rng):
    stack = StackedRBMTransformer((4,), max_iter=1, random_state=0)
    stack.fit((rng.random((40, 3)) < 0.5) * 1.0)
    with pytest.raises(ValueError, match="init: X has 2 features"):
        stack.sample(init=np.ones((2, 2)))
