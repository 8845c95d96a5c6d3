"""scikit-learn's own tests of its networks, run on ours without a pretrainer."""

from pathlib import Path

import pytest
import sklearn.neural_network.tests.test_mlp as native

from sklearn_greedy import GreedyPretrainedMLPClassifier, GreedyPretrainedMLPRegressor

pytestmark = pytest.mark.filterwarnings("default")

PRIVATE = "looks at private attributes"
FLOATS = "compares to 1e-7; our weights are float32 while they are trained"
MESSAGE = "expects the words of another message"
EXCLUDED = {
    "test_fit": "sets the fitted attributes of scikit-learn's network by hand",
    "test_gradient": PRIVATE,
    "test_learning_rate_warmstart": PRIVATE,
    "test_adaptive_learning_rate": PRIVATE,
    "test_n_iter_no_change": PRIVATE,
    "test_n_iter_no_change_inf": PRIVATE,
    "test_partial_fit_regression": FLOATS,
    "test_nonfinite_params": MESSAGE,
    "test_verbose_sgd": MESSAGE,
    "test_warm_start": MESSAGE,
    "test_early_stopping_stratified": "expects True for the label 1; ours says 1",
    "test_minimum_input_sample_size": MESSAGE,
    "test_mlp_diverging_loss": "we raise where the loss explodes, instead of going on",
    "test_preserve_feature_names": "fits a single class, which we refuse",
}


DEFAULTS = {"hidden_layer_sizes": (100,), "activation": "relu", "pretrainer": None}


def ours(cls):
    """Function in the place of scikit-learn's class."""

    def build(*args, **params):
        given = dict(zip(("hidden_layer_sizes", "activation"), args, strict=False))
        return cls(**{**DEFAULTS, **given, **params})

    build.__name__ = cls.__name__
    return build


def load() -> dict:
    """Names of scikit-learn's test module, with our classes for its own."""
    source = Path(native.__file__).read_text(encoding="utf-8")
    line = "from sklearn.neural_network import MLPClassifier, MLPRegressor"
    assert source.count(line) == 1
    names = {
        "__name__": native.__name__,
        "MLPClassifier": ours(GreedyPretrainedMLPClassifier),
        "MLPRegressor": ours(GreedyPretrainedMLPRegressor),
    }
    exec(compile(source.replace(line, ""), native.__file__, "exec"), names)
    return names


TESTS = {
    name: test
    for name, test in load().items()
    if name.startswith("test_") and name not in EXCLUDED
}
globals().update(TESTS)


def test_feature_names_of_a_regressor_are_kept():
    """The half of an excluded test that does not fit a single class."""
    native_test = load()["test_preserve_feature_names"]
    native_test(ours(GreedyPretrainedMLPRegressor))


@pytest.fixture
def global_random_seed():
    return 0


def test_enough_of_the_suite_is_left():
    assert len(TESTS) > 25
    assert len(EXCLUDED) <= 14
