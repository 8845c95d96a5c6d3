"""Rows without a label: which they are, and what is left without them."""

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.utils import check_consistent_length
from sklearn.utils.multiclass import type_of_target

from sklearn_greedy._compat import safe_indexing

Array = npt.NDArray


def marked_rows(y, marker) -> Array:
    """Whether each row of y carries the marker instead of a target, (n,) bool.

    NaN as marker stands for None and every kind of missing value as well, and any of
    these for NaN. Raises ValueError where only some outputs of a row carry it.
    """
    if marker is None or sparse.issparse(y):
        return np.zeros(y.shape[0] if hasattr(y, "shape") else len(y), dtype=bool)
    y = np.asarray(y)
    if _is_missing(marker):
        hit = missing(y)
    else:
        hit = _equal(y, marker)
    if hit.ndim == 1:
        return hit
    rows = np.asarray(hit.all(axis=1))
    partly = np.flatnonzero(hit.any(axis=1) & ~rows)
    if len(partly):
        raise ValueError(
            f"Row {partly[0]} of y has the marker of unlabelled rows ({marker!r}) in "
            "some of its outputs only. Mark all outputs of a row or none."
        )
    return rows


def checked_marks(y, marker) -> Array:
    """``marked_rows``, or ValueError where y and the marker do not suit each other, or
    no row has a target.
    """
    _check_marker_value(marker, y)
    marked = marked_rows(y, marker)
    check_marker(labelled(marked, y)[0] if marked.any() else y, marker)
    return marked


def _check_marker_value(marker, y) -> None:
    """Raise where a marker cannot be meant: several values, or a truth value that would
    mark the numbers 0 or 1.
    """
    if np.ndim(marker) > 0:
        raise ValueError(
            "unlabeled must be None or one value, which marks rows in y. Got "
            f"{marker!r}."
        )
    truth = isinstance(marker, bool | np.bool_)
    if truth and not sparse.issparse(y) and _holds_number(y, marker):
        raise ValueError(
            f"unlabeled={marker!r} would mark the rows with y == {int(marker)}. Give "
            "the value that marks rows without a label, or None if there are none."
        )


def _holds_number(y, marker) -> bool:
    """Whether y holds the number that a truth value equals."""
    y = np.asarray(y)
    if y.dtype.kind in "iuf":
        return bool(np.any(y == int(marker)))
    if y.dtype.kind != "O":
        return False
    values = (value for value in y.ravel() if not isinstance(value, bool | np.bool_))
    return any(not _is_missing(value) and value == marker for value in values)


def check_marker(y, marker) -> None:
    """Raise where rows seem to have no target, though none carries the marker, where it
    is a text among numbers, and where it stands in a sparse matrix, of which no row is
    marked.
    """
    if sparse.issparse(y):
        y = y.tocoo().data
        if marker is not None and np.any(missing(y) | _equal(y, marker)):
            raise ValueError(
                f"y is sparse and holds unlabeled={marker!r}. Rows without a label are "
                "marked in dense targets: use toarray()."
            )
        return
    y = np.asarray(y)
    if y.ndim == 0 or y.size == 0:
        return  # which scikit-learn refuses
    n_missing = int(missing(y).reshape(len(y), -1).all(axis=1).sum())
    if n_missing:
        seen = f"y has no value (NaN or None) in {n_missing} of {len(y)} rows"
        if marker is not None:
            seen += f", which unlabeled={marker!r} does not mark"
        raise ValueError(
            f"{seen}. Set unlabeled=np.nan, which marks rows without a label, or leave "
            "them out."
        )
    if marker is None:
        return
    # Of numbers and texts, NumPy makes texts where they meet.
    of_text = isinstance(marker, str)
    if (of_text or y.dtype.kind in "OU") and np.any(y.astype(str) == str(marker)):
        found, given = ("number", "a text") if of_text else ("text", "a number")
        raise ValueError(
            f"y holds the {found} {str(marker)!r}, but unlabeled={marker!r} is {given} "
            "and does not mark these rows. Give the marker as it stands in y."
        )
    if of_text and y.dtype.kind in "iuf":
        raise ValueError(
            f"unlabeled={marker!r} is a text, but y holds numbers only, of which it "
            "marks none. Give the number that marks rows without a label, or None if "
            "there are none."
        )


def missing(y: Array) -> Array:
    """Where an array has None, NaN or any other missing value, in its shape."""
    if y.dtype.kind == "f":
        return np.isnan(y)
    if y.dtype.kind in "mM":
        return np.isnat(y)
    if y.dtype.kind != "O":
        return np.zeros(y.shape, dtype=bool)
    # Missing values of pandas are not equal to themselves, or not comparable at all.
    flat = [value is None or _is_missing(value) for value in y.ravel()]
    return np.array(flat, dtype=bool).reshape(y.shape)


def _equal(y: Array, marker) -> Array:
    if y.dtype.kind != "O":
        return np.asarray(y.astype(object) == marker, dtype=bool)
    flat = [not _is_missing(value) and value == marker for value in y.ravel()]
    return np.array(flat, dtype=bool).reshape(y.shape)


def _is_missing(value) -> bool:
    try:
        return bool(value != value)
    except TypeError:
        return True


def labelled(marked: Array, *parts):
    """The rows of arrays, frames, lists or None that have a target."""
    check_consistent_length(marked, *(part for part in parts if part is not None))
    keep = np.flatnonzero(~marked)
    if not len(keep):
        raise ValueError(f"y has no labelled row: all {len(marked)} are marked.")
    return [part if part is None else safe_indexing(part, keep) for part in parts]


def labelled_part(marker, X, y, sample_weight):
    """What ``score`` goes by: rows without the marker, their targets and weights."""
    if marker is None:
        return X, y, sample_weight
    marked = marked_rows(y, marker)
    if marked.any():
        X, y, sample_weight = labelled(marked, X, y, sample_weight)
    return X, narrowed(y), sample_weight


def narrowed(y):
    """Targets in a dtype that holds them, once None or NaN are gone from objects."""
    if sparse.issparse(y):
        return y
    y = np.asarray(y)
    if y.dtype.kind != "O":
        return y
    texts = [isinstance(value, str) for value in y.ravel()]
    # NumPy would make texts of numbers beside them; scikit-learn refuses such targets.
    return y if any(texts) and not all(texts) else np.array(y.tolist())


def strata(y, marked: Array):
    """What folds of y should keep in proportion: the classes, and the marked rows as
    one more; only the latter where targets are no classes.
    """
    if not marked.any():
        return y
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    known = narrowed(y[~marked])
    if type_of_target(known, input_name="y") not in ("binary", "multiclass"):
        return marked * 1
    codes = np.full(len(y), -1)
    codes[~marked] = np.unique(known, return_inverse=True)[1]
    return codes
