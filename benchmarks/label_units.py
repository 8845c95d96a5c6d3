"""Classes of the bundled digits from label units in the top RBM.

    python benchmarks/label_units.py [--write]

By CD-1 and by PCD-1: StackedRBMClassifier with one RBM of 256 hidden units and
otherwise default parameters, five random splits, of which a quarter tests.

With few labels: 500 digits test, and of the others some have a label, on ten splits.
Two RBMs of 200 units with 3,000 mini-batches of 10 rows each, the lower one of the
labelled rows or of all; beside them one RBM, a network that is fine-tuned from the same
stack of all rows (with dropout and label smoothing, the best of six settings on four
other splits), and logistic regression.
"""

import warnings

import numpy as np
from common import options_of, publish, stamp, versions
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from sklearn_greedy import (
    GreedyPretrainedMLPClassifier,
    StackedRBMClassifier,
    StackedRBMTransformer,
)

SEEDS = range(5)
EPOCHS = 20, 100
FEW_SEEDS = range(10)
FEW = 50, 100, 300
N_TEST = 500
WIDTH, BATCH, N_BATCHES = 200, 10, 3000


def accuracy(X, y, seed, **params):
    """Share of right classes among the test rows of one split."""
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, stratify=y, random_state=seed
    )
    stack = StackedRBMTransformer((256,), **params)
    model = StackedRBMClassifier(stack, random_state=seed).fit(X_train, y_train)
    return model.score(X_test, y_test)


def by_training(X, y):
    """Lines of the table of CD-1 and PCD-1."""
    lines = [
        "| training | " + " | ".join(f"{n} epochs" for n in EPOCHS) + " |",
        "|---|---|---|",
    ]
    for name, persistent in (("CD-1", False), ("PCD-1", True)):
        cells = []
        for n in EPOCHS:
            right = [
                accuracy(X, y, seed, max_iter=n, persistent=persistent)
                for seed in SEEDS
            ]
            cells.append(f"{np.mean(right):.3f} ({min(right):.3f}-{max(right):.3f})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return lines


def stack(*n_rows):
    """An RBM for each number of rows, of which it sees the same number of batches."""
    return StackedRBMTransformer(
        (WIDTH,) * len(n_rows),
        learning_rate=0.05,
        batch_size=BATCH,
        max_iter=[N_BATCHES * BATCH // n for n in n_rows],
    )


def fitted(X, y, others, seed):
    """Models of labelled rows and, as their names say, of others, by name."""
    n, n_all = len(X), len(X) + len(others)
    alone = StackedRBMClassifier(stack(n, n), random_state=seed)
    beside = StackedRBMClassifier(stack(n_all, n), random_state=seed)
    network = GreedyPretrainedMLPClassifier(
        pretrainer=stack(n_all, n_all),
        dropout=0.3,
        label_smoothing=0.1,
        batch_size=20,
        max_iter=200,
        random_state=seed,
    )
    one = StackedRBMClassifier(stack(n), random_state=seed)
    return {
        "logistic regression": LogisticRegression(max_iter=1000).fit(X, y),
        "one RBM with label units": one.fit(X, y),
        "two RBMs, labelled rows alone": alone.fit(X, y),
        "two RBMs, the lower one of all rows": beside.fit(X, y, X_unlabeled=others),
        "network, pre-trained on all rows": network.fit(X, y, X_unlabeled=others),
    }


def with_few_labels(X, y):
    """Lines of the table of few labels."""
    right = {}
    for n in FEW:
        for seed in FEW_SEEDS:
            order = np.random.default_rng(seed).permutation(len(y))
            test, known, others = np.split(order, [N_TEST, N_TEST + n])
            for name, model in fitted(X[known], y[known], X[others], seed).items():
                score = model.score(X[test], y[test])
                right.setdefault(name, {}).setdefault(n, []).append(score)
    lines = [
        "| model | " + " | ".join(f"{n} labels" for n in FEW) + " |",
        "|---|---|---|---|",
    ]
    for name, scores in right.items():
        cells = [f"{np.mean(s):.3f} ± {np.std(s, ddof=1):.3f}" for s in scores.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return lines


def main():
    options = options_of(__doc__)
    warnings.simplefilter("ignore")  # chains that ran off, which the figures show
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    lines = [
        "Share of unseen digits that `StackedRBMClassifier` gets right, mean and least",
        f"and most of {len(SEEDS)} splits, from `python benchmarks/label_units.py "
        "--write`;",
        f"{stamp(versions())}; float32.",
        "",
        *by_training(X, y),
        "",
        f"With few labels, and {len(y) - N_TEST} digits in all to learn from, mean and",
        f"deviation of {len(FEW_SEEDS)} splits; each RBM has {WIDTH} units and some",
        f"{N_BATCHES} mini-batches, and the network begins with the same stack.",
        "",
        *with_few_labels(X, y),
    ]
    publish("label_units", lines, options.write)


if __name__ == "__main__":
    main()
