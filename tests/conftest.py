"""Make ``reference`` importable from the tests, and one seeded generator."""

import os
import platform
import signal

# Before scipy is imported: scikit-learn's array API checks skip without it. An empty
# value in the environment stays, for the columns of the matrix that run as users do.
os.environ.setdefault("SCIPY_ARRAY_API", "1")
os.environ["MPLBACKEND"] = "Agg"

import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris

from sklearn_greedy import StackedAutoencoderTransformer, StackedRBMTransformer

sys.path.insert(0, str(Path(__file__).parent))


def pytest_configure(config):
    # OpenBLAS for SME leaves flags of the processor set by products that are right.
    if platform.machine() in ("aarch64", "arm64"):
        for seen in ("divide by zero", "overflow"):
            known = f"ignore:{seen} encountered in matmul:RuntimeWarning"
            config.addinivalue_line("filterwarnings", known)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(
    params=[StackedRBMTransformer, StackedAutoencoderTransformer],
    ids=["rbm", "autoencoder"],
)
def stack_class(request):
    return request.param


@pytest.fixture(scope="session")
def iris():
    return load_iris(return_X_y=True)


@pytest.fixture(scope="session")
def all_digits():
    """Digits, each cell in [0, 1]."""
    X, y = load_digits(return_X_y=True)
    return X / 16, y


@pytest.fixture(scope="session")
def digits(all_digits):
    """Some of them."""
    X, y = all_digits
    return X[:300], y[:300]


# Enough for nearly every line; what is left trains for long.
UNCOMPILED_SECONDS = 5


@pytest.fixture(
    autouse=os.environ.get("NUMBA_DISABLE_JIT") == "1" and hasattr(signal, "SIGALRM")
)
def no_long_tests_without_the_compiler():
    """Where the lines of the kernels are counted, they are plain Python and slow."""

    def leave(signum, frame):
        pytest.skip(f"takes over {UNCOMPILED_SECONDS} s without the compiler")

    before = signal.signal(signal.SIGALRM, leave)
    signal.alarm(UNCOMPILED_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
