"""The threads that share products, on an idle and on a busy machine.

    python benchmarks/threads.py [--repeats 7] [--write]

Products of a mini-batch that are large are cut into parts, and as many threads as BLAS
may have share them where that was faster lately. Each line is the same fit with one
thread, by this rule, and always shared, in one process, warm and by turns:
first with nothing else to do, then beside a process that keeps one core busy. Asked:
the rule is never slower than one thread by more than 10 %, and faster where products
are large. All three give the same bits, which is checked. Run it on an idle machine,
with OPENBLAS_NUM_THREADS unset.
"""

import os
import subprocess
import sys
import warnings
from contextlib import contextmanager, nullcontext
from functools import cache

import numpy as np
from common import options_of, publish, stamp, versions
from speed import interleaved
from threadpoolctl import ThreadpoolController, threadpool_info

from sklearn_greedy import (
    GreedyPretrainedMLPClassifier,
    StackedRBMTransformer,
    _kernels,
    _threads,
)

# n_visible, n_hidden, batch size, rows: products on both sides of the limit
RBM_CASES = [
    (64, 256, 100, 5000),
    (784, 500, 10, 1000),
    (784, 500, 20, 2000),
    (784, 500, 25, 2500),
    (784, 500, 100, 5000),
    (784, 500, 400, 10000),
    (2000, 2000, 100, 1000),
]
# Seconds before each fit: the threads of BLAS look for work for a while after the last.
REST = 0.2
# layer widths, batch size, rows
MLP_CASES = [((54, 100, 7), 200, 20000), ((784, 500, 10), 200, 10000)]


@contextmanager
def always_helped():
    """Share large products whether that was faster or not."""
    rule, _threads.Pace.helpers_pay = _threads.Pace.helpers_pay, lambda self: True
    try:
        yield
    finally:
        _threads.Pace.helpers_pay = rule


@cache
def controller():
    """BLAS libraries, which take milliseconds to find."""
    return ThreadpoolController()


SETTINGS = {
    "one": lambda: controller().limit(limits=1),
    "rule": nullcontext,
    "always": always_helped,
}


# Ends when this process is gone, however it went.
BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"


@contextmanager
def busy_core():
    """A second process that never rests."""
    process = subprocess.Popen([sys.executable, "-c", BUSY])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def fits():
    """Name, largest product over the least that is shared, and function of each fit."""
    rng = np.random.default_rng(0)
    for n_visible, n_hidden, batch_size, n_rows in RBM_CASES:
        X = (rng.random((n_rows, n_visible)) < 0.3).astype(np.float32)
        rbm = StackedRBMTransformer(
            (n_hidden,), batch_size=batch_size, max_iter=2, random_state=0
        )
        size = 2 * n_visible * n_hidden * batch_size / _kernels.SHARED
        name = f"CD-1 {n_visible}-{n_hidden}, batch {batch_size}"
        yield name, size, lambda rbm=rbm, X=X: rbm.fit(X)
    for widths, batch_size, n_rows in MLP_CASES:
        X = rng.random((n_rows, widths[0]), dtype=np.float32)
        y = rng.integers(0, widths[-1], n_rows)
        clf = GreedyPretrainedMLPClassifier(
            widths[1:-1],
            pretrainer=None,
            batch_size=batch_size,
            max_iter=2,
            random_state=0,
        )
        size = widths[0] * widths[1] * batch_size / _kernels.SHARED
        name = f"Adam {'-'.join(map(str, widths))}, batch {batch_size}"
        yield name, size, lambda clf=clf, X=X, y=y: clf.fit(X, y)


def under(setting, fit):
    """The fit as a function without arguments that runs under a setting."""

    def run():
        with SETTINGS[setting]():
            return fit().coefs_

    return run


def time_of(seconds, setting):
    """Time over that with one thread, with quartiles."""
    ratio = seconds[setting] / seconds["one"]
    low, high = np.quantile(ratio, [0.25, 0.75])
    return f"{np.median(ratio):.2f} ({low:.2f}-{high:.2f})"


def lines_of(machine, repeats):
    """The table of a machine in some state."""
    lines = [
        f"| {machine} | largest product over the least shared | seconds, one thread "
        "| by the rule | always shared |",
        "|---|---|---|---|---|",
    ]
    for name, size, fit in fits():
        contenders = {setting: under(setting, fit) for setting in SETTINGS}
        one, *others = (run() for run in contenders.values())
        for other in others:
            assert all(map(np.array_equal, one, other))
        seconds = interleaved(contenders, repeats, REST)
        lines.append(
            f"| {name} | {size:.2f} | {np.median(seconds['one']):.2f} "
            f"| {time_of(seconds, 'rule')} | {time_of(seconds, 'always')} |"
        )
        print(lines[-1], flush=True)
    return lines


def main():
    options = options_of(__doc__, ("--repeats", {"type": int, "default": 7}))
    warnings.simplefilter("ignore")
    n_threads = max(library["num_threads"] for library in threadpool_info())
    if n_threads < 2:
        raise SystemExit("BLAS has one thread here: unset OPENBLAS_NUM_THREADS")
    lines = [
        f"{stamp(versions())}; float32, {n_threads} BLAS threads of {os.cpu_count()} "
        "cores; from",
        "`python benchmarks/threads.py --write`. Time over that with one thread:",
        "median and quartiles. Asked of the rule: at most 1.10, and below 1 where",
        "products are large.",
        "",
        *lines_of("idle machine", options.repeats),
        "",
    ]
    with busy_core():
        lines += lines_of("one core busy", options.repeats)
    publish("threads", lines, options.write)


if __name__ == "__main__":
    main()
