"""Greedy layer-wise pre-training for scikit-learn."""

from sklearn_greedy._autoencoder import StackedAutoencoderTransformer
from sklearn_greedy._compare import compare_pretraining
from sklearn_greedy._display import (
    HiddenUnitsDisplay,
    LearnedFiltersDisplay,
    PretrainingComparisonDisplay,
    ReconstructionDisplay,
    SamplesDisplay,
    TrainingCurvesDisplay,
)
from sklearn_greedy._mlp import (
    GreedyPretrainedMLPClassifier,
    GreedyPretrainedMLPRegressor,
)
from sklearn_greedy._onnx import register_onnx_converters
from sklearn_greedy._rbm import StackedRBMTransformer
from sklearn_greedy._rbm_classifier import StackedRBMClassifier
from sklearn_greedy._split import LabeledSplit
from sklearn_greedy._version import VERSION

__all__ = [
    "GreedyPretrainedMLPClassifier",
    "GreedyPretrainedMLPRegressor",
    "HiddenUnitsDisplay",
    "LabeledSplit",
    "LearnedFiltersDisplay",
    "PretrainingComparisonDisplay",
    "ReconstructionDisplay",
    "SamplesDisplay",
    "StackedAutoencoderTransformer",
    "StackedRBMClassifier",
    "StackedRBMTransformer",
    "TrainingCurvesDisplay",
    "compare_pretraining",
    "register_onnx_converters",
]
__version__ = VERSION
