"""Log-likelihoods and features of RBMs beside published figures.

    python benchmarks/rbm_likelihood.py [--data DIR] [--run NAME ...] [--write]

A NAME is a row of the table or the beginning of several ("mnist16", "cd"); ``--list``
names them all. DIR holds the four gzipped idx files of MNIST, with or without the
prefix ``mnist-``, and ``bin_<set>.npz`` with the arrays train, valid and test.

Rates, decay, weight decay and epochs were chosen on valid; test is only reported. The
recipes of mnist16 and pcd_centered_500 are PyDeep's: 60,000 images cut at a half, no
choice of ours. The "grey" rows train on the pixels divided by 255 instead.

Up to 24 hidden units log Z is summed exactly. Above that it comes from 100 runs of
annealed importance sampling, and once more from runs in the reverse direction: where
the two figures differ much, neither is to be trusted. ``--write`` keeps the rows of
other runs.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
from common import (
    binary_set,
    mean_and_spread,
    mnist_images,
    mnist_labels,
    over_seeds,
    run_study,
    seeds_option,
    table_rows,
    timed,
)
from sklearn.svm import LinearSVC

from sklearn_greedy import StackedRBMTransformer

STUDY = "rbm_likelihood"

N_RUNS, N_TEMPERATURES = 100, 10_000
SVM_GRID = (0.003, 0.01, 0.03, 0.1, 0.3)
N_SVM_TRAIN = 50_000
# Epochs at each number of steps of CD, for the run whose steps grow: few while the
# steps are few, since what they learn is learned again with more of them.
GROWING_EPOCHS = {**dict.fromkeys(range(1, 10), 1), 12: 2, 15: 2, 20: 3, 25: 115}

PLAIN = {
    "visible": "bernoulli",
    "visible_reconstruction": "sample",
    "momentum": 0.0,
    "alpha": 0.0,
    "batch_size": 100,
}
PCD = {**PLAIN, "persistent": True, "learning_rate": 0.01}
CD = {
    **PLAIN,
    "centered": True,
    "learning_rate": 0.3,
    "learning_rate_decay": 3e-4,
    "alpha": 1e-3,
    "max_iter": 20,
}


@dataclass(frozen=True)
class Run:
    """A row of the table.

    data : name of a loader below and its argument; params : of the RBM; published :
    figure to compare with; kind : how to train and what to measure; note : for the
    table.
    """

    data: tuple[str, str]
    n_hidden: int
    params: dict
    published: float
    kind: str = "likelihood"
    note: str = ""


def small_mnist(name, data, published):
    """The 16 hidden units of PyDeep's tutorial."""
    centered = name.endswith("centered")
    params = {**PCD, "centered": centered, "max_iter": 50}
    note = "PCD-1, centered" if centered else "PCD-1"
    return {name: Run(("mnist", data), 16, params, published, note=note)}


def small_set(name, published, note, **params):
    """The 23 hidden units of Larochelle and Murray (2011) on a small binary set."""
    params = {**PLAIN, "centered": True, **params}
    return {name: Run(("binary", name), 23, params, published, note=note)}


RUNS = {
    **small_mnist("mnist16_centered", "half", -142.56),
    **small_mnist("mnist16_plain", "half", -149.05),
    **small_mnist("mnist16_flipped_centered", "half flipped", -142.09),
    **small_mnist("mnist16_flipped_plain", "half flipped", -183.36),
    **small_mnist("mnist16_grey_centered", "grey", -142.56),
    **small_mnist("mnist16_grey_plain", "grey", -149.05),
    **small_mnist("mnist16_grey_flipped_centered", "grey flipped", -142.09),
    **small_mnist("mnist16_grey_flipped_plain", "grey flipped", -183.36),
    **small_set(
        "adult",
        -16.26,
        "CD-10, centered",
        n_gibbs_steps=10,
        learning_rate=0.4,
        learning_rate_decay=1e-4,
        max_iter=1500,
    ),
    **small_set(
        "mushrooms",
        -15.15,
        "PCD-10, centered",
        persistent=True,
        n_gibbs_steps=10,
        n_chains=500,
        learning_rate=0.2,
        learning_rate_decay=3e-4,
        max_iter=700,
    ),
    **small_set(
        "dna",
        -96.9,
        "PCD-1, centered",
        persistent=True,
        alpha=3e-3,
        learning_rate=0.15,
        learning_rate_decay=1e-3,
        max_iter=300,
    ),
    **small_set(
        "nips",
        -277.37,
        "PCD-1, centered",
        persistent=True,
        alpha=1e-3,
        learning_rate=0.2,
        learning_rate_decay=5e-3,
        max_iter=200,
    ),
    "cd1_500": Run(("binary", "mnist_fixed"), 500, CD, -125.53, note="CD-1, centered"),
    "cd3_500": Run(
        ("binary", "mnist_fixed"),
        500,
        {**CD, "n_gibbs_steps": 3},
        -105.5,
        note="CD-3, centered",
    ),
    "cd_growing_500": Run(
        ("binary", "mnist_fixed whole"),
        500,
        {
            **PLAIN,
            "centered": True,
            "learning_rate": 0.3,
            "learning_rate_decay": 3e-4,
            "alpha": 2e-4,
            "n_iter_averaged": 20,
        },
        -86.34,
        kind="growing",
        note="CD-1 to CD-25 (1 epoch each up to 9 steps, 2 at 12 and 15, 3 at 20,"
        " 115 at 25, of which the last 20 are averaged), centered, on train and valid"
        " as published",
    ),
    "pcd_centered_500": Run(
        ("mnist", "half"),
        500,
        {**PCD, "centered": True, "max_iter": 200},
        -84.86,
        note="PCD-1, centered",
    ),
    "pcd_centered_fixed_500": Run(
        ("binary", "mnist_fixed"),
        500,
        {**PCD, "centered": True, "max_iter": 200},
        -84.86,
        note="PCD-1, centered; published for another binarisation",
    ),
    "svm_features": Run(
        ("mnist", "half"),
        500,
        {
            **PLAIN,
            "momentum": 0.9,
            "learning_rate": 0.1,
            "learning_rate_decay": 1e-4,
            "alpha": 3e-3,
            "sparsity_target": 0.1,
            "sparsity_weight": 0.3,
            "max_iter": 30,
        },
        2.15,
        kind="svm",
        note="CD-1 features + LinearSVC, test error in %",
    ),
}


def load_mnist(folder, version):
    """Training and test images: "grey" ones divided by 255, or cut at a "half"; then
    "flipped" (1 - x) or not.
    """
    parts = []
    for X in mnist_images(folder):
        X = X if version.startswith("grey") else (X >= 0.5).astype(np.float32)
        parts.append(1 - X if version.endswith("flipped") else X)
    return {"train": parts[0], "test": parts[1]}


def load_binary(folder, data):
    """A set of 0/1 columns; "<name> whole" trains on its valid part as well."""
    name, *whole = data.split()
    parts = binary_set(folder, name)
    if whole:
        parts["train"] = np.concatenate([parts["train"], parts.pop("valid")])
    return parts


def load(folder, data):
    loader = {"mnist": load_mnist, "binary": load_binary}[data[0]]
    return loader(folder, data[1])


def fit_growing(stack, X, seed):
    """Fits that go on from each other with more steps of CD; the rate falls as
    ``learning_rate_decay`` says for the updates since the start.
    """
    first, decay = stack.learning_rate, stack.learning_rate_decay
    averaged, last = stack.n_iter_averaged, max(GROWING_EPOCHS)
    # An int would give every fit the same random numbers.
    stack.set_params(warm_start=True, random_state=np.random.RandomState(seed))
    updates = 0
    for n_steps, n_epochs in GROWING_EPOCHS.items():
        # Each fit counts its updates from 0, so what came before goes into both.
        fallen = 1 + decay * updates
        stack.set_params(
            n_gibbs_steps=n_steps,
            max_iter=n_epochs,
            n_iter_averaged=averaged if n_steps == last else 1,
            learning_rate=first / fallen,
            learning_rate_decay=decay / fallen,
        ).fit(X)
        updates += n_epochs * -(-len(X) // stack.batch_size)


def likelihoods(stack, parts, seed):
    """Mean log-likelihood of the held-out parts and, where log Z is estimated, of test
    with the ends of the interval of log Z and with log Z from reverse runs.
    """
    partition = stack.log_partition(
        parts["train"],
        method="auto",
        n_runs=N_RUNS,
        n_temperatures=N_TEMPERATURES,
        random_state=seed,
    )
    # log p(v) = -F(v) - log Z; log_likelihood would find log Z anew for every part.
    minus_energy = {
        part: -float(stack.free_energy(parts[part]).mean(dtype=np.float64))
        for part in ("valid", "test")
        if part in parts
    }
    found = {part: e - partition["log_z"] for part, e in minus_energy.items()}
    if partition["method"] != "exact":
        found["low"] = minus_energy["test"] - partition["high"]
        found["high"] = minus_energy["test"] - partition["low"]
        found["reverse"] = minus_energy["test"] - partition["log_z_reverse"]
    return {key: float(value) for key, value in found.items()}


def svm_errors(stack, parts, folder):
    """Validation and test error, in percent, of a linear SVM on the features; C is
    chosen on the rows that neither the RBM nor the SVM has seen.
    """
    y, y_test = mnist_labels(folder)
    H, H_test = stack.transform(parts["train"]), stack.transform(parts["test"])
    seen, held = slice(N_SVM_TRAIN), slice(N_SVM_TRAIN, None)
    best = {"valid": np.inf}
    for C in SVM_GRID:
        svm = LinearSVC(C=C, dual=False, random_state=0).fit(H[seen], y[seen])
        valid = 100 * (1 - svm.score(H[held], y[held]))
        print(f"  C={C}: {valid:.2f} % on valid", flush=True)
        if valid < best["valid"]:
            test = 100 * (1 - svm.score(H_test, y_test))
            best = {"valid": valid, "test": test, "C": C}
    return best


def one_seed(run, folder, parts, seed):
    """Figures of one fit in a list, and the seconds of training alone."""
    stack = StackedRBMTransformer((run.n_hidden,), **run.params, random_state=seed)
    X = parts["train"][:N_SVM_TRAIN] if run.kind == "svm" else parts["train"]
    if run.kind == "growing":
        _, seconds = timed(fit_growing, stack, X, seed)
    else:
        _, seconds = timed(stack.fit, X)
    if run.kind == "svm":
        return [svm_errors(stack, parts, folder)], seconds
    return [likelihoods(stack, parts, seed)], seconds


def row_of(name, options):
    """The record of one run over the seeds."""
    run = RUNS[name]
    measure = partial(one_seed, run, options.data, load(options.data, run.data))
    row = over_seeds(name, range(options.seeds), measure, listed)
    for key in ("test", "valid"):
        print(f"{name}: {key} {mean_and_spread(row['figures'], key)}", flush=True)
    return row


def listed(figures):
    (found,) = figures
    return ", ".join(f"{key} {value:.3f}" for key, value in found.items())


def interval(run, figures):
    """Where the test figure lies, by the mean ends over the seeds."""
    if run.kind == "svm":
        return "-"
    if "low" not in figures[0]:
        return "exact"
    ends = (np.mean([found[end] for found in figures]) for end in ("low", "high"))
    return " to ".join(f"{end:.2f}" for end in ends)


def recipe(run):
    """What differs from the settings that all runs share."""
    told_by_note = ("n_gibbs_steps", "persistent", "centered")
    params = {k: v for k, v in run.params.items() if k not in told_by_note}
    return "; ".join(
        [run.note, *(f"{k}={v:g}" for k, v in params.items() if PLAIN.get(k) != v)]
    )


def heading():
    shared = ", ".join(f"{key}={value!r}" for key, value in PLAIN.items())
    return [
        "Mean test log-likelihood in nats (svm_features: test error in percent), mean",
        "and deviation over seeds, from",
        "`python benchmarks/rbm_likelihood.py --write`; float32. Unless the recipe",
        f"says otherwise, {shared}.",
        "Exact log Z up to 24 hidden units, else annealed importance sampling",
        f"({N_RUNS} runs, {N_TEMPERATURES:,} temperatures): the interval follows from",
        "that of log Z, and reverse is the test figure with log Z from runs in the",
        "other direction. Seconds are those of training, per seed.",
        "",
        "| run | recipe | published | test | valid | log Z or interval | reverse "
        "| seeds | seconds | date and versions |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]


def cells(name, run, row):
    """What a line of the table says of a run."""
    figures = row["figures"]
    return [
        name,
        recipe(run),
        f"{run.published:g}",
        mean_and_spread(figures, "test"),
        mean_and_spread(figures, "valid"),
        interval(run, figures),
        mean_and_spread(figures, "reverse"),
    ]


def table(rows):
    """Markdown lines of all rows, in the order of RUNS."""
    return [*heading(), *table_rows(RUNS, rows, cells)]


if __name__ == "__main__":
    run_study(__doc__, STUDY, RUNS, row_of, table, seeds_option(3))
