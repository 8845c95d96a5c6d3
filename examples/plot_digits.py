"""
Pre-training on digits
======================

Five models of the 8x8 digits that come with scikit-learn, with 60 labels and with all.
The stacks are trained on all training images without their labels. Three random draws
of the split and of the labelled images; the table gives mean and standard deviation
of the test accuracy.
"""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from sklearn_greedy import (
    GreedyPretrainedMLPClassifier,
    StackedAutoencoderTransformer,
    StackedRBMTransformer,
)

N_DRAWS = 3
N_LABELS_PER_CLASS = 6

X, y = load_digits(return_X_y=True)
X = X / 16  # in [0, 1]: bernoulli units


# %%
# Features, then a linear model
# -----------------------------
# A stack learns once, without labels. A logistic regression on its features, or a
# network that starts from its weights, then needs the labels only.


def evaluate(seed):
    """Test accuracy of each model with few and with all labels, and the RBM."""
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.3, stratify=y, random_state=seed
    )
    rbm = StackedRBMTransformer((256,), max_iter=100, random_state=seed)
    autoencoder = StackedAutoencoderTransformer((256,), max_iter=50, random_state=seed)
    deep_rbm = StackedRBMTransformer((256, 256), max_iter=100, random_state=seed)
    for stack in (rbm, autoencoder, deep_rbm):
        stack.fit(X_train)

    rng = np.random.default_rng(seed)
    few = np.concatenate(
        [
            rng.choice(np.flatnonzero(y_train == c), N_LABELS_PER_CLASS, replace=False)
            for c in range(10)
        ]
    )
    scores = {}
    for labels, rows in (("60 labels", few), ("all labels", np.arange(len(y_train)))):
        linear = LogisticRegression(C=10, max_iter=3000)
        for name, features in (
            ("raw pixels + logistic regression", lambda data: data),
            ("RBM features + logistic regression", rbm.transform),
            ("autoencoder features + logistic regression", autoencoder.transform),
        ):
            linear.fit(features(X_train[rows]), y_train[rows])
            scores[name, labels] = linear.score(features(X_test), y_test)
        scratch = MLPClassifier((256, 256), max_iter=300, tol=1e-3, random_state=seed)
        pretrained = GreedyPretrainedMLPClassifier(
            pretrainer=FrozenEstimator(deep_rbm),
            batch_size=32,
            tol=1e-3,
            random_state=seed,
        )
        for name, network in (
            ("MLP from scratch", scratch),
            ("MLP pre-trained by an RBM stack", pretrained),
        ):
            network.fit(X_train[rows], y_train[rows])
            scores[name, labels] = network.score(X_test, y_test)
    return scores, rbm


draws = [evaluate(seed) for seed in range(N_DRAWS)]
scores = {key: [draw[0][key] for draw in draws] for key in draws[0][0]}
names = list(dict.fromkeys(name for name, _ in scores))

print(f"{'':44s}{'60 labels':>16s}{'all labels':>16s}")
for name in names:
    cells = [
        f"{np.mean(scores[name, labels]):.3f} +- {np.std(scores[name, labels]):.3f}"
        for labels in ("60 labels", "all labels")
    ]
    print(f"{name:44s}{cells[0]:>16s}{cells[1]:>16s}")

# %%
# What the hidden units look for
# ------------------------------
# The weights into the first 100 hidden units of the RBM, each as an image.

try:
    import matplotlib.pyplot as plt
except ImportError:
    print("Install matplotlib to draw the filters: pip install '.[plot]'")
else:
    filters = draws[0][1].coefs_[0].T[:100].reshape(-1, 8, 8)
    figure, axes = plt.subplots(10, 10, figsize=(6, 6.4))
    for ax, image in zip(axes.flat, filters, strict=True):
        limit = np.abs(image).max()
        ax.imshow(image, cmap="RdBu_r", vmin=-limit, vmax=limit)
        ax.set_axis_off()
    figure.suptitle("100 of 256 RBM filters (red: on, blue: off)")
    figure.tight_layout()
    figure.savefig("digits_filters.png", dpi=100)
    print("Filters saved to digits_filters.png")
