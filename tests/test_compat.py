"""What stands in for newer parts of scikit-learn."""

import subprocess
import sys

import pytest
from tools import SCIKIT_LEARN

from sklearn_greedy._compat import CallbackSupport, NoCallbackSupport


def test_callbacks_are_those_of_scikit_learn_where_it_has_them():
    assert (CallbackSupport is NoCallbackSupport) == (SCIKIT_LEARN < (1, 9))


def test_without_callbacks_in_scikit_learn():
    class Older(NoCallbackSupport):
        pass

    older = Older()
    assert older.set_callbacks() is older
    with pytest.raises(NotImplementedError, match=r"need scikit-learn 1\.9"):
        older.set_callbacks(object())
    context = older._init_callback_context(max_subtasks=3).subcontext(task_name="x")
    context.call_on_fit_task_begin(estimator=older)
    with context.propagate_callback_context(older):
        assert context.call_on_fit_task_end(estimator=older) is False


def test_everything_fits_without_callbacks_in_scikit_learn():
    """As in 1.6 to 1.8; the module is hidden from the package where it is there."""
    code = """
import sys
import sklearn.model_selection, sklearn.pipeline
sys.modules["sklearn.callback"] = None
import numpy as np
from sklearn_greedy import *
from sklearn_greedy._compat import CallbackSupport, NoCallbackSupport
assert CallbackSupport is NoCallbackSupport
assert issubclass(StackedRBMTransformer, NoCallbackSupport)
X = np.random.default_rng(0).random((40, 5))
y = np.arange(40) % 2
rbm = StackedRBMTransformer((3, 2), max_iter=1)
autoencoder = StackedAutoencoderTransformer((3,), max_iter=1, unrolled_max_iter=1)
for estimator in (
    rbm,
    autoencoder,
    StackedRBMClassifier(rbm),
    GreedyPretrainedMLPClassifier(pretrainer=rbm, max_iter=1, head_max_iter=1),
    GreedyPretrainedMLPClassifier((3,), pretrainer="supervised", max_iter=1),
    GreedyPretrainedMLPRegressor(pretrainer=autoencoder, max_iter=1, solver="lbfgs"),
):
    estimator.fit(X, y)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
