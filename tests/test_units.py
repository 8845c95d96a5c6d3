"""Statistics of the columns, and the scales that come of them."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.special import logsumexp, softmax
from sklearn.datasets import load_digits
from sklearn.preprocessing import MinMaxScaler

from sklearn_greedy._units import (
    BERNOULLI,
    GAUSSIAN,
    SOFTMAX,
    ColumnStatistics,
    check_range,
    choose_units,
    draw_units,
    log_normaliser,
    spread_rows,
    unit_means,
)

CONTAINERS = [np.asarray, sparse.csr_array]


# Groups of 3, 1 and 2 columns between units of other kinds.
BLOCKS = np.array(
    [
        [0, 1, GAUSSIAN, 0],
        [1, 4, SOFTMAX, 0],
        [4, 5, SOFTMAX, 0],
        [5, 6, BERNOULLI, 0],
        [6, 8, SOFTMAX, 0],
    ]
)
GROUPS = slice(1, 4), slice(4, 5), slice(6, 8)


def test_softmax_groups_are_each_on_its_own(rng):
    z = 3 * rng.normal(size=(20, 8))
    means = unit_means(z.copy(), BLOCKS)
    total = log_normaliser(z, BLOCKS)
    total -= np.logaddexp(0, z[:, 5]) + 0.5 * (z[:, 0] ** 2 + np.log(2 * np.pi))
    for columns in GROUPS:
        assert_allclose(means[:, columns], softmax(z[:, columns], axis=1))
        total -= logsumexp(z[:, columns], axis=1)
    assert_allclose(total, 0, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_draws_of_softmax_groups_have_their_means(dtype, rng):
    one = unit_means(2 * rng.normal(size=(1, 8)).astype(dtype), BLOCKS)
    one[:, [1, 7]], one[:, 6] = 0, 1  # never, never, always
    one[:, 2:4] /= one[:, 2:4].sum()
    drawn = draw_units(np.repeat(one, 20_000, axis=0), BLOCKS, rng)
    for columns in GROUPS:
        assert set(np.unique(drawn[:, columns])) <= {0, 1}
        assert np.all(drawn[:, columns].sum(axis=1) == 1)
        assert_allclose(drawn[:, columns].mean(axis=0), one[0, columns], atol=0.02)
    assert not drawn[:, [1, 7]].any()
    both = drawn[:, 2] * drawn[:, 5]  # of units of different blocks
    assert both.mean() == pytest.approx(one[0, 2] * one[0, 5], abs=0.02)


def scale_of(X):
    return choose_units(ColumnStatistics.of(X), "gaussian").scale


def in_two_parts(X):
    """A CSR matrix that holds each value as two entries, as counting leaves it."""
    S = sparse.csr_array(X)
    parts = np.repeat(S.data / 2, 2), np.repeat(S.indices, 2), 2 * S.indptr
    return sparse.csr_array(parts, shape=S.shape)


def backwards(X):
    """A CSR matrix whose rows hold their entries from right to left."""
    S = sparse.csr_array(X[:, ::-1])
    parts = S.data, X.shape[1] - 1 - S.indices, S.indptr
    return sparse.csr_array(parts, shape=S.shape)


@pytest.mark.parametrize("form", [in_two_parts, backwards])
def test_entries_of_one_cell_count_as_one(form, rng):
    """Each entry was taken for a row, and the scales were silently wrong."""
    X = rng.poisson(1.0, (60, 5)).astype(float)
    S = form(X)
    before = [part.copy() for part in (S.data, S.indices, S.indptr)]
    ours, expected = ColumnStatistics.of(S), ColumnStatistics.of(X)
    for name, value in vars(expected).items():
        assert_allclose(getattr(ours, name), value, rtol=1e-12, err_msg=name)
    for part, old in zip((S.data, S.indices, S.indptr), before, strict=True):
        assert_array_equal(part, old)


@pytest.mark.parametrize("factor", [1e-60, 1.0, 1e60])
def test_float32_csr_takes_weights_of_any_size(factor, rng):
    """They were refused for their dtype; as such 1e60 is infinite in float32."""
    X = (rng.random((50, 4)) * (rng.random((50, 4)) < 0.5)).astype(np.float32)
    weights = rng.random(50)
    ours = ColumnStatistics.of(sparse.csr_array(X), factor * weights)
    expected = ColumnStatistics.of(X, weights)
    assert_allclose(ours.mean, expected.mean, rtol=1e-5)
    assert_allclose(ours.variance, expected.variance, rtol=1e-5)


@pytest.mark.parametrize("size", [1e-24, 1e20])
def test_float32_csr_of_any_size_has_the_statistics_of_dense(size, rng):
    """Its variance was once taken in float32, and was 0 or infinite."""
    X = (size * rng.normal(size=(50, 3))).astype(np.float32)
    ours, dense = ColumnStatistics.of(sparse.csr_array(X)), ColumnStatistics.of(X)
    for name, value in vars(dense).items():
        assert_allclose(getattr(ours, name), value, rtol=1e-9, err_msg=name)


@pytest.mark.parametrize("container", CONTAINERS)
def test_variance_beyond_float64_raises(container, rng):
    X = rng.normal(size=(50, 3)) * [1, 1e160, 1]
    with pytest.raises(ValueError, match=r"Column 1 reaches from -.* beyond the range"):
        ColumnStatistics.of(container(X))


def test_statistics_followed_by_later_rows_are_those_of_all_while_they_are_few(rng):
    X = rng.normal(size=(90, 3)) * [1, 10, 0.1] + [0, 5, 100]
    found = ColumnStatistics.of(X[:20])
    for rows in (X[20:21], X[21:60], X[60:]):
        found = found.followed_by(ColumnStatistics.of(rows), 90)
    expected = vars(ColumnStatistics.of(X))
    for name, value in vars(found).items():
        assert_allclose(value, expected[name], rtol=1e-10, err_msg=name)


def test_later_rows_of_less_precision_say_what_is_rounding():
    found = ColumnStatistics.of(np.full((30, 1), 1.1))
    found = found.followed_by(ColumnStatistics.of(np.full((30, 1), 1.1, "f4")), np.inf)
    assert not found.varies()


def test_variance_of_rows_together_beyond_float64_raises():
    first = ColumnStatistics.of(np.full((3, 1), 1.2e154))
    with pytest.raises(ValueError, match=r"Column 0 reaches from -1.2e\+154 to"):
        first.followed_by(ColumnStatistics.of(np.full((3, 1), -1.2e154)), np.inf)


@pytest.mark.parametrize("period", [2, 3, 7, 1000])
def test_some_rows_of_periodic_data_are_of_all_phases(period):
    """Every n-th row was taken: where the classes alternate, all of one class."""
    index = np.arange(7, 60_007)
    rows = spread_rows(index, 1000)
    assert np.all(np.bincount((rows - 7) // 60) == 1)  # evenly spread
    counts = np.bincount(rows % min(period, 7))
    assert counts.min() > 0.6 * counts.mean()
    assert len(np.unique(rows % period)) > 0.6 * min(period, 1000)


@pytest.mark.parametrize("n_rows", [1000, 1001, 1500, 1999, 2500, 3_000_000])
def test_some_rows_are_as_many_as_there_may_be(n_rows):
    rows = spread_rows(np.arange(n_rows), 1000)
    assert len(np.unique(rows)) == len(rows) == 1000


def test_statistics_of_earlier_rows_fade(rng):
    found = ColumnStatistics.of(rng.normal(size=(5000, 2)))
    later = 7 + 3 * rng.normal(size=(400, 2))
    for _ in range(10):  # each weighs two fifths
        found = found.followed_by(ColumnStatistics.of(later), 1000)
    assert_allclose(found.mean, later.mean(axis=0), rtol=0.01)
    assert_allclose(found.variance, later.var(axis=0), rtol=0.05)
    whole = found.followed_by(ColumnStatistics.of(later), 300)
    assert_allclose(whole.mean, later.mean(axis=0))
    assert np.all(whole.low < later.min(axis=0))  # of all rows, as ever


@pytest.mark.parametrize("container", CONTAINERS)
def test_statistics_do_not_depend_on_the_chunks(container, monkeypatch, rng):
    X, weights = rng.normal(size=(70, 3)) + 100, rng.integers(0, 3, 70).astype(float)
    X[5:20], weights[40:50] = 0, 0
    whole = ColumnStatistics.of(container(X), weights)
    monkeypatch.setattr("sklearn_greedy._units._CHUNK_FLOATS", 12)
    parts = ColumnStatistics.of(container(X), weights)
    for name, value in vars(whole).items():
        assert_allclose(getattr(parts, name), value, rtol=1e-12, err_msg=name)


def test_variance_of_a_weighted_constant_is_not_below_zero(rng):
    """It was under some weights, and its root NaN."""
    X = sparse.csr_array(np.ones((200, 1)))
    for _ in range(50):
        statistics = ColumnStatistics.of(X, rng.random(200))
        assert statistics.variance >= 0
        assert choose_units(statistics, "gaussian").scale == 1


@pytest.mark.parametrize("container", CONTAINERS)
def test_float32_columns_far_from_zero_are_scaled(container, rng):
    """Times in seconds have forty values within these 5000; their deviation was taken
    for rounding, and they went in as they are.
    """
    X = (1.7e9 + 5000 * rng.random((2000, 1))).astype(np.float32)
    assert_allclose(scale_of(container(X)), X.std(axis=0, dtype=float), rtol=1e-5)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize("value", [0.1, 1e6 / 3, 1.7e9])
def test_rounding_is_not_scaled_up(container, dtype, steps, value, rng):
    """Nor does it stay as large as it is in float32 at 1.7e9."""
    noise = rng.integers(-steps, steps + 1, (500, 1)) * np.spacing(dtype(value))
    X = (value + noise).astype(dtype)
    units = choose_units(ColumnStatistics.of(container(X)), "gaussian")
    assert units.scale >= 1
    assert np.abs((X - units.offset) / units.scale).max() < 2


def test_long_constant_columns_are_not_scaled_up():
    """The rounding of their sums was taken for variation."""
    assert scale_of(np.full((500_000, 1), 0.1)) == 1


def kinds_of(X):
    return choose_units(ColumnStatistics.of(X), "auto").kinds


def test_measurements_that_happen_to_lie_in_the_unit_interval_are_gaussian(rng):
    """As bernoulli units they were hardly seen: rates of 3 % taught nothing."""
    rates, times = rng.beta(2, 60, (500, 1)), 0.5 + 0.01 * rng.normal(size=(500, 1))
    halves, bits = rng.random((500, 3)), (rng.random((500, 1)) < 0.03) * 1.0
    X = np.hstack([rates, times, bits, halves])
    assert kinds_of(X).tolist() == [GAUSSIAN, GAUSSIAN, *4 * [BERNOULLI]]
    assert kinds_of(sparse.csr_array(X)).tolist() == kinds_of(X).tolist()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("container", CONTAINERS)
def test_columns_that_a_scaler_rounds_beyond_one_are_bernoulli(dtype, container, rng):
    # Two heaps, or the columns would count as measurements.
    raw = rng.beta(0.3, 0.3, (500, 40)) * np.exp(3 * rng.normal(size=40))
    raw += rng.normal(size=40)
    X = MinMaxScaler().fit_transform(raw.astype(dtype))
    assert X.max() > 1
    statistics = ColumnStatistics.of(container(X))
    units = choose_units(statistics, "auto")
    assert set(units.kinds) == {BERNOULLI}
    check_range(statistics, units, "A stack")  # which would warn
    assert set(kinds_of(container(X * dtype(1.002)))) == {GAUSSIAN}


def test_measurements_behind_a_scaler_are_gaussian(rng):
    """As bernoulli units they taught next to nothing: features of letters and of house
    prices were near chance.
    """
    raw = rng.normal(size=(500, 4)) ** [1, 1, 3, 1]
    X = MinMaxScaler().fit_transform(raw)
    assert set(kinds_of(X)) == {GAUSSIAN}
    bits, rare = (rng.random((500, 2)) < 0.5) * 1.0, np.zeros((500, 1))
    rare[7] = 0.5
    beside = kinds_of(np.hstack([X, bits, rare]))
    assert beside.tolist() == [*4 * [GAUSSIAN], *3 * [BERNOULLI]]


def test_grey_columns_go_with_the_most_of_them(rng):
    """Beside standardised columns, the others counted for little."""
    narrow, wide = 0.5 + 0.1 * rng.random((500, 2)), rng.random((500, 2))
    assert set(kinds_of(np.hstack([narrow, wide]))) == {GAUSSIAN}
    few = kinds_of(np.hstack([narrow[:, :1], wide]))
    assert few.tolist() == [GAUSSIAN, BERNOULLI, BERNOULLI]


def test_sparse_columns_of_small_values_go_with_the_most_of_them(rng):
    """Six common words of 3,289 were standardised, and tf-idf of the others, left as
    they were, counted for nothing beside them.
    """
    rare = 0.3 * rng.random((400, 60)) * (rng.random((400, 60)) < 0.05)
    common = 0.05 + 0.02 * rng.normal(size=(400, 3)).clip(-2, 2)
    words = sparse.csr_array(np.hstack([rare, common]))
    assert set(kinds_of(words)) == {GAUSSIAN}
    louder = np.hstack([3 * rare, common])
    assert set(kinds_of(louder)) == {BERNOULLI}
    assert kinds_of(louder[:, 40:]).tolist() == [*20 * [BERNOULLI], *3 * [GAUSSIAN]]


@pytest.mark.parametrize("kind", ["bernoulli", "gaussian"])
def test_columns_with_a_named_kind_have_no_vote(kind, rng):
    """Sixty pixels that were named made bernoulli units of three measurements."""
    pixels = (rng.random((500, 60)) < 0.5) * rng.random((500, 60))
    times = 0.5 + 0.05 * rng.normal(size=(500, 3)).clip(-3, 3)
    statistics = ColumnStatistics.of(np.hstack([pixels, times]))
    kinds = choose_units(statistics, [(kind, np.arange(60))]).kinds
    assert kinds[60:].tolist() == 3 * [GAUSSIAN]


@pytest.mark.parametrize(("low", "helps"), [(0.0, True), (-3.0, False)])
def test_advice_to_scale_sparse_rows_helps(low, helps):
    statistics = ColumnStatistics.of(np.array([[low], [0.0], [3.0]]))
    with pytest.warns(UserWarning, match="Scale them") as caught:
        check_range(statistics, choose_units(statistics, "bernoulli"), "A stack")
    assert ("MaxAbsScaler" in str(caught[0].message)) == helps


def test_pixels_are_bernoulli():
    assert set(kinds_of(load_digits().data / 16)) == {BERNOULLI}


@pytest.mark.parametrize("centre", [0.0, 1.0])
def test_small_columns_around_an_end_are_gaussian(centre, rng):
    """Small returns, or ratios near 1, are no rounded probabilities."""
    X = centre + 2e-4 * rng.normal(size=(500, 3))
    assert set(kinds_of(X)) == {GAUSSIAN}
    statistics = ColumnStatistics.of(X)
    with pytest.warns(UserWarning, match=r"outside \[0, 1\]"):
        check_range(statistics, choose_units(statistics, "bernoulli"), "A stack")


def test_constant_and_rare_columns_are_bernoulli(rng):
    """Scaled to unit variance, one small value among zeros would be far out."""
    rare = np.zeros((1000, 1))
    rare[17] = 1 / 255
    # No binary fraction but the last two: sums leave them a variance.
    constant = np.tile([0.1, 0.3, 0.7, 1 / 3, 0.5, 0.0], (1000, 1))
    for X in (np.hstack([rare, constant]), constant[:7], constant[:100]):
        for container in CONTAINERS:
            assert set(kinds_of(container(X))) == {BERNOULLI}
