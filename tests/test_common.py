"""scikit-learn's own checks: the common suite and the checks it leaves out."""

import pytest
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import has_fit_parameter

from sklearn_greedy import (
    GreedyPretrainedMLPClassifier,
    GreedyPretrainedMLPRegressor,
    StackedAutoencoderTransformer,
    StackedRBMClassifier,
    StackedRBMTransformer,
)

TRANSFORMERS = [
    StackedRBMTransformer((6,), max_iter=3),
    StackedRBMTransformer(
        (5, 3),
        visible="gaussian",
        learning_rate=[0.01, 0.05],
        persistent=True,
        visible_reconstruction="sample",
        centered=False,
        n_gibbs_steps=2,
        max_iter=2,
        early_stopping=True,
        validation_fraction=0.2,
    ),
    StackedAutoencoderTransformer((6,), max_iter=3),
    StackedAutoencoderTransformer(
        (5, 3),
        activation=["tanh", "logistic"],
        visible="gaussian",
        corruption="gaussian",
        tied_weights=False,
        solver="sgd",
        learning_rate_init=0.01,
        max_iter=2,
    ),
    StackedAutoencoderTransformer(
        (5, 3),
        activation=["elu", "softplus"],
        corruption="swap",
        emphasis=0.7,
        contraction=0.01,
        code_l1=0.01,
        alpha=0.01,
        max_gradient_norm=5.0,
        unrolled_max_iter=2,
        max_iter=2,
    ),
    StackedAutoencoderTransformer(
        (5, 3), objective="detection", corruption="swap", max_iter=2
    ),
    StackedAutoencoderTransformer(
        (5, 3),
        activation="logistic",
        corruption="salt_and_pepper",
        sparsity_target=0.2,
        n_active=[3, 2],
        schedule="simultaneous",
        max_iter=2,
    ),
    StackedRBMTransformer((5, 3), schedule="simultaneous", max_iter=2),
]
CLASSIFIERS = [
    GreedyPretrainedMLPClassifier(
        pretrainer=StackedRBMTransformer((8,), max_iter=3),
        learning_rate_init=0.05,
        batch_size=32,
        max_iter=20,
    ),
    GreedyPretrainedMLPClassifier(
        (8, 8),
        pretrainer=None,
        activation="tanh",
        solver="sgd",
        learning_rate_init=0.2,
        batch_size=32,
        max_iter=20,
    ),
    GreedyPretrainedMLPClassifier(
        (8,), pretrainer=None, solver="lbfgs", max_iter=200, max_fun=400
    ),
    GreedyPretrainedMLPClassifier(),
    GreedyPretrainedMLPClassifier((8,), pretrainer="supervised", max_iter=100),
    StackedRBMClassifier(StackedRBMTransformer((32,), learning_rate=0.02)),
    StackedRBMClassifier(StackedRBMTransformer((8, 16), learning_rate=(0.05, 0.1))),
]
REGRESSORS = [
    GreedyPretrainedMLPRegressor(),
    GreedyPretrainedMLPRegressor((8,), pretrainer=None, solver="lbfgs", max_iter=200),
    GreedyPretrainedMLPRegressor(
        pretrainer=StackedAutoencoderTransformer((8,), max_iter=3),
        solver="sgd",
        learning_rate_init=0.02,
        batch_size=32,
        max_iter=20,
    ),
    GreedyPretrainedMLPRegressor(
        pretrainer=StackedRBMTransformer((6,), max_iter=3),
        learning_rate_init=0.02,
        batch_size=32,
        max_iter=20,
    ),
]
ESTIMATORS = [*TRANSFORMERS, *CLASSIFIERS, *REGRESSORS]

# scikit-learn runs these on its own estimators; check_estimator leaves them out.
CHECKS_OF_ALL = [
    "check_param_validation",
    "check_dataframe_column_names_consistency",
    "check_inplace_ensure_writeable",
]
CHECKS_OF_TRANSFORMERS = [
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_global_output_transform_pandas",
    "check_set_output_transform_polars",
    "check_global_set_output_transform_polars",
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
    "check_get_feature_names_out_error",
]


# Rows repeated are drawn into mini-batches one by one, and a row with a weight comes as
# a whole: the same in expectation, not in each step (as for scikit-learn's networks).
MINI_BATCHES = "stochastic solvers see repeated rows in other mini-batches"


def expected_failures(estimator):
    if not has_fit_parameter(estimator, "sample_weight"):
        return {}
    if getattr(estimator, "solver", None) == "lbfgs" and estimator.pretrainer is None:
        return {}
    kinds = "dense", "sparse"
    return {
        f"check_sample_weight_equivalence_on_{kind}_data": MINI_BATCHES
        for kind in kinds
    }


# One check goes on with a stack whose unrolled network was trained.
@pytest.mark.filterwarnings("ignore:The decoder of layer 2 ended in:UserWarning")
@parametrize_with_checks(ESTIMATORS, expected_failed_checks=expected_failures)
def test_check_estimator(estimator, check):
    check(estimator)


@pytest.mark.parametrize("check", CHECKS_OF_ALL)
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_unlisted_check(estimator, check):
    getattr(estimator_checks, check)(type(estimator).__name__, estimator)


# The set_output checks mix DataFrames and arrays on purpose.
@pytest.mark.filterwarnings("ignore:X .*feature names:UserWarning")
@pytest.mark.parametrize("check", CHECKS_OF_TRANSFORMERS)
@pytest.mark.parametrize("estimator", TRANSFORMERS, ids=lambda e: type(e).__name__)
def test_unlisted_transformer_check(estimator, check):
    getattr(estimator_checks, check)(type(estimator).__name__, estimator)


def test_every_check_by_name_is_one_that_check_estimator_leaves_out():
    listed = set()
    for estimator in ESTIMATORS:
        checks = estimator_checks.estimator_checks_generator(estimator)
        listed |= {getattr(c, "func", c).__name__ for _, c in checks}
    assert len(CHECKS_OF_ALL + CHECKS_OF_TRANSFORMERS) == 11
    assert not listed & set(CHECKS_OF_ALL + CHECKS_OF_TRANSFORMERS)
