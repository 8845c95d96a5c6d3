"""Autoencoder stacks beside published figures and other models.

    python benchmarks/autoencoder.py [--data DIR] [--run NAME ...] [--write]

DIR holds the four gzipped idx files of MNIST, with or without the prefix ``mnist-``,
and ``tab_<name>.npz``. Settings were chosen on training images and rows, except those
of anomaly, which like the number of its principal components are the best of a few by
the figure shown. ``--write`` keeps the rows of other runs.

pca_30, deep_autoencoder, deep_random
    Squared error per test image (pixels in [0, 1]) of 30 numbers per image: principal
    components; 784-1000-500-250-30 trained layer by layer and then as a whole; the
    same network from a random start in as many passes over it.
svm_features
    Test error of a linear SVM on 10,000 training images: pixels, features.
mnist_basic
    Error in percent of 3 x 1000 units pre-trained and fine-tuned on 10,000 images, on
    50,000 others; settings were chosen on another 2,000 (all of a random permutation of
    the 70,000).
tables
    Gain in accuracy, in points, of logistic regression on [columns, code] over columns
    alone: mean and deviation over five folds.
anomaly
    Each digit in turn is left out of 10,000 training images; area under the ROC curve,
    in percent, for finding it among the test images, mean over the digits.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from common import (
    mean_and_spread,
    mnist_images,
    mnist_labels,
    one_hot,
    over_seeds,
    run_study,
    softmax_groups,
    table_rows,
    table_set,
    timed,
)
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from sklearn_greedy import (
    GreedyPretrainedMLPClassifier,
    StackedAutoencoderTransformer,
)

STUDY = "autoencoder"

DEEP = {
    "hidden_layer_sizes": (1000, 500, 250, 30),
    "activation": ["logistic", "logistic", "logistic", "identity"],
    "visible": "bernoulli",
    "corruption": None,
    "batch_size": 100,
    "max_iter": 5,
    "unrolled_max_iter": 70,
    "alpha": 3e-4,
}
# The last epochs, which take the noise of large steps out of the weights.
LAST = {"max_iter": 0, "unrolled_max_iter": 30, "learning_rate_init": 2e-4}
N_SVM = 10_000
SVM_GRID = (0.001, 0.003, 0.01, 0.03, 0.1)
SDAE = {
    "hidden_layer_sizes": (1000, 1000, 1000),
    "corruption": "masking",
    "corruption_level": 0.25,
    "max_iter": 20,
}
FINE_TUNING = {
    "solver": "sgd",
    "learning_rate_init": 0.05,
    "batch_size": 50,
    "max_iter": 40,
}
N_BASIC, N_BASIC_VALID = 10_000, 2_000
TABLES = ("adult", "churn", "magic", "letter", "satimage")
N_ANOMALY = 10_000
PCA_GRID = (5, 10, 20, 30, 50, 80, 120, 200)


def squared_error(images, rebuilt):
    return float(np.mean(np.sum((images - rebuilt) ** 2, axis=1)))


def pca_30(folder, seed):
    train, test = mnist_images(folder)
    pca = PCA(30, random_state=seed).fit(train)
    return {"test": squared_error(test, pca.inverse_transform(pca.transform(test)))}


def deep_autoencoder(folder, seed, **params):
    train, test = mnist_images(folder)
    stack = StackedAutoencoderTransformer(**{**DEEP, **params}, random_state=seed)
    start = time.perf_counter()
    stack.fit(train)
    stack.set_params(warm_start=True, **LAST).fit(train)
    minutes = (time.perf_counter() - start) / 60
    return {
        "test": squared_error(test, stack.reconstruct(test)),
        "train": squared_error(train[:10_000], stack.reconstruct(train[:10_000])),
        "minutes": minutes,
    }


def deep_random(folder, seed):
    # A pass over one layer and its decoder costs at most a pass over the whole network.
    epochs = DEEP["unrolled_max_iter"] + DEEP["max_iter"]
    return deep_autoencoder(folder, seed, max_iter=0, unrolled_max_iter=epochs)


def svm_features(folder, seed):
    (train, test), (y, y_test) = mnist_images(folder), mnist_labels(folder)
    order = np.random.default_rng(seed).permutation(len(y))
    rows, held = order[:N_SVM], order[N_SVM : 2 * N_SVM]
    stack = StackedAutoencoderTransformer((1000,), random_state=seed).fit(train[rows])

    def test_error(encode):
        H, H_held, H_test = encode(train[rows]), encode(train[held]), encode(test)
        svms = [LinearSVC(C=C, dual=False).fit(H, y[rows]) for C in SVM_GRID]
        best = max(svms, key=lambda svm: svm.score(H_held, y[held]))
        return 100 * (1 - best.score(H_test, y_test))

    return {"pixels": test_error(lambda X: X), "features": test_error(stack.transform)}


def mnist_basic(folder, seed):
    X, y = np.concatenate(mnist_images(folder)), np.concatenate(mnist_labels(folder))
    order = np.random.default_rng(seed).permutation(len(y))
    train, valid, test = np.split(order, [N_BASIC, N_BASIC + N_BASIC_VALID])
    clf = GreedyPretrainedMLPClassifier(
        pretrainer=StackedAutoencoderTransformer(**SDAE),
        **FINE_TUNING,
        random_state=seed,
    ).fit(X[train], y[train])
    parts = {"valid": valid, "test": test}
    return {
        name: 100 * (1 - clf.score(X[part], y[part])) for name, part in parts.items()
    }


def tables(folder, seed):
    gains = {}
    for name in TABLES:
        X, visible, y = encoded_table(folder, name)
        stack = StackedAutoencoderTransformer(
            (256,),
            visible=visible,
            corruption="swap",
            corruption_level=0.2,
            random_state=seed,
        )
        columns = StandardScaler()
        both = make_union(columns, make_pipeline(stack, StandardScaler()))
        gain = []
        for train, test in StratifiedKFold(5, shuffle=True, random_state=seed).split(
            X, y
        ):
            scores = [
                make_pipeline(features, LogisticRegression(max_iter=300))
                .fit(X[train], y[train])
                .score(X[test], y[test])
                for features in (columns, both)
            ]
            gain.append(100 * (scores[1] - scores[0]))
        gains[name] = float(np.mean(gain))
        gains[f"{name}, deviation over folds"] = float(np.std(gain, ddof=1))
    return gains


def encoded_table(folder, name):
    """(columns, visible units, labels); each category is a group of 0/1 columns."""
    numbers, codes, y = table_set(folder, name)
    n = numbers.shape[1]
    visible = [("gaussian", list(range(n)))]
    if codes is None:
        return numbers.astype(np.float32), visible, y
    columns, widths = one_hot(codes)
    visible += softmax_groups(n, widths)
    return np.hstack([numbers, columns]).astype(np.float32), visible, y


def anomaly(folder, seed):
    (train, test), (y, y_test) = mnist_images(folder), mnist_labels(folder)
    train, y = train[:N_ANOMALY], y[:N_ANOMALY]
    areas = {"autoencoder": [], "isolation forest": []}
    areas |= {f"PCA with {k} components": [] for k in PCA_GRID}
    for digit in range(10):
        rows, odd = train[y != digit], y_test == digit
        stack = StackedAutoencoderTransformer(
            (256, 10),
            activation=["relu", "identity"],
            unrolled_max_iter=20,
            random_state=seed,
        )
        scores = {
            "autoencoder": stack.fit(rows).score_samples(test),
            "isolation forest": IsolationForest(random_state=seed)
            .fit(rows)
            .score_samples(test),
        }
        for k in PCA_GRID:
            pca = PCA(k, random_state=seed).fit(rows)
            rebuilt = pca.inverse_transform(pca.transform(test))
            scores[f"PCA with {k} components"] = -np.sum((test - rebuilt) ** 2, axis=1)
        for name, score in scores.items():
            areas[name].append(100 * roc_auc_score(odd, -score))
    found = {name: float(np.mean(area)) for name, area in areas.items()}
    best = max((name for name in found if "PCA" in name), key=found.get)
    return {name: found[name] for name in ("autoencoder", "isolation forest", best)}


@dataclass(frozen=True)
class Run:
    """A row of the table; measure(folder, seed) gives named figures."""

    measure: Callable
    asked: str
    n_seeds: int = 1


RUNS = {
    "pca_30": Run(pca_30, "13.87"),
    "deep_autoencoder": Run(deep_autoencoder, "test at most 3.0 within 40 minutes"),
    "deep_random": Run(deep_random, "-"),
    "svm_features": Run(svm_features, "less than half", 3),
    "mnist_basic": Run(mnist_basic, "at most 2.9", 3),
    "tables": Run(tables, "gain on 4 of 5, no loss beyond the deviation"),
    "anomaly": Run(anomaly, "ahead of both", 3),
}


def row_of(name, options):
    """The record of one run over its seeds."""
    run = RUNS[name]

    def measure(seed):
        found, spent = timed(run.measure, options.data, seed)
        return [found], spent

    return over_seeds(name, range(run.n_seeds), measure, str)


def cells(name, run, row):
    """What a line of the table says of a run."""
    keys = dict.fromkeys(key for found in row["figures"] for key in found)
    shown = (f"{key} {mean_and_spread(row['figures'], key)}" for key in keys)
    return [name, run.asked, ", ".join(shown)]


def table(rows):
    """Markdown lines of all rows, in the order of RUNS."""
    return [
        "From `python benchmarks/autoencoder.py --write`; the head of the script says",
        "what the runs are. float32; mean and deviation over seeds.",
        "",
        "| run | asked | reached | seeds | seconds per seed | date and versions |",
        "|---|---|---|---|---|---|",
        *table_rows(RUNS, rows, cells),
    ]


if __name__ == "__main__":
    run_study(__doc__, STUDY, RUNS, row_of, table)
