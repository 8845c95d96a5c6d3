"""Diagrams of estimators in notebooks."""

import re

import numpy as np
import pytest
from sklearn import __version__
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.fixes import parse_version

from sklearn_greedy import (
    GreedyPretrainedMLPClassifier,
    GreedyPretrainedMLPRegressor,
    StackedAutoencoderTransformer,
    StackedRBMClassifier,
    StackedRBMTransformer,
)

X = np.random.default_rng(0).random((40, 5))
y = np.arange(40) % 2


def words(estimator):
    """The text of a diagram, without the tags."""
    return re.sub(r"<[^>]*>", "|", estimator._repr_html_())


@pytest.mark.parametrize(
    "stack",
    [
        StackedRBMTransformer((4, 3), max_iter=1),
        StackedAutoencoderTransformer([4, 3], max_iter=1),
    ],
)
def test_a_stack_shows_its_widths(stack):
    assert "|inputs → 4 → 3|" in words(stack)
    fitted = clone(stack).fit(X)
    assert "|5 → 4 → 3|" in words(fitted)


def test_a_network_shows_its_pretrainer_and_its_layers():
    stack = StackedRBMTransformer((4, 3), max_iter=1)
    network = GreedyPretrainedMLPClassifier(pretrainer=stack, max_iter=1)
    assert "|inputs → 4 → 3|" in words(network)
    pipeline = make_pipeline(MinMaxScaler(), network)
    shown = words(pipeline.fit(X, y))
    assert "|StackedRBMTransformer|" in shown
    assert "|5 → 4 → 3|" in shown
    assert "|5 → 4 → 3 → 1|" in shown
    assert "|4 units, logistic\n3 units, logistic\n1 units, logistic|" in shown


@pytest.mark.parametrize(
    ("pretrainer", "name"),
    [
        ("rbm", "pretrainer: rbm"),
        ([np.zeros((5, 4)), np.zeros((4, 3))], "pretrainer: arrays"),
    ],
)
def test_a_start_that_is_no_estimator(pretrainer, name):
    shown = words(GreedyPretrainedMLPClassifier((4, 3), pretrainer=pretrainer))
    assert f"|{name}|" in shown
    assert "|inputs → 4 → 3|" in shown


def test_no_pretrainer_no_box():
    shown = words(GreedyPretrainedMLPClassifier(4, pretrainer=None).fit(X, y))
    # The tooltip of the parameter begins like a box, but goes on with its values.
    assert "|pretrainer: " not in shown.replace("|pretrainer: {", "|")
    assert "|5 → 4 → 1|" in shown


def test_wrong_sizes_are_still_shown():
    assert "|inputs → many|" in words(StackedRBMTransformer("many"))


ESTIMATORS = [
    StackedRBMTransformer((4,), max_iter=1),
    StackedAutoencoderTransformer((4,), max_iter=1),
    StackedRBMClassifier(StackedRBMTransformer((4,), max_iter=1)),
    GreedyPretrainedMLPClassifier((4,), max_iter=1),
    GreedyPretrainedMLPRegressor((4,), max_iter=1),
]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_links_lead_to_the_documentation(estimator):
    page = f"/generated/sklearn_greedy.{type(estimator).__name__}.html"
    assert f'{page}"' in estimator._repr_html_()


@pytest.mark.skipif(
    parse_version(__version__) < parse_version("1.9"),
    reason="older versions of scikit-learn show no fitted attributes",
)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_row_has_a_tooltip(estimator):
    shown = clone(estimator).fit(X, y)._repr_html_()
    rows = re.findall(r'<td class="param">(.*?)</td>', shown, re.DOTALL)
    assert len(rows) > len(vars(estimator))
    assert [row for row in rows if "param-doc-description" not in row] == []
