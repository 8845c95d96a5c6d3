"""The picture on the first screen of the README.

    python benchmarks/readme_picture.py [--data DIR] [--write]

An RBM of 500 hidden units learns the images of MNIST, cut at a half; the picture shows
what its units look for beside the errors by depth that `python benchmarks/networks.py`
recorded.
"""

import json

import matplotlib.pyplot as plt
import numpy as np
from common import RESULTS, ROOT, mnist_images, options_of

from sklearn_greedy import LearnedFiltersDisplay, StackedRBMTransformer

DEPTHS = range(1, 5)
SHAPE = 28, 28


def trained(X):
    return StackedRBMTransformer(
        (500,),
        persistent=True,
        centered=True,
        momentum=0.0,
        learning_rate=0.05,
        learning_rate_decay=1e-4,
        batch_size=100,
        max_iter=10,
        random_state=0,
    ).fit(X)


def draw_depths(ax):
    """Test errors with and without pre-training, from the records."""
    rows = json.loads((RESULTS / "networks.json").read_text())
    for side, label in (("without", "from scratch"), ("with", "pre-trained, RBMs")):
        errors = [
            [found["test"] for found in rows[f"depth_{depth}_{side}"]["figures"]]
            for depth in DEPTHS
        ]
        means, spread = np.mean(errors, axis=1), np.std(errors, axis=1, ddof=1)
        ax.errorbar(DEPTHS, means, spread, marker="o", capsize=3, label=label)
    ax.set(
        title="MNIST, 400 logistic units a layer",
        xlabel="hidden layers",
        ylabel="test error in %",
        xticks=DEPTHS,
        ylim=(0, None),
    )
    ax.legend()


def main():
    options = options_of(__doc__)
    images = (mnist_images(options.data)[0] >= 0.5).astype(np.float32)
    stack = trained(images)
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    LearnedFiltersDisplay.from_estimator(
        stack, image_shape=SHAPE, n_units=49, ax=axes[0]
    )
    axes[0].set_title("what hidden units of an RBM look for")
    draw_depths(axes[1])
    if options.write:
        figure.savefig(ROOT / "docs" / "images" / "first_screen.png", dpi=100)
    else:
        plt.show()


if __name__ == "__main__":
    main()
