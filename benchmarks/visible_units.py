"""What visible="auto" makes of tables behind a MinMaxScaler, beside one kind for all,
and of words.

    python benchmarks/visible_units.py [--data DIR] [--write]

Three-fold accuracy (R2 of the regressions) of RBM features in front of a linear model
and of a fine-tuned network that starts as an autoencoder, each with 100 hidden units
and default parameters, on up to 1500 rows. Of words: accuracy of a linear model with
few labels on 600 posts, in front of which stand the words, or features of default
stacks that were learned from the other posts. DIR holds the sets of `tables.py` and
``text_pcmac.npz``; others come with scikit-learn.
"""

import warnings

import numpy as np
from common import options_of, publish, stamp, versions
from scipy import sparse
from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Binarizer, MaxAbsScaler, MinMaxScaler

from sklearn_greedy import (
    GreedyPretrainedMLPClassifier,
    GreedyPretrainedMLPRegressor,
    StackedAutoencoderTransformer,
    StackedRBMTransformer,
)

MOST_ROWS, WIDTH = 1500, (100,)
FILES = (
    "reg_cal_housing",
    "reg_elevators",
    "tab_churn",
    "tab_letter",
    "tab_magic",
    "tab_satimage",
    "reg_house_16H",
)
BUNDLED = {"breast_cancer": load_breast_cancer, "iris": load_iris, "wine": load_wine}
KINDS = ("auto", "bernoulli", "gaussian")
STACKS = {
    "RBM": StackedRBMTransformer,
    "autoencoder": StackedAutoencoderTransformer,
}
LABELS, N_TEST, N_DRAWS = (40, 100, 300), 600, 6
# What is done to counts of words, and the kind of their units.
WORDS = {
    "present or not": (Binarizer(), "auto"),
    "tf-idf": (TfidfTransformer(), "auto"),
    "tf-idf, MaxAbsScaler": (make_pipeline(TfidfTransformer(), MaxAbsScaler()), "auto"),
    "counts": (None, "auto"),
    "counts, poisson units": (None, "poisson"),
}


def tables(folder):
    """(name, X, y, whether y is a number) of each table."""
    for name in FILES:
        with np.load(folder / f"{name}.npz", allow_pickle=False) as z:
            X, y = z["X"].astype(float), z["y"]
        rows = np.random.default_rng(0).permutation(len(y))[:MOST_ROWS]
        number = name.startswith("reg")
        yield name[4:], X[rows], y[rows].astype(float if number else int), number
    for name, load in BUNDLED.items():
        yield name, *load(return_X_y=True), False


def scores(X, y, number, visible):
    """Mean scores of the features and of the network, by folds."""
    rbm = StackedRBMTransformer(WIDTH, visible=visible, random_state=0)
    start = StackedAutoencoderTransformer(WIDTH, visible=visible)
    linear = Ridge() if number else LogisticRegression(max_iter=1000)
    network = GreedyPretrainedMLPClassifier
    if number:
        network, y = GreedyPretrainedMLPRegressor, (y - y.mean()) / y.std()
    folds = KFold(3, shuffle=True, random_state=0)
    models = make_pipeline(rbm, linear), network(pretrainer=start, random_state=0)
    return [
        cross_val_score(make_pipeline(MinMaxScaler(), model), X, y, cv=folds).mean()
        for model in models
    ]


def linear_scores(H, y, train, test):
    """Mean accuracies of a linear model on H, by the number of labels."""
    found = []
    for n in LABELS:
        draws = (
            np.random.default_rng(k).choice(train, n, False) for k in range(N_DRAWS)
        )
        models = (LogisticRegression(max_iter=1000).fit(H[d], y[d]) for d in draws)
        found.append(np.mean([model.score(H[test], y[test]) for model in models]))
    return " | ".join(f"{score:.3f}" for score in found)


def word_lines(folder):
    with np.load(folder / "text_pcmac.npz", allow_pickle=False) as z:
        parts = z["data"].astype(float), z["indices"].astype(np.int32), z["indptr"]
        counts, y = sparse.csr_matrix(parts, shape=tuple(z["shape"])), z["y"]
    order = np.random.default_rng(0).permutation(len(y))
    train, test = order[N_TEST:], order[:N_TEST]
    labels = " | ".join(f"{n} labels" for n in LABELS)
    yield f"| words | gaussian columns | {labels} |"
    yield "|---" * (2 + len(LABELS)) + "|"
    for name, (prepare, visible) in WORDS.items():
        X = counts if prepare is None else prepare.fit(counts[train]).transform(counts)
        if visible == "auto":
            yield f"| {name} | - | {linear_scores(X, y, train, test)} |"
        for label, cls in STACKS.items():
            if visible == "poisson" and cls is StackedAutoencoderTransformer:
                continue
            stack = cls(visible=visible, random_state=0).fit(X[train])
            n_gaussian = np.sum(stack.visible_kinds_ == "gaussian")
            accuracies = linear_scores(stack.transform(X), y, train, test)
            kinds = f"{n_gaussian} of {X.shape[1]}"
            yield f"| {name}: {label} | {kinds} | {accuracies} |"


def main():
    options = options_of(__doc__)
    warnings.simplefilter("ignore")
    lines = [
        f"{stamp(versions())}; from `python benchmarks/visible_units.py --write`.",
        "",
        "| table | gaussian columns | RBM features: auto | bernoulli | gaussian "
        "| network: auto | bernoulli | gaussian |",
        "|---" * 8 + "|",
    ]
    for name, X, y, number in tables(options.data):
        scaled = MinMaxScaler().fit_transform(X)
        stack = StackedRBMTransformer(WIDTH, max_iter=1, random_state=0).fit(scaled)
        n_gaussian = int(np.sum(stack.visible_kinds_ == "gaussian"))
        found = zip(*(scores(X, y, number, kind) for kind in KINDS), strict=True)
        cells = [f"{score:.3f}" for model in found for score in model]
        kinds = f"{n_gaussian} of {X.shape[1]}"
        lines.append(f"| {name} | {kinds} | " + " | ".join(cells) + " |")
    lines += ["", *word_lines(options.data)]
    publish("visible_units", lines, options.write)


if __name__ == "__main__":
    main()
