"""Every import from scikit-learn that is private or depends on its version."""

from sklearn.base import _fit_context
from sklearn.frozen import FrozenEstimator
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    Options,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils.multiclass import _check_partial_fit_first_call
from sklearn.utils.validation import validate_data

__all__ = [
    "FrozenEstimator",
    "HasMethods",
    "Interval",
    "Options",
    "StrOptions",
    "check_partial_fit_first_call",
    "fit_context",
    "validate_data",
    "validate_parameter_constraints",
]

check_partial_fit_first_call = _check_partial_fit_first_call
fit_context = _fit_context
