"""Backpropagation: a network in training."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sklearn_greedy._network import (
    ACTIVATION,
    ACTIVATIONS,
    N_IN,
    N_OUT,
    TRANSPOSED,
    Network,
    forward,
)
from sklearn_greedy._rows import Rows, gathered
from sklearn_greedy._threads import ALONE, kernels
from sklearn_greedy._units import ColumnStatistics, Units, near_one, row_blocks

Array = npt.NDArray

SOLVERS = ("sgd", "nesterov", "adam")  # of the kernels
SCHEDULES = "constant", "invscaling", "adaptive", "cosine"
CORRUPTIONS = (None, "masking", "gaussian", "salt_and_pepper", "swap")

# Held-out rows that go through a network at a time.
_HELD_ROWS = 4096
# The adaptive schedule divides by this, down to the least rate (as in MLPClassifier).
_SLOWER = 5.0
_LEAST_RATE = 1e-6


@dataclass
class Optimizer:
    """Solver and its constants, named as in MLPClassifier.

    max_gradient_norm : longest gradient, or None; max_norm : longest vector of weights
    into a hidden unit, or None.
    """

    solver: str
    learning_rate_init: float
    momentum: float = 0.9
    nesterovs_momentum: bool = True
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    learning_rate: str = "constant"
    power_t: float = 0.5
    max_gradient_norm: float | None = None
    max_norm: float | None = None

    def code(self) -> int:
        """The kernels' number of the solver."""
        nesterov = self.solver == "sgd" and self.nesterovs_momentum
        return SOLVERS.index("nesterov" if nesterov else self.solver)

    def schedule(self) -> str:
        """How the learning rate changes; those of MLPClassifier are for SGD alone."""
        acts = self.solver == "sgd" or self.learning_rate == "cosine"
        return self.learning_rate if acts else "constant"

    def constants(self, rate: float) -> Array:
        """Array in the kernels' order, at a learning rate."""
        return np.array(
            [
                rate,
                self.momentum,
                self.beta_1,
                self.beta_2,
                self.epsilon,
                self.max_gradient_norm or 0.0,
                self.max_norm or 0.0,
            ],
            dtype=np.float64,
        )


@dataclass
class Corruption:
    """Noise on the input of a network.

    kind, level : what is done to which share of the cells (or the noise's deviation);
    emphasis : share of the loss's weight that corrupted cells have, 0.5 for none;
    starts : (n,) column at which the unit of each column begins; limits : (2, n) least
    and greatest value of each column.
    """

    kind: str | None
    level: float
    emphasis: float
    starts: Array
    limits: Array

    @classmethod
    def of(cls, kind, level, emphasis, units: Units, statistics: ColumnStatistics):
        """Noise for columns of these kinds, in the scaled space."""
        ends = np.stack([statistics.low, statistics.high])
        limits = (ends - units.offset) / units.scale
        if level == 0:
            kind = None
        starts = units.unit_starts()
        return cls(kind, level, emphasis, starts, limits.astype(np.float32))

    @classmethod
    def none(cls, n_columns: int):
        """No noise."""
        nothing = np.zeros((2, n_columns), np.float32)
        return cls(None, 0.0, 0.5, np.arange(n_columns), nothing)

    def constants(self) -> Array:
        """Array in the kernels' order."""
        return np.array([self.level, 2 * self.emphasis])


def alike(n_layers: int) -> Array:
    """Traits of layers of which nothing is dropped and which all move."""
    return np.tile([0.0, 1.0], (n_layers, 1))


@dataclass
class CodePenalty:
    """Penalties on the hidden units of the first layer, as in the autoencoder stack.

    n_active : units that each row keeps, or None; at first all ``n_hidden`` are kept,
    and their number falls linearly over ``n_falling`` epochs.
    """

    contraction: float = 0.0
    l1: float = 0.0
    sparsity_target: float | None = None
    sparsity_weight: float = 0.0
    n_active: int | None = None
    n_hidden: int = 0
    n_falling: float = 1.0

    def kept(self, epoch: int) -> int | None:
        """Units that each row keeps in an epoch, counted from 1."""
        if self.n_active is None:
            return None
        left = max(0.0, 1 - (epoch - 1) / max(self.n_falling, 1.0))
        return self.n_active + round(left * max(self.n_hidden - self.n_active, 0))

    def constants(self, epoch: int) -> Array:
        """Array in the kernels' order."""
        target = self.sparsity_target
        return np.array(
            [
                self.contraction,
                self.l1,
                target or 0.0,
                0.0 if target is None else self.sparsity_weight,
                self.kept(epoch) or 0,
            ],
            dtype=np.float64,
        )


class Backpropagation:
    """A network in training: parameters, optimiser state and the kernel call.

    rows, targets : what ``gather`` reads; ``targets=None`` reconstructs the rows, or
    with ``detects`` tells which of their cells the corruption changed;
    row_weights : of all rows in the loss, or None where they weigh the same;
    traits : (n_layers, 2) share of each layer's input that is dropped, and factor of
    its learning rate (0 : frozen), or None where nothing is dropped and all move alike.
    blocks : unit blocks of the output; alpha : weight decay, added to the gradient
    as ``alpha * w``; corruption : of the input, or None; code : penalties, or None;
    state : as from ``state``, to go on with an earlier training; all of it begins anew
    where parameters came or went since, and the moments with another solver.
    """

    def __init__(
        self,
        network: Network,
        theta: Array,
        rows: Rows,
        blocks: Array,
        optimizer: Optimizer,
        *,
        batch_size: int,
        seed: Array,
        targets: Any = None,
        detects: bool = False,
        row_weights: Array | None = None,
        traits: Array | None = None,
        alpha: float = 0.0,
        corruption: Corruption | None = None,
        code: CodePenalty | None = None,
        state: dict | None = None,
    ):
        self.network, self.theta = network, theta
        self.epoch, self.progress = 1, 0.0
        self.rows, self.targets, self.blocks = rows, targets, blocks
        self.detects = detects
        self.optimizer, self.alpha, self.seed = optimizer, alpha, seed
        self.row_weights = None if row_weights is None else near_one(row_weights)
        self.traits = alike(len(network.layers)) if traits is None else traits
        batch_size = min(batch_size, len(rows))  # for which there is room below
        self.batch_size, self.n_columns = batch_size, rows.n_columns
        self.code = CodePenalty() if code is None else code
        self.noise = corruption or Corruption.none(rows.n_columns)
        fresh = {
            "moments": np.zeros((2, theta.size), np.float32),
            "updates": np.zeros(len(network.layers), np.int64),
        }
        if state is None or state["moments"].shape[1] != theta.size:
            state = {**fresh, "step": 0, "n_seen": 0}
        elif state["solver"] != optimizer.solver:
            state = {**state, **fresh}
        self.moments, self.step = np.array(state["moments"]), state["step"]
        self.updates = np.array(state["updates"])
        self._rate, self._n_seen = optimizer.learning_rate_init, state["n_seen"]
        self._rated_epoch = 0
        shapes = network.layers[:, [N_IN, N_OUT]]
        sizes = shapes.prod(axis=1)
        self.products_per_row = int(3 * sizes.sum())
        self.largest_product = int(sizes.max()) * batch_size
        self.calls_per_step = 3 * len(sizes)
        width = int(network.layers[:, N_OUT].sum())
        tied = bool(network.layers[:, TRANSPOSED].any())
        self._grad = np.zeros_like(theta)  # of frozen layers none is ever written
        self._work = np.empty(batch_size * width, np.float32)
        self._deltas = np.empty(batch_size * width, np.float32)
        n_inputs = batch_size * rows.n_columns
        self._noisy = np.empty(n_inputs, np.float32)
        self._changed = np.empty(n_inputs if detects else 0, np.float32)
        emphasised = self.noise.kind is not None and self.noise.emphasis != 0.5
        n_cells = batch_size * int(network.layers[-1, N_OUT])
        weighted = emphasised or row_weights is not None
        self._weights = np.empty(n_cells if weighted else 0, np.float32)
        widest = int(network.layers[:, N_OUT].max())
        self._scratch = np.empty(int(sizes.max()) if tied else widest, np.float32)
        self._lists = kernels().room_for_lists(batch_size, shapes)

    def state(self) -> dict:
        """Optimiser state as plain arrays and numbers."""
        return {
            "moments": self.moments,
            "updates": self.updates,
            "solver": self.optimizer.solver,
            "step": self.step,
            "n_seen": self._n_seen,
        }

    def parameters(self) -> list[Array]:
        """See ``Model.parameters``."""
        return [self.theta]

    def restore(self, parameters: list[Array]) -> None:
        """See ``Model.restore``."""
        (self.theta[...],) = parameters

    def slow_down(self) -> bool:
        """See ``Model.slow_down``."""
        adaptive = self.optimizer.schedule() == "adaptive"
        if not (adaptive and self._rate > _LEAST_RATE):
            return False
        self._rate /= _SLOWER
        return True

    def settles(self) -> bool:
        """See ``Model.settles``."""
        return self.optimizer.schedule() == "cosine"

    def follow(self, rate: float, momentum: float) -> None:
        """Go on at this learning rate and momentum."""
        self._rate, self.optimizer.momentum = rate, momentum

    def _begin_epoch(self) -> None:
        """The learning rate of a schedule by epochs: cosine by their share that is
        over, inverse scaling by rows seen so far.
        """
        self._rated_epoch, first = self.epoch, self.optimizer.learning_rate_init
        schedule = self.optimizer.schedule()
        if schedule == "cosine":
            self._rate = first * (1 + np.cos(np.pi * self.progress)) / 2
        elif schedule == "invscaling":
            self._rate = first / (self._n_seen + 1) ** self.optimizer.power_t

    def train(self, index: Array, team: Array = ALONE) -> tuple[float, float]:
        """See ``Model.train``; the loss of a row is its negative log-likelihood."""
        if self.epoch != self._rated_epoch:
            self._begin_epoch()
        x = gathered(self.rows, index)
        y = x if self.targets is None else gathered(self.targets, index)
        row_weights, mass = np.empty(0, np.float32), float(len(index))
        if self.row_weights is not None:
            row_weights = self.row_weights[index].astype(np.float32)
            mass = float(row_weights.sum(dtype=np.float64))
        total = kernels().backprop_slice(
            x,
            y,
            row_weights,
            self.batch_size,
            self.theta,
            self.moments,
            self._grad,
            self.network.layers,
            self.traits,
            self.blocks,
            CORRUPTIONS.index(self.noise.kind),
            self.noise.constants(),
            self.noise.starts,
            self.noise.limits,
            self.optimizer.code(),
            self.optimizer.constants(self._rate),
            float(self.alpha),
            self.code.constants(self.epoch),
            self.seed,
            self.step,
            self.updates,
            self._noisy,
            self._changed,
            self._weights,
            self._work,
            self._deltas,
            self._scratch,
            self._lists,
            team,
        )
        self.step += -(-len(index) // self.batch_size)
        self._n_seen += len(index)
        return total, mass

    def pre_activations(self, index: Array, source: Rows | None = None):
        """Yield what ``judged`` gives at the present parameters, for blocks of the rows
        ``index``; source : other rows than its own.
        """
        source = self.rows if source is None else source
        for part in row_blocks((len(index), self.n_columns), _HELD_ROWS):
            yield self.judged(gathered(source, index[part]))

    def judged(self, rows: Array) -> tuple[Array, Array]:
        """What the output is held against, of rows in the scaled space, and its
        pre-activations: the rows themselves and those without noise, or which cells
        noise changes, the same ones each time, and those with it.
        """
        if not self.detects:
            return rows, self.output(rows)
        noisy = np.empty_like(rows)
        kind, level = CORRUPTIONS.index(self.noise.kind), float(self.noise.level)
        keys = kernels().stream_keys(self.seed, 0, 0)
        columns = self.noise.starts, self.noise.limits
        kernels().corrupt(rows, noisy, kind, level, *columns, *keys)
        return (noisy != rows).astype(rows.dtype), self.output(noisy)

    def output(self, rows: Array) -> Array:
        """Pre-activations of the output for rows in the scaled space."""
        coefs, intercepts = self.network.views(self.theta)
        activations = [ACTIVATIONS[code] for code in self.network.layers[:, ACTIVATION]]
        n_active = [self.code.n_active] + [None] * (len(coefs) - 1)
        # A fit that diverged is reported by the loop, not by NumPy.
        with np.errstate(over="ignore", invalid="ignore"):
            return forward(rows, coefs, intercepts, activations, n_active)

    def codes(self, rows: Array) -> Array:
        """Activations of the first hidden layer, of rows in the scaled space."""
        coefs, intercepts = self.network.views(self.theta)
        activation = ACTIVATIONS[self.network.layers[0, ACTIVATION]]
        first = coefs[:1], intercepts[:1], [activation], [self.code.n_active]
        return forward(rows, *first)

    def penalty(self) -> float:
        """``alpha / 2`` times the sum of the squared weights."""
        if self.alpha == 0:
            return 0.0
        coefs, _ = self.network.views(self.theta)
        tied = self.network.layers[:, TRANSPOSED]
        own = [coef for coef, copy in zip(coefs, tied, strict=True) if not copy]
        squares = sum(float(np.vdot(coef, coef)) for coef in own)
        return 0.5 * self.alpha * squares
