"""Rows of a user, checked: floats, or whole numbers that are floats where read."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from sklearn_greedy._compat import validate_data
from sklearn_greedy._units import has_room, some_columns
from sklearn_greedy._unlabeled import missing

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
    stays = _stays_whole(X)
    of_rows = {**ROW_OPTIONS, "dtype": None} if stays else ROW_OPTIONS
    with _told_of_columns(estimator, X, **options):
        checked = validate_data(estimator, X, *y, **of_rows, **options)
    if not stays:
        return checked
    return (FloatRows(checked[0]), *checked[1:]) if y else FloatRows(checked)


@contextmanager
def _told_of_columns(
    estimator, X, reset=True, ensure_all_finite=True, **others
) -> Iterator[None]:
    """Name the columns for which a frame is refused, unless it is for their names: they
    hold no numbers, or some that are missing or infinite and must not be.
    """
    try:
        yield
    except (TypeError, ValueError) as exc:
        columns = X.columns if hasattr(X, "dtypes") else ()  # else no frame
        known = getattr(estimator, "feature_names_in_", columns)
        if not reset and list(known) != list(columns):
            raise
        numbers = [(repr(name), _numbers(X[name])) for name in columns]
        without = [name for name, values in numbers if values is None]
        if without:
            raise ValueError(
                f"X holds no numbers in {some_columns(without)}. Encode them, for "
                "instance with OneHotEncoder in a ColumnTransformer, or leave them out."
            ) from exc
        holes = [name for name, values in numbers if not np.isfinite(values).all()]
        if holes and ensure_all_finite is True:
            raise ValueError(
                f"X has missing or infinite values in {some_columns(holes)}. Fill "
                "them, for instance with SimpleImputer in a Pipeline, or leave out "
                "their rows."
            ) from exc
        raise


def _numbers(column) -> Any:
    """Values of a column as floats, or None where it holds other things."""
    values = np.asarray(column)
    if values.dtype.kind in "mM":  # dates, which NumPy would count in nanoseconds
        return None
    if values.dtype.kind == "O":
        values = np.where(missing(values), np.nan, values)
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError):
        return None


def _stays_whole(X) -> bool:
    whole = isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype.kind in "biu"
    return whole and not has_room(FloatRows(X))
