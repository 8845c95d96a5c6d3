"""What all estimators of the package have in common."""

from typing import Any

from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from sklearn_greedy._compat import warn_user
from sklearn_greedy._unlabeled import labelled_part
from sklearn_greedy._validation import validated
from sklearn_greedy._version import DOCUMENTATION, VERSION


class GreedyEstimator(BaseEstimator):
    """What all estimators of the package are: they take dense and CSR rows, link to
    their documentation, are saved with the package's version and warn of another one.
    """

    # Where the links of the diagram lead, whose tooltips are docstrings.
    _doc_link_module = "sklearn_greedy"
    _doc_link_template = (
        f"{DOCUMENTATION}/generated/sklearn_greedy.{{estimator_name}}.html"
    )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _validate_rows(self, X):
        """Rows for a fitted estimator."""
        check_is_fitted(self)
        return validated(self, X, reset=False)

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


class ScoresLabelled:
    """Mixin of estimators whose ``unlabeled`` marks rows; to stand before
    ClassifierMixin or RegressorMixin.
    """

    unlabeled: Any

    def score(self, X, y, sample_weight=None) -> float:
        """Accuracy (of a regressor: R squared) on the rows that have a target.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets; rows with the value ``unlabeled`` do not count.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        score : float
            At most 1; higher is better.
        """
        part = labelled_part(self.unlabeled, X, y, sample_weight)
        return super().score(*part)  # type: ignore[misc]
