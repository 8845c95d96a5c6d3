"""Five-fold accuracy on the bundled digits: features beside raw pixels and an MLP.

    python benchmarks/digits_features.py [--write]

Shuffled stratified folds, two shuffles. The RBM stack has default parameters but for
its size and epochs. Every model ends in the same logistic regression (C=10), or is an
MLPClassifier.
"""

import datetime
import platform
import warnings

import numpy as np
import sklearn
from common import options_of, publish
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
from sklearn.neural_network import BernoulliRBM, MLPClassifier
from sklearn.pipeline import make_pipeline

from sklearn_greedy import StackedAutoencoderTransformer, StackedRBMTransformer


def models():
    linear = LogisticRegression(C=10, max_iter=3000)
    rbm = StackedRBMTransformer((500,), max_iter=100, random_state=0)
    autoencoder = StackedAutoencoderTransformer((500,), max_iter=50, random_state=0)
    peer = BernoulliRBM(500, learning_rate=0.06, n_iter=100, random_state=0)
    return {
        "raw pixels + logistic regression": linear,
        "BernoulliRBM(500) + logistic regression": make_pipeline(peer, linear),
        "StackedRBMTransformer(500) + logistic regression": make_pipeline(rbm, linear),
        "StackedAutoencoderTransformer(500) + logistic regression": make_pipeline(
            autoencoder, linear
        ),
        "MLPClassifier(500)": MLPClassifier((500,), max_iter=300, random_state=0),
    }


def main():
    options = options_of(__doc__)
    warnings.simplefilter("ignore")
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=2, random_state=0)
    lines = [
        f"{datetime.date.today().isoformat()}; float32; python "
        f"{platform.python_version()}, scikit-learn {sklearn.__version__}",
        "",
        "| model | accuracy, mean of 2 x 5 folds | deviation over folds |",
        "|---|---|---|",
    ]
    for name, model in models().items():
        scores = cross_val_score(model, X, y, cv=folds)
        lines.append(f"| {name} | {scores.mean():.4f} | {scores.std():.4f} |")
        print(lines[-1], flush=True)
    publish("digits_features", lines, options.write)


if __name__ == "__main__":
    main()
