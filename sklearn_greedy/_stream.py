"""How scales and kinds of columns follow a stream of chunks (``partial_fit``)."""

import numpy as np
import numpy.typing as npt

from sklearn_greedy._compat import warn_user
from sklearn_greedy._layer import LayerTask
from sklearn_greedy._rows import SOME_ROWS
from sklearn_greedy._units import (
    BERNOULLI,
    ColumnStatistics,
    Units,
    leaves_unit_interval,
    some_columns,
)

Array = npt.NDArray

# Sum of squared deviations within [0, 1], of as many rows that differ or more, from
# which on a column of a stream holds probabilities.
_SETTLED = 100.0


def past_of(task: LayerTask, kept: dict | None) -> ColumnStatistics | None:
    """How the input of a layer varied in earlier chunks, or None where its scale does
    not follow them; kept : what ``partial_fit`` knows of it.
    """
    if kept is not None and kept["statistics"] is not None:
        return ColumnStatistics(**kept["statistics"])
    if task.theta is not None and task.grows and not task.learned:
        # Of fit no more is known than the scale that it took.
        return task.statistics.standing_for(task.units, SOME_ROWS)
    return None


def follow(task: LayerTask, past: ColumnStatistics, automatic) -> None:
    """Scale the gaussian columns of a chunk as they vary in the stream; automatic :
    columns of X whose kinds are not named, which turn gaussian where they leave [0, 1]
    before they varied much within it.
    """
    followed = past.followed_by(task.statistics, SOME_ROWS if task.layer else np.inf)
    leaves = leaves_unit_interval(past, followed)
    turns = np.zeros_like(leaves)
    if task.layer == 0:
        turns = _turning(task.units, past, followed, automatic)
    if turns.any():
        task.take_for_gaussian(turns, past)
    task.check_range(leaves)  # may raise
    if turns.any():
        _warn_of_new_kind(task, np.flatnonzero(turns))
    task.rescale(followed, past)


def followed_units(
    units: Units,
    past: ColumnStatistics,
    present: ColumnStatistics,
    automatic: Array,
    owner: str,
) -> tuple[Units, ColumnStatistics]:
    """Units for the input of a network that goes on, scaled as it varies in all chunks
    so far, and these statistics; automatic : as in ``follow``.
    """
    followed = past.followed_by(present, np.inf)
    turns = _turning(units, past, followed, automatic)
    if turns.any():
        units = units.as_gaussian(turns, past)
        columns = np.flatnonzero(turns)
        warn_user(
            f"{owner} scales {some_columns(columns)} from now on: "
            f"{_reach(present, columns)}, outside [0, 1], where those of earlier "
            "chunks lay. Begin anew with a larger chunk, where that is wrong."
        )
    return units.rescaled(followed, 0.0, past), followed


def _turning(units: Units, past, followed, automatic: Array) -> Array:
    """Columns that were taken for probabilities and are none."""
    settled = past.n_rows * past.variance >= _SETTLED
    leaves = leaves_unit_interval(past, followed)
    return automatic & ~settled & (units.kinds == BERNOULLI) & leaves


def _warn_of_new_kind(task: LayerTask, columns: Array) -> None:
    """Say that columns were taken for probabilities and are none."""
    warn_user(
        f"{task.place} goes on with gaussian units for {some_columns(columns)}: "
        f"{_reach(task.statistics, columns)}, outside [0, 1], where those of earlier "
        "chunks lay. Begin anew with the kinds of the columns named (visible), or with "
        "a larger chunk, where that is wrong."
    )


def _reach(statistics: ColumnStatistics, columns: Array) -> str:
    low, high = statistics.low[columns].min(), statistics.high[columns].max()
    return f"values of this chunk reach from {low:.4g} to {high:.4g}"
