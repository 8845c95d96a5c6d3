"""Layer by layer against all layers at once: what textbooks say, measured on MNIST.

    python benchmarks/greedy_or_at_once.py [--data DIR] [--run CLAIM ...] [--seeds N]
                                           [--write]

DIR holds the four gzipped idx files of MNIST. The first 10,000 training images train,
the last 5,000 choose epochs, the 10,000 test images test. Layers have 200 units.

gradients : norm of the gradient of each layer at the start, in powers of ten. depth :
test error by number of layers. labels : test error by number of labels, of three layers
pre-trained on all 10,000 images. time : seconds until the error on the rows to choose
by is 5 or 4 percent. gap : errors and losses of the networks of labels on training and
test rows. tuning : the same networks, and others whose hidden layers stay as they are.
schedule : the same with stacks whose layers were all trained at once. cost : seconds of
pre-training and of fine-tuning by number of rows, all of them with a label.

Both sides always have the same settings, those of the depth study of networks.py
without its label smoothing, or Adam as in MLPClassifier. They were set before any test
error was seen; that logistic units are trained by Adam too was added when six layers of
them had failed by SGD. An output layer alone takes the steps by which the training loss
of one seed came closest to its least value. depth, time and cost keep the epoch with
the least error on the rows to choose by; the networks of labels make 2,000 updates,
whatever the number of labels, and keep the last. Claims that are run together share
their networks.
"""

import functools
from dataclasses import dataclass, replace

import numpy as np
from common import mean_and_spread, over_seeds, run_study, seeds_option, stamp, timed
from networks import DEPTH, SGD, STACK, drawn_rows, error, images, recipe
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss

from sklearn_greedy import (
    GreedyPretrainedMLPClassifier,
    StackedAutoencoderTransformer,
    StackedRBMTransformer,
)

STUDY = "greedy_or_at_once"

N_TRAIN, N_CHOOSE = 10_000, 5_000
WIDTH = 200
DEPTHS = 2, 4, 6
DEEPEST = max(DEPTHS)
N_LABELS = 100, 1000, N_TRAIN
N_ROWS = 2000, N_TRAIN, 50_000  # of cost
N_UPDATES = 2000
PRETRAINING_EPOCHS = 10
TARGETS = 5, 4  # percent of error, of time
N_GRADIENT_ROWS = 1000

RANDOM, GREEDY, AT_ONCE = "random", "layer by layer", "stack at once"
SCHEDULES = {GREEDY: "layerwise", AT_ONCE: "simultaneous"}


@dataclass(frozen=True)
class Network:
    """Units, and where the optimiser is not that of DEPTH."""

    activation: str
    optimiser: dict


RBMS = StackedRBMTransformer(max_iter=PRETRAINING_EPOCHS, **STACK)
AUTOENCODERS = StackedAutoencoderTransformer(
    max_iter=PRETRAINING_EPOCHS, batch_size=STACK["batch_size"]
)
PRETRAINERS = {"logistic": RBMS, "relu": AUTOENCODERS}
ADAM = {"solver": "adam", "learning_rate_init": 1e-3}
HEAD = {"solver": "adam", "learning_rate_init": 1e-2}  # an output layer alone
NETWORKS = {
    "logistic, SGD": Network("logistic", {}),
    "logistic, Adam": Network("logistic", ADAM),
    "relu, Adam": Network("relu", ADAM),
}
TWO_NETWORKS = "logistic, SGD", "relu, Adam"


@dataclass(frozen=True)
class Case:
    """A network and how it is trained; n_labels : of the rows, or None for all of them
    and the epoch that the rows to choose by prefer.
    """

    network: str
    start: str
    layers: int = 3
    n_rows: int = N_TRAIN
    n_labels: int | None = None
    frozen: bool = False


@functools.cache
def stack_of(folder, units, start, layers, n_rows, seed):
    """(fitted stack, its seconds)"""
    stack = clone(PRETRAINERS[units]).set_params(
        hidden_layer_sizes=(WIDTH,) * layers,
        schedule=SCHEDULES[start],
        random_state=seed,
    )
    return timed(stack.fit, images(folder)[0][:n_rows])


def started(folder, case, seed, **params):
    """(a network that begins as the case says, seconds of its stack)"""
    network = NETWORKS[case.network]
    pretrainer, seconds = None, 0.0
    if case.start != RANDOM:
        stack, seconds = stack_of(
            folder, network.activation, case.start, case.layers, case.n_rows, seed
        )
        pretrainer = FrozenEstimator(stack)
    found = GreedyPretrainedMLPClassifier(
        (WIDTH,) * case.layers,
        pretrainer=pretrainer,
        activation=network.activation,
        n_frozen_layers=case.layers if case.frozen else 0,
        random_state=seed,
        **params,
    )
    return found, seconds


@functools.cache
def measured(folder, case, seed):
    """Errors, losses and seconds of a case."""
    X, y, X_test, y_test = images(folder)
    choose = {"X_val": X[-N_CHOOSE:], "y_val": y[-N_CHOOSE:]}
    X, y = X[: case.n_rows], y[: case.n_rows]
    params = DEPTH
    if case.n_labels is not None:
        batches = max(1, case.n_labels // SGD["batch_size"])
        params, choose = {**SGD, "max_iter": N_UPDATES // batches}, {}
        if case.n_labels < case.n_rows:
            rows = drawn_rows(y, case.n_labels, np.random.default_rng(seed))
            X, y = X[rows], y[rows]
    params = {**params, **NETWORKS[case.network].optimiser}
    if case.frozen:
        params |= HEAD
    network, pretraining = started(folder, case, seed, **params)
    _, fine_tuning = timed(network.fit, X, y, **choose)
    return {
        "train error": error(network, X, y),
        "test error": error(network, X_test, y_test),
        "train loss": log_loss(y, network.predict_proba(X)),
        "test loss": log_loss(y_test, network.predict_proba(X_test)),
        "pretraining": pretraining,
        "fine_tuning": fine_tuning,
        "epoch": fine_tuning / network.n_iter_,
        "errors": [100 * (1 - score) for score in network.validation_scores_ or []],
    }


def gradient_norms(network, X, y):
    """Norm of the gradient of the mean cross-entropy by the weights of each layer."""
    outputs = [X.astype(float)]
    for coef, intercept in zip(network.coefs_, network.intercepts_, strict=True):
        outputs.append(outputs[-1] @ coef + intercept)
        if len(outputs) <= len(network.coefs_):
            relu = network.activation == "relu"
            outputs[-1] = (
                np.maximum(outputs[-1], 0) if relu else 1 / (1 + np.exp(-outputs[-1]))
            )
    exponentials = np.exp(outputs[-1] - outputs[-1].max(axis=1, keepdims=True))
    delta = exponentials / exponentials.sum(axis=1, keepdims=True)
    delta[np.arange(len(y)), y] -= 1
    norms = []
    for coef, below in zip(network.coefs_[::-1], outputs[-2::-1], strict=True):
        norms.append(np.linalg.norm(below.T @ delta) / len(y))
        slope = below > 0 if network.activation == "relu" else below * (1 - below)
        delta = (delta @ coef.T) * slope
    return norms[::-1]


def gradients(folder, seed):
    """One line for each kind of unit and start."""
    X, y = (part[:N_GRADIENT_ROWS] for part in images(folder)[:2])
    for name in TWO_NETWORKS:
        for start in (RANDOM, GREEDY):
            case = Case(name, start, DEEPEST)
            # A step of no size: the network as it starts.
            still = {"solver": "sgd", "learning_rate_init": 1e-12, "max_iter": 1}
            network, _ = started(folder, case, seed, **still)
            norms = np.log10(gradient_norms(network.fit(X, y), X, y))
            layers = [*(f"layer {n + 1}" for n in range(DEEPEST)), "output"]
            units = NETWORKS[name].activation
            yield {
                "units": units,
                "start": start,
                **dict(zip(layers, norms, strict=True)),
            }


def depth(folder, seed):
    """Test errors by number of layers, of each network and start."""
    for name in NETWORKS:
        for start in (RANDOM, GREEDY):
            cases = {f"{n} layers": Case(name, start, n) for n in DEPTHS}
            yield {
                "network": name,
                "start": start,
                **test_errors(folder, cases, seed),
            }


def test_errors(folder, cases, seed):
    """Of cases by name."""
    return {
        name: measured(folder, case, seed)["test error"] for name, case in cases.items()
    }


def by_labels(case, numbers=N_LABELS):
    """The case with other numbers of labels."""
    return {f"{n:,} labels": replace(case, n_labels=n) for n in numbers}


def labels(folder, seed):
    """Test errors by number of labels, of two networks and starts."""
    for name in TWO_NETWORKS:
        for start in (RANDOM, GREEDY):
            cases = by_labels(Case(name, start))
            yield {
                "network": name,
                "start": start,
                **test_errors(folder, cases, seed),
            }


def time_to_error(folder, seed):
    """Seconds and epochs until each target is reached, where it is."""
    for name in NETWORKS:
        for layers in (min(DEPTHS), DEEPEST):
            for start in (RANDOM, GREEDY):
                found = measured(folder, Case(name, start, layers), seed)
                line = {
                    "network": name,
                    "layers": str(layers),
                    "start": start,
                    "seconds of pre-training": found["pretraining"],
                }
                for target in TARGETS:
                    below = np.flatnonzero(np.array(found["errors"]) <= target)
                    if len(below):
                        n = int(below[0]) + 1
                        seconds = found["pretraining"] + n * found["epoch"]
                        line |= {
                            f"epochs to {target} %": n,
                            f"seconds in all to {target} %": seconds,
                        }
                yield line


def gap(folder, seed):
    """Errors and losses on training and on test rows."""
    shown = "train error", "test error", "train loss", "test loss"
    for name in TWO_NETWORKS:
        for start in (RANDOM, GREEDY):
            for n, case in by_labels(Case(name, start)).items():
                found = measured(folder, case, seed)
                yield {
                    "network": name,
                    "labels": n,
                    "start": start,
                    **{key: found[key] for key in shown},
                    "gap of the error": found["test error"] - found["train error"],
                }


def tuning(folder, seed):
    """Test errors with and without training of the hidden layers."""
    for name in TWO_NETWORKS:
        for start in (RANDOM, GREEDY):
            yield from frozen_and_not(folder, Case(name, start), N_LABELS, seed)


def schedule(folder, seed):
    """The same, by the schedule of the stack."""
    for name in TWO_NETWORKS:
        for start in SCHEDULES:
            yield from frozen_and_not(folder, Case(name, start), N_LABELS[1:], seed)


def frozen_and_not(folder, case, numbers, seed):
    """Two lines: the output layer alone is trained, and all layers are."""
    for frozen in (True, False):
        cases = by_labels(replace(case, frozen=frozen), numbers)
        yield {
            "network": case.network,
            "start": case.start,
            "trained": "output layer" if frozen else "all layers",
            **test_errors(folder, cases, seed),
        }


def cost(folder, seed):
    """Seconds of both phases and what pre-training gains, by number of rows."""
    for name in TWO_NETWORKS:
        for n in N_ROWS:
            ours, theirs = (
                measured(folder, Case(name, start, n_rows=n), seed)
                for start in (GREEDY, RANDOM)
            )
            both = ours["pretraining"] + ours["fine_tuning"]
            epoch = ours["pretraining"] / PRETRAINING_EPOCHS / ours["epoch"]
            yield {
                "network": name,
                "rows": f"{n:,}",
                "share of pre-training, %": 100 * ours["pretraining"] / both,
                "its epoch, in epochs of fine-tuning": epoch,
                "times as long as at random": both / theirs["fine_tuning"],
                "test error, random": theirs["test error"],
                "test error, layer by layer": ours["test error"],
            }


@dataclass(frozen=True)
class Run:
    """A claim: the figures of one seed, and what its table shows."""

    figures: object
    shown: str


RUNS = {
    "gradients": Run(
        gradients,
        f"Norm of the gradient by the weights of each layer, in powers of ten; "
        f"{DEEPEST} layers, {N_GRADIENT_ROWS:,} rows, before the first update.",
    ),
    "depth": Run(depth, "Test error in percent."),
    "labels": Run(labels, f"Test error in percent, three layers, {N_UPDATES:,} steps."),
    "time": Run(
        time_to_error,
        "Seconds, on a busy machine, and epochs until the error is reached.",
    ),
    "gap": Run(gap, f"Errors in percent, losses in nats; {N_UPDATES:,} steps."),
    "tuning": Run(tuning, "Test error in percent, three layers."),
    "schedule": Run(schedule, "Test error in percent, three layers."),
    "cost": Run(cost, "Three layers; the seconds are those of a busy machine."),
}


def row_of(name, options):
    """The record of one claim over the seeds."""
    compile_kernels(options.data)

    def measure(seed):  # figures come one after the other: all of them are timed
        return timed(list, RUNS[name].figures(options.data, seed))

    row = over_seeds(name, range(options.seeds), measure, lambda figures: "measured")
    print("\n".join(claim_lines(name, row)), flush=True)
    return row


@functools.cache
def compile_kernels(folder):
    """Fit once what is timed later."""
    X, y = (part[:200] for part in images(folder)[:2])
    for network in NETWORKS.values():
        stack = clone(PRETRAINERS[network.activation]).set_params(
            hidden_layer_sizes=(8, 8), max_iter=1
        )
        params = {**DEPTH, **network.optimiser, "max_iter": 1}
        GreedyPretrainedMLPClassifier(pretrainer=stack, **params).fit(X, y)


def claim_lines(name, row):
    """Table of one claim, between two marks that a page can include it by."""
    seeds = ", ".join(map(str, row["seeds"]))
    seconds = sum(row["seconds"])
    spent = f"{seconds:.0f} seconds" if seconds > 1 else "networks of another claim"
    return [
        f"<!-- {name} -->",
        f"{RUNS[name].shown} Seeds {seeds}; {spent}; {stamp(row)}; `--run {name}`.",
        "",
        *lines_of(row["figures"]),
        f"<!-- end of {name} -->",
        "",
    ]


def lines_of(figures):
    """Markdown table: figures with the same words are seeds of one line."""
    keys = list(dict.fromkeys(key for found in figures for key in found))
    words = [key for key in keys if isinstance(figures[0].get(key), str)]
    numbers = [key for key in keys if key not in words]
    groups = {}
    for found in figures:
        groups.setdefault(tuple(found[word] for word in words), []).append(found)
    rows = [
        [*group, *(cell(found, number) for number in numbers)]
        for group, found in groups.items()
    ]
    ruler = ["---"] * len(keys)
    return ["| " + " | ".join(row) + " |" for row in ([*words, *numbers], ruler, *rows)]


def cell(figures, key):
    """Mean and deviation, and how many seeds have the figure if not all do."""
    n = sum(key in found for found in figures)
    note = f" ({n} of {len(figures)} seeds)" if 0 < n < len(figures) else ""
    return mean_and_spread(figures, key) + note


def table(rows):
    """Markdown lines of all claims there are, in the order of RUNS."""
    heading = [
        "Mean and deviation over seeds, from",
        "`python benchmarks/greedy_or_at_once.py --write`; float32. Layers of",
        f"{WIDTH} units, {N_TRAIN:,} rows, {PRETRAINING_EPOCHS} epochs of pre-training",
        f"a layer; logistic: RBMs, {recipe(STACK)}; relu: denoising",
        f"autoencoders with defaults, batch_size={STACK['batch_size']}. SGD:",
        f"{recipe(DEPTH)};",
        f"Adam: the same but for {recipe(ADAM)};",
        f"an output layer alone: {recipe(HEAD)}.",
        "",
    ]
    known = [name for name in RUNS if name in rows]
    return heading + [line for name in known for line in claim_lines(name, rows[name])]


if __name__ == "__main__":
    run_study(__doc__, STUDY, RUNS, row_of, table, seeds_option(3))
