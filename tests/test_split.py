"""Folds of data of which some rows have no label."""

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    LeaveOneGroupOut,
    StratifiedKFold,
    cross_val_score,
    cross_validate,
)

from sklearn_greedy import (
    GreedyPretrainedMLPClassifier,
    GreedyPretrainedMLPRegressor,
    LabeledSplit,
)

X, TRUTH = load_iris(return_X_y=True)
KNOWN = np.arange(150) % 3 == 0
MARKED = np.where(KNOWN, TRUTH, -1)
ROWS = np.arange(150)


def network(marker=-1, **params):
    return GreedyPretrainedMLPClassifier(
        (4,), unlabeled=marker, max_iter=2, tol=0.5, random_state=0, **params
    )


@pytest.mark.parametrize("cv", [None, 3, KFold(3, shuffle=True, random_state=0)])
def test_folds_share_out_the_labelled_rows(cv):
    """Each is tested once, and all rows but those of the fold are trained on."""
    split = LabeledSplit(cv, unlabeled=-1)
    folds = list(split.split(X, MARKED))
    assert len(folds) == split.get_n_splits(X, MARKED) == (5 if cv is None else 3)
    assert_array_equal(
        np.sort(np.concatenate([test for _, test in folds])), ROWS[KNOWN]
    )
    for train, test in folds:
        assert not np.isin(test, train).any()
    used = np.concatenate([train for train, _ in folds])
    assert_array_equal(np.bincount(used), np.full(150, len(folds) - 1))


def test_folds_keep_the_shares_of_classes_and_of_marked_rows():
    for train, test in LabeledSplit(5, unlabeled=-1).split(X, MARKED):
        assert np.ptp(np.bincount(TRUTH[test])) <= 1
        assert abs(np.sum(MARKED[train] == -1) - 80) <= 1


def test_without_marked_rows_folds_are_those_of_scikit_learn():
    targets = {True: TRUTH, False: X[:, 0]}
    plain = {True: StratifiedKFold(4), False: KFold(4)}
    for classes, y in targets.items():
        ours = LabeledSplit(4, unlabeled=np.nan, stratify=classes).split(X, y)
        for one, other in zip(ours, plain[classes].split(X, y), strict=True):
            assert_array_equal(one[0], other[0])
            assert_array_equal(one[1], other[1])


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_regressions_keep_the_share_of_marked_rows(n_outputs):
    """Labelled rows come first in most such data."""
    y = np.repeat(X[:, :1], n_outputs, axis=1).squeeze()
    y[30:] = np.nan
    for stratify in (True, False):
        split = LabeledSplit(3, unlabeled=np.nan, stratify=stratify)
        assert [len(test) for _, test in split.split(X, y)] == [10, 10, 10]


def test_whole_numbers_are_no_classes_without_stratify():
    counts = np.where(KNOWN, ROWS // 50 * 1.0, np.nan)  # 0, 1, 2 in blocks
    split = LabeledSplit(3, unlabeled=np.nan, stratify=False)
    for number, (_, test) in enumerate(split.split(X, counts)):
        assert set(counts[test]) == {number}


@pytest.mark.parametrize("scoring", ["accuracy", ["accuracy", "f1_macro"]])
def test_scorers_by_name_see_labelled_rows_only(scoring):
    cv = LabeledSplit(3, unlabeled=-1)
    named = cross_validate(network(), X, MARKED, cv=cv, scoring=scoring)
    own = cross_val_score(network(), X, MARKED, cv=cv)
    several = isinstance(scoring, list)
    assert_array_equal(named["test_accuracy" if several else "test_score"], own)


@pytest.mark.parametrize("names", [False, True])
def test_searches_stratify_where_labels_are_missing(names):
    y = np.where(KNOWN, TRUTH, np.nan)
    if names:
        y = np.where(KNOWN, np.array(["a", "b", "c"])[TRUTH], None)
    cv = LabeledSplit(3, unlabeled=np.nan)
    search = GridSearchCV(
        network(np.nan), {"alpha": [1e-4, 1.0]}, cv=cv, scoring="balanced_accuracy"
    )
    coded = clone(search).set_params(cv=LabeledSplit(3, unlabeled=-1))
    coded.set_params(estimator=network())
    key = "mean_test_score"
    found = search.fit(X, y).cv_results_[key]
    assert_array_equal(found, coded.fit(X, MARKED).cv_results_[key])


def test_regressors_are_scored_by_name():
    y = np.where(KNOWN, X[:, 0], np.nan)
    reg = GreedyPretrainedMLPRegressor(
        (4,), unlabeled=np.nan, max_iter=2, tol=0.5, random_state=0
    )
    cv = LabeledSplit(3, unlabeled=np.nan, stratify=False)
    named = cross_val_score(reg, X, y, cv=cv, scoring="r2")
    assert_array_equal(named, cross_val_score(reg, X, y, cv=cv))


@pytest.mark.parametrize("routed", [False, True])
def test_groups_reach_the_folds(routed):
    groups = ROWS % 7
    logistic = LogisticRegression(max_iter=1000)
    with sklearn.config_context(enable_metadata_routing=routed):
        split = LabeledSplit(GroupKFold(7), unlabeled=-1)
        given = {"params": {"groups": groups}} if routed else {"groups": groups}
        found = cross_validate(
            logistic, X, TRUTH, cv=split, return_indices=True, **given
        )
    for test in found["indices"]["test"]:
        assert len(set(groups[test])) == 1
    alone = LabeledSplit(LeaveOneGroupOut(), unlabeled=-1)
    assert alone.get_n_splits(X, MARKED, groups) == 7


def test_generators_give_their_folds_more_than_once():
    halves = ROWS[::2], ROWS[1::2]
    split = LabeledSplit((pair for pair in (halves, halves[::-1])), unlabeled=-1)
    assert split.get_n_splits() == 2
    for _ in range(2):
        assert len(list(split.split(X, MARKED))) == 2


def test_fold_without_a_label_raises():
    y = np.where(ROWS < 60, TRUTH, -1)
    with pytest.raises(ValueError, match="Fold 2 tests on no labelled row"):
        list(LabeledSplit(KFold(2), unlabeled=-1).split(X, y))


ALL_MARKED = np.full(150, -1)
SOME_MISSING = np.where(ROWS == 1, np.nan, MARKED)
NO_MARKER = np.where(ROWS == 1, np.nan, TRUTH)


@pytest.mark.parametrize("stratify", [True, False])
@pytest.mark.parametrize(
    ("marker", "y", "message"),
    [
        ("-1", MARKED, "holds the number '-1', but unlabeled='-1' is a text"),
        (-1, NO_MARKER, r"no value .* in 1 of 150 rows, which unlabeled=-1 does not"),
        (-1, SOME_MISSING, r"no value .* in 1 of 51 rows, which unlabeled=-1 does not"),
        ([-1, -2], MARKED, "unlabeled must be None or one value"),
        (False, TRUTH, "unlabeled=False would mark"),
        (-1, ALL_MARKED, "y has no labelled row: all 150 are marked"),
    ],
)
def test_markers_are_checked_as_by_fit(marker, y, message, stratify):
    split = LabeledSplit(3, unlabeled=marker, stratify=stratify)
    with pytest.raises(ValueError, match=message):
        list(split.split(X, y))
    with pytest.raises(ValueError, match=message):
        split.get_n_splits(X, y)


def test_folds_without_targets_raise():
    with pytest.raises(ValueError, match="LabeledSplit needs y: which rows"):
        list(LabeledSplit(3, unlabeled=-1).split(X))


@pytest.mark.parametrize("nothing", [[], np.zeros(150, dtype=bool)])
@pytest.mark.parametrize("purpose", ["train", "test"])
def test_empty_folds_are_named(purpose, nothing):
    fold = (nothing, ROWS) if purpose == "train" else (ROWS, nothing)
    cv = [(ROWS[::2], ROWS[1::2]), fold]
    with pytest.raises(ValueError, match=f"Fold 2 has no row to {purpose} on"):
        list(LabeledSplit(cv, unlabeled=-1).split(X, MARKED))


def test_display_names_the_parameters():
    shown = repr(LabeledSplit(3, unlabeled=-1))
    assert shown == "LabeledSplit(cv=3, stratify=True, unlabeled=-1)"


def test_targets_in_one_column_are_split_as_those_in_a_row():
    y = np.where(np.arange(60) % 3, np.arange(60) % 2, -1)
    X = np.zeros((60, 1))
    splitter = LabeledSplit(3, unlabeled=-1)
    for flat, column in zip(
        splitter.split(X, y), splitter.split(X, y[:, None]), strict=True
    ):
        for ours, theirs in zip(flat, column, strict=True):
            assert_array_equal(ours, theirs)
