"""Converters to ONNX: what transforms and predicts, as the nodes of a graph.

skl2onnx calls two functions per estimator: one says the types of its outputs, the other
adds its nodes. Only ``_onnx`` imports this module, when the user asks for it.
"""

import numpy as np
import numpy.typing as npt
from numpy.polynomial import Chebyshev, Polynomial
from onnx.helper import np_dtype_to_tensor_dtype
from scipy.special import spence
from skl2onnx import update_registered_converter
from skl2onnx.common.data_types import (
    BooleanTensorType,
    DoubleTensorType,
    FloatTensorType,
    Int64TensorType,
    StringTensorType,
)
from skl2onnx.common.utils_classifier import get_label_classes
from sklearn.utils.validation import check_is_fitted

from sklearn_greedy._autoencoder import StackedAutoencoderTransformer
from sklearn_greedy._mlp import (
    GreedyPretrainedMLPClassifier,
    GreedyPretrainedMLPRegressor,
)
from sklearn_greedy._network import unfold_input
from sklearn_greedy._rbm import StackedRBMTransformer
from sklearn_greedy._rbm_classifier import StackedRBMClassifier

Array = npt.NDArray

# From this version of ONNX's operators on, ReduceSum and Softmax are as used here.
_LEAST_OPSET = 13
_INPUTS = (FloatTensorType, DoubleTensorType, Int64TensorType, BooleanTensorType)
# Those that scikit-learn's classifiers have.
_CLASSIFIER_OPTIONS = {
    "zipmap": [True, False, "columns"],
    "nocl": [True, False],
    "output_class_labels": [False, True],
}


def register() -> None:
    """Give skl2onnx the converters of all estimators."""
    for cls, shape, convert, options in (
        (StackedRBMTransformer, _stack_types, _convert_stack, None),
        (StackedAutoencoderTransformer, _stack_types, _convert_stack, None),
        (GreedyPretrainedMLPRegressor, _regressor_types, _convert_regressor, None),
        (
            GreedyPretrainedMLPClassifier,
            _classifier_types,
            _convert_mlp_classifier,
            _CLASSIFIER_OPTIONS,
        ),
        (
            StackedRBMClassifier,
            _classifier_types,
            _convert_rbm_classifier,
            _CLASSIFIER_OPTIONS,
        ),
    ):
        alias = f"SklearnGreedy{cls.__name__}"
        update_registered_converter(cls, alias, shape, convert, options=options)


# Types and shapes of the outputs.


def _stack_types(operator) -> None:
    n_rows, tensor = _checked_input(operator)
    width = operator.raw_operator.coefs_[-1].shape[1]
    operator.outputs[0].set_type(tensor([n_rows, width]))


def _regressor_types(operator) -> None:
    n_rows, tensor = _checked_input(operator)
    operator.outputs[0].set_type(tensor([n_rows, operator.raw_operator.n_outputs_]))


def _classifier_types(operator) -> None:
    n_rows, tensor = _checked_input(operator)
    model = operator.raw_operator
    n_classes = len(model.classes_)
    if _is_multilabel(model):
        label_type = Int64TensorType([n_rows, n_classes])
    elif _labels(operator.scope_inst, model).dtype == object:
        label_type = StringTensorType([n_rows])
    else:
        label_type = Int64TensorType([n_rows])
    operator.outputs[0].set_type(label_type)
    operator.outputs[1].set_type(tensor([n_rows, n_classes]))


def _checked_input(operator):
    """Number of rows of the input (None where it is open) and the type of the floats
    that come out; raises where the estimator cannot take the input.
    """
    model, given = operator.raw_operator, operator.inputs[0].type
    check_is_fitted(model)
    name, n_columns = type(model).__name__, model.n_features_in_
    if len(operator.inputs) != 1:
        raise ValueError(
            f"The converter of {name} takes one input with all columns, such as "
            f"FloatTensorType([None, {n_columns}]). Got {len(operator.inputs)} inputs."
        )
    if not isinstance(given, _INPUTS):
        raise ValueError(
            f"The converter of {name} takes an input of one of the types "
            f"{[allowed.__name__ for allowed in _INPUTS]}. Got {given}."
        )
    if len(given.shape) == 2 and given.shape[1] not in (None, n_columns):
        raise ValueError(
            f"The ONNX input has {given.shape[1]} columns, but {name} was fitted on "
            f"{n_columns}."
        )
    double = isinstance(given, DoubleTensorType)
    n_rows = operator.inputs[0].get_first_dimension()
    return n_rows, DoubleTensorType if double else FloatTensorType


def _is_multilabel(model) -> bool:
    return getattr(model, "_multilabel", False)


def _labels(scope, model) -> Array:
    """Labels of the classes: int64, or strings in an array of objects."""
    labels = get_label_classes(scope, model)
    if all(isinstance(label, str) for label in labels.tolist()):
        return labels.astype(object)
    whole = labels.dtype.kind in "biuf"
    if not whole or np.any(labels.astype(object) != labels.astype(np.int64)):
        raise ValueError(
            "Labels in ONNX are integers of 64 bits or strings, not such as "
            f"{labels.max()} of the type {labels.dtype}. Convert with the options "
            "nocl=True and zipmap=False, which give the number of the class."
        )
    return labels.astype(np.int64)


# Building a graph.


class _Graph:
    """Nodes of one estimator; what its methods return is the name of a tensor.

    X : input; dtype : precision of the constants to come.
    """

    def __init__(self, scope, operator, container):
        opset = container.target_opset
        if opset < _LEAST_OPSET:
            raise ValueError(
                f"The estimators of sklearn_greedy need target_opset >= {_LEAST_OPSET}"
                f" to be converted. Got {opset}."
            )
        self._scope, self._container = scope, container
        self._outputs = [output.full_name for output in operator.outputs]
        given = operator.inputs[0]
        double = isinstance(given.type, DoubleTensorType)
        self.dtype = np.dtype(np.float64 if double else np.float32)
        self.X = given.full_name
        # A step before may declare doubles and give floats, as KBinsDiscretizer does.
        if not isinstance(given.type, FloatTensorType):
            self.X = self.cast(self.X, self.dtype)

    def node(
        self, kind: str, *inputs, output: int | None = None, n_unused=0, **attributes
    ) -> str:
        """Add a node; its first output is returned.

        inputs : names, or values of constants; output : number of the estimator's
        output that the node gives, or None; n_unused : outputs beside the first.
        """
        names = [i if isinstance(i, str) else self.constant(i) for i in inputs]
        variable = self._scope.get_unique_variable_name
        outs = [variable(kind.lower()) for _ in range(1 + n_unused)]
        if output is not None:
            outs[0] = self._outputs[output]
        name = self._scope.get_unique_operator_name(kind)
        self._container.add_node(kind, names, outs, name=name, **attributes)
        return outs[0]

    def constant(self, values) -> str:
        values = np.asarray(values)
        if values.dtype.kind == "f":
            values = values.astype(self.dtype)
        content = values.ravel()
        if values.dtype == object:
            content = [label.encode() for label in content]
        name = self._scope.get_unique_variable_name("constant")
        kind = np_dtype_to_tensor_dtype(values.dtype)
        self._container.add_initializer(name, kind, values.shape, content)
        return name

    def cast(self, x: str, dtype, **options) -> str:
        kind = np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.node("Cast", x, to=kind, **options)


# The arithmetic of ``_network`` and ``_energy``.


def _softplus(graph: _Graph, z: str) -> str:
    """``log(1 + exp(z))``; onnxruntime has its own in float32 only."""
    small = graph.node("Exp", graph.node("Neg", graph.node("Abs", z)))
    rest = graph.node("Log", graph.node("Add", small, 1.0))
    return graph.node("Add", graph.node("Relu", z), rest)


def _elu(graph: _Graph, z: str) -> str:
    """As ``_softplus``, of the operators that exist in both precisions."""
    below = graph.node("Sub", graph.node("Exp", graph.node("Min", z, 0.0)), 1.0)
    return graph.node("Max", z, below)


# Of hidden layers and of the heads of networks.
_ACTIVATIONS = {
    "logistic": lambda graph, z: graph.node("Sigmoid", z),
    "tanh": lambda graph, z: graph.node("Tanh", z),
    "relu": lambda graph, z: graph.node("Relu", z),
    "identity": lambda graph, z: z,
    "softplus": _softplus,
    "elu": _elu,
    "softmax": lambda graph, z: graph.node("Softmax", z, axis=1),
    "exp": lambda graph, z: graph.node("Exp", z),
}


def _keep_largest(graph: _Graph, h: str, n_active: int) -> str:
    """Zero what is below the n_active-th largest value of its row."""
    largest = graph.node("TopK", h, np.array([n_active]), axis=1, n_unused=1)
    limit = graph.node("Gather", largest, np.array([n_active - 1]), axis=1)
    return graph.node("Where", graph.node("GreaterOrEqual", h, limit), h, 0.0)


def _forward(
    graph: _Graph, coefs, intercepts, activations, offset: Array, n_active=None
) -> str:
    """Output of the last layer on ``graph.X``; offset : of the columns of X.

    The offset is taken from X first: a column with a mean that is large beside its
    deviation would cost ``X @ coef`` its digits in float32.
    """
    offset = offset.astype(graph.dtype).astype(np.float64)
    coefs, intercepts = list(coefs), list(intercepts)
    h = graph.X
    if np.any(offset != 0):
        h = graph.node("Sub", h, offset)
        coefs[0], intercepts[0] = unfold_input(
            coefs[0].astype(np.float64), intercepts[0], offset, np.ones(len(offset))
        )
    kept = [None] * len(coefs) if n_active is None else n_active
    layers = zip(coefs, intercepts, activations, kept, strict=True)
    for coef, intercept, activation, n_kept in layers:
        z = graph.node("Add", graph.node("MatMul", h, coef), intercept)
        h = _ACTIVATIONS[activation](graph, z)
        if n_kept is not None and n_kept < coef.shape[1]:
            h = _keep_largest(graph, h, n_kept)
    return h


def _dilogarithm(degree: int) -> Array:
    """Coefficients of a polynomial p with ``Li2(-u) = p(u)`` on [0, 1]. The function
    has its next singularity at -1, so that the error falls by 5.8 per degree.
    """
    fit = Chebyshev.interpolate(lambda u: spence(1 + u), degree, domain=[0, 1])
    return fit.convert(kind=Polynomial).coef


def _hidden_log_sums(graph: _Graph, x: str, kind: str) -> str:
    """As ``_energy.hidden_log_sums`` but for a constant; one column."""
    if kind == "bernoulli":
        terms = _softplus(graph, x)
    elif kind == "gaussian":
        terms = graph.node("Mul", graph.node("Mul", x, x), 0.5)
    else:
        terms = _rectified_log_sums(graph, x)
    return graph.node("ReduceSum", terms, np.array([1]), keepdims=1)


def _rectified_log_sums(graph: _Graph, x: str) -> str:
    u = graph.node("Exp", graph.node("Neg", graph.node("Abs", x)))
    *rest, tail = _dilogarithm(degree=14)
    for coefficient in reversed(rest):
        tail = graph.node("Add", graph.node("Mul", u, tail), coefficient)
    square = graph.node("Add", graph.node("Mul", graph.node("Mul", x, x), 0.5), tail)
    above = graph.node("Add", square, np.pi**2 / 6)
    return graph.node(
        "Where", graph.node("Greater", x, 0.0), above, graph.node("Neg", tail)
    )


# The converters.


def _convert_stack(scope, operator, container) -> None:
    graph = _Graph(scope, operator, container)
    graph.node("Identity", _features(graph, operator.raw_operator), output=0)


def _features(graph: _Graph, stack) -> str:
    """What ``transform`` returns."""
    return _forward(
        graph,
        stack.coefs_,
        stack.intercepts_,
        stack.activations_,
        stack.visible_offset_,
        getattr(stack, "n_active_", None),
    )


def _output_means(graph: _Graph, mlp) -> str:
    """Means of the output units of a network."""
    ends = [*mlp.activations_, mlp.out_activation_]
    return _forward(graph, mlp.coefs_, mlp.intercepts_, ends, mlp._input_offset)


def _convert_regressor(scope, operator, container) -> None:
    graph = _Graph(scope, operator, container)
    graph.node("Identity", _output_means(graph, operator.raw_operator), output=0)


def _convert_mlp_classifier(scope, operator, container) -> None:
    graph, mlp = _Graph(scope, operator, container), operator.raw_operator
    means = _output_means(graph, mlp)
    if _is_multilabel(mlp):
        graph.node("Identity", means, output=1)
        graph.cast(graph.node("Greater", means, 0.5), np.int64, output=0)
        return
    if mlp.n_outputs_ == 1:
        means = graph.node("Concat", graph.node("Sub", 1.0, means), means, axis=1)
    _add_classes(graph, means, _labels(scope, mlp))


def _convert_rbm_classifier(scope, operator, container) -> None:
    """Free energies are sums over all hidden units: in float64, as in
    ``predict_proba``.
    """
    graph, model = _Graph(scope, operator, container), operator.raw_operator
    h = graph.X if model.features_ is None else _features(graph, model.features_)
    outer, graph.dtype = graph.dtype, np.dtype(np.float64)
    h = graph.cast(h, graph.dtype)
    rbm, (offset, scale) = model.top_._rbm(0), model.top_._scalings()[0]
    n_inputs = len(rbm.b) - len(model.classes_)
    h = graph.node("Sub", h, offset[:n_inputs])
    h = graph.node("Div", h, scale[:n_inputs])
    x = graph.node("Add", graph.node("MatMul", h, rbm.w[:n_inputs]), rbm.c)
    sums = [
        _hidden_log_sums(graph, graph.node("Add", x, weights), rbm.hidden)
        for weights in rbm.w[n_inputs:]
    ]
    z = graph.node("Add", graph.node("Concat", *sums, axis=1), rbm.b[n_inputs:])
    probabilities = graph.cast(graph.node("Softmax", z, axis=1), outer)
    _add_classes(graph, probabilities, _labels(scope, model))


def _add_classes(graph: _Graph, probabilities: str, labels: Array) -> None:
    """Both outputs of a classifier with one label per row."""
    graph.node("Identity", probabilities, output=1)
    best = graph.node("ArgMax", probabilities, axis=1, keepdims=0)
    graph.node("Gather", labels, best, output=0)
