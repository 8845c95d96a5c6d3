"""First fits of all four estimators: compiling, and with kernels from the cache.

    python benchmarks/startup.py [--repeats 3] [--against CHECKOUT] [--write]

A line is the seconds that they take longer in a new process than once more in the same
one, with an empty cache and with the one that this filled. Seconds of compiling differ
by half from machine to machine and from hour to hour. CHECKOUT is a folder with another
version, named after it, which takes turns with this one.
"""

import os
import pathlib
import platform
import subprocess
import sys
import tempfile

import numba
import numpy as np
from common import ROOT, options_of, publish, stamp, versions

FITS = """
import time, warnings
import numpy as np
import sklearn.neural_network
import sklearn_greedy as sg
warnings.simplefilter("ignore")
X = np.random.default_rng(0).random((200, 20), dtype=np.float32)
y = np.arange(200) % 3
def fit_all():
    start = time.perf_counter()
    sg.StackedRBMTransformer((8,), max_iter=2).fit(X)
    sg.StackedAutoencoderTransformer((8,), max_iter=2).fit(X)
    sg.GreedyPretrainedMLPClassifier((8,), max_iter=2).fit(X, y)
    sg.GreedyPretrainedMLPRegressor((8,), max_iter=2).fit(X, y)
    return time.perf_counter() - start
first = fit_all()
print(first - fit_all())
"""
# Label, seconds asked for.
CACHES = [
    ("in a fresh environment (compiling)", 15),
    ("in a new process (from the cache)", 0.5),
]


def seconds_of(checkout, cache):
    """Seconds that the first fits of a version cost more than the second ones."""
    out = subprocess.run(
        [sys.executable, "-c", FITS],
        cwd=checkout,  # from where Python imports first
        env={**os.environ, "NUMBA_CACHE_DIR": cache},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(out.stdout)


def processor():
    """Its name, where the system tells."""
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.machine()


def figures(checkouts, repeats):
    """Seconds, (versions, repeats, empty and filled cache)."""
    seconds = np.empty((len(checkouts), repeats, len(CACHES)))
    for r in range(repeats):
        for v, checkout in enumerate(checkouts):
            with tempfile.TemporaryDirectory() as cache:
                seconds[v, r] = [seconds_of(checkout, cache) for _ in CACHES]
            print(checkout, seconds[v, r], flush=True)
    return seconds


def main():
    options = options_of(
        __doc__,
        ("--repeats", {"type": int, "default": 3}),
        ("--against", {"type": pathlib.Path, "help": "another version"}),
    )
    checkouts = [ROOT] if options.against is None else [ROOT, options.against]
    seconds = figures(checkouts, options.repeats)
    other, command = "another version", "python benchmarks/startup.py --write"
    if options.against is not None:
        other, command = options.against.name, f"{command} --against CHECKOUT"
    lines = [
        f"{stamp(versions())}, numba {numba.__version__}; {processor()}; medians of "
        f"{options.repeats}; from `{command}`.",
        "",
        "| first fits of all four estimators | seconds (range) | asked "
        f"| beside {other} |",
        "|---|---|---|---|",
    ]
    for c, (label, asked) in enumerate(CACHES):
        own = seconds[0, :, c]
        share = "-"
        if len(checkouts) > 1:
            before = np.median(seconds[1, :, c])
            share = f"{np.median(own) / before:.0%} of its {before:.2f}"
        spread = f"{np.median(own):.2f} ({own.min():.2f}-{own.max():.2f})"
        lines.append(f"| {label} | {spread} | {asked} | {share} |")
    publish("startup", lines, options.write)


if __name__ == "__main__":
    main()
