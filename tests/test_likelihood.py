"""Log Z, annealing, the bound and the pseudo-log-likelihood against enumeration."""

import itertools
import tracemalloc

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.integrate import quad
from scipy.special import logsumexp
from tools import bit_states, random_rbm

from sklearn_greedy import StackedRBMTransformer
from sklearn_greedy import _likelihood as likelihood
from sklearn_greedy._energy import HIDDEN_KINDS, RBM, hidden_log_sums
from sklearn_greedy._generation import gibbs, initial_rows
from sklearn_greedy._likelihood import (
    ais_log_z,
    dbn_bound,
    exact_log_z,
    pseudo_log_likelihood,
)
from sklearn_greedy._units import BERNOULLI, GAUSSIAN, POISSON, SOFTMAX

SIDES = {
    "bernoulli": [(0, 5, BERNOULLI)],
    "softmax": [(0, 3, SOFTMAX), (3, 5, SOFTMAX)],
    "discrete": [(0, 2, BERNOULLI), (2, 5, SOFTMAX)],
    "gaussian": [(0, 3, GAUSSIAN)],
    "poisson": [(0, 2, POISSON)],
    "mixed": [(0, 2, BERNOULLI), (2, 3, GAUSSIAN), (3, 6, SOFTMAX), (6, 7, POISSON)],
}
EVERY_SIDE = pytest.mark.parametrize("side", SIDES)


@pytest.mark.parametrize("kind", HIDDEN_KINDS)
@pytest.mark.parametrize("width", [1, 7, 8, 19])
@pytest.mark.parametrize("scale", [0.5, 20.0])
def test_sums_along_nodes_are_those_at_each_of_them(kind, width, scale, rng):
    """Small exponents are multiplied from node to node, large ones taken anew."""
    off, weights = rng.normal(size=(6, width)), scale * rng.normal(size=width)
    nodes = np.arange(-9.0, 9.0, 0.75)
    found = likelihood._log_sums_along(off, weights, nodes, kind)
    for t, sums in zip(nodes, found, strict=True):
        expected = hidden_log_sums(off + t * weights, kind)
        assert_allclose(sums, expected, rtol=1e-12, atol=1e-12)


def test_samples_for_log_z_take_some_rows_only(rng):
    """All rows of a CSR matrix were made dense."""
    cells = np.arange(2000), rng.integers(0, 2000, 2000)
    X = sparse.csr_array((np.ones(2000), cells), shape=(2000, 2000))
    stack = StackedRBMTransformer((30,), max_iter=1, random_state=0).fit(X)
    tracemalloc.start()
    stack.log_partition(X, method="ais", n_runs=2, n_temperatures=5, random_state=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2000 * 2000 / 2


def some_rbm(side, hidden="bernoulli", width=3, scale=0.5, seed=0):
    table = SIDES[side] if isinstance(side, str) else side
    return random_rbm(table, hidden, width=width, scale=scale, seed=seed)


def states_of(rbm):
    parts = []
    for start, stop, kind, _ in rbm.blocks:
        if kind == SOFTMAX:
            parts.append(np.eye(stop - start))
        else:
            parts += [np.array([[0.0], [1.0]])] * (stop - start)
    return np.array([np.concatenate(row) for row in itertools.product(*parts)])


# --- log Z -----------------------------------------------------------------------


@EVERY_SIDE
@pytest.mark.parametrize("width", [2, 9])
def test_exact_log_z_is_the_sum_over_hidden_states(side, width):
    """With the hidden side the smaller or (where it is discrete) the larger one."""
    rbm = some_rbm(side, width=width)
    expected = logsumexp(rbm.hidden_log_weight(bit_states(width)))
    assert_allclose(exact_log_z(rbm), expected, rtol=1e-12)


@pytest.mark.parametrize("side", ["bernoulli", "softmax", "discrete"])
@pytest.mark.parametrize("hidden", HIDDEN_KINDS)
def test_exact_log_z_is_the_sum_over_visible_states(side, hidden):
    rbm = some_rbm(side, hidden, width=7)
    expected = logsumexp(-rbm.free_energy(states_of(rbm)))
    assert_allclose(exact_log_z(rbm), expected, rtol=1e-12)


@pytest.mark.parametrize("scale", [0.5, 5.0, 400.0])
def test_products_of_factors_equal_the_sum_of_logarithms(scale):
    """Also where the products overflow and the general form steps in."""
    rbm = some_rbm([(0, 13, BERNOULLI)], width=7, scale=scale)
    expected = logsumexp(rbm.hidden_log_weight(bit_states(7)))
    assert_allclose(exact_log_z(rbm), expected, rtol=1e-12)


def test_blocks_of_states_add_up(monkeypatch):
    rbm = some_rbm("discrete", width=7)
    whole = exact_log_z(rbm)
    monkeypatch.setattr(likelihood, "_BLOCK_FLOATS", 20)
    assert_allclose(exact_log_z(rbm), whole, rtol=1e-12)


def test_too_many_units_are_refused_with_their_number():
    rbm = some_rbm([(0, 30, BERNOULLI)], width=25)
    with pytest.raises(ValueError, match="Got 25 bernoulli hidden units"):
        exact_log_z(rbm)
    # Annealing would be refused as well.
    message = r"Got 3 gaussian hidden units .* columns\. Use score_samples, or hidden="
    with pytest.raises(ValueError, match=message):
        exact_log_z(some_rbm("gaussian", "gaussian"))


# --- annealed importance sampling ------------------------------------------------


def trained_rbm(width, kind, seed=0):
    """An RBM that learned structured rows, with its means' biases and start rows."""
    rng = np.random.default_rng(seed)
    code = rng.integers(0, 2, (400, 4)).astype(float)
    X = np.abs(np.repeat(code, 6, axis=1) - (rng.random((400, 24)) < 0.1))
    visible = "bernoulli"
    if kind == "mixed":
        X = np.column_stack(
            [X, 3 * code[:, 0] + rng.normal(size=400), X[:, 5], 1 - X[:, 5]]
        )
        visible = [("gaussian", [24]), ("softmax", [25, 26])]
    return StackedRBMTransformer(
        (width,),
        visible=visible,
        learning_rate=0.05,
        max_iter=30,
        persistent=True,
        visible_reconstruction="sample",
        random_state=seed,
    ).fit(X), X


@pytest.mark.parametrize(
    ("width", "kind"), [(12, "bernoulli"), (16, "mixed"), (20, "bernoulli")]
)
def test_annealing_holds_the_exact_value_within_its_interval(width, kind):
    stack, _ = trained_rbm(width, kind)
    exact = stack.log_partition(method="exact")["log_z"]
    found = [
        stack.log_partition(
            method="ais", n_runs=50, n_temperatures=1000, random_state=seed
        )
        for seed in range(20)
    ]
    inside = [result["low"] <= exact <= result["high"] for result in found]
    assert sum(inside) >= 18
    assert np.median([result["high"] - result["low"] for result in found]) < 1.5
    assert abs(np.mean([result["log_z"] for result in found]) - exact) < 0.3


def test_forward_runs_err_down_and_reverse_runs_up():
    stack, X = trained_rbm(12, "bernoulli")
    exact = stack.log_partition()["log_z"]
    found = [
        stack.log_partition(
            X, method="ais", n_runs=4, n_temperatures=12, random_state=seed
        )
        for seed in range(20)
    ]
    assert np.mean([result["log_z"] for result in found]) < exact
    assert np.mean([result["log_z_reverse"] for result in found]) > exact
    fine = stack.log_partition(X, method="ais", n_temperatures=3000, random_state=0)
    assert abs(fine["log_z_reverse"] - exact) < 0.3


@EVERY_SIDE
def test_annealing_knows_every_kind_of_column(side):
    rbm = some_rbm(side, width=4)
    found = ais_log_z(
        rbm,
        np.zeros(len(rbm.b)),
        n_runs=400,
        n_temperatures=500,
        seed=np.array([1, 2], dtype=np.uint32),
    )
    assert abs(found["log_z"] - exact_log_z(rbm)) < 0.1
    assert found["low"] <= exact_log_z(rbm) <= found["high"]


def test_annealing_does_not_depend_on_calls(monkeypatch):
    rbm = some_rbm("mixed")
    options = {"n_runs": 20, "n_temperatures": 50, "seed": np.array([1, 2], np.uint32)}
    whole = ais_log_z(rbm, rbm.b, **options)
    monkeypatch.setattr(likelihood, "_CALL_PRODUCTS", 1)
    assert ais_log_z(rbm, rbm.b, **options) == whole


def test_reverse_runs_share_the_rows_where_there_are_few():
    """With as many runs as rows, n_runs would not be obeyed."""
    stack, X = trained_rbm(12, "bernoulli")
    options = {"method": "ais", "n_runs": 10, "n_temperatures": 20, "random_state": 0}
    few, repeated = stack.log_partition(X[:3], **options), np.tile(X[:3], (4, 1))
    assert few == stack.log_partition(repeated[:10], **options)


def test_annealed_log_likelihood_repeats_with_its_seed():
    """The seed has to reach the runs too, not only the draws of the bound."""
    stack, X = trained_rbm(12, "bernoulli")
    options = {"method": "ais", "n_runs": 5, "n_temperatures": 20, "random_state": 0}
    first = stack.log_likelihood(X[:5], **options)
    assert_array_equal(first, stack.log_likelihood(X[:5], **options))


@pytest.mark.parametrize(
    ("side", "other"),
    [("bernoulli", "Use method='exact'"), ("gaussian", "Use score_samples, or hidden")],
)
def test_annealing_needs_bernoulli_hidden_units(side, other):
    rbm = some_rbm(side, "relu")
    with pytest.raises(ValueError, match=f"Got hidden='relu'. {other}"):
        ais_log_z(
            rbm,
            np.zeros(len(rbm.b)),
            n_runs=2,
            n_temperatures=2,
            seed=np.array([1, 2], np.uint32),
        )


def test_auto_is_exact_where_it_can_be():
    stack, X = trained_rbm(12, "bernoulli")
    assert stack.log_partition()["method"] == "exact"
    wide = StackedRBMTransformer((30,), max_iter=1, random_state=0).fit(
        np.hstack([X, X])
    )
    result = wide.log_partition(n_runs=5, n_temperatures=10, random_state=0)
    assert result["method"] == "ais"
    with pytest.raises(ValueError, match="Got 'best' instead"):
        wide.log_partition(method="best")


# --- log-likelihood --------------------------------------------------------------


def test_log_likelihood_sums_to_one(rng):
    X = (rng.random((60, 6)) < 0.4).astype(float)
    stack = StackedRBMTransformer((4,), max_iter=5, random_state=0).fit(X)
    assert_allclose(logsumexp(stack.log_likelihood(bit_states(6))), 0, atol=1e-10)


def test_log_likelihood_is_a_density_in_the_units_of_the_data(rng):
    X = rng.normal(30, 7, (100, 1))
    stack = StackedRBMTransformer((3,), learning_rate=0.01, random_state=0).fit(X)
    total, _ = quad(lambda t: np.exp(stack.log_likelihood([[t]])[0]), -40, 100)
    assert total == pytest.approx(1, abs=1e-6)


def tiny_stack():
    bottom = some_rbm([(0, 4, BERNOULLI)], width=3, scale=1.0)
    return [bottom, some_rbm([(0, 3, BERNOULLI)], width=4, scale=1.0, seed=3)]


def exact_stack_log_likelihood(rbms, v):
    """log sum_h p(v | h) p_top(h)."""
    h = bit_states(3)
    log_top = -rbms[1].free_energy(h) - exact_log_z(rbms[1])
    means = rbms[0].visible_means(h)
    log_given = np.log(np.where(v[:, None] == 1, means, 1 - means)).sum(axis=2)
    return logsumexp(log_given + log_top, axis=1)


def test_bound_is_below_the_exact_log_likelihood(rng):
    rbms = tiny_stack()
    v = bit_states(4)
    log_z = exact_log_z(rbms[1])
    bound = dbn_bound(rbms, v, log_z, n_samples=3000, rng=rng)
    exact = exact_stack_log_likelihood(rbms, v)
    assert np.all(bound < exact + 0.05)
    assert np.mean(exact - bound) > 0.02


def test_bound_is_tight_where_the_top_mirrors_the_bottom(rng):
    """Then the prior of h is that of the first RBM, and Q is the exact posterior."""
    bottom = tiny_stack()[0]
    blocks = np.array([(0, 3, BERNOULLI, 1)])
    top = RBM(bottom.w.T.copy(), bottom.b, bottom.c, blocks)
    v = bit_states(4)
    log_z = exact_log_z(bottom)
    assert exact_log_z(top) == pytest.approx(log_z)
    exact = -bottom.free_energy(v) - log_z
    assert_allclose(
        dbn_bound([bottom, top], v, log_z, n_samples=4000, rng=rng), exact, atol=0.06
    )


@pytest.mark.parametrize("side", ["softmax", "gaussian", "poisson", "mixed"])
def test_bound_is_exact_without_interactions(side, rng):
    """What depends on the row alone, as log v! of counts, could be left out unseen."""
    b, blocks = some_rbm(side).b, some_rbm(side).blocks
    bottom = RBM(np.zeros((len(b), 3)), np.zeros(3), b, blocks)
    top = some_rbm([(0, 3, BERNOULLI)], scale=0.0)
    top.b[:] = 0
    v = initial_rows([bottom], 20, rng)
    bound = dbn_bound([bottom, top], v, exact_log_z(top), n_samples=2, rng=rng)
    assert_allclose(bound, -bottom.free_energy(v) - exact_log_z(bottom))


def test_bound_is_a_density_in_the_units_of_the_data(rng):
    X = rng.normal(3, 2, (80, 4))
    stack = StackedRBMTransformer((6, 4), max_iter=2, random_state=0)
    small, large = (
        stack.fit(k * X).log_likelihood(k * X, n_samples=5, random_state=0)
        for k in (1, 8)
    )
    assert_allclose(small - large, 4 * np.log(8), rtol=1e-6)


def test_stack_reports_the_bound(rng):
    X = (rng.random((80, 6)) < 0.4).astype(float)
    stack = StackedRBMTransformer((5, 4), max_iter=4, random_state=0).fit(X)
    bound = stack.log_likelihood(X, random_state=0)
    assert bound.shape == (80,)
    assert_array_equal(bound, stack.log_likelihood(X, random_state=0))
    assert -6 < bound.mean() < -2


def test_bound_needs_bernoulli_units_below_the_top(rng):
    rbms = tiny_stack()
    rbms[0] = some_rbm([(0, 4, BERNOULLI)], "relu", width=3)
    with pytest.raises(ValueError, match="needs bernoulli hidden units below the top"):
        dbn_bound(rbms, bit_states(4), 0.0, n_samples=1, rng=rng)


# --- pseudo-log-likelihood -------------------------------------------------------


def conditional(rbm, row, start, stop, kind):
    """Log p(unit | rest) from free energies and a sum or integral over the unit."""

    def minus_energy(values):
        rows = np.tile(row, (len(values), 1))
        rows[:, start:stop] = values
        return -rbm.free_energy(rows)

    own = minus_energy(row[None, start:stop])[0]
    if kind == GAUSSIAN:
        step = 0.05
        return (
            own
            - logsumexp(minus_energy(np.arange(-25, 25, step)[:, None]))
            - np.log(step)
        )
    values = {
        BERNOULLI: np.array([[0.0], [1.0]]),
        SOFTMAX: np.eye(stop - start),
        POISSON: np.arange(0.0, 120.0)[:, None],
    }[kind]
    return own - logsumexp(minus_energy(values))


PAIRS = [
    (side, hidden)
    for side in SIDES
    for hidden in HIDDEN_KINDS
    if hidden == "bernoulli" or side not in ("poisson", "mixed")
]


@pytest.mark.parametrize(("side", "hidden"), PAIRS)
def test_pseudo_likelihood_sums_the_conditionals(side, hidden, rng):
    rbm = some_rbm(side, hidden, scale=0.4)
    v = gibbs(rbm, initial_rows([rbm], 5, rng), 2, rng)
    units = []
    for start, stop, kind, _ in rbm.blocks:
        cuts = (
            [(start, stop)]
            if kind == SOFTMAX
            else [(i, i + 1) for i in range(start, stop)]
        )
        units += [(*cut, int(kind)) for cut in cuts]
    expected = [sum(conditional(rbm, row, *unit) for unit in units) for row in v]
    assert_allclose(pseudo_log_likelihood(rbm, v), expected, rtol=1e-7)
    parts = [pseudo_log_likelihood(rbm, v, [start]) for start, _, _ in units]
    assert_allclose(np.mean(parts, axis=0), expected, rtol=1e-7)


def test_columns_inside_a_group_stand_for_all_of_it():
    """Early stopping looks at some columns, where a wide group may not begin."""
    rbm = some_rbm([(0, 5, SOFTMAX)])
    v = np.eye(5)
    whole = pseudo_log_likelihood(rbm, v)
    assert_array_equal(pseudo_log_likelihood(rbm, v, [3]), whole)


def test_fast_form_for_bits_equals_the_general_one():
    """Also with weights far too large for its exponentials."""
    for scale in (0.1, 3.0, 200.0):
        rbm = some_rbm("bernoulli", width=6, scale=scale)
        v = bit_states(5)
        nearly = np.clip(v, 1e-13, 1)  # no longer 0 or 1: the general form
        assert_allclose(
            pseudo_log_likelihood(rbm, v),
            pseudo_log_likelihood(rbm, nearly),
            rtol=1e-8,
            atol=1e-8,
        )


def test_grey_values_weigh_the_states():
    rbm = some_rbm([(0, 1, BERNOULLI)], width=3)
    off, on = pseudo_log_likelihood(rbm, np.array([[0.0], [1.0]]))
    assert np.exp([off, on]).sum() == pytest.approx(1)
    grey = pseudo_log_likelihood(rbm, np.array([[0.25]]))[0]
    assert grey == pytest.approx(0.75 * off + 0.25 * on)


@pytest.mark.parametrize("rate", [900, 1024, 1100, 30_000, 200_000])
def test_large_counts_are_normalised(rate, rng):
    """Above 100,000 the score was NaN; the sum goes by nodes from 1024 on."""
    w = 3 / np.sqrt(rate) * rng.normal(size=(1, 4))
    bias = np.log([rate]) - np.maximum(w, 0).sum() / 2
    rbm = RBM(w, -rate * w[0], bias, np.array([[0, 1, POISSON, 1]]))
    v = rng.poisson(rate, (5, 1)).astype(float)
    every = -rbm.free_energy(np.arange(3.0 * rate)[:, None])
    expected = -rbm.free_energy(v) - logsumexp(every)
    assert_allclose(pseudo_log_likelihood(rbm, v), expected, rtol=0, atol=1e-8)


def test_counts_are_normalised_beyond_a_second_mode():
    """A hidden unit that counts near 29 switch on was missed by rows of small ones, so
    that a score depended on the rows beside it.
    """
    w, c, block = np.array([[5.0]]), np.array([-145.0]), np.array([[0, 1, POISSON, 1]])
    rbm = RBM(w, c, np.zeros(1), block)
    v = np.array([[0.0], [150.0]])
    every = -rbm.free_energy(np.arange(1000.0)[:, None])
    expected = -rbm.free_energy(v) - logsumexp(every)
    assert_allclose(pseudo_log_likelihood(rbm, v), expected, atol=1e-8)
    assert_allclose(pseudo_log_likelihood(rbm, v[:1]), expected[:1], atol=1e-8)


def test_counts_too_large_to_be_normalised_are_refused():
    rbm = some_rbm("poisson")
    message = r"takes counts up to 1e\+08\. Got 2e\+08 in column 1: use 'gaussian'"
    with pytest.raises(ValueError, match=message):
        pseudo_log_likelihood(rbm, np.array([[3.0, 2e8]]))


def test_negative_counts_are_refused_as_in_fit():
    """They scored -inf without a word."""
    with pytest.raises(
        ValueError, match=r"Column 1 .* holds -2\. Counts cannot be neg"
    ):
        pseudo_log_likelihood(some_rbm("poisson"), np.array([[3.0, 1], [0, -2]]))


def test_scores_that_cannot_be_normalised_warn(rng):
    """They were NaN without a word."""
    X = rng.poisson(3, (40, 2)).astype(float)
    stack = StackedRBMTransformer((3,), visible="poisson", max_iter=1).fit(X)
    stack.coefs_[0] += 30.0
    with pytest.warns(UserWarning, match="NaN for 40 of 40 rows: .*learning_rate"):
        assert np.isnan(stack.score_samples(X)).all()


@pytest.mark.parametrize("hidden", HIDDEN_KINDS)
def test_reverse_runs_begin_at_what_the_top_rbm_was_trained_on(hidden, rng):
    X = (rng.random((40, 6)) < 0.4).astype(np.float32)
    stack = StackedRBMTransformer(
        (5, 4),
        hidden=[hidden, "bernoulli"],
        learning_rate=0.01,
        max_iter=2,
        random_state=0,
    ).fit(X)
    units = stack._units[1]
    lower = StackedRBMTransformer(
        (5,), hidden=hidden, learning_rate=0.01, max_iter=2, random_state=0
    ).fit(X)
    expected = (lower.transform(X) - units["offset"]) / units["scale"]
    assert_allclose(stack._top_visible(X), expected, atol=1e-5)
    result = stack.log_partition(
        X, method="ais", n_runs=30, n_temperatures=300, random_state=0
    )
    assert abs(result["log_z_reverse"] - result["log_z"]) < 0.5
