"""Rows of a fit: those with a target, those without, and their weights."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.utils import check_X_y

from sklearn_greedy._compat import check_sample_weight, told_of
from sklearn_greedy._rows import without
from sklearn_greedy._units import near_one
from sklearn_greedy._unlabeled import check_marker, checked_marks, labelled, narrowed
from sklearn_greedy._validation import ROW_OPTIONS, validated

Array = npt.NDArray


class TwoParts:
    """Rows of two dense matrices, one above the other, of which neither is copied: one
    may be a memory map. Gives rows by slice or by number, in the dtype of the first.
    """

    def __init__(self, above: Array, below: Array):
        self._above, self._below = self.sources = above, below
        self.shape = above.shape[0] + below.shape[0], above.shape[1]
        self.dtype = above.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows) -> Array:
        n_above = len(self._above)
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step == 1 and stop <= n_above:
                return self._above[start:stop]
            if step == 1 and start >= n_above:
                part = self._below[start - n_above : stop - n_above]
                return part.astype(self.dtype, copy=False)
            rows = np.arange(start, stop, step)
        out = np.empty((len(rows), self.shape[1]), self.dtype)
        first = rows < n_above
        out[first] = self._above[rows[first]]
        out[~first] = self._below[rows[~first] - n_above]
        return out

    def __array__(self, dtype=None, copy=None) -> Array:
        return np.asarray(self[:], dtype)


@dataclass
class FitRows:
    """Rows of a fit: those with a target, and all there are.

    X, y : rows with a target; all_X : these and the others, of which ``places`` are the
    numbers of the former; all_weights : of all rows, or None where they weigh the same;
    given : X of the user, whose columns may be selected by name or type;
    sample_weight : what the user gave for the rows with a target, or None.
    """

    X: Any
    y: Array
    all_X: Any
    places: Array
    all_weights: Array | None
    given: Any
    sample_weight: Array | None = None

    def __len__(self) -> int:
        return self.all_X.shape[0]

    @property
    def weights(self) -> Array | None:
        """Weights of the rows with a target."""
        return None if self.all_weights is None else self.all_weights[self.places]

    @property
    def uneven_weights(self) -> Array | None:
        """Weights of all rows to draw them by."""
        return uneven(self.all_weights)

    @property
    def other_places(self) -> Array:
        """Numbers of the rows without a target."""
        return without(np.arange(len(self)), self.places)

    @property
    def others(self):
        """The rows without a target; no copy where they follow each other."""
        places = self.other_places
        if len(places) and places[-1] - places[0] + 1 == len(places):
            return self.all_X[places[0] : places[-1] + 1]
        return self.all_X[places]

    def weigh(self, factors: Array) -> None:
        """Multiply the weights of the rows with a target."""
        weights = self.all_weights
        # A copy: the weights may be the user's own array.
        weights = np.ones(len(self)) if weights is None else weights.copy()
        weights[self.places] *= factors
        self.all_weights = weights

    def add(self, more) -> None:
        """More rows without a target, of weight 1, in the dtype of the others."""
        if self.all_weights is not None:
            self.all_weights = np.append(self.all_weights, np.ones(more.shape[0]))
        parts = self.all_X, more
        if any(sparse.issparse(part) for part in parts):
            self.all_X = sparse.vstack(parts, format="csr", dtype=self.all_X.dtype)
        else:
            self.all_X = TwoParts(*parts)


def uneven(weights: Array | None) -> Array | None:
    """Weights that rows are drawn by, where only their ratios count; None where they
    are all the same.
    """
    return None if weights is None or np.ptp(weights) == 0 else near_one(weights)


def fit_rows(
    estimator, X, y, sample_weight=None, *, more=None, reset=True, **targets
) -> FitRows:
    """The rows of a fit, of which ``estimator.unlabeled`` marks some, with targets as
    they were given; more : ``X_unlabeled`` of the user, or None; targets : what
    scikit-learn's validation may take as y.
    """
    given, marked = X, None
    if y is None or estimator.unlabeled is None:
        check_marker(y, None)
    else:
        marked = checked_marks(y, estimator.unlabeled)
    if marked is None or not marked.any():
        y = y if marked is None else narrowed(y)
        X, y = validated(estimator, X, y, reset=reset, **targets)
        all_X, places = X, np.arange(X.shape[0])
    else:
        all_X = validated(estimator, X, reset=reset)
        X, y = labelled(marked, all_X, y)
        X, y = check_X_y(X, narrowed(y), estimator=estimator, **ROW_OPTIONS, **targets)
        places = np.flatnonzero(~marked)
    weights = checked_weights(sample_weight, all_X, places)
    rows = FitRows(X, y, all_X, places, weights, given)
    if more is not None:
        with told_of("X_unlabeled"):
            rows.add(validated(estimator, more, reset=False))
    return rows


def checked_weights(sample_weight, X, places: Array) -> Array | None:
    """Weights of the rows of X, (n,) float64; None where all weigh the same. Some of
    those with a target, at ``places``, must be above 0.
    """
    if sample_weight is None:
        return None
    weights = check_sample_weight(
        sample_weight, X, dtype=np.float64, ensure_non_negative=True
    )
    if not weights[places].any():
        raise ValueError(
            "Sample weights must contain at least one non-zero number. Got zeros for "
            f"all {len(places)} labelled rows."
        )
    return weights
