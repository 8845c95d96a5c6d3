"""What both transformers are: the greedy loop over layers and per-layer parameters."""

import reprlib
import time
from abc import ABCMeta, abstractmethod
from functools import partial
from numbers import Integral, Real
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.base import (
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils import assert_all_finite
from sklearn.utils.validation import check_is_fitted

from sklearn_greedy._base import GreedyEstimator
from sklearn_greedy._callbacks import NO_TASKS, EpochTasks, task_of
from sklearn_greedy._compat import (
    CallbackSupport,
    HasMethods,
    Interval,
    StrOptions,
    available_if,
    fit_context,
    validate_parameter_constraints,
)
from sklearn_greedy._fitting import (
    draw_seed,
    fitting,
    stream_seed,
    training_streams,
)
from sklearn_greedy._health import idle_units, warn_of
from sklearn_greedy._html import stack_block
from sklearn_greedy._layer import (
    LayerTask,
    TrainedLayer,
    in_dtype,
    layer_output,
    next_data,
)
from sklearn_greedy._memory import LayerCache, NoCache, warn_of_no_seed
from sklearn_greedy._network import forward
from sklearn_greedy._parameters import (
    check_same_sizes,
    checked_pairs,
    is_sequence,
    layer_sizes,
    selects_rows,
)
from sklearn_greedy._rows import SOME_ROWS, held_out_rows
from sklearn_greedy._stream import follow, past_of
from sklearn_greedy._supervision import (
    SupervisedModel,
    Supervision,
    head_of,
)
from sklearn_greedy._together import LayersTogether
from sklearn_greedy._training import (
    History,
    Model,
    Plan,
    report_epoch,
    run_epochs,
    train_epoch,
)
from sklearn_greedy._units import (
    LEAST_HIDDEN_SCALE,
    ColumnStatistics,
    Units,
    choose_units,
    contradicts,
    left_to_auto,
    spread_rows,
    warn_of_unbounded,
)
from sklearn_greedy._validation import validated

Array = npt.NDArray


class GreedyStack(
    CallbackSupport,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    GreedyEstimator,
    metaclass=ABCMeta,
):
    """Base of the transformers: layers trained one after the other.

    Layer i learns from the clean output of layer i - 1. A subclass says what a layer
    is (``_build``), how good it is on held-out rows (``_monitor``), how its input
    changes its scale (``_take_units``), and how its training parameters become fitted
    attributes (``_fold``) and back (``_recall``).
    """

    # Parameters that take one value for all layers or a sequence with one per layer.
    _per_layer: tuple[str, ...]
    # Layers of another stack below the first one, which messages count.
    _n_below = 0
    # The parameter to lower when training diverges, and that of the hidden units.
    _rate: str
    _units_parameter: str
    # What another estimator was given where it made this stack, or None.
    _stands_for: str | None = None
    # Kinds of visible units that the layers can have.
    _kinds: tuple[str, ...]
    # Epochs and chunks that each layer was trained for, and what partial_fit goes on
    # from.
    _n_epochs: list[int]
    _resume: dict
    # What ``_adopt`` sets by name.
    n_features_in_: int
    coefs_: list[Array]
    intercepts_: list[Array]
    activations_: list[str]
    visible_kinds_: Array
    visible_offset_: Array
    visible_scale_: Array

    _parameter_constraints: dict = {
        "hidden_layer_sizes": [
            "array-like",
            Interval(Integral, 1, None, closed="left"),
        ],
        "momentum": [Interval(Real, 0, 1, closed="left"), "array-like"],
        "alpha": [Interval(Real, 0, None, closed="left"), "array-like"],
        "sparsity_target": [Interval(Real, 0, 1, closed="neither"), None, "array-like"],
        "sparsity_weight": [Interval(Real, 0, None, closed="left"), "array-like"],
        "batch_size": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "tol": [Interval(Real, 0, None, closed="left"), None],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "shuffle": ["boolean"],
        "schedule": [StrOptions({"layerwise", "simultaneous"})],
        "memory": [None, str, HasMethods(["cache"])],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    @abstractmethod
    def _activation(self, layer: int) -> str:
        """Activation of a layer's units."""

    @abstractmethod
    def _build(self, task: LayerTask) -> Model:
        """The model that the training loop trains."""

    @abstractmethod
    def _head_options(self, task: LayerTask, model: Any) -> dict:
        """Table of the layers below a temporary head, its optimiser, and what else a
        ``SupervisedModel`` takes.
        """

    @abstractmethod
    def _monitor(self, task: LayerTask, model: Any, held: Array):
        """Function that scores the model on the rows ``held``, higher is better."""

    @abstractmethod
    def _take_units(self, task: LayerTask, model: Any) -> None:
        """Scale the input of a model in training by the present units of its task."""

    def _present_units(self, task: LayerTask, model: Any) -> Units:
        """Units of the input of a model in training, which may learn their scale."""
        return task.units

    @abstractmethod
    def _fold(self, task: LayerTask, model: Any) -> dict:
        """Fitted attributes of the layer for raw input, in float64: each name holds
        a list with one entry per layer.
        """

    @abstractmethod
    def _recall(self, layer: int, units: Units) -> Array:
        """Flat training parameters of a fitted layer."""

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None) -> Self:
        """Train the layers one after the other.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training data. Memory maps of float32 or float64 rows are read batch by
            batch, not copied, and CSR matrices are never made dense as a whole. Whole
            numbers as floats, and the output of a layer for the next one, are kept
            where they fit into scikit-learn's ``working_memory``, else computed anew
            for each batch.
        y : None
            Ignored, present for API consistency.

        Returns
        -------
        self : object
            The fitted stack.

        Raises
        ------
        ValueError
            If a sequence of per-layer values has another length than
            ``hidden_layer_sizes``, or if training diverges.
        """
        with fitting(self):
            self._fit(X)
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def _fit_within(self, X, given, weights=None, supervision=None, names=None):
        """``fit`` within that of another estimator, which has validated X; given : X of
        the user, to select columns from. With weights of the rows, with targets and
        with the names of the columns, each of them or None. Returns the last temporary
        head, or None.
        """
        with fitting(self):
            return self._fit(X, given, weights, supervision, names)

    def _fit(self, X, given=None, weights=None, supervision=None, names=None):
        warm = self.warm_start and hasattr(self, "coefs_")
        if given is None:
            given, X = X, self._validate(X, reset=not warm)
        else:
            self.n_features_in_ = X.shape[1]  # of rows that are validated
        if names is not None:
            self.feature_names_in_ = names
        visible = None if warm else self._visible_units(given)
        sizes = self._checked_sizes()
        if warm:
            self._check_unchanged(sizes)
        self._check_schedule()
        seed = draw_seed(self.random_state)
        # Without epochs there is nothing to do together.
        together = self.schedule == "simultaneous" and self._settings(0).max_iter > 0
        new_task = partial(
            self._task,
            seed=seed,
            visible=visible,
            resumed=warm,
            weights=weights,
            supervision=supervision,
        )
        cache: LayerCache | NoCache = NoCache()
        if self.memory is not None and not warm and not together:
            if self.random_state is None:
                warn_of_no_seed(self.memory)
            else:
                cache = LayerCache(self, X, seed, visible, weights, supervision)
        n_tasks = (1 if together else len(sizes)) + self._n_last_tasks()
        root = self._init_callback_context(max_subtasks=n_tasks)
        root.call_on_fit_task_begin(estimator=self, X=X)
        if together:
            layers = self._train_together(X, sizes, new_task, seed, root, warm)
        else:
            layers = self._train_layerwise(X, sizes, new_task, root, cache)
        self._adopt(layers)
        n_epochs = [len(layer.history.losses) for layer in layers]
        self._count_epochs(n_epochs, goes_on=warm)
        self.n_iter_ = sum(n_epochs)
        self.validation_scores_ = None
        if self.early_stopping:
            self.validation_scores_ = [layer.history.scores for layer in layers]
        if hasattr(self, "_resume"):
            del self._resume
        last = self._finish(X, new_task, seed, root, cache) or layers[-1]
        root.call_on_fit_task_end(estimator=self, X=X, reconstruction_attributes={})
        return last.head

    def _n_last_tasks(self) -> int:
        """Number of tasks of ``_finish``."""
        return 0

    def _train_layerwise(self, X, sizes, new_task, root, cache):
        """Each layer to its end, on the clean output of the finished ones below.

        new_task : what ``_task`` makes of a layer's number, data and width.
        """
        layers: list[TrainedLayer] = []
        data, n_passed = X, 0

        def attributes():
            return self._attributes(layers)

        for layer, width in enumerate(sizes):
            settings = self._settings(layer)

            def train(context, layer=layer, width=width):
                nonlocal data, n_passed
                # Not before it is needed: the next layers may come from the cache.
                for below in layers[n_passed:]:
                    data = next_data(below.fitted, data)
                n_passed = len(layers)
                task = new_task(layer, data, width)
                task.check_range()
                return self._train_layer(task, X, layers, context)

            name, n_epochs = f"layer {layer + 1}", settings.max_iter
            told = {"X": X, "attributes": attributes}
            with task_of(root, name, n_epochs, self, **told) as context:
                found = cache.layer(width, settings, partial(train, context))
                layers.append(found)
        return layers

    def _train_layer(self, task: LayerTask, X, below, context) -> TrainedLayer:
        """One layer to its end, with a warning where it did not learn."""
        self._hold_out(task)
        model = self._build(task)

        def attributes():
            unfinished = self._trained(task, model, History(), X.dtype)
            return self._attributes([*below, unfinished])

        tasks = EpochTasks.of(context, self, X, attributes=attributes)
        history, head = self._train(task, model, tasks)
        trained = self._trained(task, model, history, X.dtype, head)
        self._warn_of(task, trained.report)
        return trained

    def _train_together(self, X, sizes, new_task, seed, root, warm):
        """All layers in every epoch; the first one goes layer by layer, or the upper
        layers would begin with random features.
        """
        n_before = self._n_epochs[0] if warm else 0
        _, rng, _ = training_streams(seed, len(sizes), n_before)
        n_epochs = self._settings(0).max_iter
        training = LayersTogether(self, X, rng)
        finished: list[TrainedLayer] = []

        def attributes():
            return self._attributes(finished or training.trained())

        told = {"X": X, "attributes": attributes}
        with task_of(root, "layers", n_epochs, self, **told) as context:
            tasks = EpochTasks.of(context, self, X, attributes=attributes)
            for epoch in range(1, n_epochs + 1):
                start = time.perf_counter()
                tasks.begin()
                if epoch == 1:
                    training.first_epoch(sizes, new_task)
                else:
                    training.epoch(epoch)
                for step in training.layers:
                    loss = step.history.losses[-1]
                    report_epoch(self._plan(step.task), epoch, loss, None, start)
                if tasks.end():
                    break
            training.pass_up()
            finished += training.trained()
            for step, layer in zip(training.layers, finished, strict=True):
                self._warn_of(step.task, layer.report)
        return finished

    def _trained(self, task, model, history: History, dtype, head=None) -> TrainedLayer:
        task.units = self._present_units(task, model)
        fitted = in_dtype(self._fold(task, model), dtype)
        report = self._report(task, model, fitted)
        return TrainedLayer(fitted, task.units, report, history, head)

    def _check_schedule(self) -> None:
        """Raise where parameters do not go with training all layers together."""
        if self.schedule == "layerwise":
            return
        for name, off in (("early_stopping", False), ("tol", None)):
            if getattr(self, name) != off:
                raise ValueError(
                    f"schedule='simultaneous' trains for max_iter epochs and has no "
                    f"way to stop a layer: set {name}={off} (now "
                    f"{getattr(self, name)!r})."
                )
        for name in ("max_iter", "batch_size"):
            value = getattr(self, name)
            if is_sequence(value) and len(set(value)) > 1:
                raise ValueError(
                    f"schedule='simultaneous' needs one {name} for all layers. Got "
                    f"{value!r}."
                )

    def _finish(self, X, new_task, seed: Array, root, cache) -> TrainedLayer | None:
        """What a subclass trains after all layers at the end of ``fit``, if anything;
        new_task : as in ``_train_layerwise``.
        """
        return None

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None) -> Self:
        """Train every layer on one more chunk of rows, from the first layer up.

        Each layer makes one pass over the chunk, in mini-batches of ``batch_size``
        rows in the order given, and passes its clean output up. Gaussian columns of X
        are scaled as they vary in all chunks so far, or stay as an earlier ``fit`` had
        them; features without bounds, between the layers, are scaled as they vary in
        about the last thousand rows. Scales that an RBM learns (``learn_scale``)
        change in proportion. The kinds of units come from the first chunk or an earlier
        ``fit``; a column whose kind ``visible`` does not name turns gaussian, with a
        warning, where it leaves [0, 1] before it varied much within it.

        ``tol``, ``shuffle`` and early stopping play no part, nor does ``max_iter`` but
        for ``n_active``. Where parameters act by the number of epochs (``n_active`` of
        autoencoders, ``momentum_switch_epoch`` of RBMs), each chunk counts as one.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            A chunk of training data, of any size.
        y : None
            Ignored, present for API consistency.

        Returns
        -------
        self : object
            The stack after the chunk.

        Raises
        ------
        ValueError
            If the number of columns changes, or if training diverges.
        """
        with fitting(self):
            return self._partial_fit(X)

    def _partial_fit(self, X):
        first = not hasattr(self, "coefs_")
        if not first:
            self._validate_params()  # which fit_context leaves out then
        given, X = X, self._validate(X, reset=first)
        visible = self._visible_units(given) if first else None
        sizes = self._checked_sizes()
        if not first:
            self._check_unchanged(sizes)
        stream = getattr(self, "_resume", None)
        if stream is None:  # the first chunk, or the first after fit
            n_before = 0 if first else self._n_epochs[0]
            stream = {
                "seed": stream_seed(self.random_state, n_before),
                # The kinds of a fit stay.
                "automatic": np.full(X.shape[1], first),
                "layers": [None] * len(sizes),
            }
        named = visible if first else self._plainly_visible()
        automatic = stream["automatic"] & left_to_auto(named, X.shape[1])
        data: Any = X
        layers, kept = [], []
        for layer, width in enumerate(sizes):
            task = self._task(
                layer,
                data,
                width,
                stream["seed"],
                visible,
                resumed=not first,
                chunk=True,
            )
            dtype = X.dtype if first else self.coefs_[layer].dtype
            before = stream["layers"][layer]
            trained, after = self._train_on_chunk(task, before, automatic, dtype)
            layers.append(trained)
            kept.append(after)
            last = layer == len(sizes) - 1
            data = None if last else layer_output(trained.fitted, data)
        self._adopt(layers)
        self._count_epochs([1] * len(sizes), goes_on=not first)
        self.n_iter_ = len(sizes) + (0 if first else self.n_iter_)
        self.validation_scores_ = None
        self._resume = {**stream, "automatic": automatic, "layers": kept}
        return self

    def _train_on_chunk(self, task: LayerTask, kept: dict | None, automatic, dtype):
        """One pass of a layer over a chunk of rows. Returns the layer and what the next
        chunk needs to know of it, which is what ``kept`` is of the chunk before.
        """
        first = task.theta is None
        if kept is not None:
            task.state = kept["state"]
            task.learned = task.learned or kept["learned"]
        past = past_of(task, kept)
        if past is None:
            task.check_range()
        else:
            follow(task, past, automatic)
        model = self._build(task)
        order = np.arange(task.data.shape[0])
        loss = train_epoch(model, order, self._plan(task), epoch=1)
        losses = [] if first else self.loss_curves_[task.layer]
        trained = self._trained(task, model, History([*losses, loss]), dtype)
        known = first or past is not None
        return trained, {
            "state": model.state(),
            "statistics": dict(vars(task.statistics)) if known else None,
            "learned": task.learned,
        }

    def transform(self, X) -> Any:  # a frame, where set_output says so
        """Features of the top layer, from the clean input.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        H : ndarray of shape (n_samples, hidden_layer_sizes[-1])
            Activations (for RBMs: probabilities) of the last layer, in float32 where
            both X and the data of ``fit`` are, else in float64.
        """
        X = self._validate_rows(X)
        return self._encode(X)

    def _encode(self, X) -> Array:
        """Features of validated rows."""
        return forward(X, self.coefs_, self.intercepts_, self.activations_)

    @available_if(lambda stack: hasattr(stack, "score_samples"))
    def score(self, X, y=None) -> float:
        """Mean of ``score_samples``, so that a grid search can rank stacks.

        It is that of the first layer for RBMs: the layers above do not change it.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.
        y : None
            Ignored, present for API consistency.

        Returns
        -------
        score : float
            Higher is better.
        """
        return float(np.mean(self.score_samples(X)))

    @property
    def _n_features_out(self):
        return self.coefs_[-1].shape[1]

    def _sk_visual_block_(self):
        return stack_block(self)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _validate(self, X, reset: bool, **options):
        return validated(self, X, reset=reset, **options)

    def _rows_to_judge(self, X):
        """Rows for a density or an error, with a warning where these say nothing."""
        X = self._validate_rows(X)
        warn_of_unbounded(X, self._layer_units(0), type(self).__name__)
        return X

    def _validate_hidden(self, H) -> Array:
        """Hidden activations given to go down the stack."""
        check_is_fitted(self)
        if sparse.issparse(H):
            raise TypeError(
                f"{type(self).__name__} goes down from dense rows of hidden units, as "
                "transform gives them. Got a sparse matrix: use toarray()."
            )
        H = np.asarray(H)
        if H.dtype.kind not in "fiubO":
            raise ValueError(
                f"X must hold real numbers, as transform gives them. Got {H.dtype}."
            )
        width = self.coefs_[-1].shape[1]
        if H.ndim != 2 or H.shape[1] != width:
            raise ValueError(
                f"X has shape {H.shape}, but {type(self).__name__} expects rows of "
                f"{width} hidden units, as transform gives them."
            )
        # The scale of a column may lie beyond the range of float16.
        if not np.issubdtype(H.dtype, np.floating) or H.dtype == np.float16:
            H = H.astype(self.coefs_[-1].dtype)
        assert_all_finite(H, input_name="X")
        return H

    def _checked_sizes(self) -> tuple[int, ...]:
        """Widths of the layers, of which all parameters are checked."""
        sizes = layer_sizes(self.hidden_layer_sizes)
        if not sizes:
            raise ValueError(
                f"{type(self).__name__} needs at least one hidden layer. Got "
                f"hidden_layer_sizes={self.hidden_layer_sizes!r}."
            )
        self._check_lengths(len(sizes))
        for layer in range(len(sizes)):
            settings = self._settings(layer)
            self._check_values(settings)
            self._check_settings(settings)
        return sizes

    def _check_unchanged(self, sizes: tuple[int, ...]) -> None:
        """Raise where parameters contradict the fitted layers, which go on."""
        check_same_sizes(sizes, tuple(coef.shape[1] for coef in self.coefs_))
        activations = [self._activation(layer) for layer in range(len(sizes))]
        if activations != list(self.activations_):
            raise ValueError(
                f"{self._units_parameter}={getattr(self, self._units_parameter)!r} "
                f"makes {activations} units of the fitted layers, which have "
                f"{list(self.activations_)}. Set it back, or call fit on a clone to "
                "start anew."
            )
        self._check_visible()

    def _check_lengths(self, n_layers: int) -> None:
        """Raise where a parameter has not one value for each of so many layers."""
        for name in self._per_layer:
            value = getattr(self, name)
            if is_sequence(value) and len(value) != n_layers:
                raise ValueError(
                    f"{name} has {len(value)} values for {n_layers} layers. Give "
                    "one value for all layers or one per layer."
                )

    def _check_values(self, settings: SimpleNamespace) -> None:
        """Raise where a parameter of a layer has a value that it cannot have."""
        scalar = {
            name: [c for c in self._parameter_constraints[name] if c != "array-like"]
            for name in self._per_layer
        }
        validate_parameter_constraints(scalar, vars(settings), type(self).__name__)

    def _check_settings(self, settings: SimpleNamespace) -> None:
        """Raise where the parameters of a layer do not go together."""

    def _settings(self, layer: int) -> SimpleNamespace:
        """The parameters that may differ from layer to layer, for one layer."""
        settings = {}
        for name in self._per_layer:
            value = getattr(self, name)
            value = list(value)[layer] if is_sequence(value) else value
            # Kernels would be compiled anew for a NumPy number, and its sums overflow.
            settings[name] = value.item() if isinstance(value, np.generic) else value
        return SimpleNamespace(**settings)

    def _visible_units(self, X):
        """What ``choose_units`` takes for the columns of X, as given by the user."""
        if isinstance(self.visible, str):
            return self.visible
        return self._numbered(self.visible, X)

    def _numbered(self, pairs, X) -> list[tuple[str, Array]]:
        """Pairs (kind, columns) of ``visible`` with the numbers of the columns."""
        names = getattr(self, "feature_names_in_", None)
        return checked_pairs(pairs, self._kinds, X, names, self.n_features_in_)

    def _plainly_visible(self):
        """What ``choose_units`` takes of ``visible`` after the first rows: what selects
        columns by their values or types is not asked again.
        """
        if isinstance(self.visible, str):
            return self.visible
        plain = [pair for pair in self.visible if not selects_rows(pair[-1])]
        return self._numbered(plain, None)

    def _check_visible(self) -> None:
        """Raise where ``visible`` names other units than the fitted ones."""
        if contradicts(self._layer_units(0), self._plainly_visible()):
            raise ValueError(
                f"visible={reprlib.repr(self.visible)} names other units than those "
                "of the fitted stack (visible_kinds_). Set it back, or call fit on a "
                "clone to start anew."
            )

    def _units_above(self, layer: int, statistics: ColumnStatistics) -> Units:
        """Units in which layer ``layer`` > 0 sees the output of the one below."""
        return choose_units(statistics, self._kind_above(layer), LEAST_HIDDEN_SCALE)

    def _kind_above(self, layer: int) -> str:
        """The kind of these units."""
        return "bernoulli" if self._activation(layer - 1) == "logistic" else "gaussian"

    def _task(
        self,
        layer: int,
        data,
        width: int,
        seed: Array,
        visible,
        resumed: bool,
        weights: Array | None = None,
        supervision: Supervision | None = None,
        chunk: bool = False,
    ) -> LayerTask:
        """What training the layer starts from; a resumed layer keeps its units, but
        for the scale of features.
        """
        place = f"{type(self).__name__} layer {self._n_below + layer + 1}"
        statistics = ColumnStatistics.of(data, weights)
        least_scale = LEAST_HIDDEN_SCALE if self._n_below + layer > 0 else 0.0
        if resumed:
            units = self._layer_units(layer)
        elif layer == 0:
            units = choose_units(statistics, visible, least_scale)
        else:
            units = self._units_above(layer, statistics)
        n_before = self._n_epochs[layer] if resumed else 0
        # A stream goes on by the number of updates.
        n_earlier = 0 if chunk else n_before
        rng, order_rng, kernel_seed = training_streams(seed, layer, n_earlier)
        settings = self._settings(layer)
        task = LayerTask(
            layer,
            place,
            data,
            units,
            statistics,
            width,
            settings,
            rng,
            order_rng,
            kernel_seed,
            theta=self._recall(layer, units) if resumed else None,
            weights=weights,
            supervision=supervision,
            n_before=n_before,
            chunk=chunk,
            least_scale=least_scale,
            learned=getattr(settings, "learn_scale", False),
        )
        if resumed and not chunk and task.grows and not task.learned:
            task.rescale(statistics)
        return task

    def _layer_units(self, layer: int) -> Units:
        """Units of a fitted layer's input."""
        return Units(**self._units[layer])

    def _plan(self, task: LayerTask, monitor=None, tasks=NO_TASKS) -> Plan:
        return Plan(
            max_iter=task.settings.max_iter,
            tol=self.tol,
            n_iter_no_change=self.n_iter_no_change,
            shuffle=self.shuffle,
            learning_rate=(self._rate, getattr(task.settings, self._rate)),
            place=task.place,
            monitor=monitor,
            report=print if self.verbose else None,
            weights=task.weights,
            tasks=tasks,
            n_averaged=getattr(task.settings, "n_iter_averaged", 1),
            n_before=task.n_before,
            limit=task.limit,
            unscaled=task.unscaled,
        )

    def _trainer(self, task: LayerTask, model: Model) -> Model:
        """What the training loop trains: the layer's model, with its head if any."""
        if task.supervision is None:
            return model
        (rng,) = task.rng.spawn(1)
        return SupervisedModel(
            model,
            task.supervision,
            task.supervision.without(task.held),
            rng=rng,
            seed=rng.integers(2**32, size=2, dtype=np.uint32),
            **self._head_options(task, model),
        )

    def _hold_out(self, task: LayerTask) -> None:
        """Choose the rows for early stopping, if any: before a model looks at them."""
        if self.early_stopping:
            rows, share = task.weighing, self.validation_fraction
            task.held = rows[held_out_rows(len(rows), share, task.rng, task.place)]

    def _train(self, task: LayerTask, model: Model, tasks):
        """The course of the training, and the temporary head or None."""
        monitor = None
        if task.held is not None:
            monitor = self._monitor(task, model, task.held)
        plan = self._plan(task, monitor, tasks)
        trainer = self._trainer(task, model)
        history = run_epochs(trainer, task.trained, plan, task.order_rng)
        return history, head_of(trainer)

    def _report(self, task: LayerTask, model: Any, fitted: dict) -> dict:
        """Health of a layer on some of its rows."""
        rows = spread_rows(task.judged, SOME_ROWS)
        output = layer_output(fitted, task.data[rows])
        n_dead, n_saturated, n_constant = idle_units(output, fitted["activations_"])
        return {
            "n_dead": n_dead,
            "n_saturated": n_saturated,
            "n_constant": n_constant,
            "mean_activation": float(output.mean()),
            "weight_norm": float(np.linalg.norm(np.float64(fitted["coefs_"]))),
            **self._health(task, model),
        }

    @abstractmethod
    def _health(self, task: LayerTask, model: Any) -> dict:
        """The rest of the report: "reconstruction_error", "baseline_error" and more."""

    def _warn_of(self, task: LayerTask, report: dict) -> None:
        """Warn where a layer did not learn."""
        instead = ""
        if self._stands_for is not None:
            instead = (
                f" Give {type(self).__name__}(...) in place of {self._stands_for} to "
                "set these."
            )
        warn_of(task, report, self._rate, instead)

    def _adopt(self, layers: list[TrainedLayer]) -> None:
        """Set the fitted attributes, all at the end: an interrupted fit changes
        nothing.
        """
        for name, value in self._attributes(layers).items():
            setattr(self, name, value)
        self.loss_curves_ = [layer.history.losses for layer in layers]
        self.layer_report_ = [layer.report for layer in layers]

    def _count_epochs(self, n_epochs: list[int], goes_on: bool) -> None:
        """Add the epochs of each layer in this call to those of earlier ones."""
        before = self._n_epochs if goes_on else [0] * len(n_epochs)
        self._n_epochs = [sum(pair) for pair in zip(before, n_epochs, strict=True)]

    def _attributes(self, layers: list[TrainedLayer]) -> dict:
        """What the methods of a fitted stack read."""
        first = layers[0].units
        return {
            **{
                name: [layer.fitted[name] for layer in layers]
                for name in layers[0].fitted
            },
            "_units": [dict(vars(layer.units)) for layer in layers],
            "visible_kinds_": first.names(),
            "visible_offset_": first.offset,
            "visible_scale_": first.scale,
        }
