"""Docstrings: complete, in order, and true of what a fit leaves behind."""

import inspect
import warnings
from pydoc import locate

import pytest
from numpydoc.docscrape import ClassDoc
from numpydoc.validate import validate
from sklearn.base import clone
from sklearn.datasets import load_iris

import sklearn_greedy
from sklearn_greedy import (
    GreedyPretrainedMLPClassifier,
    GreedyPretrainedMLPRegressor,
    StackedAutoencoderTransformer,
    StackedRBMClassifier,
    StackedRBMTransformer,
)

# Sections that a short method does without, values that have a name as well as a type,
# and nouns that end like verbs.
NOT_ASKED = {"ES01", "EX01", "SA01", "RT02", "SS05"}


def public_names():
    for name in sklearn_greedy.__all__:
        yield f"sklearn_greedy.{name}"
        cls = getattr(sklearn_greedy, name)
        if not inspect.isclass(cls):
            continue
        for method, function in inspect.getmembers(cls, callable):
            own = str(getattr(function, "__module__", "")).startswith("sklearn_greedy")
            if own and not method.startswith("_"):
                yield f"sklearn_greedy.{name}.{method}"


@pytest.mark.parametrize("name", list(public_names()))
def test_functions_say_what_they_return(name):
    public = locate(name)
    returned = inspect.signature(public).return_annotation
    assert inspect.isclass(public) or returned is not inspect.Signature.empty


@pytest.mark.parametrize("name", list(public_names()))
def test_docstring_is_valid(name):
    found = [e for e in validate(name)["errors"] if e[0] not in NOT_ASKED]
    assert not found


@pytest.mark.parametrize("name", sklearn_greedy.__all__)
def test_class_or_function_has_an_example(name):
    errors = {code for code, _ in validate(f"sklearn_greedy.{name}")["errors"]}
    assert "EX01" not in errors


ESTIMATORS = [
    StackedRBMTransformer((4,), max_iter=1),
    StackedRBMTransformer((4,), max_iter=1, early_stopping=True),
    StackedAutoencoderTransformer((4,), max_iter=1, unrolled_max_iter=1),
    StackedRBMClassifier(StackedRBMTransformer((4, 3), max_iter=1)),
    GreedyPretrainedMLPClassifier((4,), max_iter=1, early_stopping=True),
    GreedyPretrainedMLPClassifier((4,), max_iter=1, head_max_iter=1),
    GreedyPretrainedMLPRegressor((4,), max_iter=1, pretrainer="supervised"),
]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_every_public_attribute_is_documented_and_there(estimator):
    X, y = load_iris(return_X_y=True, as_frame=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = clone(estimator).fit(X, y)
    there = {name for name in vars(fitted) if not name.startswith("_")}
    there -= set(fitted.get_params())
    documented = set()
    for parameter in ClassDoc(type(estimator))["Attributes"]:
        documented |= set(parameter.name.split(", "))
    assert there == documented
