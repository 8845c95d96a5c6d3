"""Cross-validation of data of which some rows are marked as having no label."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import BaseCrossValidator, check_cv

from sklearn_greedy._unlabeled import checked_marks, strata

Array = npt.NDArray


class LabeledSplit(BaseCrossValidator):
    """Folds that are tested on labelled rows only.

    The folds are those of ``cv``, without the rows to test on that carry the marker of
    rows without a label; to train on, these stay. So every scorer can be used, such as
    ``scoring="roc_auc"`` of a search, where scorers by name would count marked rows as
    errors, and folds can be stratified where the marker is NaN.

    Parameters
    ----------
    cv : int, cross-validation generator or iterable, default=None
        Folds of all rows, as in `~sklearn.model_selection.cross_validate`. A number of
        folds (None: 5) keeps the share of marked rows in each; rows are not shuffled.

    unlabeled : scalar or None
        Value that marks rows of y without a label: that of the network. None: there are
        none.

    stratify : bool, default=True
        Whether folds keep the share of each class, where targets are classes. False is
        for regressions, whose targets may be whole numbers.

    See Also
    --------
    compare_pretraining : Takes such folds of its own.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import cross_val_score
    >>> from sklearn_greedy import GreedyPretrainedMLPClassifier, LabeledSplit
    >>> X, y = load_iris(return_X_y=True)
    >>> y[::2] = -1
    >>> clf = GreedyPretrainedMLPClassifier((8,), unlabeled=-1, max_iter=20, tol=0.1)
    >>> cv = LabeledSplit(3, unlabeled=-1)
    >>> cross_val_score(clf, X, y, cv=cv, scoring="balanced_accuracy").shape
    (3,)
    """

    # For scikit-learn's metadata routing: groups pass where they are given.
    __metadata_request__split = {"groups": True}

    def __init__(self, cv=None, *, unlabeled, stratify: bool = True) -> None:
        # Folds are asked for more than once, and a generator gives them once.
        self.cv = list(cv) if isinstance(cv, Iterator) else cv
        self.unlabeled = unlabeled
        self.stratify = stratify

    def split(self, X, y=None, groups=None) -> Iterator[tuple[Array, Array]]:
        """Numbers of the rows to train on and of the labelled ones to test on.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets; some rows may be marked.

        groups : array-like of shape (n_samples,), default=None
            Groups of the rows, where ``cv`` takes them.

        Yields
        ------
        train, test : ndarray
            Numbers of rows.

        Raises
        ------
        ValueError
            If y is missing or does not suit ``unlabeled``, or a fold has no row to
            train on or no labelled row to test on.
        """
        if y is None:
            raise ValueError(
                "LabeledSplit needs y: which rows are labelled is seen there."
            )
        marked = checked_marks(y, self.unlabeled)
        kept = self._kept(y, marked)
        folds = self._folds(kept).split(X, kept, groups)
        for number, parts in enumerate(folds, start=1):
            train, test = (_numbers(part, len(marked)) for part in parts)
            if not (len(train) and len(test)):
                purpose = "test" if len(train) else "train"
                raise ValueError(
                    f"Fold {number} has no row to {purpose} on. Leave it out of cv."
                )
            if marked[test].all():
                raise ValueError(
                    f"Fold {number} tests on no labelled row. Shuffle the folds, as by "
                    "KFold(shuffle=True), or take fewer."
                )
            yield train, test[~marked[test]]

    def get_n_splits(self, X=None, y=None, groups=None) -> int:
        """Number of folds.

        Parameters
        ----------
        X, y, groups : array-like, default=None
            As in `split`, where ``cv`` needs them to tell.

        Returns
        -------
        n_splits : int
            Number of folds.
        """
        kept = y
        if y is not None:
            kept = self._kept(y, checked_marks(y, self.unlabeled))
        return self._folds(kept).get_n_splits(X, kept, groups)

    def _kept(self, y, marked: Array):
        """What the folds may look at in y: no marker where they keep shares of it."""
        if self.stratify:
            return strata(y, marked)
        if hasattr(self.cv, "split"):
            return y
        return marked * 1

    def _folds(self, kept):
        return check_cv(self.cv, kept, classifier=True)


def _numbers(part, n_rows: int) -> Array:
    """Numbers of the rows of a part of a fold, which may be a mask or an empty list."""
    part = np.asarray(part)
    return np.arange(n_rows)[part if part.size else []]
