"""A temporary head on hidden units, so that pre-training sees the targets too."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils import gen_batches

from sklearn_greedy._backpropagation import Backpropagation, Optimizer
from sklearn_greedy._network import (
    ACTIVATION,
    ACTIVATIONS,
    N_OUT,
    Network,
    glorot_uniform,
)
from sklearn_greedy._rows import without
from sklearn_greedy._threads import ALONE

Array = npt.NDArray

# Mini-batches without targets between those with targets. A group is handed over at a
# time, since a call from Python takes as long as a small mini-batch.
BATCHES_TOGETHER = 16


@dataclass
class Supervision:
    """What the temporary heads of a stack learn.

    share : weight of the head's loss in (0, 1], the other loss having the rest;
    index : numbers of the rows with a target; targets : what ``gather`` reads, by row;
    blocks : unit blocks of the head; row_weights : of all rows, or None.
    """

    share: float
    index: Array
    targets: Any
    blocks: Array
    row_weights: Array | None = None

    def without(self, held: Array | None) -> Array:
        """Rows with a target that are not held out; ValueError where none is left, and
        where what the held-out rows are for is not trained.
        """
        if held is not None and self.share == 1:
            raise ValueError(
                "early_stopping of the pretrainer follows a score of its own, beside "
                "the targets, which supervised_weight=1 does not train. Set "
                "early_stopping=False there, or a supervised_weight below 1."
            )
        left = self.index if held is None else without(self.index, held)
        if not len(left):
            raise ValueError(
                f"early_stopping of the pretrainer holds out all {len(self.index)} "
                "rows with a target, so that supervised_weight has none to train on. "
                "Set early_stopping=False there, or lower its validation_fraction."
            )
        return left


class SupervisedModel:
    """A layer or an unrolled network in training, whose code also carries a head.

    Groups of mini-batches alternate: some for the model's own loss, then as many rows
    for the head's, whose gradient reaches the weights below as well. Both have
    optimisers of their own, with the learning rate in proportion to the loss's weight.

    index : rows for the head; layers : table of the network from the input to the code,
    with the places of its parameters among the model's; optimizer, rng, seed and more
    options of ``Backpropagation`` : of the head alone; pace : learning rate and
    momentum of the head's update by its number, where these are not the optimiser's.
    """

    def __init__(
        self,
        model,
        supervision: Supervision,
        index: Array,
        *,
        layers: Array,
        optimizer: Optimizer,
        rng,
        seed: Array,
        pace: Callable[[int], tuple[float, float]] | None = None,
        **options,
    ):
        self._pace = pace
        self._model, self._share, self._rng = model, supervision.share, rng
        n_outputs = supervision.targets.n_columns
        network = _with_head(layers, n_outputs, model.theta.size)
        code = ACTIVATIONS[layers[-1, ACTIVATION]]
        top = glorot_uniform(rng, layers[-1, N_OUT], n_outputs, code)
        # One vector for both, of which the layer keeps using its own part.
        self.theta = np.concatenate(
            [model.theta, *(part.ravel() for part in top)], dtype=np.float32
        )
        model.theta = self.theta[: model.theta.size]
        self.batch_size = BATCHES_TOGETHER * model.batch_size
        self._head = Backpropagation(
            network,
            self.theta,
            model.rows,
            supervision.blocks,
            optimizer,
            batch_size=min(model.batch_size, len(index)),
            seed=seed,
            targets=supervision.targets,
            row_weights=supervision.row_weights,
            **options,
        )
        self._index, self._queue = index, np.empty(0, dtype=index.dtype)
        self.n_columns, self.epoch, self.progress = model.n_columns, 1, 0.0
        self.products_per_row = model.products_per_row + self._head.products_per_row
        self.largest_product = model.largest_product
        self.calls_per_step = model.calls_per_step + self._head.calls_per_step

    def train(self, index: Array, team: Array = ALONE) -> tuple[float, float]:
        """See ``Model.train``; the loss is the weighted sum of both."""
        model, head = self._model, self._head
        model.epoch = head.epoch = self.epoch
        model.progress = head.progress = self.progress
        total = 0.0
        for part in gen_batches(len(index), self.batch_size):
            rows = index[part]
            own = 0.0
            if self._share < 1:
                own = _mean(model.train(rows, team))
            head.rows = model.rows  # whose scale may have moved, and with it the noise
            head.noise = getattr(model, "noise", head.noise)
            if self._pace is not None:
                head.follow(*self._pace(head.step))
            of_head = _mean(head.train(self._next(len(rows)), team))
            total += len(rows) * ((1 - self._share) * own + self._share * of_head)
        return total, float(len(index))

    def _next(self, n: int) -> Array:
        """The next n rows with a target, all of them once before any comes again."""
        while len(self._queue) < n:
            again = self._rng.permutation(self._index)
            self._queue = np.concatenate([self._queue, again])
        rows, self._queue = np.split(self._queue, [n])
        return rows

    def parameters(self) -> list[Array]:
        """See ``Model.parameters``; the first holds the head's too."""
        return [self.theta, *self._model.parameters()[1:]]

    @property
    def head(self) -> tuple[Array, Array]:
        """Weights (width, n_outputs) and biases (n_outputs,) of the head, as copies."""
        coefs, intercepts = self._head.network.views(self.theta)
        return coefs[-1].astype(np.float64), intercepts[-1].astype(np.float64)

    def restore(self, parameters: list[Array]) -> None:
        """See ``Model.restore``."""
        self.theta[...] = parameters[0]
        self._model.restore([self._model.theta, *parameters[1:]])

    def penalty(self) -> float:
        """Penalty of the model's own loss, by the weight that this has."""
        return (1 - self._share) * self._model.penalty()

    def slow_down(self) -> bool:
        """See ``Model.slow_down``."""
        self._head.slow_down()
        return self._model.slow_down()

    def settles(self) -> bool:
        """See ``Model.settles``; the head follows the model."""
        return self._model.settles()

    def state(self) -> dict:
        """Optimiser state of the model, without the head's."""
        return self._model.state()


def head_of(trainer) -> tuple[Array, Array] | None:
    """Weights and biases of the temporary head of what was trained, if it has one."""
    return trainer.head if isinstance(trainer, SupervisedModel) else None


def _mean(parts: tuple[float, float]) -> float:
    total, mass = parts
    return total / mass if mass > 0 else 0.0


def _with_head(layers: Array, n_outputs: int, end: int) -> Network:
    """Layers and a head on them, whose own parameters begin at ``end``."""
    width, linear = layers[-1, N_OUT], ACTIVATIONS.index("identity")
    biases = end + width * n_outputs
    head = (width, n_outputs, linear, end, biases, 0)
    return Network(np.vstack([layers, head]), biases + n_outputs)
