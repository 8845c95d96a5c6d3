"""Whether a layer learned: units that idle, and inputs that it cannot rebuild."""

import numpy as np
import numpy.typing as npt

from sklearn_greedy._compat import warn_user
from sklearn_greedy._layer import LayerTask

Array = npt.NDArray

# What a reconstruction error may exceed that of the column means by, as a share of the
# latter and of the mean square (or of 1): on rows without structure the two are equal
# but for noise.
_WORSE = 0.1, 0.01

# A unit is off where its activation reaches no higher than this.
_OFF = {"logistic": 0.01, "tanh": -0.99, "relu": 0.0, "softplus": 0.01, "elu": -0.99}

# Bounded activations with a smaller deviation over the rows are constant.
_MOVES = 0.005


def idle_units(output: Array, activation: str) -> tuple[int, int, int]:
    """Number of units that are off, that are at the upper end of their range, and that
    are constant, these or not, on all rows.
    """
    low, high = output.min(axis=0), output.max(axis=0)
    bounded = activation in ("logistic", "tanh")
    off = high <= _OFF.get(activation, -np.inf)
    still = output.std(axis=0) <= _MOVES if bounded else high <= low
    constant = off | still
    n_saturated = int(np.sum(low > 0.99)) if bounded else 0
    return int(np.sum(off)), n_saturated, int(np.sum(constant))


def warn_of(task: LayerTask, report: dict, rate_name: str, remark: str = "") -> None:
    """Warn where a layer did not learn, and name the parameter to change; rate_name :
    that of the learning rate; remark : what messages end with.
    """
    if task.data.shape[0] == 1 or task.settings.max_iter == 0:
        return
    scale = f", or scale {task.unscaled}" if task.unscaled else ""
    rate = f"{rate_name} (now {getattr(task.settings, rate_name):g})"
    epochs = f"max_iter, now {task.settings.max_iter}"
    if 2 * report["n_constant"] > task.width:
        warn_user(
            f"{report['n_constant']} of {task.width} hidden units of {task.place} "
            "are constant: they hardly change from row to row "
            f"({report['n_dead']} are off, {report['n_saturated']} saturated). "
            f"{_remedy(report, rate, epochs)}{scale}.{remark}",
        )
    error, baseline = report["reconstruction_error"], report["baseline_error"]
    most = baseline * (1 + _WORSE[0]) + _WORSE[1] * min(1.0, task.mean_square)
    if error > most:
        warn_user(
            f"{task.place} rebuilds its input worse than the column means would: "
            f"mean squared error {error:.3g}, against {baseline:.3g}. Train longer "
            f"({epochs}), or try another {rate}: a lower one where the loss jumps, "
            f"a higher one where it falls slowly.{remark}",
        )


def _remedy(report: dict, rate: str, epochs: str) -> str:
    """What helps a layer whose units are constant."""
    n_dead, n_saturated = report["n_dead"], report["n_saturated"]
    if 2 * n_saturated >= report["n_constant"]:
        return f"Lower {rate}"
    if 2 * (n_dead + n_saturated) >= report["n_constant"]:
        return (
            f"Lower {rate} where the loss jumps, else raise it or train longer "
            f"({epochs})"
        )
    return f"Train longer ({epochs}) or raise {rate}"
