"""GreedyPretrainedMLPClassifier and -Regressor: what users see of the networks."""

import reprlib
from numbers import Real
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import check_array, column_or_1d
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import (
    check_classification_targets,
    type_of_target,
    unique_labels,
)

from sklearn_greedy._base import ScoresLabelled
from sklearn_greedy._compat import (
    HasMethods,
    Interval,
    StrOptions,
    available_if,
    check_partial_fit_first_call,
    fit_context,
    told_of,
)
from sklearn_greedy._fine_tuning import GreedyPretrainedMLP, has_epochs
from sklearn_greedy._fitting import fitting
from sklearn_greedy._rows import OneHotRows, Rows
from sklearn_greedy._teacher import said_by
from sklearn_greedy._units import ColumnStatistics, Units, choose_units
from sklearn_greedy._unlabeled import marked_rows

Array = npt.NDArray

# By so much probabilities may lie outside of [0, 1].
_ROUNDING = 1e-6


class GreedyPretrainedMLPClassifier(
    ScoresLabelled, ClassifierMixin, GreedyPretrainedMLP
):
    """Multi-layer perceptron classifier with greedy layer-wise pre-training.

    ``fit`` trains the hidden layers one after the other without the labels [1]_ [2]_,
    puts a random output layer on top and fine-tunes all layers together on the
    labels. Where the pretrainer standardises gaussian columns, the fine-tuning does
    too; ``coefs_`` applies to raw X.

    Parameters
    ----------
    hidden_layer_sizes : int, array-like of int or None, default=None
        Number of units of each hidden layer. None takes the sizes of the pretrainer, or
        ``(100,)`` where ``pretrainer`` is a name or None.

    pretrainer : {"autoencoder", "rbm", "supervised"}, estimator, list, tuple or None, \
            default="autoencoder"
        What the hidden layers begin with. "autoencoder" and "rbm" train a transformer
        with its defaults; give an unfitted `StackedAutoencoderTransformer` or
        `StackedRBMTransformer` for others (it is cloned, never fitted in place), or a
        fitted one wrapped in `~sklearn.frozen.FrozenEstimator` (used as it is).
        "supervised" trains each layer on the targets, with a temporary output layer
        and the solver of the fine-tuning. A list holds the weights of each hidden layer
        (n_in, n_out), for raw X; a pair of lists weights and biases. None is a random
        start as in MLPClassifier. Neither arrays nor None scale the columns of X.

    activation : {"auto", "relu", "logistic", "tanh", "identity", "softplus", "elu"}, \
            default="auto"
        Activation of the hidden layers. "auto" is the pretrainer's, or "relu" without
        one.

    solver : {"adam", "sgd", "lbfgs"}, default="adam"
        Optimiser of the fine-tuning. "lbfgs" takes all rows at once, dense and in
        float64, and runs to the minimum: for small data. It has no ``partial_fit``.

    alpha : float, default=0.0001
        L2 penalty: ``alpha / (2 n)`` times the sum of squared weights is added to the
        mean loss of the n training rows, whatever the batch size. In [0, inf).

    batch_size : int or "auto", default="auto"
        Rows of a mini-batch, all where there are fewer; "auto" is
        ``min(200, n_samples)``.

    learning_rate : {"constant", "invscaling", "adaptive", "cosine"}, default="constant"
        Schedule of the step size. "cosine" lets it fall along half a cosine, from
        ``learning_rate_init`` in the first epoch to next to 0 in epoch ``max_iter``
        (not in ``partial_fit``, which has no last epoch) [5]_;
        ``n_iter_no_change=np.inf`` lets training run that far. The others change that
        of "sgd" alone: "invscaling" divides it by ``(n_rows_seen + 1) ** power_t``
        after each epoch, "adaptive" by 5 each time the training would end by ``tol``,
        until it is below 1e-6 (never in ``partial_fit``, which does not end by
        ``tol``).

    learning_rate_init : float, default=0.001
        Step size of the fine-tuning, in (0, inf).

    power_t : float, default=0.5
        Exponent of "invscaling", in [0, inf).

    max_iter : int, default=200
        Most epochs of fine-tuning.

    shuffle : bool, default=True
        Whether to visit the rows in a new random order in every epoch.

    random_state : int, RandomState instance or None, default=None
        Seed of initialisation, shuffling, the validation split and a pretrainer without
        a seed of its own.

    tol : float, default=1e-4
        Fine-tuning ends when the loss (with ``early_stopping``: the validation score)
        has not improved by ``tol`` for more than ``n_iter_no_change`` epochs.

    verbose : bool or int, default=False
        Whether to print a line per epoch.

    warm_start : bool, default=False
        Whether ``fit`` goes on from the present parameters, without pre-training. Rows
        held out stay the same ones with an int as ``random_state``; dropout and
        shuffles are those of later epochs, while schedules of the step size begin anew.

    momentum : float, default=0.9
        Momentum of "sgd", in [0, 1].

    nesterovs_momentum : bool, default=True
        Whether "sgd" uses Nesterov's momentum.

    early_stopping : bool, default=False
        Whether to hold out rows (in proportion to the classes), follow the
        validation score and keep the parameters of the best epoch. ``X_val`` and
        ``y_val`` of ``fit`` take the place of these rows.

    validation_fraction : float, default=0.1
        Share of the rows held out by ``early_stopping``, in [0, 1).

    beta_1 : float, default=0.9
        Decay of the first moment of "adam", in [0, 1).

    beta_2 : float, default=0.999
        Decay of the second moment of "adam", in [0, 1).

    epsilon : float, default=1e-8
        Numerical floor of "adam", in (0, inf).

    n_iter_no_change : int or inf, default=10
        Epochs without improvement that end the fine-tuning.

    max_fun : int, default=15000
        Most evaluations of the loss by "lbfgs".

    unlabeled : scalar or None, default=None
        Value that marks rows of y without a label, such as -1, "" or NaN (which stands
        for every kind of missing value). They take part in the pre-training alone, not
        in the fine-tuning, the validation split or ``score``. (Scorers by name, such as
        ``scoring="accuracy"`` of a search, count them as errors, and scikit-learn's
        own folds refuse NaN: `LabeledSplit` is for both.) None: there are none.

    head_max_iter : int, default=0
        Epochs in which the output layer alone is trained on the pre-trained features,
        before all layers move: the gradients of a random output layer do not reach
        the layers below. Not for "lbfgs"; there are no such epochs at a warm start, in
        ``partial_fit`` and with ``pretrainer=None``.

    supervised_weight : float, default=0.0
        Weight s, in [0, 1], of the targets in the pre-training by a stack: each layer
        (and the code of an unrolled network) also has a temporary output layer, and
        mini-batches for its own loss alternate with others for the loss of the targets,
        at ``1 - s`` and ``s`` times the learning rate. Penalties belong to the former.
        Rows held out by ``early_stopping`` take no part in the latter. At 1 the targets
        of (corrupted) rows are all that is learned: rows without one teach nothing,
        unless a ``teacher`` gives them one, and ``early_stopping`` of the stack, which
        follows a score of its own, is an error.

    teacher : estimator or None, default=None
        Gives rows without a label targets for the pre-training: its ``predict_proba``,
        which the temporary output layers of ``supervised_weight`` learn beside the
        labels ([6]_). It is cloned and fitted on the rows with a label that are not
        held out, with their weights, and on those without where its ``fit`` takes
        ``X_unlabeled``; a fitted one wrapped in `~sklearn.frozen.FrozenEstimator` is
        used as it is. The fine-tuning sees labels alone. A network like this one,
        without a teacher, makes a good one.

    keep_head : bool, default=True
        Whether the output layer begins as the temporary one of the last layer (or of
        the unrolled network) ended, where the targets took part in the pre-training
        (``supervised_weight``, ``pretrainer="supervised"``). Random weights, the
        alternative, know nothing of labels that the pre-training learned by heart.

    dropout : float, default=0.0
        Share of the hidden units that is dropped in each row of a mini-batch of the
        fine-tuning, in [0, 1); the others are scaled up by ``1 / (1 - dropout)``.
        Predictions use all units ([4]_). Not for "lbfgs".

    input_dropout : float, default=0.0
        The same for the columns of X.

    max_norm : float or None, default=None
        Greatest Euclidean length of the weights into a hidden unit, to which they are
        shortened after each update (for scaled columns where the pretrainer scales
        them). Not for "lbfgs".

    layer_decay : float, default=1.0
        Factor in (0, 1] from the learning rate of each layer to that of the layer
        below: the output layer has the full one, pre-trained layers move less. Not for
        "lbfgs".

    n_frozen_layers : int, default=0
        Hidden layers, counted from below, that the fine-tuning does not change.

    class_weight : dict, list of dict, "balanced" or None, default=None
        Weights of the classes in both phases, on top of ``sample_weight``:
        ``{label: weight}``, where classes left out weigh 1, or "balanced" for
        ``n_samples / (n_classes * count)``, which ``partial_fit`` cannot know. For
        multilabel targets a list with a ``{0: weight, 1: weight}`` per label, whose
        product a row gets, as in `~sklearn.utils.class_weight.compute_sample_weight`.
        Held-out rows are scored with these weights, rows given as ``X_val`` without.

    label_smoothing : float, default=0.0
        Share s of the target that is spread evenly over the classes, in [0, 1): the
        network is trained towards ``(1 - s) + s / n_classes`` for the label of a row
        and ``s / n_classes`` for the others ([3]_, section 7). Each label of a
        multilabel row counts as two classes, so that ``s / 2`` takes their place.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.

    pretrainer_ : estimator or None
        The fitted transformer, where there is one.

    teacher_ : estimator or None
        The fitted teacher, where it taught.

    pretraining_loss_curves_ : list of list of float
        Training loss in each epoch of the pre-training, one list per layer.

    coefs_ : list of ndarray of shape (n_in, n_out)
        Weights of each layer, for raw input, laid out as in MLPClassifier.

    intercepts_ : list of ndarray of shape (n_out,)
        Biases of each layer, for raw input.

    loss_curve_ : list of float
        Mean training loss plus penalty of each epoch of fine-tuning.

    loss_ : float
        Last entry of ``loss_curve_``.

    best_loss_ : float or None
        Least entry of ``loss_curve_``; None with ``early_stopping``.

    validation_scores_ : list of float or None
        Accuracy after each epoch on the rows held out by ``early_stopping``, or on
        ``X_val``.

    validation_loss_curve_ : list of float or None
        Mean loss on these rows, without penalty, noise and smoothing.

    best_validation_score_ : float or None
        Best of ``validation_scores_``.

    n_iter_ : int
        Epochs of fine-tuning.

    t_ : int
        Training rows visited in fine-tuning.

    head_loss_curve_ : list of float
        Mean training loss plus penalty, of the output layer alone, in the epochs of
        ``head_max_iter``.

    phase_seconds_ : dict of float
        Seconds of "pretraining" and of "fine_tuning" in the last ``fit`` (which
        ``partial_fit`` has not).

    n_layers_ : int
        Number of layers, input and output included.

    n_outputs_ : int
        Number of output units.

    activations_ : list of str
        Activation of each hidden layer.

    out_activation_ : str
        Activation of the output layer.

    n_features_in_ : int
        Number of columns seen in ``fit``.

    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns, where they are all strings.

    See Also
    --------
    GreedyPretrainedMLPRegressor : The same for regression.
    StackedAutoencoderTransformer : The autoencoder stack behind "autoencoder".
    StackedRBMTransformer : The RBM stack behind "rbm".
    sklearn.neural_network.MLPClassifier : The network without pre-training.

    References
    ----------
    .. [1] G. Hinton and R. Salakhutdinov, "Reducing the dimensionality of data with
       neural networks", Science 313, 2006.
    .. [2] Y. Bengio et al., "Greedy layer-wise training of deep networks", NIPS 2006.
    .. [3] C. Szegedy et al., "Rethinking the Inception architecture for computer
       vision", CVPR 2016.
    .. [4] N. Srivastava et al., "Dropout: a simple way to prevent neural networks from
       overfitting", JMLR 15, 2014.
    .. [5] I. Loshchilov and F. Hutter, "SGDR: stochastic gradient descent with warm
       restarts", ICLR 2017 (equation 5, without restarts).
    .. [6] Q. Xie et al., "Self-training with Noisy Student improves ImageNet
       classification", CVPR 2020 (soft labels, and noise for who learns them).

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_greedy import GreedyPretrainedMLPClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = GreedyPretrainedMLPClassifier((64,), max_iter=30, tol=0.1, random_state=0)
    >>> bool(clf.fit(X[:1500], y[:1500]).score(X[1500:], y[1500:]) > 0.85)
    True
    """

    _parameter_constraints: dict = {
        **GreedyPretrainedMLP._parameter_constraints,
        "teacher": [HasMethods(["fit", "predict_proba"]), None],
        "class_weight": [StrOptions({"balanced"}), dict, list, None],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(
        self,
        hidden_layer_sizes=None,
        *,
        pretrainer="autoencoder",
        activation="auto",
        solver="adam",
        alpha=0.0001,
        batch_size="auto",
        learning_rate="constant",
        learning_rate_init=0.001,
        power_t=0.5,
        max_iter=200,
        shuffle=True,
        random_state=None,
        tol=1e-4,
        verbose=False,
        warm_start=False,
        momentum=0.9,
        nesterovs_momentum=True,
        early_stopping=False,
        validation_fraction=0.1,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        n_iter_no_change=10,
        max_fun=15000,
        unlabeled=None,
        head_max_iter=0,
        supervised_weight=0.0,
        teacher=None,
        keep_head=True,
        dropout=0.0,
        input_dropout=0.0,
        max_norm=None,
        layer_decay=1.0,
        n_frozen_layers=0,
        class_weight=None,
        label_smoothing=0.0,
    ) -> None:
        super().__init__(
            hidden_layer_sizes,
            pretrainer=pretrainer,
            activation=activation,
            solver=solver,
            alpha=alpha,
            batch_size=batch_size,
            learning_rate=learning_rate,
            learning_rate_init=learning_rate_init,
            power_t=power_t,
            max_iter=max_iter,
            shuffle=shuffle,
            random_state=random_state,
            tol=tol,
            verbose=verbose,
            warm_start=warm_start,
            momentum=momentum,
            nesterovs_momentum=nesterovs_momentum,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            n_iter_no_change=n_iter_no_change,
            max_fun=max_fun,
            unlabeled=unlabeled,
            head_max_iter=head_max_iter,
            supervised_weight=supervised_weight,
            teacher=teacher,
            keep_head=keep_head,
            dropout=dropout,
            input_dropout=input_dropout,
            max_norm=max_norm,
            layer_decay=layer_decay,
            n_frozen_layers=n_frozen_layers,
        )
        self.class_weight = class_weight
        self.label_smoothing = label_smoothing

    @available_if(has_epochs)
    @fit_context(prefer_skip_nested_validation=False)
    def partial_fit(self, X, y, classes=None, sample_weight=None) -> Self:
        """Fine-tune on one more chunk of rows, in the order given.

        The penalty ``alpha`` is over the rows of the chunk. The first chunk also
        pre-trains the hidden layers; where it scales columns, their scale is from then
        on that of all rows so far, unless ``fit`` came first or layers are frozen. To
        pre-train on a stream, use ``partial_fit`` of a transformer and give it wrapped
        in `~sklearn.frozen.FrozenEstimator`.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            A chunk of training data, of any size.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Labels.
        classes : array-like of shape (n_classes,), default=None
            All labels that can occur; needed in the first call.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        self : object
            The classifier after the chunk.

        Raises
        ------
        ValueError
            If early stopping is on, ``classes`` is missing or changes, or training
            diverges.
        """
        with fitting(self):
            if isinstance(self.class_weight, str):
                raise ValueError(
                    "class_weight='balanced' needs the counts of all rows, which "
                    "partial_fit never sees. Give a dict of the classes, with weights "
                    "as sklearn.utils.class_weight.compute_class_weight has them for a "
                    "sample."
                )
            check_partial_fit_first_call(self, classes)
            return self._partial_fit(X, y, sample_weight, classes)

    def predict(self, X) -> Array:
        """Most probable class of each row (for multilabel: each label above 1/2).

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_classes)
            Predicted labels.
        """
        means = self._output_means(X)
        if self._multilabel:
            return (means > 0.5).astype(int)
        return self.classes_[_winners(means)]

    def predict_proba(self, X) -> Array:
        """Probability of each class.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            Probabilities in the order of ``classes_``; rows sum to 1, except for
            multilabel targets.
        """
        means = self._output_means(X)
        if means.shape[1] == 1:
            return np.hstack([1 - means, means])
        return means

    def predict_log_proba(self, X) -> Array:
        """Logarithm of ``predict_proba``.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        log_proba : ndarray of shape (n_samples, n_classes)
            Log-probabilities.
        """
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    @property
    def _multilabel(self) -> bool:
        return self.out_activation_ == "logistic" and self.n_outputs_ > 1

    def _check_targets(self, y, reset: bool, classes=None) -> Array:
        """Codes of the classes, or the indicator matrix of a multilabel problem."""
        if isinstance(y, np.ndarray):
            # Older scikit-learns know no numbers but in the machine's byte order.
            y = y.astype(y.dtype.newbyteorder("="), copy=False)
        check_classification_targets(y)
        multilabel = type_of_target(y, input_name="y") == "multilabel-indicator"
        if sparse.issparse(y):
            y = y.toarray()
        if not multilabel:
            y = column_or_1d(y, warn=True)
        # Of an indicator matrix scikit-learn's unique_labels would make a sparse one.
        labels = np.arange(y.shape[1]) if multilabel else unique_labels(y)
        if classes is not None and marked_rows(classes, self.unlabeled).any():
            raise ValueError(
                f"classes holds unlabeled={self.unlabeled!r}, which marks rows without "
                "a label. Leave it out."
            )
        if reset:
            self.classes_ = labels if classes is None else unique_labels(classes)
            self._set_head(multilabel, "y" if classes is None else "classes")
        elif multilabel != self._multilabel:
            seen, known = "several labels", "one label"
            if self._multilabel:
                seen, known = known, seen
            raise ValueError(
                f"y has {seen} per row, but the network has {known}. Give targets of "
                "one kind, or fit a clone to start anew."
            )
        if multilabel and y.shape[1] != len(self.classes_):
            raise ValueError(
                f"y has {y.shape[1]} labels, but the network has "
                f"{len(self.classes_)}: {self.classes_.tolist()}. Give y a column for "
                "each."
            )
        if multilabel and not np.isin(y, (0, 1)).all():
            raise ValueError(
                "Multilabel targets must be 0 or 1. Got the values "
                f"{np.unique(y).tolist()}."
            )
        unseen = np.setdiff1d(labels, self.classes_)
        if len(unseen):
            raise ValueError(
                f"y has the classes {reprlib.repr(unseen.tolist())}, which are not "
                f"among the known ones {reprlib.repr(self.classes_.tolist())}."
            )
        return y if multilabel else np.searchsorted(self.classes_, y)

    def _given_targets(self, y: Array) -> Array:
        return y if self._multilabel else self.classes_[y]

    def _class_weights(self, y: Array) -> Array | None:
        if self.class_weight is None:
            return None
        weights = self._weights_by_class(y)
        if not np.all(np.isfinite(weights)) or weights.min() < 0:
            raise ValueError(
                f"class_weight must be finite and not negative. Got "
                f"{self.class_weight!r}."
            )
        return weights

    def _weights_by_class(self, y: Array) -> Array:
        given = self.class_weight
        if self._multilabel or isinstance(given, str):
            return compute_sample_weight(given, y)
        if isinstance(given, list):
            raise ValueError(
                "A list of class_weight belongs to multilabel targets, but each row of "
                f"y has one label. Give a dict. Got {given!r}."
            )
        classes = self.classes_.tolist()
        known = set(classes)
        unknown = [label for label in given if label not in known]
        if unknown:
            raise ValueError(
                f"class_weight has the classes {reprlib.repr(unknown)}, which are not "
                f"among the known ones {reprlib.repr(classes)}."
            )
        return np.array([given.get(label, 1.0) for label in classes], dtype=float)[y]

    def _check_unchanged(self) -> None:
        super()._check_unchanged()
        if not self._multilabel and marked_rows(self.classes_, self.unlabeled).any():
            raise ValueError(
                f"unlabeled={self.unlabeled!r} is one of the fitted classes: "
                f"{reprlib.repr(self.classes_.tolist())}. Set it back, or call fit on "
                "a clone to start anew."
            )

    def _check_warm(self, y) -> None:
        super()._check_warm(y)
        if y.ndim == 1 and len(np.unique(y)) < len(self.classes_):
            raise ValueError(
                "With warm_start=True, y must have the same classes as before: "
                f"{self.classes_.tolist()}. Got {self.classes_[np.unique(y)].tolist()}."
            )

    def _set_head(self, multilabel: bool, source: str) -> None:
        """The output layer for ``classes_``, which were found in y or classes."""
        n_classes = len(self.classes_)
        if n_classes < 2 and not multilabel:
            found = "no class"
            if n_classes:
                found = f"only one class: {self.classes_.tolist()[0]!r}"
            raise ValueError(
                f"{type(self).__name__} needs at least two classes, but {source} has "
                f"{found}."
            )
        binary = n_classes == 2 and not multilabel
        self.n_outputs_ = 1 if binary else n_classes
        self.out_activation_ = "logistic" if binary or multilabel else "softmax"

    def _target_rows(self, y: Array, training: bool = True):
        smoothing = self.label_smoothing if training else 0.0
        if self.out_activation_ == "softmax":
            return OneHotRows(y, self.n_outputs_, smoothing)
        y = y if self._multilabel else y[:, None]
        if smoothing > 0:
            y = y * (1 - smoothing) + smoothing / 2
        return Rows(y)

    def _taught_rows(self, X) -> Rows:
        known = getattr(self.teacher_, "classes_", self.classes_)
        if not (self._multilabel or np.array_equal(known, self.classes_)):
            raise ValueError(
                f"teacher knows the classes {reprlib.repr(list(known))}, but y has "
                f"{reprlib.repr(self.classes_.tolist())}. Give one that was fitted on "
                "these, or an unfitted one."
            )
        proba = said_by(self.teacher_, X, "predict_proba")
        binary = self.n_outputs_ == 1
        expected = X.shape[0], 2 if binary else self.n_outputs_
        if proba.shape != expected:
            raise ValueError(
                "predict_proba of the teacher must return an array of shape "
                f"{expected}. Got {proba.shape}."
            )
        if not np.all(np.abs(proba - 0.5) <= 0.5 + _ROUNDING):
            raise ValueError(
                "predict_proba of the teacher must return probabilities. Got values "
                f"from {proba.min():.4g} to {proba.max():.4g}."
            )
        return Rows(proba[:, 1:] if binary else proba)

    def _held_out_score(self, y: Array, means: Array, weights) -> float:
        if self._multilabel:
            right = np.all((means > 0.5) == y, axis=1)
        else:
            right = _winners(means) == y
        return float(np.average(right, weights=weights))

    def _strata(self, y: Array):
        return None if self._multilabel else self.classes_[y]


def _winners(means: Array) -> Array:
    """Code of the most probable class from one (binary) or more output units."""
    return means.argmax(axis=1) if means.shape[1] > 1 else (means[:, 0] > 0.5) * 1


class GreedyPretrainedMLPRegressor(ScoresLabelled, RegressorMixin, GreedyPretrainedMLP):
    """Multi-layer perceptron regressor with greedy layer-wise pre-training.

    ``fit`` trains the hidden layers one after the other without the targets, puts a
    random output layer on top and fine-tunes all layers together on the squared
    error or the poisson deviance. With a pretrainer, gaussian columns of X and the
    targets of the squared error are standardised inside; ``coefs_`` applies to raw
    data.

    Parameters
    ----------
    hidden_layer_sizes : int, array-like of int or None, default=None
        Number of units of each hidden layer. None takes the sizes of the pretrainer, or
        ``(100,)`` where ``pretrainer`` is a name or None.

    pretrainer : {"autoencoder", "rbm", "supervised"}, estimator, list, tuple or None, \
            default="autoencoder"
        What the hidden layers begin with. "autoencoder" and "rbm" train a transformer
        with its defaults; give an unfitted `StackedAutoencoderTransformer` or
        `StackedRBMTransformer` for others (it is cloned, never fitted in place), or a
        fitted one wrapped in `~sklearn.frozen.FrozenEstimator` (used as it is).
        "supervised" trains each layer on the targets, with a temporary output layer
        and the solver of the fine-tuning. A list holds the weights of each hidden layer
        (n_in, n_out), for raw X; a pair of lists weights and biases. None is a random
        start as in MLPRegressor. Neither arrays nor None scale the columns of X, and
        None not the targets either.

    activation : {"auto", "relu", "logistic", "tanh", "identity", "softplus", "elu"}, \
            default="auto"
        Activation of the hidden layers. "auto" is the pretrainer's, or "relu" without
        one.

    solver : {"adam", "sgd", "lbfgs"}, default="adam"
        Optimiser of the fine-tuning. "lbfgs" takes all rows at once, dense and in
        float64, and runs to the minimum: for small data. It has no ``partial_fit``.

    alpha : float, default=0.0001
        L2 penalty: ``alpha / (2 n)`` times the sum of squared weights is added to the
        mean loss of the n training rows, whatever the batch size. In [0, inf).

    batch_size : int or "auto", default="auto"
        Rows of a mini-batch, all where there are fewer; "auto" is
        ``min(200, n_samples)``.

    learning_rate : {"constant", "invscaling", "adaptive", "cosine"}, default="constant"
        Schedule of the step size. "cosine" lets it fall along half a cosine, from
        ``learning_rate_init`` in the first epoch to next to 0 in epoch ``max_iter``
        (not in ``partial_fit``, which has no last epoch) [3]_;
        ``n_iter_no_change=np.inf`` lets training run that far. The others change that
        of "sgd" alone: "invscaling" divides it by ``(n_rows_seen + 1) ** power_t``
        after each epoch, "adaptive" by 5 each time the training would end by ``tol``,
        until it is below 1e-6 (never in ``partial_fit``, which does not end by
        ``tol``).

    learning_rate_init : float, default=0.001
        Step size of the fine-tuning, in (0, inf).

    power_t : float, default=0.5
        Exponent of "invscaling", in [0, inf).

    max_iter : int, default=200
        Most epochs of fine-tuning.

    shuffle : bool, default=True
        Whether to visit the rows in a new random order in every epoch.

    random_state : int, RandomState instance or None, default=None
        Seed of initialisation, shuffling, the validation split and a pretrainer without
        a seed of its own.

    tol : float, default=1e-4
        Fine-tuning ends when the loss (with ``early_stopping``: the validation score)
        has not improved by ``tol`` for more than ``n_iter_no_change`` epochs.

    verbose : bool or int, default=False
        Whether to print a line per epoch.

    warm_start : bool, default=False
        Whether ``fit`` goes on from the present parameters, without pre-training. Rows
        held out stay the same ones with an int as ``random_state``; dropout and
        shuffles are those of later epochs, while schedules of the step size begin anew.

    momentum : float, default=0.9
        Momentum of "sgd", in [0, 1].

    nesterovs_momentum : bool, default=True
        Whether "sgd" uses Nesterov's momentum.

    early_stopping : bool, default=False
        Whether to hold out rows, follow the validation score and keep the parameters of
        the best epoch. ``X_val`` and ``y_val`` of ``fit`` take the place of these rows.

    validation_fraction : float, default=0.1
        Share of the rows held out by ``early_stopping``, in [0, 1).

    beta_1 : float, default=0.9
        Decay of the first moment of "adam", in [0, 1).

    beta_2 : float, default=0.999
        Decay of the second moment of "adam", in [0, 1).

    epsilon : float, default=1e-8
        Numerical floor of "adam", in (0, inf).

    n_iter_no_change : int or inf, default=10
        Epochs without improvement that end the fine-tuning.

    max_fun : int, default=15000
        Most evaluations of the loss by "lbfgs".

    unlabeled : scalar or None, default=None
        Value that marks rows of y without a target, such as NaN. They take part in the
        pre-training alone, not in the fine-tuning, the validation split or ``score``.
        (Scorers by name, such as ``scoring="r2"`` of a search, take them for targets
        or fail on NaN, unless folds are those of `LabeledSplit`.) None: there are none.

    head_max_iter : int, default=0
        Epochs in which the output layer alone is trained on the pre-trained features,
        before all layers move: the gradients of a random output layer do not reach
        the layers below. Not for "lbfgs"; there are no such epochs at a warm start, in
        ``partial_fit`` and with ``pretrainer=None``.

    supervised_weight : float, default=0.0
        Weight s, in [0, 1], of the targets in the pre-training by a stack: each layer
        (and the code of an unrolled network) also has a temporary output layer, and
        mini-batches for its own loss alternate with others for the loss of the targets,
        at ``1 - s`` and ``s`` times the learning rate. Penalties belong to the former.
        Rows held out by ``early_stopping`` take no part in the latter. At 1 the targets
        of (corrupted) rows are all that is learned: rows without one teach nothing,
        unless a ``teacher`` gives them one, and ``early_stopping`` of the stack, which
        follows a score of its own, is an error.

    teacher : estimator or None, default=None
        Gives rows without a target one for the pre-training, which it predicts, and
        the temporary output layers of ``supervised_weight`` learn beside the others
        ([4]_). It is cloned and fitted on the rows with a target that are not held out,
        with their weights, and on those without where its ``fit`` takes
        ``X_unlabeled``; a fitted one wrapped in `~sklearn.frozen.FrozenEstimator` is
        used as it is. The fine-tuning sees given targets alone. A network like this
        one, without a teacher, makes a good one.

    keep_head : bool, default=True
        Whether the output layer begins as the temporary one of the last layer (or of
        the unrolled network) ended, where the targets took part in the pre-training
        (``supervised_weight``, ``pretrainer="supervised"``). Random weights, the
        alternative, know nothing of labels that the pre-training learned by heart.

    dropout : float, default=0.0
        Share of the hidden units that is dropped in each row of a mini-batch of the
        fine-tuning, in [0, 1); the others are scaled up by ``1 / (1 - dropout)``.
        Predictions use all units ([2]_). Not for "lbfgs".

    input_dropout : float, default=0.0
        The same for the columns of X.

    max_norm : float or None, default=None
        Greatest Euclidean length of the weights into a hidden unit, to which they are
        shortened after each update (for scaled columns where the pretrainer scales
        them). Not for "lbfgs".

    layer_decay : float, default=1.0
        Factor in (0, 1] from the learning rate of each layer to that of the layer
        below: the output layer has the full one, pre-trained layers move less. Not for
        "lbfgs".

    n_frozen_layers : int, default=0
        Hidden layers, counted from below, that the fine-tuning does not change.

    loss : {"squared_error", "poisson"}, default="squared_error"
        What is minimised: half the squared error, or half the poisson deviance of
        targets that are not negative, with predictions ``exp(output)``.

    Attributes
    ----------
    pretrainer_ : estimator or None
        The fitted transformer, where there is one.

    teacher_ : estimator or None
        The fitted teacher, where it taught.

    pretraining_loss_curves_ : list of list of float
        Training loss in each epoch of the pre-training, one list per layer.

    coefs_ : list of ndarray of shape (n_in, n_out)
        Weights of each layer, for raw input, laid out as in MLPRegressor.

    intercepts_ : list of ndarray of shape (n_out,)
        Biases of each layer, for raw input.

    loss_curve_ : list of float
        Mean training loss plus penalty of each epoch of fine-tuning: half the squared
        error, summed over the outputs (the function that is descended), of targets that
        are standardised where there is a pretrainer.

    loss_ : float
        Last entry of ``loss_curve_``.

    best_loss_ : float or None
        Least entry of ``loss_curve_``; None with ``early_stopping``.

    validation_scores_ : list of float or None
        R2 after each epoch on the rows held out by ``early_stopping``, or on ``X_val``.

    validation_loss_curve_ : list of float or None
        Mean loss on these rows, without penalty and noise.

    best_validation_score_ : float or None
        Best of ``validation_scores_``.

    n_iter_ : int
        Epochs of fine-tuning.

    t_ : int
        Training rows visited in fine-tuning.

    head_loss_curve_ : list of float
        Mean training loss plus penalty, of the output layer alone, in the epochs of
        ``head_max_iter``.

    phase_seconds_ : dict of float
        Seconds of "pretraining" and of "fine_tuning" in the last ``fit`` (which
        ``partial_fit`` has not).

    n_layers_ : int
        Number of layers, input and output included.

    n_outputs_ : int
        Number of output units.

    activations_ : list of str
        Activation of each hidden layer.

    out_activation_ : str
        Activation of the output layer.

    n_features_in_ : int
        Number of columns seen in ``fit``.

    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns, where they are all strings.

    See Also
    --------
    GreedyPretrainedMLPClassifier : The same for classification.
    StackedAutoencoderTransformer : The autoencoder stack behind "autoencoder".
    StackedRBMTransformer : The RBM stack behind "rbm".
    sklearn.neural_network.MLPRegressor : The network without pre-training.

    References
    ----------
    .. [1] Y. Bengio et al., "Greedy layer-wise training of deep networks", NIPS 2006.
    .. [2] N. Srivastava et al., "Dropout: a simple way to prevent neural networks from
       overfitting", JMLR 15, 2014.
    .. [3] I. Loshchilov and F. Hutter, "SGDR: stochastic gradient descent with warm
       restarts", ICLR 2017 (equation 5, without restarts).
    .. [4] Q. Xie et al., "Self-training with Noisy Student improves ImageNet
       classification", CVPR 2020 (soft labels, and noise for who learns them).

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn_greedy import GreedyPretrainedMLPRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> reg = GreedyPretrainedMLPRegressor((32,), max_iter=200, tol=0, random_state=0)
    >>> bool(reg.fit(X[:350], y[:350]).score(X[350:], y[350:]) > 0.3)
    True
    """

    _parameter_constraints: dict = {
        **GreedyPretrainedMLP._parameter_constraints,
        "teacher": [HasMethods(["fit", "predict"]), None],
        "loss": [StrOptions({"squared_error", "poisson"})],
    }

    def __init__(
        self,
        hidden_layer_sizes=None,
        *,
        pretrainer="autoencoder",
        activation="auto",
        solver="adam",
        alpha=0.0001,
        batch_size="auto",
        learning_rate="constant",
        learning_rate_init=0.001,
        power_t=0.5,
        max_iter=200,
        shuffle=True,
        random_state=None,
        tol=1e-4,
        verbose=False,
        warm_start=False,
        momentum=0.9,
        nesterovs_momentum=True,
        early_stopping=False,
        validation_fraction=0.1,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        n_iter_no_change=10,
        max_fun=15000,
        unlabeled=None,
        head_max_iter=0,
        supervised_weight=0.0,
        teacher=None,
        keep_head=True,
        dropout=0.0,
        input_dropout=0.0,
        max_norm=None,
        layer_decay=1.0,
        n_frozen_layers=0,
        loss="squared_error",
    ) -> None:
        super().__init__(
            hidden_layer_sizes,
            pretrainer=pretrainer,
            activation=activation,
            solver=solver,
            alpha=alpha,
            batch_size=batch_size,
            learning_rate=learning_rate,
            learning_rate_init=learning_rate_init,
            power_t=power_t,
            max_iter=max_iter,
            shuffle=shuffle,
            random_state=random_state,
            tol=tol,
            verbose=verbose,
            warm_start=warm_start,
            momentum=momentum,
            nesterovs_momentum=nesterovs_momentum,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            n_iter_no_change=n_iter_no_change,
            max_fun=max_fun,
            unlabeled=unlabeled,
            head_max_iter=head_max_iter,
            supervised_weight=supervised_weight,
            teacher=teacher,
            keep_head=keep_head,
            dropout=dropout,
            input_dropout=input_dropout,
            max_norm=max_norm,
            layer_decay=layer_decay,
            n_frozen_layers=n_frozen_layers,
        )
        self.loss = loss

    @available_if(has_epochs)
    @fit_context(prefer_skip_nested_validation=False)
    def partial_fit(self, X, y, sample_weight=None) -> Self:
        """Fine-tune on one more chunk of rows, in the order given.

        The penalty ``alpha`` is over the rows of the chunk. The first chunk also
        pre-trains the hidden layers; where it scales columns and targets, their scale
        is from then on that of all rows so far, unless ``fit`` came first (or, for the
        columns, layers are frozen). To pre-train on a stream, use ``partial_fit`` of a
        transformer and give it wrapped in `~sklearn.frozen.FrozenEstimator`.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            A chunk of training data, of any size.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        self : object
            The regressor after the chunk.

        Raises
        ------
        ValueError
            If early stopping is on or training diverges.
        """
        with fitting(self):
            return self._partial_fit(X, y, sample_weight)

    def predict(self, X) -> Array:
        """Predicted targets.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Predictions.
        """
        means = self._output_means(X)
        return means.ravel() if self._flat else means

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _check_targets(self, y, reset: bool, classes=None) -> Array:
        """Targets as a matrix of floats."""
        if sparse.issparse(y):
            y = y.toarray()
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        flat = y.ndim == 1
        y = y.reshape(len(y), -1).astype(np.float64, copy=False)
        if reset:
            self._flat, self.n_outputs_ = flat, y.shape[1]
            self.out_activation_ = "exp" if self.loss == "poisson" else "identity"
        elif y.shape[1] != self.n_outputs_:
            raise ValueError(
                f"y has {y.shape[1]} outputs, but the fitted regressor has "
                f"{self.n_outputs_}."
            )
        if self.loss == "poisson" and (y.min() < 0 or (reset and y.max() == 0)):
            raise ValueError(
                "loss='poisson' needs targets that are not negative and not all 0. Got "
                f"targets from {y.min():.4g} to {y.max():.4g}."
            )
        return y

    def _check_unchanged(self) -> None:
        super()._check_unchanged()
        if (self.loss == "poisson") != (self.out_activation_ == "exp"):
            raise ValueError(
                f"loss={self.loss!r} differs from that of the fitted network. Set it "
                "back, or call fit on a clone to start anew."
            )

    def _set_target_scaling(self, y: Array, weights: Array | None, past=None):
        """Standardise the targets inside, unless nothing is pre-trained or they are
        counts.
        """
        if past is None:
            self._target_offset = np.zeros(self.n_outputs_)
            self._target_scale = np.ones(self.n_outputs_)
            if self.pretrainer is None or self.loss != "squared_error":
                return None
        with told_of("y"):
            statistics = ColumnStatistics.of(y, weights).weighing(weights)
        if past is not None:
            statistics = ColumnStatistics(**past).followed_by(statistics, np.inf)
        units = choose_units(statistics, "gaussian")
        self._target_offset, self._target_scale = units.offset, units.scale
        return dict(vars(statistics))

    def _target_scaling(self):
        return self._target_offset, self._target_scale

    def _unscaled(self) -> str:
        parts = [super()._unscaled()]
        if self.pretrainer is None or self.loss != "squared_error":
            parts.append("the targets")
        return " and ".join(filter(None, parts))

    def _target_rows(self, y: Array, training: bool = True) -> Rows:
        return Rows(y, Units.all_gaussian(self._target_offset, self._target_scale))

    def _taught_rows(self, X) -> Rows:
        with told_of("predictions of the teacher as y"):
            y = said_by(self.teacher_, X, "predict")
            y = check_array(y, dtype=np.float64, ensure_2d=False)
            return self._target_rows(self._check_targets(y, reset=False))

    def _given_targets(self, y: Array) -> Array:
        return y.ravel() if self._flat else y

    def _held_out_score(self, y: Array, means: Array, weights) -> float:
        scaled = (y - self._target_offset) / self._target_scale
        return float(r2_score(scaled, means, sample_weight=weights))

    def _strata(self, y: Array):
        return None
