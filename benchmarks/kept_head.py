"""Does fine-tuning do better with the output layer of a pre-training on targets?

    python benchmarks/kept_head.py [--write]

Networks of 100 and 64 units, pre-trained with supervised_weight=0.5 on scikit-learn's
bundled data sets, of whose rows some keep their label; otherwise default parameters,
and mini-batches of 32 rows. Two fifths of the rows test, on ten random splits, on each
of which both networks begin with the same hidden layers.
"""

import warnings

import numpy as np
from common import options_of, publish, stamp, versions
from scipy.stats import sem
from sklearn.base import is_regressor
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.model_selection import train_test_split

from sklearn_greedy import (
    GreedyPretrainedMLPClassifier,
    GreedyPretrainedMLPRegressor,
    StackedAutoencoderTransformer,
    StackedRBMTransformer,
)

SEEDS = range(10)
DATA = {
    "digits": (load_digits, (50, 100, 500)),
    "wine": (load_wine, (50,)),
    "breast_cancer": (load_breast_cancer, (50, 100)),
    "diabetes": (load_diabetes, (50, 100)),
}
SIZES = 100, 64
STACKS = {
    "autoencoders": StackedAutoencoderTransformer(SIZES, max_iter=30),
    "RBMs": StackedRBMTransformer(SIZES, max_iter=20),
    "unrolled": StackedAutoencoderTransformer(
        SIZES, corruption="swap", tied_weights=False, max_iter=5, unrolled_max_iter=30
    ),
}


def network(data):
    """The estimator for a data set."""
    params = {"supervised_weight": 0.5, "batch_size": 32}
    if data == "diabetes":
        return GreedyPretrainedMLPRegressor(unlabeled=np.nan, **params)
    return GreedyPretrainedMLPClassifier(unlabeled=-1, **params)


def errors(data, n_labels, stack):
    """Test errors in percent, (splits, 2): with a random and with the kept head."""
    X, y = DATA[data][0](return_X_y=True)
    model = network(data).set_params(pretrainer=stack)
    strata = None if is_regressor(model) else y
    found = []
    for seed in SEEDS:
        X_train, X_test, y_train, y_test = train_test_split(
            X, y, test_size=0.4, stratify=strata, random_state=seed
        )
        y_train = np.array(y_train)
        y_train[n_labels:] = model.unlabeled
        scores = [
            model.set_params(keep_head=keep, random_state=seed)
            .fit(X_train, y_train)
            .score(X_test, y_test)
            for keep in (False, True)
        ]
        found.append(100 * (1 - np.array(scores)))
    return np.array(found)


def cell(found):
    """Both mean errors, and the gain with its standard error."""
    gains = found[:, 0] - found[:, 1]
    random, kept = found.mean(axis=0)
    return f"{random:.1f} / {kept:.1f} ({gains.mean():+.1f} ± {sem(gains):.1f})"


def main():
    options = options_of(__doc__)
    warnings.simplefilter("ignore")
    lines = [
        "Test error with a random output layer / with that of the pre-training on",
        "targets, and what the second gains (± standard error): percent of the rows,",
        f"for diabetes of the variance; means of {len(SEEDS)} splits, from",
        f"`python benchmarks/kept_head.py --write`; {stamp(versions())}.",
        "",
        "| data, labels | " + " | ".join(STACKS) + " |",
        "|---" * (1 + len(STACKS)) + "|",
    ]
    for data, (_, numbers) in DATA.items():
        for n_labels in numbers:
            cells = [cell(errors(data, n_labels, stack)) for stack in STACKS.values()]
            lines.append(f"| {data}, {n_labels} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    publish("kept_head", lines, options.write)


if __name__ == "__main__":
    main()
