"""What type checkers see of the public names; mypy reads this file as well."""

from typing import Any, assert_type

import numpy.typing as npt

from sklearn_greedy import (
    GreedyPretrainedMLPClassifier,
    GreedyPretrainedMLPRegressor,
    StackedAutoencoderTransformer,
    StackedRBMClassifier,
    StackedRBMTransformer,
)

Array = npt.NDArray[Any]


def test_chains_keep_the_class(iris):
    """The decorators of fit and of others are untyped and hid what they decorate."""
    X, y = iris
    stack = StackedRBMTransformer((4, 3), max_iter=1).fit(X)
    assert type(assert_type(stack, StackedRBMTransformer)) is StackedRBMTransformer
    assert len(assert_type(stack.coefs_, list[Array])) == 2
    assert assert_type(stack.sample(3), Array).shape == (3, 4)
    assert "log_z" in assert_type(stack.log_partition(), dict[str, Any])
    coder = StackedAutoencoderTransformer((4,), max_iter=1).fit(X)
    assert assert_type(coder.score_samples(X), Array).shape == (150,)
    network = GreedyPretrainedMLPClassifier((4,), max_iter=1).fit(X, y)
    assert_type(network.partial_fit(X, y), GreedyPretrainedMLPClassifier)
    assert assert_type(network.predict_proba(X), Array).shape == (150, 3)
    assert 0 <= assert_type(network.score(X, y), float) <= 1
    numbers = GreedyPretrainedMLPRegressor((4,), max_iter=1).fit(X, X[:, 0])
    assert len(assert_type(numbers.loss_curve_, list[float])) == 1
    generative = StackedRBMClassifier(random_state=0).fit(X, y)
    assert_type(generative, StackedRBMClassifier)
