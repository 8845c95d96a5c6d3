"""What the classifier and the regressor share: pre-training, then fine-tuning."""

import reprlib
import time
from abc import ABCMeta, abstractmethod
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import is_regressor
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.utils.validation import check_is_fitted

from sklearn_greedy._backpropagation import (
    SCHEDULES,
    Backpropagation,
    Optimizer,
    alike,
)
from sklearn_greedy._base import GreedyEstimator
from sklearn_greedy._callbacks import EpochTasks, task_of
from sklearn_greedy._compat import (
    CallbackSupport,
    FrozenEstimator,
    HasMethods,
    Interval,
    Options,
    StrOptions,
    fit_context,
    told_of,
    warn_user,
)
from sklearn_greedy._fit_rows import FitRows, fit_rows
from sklearn_greedy._fitting import (
    draw_seed,
    fitting,
    layer_streams,
    stream_seed,
    training_streams,
)
from sklearn_greedy._full_batch import run_lbfgs
from sklearn_greedy._health import warn_of_network
from sklearn_greedy._held_out import HeldOut
from sklearn_greedy._html import network_block
from sklearn_greedy._layer import in_dtype, next_data
from sklearn_greedy._native import native_network
from sklearn_greedy._network import (
    ACTIVATIONS,
    Network,
    fold,
    fold_input,
    forward,
    glorot_uniform,
    layer_number,
    output_means,
    random_layers,
    unfold,
)
from sklearn_greedy._parameters import HoldsEstimator, check_same_sizes, layer_sizes
from sklearn_greedy._rows import SOME_ROWS, Rows, gathered, without
from sklearn_greedy._stack import GreedyStack
from sklearn_greedy._start import (
    DEFAULT_SIZES,
    Start,
    check_agreement,
    digest,
    fitted_start,
    given_start,
    new_pretrainer,
)
from sklearn_greedy._stream import followed_units
from sklearn_greedy._supervision import Supervision
from sklearn_greedy._teacher import fitted_teacher
from sklearn_greedy._training import History, Plan, run_epochs, train_epoch
from sklearn_greedy._units import (
    BERNOULLI,
    GAUSSIAN,
    POISSON,
    SOFTMAX,
    ColumnStatistics,
    Units,
    choose_units,
    output_blocks,
    row_block,
    spread_rows,
)

Array = npt.NDArray


_HEAD_KINDS = {
    "identity": GAUSSIAN,
    "logistic": BERNOULLI,
    "softmax": SOFTMAX,
    "exp": POISSON,
}

# What L-BFGS cannot do, and the value that means not to.
_MINI_BATCHES_ONLY = {
    "head_max_iter": 0,
    "dropout": 0,
    "input_dropout": 0,
    "max_norm": None,
    "layer_decay": 1,
    "early_stopping": False,
}


def has_epochs(mlp) -> bool:
    """Whether ``partial_fit`` exists."""
    if mlp.solver == "lbfgs":
        raise AttributeError("partial_fit needs solver='adam' or 'sgd', not 'lbfgs'.")
    return True


class GreedyPretrainedMLP(
    CallbackSupport, HoldsEstimator, GreedyEstimator, metaclass=ABCMeta
):
    """Base of the networks; a subclass says what its targets are."""

    _inside = "pretrainer"
    # Epochs and chunks of the fine-tuning, and what partial_fit goes on from.
    _n_epochs: int
    _resume: dict
    # Digest of the pretrainer of the first fit or chunk.
    _pretrained_by: str
    # What validation and ``_adopt`` set by name, and what pre-training leaves, if
    # anything.
    n_features_in_: int
    n_layers_: int
    coefs_: list[Array]
    intercepts_: list[Array]
    pretrainer_: Any
    teacher_: Any

    _parameter_constraints: dict = {
        "hidden_layer_sizes": [
            "array-like",
            Interval(Integral, 1, None, closed="left"),
            None,
        ],
        "pretrainer": [
            StrOptions({"autoencoder", "rbm", "supervised"}),
            HasMethods(["fit", "transform"]),
            list,
            tuple,
            None,
        ],
        "activation": [StrOptions({"auto", *ACTIVATIONS})],
        "solver": [StrOptions({"adam", "sgd", "lbfgs"})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
        ],
        "learning_rate": [StrOptions(set(SCHEDULES))],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [
            Interval(Integral, 1, None, closed="left"),
            Options(Real, {np.inf}),
        ],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "unlabeled": "no_validation",
        "head_max_iter": [Interval(Integral, 0, None, closed="left")],
        "supervised_weight": [Interval(Real, 0, 1, closed="both")],
        "keep_head": ["boolean"],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "input_dropout": [Interval(Real, 0, 1, closed="left")],
        "max_norm": [Interval(Real, 0, None, closed="neither"), None],
        "layer_decay": [Interval(Real, 0, 1, closed="right")],
        "n_frozen_layers": [Interval(Integral, 0, None, closed="left")],
    }

    def __init__(
        self,
        hidden_layer_sizes,
        *,
        pretrainer,
        activation,
        solver,
        alpha,
        batch_size,
        learning_rate,
        learning_rate_init,
        power_t,
        max_iter,
        shuffle,
        random_state,
        tol,
        verbose,
        warm_start,
        momentum,
        nesterovs_momentum,
        early_stopping,
        validation_fraction,
        beta_1,
        beta_2,
        epsilon,
        n_iter_no_change,
        max_fun,
        unlabeled,
        head_max_iter,
        supervised_weight,
        teacher,
        keep_head,
        dropout,
        input_dropout,
        max_norm,
        layer_decay,
        n_frozen_layers,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.pretrainer = pretrainer
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.unlabeled = unlabeled
        self.head_max_iter = head_max_iter
        self.supervised_weight = supervised_weight
        self.teacher = teacher
        self.keep_head = keep_head
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.max_norm = max_norm
        self.layer_decay = layer_decay
        self.n_frozen_layers = n_frozen_layers

    # What a subclass says about its targets.

    @abstractmethod
    def _check_targets(self, y, reset: bool, classes=None) -> Array:
        """Validated targets; with ``reset`` also sets ``n_outputs_``,
        ``out_activation_`` and ``classes_``.
        """

    @abstractmethod
    def _target_rows(self, y: Array, training: bool = True):
        """What the training loop gathers targets from; without ``training`` they are
        not smoothed.
        """

    @abstractmethod
    def _taught_rows(self, X):
        """The same for rows without a target, which ``teacher_`` gives them."""

    @abstractmethod
    def _held_out_score(self, y: Array, means: Array, weights) -> float:
        """Score of the output means on held-out targets."""

    @abstractmethod
    def _strata(self, y: Array):
        """Labels that the validation split keeps in proportion, or None."""

    def _set_target_scaling(self, y: Array, weights: Array | None, past=None):
        """Scale of the targets inside; only the regressor has one. past : how they
        varied in earlier chunks, or None. Returns how they vary in all chunks so far,
        or None where they are not scaled.
        """

    def _target_scaling(self):
        return np.zeros(self.n_outputs_), np.ones(self.n_outputs_)

    @abstractmethod
    def _given_targets(self, y: Array) -> Array:
        """What the user gave for validated targets."""

    def _class_weights(self, y: Array) -> Array | None:
        """Weights that the rows have by their classes, or None."""
        return None

    # Fitting.

    @fit_context(prefer_skip_nested_validation=False)
    def fit(
        self, X, y, sample_weight=None, X_unlabeled=None, X_val=None, y_val=None
    ) -> Self:
        """Pre-train the hidden layers on all rows, then fine-tune all layers on (X, y).

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets; rows with the value ``unlabeled`` have none.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, not negative; in the fine-tuning a weight of 2 counts
            as the row twice. The pre-training draws its rows in proportion to them.
        X_unlabeled : {array-like, sparse matrix} of shape (n_unlabeled, n_features), \
                default=None
            More rows to pre-train on, each of weight 1. It is metadata: switch on
            metadata routing and
            call ``set_fit_request(X_unlabeled=True)`` to pass it through a search or a
            Pipeline (whose ``transform_input=["X_unlabeled"]`` transforms it too).
            Searches split metadata of exactly as many rows as X has.
        X_val : {array-like, sparse matrix} of shape (n_val, n_features), default=None
            Rows of your own on which the network is scored after each epoch, with
            ``early_stopping`` in place of rows held out of X. Metadata, like
            ``X_unlabeled``.
        y_val : array-like of shape (n_val,) or (n_val, n_outputs), default=None
            Targets of ``X_val``.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If ``hidden_layer_sizes`` or ``activation`` contradict the pretrainer,
            parameters do not go together, or training diverges.
        """
        with fitting(self):
            return self._fit(X, y, sample_weight, X_unlabeled, X_val, y_val)

    def _fit(self, X, y, sample_weight, X_unlabeled, X_val, y_val):
        self._check_together()
        warm = self.warm_start and hasattr(self, "coefs_")
        if X_unlabeled is not None:
            self._warn_of_unused(warm)
        rows = self._fit_rows(X, y, sample_weight, reset=not warm, more=X_unlabeled)
        self._check_rows(rows, reset=not warm)
        validation = self._validation_rows(X_val, y_val)
        if warm:
            self._check_warm(rows.y)
        seed = draw_seed(self.random_state)
        n_before = self._n_epochs if warm else 0
        held_rng, rng, kernel_seed = training_streams(seed, 0, n_before)
        index, held = self._split(rows, held_rng, validation)
        self._begin_tasks(rows, warm)
        clock = [time.perf_counter()]
        start = None
        if warm:
            model = self._build(rows, index, kernel_seed, self._unfolded())
        else:
            self._set_target_scaling(rows.y, rows.weights)
            start = self._pretrain(rows, index, seed, rng)
            clock.append(time.perf_counter())
            head = self._new_head(start, rng)
            if self.head_max_iter > 0 and self.pretrainer is not None:
                head = self._train_head(start, head, rows, index, rng, kernel_seed)
            model = self._build(rows, index, kernel_seed, start.with_head(*head))
        monitor = self._monitor(model, rows, held, validation)
        with self._task("fine-tuning", rows, self.max_iter) as context:
            tasks = EpochTasks.of(
                context,
                self,
                attributes=lambda: self._attributes(model, rows.X.dtype),
                **self._told(rows),
            )
            plan = self._plan(monitor, tasks=tasks)
            history = self._run(model, index, plan, rng)
        self._adopt(model, rows.X.dtype, start)
        clock = [clock[0], clock[-1], time.perf_counter()]
        self._warn_of_idle(rows.X, plan.unscaled)
        self.phase_seconds_ = dict(
            zip(("pretraining", "fine_tuning"), np.diff(clock).tolist(), strict=True)
        )
        self._record(history, monitor, len(index))
        self._n_epochs = self.n_iter_ + (self._n_epochs if warm else 0)
        if hasattr(self, "_resume"):
            del self._resume
        self._end_tasks(rows)
        return self

    def _warn_of_idle(self, X, unscaled: str) -> None:
        """Warn where hidden units of the fitted network say nothing of its rows."""
        if X.shape[0] > 1:
            most = row_block(X.shape[1], SOME_ROWS)
            some = spread_rows(np.arange(X.shape[0]), most)
            warn_of_network(self, X[some], unscaled)

    # Tasks of callbacks.

    def _begin_tasks(self, rows: FitRows, warm: bool) -> None:
        """Tell callbacks that a fit begins."""
        n_tasks = 1
        if not warm and self.pretrainer is not None:
            n_tasks += self._n_pretraining_tasks() + (self.head_max_iter > 0)
        root = self._init_callback_context(max_subtasks=n_tasks)
        self._callback_root = root
        root.call_on_fit_task_begin(estimator=self, **self._told(rows))

    def _n_pretraining_tasks(self) -> int:
        if isinstance(self.pretrainer, list | tuple | FrozenEstimator):
            return 0
        if self._by_targets:
            return len(self._own_sizes(DEFAULT_SIZES))
        return 1

    def _end_tasks(self, rows: FitRows) -> None:
        """Tell callbacks that the fit is done."""
        self._callback_root.call_on_fit_task_end(
            estimator=self, reconstruction_attributes={}, **self._told(rows)
        )
        del self._callback_root

    def _told(self, rows: FitRows) -> dict:
        """The data as callbacks are given them."""
        weights = rows.sample_weight
        metadata = None if weights is None else {"sample_weight": weights}
        return {
            "X": rows.X,
            "y": lambda: self._given_targets(rows.y),
            "metadata": metadata,
        }

    def _task(self, name: str, rows: FitRows, n_epochs: int, inner=None):
        """See ``task_of``."""
        root, told = self._callback_root, self._told(rows)
        return task_of(root, name, n_epochs, self, inner=inner, **told)

    def _run(self, model: Backpropagation, index: Array, plan: Plan, rng) -> History:
        """Train a network with the solver."""
        if self.solver == "lbfgs":
            return run_lbfgs(model, index, plan, self.max_fun)
        return run_epochs(model, index, plan, rng)

    def _record(self, history: History, monitor, n_rows: int) -> None:
        """Set what the fine-tuning tells of itself."""
        self.loss_curve_ = history.losses
        self.loss_ = history.losses[-1]
        self.n_iter_ = len(history.losses)
        self.t_ = self.n_iter_ * n_rows
        self.best_loss_ = None if self.early_stopping else history.best_loss
        self.validation_scores_ = self.best_validation_score_ = None
        self.validation_loss_curve_ = None
        if monitor is not None:
            self.validation_scores_ = history.scores
            self.best_validation_score_ = max(history.scores)
            self.validation_loss_curve_ = monitor.losses

    def _partial_fit(self, X, y, sample_weight, classes=None):
        """One pass of fine-tuning over a chunk; the first chunk also pre-trains."""
        first = not hasattr(self, "coefs_")
        if not first:
            self._validate_params()  # which fit_context leaves out then
        self._check_together()
        if self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True.")
        if not first:
            self._check_unchanged()
        rows = self._fit_rows(X, y, sample_weight, reset=first)
        self._check_rows(rows, reset=first, classes=classes)
        resume = getattr(self, "_resume", None)
        n_before = 0 if first else self._n_epochs
        if resume is None:  # the first chunk, or the first after fit
            seed = stream_seed(self.random_state, n_before)
        else:
            seed = resume["seed"]
        rng, kernel_seed = layer_streams(seed, 0)
        index = np.arange(len(rows.y))
        self._begin_tasks(rows, warm=not first)
        start = None
        if first:
            kept = {"targets": self._set_target_scaling(rows.y, rows.weights)}
            start = self._pretrain(rows, index, seed, rng)
            kept["input"] = _input_to_follow(start, rows)
            parameters = start.with_head(*self._new_head(start, rng))
            self.loss_curve_, self.n_iter_, self.t_ = [], 0, 0
            self.validation_scores_ = self.best_validation_score_ = None
            self.validation_loss_curve_ = None
            self.best_loss_ = np.inf
        else:
            parameters = self._unfolded()
            kept = self._follow(rows, resume)
        state = None if resume is None else resume["state"]
        model = self._build(rows, index, kernel_seed, parameters, state)
        self.loss_ = train_epoch(model, index, self._plan(), epoch=1)
        dtype = rows.X.dtype if first else self.coefs_[0].dtype
        self._adopt(model, dtype, start)
        self.loss_curve_ = [*self.loss_curve_, self.loss_]
        if self.best_loss_ is not None:
            self.best_loss_ = min(self.best_loss_, self.loss_)
        self.n_iter_ += 1
        self.t_ += len(rows.y)
        self._n_epochs = n_before + 1
        self._resume = {"seed": seed, "state": model.state(), **kept}
        self._end_tasks(rows)
        return self

    def _follow(self, rows: FitRows, resume: dict | None) -> dict:
        """Scale input and targets as they vary in all chunks so far, where the first
        chunk decided on their scale; what to follow them by from now on.

        The parameters stay those for scaled input and targets, as in the stacks.
        """
        kept: dict[str, Any] = {"targets": None, "input": None}
        if resume is None:  # a fit was before, whose scales stay
            return kept
        if resume["targets"] is not None:
            kept["targets"] = self._set_target_scaling(
                rows.y, rows.weights, resume["targets"]
            )
        if resume["input"] is not None:
            units, past, automatic = resume["input"]
            units, followed = followed_units(
                Units(**units),
                ColumnStatistics(**past),
                _input_statistics(rows),
                automatic,
                type(self).__name__,
            )
            kept["input"] = dict(vars(units)), dict(vars(followed)), automatic
            if self.n_frozen_layers == 0:  # else the input of the first layer stays
                self._input_offset, self._input_scale = units.offset, units.scale
        return kept

    def _sk_visual_block_(self):
        return network_block(self)

    # Validation.

    def _check_together(self) -> None:
        """Raise where parameters do not go together."""
        if isinstance(self.pretrainer, str) and self._own_sizes(None) == ():
            raise ValueError(
                f"pretrainer={self.pretrainer!r} needs a hidden layer, but "
                "hidden_layer_sizes is empty. Use pretrainer=None for a network "
                "without hidden layers."
            )
        named = isinstance(self.pretrainer, str) and not self._by_targets
        trains = named or isinstance(self.pretrainer, GreedyStack)
        if self.supervised_weight > 0 and not trains:
            raise ValueError(
                f"supervised_weight={self.supervised_weight} adds the targets to the "
                "training of a stack of RBMs or autoencoders, but pretrainer="
                f"{self.pretrainer!r} trains none. Set supervised_weight=0, or use "
                "pretrainer='autoencoder', 'rbm' or an unfitted stack."
            )
        if self.teacher is not None and self.supervised_weight == 0:
            raise ValueError(
                f"teacher={type(self.teacher).__name__} says the targets of rows "
                "without one, which the pre-training learns with supervised_weight "
                "alone, and that is 0. Set it in (0, 1], or teacher=None."
            )
        if self.solver != "lbfgs":
            return
        for name, off in _MINI_BATCHES_ONLY.items():
            value = getattr(self, name)
            if value != off:
                raise ValueError(
                    f"{name}={value!r} needs mini-batches and epochs, but "
                    "solver='lbfgs' takes its steps on the exact loss of all rows: set "
                    f"{name}={off!r}, or use 'adam' or 'sgd'."
                )

    def _fit_rows(self, X, y, sample_weight, reset: bool, more=None) -> FitRows:
        """The rows of a fit, with targets as they were given."""
        targets = {"multi_output": True, "y_numeric": is_regressor(self)}
        return fit_rows(self, X, y, sample_weight, more=more, reset=reset, **targets)

    def _check_rows(self, rows: FitRows, reset: bool, classes=None) -> None:
        """Turn the targets into codes or numbers, and weigh the rows by class."""
        rows.y = self._check_targets(rows.y, reset, classes)
        rows.sample_weight = rows.weights
        of_classes = self._class_weights(rows.y)
        if of_classes is not None:
            rows.weigh(of_classes)
            if not np.any(rows.weights):
                raise ValueError(
                    f"class_weight={self.class_weight!r} leaves none of the "
                    f"{len(rows.y)} labelled rows a weight above 0."
                )

    def _warn_of_unused(self, warm: bool) -> None:
        """Warn where rows without a target are given, and no layer learns from them."""
        idle = (list, tuple, FrozenEstimator, type(None))
        found = "is not used"
        if warm:
            reason = "a warm start goes on with the fine-tuning"
        elif isinstance(self.pretrainer, idle):
            reason = f"pretrainer={reprlib.repr(self.pretrainer)} trains no layer"
        elif self._by_targets or (self.supervised_weight == 1 and self.teacher is None):
            # It takes part in the scale of the columns, and in the length of an epoch.
            found = "teaches the layers nothing"
            reason = "they learn by the targets alone"
        else:
            return
        warn_user(
            f"X_unlabeled {found}: {reason}. Rows without a target only matter to "
            "pre-training, by 'autoencoder', 'rbm' or an unfitted stack in a first "
            "fit, with a supervised_weight below 1 or a teacher."
        )

    def _validation_rows(self, X_val, y_val):
        """Validated rows and targets of the user's own validation set, or None."""
        if X_val is None and y_val is None:
            return None
        if X_val is None or y_val is None:
            given, missing = ("y_val", "X_val") if X_val is None else ("X_val", "y_val")
            raise ValueError(f"{given} was given without {missing}. Give both or none.")
        with told_of("X_val and y_val"):
            rows = self._fit_rows(X_val, y_val, None, reset=False)
            return rows.X, self._check_targets(rows.y, reset=False)

    def _check_warm(self, y) -> None:
        """Raise where a warm start cannot go on from the fitted network."""
        self._check_unchanged()

    def _check_unchanged(self) -> None:
        """Raise where parameters contradict the fitted network, which goes on."""
        fitted = tuple(coef.shape[1] for coef in self.coefs_[:-1])
        check_same_sizes(self._own_sizes(fitted), fitted)
        used = sorted(set(self.activations_))
        if self.activation != "auto" and not set(used) <= {self.activation}:
            raise ValueError(
                f"activation={self.activation!r} differs from that of the fitted "
                f"layers ({', '.join(used)}). Set it back, or call fit on a clone to "
                "start anew."
            )
        self._check_frozen(len(fitted))
        if digest(self.pretrainer) != self._pretrained_by:
            warn_user(
                f"pretrainer={reprlib.repr(self.pretrainer)} has no effect: it was "
                "changed since the first fit or chunk, and only there layers are "
                "trained by it. Set it back, or call fit on a clone to start anew."
            )

    def _check_frozen(self, n_hidden: int) -> None:
        if self.n_frozen_layers > n_hidden:
            raise ValueError(
                f"n_frozen_layers={self.n_frozen_layers} is more than the number of "
                f"hidden layers, {n_hidden}. Lower it."
            )

    def _own_sizes(self, default) -> tuple[int, ...]:
        sizes = self.hidden_layer_sizes
        return default if sizes is None else layer_sizes(sizes)

    # Predicting.

    def _output_means(self, X) -> Array:
        X = self._validate_rows(X)
        hidden = [*self.activations_, "identity"]
        z = forward(X, self.coefs_, self.intercepts_, hidden)
        return output_means(z, self.out_activation_)

    def hidden_activations(self, X, layer=-1) -> Array:
        """Activations of a hidden layer.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.
        layer : int, default=-1
            Number of the hidden layer from 0, or from the end if negative.

        Returns
        -------
        H : ndarray of shape (n_samples, n_hidden)
            Activations, in float32 where both X and the data of ``fit`` are, else in
            float64.

        Raises
        ------
        ValueError
            If there is no such layer.
        """
        X = self._validate_rows(X)
        up_to = layer_number(layer, len(self.activations_)) + 1
        parts = self.coefs_, self.intercepts_, self.activations_
        return forward(X, *(part[:up_to] for part in parts))

    def to_mlp(self) -> MLPClassifier | MLPRegressor:
        """A network of scikit-learn's own with the same predictions.

        Returns
        -------
        mlp : MLPClassifier or MLPRegressor
            Fitted; it has the parameters of the fine-tuning and a copy of the weights.
            ``partial_fit`` and ``warm_start`` train it on as scikit-learn does, with
            a new optimiser.

        Raises
        ------
        ValueError
            If the hidden layers have different activations, or one that scikit-learn
            has not, or the loss is one that it has not.
        """
        check_is_fitted(self)
        return native_network(self)

    # Pre-training.

    @property
    def _by_targets(self) -> bool:
        """Whether each layer learns the targets, with no transformer."""
        return isinstance(self.pretrainer, str) and self.pretrainer == "supervised"

    def _pretrain(self, rows: FitRows, index: Array, seed: Array, rng) -> Start:
        """The hidden layers that the fine-tuning begins with. Sets ``pretrainer_`` and
        what is known of the layers.
        """
        self.pretrainer_ = self.teacher_ = None
        self._pretrained_by = digest(self.pretrainer)
        self.pretraining_loss_curves_: list[list[float]] = []
        self.head_loss_curve_: list[float] = []
        if self.pretrainer is None:
            start = self._random_start(rows.X.shape[1], rng)
        elif isinstance(self.pretrainer, list | tuple):
            start = given_start(self.pretrainer, self._activation(), rows.X.shape[1])
        elif self._by_targets:
            start = self._train_greedily(rows, index, rng, seed)
        else:
            start = self._fit_pretrainer(rows, index, seed)
        self._check_start(start)
        self.activations_ = list(start.activations)
        self._input_offset, self._input_scale = start.offset, start.scale
        return start

    def _activation(self) -> str:
        """The one activation of layers that no transformer trains."""
        return "relu" if self.activation == "auto" else self.activation

    def _random_start(self, n_features: int, rng) -> Start:
        activation = self._activation()
        pairs = random_layers(
            rng, [n_features, *self._own_sizes(DEFAULT_SIZES)], activation
        )
        return Start.unscaled(pairs, activation, n_features)

    def _fit_pretrainer(self, rows: FitRows, index: Array, seed: Array) -> Start:
        self.pretrainer_ = new_pretrainer(
            self.pretrainer,
            sizes=self._own_sizes(None),
            activation=self.activation,
            seed=int(seed[0] >> np.uint32(1)),
            again=self.random_state is not None,
            verbose=self.verbose,
        )
        names = getattr(self, "feature_names_in_", None)
        training = rows, self._supervision(rows, index, seed), names
        if isinstance(self.pretrainer_, FrozenEstimator):
            start = fitted_start(self.pretrainer_, *training)
        else:
            with self._task("pre-training", rows, 0, self.pretrainer_):
                start = fitted_start(self.pretrainer_, *training)
        curves = getattr(self.pretrainer_, "loss_curves_", [])
        self.pretraining_loss_curves_ = [list(curve) for curve in curves]
        return start

    def _supervision(
        self, rows: FitRows, index: Array, seed: Array
    ) -> Supervision | None:
        """What temporary heads learn, by the numbers of all rows."""
        if self.supervised_weight == 0:
            return None
        known = rows.places[index]
        nobody_to_teach = len(rows.y) == len(rows)
        if self.teacher is not None and nobody_to_teach:
            warn_user(
                f"teacher={type(self.teacher).__name__} is not used: all rows have a "
                "target. Give rows without one as X_unlabeled, or mark them in y."
            )
        if self.teacher is None or nobody_to_teach:
            y = np.zeros((len(rows), *rows.y.shape[1:]), rows.y.dtype)
            y[rows.places] = rows.y
            targets = self._target_rows(y)
        else:
            targets = self._taught_targets(rows, index, seed)
            known = np.sort(np.append(known, rows.other_places))
        return Supervision(
            self.supervised_weight, known, targets, self._blocks(), rows.all_weights
        )

    def _taught_targets(self, rows: FitRows, index: Array, seed: Array) -> Rows:
        """Targets of all rows; those that have none get them from the teacher, which
        is fitted on the others that nothing holds out.
        """
        X, y, weights, others = rows.X, rows.y, rows.sample_weight, rows.others
        if len(index) < len(y):
            X, y = X[index], y[index]
            weights = None if weights is None else weights[index]
        y, rng = self._given_targets(y), np.random.default_rng(seed)
        self.teacher_ = fitted_teacher(self.teacher, X, y, weights, others, rng)
        targets = np.empty((len(rows), self.n_outputs_), np.float32)
        sources = self._target_rows(rows.y), self._taught_rows(others)
        parts = rows.places, rows.other_places
        for places, source in zip(parts, sources, strict=True):
            targets[places] = gathered(source, np.arange(len(places)))
        return Rows(targets)

    def _train_greedily(self, rows: FitRows, index: Array, rng, seed: Array) -> Start:
        """Hidden layers trained on the targets, each with a temporary head on top and
        fixed layers below (user guide, eq. 36). The last head stays.
        """
        activation, sizes = self._activation(), self._own_sizes(DEFAULT_SIZES)
        statistics = ColumnStatistics.of(rows.all_X, rows.all_weights)
        units = choose_units(statistics, "auto")
        H, source, pairs, head = rows.X, Rows(rows.X, units), [], None
        for layer, width in enumerate(sizes):
            widths = [H.shape[1], width, self.n_outputs_]
            network = Network.dense(widths, (activation, "identity"))
            parts = random_layers(rng, widths, activation)
            theta = network.pack(*zip(*parts, strict=True))
            traits = alike(2)
            traits[:, 0] = self.dropout if layer else self.input_dropout, self.dropout
            _, kernel_seed = layer_streams(seed, layer + 1)
            model = self._model(
                network, theta, source, rows, index, kernel_seed, traits
            )
            name = f"layer {layer + 1}"
            with self._task(name, rows, self.max_iter) as context:
                tasks = EpochTasks.of(context, self, **self._told(rows))
                plan = self._plan(place=name, tasks=tasks)
                history = self._run(model, index, plan, rng)
            self.pretraining_loss_curves_.append(history.losses)
            (coef, top), (intercept, bias) = network.views(model.theta)
            pairs.append((coef, intercept))
            head = top, bias
            if layer == 0:
                coef, intercept = fold_input(coef, intercept, units.offset, units.scale)
            H = _next_rows(H, coef, intercept, activation)
            source = Rows(H)
        coefs, intercepts = map(list, zip(*pairs, strict=True))
        activations = [activation] * len(sizes)
        scaling = units.offset, units.scale
        start = Start(coefs, intercepts, activations, *scaling, head, units)
        start.automatic = np.ones(len(units.kinds), dtype=bool)
        return start

    def _check_start(self, start: Start) -> None:
        """Raise where our own parameters do not go with the hidden layers."""
        sizes = tuple(coef.shape[1] for coef in start.coefs)
        own = self._own_sizes(sizes)
        check_agreement(sizes, start.activations, own, self.activation)
        self._check_frozen(len(sizes))

    # Fine-tuning.

    def _split(self, rows: FitRows, rng, validation):
        """Row numbers for training and, where rows are held out, for validation. Of the
        latter each weighs more than 0.
        """
        index = np.arange(len(rows.y))
        if not self.early_stopping or validation is not None:
            return index, None
        if self.validation_fraction == 0:
            raise ValueError(
                "early_stopping=True needs rows to hold out, but "
                "validation_fraction=0. Raise it, or give X_val and y_val."
            )
        weights = rows.weights
        some = index if weights is None else np.flatnonzero(weights)
        strata = self._strata(rows.y[some])
        try:
            _, held = train_test_split(
                some,
                test_size=self.validation_fraction,
                random_state=int(rng.integers(2**31)),
                stratify=strata,
            )
        except ValueError as exc:
            raise ValueError(
                f"early_stopping cannot hold out validation_fraction="
                f"{self.validation_fraction} of {len(some)} rows: "
                f"{str(exc).rstrip('.')}. Give X_val and y_val, set "
                "early_stopping=False, or change validation_fraction."
            ) from exc
        return without(index, held), np.sort(held)

    def _new_head(self, start: Start, rng):
        """Weights and biases of the output layer: the last temporary ones of the
        pre-training, or random ones with the bound of the hidden activation, as in
        MLPClassifier.
        """
        if self.keep_head and start.head is not None:
            return start.head
        activation = start.activations[-1] if start.activations else "identity"
        return glorot_uniform(rng, start.width, self.n_outputs_, activation)

    def _train_head(self, start: Start, head, rows: FitRows, index, rng, seed):
        """The head after training it alone, on the output of the fixed layers."""
        H, layers = rows.X, (*start.for_raw_input(), start.activations)
        for layer in zip(*layers, strict=True):
            H = _next_rows(H, *layer)
        network = Network.dense(head[0].shape, ("identity",))
        traits = alike(1)
        traits[0, 0] = self.dropout
        theta = network.pack(*([part] for part in head))
        model = self._model(network, theta, Rows(H), rows, index, seed, traits)
        with self._task("head", rows, self.head_max_iter) as context:
            tasks = EpochTasks.of(context, self, **self._told(rows))
            n_epochs = self.head_max_iter
            plan = self._plan(place="head", max_iter=n_epochs, tol=None, tasks=tasks)
            self.head_loss_curve_ = run_epochs(model, index, plan, rng).losses
        (coef,), (intercept,) = network.views(model.theta)
        return coef, intercept

    def _build(
        self, rows: FitRows, index, seed, parameters, state=None
    ) -> Backpropagation:
        """The whole network in training, from parameters for the scaled input."""
        coefs, intercepts = parameters
        widths = [rows.X.shape[1], *(coef.shape[1] for coef in coefs)]
        network = Network.dense(widths, [*self.activations_, "identity"])
        theta = network.pack(coefs, intercepts)
        source = Rows(rows.X, self._input_units())
        traits = self._traits(len(coefs))
        return self._model(network, theta, source, rows, index, seed, traits, state)

    def _traits(self, n_layers: int) -> Array:
        """Dropout of the input and factor of the learning rate of each layer."""
        traits = alike(n_layers)
        traits[1:, 0], traits[0, 0] = self.dropout, self.input_dropout
        traits[:, 1] = self.layer_decay ** np.arange(n_layers)[::-1]
        traits[: self.n_frozen_layers, 1] = 0
        return traits

    def _model(
        self, network, theta, source, rows: FitRows, index, seed, traits, state=None
    ) -> Backpropagation:
        """A network in training on the targets, with the user's optimiser."""
        n_rows, weights = len(index), rows.weights
        mass = n_rows if weights is None else float(weights[index].sum())
        batch_size = 200 if self.batch_size == "auto" else self.batch_size
        return Backpropagation(
            network,
            theta,
            source,
            self._blocks(),
            Optimizer(
                self.solver,
                self.learning_rate_init,
                self.momentum,
                self.nesterovs_momentum,
                self.beta_1,
                self.beta_2,
                self.epsilon,
                learning_rate=self.learning_rate,
                power_t=self.power_t,
                max_norm=self.max_norm,
            ),
            batch_size=min(batch_size, n_rows),
            seed=seed,
            targets=self._target_rows(rows.y),
            row_weights=weights,
            traits=traits,
            alpha=self.alpha / mass,
            state=state,
        )

    def _blocks(self) -> Array:
        return output_blocks(self.n_outputs_, _HEAD_KINDS[self.out_activation_])

    def _input_units(self) -> Units:
        return Units.all_gaussian(self._input_offset, self._input_scale)

    def _unfolded(self):
        """Fitted parameters for the scaled input and targets."""
        scaling = self._input_offset, self._input_scale
        return unfold(self.coefs_, self.intercepts_, scaling, self._target_scaling())

    def _adopt(self, model: Backpropagation, dtype, start: Start | None) -> None:
        """Set the fitted parameters; frozen layers stay those of the start or, of a
        network that goes on, the arrays they are: folding and rounding would move them.
        """
        found = self._attributes(model, dtype)
        fixed = slice(self.n_frozen_layers)
        if start is None:
            before = self.coefs_, self.intercepts_
        else:
            before = start.for_raw_input()
        for name, parts in zip(("coefs_", "intercepts_"), before, strict=True):
            found[name][fixed] = [
                part.astype(dtype, copy=start is not None) for part in parts[fixed]
            ]
        for name, value in found.items():
            setattr(self, name, value)

    def _attributes(self, model: Backpropagation, dtype) -> dict:
        """The fitted parameters, for raw input and targets."""
        coefs, intercepts = model.network.views(model.theta.astype(np.float64))
        scaling = self._input_offset, self._input_scale
        coefs, intercepts = fold(coefs, intercepts, scaling, self._target_scaling())
        return {
            "coefs_": [coef.astype(dtype) for coef in coefs],
            "intercepts_": [intercept.astype(dtype) for intercept in intercepts],
            "n_layers_": len(coefs) + 1,
        }

    def _plan(self, monitor=None, place: str | None = None, **changes) -> Plan:
        """Plan of the fine-tuning, or of a part of the network with changes."""
        name = type(self).__name__
        return Plan(
            **{
                "max_iter": self.max_iter,
                "tol": self.tol,
                "n_iter_no_change": self.n_iter_no_change,
                "shuffle": self.shuffle,
                "learning_rate": ("learning_rate_init", self.learning_rate_init),
                "place": name if place is None else f"{name}, {place}",
                "monitor": monitor,
                "follows_monitor": self.early_stopping,
                "unscaled": self._unscaled(),
                "report": print if self.verbose else None,
                **changes,
            }
        )

    def _unscaled(self) -> str:
        """What is not scaled inside, for messages."""
        trains = isinstance(self.pretrainer, str | GreedyStack)
        goes_on = self.warm_start or hasattr(self, "_resume")
        fresh = not (goes_on and hasattr(self, "coefs_"))
        return "" if trains and fresh else "the input"

    def _monitor(self, model: Backpropagation, rows: FitRows, held, validation):
        """What follows the network on rows held out or given, or None."""
        if validation is not None:
            X, y = validation
            source, index, weights = Rows(X, self._input_units()), None, None
        elif held is not None:
            source, index, y = model.rows, held, rows.y[held]
            weights = None if rows.weights is None else rows.weights[held]
        else:
            return None
        if is_regressor(self) and len(y) < 2:
            raise ValueError(
                f"The score on held-out rows, R2, needs at least two of them. Got "
                f"{len(y)}: raise validation_fraction, or give more rows as X_val."
            )
        targets = self._target_rows(y, training=False)
        return HeldOut(self, model, source, index, y, targets, weights)


def _input_to_follow(start: Start, rows: FitRows):
    """What the scale of the input follows in a stream, as plain arrays: kinds of the
    columns, how they vary so far, and which of them the data decided on; or None.
    """
    if start.units is None:
        return None
    statistics = _input_statistics(rows)
    return dict(vars(start.units)), dict(vars(statistics)), start.automatic


def _input_statistics(rows: FitRows) -> ColumnStatistics:
    """How the input varies in some rows, which go on counting by their mass."""
    statistics = ColumnStatistics.of(rows.all_X, rows.uneven_weights)
    return statistics.weighing(rows.all_weights)


def _next_rows(X, coef: Array, intercept: Array, activation: str):
    """What the layer above learns from, in the dtype of X."""
    fitted = {"coefs_": coef, "intercepts_": intercept, "activations_": activation}
    return next_data(in_dtype(fitted, X.dtype), X)
