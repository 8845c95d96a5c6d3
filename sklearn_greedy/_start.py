"""What fine-tuning begins with: pre-trained, given or random hidden layers."""

import reprlib
from dataclasses import dataclass

import joblib
import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from sklearn_greedy._autoencoder import StackedAutoencoderTransformer
from sklearn_greedy._compat import FrozenEstimator
from sklearn_greedy._fit_rows import FitRows
from sklearn_greedy._memory import warn_of_no_seed
from sklearn_greedy._network import (
    ACTIVATIONS,
    fold_input,
    unfold_input,
)
from sklearn_greedy._parameters import layer_sizes
from sklearn_greedy._rbm import StackedRBMTransformer
from sklearn_greedy._stack import GreedyStack
from sklearn_greedy._supervision import Supervision
from sklearn_greedy._units import Units, left_to_auto

Array = npt.NDArray

DEFAULT_SIZES = (100,)


@dataclass
class Start:
    """Hidden layers for the input ``(X - offset) / scale``.

    coefs, intercepts, activations : one per layer; offset, scale : (n_features,);
    head : weights and biases of an output layer, or None; units, automatic : kinds of
    the columns whose scale follows a stream, and which of them the data decided on, or
    None where the scale was given.
    """

    coefs: list[Array]
    intercepts: list[Array]
    activations: list[str]
    offset: Array
    scale: Array
    head: tuple[Array, Array] | None = None
    units: Units | None = None
    automatic: Array | None = None

    @classmethod
    def unscaled(cls, pairs, activation: str, n_features: int) -> "Start":
        """Layers for X as it is, from pairs of weights and biases."""
        coefs, intercepts = [c for c, _ in pairs], [b for _, b in pairs]
        activations = [activation] * len(pairs)
        offset, scale = np.zeros(n_features), np.ones(n_features)
        return cls(coefs, intercepts, activations, offset, scale)

    @property
    def width(self) -> int:
        """Width of what the output layer reads."""
        return self.coefs[-1].shape[1] if self.coefs else len(self.offset)

    def with_head(self, coef: Array, intercept: Array):
        """Parameters of the whole network."""
        return [*self.coefs, coef], [*self.intercepts, intercept]

    def for_raw_input(self):
        """Parameters of the hidden layers for X as it is."""
        coefs, intercepts = list(self.coefs), list(self.intercepts)
        if coefs:
            scaling = self.offset, self.scale
            coefs[0], intercepts[0] = fold_input(coefs[0], intercepts[0], *scaling)
        return coefs, intercepts


def given_start(parts, activation: str, n_features: int) -> Start:
    """Layers from arrays: weights of each layer alone (biases are then 0), or a pair
    of a list of weights and one of biases.
    """
    if any(hasattr(part, "fit") for part in parts):
        raise TypeError(
            "A list as pretrainer holds arrays. Give a single stack, whose "
            f"hidden_layer_sizes has a value for each layer. Got {reprlib.repr(parts)}."
        )
    coefs, intercepts = parts, None
    try:
        if _is_pair(parts):
            coefs, intercepts = parts
        coefs = [np.asarray(coef, dtype=np.float64) for coef in coefs]
        if intercepts is None:
            intercepts = [np.zeros(coef.shape[-1]) for coef in coefs]
        intercepts = [np.asarray(b, dtype=np.float64) for b in intercepts]
    except (IndexError, TypeError, ValueError) as exc:
        raise ValueError(
            "A list as pretrainer holds the weights (n_in, n_out) of each hidden "
            f"layer, or is a pair of such a list and one of biases. Got {parts!r}."
        ) from exc
    _check_arrays(coefs, intercepts, n_features)
    pairs = list(zip(coefs, intercepts, strict=True))
    return Start.unscaled(pairs, activation, n_features)


def _is_pair(parts) -> bool:
    """Whether there are two lists, of weights and of biases; the weights of a layer
    may be a list too, but one of rows.
    """
    return (
        len(parts) == 2
        and isinstance(parts[0], list | tuple)
        and all(np.ndim(part) == 2 for part in parts[0])
    )


def _check_arrays(coefs, intercepts, n_features: int) -> None:
    """Raise unless the layers fit the input and each other."""
    shapes = [coef.shape for coef in coefs]
    widths = [n_features, *(shape[-1] for shape in shapes)]
    fits = len(intercepts) == len(coefs) and all(
        shape == (n_in, n_out) and b.shape == (n_out,)
        for shape, b, n_in, n_out in zip(
            shapes, intercepts, widths[:-1], widths[1:], strict=True
        )
    )
    if not fits:
        raise ValueError(
            f"The arrays of the pretrainer have the shapes {shapes} and "
            f"{[b.shape for b in intercepts]}. They must be weights (n_in, n_out) of "
            f"the hidden layers, the first of {n_features} inputs and each further one "
            "of as many as the layer before has units, and biases (n_out,)."
        )
    if not all(np.all(np.isfinite(array)) for array in (*coefs, *intercepts)):
        raise ValueError("The arrays of the pretrainer hold NaN or infinity.")


# Parameters that say nothing of what a pretrainer learns.
_BESIDE_LEARNING = ("memory", "random_state", "verbose", "warm_start")


def digest(pretrainer) -> str:
    """Digest of a pretrainer, by which a later fit finds out whether it was changed.

    Of a frozen one that may have gone on in a stream, and of parameters that are no
    numbers, texts or lists of these, the type has to do.
    """
    if isinstance(pretrainer, FrozenEstimator):
        return f"frozen {type(pretrainer.estimator).__name__}"
    if isinstance(pretrainer, type) or not hasattr(pretrainer, "get_params"):
        return joblib.hash(_comparable(pretrainer))
    params = pretrainer.get_params(deep=False).items()
    named = {
        name: _comparable(value)
        for name, value in params
        if name not in _BESIDE_LEARNING
    }
    return joblib.hash((type(pretrainer).__name__, named))


def _comparable(value):
    """A value in which equal numbers, in whatever container, are equal."""
    if value is None or isinstance(value, str):
        return value
    try:
        return np.atleast_1d(np.asarray(value, dtype=float))
    except (TypeError, ValueError):  # ragged, or no numbers
        pass
    if isinstance(value, list | tuple):
        return [_comparable(part) for part in value]
    return type(value).__name__


def new_pretrainer(
    pretrainer, *, sizes, activation: str, seed: int, again: bool, verbose
):
    """An unfitted transformer (or a frozen one) for a name or an instance.

    sizes, activation : those of the network, or None and "auto"; seed : for a
    transformer without one; again : whether a later fit has the same seed.
    """
    if isinstance(pretrainer, type):
        raise TypeError(
            f"pretrainer={pretrainer.__name__} is a class. Give an instance of it."
        )
    if not isinstance(pretrainer, str):
        new = clone(pretrainer)
        if isinstance(new, FrozenEstimator):
            return new
        params = new.get_params(deep=False)
        if params.get("random_state", 0) is None:
            new.set_params(random_state=seed)
            if not again and params.get("memory") is not None:
                warn_of_no_seed(params["memory"])
                new.set_params(memory=None)
        if "hidden_layer_sizes" in params:
            used = np.atleast_1d(params.get("activation", activation)).tolist()
            planned = layer_sizes(params["hidden_layer_sizes"])
            check_agreement(planned, used, sizes, activation)
        return new
    chosen = DEFAULT_SIZES if sizes is None else sizes
    common = {"random_state": seed, "verbose": verbose}
    if pretrainer == "rbm":
        check_agreement(chosen, ["logistic"], sizes, activation)
        new = StackedRBMTransformer(chosen, **common)
    else:
        if activation != "auto":
            common["activation"] = activation
        new = StackedAutoencoderTransformer(chosen, **common)
    new._stands_for = f"pretrainer={pretrainer!r}"
    return new


def check_agreement(trained, activations, sizes, activation: str) -> None:
    """Raise where a network's own sizes (or None) or activation (or "auto") contradict
    the layers that are trained for it.
    """
    if sizes is not None and sizes != trained:
        raise ValueError(
            f"hidden_layer_sizes={sizes} contradicts the pretrainer's layers "
            f"{trained}. Leave hidden_layer_sizes=None or make them equal."
        )
    if activation != "auto" and not set(activations) <= {activation}:
        raise ValueError(
            f"activation={activation!r} contradicts the pretrainer's "
            f"{sorted(set(activations))}. Leave activation='auto' or make them equal."
        )


def fitted_start(
    pretrainer, rows: FitRows, supervision: Supervision | None, names: Array | None
) -> Start:
    """Layers of a transformer, which is trained here unless it is frozen.

    names : of the columns, where they are known.
    """
    head = None
    if isinstance(pretrainer, FrozenEstimator):
        check_is_fitted(pretrainer.estimator)
        _check_names(pretrainer.estimator, names)
    elif isinstance(pretrainer, GreedyStack):
        weights = rows.uneven_weights
        head = pretrainer._fit_within(
            rows.all_X, rows.given, weights, supervision, names
        )
    else:
        X = rows.all_X
        pretrainer.fit(X if sparse.issparse(X) else np.asarray(X))
    n_features = rows.X.shape[1]
    _check_attributes(pretrainer)
    coefs = [np.asarray(coef) for coef in pretrainer.coefs_]
    intercepts = [np.asarray(intercept) for intercept in pretrainer.intercepts_]
    if not coefs:
        raise ValueError("coefs_ of the pretrainer is empty: it has no layer.")
    if len(coefs[0]) != n_features:
        raise ValueError(
            f"X has {n_features} features, but the pretrainer was fitted on "
            f"{len(coefs[0])}."
        )
    _check_arrays(coefs, intercepts, n_features)
    activations = list(pretrainer.activations_)
    _check_activations(activations, len(coefs))
    offset = np.array(pretrainer.visible_offset_)
    scale = np.array(pretrainer.visible_scale_)
    _check_scaling(offset, scale, n_features)
    coefs[0], intercepts[0] = unfold_input(coefs[0], intercepts[0], offset, scale)
    start = Start(coefs, intercepts, activations, offset, scale, head)
    if isinstance(pretrainer, GreedyStack):
        start.units = pretrainer._layer_units(0)
        visible = pretrainer._visible_units(rows.given)
        start.automatic = left_to_auto(visible, n_features)
    return start


def _check_names(pretrainer, names: Array | None) -> None:
    """Raise where a fitted transformer knows the columns by other names, or in another
    order.
    """
    seen = getattr(pretrainer, "feature_names_in_", None)
    if seen is not None and names is not None and list(seen) != list(names):
        raise ValueError(
            f"X has the columns {list(names)}, but the pretrainer was fitted on "
            f"{list(seen)}. Give the same ones in the same order."
        )


def _check_attributes(pretrainer) -> None:
    """Raise where a transformer leaves no layers behind."""
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


def _check_activations(activations: list, n_layers: int) -> None:
    """Raise unless each layer has an activation that a network can have."""
    known = all(activation in ACTIVATIONS for activation in activations)
    if len(activations) != n_layers or not known:
        raise ValueError(
            f"activations_ of the pretrainer is {activations}. It must name one of "
            f"{list(ACTIVATIONS)} for each of the {n_layers} layers."
        )


def _check_scaling(offset: Array, scale: Array, n_features: int) -> None:
    """Raise unless every column has a finite offset and a scale to divide by."""
    numbers = offset.shape == scale.shape == (n_features,)
    if not (numbers and np.all(np.isfinite([offset, scale])) and np.all(scale > 0)):
        raise ValueError(
            "visible_offset_ and visible_scale_ of the pretrainer must have a finite "
            f"number for each of the {n_features} columns, the scale above 0. They are "
            f"{offset} and {scale}."
        )
