"""Teachers: estimators whose predictions stand for the targets of rows without one."""

import warnings

import numpy as np
import numpy.typing as npt
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from sklearn_greedy._compat import FrozenEstimator
from sklearn_greedy._units import row_blocks

Array = npt.NDArray


def fitted_teacher(teacher, X, y, weights: Array | None, others, rng):
    """A clone of a teacher, fitted on rows with a target, or a frozen one as it is.

    y : targets as the user gave them; weights : of the rows, or None; others : rows
    without a target, for what takes such rows; rng : for seeds that are not set.
    """
    if isinstance(teacher, FrozenEstimator):
        check_is_fitted(teacher.estimator)
        return teacher
    new = clone(teacher)
    unseeded = [
        name
        for name, value in sorted(new.get_params().items())
        if name.rpartition("__")[2] == "random_state" and value is None
    ]
    new.set_params(**{name: int(rng.integers(2**31)) for name in unseeded})
    options = {}
    if weights is not None:
        if not has_fit_parameter(new, "sample_weight"):
            raise ValueError(
                f"teacher={type(new).__name__} takes no sample_weight, which fit was "
                "given. Use one that does, or a fitted one wrapped in FrozenEstimator."
            )
        options["sample_weight"] = weights
    if has_fit_parameter(new, "X_unlabeled"):
        options["X_unlabeled"] = others
    return new.fit(X, y, **options)


def said_by(teacher, X, method: str) -> Array:
    """What a method of a fitted teacher returns for rows, some of them at a time."""
    with warnings.catch_warnings():
        # One fitted on a frame gets the same columns as an array here.
        warnings.filterwarnings("ignore", "X does not have valid feature names")
        parts = [
            np.asarray(getattr(teacher, method)(X[block]))
            for block in row_blocks(X.shape, X.shape[0])
        ]
    return np.concatenate(parts)
