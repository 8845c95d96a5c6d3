"""
A pretrainer of your own
========================

Any transformer that leaves weights behind can start a network. Here principal
components do: their projections are the weights of a layer, to which the same with the
opposite sign are added, since rectified units let only one side pass.

The picture shows the accuracy on the bundled digits by number of labels, with networks
that start from random weights, from principal components of all rows, and from a
denoising autoencoder of all rows. It runs in about ten seconds.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split

from sklearn_greedy import (
    GreedyPretrainedMLPClassifier,
    StackedAutoencoderTransformer,
)

# %%
# What a network reads of its pretrainer are five attributes: ``coefs_``,
# ``intercepts_``, ``activations_``, ``visible_offset_`` and ``visible_scale_``.


class PrincipalComponents(TransformerMixin, BaseEstimator):
    """Rectified principal components and their opposites, as one hidden layer."""

    def __init__(self, n_components=32):
        self.n_components = n_components

    def fit(self, X, y=None):
        pca = PCA(self.n_components, random_state=0).fit(X)
        weights = pca.components_.T / np.sqrt(pca.explained_variance_[0])
        both = np.hstack([weights, -weights])
        self.coefs_, self.intercepts_ = [both], [-pca.mean_ @ both]
        self.activations_ = ["relu"]
        self.visible_offset_ = np.zeros(X.shape[1])
        self.visible_scale_ = np.ones(X.shape[1])
        return self

    def transform(self, X):
        return np.maximum(X @ self.coefs_[0] + self.intercepts_[0], 0)


# %%
# Both transformers learn from all training rows without their labels, once; each
# network takes them as they are.

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
X, X_test, y, y_test = train_test_split(X, y, test_size=600, random_state=0)

starts = {
    "random": None,
    "principal components": FrozenEstimator(PrincipalComponents().fit(X)),
    "autoencoder": FrozenEstimator(
        StackedAutoencoderTransformer((64,), max_iter=40, random_state=0).fit(X)
    ),
}
counts = [30, 60, 120, 240, 480]
scores = {name: [] for name in starts}
for name, pretrainer in starts.items():
    for n_labels in counts:
        found = []
        for seed in range(5):
            rows = np.random.default_rng(seed).permutation(len(X))[:n_labels]
            clf = GreedyPretrainedMLPClassifier(
                (64,), pretrainer=pretrainer, tol=5e-3, random_state=seed
            )
            found.append(clf.fit(X[rows], y[rows]).score(X_test, y_test))
        scores[name].append(found)

# %%
# Mean and deviation over five draws of the labels. On so small images, with no more
# unlabelled rows than these, the start hardly matters; with all of MNIST it does (see
# the measurements).

fig, ax = plt.subplots(figsize=(6, 4))
for name, found in scores.items():
    means, spread = np.mean(found, axis=1), np.std(found, axis=1)
    ax.errorbar(counts, means, spread, marker="o", capsize=3, label=name)
    print(f"{name:22s}", np.round(means, 3))
ax.set(xscale="log", xlabel="rows with a label", ylabel="test accuracy")
ax.set_xticks(counts, counts)
ax.minorticks_off()
ax.legend(title="start")
fig.tight_layout()
plt.show()
