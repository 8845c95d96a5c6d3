"""Statistics of the counter-based generator, as compiled.

All seeds are fixed, so every test gives the same result each time. The thresholds are
those of a good generator: ``check_p`` fails one time in 5,000, ``Z`` standard
deviations are exceeded one time in 150,000.
"""

import numba
import numpy as np
import pytest
import reference
from numpy.testing import assert_array_equal
from scipy import stats
from tools import kernels

from sklearn_greedy import _kernels
from sklearn_greedy._fitting import draw_seed, layer_streams

N = 1 << 18
Z = 4.5
SEEDS = [(0, 0), (1, 0), (0, 1), (2**32 - 1, 2**32 - 1), (20260101, 7)]
MULTIPLIERS = 0x7FEB352D, 0x846CA68B


@numba.njit(nogil=True, error_model="numpy", fastmath=False)
def _fill(bits, seed, first_step, phase):
    """Row r of bits <- the stream of step first_step + r."""
    for r in range(bits.shape[0]):
        key0, key1 = _kernels.stream_keys(seed, first_step + r, phase)
        for i in range(bits.shape[1]):
            bits[r, i] = _kernels.random_bits(i, key0, key1)


def draw(n, seed=(0, 0), step=0, phase=0, n_steps=1):
    """Bits of n_steps streams, one per row."""
    bits = np.empty((n_steps, n), dtype=np.uint32)
    _fill(bits, np.array(seed, dtype=np.uint32), step, phase)
    return bits


def bits_of(*args, **kwargs):
    return draw(*args, **kwargs)[0]


def uniform(bits):
    return reference.uniform_number(bits).astype(np.float64)


def check_p(p):
    """A p-value near 1 is as suspicious: too even to be random."""
    assert 1e-4 < p < 1 - 1e-4


def check_counts(codes, n_cells):
    """Chi-square test of integer codes against equal frequencies."""
    check_p(stats.chisquare(np.bincount(codes, minlength=n_cells)).pvalue)


def check_uncorrelated(a, b):
    """Correlation, and all 64 x 64 cells of the unit square equally likely."""
    a, b = uniform(a), uniform(b)
    assert abs(np.corrcoef(a, b)[0, 1]) < Z / np.sqrt(len(a))
    check_counts((a * 64).astype(int) * 64 + (b * 64).astype(int), 64 * 64)


def check_pairwise_uncorrelated(streams):
    """All pairs of rows, as numbers and as bits."""
    n_pairs = len(streams) * (len(streams) - 1) / 2
    bound = stats.norm.isf(1e-4 / n_pairs) / np.sqrt(streams.shape[1])
    for view in (uniform(streams), streams & 1, streams >> 31):
        correlation = np.corrcoef(view)
        np.fill_diagonal(correlation, 0)
        assert np.abs(correlation).max() < bound


# --- bit for bit ---------------------------------------------------------------


def hash_with_64_bit_products(counter, key0, key1):
    """What numba computes where a cast to uint32 is left out: it promotes uint32
    arithmetic to 64 bits, and the high half leaks back through the shifts.
    """

    def scramble(x):
        for shift, multiplier in zip((16, 15), MULTIPLIERS, strict=True):
            x = (x ^ (x >> np.uint64(shift))) * np.uint64(multiplier)
        return x ^ (x >> np.uint64(16))

    x = scramble(counter.astype(np.uint64) ^ np.uint64(key0))
    return scramble(x + np.uint64(key1)).astype(np.uint32)


def test_compiled_hash_wraps_at_32_bits():
    """The compiled hash is the uint32 hash, bit for bit.

    Numba types uint32 * uint32 as uint64. Without a cast after every operation the
    hash still looks random and runs as fast, but it is another function, and the
    numbers made from it need not be uniform. That function differs almost everywhere,
    so that this test cannot overlook a missing cast.
    """
    keys = reference.stream_keys(np.array([3, 4], dtype=np.uint32), 5, 6)
    ours = bits_of(N, (3, 4), 5, 6)
    counter = np.arange(N, dtype=np.uint32)
    assert_array_equal(ours, reference.random_bits(counter, *keys))
    assert np.mean(ours == hash_with_64_bit_products(counter, *keys)) < 0.01


def unscramble(x):
    """Inverse of ``scramble``: odd multipliers and xor-shifts can be undone."""
    for shift, multiplier in zip((16, 15), reversed(MULTIPLIERS), strict=True):
        x = (
            x
            ^ (x >> np.uint32(shift))
            ^ (x >> np.uint32(2 * shift) if shift < 16 else 0)
        )
        x = x * np.uint32(pow(multiplier, -1, 2**32))
    return x ^ (x >> np.uint32(16))


def test_scramble_is_a_bijection():
    x = np.arange(0, 2**32, 65537, dtype=np.int64).astype(np.uint32)
    assert_array_equal(unscramble(reference.scramble(x)), x)


def test_streams_do_not_repeat():
    """Within a stream no 32 bits occur twice, and no two steps share their keys."""
    assert len(np.unique(bits_of(N))) == N
    seed = np.zeros(2, dtype=np.uint32)
    keys = [
        reference.stream_keys(seed, np.arange(100_000), phase) for phase in range(4)
    ]
    for key0, key1 in keys:
        assert len(np.unique(key0)) == len(np.unique(key1)) == 100_000
    pairs = np.hstack([np.stack(pair) for pair in keys])
    assert np.unique(pairs, axis=1).shape == (2, 400_000)


def test_small_seeds_steps_and_phases_never_share_a_stream():
    """Zero is a fixed point of ``scramble``, so that small words must not cancel, and
    a seed and a step must not be able to change places. The first numbers differ too.
    """
    small = np.array(list(np.ndindex(8, 8)), dtype=np.uint32)
    keys = [
        np.stack(reference.stream_keys(seed, np.arange(16), phase))
        for seed in small
        for phase in range(4)
    ]
    keys = np.hstack(keys)
    assert np.unique(keys, axis=1).shape == (2, 64 * 16 * 4)
    assert len(np.unique(reference.random_bits(0, *keys))) == 64 * 16 * 4


# --- one stream ----------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("step", "phase"), [(0, 0), (1, 0), (12345, 3)])
def test_uniformity(seed, step, phase):
    bits = bits_of(N, seed, step, phase)
    for shift in (0, 8, 16, 24):  # the low-order bits too
        check_counts(bits >> shift & 255, 256)
    u = uniform(bits)
    check_counts((u * 1000).astype(int), 1000)
    check_p(stats.kstest(u, "uniform").pvalue)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_bit_is_set_half_of_the_time(seed):
    bits = bits_of(N, seed)
    shares = np.array([np.mean(bits >> j & 1) for j in range(32)])
    assert np.abs(shares - 0.5).max() < Z * 0.5 / np.sqrt(N)


def test_bits_of_a_number_are_independent():
    bits = bits_of(1 << 16)
    columns = np.stack([bits >> j & 1 for j in range(32)])
    correlation = np.corrcoef(columns) - np.eye(32)
    assert np.abs(correlation).max() < Z / np.sqrt(len(bits))


def test_range_of_uniform_numbers():
    """Zero can occur, one cannot: u < p never holds for p = 0 and always for p = 1."""
    assert kernels.uniform_number(np.uint32(0)) == 0.0
    assert kernels.uniform_number(np.uint32(2**32 - 1)) == 1 - 2.0**-24


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("lag", [1, 2, 3, 7, 8, 16, 64, 100, 784, 1024])
def test_neighbouring_counters_are_independent(seed, lag):
    """Lags of a vector register, of a row of units and of a power of two."""
    bits = bits_of(N + lag, seed)
    check_uncorrelated(bits[:N], bits[lag:])
    low = bits & 63
    check_counts(low[:N].astype(int) * 64 + low[lag:], 64 * 64)


@pytest.mark.parametrize("seed", SEEDS)
def test_points_fill_the_cube(seed):
    """Consecutive triples without overlap, 16 cells to a side; and runs of eight
    leading bits.
    """
    bits = bits_of(3 * N, seed)
    x, y, z = (bits >> 28).reshape(N, 3).T.astype(int)
    check_counts((x * 16 + y) * 16 + z, 4096)
    leading = (bits[:N] >> 31).reshape(-1, 8)
    check_counts(leading @ (1 << np.arange(8)), 256)


def test_one_changed_bit_of_the_counter_changes_half_of_the_bits():
    n = 1 << 14
    keys = reference.stream_keys(np.zeros(2, dtype=np.uint32), 0, 0)
    counter = np.arange(n, dtype=np.uint32)
    bits = reference.random_bits(counter, *keys)
    for j in range(32):
        changed = bits ^ reference.random_bits(counter ^ np.uint32(1 << j), *keys)
        shares = np.array([np.mean(changed >> k & 1) for k in range(32)])
        # Half of the counters are each other's partner for low j: n / 2 pairs.
        assert np.abs(shares - 0.5).max() < Z * 0.5 / np.sqrt(n / 2)


# --- many streams --------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"seed": (0, 0)}, {"seed": (1, 0)}),
        ({"seed": (1, 0)}, {"seed": (2, 0)}),
        ({"seed": (0, 0)}, {"seed": (0, 1)}),
        ({"seed": (0, 1)}, {"seed": (0, 2)}),
        ({"seed": (0, 1)}, {"seed": (1, 0)}),
        ({"step": 0}, {"step": 1}),
        ({"step": 1}, {"step": 2}),
        ({"step": 0}, {"step": 2**31}),
        ({"phase": 0}, {"phase": 1}),
        ({"phase": 1}, {"phase": 2}),
        ({"step": 0, "phase": 1}, {"step": 1, "phase": 0}),
        ({"seed": (1, 0), "step": 0}, {"seed": (0, 0), "step": 1}),
        ({"seed": (5, 0), "step": 9}, {"seed": (9, 0), "step": 5}),
    ],
)
def test_neighbouring_streams_are_independent(one, other):
    a, b = bits_of(N + 1, **one), bits_of(N + 1, **other)
    check_uncorrelated(a[:N], b[:N])
    check_uncorrelated(a[1:], b[:N])  # nor is one a shifted copy of the other
    check_counts((a & 63).astype(int) * 64 + (b & 63), 64 * 64)
    assert not np.isin(a[:1000], b[:1000]).any()


def test_steps_are_uncorrelated():
    check_pairwise_uncorrelated(draw(4096, n_steps=200))


def test_phases_are_uncorrelated():
    check_pairwise_uncorrelated(np.stack([bits_of(4096, phase=p) for p in range(100)]))


def test_seeds_are_uncorrelated():
    """Neighbours in either word."""
    seeds = [(s, 0) for s in range(60)] + [(0, s) for s in range(1, 60)]
    check_pairwise_uncorrelated(np.stack([bits_of(4096, s) for s in seeds]))


def test_layers_and_integer_seeds_are_uncorrelated():
    """Streams as the estimators make them: random_state 0, 1, 2, ... and layers."""
    streams = [
        bits_of(4096, layer_streams(draw_seed(random_state), layer)[1])
        for random_state in range(20)
        for layer in range(5)
    ]
    check_pairwise_uncorrelated(np.stack(streams))


@pytest.mark.parametrize("random_state", [0, 1, 2])
def test_neighbouring_layers_are_independent(random_state):
    seed = draw_seed(random_state)
    first, second, third = (
        bits_of(N, layer_streams(seed, layer)[1]) for layer in range(3)
    )
    check_uncorrelated(first, second)
    check_uncorrelated(second, third)
    above = bits_of(N, layer_streams(draw_seed(random_state + 1), 0)[1])
    check_uncorrelated(first, above)


def test_one_element_is_uniform_over_steps():
    """An element of a mini-batch from step to step, as one unit sees it."""
    bits = draw(4, n_steps=1 << 16)
    for column in bits.T:
        for shift in (0, 8, 16, 24):
            check_counts(column >> shift & 255, 256)
        check_uncorrelated(column[:-1], column[1:])
    check_uncorrelated(bits[:, 0], bits[:, 1])
    check_uncorrelated(bits[:-1, 1], bits[1:, 0])


@pytest.mark.parametrize("name", ["phase", "seed word 0", "seed word 1"])
def test_one_element_is_uniform_over(name):
    words = np.arange(1 << 14)
    seeds = {"seed word 0": lambda i: (i, 0), "seed word 1": lambda i: (0, i)}
    if name == "phase":
        column = np.array([bits_of(1, phase=i)[0] for i in words])
    else:
        column = np.array([bits_of(1, seeds[name](i))[0] for i in words])
    for shift in (0, 8, 16, 24):
        check_counts(column >> shift & 255, 256)
    u = uniform(column)
    assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < Z / np.sqrt(len(u))


def test_a_mini_batch_has_the_right_spread():
    """Means of Bernoulli draws over rows vary from step to step as they should."""
    p = np.full((500, 32 * 20), 0.3, dtype=np.float32)
    seed = np.array([5, 6], dtype=np.uint32)
    for step, row in enumerate(p):
        key0, key1 = map(np.uint32, kernels.stream_keys(seed, step, 2))
        kernels.sample_bernoulli(row, 0, key0, key1)
    counts = p.sum(axis=1)
    expected = p.shape[1] * 0.3 * 0.7
    statistic = np.sum((counts - p.shape[1] * 0.3) ** 2) / expected
    check_p(stats.chi2.sf(statistic, len(counts)))


# --- normal numbers ------------------------------------------------------------


def normals(n, seed=(0, 0), step=0):
    z = np.zeros(n, dtype=np.float32)
    key0, key1 = kernels.stream_keys(np.array(seed, dtype=np.uint32), step, 0)
    kernels.add_normal(z, np.float32(1), 0, np.uint32(key0), np.uint32(key1))
    return z.astype(np.float64)


@pytest.mark.parametrize("seed", SEEDS)
def test_normal_distribution(seed):
    z = normals(N, seed)
    check_p(stats.kstest(z, "norm").pvalue)
    assert abs(z.mean()) < Z / np.sqrt(N)
    assert abs(np.mean(z**2) - 1) < Z * np.sqrt(2 / N)
    assert abs(np.mean(z**3)) < Z * np.sqrt(15 / N)
    assert abs(np.mean(z**4) - 3) < Z * np.sqrt(96 / N)


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("limit", [1, 2, 3, 4, 4.5])
def test_normal_tails(sign, limit):
    n = 1 << 21
    count = int(np.sum(sign * normals(n) > limit))
    assert stats.binomtest(count, n, stats.norm.sf(limit)).pvalue > 1e-4


def test_normal_numbers_are_symmetric():
    """Complementary bits give the same number with the other sign."""
    bits = bits_of(10_000)
    assert_array_equal(reference.normal_number(~bits), -reference.normal_number(bits))


def test_normal_numbers_are_independent():
    for lag in (1, 2, 8, 784):
        z = normals(N + lag)
        a, b = z[:N], z[lag:]
        assert abs(np.corrcoef(a, b)[0, 1]) < Z / np.sqrt(N)
        assert abs(np.corrcoef(a**2, b**2)[0, 1]) < Z / np.sqrt(N)
    a, b = normals(N, step=0), normals(N, step=1)
    assert abs(np.corrcoef(a, b)[0, 1]) < Z / np.sqrt(N)
    check_p(stats.kstest(a + b, stats.norm(scale=np.sqrt(2)).cdf).pvalue)
