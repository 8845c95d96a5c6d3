"""Saved estimators."""

import copy
import pickle

import joblib
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_iris

from sklearn_greedy import (
    GreedyPretrainedMLPClassifier,
    GreedyPretrainedMLPRegressor,
    StackedAutoencoderTransformer,
    StackedRBMClassifier,
    StackedRBMTransformer,
    _persistence,
)

ESTIMATORS = [
    StackedRBMTransformer((4,), max_iter=1),
    StackedAutoencoderTransformer((4,), max_iter=1),
    StackedRBMClassifier(StackedRBMTransformer((4,), max_iter=1)),
    GreedyPretrainedMLPClassifier((4,), max_iter=1),
    GreedyPretrainedMLPRegressor((4,), max_iter=1),
]


@pytest.fixture(params=ESTIMATORS, ids=lambda e: type(e).__name__)
def fitted(request):
    return clone(request.param).fit(*load_iris(return_X_y=True))


def output(estimator):
    X = load_iris().data
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
    monkeypatch.setattr(_persistence, "VERSION", "99.0")
    with pytest.warns(UserWarning, match=r"was saved by sklearn_greedy \d.* by 99\.0"):
        pickle.loads(saved)


def test_no_version_warns(fitted):
    state = fitted.__getstate__()
    del state["_package_version"]
    with pytest.warns(UserWarning, match="of an unknown version"):
        type(fitted).__new__(type(fitted)).__setstate__(state)
