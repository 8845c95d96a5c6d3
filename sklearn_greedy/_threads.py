"""Who multiplies: one BLAS thread in each of the threads that share large products."""

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController

Array = npt.NDArray

# The owner of a setting that all threads have together.
_PROCESS = 0
# Parts of the largest product: more threads would find nothing to do.
_MOST_THREADS = 8
# What was found of the slower way is forgotten after so many seconds, and not before so
# many pieces of work.
_FORGET, _PIECES = 1.0, 20
# Measurements of both ways before one is chosen.
_TRIALS = 2
# The most that a measurement lengthens the one before.
_SLOWER = 1.2
# Share of the time alone in which helpers are worth the cores that they keep busy.
_WORTH = 0.95


def kernels():
    """The compiled module, imported at the first fit: numba takes time to import."""
    from sklearn_greedy import _kernels

    return _kernels


# The team of products that stay whole.
ALONE = np.empty(0, np.int64)


class _OneBlasThread:
    """Limit BLAS to one thread while any fit runs.

    Its own threads stall on products of any size when another process is busy. The
    limit is a setting of the process, or of each thread (see ``_in_thread``). Fits in
    several Python threads overlap: for the process the first one in sets it and the
    last one out restores it. Looking for the loaded BLAS libraries takes milliseconds
    and is done once. Ctrl-C may come between any two steps, also of these: what to
    restore is written down before anything is set, and ``return_to`` may be called
    more than once.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._depths: dict[int, int] = {}  # how often each thread is in
        self._libraries: list[Any] | None = None
        # Threads of each library before the limit, by whose setting it is.
        self._before: dict[int, list[int]] = {}

    def __enter__(self):
        with self._lock:
            me = threading.get_ident()
            self._depths[me] = self.depth() + 1
            if self._libraries is None:
                import scipy.linalg  # noqa: F401  loads the BLAS that the kernels call

                found = ThreadpoolController().select(user_api="blas")
                self._libraries = found.lib_controllers
            for owner in (_PROCESS, me):
                self._limit(owner)

    def __exit__(self, *exc_info):
        self.return_to(self.depth() - 1)

    def depth(self) -> int:
        """How many fits, one within the other, this thread is in."""
        return self._depths.get(threading.get_ident(), 0)

    def return_to(self, depth: int) -> None:
        """So many fits is this thread in now; the limit ends with the last of all."""
        with self._lock:
            me = threading.get_ident()
            if depth > 0:
                self._depths[me] = depth
                return
            self._depths.pop(me, None)
            self._restore(me)
            if not self._depths:
                self._restore(_PROCESS)

    def limit_helper(self) -> None:
        """Set the limit in a helper, where each thread has its own."""
        for library in self._of(threading.get_ident()):
            _set_threads(library, 1)

    def allowed(self) -> int:
        """Threads that BLAS had before the limit: the user's setting, or the cores."""
        before = (self._before.get(of, []) for of in (_PROCESS, threading.get_ident()))
        return max(itertools.chain([1], *before))

    def after_fork(self) -> None:
        """In a child process: of all threads only the one that forked goes on."""
        me, self._lock = threading.get_ident(), threading.Lock()
        for others in self._depths, self._before:
            for thread in others.keys() - {_PROCESS, me}:
                del others[thread]

    def _of(self, owner: int) -> list[Any]:
        """Libraries whose number of threads is a setting of the process, or of each
        thread.
        """
        for_process = owner == _PROCESS
        return [
            library
            for library in self._libraries or []
            if _in_thread(library) != for_process
        ]

    def _limit(self, owner: int) -> None:
        if owner not in self._before:
            self._before[owner] = [_get_threads(library) for library in self._of(owner)]
            for library in self._of(owner):
                _set_threads(library, 1)

    def _restore(self, owner: int) -> None:
        before = self._before.get(owner, [])
        for library, n_threads in zip(self._of(owner), before, strict=False):
            if _get_threads(library) == 1:  # else set by someone else meanwhile
                _set_threads(library, n_threads)
        self._before.pop(owner, None)


# Functions of MKL and of the OpenMP that OpenBLAS may be built with, which tell and set
# the number of threads of the thread that calls them.
_OF_THREAD = {
    "mkl": ("MKL_Get_Max_Threads", "MKL_Set_Num_Threads_Local"),
    "openblas": ("omp_get_max_threads", "omp_set_num_threads"),
}


def _in_thread(library) -> bool:
    """Whether each thread sets the number of threads for itself, as with MKL and in
    builds with OpenMP.
    """
    return library.internal_api == "mkl" or _is_of_openmp(library)


def _is_of_openmp(library) -> bool:
    return getattr(library, "threading_layer", "") == "openmp"


def _own_functions(library):
    """Those of ``_OF_THREAD`` where a library has them, or None.

    threadpoolctl before 3.7 takes the number of all threads together, and later ones
    look for OpenMP's functions under the suffix of the BLAS, where they have none.
    """
    names = _OF_THREAD.get(library.internal_api, ())
    if not names or not _in_thread(library):
        return None
    found = [getattr(library.dynlib, name, None) for name in names]
    return None if None in found else found


def _get_threads(library) -> int:
    """Threads of a BLAS library in this thread."""
    own = _own_functions(library)
    return library.num_threads if own is None else own[0]()


def _set_threads(library, n_threads: int) -> None:
    """Set the threads of a BLAS library.

    From 3.8 on threadpoolctl lets one thread set them and has others do nothing,
    without a word, as long as that thread is alive. Here a lock orders all that want
    to; none of them may keep the right from the user's other threads.
    """
    own = _own_functions(library)
    if own is not None:
        own[1](n_threads)
        return
    give_up = getattr(library, "clear_controlling_thread", lambda force: None)
    give_up(force=True)
    library.set_num_threads(n_threads)
    give_up(force=True)


one_blas_thread = _OneBlasThread()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=one_blas_thread.after_fork)


class Pace:
    """Seconds for a row of the same work, alone and with helpers, as lately found."""

    def __init__(self):
        # By whether there were helpers: how often it was measured, the last time when,
        # and what is thought of it.
        self._times, self._last = {False: 0, True: 0}, {False: 0.0, True: 0.0}
        self._seconds = {False: 0.0, True: 0.0}
        self._memory = _FORGET

    def helpers_pay(self) -> bool:
        """What to do next: the faster way, or one of which too little is known."""
        now = time.perf_counter()
        for helped, last in self._last.items():
            if now - last > self._memory:
                self._times[helped] = 0
        if min(self._times.values()) < _TRIALS:
            return self._times[True] < self._times[False]
        return self._seconds[True] < _WORTH * self._seconds[False]

    def add(self, helped: bool, seconds: float, n_rows: int) -> None:
        """A new measurement; what else happens on a machine only makes it longer."""
        self._memory = max(_FORGET, _PIECES * seconds)
        seconds /= n_rows
        if self._times[helped] > 0:
            seconds = min(seconds, _SLOWER * self._seconds[helped])
        self._seconds[helped], self._last[helped] = seconds, time.perf_counter()
        self._times[helped] += 1


# Fits of the same shape share what they found, also from one chunk to the next.
_pace_of: Callable[..., Pace] = lru_cache(maxsize=64)(lambda *kind: Pace())


@lru_cache(maxsize=1)
def _helpers(process: int) -> ThreadPoolExecutor:
    """Threads that wait for work; those of a parent process are not in its child.

    What they run is compiled before: a process that forks while another thread compiles
    has a child that waits for the compiler for ever.
    """
    over = np.zeros(kernels().TEAM_SIZE, np.int64)
    over[kernels().OVER] = 1
    kernels().assist(over)
    return ThreadPoolExecutor(
        _MOST_THREADS - 1, "sklearn_greedy", initializer=one_blas_thread.limit_helper
    )


def _ask(team: Array, n_helpers: int) -> bool:
    """Ask helpers to share the products of a team; whether they can come."""
    try:
        for _ in range(n_helpers):
            _helpers(os.getpid()).submit(kernels().assist, team)
    except RuntimeError:  # no thread can start, or Python is about to end
        return False
    return True


@contextmanager
def team_for(kind: tuple[Any, ...], n_rows: int, largest_product: int) -> Iterator:
    """State of the threads that share the products of some mini-batches (see the
    kernels), without places where the largest is too small for it.

    Other threads help where BLAS was allowed some before ``one_blas_thread``, and where
    that was the faster way lately: beside other processes it is not. The parts, and so
    the result, are the same in both ways. Work that shares nothing after all, as where
    products go over the numbers that are not 0, says nothing of either.

    kind : what is the same for work that takes the same time for each row.
    """
    if largest_product < kernels().SHARED or not kernels().COMPILED:
        yield ALONE
        return
    n_helpers = min(one_blas_thread.allowed(), _MOST_THREADS) - 1
    team = np.zeros(kernels().TEAM_SIZE, np.int64)
    pace = _pace_of(*kind, n_helpers)
    start = time.perf_counter()
    try:
        helped = n_helpers > 0 and pace.helpers_pay() and _ask(team, n_helpers)
        yield team
    finally:
        team[kernels().OVER] = 1
    if team[kernels().TAKEN] > 0:
        pace.add(helped, time.perf_counter() - start, n_rows)
