"""Which defaults give good features? One parameter at a time, on small tables.

    python benchmarks/defaults.py MODEL [--data DIR] [--set NAME ...] [--write]

MODEL is "rbm", "persistent_rbm" (on the sets with gaussian columns, where the learning
rate of persistent chains is another one) or "autoencoder". A layer of 256 hidden units
is trained on up to 3,000 rows of each set; its features go to a logistic regression
whose C is chosen on a held-out fifth of these rows. The table gives the error on as
many other rows: mean of three draws of rows, which are the same for all variants, as
are the seeds of the layer. Each variant moves one parameter away from the centre. "raw
columns" is logistic regression without the layer, for which gaussian columns are
standardised.

DIR holds the idx files of MNIST and the ``.npz`` tables named in SETS. Of MNIST only
training images are used.
"""

import json
import time
import warnings

import numpy as np
from common import (
    RESULTS,
    mnist_images,
    mnist_labels,
    one_hot,
    options_of,
    stamp,
    table_set,
    versions,
)
from scipy import sparse
from scipy.stats import sem
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from sklearn_greedy import StackedAutoencoderTransformer, StackedRBMTransformer

SEEDS = range(3)
N_ROWS = 3000
N_MNIST = 10_000
C_GRID = (0.1, 1.0, 10.0, 100.0)

# Written out, so that the records keep their meaning when the defaults change.
MODELS = {
    "rbm": StackedRBMTransformer,
    "persistent_rbm": StackedRBMTransformer,
    "autoencoder": StackedAutoencoderTransformer,
}
RBM_CENTRE = {
    "learning_rate": "auto",
    "momentum": 0.9,
    "batch_size": 32,
    "max_iter": 20,
    "centered": False,
    "visible_reconstruction": "auto",
    "alpha": 1e-4,
}
CENTRES = {
    "rbm": RBM_CENTRE,
    "persistent_rbm": {"persistent": True, **RBM_CENTRE},
    "autoencoder": {
        "activation": "relu",
        "corruption": "masking",
        "corruption_level": 0.25,
        "tied_weights": True,
        "learning_rate_init": 0.001,
        "batch_size": 32,
        "max_iter": 20,
        "alpha": 0.0,
    },
}
VALUES = {
    "rbm": {
        "learning_rate": (0.003, 0.01, 0.1, 0.3),
        "momentum": (0.0, 0.5),
        "batch_size": (10, 100),
        "max_iter": (10, 50),
        "centered": (True,),
        "visible_reconstruction": ("sample", "mean"),
        "alpha": (0.0, 1e-3),
    },
    "persistent_rbm": {
        "persistent": (False,),
        "learning_rate": (0.001, 0.003, 0.01),
        "max_iter": (50,),
        "centered": (True,),
        "visible_reconstruction": ("sample",),
    },
    "autoencoder": {
        "activation": ("logistic", "tanh", "elu"),
        "corruption": (None, "gaussian", "salt_and_pepper", "swap"),
        "corruption_level": (0.1, 0.5),
        "tied_weights": (False,),
        "learning_rate_init": (0.0003, 0.003),
        "batch_size": (10, 100),
        "max_iter": (10, 50),
        "alpha": (1e-4, 1e-3),
    },
}
RAW, CENTRAL = "raw columns", "centre"


def variants_of(model):
    """Parameters of each variant by name."""
    centre = CENTRES[model]
    moved = {
        f"{name}={value}": {**centre, name: value}
        for name, values in VALUES[model].items()
        for value in values
    }
    return {CENTRAL: centre, **moved}


def mnist(folder):
    return mnist_images(folder)[0][:N_MNIST], mnist_labels(folder)[0][:N_MNIST]


def mnist_cut(folder):
    X, y = mnist(folder)
    return X >= 0.5, y


def table(name):
    """Loader of a table of numbers, as they are."""

    def loader(folder):
        X, _, y = table_set(folder, name)
        return X, y

    return loader


def mfeat_cut(folder):
    """Digits of 15 x 16 pixels with values 0 to 6."""
    X, y = table("mfeat_pixel")(folder)
    return X >= 3, y


def news(folder):
    """Which of 100 words a posting holds; four groups."""
    with np.load(folder / "text_20news_w100.npz", allow_pickle=False) as parts:
        csr = parts["data"], parts["indices"].astype("int32"), parts["indptr"]
        return sparse.csr_matrix(csr, shape=parts["shape"]).toarray(), parts["y"]


def usps(folder):
    with np.load(folder / "usps_zip.npz", allow_pickle=False) as parts:
        X = parts["X_train"] * parts["scale"]  # in [-1, 1]
        return (X + 1) / 2, parts["y_train"]


def adult(folder):
    """Categories as 0/1 columns (bernoulli units) beside numbers (gaussian units)."""
    numbers, codes, y = table_set(folder, "adult")
    return np.hstack([one_hot(codes)[0], numbers]), y


def splice(folder):
    """Sixty positions of DNA, each of them a softmax group of eight letters."""
    letters, y = table("splice")(folder)
    return np.eye(8)[letters.astype(int)].reshape(len(letters), -1), y


# Loader and kind of columns of each set.
SETS = {
    "mnist_cut": (mnist_cut, "binary"),
    "mfeat_cut": (mfeat_cut, "binary"),
    "news": (news, "binary"),
    "mnist": (mnist, "grey"),
    "usps": (usps, "grey"),
    "satimage": (table("satimage"), "gaussian"),
    "letter": (table("letter"), "gaussian"),
    "magic": (table("magic"), "gaussian"),
    "churn": (table("churn"), "mixed"),
    "adult": (adult, "one-hot"),
    "splice": (splice, "one-hot"),
}
VISIBLE = {"splice": [("softmax", slice(i, i + 8)) for i in range(0, 480, 8)]}


def draw(X, y, seed):
    """Training and test rows, as many of each, with the classes' shares kept."""
    n = min(N_ROWS, len(y) // 2)
    X, X_test, y, y_test = train_test_split(
        X, y, train_size=n, test_size=n, stratify=y, random_state=seed
    )
    return X.astype(np.float32), y, X_test.astype(np.float32), y_test


def standardised(X, X_test):
    """Both parts with the columns that leave [0, 1] scaled by the first part."""
    gaussian = (X.min(axis=0) < 0) | (X.max(axis=0) > 1)
    if not gaussian.any():
        return X, X_test
    scaler = StandardScaler().fit(X[:, gaussian])
    parts = X.copy(), X_test.copy()
    for part in parts:
        part[:, gaussian] = scaler.transform(part[:, gaussian])
    return parts


def test_error(H, y, H_test, y_test):
    """Error in percent of a logistic regression, C chosen on the last fifth of H."""
    cut = len(y) * 4 // 5

    def fit(C, stop):
        return LogisticRegression(C=C, max_iter=300).fit(H[:stop], y[:stop])

    best = max(C_GRID, key=lambda C: fit(C, cut).score(H[cut:], y[cut:]))
    return 100 * (1 - fit(best, len(y)).score(H_test, y_test))


def layer_error(model, params, visible, rows, seed):
    """Test error on the features, or None where training diverges."""
    X, y, X_test, y_test = rows
    stack = MODELS[model]((256,), **params, visible=visible, random_state=seed)
    try:
        stack.fit(X)
    except ValueError as error:
        if "diverged" not in str(error):
            raise
        return None
    return test_error(stack.transform(X), y, stack.transform(X_test), y_test)


def errors_of_set(model, name, folder):
    """Errors of raw columns and of each variant on one set, one per seed."""
    X, y = SETS[name][0](folder)
    visible, variants = VISIBLE.get(name, "auto"), variants_of(model)
    errors = {row: [] for row in (RAW, *variants)}
    for seed in SEEDS:
        rows = draw(X, y, seed)
        H, H_test = standardised(rows[0], rows[2])
        errors[RAW].append(test_error(H, rows[1], H_test, rows[3]))
        for variant, params in variants.items():
            errors[variant].append(layer_error(model, params, visible, rows, seed))
    return errors


def mean_error(errors):
    """Mean over seeds; NaN where one of them diverged."""
    return np.nan if None in errors else float(np.mean(errors))


def shown(mean):
    return "diverges" if np.isnan(mean) else f"{mean:.2f}"


def change(means, base):
    """Relative change of error in percent, the geometric mean over sets and its
    standard error: one set where all units die would rule an arithmetic one.
    """
    logs = np.log(means / base)
    logs = logs[~np.isnan(logs)]
    if not len(logs) or means is base:
        return "-"
    return f"{100 * np.expm1(logs.mean()):+.1f} ± {100 * sem(logs):.1f}"


def better(means, base):
    """Sets with less error than at the base and with more; to diverge is worst."""
    ours, theirs = np.nan_to_num(means, nan=np.inf), np.nan_to_num(base, nan=np.inf)
    return f"{(ours < theirs).sum()}, {(ours > theirs).sum()}"


def heading(record):
    """What the table holds and how it came about."""
    names, model = list(record["errors"]), record["model"]
    centre = ", ".join(f"{key}={value!r}" for key, value in CENTRES[model].items())
    return [
        "Test error in percent of logistic regression on the features of a layer with",
        f"256 hidden units, mean of seeds {', '.join(map(str, record['seeds']))}, from",
        f"`python benchmarks/defaults.py {model} --write`;",
        f"{stamp(record)}; float32.",
        "",
        f"Centre: {centre}. A variant diverges on a set if it does with any seed.",
        "Changes are those of the error in percent of the centre's (minus is better),",
        "geometric mean and standard error over the sets where neither diverges.",
        "",
        "| variant | "
        + " | ".join(names)
        + " | change | sets better, worse | change against raw columns |",
        "|---" * (len(names) + 4) + "|",
        "| *columns* | " + " | ".join(SETS[name][1] for name in names) + " | | | |",
    ]


def report(record):
    """Markdown lines: a row per variant, a column per set."""
    errors = record["errors"].values()
    means = {
        row: np.array([mean_error(found[row]) for found in errors])
        for row in (RAW, *variants_of(record["model"]))
    }
    lines = heading(record)
    for row, of_sets in means.items():
        base = means[CENTRAL]
        cells = [
            row,
            *map(shown, of_sets),
            change(of_sets, base),
            better(of_sets, base),
            change(of_sets, means[RAW]),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def sets_of(model):
    """Names of the sets that a model is tried on."""
    if model != "persistent_rbm":
        return list(SETS)
    return [name for name, (_, kind) in SETS.items() if kind in ("gaussian", "mixed")]


def main():
    options = options_of(
        __doc__,
        ("model", {"choices": MODELS}),
        ("--set", {"nargs": "+", "choices": SETS}),
    )
    warnings.simplefilter("ignore")
    record = {**versions(), "model": options.model, "seeds": list(SEEDS), "errors": {}}
    for name in options.set or sets_of(options.model):
        start = time.perf_counter()
        record["errors"][name] = errors_of_set(options.model, name, options.data)
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    print("\n".join(report(record)))
    if options.write:
        path = RESULTS / f"{options.model}_defaults"
        path.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
        path.with_suffix(".md").write_text("\n".join(report(record)) + "\n")


if __name__ == "__main__":
    main()
