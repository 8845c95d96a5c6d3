"""One loop for every kind of training: epochs, slices, history and stopping."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning

from sklearn_greedy._callbacks import NO_TASKS, EpochTasks, NoTasks
from sklearn_greedy._compat import warn_user
from sklearn_greedy._rows import drawn_rows
from sklearn_greedy._threads import ALONE, team_for

Array = npt.NDArray

# A slice is about 10 to 20 ms of products, and its rows stay within a few MB.
_SLICE_PRODUCTS = 1 << 29
_SLICE_FLOATS = 1 << 20
# A product of any size costs about a microsecond.
_SLICE_CALLS = 1 << 17
# A loss this many times that of the first epoch (or 1) is on its way to infinity.
_EXPLODED = 1e4


class Model(Protocol):
    """What the loop trains."""

    theta: Array  # flat parameters, changed in place
    epoch: int  # number of the present one in all calls, from 1, set by the loop
    progress: float  # share of this call's epochs that are over, set by the loop
    batch_size: int
    n_columns: int  # of a row
    products_per_row: int  # multiplications of one step
    largest_product: int  # multiplications of the largest product of a step
    calls_per_step: int  # matrix products of one step

    def train(self, index: Array, team: Array = ALONE) -> tuple[float, float]:
        """Train on the rows ``index`` in mini-batches; (sum of losses, weight). team :
        see ``team_for``.
        """

    def parameters(self) -> list[Array]:
        """All that training changes and the fitted model keeps, theta first."""

    def restore(self, parameters: list[Array]) -> None:
        """Go back to parameters as from ``parameters``."""

    def penalty(self) -> float:
        """Penalty part of the loss at the present parameters."""

    def slow_down(self) -> bool:
        """Lower the learning rate where its schedule says so when training stalls;
        False where it does not, so that training ends.
        """

    def settles(self) -> bool:
        """Whether the learning rate falls to next to 0 in the last epoch."""

    def state(self) -> dict:
        """Optimiser state as plain arrays, lists and numbers."""


@dataclass
class Plan:
    """How long to train and when to stop.

    tol : least improvement that counts, or None to run all epochs; monitor : score to
    maximise on held-out rows, whose best parameters are kept, or None; learning_rate :
    name and value of the parameter to lower on divergence; report : called with a line
    per epoch, or None; place : what is trained, for messages; follows_monitor : whether
    the score stops the training and chooses the parameters, or is only kept; weights :
    of all rows, in proportion to which they are drawn anew in each epoch, or None;
    tasks : what callbacks are told of the epochs; n_averaged : last epochs
    whose parameters are averaged; n_before : epochs of earlier calls, for all that
    changes with their number; limit : the parameter that ``max_iter`` is; unscaled :
    what the user could scale against divergence, or nothing.
    """

    max_iter: int
    tol: float | None
    n_iter_no_change: float
    shuffle: bool
    learning_rate: tuple[str, float]
    place: str
    monitor: Callable[[], float] | None = None
    report: Callable[[str], None] | None = None
    follows_monitor: bool = True
    weights: Array | None = None
    tasks: EpochTasks | NoTasks = NO_TASKS
    n_averaged: int = 1
    n_before: int = 0
    limit: str = "max_iter"
    unscaled: str = ""

    def visited(self, index: Array, rng) -> Array:
        """Rows of an epoch, in the order of the mini-batches."""
        if self.weights is not None:
            index = drawn_rows(index, self.weights[index], rng)
        return rng.permutation(index) if self.shuffle else index


@dataclass
class History:
    """Losses (and monitor scores) per epoch, and the best of each; stopped : whether a
    callback ended the training.
    """

    losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    best_loss: float = np.inf
    best_score: float = -np.inf
    stale: int = 0
    stopped: bool = False

    def add(self, loss: float, score: float | None, tol: float) -> bool:
        """Record an epoch; True when it is the best by the score that is followed."""
        self.losses.append(loss)
        if score is None:
            self.stale = self.stale + 1 if loss > self.best_loss - tol else 0
        else:
            self.scores.append(score)
            self.stale = self.stale + 1 if score < self.best_score + tol else 0
        self.best_loss = min(self.best_loss, loss)
        if score is None or score <= self.best_score:
            return False
        self.best_score = score
        return True


def run_epochs(model: Model, index: Array, plan: Plan, rng) -> History:
    """Train ``model`` on the rows ``index`` for up to ``plan.max_iter`` epochs.

    Raises ValueError when the loss or a parameter stops being finite. With a monitor
    the parameters of the best epoch are put back at the end; without, the mean of the
    last ``plan.n_averaged`` epochs.
    """
    history = History()
    tol = 0.0 if plan.tol is None else plan.tol
    best: list[Array] | None = None
    last: deque[list[Array]] = deque(maxlen=plan.n_averaged)
    follows = plan.follows_monitor and plan.monitor is not None
    stalls = plan.tol is not None or follows
    for epoch in range(1, plan.max_iter + 1):
        start = time.perf_counter()
        plan.tasks.begin()
        order = plan.visited(index, rng)
        loss = train_epoch(model, order, plan, epoch)
        check_growth(loss, history.losses, plan, epoch)
        score = None if plan.monitor is None else plan.monitor()
        if score is not None and not np.isfinite(score):
            _raise_diverged(plan, epoch, f"the validation score is {score}")
        if score is not None and not follows:
            history.scores.append(score)
        if history.add(loss, score if follows else None, tol):
            best = copied(model)
        if plan.n_averaged > 1:
            last.append(copied(model))
        report_epoch(plan, epoch, loss, score, start)
        if plan.tasks.end():
            history.stopped = True
            break
        if stalls and history.stale > plan.n_iter_no_change:
            if not model.slow_down():
                break
            history.stale = 0
    else:
        if plan.tol is not None and plan.max_iter > 0 and not model.settles():
            _warn_of_limit(plan, history, follows)
    if best is not None:
        model.restore(best)
    elif last:
        model.restore([np.mean(parts, axis=0) for parts in zip(*last, strict=True)])
    return history


def _warn_of_limit(plan: Plan, history: History, follows: bool) -> None:
    """Warn that the epochs ended before training stalled."""
    reached = f"{plan.place} reached {plan.limit}={plan.max_iter}"
    soonest = plan.n_iter_no_change + 2  # no epoch counts before there is one to beat
    if plan.max_iter < soonest:
        warn_user(
            f"{reached}, but n_iter_no_change={plan.n_iter_no_change} lets no training "
            f"stop before epoch {soonest}. Raise {plan.limit}, or lower "
            "n_iter_no_change.",
            ConvergenceWarning,
        )
        return
    what, values = ("score", history.scores) if follows else ("loss", history.losses)
    held_out = "" if follows else ", or hold out rows (early_stopping=True)"
    warn_user(
        f"{reached} before the {what} stopped improving (last: {values[-1]:.6g}). "
        f"Raise {plan.limit} or tol{held_out}.",
        ConvergenceWarning,
    )


def copied(model: Model) -> list[Array]:
    """The present parameters of a model, to go back to."""
    return [part.copy() for part in model.parameters()]


def train_epoch(model: Model, order: Array, plan: Plan, epoch: int) -> float:
    """One pass over the rows in ``order``, slice by slice; the mean loss."""
    rows_per_slice = _rows_per_slice(model)
    model.epoch = plan.n_before + epoch
    # A chunk of partial_fit is an epoch, even with max_iter=0.
    model.progress = (epoch - 1) / max(plan.max_iter, 1)
    total, weight = 0.0, 0.0
    kind = type(model), model.n_columns, model.products_per_row, model.batch_size
    for start in range(0, len(order), rows_per_slice):
        index = order[start : start + rows_per_slice]
        with team_for(kind, len(index), model.largest_product) as team:
            part, count = model.train(index, team)
        total += part
        weight += count
        if not np.isfinite(total):
            _raise_diverged(plan, epoch, f"the loss is {total}")
    if not np.all(np.isfinite(model.theta)):
        _raise_diverged(plan, epoch, "a parameter is no longer finite")
    loss = (total / weight if weight > 0 else 0.0) + model.penalty()
    if not np.isfinite(loss):
        _raise_diverged(plan, epoch, f"the loss is {loss}")
    return loss


def _rows_per_slice(model: Model) -> int:
    """Rows of one kernel call: a whole number of mini-batches, at least one."""
    most = min(
        _SLICE_PRODUCTS // model.products_per_row, _SLICE_FLOATS // model.n_columns
    )
    steps = max(1, min(most // model.batch_size, _SLICE_CALLS // model.calls_per_step))
    return steps * model.batch_size


def check_growth(loss: float, before: list[float], plan: Plan, epoch: int) -> None:
    """Raise where the loss is on its way to infinity; before : of earlier epochs."""
    if before and loss > _EXPLODED * max(before[0], 1.0):
        _raise_diverged(plan, epoch, f"the loss grew to {loss:.3g}")


def _raise_diverged(plan: Plan, epoch: int, seen: str):
    name, value = plan.learning_rate
    scale = f", or scale {plan.unscaled}" if plan.unscaled else ""
    raise ValueError(
        f"Training diverged in {plan.place}, epoch {epoch}: {seen}. Lower {name} "
        f"(now {value:g}){scale}."
    )


def report_epoch(plan: Plan, epoch: int, loss: float, score, start: float) -> None:
    """The line of an epoch that began at ``start``, where one is wanted."""
    if plan.report is None:
        return
    width = len(str(plan.max_iter))
    line = f"[{plan.place}] epoch {epoch:{width}d}/{plan.max_iter}, loss = {loss:.6f}"
    if score is not None:
        line += f", validation score = {score:.6f}"
    seconds = time.perf_counter() - start
    left = seconds * (plan.max_iter - epoch)  # or less, where training stops before
    plan.report(f"{line}, time = {seconds:.2f}s, left = {left:.0f}s")
