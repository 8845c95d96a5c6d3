"""Rows of a user, checked: floats, or whole numbers that are floats where read."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from sklearn_greedy._compat import validate_data
from sklearn_greedy._units import has_room

Array = npt.NDArray

# What all estimators take as rows.
ROW_OPTIONS = {"accept_sparse": "csr", "dtype": [np.float64, np.float32]}


class FloatRows:
    """Rows of a dense matrix of whole numbers, in float64 where they are asked for: as
    a whole, a file of bytes would be eight times as large in memory.
    """

    dtype = np.dtype(np.float64)

    def __init__(self, whole: Array):
        self.whole, self.sources, self.shape = whole, (whole,), whole.shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows) -> Array:
        return self.whole[rows].astype(self.dtype)

    def __array__(self, dtype=None, copy=None) -> Array:
        return self.whole.astype(dtype or self.dtype)


def validated(estimator, X, *y, **options) -> Any:
    """What ``validate_data`` makes of rows, and of targets if there are any. Dense
    whole numbers stay what they are where scikit-learn's ``working_memory`` has no room
    for them as float64.
    """
    if isinstance(X, FloatRows):  # of an estimator around this one
        X = X.whole
    if not _stays_whole(X):
        with _told_of_columns(X):
            return validate_data(estimator, X, *y, **ROW_OPTIONS, **options)
    as_it_is = {**ROW_OPTIONS, "dtype": None}
    checked = validate_data(estimator, X, *y, **as_it_is, **options)
    return (FloatRows(checked[0]), *checked[1:]) if y else FloatRows(checked)


@contextmanager
def _told_of_columns(X) -> Iterator[None]:
    """Name the columns of a frame that is refused because they hold no numbers."""
    try:
        yield
    except (TypeError, ValueError) as exc:
        columns = [name for name in getattr(X, "columns", ()) if _no_numbers(X[name])]
        if not columns:
            raise
        more = f" and {len(columns) - 1} more" if len(columns) > 1 else ""
        raise ValueError(
            f"X has columns that hold no numbers: {columns[0]!r}{more}. Encode them, "
            "for instance with OneHotEncoder in a ColumnTransformer, or leave them out."
        ) from exc


def _no_numbers(column) -> bool:
    values = np.asarray(column)
    try:
        values.astype(np.float64)
    except (TypeError, ValueError):
        return True
    return values.dtype.kind in "mM"  # dates, which NumPy would count in nanoseconds


def _stays_whole(X) -> bool:
    whole = isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype.kind in "biu"
    return whole and not has_room(FloatRows(X))
