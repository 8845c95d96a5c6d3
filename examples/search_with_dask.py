"""
A search on a dask cluster
==========================

``python examples/search_with_dask.py`` (needs ``pip install distributed``)

joblib's dask backend sends the fits of any scikit-learn search to the workers of a
cluster. Here these are two processes of this machine; ``Client("scheduler:8786")`` in
place of the first lines of ``main`` takes a cluster that is there already, with the
package installed on all its machines.

Estimators travel as plain arrays, without compiled code. Workers compile the training
loops or load them from the disk of their machine; where machines share their home
folders, let ``NUMBA_CACHE_DIR`` name a folder that they do not share. ``memory`` may be
on a shared disk: workers then take each other's layers.
"""

import tempfile
import warnings

import joblib
from dask.distributed import Client, LocalCluster
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, train_test_split
from threadpoolctl import threadpool_info

from sklearn_greedy import GreedyPretrainedMLPClassifier, StackedRBMTransformer

GRID = {
    "pretrainer__hidden_layer_sizes": [(128,), (128, 64)],
    "alpha": [1e-3, 1e-1, 10.0],
}


def blas_threads():
    """Most threads that a matrix product may take in this process."""
    return max(library["num_threads"] for library in threadpool_info())


def main():
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X / 16, y, train_size=600, random_state=0
    )
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
        tempfile.TemporaryDirectory() as memory,
    ):
        stack = StackedRBMTransformer(max_iter=10, memory=memory)
        clf = GreedyPretrainedMLPClassifier(
            pretrainer=stack,
            learning_rate_init=0.01,
            batch_size=50,
            max_iter=20,
            random_state=0,
        )
        search = GridSearchCV(clf, GRID, cv=3)
        with joblib.parallel_config("dask"):
            search.fit(X_train, y_train)
        print(f"BLAS threads of the workers: {list(client.run(blas_threads).values())}")
    print(f"best in cross-validation {search.best_score_:.3f}: {search.best_params_}")
    print(f"accuracy on held-out rows {search.score(X_test, y_test):.3f}")


if __name__ == "__main__":
    # The networks stop at their epoch budget, as meant.
    warnings.simplefilter("ignore", ConvergenceWarning)
    main()
