"""Threads that share products: who multiplies never shows in a result."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.base import clone
from threadpoolctl import threadpool_info, threadpool_limits
from tools import kernels

from sklearn_greedy import (
    GreedyPretrainedMLPClassifier,
    StackedAutoencoderTransformer,
    StackedRBMTransformer,
    _kernels,
    _threads,
)
from sklearn_greedy._fitting import fitting
from sklearn_greedy._threads import ALONE, Pace, one_blas_thread, team_for

LARGE = _kernels.SHARED
FITS = {
    "RBM": StackedRBMTransformer(
        (300, 300), batch_size=300, max_iter=2, random_state=0
    ),
    "autoencoder": StackedAutoencoderTransformer(
        (300,), batch_size=300, max_iter=2, random_state=0
    ),
    "network": GreedyPretrainedMLPClassifier(
        (400,), pretrainer=None, batch_size=300, max_iter=2, random_state=0
    ),
    "network by L-BFGS": GreedyPretrainedMLPClassifier(
        (200,), pretrainer=None, solver="lbfgs", max_iter=3, random_state=0
    ),
}


@pytest.fixture
def rows(rng):
    return (rng.random((600, 300)) < 0.3).astype(np.float32), np.arange(600) % 3


def blas_threads():
    libraries = threadpool_info()
    return {part["num_threads"] for part in libraries if part["user_api"] == "blas"}


# Accelerate of macOS has threads of its own, which nobody can count or limit.
counts_threads = pytest.mark.skipif(
    not blas_threads(), reason="threadpoolctl does not know this BLAS"
)


class Helpers:
    """Threads that count what they are asked for, or never come."""

    def __init__(self, come):
        self.pool, self.come, self.n_asked = ThreadPoolExecutor(2), come, 0

    def __call__(self, process):
        return self

    def submit(self, assist, team):
        self.n_asked += 1
        if self.come:
            self.pool.submit(assist, team)


@counts_threads
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("come", [True, False])
def test_result_does_not_depend_on_helpers(monkeypatch, rows, name, come):
    """Whether they help, are not wanted, or were left behind in another process."""
    with threadpool_limits(1):
        expected = FITS[name].fit(*rows).coefs_
    helpers = Helpers(come)
    monkeypatch.setattr(_threads, "_helpers", helpers)
    monkeypatch.setattr(Pace, "helpers_pay", lambda self: True)
    with threadpool_limits(3):
        found = FITS[name].fit(*rows).coefs_
    helpers.pool.shutdown()
    assert helpers.n_asked >= 4
    for ours, alone in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, alone)


def test_helpers_are_asked_only_where_products_are_shared(monkeypatch):
    """They keep a core busy; sums over the numbers that are not 0 need none."""
    helpers = Helpers(come=False)
    monkeypatch.setattr(_threads, "_helpers", helpers)
    monkeypatch.setattr(_threads, "_pace_of", cache(lambda *kind: Pace()))
    monkeypatch.setattr(one_blas_thread, "allowed", lambda: 2)

    def work(n_inner):
        a = np.ones((300, n_inner), np.float32)
        with team_for((1,), 300, LARGE) as team:
            kernels.matmul(a, a, False, True, np.empty((300, 300), np.float32), team)

    for n_inner, n_asked in [(3, 0), (300, 2)]:
        for _ in range(4):
            work(n_inner)
        assert helpers.n_asked == n_asked


def test_small_products_are_not_shared(monkeypatch, rows):
    monkeypatch.setattr(_threads, "_helpers", None)
    with one_blas_thread, team_for((1,), 10, LARGE - 1) as team:
        assert team is ALONE
    StackedRBMTransformer((20,), max_iter=1, random_state=0).fit(rows[0])


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_as_many_threads_share_as_blas_may_have(monkeypatch, limit):
    helpers = Helpers(come=False)
    monkeypatch.setattr(_threads, "_helpers", helpers)
    monkeypatch.setattr(Pace, "helpers_pay", lambda self: True)
    monkeypatch.setattr(one_blas_thread, "allowed", lambda: limit)
    with team_for((limit,), 10, LARGE) as team:
        assert team.size == _kernels.TEAM_SIZE
    assert helpers.n_asked == min(limit, 8) - 1


def test_helpers_are_told_when_the_work_ends():
    """Also by Ctrl-C; they would look for work for some tenths of a second."""
    work = team_for((1,), 10, LARGE)
    team = work.__enter__()
    assert team[_kernels.OVER] == 0
    interrupt = KeyboardInterrupt()
    assert not work.__exit__(type(interrupt), interrupt, None)
    assert team[_kernels.OVER] == 1


class Clock:
    def __init__(self):
        self.now = 100.0

    def perf_counter(self):
        return self.now


def run_slices(pace, clock, alone, helped, n=1):
    """What is done for n slices that take these times."""
    done = []
    for _ in range(n):
        done.append(pace.helpers_pay())
        seconds = helped if done[-1] else alone
        clock.now += seconds
        pace.add(done[-1], seconds, n_rows=100)
    return done


@pytest.mark.parametrize(
    ("alone", "helped"), [(0.01, 0.02), (0.02, 0.01), (0.01, 0.0097), (1.2, 0.7)]
)
def test_the_faster_way_is_taken_after_two_trials_of_both(monkeypatch, alone, helped):
    """Helpers where they gain a twentieth; also where one evaluation takes seconds."""
    monkeypatch.setattr(_threads, "time", Clock())
    pace = Pace()
    done = run_slices(pace, _threads.time, alone, helped, 20)
    assert done[:4] == [False, True, False, True]
    assert done[4:] == [helped < 0.95 * alone] * 16


def test_the_other_way_is_tried_again_after_a_second(monkeypatch):
    """A machine that was busy may be idle now, and the other way round."""
    monkeypatch.setattr(_threads, "time", Clock())
    pace = Pace()
    assert sum(run_slices(pace, _threads.time, 0.01, 0.02, 300)) <= 8
    done = run_slices(pace, _threads.time, 0.02, 0.01, 300)
    assert sum(done[-100:]) >= 96


def test_one_slow_slice_changes_nothing(monkeypatch):
    monkeypatch.setattr(_threads, "time", Clock())
    pace = Pace()
    run_slices(pace, _threads.time, 0.02, 0.01, 10)
    assert run_slices(pace, _threads.time, 0.02, 0.5) == [True]
    assert run_slices(pace, _threads.time, 0.02, 0.01) == [True]


@counts_threads
def test_blas_has_one_thread_throughout_a_fit(rows):
    """Also after a fit within it, and as many as before when all are over."""
    inner = StackedRBMTransformer((4,), max_iter=1, random_state=0)
    with threadpool_limits(2):
        with fitting(StackedRBMTransformer()):
            assert blas_threads() == {1}
            inner.fit(rows[0])
            assert blas_threads() == {1}
        assert blas_threads() == {2}


@counts_threads
def test_a_fit_that_fails_within_another_leaves_its_limit(rows):
    with threadpool_limits(2):
        with fitting(StackedRBMTransformer()):
            with pytest.raises(ValueError, match="hidden_layer_sizes"):
                StackedRBMTransformer((0,)).fit(rows[0])
            assert blas_threads() == {1}
        assert blas_threads() == {2}


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


@contextmanager
def fit_in_another_thread():
    """A fit that goes on until the context ends."""
    in_fit, over = threading.Event(), threading.Event()

    def fit():
        with fitting(StackedRBMTransformer()):
            in_fit.set()
            over.wait()

    thread = threading.Thread(target=fit)
    thread.start()
    in_fit.wait()
    try:
        yield
    finally:
        over.set()
        thread.join()


@counts_threads
def test_a_limit_that_ends_during_a_fit_in_another_thread_is_not_set_again():
    """The fit found 1 thread, and has to leave the 2 that were there before."""
    with threadpool_limits(2):
        with ExitStack() as longer:
            with threadpool_limits(1):
                longer.enter_context(fit_in_another_thread())
        assert blas_threads() == {2}


@forks
@counts_threads
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_process_is_in_the_fit_of_the_thread_that_forked_only():
    def child_works():
        with fitting(StackedRBMTransformer()):
            inside = blas_threads()
        return inside == {1} and blas_threads() == {2}

    def forked(work):
        child = os.fork()
        if child == 0:
            signal.alarm(60)  # ends it where it waits for ever
            os._exit(0 if work() else 1)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    with threadpool_limits(2), fit_in_another_thread():
        with one_blas_thread._lock:  # another thread may hold it at that moment
            assert forked(child_works)
        with fitting(StackedRBMTransformer()):
            assert forked(lambda: one_blas_thread.depth() == 1)


@forks
def test_a_child_process_can_fit_after_the_first_fit_of_its_parent(tmp_path):
    """What helpers run was compiled in their thread; the child waited for it."""
    code = """
import multiprocessing
import numpy as np
from threadpoolctl import threadpool_limits
from sklearn_greedy import StackedRBMTransformer, _threads
X = (np.random.default_rng(0).random((300, 300)) < 0.3).astype(np.float32)
_threads.Pace.helpers_pay = lambda self: True
stack = StackedRBMTransformer((300,), batch_size=300, max_iter=1, random_state=0)
def compiles():
    stack.set_params(n_gibbs_steps=2, persistent=True).fit(X.astype(np.float64))
    seed = np.zeros(2, np.uint32)
    _threads.kernels().stream_keys(seed, 1.0, 0)  # another type: not in the cache
with threadpool_limits(2):
    stack.fit(X)
child = multiprocessing.get_context("fork").Process(target=compiles)
child.start()
child.join(100)
print(child.exitcode)
child.kill()
"""
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)},
    )
    assert found.stdout == "0\n"


def in_thread(function):
    """What a function returns in another thread, which lives on until asked."""
    pool = ThreadPoolExecutor(1)
    return pool.submit(function).result(), pool


@counts_threads
@pytest.mark.parametrize("controls", [True, False])
def test_limit_holds_in_a_thread_that_has_no_control_of_blas(rows, controls):
    """threadpoolctl gives control to one thread and ignores all others."""
    stack = StackedRBMTransformer((4,), max_iter=1, random_state=0)

    def look():
        with fitting(stack):
            return blas_threads()

    with threadpool_limits(2) if controls else nullcontext():
        before = blas_threads()
        found, pool = in_thread(look)
        assert found == {1}
        assert blas_threads() == before
    pool.shutdown()


@counts_threads
def test_a_fit_does_not_keep_the_control_of_blas(rows):
    stack = StackedRBMTransformer((4,), max_iter=1, random_state=0)
    _, pool = in_thread(lambda: stack.fit(rows[0]))
    with threadpool_limits(1):
        assert blas_threads() == {1}
    with threadpool_limits(2):
        assert blas_threads() == {2}
    pool.shutdown()


@counts_threads
def test_fits_in_threads_at_once_share_products(rows):
    X, _ = rows
    with threadpool_limits(2):
        expected = FITS["RBM"].fit(X).coefs_
        found = [None, None]

        def fit(i):
            found[i] = clone(FITS["RBM"]).fit(X).coefs_

        threads = [threading.Thread(target=fit, args=(i,)) for i in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert blas_threads() == {2}
    for coefs in found:
        for ours, alone in zip(coefs, expected, strict=True):
            np.testing.assert_array_equal(ours, alone)


class BLIS(threading.local):
    """A BLAS with a limit for each thread, by threadpoolctl."""

    num_threads, internal_api, threading_layer = 4, "blis", "openmp"

    def set_num_threads(self, n_threads):
        self.num_threads = n_threads


class Own(BLIS):
    """One that has to be asked itself, since some versions of threadpoolctl set the
    number of all threads together.
    """

    functions: tuple[str, str]

    def set_num_threads(self, n_threads):
        raise AssertionError("not by threadpoolctl")

    @property
    def dynlib(self):
        tell, change = self.functions
        return SimpleNamespace(
            **{
                tell: lambda: self.num_threads,
                change: lambda n: setattr(self, "num_threads", n),
            }
        )


class OpenMP(Own):
    internal_api = "openblas"
    functions = "omp_get_max_threads", "omp_set_num_threads"


class MKL(Own):
    internal_api, threading_layer = "mkl", "intel"
    functions = "MKL_Get_Max_Threads", "MKL_Set_Num_Threads_Local"


@pytest.mark.parametrize("library", [BLIS, OpenMP, MKL])
def test_the_limit_of_each_thread_is_set_in_all_that_fit_or_help(monkeypatch, library):
    blas = library()
    limit = _threads._OneBlasThread()
    monkeypatch.setattr(limit, "_libraries", [blas])

    def fit():
        with limit:
            within = blas.num_threads, limit.allowed()
        return *within, blas.num_threads

    def help_out():
        limit.limit_helper()
        return blas.num_threads

    with limit, limit:
        for function, expected in [(fit, (1, 4, 4)), (help_out, 1)]:
            found, pool = in_thread(function)
            assert found == expected
            pool.shutdown()
        assert blas.num_threads == 1
    assert blas.num_threads == 4


def test_a_fit_goes_on_when_python_is_about_to_end():
    """No thread may be started then, which raised in the fit."""
    code = """
import threading, time
import numpy as np
from threadpoolctl import threadpool_limits
from sklearn_greedy import StackedRBMTransformer, _threads
X = (np.random.default_rng(0).random((600, 300)) < 0.3).astype(np.float32)
stack = StackedRBMTransformer((300,), batch_size=300, max_iter=3, random_state=0)
stack.fit(X)
_threads.Pace.helpers_pay = lambda self: True
def late():
    time.sleep(1)
    with threadpool_limits(2):
        stack.fit(X)
    print("fitted", flush=True)
threading.Thread(target=late).start()
"""
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout == "fitted\n"
    assert "Error" not in found.stderr
