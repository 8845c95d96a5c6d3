"""What ``memory`` saves in a search over stacks and fine-tuning.

    python benchmarks/search.py [--data DIR] [--write]

A grid of 24 points, 4 depths that share prefixes times 6 settings of the fine-tuning,
on 3 folds of 5,000 MNIST rows: without ``memory``, with an empty cache, and once more
with the full one, in one process. DIR holds the four gzipped idx files of MNIST.
"""

import tempfile
import time
import warnings

import numpy as np
from common import (
    mnist_images,
    mnist_labels,
    options_of,
    publish,
    stamp,
    versions,
)
from sklearn.model_selection import GridSearchCV

from sklearn_greedy import GreedyPretrainedMLPClassifier, StackedRBMTransformer

N_ROWS = 5000
WIDTHS = (500, 300, 200, 100)
GRID = {
    "pretrainer__hidden_layer_sizes": [WIDTHS[: n + 1] for n in range(len(WIDTHS))],
    "alpha": [1e-4, 1e-2, 1.0],
    "learning_rate_init": [0.01, 0.1],
}
KINDS = "without", "empty cache", "full cache"


def search(X, y, memory):
    """A finished search, its seconds, and those of pre-training in its fits."""
    stack = StackedRBMTransformer(max_iter=20, batch_size=100, memory=memory)
    clf = GreedyPretrainedMLPClassifier(
        pretrainer=stack, solver="sgd", batch_size=100, max_iter=10, random_state=0
    )
    seconds = []

    def score(fitted, X, y):
        seconds.append(fitted.phase_seconds_["pretraining"])
        return fitted.score(X, y)

    start = time.perf_counter()
    found = GridSearchCV(clf, GRID, cv=3, scoring=score, refit=False).fit(X, y)
    return found, time.perf_counter() - start, sum(seconds)


def main():
    options = options_of(__doc__)
    warnings.simplefilter("ignore")
    X, y = (
        mnist_images(options.data)[0][:N_ROWS],
        mnist_labels(options.data)[0][:N_ROWS],
    )
    search(X[:300], y[:300], None)  # compiles
    with tempfile.TemporaryDirectory() as folder:
        runs = [search(X, y, memory) for memory in (None, folder, folder)]
    scores = [found.cv_results_["mean_test_score"] for found, _, _ in runs]
    same = all(np.array_equal(scores[0], other) for other in scores)
    lines = [
        f"{stamp(versions())}; {N_ROWS:,} MNIST rows, RBM stacks {WIDTHS}, 20 epochs a",
        "layer, 10 epochs of fine-tuning, 24 points, 3 folds; from",
        "`python benchmarks/search.py --write`. The scores of all three searches are "
        f"{'the same to the bit' if same else 'DIFFERENT'}.",
        "",
        "| memory | seconds | times sooner | share of pre-training |",
        "|---|---|---|---|",
    ]
    for kind, (_, seconds, pretraining) in zip(KINDS, runs, strict=True):
        sooner, share = runs[0][1] / seconds, pretraining / seconds
        lines.append(f"| {kind} | {seconds:.1f} | {sooner:.1f} | {share:.1%} |")
    publish("search", lines, options.write)


if __name__ == "__main__":
    main()
