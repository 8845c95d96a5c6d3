"""What a saved estimator says when it is loaded."""

from sklearn.base import BaseEstimator

from sklearn_greedy._compat import warn_user
from sklearn_greedy._html import Documented
from sklearn_greedy._version import VERSION


class VersionedEstimator(Documented, BaseEstimator):
    """Estimator that is saved with the package's version, and warns of another one."""

    def __getstate__(self):
        state = super().__getstate__()
        return {**state, "_package_version": VERSION}

    def __setstate__(self, state):
        state = dict(state)
        saved = state.pop("_package_version", None)
        if saved != VERSION:
            warn_user(
                f"{type(self).__name__} was saved by sklearn_greedy "
                f"{saved or 'of an unknown version'} and is loaded by {VERSION}. Its "
                "predictions may differ, or fail. Fit it anew, or load it with the "
                "version that saved it.",
            )
        super().__setstate__(state)
