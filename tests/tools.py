"""What several test files need beside the twins."""

import numpy as np

from sklearn_greedy._energy import RBM


def rbm_constants(
    rate=0.1, decay=0.0, momentum=0.0, l2=0.0, l1=0.0, target=0.0, weight=0.0
):
    """Constants of an RBM's update in the order of the kernels."""
    return np.array([rate, decay, momentum, l2, l1, target, weight], dtype=float)


def random_rbm(table, hidden="bernoulli", *, width=3, scale=0.5, seed=0):
    """An RBM with random parameters and a table of (start, stop, kind) blocks."""
    rng = np.random.default_rng(seed)
    blocks = np.array([(*block, 1) for block in table], dtype=np.int64)
    n = blocks[-1, 1]
    parameters = scale * rng.normal(size=(n, width)), rng.normal(size=width) / 2
    return RBM(*parameters, rng.normal(size=n) / 2, blocks, hidden)
