"""Greedy layer-wise pre-training for scikit-learn."""

from importlib.metadata import version

from sklearn_greedy._autoencoder import StackedAutoencoderTransformer
from sklearn_greedy._compare import compare_pretraining
from sklearn_greedy._display import PretrainingComparisonDisplay
from sklearn_greedy._mlp import (
    GreedyPretrainedMLPClassifier,
    GreedyPretrainedMLPRegressor,
)
from sklearn_greedy._rbm import StackedRBMTransformer
from sklearn_greedy._rbm_classifier import StackedRBMClassifier

__all__ = [
    "GreedyPretrainedMLPClassifier",
    "GreedyPretrainedMLPRegressor",
    "PretrainingComparisonDisplay",
    "StackedAutoencoderTransformer",
    "StackedRBMClassifier",
    "StackedRBMTransformer",
    "compare_pretraining",
]
__version__ = version("sklearn_greedy")
