"""Make ``reference`` importable from the tests, and one seeded generator."""

import os

# Before scipy is imported: scikit-learn's array API checks skip without it. An empty
# value in the environment stays, for the columns of the matrix that run as users do.
os.environ.setdefault("SCIPY_ARRAY_API", "1")
os.environ["MPLBACKEND"] = "Agg"

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def rng():
    return np.random.default_rng(0)
