"""What the pictures show."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from numpy.testing import assert_allclose
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_iris, load_wine
from sklearn.frozen import FrozenEstimator
from sklearn.utils import Bunch

from sklearn_greedy import (
    GreedyPretrainedMLPClassifier,
    HiddenUnitsDisplay,
    LearnedFiltersDisplay,
    PretrainingComparisonDisplay,
    ReconstructionDisplay,
    SamplesDisplay,
    StackedAutoencoderTransformer,
    StackedRBMClassifier,
    StackedRBMTransformer,
    TrainingCurvesDisplay,
)


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
    assert "+0.1 by" in display.ax_.get_title()
    assert "-0.05 to +0.25" in display.ax_.get_title()


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


@pytest.fixture(scope="module")
def stack(digits):
    return StackedRBMTransformer((12, 6), max_iter=2, random_state=0).fit(digits[0])


@pytest.fixture(scope="module")
def network(digits):
    clf = GreedyPretrainedMLPClassifier(
        (12, 6), max_iter=4, head_max_iter=3, random_state=0
    )
    X, y = digits
    return clf.fit(X, y, X_val=X[:50], y_val=y[:50])


# --- filters -------------------------------------------------------------------


def tiles(picture, n, shape, n_columns):
    """The images of a mosaic."""
    height, width = shape
    return np.array(
        [
            picture[k // n_columns * (height + 1) :, k % n_columns * (width + 1) :][
                :height, :width
            ]
            for k in range(n)
        ]
    )


@pytest.mark.parametrize("layer", [0, 1])
def test_filters_are_weights_from_the_input(layer, stack):
    display = LearnedFiltersDisplay.from_estimator(
        stack, layer=layer, n_units=5, image_shape=(8, 8)
    )
    weights = stack.coefs_[0] if layer == 0 else stack.coefs_[0] @ stack.coefs_[1]
    longest = np.sort(np.argsort(-np.linalg.norm(weights, axis=0))[:5])
    assert list(display.units) == list(longest)
    assert_allclose(display.filters, weights.T[longest])
    drawn = tiles(np.asarray(display.image_.get_array()), 5, (8, 8), 3)
    expected = display.filters.reshape(5, 8, 8)
    expected = expected / np.abs(expected).max(axis=(1, 2), keepdims=True)
    assert_allclose(drawn, expected)


def test_filters_of_a_network_leave_its_output_out(network):
    display = LearnedFiltersDisplay.from_estimator(network, image_shape=(8, 8))
    assert display.filters.shape == (12, 64)
    for layer in (2, -3, 0.5, "0", None):
        message = f"layer={layer!r}, but the hidden layers are numbered 0 to 1"
        with pytest.raises(ValueError, match=message):
            LearnedFiltersDisplay.from_estimator(network, layer=layer)


def test_layers_count_from_the_end_too(stack):
    """As in hidden_activations of the networks."""
    last, second = (
        LearnedFiltersDisplay.from_estimator(stack, layer=layer) for layer in (-1, 1)
    )
    assert_allclose(last.filters, second.filters)


def test_filters_of_a_table_are_named_and_by_deviation():
    wine = load_wine(as_frame=True).data
    stack = StackedAutoencoderTransformer((5,), max_iter=3, random_state=0).fit(wine)
    display = LearnedFiltersDisplay.from_estimator(stack, n_features=4)
    names = [text.get_text() for text in display.ax_.get_yticklabels()]
    assert len(names) == 4
    assert set(names) <= set(wine.columns)
    columns = [list(wine.columns).index(name) for name in names]
    scaled = (stack.coefs_[0] * stack.visible_scale_[:, None])[columns]
    assert_allclose(display.image_.get_array(), scaled)
    left = np.delete(stack.coefs_[0] * stack.visible_scale_[:, None], columns, axis=0)
    assert np.abs(scaled).max(axis=1).min() >= np.abs(left).max(axis=1).max()


@pytest.mark.parametrize("cls", [LearnedFiltersDisplay, SamplesDisplay])
def test_images_of_another_size_raise(cls, stack):
    with pytest.raises(ValueError, match=r"\(8, 9\) has 72 pixels, but .* 64 columns"):
        cls.from_estimator(stack, image_shape=(8, 9))


# --- curves --------------------------------------------------------------------


def test_curves_of_all_phases_follow_each_other(network):
    display = TrainingCurvesDisplay.from_estimator(network)
    names = ["layer 1", "layer 2", "head", "fine-tuning", "validation"]
    assert list(display.lines_) == names
    assert list(display.lines_["layer 1"].get_xdata()) == list(range(1, 21))
    assert list(display.lines_["head"].get_xdata()) == [41, 42, 43]
    epochs = [44, 45, 46, 47]
    for name in ("fine-tuning", "validation"):
        assert list(display.lines_[name].get_xdata()) == epochs
    first = network.loss_curve_[0]
    losses = np.divide(network.loss_curve_, first)
    assert_allclose(display.lines_["fine-tuning"].get_ydata(), losses)
    held = np.divide(network.validation_loss_curve_, first)
    assert_allclose(display.lines_["validation"].get_ydata(), held)


def test_curves_of_a_stack_end_with_the_unrolled_network(digits):
    stack = StackedAutoencoderTransformer((6,), max_iter=2, unrolled_max_iter=3)
    display = TrainingCurvesDisplay.from_estimator(stack.fit(digits[0]))
    assert list(display.lines_) == ["layer 1", "unrolled"]
    assert list(display.lines_["unrolled"].get_xdata()) == [3, 4, 5]


# --- units, reconstructions, samples -------------------------------------------------


def test_histograms_count_the_units_of_each_layer(stack, network, digits):
    X = digits[0]
    display = HiddenUnitsDisplay.from_estimator(stack, X)
    assert_allclose(display.mean_activations[1], stack.transform(X).mean(axis=0))
    assert [len(means) for means in display.mean_activations] == [12, 6]
    display = HiddenUnitsDisplay.from_estimator(network, X)
    for layer in (0, 1):
        means = network.hidden_activations(X, layer).mean(axis=0)
        assert_allclose(display.mean_activations[layer], means)
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels == ["layer 1: 12 units", "layer 2: 6 units"]


def test_histograms_of_sparse_rows(stack, digits):
    X = digits[0]
    dense = HiddenUnitsDisplay.from_estimator(stack, X).mean_activations
    found = HiddenUnitsDisplay.from_estimator(stack, sparse.csr_matrix(X))
    assert_allclose(found.mean_activations[1], dense[1])


def test_histogram_of_a_k_sparse_code(digits):
    X = digits[0]
    stack = StackedAutoencoderTransformer((12,), n_active=3, max_iter=2).fit(X)
    display = HiddenUnitsDisplay.from_estimator(stack, X)
    assert_allclose(display.mean_activations[0], stack.transform(X).mean(axis=0))


def test_rows_stand_above_what_is_rebuilt(stack, digits):
    X = digits[0][:4]
    display = ReconstructionDisplay.from_estimator(stack, X, image_shape=(8, 8))
    drawn = tiles(np.asarray(display.image_.get_array()), 8, (8, 8), 4)
    rebuilt = stack.inverse_transform(stack.transform(X))
    assert_allclose(drawn.reshape(8, 64), np.vstack([X, rebuilt]))


def test_samples_are_those_of_the_stack(stack):
    options = {"n_gibbs_steps": 3, "random_state": 1}
    display = SamplesDisplay.from_estimator(
        stack, image_shape=(8, 8), n_samples=7, **options
    )
    assert_allclose(display.samples, stack.sample(7, **options))
    drawn = tiles(np.asarray(display.image_.get_array()), 7, (8, 8), 3)
    assert_allclose(drawn.reshape(7, 64), display.samples)
    assert display.figure_ is display.ax_.figure


# --- matplotlib ----------------------------------------------------------------------


def test_rows_are_those_that_the_estimator_takes(stack, network, digits):
    """Frames in another order were drawn as they came, and sparse rows not at all."""
    frame = pd.DataFrame(digits[0], columns=[f"x{i}" for i in range(64)])
    for estimator in (clone(stack), clone(network)):
        fitted = estimator.fit(frame, digits[1])
        nullable = HiddenUnitsDisplay.from_estimator(fitted, frame.convert_dtypes())
        expected = HiddenUnitsDisplay.from_estimator(fitted, frame)
        for ours, theirs in zip(
            nullable.mean_activations, expected.mean_activations, strict=True
        ):
            assert_allclose(ours, theirs, rtol=1e-6)
        with pytest.raises(ValueError, match="same order"):
            HiddenUnitsDisplay.from_estimator(fitted, frame.iloc[:, ::-1])
    rows = digits[0][:3]
    dense, csr = (
        ReconstructionDisplay.from_estimator(stack, X, image_shape=(8, 8))
        for X in (rows, sparse.csr_matrix(rows))
    )
    assert_allclose(csr.X, dense.X)
    assert_allclose(csr.rebuilt, dense.rebuilt, rtol=1e-5)


def test_validation_curve_ends_with_the_fit(digits):
    """Epochs of partial_fit have no validation rows, and the picture failed."""
    X, y = digits
    clf = GreedyPretrainedMLPClassifier((4,), pretrainer=None, max_iter=3)
    clf.fit(X, y, X_val=X, y_val=y).partial_fit(X, y)
    display = TrainingCurvesDisplay.from_estimator(clf)
    assert list(display.lines_["validation"].get_xdata()) == [1, 2, 3]
    assert len(display.lines_["fine-tuning"].get_xdata()) == 4


def test_what_cannot_be_drawn_raises(stack, digits):
    """A classifier drew one row of class 25 where 25 rows were asked for."""
    X, y = digits
    rbms = StackedRBMTransformer((4,), max_iter=1)
    classifier = StackedRBMClassifier(rbms).fit(X, y)
    shape = {"image_shape": (8, 8)}
    flat = GreedyPretrainedMLPClassifier((), pretrainer=None, max_iter=1).fit(X, y)
    with pytest.raises(TypeError, match="draws samples of given labels"):
        SamplesDisplay.from_estimator(classifier, **shape)
    coder = StackedAutoencoderTransformer((4,), max_iter=0).fit(X)
    with pytest.raises(TypeError, match=r"cannot draw samples\. Give a fitted Stack"):
        SamplesDisplay.from_estimator(coder, **shape)
    with pytest.raises(ValueError, match="no curve to draw: nothing was trained"):
        TrainingCurvesDisplay.from_estimator(coder)
    with pytest.raises(TypeError, match="rebuilds no rows"):
        ReconstructionDisplay.from_estimator(flat, X, **shape)
    for display in (LearnedFiltersDisplay, TrainingCurvesDisplay):
        with pytest.raises(TypeError, match="no layers of its own"):
            display.from_estimator(classifier)
    with pytest.raises(TypeError, match="MLPClassifier has no layers of its own"):
        LearnedFiltersDisplay.from_estimator(flat.to_mlp())
    with pytest.raises(ValueError, match="no hidden layer"):
        HiddenUnitsDisplay.from_estimator(flat, X)
    with pytest.raises(ValueError, match="There are no hidden layers"):
        LearnedFiltersDisplay.from_estimator(flat)
    with pytest.raises(TypeError, match=r"what compare_pretraining returns\. .* dict"):
        PretrainingComparisonDisplay.from_comparison({"a": 1})


@pytest.mark.parametrize("name", ["n_units", "n_features"])
@pytest.mark.parametrize("number", [0, -3, 2.5, "3", None])
def test_numbers_of_what_is_drawn_are_checked(name, number, stack):
    with pytest.raises(ValueError, match=f"The '{name}' parameter of .* an int"):
        LearnedFiltersDisplay.from_estimator(stack, **{name: number})


@pytest.mark.parametrize(
    "shape", [4, (4,), (8, 8, 1), (-8, -8), (8.0, 8), "ab", range(1000)]
)
def test_image_shapes_are_a_height_and_a_width(shape, stack, digits):
    rows = digits[0][:2]
    message = "image_shape must be the height and the width"
    for display, data in (
        (LearnedFiltersDisplay, []),
        (SamplesDisplay, []),
        (ReconstructionDisplay, [rows]),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            display.from_estimator(stack, *data, image_shape=shape)
        assert len(str(caught.value)) < 150
    with pytest.raises(ValueError, match=f"{message}.* Got None"):
        SamplesDisplay.from_estimator(stack, image_shape=None)
    assert not plt.get_fignums()


def test_samples_are_not_drawn_for_a_picture_that_cannot_be(stack, monkeypatch):
    """Both came after a thousand steps of Gibbs sampling."""
    monkeypatch.setattr(StackedRBMTransformer, "sample", pytest.fail)
    with pytest.raises(ValueError, match="72 pixels"):
        SamplesDisplay.from_estimator(stack, image_shape=(8, 9))
    two = plt.subplots(2)[1]
    with pytest.raises(TypeError, match=r"one matplotlib Axes\. Got .* ndarray"):
        SamplesDisplay.from_estimator(stack, image_shape=(8, 8), ax=two)


def test_several_axes_are_refused(stack, digits):
    two = plt.subplots(2)[1]
    for display, data in (
        (LearnedFiltersDisplay, []),
        (TrainingCurvesDisplay, []),
        (HiddenUnitsDisplay, [digits[0]]),
        (PretrainingComparisonDisplay, digits),
    ):
        with pytest.raises(TypeError, match="must be None or one matplotlib Axes"):
            display.from_estimator(stack, *data, ax=two)


def test_frozen_stacks_are_drawn_as_others(stack):
    options = {"image_shape": (8, 8), "n_gibbs_steps": 2, "random_state": 0}
    frozen, plain = (
        SamplesDisplay.from_estimator(estimator, **options)
        for estimator in (FrozenEstimator(stack), stack)
    )
    assert_allclose(frozen.samples, plain.samples)


def test_filters_without_names_are_numbered():
    display = LearnedFiltersDisplay(np.eye(3), np.arange(3)).plot()
    labels = display.ax_.get_yticklabels()
    assert [label.get_text() for label in labels] == ["0", "1", "2"]


def test_long_names_stay_within_the_figure():
    wine = load_wine(as_frame=True).data
    stack = StackedRBMTransformer((4,), max_iter=1).fit(wine)
    display = LearnedFiltersDisplay.from_estimator(stack)
    display.figure_.canvas.draw()
    labels = display.ax_.get_yticklabels()
    assert min(label.get_window_extent().x0 for label in labels) > 0


def test_very_long_names_leave_room_for_the_filters():
    names = np.array([f"{'a question of the survey ' * 3}{i}" for i in range(3)])
    display = LearnedFiltersDisplay(np.eye(3), np.arange(3), feature_names=names).plot()
    display.figure_.canvas.draw()
    assert display.ax_.get_window_extent().width > display.figure_.bbox.width / 3
    assert (
        display.ax_.get_yticklabels()[0].get_text() == "a question of the survey a qu…"
    )


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
    # Before anything is trained: these cannot be.
    with pytest.raises(ImportError, match="Pictures need matplotlib"):
        PretrainingComparisonDisplay.from_estimator(None, None, None)
