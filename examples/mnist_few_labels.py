"""
MNIST with few labels
=====================

``python examples/mnist_few_labels.py [DIR] [--seed 0]``

Pre-trains on all 60,000 images without labels, then learns from 100, 1000, 3000 and
all 60,000 labels. DIR holds the four gzipped idx files of MNIST; without it they are
fetched by :func:`sklearn.datasets.fetch_openml`. It prints the test error of

- logistic regression on raw pixels,
- logistic regression on the features of an RBM with 500 hidden units (15 epochs),
- the network 784-500-500-2000-10, pre-trained as a stack of RBMs and fine-tuned.

About 15 minutes on two cores; ``--skip-network`` leaves out the network (3 minutes).
"""

import argparse
import gzip
import pathlib
import time
import warnings

import numpy as np
from sklearn.datasets import fetch_openml
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from sklearn_greedy import GreedyPretrainedMLPClassifier, StackedRBMTransformer

FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
# Number of labels, and of random, class-balanced draws of that many.
LABEL_COUNTS = ((100, 10), (1000, 5), (3000, 3), (60000, 1))


def read_idx(path):
    """Array of an idx file of unsigned bytes; images as rows."""
    raw = gzip.decompress(path.read_bytes())
    n_dims = raw[3]
    shape = np.frombuffer(raw, ">i4", n_dims, offset=4)
    data = np.frombuffer(raw, np.uint8, offset=4 + 4 * n_dims)
    return data.reshape(shape[0], -1).squeeze()


def find(folder, name):
    """Path of a file in folder, with or without the prefix ``mnist-``."""
    for candidate in (folder / name, folder / f"mnist-{name}"):
        if candidate.exists():
            return candidate
    raise SystemExit(f"{folder} holds neither {name} nor mnist-{name}")


def load_mnist(folder):
    """Training and test images in [0, 1] as float32, with their labels."""
    if folder is None:
        X, y = fetch_openml("mnist_784", return_X_y=True, as_frame=False)
        X, y = X.astype(np.float32) / 255, y.astype(int)
        return X[:60000], y[:60000], X[60000:], y[60000:]
    X, y, X_test, y_test = (read_idx(find(folder, name)) for name in FILES)
    return X.astype(np.float32) / 255, y, X_test.astype(np.float32) / 255, y_test


def balanced_draws(y, n_labels, n_draws, seed):
    """Row numbers of ``n_labels`` rows, as many of each class, ``n_draws`` times; all
    rows where that many labels are asked for.
    """
    rng = np.random.default_rng(seed)
    for _ in range(n_draws):
        if n_labels == len(y):
            yield np.arange(len(y))
            continue
        yield np.concatenate(
            [
                rng.choice(np.flatnonzero(y == c), n_labels // 10, replace=False)
                for c in range(10)
            ]
        )


def errors_by_labels(new_model, train, y, test, y_test, seed):
    """Test error in percent, mean and deviation over the draws, per label count."""
    errors = {}
    for n_labels, n_draws in LABEL_COUNTS:
        scores = [
            new_model(n_labels).fit(train[rows], y[rows]).score(test, y_test)
            for rows in balanced_draws(y, n_labels, n_draws, seed)
        ]
        errors[n_labels] = 100 * (1 - np.mean(scores)), 100 * np.std(scores)
    return errors


def linear_model(n_labels):
    return LogisticRegression(max_iter=200, tol=1e-3)


def show(name, errors):
    cells = "".join(
        f"{n:>8d}: {mean:5.2f} +- {deviation:4.2f}"
        for n, (mean, deviation) in errors.items()
    )
    print(f"{name:28s}{cells}", flush=True)


def pretrained_stack(X, seed):
    """784-500-500-2000, trained without labels."""
    return StackedRBMTransformer(
        (500, 500, 2000),
        learning_rate=0.1,
        alpha=2e-4,
        batch_size=100,
        max_iter=(20, 12, 12),
        random_state=seed,
    ).fit(X)


def network_on(stack, seed):
    """Function that gives an unfitted network on the pre-trained stack."""

    def new_network(n_labels):
        return GreedyPretrainedMLPClassifier(
            pretrainer=FrozenEstimator(stack),
            solver="sgd",
            learning_rate_init=0.1,
            batch_size=100,
            max_iter=30 if n_labels == 60000 else 50,
            tol=0.0,
            n_iter_no_change=np.inf,
            random_state=seed,
        )

    return new_network


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", nargs="?", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--skip-network", action="store_true")
    options = parser.parse_args()
    # The linear models and the networks stop at their epoch budget, as meant.
    warnings.simplefilter("ignore", ConvergenceWarning)
    X, y, X_test, y_test = load_mnist(options.folder)
    seed = options.seed

    print("test error in percent, by number of labels")
    show("raw pixels", errors_by_labels(linear_model, X, y, X_test, y_test, seed))

    start = time.perf_counter()
    rbm = StackedRBMTransformer(
        (500,), learning_rate=0.1, batch_size=50, max_iter=15, random_state=seed
    )
    features, test_features = rbm.fit_transform(X), rbm.transform(X_test)
    print(f"  (RBM trained in {time.perf_counter() - start:.0f} s)")
    show(
        "RBM(500) features",
        errors_by_labels(linear_model, features, y, test_features, y_test, seed),
    )
    if options.skip_network:
        return

    start = time.perf_counter()
    stack = pretrained_stack(X, seed)
    print(f"  (stack pre-trained in {time.perf_counter() - start:.0f} s)", flush=True)
    start = time.perf_counter()
    network = network_on(stack, seed)
    show("784-500-500-2000-10", errors_by_labels(network, X, y, X_test, y_test, seed))
    print(f"  (fine-tuned in {time.perf_counter() - start:.0f} s)")


if __name__ == "__main__":
    main()
