"""Pictures. Matplotlib is imported when one is drawn."""

import numpy as np

from sklearn_greedy._compare import compare_pretraining


def _axes(ax):
    """The axes to draw on: the given ones, or those of a new figure."""
    try:
        from matplotlib import pyplot as plt
    except ImportError as exc:
        raise ImportError(
            "Pictures need matplotlib. Install it with: "
            "pip install 'sklearn-greedy[plot]'"
        ) from exc
    return plt.subplots()[1] if ax is None else ax


class PretrainingComparisonDisplay:
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

    def __init__(self, comparison):
        self.comparison = comparison

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        y,
        *,
        cv=None,
        scoring=None,
        random_state=None,
        n_jobs=None,
        ax=None,
    ):
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

        cv, scoring, random_state, n_jobs : object
            As in `compare_pretraining`.

        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a new figure.

        Returns
        -------
        display : PretrainingComparisonDisplay
            With the comparison as ``display.comparison``.
        """
        comparison = compare_pretraining(
            estimator,
            X,
            y,
            cv=cv,
            scoring=scoring,
            random_state=random_state,
            n_jobs=n_jobs,
        )
        return cls.from_comparison(comparison, ax=ax)

    @classmethod
    def from_comparison(cls, comparison, *, ax=None):
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
        """
        return cls(comparison).plot(ax=ax)

    def plot(self, ax=None):
        """Draw the scores.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a new figure.

        Returns
        -------
        display : PretrainingComparisonDisplay
            The display itself.
        """
        ax = _axes(ax)
        found = self.comparison
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
            title=f"{found.mean_difference:+.4f} by pre-training\n"
            f"(95 % interval {low:+.4f} to {high:+.4f})",
        )
        ax.set_xticks([0, 1], ["from scratch", "pre-trained"])
        ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self
