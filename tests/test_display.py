"""What the pictures show."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib import pyplot as plt
from numpy.testing import assert_allclose
from sklearn.datasets import load_iris
from sklearn.utils import Bunch

from sklearn_greedy import GreedyPretrainedMLPClassifier, PretrainingComparisonDisplay


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


COMPARISON = Bunch(
    pretrained_scores=np.array([0.9, 0.8, 0.85]),
    scratch_scores=np.array([0.7, 0.75, 0.8]),
    mean_difference=0.1,
    interval=(-0.05, 0.25),
)


def test_comparison_has_a_line_per_fold_and_one_of_means():
    display = PretrainingComparisonDisplay.from_comparison(COMPARISON)
    assert [list(line.get_ydata()) for line in display.lines_] == [
        [0.7, 0.9],
        [0.75, 0.8],
        [0.8, 0.85],
    ]
    assert_allclose(display.mean_line_.get_ydata(), [0.75, 0.85])
    labels = [text.get_text() for text in display.ax_.get_xticklabels()]
    assert labels == ["from scratch", "pre-trained"]
    assert "+0.1000" in display.ax_.get_title()
    assert "-0.0500 to +0.2500" in display.ax_.get_title()


def test_comparison_is_drawn_where_it_is_asked_for():
    _, ax = plt.subplots()
    display = PretrainingComparisonDisplay.from_comparison(COMPARISON, ax=ax)
    assert display.ax_ is ax
    assert display.figure_ is ax.figure
    again = display.plot()
    assert again is display
    assert display.ax_ is not ax


def test_comparison_of_an_estimator():
    clf = GreedyPretrainedMLPClassifier((4,), max_iter=3)
    display = PretrainingComparisonDisplay.from_estimator(
        clf, *load_iris(return_X_y=True), cv=4, random_state=0
    )
    assert len(display.lines_) == 4
    scores = display.comparison.pretrained_scores
    assert_allclose([line.get_ydata()[1] for line in display.lines_], scores)


def test_import_does_not_need_matplotlib():
    code = (
        "import sys; import sklearn_greedy; "
        "assert not any(name.startswith('matplotlib') for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_pictures_without_matplotlib_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match="Pictures need matplotlib"):
        PretrainingComparisonDisplay.from_comparison(COMPARISON)
