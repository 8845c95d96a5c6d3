"""Pictures. Matplotlib is imported when one is drawn."""

import reprlib
from abc import ABC, abstractmethod
from functools import reduce
from numbers import Integral
from typing import Any, Self

import numpy as np
from scipy import sparse
from sklearn.utils.validation import check_is_fitted

from sklearn_greedy._compare import change, compare_pretraining
from sklearn_greedy._compat import FrozenEstimator, Interval, validate_params
from sklearn_greedy._network import forward, layer_number
from sklearn_greedy._parameters import is_sequence
from sklearn_greedy._rbm import StackedRBMTransformer

_LONGEST_NAME = 30
_AT_LEAST_ONE = Interval(Integral, 1, None, closed="left")


def _pyplot():
    try:
        from matplotlib import pyplot
    except ImportError as exc:
        raise ImportError(
            "Pictures need matplotlib. Install it with: pip install matplotlib"
        ) from exc
    return pyplot


def _check_axes(ax) -> None:
    """Raise where it cannot be drawn on, or nothing can."""
    if not isinstance(ax, _pyplot().Axes | None):
        raise TypeError(
            "ax must be None or one matplotlib Axes. Got an object of type "
            f"{type(ax).__name__}."
        )


def _axes(ax):
    """The axes to draw on: the given ones, or those of a new figure."""
    _check_axes(ax)
    # Long names beside the axes have room then.
    return _pyplot().subplots(layout="constrained")[1] if ax is None else ax


class _Display(ABC):
    """What is drawn on one axes."""

    ax_: Any
    figure_: Any

    @abstractmethod
    def _draw(self, ax):
        """Draw on the axes, or on those of a new figure for None; returns them."""

    def plot(self, ax=None) -> Self:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a new figure.

        Returns
        -------
        self : object
            The display itself.
        """
        ax = self._draw(ax)
        self.ax_, self.figure_ = ax, ax.figure
        return self


# What is drawn of a comparison.
_DRAWN = "scratch_scores", "pretrained_scores", "mean_difference", "interval"


class PretrainingComparisonDisplay(_Display):
    """Scores with and without pre-training, one line per fold.

    Use ``from_estimator`` or ``from_comparison`` to make one.

    Parameters
    ----------
    comparison : `~sklearn.utils.Bunch`
        What `compare_pretraining` returns.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the plot.

    figure_ : matplotlib Figure
        Figure of the axes.

    lines_ : list of matplotlib Line2D
        One per fold.

    mean_line_ : matplotlib Line2D
        The means over the folds.

    See Also
    --------
    compare_pretraining : Where the scores come from.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_greedy import GreedyPretrainedMLPClassifier
    >>> from sklearn_greedy import PretrainingComparisonDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> clf = GreedyPretrainedMLPClassifier((8,), max_iter=20, tol=0.1)
    >>> display = PretrainingComparisonDisplay.from_estimator(
    ...     clf, X, y, cv=3, random_state=0
    ... )
    >>> len(display.lines_)
    3
    """

    def __init__(self, comparison) -> None:
        self.comparison = comparison

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        y,
        *,
        groups=None,
        cv=None,
        scoring=None,
        random_state=None,
        n_jobs=None,
        ax=None,
    ) -> Self:
        """Compare a network with and without its pre-training, and draw the scores.

        Parameters
        ----------
        estimator : GreedyPretrainedMLPClassifier, GreedyPretrainedMLPRegressor or \
                Pipeline
            The network with a pretrainer, or a Pipeline that ends in it.

        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.

        groups, cv, scoring, random_state, n_jobs : object
            As in `compare_pretraining`.

        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a new figure.

        Returns
        -------
        display : PretrainingComparisonDisplay
            With the comparison as ``display.comparison``.
        """
        _check_axes(ax)  # or all would be trained before it is missed
        comparison = compare_pretraining(
            estimator,
            X,
            y,
            groups=groups,
            cv=cv,
            scoring=scoring,
            random_state=random_state,
            n_jobs=n_jobs,
        )
        return cls.from_comparison(comparison, ax=ax)

    @classmethod
    def from_comparison(cls, comparison, *, ax=None) -> Self:
        """Draw the scores of a comparison.

        Parameters
        ----------
        comparison : `~sklearn.utils.Bunch`
            What `compare_pretraining` returned.

        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a new figure.

        Returns
        -------
        display : PretrainingComparisonDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If it is no such comparison.
        """
        return cls(comparison).plot(ax=ax)

    def _draw(self, ax):
        found = self.comparison
        if not all(hasattr(found, name) for name in _DRAWN):
            raise TypeError(
                "comparison must be what compare_pretraining returns. Got an object of "
                f"type {type(found).__name__}."
            )
        ax = _axes(ax)
        pairs = np.column_stack([found.scratch_scores, found.pretrained_scores])
        self.lines_ = [
            ax.plot([0, 1], pair, "o-", color="tab:gray", alpha=0.6, ms=4)[0]
            for pair in pairs
        ]
        self.lines_[0].set_label(f"{len(pairs)} folds")
        (self.mean_line_,) = ax.plot(
            [0, 1], pairs.mean(axis=0), "s-", color="tab:blue", lw=2.5, label="mean"
        )
        low, high = found.interval
        ax.set(
            xlim=(-0.3, 1.3),
            ylabel="score",
            title=f"{change(found.mean_difference)} by pre-training\n"
            f"(95 % interval {change(low)} to {change(high)})",
        )
        ax.set_xticks([0, 1], ["from scratch", "pre-trained"])
        ax.legend()
        return ax


def _mosaic(images, n_columns: int):
    """Images (n, height, width) in rows of n_columns, with a line of NaN between."""
    n, height, width = images.shape
    n_rows = -(-n // n_columns)
    grid = np.full((n_rows * (height + 1) - 1, n_columns * (width + 1) - 1), np.nan)
    for k, image in enumerate(images):
        top, left = k // n_columns * (height + 1), k % n_columns * (width + 1)
        grid[top : top + height, left : left + width] = image
    return grid


def _draw_mosaic(ax, images, n_columns: int, **options):
    """Draw images as one picture without ticks."""
    found = ax.imshow(_mosaic(images, n_columns), interpolation="nearest", **options)
    ax.set_axis_off()
    return found


def _is_count(value) -> bool:
    return isinstance(value, int | np.integer) and bool(value > 0)


def _check_image_shape(image_shape, n_columns: int) -> None:
    """Raise unless rows of so many columns are images of this height and width."""
    sides = list(image_shape) if is_sequence(image_shape) else []
    if len(sides) != 2 or not all(_is_count(n) for n in sides):
        raise ValueError(
            "image_shape must be the height and the width of the images, such as "
            f"(8, 8). Got {reprlib.repr(image_shape)}."
        )
    height, width = sides
    if n_columns != height * width:
        raise ValueError(
            f"image_shape=({height}, {width}) has {height * width} pixels, but the "
            f"rows have {n_columns} columns."
        )


def _as_images(rows, image_shape):
    """Rows as images, or ValueError where they have another number of pixels."""
    _check_image_shape(image_shape, rows.shape[1])
    return rows.reshape(-1, *image_shape)


def _row_of(n: int) -> int:
    """Columns of a grid that is about as wide as high."""
    return int(np.ceil(np.sqrt(n)))


class LearnedFiltersDisplay(_Display):
    """Weights from the input into hidden units: images, or a table of features.

    Use ``from_estimator`` to make one. Gaussian columns count by their standard
    deviation. For an upper layer the weights are the product of those of the layers up
    to it: what a unit sees where all below are linear.

    Parameters
    ----------
    filters : ndarray of shape (n_units, n_features)
        A row per hidden unit.

    units : ndarray of shape (n_units,)
        Numbers of the units.

    image_shape : (int, int) or None, default=None
        Height and width of the images; None draws a table in colours.

    feature_names : array-like of shape (n_features,) or None, default=None
        Names beside the table; None numbers the columns.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the plot.

    figure_ : matplotlib Figure
        Figure of the axes.

    image_ : matplotlib AxesImage
        The picture: units as images, or features by units.

    See Also
    --------
    HiddenUnitsDisplay : How much the units do.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_greedy import LearnedFiltersDisplay, StackedRBMTransformer
    >>> X, _ = load_digits(return_X_y=True)
    >>> stack = StackedRBMTransformer((32,), random_state=0).fit(X / 16)
    >>> display = LearnedFiltersDisplay.from_estimator(stack, image_shape=(8, 8))
    >>> display.filters.shape
    (25, 64)
    """

    def __init__(self, filters, units, *, image_shape=None, feature_names=None) -> None:
        self.filters = filters
        self.units = units
        self.image_shape = image_shape
        self.feature_names = feature_names

    @classmethod
    @validate_params(
        {"n_units": [_AT_LEAST_ONE], "n_features": [_AT_LEAST_ONE]},
        prefer_skip_nested_validation=True,
    )
    def from_estimator(
        cls,
        estimator,
        *,
        layer=0,
        n_units=25,
        n_features=10,
        image_shape=None,
        ax=None,
    ) -> Self:
        """Draw the filters of a fitted stack or network.

        Parameters
        ----------
        estimator : estimator
            A fitted stack or network.

        layer : int, default=0
            Number of the hidden layer from 0, or from the end if negative.

        n_units : int, default=25
            The units with the longest filters are drawn, up to this many.

        n_features : int, default=10
            Without ``image_shape``: the columns with the largest weights, up to this
            many.

        image_shape : (int, int) or None, default=None
            Height and width where rows are images.

        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a new figure.

        Returns
        -------
        display : LearnedFiltersDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If there is no such layer, no unit or feature is to be drawn, or the images
            have another number of pixels.
        """
        _check_has_layers(estimator)
        coefs = _hidden_coefs(estimator)
        up_to = layer_number(layer, len(coefs)) + 1
        _check_axes(ax)
        if image_shape is not None:
            _check_image_shape(image_shape, len(coefs[0]))
        filters = reduce(np.matmul, coefs[:up_to]).T * _input_scale(estimator)
        longest = np.argsort(-np.linalg.norm(filters, axis=1), kind="stable")
        units = np.sort(longest[:n_units])
        filters = filters[units]
        names = getattr(estimator, "feature_names_in_", None)
        if image_shape is None:
            largest = np.argsort(-np.abs(filters).max(axis=0), kind="stable")
            columns = np.sort(largest[:n_features])
            names = columns if names is None else np.asarray(names)[columns]
            filters = filters[:, columns]
        display = cls(filters, units, image_shape=image_shape, feature_names=names)
        return display.plot(ax=ax)

    def _draw(self, ax):
        most = np.abs(self.filters).max() or 1.0
        if self.image_shape is not None:
            images = _as_images(self.filters, self.image_shape)
            ax = _axes(ax)
            each = np.abs(images).max(axis=(1, 2), keepdims=True)
            images = images / np.where(each > 0, each, 1)
            colours = {"cmap": "RdBu_r", "vmin": -1, "vmax": 1}
            self.image_ = _draw_mosaic(ax, images, _row_of(len(images)), **colours)
            ax.set_title(f"filters of {len(images)} units, each by its own maximum")
        else:
            ax = _axes(ax)
            colours = {"cmap": "RdBu_r", "vmin": -most, "vmax": most}
            self.image_ = ax.imshow(self.filters.T, aspect="auto", **colours)
            numbers = range(self.filters.shape[1])
            names = numbers if self.feature_names is None else self.feature_names
            ax.set_yticks(numbers, [_short(name) for name in names])
            ax.set(xlabel="hidden unit", title="weights")
            ax.set_xticks(range(len(self.units)), self.units, rotation=90)
            ax.figure.colorbar(self.image_, ax=ax)
        return ax


def _short(name) -> str:
    """A name for a tick, beside which there must be room for the picture."""
    text = str(name)
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 1]}…"


def _input_scale(estimator):
    """What one unit of each column is inside: gaussian columns have unit variance."""
    scaled = hasattr(estimator, "visible_scale_")
    return estimator.visible_scale_ if scaled else estimator._input_scale


def _check_has_layers(estimator) -> None:
    check_is_fitted(estimator)
    if not hasattr(estimator, "activations_"):
        raise TypeError(
            f"{type(estimator).__name__} has no layers of its own. Give a fitted stack "
            "or network of sklearn_greedy; of a StackedRBMClassifier its features_ or "
            "top_."
        )


def _hidden_coefs(estimator):
    """Weights of the hidden layers of a stack or of a network."""
    coefs = estimator.coefs_
    return coefs[:-1] if hasattr(estimator, "out_activation_") else coefs


class TrainingCurvesDisplay(_Display):
    """Losses of all phases of a training on one axis of epochs.

    Use ``from_estimator`` to make one. The losses of different layers have different
    units, so each curve is divided by its first value, that of validation rows by the
    first loss of the training rows.

    Parameters
    ----------
    curves : dict of list of float
        Name of a phase, in their order, to its losses.

    validation_curve : list of float or None, default=None
        Losses on validation rows in the last phase.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the plot.

    figure_ : matplotlib Figure
        Figure of the axes.

    lines_ : dict of matplotlib Line2D
        By name of the phase, and "validation".

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_greedy import GreedyPretrainedMLPClassifier
    >>> from sklearn_greedy import TrainingCurvesDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> clf = GreedyPretrainedMLPClassifier((8, 4), max_iter=50, tol=0.1).fit(X, y)
    >>> display = TrainingCurvesDisplay.from_estimator(clf)
    >>> list(display.lines_)
    ['layer 1', 'layer 2', 'fine-tuning']
    """

    def __init__(self, curves, *, validation_curve=None) -> None:
        self.curves = curves
        self.validation_curve = validation_curve

    @classmethod
    def from_estimator(cls, estimator, *, ax=None) -> Self:
        """Draw the losses of a fitted stack or network.

        Parameters
        ----------
        estimator : estimator
            A fitted stack or network.

        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a new figure.

        Returns
        -------
        display : TrainingCurvesDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If there is no curve: nothing was trained.
        """
        _check_has_layers(estimator)
        is_network = hasattr(estimator, "out_activation_")
        layers = (
            estimator.pretraining_loss_curves_ if is_network else estimator.loss_curves_
        )
        curves = {f"layer {i + 1}": list(losses) for i, losses in enumerate(layers)}
        if is_network:
            curves["head"] = estimator.head_loss_curve_
            curves["fine-tuning"] = estimator.loss_curve_
        else:
            curves["unrolled"] = getattr(estimator, "unrolled_loss_curve_", [])
        curves = {name: losses for name, losses in curves.items() if len(losses)}
        validation = getattr(estimator, "validation_loss_curve_", None)
        return cls(curves, validation_curve=validation).plot(ax=ax)

    def _draw(self, ax):
        if not self.curves:
            raise ValueError(
                "There is no curve to draw: nothing was trained, as with max_iter=0."
            )
        ax = _axes(ax)
        self.lines_, start, first, epochs = {}, 0, 1.0, np.arange(0)
        for name, losses in self.curves.items():
            if start:
                ax.axvline(start + 0.5, color="lightgray", lw=1, zorder=0)
            first = abs(losses[0]) or 1.0
            epochs = start + np.arange(1, len(losses) + 1)
            marker = "o" if len(losses) == 1 else None
            (self.lines_[name],) = ax.plot(
                epochs, np.divide(losses, first), marker=marker, label=name
            )
            start += len(losses)
        if self.validation_curve is not None:
            (self.lines_["validation"],) = ax.plot(
                epochs[: len(self.validation_curve)],  # partial_fit has none
                np.divide(self.validation_curve, first),
                "--",
                color="black",
                label="validation",
            )
        ax.set(xlabel="epoch", ylabel="loss, by that of the phase's first epoch")
        ax.legend()
        return ax


class HiddenUnitsDisplay(_Display):
    """Histogram of the mean activation of the hidden units, by layer.

    Use ``from_estimator`` to make one. Units at the lower end of their range on all
    rows are dead; logistic and tanh units at the upper end are saturated.

    Parameters
    ----------
    mean_activations : list of ndarray of shape (n_units,)
        One array per layer.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the plot.

    figure_ : matplotlib Figure
        Figure of the axes.

    patches_ : list of matplotlib artists
        One histogram per layer.

    See Also
    --------
    LearnedFiltersDisplay : What the units look at.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_greedy import HiddenUnitsDisplay, StackedRBMTransformer
    >>> X, _ = load_digits(return_X_y=True)
    >>> stack = StackedRBMTransformer((32, 16), random_state=0).fit(X / 16)
    >>> display = HiddenUnitsDisplay.from_estimator(stack, X / 16)
    >>> [len(means) for means in display.mean_activations]
    [32, 16]
    """

    def __init__(self, mean_activations) -> None:
        self.mean_activations = mean_activations

    @classmethod
    def from_estimator(cls, estimator, X, *, ax=None) -> Self:
        """Draw the activations of a fitted stack or network on some rows.

        Parameters
        ----------
        estimator : estimator
            A fitted stack or network.

        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a new figure.

        Returns
        -------
        display : HiddenUnitsDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If there is no hidden layer.
        """
        _check_has_layers(estimator)
        coefs = _hidden_coefs(estimator)
        if not coefs:
            raise ValueError("The network has no hidden layer.")
        kept = getattr(estimator, "n_active_", [None] * len(coefs))
        own = coefs, estimator.intercepts_, estimator.activations_, kept
        layers = zip(*own, strict=False)
        means, H = [], estimator._validate_rows(X)
        for coef, intercept, activation, n_active in layers:
            H = forward(H, [coef], [intercept], [activation], [n_active])
            means.append(H.mean(axis=0))
        return cls(means).plot(ax=ax)

    def _draw(self, ax):
        ax = _axes(ax)
        low = min(means.min() for means in self.mean_activations)
        high = max(means.max() for means in self.mean_activations)
        bins = np.linspace(low, high if high > low else low + 1, 31)
        self.patches_ = []
        for i, means in enumerate(self.mean_activations):
            label = f"layer {i + 1}: {len(means)} units"
            *_, patch = ax.hist(means, bins, histtype="step", lw=1.8, label=label)
            self.patches_.append(patch)
        ax.set(xlabel="mean activation of a unit", ylabel="units")
        ax.legend()
        return ax


class ReconstructionDisplay(_Display):
    """Rows as images, above what a stack rebuilds of them.

    Use ``from_estimator`` to make one.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Rows.

    rebuilt : ndarray of shape (n_samples, n_features)
        What a stack makes of them.

    image_shape : (int, int)
        Height and width of the images.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the plot.

    figure_ : matplotlib Figure
        Figure of the axes.

    image_ : matplotlib AxesImage
        The picture.

    See Also
    --------
    SamplesDisplay : Rows that an RBM stack draws.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_greedy import ReconstructionDisplay, StackedAutoencoderTransformer
    >>> X, _ = load_digits(return_X_y=True)
    >>> stack = StackedAutoencoderTransformer((32,), random_state=0).fit(X / 16)
    >>> display = ReconstructionDisplay.from_estimator(
    ...     stack, X[:10] / 16, image_shape=(8, 8)
    ... )
    >>> display.rebuilt.shape
    (10, 64)
    """

    def __init__(self, X, rebuilt, *, image_shape) -> None:
        self.X = X
        self.rebuilt = rebuilt
        self.image_shape = image_shape

    @classmethod
    def from_estimator(cls, estimator, X, *, image_shape, ax=None) -> Self:
        """Draw rows and what a fitted stack rebuilds of them.

        Parameters
        ----------
        estimator : StackedAutoencoderTransformer or StackedRBMTransformer
            A fitted stack.

        X : array-like of shape (n_samples, n_features)
            Rows, about ten of them.

        image_shape : (int, int)
            Height and width of the images.

        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a new figure.

        Returns
        -------
        display : ReconstructionDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the images have another number of pixels.

        TypeError
            If the estimator rebuilds no rows.
        """
        if not hasattr(estimator, "inverse_transform"):
            raise TypeError(
                f"{type(estimator).__name__} rebuilds no rows. Give a fitted "
                "StackedAutoencoderTransformer or StackedRBMTransformer."
            )
        rebuilt = estimator.inverse_transform(estimator.transform(X))
        X = X.toarray() if sparse.issparse(X) else np.asarray(X)
        return cls(X, rebuilt, image_shape=image_shape).plot(ax=ax)

    def _draw(self, ax):
        images = _as_images(np.vstack([self.X, self.rebuilt]), self.image_shape)
        ax = _axes(ax)
        colours = {"cmap": "gray", "vmin": self.X.min(), "vmax": self.X.max()}
        self.image_ = _draw_mosaic(ax, images, len(self.X), **colours)
        ax.set_title("rows, and below what is rebuilt of them")
        return ax


def _no_samples(estimator) -> str:
    name = type(estimator).__name__
    if hasattr(estimator, "sample"):
        return (
            f"{name} draws samples of given labels. Use "
            "SamplesDisplay(estimator.sample(y), image_shape=...).plot()."
        )
    return f"{name} cannot draw samples. Give a fitted StackedRBMTransformer."


class SamplesDisplay(_Display):
    """Rows drawn from an RBM stack, as images.

    Use ``from_estimator`` to make one.

    Parameters
    ----------
    samples : ndarray of shape (n_samples, n_features)
        Rows.

    image_shape : (int, int)
        Height and width of the images.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the plot.

    figure_ : matplotlib Figure
        Figure of the axes.

    image_ : matplotlib AxesImage
        The picture.

    See Also
    --------
    ReconstructionDisplay : What a stack rebuilds of given rows.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_greedy import SamplesDisplay, StackedRBMTransformer
    >>> X, _ = load_digits(return_X_y=True)
    >>> stack = StackedRBMTransformer((32,), random_state=0).fit(X / 16)
    >>> display = SamplesDisplay.from_estimator(
    ...     stack, image_shape=(8, 8), n_gibbs_steps=50, random_state=0
    ... )
    >>> display.samples.shape
    (25, 64)
    """

    def __init__(self, samples, *, image_shape) -> None:
        self.samples = samples
        self.image_shape = image_shape

    @classmethod
    def from_estimator(
        cls,
        estimator,
        *,
        image_shape,
        n_samples=25,
        n_gibbs_steps=1000,
        random_state=None,
        ax=None,
    ) -> Self:
        """Draw samples of a fitted RBM stack.

        Parameters
        ----------
        estimator : StackedRBMTransformer
            A fitted stack.

        image_shape : (int, int)
            Height and width of the images.

        n_samples : int, default=25
            Number of images.

        n_gibbs_steps : int, default=1000
            Gibbs steps of each chain.

        random_state : int, RandomState instance or None, default=None
            Seed of the draws.

        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a new figure.

        Returns
        -------
        display : SamplesDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the images have another number of pixels.

        TypeError
            If the estimator is no RBM stack.
        """
        check_is_fitted(estimator)
        if isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        if not isinstance(estimator, StackedRBMTransformer):
            raise TypeError(_no_samples(estimator))
        _check_axes(ax)
        _check_image_shape(image_shape, estimator.n_features_in_)
        samples = estimator.sample(
            n_samples, n_gibbs_steps=n_gibbs_steps, random_state=random_state
        )
        return cls(samples, image_shape=image_shape).plot(ax=ax)

    def _draw(self, ax):
        images = _as_images(self.samples, self.image_shape)
        ax = _axes(ax)
        self.image_ = _draw_mosaic(ax, images, _row_of(len(images)), cmap="gray")
        ax.set_title(f"{len(images)} samples")
        return ax
