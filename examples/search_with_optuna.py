"""
A search with Optuna
====================

``python examples/search_with_optuna.py [--trials 12]`` (needs ``pip install optuna``)

A trial may choose anything that Python can write down: here the number of layers, and
for each layer its width and its own learning rate. Three things make the search short:

- ``memory``: a trial whose first layers were trained before takes them from the folder;
  steps of the search space that are not too fine make that likely.
- Layers are suggested from the first to the last under fixed names, so that the sampler
  learns about a layer whatever is above it.
- The score is reported after each fold, and a trial that is behind is ended there.
"""

import argparse
import tempfile
import warnings

import numpy as np
import optuna
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold, train_test_split

from sklearn_greedy import GreedyPretrainedMLPClassifier, StackedRBMTransformer


def suggested(trial, memory):
    """The network that a trial asks for."""
    layers = range(1, trial.suggest_int("n_layers", 1, 3) + 1)
    stack = StackedRBMTransformer(
        hidden_layer_sizes=[
            trial.suggest_int(f"width_{layer}", 32, 128, step=32) for layer in layers
        ],
        learning_rate=[
            trial.suggest_categorical(f"learning_rate_{layer}", [0.02, 0.05, 0.1])
            for layer in layers
        ],
        max_iter=10,
        memory=memory,
    )
    return GreedyPretrainedMLPClassifier(
        pretrainer=stack,
        alpha=trial.suggest_float("alpha", 1e-5, 1.0, log=True),
        dropout=trial.suggest_float("dropout", 0.0, 0.5),
        learning_rate_init=0.01,
        batch_size=50,
        max_iter=20,
        random_state=0,
    )


def objective(trial, X, y, memory):
    """Mean accuracy over three folds, reported as they come."""
    scores = []
    folds = StratifiedKFold(3).split(X, y)
    for step, (train, test) in enumerate(folds):
        clf = suggested(trial, memory).fit(X[train], y[train])
        scores.append(clf.score(X[test], y[test]))
        trial.report(np.mean(scores), step)
        if trial.should_prune():
            raise optuna.TrialPruned
    return np.mean(scores)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--trials", type=int, default=12)
    n_trials = parser.parse_args().trials
    # The networks stop at their epoch budget, as meant.
    warnings.simplefilter("ignore", ConvergenceWarning)
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X / 16, y, train_size=600, random_state=0
    )
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=0, n_startup_trials=5),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=3),
    )
    with tempfile.TemporaryDirectory() as memory:
        study.optimize(
            lambda trial: objective(trial, X_train, y_train, memory), n_trials
        )
        best = suggested(optuna.trial.FixedTrial(study.best_params), memory)
        best.fit(X_train, y_train)
    states = [trial.state.name for trial in study.trials]
    print(
        f"{states.count('COMPLETE')} trials finished, {states.count('PRUNED')} pruned"
    )
    print(f"best in cross-validation {study.best_value:.3f}: {study.best_params}")
    print(f"accuracy on held-out rows {best.score(X_test, y_test):.3f}")


if __name__ == "__main__":
    main()
