"""compare_pretraining against runs by hand."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_wine
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GroupKFold, KFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_greedy import (
    GreedyPretrainedMLPClassifier,
    GreedyPretrainedMLPRegressor,
    StackedAutoencoderTransformer,
    StackedRBMTransformer,
    compare_pretraining,
)
from sklearn_greedy._compare import RandomLayers, _interval, _verdict
from sklearn_greedy._unlabeled import strata


def network(**params):
    stack = StackedAutoencoderTransformer((6, 4), activation="tanh", max_iter=3)
    params = {"pretrainer": stack, "max_iter": 10, "tol": 0.5, **params}
    return GreedyPretrainedMLPClassifier(**params)


def test_scores_are_those_of_paired_fits(iris):
    X, y = iris
    found = compare_pretraining(network(), X, y, cv=3, random_state=0)
    folds = KFold(3, shuffle=True, random_state=0)
    again = compare_pretraining(network(), X, y, cv=folds, random_state=0)
    assert found.pretrained_scores.shape == found.scratch_scores.shape == (3,)
    seed = int(np.random.RandomState(0).randint(2**31))
    for fold, (train, test) in enumerate(folds.split(X)):
        ours = network(random_state=seed).fit(X[train], y[train])
        scaling = X[train].mean(axis=0), X[train].std(axis=0)
        layers = RandomLayers((6, 4), "tanh", *scaling, seed)
        other = network(random_state=seed, pretrainer=layers).fit(X[train], y[train])
        assert again.pretrained_scores[fold] == ours.score(X[test], y[test])
        assert again.scratch_scores[fold] == other.score(X[test], y[test])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_frozen_layers", 1),
        ("layer_decay", 0.5),
        ("head_max_iter", 3),
        ("supervised_weight", 0.5),
    ],
)
def test_what_is_for_trained_layers_leaves_the_network_from_scratch(name, value, iris):
    """Random layers that are frozen would make any pre-training look good."""
    plain, other = (
        compare_pretraining(
            network(**params), *iris, cv=2, scoring="neg_log_loss", random_state=0
        )
        for params in ({}, {name: value})
    )
    assert not np.array_equal(plain.pretrained_scores, other.pretrained_scores)
    assert_array_equal(plain.scratch_scores, other.scratch_scores)


def test_random_layers_are_those_of_a_random_start(iris):
    X, y = iris
    layers = RandomLayers((300,), "relu", X.mean(axis=0), X.std(axis=0), 0)
    started = GreedyPretrainedMLPClassifier((300,), pretrainer=layers, max_iter=1)
    started.set_params(learning_rate_init=1e-12, tol=0, random_state=0).fit(X, y)
    scaled = started.coefs_[0] * layers.scale[:, None]
    bound = np.sqrt(6 / 304)  # Glorot's, as in MLPClassifier
    assert bound * 0.98 < np.abs(scaled).max() <= bound * 1.0001
    assert_allclose(np.abs(scaled).mean(), bound / 2, rtol=0.05)
    codes = started.hidden_activations(X, 0)
    Z = StandardScaler().fit_transform(X) @ scaled
    assert np.abs(codes - np.maximum(Z, 0)).max() <= bound + 1e-4  # its biases


def test_scaling_is_no_gain_of_the_pretraining():
    """On raw columns, and raw targets, the network from scratch used to fail alone."""
    X, y = load_wine(return_X_y=True)
    clf = GreedyPretrainedMLPClassifier((20,), batch_size=20, max_iter=50)
    found = compare_pretraining(clf, X, y, cv=3, random_state=0)
    assert found.scratch_scores.min() > 0.85
    assert found.verdict.startswith("No clear difference")
    X, y = load_diabetes(return_X_y=True)
    reg = GreedyPretrainedMLPRegressor((20,), max_iter=50)
    units = [
        compare_pretraining(reg, X * factor, y * factor, cv=3, random_state=0)
        for factor in (1, 1000)
    ]
    for side in ("pretrained_scores", "scratch_scores"):
        assert_allclose(units[0][side], units[1][side], atol=0.01)
        assert np.all(units[0][side] > 0.2)


def test_interval_is_the_corrected_t_interval():
    differences = np.array([0.1, 0.3, 0.2, 0.4])
    folds = [(np.arange(30), np.arange(10))] * 4
    low, high = _interval(differences, folds)
    error = differences.std(ddof=1) * np.sqrt(1 / 4 + 1 / 3)
    reach = stats.t.ppf(0.975, 3) * error
    assert_allclose([low, high], [0.25 - reach, 0.25 + reach])


@pytest.mark.parametrize(
    ("interval", "finding"),
    [
        ((0.01, 0.03), "Pre-training helped"),
        ((-0.03, -0.01), "Pre-training hurt"),
        ((-0.01, 0.03), "No clear difference"),
    ],
)
def test_verdict_goes_by_the_interval(interval, finding, iris):
    found = compare_pretraining(network(), *iris, cv=2, random_state=0)
    found.interval, found.mean_difference = interval, float(np.mean(interval))
    assert _verdict(found).startswith(f"{finding}: the score changed by ")


def test_differences_are_told_at_any_size(iris):
    """Of scores in small units nothing but zeros was shown."""
    found = compare_pretraining(network(), *iris, cv=2, random_state=0)
    found.interval, found.mean_difference = (-2.05e-7, 6.75e-8), -6.88e-8
    assert "by -6.88e-08 (95 % interval -2.05e-07 to +6.75e-08)" in _verdict(found)


def test_groups_stay_together(iris):
    X, y = iris
    groups = np.arange(len(y)) % 7
    found = compare_pretraining(
        network(), X, y, groups=groups, cv=GroupKFold(3), random_state=0
    )
    folds = GroupKFold(3).split(X, y, groups)
    same = compare_pretraining(network(), X, y, cv=list(folds), random_state=0)
    assert_array_equal(found.pretrained_scores, same.pretrained_scores)
    with pytest.raises(ValueError, match="'groups' parameter"):
        compare_pretraining(network(), X, y, cv=GroupKFold(3))


def test_parameters_are_checked_as_those_of_the_network(iris):
    with pytest.raises(ValueError, match="'alpha' parameter of GreedyPretrained"):
        compare_pretraining(network(alpha=-1), *iris)


@pytest.mark.parametrize(
    ("pretrainer", "solver"),
    [("rbm", "adam"), ("autoencoder", "adam"), ("autoencoder", "lbfgs")],
)
def test_seconds_do_not_count_the_loading_of_kernels(pretrainer, solver):
    """The first fit of a process loads them: a short training took 100 times as long
    with pre-training, it said. Kernels are counted, for a busy machine makes any fit
    of milliseconds take a hundred times as long.
    """
    code = f"""
import numpy as np
from numba.core.dispatcher import Dispatcher
from sklearn.datasets import load_iris
from sklearn.model_selection import cross_validate
from sklearn_greedy import GreedyPretrainedMLPClassifier, compare_pretraining
from sklearn_greedy import _compare, _kernels

def n_loaded():
    kernels = [item for item in vars(_kernels).values() if isinstance(item, Dispatcher)]
    return sum(len(kernel.signatures) for kernel in kernels)

def counted(*args, **options):
    before.append(n_loaded())
    return cross_validate(*args, **options)

before = []
_compare.cross_validate = counted
np.random.seed(0)
clf = GreedyPretrainedMLPClassifier(
    (8,), pretrainer="{pretrainer}", solver="{solver}", max_iter=20, tol=0.1
)
compare_pretraining(clf, *load_iris(return_X_y=True), cv=3, random_state=0)
assert np.random.randint(1000) == np.random.RandomState(0).randint(1000)
print(before[0], n_loaded())
"""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    n_before, n_after = map(int, ran.stdout.split())
    assert 0 < n_before == n_after


def test_phases_and_health_are_reported(iris):
    found = compare_pretraining(network(), *iris, cv=2, random_state=0)
    for name in ("pretraining_seconds", "fine_tuning_seconds", "scratch_seconds"):
        assert found[name].shape == (2,)
        assert np.all(found[name] > 0)
    assert [len(report) for report in found.layer_reports] == [2, 2]
    assert "n_dead" in found.layer_reports[0][0]


def test_pipelines_frozen_stacks_and_regressors(iris):
    X, y = iris
    piped = make_pipeline(StandardScaler(), network(max_iter=60, tol=0, batch_size=16))
    found = compare_pretraining(piped, X, y, cv=3, random_state=0)
    assert np.all(found.pretrained_scores > 0.6)
    stack = StackedRBMTransformer((5,), max_iter=2, random_state=0).fit(X)
    reg = GreedyPretrainedMLPRegressor(pretrainer=FrozenEstimator(stack), max_iter=5)
    found = compare_pretraining(
        reg, X, X[:, 0], cv=2, scoring="neg_mean_squared_error", random_state=0
    )
    assert np.all(found.pretrained_scores < 0)


@pytest.mark.parametrize("form", ["float", "Int64", "category", "objects"])
def test_missing_labels_are_spread_over_the_folds(form, iris):
    """Folds were once drawn by a y with NaN, which scikit-learn refuses."""
    X, y = iris
    known = np.arange(150) % 2 == 0
    values = pd.Series(np.where(known, y.astype(float), np.nan))
    if form == "objects":
        values = pd.Series(np.where(known, np.array(["a", "b", "c"])[y], None))
    elif form != "float":
        values = values.astype(form)
    marked = network(unlabeled=np.nan, max_iter=2)
    found = compare_pretraining(marked, X, values, cv=3, random_state=0)
    coded = np.where(known, y, -1)
    numbered = network(unlabeled=-1, max_iter=2)
    again = compare_pretraining(numbered, X, coded, cv=3, random_state=0)
    assert_array_equal(found.pretrained_scores, again.pretrained_scores)


def test_marked_rows_are_one_more_class_to_the_folds(iris):
    """As part of another class they could all have come into one fold."""
    y = np.where(np.arange(150) % 3 == 0, -1, iris[1])
    codes = np.unique(strata(y, y == -1), return_inverse=True)[1]
    assert_array_equal(codes, y + 1)


def test_parallel_folds_give_the_same(iris):
    one = compare_pretraining(network(), *iris, cv=2, random_state=0)
    two = compare_pretraining(network(), *iris, cv=2, random_state=0, n_jobs=2)
    assert_array_equal(one.pretrained_scores, two.pretrained_scores)
    assert_array_equal(one.scratch_scores, two.scratch_scores)


def two_scores(estimator, X, y):
    return {"one": 1.0, "two": 2.0}


@pytest.mark.parametrize("scoring", [["accuracy"] * 1000, two_scores])
def test_several_scores_at_once_raise(scoring, iris):
    with pytest.raises(ValueError, match="must give one number") as caught:
        compare_pretraining(network(max_iter=1), *iris, cv=2, scoring=scoring)
    assert len(str(caught.value)) < 200


def stack_of(*activations, **params):
    sizes = (6, 4)[: len(activations)]
    return StackedAutoencoderTransformer(sizes, activation=list(activations), **params)


@pytest.mark.parametrize(
    ("pretrainer", "scoring", "message"),
    [
        ("autoencoder", ["accuracy", "f1_macro"], "must give one number"),
        (stack_of("tanh", "relu"), None, "different activations"),
        (StackedRBMTransformer((3, 2), hidden=["relu", "bernoulli"]), None, "differ"),
        ("frozen", None, "different activations"),
    ],
)
def test_nothing_is_trained_for_what_cannot_be_compared(
    pretrainer, scoring, message, iris, monkeypatch
):
    """All folds were fitted with pre-training before these were refused."""
    if pretrainer == "frozen":
        fitted = stack_of("tanh", "relu", max_iter=1).fit(iris[0])
        pretrainer = FrozenEstimator(fitted)
    monkeypatch.setattr("sklearn_greedy._compare.cross_validate", pytest.fail)
    with pytest.raises(ValueError, match=message):
        compare_pretraining(network(pretrainer=pretrainer), *iris, scoring=scoring)


def test_marked_rows_do_not_count_with_a_scorer_by_name(iris):
    """Each was an error, whatever was predicted."""
    X, y = iris[0], np.where(np.arange(150) % 3 == 0, iris[1], -1)
    own, named = (
        compare_pretraining(
            network(unlabeled=-1), X, y, cv=2, scoring=scoring, random_state=0
        )
        for scoring in (None, "accuracy")
    )
    assert_array_equal(own.pretrained_scores, named.pretrained_scores)
    assert_array_equal(own.scratch_scores, named.scratch_scores)


def as_mask(rows):
    return np.isin(np.arange(150), rows)


@pytest.mark.parametrize("form", [list, np.asarray, as_mask])
def test_folds_may_have_any_form(form, iris):
    X, y = iris
    halves = np.arange(0, 150, 2), np.arange(1, 150, 2)
    folds = [(form(halves[k]), form(halves[1 - k])) for k in (0, 1)]
    known = np.arange(150) % 5 > 0
    for labels in (y, np.where(known, y, -1)):
        found = [
            compare_pretraining(network(unlabeled=-1), X, labels, cv=cv, random_state=0)
            for cv in (folds, [halves, halves[::-1]])
        ]
        assert_array_equal(*(each.pretrained_scores for each in found))
        assert found[0].interval == found[1].interval


def test_marked_rows_do_not_narrow_the_interval(all_digits):
    """With a frozen stack they change nothing, and they are no labelled rows."""
    X, y = all_digits[0][:300], all_digits[1][:300].copy()
    stack = StackedAutoencoderTransformer((8,), max_iter=2, random_state=0).fit(X)
    frozen = network(pretrainer=FrozenEstimator(stack), unlabeled=-1)
    few = np.arange(90)
    folds = [(few[few % 3 != k], few[few % 3 == k]) for k in range(3)]
    alone = compare_pretraining(frozen, X[few], y[few], cv=folds, random_state=0)
    y[90:] = -1
    more = [(np.append(train, np.arange(90, 300)), test) for train, test in folds]
    beside = compare_pretraining(frozen, X, y, cv=more, random_state=0)
    assert_array_equal(alone.pretrained_scores, beside.pretrained_scores)
    assert alone.interval == beside.interval


def test_rows_without_a_label_may_be_given_beside_y(all_digits):
    """As marked rows that are there to train on in each fold."""
    X, y = all_digits[0][:300], all_digits[1][:300].copy()
    few = np.arange(90)
    folds = [(few[few % 3 != k], few[few % 3 == k]) for k in range(3)]
    clf = network(unlabeled=-1)
    beside, alone = (
        compare_pretraining(
            clf, X[few], y[few], cv=folds, random_state=0, params=params
        )
        for params in ({"X_unlabeled": X[90:]}, None)
    )
    y[90:] = -1
    more = [(np.append(train, np.arange(90, 300)), test) for train, test in folds]
    marked = compare_pretraining(clf, X, y, cv=more, random_state=0)
    assert_array_equal(beside.pretrained_scores, marked.pretrained_scores)
    assert_array_equal(beside.scratch_scores, marked.scratch_scores)
    assert beside.interval == marked.interval
    assert not np.array_equal(beside.pretrained_scores, alone.pretrained_scores)


def test_weights_of_both_sides_go_with_their_rows(iris):
    X, y = iris
    kept = np.arange(150) % 4 > 0
    weight = np.where(kept, 1.0, 0.0)
    folds = list(KFold(3, shuffle=True, random_state=0).split(X))
    found = compare_pretraining(
        network(), X, y, cv=folds, random_state=0, params={"sample_weight": weight}
    )
    seed = int(np.random.RandomState(0).randint(2**31))
    for (train, test), ours, other in zip(
        folds, found.pretrained_scores, found.scratch_scores, strict=True
    ):
        own = network(random_state=seed).fit(X[train], y[train], weight[train])
        assert ours == own.score(X[test], y[test])
        units = own._input_units()
        layers = RandomLayers((6, 4), "tanh", units.offset, units.scale, seed)
        scratch = network(random_state=seed, pretrainer=layers)
        scratch.fit(X[train], y[train], weight[train])
        assert other == scratch.score(X[test], y[test])


@pytest.mark.filterwarnings("ignore:R.2 score is not well-defined")
def test_score_that_is_no_number_raises():
    X, y = load_diabetes(return_X_y=True)
    reg = GreedyPretrainedMLPRegressor((4,), max_iter=1)
    with pytest.raises(ValueError, match=r"score of fold 1 is nan.* its 1 test row\."):
        compare_pretraining(reg, X[:6], y[:6], cv=KFold(6))


def test_fold_without_a_label_raises(iris):
    y = np.where(np.arange(150) < 100, iris[1], -1)
    with pytest.raises(ValueError, match="Fold 3 tests on no labelled row"):
        compare_pretraining(network(unlabeled=-1), iris[0], y, cv=KFold(3))


def test_estimator_is_left_alone(iris):
    given = network()
    before = clone(given)
    compare_pretraining(given, *iris, cv=2, random_state=0)
    assert repr(given.get_params()) == repr(before.get_params())
    assert not hasattr(given, "coefs_")


def test_what_cannot_be_compared_raises(iris):
    with pytest.raises(ValueError, match="no pre-training to compare"):
        compare_pretraining(network(pretrainer=None), *iris)
    with pytest.raises(ValueError, match="no pre-training to compare"):
        compare_pretraining(network(pretrainer=([], [])), *iris)
    for estimator in (StandardScaler(), Pipeline([])):
        with pytest.raises(TypeError, match="has no pretrainer"):
            compare_pretraining(estimator, *iris)
    with pytest.raises(TypeError, match="Classifier is a class; give an instance"):
        compare_pretraining(GreedyPretrainedMLPClassifier, *iris)
    with pytest.raises(ValueError, match="compare_pretraining needs y"):
        compare_pretraining(network(), iris[0], None)
    fold = [(np.arange(100), np.arange(100, 150))]
    with pytest.raises(ValueError, match="at least two folds"):
        compare_pretraining(network(), *iris, cv=fold)
