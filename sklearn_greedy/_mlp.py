"""GreedyPretrainedMLPClassifier and -Regressor: pre-training, then backpropagation."""

import copy
import dataclasses
import time
from abc import ABCMeta, abstractmethod
from numbers import Integral, Real

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    RegressorMixin,
    clone,
    is_regressor,
)
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import check_X_y, column_or_1d
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import (
    check_classification_targets,
    type_of_target,
    unique_labels,
)
from sklearn.utils.validation import check_is_fitted

from sklearn_greedy._autoencoder import StackedAutoencoderTransformer
from sklearn_greedy._backpropagation import Backpropagation, Optimizer
from sklearn_greedy._compat import (
    FrozenEstimator,
    HasMethods,
    Interval,
    Options,
    StrOptions,
    check_partial_fit_first_call,
    check_sample_weight,
    fit_context,
    validate_data,
)
from sklearn_greedy._full_batch import run_lbfgs
from sklearn_greedy._network import (
    ACTIVATIONS,
    Network,
    fold_input,
    fold_output,
    forward,
    glorot_uniform,
    output_means,
    unfold_input,
    unfold_output,
)
from sklearn_greedy._rbm import StackedRBMTransformer
from sklearn_greedy._stack import (
    draw_seed,
    layer_sizes,
    layer_streams,
    unchanged_on_failure,
)
from sklearn_greedy._training import (
    OneHotRows,
    Plan,
    Rows,
    run_epochs,
    train_epoch,
)
from sklearn_greedy._units import (
    BERNOULLI,
    GAUSSIAN,
    SOFTMAX,
    ColumnStatistics,
    Units,
    choose_units,
    output_blocks,
)
from sklearn_greedy._unlabeled import labelled, marked_rows, narrowed, stacked

Array = npt.NDArray

# What scikit-learn's networks know, and the fitted attributes they share with ours.
_NATIVE_ACTIVATIONS = {"identity", "logistic", "tanh", "relu"}
_NATIVE_ATTRIBUTES = (
    "coefs_",
    "intercepts_",
    "classes_",
    "n_layers_",
    "n_outputs_",
    "out_activation_",
    "n_features_in_",
    "feature_names_in_",
    "n_iter_",
    "t_",
    "loss_",
    "loss_curve_",
    "best_loss_",
    "validation_scores_",
    "best_validation_score_",
)

_HEAD_KINDS = {"identity": GAUSSIAN, "logistic": BERNOULLI, "softmax": SOFTMAX}


def _has_epochs(mlp) -> bool:
    """Whether ``partial_fit`` exists."""
    if mlp.solver == "lbfgs":
        raise AttributeError("partial_fit needs solver='adam' or 'sgd', not 'lbfgs'.")
    return True


class _GreedyPretrainedMLP(BaseEstimator, metaclass=ABCMeta):
    """What the classifier and the regressor share: pre-training and fine-tuning."""

    _parameter_constraints: dict = {
        "hidden_layer_sizes": [
            "array-like",
            Interval(Integral, 1, None, closed="left"),
            None,
        ],
        "pretrainer": [
            StrOptions({"autoencoder", "rbm"}),
            HasMethods(["fit", "transform"]),
            None,
        ],
        "activation": [StrOptions({"auto", *ACTIVATIONS})],
        "solver": [StrOptions({"adam", "sgd", "lbfgs"})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
        ],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
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
    ):
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

    # What a subclass says about its targets.

    @abstractmethod
    def _check_targets(self, y, reset: bool, classes=None) -> Array:
        """Validated targets; with ``reset`` also sets ``n_outputs_``,
        ``out_activation_`` and ``classes_``.
        """

    @abstractmethod
    def _target_rows(self, y: Array):
        """What the training loop gathers targets from."""

    @abstractmethod
    def _held_out_score(self, y: Array, means: Array, weights) -> float:
        """Score of the output means on held-out targets."""

    @abstractmethod
    def _strata(self, y: Array):
        """Labels that the validation split keeps in proportion, or None."""

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, sample_weight=None, X_unlabeled=None):
        """Pre-train the hidden layers on all rows, then fine-tune all layers on (X, y).

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets; rows with the value ``unlabeled`` have none.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows in the fine-tuning, not negative; a weight of 2 counts
            as the row twice. The pre-training does not use them.
        X_unlabeled : {array-like, sparse matrix} of shape (n_unlabeled, n_features), \
                default=None
            More rows to pre-train on. It is metadata: switch on metadata routing and
            call ``set_fit_request(X_unlabeled=True)`` to pass it through a search or a
            Pipeline (whose ``transform_input=["X_unlabeled"]`` transforms it too).
            Searches split metadata of exactly as many rows as X has.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If ``hidden_layer_sizes`` or ``activation`` contradict the pretrainer, or
            if training diverges.
        """
        with unchanged_on_failure(self):
            return self._fit(X, y, sample_weight, X_unlabeled)

    def _fit(self, X, y, sample_weight, X_unlabeled):
        if self.solver == "lbfgs" and self.head_max_iter > 0:
            raise ValueError(
                "solver='lbfgs' has no epochs: set head_max_iter=0, or use 'adam' or "
                "'sgd'."
            )
        warm = self.warm_start and hasattr(self, "coefs_")
        X, y, weights, all_rows = self._validate(
            X, y, sample_weight, reset=not warm, more=X_unlabeled
        )
        y = self._check_targets(y, reset=not warm)
        weights = self._class_weighted(weights, y)
        if warm:
            self._check_warm(y)
        seed = draw_seed(self.random_state)
        start = time.perf_counter()
        if not warm:
            self._pretrain(all_rows, seed)
            self._set_target_scaling(y, weights)
        pretrained = time.perf_counter()
        rng, kernel_seed = layer_streams(seed, 0)
        index, held = self._split(y, rng)
        model = self._build(X, y, weights, index, rng, kernel_seed, warm)
        self.head_loss_curve_ = []
        if self.head_max_iter > 0 and not warm and self.pretrainer_ is not None:
            self.head_loss_curve_ = self._train_head(
                model, X, y, weights, index, rng, kernel_seed
            )
        monitor = None if held is None else self._monitor(model, y, weights, held)
        plan = self._plan(monitor)
        if self.solver == "lbfgs":
            history = run_lbfgs(model, index, plan, self.max_fun)
        else:
            history = run_epochs(model, index, plan, rng)
        self._adopt(model, X.dtype)
        self.phase_seconds_ = {
            "pretraining": pretrained - start,
            "fine_tuning": time.perf_counter() - pretrained,
        }
        self.loss_curve_ = history.losses
        self.loss_ = history.losses[-1]
        self.n_iter_ = len(history.losses)
        self.t_ = self.n_iter_ * len(index)
        self.best_loss_ = history.best_loss if held is None else None
        self.validation_scores_ = None if held is None else history.scores
        self.best_validation_score_ = None if held is None else history.best_score
        if hasattr(self, "_resume"):
            del self._resume
        return self

    def _partial_fit(self, X, y, sample_weight, classes=None):
        """One pass of fine-tuning over a chunk; the first chunk also pre-trains."""
        if self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True.")
        first = not hasattr(self, "coefs_")
        X, y, weights, all_rows = self._validate(X, y, sample_weight, reset=first)
        y = self._check_targets(y, reset=first, classes=classes)
        weights = self._class_weighted(weights, y)
        resume = getattr(self, "_resume", None)
        seed = draw_seed(self.random_state) if resume is None else resume["seed"]
        if first:
            self._pretrain(all_rows, seed)
            self._set_target_scaling(y, weights)
            self.loss_curve_, self.n_iter_, self.t_ = [], 0, 0
            self.head_loss_curve_ = []
            self.validation_scores_ = self.best_validation_score_ = None
            self.best_loss_ = np.inf
        rng, kernel_seed = layer_streams(seed, 0)
        state = None if resume is None else resume["state"]
        index = np.arange(len(y))
        model = self._build(X, y, weights, index, rng, kernel_seed, not first, state)
        self.loss_ = train_epoch(model, index, self._plan(), epoch=1)
        self._adopt(model, X.dtype if first else self.coefs_[0].dtype)
        self.loss_curve_ = [*self.loss_curve_, self.loss_]
        if self.best_loss_ is not None:
            self.best_loss_ = min(self.best_loss_, self.loss_)
        self.n_iter_ += 1
        self.t_ += len(y)
        self._resume = {"seed": seed, "state": model.state()}
        return self

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _validate(self, X, y, sample_weight, reset: bool, more=None):
        """(labelled rows, their targets and weights, these and all other rows)."""
        options = {"accept_sparse": "csr", "dtype": [np.float64, np.float32]}
        targets = {"multi_output": True, "y_numeric": is_regressor(self)}
        marked = None
        if y is not None and self.unlabeled is not None:
            marked = marked_rows(y, self.unlabeled)
        if marked is None or not marked.any():
            X, y = validate_data(self, X, y, reset=reset, **options, **targets)
            all_rows = X
        else:
            all_rows = validate_data(self, X, reset=reset, **options)
            X, y, sample_weight = labelled(marked, all_rows, y, sample_weight)
            X, y = check_X_y(X, narrowed(y), estimator=self, **options, **targets)
        if more is not None:
            more = validate_data(self, more, reset=False, **options)
            all_rows = stacked(all_rows, more)
        return X, y, _checked_weights(sample_weight, X), all_rows

    def _class_weighted(self, weights: Array | None, y: Array) -> Array | None:
        """Weights of the rows, with those of their classes."""
        return weights

    def _labelled_part(self, X, y, sample_weight):
        """What ``score`` goes by."""
        marked = marked_rows(y, self.unlabeled)
        if not marked.any():
            return X, y, sample_weight
        return labelled(marked, X, y, sample_weight)

    def _validate_rows(self, X):
        check_is_fitted(self)
        return validate_data(
            self, X, reset=False, accept_sparse="csr", dtype=[np.float64, np.float32]
        )

    def _output_means(self, X) -> Array:
        X = self._validate_rows(X)
        hidden = [*self._activations, "identity"]
        z = forward(X, self.coefs_, self.intercepts_, hidden)
        return output_means(z, self.out_activation_)

    def hidden_activations(self, X, layer=-1):
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
            Activations, in the dtype of X.

        Raises
        ------
        ValueError
            If there is no such layer.
        """
        X = self._validate_rows(X)
        n_hidden = len(self._activations)
        if not -n_hidden <= layer < n_hidden:
            raise ValueError(f"There is no layer {layer}: {n_hidden} are hidden.")
        up_to = layer % n_hidden + 1
        parts = self.coefs_, self.intercepts_, self._activations
        return forward(X, *(part[:up_to] for part in parts))

    def to_mlp(self):
        """A network of scikit-learn's own with the same predictions.

        Returns
        -------
        mlp : MLPClassifier or MLPRegressor
            Fitted; it has the parameters of the fine-tuning and a copy of the weights.
            It can predict, but not go on training with ``partial_fit`` or
            ``warm_start``.

        Raises
        ------
        ValueError
            If the hidden layers have different activations, or one that scikit-learn
            has not.
        """
        check_is_fitted(self)
        used = set(self._activations) or {"identity"}
        if len(used) > 1 or not used <= _NATIVE_ACTIVATIONS:
            raise ValueError(
                f"The hidden activations are {self._activations}; scikit-learn's "
                f"networks have one for all layers, out of "
                f"{sorted(_NATIVE_ACTIVATIONS)}."
            )
        native = MLPRegressor if is_regressor(self) else MLPClassifier
        known = native().get_params()
        own = {k: v for k, v in self.get_params(deep=False).items() if k in known}
        sizes = tuple(coef.shape[1] for coef in self.coefs_[:-1])
        mlp = native(**{**own, "hidden_layer_sizes": sizes, "activation": used.pop()})
        for name in _NATIVE_ATTRIBUTES:
            if hasattr(self, name):
                setattr(mlp, name, copy.deepcopy(getattr(self, name)))
        self._complete_native(mlp)
        return mlp

    def _complete_native(self, mlp) -> None:
        """Set what one of scikit-learn's networks has beside our attributes."""

    # Pre-training.

    def _pretrain(self, X, seed: Array) -> None:
        """Set ``pretrainer_``, the hidden activations and the scaling of the input."""
        n_features = X.shape[1]
        self.pretrainer_ = self._new_pretrainer(seed)
        self._input_offset = np.zeros(n_features)
        self._input_scale = np.ones(n_features)
        if self.pretrainer_ is None:
            activation = "relu" if self.activation == "auto" else self.activation
            n_layers = len(self._own_sizes((100,)))
            self._activations = [activation] * n_layers
            return
        if isinstance(self.pretrainer_, FrozenEstimator):
            check_is_fitted(self.pretrainer_.estimator)
        else:
            self.pretrainer_.fit(X)
        _check_pretrainer(self.pretrainer_, n_features)
        self._check_agreement(
            tuple(coef.shape[1] for coef in self.pretrainer_.coefs_),
            self.pretrainer_.activations_,
        )
        self._activations = list(self.pretrainer_.activations_)
        self._input_offset = self.pretrainer_.visible_offset_
        self._input_scale = self.pretrainer_.visible_scale_

    def _check_warm(self, y) -> None:
        """Raise where a warm start cannot go on from the fitted network."""
        fitted = tuple(coef.shape[1] for coef in self.coefs_[:-1])
        own = self._own_sizes(fitted)
        if own != fitted:
            raise ValueError(
                f"hidden_layer_sizes={own} differs from the fitted layers {fitted}. "
                "Set warm_start=False, or call fit on a clone to start anew."
            )

    def _own_sizes(self, default) -> tuple[int, ...]:
        sizes = self.hidden_layer_sizes
        return default if sizes is None else layer_sizes(sizes)

    def _new_pretrainer(self, seed: Array):
        """An unfitted pretrainer (or a frozen one), or None."""
        if self.pretrainer is None:
            return None
        int_seed = int(seed[0] >> np.uint32(1))
        if not isinstance(self.pretrainer, str):
            pretrainer = clone(self.pretrainer)
            if isinstance(pretrainer, FrozenEstimator):
                return pretrainer
            params = pretrainer.get_params(deep=False)
            if params.get("random_state", 0) is None:
                pretrainer.set_params(random_state=int_seed)
            if "hidden_layer_sizes" in params:
                activation = params.get("activation", self.activation)
                sizes = layer_sizes(params["hidden_layer_sizes"])
                self._check_agreement(sizes, np.atleast_1d(activation).tolist())
            return pretrainer
        sizes = self._own_sizes((100,))
        if not sizes:
            raise ValueError(
                f"pretrainer={self.pretrainer!r} needs a hidden layer, but "
                f"hidden_layer_sizes={self.hidden_layer_sizes!r}. Use pretrainer=None "
                "for a network without hidden layers."
            )
        common = {"random_state": int_seed, "verbose": self.verbose}
        if self.pretrainer == "rbm":
            self._check_agreement(sizes, ["logistic"])
            return StackedRBMTransformer(sizes, **common)
        if self.activation != "auto":
            common["activation"] = self.activation
        return StackedAutoencoderTransformer(sizes, **common)

    def _check_agreement(self, sizes: tuple[int, ...], activations) -> None:
        """Raise where our own parameters contradict the pretrainer's."""
        own = self._own_sizes(sizes)
        if own != sizes:
            raise ValueError(
                f"hidden_layer_sizes={own} contradicts the pretrainer's layers "
                f"{sizes}. Leave hidden_layer_sizes=None or make them equal."
            )
        if self.activation != "auto" and set(activations) != {self.activation}:
            raise ValueError(
                f"activation={self.activation!r} contradicts the pretrainer's "
                f"{sorted(set(activations))}. Leave activation='auto' or make them "
                "equal."
            )

    # Fine-tuning.

    def _set_target_scaling(self, y: Array, weights: Array | None) -> None:
        """Scale of the targets inside; only the regressor has one."""

    def _split(self, y: Array, rng):
        """Row numbers for training and, with early stopping, for validation."""
        index = np.arange(len(y))
        if not self.early_stopping:
            return index, None
        if self.solver == "lbfgs":
            raise ValueError(
                "solver='lbfgs' runs to the minimum of the loss and has no epochs to "
                "choose from: set early_stopping=False, or use 'adam' or 'sgd'."
            )
        train, held = train_test_split(
            index,
            test_size=self.validation_fraction,
            random_state=int(rng.integers(2**31)),
            stratify=self._strata(y),
        )
        return np.sort(train), np.sort(held)

    def _build(
        self, X, y, weights, index, rng, seed, warm, state=None
    ) -> Backpropagation:
        if warm:
            coefs, intercepts = self._unfolded()
        else:
            coefs, intercepts = self._initial_parameters(X.shape[1], rng)
        sizes = [X.shape[1], *(coef.shape[1] for coef in coefs)]
        network = Network.dense(sizes, [*self._activations, "identity"])
        theta, rows = network.pack(coefs, intercepts), Rows(X, self._input_units())
        return self._backpropagation(
            network, theta, rows, y, weights, index, seed, state
        )

    def _backpropagation(
        self, network, theta, rows, y, weights, index, seed, state=None
    ) -> Backpropagation:
        n_rows = len(index)
        mass = n_rows if weights is None else float(weights[index].sum())
        batch_size = min(200, n_rows) if self.batch_size == "auto" else self.batch_size
        return Backpropagation(
            network,
            theta,
            rows,
            output_blocks(self.n_outputs_, _HEAD_KINDS[self.out_activation_]),
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
            ),
            batch_size=min(batch_size, n_rows),
            seed=seed,
            targets=self._target_rows(y),
            row_weights=weights,
            alpha=self.alpha / mass,
            state=state,
        )

    def _train_head(self, model, X, y, weights, index, rng, seed) -> list[float]:
        """Train the head alone, on the output of the pre-trained layers; its losses."""
        stack = self.pretrainer_
        H = forward(X, stack.coefs_, stack.intercepts_, self._activations)
        coefs, intercepts = model.network.views(model.theta)
        network = Network.dense(coefs[-1].shape, ("identity",))
        theta = network.pack(coefs[-1:], intercepts[-1:])
        head = self._backpropagation(network, theta, Rows(H), y, weights, index, seed)
        plan = dataclasses.replace(
            self._plan(),
            max_iter=self.head_max_iter,
            tol=None,
            place=f"{type(self).__name__}, head",
        )
        losses = run_epochs(head, index, plan, rng).losses
        (coefs[-1][...],), (intercepts[-1][...],) = network.views(head.theta)
        return losses

    def _input_units(self) -> Units:
        return Units.all_gaussian(self._input_offset, self._input_scale)

    def _initial_parameters(self, n_features: int, rng):
        """Pre-trained (or random) hidden layers and a random head, for the scaled
        input. The head's bound is that of the hidden activation, as in MLPClassifier.
        """
        hidden = self._activations
        last = hidden[-1] if hidden else "identity"
        if self.pretrainer_ is None:
            sizes = [n_features, *self._own_sizes((100,)), self.n_outputs_]
            pairs = [
                glorot_uniform(rng, n_in, n_out, activation)
                for n_in, n_out, activation in zip(
                    sizes[:-1], sizes[1:], [*hidden, last], strict=True
                )
            ]
            return [coef for coef, _ in pairs], [intercept for _, intercept in pairs]
        coefs = list(self.pretrainer_.coefs_)
        intercepts = list(self.pretrainer_.intercepts_)
        coefs[0], intercepts[0] = unfold_input(
            coefs[0], intercepts[0], self._input_offset, self._input_scale
        )
        top = glorot_uniform(rng, coefs[-1].shape[1], self.n_outputs_, last)
        return [*coefs, top[0]], [*intercepts, top[1]]

    def _unfolded(self):
        """Fitted parameters for the scaled input and targets."""
        coefs, intercepts = list(self.coefs_), list(self.intercepts_)
        coefs[0], intercepts[0] = unfold_input(
            coefs[0], intercepts[0], self._input_offset, self._input_scale
        )
        coefs[-1], intercepts[-1] = unfold_output(
            coefs[-1], intercepts[-1], *self._target_scaling()
        )
        return coefs, intercepts

    def _target_scaling(self):
        return np.zeros(self.n_outputs_), np.ones(self.n_outputs_)

    def _adopt(self, model: Backpropagation, dtype) -> None:
        """Set the fitted parameters, for raw input and targets."""
        coefs, intercepts = model.network.views(model.theta.astype(np.float64))
        coefs[0], intercepts[0] = fold_input(
            coefs[0], intercepts[0], self._input_offset, self._input_scale
        )
        coefs[-1], intercepts[-1] = fold_output(
            coefs[-1], intercepts[-1], *self._target_scaling()
        )
        self.coefs_ = [coef.astype(dtype) for coef in coefs]
        self.intercepts_ = [intercept.astype(dtype) for intercept in intercepts]
        self.n_layers_ = len(coefs) + 1

    def _plan(self, monitor=None) -> Plan:
        return Plan(
            max_iter=self.max_iter,
            tol=self.tol,
            n_iter_no_change=self.n_iter_no_change,
            shuffle=self.shuffle,
            learning_rate=("learning_rate_init", self.learning_rate_init),
            place=type(self).__name__,
            monitor=monitor,
            report=print if self.verbose else None,
        )

    def _monitor(self, model: Backpropagation, y: Array, weights, held: Array):
        """Score on the held-out rows at the present parameters."""
        held_weights = None if weights is None else weights[held]

        def score() -> float:
            parts = [
                output_means(z, self.out_activation_)
                for _, z in model.pre_activations(held)
            ]
            means = np.concatenate(parts)
            if not np.all(np.isfinite(means)):
                return np.nan  # the training loop reports the divergence
            return self._held_out_score(y[held], means, held_weights)

        return score


def _checked_weights(sample_weight, X) -> Array | None:
    """Weights of the rows of X, (n,) float64; None where all weigh the same."""
    if sample_weight is None:
        return None
    weights = check_sample_weight(
        sample_weight, X, dtype=np.float64, ensure_non_negative=True
    )
    if not weights.any():
        raise ValueError(
            "Sample weights must contain at least one non-zero number. Got zeros for "
            f"all {len(weights)} labelled rows."
        )
    return weights


def _check_pretrainer(pretrainer, n_features: int) -> None:
    needed = (
        "coefs_",
        "intercepts_",
        "activations_",
        "visible_offset_",
        "visible_scale_",
    )
    missing = [name for name in needed if not hasattr(pretrainer, name)]
    if missing:
        raise TypeError(
            f"A pretrainer must have the fitted attributes {', '.join(needed)}; "
            f"{pretrainer!r} lacks {', '.join(missing)}. Use a StackedRBMTransformer "
            "or a StackedAutoencoderTransformer."
        )
    seen = pretrainer.coefs_[0].shape[0]
    if seen != n_features:
        raise ValueError(
            f"X has {n_features} features, but the pretrainer was fitted on {seen}."
        )


class GreedyPretrainedMLPClassifier(ClassifierMixin, _GreedyPretrainedMLP):
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

    pretrainer : {"autoencoder", "rbm"}, estimator or None, default="autoencoder"
        What trains the hidden layers before the labels are used: a name (with that
        transformer's defaults), an unfitted `StackedAutoencoderTransformer` or
        `StackedRBMTransformer` (cloned, never fitted in place), a fitted one wrapped
        in `~sklearn.frozen.FrozenEstimator` (used as it is), or None for a random start
        as in MLPClassifier.

    activation : {"auto", "relu", "logistic", "tanh", "identity"}, default="auto"
        Activation of the hidden layers. "auto" is the pretrainer's, or "relu" without
        one.

    solver : {"adam", "sgd", "lbfgs"}, default="adam"
        Optimiser of the fine-tuning. "lbfgs" takes all rows at once, dense and in
        float64, and runs to the minimum: for small data. It has no ``partial_fit``.

    alpha : float, default=0.0001
        L2 penalty: ``alpha / (2 n)`` times the sum of squared weights is added to the
        mean loss of the n training rows, whatever the batch size. In [0, inf).

    batch_size : int or "auto", default="auto"
        Rows of a mini-batch; "auto" is ``min(200, n_samples)``.

    learning_rate : {"constant", "invscaling", "adaptive"}, default="constant"
        Schedule of the step size of "sgd": "invscaling" divides it by
        ``(n_rows_seen + 1) ** power_t`` after each epoch, "adaptive" by 5 each time the
        training would end by ``tol``, until it is below 1e-6.

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
        Whether ``fit`` goes on from the present parameters, without pre-training.

    momentum : float, default=0.9
        Momentum of "sgd", in [0, 1].

    nesterovs_momentum : bool, default=True
        Whether "sgd" uses Nesterov's momentum.

    early_stopping : bool, default=False
        Whether to hold out rows (in proportion to the classes), follow the
        validation score and keep the parameters of the best epoch.

    validation_fraction : float, default=0.1
        Share of the rows held out by ``early_stopping``, in [0, 1).

    beta_1, beta_2 : float, default=0.9, 0.999
        Decay of the moments of "adam", in [0, 1).

    epsilon : float, default=1e-8
        Numerical floor of "adam", in (0, inf).

    n_iter_no_change : int or inf, default=10
        Epochs without improvement that end the fine-tuning.

    max_fun : int, default=15000
        Most evaluations of the loss by "lbfgs".

    unlabeled : scalar or None, default=None
        Value that marks rows of y without a label, such as -1, "" or NaN (which stands
        for every kind of missing value). They take part in the pre-training alone, not
        in the fine-tuning, the validation split or ``score``. None: there are none.

    head_max_iter : int, default=0
        Epochs in which the output layer alone is trained on the pre-trained features,
        before all layers move: the gradients of a random output layer do not reach
        the layers below. Not for "lbfgs"; ``partial_fit`` has no such epochs.

    class_weight : dict, "balanced" or None, default=None
        Weights of the classes in the fine-tuning, on top of ``sample_weight``:
        ``{label: weight}``, or "balanced" for ``n_samples / (n_classes * count)``. For
        multilabel targets see `~sklearn.utils.class_weight.compute_sample_weight`.

    label_smoothing : float, default=0.0
        Share s of the target that is spread evenly over the classes, in [0, 1): the
        network is trained towards ``(1 - s) + s / n_classes`` for the label of a row
        and ``s / n_classes`` for the others ([3]_, section 7).

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.

    pretrainer_ : estimator or None
        The fitted pretrainer.

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
        With ``early_stopping``: accuracy on the held-out rows after each epoch.

    best_validation_score_ : float or None
        With ``early_stopping``: best of ``validation_scores_``.

    n_iter_ : int
        Epochs of fine-tuning.

    t_ : int
        Training rows visited in fine-tuning.

    head_loss_curve_ : list of float
        Mean training loss plus penalty in the epochs of ``head_max_iter``.

    phase_seconds_ : dict of float
        Seconds of "pretraining" and of "fine_tuning" in the last ``fit``.

    n_layers_ : int
        Number of layers, input and output included.

    n_outputs_ : int
        Number of output units.

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
        **_GreedyPretrainedMLP._parameter_constraints,
        "class_weight": [StrOptions({"balanced"}), dict, None],
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
        class_weight=None,
        label_smoothing=0.0,
    ):
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
        )
        self.class_weight = class_weight
        self.label_smoothing = label_smoothing

    @available_if(_has_epochs)
    @fit_context(prefer_skip_nested_validation=False)
    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Fine-tune on one more chunk of rows, in the order given.

        The penalty ``alpha`` is over the rows of the chunk. The first chunk also
        pre-trains the hidden layers. To pre-train on a stream, use
        ``partial_fit`` of a transformer and give it wrapped in
        `~sklearn.frozen.FrozenEstimator`.

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
        with unchanged_on_failure(self):
            check_partial_fit_first_call(self, classes)
            return self._partial_fit(X, y, sample_weight, classes)

    def predict(self, X):
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

    def predict_proba(self, X):
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

    def predict_log_proba(self, X):
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

    def score(self, X, y, sample_weight=None):
        """Accuracy on the rows that have a label.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets; rows with the value ``unlabeled`` do not count.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        score : float
            At most 1; higher is better.
        """
        return super().score(*self._labelled_part(X, y, sample_weight))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _complete_native(self, mlp) -> None:
        labels = np.eye(len(self.classes_)) if self._multilabel else self.classes_
        mlp._label_binarizer = LabelBinarizer().fit(labels)

    @property
    def _multilabel(self) -> bool:
        return self.out_activation_ == "logistic" and self.n_outputs_ > 1

    def _check_targets(self, y, reset: bool, classes=None) -> Array:
        """Codes of the classes, or the indicator matrix of a multilabel problem."""
        check_classification_targets(y)
        multilabel = type_of_target(y, input_name="y") == "multilabel-indicator"
        if sparse.issparse(y):
            y = y.toarray()
        if not multilabel:
            y = column_or_1d(y, warn=True)
        labels = unique_labels(y)
        if reset:
            self.classes_ = labels if classes is None else unique_labels(classes)
            self._set_head(multilabel)
        elif multilabel != self._multilabel:
            raise ValueError(
                "y changed between multilabel and single-label targets since the first "
                "fit. Use a clone to start anew."
            )
        unseen = np.setdiff1d(labels, self.classes_)
        if len(unseen):
            raise ValueError(
                f"y has the classes {unseen.tolist()}, which are not among the known "
                f"ones {self.classes_.tolist()}."
            )
        return y if multilabel else np.searchsorted(self.classes_, y)

    def _class_weighted(self, weights, y: Array) -> Array | None:
        if self.class_weight is None:
            return weights
        labels = y if self._multilabel else self.classes_[y]
        of_classes = compute_sample_weight(self.class_weight, labels)
        return of_classes if weights is None else of_classes * weights

    def _check_warm(self, y) -> None:
        super()._check_warm(y)
        if y.ndim == 1 and len(np.unique(y)) < len(self.classes_):
            raise ValueError(
                "With warm_start=True, y must have the same classes as before: "
                f"{self.classes_.tolist()}. Got {self.classes_[np.unique(y)].tolist()}."
            )

    def _set_head(self, multilabel: bool) -> None:
        n_classes = len(self.classes_)
        if n_classes < 2 and not multilabel:
            raise ValueError(
                f"{type(self).__name__} needs at least two classes, but y has only one "
                f"class: {self.classes_[0]!r}."
            )
        binary = n_classes == 2 and not multilabel
        self.n_outputs_ = 1 if binary else n_classes
        self.out_activation_ = "logistic" if binary or multilabel else "softmax"

    def _target_rows(self, y: Array):
        if self.out_activation_ == "softmax":
            return OneHotRows(y, self.n_outputs_, self.label_smoothing)
        y = y if self._multilabel else y[:, None]
        if self.label_smoothing > 0:
            y = y * (1 - self.label_smoothing) + self.label_smoothing / 2
        return Rows(y)

    def _held_out_score(self, y: Array, means: Array, weights) -> float:
        predicted = means > 0.5 if self._multilabel else _winners(means)
        return float(accuracy_score(y, predicted, sample_weight=weights))

    def _strata(self, y: Array):
        return None if self._multilabel else self.classes_[y]


def _winners(means: Array) -> Array:
    """Code of the most probable class from one (binary) or more output units."""
    return means.argmax(axis=1) if means.shape[1] > 1 else (means[:, 0] > 0.5) * 1


class GreedyPretrainedMLPRegressor(RegressorMixin, _GreedyPretrainedMLP):
    """Multi-layer perceptron regressor with greedy layer-wise pre-training.

    ``fit`` trains the hidden layers one after the other without the targets, puts a
    random output layer on top and fine-tunes all layers together on the squared
    error. With a pretrainer, gaussian columns of X and the targets are standardised
    inside; ``coefs_`` applies to raw data.

    Parameters
    ----------
    hidden_layer_sizes : int, array-like of int or None, default=None
        Number of units of each hidden layer. None takes the sizes of the pretrainer, or
        ``(100,)`` where ``pretrainer`` is a name or None.

    pretrainer : {"autoencoder", "rbm"}, estimator or None, default="autoencoder"
        What trains the hidden layers before the labels are used: a name (with that
        transformer's defaults), an unfitted `StackedAutoencoderTransformer` or
        `StackedRBMTransformer` (cloned, never fitted in place), a fitted one wrapped
        in `~sklearn.frozen.FrozenEstimator` (used as it is), or None for a random start
        as in MLPRegressor.

    activation : {"auto", "relu", "logistic", "tanh", "identity"}, default="auto"
        Activation of the hidden layers. "auto" is the pretrainer's, or "relu" without
        one.

    solver : {"adam", "sgd", "lbfgs"}, default="adam"
        Optimiser of the fine-tuning. "lbfgs" takes all rows at once, dense and in
        float64, and runs to the minimum: for small data. It has no ``partial_fit``.

    alpha : float, default=0.0001
        L2 penalty: ``alpha / (2 n)`` times the sum of squared weights is added to the
        mean loss of the n training rows, whatever the batch size. In [0, inf).

    batch_size : int or "auto", default="auto"
        Rows of a mini-batch; "auto" is ``min(200, n_samples)``.

    learning_rate : {"constant", "invscaling", "adaptive"}, default="constant"
        Schedule of the step size of "sgd": "invscaling" divides it by
        ``(n_rows_seen + 1) ** power_t`` after each epoch, "adaptive" by 5 each time the
        training would end by ``tol``, until it is below 1e-6.

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
        Whether ``fit`` goes on from the present parameters, without pre-training.

    momentum : float, default=0.9
        Momentum of "sgd", in [0, 1].

    nesterovs_momentum : bool, default=True
        Whether "sgd" uses Nesterov's momentum.

    early_stopping : bool, default=False
        Whether to hold out rows, follow the
        validation score and keep the parameters of the best epoch.

    validation_fraction : float, default=0.1
        Share of the rows held out by ``early_stopping``, in [0, 1).

    beta_1, beta_2 : float, default=0.9, 0.999
        Decay of the moments of "adam", in [0, 1).

    epsilon : float, default=1e-8
        Numerical floor of "adam", in (0, inf).

    n_iter_no_change : int or inf, default=10
        Epochs without improvement that end the fine-tuning.

    max_fun : int, default=15000
        Most evaluations of the loss by "lbfgs".

    unlabeled : scalar or None, default=None
        Value that marks rows of y without a target, such as NaN. They take part in the
        pre-training alone, not in the fine-tuning, the validation split or ``score``.
        None: there are none.

    head_max_iter : int, default=0
        Epochs in which the output layer alone is trained on the pre-trained features,
        before all layers move: the gradients of a random output layer do not reach
        the layers below. Not for "lbfgs"; ``partial_fit`` has no such epochs.

    Attributes
    ----------
    pretrainer_ : estimator or None
        The fitted pretrainer.

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
        With ``early_stopping``: R2 on the held-out rows after each epoch.

    best_validation_score_ : float or None
        With ``early_stopping``: best of ``validation_scores_``.

    n_iter_ : int
        Epochs of fine-tuning.

    t_ : int
        Training rows visited in fine-tuning.

    head_loss_curve_ : list of float
        Mean training loss plus penalty in the epochs of ``head_max_iter``.

    phase_seconds_ : dict of float
        Seconds of "pretraining" and of "fine_tuning" in the last ``fit``.

    n_layers_ : int
        Number of layers, input and output included.

    n_outputs_ : int
        Number of output units.

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

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn_greedy import GreedyPretrainedMLPRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> reg = GreedyPretrainedMLPRegressor((32,), max_iter=200, tol=0, random_state=0)
    >>> bool(reg.fit(X[:350], y[:350]).score(X[350:], y[350:]) > 0.3)
    True
    """

    @available_if(_has_epochs)
    @fit_context(prefer_skip_nested_validation=False)
    def partial_fit(self, X, y, sample_weight=None):
        """Fine-tune on one more chunk of rows, in the order given.

        The penalty ``alpha`` is over the rows of the chunk. The first chunk also
        pre-trains the hidden layers and gives the scale of the targets. To pre-train on
        a stream, use ``partial_fit`` of a transformer and give it wrapped in
        `~sklearn.frozen.FrozenEstimator`.

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
        with unchanged_on_failure(self):
            return self._partial_fit(X, y, sample_weight)

    def predict(self, X):
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

    def score(self, X, y, sample_weight=None):
        """Coefficient of determination on the rows that have a target.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets; rows with the value ``unlabeled`` do not count.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        score : float
            At most 1; higher is better.
        """
        return super().score(*self._labelled_part(X, y, sample_weight))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _check_targets(self, y, reset: bool, classes=None) -> Array:
        """Targets as a matrix of floats."""
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        flat = y.ndim == 1
        y = y.reshape(len(y), -1).astype(np.float64, copy=False)
        if reset:
            self._flat, self.n_outputs_ = flat, y.shape[1]
            self.out_activation_ = "identity"
        elif y.shape[1] != self.n_outputs_:
            raise ValueError(
                f"y has {y.shape[1]} outputs, but the fitted regressor has "
                f"{self.n_outputs_}."
            )
        return y

    def _set_target_scaling(self, y: Array, weights: Array | None) -> None:
        """Standardise the targets inside, unless nothing is pre-trained."""
        self._target_offset = np.zeros(self.n_outputs_)
        self._target_scale = np.ones(self.n_outputs_)
        if self.pretrainer_ is not None:
            statistics = ColumnStatistics.of(y, weights)
            units = choose_units(statistics, "gaussian")
            self._target_offset, self._target_scale = units.offset, units.scale

    def _target_scaling(self):
        return self._target_offset, self._target_scale

    def _target_rows(self, y: Array) -> Rows:
        return Rows(y, Units.all_gaussian(self._target_offset, self._target_scale))

    def _held_out_score(self, y: Array, means: Array, weights) -> float:
        scaled = (y - self._target_offset) / self._target_scale
        return float(r2_score(scaled, means, sample_weight=weights))

    def _strata(self, y: Array):
        return None
