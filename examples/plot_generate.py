"""
Drawing digits, and their other half
====================================

An RBM is a density, so rows can be drawn from it: freely, or given some of the columns.
Here the upper half of unseen digits is *clamped* and the lower half drawn. Parallel
tempering keeps the training chains from getting stuck in one kind of digit.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sklearn_greedy import StackedRBMTransformer

X, _ = load_digits(return_X_y=True)
X = (X > 7).astype(np.float32)  # black and white, so that a sample looks like the data
X_train, X_test = train_test_split(X, test_size=200, random_state=0)

rbm = StackedRBMTransformer(
    (100,),
    centered=True,
    persistent=True,
    n_temperatures=5,
    learning_rate=0.05,
    learning_rate_decay=1e-4,
    momentum=0.0,
    max_iter=200,
    random_state=0,
).fit(X_train)
likelihood = rbm.log_likelihood(X_test, random_state=0).mean()
print(f"log-likelihood of a test digit: {likelihood:.1f} nats")

# %%
# The first row holds free samples. Below, each column is one test digit, then three
# completions of its upper half.

upper = np.arange(64) < 32
shown = X_test[:12]
rows = [rbm.sample(12, n_gibbs_steps=2000, random_state=1), shown]
rows += [
    rbm.sample(init=shown, clamp=upper, n_gibbs_steps=500, random_state=seed)
    for seed in range(3)
]
labels = ["free samples", "test digit", "completion 1", "completion 2", "completion 3"]

figure, axes = plt.subplots(len(rows), 12, figsize=(9, 4.2), layout="constrained")
for line, label, images in zip(axes, labels, rows, strict=True):
    line[0].set_ylabel(label, rotation=0, ha="right", va="center")
    for axis, image in zip(line, images, strict=True):
        axis.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        axis.set(xticks=[], yticks=[])
for axis in axes[2:].ravel():
    axis.axhline(3.5, color="tab:red", linewidth=1)
figure.suptitle("Above the red line: given. Below: drawn.")
plt.show()
