"""
Digits by name, from a hundred labels
=====================================

In a deep belief network of Hinton, Osindero and Teh (2006) the top RBM sees the label
beside the features of the layers below. It tells the class of a row from free energies,
and draws rows of a class. Only the top needs labels: here a hundred of 1,297 digits
have one, and the others teach the layer below.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from sklearn_greedy import StackedRBMClassifier, StackedRBMTransformer

N_LABELS = 100

X, y = load_digits(return_X_y=True)
X = X / 16  # in [0, 1]: bernoulli units
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=500, random_state=0)
known = np.arange(len(y_train)) < N_LABELS
partly = np.where(known, y_train, -1)

# %%
# The two RBMs see different numbers of rows, so each has epochs of its own: about 3,000
# mini-batches of ten rows for both.


def deep_belief_network(max_iter, **params):
    """Two RBMs, the upper one with label units."""
    stack = StackedRBMTransformer(
        (200, 200), learning_rate=0.05, batch_size=10, max_iter=max_iter
    )
    return StackedRBMClassifier(stack, random_state=0, **params)


of_all, of_few = 30_000 // len(y_train), 30_000 // N_LABELS
rbm = deep_belief_network([of_all, of_few], unlabeled=-1).fit(X_train, partly)
labelled = X_train[known], y_train[known]
models = {
    "logistic regression, 100 rows": LogisticRegression(max_iter=1000).fit(*labelled),
    "deep belief network, 100 rows": deep_belief_network(of_few).fit(*labelled),
    "the same with 1,197 rows without a label": rbm,
}
for name, model in models.items():
    print(f"{name:42s}{model.score(X_test, y_test):.3f}")

# %%
# The test digits that it is least sure of, with the two most probable classes and the
# true one.

probability = rbm.predict_proba(X_test)
unclear = np.argsort(probability.max(axis=1))[:10]
figure, axes = plt.subplots(1, 10, figsize=(8, 1.4), layout="constrained")
for axis, row in zip(axes, unclear, strict=True):
    axis.imshow(X_test[row].reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
    second, first = np.argsort(probability[row])[-2:]
    axis.set(title=f"{first} or {second}", xlabel=f"is {y_test[row]}")
    axis.set(xticks=[], yticks=[])

# %%
# Trained longer and with all labels, the network draws digits of each class: the label
# units are clamped, the top RBM takes some hundred Gibbs steps, and where it ends goes
# down through the layer below. The first row is the mean of a hundred such draws.

rbm = deep_belief_network(100).fit(X_train, y_train)
print(f"with all labels: {rbm.score(X_test, y_test):.3f}")
drawn = [
    rbm.sample(np.full(100, label), n_gibbs_steps=300, random_state=label)
    for label in range(10)
]
figure, axes = plt.subplots(4, 10, figsize=(8, 3.6), layout="constrained")
for label, (line, images) in enumerate(zip(axes.T, drawn, strict=True)):
    line[0].set_title(label)
    for axis, image in zip(line, [images.mean(axis=0), *images[:3]], strict=True):
        axis.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        axis.set(xticks=[], yticks=[])
plt.show()
