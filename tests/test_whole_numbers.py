"""Whole numbers that are too many to be floats all at once."""

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_array_equal
from scipy import sparse
from sklearn.base import clone
from tools import leaves, peak_memory

from sklearn_greedy import (
    GreedyPretrainedMLPClassifier,
    GreedyPretrainedMLPRegressor,
    StackedAutoencoderTransformer,
    StackedRBMClassifier,
    StackedRBMTransformer,
)
from sklearn_greedy._validation import FloatRows, validated

NO_ROOM = {"working_memory": 0}
STACK = StackedRBMTransformer((6, 4), max_iter=2, random_state=0)
ESTIMATORS = {
    "RBMs": STACK,
    "one RBM": StackedRBMTransformer((4,), max_iter=2, random_state=0),
    "all layers at a time": StackedRBMTransformer(
        (6, 4), schedule="simultaneous", max_iter=2, random_state=0
    ),
    "autoencoder": StackedAutoencoderTransformer((6, 4), max_iter=2, random_state=0),
    "classifier": GreedyPretrainedMLPClassifier(
        (6,), pretrainer="rbm", head_max_iter=2, max_iter=3, random_state=0
    ),
    "regressor": GreedyPretrainedMLPRegressor(
        (6,), pretrainer="supervised", early_stopping=True, max_iter=3, random_state=0
    ),
    "lbfgs": GreedyPretrainedMLPClassifier(
        (6,), pretrainer=None, solver="lbfgs", max_iter=3, random_state=0
    ),
    "label units": StackedRBMClassifier(STACK, random_state=0),
}
METHODS = {
    "transform": {},
    "score_samples": {},
    "free_energy": {},
    "log_likelihood": {"random_state": 0, "method": "exact", "n_samples": 5},
    "log_partition": {"random_state": 0, "method": "ais", "n_temperatures": 9},
    "gibbs": {"random_state": 0},
    "feature_report": {},
    "reconstruct": {},
    "predict": {},
    "predict_proba": {},
    "hidden_activations": {},
}


@pytest.fixture
def whole(rng):
    return rng.integers(0, 256, (80, 7), dtype=np.uint8)


def outcomes(estimator, X, y):
    """All that an estimator knows and says of rows that it is fitted to."""
    estimator.fit(X, y)
    early = getattr(estimator, "early_stopping", False)
    if hasattr(estimator, "partial_fit") and not early:
        estimator.partial_fit(X, y)
    said = [
        getattr(estimator, name)(X, **options)
        for name, options in METHODS.items()
        if hasattr(estimator, name)
    ]
    vars(estimator).pop("phase_seconds_", None)
    return leaves([estimator, said])


def assert_same(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        assert_array_equal(ours, theirs)
        assert np.asarray(ours).dtype == np.asarray(theirs).dtype


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("dtype", ["u1", ">i2", "?"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore:.*(judges rows|idle|rebuild)")
def test_they_say_what_floats_say(name, dtype, whole):
    X = (whole > 99 if dtype == "?" else whole).astype(dtype)
    y = (whole[:, 1] > 99).astype(int)
    with sklearn.config_context(**NO_ROOM):
        floats = outcomes(clone(ESTIMATORS[name]), X.astype(float), y)
        assert_same(outcomes(clone(ESTIMATORS[name]), X, y), floats)


@pytest.mark.parametrize("name", ["classifier", "label units"])
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array, np.float32])
def test_some_rows_may_have_no_label(name, form, whole):
    y, more = np.arange(80) % 3 - 1, form(whole[:30])

    def fitted(X):
        model = clone(ESTIMATORS[name]).set_params(unlabeled=-1)
        model.fit(X, y, X_unlabeled=more)
        vars(model).pop("phase_seconds_", None)
        return leaves(model)

    with sklearn.config_context(**NO_ROOM):
        assert_same(fitted(whole), fitted(whole.astype(float)))


def test_cached_layers_are_those_of_floats(whole, tmp_path):
    def entries():
        return {path.parent.name for path in tmp_path.rglob("output.pkl")}

    stack = clone(STACK).set_params(memory=str(tmp_path))
    kept = leaves(stack.fit(whole.astype(float)).coefs_)
    before = entries()
    with sklearn.config_context(**NO_ROOM):
        assert_same(leaves(stack.fit(whole).coefs_), kept)
    assert entries() == before
    assert len(before) == 2


@pytest.mark.parametrize("name", ["one RBM", "autoencoder", "classifier"])
def test_a_file_of_them_is_never_in_memory(name, tmp_path):
    """As floats it would be 256 MB."""
    X = np.memmap(tmp_path / "X.bin", np.uint8, "w+", shape=(400_000, 80))
    X[:] = np.random.default_rng(0).integers(0, 2, (1000, 80)).repeat(400, 0)
    y = X[:, 0] * 1
    model = clone(ESTIMATORS[name])
    pretrainer = {"pretrainer": None} if name == "classifier" else {}
    model.set_params(hidden_layer_sizes=(2,), batch_size=1000, max_iter=1, **pretrainer)
    ask = model.predict if name == "classifier" else model.transform
    with sklearn.config_context(working_memory=16):
        assert peak_memory(model.fit, X, y) < 64e6
        assert peak_memory(ask, X) < 64e6


def test_what_has_room_is_a_plain_array(whole):
    def rows(X):
        return validated(clone(STACK), X, reset=True)

    assert rows(whole).dtype == float
    assert isinstance(rows(whole), np.ndarray)
    with sklearn.config_context(**NO_ROOM):
        kept = rows(whole)
        assert isinstance(kept, FloatRows)
        assert kept.whole is whole
        assert isinstance(rows(whole.astype(np.float32)), np.ndarray)
        assert rows(kept).whole is whole
        with pytest.raises(ValueError, match="2D array"):
            rows(whole[0])
