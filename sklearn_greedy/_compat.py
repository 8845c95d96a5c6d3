"""Every import from scikit-learn that is private or depends on its version, and what
older versions of Python lack.
"""

import os
import pickle
import reprlib
import sys
import warnings
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Self, TypeVar

import joblib
import numpy as np
import sklearn
from sklearn.base import _fit_context
from sklearn.frozen import FrozenEstimator
from sklearn.utils._indexing import _get_column_indices, _safe_indexing
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    Options,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils._param_validation import validate_params as _validate_params
from sklearn.utils.metaestimators import available_if as _available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call
from sklearn.utils.validation import _check_sample_weight, validate_data

__all__ = [
    "CallbackSupport",
    "FrozenEstimator",
    "HasMethods",
    "Interval",
    "Options",
    "StrOptions",
    "VisualBlock",
    "available_if",
    "check_partial_fit_first_call",
    "check_sample_weight",
    "column_numbers",
    "fit_context",
    "safe_indexing",
    "told_of",
    "validate_data",
    "validate_parameter_constraints",
    "validate_params",
    "warn_user",
]

_Function = TypeVar("_Function", bound=Callable[..., Any])

# Code between the line of a user and a warning of ours.
_BETWEEN = (
    pickle.__file__,
    str(Path(sklearn.__file__).parents[1] / "skops") + os.sep,
    *(
        str(Path(file).parent) + os.sep
        for file in (__file__, sklearn.__file__, joblib.__file__)
    ),
)


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line that called the package, as ``skip_file_prefixes`` does from
    Python 3.12 on.
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_code.co_filename.startswith(_BETWEEN):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


class NoCallbackContext:
    """What stands for a callback context and all below it before scikit-learn 1.9."""

    def subcontext(self, **options):
        return self

    def call_on_fit_task_begin(self, **options):
        return self

    def call_on_fit_task_end(self, **options):
        return False

    def propagate_callback_context(self, sub_estimator):
        return nullcontext()


class NoCallbackSupport:
    """The methods of scikit-learn's mixin before it was there."""

    def set_callbacks(self, *callbacks) -> Self:
        """Callbacks need scikit-learn 1.9 or newer.

        Parameters
        ----------
        *callbacks : callback instances
            None can be set.

        Returns
        -------
        self : estimator instance
            The estimator itself.

        Raises
        ------
        NotImplementedError
            If there is a callback.
        """
        if callbacks:
            raise NotImplementedError(
                "Callbacks need scikit-learn 1.9 or newer; "
                f"this is {sklearn.__version__}."
            )
        return self

    def _init_callback_context(self, **options):
        return NoCallbackContext()


try:
    from sklearn.callback import CallbackSupportMixin as CallbackSupport
except ImportError:
    CallbackSupport = NoCallbackSupport

try:
    from sklearn.utils._repr_html.estimator import _VisualBlock as VisualBlock
except ImportError:
    from sklearn.utils._estimator_html_repr import _VisualBlock as VisualBlock


def column_numbers(X, columns, names, n_columns: int) -> np.ndarray:
    """Numbers of the columns that a ColumnTransformer would take from X.

    names : column names seen in ``fit`` or None, which serve where X has none.
    """
    if callable(columns):
        columns = columns(X)
    names = getattr(X, "columns", names)
    if isinstance(columns, slice) and not (columns.start or columns.stop):
        return np.arange(n_columns)[columns]
    if names is not None and _holds_names(columns):
        places = {name: number for number, name in enumerate(names)}
        wanted = np.atleast_1d(np.asarray(columns, dtype=object))
        unknown = [name for name in wanted if name not in places]
        if unknown:
            raise ValueError(f"there is no column named {unknown[0]!r}.")
        return np.array([places[name] for name in wanted])
    # scikit-learn looks through all names of a frame, which only slices of names need.
    if not (isinstance(columns, slice) and hasattr(X, "columns")):
        X = np.empty((0, n_columns))
    try:
        return np.asarray(_get_column_indices(X, columns), dtype=np.int64)
    except (IndexError, TypeError, ValueError) as exc:
        raise ValueError(
            f"{reprlib.repr(columns)} does not select from the {n_columns} columns: "
            f"{exc}"
        ) from exc


@contextmanager
def told_of(names: str):
    """Begin the messages of ValueErrors by the arguments that they are of."""
    try:
        yield
    except ValueError as exc:
        raise ValueError(f"{names}: {exc}") from exc


def _holds_names(columns) -> bool:
    first = columns if isinstance(columns, str) else next(iter(np.ravel(columns)), None)
    return isinstance(first, str)


check_partial_fit_first_call = _check_partial_fit_first_call
check_sample_weight = _check_sample_weight
# Type checkers see the decorated methods as they are written.
available_if: Callable[..., Callable[[_Function], _Function]] = _available_if
fit_context: Callable[..., Callable[[_Function], _Function]] = _fit_context
validate_params: Callable[..., Callable[[_Function], _Function]] = _validate_params
safe_indexing = _safe_indexing
