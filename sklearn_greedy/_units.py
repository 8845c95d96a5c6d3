"""Unit blocks: which columns of a layer's input are gaussian, which bernoulli.

A side of a model (the visible layer of an RBM, the output of an autoencoder, the head
of a network) is a table of blocks ``(start, stop, kind, sampled)``. Each kind is an
exponential family with its canonical link, so that the error at the pre-activation is
always ``mean - target``.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.utils import gen_batches
from sklearn.utils.sparsefuncs import mean_variance_axis, min_max_axis

Array = npt.NDArray

# In the order of the kernels' integer codes.
KINDS = ("gaussian", "bernoulli", "softmax")
GAUSSIAN, BERNOULLI, SOFTMAX = range(3)

# Above this share of grey, reconstructions are kept as means (user guide, eq. 8).
GREY_LIMIT = 0.3

_CHUNK_FLOATS = 1 << 20


@dataclass(frozen=True)
class ColumnStatistics:
    """Minimum, maximum, mean and variance of each column, in float64.

    resolution : relative rounding error of the data's own dtype.
    """

    low: Array
    high: Array
    mean: Array
    variance: Array
    n_rows: int
    resolution: float

    @classmethod
    def of(cls, X) -> "ColumnStatistics":
        """Read X (dense or CSR) once, in chunks: a memory map is never copied."""
        resolution = float(np.finfo(X.dtype).eps)
        if sparse.issparse(X):
            low, high = min_max_axis(X, axis=0)
            mean, variance = mean_variance_axis(X, axis=0)
            return cls(
                np.asarray(low, dtype=float),
                np.asarray(high, dtype=float),
                np.asarray(mean, dtype=float),
                np.asarray(variance, dtype=float),
                X.shape[0],
                resolution,
            )
        n_rows, n_columns = X.shape
        low, high = np.full(n_columns, np.inf), np.full(n_columns, -np.inf)
        mean, squares = np.zeros(n_columns), np.zeros(n_columns)
        for rows in gen_batches(n_rows, max(1, _CHUNK_FLOATS // n_columns)):
            part = np.asarray(X[rows], dtype=np.float64)
            low = np.minimum(low, part.min(axis=0))
            high = np.maximum(high, part.max(axis=0))
            # Chan's update: stable where the mean is large beside the deviation.
            part_mean = part.mean(axis=0)
            shift, weight = part_mean - mean, len(part) / rows.stop
            mean = mean + shift * weight
            squares += ((part - part_mean) ** 2).sum(axis=0)
            squares += shift**2 * rows.start * weight
        return cls(low, high, mean, squares / n_rows, n_rows, resolution)


@dataclass(frozen=True)
class Units:
    """What is known of the columns of a layer's input.

    kinds : (n,) codes; offset, scale : (n,) of the gaussian columns (0 and 1
    elsewhere): inside, a gaussian column has mean 0 and unit variance.
    """

    kinds: Array
    offset: Array
    scale: Array

    @property
    def scaled(self) -> bool:
        """Whether any column is shifted or scaled."""
        return bool(np.any(self.offset != 0) or np.any(self.scale != 1))

    def blocks(self, sampled=()) -> Array:
        """Table of runs of one kind, (n_blocks, 4) int64; ``sampled``: the kinds
        whose reconstructions are drawn instead of kept as means.
        """
        starts = np.flatnonzero(np.diff(self.kinds, prepend=-1))
        stops = np.append(starts[1:], len(self.kinds))
        kinds = self.kinds[starts]
        drawn = np.isin(kinds, list(sampled))
        return np.stack([starts, stops, kinds, drawn], axis=1).astype(np.int64)

    def names(self) -> Array:
        """Kind of each column by name."""
        return np.array(KINDS)[self.kinds]


def output_blocks(n_columns: int, kind: int) -> Array:
    """Block table of a side with one kind of unit."""
    return np.array([[0, n_columns, kind, 0]], dtype=np.int64)


def warn_outside_unit_interval(
    statistics: ColumnStatistics, kinds: Array, owner: str
) -> None:
    """Warn where columns with bernoulli units have values outside [0, 1]."""
    bernoulli = kinds == BERNOULLI
    low = statistics.low[bernoulli].min(initial=0.0)
    high = statistics.high[bernoulli].max(initial=1.0)
    if low < 0 or high > 1:
        warnings.warn(
            f"{owner} has bernoulli units for columns that reach from {low:.4g} to "
            f"{high:.4g}, outside [0, 1]. Scale them (MinMaxScaler), or use "
            "visible='gaussian'.",
            UserWarning,
            stacklevel=4,
        )


def choose_units(statistics: ColumnStatistics, visible: str) -> Units:
    """Unit kind, offset and scale of each column.

    ``visible="auto"``: a column with all values in [0, 1] is bernoulli, any other
    gaussian.
    """
    if visible == "auto":
        inside = (statistics.low >= 0) & (statistics.high <= 1)
        kinds = np.where(inside, BERNOULLI, GAUSSIAN)
    else:
        kinds = np.full(len(statistics.mean), KINDS.index(visible))
    gaussian = kinds == GAUSSIAN
    deviation = np.sqrt(statistics.variance)
    # A constant column has no scale; rounding alone leaves it a tiny deviation.
    floor = 10 * statistics.resolution * np.abs(statistics.mean)
    varies = deviation > np.maximum(floor, np.finfo(np.float32).tiny)
    return Units(
        kinds=kinds,
        offset=np.where(gaussian, statistics.mean, 0.0),
        scale=np.where(gaussian & varies, deviation, 1.0),
    )


def row_block(n_columns: int, most: int) -> int:
    """Rows of a dense block of about a million numbers, at most ``most``."""
    return max(1, min(most, _CHUNK_FLOATS // n_columns))


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
