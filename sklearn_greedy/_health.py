"""Whether a layer learned: units that idle, and inputs that it cannot rebuild."""

import numpy as np
import numpy.typing as npt

from sklearn_greedy._compat import warn_user
from sklearn_greedy._layer import LayerTask
from sklearn_greedy._network import forward

Array = npt.NDArray

# What a reconstruction error may exceed that of the column means by, as a share of the
# latter and of the mean square (or of 1): on rows without structure the two are equal
# but for noise.
_WORSE = 0.1, 0.01

# A unit is off where its activation reaches no higher than this.
_OFF = {"logistic": 0.01, "tanh": -0.99, "relu": 0.0, "softplus": 0.01, "elu": -0.99}

# Share of constant units that a layer may have, and one that was fine-tuned, where many
# rectified units go off without harm.
_MOST, _NEARLY_ALL = 0.5, 0.75

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
    rate = f"{rate_name} (now {getattr(task.settings, rate_name):g})"
    epochs = f"max_iter, now {task.settings.max_iter}"
    counts = report["n_dead"], report["n_saturated"], report["n_constant"]
    if counts[-1] > _MOST * task.width:
        remedy = _remedy(*counts, rate, epochs) + _or_scale(task.unscaled)
        _warn_of_idle(*counts, task.width, task.place, f"{remedy}.{remark}")
    # Nothing was to be rebuilt: by the targets alone, or with logits of changed cells.
    if task.own_share == 0 or "reconstruction_error" not in report:
        return
    error, baseline = report["reconstruction_error"], report["baseline_error"]
    most = baseline * (1 + _WORSE[0]) + _WORSE[1] * min(1.0, task.mean_square)
    if error > most:
        warn_user(
            f"{task.place} rebuilds its input worse than the column means would: "
            f"mean squared error {error:.3g}, against {baseline:.3g}. Train longer "
            f"({epochs}), or try another {rate}: a lower one where the loss jumps, "
            f"a higher one where it falls slowly.{remark}",
        )


def warn_of_network(network, X, unscaled: str) -> None:
    """Warn where hidden units of a fine-tuned network idle on some rows X; unscaled :
    what the user could scale, or nothing.
    """
    name, parts = type(network).__name__, (network.coefs_, network.intercepts_)
    rate = f"learning_rate_init (now {network.learning_rate_init:g})"
    epochs = f"max_iter, now {network.max_iter}"
    for number, layer in enumerate(zip(*parts, network.activations_, strict=False), 1):
        X = forward(X, *([part] for part in layer))
        if number <= network.n_frozen_layers:
            continue
        counts = idle_units(X, layer[-1])
        if counts[-1] <= _NEARLY_ALL * X.shape[1]:
            continue
        remedy = "Begin with other weights (random_state)"
        if network.solver != "lbfgs":
            remedy = _remedy(*counts, rate, epochs)
        place = f"{name}, layer {number},"
        _warn_of_idle(*counts, X.shape[1], place, f"{remedy}{_or_scale(unscaled)}.")


def _warn_of_idle(
    n_dead: int, n_saturated: int, n_constant: int, width: int, place: str, remedy: str
) -> None:
    """Warn that so many units of a layer are constant."""
    warn_user(
        f"{n_constant} of {width} hidden units of {place} are constant: they hardly "
        f"change from row to row ({n_dead} are off, {n_saturated} saturated). {remedy}",
    )


def _or_scale(unscaled: str) -> str:
    return f", or scale {unscaled}" if unscaled else ""


def _remedy(
    n_dead: int, n_saturated: int, n_constant: int, rate: str, epochs: str
) -> str:
    """What helps a layer whose units are constant."""
    if 2 * n_saturated >= n_constant:
        return f"Lower {rate}"
    if 2 * (n_dead + n_saturated) >= n_constant:
        return (
            f"Lower {rate} where the loss jumps, else raise it or train longer "
            f"({epochs})"
        )
    return f"Train longer ({epochs}) or raise {rate}"
