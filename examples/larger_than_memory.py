"""
A file larger than memory
=========================

``python examples/larger_than_memory.py [--mib 256] [--limit 128]`` (Linux)

Writes a file of float32 rows, forbids its own process to hold more than ``--limit`` MiB
beyond what Python and the compiled code take, and trains on the file in two ways: a fit
on a memory map, for which ``fit`` draws its mini-batches from all over the file, and
``partial_fit`` on chunks that a generator reads, for anything that comes as a stream.

The limit is ``RLIMIT_DATA``: on Linux it counts all that a process allocates for
itself, and not the pages of a file that is mapped for reading, which the system drops
when it needs room. ``RLIMIT_AS`` limits addresses and would count the whole map before
any of it is read. That the limit holds is shown by a copy of the file, which fails.
"""

import argparse
import pathlib
import re
import resource
import tempfile
import time

import numpy as np
import sklearn

from sklearn_greedy import StackedAutoencoderTransformer

N_COLUMNS = 256
ROWS_PER_CHUNK = 8192


def write_file(path, n_rows):
    """Rows that a few hidden causes explain, written a chunk at a time."""
    rng = np.random.default_rng(0)
    causes = rng.normal(size=(8, N_COLUMNS)).astype(np.float32)
    with path.open("wb") as file:
        for start in range(0, n_rows, ROWS_PER_CHUNK):
            n = min(ROWS_PER_CHUNK, n_rows - start)
            rows = rng.standard_normal((n, 8), dtype=np.float32) @ causes
            rows += rng.standard_normal(rows.shape, dtype=np.float32)
            file.write(rows.tobytes())


def chunks(path):
    """Arrays of rows as they come from a file."""
    with path.open("rb") as file:
        while buffer := file.read(4 * N_COLUMNS * ROWS_PER_CHUNK):
            yield np.frombuffer(buffer, np.float32).reshape(-1, N_COLUMNS)


def allocated_mib():
    """What counts for RLIMIT_DATA now."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"VmData:\s+(\d+) kB", status).group(1)) / 1024


def limit_memory(mib):
    """Let this process allocate no more than mib above what it has."""
    n_bytes = int((allocated_mib() + mib) * 2**20)
    resource.setrlimit(resource.RLIMIT_DATA, (n_bytes, n_bytes))


def timed(name, function, *arguments):
    start = time.perf_counter()
    result = function(*arguments)
    print(f"{name}: {time.perf_counter() - start:.1f} s")
    return result


def fit_chunks(stack, path):
    for rows in chunks(path):
        stack.partial_fit(rows)
    return stack


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--mib", type=int, default=256, help="size of the file")
    parser.add_argument("--limit", type=int, default=128, help="MiB to allocate")
    options = parser.parse_args()
    n_rows = options.mib * 2**20 // (4 * N_COLUMNS)
    # The output of the first layer is computed again where it takes more than this.
    sklearn.set_config(working_memory=16)
    stack = StackedAutoencoderTransformer(
        (64, 16), batch_size=100, max_iter=1, random_state=0
    )
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "rows.f32")
        timed(f"written: {options.mib} MiB, {n_rows} rows", write_file, path, n_rows)
        X = np.memmap(path, np.float32, mode="r", shape=(n_rows, N_COLUMNS))
        stack.fit(X[:200])  # loads the compiled code

        limit_memory(options.limit)
        try:
            X.copy()
            print("a copy of the file fits into memory: choose a larger one")
        except MemoryError:
            print(f"a copy of the file: MemoryError, more than {options.limit} MiB")
        timed("fit on the memory map", stack.fit, X)
        print(f"score of the last rows {stack.score(X[-5000:]):.1f}")
        stream = sklearn.clone(stack)
        timed("partial_fit on its chunks", fit_chunks, stream, path)
        print(f"score of the last rows {stream.score(X[-5000:]):.1f}")


if __name__ == "__main__":
    main()
