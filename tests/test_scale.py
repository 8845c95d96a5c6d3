"""Searches on several cores, streams of chunks, clusters, and the examples of these."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    RandomizedSearchCV,
)

from sklearn_greedy import (
    GreedyPretrainedMLPClassifier,
    StackedAutoencoderTransformer,
    StackedRBMTransformer,
)

EXAMPLES = Path(__file__).parents[1] / "examples"
RATE = {
    StackedRBMTransformer: "learning_rate",
    StackedAutoencoderTransformer: "learning_rate_init",
}


def run(*arguments, **changes):
    """Output of a new interpreter, in whose environment some variables are changed,
    or left out where they are None.
    """
    env = {**os.environ, "PYTHONWARNINGS": "ignore", **changes}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={name: value for name, value in env.items() if value is not None},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- searches ------------------------------------------------------------------


def network(**params):
    fast = {"learning_rate_init": 0.05, "batch_size": 20, "max_iter": 4}
    params = {**fast, "random_state": 0, **params}
    return GreedyPretrainedMLPClassifier(
        pretrainer=StackedRBMTransformer((8, 5), max_iter=2), **params
    )


def scores_of(search, digits, backend=None):
    """Mean scores of a clone of the search, run by two workers or in this process."""
    search = clone(search)
    if backend is None:
        return search.fit(*digits).cv_results_["mean_test_score"]
    with joblib.parallel_config(backend, n_jobs=2):
        return search.fit(*digits).cv_results_["mean_test_score"]


PER_LAYER = {
    "pretrainer__learning_rate": [[0.01, 0.3], (0.3, 0.01), 0.1],
    "pretrainer__max_iter": [[1, 4], 2],
}
SEARCHES = {
    "grid": lambda: GridSearchCV(network(), PER_LAYER, cv=2),
    "random": lambda: RandomizedSearchCV(
        network(), PER_LAYER, n_iter=4, cv=2, random_state=0
    ),
    "halving": lambda: HalvingGridSearchCV(
        network(),
        {"pretrainer__learning_rate": PER_LAYER["pretrainer__learning_rate"]},
        resource="max_iter",
        min_resources=1,
        max_resources=4,
        factor=2,
        cv=2,
    ),
    "halving, random": lambda: HalvingRandomSearchCV(
        network(),
        {"alpha": [1e-4, 1e-2, 1.0]},
        n_candidates=3,
        resource="pretrainer__max_iter",
        min_resources=1,
        max_resources=4,
        factor=2,
        cv=2,
        random_state=0,
    ),
}


@pytest.mark.parametrize("backend", ["loky", "threading"])
@pytest.mark.parametrize("kind", SEARCHES)
def test_two_workers_find_what_one_finds(kind, backend, digits):
    search = SEARCHES[kind]()
    expected = scores_of(search, digits)
    assert len(set(expected)) > 1
    assert_array_equal(scores_of(search, digits, backend), expected)


def test_values_by_layer_reach_their_layers(stack_class, digits):
    """Each point of the grid is the stack with that sequence, refitted too."""
    X = digits[0]
    stack = stack_class((8, 5), max_iter=1, random_state=0)
    grid = {RATE[stack_class]: [[0.01, 0.1], (0.1, 0.01)]}
    search = GridSearchCV(stack, grid, cv=2).fit(X)
    assert search.cv_results_["params"] == [
        {RATE[stack_class]: value} for value in grid[RATE[stack_class]]
    ]
    by_hand = clone(stack).set_params(**search.best_params_).fit(X)
    for ours, theirs in zip(search.best_estimator_.coefs_, by_hand.coefs_, strict=True):
        assert_array_equal(ours, theirs)


def test_halving_counts_the_epochs_of_each_layer(stack_class, digits):
    """The resource of a stack alone: each fit runs as many epochs as it is given."""
    stack = stack_class((8, 5), random_state=0)
    search = HalvingGridSearchCV(
        stack,
        {RATE[stack_class]: [0.003, 0.01, 0.03, 0.1]},
        resource="max_iter",
        min_resources=1,
        max_resources=4,
        factor=2,
        cv=2,
    ).fit(digits[0])
    assert sorted(set(search.cv_results_["n_resources"])) == [1, 2, 4]
    assert [len(curve) for curve in search.best_estimator_.loss_curves_] == [4, 4]


# The same search by two threads and by two processes. Each fit says in which process it
# ran, how many threads its products might take there, whether numba had started any,
# and how often the largest kernel had been compiled.
SEARCH_WITH_REPORT = """
import os, sys
import joblib
import numpy as np
from sklearn.model_selection import GridSearchCV
from sklearn_greedy import StackedRBMTransformer

def report(stack, X, y=None):
    from threadpoolctl import threadpool_info
    from sklearn_greedy import _kernels
    blas = max(library["num_threads"] for library in threadpool_info())
    layers = "numba.np.ufunc.omppool", "numba.np.ufunc.workqueue"
    parallel = any(name in sys.modules for name in layers)
    compiled = sum(_kernels.cd_slice.stats.cache_misses.values())
    line = f"{os.getpid()} {blas} {int(parallel)} {compiled}\\n"
    os.write(1, line.encode())  # in one piece, beside the other worker
    return 0.0

if __name__ == "__main__":
    X = np.random.default_rng(0).random((400, 64), dtype=np.float32)
    stack = StackedRBMTransformer((256,), max_iter=5, random_state=0)
    grid = {"alpha": [0.0, 1e-4, 1e-3, 1e-2]}
    search = GridSearchCV(stack, grid, cv=3, scoring=report, refit=False)
    for backend in ("threading", "loky"):
        with joblib.parallel_config(backend, n_jobs=2):
            search.fit(X)
"""
# What would settle the number of threads beforehand.
OF_BLAS = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"))


def test_workers_compile_once_and_leave_each_other_their_cores(tmp_path):
    """Two threads without a cache compile a kernel once, two processes then load it;
    both of them without one: test_two_cold_processes_at_once.
    """
    script = tmp_path / "search.py"
    script.write_text(SEARCH_WITH_REPORT)
    output = run(script, NUMBA_CACHE_DIR=str(tmp_path / "cache"), **OF_BLAS)
    fits = [tuple(map(int, line.split())) for line in output.splitlines()]
    by_threads, by_processes = fits[:12], fits[12:]
    assert {compiled for *_, compiled in by_threads} == {1}
    assert {compiled for *_, compiled in by_processes} == {0}
    assert not any(parallel for _, _, parallel, _ in fits)
    assert len(by_processes) == 12
    most = max(n_threads for _, n_threads, _, _ in by_processes)
    assert 2 * most <= max(joblib.cpu_count(), 2)


# --- streams -------------------------------------------------------------------

SIZES = (1, 2, 37, 60, 100)


def slices():
    """Rows 0 to 200 in chunks of any size, as a generator gives them."""
    ends = np.cumsum(SIZES)
    yield from map(slice, ends - SIZES, ends)


def test_a_generator_of_memory_mapped_chunks(stack_class, digits, tmp_path):
    X = digits[0]
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    stored = (tmp_path / "X.npy").read_bytes()
    one, other = (stack_class((8, 5), batch_size=20, random_state=0) for _ in range(2))
    for rows in slices():
        one.partial_fit(mapped[rows])
        other.partial_fit(X[rows])
    for ours, theirs in zip(one.coefs_, other.coefs_, strict=True):
        assert_array_equal(ours, theirs)
    assert (tmp_path / "X.npy").read_bytes() == stored


@pytest.mark.parametrize("to_csr", [sparse.csr_array, sparse.csr_matrix])
def test_a_generator_of_csr_chunks(stack_class, to_csr, digits):
    X, S = digits[0], to_csr(digits[0])
    dense, csr = (stack_class((8, 5), batch_size=20, random_state=0) for _ in range(2))
    for rows in slices():
        dense.partial_fit(X[rows])
        csr.partial_fit(S[rows])
    for ours, theirs in zip(csr.coefs_, dense.coefs_, strict=True):
        assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["memory map", "csr"])
def test_a_network_learns_from_a_generator(form, digits, tmp_path):
    X, y = digits
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    data = mapped if form == "memory map" else sparse.csr_array(X)
    clf = network(learning_rate_init=0.02)
    for _ in range(40):
        for rows in slices():
            clf.partial_fit(data[rows], y[rows], classes=np.arange(10))
    assert clf.score(data, y) > 0.6


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA as Linux has it")
def test_a_file_larger_than_the_limit_of_memory():
    options = "--mib", "96", "--limit", "48"
    output = run(EXAMPLES / "larger_than_memory.py", *options)
    assert "a copy of the file: MemoryError, more than 48 MiB" in output
    scores = [
        float(line.split()[-1]) for line in output.splitlines() if "score" in line
    ]
    # Half the number of columns is the loss of the column means.
    assert len(scores) == 2
    assert min(scores) > -64


# --- clusters and Optuna ---------------------------------------------------------

OF_THE_EXTRA = 'comes with pip install ".[scale]"'


def accuracy(example, *options):
    """What the last line of an example says of held-out rows."""
    last = run(EXAMPLES / example, *options, **OF_BLAS).splitlines()[-1]
    assert last.startswith("accuracy on held-out rows")
    return float(last.split()[-1])


def test_optuna_example():
    pytest.importorskip("optuna", reason=OF_THE_EXTRA)
    assert accuracy("search_with_optuna.py", "--trials", "4") > 0.85


def test_dask_search_example():
    pytest.importorskip("distributed", reason=OF_THE_EXTRA)
    assert accuracy("search_with_dask.py") > 0.9


def test_dask_incremental_example():
    pytest.importorskip("dask_ml", reason=OF_THE_EXTRA)
    assert accuracy("incremental_with_dask.py") > 0.9


ON_A_CLUSTER = """
import pickle, sys
from dask.distributed import Client, LocalCluster

def fit(stored):
    import pickle
    from threadpoolctl import threadpool_info
    stack, X = pickle.loads(stored)
    stack.fit(X)
    from sklearn_greedy import _kernels
    compiled = sum(_kernels.cd_slice.stats.cache_misses.values())
    loaded = sum(_kernels.cd_slice.stats.cache_hits.values())
    threads = max(lib["num_threads"] for lib in threadpool_info())
    return compiled, loaded, threads, pickle.dumps(stack.coefs_)

if __name__ == "__main__":
    stored = open(sys.argv[1], "rb").read()
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        found = client.run(fit, stored)
    open(sys.argv[2], "wb").write(pickle.dumps(list(found.values())))
"""


def test_dask_workers_load_what_the_machine_has_compiled(digits, tmp_path):
    """And fit the same bits on one thread each, from a pickle of plain arrays."""
    pytest.importorskip("distributed", reason=OF_THE_EXTRA)
    stack = StackedRBMTransformer((8, 5), max_iter=2, random_state=0)
    stack.fit(digits[0])  # compiles
    stored = pickle.dumps((stack, digits[0]))
    assert b"numba" not in stored
    script, sent, received = (
        tmp_path / name for name in ("run.py", "sent", "received")
    )
    script.write_text(ON_A_CLUSTER)
    sent.write_bytes(stored)
    run(script, sent, received, **OF_BLAS)
    found = pickle.loads(received.read_bytes())
    assert len(found) == 2
    for compiled, loaded, threads, coefs in found:
        assert (compiled, loaded, threads) == (0, 1, 1)
        for ours, theirs in zip(pickle.loads(coefs), stack.coefs_, strict=True):
            assert_array_equal(ours, theirs)
