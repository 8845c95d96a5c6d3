"""Graphs that onnxruntime runs give what the estimators give."""

import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from onnxruntime import InferenceSession
from skl2onnx import to_onnx
from skl2onnx.common.data_types import (
    DoubleTensorType,
    FloatTensorType,
    Int64TensorType,
    StringTensorType,
)
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_digits, load_iris, load_wine
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    KBinsDiscretizer,
    MinMaxScaler,
    OneHotEncoder,
    StandardScaler,
)

from sklearn_greedy import (
    GreedyPretrainedMLPClassifier,
    GreedyPretrainedMLPRegressor,
    StackedAutoencoderTransformer,
    StackedRBMClassifier,
    StackedRBMTransformer,
    register_onnx_converters,
)
from sklearn_greedy._network import ACTIVATIONS

register_onnx_converters()

FLOATS = [np.float32, np.float64]
WINE, WINE_CLASS = load_wine(return_X_y=True)
COUNTS = np.random.default_rng(0).poisson(WINE_CLASS + 1)
DEPTH = {"hidden_layer_sizes": (6, 4), "random_state": 0}


def run(model, X, **options):
    """Outputs of onnxruntime by name, for rows of this type."""
    graph = to_onnx(model, X[:1], options={id(model): options} if options else None)
    return run_graph(graph, X)


def run_graph(graph, X):
    session = InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    (given,) = session.get_inputs()
    return dict(zip(names, session.run(None, {given.name: X}), strict=True))


def assert_agrees(model, X, rtol=0):
    """Transformed rows, predictions or probabilities are within 1e-5."""
    if hasattr(model, "predict_proba"):
        out = run(model, X, zipmap=False)
        proba = model.predict_proba(X)
        assert_allclose(out["probabilities"], proba, rtol=0, atol=1e-5)
        assert_array_equal(out["label"], model.predict(X))
        assert out["probabilities"].dtype == X.dtype
        return
    (got,) = run(model, X).values()
    asked = model.predict(X) if hasattr(model, "predict") else model.transform(X)
    assert got.dtype == X.dtype
    assert_allclose(got, asked.reshape(len(X), -1), rtol=rtol, atol=1e-5)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_stack_of_autoencoders(activation, dtype):
    stack = StackedAutoencoderTransformer(activation=activation, max_iter=3, **DEPTH)
    assert_agrees(stack.fit(WINE), WINE.astype(dtype))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "options",
    [
        {"n_active": [2, None]},
        {"n_active": [3, 4], "activation": "logistic"},
        {"unrolled_max_iter": 2},
        {"tied_weights": False, "activation": ["tanh", "elu"]},
    ],
    ids=str,
)
def test_options_of_autoencoders(options, dtype):
    stack = StackedAutoencoderTransformer(max_iter=3, **DEPTH, **options)
    assert_agrees(stack.fit(WINE), WINE.astype(dtype))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("hidden", ["bernoulli", "relu", ["gaussian", "relu"]], ids=str)
def test_stack_of_rbms(hidden, dtype):
    stack = StackedRBMTransformer(hidden=hidden, max_iter=3, **DEPTH)
    assert_agrees(stack.fit(WINE), WINE.astype(dtype))


def test_tied_values_stay_together():
    """All units of a dead or saturated code have the largest value."""
    stack = StackedAutoencoderTransformer(
        (5,), activation="logistic", n_active=2, max_iter=1, random_state=0
    )
    stack.fit(np.eye(4))
    stack.coefs_[0][:] = 0
    stack.intercepts_[0][:] = [1, 1, 1, 0, 0]
    (got,) = run(stack, np.eye(4)).values()
    assert (got > 0).sum() == 12
    assert_agrees(stack, np.eye(4))


def test_mixed_columns():
    """Softmax groups, counts, 0/1 and gaussian columns, in both kinds of stacks."""
    rng = np.random.default_rng(0)
    group = np.eye(3)[rng.integers(3, size=80)]
    X = np.hstack([group, rng.poisson(3, (80, 2)), rng.random((80, 2)) < 0.5, group])
    X = np.hstack([X, rng.normal(500, 20, (80, 2))])
    pairs = [("softmax", slice(0, 3)), ("softmax", slice(7, 10))]
    counts = ("poisson", slice(3, 5))
    for stack in (
        StackedRBMTransformer(visible=[*pairs, counts], max_iter=2, **DEPTH),
        StackedAutoencoderTransformer(visible=pairs, max_iter=2, **DEPTH),
    ):
        assert_agrees(stack.fit(X), X.astype(np.float32))


def test_large_means_keep_their_digits():
    """Columns whose mean is far larger than their deviation: the product of raw rows
    and folded weights would lose four digits in float32.
    """
    rng = np.random.default_rng(0)
    X = rng.normal(1000, 0.5, (100, 5)).astype(np.float32)
    y = X[:, 0] > 1000
    stack = StackedAutoencoderTransformer(activation="tanh", max_iter=5, **DEPTH)
    clf = GreedyPretrainedMLPClassifier(pretrainer=stack, max_iter=5, random_state=0)
    for model in (stack, clf):
        assert_agrees(model.fit(X.astype(np.float64), y), X)


def labels_of(kind):
    """Targets for the rows of wine."""
    if kind == "multilabel":
        return np.stack([WINE_CLASS > 0, WINE_CLASS == 1], axis=1).astype(int)
    names = {
        "int": [5, -3, 2**40],
        "binary": [7, 9, 9],
        "string": ["b", "a", "\u00e9"],
        "binary string": ["no", "yes", "yes"],
        "float": [1.0, 2.0, 4.0],
        "bool": [False, True, True],
    }
    return np.array(names[kind])[WINE_CLASS]


KINDS = ["int", "binary", "string", "binary string", "float", "bool", "multilabel"]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", KINDS)
def test_network_classifier(kind, dtype):
    clf = GreedyPretrainedMLPClassifier((8, 5), max_iter=20, random_state=0)
    assert_agrees(clf.fit(WINE, labels_of(kind)), WINE.astype(dtype))


@pytest.mark.parametrize("hidden", ["bernoulli", "relu", "gaussian"])
@pytest.mark.parametrize("sizes", [(20,), (8, 20)])
@pytest.mark.parametrize("dtype", FLOATS)
def test_rbm_classifier(dtype, sizes, hidden):
    stack = StackedRBMTransformer(sizes, hidden=hidden, learning_rate=0.02, max_iter=99)
    clf = StackedRBMClassifier(stack, random_state=0).fit(WINE, labels_of("string"))
    assert clf.predict_proba(WINE).max() > 0.9
    assert_agrees(clf, WINE.astype(dtype))


def test_wide_rbm_classifier_in_float32():
    """Free energies of many units are large beside their differences."""
    X, y = load_digits(return_X_y=True)
    X = X.astype(np.float32)
    stack = StackedRBMTransformer((400,), visible="gaussian", hidden="relu")
    clf = StackedRBMClassifier(stack, random_state=0).fit(X[:500], y[:500])
    assert_agrees(clf, X[500:])


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("pretrainer", [None, "autoencoder"])
def test_activations_of_networks(activation, pretrainer):
    if pretrainer is not None:
        pretrainer = StackedAutoencoderTransformer((6,), activation=activation)
    clf = GreedyPretrainedMLPClassifier(
        (6,), pretrainer=pretrainer, activation=activation, max_iter=3, random_state=0
    )
    X = StandardScaler().fit_transform(WINE)
    assert_agrees(clf.fit(X, WINE_CLASS), X.astype(np.float32))


@pytest.mark.parametrize("pretrainer", ["rbm", "supervised", None])
def test_start_of_networks(pretrainer):
    clf = GreedyPretrainedMLPClassifier((6,), pretrainer=pretrainer, max_iter=3)
    assert_agrees(clf.fit(WINE, WINE_CLASS), WINE)


def test_network_without_hidden_layers():
    clf = GreedyPretrainedMLPClassifier((), pretrainer=None, max_iter=3)
    assert_agrees(clf.fit(WINE, WINE_CLASS), WINE)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("loss", "y"),
    [
        ("squared_error", WINE[:, -1]),
        ("squared_error", WINE[:, -3:]),
        ("poisson", COUNTS),
        ("poisson", np.stack([COUNTS, COUNTS + 2], axis=1)),
    ],
    ids=["one", "three", "counts", "two counts"],
)
def test_regressor(loss, y, dtype):
    """Within 1e-5 of targets that are up to a thousand, in units of the prediction."""
    reg = GreedyPretrainedMLPRegressor((6,), loss=loss, max_iter=30, random_state=0)
    reg.fit(WINE[:, :-3], y)
    n_outputs = 1 if y.ndim == 1 else y.shape[1]
    (got,) = run(reg, WINE[:, :-3].astype(dtype)).values()
    assert got.shape == (len(WINE), n_outputs)
    assert_agrees(reg, WINE[:, :-3].astype(dtype), rtol=1e-5)


@pytest.mark.parametrize("scaler", [StandardScaler(), MinMaxScaler()], ids=str)
@pytest.mark.parametrize("cls", [StackedRBMTransformer, StackedAutoencoderTransformer])
def test_between_a_scaler_and_a_linear_model(cls, scaler):
    X, y = load_digits(return_X_y=True)
    X, y = X[:400], y[:400]
    pipe = make_pipeline(
        clone(scaler),
        cls((12,), max_iter=3, random_state=0),
        LogisticRegression(max_iter=1000),
    )
    assert_agrees(pipe.fit(X, y), X.astype(np.float32))


@pytest.mark.parametrize(
    "last",
    [
        GreedyPretrainedMLPClassifier((6,), max_iter=5, random_state=0),
        StackedRBMClassifier(StackedRBMTransformer((6,), max_iter=5, random_state=0)),
    ],
    ids=lambda e: type(e).__name__,
)
def test_at_the_end_of_a_pipeline(last):
    pipe = make_pipeline(MinMaxScaler(), clone(last)).fit(WINE, WINE_CLASS)
    assert_agrees(pipe, WINE.astype(np.float32))


def test_regressor_at_the_end_of_a_pipeline():
    X, y = load_diabetes(return_X_y=True)
    reg = GreedyPretrainedMLPRegressor((6,), max_iter=5, random_state=0)
    pipe = make_pipeline(StandardScaler(), reg).fit(X, y)
    assert_agrees(pipe, X.astype(np.float32), rtol=1e-5)


def test_inside_a_search_and_a_calibration():
    clf = GreedyPretrainedMLPClassifier((4,), max_iter=3, random_state=0)
    X = WINE.astype(np.float32)
    search = GridSearchCV(clf, {"alpha": [0.1, 1.0]}, cv=2).fit(X, WINE_CLASS)
    assert_agrees(search, X)
    assert_agrees(CalibratedClassifierCV(clf, cv=2).fit(X, WINE_CLASS), X)


def test_behind_a_column_transformer():
    rng = np.random.default_rng(0)
    codes = rng.integers(3, size=(100, 1))
    table = np.hstack([codes, rng.normal(size=(100, 2))]).astype(np.float32)
    encode = ColumnTransformer(
        [("codes", OneHotEncoder(), [0]), ("numbers", StandardScaler(), [1, 2])]
    )
    stack = StackedRBMTransformer((4,), max_iter=2, random_state=0)
    assert_agrees(make_pipeline(encode, stack).fit(table), table)


def test_integers_are_taken():
    X, y = load_digits(return_X_y=True)
    X = X[:200].astype(np.int64)
    clf = GreedyPretrainedMLPClassifier((6,), max_iter=2, random_state=0)
    out = run(clf.fit(X, y[:200]), X, zipmap=False)
    assert_allclose(out["probabilities"], clf.predict_proba(X), atol=1e-5)


@pytest.mark.parametrize(
    "clf",
    [
        GreedyPretrainedMLPClassifier((4,), max_iter=3),
        StackedRBMClassifier(StackedRBMTransformer((4,), max_iter=3)),
    ],
    ids=lambda e: type(e).__name__,
)
def test_options_of_classifiers(clf):
    X, labels = WINE.astype(np.float32), labels_of("string")
    clf = clone(clf).fit(X, labels)
    proba = clf.predict_proba(X)
    zipped = run(clf, X, zipmap=True)
    rows = [
        [row[label] for label in clf.classes_] for row in zipped["output_probability"]
    ]
    assert_allclose(rows, proba, atol=1e-5)
    columns = run(clf, X, zipmap="columns")
    assert_allclose(columns["s\u00e9"], proba[:, 2], atol=1e-5)
    named = run(clf, X, zipmap=False, output_class_labels=True)
    assert_array_equal(named["class_labels"], clf.classes_)
    numbers = run(clf, X, zipmap=False, nocl=True)
    assert_array_equal(clf.classes_[numbers["label"]], clf.predict(X))


@pytest.fixture
def stack():
    return StackedRBMTransformer((3,), max_iter=1).fit(WINE)


class TestRefusals:
    def test_not_fitted(self):
        with pytest.raises(NotFittedError, match="StackedRBMTransformer"):
            to_onnx(StackedRBMTransformer(), WINE[:1])

    def test_opset(self, stack):
        with pytest.raises(ValueError, match=r"target_opset >= 13 .* Got 12"):
            to_onnx(stack, WINE[:1], target_opset=12)

    def test_columns(self, stack):
        with pytest.raises(ValueError, match=r"7 columns, but .* fitted on 13"):
            to_onnx(stack, initial_types=[("X", FloatTensorType([None, 7]))])

    def test_inputs(self, stack):
        types = [(name, DoubleTensorType([None, 1])) for name in "ab"]
        with pytest.raises(ValueError, match=r"one input with all columns.*2 inputs"):
            to_onnx(stack, initial_types=types)

    def test_strings(self, stack):
        with pytest.raises(ValueError, match="Got StringTensorType"):
            to_onnx(stack, initial_types=[("X", StringTensorType([None, 13]))])

    def test_labels(self):
        clf = GreedyPretrainedMLPClassifier((3,), max_iter=1, pretrainer=None)
        days = np.array(["2024-01-01", "2024-01-02", "2024-01-03"], dtype="M8[D]")
        clf.fit(WINE, days[WINE_CLASS])
        with pytest.raises(ValueError, match=r"64 bits or strings, not .* datetime64"):
            run(clf, WINE, zipmap=False)
        numbers = run(clf, WINE, zipmap=False, nocl=True)["label"]
        assert_array_equal(days[numbers], clf.predict(WINE))

    def test_labels_beyond_64_bits(self):
        """They once came out negative."""
        clf = GreedyPretrainedMLPClassifier((3,), max_iter=1, pretrainer=None)
        clf.fit(WINE, np.array([1, 2, 2**63 + 5], dtype=np.uint64)[WINE_CLASS])
        with pytest.raises(ValueError, match=r"not such as 9223372036854775813 of"):
            run(clf, WINE, zipmap=False)


def test_doubles_behind_a_step_that_gives_floats():
    """KBinsDiscretizer declares what it does not give."""
    clf = GreedyPretrainedMLPClassifier((6,), max_iter=3, random_state=0)
    bins = KBinsDiscretizer(3, encode="ordinal", strategy="kmeans")
    pipeline = make_pipeline(bins, clf).fit(WINE, WINE_CLASS)
    got = run(pipeline, WINE, zipmap=False)["probabilities"]
    assert_allclose(got, pipeline.predict_proba(WINE), atol=1e-6)


def test_open_number_of_columns(stack):
    graph = to_onnx(stack, initial_types=[("X", Int64TensorType([None, None]))])
    (got,) = run_graph(graph, WINE.astype(np.int64)).values()
    assert got.shape == (len(WINE), 3)


@pytest.mark.parametrize("opset", [13, 15, 18, 21])
def test_opsets(opset):
    X = load_iris().data
    stack = StackedAutoencoderTransformer((4,), n_active=2, max_iter=2).fit(X)
    (got,) = run_graph(to_onnx(stack, X[:1], target_opset=opset), X).values()
    assert_allclose(got, stack.transform(X), atol=1e-5)


def test_without_skl2onnx(monkeypatch):
    monkeypatch.setitem(sys.modules, "skl2onnx", None)
    with pytest.raises(ImportError, match="pip install skl2onnx"):
        register_onnx_converters()


def test_importing_the_package_does_not_import_onnx():
    code = (
        "import sys; import sklearn_greedy; "
        "assert not any('onnx' in name.split('.')[0] for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
