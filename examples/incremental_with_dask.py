"""
Chunks of a dask array
======================

``python examples/incremental_with_dask.py`` (needs ``pip install dask-ml``)

``Incremental`` of dask-ml hands the chunks of a dask array to ``partial_fit`` one after
the other, so that no more than one of them is in memory at a time. Here the stack
learns from all chunks without their labels, then a network on top of it from the labels
of the same chunks, each for some passes.

Every layer sees a chunk after those below it have. The first chunk decides on the kinds
of the columns; the scale of gaussian ones is that of all rows so far.
"""

import dask.array as da
import numpy as np
from dask_ml.wrappers import Incremental
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split

from sklearn_greedy import GreedyPretrainedMLPClassifier, StackedRBMTransformer

N_PASSES = 10


def trained(estimator, X, y, **fit_params):
    """The estimator after some passes over all chunks, each in another order."""
    order = np.random.RandomState(0)
    passes = Incremental(estimator, shuffle_blocks=True, random_state=order)
    for _ in range(N_PASSES):
        passes.partial_fit(X, y, **fit_params)
    return passes.estimator_


def main():
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0)
    # Any dask array will do, also one that reads its chunks from files.
    X_chunks = da.from_array(X_train, chunks=(200, -1))
    y_chunks = da.from_array(y_train, chunks=200)

    stack = StackedRBMTransformer((128, 64), batch_size=20, random_state=0)
    stack = trained(stack, X_chunks, None)
    clf = GreedyPretrainedMLPClassifier(
        pretrainer=FrozenEstimator(stack),
        learning_rate_init=0.01,
        batch_size=20,
        random_state=0,
    )
    clf = trained(clf, X_chunks, y_chunks, classes=np.unique(y))
    print(f"{X_chunks.numblocks[0]} chunks of up to {X_chunks.chunksize[0]} rows")
    print(f"accuracy on held-out rows {clf.score(X_test, y_test):.3f}")


if __name__ == "__main__":
    main()
