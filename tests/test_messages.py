"""Errors and warnings say what was seen, and what they advise helps."""

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import make_column_selector
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.preprocessing import StandardScaler

from sklearn_greedy import (
    GreedyPretrainedMLPClassifier,
    GreedyPretrainedMLPRegressor,
    LabeledSplit,
    StackedAutoencoderTransformer,
    StackedRBMTransformer,
)

SHORT = {"max_iter": 2, "random_state": 0}

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def classifier(pretrainer=None, **params):
    return GreedyPretrainedMLPClassifier((4,), pretrainer=pretrainer, **SHORT | params)


@pytest.fixture
def rows(rng):
    """Standard normal columns, and classes 0 to 2."""
    return rng.normal(size=(60, 3)), np.arange(60) % 3


# --- the marker of rows without a label ----------------------------------------


@pytest.mark.parametrize("marker", [False, True, np.False_])
def test_a_truth_value_does_not_mark_a_class(marker, rows):
    """False meant "none", and the rows of class 0 were left out."""
    seen = f"would mark the rows with y == {int(marker)}"
    with pytest.raises(ValueError, match=seen):
        classifier(unlabeled=marker).fit(*rows)


def test_a_truth_value_marks_rows_among_truth_values(rows):
    X, y = rows
    targets = np.where(y == 2, None, y == 0)
    assert len(classifier(unlabeled=np.nan).fit(X, targets).classes_) == 2
    marked = np.array([False, "a", "b"], dtype=object)[y]
    fitted = classifier(unlabeled=False).fit(X, marked)
    assert_array_equal(fitted.classes_, ["a", "b"])
    # Nor does it have to mark any in a chunk, or in folds.
    fitted.partial_fit(X[y > 0], marked[y > 0])
    list(LabeledSplit(2, unlabeled=False).split(X[y > 0], marked[y > 0]))


def test_missing_labels_beside_the_marker_are_told_of(rows):
    X, y = rows
    some = np.where(y == 2, -1, np.where(np.arange(60) == 0, np.nan, y))
    with pytest.raises(
        ValueError, match=r"y has no value .* in 1 of 40 rows, which unl"
    ):
        classifier(unlabeled=-1).fit(X, some)


def test_targets_without_columns_are_not_missing(rows):
    with pytest.raises(ValueError, match=r"0 feature|Found array"):
        classifier().fit(rows[0], np.empty((60, 0)))


# --- columns that hold no numbers ----------------------------------------------


@pytest.mark.parametrize(
    "values",
    [["u", "v"] * 30, pd.Categorical(["u", "v"] * 30), pd.Timestamp("2020-01-01")],
    ids=["text", "categories", "dates"],
)
def test_columns_without_numbers_are_named(values, rows):
    """One read "could not convert string to float: 'u'", or of DTypes."""
    X, y = rows
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    seen = "holds no numbers in column 'd'. Encode them"
    for estimator in (classifier(), StackedRBMTransformer((4,), **SHORT)):
        with pytest.raises(ValueError, match=seen):
            estimator.fit(frame.assign(d=values), y)
    with pytest.raises(ValueError, match="in column 'd' and 1 more"):
        classifier().fit(frame.assign(d=values, e=values), y)
    with pytest.raises(ValueError, match=seen):
        classifier().fit(pl.DataFrame(frame).with_columns(d=pl.lit("u")), y)


@pytest.mark.parametrize(
    "hole",
    [np.nan, np.inf, None, pd.NA, pd.array([1, None] * 30, dtype="Int64")],
    ids=["nan", "inf", "None", "NA", "whole numbers"],
)
def test_columns_with_holes_are_named(hole, rows):
    X, y = rows
    frame = pd.DataFrame(X, columns=["a", "b", "c"]).assign(d=1.0, e=hole)
    seen = "missing or infinite values in column 'e'. Fill them"
    with pytest.raises(ValueError, match=seen):
        classifier().fit(frame, y)
    frame.loc[3, "d"] = np.nan
    with pytest.raises(ValueError, match="values in column 'd' and 1 more"):
        StackedRBMTransformer((4,), **SHORT).fit(frame)
    with pytest.raises(ValueError, match="values in column 'd'"):
        StackedRBMTransformer((4,), **SHORT).fit(pl.DataFrame(frame.drop(columns="e")))
    stack = StackedRBMTransformer((4,), **SHORT).fit(frame.drop(columns=["d", "e"]))
    # There they are no fault, but the names are one.
    with pytest.raises(ValueError, match="feature names should match"):
        stack.sample(init=frame[["d", "b", "a"]])


def test_other_faults_of_frames_are_told_as_ever(rows):
    X, y = rows
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    fitted = classifier().fit(frame.assign(d="1.5", e=y == 0), y)
    for other in (frame, frame.assign(e=np.nan), frame.assign(f="u")):
        with pytest.raises(ValueError, match="feature names should match"):
            fitted.predict(other)


# --- rows that are not used ----------------------------------------------------


def frozen(X):
    return FrozenEstimator(StackedRBMTransformer((4,), max_iter=1).fit(X))


@pytest.mark.parametrize(
    "pretrainer", [lambda X: None, lambda X: [np.ones((3, 4))], frozen]
)
def test_rows_that_no_layer_learns_from_warn(pretrainer, rows):
    X, y = rows
    network = classifier(pretrainer(X))
    with pytest.warns(UserWarning, match="X_unlabeled is not used: pretrainer="):
        network.fit(X, y, X_unlabeled=X)
    assert_array_equal(network.coefs_[0], clone(network).fit(X, y).coefs_[0])


@pytest.mark.parametrize(
    ("pretrainer", "params"),
    [("supervised", {}), ("autoencoder", {"supervised_weight": 1.0})],
)
def test_rows_that_teach_nothing_beside_the_targets_warn(pretrainer, params, rows):
    X, y = rows
    network = classifier(pretrainer, **params)
    seen = "X_unlabeled teaches the layers nothing: they learn by the targets alone"
    with pytest.warns(UserWarning, match=seen):
        network.fit(X, y, X_unlabeled=X)


def test_a_warm_start_does_not_use_rows_without_a_target(rows):
    X, y = rows
    network = classifier("rbm", warm_start=True).fit(X, y, X_unlabeled=X)
    with pytest.warns(UserWarning, match="a warm start goes on with the fine-tuning"):
        network.fit(X, y, X_unlabeled=X)


# --- training that ends, or diverges -------------------------------------------


@pytest.mark.parametrize("patience", [2, np.inf])
def test_too_few_epochs_to_stop_are_told_of(patience, rows):
    """More tol, or held-out rows, were advised in vain."""
    seen = f"max_iter=2, but n_iter_no_change={patience} lets no training stop"
    with pytest.warns(ConvergenceWarning, match=seen):
        classifier(n_iter_no_change=patience, tol=1e9).fit(*rows)


@pytest.mark.parametrize("patience", [1, 4])
def test_the_first_epoch_that_can_stop_is_the_one_told(patience, rows):
    options = {"n_iter_no_change": patience, "tol": 1e9}
    with pytest.warns(ConvergenceWarning, match=f"before epoch {patience + 2}"):
        classifier(max_iter=patience + 1, **options).fit(*rows)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        classifier(max_iter=patience + 2, **options).fit(*rows)


@pytest.mark.parametrize(
    ("pretrainer", "scale"),
    [(None, ", or scale the input and the targets"), ("autoencoder", "")],
)
def test_advice_on_divergence_names_what_is_not_scaled_inside(pretrainer, scale, rows):
    X, y = rows
    network = GreedyPretrainedMLPRegressor(
        (4,),
        pretrainer=pretrainer,
        solver="sgd",
        learning_rate_init=1e6,
        random_state=0,
    )
    with pytest.raises(ValueError, match="Training diverged") as failure:
        network.fit(X, 1e3 * y)
    advice = f"Lower learning_rate_init (now 1e+06){scale}."
    assert str(failure.value).endswith(advice)


def test_scaling_the_targets_helps_as_the_message_says(rows):
    X, y = rows
    network = GreedyPretrainedMLPRegressor(
        (20,), pretrainer=None, solver="sgd", **SHORT | {"max_iter": 20}
    )
    with pytest.raises(ValueError, match="scale the input and the targets"):
        network.fit(X, 1e6 * y)
    network.fit(X, StandardScaler().fit_transform(y[:, None]).ravel())


def test_rows_beyond_the_scale_of_a_fit_are_to_be_scaled(rows):
    X, _ = rows
    stack = StackedRBMTransformer((6,), hidden="relu", random_state=0).fit(X)
    with pytest.raises(ValueError, match=r"or scale the input\.$"):
        stack.partial_fit(1e8 * X)


def test_counts_as_targets_are_not_scaled_inside():
    network = GreedyPretrainedMLPRegressor((4,), loss="poisson", random_state=0)
    assert network._unscaled() == "the targets"
    assert (
        network.set_params(pretrainer=None)._unscaled() == "the input and the targets"
    )
    assert network.set_params(pretrainer="rbm", loss="squared_error")._unscaled() == ""


def test_targets_beyond_all_numbers_are_not_taken_for_columns(rows):
    X, y = rows
    network = GreedyPretrainedMLPRegressor((4,), **SHORT)
    with pytest.raises(ValueError, match="y: Column 0 reaches from 0 to"):
        network.fit(X, y * 1e200)


def test_nothing_to_hold_out(rows):
    network = classifier(early_stopping=True, validation_fraction=0)
    with pytest.raises(
        ValueError, match=r"validation_fraction=0\. Raise it, or give X_v"
    ):
        network.fit(*rows)


# --- stacks --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["autoencoder", "rbm"])
def test_advice_of_a_stack_by_name_can_be_followed(name, rows):
    """Its max_iter is not that of the network, which users set in vain."""
    network = GreedyPretrainedMLPClassifier((4,), pretrainer=name, **SHORT)
    wanted = rf"Give Stacked\w+\(\.\.\.\) in place of pretrainer='{name}' to set these"
    with pytest.warns(UserWarning, match=wanted):
        network.fit(np.zeros((60, 3)), rows[1])


def test_range_of_bernoulli_columns_is_told_once_with_the_column(rows):
    X = np.hstack([rows[0] * 0 + 0.5, [[3.0], [0.0]] * 30])
    stack = StackedAutoencoderTransformer(
        (4,), visible="bernoulli", max_iter=1, unrolled_max_iter=1, random_state=0
    )
    with pytest.warns(UserWarning, match=r"outside \[0, 1\]: column 3\. Sc") as told:
        stack.fit(X)
    assert sum("outside [0, 1]" in str(w.message) for w in told) == 1


def test_rows_beyond_the_unit_interval_cannot_be_judged(stack_class, digits):
    """Outliers were ranked as the most normal rows, without a word."""
    X, _ = digits
    stack = stack_class((4,), max_iter=1, random_state=0).fit(X)
    far = X.copy()
    far[3, 20] = 40
    wanted = (
        r"from 0 to 40 in columns with bernoulli .*: column 20\. So far out a score"
    )
    for judged in (far, sparse.csr_array(far)):
        with pytest.warns(UserWarning, match=wanted):
            stack.score_samples(judged)
    stack.score_samples(X * 1.2)  # as after a scaler that saw other rows
    stack.set_params(visible="gaussian").fit(X).score_samples(far)


def test_negative_shares_warn(rng):
    X = np.eye(3)[rng.integers(0, 3, 60)] + [[1.0, -1.0, 0.0]]
    stack = StackedRBMTransformer((4,), visible="softmax", max_iter=1, random_state=0)
    with pytest.warns(UserWarning, match=r"reach down to -1\. They are shares"):
        stack.fit(X)


@pytest.mark.parametrize("visible", ["gaussian", [("gaussian", [1])]])
@pytest.mark.parametrize("again", ["partial_fit", "fit"])
def test_units_of_columns_cannot_change(visible, again, stack_class, rng):
    """They were ignored."""
    X = (rng.random((40, 3)) < 0.5) * 1.0
    stack = stack_class((4,), max_iter=1, warm_start=True, random_state=0).fit(X)
    stack.set_params(visible=visible)
    with pytest.raises(ValueError, match="names other units than those of the fitted"):
        getattr(stack, again)(X)
    stack.set_params(visible=[("bernoulli", [1])])
    getattr(stack, again)(X)


def test_selectors_are_not_asked_again(stack_class, rng):
    """They choose by the rows, or the types, of the first fit."""
    X = (rng.random((40, 3)) < 0.5) * 1.0
    frame = pd.DataFrame(X, columns=list("abc")).astype({"a": "int64"})
    by_type = [("gaussian", make_column_selector(dtype_include=float))]
    by_name = [("gaussian", slice("b", "c"))]
    for visible in (by_type, by_name):
        stack = stack_class((4,), visible=visible, max_iter=1).fit(frame)
        kinds = stack.visible_kinds_.tolist()
        assert kinds == ["bernoulli", "gaussian", "gaussian"]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "X does not have valid feature names")
            assert stack.partial_fit(X).visible_kinds_.tolist() == kinds


def test_groups_of_columns_cannot_change(stack_class, rng):
    X = np.eye(2)[rng.integers(0, 2, (40, 2))].reshape(40, 4)
    pairs = [("softmax", [0, 1]), ("softmax", [2, 3])]
    stack = stack_class((4,), visible=pairs, max_iter=1, warm_start=True).fit(X)
    stack.fit(X).set_params(visible=[("softmax", [0, 1, 2, 3])])
    with pytest.raises(ValueError, match="names other units"):
        stack.fit(X)


def test_swapping_needs_other_rows(rows):
    stack = StackedAutoencoderTransformer((4,), corruption="swap", batch_size=1)
    with pytest.raises(ValueError, match="batch_size=1 leaves none"):
        stack.fit(rows[0])


@pytest.mark.parametrize("H", [np.ones((2, 4)) * 1j, [list("abcd")]])
def test_hidden_units_are_numbers(H, stack_class, rows):
    stack = stack_class((4,), max_iter=1, random_state=0).fit(rows[0])
    with pytest.raises(ValueError, match="X must hold real numbers"):
        stack.inverse_transform(H)


@pytest.mark.parametrize(
    ("columns", "seen"),
    [
        ([7], r"visible: \[7\] does not select from the 3 columns: "),
        ([[0, 1]], r"visible: \[\[0, 1\]\] does not select from the 3 columns: "),
        ("z", r"visible: .*[Ss]pecifying the columns using strings"),
        ([1, 1], r"visible names the columns \[1\] more than once"),
    ],
)
def test_selections_of_columns_are_told_of(columns, seen, stack_class, rows):
    with pytest.raises(ValueError, match=seen):
        stack_class((4,), visible=[("gaussian", columns)]).fit(rows[0])


@pytest.mark.parametrize("columns", [slice(None), slice(None, None, 1)])
def test_a_whole_slice_selects_all_columns(columns, stack_class, rng):
    X = (rng.random((40, 3)) < 0.5) * 1.0
    stack = stack_class((4,), visible=[("gaussian", columns)], max_iter=1).fit(X)
    assert set(stack.visible_kinds_) == {"gaussian"}


# --- classes -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("classes", "seen"), [([], "no class"), ([0], "only one class: 0")]
)
def test_too_few_classes_are_those_given(classes, seen, rows):
    seen = f"at least two classes, but classes has {seen}"
    with pytest.raises(ValueError, match=seen):
        classifier().partial_fit(*rows, classes=classes)


def test_validation_targets_of_another_kind(rows):
    X, y = rows
    network = classifier(early_stopping=True)
    with pytest.raises(ValueError, match="X_val and y_val: y has several labels per"):
        network.fit(X, y, X_val=X, y_val=np.eye(3, dtype=int)[y])


def test_thousands_of_classes_are_not_all_listed(rows):
    X, _ = rows
    y = np.arange(60) // 2
    network = classifier().partial_fit(X, y, classes=np.arange(5000))
    with pytest.raises(ValueError, match="not among the known ones") as failure:
        network.partial_fit(X, y + 6000)
    assert len(str(failure.value)) < 300
