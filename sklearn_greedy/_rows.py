"""Rows that mini-batches are gathered from, and which of them are drawn or held out."""

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from sklearn_greedy._units import Units, has_room, row_block, spread_rows

Array = npt.NDArray

# Rows that stand for all of them where a mean will do.
SOME_ROWS = 1000
# Bytes of a row of a memory map from which on the system may read ahead: what it reads
# beside the row is no longer many times as much on most disks.
_LONG_ROW = 1 << 16


class Rows:
    """Rows of dense or CSR data, copied batch by batch into float32 buffers.

    The data themselves are never cast or made dense as a whole, and copied only by
    ``row_major``. With ``units``, gaussian columns are shifted and scaled in the
    precision of the data.
    """

    def __init__(self, X, units: Units | None = None):
        self.X = X = row_major(X)
        self.n_columns = X.shape[1]
        self._scaling = None
        if units is not None and units.scaled:
            self._scaling = units.offset, units.scale
        # np.take is quicker than an index, but would copy any other array as a whole.
        self._can_take = isinstance(X, np.ndarray) and X.flags.c_contiguous
        self._maps = maps_of(X)

    def __len__(self) -> int:
        return self.X.shape[0]

    def gather(self, index: Array, out: Array) -> None:
        """Write the rows ``index`` into out, (len(index), n_columns) float32 (or, for
        solvers of scipy, float64).
        """
        with read_apart(self._maps, index):
            self._gather(index, out)

    def _gather(self, index: Array, out: Array) -> None:
        # mode="clip" writes straight into out; the index is ours and in range.
        take = partial(np.take, self.X, index, axis=0, mode="clip")
        if self._can_take and self._scaling is None and self.X.dtype == out.dtype:
            take(out=out)
            return
        part: Any = take() if self._can_take else self.X[index]
        if sparse.issparse(part):
            if self._scaling is None:
                part.astype(out.dtype, copy=False).toarray(out=out)
                return
            part = part.toarray()
        if self._scaling is not None:
            offset, scale = self._scaling
            part = part - offset
            part /= scale
        out[...] = part

    def some(self, index: Array, most: int = SOME_ROWS) -> Array:
        """Up to ``most`` of the row numbers ``index``, evenly spread."""
        return spread_rows(index, row_block(self.n_columns, most))

    def spread(self, index: Array, most: int = SOME_ROWS) -> Array:
        """The rows of ``some``, (m, n_columns)."""
        return self.copied(self.some(index, most))

    def copied(self, index: Array) -> Array:
        """The rows ``index``, (len(index), n_columns) float32."""
        return gathered(self, index)


def maps_of(X) -> list[mmap.mmap]:
    """Memory maps that the rows of X are read from, if any, but where a row is so long
    that it is read well anyway.
    """
    sources: tuple = getattr(X, "sources", ())
    if sparse.issparse(X):
        sources = X.data, X.indices
    elif isinstance(X, np.ndarray):
        if X.itemsize * X.shape[-1] >= _LONG_ROW and X.ndim > 1:
            return []
        while not isinstance(X, mmap.mmap | None):
            X = X.obj if isinstance(X, memoryview) else getattr(X, "base", None)
        return [] if X is None or not hasattr(mmap, "MADV_RANDOM") else [X]
    return [each for source in sources for each in maps_of(source)]


@contextmanager
def read_apart(maps: list[mmap.mmap], index: Array) -> Iterator[None]:
    """Have the system read no more of memory maps than is asked for, where rows do not
    follow each other. Else it reads up to megabytes around each of them, again and
    again where the file is larger than the memory there is for it.
    """
    if not maps or np.all(np.diff(index) == 1):
        yield
        return
    for each in maps:
        each.madvise(mmap.MADV_RANDOM)
    try:
        yield
    finally:
        for each in maps:
            each.madvise(mmap.MADV_NORMAL)


def row_major(X):
    """X with each of its rows in one piece, which saves an epoch up to half its time.

    An array whose columns are in one piece, as those of frames are, is copied where
    scikit-learn's ``working_memory`` has room; all else stays as it is.
    """
    if not isinstance(X, np.ndarray) or not has_room(X):
        return X
    between_rows, between_columns = np.abs(X.strides)
    in_rows = between_columns <= between_rows or between_rows == 0
    return X if in_rows else np.ascontiguousarray(X)


class OneHotRows:
    """Rows of a one-hot matrix that is never stored: codes of ``n_columns`` classes.

    smoothing : share of each row that is spread evenly over its columns.
    """

    def __init__(self, codes: Array, n_columns: int, smoothing: float = 0.0):
        self.codes = codes
        self.n_columns = n_columns
        self._rest = smoothing / n_columns
        self._hit = 1.0 - smoothing + self._rest

    def gather(self, index: Array, out: Array) -> None:
        """Write the rows ``index`` into out, (len(index), n_columns) float32."""
        out[...] = self._rest
        out[np.arange(len(index)), self.codes[index]] = self._hit


def gathered(source, index: Array, dtype=np.float32) -> Array:
    """The rows ``index`` of what has ``gather``, (len(index), n_columns)."""
    out = np.empty((len(index), source.n_columns), dtype)
    source.gather(index, out)
    return out


def drawn_rows(index: Array, weights: Array, rng) -> Array:
    """As many rows as there are, in their order, each as often as its share of the
    weights says: rounded up or down, and right on average (systematic sampling).
    """
    n_rows, index = len(index), index[weights > 0]
    ends = np.cumsum(weights[weights > 0] / weights.sum()) * n_rows
    places = np.searchsorted(ends, np.arange(n_rows) + rng.random(), side="right")
    return index[np.minimum(places, len(index) - 1)]


def without(index: Array, held: Array) -> Array:
    """Row numbers ``index`` that are not among ``held``, in their order."""
    kept = np.ones(max(index.max(initial=0), held.max(initial=0)) + 1, dtype=bool)
    kept[held] = False
    return index[kept[index]]


def held_out_rows(n_rows: int, fraction: float, rng, owner: str) -> Array:
    """Numbers of rows to hold out, in order; ValueError where none would be left."""
    n_held = int(np.ceil(fraction * n_rows))
    if n_held >= n_rows:
        raise ValueError(
            f"{owner} has early_stopping=True, but validation_fraction={fraction} "
            f"leaves no training rows of n_samples={n_rows}. Use more rows, a smaller "
            "validation_fraction or early_stopping=False."
        )
    return np.sort(rng.permutation(n_rows)[:n_held])
