"""Unit blocks: which columns of a layer's input are of which kind.

A side of a model (the visible layer of an RBM, the output of an autoencoder, the head
of a network) is a table of blocks ``(start, stop, kind, sampled)``. Each kind is an
exponential family with its canonical link, so that the error at the pre-activation is
always ``mean - target``.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.special import expit, logit
from sklearn import get_config
from sklearn.utils import gen_batches
from sklearn.utils.sparsefuncs import mean_variance_axis, min_max_axis

from sklearn_greedy._compat import warn_user

Array = npt.NDArray

# In the order of the kernels' integer codes.
KINDS = ("gaussian", "bernoulli", "softmax", "poisson")
GAUSSIAN, BERNOULLI, SOFTMAX, POISSON = range(4)

# Columns of a block table.
START, STOP, KIND, SAMPLED = range(4)

# Columns in [0, 1] vary little below this share of the variance of binary ones. Pixels
# of digits have shares above a quarter, uniform columns a third, and measurements that
# are scaled to [0, 1], as well as tf-idf, mostly less: as bernoulli units these taught
# an RBM next to nothing. Above the other share columns are binary.
_NARROW, _BINARY = 0.25, 0.99

# They are mostly 0 or 1 where the mean is less than so many deviations from an end, and
# almost always below the second number: scaled to unit variance, what is not at that
# end would be 25 deviations out.
_APART, _NEVER = 0.5, 0.04

# Measurements among columns in [0, 1] that are fewer than this share of those that are
# not binary are taken as the others are.
_FEW = 0.1

# Probabilities may be off by rounding: from 1 as their sum, and beyond [0, 1] by this
# share of a column's range, as MinMaxScaler in float32 and far from zero leaves them.
ROUNDING = 1e-3

# Above this share of grey, reconstructions are kept as means (user guide, eq. 10).
GREY_LIMIT = 0.3

_CHUNK_FLOATS = 1 << 20

# How far rows that are to be judged may be outside [0, 1]: a MinMaxScaler leaves new
# rows a little outside.
_FAR = 0.25

# Least scale of a hidden unit that is the input of the next layer, as a share of the
# root mean square deviation of its layer. A unit that hardly ever fires would count as
# much as any other at unit variance, and reach thousands in the rows where it fires.
LEAST_HIDDEN_SCALE = 0.1


def near_one(weights: Array) -> Array:
    """Weights over the power of two above the largest: only their ratios count in a
    mean, and float32 must hold them. Exact.
    """
    return np.ldexp(weights, -np.frexp(weights.max())[1])


@dataclass(frozen=True)
class ColumnStatistics:
    """Minimum, maximum, mean and variance of each column, in float64.

    n_rows : how many there were, or their mass where they are weighed; resolution :
    relative rounding error of the data's own dtype.
    """

    low: Array
    high: Array
    mean: Array
    variance: Array
    n_rows: float
    resolution: float

    @classmethod
    def of(cls, X, weights: Array | None = None) -> "ColumnStatistics":
        """Read X (dense or CSR) once, in chunks: a memory map is never copied. With
        weights, mean and variance are weighted, and rows of weight 0 have no part in
        minimum and maximum. ValueError where a variance is beyond float64.
        """
        resolution = float(np.finfo(X.dtype).eps)
        # A cell in several parts counts as one: the mean and variance of scikit-learn
        # would take each for a row of its own.
        repeats = sparse.issparse(X) and not X.has_canonical_format
        weights = np.ones(X.shape[0]) if weights is None else near_one(weights)
        n_rows, n_columns = X.shape
        low, high = np.full(n_columns, np.inf), np.full(n_columns, -np.inf)
        mean, squares, mass = np.zeros(n_columns), np.zeros(n_columns), 0.0
        with np.errstate(over="ignore", invalid="ignore"):  # seen at the end
            for rows in gen_batches(n_rows, _rows_per_chunk(X)):
                weighs = weights[rows] > 0
                if not weighs.any():
                    continue
                part, counts = X[rows], weights[rows]
                if repeats:
                    part.sum_duplicates()  # of a copy
                if not weighs.all():
                    part, counts = part[weighs], counts[weighs]
                part = in_row_order(part.astype(np.float64, copy=False))
                part_low, part_high, part_mean, part_variance = _moments(part, counts)
                low, high = np.minimum(low, part_low), np.maximum(high, part_high)
                # Chan's update: stable where the mean is large beside the deviation.
                part_mass = float(counts.sum())
                shift, share = part_mean - mean, part_mass / (mass + part_mass)
                mean = mean + shift * share
                squares += part_mass * part_variance + shift**2 * mass * share
                mass += part_mass
        variance = squares / mass
        _check_finite(variance, low, high)
        return cls(low, high, mean, variance, n_rows, resolution)

    def followed_by(
        self, later: "ColumnStatistics", n_rows: float
    ) -> "ColumnStatistics":
        """Those of the last ``n_rows`` rows or so: earlier ones fade (Chan's update,
        with a limit to the weight of the past). Minimum and maximum are of all rows.
        """
        counted = min(self.n_rows + later.n_rows, max(n_rows, later.n_rows))
        share, shift = later.n_rows / counted, later.mean - self.mean
        low, high = np.minimum(self.low, later.low), np.maximum(self.high, later.high)
        variance = self.variance + share * (later.variance - self.variance)
        with np.errstate(over="ignore"):  # seen at the end
            variance += share * (1 - share) * shift**2
        _check_finite(variance, low, high)
        resolution = max(self.resolution, later.resolution)
        mean = self.mean + share * shift
        return ColumnStatistics(low, high, mean, variance, counted, resolution)

    def weighing(self, weights: Array | None) -> "ColumnStatistics":
        """The same, with the mass of rows of such weights beside others."""
        if weights is None:
            return self
        return replace(self, n_rows=float(weights.sum()))

    def standing_for(self, units: "Units", n_rows: int) -> "ColumnStatistics":
        """Those of earlier rows, as far as the scale tells that was taken of them."""
        low, high = units.offset - units.scale, units.offset + units.scale
        variance = np.square(units.scale)
        return replace(
            self,
            low=low,
            high=high,
            mean=units.offset,
            variance=variance,
            n_rows=n_rows,
        )

    def varies(self) -> Array:
        """Which columns vary by more than rounding, of which the data's own leaves a
        constant column a range and that of the sums a deviation.
        """
        extent, deviation = self.high - self.low, np.sqrt(self.variance)
        of_sums, rounding = np.finfo(np.float64).eps, 10 * np.abs(self.mean)
        floor = np.maximum(of_sums * rounding, np.finfo(np.float32).tiny)
        return (extent > self.resolution * rounding) & (deviation > floor)


def _check_finite(variance: Array, low: Array, high: Array) -> None:
    """Raise where the variance of a column is beyond float64."""
    if not np.all(np.isfinite(variance)):
        worst = int(np.argmin(np.isfinite(variance)))
        raise ValueError(
            f"Column {worst} reaches from {low[worst]:.3g} to {high[worst]:.3g}: its "
            "variance is beyond the range of numbers. Scale it."
        )


def in_row_order(part):
    """Some rows, dense ones in row order: the last bits of sums and products go by the
    layout, and equal rows shall have equal results.
    """
    return part if sparse.issparse(part) else np.ascontiguousarray(part)


def _rows_per_chunk(X) -> int:
    """Rows that hold about a million stored numbers."""
    stored = X.nnz if sparse.issparse(X) else X.shape[0] * X.shape[1]
    return max(1, _CHUNK_FLOATS * X.shape[0] // max(stored, 1))


def _moments(part, weights: Array):
    """Minimum, maximum, weighted mean and variance of the columns of float64 rows."""
    if sparse.issparse(part):
        mean, variance = mean_variance_axis(part, axis=0, weights=weights)
        # That of a constant column may come out below 0.
        return *_ends(part), mean, np.maximum(variance, 0)
    mean = weights @ part / weights.sum()
    squares = part - mean
    np.square(squares, out=squares)
    return *_ends(part), mean, weights @ squares / weights.sum()


def _ends(part) -> tuple[Array, Array]:
    """Minimum and maximum of the columns of some rows."""
    if sparse.issparse(part):
        return min_max_axis(part, axis=0)
    return part.min(axis=0), part.max(axis=0)


@dataclass(frozen=True)
class Units:
    """What is known of the columns of a layer's input.

    kinds : (n,) codes; offset, scale : (n,) of the gaussian columns (0 and 1
    elsewhere): inside, a gaussian column has mean 0 and unit variance; groups : (n,)
    number of the softmax group of a column, -1 for other kinds.
    """

    kinds: Array
    offset: Array
    scale: Array
    groups: Array

    @classmethod
    def all_gaussian(cls, offset: Array, scale: Array) -> "Units":
        """Gaussian units with these offsets and scales."""
        n = len(offset)
        return cls(np.full(n, GAUSSIAN), offset, scale, np.full(n, -1))

    @property
    def scaled(self) -> bool:
        """Whether any column is shifted or scaled."""
        return bool(np.any(self.offset != 0) or np.any(self.scale != 1))

    def rescaled(
        self,
        statistics: ColumnStatistics,
        least_scale: float,
        past: ColumnStatistics | None = None,
    ) -> "Units":
        """The same kinds; offset and scale of gaussian columns that vary so.

        least_scale : as ``choose_units`` says; past : how they varied before, where
        their scale is learned and changes in proportion.
        """
        gaussian, varies = self.kinds == GAUSSIAN, statistics.varies()
        deviation = np.sqrt(statistics.variance)
        # Rounding is never scaled up, but that of large numbers is large itself.
        scale = np.where(varies, deviation, np.maximum(deviation, 1.0))
        scaled = gaussian & varies
        if least_scale and scaled.any():
            typical = np.sqrt(np.mean(statistics.variance[scaled]))
            scale[scaled] = np.maximum(scale[scaled], least_scale * typical)
        if past is not None:
            scale = self.scale * scale / self.rescaled(past, least_scale).scale
        return replace(
            self,
            offset=np.where(gaussian, statistics.mean, 0.0),
            scale=np.where(gaussian, scale, 1.0),
        )

    def as_gaussian(self, columns: Array, statistics: ColumnStatistics) -> "Units":
        """The same with gaussian units for some more columns, that vary so."""
        kinds = np.where(columns, GAUSSIAN, self.kinds)
        new = replace(self, kinds=kinds).rescaled(statistics, 0.0)
        return replace(
            new,
            offset=np.where(columns, new.offset, self.offset),
            scale=np.where(columns, new.scale, self.scale),
        )

    def blocks(self, sampled=()) -> Array:
        """Table of runs of one kind, (n_blocks, 4) int64, in which each softmax group
        is a block; ``sampled``: the kinds whose reconstructions are drawn instead of
        kept as means.
        """
        same_kind = np.diff(self.kinds, prepend=-1) == 0
        same_group = np.diff(self.groups, prepend=-2) == 0
        starts = np.flatnonzero(~(same_kind & same_group))
        stops = np.append(starts[1:], len(self.kinds))
        kinds = self.kinds[starts]
        drawn = np.isin(kinds, list(sampled))
        return np.stack([starts, stops, kinds, drawn], axis=1).astype(np.int64)

    def unit_starts(self) -> Array:
        """Column at which the unit of each column begins: a softmax group is one."""
        starts = np.arange(len(self.kinds))
        same = (self.groups[1:] >= 0) & (np.diff(self.groups) == 0)
        for column in np.flatnonzero(same) + 1:
            starts[column] = starts[column - 1]
        return starts

    def names(self) -> Array:
        """Kind of each column by name."""
        return np.array(KINDS)[self.kinds]


def output_blocks(n_columns: int, kind: int) -> Array:
    """Block table of a side with one kind of unit."""
    return np.array([[0, n_columns, kind, 0]], dtype=np.int64)


def check_range(
    statistics: ColumnStatistics,
    units: Units,
    owner: str,
    leaves: Array | None = None,
) -> None:
    """Warn where columns cannot be what their units say, or raise where the density
    would be meaningless; leaves : after earlier rows, which columns have values outside
    [0, 1] for the first time.
    """
    if leaves is None:
        leaves = ~_in_unit_interval(statistics)
    _warn_outside_unit_interval(statistics, (units.kinds == BERNOULLI) & leaves, owner)
    lowest = statistics.low[units.kinds == POISSON].min(initial=0.0)
    if lowest < 0:
        raise ValueError(
            f"{owner} has poisson units for columns that reach down to {lowest:.4g}. "
            "Counts cannot be negative; use 'gaussian' for these columns."
        )
    for group in np.unique(units.groups[units.groups >= 0]):
        columns = np.flatnonzero(units.groups == group)
        lowest = statistics.low[columns].min()
        if lowest < -ROUNDING:
            warn_user(
                f"{owner} has a softmax group in columns {columns[0]} to "
                f"{columns[-1]}, which reach down to {lowest:.4g}. They are shares of "
                "one whole and cannot be negative.",
            )
        total = float(statistics.mean[columns].sum())
        if abs(total - 1) > ROUNDING:
            warn_user(
                f"{owner} has a softmax group in columns {columns[0]} to "
                f"{columns[-1]}, whose rows sum to {total:.4g} on average instead of "
                "1. One-hot columns of one category belong in one group, with a column "
                "of its own for missing or unknown values.",
            )


def leaves_unit_interval(past: ColumnStatistics, followed: ColumnStatistics) -> Array:
    """Which columns have values outside [0, 1], and had none in the past; followed :
    of all rows, since what counts as rounding goes by their range.
    """
    return _in_unit_interval(past) & ~_in_unit_interval(followed)


def some_columns(columns) -> str:
    """Numbers or names of columns, for messages."""
    more = f" and {len(columns) - 1} more" if len(columns) > 1 else ""
    return f"column {columns[0]}{more}"


def _warn_outside_unit_interval(
    statistics: ColumnStatistics, outside: Array, owner: str
) -> None:
    """Warn where columns with bernoulli units have values outside [0, 1]."""
    columns = np.flatnonzero(outside)
    if len(columns):
        low, high = statistics.low[columns].min(), statistics.high[columns].max()
        low, high = min(low, 0.0), max(high, 1.0)
        scaler = "MinMaxScaler, of sparse rows MaxAbsScaler"
        if low < 0:  # which MaxAbsScaler leaves below 0
            scaler = "MinMaxScaler"
        warn_user(
            f"{owner} has bernoulli units for columns that reach from {low:.4g} to "
            f"{high:.4g}, outside [0, 1]: {some_columns(columns)}. Scale them "
            f"({scaler}), or begin with gaussian units for them (visible).",
        )


def warn_of_unbounded(X, units: Units, owner: str) -> None:
    """Warn where rows that are to be judged are far outside [0, 1] in columns with
    bernoulli units: the terms of the density are linear there, and have no bound.
    """
    bernoulli = units.kinds == BERNOULLI
    if not bernoulli.any():
        return
    chunks = gen_batches(X.shape[0], _rows_per_chunk(X))
    lows, highs = zip(*(_ends(X[rows]) for rows in chunks), strict=True)
    least, most = np.min(lows, axis=0), np.max(highs, axis=0)
    far = np.flatnonzero(bernoulli & ((least < -_FAR) | (most > 1 + _FAR)))
    if len(far):
        low, high = min(least[far].min(), 0.0), max(most[far].max(), 1.0)
        warn_user(
            f"{owner} judges rows that reach from {low:.4g} to {high:.4g} in columns "
            f"with bernoulli units, which are for [0, 1]: {some_columns(far)}. So far "
            "out a score says nothing, and may be better than any within. Clip these "
            "rows (as MinMaxScaler does with clip=True), or train with gaussian units "
            "for such columns (visible).",
        )


def choose_units(
    statistics: ColumnStatistics, visible, least_scale: float = 0.0
) -> Units:
    """Unit kind, offset and scale of each column.

    visible : a kind for all columns; "auto", where a column of probabilities is
    bernoulli and any other gaussian; or pairs (kind, column numbers), each softmax
    pair being one group, with "auto" for the columns in no pair.

    least_scale : least scale of a gaussian column that varies, as a share of the root
    mean square deviation of all of them; above 0 only where they measure the same.
    """
    n_columns = len(statistics.mean)
    groups = np.full(n_columns, -1)
    if isinstance(visible, str) and visible != "auto":
        kinds = np.full(n_columns, KINDS.index(visible))
        groups[kinds == SOFTMAX] = 0
    else:
        decides = left_to_auto(visible, n_columns)
        kinds = np.where(_as_probabilities(statistics, decides), BERNOULLI, GAUSSIAN)
    if not isinstance(visible, str):
        for number, (kind, columns) in enumerate(visible):
            kinds[columns] = KINDS.index(kind)
            if kind == "softmax":
                groups[columns] = number
    unscaled = Units(kinds, np.zeros(n_columns), np.ones(n_columns), groups)
    return unscaled.rescaled(statistics, least_scale)


def left_to_auto(visible, n_columns: int) -> Array:
    """On which columns ``choose_units`` decides by their values."""
    if isinstance(visible, str):
        return np.full(n_columns, visible == "auto")
    decides = np.ones(n_columns, dtype=bool)
    for _, columns in visible:
        decides[columns] = False
    return decides


def contradicts(units: Units, visible) -> bool:
    """Whether ``visible``, as ``choose_units`` takes it, names other kinds or groups of
    columns than these.
    """
    if isinstance(visible, str):
        visible = [] if visible == "auto" else [(visible, np.arange(len(units.kinds)))]
    for kind, columns in visible:
        if np.any(units.kinds[columns] != KINDS.index(kind)):
            return True
        if kind == "softmax" and len(columns):
            group = np.flatnonzero(units.groups == units.groups[columns[0]])
            if not np.array_equal(group, columns):
                return True
    return False


def _in_unit_interval(statistics: ColumnStatistics) -> Array:
    """Which columns have all values in [0, 1], but for rounding."""
    low, high = statistics.low, statistics.high
    room = ROUNDING * (high - low)
    return (low >= -room) & (high <= 1 + room)


def _as_probabilities(statistics: ColumnStatistics, decides: Array) -> Array:
    """Which columns have all values in [0, 1] and are no measurements that lie there:
    these vary too little for their mean. So does a column that is mostly 0, with few
    small values, but scaled to unit variance these would be far out. Grey columns go
    with the most of them, of those that it ``decides`` on: beside standardised ones,
    the others would count for little.
    """
    mean, variance = statistics.mean, statistics.variance
    inside = _in_unit_interval(statistics)
    from_end, deviation = np.minimum(mean, 1 - mean), np.sqrt(variance)
    apart = from_end >= _APART * deviation
    grey = decides & inside & statistics.varies() & (from_end >= _NEVER * deviation)
    most = mean * (1 - mean)
    grey &= variance < _BINARY * most
    narrow = grey & (variance < _NARROW * most)
    measured = narrow & apart
    if 2 * narrow.sum() >= grey.sum():
        measured = grey & (narrow | apart)
    elif measured.sum() < _FEW * grey.sum():
        measured = np.zeros_like(grey)
    return inside & ~measured


def scaled_means(statistics: ColumnStatistics, units: Units) -> Array:
    """Mean of each column in the scaled space: 0 for gaussian columns."""
    return np.where(units.kinds == GAUSSIAN, 0.0, statistics.mean)


def mean_biases(statistics: ColumnStatistics, units: Units) -> Array:
    """Biases at which units without weights have the data's means, smoothed by half a
    row so that no bias is infinite.
    """
    n, kinds = statistics.n_rows, units.kinds
    mean = np.maximum(scaled_means(statistics, units), 0)
    bernoulli = logit((np.minimum(mean, 1) * n + 0.5) / (n + 1))
    rate = np.log((mean * n + 0.5) / (n + 1))
    biases = np.where(kinds == BERNOULLI, bernoulli, rate)
    return np.where(kinds == GAUSSIAN, 0.0, biases)


def row_block(n_columns: int, most: int) -> int:
    """Rows of a dense block of about a million numbers, at most ``most``."""
    return max(1, min(most, _CHUNK_FLOATS // n_columns))


def row_blocks(shape, most: int):
    """Slices of the rows of an array, each such a block."""
    n_rows, n_columns = shape
    return gen_batches(n_rows, row_block(n_columns, most))


def has_room(rows) -> bool:
    """Whether a dense array of this shape and dtype fits in ``working_memory``."""
    n_bytes = rows.shape[0] * rows.shape[1] * rows.dtype.itemsize
    return n_bytes <= get_config()["working_memory"] * 2**20


def draw_from_biases(biases: Array, blocks: Array, n: int, rng) -> Array:
    """Rows of units without weights, (n, n_columns)."""
    return draw_units(unit_means(np.tile(biases, (n, 1)), blocks), blocks, rng)


def spread_rows(index: Array, most: int) -> Array:
    """Up to ``most`` of these row numbers, one from each of as many equal stretches:
    data may be sorted. Its place there is irregular: they may also be periodic.
    """
    n_rows = len(index)
    if n_rows <= most:
        return index
    bounds = np.arange(most + 1, dtype=np.int64) * n_rows // most
    within = np.random.default_rng(0).random(most) * np.diff(bounds)
    return index[bounds[:-1] + within.astype(np.intp)]


def greyness(statistics: ColumnStatistics, units: Units) -> float:
    """How far the bernoulli columns are from binary, from 0 (all 0/1) to 1.

    One minus the ratio of the columns' variance to that of binary columns with the
    same means: ``1 - sum var / sum mean (1 - mean)``.
    """
    chosen = units.kinds == BERNOULLI
    mean, variance = statistics.mean[chosen], statistics.variance[chosen]
    most = float(np.sum(mean * (1 - mean)))
    if most <= 0:
        return 0.0
    return min(max(1.0 - float(np.sum(variance)) / most, 0.0), 1.0)


class SoftmaxGroups:
    """The softmax columns of a table of blocks, all groups at once: there may be
    hundreds, of a few columns each.

    columns : their numbers; starts : places among them where groups begin.
    """

    def __init__(self, blocks: Array):
        groups = blocks[blocks[:, KIND] == SOFTMAX]
        widths = groups[:, STOP] - groups[:, START]
        ends = np.cumsum(widths)
        self.starts, self._lasts = ends - widths, widths - 1
        self._owner = np.repeat(np.arange(len(groups)), widths)
        shift = groups[:, START] - self.starts
        self.columns = np.arange(len(self._owner)) + shift[self._owner]

    def __bool__(self) -> bool:
        return len(self.starts) > 0

    def log_sums(self, z: Array) -> Array:
        """Log of the sum of ``exp(z)`` over each group; z : (n, n_columns)."""
        part = z[:, self.columns]
        top = np.maximum.reduceat(part, self.starts, axis=1)
        terms = np.exp(part - top[:, self._owner])
        return top + np.log(np.add.reduceat(terms, self.starts, axis=1))

    def means(self, z: Array) -> Array:
        """Softmax over each group, (n, len(columns))."""
        part = z[:, self.columns]
        part -= np.maximum.reduceat(part, self.starts, axis=1)[:, self._owner]
        np.exp(part, out=part)
        part /= np.add.reduceat(part, self.starts, axis=1)[:, self._owner]
        return part

    def draw(self, means: Array, rng) -> Array:
        """A one-hot draw from each group, (n, len(columns)); means : (n, n_columns)."""
        part = means[:, self.columns]
        ends = np.cumsum(part, axis=1, dtype=np.float64)
        below = np.concatenate(
            [np.zeros((len(part), 1)), ends[:, self.starts[1:] - 1]], axis=1
        )
        totals = np.add.reduceat(part, self.starts, axis=1)
        limits = below + rng.random(totals.shape) * totals
        passed = ends <= limits[:, self._owner]
        chosen = np.add.reduceat(passed, self.starts, axis=1, dtype=np.int64)
        chosen = self.starts + np.minimum(chosen, self._lasts)
        part[...] = 0
        np.put_along_axis(part, chosen, 1, axis=1)
        return part


def unit_means(z: Array, blocks: Array) -> Array:
    """E[unit] from the pre-activation, in place; z : (n, n_columns)."""
    groups = SoftmaxGroups(blocks)
    if groups:
        z[:, groups.columns] = groups.means(z)
    for start, stop, kind, _ in blocks[blocks[:, KIND] != SOFTMAX]:
        part = z[:, start:stop]
        if kind == BERNOULLI:
            expit(part, out=part)
        elif kind == POISSON:
            np.exp(part, out=part)
    return z


def draw_units(means: Array, blocks: Array, rng) -> Array:
    """A sample of every unit given its mean, out of place; gaussian units have unit
    variance.
    """
    out, groups = means.copy(), SoftmaxGroups(blocks)
    if groups:
        out[:, groups.columns] = groups.draw(means, rng)
    for start, stop, kind, _ in blocks[blocks[:, KIND] != SOFTMAX]:
        part = out[:, start:stop]
        if kind == GAUSSIAN:
            part += rng.standard_normal(part.shape)
        elif kind == BERNOULLI:
            part[...] = rng.random(part.shape) < part
        else:
            part[...] = rng.poisson(part)
    return out


def log_normaliser(z: Array, blocks: Array) -> Array:
    """Log of the sum (or integral) of ``exp(z v)`` over the states of all units, times
    the base measure of their kind; z : (n, n_columns).
    """
    total, groups = np.zeros(len(z), dtype=z.dtype), SoftmaxGroups(blocks)
    if groups:
        total += groups.log_sums(z).sum(axis=1)
    for start, stop, kind, _ in blocks[blocks[:, KIND] != SOFTMAX]:
        part = z[:, start:stop]
        if kind == GAUSSIAN:
            total += 0.5 * ((part**2).sum(axis=1) + (stop - start) * np.log(2 * np.pi))
        elif kind == BERNOULLI:
            total += np.logaddexp(0, part).sum(axis=1)
        else:
            total += np.exp(part).sum(axis=1)
    return total
