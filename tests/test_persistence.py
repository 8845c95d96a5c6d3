"""Saved estimators."""

import copy
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pytest
import skops.io
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.datasets import load_iris
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from sklearn_greedy import (
    GreedyPretrainedMLPClassifier,
    GreedyPretrainedMLPRegressor,
    StackedAutoencoderTransformer,
    StackedRBMClassifier,
    StackedRBMTransformer,
    _base,
)

ESTIMATORS = [
    StackedRBMTransformer((4,), max_iter=1),
    StackedAutoencoderTransformer((4,), max_iter=1),
    StackedRBMClassifier(StackedRBMTransformer((4,), max_iter=1)),
    GreedyPretrainedMLPClassifier((4,), max_iter=1),
    GreedyPretrainedMLPRegressor((4,), max_iter=1),
]
X, Y = load_iris(return_X_y=True)


@pytest.fixture(params=ESTIMATORS, ids=lambda e: type(e).__name__)
def fitted(request):
    return clone(request.param).fit(X, Y)


def output(estimator):
    method = "transform" if hasattr(estimator, "transform") else "predict"
    return getattr(estimator, method)(X)


def test_copies_are_the_same_and_warn_of_nothing(fitted, tmp_path):
    joblib.dump(fitted, tmp_path / "saved.joblib")
    for again in (
        pickle.loads(pickle.dumps(fitted)),
        copy.deepcopy(fitted),
        joblib.load(tmp_path / "saved.joblib"),
        joblib.load(tmp_path / "saved.joblib", mmap_mode="r"),
    ):
        assert_array_equal(output(again), output(fitted))
        assert vars(again).keys() == vars(fitted).keys()


def test_another_version_warns(fitted, monkeypatch):
    saved = pickle.dumps(fitted)
    monkeypatch.setattr(_base, "VERSION", "99.0")
    with pytest.warns(UserWarning, match=r"was saved by sklearn_greedy \d.* by 99\.0"):
        pickle.loads(saved)


def test_no_version_warns(fitted):
    state = fitted.__getstate__()
    del state["_package_version"]
    with pytest.warns(UserWarning, match="of an unknown version"):
        type(fitted).__new__(type(fitted)).__setstate__(state)


READER = """
import joblib
import numpy as np
for number, model in enumerate(joblib.load("saved.joblib", mmap_mode="r")):
    (coef,) = {type(c) for c in getattr(model, "top_", model).coefs_}
    assert coef is np.memmap
    method = "transform" if hasattr(model, "transform") else "predict"
    np.save(f"{number}.npy", getattr(model, method)(np.load("rows.npy")))
"""


def test_a_memory_map_is_read_by_another_process(tmp_path):
    models = [clone(estimator).fit(X, Y) for estimator in ESTIMATORS]
    joblib.dump(models, tmp_path / "saved.joblib")
    np.save(tmp_path / "rows.npy", X)
    strict = [sys.executable, "-W", "error::UserWarning"]
    subprocess.run([*strict, "-c", READER], check=True, cwd=tmp_path)
    for number, model in enumerate(models):
        assert_array_equal(np.load(tmp_path / f"{number}.npy"), output(model))


@pytest.mark.parametrize(
    "estimator",
    [e for e in ESTIMATORS if hasattr(e, "partial_fit")],
    ids=lambda e: type(e).__name__,
)
def test_training_goes_on_from_a_memory_map(estimator, tmp_path):
    fitted = clone(estimator).set_params(random_state=0).fit(X, Y)
    joblib.dump(fitted, tmp_path / "saved.joblib")
    mapped = joblib.load(tmp_path / "saved.joblib", mmap_mode="r").partial_fit(X, Y)
    assert_array_equal(output(mapped), output(fitted.partial_fit(X, Y)))


STACK = StackedRBMTransformer((5, 4), max_iter=1, random_state=0)
CODER = StackedAutoencoderTransformer((5, 4), max_iter=1, random_state=0)
NETWORK = GreedyPretrainedMLPClassifier(max_iter=1, random_state=0)
# What may leave something of its own behind.
VARIANTS = [
    *ESTIMATORS,
    clone(STACK).set_params(hidden=["relu", "gaussian"], early_stopping=True),
    clone(STACK).set_params(persistent=True, n_temperatures=2, learn_scale=True),
    clone(STACK).set_params(visible=[("gaussian", [0, 1])], schedule="simultaneous"),
    clone(CODER).set_params(n_active=[2, None], early_stopping=True),
    clone(CODER).set_params(unrolled_max_iter=1, solver="sgd"),
    StackedRBMClassifier(STACK, random_state=0),
    clone(NETWORK).set_params(pretrainer=None, early_stopping=True),
    clone(NETWORK).set_params(pretrainer="supervised", solver="lbfgs"),
    clone(NETWORK).set_params(pretrainer=STACK, supervised_weight=0.5),
    clone(NETWORK).set_params(pretrainer=CODER, head_max_iter=1),
    GreedyPretrainedMLPRegressor(loss="poisson", pretrainer="rbm", max_iter=1),
]


CASES = [(estimator, "fit") for estimator in VARIANTS] + [
    (estimator, "partial_fit")
    for estimator in VARIANTS
    if hasattr(estimator, "partial_fit")
    and not getattr(estimator, "early_stopping", False)
]


@pytest.fixture(params=CASES, ids=lambda case: f"{type(case[0]).__name__}-{case[1]}")
def variant(request):
    estimator, method = request.param
    more = {}
    if method == "partial_fit" and is_classifier(estimator):
        more = {"classes": [0, 1, 2]}
    return getattr(clone(estimator), method)(X, Y, **more)


PLAIN = (type(None), bool, int, float, str, slice)


def not_plain(value, path):
    """Paths to what is neither a number, a text, an array, a container of those nor an
    estimator; by exact type, so that enums and namedtuples are found.
    """
    if isinstance(value, BaseEstimator):
        value = vars(value)
    if type(value) is np.ndarray and value.dtype != object:
        return []
    if type(value) is dict:
        items = value.items()
    elif type(value) in (list, tuple):
        items = enumerate(value)
    else:
        return [] if type(value) in PLAIN else [f"{path}: {type(value)}"]
    return [bad for key, item in items for bad in not_plain(item, f"{path}.{key}")]


def test_attributes_are_plain(variant):
    assert not_plain(variant, "fitted") == []


OWN_PARAMETERS = (
    "coefs_",
    "intercepts_",
    "visible_intercepts_",
    "decoder_coefs_",
    "decoder_intercepts_",
)


def parameter_bytes(estimator):
    """Size of the trained arrays, those of nested estimators included."""
    total = 0
    for name, value in vars(estimator).items():
        if name in OWN_PARAMETERS:
            total += sum(array.nbytes for array in value)
        elif name.endswith("_") and isinstance(value, BaseEstimator):
            total += parameter_bytes(value)
    return total


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_a_pickle_is_hardly_larger_than_its_parameters(estimator, dtype, rng):
    """With the default number of hidden units on small images."""
    wide = {"hidden_layer_sizes": (256,)}
    if hasattr(estimator, "stack"):
        wide = {"stack__hidden_layer_sizes": (256,)}
    wide = clone(estimator).set_params(**wide)
    wide.fit(rng.random((100, 784), dtype=dtype), np.arange(100) % 3)
    assert len(pickle.dumps(wide)) < 1.1 * parameter_bytes(wide)


def test_a_network_does_without_its_pretrainer():
    """What keeps a saved network small, as the documentation says."""
    network = clone(NETWORK).set_params(pretrainer=STACK).fit(X, Y)
    expected = network.predict_proba(X)
    network.pretrainer_ = None
    small = pickle.loads(pickle.dumps(network))
    assert_array_equal(small.predict_proba(X), expected)
    small.partial_fit(X, Y)


def own_classes(estimator):
    """Classes of this package in an estimator, itself included."""
    found = {type(estimator)}
    for value in vars(estimator).values():
        if isinstance(value, BaseEstimator):
            found |= own_classes(value)
    return {cls for cls in found if cls.__module__.startswith("sklearn_greedy")}


def check_skops(fitted):
    saved = skops.io.dumps(fitted)
    classes = own_classes(fitted)
    names = {f"{cls.__module__}.{cls.__name__}" for cls in classes}
    assert set(skops.io.get_untrusted_types(data=saved)) == names
    again = skops.io.loads(saved, trusted=list(classes))
    assert_array_equal(output(again), output(fitted))
    assert vars(again).keys() == vars(fitted).keys()


def test_skops_needs_trust_in_the_classes_alone(variant):
    check_skops(variant)


def test_skops_of_a_frozen_pretrainer():
    stack = FrozenEstimator(clone(STACK).fit(X))
    check_skops(clone(NETWORK).set_params(pretrainer=stack).fit(X, Y))


def test_skops_of_a_pipeline_warns_of_another_version(monkeypatch):
    pipe = make_pipeline(MinMaxScaler(), clone(STACK)).fit(X)
    saved = skops.io.dumps(pipe)
    monkeypatch.setattr(_base, "VERSION", "99.0")
    with pytest.warns(UserWarning, match=r"was saved by sklearn_greedy \d.* by 99\.0"):
        skops.io.loads(saved, trusted=[StackedRBMTransformer])


def test_package_without_its_metadata_can_be_imported():
    """A frozen program leaves them behind."""
    code = (
        "import importlib.metadata as m\n"
        "real = m.metadata\n"
        "def missing(name):\n"
        "    if name == 'sklearn_greedy': raise m.PackageNotFoundError(name)\n"
        "    return real(name)\n"
        "m.metadata = missing\n"
        "from sklearn_greedy import StackedRBMTransformer\n"
        "StackedRBMTransformer()._repr_html_()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
