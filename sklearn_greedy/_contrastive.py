"""Contrastive divergence: an RBM in training."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from sklearn_greedy._energy import HIDDEN_KINDS, RBM, hidden_means
from sklearn_greedy._layer import LayerTask
from sklearn_greedy._rows import SOME_ROWS, Rows
from sklearn_greedy._threads import ALONE, kernels
from sklearn_greedy._units import (
    SAMPLED,
    Units,
    mean_biases,
    scaled_means,
)

Array = npt.NDArray

# Rate at which the offsets of a centered RBM follow the batch means.
_SLIDING = 0.01
# Step of the learned scales, and their least share of a column's deviation.
_SCALE_RATE = 0.2
_SCALE_FLOOR = 0.05


class ContrastiveDivergence:
    """An RBM in training: flat parameters (w, c, b), optimiser state, kernel call."""

    def __init__(self, task: LayerTask, centered: bool, sampled: list[int]):
        self.settings, self.seed = task.settings, task.seed
        self.epoch, self.progress = 1, 0.0
        self._own_share = task.own_share
        self._scaled_epoch = 1
        self._scale_rate = _SCALE_RATE
        if task.chunk:
            self._scale_rate *= min(1.0, len(task.judged) / SOME_ROWS)
        self.units = task.units
        self.rows = Rows(task.data, task.units)
        self._judged, self._weights = task.judged, task.weights
        self.n_columns, self.width = self.rows.n_columns, task.width
        self.batch_size = min(task.settings.batch_size, len(self.rows))
        self.centered, self.hidden = centered, task.settings.hidden
        size = self.n_columns * self.width
        self.products_per_row = size * (3 + 2 * self.settings.n_gibbs_steps)
        self.largest_product = 2 * size * self.batch_size
        self.calls_per_step = 3 + 2 * self.settings.n_gibbs_steps
        self.sampled = sampled
        self.blocks = task.units.blocks(self.sampled)
        n_temperatures = self.settings.n_temperatures if self.settings.persistent else 1
        self._betas = 1 - np.arange(n_temperatures) / n_temperatures
        if task.theta is None:
            self.theta, offsets = self._initial_parameters(task)
        else:
            self.theta, offsets = task.theta, None
        state = task.state or {
            "velocity": np.zeros_like(self.theta),
            "offsets": offsets,
            "chain": self._initial_chain(task),
            "step": 0,
        }
        self.velocity = np.array(state["velocity"])
        # None were kept of a fit, or while they were not needed.
        offsets = state["offsets"] or self._present_offsets(task)
        self.offsets = [np.array(offset) for offset in offsets]
        self.chain, self.step = np.array(state["chain"]), state["step"]
        self._least_scale = _least_scale(task)
        # A smaller batch_size alone ends no chain of an earlier call.
        if not self.settings.persistent or self.settings.n_chains is not None:
            self.chain = self.chain[: self.n_chains]
        if len(self.chain) < self.n_chains:
            fresh = self._initial_chain(task)
            self.chain = np.concatenate([self.chain, fresh[len(self.chain) :]])
        self._grad = np.empty_like(self.theta)
        self._work, self._lists = self._workspace()

    @property
    def samples_any(self) -> bool:
        """Whether any visible unit's reconstruction is drawn."""
        return bool(self.blocks[:, SAMPLED].any())

    @property
    def _keeps_offsets(self) -> bool:
        """Whether the mean activations are followed: by a centered gradient or by
        tempered chains.
        """
        return self.centered or len(self._betas) > 1

    @property
    def n_chains(self) -> int:
        """Number of persistent chains, at all temperatures together, or 0."""
        if not self.settings.persistent:
            return 0
        chosen = self.settings.n_chains
        each = self.batch_size if chosen is None else chosen
        return each * len(self._betas)

    def rbm(self) -> RBM:
        """The RBM at the present parameters, which it shares."""
        return RBM(*self.views(), self.blocks, self.hidden)

    def precise_rbm(self) -> RBM:
        """The same in float64, a copy."""
        w, c, b = (part.astype(np.float64) for part in self.views())
        return RBM(w, c, b, self.blocks, self.hidden)

    def _workspace(self) -> tuple[Array, Array]:
        """Room for the states of both phases and of the chains, and for the list of
        what is not 0 in them (see the kernel).
        """
        n_chains = max(len(self.chain), self.batch_size)
        n, shape = self.batch_size + n_chains, (self.n_columns, self.width)
        work = np.empty(n * sum(shape) + 2 * n_chains * self.width, np.float32)
        return work, kernels().room_for_lists(n, [shape])

    def views(self) -> tuple[Array, Array, Array]:
        """Weights, hidden biases and visible biases, as views into theta."""
        size = self.n_columns * self.width
        w = self.theta[:size].reshape(self.n_columns, self.width)
        return w, self.theta[size : size + self.width], self.theta[size + self.width :]

    def _initial_parameters(self, task: LayerTask):
        """Weights N(0, 0.01), visible biases at the data's smoothed means.

        The biases of a centered RBM belong to units minus their offsets; they are
        shifted here, so that theta always holds those of the plain RBM.
        """
        w = task.rng.normal(0.0, 0.01, (self.n_columns, self.width))
        b = mean_biases(task.statistics, task.units)
        mu, lam = np.zeros(self.n_columns), np.zeros(self.width)
        if self._keeps_offsets:
            mu = scaled_means(task.statistics, task.units)
            lam = hidden_means(lam, self.hidden)
        c = np.zeros(self.width)
        if self.centered:
            c, b = c - mu @ w, b - w @ lam
        theta = np.concatenate([w.ravel(), c, b], dtype=np.float32)
        return theta, [mu.astype(np.float32), lam.astype(np.float32)]

    def _present_offsets(self, task: LayerTask):
        """Offsets of an RBM that is trained further: the present mean activations."""
        if not self._keeps_offsets:
            return [np.zeros(n, np.float32) for n in (self.n_columns, self.width)]
        mean = scaled_means(task.statistics, task.units)
        rows, weights = self._some_rows()
        hidden = np.average(self.rbm().hidden_means(rows), axis=0, weights=weights)
        return [mean.astype(np.float32), hidden.astype(np.float32)]

    def _some_rows(self):
        """Some of the rows that are learned from, and their weights or None."""
        chosen = self.rows.some(self._judged)
        weights = None if self._weights is None else self._weights[chosen]
        return self.rows.copied(chosen), weights

    def _initial_chain(self, task: LayerTask) -> Array:
        """Hidden states of the persistent chains, drawn given the first rows that are
        learned from; empty without persistent chains.
        """
        if not self.settings.persistent:
            return np.empty((0, self.width), np.float32)
        index = np.resize(self._judged, self.n_chains)
        return self.rbm().draw_hidden(self.rows.copied(index), task.rng)

    def state(self) -> dict:
        """Optimiser state as plain arrays, lists and numbers."""
        return {
            "velocity": self.velocity,
            "offsets": self.offsets if self._keeps_offsets else None,
            "chain": self.chain,
            "step": self.step,
            "sampled": self.sampled,
        }

    def parameters(self) -> list[Array]:
        """See ``Model.parameters``."""
        return [self.theta, self.units.scale]

    def restore(self, parameters: list[Array]) -> None:
        """See ``Model.restore``."""
        self.theta[...], scale = parameters
        self._rescale(scale)

    def _learn_scale(self) -> None:
        """One step up the likelihood in the log of the scales of gaussian columns.

        It is taken between epochs, so that it does not depend on slices. That of a
        small chunk is short by the share of its rows, as is the most that it can be:
        the gradient of few rows is skewed.
        """
        rate = self._scale_rate
        move = rate * self.rbm().scale_gradient(*self._some_rows())
        scale = self.units.scale * np.exp(np.clip(move, -rate, rate))
        self._rescale(np.maximum(scale, self._least_scale))

    def _rescale(self, scale: Array) -> None:
        self._scale_rows(replace(self.units, scale=scale))

    def take_scale_of(self, task: LayerTask) -> None:
        """Go on with rows of another offset and scale; the parameters stay."""
        self._least_scale = _least_scale(task)
        self._scale_rows(task.units)

    def _scale_rows(self, units: Units) -> None:
        self.units, self.rows = units, Rows(self.rows.X, units)

    def train(self, index: Array, team: Array = ALONE) -> tuple[float, float]:
        """See ``Model.train``; the loss is the mean squared error per visible unit of
        the reconstruction after one Gibbs step.
        """
        if self.settings.learn_scale and self.epoch > self._scaled_epoch:
            self._scaled_epoch = self.epoch
            self._learn_scale()
        total, count = kernels().cd_slice(
            self.rows.copied(index),
            self.batch_size,
            self.theta,
            self.velocity,
            *self.offsets,
            self.chain,
            self._betas,
            self.blocks,
            HIDDEN_KINDS.index(self.hidden),
            self.settings.n_gibbs_steps,
            self._constants(),
            self.centered,
            _SLIDING if self._keeps_offsets else 0.0,
            self.seed,
            self.step,
            self._grad,
            self._work,
            self._lists,
            team,
        )
        self.step += -(-len(index) // self.batch_size)
        return total, float(count)

    def _constants(self) -> Array:
        """Constants of an update in the kernels' order."""
        chosen = self.settings
        sparse = chosen.sparsity_target is not None
        return np.array(
            [
                chosen.learning_rate * self._own_share,
                chosen.learning_rate_decay,
                self._momentum(),
                chosen.alpha * (1 - chosen.l1_ratio),
                chosen.alpha * chosen.l1_ratio,
                chosen.sparsity_target if sparse else 0.0,
                chosen.sparsity_weight if sparse else 0.0,
            ],
            dtype=np.float64,
        )

    def _momentum(self) -> float:
        """Momentum of the present epoch."""
        chosen = self.settings
        first = chosen.initial_momentum
        if first is not None and self.epoch <= chosen.momentum_switch_epoch:
            return first
        return chosen.momentum

    def pace(self, step: int) -> tuple[float, float]:
        """Learning rate of an update of a loss of weight 1, by its number from 0, and
        momentum of the present epoch.
        """
        chosen = self.settings
        slowed = 1 + chosen.learning_rate_decay * step
        return chosen.learning_rate / slowed, self._momentum()

    def slow_down(self) -> bool:
        """The learning rate has no schedule that waits for a stall."""
        return False

    def settles(self) -> bool:
        """Nor one that ends with the epochs."""
        return False

    def penalty(self) -> float:
        """The reported reconstruction error holds no penalty."""
        return 0.0


def _least_scale(task: LayerTask) -> Array:
    """What learned scales do not fall below: never above the present ones, since a
    chunk may hold less variance than others; constant columns stay as they are.
    """
    deviation = np.sqrt(task.statistics.variance)
    share = np.where(task.statistics.varies(), _SCALE_FLOOR * deviation, np.inf)
    return np.minimum(share, task.units.scale)
