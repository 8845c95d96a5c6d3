"""Who multiplies: one BLAS thread in each of the threads that share large products."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController

Array = npt.NDArray

# Parts of the largest product: more threads would find nothing to do.
_MOST_THREADS = 8
# Seconds after which what was found of the slower way is forgotten.
_FORGET = 1.0
# Measurements of both ways before one is chosen.
_TRIALS = 2
# The most that a measurement lengthens the one before.
_SLOWER = 1.2


def kernels():
    """The compiled module, imported at the first fit: numba takes time to import."""
    from sklearn_greedy import _kernels

    return _kernels


# The team of products that stay whole, with as many threads as BLAS has.
ALONE = np.empty(0, np.int64)


class _OneBlasThread:
    """Limit BLAS to one thread while any fit runs.

    Its own threads stall on products of any size when another process is busy. The
    limit is a setting of the process. Fits in several Python threads overlap, so
    the first one in sets it and the last one out restores it. Looking for the loaded
    BLAS libraries takes milliseconds and is done once. Ctrl-C may come between any two
    steps, also of these: what to restore is written down before anything is set, and
    ``release`` may be called more than once.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._users: dict[int, int] = {}  # how often each thread is in
        self._libraries: list[Any] = []
        self._before: list[int] | None = None

    def __enter__(self):
        with self._lock:
            me = threading.get_ident()
            self._users[me] = self._users.get(me, 0) + 1
            if not self._libraries:
                import scipy.linalg  # noqa: F401  loads the BLAS that the kernels call

                found = ThreadpoolController().select(user_api="blas")
                self._libraries = found.lib_controllers
            if self._before is None:
                self._before = [library.num_threads for library in self._libraries]
                for library in self._libraries:
                    _set_threads(library, 1)

    def __exit__(self, *exc_info):
        me = threading.get_ident()
        if self._users.get(me, 0) > 1:  # a fit within a fit
            self._users[me] -= 1
        else:
            self.release()

    def release(self) -> None:
        """End the need of this thread for the limit, if it has one."""
        with self._lock:
            self._users.pop(threading.get_ident(), None)
            if self._users or self._before is None:
                return
            for library, n_threads in zip(self._libraries, self._before, strict=True):
                _set_threads(library, n_threads)
            self._before = None

    def limit_helper(self) -> None:
        """Set the limit in a helper, for builds of BLAS that have one per thread."""
        for library in self._libraries:
            if getattr(library, "threading_layer", "") == "openmp":
                library.set_num_threads(1)

    def allowed(self) -> int:
        """Threads that BLAS had before the limit: the user's setting, or the cores."""
        return max(self._before or [1])


def _set_threads(library, n_threads: int) -> None:
    """Set the threads of a BLAS library.

    From 3.8 on threadpoolctl lets one thread set them and has others do nothing,
    without a word, as long as that thread is alive. Here a lock orders all that want
    to; none of them may keep the right from the user's other threads.
    """
    give_up = getattr(library, "clear_controlling_thread", lambda force: None)
    give_up(force=True)
    library.set_num_threads(n_threads)
    give_up(force=True)


one_blas_thread = _OneBlasThread()


class Pace:
    """Seconds for a row of the same work, alone and with helpers, as lately found."""

    def __init__(self):
        # By whether there were helpers: how often it was measured, the last time when,
        # and what is thought of it.
        self._times, self._last = {False: 0, True: 0}, {False: 0.0, True: 0.0}
        self._seconds = {False: 0.0, True: 0.0}

    def helpers_pay(self) -> bool:
        """What to do next: the faster way, or one of which too little is known."""
        now = time.perf_counter()
        for helped, last in self._last.items():
            if now - last > _FORGET:
                self._times[helped] = 0
        if min(self._times.values()) < _TRIALS:
            return self._times[True] < self._times[False]
        return self._seconds[True] < self._seconds[False]

    def add(self, helped: bool, seconds: float) -> None:
        """A new measurement; what else happens on a machine only makes it longer."""
        if self._times[helped] > 0:
            seconds = min(seconds, _SLOWER * self._seconds[helped])
        self._seconds[helped], self._last[helped] = seconds, time.perf_counter()
        self._times[helped] += 1


# Fits of the same shape share what they found, also from one chunk to the next.
_pace_of: Callable[..., Pace] = lru_cache(maxsize=64)(lambda *shape: Pace())


@lru_cache(maxsize=1)
def _helpers(process: int) -> ThreadPoolExecutor:
    """Threads that wait for work; those of a parent process are not in its child."""
    return ThreadPoolExecutor(
        _MOST_THREADS - 1, "sklearn_greedy", initializer=one_blas_thread.limit_helper
    )


@contextmanager
def team_for(shape: tuple[int, ...], n_rows: int, largest_product: int) -> Iterator:
    """State of the threads that share the products of some mini-batches (see the
    kernels), without places where the largest is too small for it.

    Other threads help where BLAS was allowed some before ``one_blas_thread``, and where
    that was the faster way lately: beside other processes it is not. The parts, and so
    the result, are the same in both ways.

    shape : what is the same for work that takes the same time for each row.
    """
    if largest_product < kernels().SHARED or not kernels().COMPILED:
        yield ALONE
        return
    n_helpers = min(one_blas_thread.allowed(), _MOST_THREADS) - 1
    team = np.zeros(kernels().TEAM_SIZE, np.int64)
    pace = _pace_of(*shape, n_helpers)
    helped = n_helpers > 0 and pace.helpers_pay()
    start = time.perf_counter()
    try:
        # No thread starts when Python is about to end: the work is done without.
        with suppress(RuntimeError):
            for _ in range(n_helpers if helped else 0):
                _helpers(os.getpid()).submit(kernels().assist, team)
        yield team
    finally:
        team[kernels().OVER] = 1
    pace.add(helped, (time.perf_counter() - start) / n_rows)
