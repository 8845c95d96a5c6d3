"""Extra memory of fits on a memory-mapped file.

    python benchmarks/memory.py [--gib 1.0]

Writes a float32 file of that size to a temporary folder, maps it read-only and fits one
and two layers of each kind on it, the latter with a ``working_memory`` of 16 MiB, into
which the output of the first layer does not fit. What is measured is the anonymous
memory of the process (RssAnon of Linux, sampled every 5 ms), less what it had before
the fit: pages of the file itself belong to the page cache and do not count. The first,
small fit loads the compiled kernels.
"""

import argparse
import pathlib
import re
import tempfile
import threading
import time

import numpy as np
from sklearn import config_context

from sklearn_greedy import StackedAutoencoderTransformer, StackedRBMTransformer

N_COLUMNS = 1024


def anonymous_mib():
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+) kB", status).group(1)) / 1024


class PeakMemory:
    """Largest anonymous memory while the block runs, in MiB above its start."""

    def __enter__(self):
        self.start = self.peak = anonymous_mib()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self):
        while not self._stop.is_set():
            self.peak = max(self.peak, anonymous_mib())
            time.sleep(0.005)

    def __exit__(self, *exc_info):
        self._stop.set()
        self._thread.join()

    @property
    def extra(self):
        return self.peak - self.start


def write_file(path, n_rows):
    """Values in [0, 1], written a block at a time."""
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        for start in range(0, n_rows, 4096):
            rows = min(4096, n_rows - start)
            file.write(rng.random((rows, N_COLUMNS), dtype=np.float32).tobytes())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gib", type=float, default=1.0)
    n_rows = int(parser.parse_args().gib * 2**30 / 4 / N_COLUMNS)
    stacks = [
        cls(sizes, batch_size=100, max_iter=1, random_state=0)
        for cls in (StackedRBMTransformer, StackedAutoencoderTransformer)
        for sizes in ((64,), (64, 32))
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "rows.f32")
        write_file(path, n_rows)
        X = np.memmap(path, np.float32, mode="r", shape=(n_rows, N_COLUMNS))
        print("| fit of a memory map of 1024 columns | extra MiB | at most |")
        print("|---|---|---|")
        for stack in stacks:
            stack.fit(X[:200])
            with PeakMemory() as memory, config_context(working_memory=16):
                stack.fit(X)
            name = f"{type(stack).__name__}, {len(stack.coefs_)} layers"
            print(f"| {name}, {n_rows} rows | {memory.extra:.0f} | 150 |", flush=True)


if __name__ == "__main__":
    main()
