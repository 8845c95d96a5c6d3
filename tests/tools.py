"""What several test files need beside the twins."""

import itertools
import tracemalloc

import numba
import numpy as np
import sklearn
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_greedy import _kernels
from sklearn_greedy._backpropagation import Backpropagation
from sklearn_greedy._energy import RBM

SCIKIT_LEARN = tuple(int(part) for part in sklearn.__version__.split(".")[:2])


class _KernelsFromPython:
    """The kernels as functions that Python may call: those that only kernels call are
    compiled anew, with a way in, and counting who uses the arrays that they return.
    """

    def __getattr__(self, name):
        kernel = getattr(_kernels, name)
        if isinstance(kernel, _kernels.Inner):
            ways = {"no_cpython_wrapper": False, "_nrt": True}
            options = {**kernel.targetoptions, **ways}
            kernel = numba.jit(**options)(kernel.py_func)
        setattr(self, name, kernel)
        return kernel


kernels = _KernelsFromPython()


def rbm_constants(
    rate=0.1, decay=0.0, momentum=0.0, l2=0.0, l1=0.0, target=0.0, weight=0.0
):
    """Constants of an RBM's update in the order of the kernels."""
    return np.array([rate, decay, momentum, l2, l1, target, weight], dtype=float)


def solver_constants(
    rate=0.1,
    momentum=0.0,
    beta_1=0.9,
    beta_2=0.999,
    epsilon=1e-8,
    max_gradient=0.0,
    max_norm=0.0,
):
    """Constants of an optimiser in the order of the kernels."""
    constants = [rate, momentum, beta_1, beta_2, epsilon, max_gradient, max_norm]
    return np.array(constants, dtype=float)


def linear_score(features, y):
    """Cross-validated accuracy of a linear model on features."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    return cross_val_score(probe, features, y, cv=3).mean()


def no_list(n_rows):
    """Arguments of an RBM's kernels where no list of its nonzeros is wanted."""
    return np.empty(n_rows + 1, np.int64), np.empty(0, np.int64)


def lists_for(m, *shapes):
    """Workspace of the kernels for lists of nonzeros, filled with what is in none."""
    lists = _kernels.room_for_lists(m, shapes)
    lists[...] = np.iinfo(lists.dtype).max
    return lists


def traits_of(n_layers, dropout=0.0, pace=1.0):
    """Dropout of the input and factor of the learning rate of each layer."""
    traits = np.empty((n_layers, 2))
    traits[:, 0], traits[:, 1] = dropout, pace
    return traits


class OwnPretrainer(BaseEstimator):
    """Not of this package: leaves one layer of four units behind, but for what is
    given instead, and tells how many rows it was fitted on.
    """

    def __init__(self, other=None):
        self.other = other

    def fit(self, X, y=None):
        self.n_rows_, n = X.shape
        self.coefs_, self.intercepts_ = [np.full((n, 4), 0.1)], [np.zeros(4)]
        self.activations_ = ["tanh"]
        self.visible_offset_, self.visible_scale_ = np.zeros(n), np.ones(n)
        vars(self).update(self.other or {})
        return self

    def transform(self, X):
        return np.tanh(X @ self.coefs_[0])


def recorded_networks(monkeypatch, module):
    """List to which each network that a module begins to train is added."""
    made = []

    class Recorded(Backpropagation):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            made.append(self)

    monkeypatch.setattr(f"sklearn_greedy.{module}.Backpropagation", Recorded)
    return made


def random_rbm(table, hidden="bernoulli", *, width=3, scale=0.5, seed=0):
    """An RBM with random parameters and a table of (start, stop, kind) blocks."""
    rng = np.random.default_rng(seed)
    blocks = np.array([(*block, 1) for block in table], dtype=np.int64)
    n = blocks[-1, 1]
    parameters = scale * rng.normal(size=(n, width)), rng.normal(size=width) / 2
    return RBM(*parameters, rng.normal(size=n) / 2, blocks, hidden)


def bit_states(n):
    """All (2**n, n) states of n binary units."""
    return np.array(list(itertools.product([0.0, 1.0], repeat=n)))


def numeric_gradient(function, theta, step=1e-5):
    """Slopes of a function of a vector, by central differences."""
    moves = step * np.eye(theta.size)
    return np.array(
        [(function(theta + d) - function(theta - d)) / (2 * step) for d in moves]
    )


def leaves(value):
    """All values inside lists, dicts (whose keys are strings) and estimators."""
    if isinstance(value, BaseEstimator):
        value = vars(value)
    if isinstance(value, dict):
        assert all(isinstance(key, str) for key in value)
        return [leaf for item in value.values() for leaf in leaves(item)]
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


def peak_memory(function, *args):
    """Most bytes that Python and NumPy held during the call, over those before."""
    tracemalloc.start()
    try:
        function(*args)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
