"""Training on all rows at once, by scipy's L-BFGS."""

import time
from contextlib import suppress

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import gen_batches

from sklearn_greedy._backpropagation import Backpropagation
from sklearn_greedy._compat import warn_user
from sklearn_greedy._network import N_IN, N_OUT
from sklearn_greedy._rows import gathered
from sklearn_greedy._threads import kernels, team_for
from sklearn_greedy._training import History, Plan, report_epoch

Array = npt.NDArray


# Multiplications of a call of the kernel, some tenths of a second, after which Python
# looks for Ctrl-C.
_PART_PRODUCTS = 1 << 31


class FullBatch:
    """Loss with its penalty, and gradient, of a network on some rows, in float64.

    All rows stand in memory, dense: a line search needs the exact loss.
    """

    def __init__(self, model: Backpropagation, index: Array):
        self._model, layers = model, model.network.layers
        m = min(len(index), max(1, _PART_PRODUCTS // model.products_per_row))
        self._parts = list(gen_batches(len(index), m))
        width = int(layers[:, N_OUT].sum())
        self._x = self._y = gathered(model.rows, index, np.float64)
        if model.targets is not None:
            self._y = gathered(model.targets, index, np.float64)
        self._weights = np.empty((0, self._y.shape[1]))
        if model.row_weights is not None:
            share = model.row_weights[index] / model.row_weights[index].mean()
            self._weights = np.repeat(share[:, None], self._y.shape[1], axis=1)
        self._work, self._deltas = np.empty(m * width), np.empty(m * width)
        shapes = layers[:, [N_IN, N_OUT]]
        largest = int(shapes.prod(axis=1).max())
        self._scratch, self._largest_product = np.empty(largest), largest * m
        self._lists = kernels().room_for_lists(m, shapes)

    def __call__(self, theta: Array) -> tuple[float, Array]:
        model, loss, grad = self._model, 0.0, np.zeros_like(theta)
        for rows in self._parts:
            share = (rows.stop - rows.start) / len(self._x)
            part, slopes = self._part(theta, rows)
            loss += share * part
            grad += share * slopes
        weights, _ = model.network.views(theta)
        slopes, _ = model.network.views(grad)
        for weight, slope, pace in zip(
            weights, slopes, model.traits[:, 1], strict=True
        ):
            slope += pace * model.alpha * weight  # 0 where the layer is frozen
        model.theta = theta  # which the penalty is taken of
        return loss + model.penalty(), grad

    def _part(self, theta: Array, rows: slice) -> tuple[float, Array]:
        """Mean loss of some rows, and its gradient."""
        model, grad = self._model, np.zeros_like(theta)
        m = rows.stop - rows.start
        kind = FullBatch, model.n_columns, model.products_per_row, m
        with team_for(kind, m, self._largest_product) as team:
            loss = kernels().loss_gradient(
                self._x[rows],
                self._y[rows],
                self._weights[rows],
                theta,
                grad,
                model.network.layers,
                model.traits,
                model.blocks,
                model.code.constants(1),
                model.seed,
                0,
                self._work,
                self._deltas,
                self._scratch,
                self._lists,
                team,
            )
        return loss, grad


def run_lbfgs(
    model: Backpropagation, index: Array, plan: Plan, max_fun: int
) -> History:
    """Minimise the loss on the rows ``index``, with at most ``max_fun`` evaluations.

    ``plan.tol`` bounds the largest slope at the end. The parameters are left in
    ``model.theta``, in float64.
    """
    history, start = History(), time.perf_counter()

    def record(intermediate_result):
        nonlocal start
        plan.tasks.begin()
        model.theta = intermediate_result.x
        history.add(float(intermediate_result.fun), None, 0.0)
        score = None
        if plan.monitor is not None:
            score = plan.monitor()
            history.scores.append(score)
        report_epoch(plan, len(history.losses), history.losses[-1], score, start)
        if plan.tasks.end():
            raise StopIteration
        start = time.perf_counter()

    found = minimize(
        FullBatch(model, index),
        model.theta.astype(np.float64),
        method="L-BFGS-B",
        jac=True,
        callback=record,
        options={"maxiter": plan.max_iter, "maxfun": max_fun, "gtol": plan.tol},
    )
    model.theta = found.x
    if not np.isfinite(found.fun):
        raise ValueError(
            f"Training diverged in {plan.place}: the loss is {found.fun}. Scale the "
            "data."
        )
    if not history.losses:
        with suppress(StopIteration):  # there is nothing left to stop
            record(found)
    if found.status == 1:
        warn_user(
            f"{plan.place} stopped before it converged, after {found.nit} iterations "
            f"and {found.nfev} evaluations (max_iter={plan.max_iter}, "
            f"max_fun={max_fun}). Raise these, or scale the data.",
            ConvergenceWarning,
        )
    return history
