"""
Rows that break the pattern
===========================

An autoencoder learns how the columns of a table hang together. A row that does not fit
is rebuilt badly and gets a low ``score_samples``, and the errors by column tell why.
Here the stack sees benign tumours alone; malignant ones are what it has to find. On
this small table an isolation forest and PCA find a little more of them: take the
simplest that does, and the stack where columns hang together in ways that are not
linear.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from sklearn_greedy import StackedAutoencoderTransformer

data = load_breast_cancer(as_frame=True)
benign, malignant = data.data[data.target == 1], data.data[data.target == 0]
train, held = train_test_split(benign, test_size=0.3, random_state=0)

# %%
# Train on normal rows
# --------------------
# Raw columns of any scale can be given. Swap noise replaces cells by values of other
# rows, so that the stack learns to tell a column from the others; the small code on top
# cannot pass on what does not follow the pattern.

stack = StackedAutoencoderTransformer(
    (64, 8),
    activation=["relu", "identity"],
    corruption="swap",
    corruption_level=0.1,
    max_iter=50,
    unrolled_max_iter=100,
    random_state=0,
).fit(train)

# %%
# Find the others
# ---------------
# Beside it stand an isolation forest and the reconstruction error of principal
# components, whose number is the one with the best figure: it was chosen on the answer.


def area(score):
    """Area under the ROC curve for finding malignant rows by a low score."""
    truth = np.repeat([False, True], [len(held), len(malignant)])
    return roc_auc_score(truth, -np.concatenate([score(held), score(malignant)]))


def pca_score(n_components):
    scaler = StandardScaler().fit(train)
    pca = PCA(n_components).fit(scaler.transform(train))

    def score(rows):
        rows = scaler.transform(rows)
        rebuilt = pca.inverse_transform(pca.transform(rows))
        return -np.sum((rows - rebuilt) ** 2, axis=1)

    return score


forest = IsolationForest(random_state=0).fit(train)
print(f"autoencoder      {area(stack.score_samples):.3f}")
print(f"isolation forest {area(forest.score_samples):.3f}")
print(f"PCA              {max(area(pca_score(k)) for k in range(1, 25)):.3f}")

# %%
# Say why
# -------
# ``feature_report`` gives the error of each column, beside its variance. The ratio of
# both kinds of rows names the measurements that do not fit the benign pattern.

usual = stack.feature_report(held)
odd = stack.feature_report(malignant)
ratio = odd["squared_error"] / usual["squared_error"]
order = np.argsort(ratio)[-8:]

fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
bins = np.linspace(0, 3, 40)
for rows, name in ((held, "benign, held out"), (malignant, "malignant")):
    left.hist(np.log10(-stack.score_samples(rows)), bins, alpha=0.6, label=name)
left.set(xlabel="log10 of the reconstruction loss", ylabel="rows")
left.legend()
right.barh(odd["feature"][order], ratio[order])
right.set(xlabel="squared error, malignant over benign")
plt.show()
