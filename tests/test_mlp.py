"""Behaviour of the pre-trained MLP classifier and regressor."""

import pickle
import warnings
from numbers import Number

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.special import logsumexp
from sklearn.base import clone
from sklearn.compose import make_column_selector
from sklearn.datasets import load_digits, load_iris
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, scale
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.class_weight import compute_sample_weight
from tools import OwnPretrainer, leaves

from sklearn_greedy import (
    GreedyPretrainedMLPClassifier,
    GreedyPretrainedMLPRegressor,
    StackedAutoencoderTransformer,
    StackedRBMTransformer,
)

PRETRAINERS = {
    "rbm": StackedRBMTransformer((5, 3), max_iter=2, learning_rate=0.01),
    "autoencoder": StackedAutoencoderTransformer((5, 3), max_iter=2),
    "untied tanh": StackedAutoencoderTransformer(
        (5, 3), activation="tanh", tied_weights=False, max_iter=2
    ),
}


@pytest.fixture(params=[GreedyPretrainedMLPClassifier, GreedyPretrainedMLPRegressor])
def mlp_class(request):
    return request.param


@pytest.fixture(params=PRETRAINERS)
def pretrainer(request):
    return clone(PRETRAINERS[request.param])


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    return scale(X), y


@pytest.fixture(scope="module")
def few_digits():
    X, y = load_digits(return_X_y=True)
    return X[:300] / 16, y[:300]


def build(mlp_class, **params):
    return mlp_class(
        **{
            "hidden_layer_sizes": (5,) if params.get("pretrainer") is None else None,
            "pretrainer": None,
            "max_iter": 3,
            "random_state": 0,
            **params,
        }
    )


def classifier(**params):
    return build(GreedyPretrainedMLPClassifier, **params)


def regressor(**params):
    return build(GreedyPretrainedMLPRegressor, **params)


def assert_same(one, other):
    """Bit for bit the same network."""
    for name in ("coefs_", "intercepts_"):
        for a, b in zip(getattr(one, name), getattr(other, name), strict=True):
            assert_array_equal(a, b)


def assert_close(one, other, **tolerance):
    for name in ("coefs_", "intercepts_"):
        for a, b in zip(getattr(one, name), getattr(other, name), strict=True):
            assert_allclose(a, b, **tolerance)


# --- the pretrainer ------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected", "activation"),
    [
        ("rbm", StackedRBMTransformer, "logistic"),
        ("autoencoder", StackedAutoencoderTransformer, "relu"),
    ],
)
def test_pretrainer_by_name(mlp_class, name, expected, activation, iris):
    mlp = build(mlp_class, pretrainer=name, hidden_layer_sizes=(6, 4)).fit(*iris)
    assert type(mlp.pretrainer_) is expected
    assert mlp.pretrainer_.activations_ == [activation] * 2
    assert [coef.shape for coef in mlp.coefs_[:-1]] == [(4, 6), (6, 4)]
    assert_same(mlp, clone(mlp).fit(*iris))


def test_pretrainer_without_a_seed_has_that_of_the_network(mlp_class, iris):
    """A constant one would look just as reproducible."""
    stacks = [
        build(mlp_class, pretrainer="rbm", hidden_layer_sizes=(4,), random_state=seed)
        .fit(*iris)
        .pretrainer_
        for seed in (0, 0, 1)
    ]
    assert_same(stacks[0], stacks[1])
    assert not np.array_equal(stacks[0].coefs_[0], stacks[2].coefs_[0])


def test_seed_of_a_pretrainer_is_kept(mlp_class, pretrainer, iris):
    pretrainer.set_params(random_state=5)
    mlp = build(mlp_class, pretrainer=pretrainer).fit(*iris)
    assert_same(mlp.pretrainer_, pretrainer.fit(iris[0]))


def test_default_size_is_that_of_scikit_learn(iris):
    for name in ("rbm", None):
        mlp = classifier(pretrainer=name, hidden_layer_sizes=None, max_iter=1)
        if name == "rbm":
            assert mlp.fit(*iris).pretrainer_.coefs_[0].shape == (4, 100)
        assert mlp.fit(*iris).coefs_[0].shape == (4, 100)


def test_instance_is_cloned_and_never_fitted(mlp_class, pretrainer, iris):
    mlp = build(mlp_class, pretrainer=pretrainer).fit(*iris)
    assert mlp.pretrainer is pretrainer
    assert mlp.pretrainer_ is not pretrainer
    assert not [name for name in vars(pretrainer) if name.endswith("_")]
    assert [coef.shape[1] for coef in mlp.coefs_[:-1]] == [5, 3]
    assert_same(mlp, clone(mlp).fit(*iris))


def test_pretrainer_takes_columns_of_a_frame_by_name(mlp_class, iris):
    large = (iris[0] > np.median(iris[0], axis=0)) * 1.0
    X = pd.DataFrame(large, columns=list("abcd"))
    stack = StackedAutoencoderTransformer(3, visible=[("gaussian", ["b"])], max_iter=1)
    found = build(mlp_class, pretrainer=stack).fit(X, iris[1]).pretrainer_
    kinds = ["bernoulli", "gaussian", "bernoulli", "bernoulli"]
    assert found.visible_kinds_.tolist() == kinds
    assert found.transform(X).shape == (150, 3)  # without a warning about names


@pytest.mark.parametrize("shift", [0.0, 300.0])
def test_fine_tuning_starts_at_the_pretrained_layers(
    mlp_class, pretrainer, shift, iris
):
    X, y = iris
    X = 20 * X + shift
    mlp = build(mlp_class, pretrainer=pretrainer, max_iter=1, learning_rate_init=1e-9)
    mlp.fit(X, y)
    hidden = mlp.pretrainer_
    for ours, theirs in zip(mlp.coefs_[:-1], hidden.coefs_, strict=True):
        assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    for ours, theirs in zip(mlp.intercepts_[:-1], hidden.intercepts_, strict=True):
        assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def test_frozen_pretrainer_is_used_as_it_is(mlp_class, pretrainer, iris):
    X, y = iris
    stack = pretrainer.fit(X[::2])
    before = joblib.hash(vars(stack))
    mlp = build(mlp_class, pretrainer=FrozenEstimator(stack)).fit(X, y)
    assert mlp.pretrainer_.estimator is stack
    assert joblib.hash(vars(stack)) == before
    start = clone(mlp).set_params(learning_rate_init=1e-9, max_iter=1).fit(X, y)
    for ours, theirs in zip(start.coefs_[:-1], stack.coefs_, strict=True):
        assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_frozen_pretrainer_must_know_the_columns(mlp_class, iris):
    """Its weights once went to other columns without a word."""
    X, y = pd.DataFrame(iris[0], columns=[*"abcd"]), iris[1]
    stack = StackedAutoencoderTransformer((5,), max_iter=1).fit(X[[*"bacd"]])
    with pytest.raises(ValueError, match=r"fitted on \['b', 'a', 'c', 'd'\]"):
        mlp_class(pretrainer=FrozenEstimator(stack)).fit(X, y)


@pytest.mark.parametrize(
    "columns",
    [
        make_column_selector(dtype_include="float"),
        lambda frame: [name for name in frame.columns if name < "c"],
        slice("a", "b"),
    ],
    ids=["selector", "callable", "slice"],
)
def test_pretrainer_selects_columns_of_the_users_frame(mlp_class, columns, iris):
    """It once saw an array, which has no names and one type."""
    X = pd.DataFrame(iris[0], columns=[*"abcd"])
    X[["c", "d"]] = (X[["c", "d"]] > 0).astype(int)
    stack = StackedRBMTransformer(
        (5,), visible=[("gaussian", columns), ("bernoulli", ["c", "d"])], max_iter=1
    )
    mlp = build(mlp_class, pretrainer=stack).fit(X, iris[1])
    kinds = mlp.pretrainer_.visible_kinds_
    assert kinds.tolist() == ["gaussian", "gaussian", "bernoulli", "bernoulli"]


def test_frozen_pretrainer_must_fit(iris):
    X, y = iris
    unfitted = FrozenEstimator(StackedRBMTransformer((3,)))
    with pytest.raises(NotFittedError):
        classifier(pretrainer=unfitted).fit(X, y)
    narrow = FrozenEstimator(StackedRBMTransformer((3,), max_iter=1).fit(X[:, :2]))
    with pytest.raises(ValueError, match=r"X has 4 features, .* fitted on 2"):
        classifier(pretrainer=narrow).fit(X, y)


def test_pretrainer_without_layers_raises(iris):
    with pytest.raises(TypeError, match=r"PCA\(.*lacks coefs_"):
        classifier(pretrainer=PCA()).fit(*iris)


@pytest.mark.parametrize(
    ("other", "match"),
    [
        ({"activations_": ["gelu"]}, r"\['gelu'\].* one of \['logistic'"),
        ({"activations_": ["tanh", "tanh"]}, "each of the 1 layers"),
        ({"intercepts_": []}, r"shapes \[\(4, 4\)\] and \[\]"),
        ({"coefs_": [np.full((4, 4), np.nan)]}, "hold NaN or infinity"),
        ({"visible_offset_": np.zeros(5)}, r"for each of the 4 .*\[0. 0. 0. 0. 0.\]"),
        ({"visible_scale_": np.zeros(4)}, "the scale above 0"),
        ({"visible_scale_": np.full(4, np.inf)}, r"They are .*\[inf inf"),
        ({"coefs_": []}, "it has no layer"),
    ],
)
def test_pretrainer_whose_layers_cannot_be_used_raises(other, match, iris):
    with pytest.raises(ValueError, match=match):
        classifier(pretrainer=OwnPretrainer(other)).fit(*iris)


def test_layers_of_a_pretrainer_may_be_lists(iris):
    lists = {"coefs_": [np.full((4, 4), 0.1).tolist()], "intercepts_": [[0.0] * 4]}
    fitted = [
        classifier(pretrainer=OwnPretrainer(other)).fit(*iris).coefs_[0]
        for other in (lists, None)
    ]
    assert_array_equal(*fitted)


@pytest.mark.parametrize("pretrainer", ["autoencoder", None, [np.ones((4, 3))]])
def test_parameters_of_a_name_cannot_be_set(pretrainer):
    """It said that a string has no attribute."""
    clf = GreedyPretrainedMLPClassifier(pretrainer=pretrainer)
    with pytest.raises(
        ValueError, match=r"(?s)pretrainer__max_iter cannot .* an instance"
    ):
        clf.set_params(pretrainer__max_iter=3)
    stack = StackedRBMTransformer()
    clf.set_params(pretrainer=stack, pretrainer__max_iter=3)
    assert clf.pretrainer.max_iter == 3


def test_list_of_stacks_raises(iris):
    stacks = [StackedRBMTransformer((8,)), StackedRBMTransformer((4,))]
    with pytest.raises(TypeError, match="Give a single stack"):
        classifier(pretrainer=stacks).fit(*iris)


@pytest.mark.parametrize("frozen", [False, True])
def test_contradicting_sizes_name_both(mlp_class, frozen, iris, capsys):
    X, y = iris
    stack = StackedRBMTransformer((5, 3), max_iter=1, verbose=not frozen)
    if frozen:
        stack = FrozenEstimator(stack.fit(X))
    mlp = build(mlp_class, pretrainer=stack, hidden_layer_sizes=(7,))
    with pytest.raises(ValueError, match=r"hidden_layer_sizes=\(7,\).*\(5, 3\)"):
        mlp.fit(X, y)
    assert capsys.readouterr().out == ""
    mlp.set_params(hidden_layer_sizes=[5, 3]).fit(X, y)


@pytest.mark.parametrize(
    ("pretrainer", "seen"),
    [
        ("rbm", "logistic"),
        (StackedRBMTransformer((5,), max_iter=1), "logistic"),
        (StackedAutoencoderTransformer((5,), max_iter=1, activation="relu"), "relu"),
    ],
)
def test_contradicting_activation_names_both(mlp_class, pretrainer, seen, iris):
    mlp = build(mlp_class, pretrainer=pretrainer, activation="tanh")
    with pytest.raises(ValueError, match=f"activation='tanh'.*{seen}"):
        mlp.fit(*iris)


def test_given_activation_reaches_a_named_autoencoder(iris):
    mlp = classifier(pretrainer="autoencoder", activation="tanh").fit(*iris)
    assert mlp.pretrainer_.activations_ == ["tanh"]


def test_pretraining_helps_a_frozen_bottleneck_of_labels(few_digits):
    """Few labels, many rows: the pre-trained start beats the random one."""
    X, y = few_digits
    stack = StackedRBMTransformer((64,), max_iter=30, random_state=0).fit(X)
    params = {"hidden_layer_sizes": (64,), "activation": "logistic", "max_iter": 60}
    scores = []
    for pretrainer in (FrozenEstimator(stack), None):
        runs = [
            classifier(pretrainer=pretrainer, **params, random_state=seed)
            .fit(X[:50], y[:50])
            .score(X[50:], y[50:])
            for seed in range(3)
        ]
        scores.append(np.median(runs))
    assert scores[0] > scores[1] + 0.1


# --- without a pretrainer: scikit-learn's MLP ------------------------------------


def targets(task, X, y):
    return {
        "binary": y > 0,
        "multiclass": y,
        "multilabel": np.column_stack([y > 0, X[:, 0] > 0, y == 1]).astype(int),
        "regression": X[:, 0] * X[:, 1],
        "multi-output": np.column_stack([X[:, 0] * X[:, 1], X[:, 2]]),
    }[task]


def pair(task, **params):
    """Ours and scikit-learn's, with the same parameters."""
    if task in ("regression", "multi-output"):
        return regressor(**params), MLPRegressor(random_state=0, **params)
    return classifier(**params), MLPClassifier(random_state=0, **params)


def start_alike(ours, theirs, X, y):
    """Fit both for an epoch, then give them the same parameters to go on from."""
    for mlp in (ours, theirs):
        mlp.set_params(warm_start=True, max_iter=1).fit(X, y)
    theirs.coefs_ = [coef.copy() for coef in ours.coefs_]
    theirs.intercepts_ = [intercept.copy() for intercept in ours.intercepts_]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "task", ["binary", "multiclass", "multilabel", "regression", "multi-output"]
)
@pytest.mark.parametrize(
    "options",
    [
        {"solver": "adam", "activation": "relu"},
        {"solver": "sgd", "activation": "tanh", "nesterovs_momentum": True},
        {"solver": "sgd", "activation": "logistic", "nesterovs_momentum": False},
    ],
    ids=["adam", "nesterov", "momentum"],
)
def test_same_start_gives_the_training_of_scikit_learn(task, options, iris):
    """Batches in order and no noise, so that both must walk the same path."""
    X, y = iris
    y = targets(task, X, y)
    options = {"learning_rate_init": 0.01, "batch_size": 40, "alpha": 0.0, **options}
    ours, theirs = pair(task, hidden_layer_sizes=(6, 5), shuffle=False, **options)
    start_alike(ours, theirs, X, y)
    for mlp in (ours, theirs):
        mlp.set_params(max_iter=6).fit(X, y)
    assert_close(ours, theirs, rtol=2e-3, atol=2e-4)
    # MLPRegressor reports the mean over the outputs, but descends (as we report) the
    # sum: its gradient is the same as ours.
    factor = ours.n_outputs_ if task == "multi-output" else 1
    curve = factor * np.array(theirs.loss_curve_[-6:])
    assert_allclose(ours.loss_curve_[-6:], curve, rtol=1e-3)
    assert ours.out_activation_ == theirs.out_activation_


@pytest.mark.parametrize("weighted", [False, True])
def test_loss_of_all_rows_does_not_depend_on_its_parts(weighted, monkeypatch, iris):
    X, y = iris
    weights = np.linspace(0.1, 3, len(y)) if weighted else None

    def fitted():
        clf = GreedyPretrainedMLPClassifier(
            (4, 3), pretrainer=None, solver="lbfgs", max_iter=5, random_state=0
        )
        return clf.fit(X, y, sample_weight=weights)

    whole = fitted()
    monkeypatch.setattr("sklearn_greedy._full_batch._PART_PRODUCTS", 4000)
    parts = fitted()
    assert_allclose(parts.loss_curve_, whole.loss_curve_, rtol=1e-9)
    for ours, theirs in zip(parts.coefs_, whole.coefs_, strict=True):
        assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_penalty_is_that_of_scikit_learn_on_a_full_batch(iris):
    X, y = iris
    options = {"alpha": 20.0, "batch_size": 150, "hidden_layer_sizes": (5,)}
    ours, theirs = pair("multiclass", learning_rate_init=0.02, **options)
    start_alike(ours, theirs, X, y)
    for mlp in (ours, theirs):
        mlp.set_params(max_iter=20).fit(X, y)
    assert_close(ours, theirs, rtol=2e-3, atol=2e-4)
    # Ours counts the penalty after an epoch, theirs before its last step.
    assert_allclose(ours.loss_curve_[-20:], theirs.loss_curve_[-20:], rtol=0.05)


@pytest.mark.parametrize("batch_size", [10, 100])
def test_alpha_means_the_same_at_any_batch_size(batch_size, rng):
    """A network without hidden layers is ridge regression."""
    X = rng.normal(size=(100, 3))
    y = X @ [1.0, -2.0, 0.5] + 0.7
    model = regressor(
        hidden_layer_sizes=(),
        alpha=100.0,
        batch_size=batch_size,
        learning_rate_init=0.005,
        max_iter=1000 if batch_size == 10 else 2500,
        tol=1e-7,
    ).fit(X, y)
    ridge = Ridge(alpha=100.0).fit(X, y)
    assert_allclose(model.coefs_[0].ravel(), ridge.coef_, atol=0.03)
    assert_allclose(model.intercepts_[0], ridge.intercept_, atol=0.03)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_random_start_learns_like_scikit_learn(few_digits):
    X, y = few_digits
    curves, scores = [], []
    for cls in (GreedyPretrainedMLPClassifier, MLPClassifier):
        extra = {} if cls is MLPClassifier else {"pretrainer": None}
        fits = [
            cls(hidden_layer_sizes=(30,), max_iter=25, random_state=seed, **extra).fit(
                X[:200], y[:200]
            )
            for seed in range(5)
        ]
        curves.append(np.median([fit.loss_curve_ for fit in fits], axis=0))
        scores.append(np.median([fit.score(X[200:], y[200:]) for fit in fits]))
    assert_allclose(curves[0], curves[1], rtol=0.06)
    assert abs(scores[0] - scores[1]) < 0.1


@pytest.mark.parametrize(
    "options",
    [{}, {"early_stopping": True}, {"solver": "sgd", "learning_rate": "adaptive"}],
    ids=["loss", "score", "adaptive"],
)
def test_patience_is_that_of_scikit_learn(options, iris):
    params = {"tol": 1e9, "n_iter_no_change": 3, **options}
    ours, theirs = pair("multiclass", hidden_layer_sizes=(5,), **params)
    for mlp in (ours, theirs):
        mlp.set_params(max_iter=50).fit(*iris)
    assert ours.n_iter_ == theirs.n_iter_ == len(ours.loss_curve_) < 50


# --- targets -------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels",
    [
        [-1, 1],
        [5, 70],
        ["no", "yes"],
        [False, True],
        np.array(["a", "bb"], dtype=object),
        [0.0, 1.0],
        [0, 1, 2],
        [-1, 0, 4],
        ["setosa", "versicolor", "virginica"],
        np.array(["x", "yy", "zzz"], dtype=object),
    ],
    ids=str,
)
def test_labels_of_any_kind(labels, iris):
    X, codes = iris
    labels = np.asarray(labels)
    rows = codes < len(labels)
    X, codes = X[rows], codes[rows]
    y = labels[codes]
    clf = classifier(max_iter=30, learning_rate_init=0.05).fit(X, y)
    assert_array_equal(clf.classes_, labels)
    assert clf.score(X, y) > 0.85
    assert set(clf.predict(X)) <= set(labels)
    assert_same(clf, clone(clf).fit(X, codes))


def test_labels_in_pandas_and_lists(iris):
    X, codes = iris
    names = np.array(["setosa", "versicolor", "virginica"])[codes]
    expected = classifier().fit(X, codes)
    for y in (pd.Series(names), pd.Series(names, dtype="category"), names.tolist()):
        clf = classifier().fit(X, y)
        assert_same(clf, expected)
        assert set(clf.predict(X)) <= set(names)


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_probabilities_sum_to_one_and_agree_with_predict(task, iris):
    X, y = iris
    y = targets(task, X, y)
    clf = classifier(max_iter=20).fit(X, y)
    proba = clf.predict_proba(X)
    assert proba.shape == (150, len(clf.classes_))
    assert_allclose(proba.sum(axis=1), 1)
    assert_array_equal(clf.classes_[proba.argmax(axis=1)], clf.predict(X))
    assert_allclose(np.exp(clf.predict_log_proba(X)), proba)


def test_multilabel(iris):
    X, y = iris
    Y = targets("multilabel", X, y)
    clf = classifier(max_iter=100, learning_rate_init=0.05).fit(X, Y)
    proba = clf.predict_proba(X)
    assert proba.shape == Y.shape
    assert_array_equal(clf.predict(X), (proba > 0.5).astype(int))
    assert (clf.predict(X) == Y).mean() > 0.85
    assert clf.out_activation_ == "logistic"


@pytest.mark.parametrize("goes_on", ["partial_fit", "warm_start", "y_val"])
def test_multilabel_targets_with_too_few_labels_raise(goes_on, iris):
    """The kernels read beyond the end of the targets."""
    X, y = iris
    Y = targets("multilabel", X, y)
    clf = classifier(warm_start=True).fit(X, Y)
    again, given = {
        "partial_fit": (clf.partial_fit, (X, Y[:, :2])),
        "warm_start": (clf.fit, (X, Y[:, :2])),
        "y_val": (clf.fit, (X, Y, None, None, X, Y[:, :2])),
    }[goes_on]
    with pytest.raises(ValueError, match="y has 2 labels, but the network has 3"):
        again(*given)
    with pytest.raises(ValueError, match="y has 2 labels, but the network has 3"):
        classifier().partial_fit(X, Y[:, :2], classes=[0, 1, 2])


@pytest.mark.parametrize("dtype", [">f8", "f2"])
def test_multilabel_targets_of_any_dtype(dtype, iris):
    X, y = iris
    Y = targets("multilabel", X, y)
    assert_same(classifier().fit(X, Y.astype(dtype)), classifier().fit(X, Y))


def test_sparse_targets_of_a_regressor(iris):
    X, Y = iris[0][:, :2], iris[0][:, 2:]
    assert_same(regressor().fit(X, sparse.csr_array(Y)), regressor().fit(X, Y))


def test_sparse_multilabel_targets(iris):
    X, y = iris
    Y = targets("multilabel", X, y)
    assert_same(classifier().fit(X, sparse.csr_matrix(Y)), classifier().fit(X, Y))


def test_one_class_raises(iris):
    X, y = iris
    with pytest.raises(ValueError, match="class"):
        classifier().fit(X[:20], y[:20])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_data_raise(mlp_class, bad, iris):
    X, y = iris[0].copy(), iris[1]
    X[3, 2] = bad
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        build(mlp_class).fit(X, y)
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        build(mlp_class).fit(*iris).predict(X)


def test_non_finite_targets_raise(iris):
    X, y = iris
    for value, seen in ((np.nan, r"NaN or None\) in 50 of 150"), (np.inf, "infinity")):
        with pytest.raises(ValueError, match=seen):
            regressor().fit(X, np.where(y == 1, value, y))


def test_multi_output_regression(iris):
    X, y = iris
    Y = targets("multi-output", X, y)
    reg = regressor(max_iter=300, learning_rate_init=0.02).fit(X, Y)
    assert reg.predict(X).shape == Y.shape
    assert reg.n_outputs_ == 2
    assert reg.score(X, Y) > 0.7
    with pytest.raises(ValueError, match=r"y has 1 outputs, .* has 2"):
        reg.partial_fit(X, Y[:, 0])


def test_column_of_targets_warns_and_counts_as_vector(iris):
    X, y = iris
    with pytest.warns(UserWarning, match="column-vector y"):
        reg = regressor().fit(X, y[:, None])
    assert reg.predict(X).shape == y.shape
    assert_same(reg, regressor().fit(X, y))


@pytest.mark.parametrize("pretrainer_name", PRETRAINERS)
def test_raw_targets_fit_as_well_as_scaled_ones(pretrainer_name, iris):
    X, y = iris
    y = X[:, 0] + np.abs(X[:, 1]) + 0.5 * y
    raw = y * 1e5 + 1e6
    reg = regressor(pretrainer=PRETRAINERS[pretrainer_name], max_iter=40)
    reg.set_params(learning_rate_init=0.02, batch_size=20)
    scaled_prediction = clone(reg).fit(X, y).predict(X)
    raw_prediction = reg.fit(X, raw).predict(X)
    assert_allclose((raw_prediction - 1e6) / 1e5, scaled_prediction, atol=0.02)
    assert reg.score(X, raw) > 0.5


def test_raw_columns_fit_as_well_as_scaled_ones(mlp_class, pretrainer, iris):
    X, y = iris
    raw = X * 1000 + 5
    mlp = build(mlp_class, pretrainer=pretrainer, max_iter=20)
    expected = clone(mlp).fit(X, y)._output_means(X)
    assert_allclose(mlp.fit(raw, y)._output_means(raw), expected, atol=2e-3)


# --- partial_fit ---------------------------------------------------------------


def test_partial_fit_needs_the_classes_first(iris):
    X, y = iris
    with pytest.raises(ValueError, match="classes must be passed"):
        classifier().partial_fit(X, y)
    clf = classifier()
    assert clf.partial_fit(X[:50], y[:50], [0, 1, 2]) is clf
    assert clf.partial_fit(X, y) is clf
    clf.partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="classes"):
        clf.partial_fit(X, y, classes=[0, 1, 2, 3])
    with pytest.raises(ValueError, match=r"\[7\]"):
        clf.partial_fit(X, np.where(y == 1, 7, y))
    assert clf.n_iter_ == len(clf.loss_curve_) == 3
    assert clf.t_ == 350


def test_another_solver_begins_its_own_moments(mlp_class, iris):
    """Adam's moments became velocities: one chunk spoiled a network."""
    X, y = iris
    classes = [[0, 1, 2]] if mlp_class is GreedyPretrainedMLPClassifier else []
    mlp = build(mlp_class, pretrainer=None, solver="adam", batch_size=len(X))
    for _ in range(5):
        mlp.partial_fit(X, y, *classes)
    before = mlp.coefs_[0].copy()
    mlp.set_params(solver="sgd", learning_rate_init=1e-12).partial_fit(X, y)
    assert_allclose(mlp.coefs_[0], before, atol=1e-6)


def test_failed_first_partial_fit_forgets_its_classes(iris):
    X, y = iris
    clf = classifier()
    with pytest.raises(ValueError, match="NaN"):
        clf.partial_fit(np.full((3, 4), np.nan), y[:3], classes=[0, 1, 2])
    with pytest.raises(ValueError, match="classes must be passed"):
        clf.partial_fit(X[:60], y[:60])


def test_a_chunk_is_learned_at_the_present_rate(mlp_class, iris):
    """The rate of the first chunk once served all others."""
    X, y = iris
    classes = [[0, 1, 2]] if mlp_class is GreedyPretrainedMLPClassifier else []
    mlp = build(mlp_class).partial_fit(X, y, *classes)
    before = mlp.coefs_[0].copy()
    mlp.set_params(learning_rate_init=1e-12).partial_fit(X, y)
    assert_allclose(mlp.coefs_[0], before, rtol=1e-6)


@pytest.mark.parametrize("goes_on", ["partial_fit", "warm_start"])
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"activation": "tanh"}, "activation='tanh' differs from"),
        ({"hidden_layer_sizes": (7,)}, r"hidden_layer_sizes=.* differs from"),
        ({"n_frozen_layers": 2}, "more than the number of hidden layers, 1"),
        ({"loss": "poisson"}, "loss='poisson' differs from"),
    ],
)
def test_what_a_fitted_network_cannot_change_raises(goes_on, changed, message, iris):
    X, y = iris
    mlp = regressor(warm_start=True).fit(X, y).set_params(**changed)
    again = mlp.fit if goes_on == "warm_start" else mlp.partial_fit
    with pytest.raises(ValueError, match=message):
        again(X, y)


@pytest.mark.parametrize("goes_on", ["partial_fit", "warm_start"])
def test_frozen_layers_of_a_network_that_goes_on_do_not_drift(goes_on, iris):
    """Each time they were folded, rounded and unfolded again."""
    X = (iris[0] + 100).astype(np.float32)
    stack = StackedAutoencoderTransformer((6,), max_iter=3, random_state=0).fit(X)
    frozen = {"pretrainer": FrozenEstimator(stack), "n_frozen_layers": 1}
    mlp = regressor(warm_start=True, **frozen).fit(X, iris[0][:, 0])
    before = [mlp.coefs_[0].copy(), mlp.intercepts_[0].copy()]
    for _ in range(30):
        again = mlp.fit if goes_on == "warm_start" else mlp.partial_fit
        again(X, iris[0][:, 0])
    assert_array_equal(mlp.coefs_[0], before[0])
    assert_array_equal(mlp.intercepts_[0], before[1])


def test_the_marker_is_no_class(iris):
    X, y = iris[0], np.where(iris[1] == 0, -1, iris[1])
    clf = classifier(unlabeled=-1)
    with pytest.raises(ValueError, match="classes holds unlabeled=-1"):
        clf.partial_fit(X, y, classes=np.unique(y))
    assert_array_equal(clf.partial_fit(X, y, classes=[1, 2]).classes_, [1, 2])


def test_numbers_among_texts_are_no_labels(iris):
    y = np.array(["a", 1, -1] * 50, dtype=object)
    with pytest.raises((TypeError, ValueError)):
        classifier(unlabeled=-1).fit(iris[0], y)


@pytest.mark.parametrize(
    ("params", "own", "message"),
    [
        ({}, {"y_val": np.full(9, 7)}, r"X_val and y_val: y has the classes \[7\]"),
        ({}, {"X_val": np.zeros((9, 2))}, "X_val and y_val: X has 2 features"),
        ({"unlabeled": [1, 2]}, {}, "unlabeled must be None or one value"),
        ({"pretrainer": [None]}, {}, "A list as pretrainer holds the weights"),
        ({"pretrainer": ["a", "b"]}, {}, "A list as pretrainer holds the weights"),
        ({"pretrainer": StackedRBMTransformer}, {}, "StackedRBMTransformer is a class"),
    ],
)
def test_messages_name_what_they_are_of(params, own, message, iris):
    X, y = iris
    clf = GreedyPretrainedMLPClassifier(max_iter=1, **params)
    given = {"X_val": X[:9], "y_val": y[:9], **own} if own else {}
    with pytest.raises((TypeError, ValueError), match=message):
        clf.fit(X, y, **given)
    with pytest.raises(ValueError, match="X_unlabeled: X has 2 features"):
        GreedyPretrainedMLPClassifier(max_iter=1).fit(X, y, X_unlabeled=X[:, :2])


@pytest.mark.parametrize("missing", [np.nan, None])
def test_missing_labels_beside_another_marker_are_told(missing, iris):
    y = iris[1].astype(object)
    y[3] = missing
    with pytest.raises(ValueError, match="which unlabeled=-1 does not mark"):
        classifier(unlabeled=-1).fit(iris[0], y)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_validation_curve_does_not_depend_on_blocks_of_rows(monkeypatch, rng):
    X, y = rng.normal(size=(60, 3)), np.arange(60) % 3
    network, curves = classifier(early_stopping=True, validation_fraction=0.5), []
    for n_rows in (7, 4096):
        monkeypatch.setattr("sklearn_greedy._backpropagation._HELD_ROWS", n_rows)
        network.fit(X, y, sample_weight=1.0 + y)
        curves.append((network.validation_loss_curve_, network.validation_scores_))
    assert_allclose(*curves, rtol=1e-6)


@pytest.mark.parametrize("layer", ["a", 0.5, 1])
def test_layers_go_by_number(layer, iris):
    with pytest.raises(ValueError, match=r"layer=.* are numbered 0 to 0\."):
        classifier().fit(*iris).hidden_activations(iris[0], layer)


@pytest.mark.parametrize("size", [1, 7, 75, 150])
def test_partial_fit_takes_chunks_of_any_size(mlp_class, size, iris):
    X, y = iris
    mlp = build(mlp_class, pretrainer=PRETRAINERS["autoencoder"])
    first = {"classes": [0, 1, 2]} if mlp_class is GreedyPretrainedMLPClassifier else {}
    mlp.partial_fit(X[::3], y[::3], **first)
    for start in range(0, 150, size):
        mlp.partial_fit(X[start : start + size], y[start : start + size])
    assert mlp.t_ == 200
    assert np.isfinite(mlp.predict(X).astype(float)).all()


@pytest.mark.filterwarnings("ignore:.* scales column .* from now on:UserWarning")
@pytest.mark.parametrize("pretrainer", ["rbm", "autoencoder", "supervised"])
@pytest.mark.parametrize("first", [1, 3])
def test_a_stream_may_begin_with_few_rows(pretrainer, first, rng):
    """They gave input and targets their scale for good."""
    X = rng.normal(size=(400, 6)) * [1, 10, 100, 0.1, 5, 30] + [0, 50, 500, 1, 0, 9]
    y = 300 + 40 * scale(X)[:, :3].sum(axis=1)
    reg = GreedyPretrainedMLPRegressor(
        (16,), pretrainer=pretrainer, learning_rate_init=0.01, random_state=0
    )
    reg.partial_fit(X[:first], y[:first])
    for _ in range(15):
        for start in range(0, 300, 20):
            reg.partial_fit(X[start : start + 20], y[start : start + 20])
    assert reg.score(X[300:], y[300:]) > 0.9
    assert_allclose(reg._input_scale, X[:300].std(axis=0), rtol=0.1)
    assert_allclose(reg._target_scale, y[:300].std(), rtol=0.1)


def started(X, y, **params):
    """A regressor after a chunk of three rows."""
    reg = GreedyPretrainedMLPRegressor((4,), random_state=0, **params)
    return reg.partial_fit(X[:3], y[:3])


def test_a_stream_goes_on_where_the_pretrainer_is_taken_away(iris):
    """Its targets were no longer scaled, under weights for scaled ones."""
    X, y = iris[0], 300.0 + 50 * iris[1]
    one, other = started(X, y), started(X, y)
    with pytest.warns(UserWarning, match="pretrainer=None has no effect"):
        one.set_params(pretrainer=None).partial_fit(X, y)
    assert_same(one, other.partial_fit(X, y))


def test_scales_of_a_stream_are_followed_while_layers_are_frozen(iris):
    X, y = iris
    reg = started(X, y)
    reg.set_params(n_frozen_layers=1).partial_fit(X[3:80], y[3:80])
    assert not np.allclose(reg._input_scale[:3], X[:80, :3].std(axis=0))
    reg.set_params(n_frozen_layers=0).partial_fit(X[80:], y[80:])
    assert_allclose(reg._input_scale, X.std(axis=0))


@pytest.mark.parametrize("of_rows", [1, 0])
def test_scales_of_a_stream_go_by_weights(of_rows, iris):
    """Rows of weight 0 are not there, and a weight of 2 is a row twice."""
    X, y = iris
    weight = np.r_[np.full(3, 1.0), np.full(97, 2.0), np.full(50, of_rows)]
    reg = started(X, y).partial_fit(X[3:], y[3:], sample_weight=weight[3:])
    rows = np.repeat(np.arange(150), weight.astype(int))
    assert_allclose(reg._input_scale, X[rows].std(axis=0))
    assert_allclose(reg._target_scale, y[rows].std())


@pytest.mark.parametrize("columns", [[0, 1], lambda X: [0, 1]], ids=["number", "made"])
def test_named_columns_of_a_stream_keep_their_kind(columns, iris):
    X, y = (iris[0] > iris[0].mean(axis=0)) * 1.0, iris[1]
    stack = StackedRBMTransformer((4,), visible=[("bernoulli", columns)], max_iter=1)
    reg = started(X[::20], y[::20], pretrainer=stack)
    X[:, [0, 2]] *= 5
    with pytest.warns(
        UserWarning, match=r"scales column 2 from now on: values .* to 5"
    ):
        reg.partial_fit(X, y)
    assert_array_equal(reg._input_scale[:2], 1)
    assert reg._input_scale[2] > 1


@pytest.mark.parametrize("given", ["fit", "frozen layers", "frozen pretrainer"])
def test_scales_that_were_given_stay_in_a_stream(given, iris):
    X, y = iris
    pretrainer = StackedAutoencoderTransformer((4,), max_iter=1, random_state=0)
    if given == "frozen pretrainer":
        pretrainer = FrozenEstimator(pretrainer.fit(X))
    reg = GreedyPretrainedMLPRegressor(
        pretrainer=pretrainer,
        max_iter=1,
        n_frozen_layers=int(given == "frozen layers"),
        random_state=0,
    )
    (reg.fit if given == "fit" else reg.partial_fit)(X[:60], y[:60])
    before, frozen = reg._input_scale, reg.coefs_[0]
    reg.partial_fit(X[60:], y[60:])
    assert_array_equal(reg._input_scale, before)
    assert np.array_equal(reg.coefs_[0], frozen) == (given == "frozen layers")


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"learning_rate_init": 3.0}, r"are off, .*Lower learning_rate_init \(now 3\)"),
        ({"learning_rate_init": 50.0, "pretrainer": "rbm", "solver": "sgd"}, r"Lower"),
    ],
)
def test_idle_layers_of_a_network_warn(params, says):
    """It predicted one class for all rows, and nothing was said."""
    X, y = load_digits(return_X_y=True)
    clf = GreedyPretrainedMLPClassifier((32,), max_iter=30, random_state=0, **params)
    wanted = rf"hidden units of Gre\w+, layer 1, are constant: .*{says}"
    with pytest.warns(UserWarning, match=wanted):
        clf.fit(X / 16, y)
    assert len(np.unique(clf.predict(X / 16))) < 10


@pytest.mark.parametrize("name", [None, *PRETRAINERS])
def test_partial_fit_is_one_epoch_in_order(mlp_class, name, iris):
    X, y = iris
    pretrainer = PRETRAINERS.get(name)
    mlp = build(mlp_class, pretrainer=pretrainer, max_iter=1, shuffle=False)
    once = clone(mlp)
    first = {"classes": [0, 1, 2]} if mlp_class is GreedyPretrainedMLPClassifier else {}
    once.partial_fit(X, y, **first)
    assert_same(once, mlp.fit(X, y))
    if pretrainer is None:
        assert_same(once.partial_fit(X, y), clone(mlp).set_params(max_iter=2).fit(X, y))


def test_partial_fit_after_fit_and_after_a_memory_map(mlp_class, iris, tmp_path):
    X, y = iris
    mlp = build(mlp_class, pretrainer=PRETRAINERS["rbm"]).fit(X, y).partial_fit(X, y)
    joblib.dump(mlp, tmp_path / "mlp.joblib")
    loaded = joblib.load(tmp_path / "mlp.joblib", mmap_mode="r")
    assert_allclose(loaded.predict(X), mlp.predict(X))
    assert_same(loaded.partial_fit(X, y), mlp.partial_fit(X, y))


def test_chunks_after_a_fit_know_nothing_of_chunks_before_it(mlp_class, iris):
    X, y = iris
    classes = [[0, 1, 2]] if mlp_class is GreedyPretrainedMLPClassifier else []
    fresh = build(mlp_class).fit(X, y)
    used = build(mlp_class).partial_fit(X, y, *classes).fit(X, y)
    assert_same(used.partial_fit(X, y), fresh.partial_fit(X, y))


def test_later_chunks_leave_the_precision_of_the_network(mlp_class, iris):
    X, y = iris
    X32 = X.astype(np.float32)
    mlp = build(mlp_class).fit(X32, y).partial_fit(X, y)
    assert {array.dtype for array in mlp.coefs_ + mlp.intercepts_} == {X32.dtype}


def test_partial_fit_learns(iris):
    X, y = iris
    clf = classifier(pretrainer=PRETRAINERS["autoencoder"], learning_rate_init=0.02)
    clf.partial_fit(X, y, [0, 1, 2])
    for _ in range(40):
        for part in range(3):
            clf.partial_fit(X[part::3], y[part::3])
    assert clf.score(X, y) > 0.9
    assert clf.best_loss_ == min(clf.loss_curve_)


@pytest.mark.parametrize(
    "bad", [{"learning_rate_init": -1}, {"batch_size": 0}, {"dropout": 1.5}]
)
def test_later_chunks_check_the_parameters_too(bad, iris):
    network = GreedyPretrainedMLPClassifier((4,)).partial_fit(*iris, classes=[0, 1, 2])
    with pytest.raises(InvalidParameterError, match=next(iter(bad))):
        network.set_params(**bad).partial_fit(*iris)


def test_partial_fit_refuses_early_stopping(mlp_class, iris):
    with pytest.raises(ValueError, match="early_stopping"):
        build(mlp_class, early_stopping=True).partial_fit(
            *iris, **({"classes": [0, 1, 2]} if "Class" in mlp_class.__name__ else {})
        )


# --- stopping and warm start ----------------------------------------------------


def test_held_out_rows_keep_the_proportions_of_the_classes(rng):
    """Also with more than two classes, where scikit-learn's MLP does not."""
    held_out = []

    class Recorder(GreedyPretrainedMLPClassifier):
        def _held_out_score(self, y, means, weights):
            held_out.append(np.bincount(y, minlength=3).tolist())
            return super()._held_out_score(y, means, weights)

    y = rng.permutation(np.repeat(["a", "b", "c"], [200, 60, 20]))
    X = rng.normal(size=(280, 3))
    for seed in range(3):
        build(Recorder, early_stopping=True, random_state=seed, max_iter=1).fit(X, y)
    assert held_out == [[20, 6, 2]] * 3


def test_early_stopping_keeps_the_best_parameters(mlp_class, iris):
    X, y = iris
    params = {"early_stopping": True, "learning_rate_init": 0.1, "max_iter": 100}
    mlp = build(mlp_class, **params, validation_fraction=0.3, batch_size=20).fit(X, y)
    scores = mlp.validation_scores_
    assert len(scores) == len(mlp.loss_curve_) == mlp.n_iter_ < 100
    assert mlp.best_validation_score_ == max(scores)
    assert mlp.best_loss_ is None
    best = int(np.argmax(scores)) + 1
    assert best < mlp.n_iter_
    assert_same(mlp, clone(mlp).set_params(max_iter=best).fit(X, y))


def test_without_early_stopping_the_best_loss_is_kept(mlp_class, iris):
    mlp = build(mlp_class, max_iter=10).fit(*iris)
    assert mlp.validation_scores_ is None
    assert mlp.best_validation_score_ is None
    assert mlp.best_loss_ == min(mlp.loss_curve_)
    assert mlp.loss_ == mlp.loss_curve_[-1]
    assert mlp.n_iter_ == len(mlp.loss_curve_) == 10
    assert mlp.t_ == 1500
    assert mlp.n_layers_ == 3


def test_reaching_max_iter_warns(mlp_class, iris):
    with pytest.warns(ConvergenceWarning, match="max_iter=3"):
        build(mlp_class).fit(*iris)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        build(mlp_class, tol=1e9, max_iter=50).fit(*iris)


def test_warm_start_goes_on_without_pretraining(mlp_class, iris):
    X, y = iris
    mlp = build(mlp_class, pretrainer=PRETRAINERS["autoencoder"], warm_start=True)
    mlp.set_params(max_iter=40, learning_rate_init=0.01).fit(X, y)
    stack, first = mlp.pretrainer_, list(mlp.loss_curve_)
    mlp.fit(X, y)
    assert mlp.pretrainer_ is stack
    assert mlp.n_iter_ == 40
    last = mlp.loss_curve_[-40:]
    assert first[0] - last[0] > 0.8 * (first[0] - first[-1]) > 0
    assert last[-1] < first[-1]


def test_warm_start_with_other_classes_raises(iris):
    X, y = iris
    clf = classifier(warm_start=True).fit(X, y)
    with pytest.raises(ValueError, match="class"):
        clf.fit(X, y + 1)
    with pytest.raises(ValueError, match="class"):
        clf.fit(X[:100], y[:100])
    with pytest.raises(ValueError, match="features"):
        clf.fit(X[:, :2], y)


def test_warm_start_with_changed_sizes_raises(mlp_class, iris):
    mlp = build(mlp_class, warm_start=True).fit(*iris)
    with pytest.raises(ValueError, match=r"hidden_layer_sizes=\(9,\)"):
        mlp.set_params(hidden_layer_sizes=(9,)).fit(*iris)


def test_divergence_names_place_epoch_and_parameter(mlp_class, iris):
    mlp = build(mlp_class, solver="sgd", learning_rate_init=1e38, max_iter=20)
    expected = r"epoch \d+: .*Lower learning_rate_init \(now 1e\+38\)"
    with pytest.raises(ValueError, match=expected):
        mlp.fit(*iris)
    with pytest.raises(NotFittedError):
        mlp.predict(iris[0])


def test_interrupted_refit_leaves_the_earlier_fit(mlp_class, iris):
    X, y = iris

    class Interrupted(mlp_class):
        def _adopt(self, model, dtype, start):
            raise KeyboardInterrupt

    mlp = build(mlp_class, pretrainer=PRETRAINERS["rbm"]).fit(X, y)
    before, predicted = joblib.hash(vars(mlp)), mlp.predict(X)
    mlp.__class__ = Interrupted
    with pytest.raises(KeyboardInterrupt):
        mlp.fit(X[:100] * 3, y[:100])
    mlp.__class__ = mlp_class
    assert joblib.hash(vars(mlp)) == before
    assert_array_equal(mlp.predict(X), predicted)


# --- forms of input, determinism, citizenship -----------------------------------


@pytest.mark.parametrize("name", [None, *PRETRAINERS])
def test_float32_is_kept(mlp_class, name, iris):
    X, y = iris[0].astype(np.float32), iris[1]
    mlp = build(mlp_class, pretrainer=PRETRAINERS.get(name)).fit(X, y)
    assert {array.dtype for array in mlp.coefs_ + mlp.intercepts_} == {X.dtype}
    assert mlp._output_means(X).dtype == np.float32
    double = build(mlp_class, pretrainer=PRETRAINERS.get(name)).fit(*iris)
    assert_close(mlp, double, rtol=0.02, atol=1e-3)


@pytest.mark.parametrize("to_sparse", [sparse.csr_array, sparse.csr_matrix])
def test_csr_gives_the_result_of_dense(mlp_class, to_sparse, few_digits):
    X, y = few_digits
    S = to_sparse(X)
    for pretrainer in (None, PRETRAINERS["rbm"], PRETRAINERS["autoencoder"]):
        mlp = build(mlp_class, pretrainer=pretrainer)
        dense, csr = clone(mlp).fit(X, y), clone(mlp).fit(S, y)
        assert_close(dense, csr, rtol=1e-4, atol=1e-5)
        assert_allclose(csr.predict(S), dense.predict(X), rtol=1e-4)
        dense.partial_fit(X[:50], y[:50])
        csr.partial_fit(S[:50], y[:50])
        assert_close(dense, csr, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "frame",
    [
        lambda X: pd.DataFrame(X, columns=list("abcd")),
        lambda X: pl.DataFrame(X, schema=list("abcd")),
    ],
    ids=["pandas", "polars"],
)
def test_data_frames(mlp_class, frame, iris):
    X, y = iris
    mlp = build(mlp_class, pretrainer=PRETRAINERS["rbm"]).fit(frame(X), y)
    assert mlp.feature_names_in_.tolist() == list("abcd")
    plain = clone(mlp).fit(X, y)
    assert_close(mlp, plain, rtol=1e-5, atol=1e-7)
    assert_allclose(mlp.predict(frame(X)), plain.predict(X), rtol=1e-5)


def test_inputs_are_never_changed(mlp_class, iris):
    X, y = iris[0].copy(), iris[1].copy()
    mlp = build(mlp_class, pretrainer=PRETRAINERS["rbm"]).fit(X, y).partial_fit(X, y)
    mlp.predict(X)
    assert_array_equal(X, iris[0])
    assert_array_equal(y, iris[1])


def test_random_state(mlp_class, iris):
    for pretrainer in (None, "rbm", PRETRAINERS["autoencoder"]):
        mlp = build(mlp_class, pretrainer=pretrainer, hidden_layer_sizes=None)
        if pretrainer is None or pretrainer == "rbm":
            mlp.set_params(hidden_layer_sizes=(6,))
        rng = np.random.RandomState(1)
        one = clone(mlp).fit(*iris)
        assert_same(one, clone(mlp).fit(*iris))
        first = clone(mlp).set_params(random_state=1).fit(*iris)
        advancing = [
            mlp.set_params(random_state=rng).fit(*iris).coefs_[0].copy()
            for _ in range(2)
        ]
        assert_array_equal(advancing[0], first.coefs_[0])
        assert not np.array_equal(*advancing)


def test_verbose_prints_a_line_per_epoch_and_changes_nothing(mlp_class, iris, capsys):
    quiet = build(mlp_class, early_stopping=True).fit(*iris)
    assert capsys.readouterr().out == ""
    loud = build(mlp_class, early_stopping=True, verbose=True).fit(*iris)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert f"{loud.loss_curve_[-1]:.6f}" in lines[-1]
    assert f"{loud.validation_scores_[-1]:.6f}" in lines[-1]
    assert_same(quiet, loud)


def test_grid_search_over_the_pretrainer_in_parallel(few_digits):
    X, y = few_digits
    stack = StackedRBMTransformer((16,), max_iter=5, random_state=0)
    clf = classifier(pretrainer=stack, max_iter=5, learning_rate_init=0.02)
    prefix = "greedypretrainedmlpclassifier__"
    grid = {
        f"{prefix}pretrainer__learning_rate": [1e-6, 0.2],
        f"{prefix}alpha": [1e-4, 1e-2],
    }
    pipeline = make_pipeline(MinMaxScaler(), clf)
    search = GridSearchCV(pipeline, grid, cv=2, n_jobs=2).fit(X, y)
    serial = GridSearchCV(pipeline, grid, cv=2, n_jobs=1).fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    assert_allclose(scores, serial.cv_results_["mean_test_score"])
    assert len(set(scores)) > 1


def test_parameters_are_stored_as_given(mlp_class):
    stack = StackedRBMTransformer((5,))
    mlp = mlp_class(pretrainer=stack)
    assert mlp.get_params()["pretrainer"] is stack
    mlp.set_params(pretrainer__learning_rate=0.3, alpha=0.5)
    assert stack.learning_rate == 0.3
    copy = clone(mlp)
    assert copy.pretrainer is not stack
    assert copy.get_params()["pretrainer__learning_rate"] == 0.3
    assert copy.alpha == 0.5


def test_representations(mlp_class, iris):
    mlp = build(mlp_class, pretrainer=PRETRAINERS["rbm"])
    assert repr(mlp).startswith(f"{mlp_class.__name__}(")
    assert "pretrainer=StackedRBMTransformer(" in repr(mlp)
    assert repr(mlp_class()) == f"{mlp_class.__name__}()"
    for estimator in (mlp, clone(mlp).fit(*iris)):
        html = estimator._repr_html_()
        assert mlp_class.__name__ in html
        assert "StackedRBMTransformer" in html


def test_stored_model_is_the_same_model(mlp_class, iris):
    X, y = iris
    mlp = build(mlp_class, pretrainer=PRETRAINERS["rbm"]).fit(X, y).partial_fit(X, y)
    loaded = pickle.loads(pickle.dumps(mlp))
    assert_array_equal(loaded.predict(X), mlp.predict(X))
    assert_same(loaded.partial_fit(X, y), mlp.partial_fit(X, y))


def test_fitted_state_is_plain(mlp_class, iris):
    mlp = build(mlp_class, pretrainer=PRETRAINERS["rbm"]).fit(*iris).partial_fit(*iris)
    for leaf in leaves(mlp):
        assert (
            leaf is None or type(leaf) is np.ndarray or isinstance(leaf, str | Number)
        )


# --- open doors ------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "logistic", "tanh", "identity"])
@pytest.mark.parametrize(
    "targets", ["two classes", "classes", "multilabel", "numbers", "outputs"]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_native_network_predicts_the_same(activation, targets, dtype, iris):
    X, code = iris
    X = X.astype(dtype)
    y = {
        "two classes": np.array(["no", "yes"])[(code == 1) * 1],
        "classes": np.array(["a", "b", "c"])[code],
        "multilabel": np.eye(3, dtype=int)[code],
        "numbers": X[:, 0] * 3 + 1,
        "outputs": X[:, :2] * 3 + 1,
    }[targets]
    regression = targets in ("numbers", "outputs")
    cls = GreedyPretrainedMLPRegressor if regression else GreedyPretrainedMLPClassifier
    stack = StackedAutoencoderTransformer((5, 3), activation=activation, max_iter=2)
    ours = cls(pretrainer=stack, max_iter=3, random_state=0).fit(X, y)
    native = ours.to_mlp()
    assert type(native) is (MLPRegressor if regression else MLPClassifier)
    assert native.hidden_layer_sizes == (5, 3)
    if regression:
        assert_allclose(native.predict(X), ours.predict(X), rtol=1e-4, atol=1e-5)
        return
    assert_array_equal(native.predict(X), ours.predict(X))
    assert_allclose(native.predict_proba(X), ours.predict_proba(X), rtol=1e-3)
    assert_array_equal(native.classes_, ours.classes_)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_native_network_shares_nothing_with_ours(iris):
    ours = GreedyPretrainedMLPClassifier((4,), max_iter=2, random_state=0).fit(*iris)
    native = clone(ours).fit(*iris).to_mlp()
    native.coefs_[0][...] = 0
    assert np.any(ours.coefs_[0] != 0)
    assert native.get_params()["alpha"] == ours.alpha
    assert clone(native).fit(*iris).score(*iris) > 0  # trains on its own


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("regression", [False, True])
def test_native_network_trains_on(regression, early_stopping, iris):
    """It did while its loss fell, and then missed an attribute."""
    X, y = iris
    cls = GreedyPretrainedMLPRegressor if regression else GreedyPretrainedMLPClassifier
    ours = cls((4,), max_iter=60, early_stopping=early_stopping, random_state=0)
    native = ours.fit(X, y).to_mlp()
    worse = y[::-1].copy()  # at first the loss is far above the last one
    if early_stopping:
        native.set_params(warm_start=True, max_iter=80).fit(X, worse)
        assert len(native.loss_curve_) > len(ours.loss_curve_)
        return
    before = native.score(X, worse)
    for _ in range(60):
        native.partial_fit(X, worse)
    assert native.score(X, worse) > before


@pytest.mark.parametrize("activation", ["elu", ["relu", "tanh"]])
def test_what_no_native_network_has_raises(activation, iris):
    stack = StackedAutoencoderTransformer((5, 3), activation=activation, max_iter=1)
    ours = GreedyPretrainedMLPClassifier(pretrainer=stack, max_iter=2, random_state=0)
    with pytest.raises(ValueError, match="hidden activations are"):
        ours.fit(*iris).to_mlp()


def test_hidden_activations_lead_to_the_output(iris):
    X, y = iris
    stack = StackedAutoencoderTransformer((5, 3), activation=["relu", "tanh"])
    ours = GreedyPretrainedMLPRegressor(pretrainer=stack, max_iter=2, random_state=0)
    ours.fit(X, y)
    first, last = ours.hidden_activations(X, 0), ours.hidden_activations(X)
    assert_allclose(first, np.maximum(X @ ours.coefs_[0] + ours.intercepts_[0], 0))
    assert_array_equal(last, ours.hidden_activations(X, 1))
    assert_array_equal(first, ours.hidden_activations(X, -2))
    output = last @ ours.coefs_[-1] + ours.intercepts_[-1]
    assert_allclose(output.ravel(), ours.predict(X))
    with pytest.raises(ValueError, match=r"layer=2, .* are numbered 0 to 1\."):
        ours.hidden_activations(X, 2)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_cosine_lets_networks_settle(solver, iris):
    """The last of many epochs moves next to nothing, unlike at a constant rate, so that
    nothing is said of more epochs.
    """
    params = {"solver": solver, "max_iter": 100, "learning_rate_init": 0.01}
    params |= {"tol": 0, "n_iter_no_change": np.inf, "batch_size": 15}
    moved = {}
    for learning_rate in ("constant", "cosine"):
        clf = classifier(learning_rate=learning_rate, **params)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            clf.fit(*iris)
        assert len(told) == (learning_rate == "constant")
        moved[learning_rate] = abs(clf.loss_curve_[-1] - clf.loss_curve_[-2])
    assert moved["cosine"] < 0.01 * moved["constant"]


@pytest.mark.parametrize("learning_rate", ["invscaling", "adaptive"])
def test_schedules_slow_fine_tuning_down(learning_rate, iris):
    params = {"solver": "sgd", "learning_rate_init": 0.1, "pretrainer": None}
    params |= {"max_iter": 60, "tol": 0.02, "n_iter_no_change": 2, "random_state": 0}
    params |= {"momentum": 0.0}
    constant = GreedyPretrainedMLPClassifier((5,), **params).fit(*iris)
    params |= {"learning_rate": learning_rate, "power_t": 5.0}
    slowed = GreedyPretrainedMLPClassifier((5,), **params).fit(*iris)
    assert slowed.loss_curve_[0] == constant.loss_curve_[0]
    if learning_rate == "adaptive":
        assert slowed.n_iter_ > constant.n_iter_
    else:  # the rate is next to 0 after the first epoch
        assert slowed.loss_curve_[2] == pytest.approx(slowed.loss_curve_[1], abs=1e-5)


def test_inverse_scaling_counts_the_rows_of_earlier_chunks(iris):
    """With the first rate for every chunk a network would look just as trained."""
    steps = {}
    for learning_rate in ("constant", "invscaling"):
        params = {"solver": "sgd", "momentum": 0.0, "learning_rate": learning_rate}
        clf = classifier(**params, batch_size=150, learning_rate_init=0.01)
        before = clf.partial_fit(*iris, [0, 1, 2]).coefs_[0].copy()
        steps[learning_rate] = clf.partial_fit(*iris).coefs_[0] - before
    slower = np.sqrt(151)  # power_t is 0.5
    assert_allclose(slower * steps["invscaling"], steps["constant"], atol=1e-5)


# --- L-BFGS ----------------------------------------------------------------------

LBFGS = {"solver": "lbfgs", "pretrainer": None, "random_state": 0}


def test_lbfgs_ends_at_a_minimum(iris):
    """The gradient of the objective vanishes, by central differences."""
    X, y = iris
    clf = GreedyPretrainedMLPClassifier(
        (3,), activation="tanh", alpha=0.5, tol=1e-7, max_iter=5000, **LBFGS
    ).fit(X, y)

    def objective(coefs, intercepts):
        h = np.tanh(X @ coefs[0] + intercepts[0])
        z = h @ coefs[1] + intercepts[1]
        loss = np.mean(logsumexp(z, axis=1) - z[np.arange(len(y)), y])
        return loss + 0.5 / (2 * len(y)) * sum((w**2).sum() for w in coefs)

    assert clf.loss_ == pytest.approx(objective(clf.coefs_, clf.intercepts_), rel=1e-9)
    for array in (*clf.coefs_, *clf.intercepts_):
        for place in np.ndindex(array.shape):
            value, ends = array[place], []
            for step in (1e-5, -1e-5):
                array[place] = value + step
                ends.append(objective(clf.coefs_, clf.intercepts_))
            array[place] = value
            assert abs(ends[0] - ends[1]) / 2e-5 < 1e-4


def test_lbfgs_regression_without_hidden_layers_is_ridge(iris):
    X, y = iris[0], iris[0] @ [1.0, -2.0, 0.5, 0.0] + 3
    y += np.random.default_rng(0).normal(size=len(y))
    ours = GreedyPretrainedMLPRegressor(
        (), alpha=1.0, tol=1e-9, max_iter=1000, **LBFGS
    ).fit(X, y)
    ridge = Ridge(alpha=1.0).fit(X, y)
    assert_allclose(ours.coefs_[0].ravel(), ridge.coef_, rtol=1e-4)
    assert_allclose(ours.intercepts_[0], ridge.intercept_, rtol=1e-6)


def test_lbfgs_says_that_it_was_stopped(iris):
    with pytest.warns(ConvergenceWarning, match=r"after 3 iterations .*max_iter=3"):
        clf = GreedyPretrainedMLPClassifier((3,), max_iter=3, **LBFGS).fit(*iris)
    assert clf.n_iter_ == len(clf.loss_curve_) == 3
    with pytest.warns(ConvergenceWarning, match="max_fun=2"):
        GreedyPretrainedMLPClassifier((3,), max_fun=2, **LBFGS).fit(*iris)


def test_lbfgs_stops_sooner_with_a_larger_tol(iris):
    coarse, fine = (
        GreedyPretrainedMLPClassifier((4,), max_iter=500, tol=tol, **LBFGS).fit(*iris)
        for tol in (0.1, 1e-4)
    )
    assert coarse.n_iter_ < fine.n_iter_
    assert fine.loss_ < coarse.loss_


def test_lbfgs_says_that_it_diverged(iris):
    X, y = iris
    with (
        np.errstate(all="ignore"),
        pytest.raises(ValueError, match=r"Training diverged .* the loss is"),
    ):
        regressor(solver="lbfgs").fit(X, 1e200 * y)


def test_lbfgs_starts_from_the_pretrainer(iris):
    stack = StackedAutoencoderTransformer((5,), max_iter=5)
    params = {"max_iter": 1, "random_state": 0}
    clf = GreedyPretrainedMLPClassifier(pretrainer=stack, solver="lbfgs", **params)
    with pytest.warns(ConvergenceWarning):
        clf.fit(*iris)
    moved = np.abs(clf.coefs_[0] - clf.pretrainer_.coefs_[0]).max()
    assert 0 < moved < 1


def test_what_lbfgs_cannot_do(iris):
    clf = GreedyPretrainedMLPClassifier((3,), early_stopping=True, **LBFGS)
    with pytest.raises(ValueError, match="set early_stopping=False"):
        clf.fit(*iris)
    assert not hasattr(clf, "partial_fit")
    assert hasattr(clf.set_params(solver="adam"), "partial_fit")


# --- weights of rows and classes -------------------------------------------------

HEADS = ["classes", "two classes", "multilabel", "numbers"]


def head_targets(head, X, code):
    return {
        "classes": code,
        "two classes": (code == 1) * 1,
        "multilabel": np.eye(3, dtype=int)[code],
        "numbers": X[:, 0] * 3 + 1,
    }[head]


def weighted_pair(head, iris, **params):
    """Fits on weighted rows and on rows repeated as often, which are more: with as many
    it stayed unnoticed whether the penalty goes by the rows or by their weights.
    """
    X, code = iris
    y = head_targets(head, X, code)
    cls = (
        GreedyPretrainedMLPRegressor
        if head == "numbers"
        else GreedyPretrainedMLPClassifier
    )
    counts = np.arange(len(X)) % 4
    mlp = cls((4,), random_state=0, **params)
    weighted = clone(mlp).fit(X, y, sample_weight=counts)
    repeated = clone(mlp).fit(np.repeat(X, counts, axis=0), np.repeat(y, counts, 0))
    return weighted, repeated


@pytest.mark.parametrize("head", HEADS)
def test_a_weight_of_two_is_the_row_twice_for_lbfgs(head, iris):
    params = {"solver": "lbfgs", "pretrainer": None, "max_iter": 40, "alpha": 1.0}
    weighted, repeated = weighted_pair(head, iris, **params)
    assert weighted.loss_ == pytest.approx(repeated.loss_, rel=1e-6)
    assert_allclose(weighted.coefs_[0], repeated.coefs_[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("head", HEADS)
def test_a_weight_of_two_is_the_row_twice_in_one_batch(head, iris):
    params = {"pretrainer": None, "max_iter": 20, "batch_size": 500, "shuffle": False}
    weighted, repeated = weighted_pair(head, iris, **params)
    assert_allclose(weighted.loss_curve_, repeated.loss_curve_, rtol=1e-5)
    for ours, theirs in zip(weighted.coefs_, repeated.coefs_, strict=True):
        assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)


def test_equal_weights_are_none(mlp_class, iris):
    mlp = mlp_class((4,), max_iter=3, random_state=0)
    plain = clone(mlp).fit(*iris)
    equal = clone(mlp).fit(*iris, sample_weight=np.full(150, 2.5))
    if mlp_class is GreedyPretrainedMLPClassifier:  # the penalty goes by their sum
        equal = (
            clone(mlp)
            .set_params(alpha=2.5e-4)
            .fit(*iris, sample_weight=np.full(150, 2.5))
        )
    assert_allclose(equal.coefs_[0], plain.coefs_[0], rtol=1e-3, atol=1e-5)


def test_weights_of_the_user_are_left_alone(iris):
    weight = np.linspace(0.5, 1.5, 150)
    before = weight.copy()
    clf = GreedyPretrainedMLPClassifier((4,), class_weight={0: 3.0}, max_iter=1)
    clf.fit(*iris, sample_weight=weight)
    clf.partial_fit(*iris, sample_weight=weight)
    assert_array_equal(weight, before)


@pytest.mark.parametrize(("method", "n_calls"), [("fit", 1), ("partial_fit", 150)])
def test_targets_are_scaled_by_weight(method, n_calls, iris):
    X = iris[0]
    y, weight = X[:, 0].copy(), np.ones(150)
    y[:20], weight[:20] = 1e6, 0.0
    params = {"max_iter": 300, "tol": 0, "random_state": 0}
    reg = GreedyPretrainedMLPRegressor((16,), **params)
    for _ in range(n_calls):
        getattr(reg, method)(X, y, sample_weight=weight)
    assert reg.score(X[20:], y[20:]) > 0.9


@pytest.mark.parametrize("head", ["classes", "multilabel"])
def test_class_weights_are_sample_weights(head, iris):
    X, code = iris
    y = head_targets(head, X, code)
    balanced = {"classes": {0: 1.0, 1: 5.0, 2: 0.5}, "multilabel": "balanced"}[head]
    mlp = GreedyPretrainedMLPClassifier((4,), max_iter=3, random_state=0)
    by_class = clone(mlp).set_params(class_weight=balanced).fit(X[20:], y[20:])
    weight = compute_sample_weight(balanced, y[20:])
    by_row = clone(mlp).fit(X[20:], y[20:], sample_weight=weight)
    assert_array_equal(by_class.coefs_[0], by_row.coefs_[0])


def test_balanced_classes_find_the_rare_one(rng):
    X = np.r_[rng.normal(0, 1, (950, 2)), rng.normal(1.5, 1, (50, 2))]
    y = np.repeat(["often", "rare"], [950, 50])
    params = {"pretrainer": None, "max_iter": 50, "random_state": 0}
    plain = GreedyPretrainedMLPClassifier((8,), **params).fit(X, y)
    balanced = GreedyPretrainedMLPClassifier((8,), class_weight="balanced", **params)
    found = [np.mean(m.predict(X[950:]) == "rare") for m in (plain, balanced.fit(X, y))]
    assert found[1] > found[0] + 0.2


def test_validation_score_is_weighted(iris):
    X, y = iris
    clf = GreedyPretrainedMLPClassifier(
        (4,), pretrainer=None, early_stopping=True, max_iter=2, random_state=0
    )
    weight = np.where(y == 0, 1.0, 1e-9)
    scores = clf.fit(X, y, sample_weight=weight).validation_scores_
    assert_allclose(scores, np.round(scores), atol=1e-6)  # all of class 0 or nothing


def test_validation_loss_is_weighted():
    """Rows of a class are alike, so that those held out lose what all rows lose."""
    y = np.arange(100) % 2
    X, weight = np.eye(2)[y], np.where(y == 0, 1.0, 9.0)
    clf = classifier(early_stopping=True, max_iter=1).fit(X, y, sample_weight=weight)
    expected = log_loss(y, clf.predict_proba(X), sample_weight=weight)
    assert_allclose(clf.validation_loss_curve_, [expected], rtol=1e-5)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.zeros(150), "at least one non-zero"),
        (np.full(150, -1.0), "[Nn]egative"),
        (np.ones(3), "shape"),
        (np.full(150, np.nan), "NaN"),
    ],
)
def test_impossible_weights_raise(mlp_class, weight, message, iris):
    with pytest.raises(ValueError, match=message):
        mlp_class((4,)).fit(*iris, sample_weight=weight)


def test_partial_fit_takes_weights(mlp_class, iris):
    X, y = iris
    classes = [[0, 1, 2]] if mlp_class is GreedyPretrainedMLPClassifier else []
    weight = np.repeat([0.0, 1.0], 75)
    params = {"solver": "sgd", "pretrainer": None, "batch_size": 75}
    mlp = mlp_class((4,), random_state=0, **params)
    both = clone(mlp).partial_fit(X, y, *classes, sample_weight=weight)
    half = clone(mlp).partial_fit(X[75:], y[75:], *classes)
    # The batch of zeros is left out; the penalty is over the weights.
    assert_allclose(both.coefs_[0], half.coefs_[0], rtol=1e-5, atol=1e-7)


def test_classes_of_a_chunk_need_not_all_have_a_weight(iris):
    """Chunks without the class that class_weight names once failed."""
    X, y = iris
    clf = classifier(class_weight={2: 5.0}).partial_fit(X, y, [0, 1, 2])
    plain = classifier().partial_fit(X, y, [0, 1, 2], sample_weight=1 + 4.0 * (y == 2))
    assert_same(clf, plain)
    assert_same(clf.partial_fit(X[:99], y[:99]), plain.partial_fit(X[:99], y[:99]))


def test_multilabel_classes_are_weighed_by_a_list(iris):
    X, code = iris
    y = head_targets("multilabel", X, code)
    weights = [{0: 1.0, 1: 3.0}] + [{0: 1.0, 1: 1.0}] * (y.shape[1] - 1)
    by_class = classifier(class_weight=weights).fit(X, y)
    by_row = classifier().fit(X, y, sample_weight=1 + 2.0 * y[:, 0])
    assert_same(by_class, by_row)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({7: 2.0}, r"has the classes \[7\]"),
        ([{0: 1.0, 1: 2.0}] * 3, "belongs to multilabel"),
        ({0: 0.0, 1: 0.0, 2: 0.0}, "leaves none of the 150"),
        ({0: -1.0}, "finite and not negative"),
        ({0: np.nan}, "finite and not negative"),
    ],
)
def test_class_weights_that_do_not_fit_raise(weights, message, iris):
    with pytest.raises(ValueError, match=message):
        classifier(class_weight=weights).fit(*iris)


def test_chunks_cannot_be_balanced(iris):
    with pytest.raises(ValueError, match="counts of all rows"):
        classifier(class_weight="balanced").partial_fit(*iris, [0, 1, 2])


@pytest.mark.parametrize("size", [1e-50, 1e40])
def test_weights_of_any_size_act_by_their_ratios(size, iris):
    """In float32 they once were 0 or infinite."""
    weight = np.where(iris[1] == 0, 1.0, 2.0)
    params = {"alpha": 0.0, "batch_size": 32}  # alpha goes by their sum
    one = classifier(**params).fit(*iris, sample_weight=weight)
    other = classifier(**params).fit(*iris, sample_weight=size * weight)
    assert_close(one, other, rtol=1e-5)


def test_held_out_rows_have_a_weight(iris):
    """Bagging gives rows a weight of 0; all that were held out could once have it."""
    held_out = []

    class Recorder(GreedyPretrainedMLPClassifier):
        def _held_out_score(self, y, means, weights):
            held_out.append(weights)
            return super()._held_out_score(y, means, weights)

    weight = np.zeros(150)
    weight[::25] = 1.0
    clf = build(Recorder, early_stopping=True, validation_fraction=0.5, max_iter=1)
    clf.fit(*iris, sample_weight=weight)
    assert np.all(np.isfinite(clf.validation_scores_))
    assert [len(weights) for weights in held_out] == [3]
    assert np.all(held_out[0] > 0)


def test_too_few_rows_to_hold_out_say_what_to_do(iris):
    X, y = iris
    with pytest.raises(ValueError, match=r"test_size = 2 .* Give X_val and y_val"):
        classifier(early_stopping=True).fit(X[::10], y[::10])


def test_one_held_out_row_of_a_regression_raises(iris):
    """R2 of one row is no number, which was once reported as divergence."""
    X, y = iris
    with pytest.raises(ValueError, match=r"at least two of them. Got 1"):
        regressor(early_stopping=True).fit(X[:10], y[:10])
    with pytest.raises(ValueError, match=r"at least two of them. Got 1"):
        regressor().fit(X, y, X_val=X[:1], y_val=y[:1])


def test_multilabel_targets_are_zeros_and_ones(iris):
    with pytest.raises(ValueError, match=r"must be 0 or 1. Got the values \[-1, 1\]"):
        classifier().fit(iris[0], 2 * np.eye(3, dtype=int)[iris[1]] - 1)


# --- head first, label smoothing -------------------------------------------------


def test_the_head_can_learn_first(mlp_class, iris):
    """It starts as the same layer trained alone on the features would."""
    X, y = iris
    stack = StackedAutoencoderTransformer((8,), max_iter=5, random_state=0).fit(X)
    params = {"batch_size": 16, "learning_rate_init": 0.01, "random_state": 0}
    mlp = mlp_class(pretrainer=FrozenEstimator(stack), **params)
    cold = clone(mlp).set_params(max_iter=1).fit(X, y)
    warm = clone(mlp).set_params(max_iter=1, head_max_iter=20).fit(X, y)
    assert len(warm.head_loss_curve_) == 20
    assert cold.head_loss_curve_ == []
    assert warm.head_loss_curve_[-1] < warm.head_loss_curve_[0]
    assert warm.loss_curve_[0] < cold.loss_curve_[0]
    assert warm.loss_curve_[0] < 1.1 * warm.head_loss_curve_[-1]


def test_the_head_alone_leaves_the_layers(mlp_class, iris):
    stack = StackedAutoencoderTransformer((8,), max_iter=5, random_state=0)
    stack.fit(iris[0])
    mlp = mlp_class(
        pretrainer=FrozenEstimator(stack),
        head_max_iter=10,
        max_iter=1,
        batch_size=150,
        learning_rate_init=1e-3,
        random_state=0,
    ).fit(*iris)
    # One step of Adam at most moved the layers below, ten and one the head.
    moved = np.abs((mlp.coefs_[0] - stack.coefs_[0]) * stack.visible_scale_[:, None])
    assert moved.max() < 1.1e-3


def test_frozen_layers_let_fine_tuning_go_on_where_the_head_stopped(mlp_class, iris):
    """Columns far from standard: the head must see the codes of the whole network."""
    X, y = 20 * iris[0] + 300, iris[1]
    stack = StackedAutoencoderTransformer((6,), max_iter=5, random_state=0).fit(X)
    params = {"solver": "sgd", "momentum": 0.0, "alpha": 0.0, "batch_size": 150}
    short, long = (
        build(
            mlp_class,
            pretrainer=FrozenEstimator(stack),
            n_frozen_layers=1,
            head_max_iter=n_epochs,
            max_iter=1,
            **params,
        ).fit(X, y)
        for n_epochs in (5, 6)
    )
    assert short.loss_ == pytest.approx(long.head_loss_curve_[-1], rel=1e-5)


def test_the_head_learns_for_its_epochs_and_with_dropout(mlp_class, iris):
    """tol and n_iter_no_change are those of fine-tuning alone."""
    stack = StackedAutoencoderTransformer((8,), max_iter=2, random_state=0)
    params = {"pretrainer": FrozenEstimator(stack.fit(iris[0])), "head_max_iter": 8}
    plain, dropped = (
        build(mlp_class, dropout=share, tol=1e9, n_iter_no_change=2, **params)
        .fit(*iris)
        .head_loss_curve_
        for share in (0.0, 0.5)
    )
    assert len(plain) == len(dropped) == 8
    assert plain[0] != dropped[0]


def test_without_a_pretrainer_there_is_no_head_phase(iris):
    clf = GreedyPretrainedMLPClassifier(
        (4,), pretrainer=None, head_max_iter=5, max_iter=1, random_state=0
    )
    assert clf.fit(*iris).head_loss_curve_ == []
    with pytest.raises(ValueError, match="set head_max_iter=0"):
        clf.set_params(solver="lbfgs").fit(*iris)


@pytest.mark.parametrize("head", ["classes", "two classes", "multilabel"])
def test_smoothed_labels_are_what_the_network_converges_to(head, iris):
    """Separable classes: without smoothing the probabilities go to 0 and 1."""
    X, code = iris[0], iris[1]
    keep = code != 2 if head != "classes" else np.ones(150, dtype=bool)
    X, y = X[keep], head_targets(head, X, code)[keep]
    X = np.eye(3)[code[keep]]  # separable for certain
    clf = GreedyPretrainedMLPClassifier(
        (6,), label_smoothing=0.3, alpha=0.0, tol=1e-8, **{**LBFGS, "max_iter": 2000}
    ).fit(X, y)
    n_classes = 3 if head == "classes" else 2
    low = 0.3 / n_classes
    proba = clf.predict_proba(X)
    assert_allclose(
        np.minimum(np.abs(proba - low), np.abs(proba - 0.7 - low)), 0, atol=2e-3
    )
    assert_array_equal(clf.predict(X), y)


# --- what a warm start meets -------------------------------------------------------


def test_warm_starts_meet_other_noise(digits):
    """The masks of dropout were those of the first epoch in each of the fits, and a
    network that trains epoch by epoch learned them by heart.
    """
    X, y = digits[0][:200], digits[1][:200]
    params = {"pretrainer": None, "dropout": 0.5, "input_dropout": 0.3}
    clf = GreedyPretrainedMLPClassifier(
        (50,), learning_rate_init=0.005, tol=0, random_state=0, **params
    )
    once = clone(clf).set_params(max_iter=100).fit(X, y)
    often = clf.set_params(max_iter=1, warm_start=True)
    for _ in range(100):
        often.fit(X, y)
    assert often.loss_ > 0.5 * once.loss_


def test_a_stream_after_a_fit_meets_other_noise(monkeypatch, iris):
    X, y = iris
    stack = StackedRBMTransformer((5,), max_iter=1, random_state=0)
    clf = GreedyPretrainedMLPClassifier(
        (5,), pretrainer=stack, max_iter=1, tol=0, random_state=0
    )
    seeds = []

    def spy(method):
        def call(self, *args):
            numbers = [arg for arg in args if getattr(arg, "dtype", None) == np.uint32]
            seeds.extend(tuple(number) for number in numbers)
            seeds.extend(tuple(arg.seed) for arg in args if hasattr(arg, "seed"))
            return method(self, *args)

        return call

    for cls in (GreedyPretrainedMLPClassifier, StackedRBMTransformer):
        monkeypatch.setattr(cls, "_build", spy(cls._build))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for estimator in (clf, stack):
            estimator.fit(X, y)
            first = set(seeds)
            seeds.clear()
            estimator.partial_fit(X, y).partial_fit(X, y)
            assert len(seeds) == 2
            assert len(set(seeds)) == 1  # a stream goes on by the number of updates
            assert not first & set(seeds)
            seeds.clear()


def test_a_pretrainer_that_is_changed_later_is_noticed(iris):
    X, y = iris
    stack = StackedRBMTransformer((5,), max_iter=1)
    clf = GreedyPretrainedMLPClassifier(
        pretrainer=stack, max_iter=3, warm_start=True, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        clf.fit(X, y).set_params(pretrainer__random_state=3, pretrainer__verbose=0)
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            warnings.simplefilter("ignore", ConvergenceWarning)
            clf.fit(X, y)
        for params in ({"pretrainer": None}, {"pretrainer": "rbm"}):
            other = clone(clf).fit(X, y).set_params(**params)
            with pytest.warns(UserWarning, match="has no effect: it was changed since"):
                other.fit(X, y)
            with pytest.warns(UserWarning, match="has no effect: it was changed since"):
                other.partial_fit(X, y)
        clf.set_params(pretrainer__hidden_layer_sizes=(99,))
        with pytest.warns(UserWarning, match="pretrainer=Stacked.* has no effect"):
            clf.fit(X, y)


def test_a_marker_that_is_a_fitted_class_raises(iris):
    X, y = iris
    clf = GreedyPretrainedMLPClassifier((4,), max_iter=2, random_state=0)
    clf.partial_fit(X, y, np.unique(y)).set_params(unlabeled=1)
    with pytest.raises(ValueError, match=r"unlabeled=1 is one of the fitted classes"):
        clf.partial_fit(X, y)


def test_a_pretrainer_that_is_the_same_is_not_taken_for_another(iris):
    X, y = iris
    frame = pd.DataFrame(X, columns=list("abcd"))
    selector = make_column_selector(pattern="a")
    stack = StackedRBMTransformer((5,), visible=[("gaussian", selector)], max_iter=9)
    weights = np.ones((4, 6))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        frozen = FrozenEstimator(clone(stack).fit(frame))
        for pretrainer in (stack, [weights], frozen):
            clf = GreedyPretrainedMLPClassifier(pretrainer=pretrainer, random_state=0)
            clf = pickle.loads(pickle.dumps(clf.partial_fit(frame, y, np.unique(y))))
            with np.printoptions(precision=1):
                clf.partial_fit(frame, y)
    other = weights.copy()
    other[2, 3] = 9
    clf = GreedyPretrainedMLPClassifier(pretrainer=[weights], random_state=0)
    clf.partial_fit(X, y, np.unique(y)).set_params(pretrainer=[other])
    with pytest.warns(UserWarning, match="has no effect"):
        clf.partial_fit(X, y)


def test_a_marker_of_several_labels_is_no_class(rng):
    y = rng.integers(0, 2, size=(60, 3))
    y[:20] = 2
    X = rng.normal(size=(60, 4))
    clf = GreedyPretrainedMLPClassifier(
        (4,), max_iter=2, unlabeled=2, warm_start=True, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        clf.fit(X, y).fit(X, y)
    assert clf.n_iter_ == 2
