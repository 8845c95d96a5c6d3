"""Rows that a network in training is scored on."""

import numpy as np
import numpy.typing as npt

from sklearn_greedy._network import output_means, unit_log_likelihood
from sklearn_greedy._rows import Rows, gathered

Array = npt.NDArray


class HeldOut:
    """Score of a network in training on held-out rows, whose losses it keeps.

    source, index : the rows, of which index None takes all; y, targets : what they
    should be, for the score and for the loss; weights : of the rows, or None.
    """

    def __init__(self, mlp, model, source: Rows, index, y, targets, weights):
        self._mlp, self._model, self._source, self._y = mlp, model, source, y
        self._index = np.arange(len(source)) if index is None else index
        self._targets, self._weights = targets, weights
        self.losses: list[float] = []

    def __call__(self) -> float:
        """The score at the present parameters; NaN where the network diverged."""
        means: list[Array] = []
        losses: list[Array] = []
        for _, z in self._model.pre_activations(self._index, self._source):
            part = output_means(z, self._mlp.out_activation_)
            if not np.all(np.isfinite(part)):
                return np.nan  # the training loop reports the divergence
            losses.append(self._losses(z, sum(map(len, losses))))
            means.append(part)
        loss = np.average(np.concatenate(losses), weights=self._weights)
        self.losses.append(float(loss))
        return self._mlp._held_out_score(self._y, np.concatenate(means), self._weights)

    def _losses(self, z: Array, first: int) -> Array:
        """Losses of rows from ``first`` on, of which z is the pre-activation."""
        targets = gathered(self._targets, np.arange(first, first + len(z)))
        ones = np.ones(z.shape[1], z.dtype)
        with np.errstate(over="ignore"):
            return -unit_log_likelihood(targets, z, self._model.blocks, ones)
