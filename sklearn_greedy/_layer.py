"""One layer of a stack: before, during and after its training, and its output."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
from sklearn.utils import gen_batches

from sklearn_greedy._network import forward
from sklearn_greedy._rows import without
from sklearn_greedy._supervision import Supervision
from sklearn_greedy._training import History
from sklearn_greedy._units import (
    GAUSSIAN,
    ColumnStatistics,
    Units,
    check_range,
    has_room,
    in_row_order,
    row_blocks,
)

Array = npt.NDArray

OUTPUT_ROWS = 8192


@dataclass
class LayerTask:
    """All that training one layer starts from.

    rng : of initial parameters and of the rows to hold out, which are the same ones at
    a warm start; order_rng : of the order of the rows.
    theta, state : flat parameters, which end with the biases of the visible units, and
    optimiser state to go on from, or None; held : numbers of the rows held out for
    early stopping, or None; weights : of the rows, or None; supervision : what a
    temporary head learns, or None; n_before : epochs of earlier calls; chunk : whether
    the data are one chunk of many; least_scale : as ``choose_units`` says; learned :
    whether the scale of the input is learned, or was in earlier chunks; limit : the
    parameter that says how many epochs there are.
    """

    layer: int
    place: str
    data: Array
    units: Units
    statistics: ColumnStatistics
    width: int
    settings: SimpleNamespace
    rng: np.random.Generator
    order_rng: np.random.Generator
    seed: Array
    theta: Array | None = None
    state: dict | None = None
    held: Array | None = None
    weights: Array | None = None
    supervision: Supervision | None = None
    n_before: int = 0
    chunk: bool = False
    least_scale: float = 0.0
    learned: bool = False
    limit: str = "max_iter"

    @property
    def own_share(self) -> float:
        """Weight of the layer's own loss beside that of a temporary head."""
        return 1.0 if self.supervision is None else 1.0 - self.supervision.share

    @property
    def unscaled(self) -> str:
        """What the user could scale, for messages: gaussian columns are scaled, if
        maybe by earlier rows, and the outputs of a layer are what they are.
        """
        fresh = self.theta is None and bool(np.all(self.units.kinds == GAUSSIAN))
        of_layer = self.least_scale > 0
        return "" if fresh or of_layer else "the input"

    @property
    def grows(self) -> bool:
        """Whether the input is features without bounds, whose scale follows them."""
        return self.layer > 0 and bool(np.any(self.units.kinds == GAUSSIAN))

    def rescale(self, statistics: ColumnStatistics, past=None) -> None:
        """Scale the input as it varies now; past : how it varied before, which is
        needed where the scale is learned.

        The parameters stay those for the scaled input: a layer above others that kept
        its function instead would have ever larger weights.
        """
        self.statistics = statistics
        past = past if self.learned else None
        self.units = self.units.rescaled(statistics, self.least_scale, past)

    def take_for_gaussian(self, columns: Array, statistics: ColumnStatistics) -> None:
        """Go on with gaussian units for some columns, which begin without a bias."""
        assert self.theta is not None
        self.units = self.units.as_gaussian(columns, statistics)
        self.theta[-len(columns) :][columns] = 0

    def check_range(self, leaves: Array | None = None) -> None:
        """See the function of this name."""
        check_range(self.statistics, self.units, self.place, leaves)

    @property
    def weighing(self) -> Array:
        """Numbers of the rows of weight above 0."""
        if self.weights is None:
            return np.arange(self.data.shape[0])
        return np.flatnonzero(self.weights)

    @property
    def judged(self) -> Array:
        """Numbers of the rows that say whether it learned."""
        rows = self.trained
        return rows if self.weights is None else rows[self.weights[rows] > 0]

    @property
    def mean_square(self) -> float:
        """Mean of the squared cells, in the scaled space."""
        mean = (self.statistics.mean - self.units.offset) / self.units.scale
        variance = self.statistics.variance / np.square(self.units.scale)
        return float(np.mean(np.square(mean) + variance))

    @property
    def trained(self) -> Array:
        """Numbers of the rows that the layer learns from."""
        rows = np.arange(self.data.shape[0])
        return rows if self.held is None else without(rows, self.held)


@dataclass
class TrainedLayer:
    """What is left of a layer after training.

    fitted : its fitted attributes; head : weights and biases of its temporary head, or
    None.
    """

    fitted: dict
    units: Units
    report: dict
    history: History
    head: tuple[Array, Array] | None = None


def in_dtype(fitted: dict, dtype) -> dict:
    """Arrays of a layer in the dtype of the data."""
    return {
        name: value.astype(dtype) if isinstance(value, np.ndarray) else value
        for name, value in fitted.items()
    }


class LayerOutput:
    """Output of a layer that is computed for the rows that are asked for.

    X : input of the layer, which may be such an output itself.
    """

    def __init__(self, fitted: dict, X):
        self._fitted, self._X, self.sources = fitted, X, (X,)
        coef = fitted["coefs_"]
        self.shape = X.shape[0], coef.shape[1]
        self.dtype = np.result_type(X.dtype, coef.dtype)

    def __getitem__(self, rows) -> Array:
        if isinstance(rows, slice):
            return layer_output(self._fitted, self._X[rows])
        # Rows by number are copies, and those below may be much wider.
        out = np.empty((len(rows), self.shape[1]), self.dtype)
        for part in row_blocks((len(rows), self._X.shape[1]), OUTPUT_ROWS):
            out[part] = layer_output(self._fitted, self._X[rows[part]])
        return out


def next_data(fitted: dict, X):
    """Output of a layer, in memory where scikit-learn's ``working_memory`` has room."""
    output = LayerOutput(fitted, X)
    return layer_output(fitted, X) if has_room(output) else output


def layer_output(fitted: dict, X) -> Array:
    """Activations of one layer, a block of rows at a time (so that Ctrl-C is heard)."""
    coef, activation = fitted["coefs_"], fitted["activations_"]
    layer = [coef], [fitted["intercepts_"]], [activation], [fitted.get("n_active_")]
    out = np.empty((X.shape[0], coef.shape[1]), np.result_type(X.dtype, coef.dtype))
    for rows in gen_batches(X.shape[0], OUTPUT_ROWS):
        out[rows] = forward(in_row_order(X[rows]), *layer)
    return out
