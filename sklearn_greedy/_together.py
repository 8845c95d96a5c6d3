"""The layers of a stack in training at once: ``schedule="simultaneous"``."""

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.utils import gen_batches

from sklearn_greedy._layer import (
    OUTPUT_ROWS,
    LayerTask,
    TrainedLayer,
    in_dtype,
    layer_output,
)
from sklearn_greedy._rows import SOME_ROWS
from sklearn_greedy._supervision import BATCHES_TOGETHER, head_of
from sklearn_greedy._training import History, Model, check_growth, train_epoch
from sklearn_greedy._units import ColumnStatistics

Array = npt.NDArray


@dataclass
class LayerInTraining:
    """A layer whose training goes on; trainer : its model, with a head if any."""

    task: LayerTask
    model: Model
    trainer: Model
    history: History


class LayersTogether:
    """Layers of a stack that learn in the same epochs, each on the present output of
    those below.
    """

    def __init__(self, stack, X, rng):
        self._stack, self._X, self._rng = stack, X, rng
        self.layers: list[LayerInTraining] = []

    def first_epoch(self, sizes, new_task) -> None:
        """Begin each layer with an epoch of its own on the output of those below;
        new_task : as in ``GreedyStack._train_layerwise``.
        """
        stack, data = self._stack, self._X
        for layer, width in enumerate(sizes):
            if self.layers:
                data = self._output(self.layers[-1], data)
            task = new_task(layer, data, width)
            task.check_range()
            model, plan = stack._build(task), stack._plan(task)
            trainer = stack._trainer(task, model)
            order = plan.visited(np.arange(len(self)), self._rng)
            loss = train_epoch(trainer, order, plan, 1)
            self.layers.append(LayerInTraining(task, model, trainer, History([loss])))

    def epoch(self, number: int) -> None:
        """Some mini-batches at a time go through the layers one after the other, each
        on the present clean output of those below.
        """
        first = self.layers[0].task
        order = self._stack._plan(first).visited(np.arange(len(self)), self._rng)
        totals = np.zeros(len(self.layers))
        size = BATCHES_TOGETHER * first.settings.batch_size
        for part in gen_batches(len(self), size):
            losses = self._train_part(order[part], number)
            totals += np.multiply(losses, part.stop - part.start)
        for step, total in zip(self.layers, totals, strict=True):
            loss, plan = float(total / len(self)), self._stack._plan(step.task)
            check_growth(loss, step.history.losses, plan, number)
            step.history.losses.append(loss)

    def pass_up(self) -> None:
        """All rows through the layers as they are now, to judge them by: the input of
        the upper ones has moved since the first epoch.
        """
        for below, step in itertools.pairwise(self.layers):
            for rows in gen_batches(len(self), OUTPUT_ROWS):
                step.task.data[rows] = self._output(below, below.task.data[rows])
        for step in self.layers[1:]:
            task = step.task
            task.statistics = ColumnStatistics.of(task.data, task.weights)

    def trained(self) -> list[TrainedLayer]:
        """What the layers are by now."""
        dtype = self._X.dtype
        return [
            self._stack._trained(
                step.task, step.model, step.history, dtype, head_of(step.trainer)
            )
            for step in self.layers
        ]

    def __len__(self) -> int:
        """Number of rows."""
        return self._X.shape[0]

    def _train_part(self, index: Array, epoch: int) -> list[float]:
        """Train every layer on some rows, whose output goes up; losses by layer."""
        losses, output = [], None
        for step in self.layers:
            if output is not None:
                step.task.data[index] = output
                if step.task.grows:
                    self._rescale(step, output)
            plan = self._stack._plan(step.task)
            losses.append(train_epoch(step.trainer, index, plan, epoch))
            output = self._output(step, step.task.data[index])
        return losses

    def _rescale(self, step: LayerInTraining, rows) -> None:
        """Scale the input of a layer in training as it varies with the latest rows."""
        stack, task, present = self._stack, step.task, ColumnStatistics.of(rows)
        past, task.units = task.statistics, stack._present_units(task, step.model)
        task.rescale(past.followed_by(present, SOME_ROWS), past)
        stack._take_units(task, step.model)

    def _output(self, layer: LayerInTraining, data) -> Array:
        """Output of a layer in training, in the dtype of X."""
        fitted = self._stack._fold(layer.task, layer.model)
        return layer_output(in_dtype(fitted, self._X.dtype), data)
