"""compare_pretraining: does pre-training help on these data?"""

import reprlib
import warnings
from functools import cache, partial

import numpy as np
from scipy import stats
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.metrics import check_scoring
from sklearn.model_selection import cross_validate
from sklearn.pipeline import Pipeline
from sklearn.utils import Bunch, check_random_state
from sklearn.utils.parallel import Parallel, delayed

from sklearn_greedy._compat import FrozenEstimator
from sklearn_greedy._mlp import GreedyPretrainedMLPRegressor
from sklearn_greedy._network import fold_input, forward, random_layers
from sklearn_greedy._rbm import StackedRBMTransformer
from sklearn_greedy._split import LabeledSplit
from sklearn_greedy._stack import GreedyStack
from sklearn_greedy._unlabeled import marked_rows

_CONFIDENCE = 0.95


def compare_pretraining(
    estimator,
    X,
    y,
    *,
    groups=None,
    cv=None,
    scoring=None,
    random_state=None,
    n_jobs=None,
    params=None,
) -> Bunch:
    """Score a network with and without its pre-training, fold by fold.

    Both networks have the same layers, activations and settings of the fine-tuning,
    see the same folds and, in each fold, start from the same seed. Without pre-training
    the hidden layers start random, as with ``pretrainer=None``, but columns and targets
    are scaled inside as the pretrainer scaled them, so that the scores differ by what
    the layers learned and not by the scaling. No layer is frozen or slowed down there,
    and no output layer trained alone (``n_frozen_layers``, ``layer_decay``,
    ``head_max_iter``).

    Parameters
    ----------
    estimator : GreedyPretrainedMLPClassifier, GreedyPretrainedMLPRegressor or Pipeline
        The network with a pretrainer, or a Pipeline that ends in it. It is cloned.

    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Data.

    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Targets; rows with the estimator's ``unlabeled`` value are pre-trained on and do
        not count in the scores.

    groups : array-like of shape (n_samples,), default=None
        Groups of the rows, for a ``cv`` that keeps them together.

    cv : int, cross-validation generator or iterable, default=None
        Folds, as in `~sklearn.model_selection.cross_validate`. At least two.

    scoring : str or callable, default=None
        Score, higher is better; None is the estimator's own.

    random_state : int, RandomState instance or None, default=None
        Seed of the networks.

    n_jobs : int or None, default=None
        Folds at a time, as in `~sklearn.model_selection.cross_validate`.

    params : dict, default=None
        What ``fit`` of the estimator is given beside X and y, such as
        ``{"sample_weight": w}`` or ``{"X_unlabeled": U}``, or, with metadata routing,
        the scorer too, as in `~sklearn.model_selection.cross_validate`. Arrays with as
        many rows as X are split into folds with it, all others are there in each.

    Returns
    -------
    comparison : `~sklearn.utils.Bunch`
        "pretrained_scores" and "scratch_scores", ndarray of shape (n_folds,), one pair
        per fold; "mean_difference" (pre-trained minus from scratch) and its
        "interval", a pair with 95 % confidence; "pretraining_seconds",
        "fine_tuning_seconds" and "scratch_seconds", ndarray of shape (n_folds,),
        without the time of compiling; "layer_reports", the health of each layer per
        fold (None where there is no stack, as with ``pretrainer="supervised"``); and a
        "verdict" in words.

    Raises
    ------
    ValueError
        If the estimator has no pretrainer, its layers have different activations, y is
        missing, ``scoring`` gives several numbers, or there are fewer than two folds.

    TypeError
        If the estimator is no network and no Pipeline that ends in one.

    See Also
    --------
    PretrainingComparisonDisplay : The scores as a picture.

    Notes
    -----
    Folds share training rows, so that their differences are not independent. The
    interval is that of the corrected resampled t-test [1]_: the variance of the
    differences is multiplied by ``1 / n_folds + n_test / n_train``. With few training
    rows and many test rows this is a cautious rule: its interval is wide, and only
    large differences are called clear. More folds narrow it little, more training rows
    do. Rows that are marked as unlabelled count for neither.

    References
    ----------
    .. [1] C. Nadeau and Y. Bengio, "Inference for the generalization error", Machine
       Learning 52, 2003, section 3.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_greedy import GreedyPretrainedMLPClassifier, compare_pretraining
    >>> X, y = load_iris(return_X_y=True)
    >>> clf = GreedyPretrainedMLPClassifier((8,), max_iter=20, tol=0.1)
    >>> found = compare_pretraining(clf, X, y, cv=3, random_state=0)
    >>> found.pretrained_scores.shape
    (3,)
    """
    network, prefix = _network_of(estimator)
    _check_comparable(network, y, scoring)
    marker = network.unlabeled
    splitter = LabeledSplit(cv, unlabeled=marker, stratify=is_classifier(network))
    folds = list(splitter.split(X, y, groups))
    marked = marked_rows(y, marker)
    if len(folds) < 2:
        raise ValueError(f"An interval needs at least two folds. Got {len(folds)}.")
    seed = int(check_random_state(random_state).randint(2**31))
    pretrained = clone(estimator).set_params(**{f"{prefix}random_state": seed})
    score = partial(
        _scores,
        X=X,
        y=y,
        folds=folds,
        scoring=scoring,
        n_jobs=n_jobs,
        params=params,
    )
    scores, networks = score([pretrained] * len(folds))
    scratch_scores, others = score(
        [_from_scratch(pretrained, prefix, network, seed) for network in networks]
    )
    comparison = Bunch(
        pretrained_scores=scores,
        scratch_scores=scratch_scores,
        pretraining_seconds=_seconds(networks, "pretraining"),
        fine_tuning_seconds=_seconds(networks, "fine_tuning"),
        scratch_seconds=_seconds(others, "fine_tuning"),
        layer_reports=[
            getattr(network.pretrainer_, "layer_report_", None) for network in networks
        ],
    )
    differences = comparison.pretrained_scores - comparison.scratch_scores
    comparison.mean_difference = float(differences.mean())
    # Marked rows train the layers alone; the interval goes by those with a target.
    comparison.interval = _interval(
        differences, [(train[~marked[train]], test) for train, test in folds]
    )
    comparison.verdict = _verdict(comparison)
    return comparison


def _check_comparable(network, y, scoring) -> None:
    """Raise where there is nothing to compare."""
    if network.pretrainer is None or _no_layers(network.pretrainer):
        raise ValueError(
            f"The estimator has pretrainer={network.pretrainer!r}: there is no "
            "pre-training to compare."
        )
    if y is None:
        raise ValueError("compare_pretraining needs y, the targets of the networks.")
    if isinstance(scoring, list | tuple | set | dict):
        raise _several_numbers(scoring)
    network._validate_params()
    _one_activation(_planned_activations(network.pretrainer))


def _scores(models, X, y, folds, scoring, n_jobs, params):
    """Scores of one model per fold, and the fitted networks."""
    scorer = check_scoring(models[0], scoring)
    kernels = _kernels_of(_network_of(models[0])[0])
    runs = Parallel(n_jobs)(
        delayed(_run)(
            kernels,
            model,
            X,
            y,
            cv=[fold],
            scoring=scorer,
            params=params,
            return_estimator=True,
            error_score="raise",
        )
        for model, fold in zip(models, folds, strict=True)
    )
    if "test_score" not in runs[0]:
        raise _several_numbers(scoring)
    scores = np.concatenate([run["test_score"] for run in runs])
    _check_finite(scores, scoring, folds)
    return scores, [_network_of(run["estimator"][0])[0] for run in runs]


def _run(kernels: tuple[str | None, str], *args, **options) -> dict:
    """Scores of cross_validate, whose times are those of a process that has fitted."""
    _load(*kernels)
    return cross_validate(*args, **options)


def _kernels_of(network) -> tuple[str | None, str]:
    """Pretrainer and solver of any network that runs on the same kernels."""
    stack = network.pretrainer
    is_rbm = isinstance(stack, StackedRBMTransformer) or stack == "rbm"
    return "rbm" if is_rbm else None, network.solver


@cache
def _load(pretrainer: str | None, solver: str) -> None:
    """Compile kernels, or load them, once in a process: that takes as long as many
    short fits. Stacks of autoencoders run on those of Adam.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two rows teach nothing
        for used in {solver, "adam"}:
            GreedyPretrainedMLPRegressor(
                (1,), pretrainer=pretrainer, solver=used, max_iter=1, random_state=0
            ).fit([[0.0], [1.0]], [0.0, 1.0])


def _network_of(estimator):
    """The network at the end of an estimator, and the prefix of its parameters."""
    prefix = ""
    while isinstance(estimator, Pipeline) and estimator.steps:
        prefix += f"{estimator.steps[-1][0]}__"
        estimator = estimator.steps[-1][1]
    if isinstance(estimator, type):
        raise TypeError(f"{estimator.__name__} is a class; give an instance.")
    if not hasattr(estimator, "pretrainer"):
        raise TypeError(
            f"{type(estimator).__name__} has no pretrainer. Give a "
            "GreedyPretrainedMLPClassifier, the regressor, or a Pipeline that ends in "
            "one."
        )
    return estimator, prefix


def _no_layers(pretrainer) -> bool:
    """Whether a list of arrays, or a pair of such lists, is empty."""
    return isinstance(pretrainer, list | tuple) and all(
        isinstance(part, list | tuple) and not part for part in pretrainer
    )


def _several_numbers(scoring) -> ValueError:
    return ValueError(
        f"scoring must give one number per fold. Got scoring={reprlib.repr(scoring)}."
    )


def _check_finite(scores, scoring, folds) -> None:
    for number, (score, (_, test)) in enumerate(zip(scores, folds, strict=True)):
        if not np.isfinite(score):
            rows = "1 test row" if len(test) == 1 else f"{len(test)} test rows"
            raise ValueError(
                f"The score of fold {number + 1} is {score}: "
                f"{scoring or 'the score of the estimator'} says nothing of its {rows}."
                " Use folds with more test rows, or another scoring."
            )


def _from_scratch(pretrained, prefix: str, network, seed: int):
    """The estimator with random hidden layers like those of a fitted network."""
    sizes = tuple(coef.shape[1] for coef in network.coefs_[:-1])
    activation, units = _one_activation(network.activations_), network._input_units()
    params = {
        "pretrainer": RandomLayers(sizes, activation, units.offset, units.scale, seed),
        "hidden_layer_sizes": sizes,
        "activation": activation,
        # These are for layers that were trained before.
        "supervised_weight": 0.0,
        "teacher": None,
        "layer_decay": 1.0,
        "n_frozen_layers": 0,
        "head_max_iter": 0,
    }
    named = {f"{prefix}{name}": value for name, value in params.items()}
    return clone(pretrained).set_params(**named)


def _planned_activations(pretrainer) -> list[str]:
    """Activations of the layers, as far as they are known before a fit."""
    if isinstance(pretrainer, FrozenEstimator):
        return list(getattr(pretrainer, "activations_", []))
    if not isinstance(pretrainer, GreedyStack):
        return []
    n_layers = len(pretrainer._checked_sizes())
    return [pretrainer._activation(layer) for layer in range(n_layers)]


def _one_activation(activations) -> str | None:
    """The activation of all hidden layers, or None where there are none."""
    used = set(activations)
    if len(used) > 1:
        raise ValueError(
            f"The layers have different activations ({sorted(used)}), which a network "
            "from scratch cannot have. Use one for all layers."
        )
    return next(iter(used), None)


def _seconds(networks, phase: str):
    return np.array([network.phase_seconds_[phase] for network in networks])


def _interval(differences, folds) -> tuple[float, float]:
    """Interval of the mean by the corrected resampled t-test."""
    n_folds = len(differences)
    share = np.mean([len(test) / len(train) for train, test in folds])
    error = np.sqrt(differences.var(ddof=1) * (1 / n_folds + share))
    reach = error * stats.t.ppf((1 + _CONFIDENCE) / 2, n_folds - 1)
    mean = differences.mean()
    return float(mean - reach), float(mean + reach)


def change(score: float) -> str:
    """A difference of scores, which may be of any size."""
    return f"{score:+.3g}"


def _verdict(comparison) -> str:
    low, high = comparison.interval
    if low > 0:
        finding = "Pre-training helped"
    elif high < 0:
        finding = "Pre-training hurt"
    else:
        finding = "No clear difference"
    longer = np.mean(
        (comparison.pretraining_seconds + comparison.fine_tuning_seconds)
        / comparison.scratch_seconds
    )
    return (
        f"{finding}: the score changed by {change(comparison.mean_difference)} "
        f"(95 % interval {change(low)} to {change(high)}); training took {longer:.1f} "
        "times as long."
    )


class RandomLayers(BaseEstimator):
    """A pretrainer that trains nothing: hidden layers as with ``pretrainer=None``, for
    input (and targets) scaled as after a pre-training.

    sizes : widths of the layers; offset, scale : (n_features,) of the input.
    """

    def __init__(self, sizes, activation, offset, scale, random_state):
        self.sizes = sizes
        self.activation = activation
        self.offset = offset
        self.scale = scale
        self.random_state = random_state

    def fit(self, X, y=None):
        rng = np.random.default_rng(self.random_state)
        widths = [X.shape[1], *self.sizes]
        pairs = random_layers(rng, widths, self.activation)
        self.activations_ = [self.activation] * len(pairs)
        self.visible_offset_, self.visible_scale_ = self.offset, self.scale
        coef, intercept = pairs[0]
        pairs[0] = fold_input(coef, intercept, self.offset, self.scale)
        self.coefs_, self.intercepts_ = map(list, zip(*pairs, strict=True))
        return self

    def transform(self, X):
        return forward(X, self.coefs_, self.intercepts_, self.activations_)
