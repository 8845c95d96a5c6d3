"""Memory and time of fits on a memory-mapped file.

    python benchmarks/memory.py [--run NAME ...] [--gib 1.0] [--write]

extra: fits of one and two layers of each kind on a float32 file of --gib GiB, mapped
read-only, the latter with a ``working_memory`` of 16 MiB, into which the output of the
first layer does not fit. What is measured is the anonymous memory of the process
(RssAnon of Linux, sampled every 5 ms), less what it had before the fit: pages of the
file itself belong to the page cache and do not count. The first, small fit loads the
compiled kernels.

limited: one epoch of two layers on a file of 2 GiB in a process whose address space is
limited to 1 GiB above the interpreter and the map (RLIMIT_AS), beside the same fit of
the rows in memory in a process without a limit, by turns. The file has just been
written, so that its pages are in the page cache.
"""

import itertools
import multiprocessing
import pathlib
import re
import resource
import tempfile
import threading
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

import numpy as np
from common import run_parts, stamp
from sklearn import config_context

from sklearn_greedy import StackedAutoencoderTransformer, StackedRBMTransformer

N_COLUMNS = 1024
STACKS = {"RBM": StackedRBMTransformer, "autoencoder": StackedAutoencoderTransformer}
LIMITED_GIB, ROUNDS = 2, 3


def mib_of(field):
    """A figure of this process from /proc, in MiB."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+) kB", status).group(1)) / 1024


class PeakMemory:
    """Largest anonymous memory while the block runs, in MiB above its start."""

    def __enter__(self):
        self.start = self.peak = mib_of("RssAnon")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self):
        while not self._stop.is_set():
            self.peak = max(self.peak, mib_of("RssAnon"))
            time.sleep(0.005)

    def __exit__(self, *exc_info):
        self._stop.set()
        self._thread.join()

    @property
    def extra(self):
        return self.peak - self.start


@contextmanager
def file_of(gib):
    """Path and number of rows of a file of values in [0, 1], written by blocks."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "rows.f32")
        yield path, write_rows(path, gib)


def write_rows(path, gib):
    rng = np.random.default_rng(0)
    n_rows = int(gib * 2**30 / 4 / N_COLUMNS)
    with path.open("wb") as file:
        for start in range(0, n_rows, 4096):
            rows = min(4096, n_rows - start)
            file.write(rng.random((rows, N_COLUMNS), dtype=np.float32).tobytes())
    return n_rows


def mapped(path, n_rows):
    return np.memmap(path, np.float32, mode="r", shape=(n_rows, N_COLUMNS))


def new_stack(kind, sizes):
    return STACKS[kind](sizes, batch_size=100, max_iter=1, random_state=0)


def extra_figures(options):
    extra = {}
    with file_of(options.gib) as (path, n_rows):
        X = mapped(path, n_rows)
        for kind, sizes in itertools.product(STACKS, ((64,), (64, 32))):
            stack = new_stack(kind, sizes).fit(X[:200])
            with PeakMemory() as memory, config_context(working_memory=16):
                stack.fit(X)
            extra[f"{kind} {'-'.join(map(str, (N_COLUMNS, *sizes)))}"] = memory.extra
    return {"n_rows": n_rows, "extra": extra}


def extra_table(row):
    lines = [
        f"{stamp(row)}; `working_memory` of 16 MiB; from",
        "`python benchmarks/memory.py --run extra --write`.",
        "",
        f"| fit of a memory map of {row['n_rows']} rows | extra MiB | at most |",
        "|---|---|---|",
    ]
    return lines + [
        f"| {name} | {mib:.0f} | 150 |" for name, mib in row["extra"].items()
    ]


def seconds_of_fit(path, n_rows, kind, limited):
    """Seconds of one epoch of two layers, to be run in a process of its own."""
    warnings.simplefilter("ignore")
    X = mapped(path, n_rows)
    if limited:
        n_bytes = int(mib_of("VmSize") * 2**20) + 2**30
        resource.setrlimit(resource.RLIMIT_AS, (n_bytes, n_bytes))
    else:
        X = np.array(X)
    stack = new_stack(kind, (64, 32)).fit(X[:200])
    start = time.perf_counter()
    stack.fit(X)
    return time.perf_counter() - start


def limited_figures(options):
    spawn = multiprocessing.get_context("spawn")
    seconds = {kind: [] for kind in STACKS}
    with (
        file_of(LIMITED_GIB) as (path, n_rows),
        ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as fresh,
    ):

        def seconds_of(kind, limited):
            return fresh.submit(seconds_of_fit, path, n_rows, kind, limited).result()

        for _ in range(ROUNDS):
            for kind, rounds in seconds.items():
                rounds.append([seconds_of(kind, limited) for limited in (False, True)])
    return {"n_rows": n_rows, "seconds": seconds}


def limited_table(row):
    lines = [
        f"{stamp(row)}; {LIMITED_GIB} GiB, {row['n_rows']} rows, one epoch of layers",
        f"{N_COLUMNS}-64-32, address space limited to 1 GiB above the interpreter and",
        "the map; all fits complete. Asked: at least 85 % of the throughput in memory.",
        f"Median of {ROUNDS} rounds; from "
        "`python benchmarks/memory.py --run limited --write`.",
        "",
        "| stack | seconds in memory | on the map | throughput (least and most) |",
        "|---|---|---|---|",
    ]
    for kind, rounds in row["seconds"].items():
        in_memory, on_map = np.transpose(rounds)
        share = in_memory / on_map
        lines.append(
            f"| {kind} | {np.median(in_memory):.1f} | {np.median(on_map):.1f} "
            f"| {np.median(share):.0%} ({share.min():.0%}-{share.max():.0%}) |"
        )
    return lines


PARTS = {
    "extra": (extra_figures, extra_table),
    "limited": (limited_figures, limited_table),
}


if __name__ == "__main__":
    gib = "--gib", {"type": float, "default": 1.0, "help": "size of the file of extra"}
    run_parts(__doc__, "memory", PARTS, gib)
