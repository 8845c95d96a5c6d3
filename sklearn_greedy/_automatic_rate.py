"""The step size of an RBM with ``learning_rate="auto"``."""

import numpy as np
import numpy.typing as npt

from sklearn_greedy._contrastive import ContrastiveDivergence
from sklearn_greedy._layer import LayerTask
from sklearn_greedy._rows import SOME_ROWS
from sklearn_greedy._units import (
    BERNOULLI,
    GAUSSIAN,
    POISSON,
    SOFTMAX,
    row_blocks,
    spread_rows,
)

Array = npt.NDArray

# Step sizes without momentum.
_RATE, _UNBOUNDED_RATE = 0.016, 0.0016
# The largest step that does not diverge where means are not bounded grows with
# 1 + momentum and falls with the number of hidden units, from the first number on, or
# from a smaller one where there are more columns than the second; with fewer rows in a
# mini-batch than the third, of which one can be far out; and with the reach of a
# mini-batch, from the last number on or, as its root, from four times as much on where
# hidden units are bounded.
_RATE_WIDTH, _RATE_COLUMNS, _RATE_ROWS, _RATE_REACH = 256, 512, 10, 100.0
# A rate that is so much lower would teach nothing; rows that ask for it are in another
# scale, and training that diverges says so.
_SLOWEST = 1000.0
# Share of it that persistent chains bear where means are not bounded, and the number of
# hidden units from which it falls further: three times as much diverges on tables with
# correlated columns, and on images with 256 units.
_CHAIN_SHARE, _CHAIN_WIDTH = 0.03, 128


def automatic_rate(
    task: LayerTask, model: ContrastiveDivergence, in_order: bool
) -> float:
    """Step size of a layer (user guide, "The automatic learning rate"); in_order :
    whether rows keep their order.
    """
    kinds, settings = set(task.units.kinds.tolist()), task.settings
    bernoulli = settings.hidden == "bernoulli"
    rate = _RATE if bernoulli and POISSON not in kinds else _UNBOUNDED_RATE
    rate *= 1 + settings.momentum
    if bernoulli and kinds <= {BERNOULLI, SOFTMAX}:
        return rate
    width = _RATE_WIDTH
    if settings.persistent:
        rate, width = rate * _CHAIN_SHARE, _CHAIN_WIDTH
    unbounded = ~np.isin(task.units.kinds, (BERNOULLI, SOFTMAX))
    share = _RATE_COLUMNS / max(_RATE_COLUMNS, int(unbounded.sum()))
    rate *= min(1.0, (width * np.sqrt(share) / task.width) ** 1.5)
    reach = _batch_reach(task, model, in_order, every_row=not bernoulli) / _RATE_REACH
    slowed = min(np.sqrt(reach / 4) if bernoulli else reach, _SLOWEST)
    return float(rate / max(1.0, slowed, _RATE_ROWS / model.batch_size))


def _batch_reach(
    task: LayerTask, model: ContrastiveDivergence, in_order: bool, every_row: bool
) -> float:
    """Largest mean square of the gaussian columns of a mini-batch along a line, of
    those that some rows make; 0 without such columns, infinite where it is beyond
    float32.

    in_order : whether mini-batches are rows that follow each other; every_row :
    whether the row that is farthest out of all counts in a mini-batch, too.
    """
    gaussian = model.units.kinds == GAUSSIAN
    if not np.any(gaussian):
        return 0.0
    reach = 0.0
    for index in _some_batches(task, model.batch_size, in_order):
        rows = model.rows.copied(index)[:, gaussian]
        if not np.all(np.isfinite(rows)):
            return np.inf
        reach = max(reach, float(np.linalg.norm(rows, 2)) ** 2 / len(rows))
    n_rows = len(task.judged) if every_row else 0
    for part in row_blocks((n_rows, model.n_columns), SOME_ROWS):
        rows = model.rows.copied(task.judged[part])[:, gaussian].astype(np.float64)
        longest = float(np.square(rows).sum(axis=1).max())
        reach = max(reach, longest / model.batch_size)
    return reach


def _some_batches(task: LayerTask, size: int, in_order: bool) -> list[Array]:
    """Numbers of the rows of mini-batches, which hold up to a thousand together."""
    judged = task.judged
    n_batches = max(1, min(SOME_ROWS, len(judged)) // size)
    if in_order:
        starts = np.arange(0, max(1, len(judged) - size + 1), size)
        return [judged[at : at + size] for at in spread_rows(starts, n_batches)]
    if task.weights is not None:  # by which rows are drawn
        ends = np.cumsum(task.weights[judged])
        places = (np.arange(SOME_ROWS) + 0.5) / SOME_ROWS * ends[-1]
        judged = judged[np.searchsorted(ends, places).clip(max=len(judged) - 1)]
    some = spread_rows(judged, n_batches * size)
    # Each has rows from everywhere, as after a shuffle.
    return [some[first::n_batches] for first in range(n_batches)]
