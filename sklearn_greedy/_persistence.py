"""What a saved estimator says when it is loaded."""

import warnings
from importlib.metadata import version

from sklearn.base import BaseEstimator


class VersionedEstimator(BaseEstimator):
    """Estimator that is saved with the package's version, and warns of another one."""

    def __getstate__(self):
        state = super().__getstate__()
        return {**state, "_package_version": version("sklearn_greedy")}

    def __setstate__(self, state):
        state = dict(state)
        saved, now = state.pop("_package_version", None), version("sklearn_greedy")
        if saved != now:
            warnings.warn(
                f"{type(self).__name__} was saved by sklearn_greedy "
                f"{saved or 'of an unknown version'} and is loaded by {now}. Its "
                "predictions may differ, or fail. Fit it anew, or load it with the "
                "version that saved it.",
                UserWarning,
                stacklevel=2,
            )
        super().__setstate__(state)
