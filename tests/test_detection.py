"""Autoencoder stacks that learn which cells noise has changed."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.special import expit, logit
from sklearn.base import clone
from sklearn.metrics import log_loss, roc_auc_score

from sklearn_greedy import (
    GreedyPretrainedMLPClassifier,
    ReconstructionDisplay,
    StackedAutoencoderTransformer,
)
from sklearn_greedy._network import forward

GROUP = [("softmax", [0, 1, 2]), ("gaussian", [3, 4, 5])]


@pytest.fixture
def related(rng):
    """Eight columns of any scale that two factors make."""
    X = rng.normal(size=(800, 2)) @ rng.normal(size=(2, 8))
    return X * np.logspace(-2, 3, 8) + 100


def fit(X, sizes=(32,), **params):
    defaults = {
        "objective": "detection",
        "corruption": "swap",
        "corruption_level": 0.2,
        "tied_weights": False,
        "max_iter": 60,
        "learning_rate_init": 0.01,
        "random_state": 0,
    }
    return StackedAutoencoderTransformer(sizes, **{**defaults, **params}).fit(X)


def logits(stack, X):
    """What the decoders say of the cells of raw rows."""
    down = stack.decoder_coefs_, stack.decoder_intercepts_, stack.decoder_activations_
    return forward(stack.transform(X), *(part[::-1] for part in down))


def swapped(X, rng):
    """Rows with a fifth of the cells from other rows, and which these are."""
    other = np.take_along_axis(X, rng.permuted(np.indices(X.shape)[0], axis=0), axis=0)
    noisy = np.where(rng.random(X.shape) < 0.2, other, X)
    return noisy, noisy != X


@pytest.mark.parametrize("params", [{}, {"sizes": (32, 16), "unrolled_max_iter": 60}])
def test_swapped_cells_are_told_from_others(params, related, rng):
    """Of rows it has not seen; where columns are independent there is nothing to tell
    but from how common a value is.
    """
    alone = rng.permuted(related, axis=0)
    areas = []
    for X in (related, alone):
        noisy, changed = swapped(X[400:], rng)
        stack = fit(X[:400], **params)
        areas.append(roc_auc_score(changed.ravel(), logits(stack, noisy).ravel()))
    assert areas[0] > 0.8
    assert areas[1] < 0.6


def test_logits_are_log_odds(related, rng):
    """Their cross-entropy on new rows is near that of training, and they are right as
    often as they say.
    """
    noisy, changed = swapped(related[400:], rng)
    stack = fit(related[:400], max_iter=30)
    shares = expit(logits(stack, noisy)).ravel()
    assert log_loss(changed.ravel(), shares) < 1.3 * stack.loss_curves_[0][-1] / 8
    assert np.mean(shares) == pytest.approx(np.mean(changed), rel=0.2)


def test_the_scale_of_the_columns_changes_nothing(related):
    other = related * np.logspace(3, -2, 8) - 5
    ours, theirs = fit(related, max_iter=3), fit(other, max_iter=3)
    assert_allclose(ours.transform(related), theirs.transform(other), rtol=1e-3)
    for name in ("decoder_coefs_", "decoder_intercepts_"):
        a, b = getattr(ours, name)[0], getattr(theirs, name)[0]
        assert_allclose(a, b, rtol=1e-2, atol=1e-4)


def test_a_category_is_swapped_as_a_whole(rng):
    """Both of its columns that differ are changed ones; three numbers agree on it."""
    category = rng.integers(3, size=600)
    numbers = category[:, None] + 0.01 * rng.normal(size=(600, 3))
    X = np.hstack([np.eye(3)[category], numbers])
    stack = fit(X, visible=GROUP, corruption_level=0.3)
    wrong = X.copy()
    wrong[:, :3] = X[:, [1, 2, 0]]
    here = X[:, :3] != wrong[:, :3]
    told = logits(stack, wrong)[:, :3] > 0
    assert np.mean(told == here) > 0.95
    assert np.mean(logits(stack, X)[:, :3] > 0) < 0.05


def test_layers_and_dtypes(related):
    stack = fit(related.astype(np.float32), (8, 4))
    assert stack.transform(related.astype(np.float32)).dtype == np.float32
    assert [coef.shape for coef in stack.decoder_coefs_] == [(8, 8), (4, 8)]
    assert stack.decoder_activations_ == ["identity", "identity"]
    assert all(curve[-1] < curve[0] for curve in stack.loss_curves_)


def test_output_biases_begin_at_the_log_odds_of_the_level(related):
    stack = fit(related, (8, 4), corruption_level=[0.2, 0.1], max_iter=0)
    means = [biases.mean() for biases in stack.decoder_intercepts_]
    assert_allclose(means, logit([0.2, 0.1]), atol=0.4)


def test_csr_rows_are_learned_as_dense_ones(rng):
    X = (rng.random((200, 30)) < 0.1).astype(np.float32)
    dense, csr = (
        fit(rows, max_iter=20, corruption="masking", corruption_level=0.5)
        for rows in (X, sparse.csr_matrix(X))
    )
    assert_allclose(dense.coefs_[0], csr.coefs_[0], rtol=1e-5, atol=1e-6)


def test_tied_weights_stay_tied(related):
    """Also at a warm start: the decoder is not in the scale of the columns."""
    stack = fit(related, tied_weights=True, max_iter=5, warm_start=True)
    for _ in range(2):
        scaled = stack.coefs_[0] * stack.visible_scale_[:, None]
        assert_allclose(scaled, stack.decoder_coefs_[0].T, rtol=1e-6)
        stack.fit(related)


@pytest.mark.parametrize("unrolled", [0, 5])
def test_a_warm_start_goes_on(unrolled, related):
    params = {"sizes": (16, 8), "unrolled_max_iter": unrolled, "warm_start": True}
    stack = fit(related, max_iter=20, **params)
    before = stack.loss_curves_[0][0]
    after = stack.fit(related).loss_curves_[0][0]
    assert after < 0.95 * before


def test_chunks_are_learned_one_after_the_other(related):
    stack = StackedAutoencoderTransformer(
        (16, 8), objective="detection", corruption="swap", random_state=0
    )
    for _ in range(3):
        for rows in np.split(related, 4):
            stack.partial_fit(rows)
    assert stack.loss_curves_[0][-1] < stack.loss_curves_[0][0]


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_fitted_decoders_keep_their_objective(method, related):
    stack = fit(related, max_iter=1, warm_start=True)
    stack.set_params(objective="reconstruction")
    with pytest.raises(ValueError, match="learned 'detection'"):
        getattr(stack, method)(related)
    assert not hasattr(stack, "reconstruct")  # as it is fitted


def test_what_rebuilds_rows_is_not_there(related):
    stack = fit(related, max_iter=1)
    names = "inverse_transform reconstruct score_samples score feature_report".split()
    assert not any(hasattr(stack, name) for name in names)
    with pytest.raises(AttributeError) as caught:
        stack.reconstruct(related)
    assert "rebuild none" in str(caught.value.__cause__)
    with pytest.raises(TypeError, match="rebuilds no rows"):
        ReconstructionDisplay.from_estimator(stack, related, image_shape=(2, 4))
    rebuilding = clone(stack).set_params(objective="reconstruction").fit(related)
    assert all(hasattr(rebuilding, name) for name in names)


@pytest.mark.parametrize(
    ("corruption", "level"),
    [(None, 0.25), ("gaussian", 0.25), ("swap", 0.0), ("swap", 1.0)],
)
def test_there_must_be_changed_cells(corruption, level, related):
    with pytest.raises(ValueError, match=r"needs corruption='swap'.*Got corruption="):
        fit(related, corruption=corruption, corruption_level=level)


def test_early_stopping_follows_the_cross_entropy_of_noisy_rows(related, monkeypatch):
    """A network that never tells of a change is perfect on clean rows, not on these."""
    held = np.arange(0, 800, 7)
    monkeypatch.setattr("sklearn_greedy._stack.held_out_rows", lambda *_: held)
    stack = fit(related, early_stopping=True, max_iter=40)
    scores = stack.validation_scores_[0]
    share = 0.2 * (1 - 1 / 8)
    never = 8 * (share * np.log(share) + (1 - share) * np.log(1 - share))
    assert scores[0] < scores[-1]
    assert max(scores) > 0.9 * never
    assert max(scores) < -0.5 * stack.loss_curves_[0][-1]


def test_the_report_says_how_well_changes_are_told(related, rng):
    report = fit(related).layer_report_[0]
    share = 0.2
    entropy = -share * np.log(share) - (1 - share) * np.log(1 - share)
    assert report["baseline_loss"] == pytest.approx(entropy, rel=0.1)
    assert report["detection_loss"] < 0.8 * report["baseline_loss"]
    assert "reconstruction_error" not in report


def test_unrolled_decoders_begin_anew(related):
    """What upper decoders told of features leads to no logits of the columns."""
    # From gradients of no length: the network ends as it began.
    alone, unrolled = (
        fit(
            related,
            (16, 8),
            solver="sgd",
            max_gradient_norm=1e-12,
            max_iter=1,
            unrolled_max_iter=n_epochs,
        )
        for n_epochs in (0, 1)
    )
    assert_allclose(unrolled.coefs_[1], alone.coefs_[1], rtol=1e-5)
    assert_allclose(unrolled.decoder_coefs_[0], alone.decoder_coefs_[0], rtol=1e-5)
    assert np.abs(unrolled.decoder_coefs_[1] - alone.decoder_coefs_[1]).max() > 0.1
    assert unrolled.decoder_activations_ == ["identity", "relu"]


def test_a_network_starts_from_it(related):
    """Beside targets too, whose head sees the noise and not what it changed."""
    y = related[:, 0] > np.median(related[:, 0])
    stack = clone(fit(related, max_iter=3))
    model = GreedyPretrainedMLPClassifier(pretrainer=stack, max_iter=1, random_state=0)
    model.set_params(learning_rate_init=1e-9).fit(related, y)
    expected = clone(model.pretrainer_).fit(related)
    assert_allclose(model.coefs_[0], expected.coefs_[0], rtol=1e-4)
    both = clone(model).set_params(supervised_weight=0.5, max_iter=20)
    both.set_params(learning_rate_init=0.01)
    assert both.fit(related, y).score(related, y) > 0.9


def test_the_same_seed_learns_the_same(related):
    assert_array_equal(fit(related).coefs_[0], fit(related).coefs_[0])
