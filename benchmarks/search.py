"""What a search saves: by ``memory``, and by a second process.

    python benchmarks/search.py [--run NAME ...] [--data DIR] [--write]

memory: a grid of 24 points, 4 depths that share prefixes times 6 settings of the
fine-tuning, on 3 folds of 5,000 MNIST rows: without ``memory``, with an empty cache,
and once more with the full one, in one process. The layers are trained for 20 epochs,
the default; memory_50 is the same with the 50 epochs that Hinton and Salakhutdinov
(Science 2006) gave each layer.

jobs: GridSearchCV of 24 fits of about 2 seconds with n_jobs=1 and n_jobs=2 (loky), one
BLAS thread each, and beside it what a second process gains for work that needs neither
memory nor this package: a loop in pure Python, and products of matrices that fit into
the cache of a core. Where two cores are two threads of one, these say what can be
reached. All by turns, workers started and kernels loaded before.

DIR holds the four gzipped idx files of MNIST.
"""

import tempfile
from functools import partial

import joblib
import numpy as np
from common import mnist_images, mnist_labels, run_parts, stamp, timed
from sklearn.model_selection import GridSearchCV
from threadpoolctl import threadpool_limits

from sklearn_greedy import GreedyPretrainedMLPClassifier, StackedRBMTransformer

N_ROWS = 5000
WIDTHS = (500, 300, 200, 100)
GRID = {
    "pretrainer__hidden_layer_sizes": [WIDTHS[: n + 1] for n in range(len(WIDTHS))],
    "alpha": [1e-4, 1e-2, 1.0],
    "learning_rate_init": [0.01, 0.1],
}
FINE_TUNING_EPOCHS = 10
KINDS = "without", "empty cache", "full cache"
# Of the study of two processes.
ALPHAS = [i * 1e-4 for i in range(8)]
SECONDS_PER_FIT = 2.0
N_TASKS, ROUNDS = 8, 3


# --- memory --------------------------------------------------------------------


def search(X, y, epochs, memory):
    """A finished search, its seconds, and those of pre-training in its fits."""
    stack = StackedRBMTransformer(max_iter=epochs, batch_size=100, memory=memory)
    clf = GreedyPretrainedMLPClassifier(
        pretrainer=stack,
        solver="sgd",
        batch_size=100,
        max_iter=FINE_TUNING_EPOCHS,
        random_state=0,
    )
    pretraining = []

    def score(fitted, X, y):
        pretraining.append(fitted.phase_seconds_["pretraining"])
        return fitted.score(X, y)

    searched = GridSearchCV(clf, GRID, cv=3, scoring=score, refit=False)
    found, seconds = timed(searched.fit, X, y)
    return found, seconds, sum(pretraining)


def memory_figures(options, epochs):
    X = mnist_images(options.data)[0][:N_ROWS]
    y = mnist_labels(options.data)[0][:N_ROWS]
    search(X[:300], y[:300], 1, None)  # compiles
    with tempfile.TemporaryDirectory() as folder:
        runs = [search(X, y, epochs, memory) for memory in (None, folder, folder)]
    scores = [found.cv_results_["mean_test_score"] for found, _, _ in runs]
    return {
        "epochs": epochs,
        "same": all(np.array_equal(scores[0], other) for other in scores),
        "seconds": [seconds for _, seconds, _ in runs],
        "pretraining": [seconds for _, _, seconds in runs],
    }


def memory_table(row):
    same = "the same to the bit" if row["same"] else "DIFFERENT"
    lines = [
        f"{stamp(row)}; {N_ROWS:,} MNIST rows, RBM stacks {WIDTHS}, {row['epochs']} "
        f"epochs a layer, {FINE_TUNING_EPOCHS} epochs of fine-tuning, 24 points, "
        "3 folds; from `python benchmarks/search.py --write`. "
        f"The scores of all three searches are {same}.",
        "",
        "| memory | seconds | times sooner | share of pre-training |",
        "|---|---|---|---|",
    ]
    for kind, seconds, pretraining in zip(
        KINDS, row["seconds"], row["pretraining"], strict=True
    ):
        sooner, share = row["seconds"][0] / seconds, pretraining / seconds
        lines.append(f"| {kind} | {seconds:.1f} | {sooner:.1f} | {share:.1%} |")
    return lines


# --- jobs ----------------------------------------------------------------------


def python_loop(n_steps):
    total = 0
    for step in range(n_steps):
        total += step & 7
    return total


def matrix_products(n_steps):
    a = np.ones((128, 128), np.float32)
    out = np.empty_like(a)
    with threadpool_limits(1):
        for _ in range(n_steps):
            np.dot(a, a, out)


def about(seconds, function, n_steps):
    """Number of steps after which the function has taken about so many seconds."""
    return round(n_steps * seconds / timed(function, n_steps)[1])


def tasks_with(n_jobs, function, n_steps):
    """Seconds of some calls of a function."""
    calls = [joblib.delayed(function)(n_steps) for _ in range(N_TASKS)]
    return timed(joblib.Parallel(n_jobs), calls)[1]


def last_loss(fitted, X, y=None):
    """A score that costs nothing: the likelihood of a row takes longer than its fit."""
    return -fitted.loss_curves_[0][-1]


def fits_with(n_jobs, X, max_iter):
    """Seconds of a search of 24 fits."""
    stack = StackedRBMTransformer(
        (128,), batch_size=50, max_iter=max_iter, random_state=0
    )
    options = {"cv": 3, "scoring": last_loss, "refit": False}
    searched = GridSearchCV(stack, {"alpha": ALPHAS}, n_jobs=n_jobs, **options)
    return timed(searched.fit, X)[1]


def jobs_figures(options):
    X = mnist_images(options.data)[0][:N_ROWS]
    fits_with(1, X[:300], 1)
    fits_with(2, X[:300], 1)
    with threadpool_limits(1):
        n_fits = 3 * len(ALPHAS)
        epochs = about(n_fits * SECONDS_PER_FIT, lambda n: fits_with(1, X, n), 2)
        n_steps = about(1.0, python_loop, 10**7)
        n_products = about(1.0, matrix_products, 10**4)
        contenders = {
            "24 fits of an RBM": lambda n_jobs: fits_with(n_jobs, X, epochs),
            "a loop in Python": lambda n_jobs: tasks_with(n_jobs, python_loop, n_steps),
            "matrix products": lambda n_jobs: tasks_with(
                n_jobs, matrix_products, n_products
            ),
        }
        seconds = {name: [] for name in contenders}
        for _ in range(ROUNDS):
            for name, run in contenders.items():
                seconds[name].append([run(1), run(2)])
    return {"seconds": seconds, "n_cores": joblib.cpu_count()}


def jobs_table(row):
    lines = [
        f"{stamp(row)}; {row['n_cores']} cores, one BLAS thread, "
        f"median of {ROUNDS} rounds; from",
        "`python benchmarks/search.py --run jobs --write`. Asked of the fits: 1.7",
        "times sooner with n_jobs=2; the other rows are what two processes can gain.",
        "",
        "| work | seconds, n_jobs=1 | n_jobs=2 | times sooner (least and most) |",
        "|---|---|---|---|",
    ]
    for name, rounds in row["seconds"].items():
        one, two = np.transpose(rounds)
        sooner = one / two
        lines.append(
            f"| {name} | {np.median(one):.1f} | {np.median(two):.1f} "
            f"| {np.median(sooner):.2f} ({sooner.min():.2f}-{sooner.max():.2f}) |"
        )
    return lines


PARTS = {
    "memory": (partial(memory_figures, epochs=20), memory_table),
    "memory_50": (partial(memory_figures, epochs=50), memory_table),
    "jobs": (jobs_figures, jobs_table),
}


if __name__ == "__main__":
    run_parts(__doc__, "search", PARTS)
