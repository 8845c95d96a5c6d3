"""Classes of the bundled digits from label units in the top RBM, by CD-1 and by PCD-1.

    python benchmarks/label_units.py [--write]

StackedRBMClassifier with one RBM of 256 hidden units and otherwise default parameters:
share of unseen digits that are right, on five random splits, of which a quarter tests.
"""

import warnings

import numpy as np
from common import options_of, publish, stamp, versions
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sklearn_greedy import StackedRBMClassifier, StackedRBMTransformer

SEEDS = range(5)
EPOCHS = 20, 100


def accuracy(X, y, seed, **params):
    """Share of right classes among the test rows of one split."""
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, stratify=y, random_state=seed
    )
    stack = StackedRBMTransformer((256,), **params)
    model = StackedRBMClassifier(stack, random_state=seed).fit(X_train, y_train)
    return model.score(X_test, y_test)


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
    publish("label_units", lines, options.write)


if __name__ == "__main__":
    main()
