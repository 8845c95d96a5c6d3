"""Rows without targets: marked in y, or given beside X."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tools import OwnPretrainer

from sklearn_greedy import (
    GreedyPretrainedMLPClassifier,
    GreedyPretrainedMLPRegressor,
    StackedAutoencoderTransformer,
)
from sklearn_greedy._fit_rows import TwoParts
from sklearn_greedy._unlabeled import marked_rows

MLPS = {
    "classifier": GreedyPretrainedMLPClassifier,
    "regressor": GreedyPretrainedMLPRegressor,
}
MISSING = [np.nan, None, pd.NA, pd.NaT, float("nan")]


@pytest.fixture(params=MLPS)
def kind(request):
    return request.param


@pytest.fixture
def rows(rng):
    """(X, y of the classifier, y of the regressor)"""
    X = rng.normal(size=(80, 3)) @ rng.normal(size=(3, 5))
    return X, (X[:, 0] > 0).astype(int), X[:, 0] - X[:, 1]


def targets_of(kind, rows):
    return rows[1] if kind == "classifier" else rows[2]


def build(kind, **params):
    params = {"max_iter": 5, "random_state": 0, **params}
    stack = StackedAutoencoderTransformer((4,), max_iter=2)
    return MLPS[kind]((4,), **{"pretrainer": stack, **params})


def marked(y, n_labelled, marker=-1):
    """y with a target in every second row of the first 2 n_labelled alone."""
    known = np.arange(0, 2 * n_labelled, 2)
    out = np.full(len(y), marker, dtype=np.result_type(y, type(marker)))
    out[known] = y[known]
    return out, known


def assert_same_weights(one, other):
    for a, b in zip(one.coefs_, other.coefs_, strict=True):
        assert_array_equal(a, b)


# --- the marker ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("y", "marker", "expected"),
    [
        ([0, 1, -1], -1, [0, 0, 1]),
        ([0.5, np.nan, 2.0], np.nan, [0, 1, 0]),
        (["a", "", "b"], "", [0, 1, 0]),
        (["a", "b"], -1, [0, 0]),
        ([True, False], np.nan, [0, 0]),
        (np.array(["a", *MISSING], dtype=object), np.nan, [0, 1, 1, 1, 1, 1]),
        (pd.Series(["a", None, "b"], dtype="category"), np.nan, [0, 1, 0]),
        (pd.Series([1, None, 2], dtype="Int64"), np.nan, [0, 1, 0]),
        (pd.Series([1, None, 2], dtype="Int64"), pd.NA, [0, 1, 0]),
        (pd.Series([1, None, -1], dtype="Int64"), -1, [0, 0, 1]),
        ([[1.0, 2.0], [np.nan, np.nan]], np.nan, [0, 1]),
        (np.array(["2020-01-01", "NaT"], "M8[ns]"), np.nan, [0, 1]),
        ([0, 1], None, [0, 0]),
        (sparse.csr_array(np.eye(2)), -1, [0, 0]),
    ],
)
def test_marked_rows_are_found_in_any_kind_of_y(y, marker, expected):
    assert_array_equal(marked_rows(y, marker), np.array(expected, dtype=bool))


def test_half_marked_row_raises():
    with pytest.raises(ValueError, match=r"Row 1 of y .* in some of its outputs only"):
        marked_rows([[1.0, 2.0], [np.nan, 3.0]], np.nan)


# --- fit -----------------------------------------------------------------------


def test_marked_rows_only_pretrain(kind, rows):
    """The network is what a pretrainer of all rows and fine-tuning of some give."""
    X, y = rows[0], targets_of(kind, rows)
    few, known = marked(y, 20)
    ours = build(kind, unlabeled=-1).fit(X, few)
    seed = ours.pretrainer_.random_state
    stack = StackedAutoencoderTransformer((4,), max_iter=2, random_state=seed).fit(X)
    by_hand = build(kind, pretrainer=FrozenEstimator(stack)).fit(X[known], y[known])
    assert_same_weights(ours, by_hand)
    assert ours.t_ == ours.n_iter_ * 20


def test_rows_without_target_reach_a_pretrainer_of_ones_own(kind, rows):
    X, y = rows[0], targets_of(kind, rows)
    mlp = build(kind, pretrainer=OwnPretrainer(), unlabeled=-1)
    assert mlp.fit(X, marked(y, 20)[0]).pretrainer_.n_rows_ == 80
    assert mlp.fit(X[:30], y[:30], X_unlabeled=X[20:]).pretrainer_.n_rows_ == 90


def test_rows_beside_x_pretrain(kind, rows):
    X, y = rows[0], targets_of(kind, rows)
    in_y = build(kind, unlabeled=-1).fit(X, np.r_[y[:30], np.full(50, -1)])
    beside = build(kind).fit(X[:30], y[:30], X_unlabeled=X[30:])
    assert_same_weights(in_y, beside)
    assert not np.array_equal(
        beside.coefs_[0], build(kind).fit(X[:30], y[:30]).coefs_[0]
    )


def test_rows_beside_x_weigh_one_each(kind, rows):
    """Far from the others, they move the columns' means that the stack begins with."""
    X, y = rows[0], targets_of(kind, rows)
    weight = np.linspace(0.5, 2, 80)
    mlp = build(kind).fit(X, y, sample_weight=weight, X_unlabeled=X + 100)
    everything, all_weights = np.r_[X, X + 100], np.r_[weight, np.ones(80)]
    mean = np.average(everything, axis=0, weights=all_weights)
    assert_allclose(mlp.pretrainer_.visible_offset_, mean)


def test_rows_beside_x_in_other_forms(kind, rows):
    X, y = rows[0], targets_of(kind, rows)
    dense = build(kind).fit(X[:30], y[:30], X_unlabeled=X[30:])
    for more in (X[30:].tolist(), sparse.csr_array(X[30:]), sparse.csc_array(X[30:])):
        other = build(kind).fit(X[:30], y[:30], X_unlabeled=more)
        assert_allclose(other.coefs_[0], dense.coefs_[0], rtol=1e-5)
    single = build(kind).fit(X[:30].astype(np.float32), y[:30], X_unlabeled=X[30:])
    assert single.coefs_[0].dtype == np.float32


@pytest.mark.parametrize("labels", [["no", "yes"], [False, True], [3, 7]])
def test_labels_may_be_of_any_kind(labels, rows):
    X, code, _ = rows
    y = np.array(labels, dtype=object)[code]
    y[40:] = None
    clf = build("classifier", unlabeled=np.nan).fit(X, y)
    assert sorted(clf.classes_.tolist()) == sorted(labels)
    assert set(clf.predict(X).tolist()) <= set(labels)


@pytest.mark.parametrize("labels", [[3, 7], [False, True], ["a", "b"]])
def test_objects_are_scored_and_validated(labels, rows):
    """fit took objects beside None, where score, searches and y_val once did not."""
    X, y, _ = rows
    y = np.array(labels, dtype=object)[y]
    known = y.copy()
    y[60:] = None
    clf = build("classifier", unlabeled=np.nan).fit(X, y, X_val=X, y_val=known)
    assert clf.score(X[:60], y[:60]) == clf.score(X, y)
    assert np.all(np.isfinite(cross_val_score(clf, X[:60], y[:60], cv=2)))


def test_one_weight_for_all_rows(kind, rows):
    y, _ = marked(targets_of(kind, rows), 20)
    model = build(kind, unlabeled=-1)
    same = build(kind, unlabeled=-1).fit(rows[0], y, sample_weight=np.full(80, 2.0))
    assert_same_weights(model.fit(rows[0], y, sample_weight=2.0), same)


def test_marker_is_no_class(rows):
    X, y, _ = rows
    few, _ = marked(y, 20)
    assert_array_equal(build("classifier", unlabeled=-1).fit(X, few).classes_, [0, 1])
    assert_array_equal(build("classifier").fit(X, few).classes_, [-1, 0, 1])


def test_frames_give_no_warning(kind, rows, recwarn):
    X, y = rows[0], targets_of(kind, rows).astype(float)
    frame, target = pd.DataFrame(X, columns=list("abcde")), pd.Series(y)
    target[40:] = np.nan
    mlp = build(kind, unlabeled=np.nan, tol=0.5).fit(frame, target)
    mlp.score(frame, target)
    assert not [w for w in recwarn if "feature names" in str(w.message)]
    assert_array_equal(mlp.feature_names_in_, list("abcde"))


def test_several_outputs(rows):
    X, _, y = rows
    y = np.column_stack([y, -y])
    few = y.copy()
    few[30:] = np.nan
    reg = build("regressor", unlabeled=np.nan).fit(X, few)
    alone = build("regressor").fit(X[:30], y[:30], X_unlabeled=X[30:])
    assert_same_weights(reg, alone)


def test_validation_split_has_targets(kind, rows):
    X, y = rows[0], targets_of(kind, rows)
    few, known = marked(y, 40)
    ours = build(kind, unlabeled=-1, early_stopping=True).fit(X, few)
    beside = build(kind, early_stopping=True)
    beside.fit(X[known], y[known], X_unlabeled=np.delete(X, known, axis=0))
    assert np.all(np.isfinite(ours.validation_scores_))
    assert ours.t_ == beside.t_  # as many rows to train on


def test_no_labelled_row_raises(kind, rows):
    with pytest.raises(ValueError, match="no labelled row: all 80 are marked"):
        build(kind, unlabeled=-1).fit(rows[0], np.full(80, -1))


def test_wrong_number_of_columns_beside_x_raises(kind, rows):
    X, y = rows[0], targets_of(kind, rows)
    with pytest.raises(ValueError, match="4 features"):
        build(kind).fit(X, y, X_unlabeled=X[:, :4])


def test_missing_target_without_marker_still_raises(kind, rows):
    y = targets_of(kind, rows).astype(float)
    y[3] = np.nan
    with pytest.raises(ValueError, match=r"1 of 80 rows\. Set unlabeled=np\.nan"):
        build(kind).fit(rows[0], y)


def test_no_rows_are_refused_by_their_number(kind):
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        build(kind).fit(np.empty((0, 3)), np.empty(0))


def test_missing_labels_without_marker_say_what_to_do(rows):
    y = np.where(np.arange(80) % 2 == 0, "a", "b").astype(object)
    y[3:20] = None
    with pytest.raises(ValueError, match=r"17 of 80 rows\. Set unlabeled=np\.nan"):
        build("classifier").fit(rows[0], y)


@pytest.mark.parametrize(
    ("texts", "marker"), [(True, -1), (True, np.nan), (False, "-1")], ids=str
)
def test_marker_of_another_type_raises(texts, marker, rows):
    """It was learned as a class."""
    y = np.where(np.arange(80) < 40, rows[1], -1)
    if texts:
        y = np.where(y == -1, str(marker), y.astype(str))
    with pytest.raises(ValueError, match=r"y holds the .*, but unlabeled="):
        build("classifier", unlabeled=marker).fit(rows[0], y)
    right = build("classifier", unlabeled=str(marker) if texts else -1)
    assert set(right.fit(rows[0], y).classes_) == set(y[:40])


def test_text_as_marker_of_numbers_raises(kind, rows):
    """It marked nothing, and -1 was learned as a target."""
    y, _ = marked(targets_of(kind, rows), 20)
    with pytest.raises(ValueError, match=r"unlabeled='\?' is a text, but y holds num"):
        build(kind, unlabeled="?").fit(rows[0], y)


def test_partial_fit_leaves_out_marked_rows(kind, rows):
    X, y = rows[0], targets_of(kind, rows)
    few, _ = marked(y, 20)
    classes = {"classes": [0, 1]} if kind == "classifier" else {}
    ours = build(kind, unlabeled=-1).partial_fit(X, few, **classes)
    assert ours.t_ == 20
    assert ours.pretrainer_.layer_report_
    ours.partial_fit(X, few, **classes)
    assert ours.t_ == 40


# --- score and searches ----------------------------------------------------------


def test_score_counts_labelled_rows_only(kind, rows):
    X, y = rows[0], targets_of(kind, rows)
    few, known = marked(y, 20)
    mlp = build(kind, unlabeled=-1).fit(X, few)
    assert mlp.score(X, few) == mlp.score(X[known], y[known])
    weight = np.arange(80.0)
    assert mlp.score(X, few, weight) == mlp.score(X[known], y[known], weight[known])


def test_cross_validation_scores_labelled_rows_only(rows):
    X, y, _ = rows
    few, _ = marked(y, 30)
    clf = build("classifier", unlabeled=-1, tol=0.5)
    scores = cross_val_score(clf, X, few, cv=3)
    assert np.all(scores > 0.3)
    # As a label of its own every unlabelled row would count as an error or a hit.
    counts = [len(few[few != -1]) / 3 * s for s in scores]
    assert_allclose(counts, np.round(counts), atol=1e-6)


def test_rows_beside_x_are_not_copied(kind, rows, tmp_path):
    """They may be a memory map that is larger than memory."""
    X, y = np.tile(rows[0], (1, 20)), targets_of(kind, rows)
    path = tmp_path / "more.npy"
    np.save(path, np.tile(X, (800, 1)))  # 51 MB, some blocks of 8
    more = np.load(path, mmap_mode="r")
    stack = StackedAutoencoderTransformer((4,), max_iter=1, batch_size=1000)
    mlp = build(kind, pretrainer=stack).fit(X, y, X_unlabeled=more[:100])
    tracemalloc.start()
    mlp.fit(X, y, X_unlabeled=more)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < more.nbytes


@pytest.mark.parametrize(
    "index", [slice(0, 3), slice(2, 8), slice(5, 9), slice(None), slice(0, 9, 2)]
)
def test_two_parts_are_one_matrix(index, rng):
    above, below = rng.normal(size=(5, 3)), rng.normal(size=(4, 3)).astype("f4")
    whole, parts = np.concatenate([above, below]), TwoParts(above, below)
    assert_array_equal(parts[index], whole[index])
    assert parts[index].dtype == parts.dtype
    numbers = rng.permutation(9)
    assert_array_equal(parts[numbers], whole[numbers])
    assert_array_equal(np.asarray(parts), whole)
    assert (parts.shape, parts.dtype, len(parts)) == ((9, 3), whole.dtype, 9)


def test_own_rows_to_score_pass_through_searches_and_pipelines(kind, rows):
    X, y = rows[0], targets_of(kind, rows)
    own = {"X_val": X[60:] * [1, 10, 1, 1, 1], "y_val": y[60:]}
    with sklearn.config_context(enable_metadata_routing=True):
        mlp = build(kind, tol=0.5, early_stopping=True)
        mlp.set_fit_request(X_val=True, y_val=True)
        pipe = make_pipeline(StandardScaler(), mlp, transform_input=["X_val"])
        pipe.fit(X[:30], y[:30], **own)
        scaler = StandardScaler().fit(X[:30])
        by_hand = build(kind, tol=0.5, early_stopping=True).fit(
            scaler.transform(X[:30]),
            y[:30],
            X_val=scaler.transform(own["X_val"]),
            y_val=own["y_val"],
        )
        assert_same_weights(pipe[-1], by_hand)
        assert pipe[-1].validation_scores_ == by_hand.validation_scores_
        search = GridSearchCV(mlp, {"alpha": [1e-4, 1.0]}, cv=2)
        search.fit(X[:30], y[:30], **own)
        scored = search.best_estimator_
        assert scored.best_validation_score_ == max(scored.validation_scores_)
        expected = scored.score(own["X_val"], own["y_val"])
        assert scored.best_validation_score_ == pytest.approx(expected, abs=1e-5)


def test_marker_in_sparse_targets_raises(rows):
    """The message was of the shape of y."""
    Y = np.column_stack([rows[1], 1 - rows[1]])
    Y[::3] = -1
    clf = build("classifier", unlabeled=-1)
    with pytest.raises(ValueError, match="marked in dense targets: use toarray"):
        clf.fit(rows[0], sparse.csr_array(Y))


@pytest.mark.parametrize("marker", [np.nan, None])
def test_missing_labels_are_searched_with_folds_of_ones_own(marker, rows):
    """scikit-learn stratifies by the labels of a classifier, and refuses NaN."""
    X, y = rows[0], rows[1].astype(object)
    y[::2] = marker
    search = GridSearchCV(
        build("classifier", unlabeled=np.nan, tol=0.5),
        {"alpha": [1e-4, 1.0]},
        cv=KFold(3),
    )
    assert np.all(np.isfinite(search.fit(X, y).cv_results_["mean_test_score"]))


def test_rows_beside_x_pass_through_searches_and_pipelines(kind, rows):
    """They are transformed by the steps before, and never split."""
    X, y = rows[0], targets_of(kind, rows)
    more = X[40:] * [1, 10, 1, 1, 1]
    with sklearn.config_context(enable_metadata_routing=True):
        mlp = build(kind, tol=0.5).set_fit_request(X_unlabeled=True)
        scaler = StandardScaler()
        pipe = make_pipeline(scaler, mlp, transform_input=["X_unlabeled"])
        pipe.fit(X[:30], y[:30], X_unlabeled=more)
        scaler = StandardScaler().fit(X[:30])
        by_hand = build(kind, tol=0.5).fit(
            scaler.transform(X[:30]), y[:30], X_unlabeled=scaler.transform(more)
        )
        assert_same_weights(pipe[-1], by_hand)
        search = GridSearchCV(mlp, {"alpha": [1e-4, 1.0]}, cv=2)
        search.fit(X[:30], y[:30], X_unlabeled=more)
        best = build(kind, tol=0.5, **search.best_params_)
        assert_same_weights(
            search.best_estimator_, best.fit(X[:30], y[:30], X_unlabeled=more)
        )
