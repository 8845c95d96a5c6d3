"""Greedy schemes with targets, weights in the pre-training, and what fine-tuning may
hold back: dropout, short weights, slow and frozen layers, rows of one's own to watch.
"""

import itertools
import warnings
from dataclasses import replace

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, PoissonRegressor
from sklearn.metrics import log_loss, mean_poisson_deviance
from tools import SCIKIT_LEARN, recorded_networks

from sklearn_greedy import (
    GreedyPretrainedMLPClassifier,
    GreedyPretrainedMLPRegressor,
    StackedAutoencoderTransformer,
    StackedRBMTransformer,
)
from sklearn_greedy._backpropagation import Backpropagation, Optimizer
from sklearn_greedy._layer import LayerOutput, next_data
from sklearn_greedy._network import Network, forward, glorot_uniform
from sklearn_greedy._rows import OneHotRows, Rows, drawn_rows
from sklearn_greedy._supervision import SupervisedModel, Supervision
from sklearn_greedy._training import Plan
from sklearn_greedy._units import GAUSSIAN, SOFTMAX, ColumnStatistics

MLPS = GreedyPretrainedMLPClassifier, GreedyPretrainedMLPRegressor
STACKS = {
    "autoencoder": StackedAutoencoderTransformer((6, 4), max_iter=3),
    "untied": StackedAutoencoderTransformer((6, 4), max_iter=3, tied_weights=False),
    "k-sparse": StackedAutoencoderTransformer((6, 4), max_iter=3, n_active=[3, 2]),
    "together": StackedAutoencoderTransformer(
        (6, 4), max_iter=3, schedule="simultaneous"
    ),
    "rbm": StackedRBMTransformer((6, 4), max_iter=3),
    "relu rbm": StackedRBMTransformer((6, 4), max_iter=3, hidden="relu"),
}
TRAINED_BY_TARGETS = {
    **STACKS,
    "unrolled": StackedAutoencoderTransformer((6, 4), max_iter=1, unrolled_max_iter=3),
}
STILL = 1e-30


@pytest.fixture(params=MLPS, ids=lambda c: c.__name__)
def mlp_class(request):
    return request.param


def network_on(pretrainer, **params):
    """A classifier whose fine-tuning does next to nothing."""
    still = {"learning_rate_init": STILL, "max_iter": 1, "random_state": 0}
    return GreedyPretrainedMLPClassifier(pretrainer=pretrainer, **{**still, **params})


@pytest.fixture
def heads(monkeypatch):
    """Networks with a temporary head that are trained while the test runs."""
    return recorded_networks(monkeypatch, "_supervision")


@pytest.fixture
def networks(monkeypatch):
    """Networks on the targets, greedy ones and then the whole, in that order."""
    return recorded_networks(monkeypatch, "_fine_tuning")


# --- greedy training on the targets -------------------------------------------------


def separable_by_noise(rng, n=600):
    """Columns of large variance that say nothing, and a small one that says all."""
    y = rng.integers(2, size=n)
    X = rng.normal(size=(n, 10)) @ rng.normal(size=(10, 10))
    return np.column_stack([X, 0.3 * (2 * y - 1) + 0.1 * rng.normal(size=n)]), y


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_supervised_layers_know_the_targets(solver, rng):
    """A linear model on the features of either layer predicts them."""
    X, y = separable_by_noise(rng)
    clf = GreedyPretrainedMLPClassifier(
        (8, 8),
        pretrainer="supervised",
        solver=solver,
        n_frozen_layers=2,
        learning_rate_init=0.01,
        max_iter=60,
        random_state=0,
    ).fit(X, y)
    assert [len(curve) > 5 for curve in clf.pretraining_loss_curves_] == [True] * 2
    for layer in (0, 1):
        H = clf.hidden_activations(X, layer)
        assert LogisticRegression(max_iter=1000).fit(H, y).score(H, y) > 0.97
    assert clf.pretrainer_ is None


def test_supervised_regressor_learns_in_the_units_of_its_target(rng):
    X = 50 + 10 * rng.normal(size=(300, 4))
    y = 1e4 + 100 * (X[:, 0] - X[:, 1])
    params = {"pretrainer": "supervised", "learning_rate_init": 0.01, "tol": 0}
    reg = GreedyPretrainedMLPRegressor((16, 8), max_iter=100, random_state=0, **params)
    assert reg.fit(X, y).score(X, y) > 0.98


def test_supervised_start_keeps_layers_and_the_last_head(iris):
    """Where the fine-tuning stands still, the network is the greedy one."""
    X, y = iris
    clf = GreedyPretrainedMLPClassifier(
        (5, 4), pretrainer="supervised", max_iter=80, tol=0, random_state=0
    ).fit(X, y)
    greedy_loss = clf.pretraining_loss_curves_[-1][-1]
    assert clf.loss_curve_[0] == pytest.approx(greedy_loss, rel=0.05)


@pytest.mark.parametrize("name", [*TRAINED_BY_TARGETS, "supervised"])
def test_a_head_that_is_not_kept_begins_random(name, iris):
    """Like that of layers that have seen no target."""
    own = {"keep_head": False, "hidden_layer_sizes": (6, 4)}
    weight = 0.0 if name == "supervised" else 0.5
    pretrainer = TRAINED_BY_TARGETS.get(name, name)
    clf = network_on(pretrainer, supervised_weight=weight, **own)
    top = clf.fit(*iris).coefs_[-1]
    kept = clf.set_params(keep_head=True).fit(*iris).coefs_[-1]
    factor = 2 if clf.activations_[-1] == "logistic" else 6
    bound = np.sqrt(factor / (4 + 3))
    assert not np.allclose(top, kept, atol=0.1)
    assert 0.5 * bound < np.abs(top).max() < bound


@pytest.mark.parametrize("name", TRAINED_BY_TARGETS)
def test_the_network_begins_with_the_last_head(name, iris, heads):
    clf = network_on(TRAINED_BY_TARGETS[name], supervised_weight=0.5).fit(*iris)
    coefs, intercepts = heads[-1].network.views(heads[-1].theta)
    assert_allclose(clf.coefs_[-1], coefs[-1], rtol=1e-6)
    assert_allclose(clf.intercepts_[-1], intercepts[-1], rtol=1e-6)


def test_a_kept_head_predicts_in_the_units_of_the_target(rng):
    X = 50 + 10 * rng.normal(size=(300, 4))
    y = 1e4 + 100 * (X[:, 0] - X[:, 1])
    stack = StackedAutoencoderTransformer(
        (16,), corruption=None, learning_rate_init=0.01, max_iter=100
    )
    still = {"learning_rate_init": STILL, "max_iter": 1, "random_state": 0}
    reg = GreedyPretrainedMLPRegressor(pretrainer=stack, supervised_weight=1.0, **still)
    assert reg.fit(X, y).score(X, y) > 0.98


def test_a_stream_begins_with_the_head_of_its_first_chunk(iris, heads):
    X, y = iris
    clf = network_on(STACKS["autoencoder"], supervised_weight=0.5)
    clf.partial_fit(X, y, classes=[0, 1, 2])
    coefs, _ = heads[-1].network.views(heads[-1].theta)
    assert_allclose(clf.coefs_[-1], coefs[-1], rtol=1e-6)


def test_a_head_of_other_targets_is_not_kept(iris):
    """A stack that a network has trained brings its layers alone."""
    X, y = iris
    stack = network_on(STACKS["autoencoder"], supervised_weight=0.5).fit(X, y)
    frozen = FrozenEstimator(stack.pretrainer_)
    alone = network_on(frozen, keep_head=False).fit(X, y)
    assert_array_equal(network_on(frozen).fit(X, y).coefs_[-1], alone.coefs_[-1])


@pytest.mark.parametrize("name", ["dropout", "input_dropout"])
def test_dropout_acts_in_supervised_layers(name, iris):
    params = {"pretrainer": "supervised", "max_iter": 2, "random_state": 0}
    curves = [
        GreedyPretrainedMLPClassifier((6, 5), **params, **{name: level})
        .fit(*iris)
        .pretraining_loss_curves_[0]
        for level in (0.0, 0.5)
    ]
    assert curves[0] != curves[1]


def test_supervised_layers_drop_what_the_whole_network_does(iris, networks):
    """The input of the first layer has a share of its own, hidden units another."""
    GreedyPretrainedMLPClassifier(
        (6, 5), pretrainer="supervised", dropout=0.5, input_dropout=0.25, max_iter=1
    ).fit(*iris)
    dropped = [network.traits[:, 0].tolist() for network in networks]
    assert dropped == [[0.25, 0.5], [0.5, 0.5], [0.25, 0.5, 0.5]]


def test_rows_of_weight_zero_do_not_scale_supervised_layers(iris):
    X, y = iris
    weight = np.where(np.arange(150) % 5 == 0, 0.0, 1.0)
    params = {"pretrainer": "supervised", "max_iter": 3, "random_state": 0}
    clf = GreedyPretrainedMLPClassifier((6,), **params)
    near, far = (
        clone(clf).fit(rows, y, sample_weight=weight)
        for rows in (X, np.where(weight[:, None] == 0, 9 * X, X))
    )
    for ours, theirs in zip(far.coefs_, near.coefs_, strict=True):
        assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_rows_without_a_target_scale_supervised_layers(iris, networks):
    """They are rows of the data as well."""
    X, y = iris
    known = np.arange(150) % 3 == 0
    clf = GreedyPretrainedMLPClassifier(
        (6,), pretrainer="supervised", unlabeled=-1, max_iter=1
    )
    clf.fit(X, np.where(known, y, -1))
    scaled = (X[known] - X.mean(axis=0)) / X.std(axis=0)
    assert_allclose(networks[0].rows.spread(np.arange(50)), scaled, rtol=1e-4)


def losses_of_a_probe(stack, layer, rng):
    """Loss of a linear model on the features of a layer, by the weight of the targets
    in their training.
    """
    X, y = separable_by_noise(rng)
    losses = {}
    for weight in (0.0, 0.7):
        clf = network_on(stack, supervised_weight=weight).fit(X, y)
        H = clf.hidden_activations(X, layer)
        probe = LogisticRegression(C=100, max_iter=2000).fit(H, y)
        losses[weight] = log_loss(y, probe.predict_proba(H))
    return losses


@pytest.mark.parametrize("name", STACKS)
def test_heads_teach_a_stack(name, rng):
    """With the targets the features of each layer tell the classes apart."""
    rate = {"learning_rate": 0.03} if "rbm" in name else {"learning_rate_init": 0.01}
    stack = STACKS[name].__class__(**STACKS[name].get_params())
    stack.set_params(max_iter=40, batch_size=32, visible="gaussian", **rate)
    losses = losses_of_a_probe(stack, 0, rng)
    assert losses[0.7] < 0.15
    assert losses[0.7] < 0.5 * losses[0.0]


@pytest.mark.parametrize("name", STACKS)
def test_all_weight_on_the_targets_leaves_the_own_loss_alone(name, iris):
    """Decoder and visible biases then stay where they began."""
    X, y = iris
    fitted = [
        GreedyPretrainedMLPClassifier(
            pretrainer=STACKS[name].__class__(
                **{**STACKS[name].get_params(), "max_iter": epochs, "random_state": 0}
            ),
            supervised_weight=1.0,
            max_iter=1,
            random_state=0,
        )
        .fit(X, y)
        .pretrainer_
        for epochs in (1, 4)
    ]
    kept = "visible_intercepts_" if "rbm" in name else "decoder_intercepts_"
    once, often = (getattr(stack, kept)[0] for stack in fitted)
    assert_array_equal(once, often)
    assert not np.array_equal(fitted[0].coefs_[0], fitted[1].coefs_[0])


def test_what_targets_alone_train_is_not_judged_by_its_reconstruction(iris):
    """It is far off, and the advice to train longer made it worse."""
    stack = StackedAutoencoderTransformer(
        (32, 16), tied_weights=False, learning_rate_init=0.01, max_iter=20
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        clf = network_on(stack, supervised_weight=1.0).fit(*iris)
    report = clf.pretrainer_.layer_report_[0]
    assert report["reconstruction_error"] > 2 * report["baseline_error"]
    assert not [w for w in caught if "rebuilds" in str(w.message)]


@pytest.mark.parametrize("name", ["autoencoder", "rbm"])
def test_early_stopping_needs_a_loss_of_the_layers_own(name, iris):
    """It ended a layer by a score that nothing raised."""
    stack = clone(STACKS[name]).set_params(early_stopping=True)
    with pytest.raises(ValueError, match=r"which supervised_weight=1 does not train"):
        network_on(stack, supervised_weight=1.0).fit(*iris)


def test_the_unrolled_network_learns_from_the_targets(rng):
    stack = StackedAutoencoderTransformer(
        (8, 4), max_iter=0, unrolled_max_iter=40, learning_rate_init=0.01
    )
    losses = losses_of_a_probe(stack, -1, rng)
    assert losses[0.7] < 0.15
    assert losses[0.7] < 0.5 * losses[0.0]


def test_a_head_moves_an_unrolled_encoder_as_it_would_move_the_encoder_alone(rng):
    """With all weight on the targets, the decoder beside it is not touched."""
    X = rng.normal(size=(32, 5)).astype(np.float32)
    rows, codes = Rows(X), OneHotRows(rng.integers(0, 3, size=32), 3)
    network = Network.dense((5, 4, 2, 4, 5), ["tanh", "relu", "tanh", "identity"])
    theta = (0.5 * rng.normal(size=network.n_parameters)).astype(np.float32)
    sgd = Optimizer("sgd", 0.1)
    seed = np.zeros(2, np.uint32)
    softmax = np.array([[0, 3, SOFTMAX, 0]])
    gaussian = np.array([[0, 5, GAUSSIAN, 0]])
    options = {"batch_size": 8, "seed": seed}
    model = Backpropagation(network, theta.copy(), rows, gaussian, sgd, **options)
    heads = Supervision(1.0, np.arange(32), codes, softmax)
    drawn = [np.random.default_rng(0) for _ in range(2)]
    layers = network.layers[:2]
    both = SupervisedModel(
        model, heads, heads.index, layers=layers, optimizer=sgd, rng=drawn[0], seed=seed
    )
    loss, _ = both.train(np.arange(32))

    encoder = Network.dense((5, 4, 2, 3), ["tanh", "relu", "identity"])
    head = glorot_uniform(drawn[1], 2, 3, "relu")
    n_encoder = network.layers[2, 3]
    alone = Backpropagation(
        encoder,
        np.concatenate([theta[:n_encoder], head[0].ravel(), head[1]], dtype=np.float32),
        rows,
        softmax,
        sgd,
        targets=codes,
        **options,
    )
    expected, _ = alone.train(drawn[1].permutation(32))
    assert loss == pytest.approx(expected, rel=1e-6)
    assert_allclose(model.theta[:n_encoder], alone.theta[:n_encoder], rtol=1e-6)
    assert_array_equal(model.theta[n_encoder:], theta[n_encoder:])
    assert not np.allclose(model.theta[:n_encoder], theta[:n_encoder], atol=1e-3)


def layer_with_a_head(X, codes, index, optimizer):
    """A layer in training whose whole loss is that of a temporary head; codes : targets
    of the rows ``index``.
    """
    rng, seed, rows = np.random.default_rng(0), np.zeros(2, np.uint32), Rows(X)
    network = Network.dense((5, 4, 5), ["tanh", "identity"])
    theta = (0.5 * rng.normal(size=network.n_parameters)).astype(np.float32)
    gaussian, softmax = np.array([[0, 5, GAUSSIAN, 0]]), np.array([[0, 3, SOFTMAX, 0]])
    options = {"batch_size": len(X), "seed": seed}
    model = Backpropagation(network, theta, rows, gaussian, optimizer, **options)
    options = {"layers": network.layers[:1], "optimizer": replace(optimizer)}
    supervision = Supervision(1.0, index, codes, softmax)
    return SupervisedModel(model, supervision, index, rng=rng, seed=seed, **options)


def test_a_head_slows_down_with_its_layer(rng):
    X = rng.normal(size=(32, 5)).astype(np.float32)
    codes, index = OneHotRows(rng.integers(0, 3, size=32), 3), np.arange(32)
    sgd = Optimizer("sgd", 0.1, momentum=0.0, learning_rate="adaptive")
    layer = layer_with_a_head(X, codes, index, sgd)
    start, moved = [part.copy() for part in layer.parameters()], []
    for _ in range(2):
        layer.restore(start)
        layer.train(index)
        moved.append(layer.theta - start[0])
        assert layer.slow_down()
    assert np.abs(moved[0]).max() > 1e-3
    assert_allclose(moved[1], moved[0] / 5, rtol=1e-3, atol=1e-6)


def test_a_head_sees_each_row_with_a_target_before_any_again(rng):
    """What a group leaves of them is for the next one."""
    seen = []

    class Recorded(OneHotRows):
        def gather(self, index, out):
            seen.extend(index)
            super().gather(index, out)

    X = rng.normal(size=(32, 5)).astype(np.float32)
    codes, index = Recorded(rng.integers(0, 3, size=32), 3), np.arange(0, 20, 2)
    layer = layer_with_a_head(X, codes, index, Optimizer("sgd", 0.1))
    for _ in range(5):
        layer.train(np.arange(8))
    for first in range(0, 40, 10):
        assert_array_equal(np.sort(seen[first : first + 10]), index)


@pytest.mark.parametrize("name", ["autoencoder", "rbm"])
def test_a_layer_and_its_head_share_the_rate_by_weight(name, iris):
    """The first updates are those of either loss alone, at its part of the rate."""
    X, y = iris

    def fitted(share, rate):
        if name == "rbm":
            stack = StackedRBMTransformer((6,), learning_rate=rate)
        else:
            sgd = {"solver": "sgd", "learning_rate_init": rate}
            stack = StackedAutoencoderTransformer((6,), **sgd)
        stack.set_params(batch_size=150, max_iter=1, random_state=0)
        return network_on(stack, supervised_weight=share).fit(X, y).pretrainer_

    start, both = fitted(1.0, STILL), fitted(0.25, 4e-3)
    own, of_head = fitted(0.0, 3e-3), fitted(1.0, 1e-3)
    kept = "visible_intercepts_" if name == "rbm" else "decoder_intercepts_"
    assert_allclose(getattr(both, kept)[0], getattr(own, kept)[0], rtol=1e-6)
    # The head begins after the other update, which moved the weights a little.
    expected = of_head.intercepts_[0] - start.intercepts_[0]
    moved = both.intercepts_[0] - own.intercepts_[0]
    assert np.linalg.norm(moved - expected) < 0.1 * np.linalg.norm(expected)


@pytest.mark.parametrize(
    "penalty", [{"contraction": 0.3}, {"code_l1": 0.2}, {"sparsity_target": 0.1}]
)
def test_penalties_on_the_code_are_none_of_the_heads(penalty, iris):
    """They would count twice, and act where all weight is on the targets."""
    with_it, without = (
        network_on(
            StackedAutoencoderTransformer(
                (6,), activation="logistic", max_iter=3, random_state=0, **options
            ),
            supervised_weight=1.0,
        )
        .fit(*iris)
        .pretrainer_
        for options in (penalty, {})
    )
    assert_array_equal(with_it.coefs_[0], without.coefs_[0])


def test_a_head_reads_the_corrupted_input(iris):
    clean, noisy = (
        network_on(
            StackedAutoencoderTransformer(
                (6,), corruption=corruption, max_iter=3, random_state=0
            ),
            supervised_weight=1.0,
        )
        .fit(*iris)
        .pretrainer_
        for corruption in (None, "masking")
    )
    assert not np.allclose(clean.coefs_[0], noisy.coefs_[0], rtol=1e-3)


def test_a_head_counts_the_epochs_of_its_layer(iris, heads):
    """By their number it sees ever fewer units of a k-sparse layer."""
    stack = StackedAutoencoderTransformer((6,), n_active=2, max_iter=4)
    network_on(stack, supervised_weight=0.5).fit(*iris)
    assert [head.epoch for head in heads] == [4]


def test_the_head_of_the_unrolled_network_is_on_its_code(iris, heads):
    stack = StackedAutoencoderTransformer((6, 4), max_iter=1, unrolled_max_iter=1)
    network_on(stack, supervised_weight=0.5).fit(*iris)
    depths = [len(head.network.layers) for head in heads]
    assert depths == [1 + 1, 1 + 1, 2 + 1]


def learned_scale(iris, **params):
    """Scales of an RBM that carried a head."""
    fast = {"learning_rate": 0.05, "learn_scale": True, "random_state": 0}
    stack = StackedRBMTransformer((6,), **fast, **params)
    return network_on(stack, supervised_weight=0.5).fit(*iris).pretrainer_


def test_a_head_reads_rows_at_the_learned_scale(iris, heads):
    X = iris[0]
    stack = learned_scale(iris, max_iter=4)
    scaled = (X - stack.visible_offset_) / stack.visible_scale_
    assert not np.allclose(stack.visible_scale_, X.std(axis=0), rtol=1e-3)
    assert_allclose(heads[0].rows.spread(np.arange(150)), scaled, rtol=1e-4, atol=1e-5)


def test_learned_scales_of_a_layer_with_a_head_are_averaged(iris):
    """They are not among the parameters that the layer shares with the head."""
    scales = [learned_scale(iris, max_iter=n).visible_scale_ for n in (3, 4)]
    averaged = learned_scale(iris, max_iter=4, n_iter_averaged=2).visible_scale_
    assert not np.allclose(*scales, rtol=1e-4)
    assert_allclose(averaged, np.mean(scales, axis=0), rtol=1e-6)


@pytest.mark.parametrize("name", STACKS)
def test_labels_of_weight_zero_teach_no_head(name, iris):
    X, y = iris
    weight = np.where(np.arange(150) % 2, 1.0, 0.0)
    moved = np.where(weight == 0, (y + 1) % 3, y)
    stacks = [
        network_on(STACKS[name], supervised_weight=1.0)
        .fit(X, labels, sample_weight=weight)
        .pretrainer_
        for labels in (y, moved)
    ]
    assert_array_equal(stacks[0].coefs_[0], stacks[1].coefs_[0])


def test_decay_counts_in_the_loss_by_the_weight_of_the_own_loss(iris):
    """With all weight on the targets nothing decays, but the curve held the penalty."""
    curves = []
    for alpha in (0.0, 10.0):
        stack = StackedAutoencoderTransformer((6,), alpha=alpha, max_iter=2)
        clf = network_on(stack, supervised_weight=1.0).fit(*iris)
        curves.append(clf.pretrainer_.loss_curves_)
    assert curves[0] == curves[1]


@pytest.mark.parametrize("name", STACKS)
def test_targets_of_weight_zero_change_nothing(name, mlp_class, iris):
    mlp = mlp_class(pretrainer=STACKS[name], max_iter=1, random_state=0)
    stack = mlp.fit(*iris).pretrainer_
    alone = STACKS[name].__class__(**stack.get_params()).fit(iris[0])
    assert_array_equal(stack.coefs_[0], alone.coefs_[0])


def test_heads_see_no_row_without_a_target_and_none_held_out(all_digits, monkeypatch):
    seen = []
    fit = StackedAutoencoderTransformer._fit_within
    monkeypatch.setattr(
        StackedAutoencoderTransformer,
        "_fit_within",
        lambda stack, X, given, weights, supervision, *rest: (
            seen.append(supervision.index)
            or fit(stack, X, given, weights, supervision, *rest)
        ),
    )
    X, y = all_digits[0][:300], all_digits[1][:300].copy()
    y[200:] = -1
    mlp = GreedyPretrainedMLPClassifier(
        (12,),
        unlabeled=-1,
        supervised_weight=0.5,
        early_stopping=True,
        validation_fraction=0.3,
        max_iter=1,
        random_state=0,
    )
    first = mlp.fit(X, y).pretrainer_.coefs_[0].copy()
    assert np.isfinite(first).all()
    assert len(set(seen[0])) == len(seen[0]) == 140  # of 200 labels, 60 are held out
    assert seen[0].max() < 200
    assert mlp.t_ == mlp.n_iter_ * 140
    swapped = np.where(y == 3, 5, np.where(y == 5, 3, y))
    assert not np.array_equal(mlp.fit(X, swapped).pretrainer_.coefs_[0], first)
    X2 = X.copy()
    X2[200:] = X2[200:][::-1]
    assert not np.array_equal(mlp.fit(X2, y).pretrainer_.coefs_[0], first)


def test_rows_for_the_heads_cannot_all_be_held_out():
    """Training once waited for ever for rows to learn from."""
    supervision = Supervision(0.5, np.array([3, 8]), None, np.empty((0, 4)))
    with pytest.raises(ValueError, match="holds out all 2 rows with a target"):
        supervision.without(np.array([1, 3, 8]))


def test_slices_do_not_change_a_layer_with_a_head(all_digits, monkeypatch):
    X, y = all_digits[0][:500], all_digits[1][:500]
    mlp = GreedyPretrainedMLPClassifier(
        (12,), supervised_weight=0.5, max_iter=1, random_state=0
    )
    whole = mlp.fit(X, y).pretrainer_.coefs_[0]
    monkeypatch.setattr("sklearn_greedy._training._SLICE_CALLS", 1)
    assert_array_equal(mlp.fit(X, y).pretrainer_.coefs_[0], whole)


@pytest.mark.parametrize(
    "pretrainer",
    [
        None,
        "supervised",
        [np.ones((4, 3))],
        FrozenEstimator(StackedAutoencoderTransformer((3,))),
    ],
    ids=["none", "supervised", "arrays", "frozen"],
)
def test_targets_need_a_stack_to_train(pretrainer, iris):
    mlp = GreedyPretrainedMLPClassifier(pretrainer=pretrainer, supervised_weight=0.5)
    with pytest.raises(ValueError, match=r"supervised_weight=0\.5 adds the targets"):
        mlp.fit(*iris)


@pytest.mark.parametrize("pretrainer", ["autoencoder", "rbm", "supervised"])
def test_a_named_pretrainer_needs_a_hidden_layer(pretrainer, mlp_class, iris):
    with pytest.raises(ValueError, match=f"'{pretrainer}' needs a hidden layer"):
        mlp_class((), pretrainer=pretrainer).fit(*iris)


def test_heads_have_the_noise_of_the_present_scale(monkeypatch, iris):
    """Theirs stayed that of the first epoch, when features were small."""
    same, train = [], SupervisedModel.train

    def spy(self, *args):
        result = train(self, *args)
        same.append(np.array_equal(self._head.noise.limits, self._model.noise.limits))
        return result

    monkeypatch.setattr(SupervisedModel, "train", spy)
    stack = StackedAutoencoderTransformer(
        (8, 6), schedule="simultaneous", corruption="salt_and_pepper", max_iter=3
    )
    GreedyPretrainedMLPClassifier(
        pretrainer=stack, supervised_weight=0.5, max_iter=300, random_state=0
    ).fit(*iris)
    assert len(same) >= 6
    assert all(same)


# --- arrays as a start --------------------------------------------------------------


def test_network_starts_from_arrays(mlp_class, iris, rng):
    X, y = iris
    coefs = [rng.normal(size=(4, 6)), rng.normal(size=(6, 3))]
    biases = [rng.normal(size=6), rng.normal(size=3)]
    still = {"learning_rate_init": STILL, "max_iter": 1, "activation": "tanh"}
    full = mlp_class(pretrainer=(coefs, biases), **still).fit(X, y)
    expected = forward(X, coefs, biases, ["tanh", "tanh"])
    assert_allclose(full.hidden_activations(X), expected, rtol=1e-4, atol=1e-5)
    weights = mlp_class(pretrainer=coefs, **still).fit(X, y)
    nothing = [np.zeros(6), np.zeros(3)]
    expected = forward(X, coefs, nothing, ["tanh", "tanh"])
    assert_allclose(weights.hidden_activations(X), expected, rtol=1e-4, atol=1e-5)


def test_another_networks_layers_are_a_start(iris):
    first = GreedyPretrainedMLPClassifier((6, 4), max_iter=20, random_state=0)
    first.fit(*iris)
    parts = first.coefs_[:-1], first.intercepts_[:-1]
    second = GreedyPretrainedMLPClassifier(pretrainer=parts, n_frozen_layers=2)
    ours = second.fit(*iris).hidden_activations(iris[0])
    assert_allclose(ours, first.hidden_activations(iris[0]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "pretrainer",
    [
        [np.ones((5, 3))],
        [np.ones((4, 3)), np.ones((2, 3))],
        ([np.ones((4, 3))], [np.ones(2)]),
        ([np.ones((4, 3))], []),
        [np.ones(4)],
    ],
)
def test_arrays_that_do_not_fit_raise(pretrainer, iris):
    with pytest.raises(ValueError, match="arrays of the pretrainer have the shapes"):
        GreedyPretrainedMLPClassifier(pretrainer=pretrainer).fit(*iris)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_frozen_layers_stay_the_arrays_that_were_given(dtype, solver, iris, rng):
    """They were rounded to float32."""
    coefs = [rng.normal(size=(4, 5)), rng.normal(size=(5, 3))]
    clf = GreedyPretrainedMLPClassifier(
        pretrainer=coefs, n_frozen_layers=2, solver=solver, max_iter=500, random_state=0
    ).fit(iris[0].astype(dtype), iris[1])
    for ours, given in zip(clf.coefs_, coefs, strict=False):
        assert_array_equal(ours, given.astype(dtype))
        assert not np.shares_memory(ours, given)


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_layers_may_be_given_as_lists_of_rows(n_layers, iris, rng):
    """Two of them were taken for a pair of weights and biases."""
    widths = [4, 3, 3, 2][: n_layers + 1]
    coefs = [rng.normal(size=pair) for pair in itertools.pairwise(widths)]
    biases = [np.zeros(width) for width in widths[1:]]
    params = {"max_iter": 2, "tol": 1e9, "n_iter_no_change": 1, "random_state": 0}
    rows = [coef.tolist() for coef in coefs]
    pair = rows, [bias.tolist() for bias in biases]
    expected = GreedyPretrainedMLPClassifier(pretrainer=coefs, **params).fit(*iris)
    for given in (rows, pair):
        found = GreedyPretrainedMLPClassifier(pretrainer=given, **params).fit(*iris)
        for ours, theirs in zip(found.coefs_, expected.coefs_, strict=True):
            assert_array_equal(ours, theirs)


def test_arrays_must_be_finite_and_agree(iris):
    with pytest.raises(ValueError, match="hold NaN or infinity"):
        GreedyPretrainedMLPClassifier(pretrainer=[np.full((4, 3), np.nan)]).fit(*iris)
    with pytest.raises(ValueError, match=r"contradicts the pretrainer's layers \(3,\)"):
        GreedyPretrainedMLPClassifier((5,), pretrainer=[np.ones((4, 3))]).fit(*iris)


# --- weights in the pre-training ------------------------------------------------------


def test_rows_are_drawn_in_proportion(rng):
    index = np.array([3, 5, 7, 11, 13])
    weights = np.array([0.0, 1.0, 2.0, 0.5, 0.0])
    drawn = np.concatenate([drawn_rows(index, weights, rng) for _ in range(4000)])
    counts = np.array([(drawn == i).sum() for i in index]) / 4000
    assert_allclose(counts, weights / weights.sum() * 5, atol=0.03)
    each = drawn_rows(index, weights, rng)
    assert len(each) == 5
    share = weights / weights.sum() * 5
    times = np.array([(each == i).sum() for i in index])
    assert np.all(np.abs(times - share) < 1)
    assert_array_equal(drawn_rows(index, np.ones(5), rng), index)


def test_an_epoch_draws_its_rows_by_their_own_weights(rng):
    """Where some are held out, the places of the others are not their numbers."""
    weights = np.ones(100)
    weights[:50], weights[60] = 0, 1e9
    plan = Plan(1, None, 1, True, ("", 1.0), "", weights=weights)
    assert set(plan.visited(np.arange(40, 100), rng)) == {60}


def test_rows_of_weight_zero_give_no_validation_score(stack_class, rng):
    """Places among the rows that weigh are not numbers of rows."""
    X = (rng.random((300, 6)) < 0.5).astype(float)
    y, weight = np.arange(300) % 2, np.where(np.arange(300) < 200, 0.0, 1.0)
    params = {"early_stopping": True, "validation_fraction": 0.5, "max_iter": 2}
    scores = [
        network_on(stack_class((4,), random_state=0, **params))
        .fit(rows, y, sample_weight=weight)
        .pretrainer_.validation_scores_
        for rows in (X, np.where(weight[:, None] == 0, 1 - X, X))
    ]
    assert scores[0] == scores[1]


def test_rows_of_weight_zero_are_not_held_out(all_digits):
    """Where the others were all held out, no row was left to draw."""
    X, y = all_digits
    weight = np.zeros(len(X))
    weight[[5, 150]] = 1
    for seed in range(4):
        stack = StackedAutoencoderTransformer(
            (8,), early_stopping=True, validation_fraction=0.5, max_iter=1
        )
        stack.set_params(random_state=seed)
        network_on(stack).fit(X, y, sample_weight=weight)


def test_rows_of_weight_zero_do_not_judge_a_layer(rng):
    X = (rng.random((360, 6)) < 0.5).astype(float)
    weight = np.where(np.arange(360) < 300, 1.0, 0.0)
    far = np.where(weight[:, None] == 0, 50.0, X)
    y = np.arange(360) % 2
    reports = [
        network_on(StackedAutoencoderTransformer((4,), max_iter=2))
        .fit(rows, y, sample_weight=weight)
        .pretrainer_.layer_report_
        for rows in (X, far)
    ]
    assert reports[0] == reports[1]


@pytest.mark.parametrize(
    "options", [{"learn_scale": True}, {"persistent": True}, {"centered": True}]
)
def test_rows_of_weight_zero_do_not_train_an_rbm(options, iris):
    """They once moved learned scales, and persistent chains began at them."""
    X, y = iris
    weight, chosen = np.where(y == 0, 0.0, 1.0), {"max_iter": 5, "random_state": 0}
    stacks = [
        network_on(StackedRBMTransformer((4,), **chosen, **options))
        .fit(rows, y, sample_weight=weight)
        .pretrainer_
        for rows in (X, np.where(y[:, None] == 0, 9 * X, X))
    ]
    assert_allclose(*(stack.coefs_[0] for stack in stacks), rtol=1e-6)
    assert_allclose(*(stack.visible_scale_ for stack in stacks), rtol=1e-6)


def test_weights_act_on_learned_scales_as_repeated_rows_do(iris, rng):
    """Of an RBM whose other parameters stand still."""
    X, y = iris
    counts = rng.integers(1, 5, size=150)
    stack = StackedRBMTransformer((4,), learn_scale=True, learning_rate=STILL)
    clf = network_on(stack.set_params(max_iter=4, random_state=0))
    weighted = clone(clf).fit(X, y, sample_weight=counts).pretrainer_
    repeated = clone(clf).fit(np.repeat(X, counts, axis=0), np.repeat(y, counts))
    scale = repeated.pretrainer_.visible_scale_
    assert_allclose(weighted.visible_scale_, scale, rtol=1e-4)


@pytest.mark.parametrize("share", [0.5, 1.0])
@pytest.mark.parametrize(
    "slower", [{"learning_rate_decay": 1e6}, {"initial_momentum": 0.0}]
)
def test_steps_for_the_targets_have_the_pace_of_the_rbm(share, slower, iris):
    """They kept the first rate and the last momentum."""
    X, y = iris
    moved = []
    for options in ({}, slower):
        rbm = StackedRBMTransformer((6,), max_iter=5, learning_rate=0.02, **options)
        network = network_on(rbm, supervised_weight=share).fit(X, y)
        weights = network.pretrainer_.coefs_[0] * X.std(axis=0)[:, None]
        moved.append(np.linalg.norm(weights))
    assert moved[1] < 0.6 * moved[0]


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
def test_rows_of_weight_zero_choose_no_kinds(container, rng):
    X = (rng.random((50, 3)) < 0.5).astype(float)
    X[7] = [9, -4, 0]
    weights = np.ones(50)
    weights[7] = 0
    ours = ColumnStatistics.of(container(X), weights)
    rest = ColumnStatistics.of(container(np.delete(X, 7, axis=0)))
    assert_array_equal([ours.low, ours.high], [rest.low, rest.high])


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
def test_statistics_of_weighted_rows_are_those_of_repeated_ones(container, rng):
    X, counts = rng.normal(size=(50, 3)) + 5, rng.integers(0, 4, size=50)
    weighted = ColumnStatistics.of(container(X), counts.astype(float))
    repeated = ColumnStatistics.of(container(np.repeat(X, counts, axis=0)))
    assert_allclose(weighted.mean, repeated.mean, rtol=1e-12)
    assert_allclose(weighted.variance, repeated.variance, rtol=1e-10)


@pytest.mark.parametrize("name", STACKS)
def test_weights_act_in_the_pretraining(name, iris):
    """Rows of weight 0 and a class of weight 0 leave no trace in a shuffled stack."""
    X, y = iris
    stack = STACKS[name]
    common = {"pretrainer": stack, "max_iter": 1, "random_state": 0}
    plain = GreedyPretrainedMLPClassifier(**common).fit(X, y).pretrainer_
    weight = np.where(y == 2, 0.0, 1.0)
    weighted = GreedyPretrainedMLPClassifier(**common)
    weighted.fit(X, y, sample_weight=weight)
    assert_allclose(
        weighted.pretrainer_.visible_offset_, X[y < 2].mean(axis=0), rtol=1e-9
    )
    by_class = GreedyPretrainedMLPClassifier(class_weight={2: 0.0}, **common).fit(X, y)
    assert_array_equal(by_class.pretrainer_.coefs_[0], weighted.pretrainer_.coefs_[0])
    assert not np.array_equal(weighted.pretrainer_.coefs_[0], plain.coefs_[0])


def test_an_autoencoder_rebuilds_what_weighs_most(all_digits):
    X, y = all_digits
    kept = {}
    for digit in (0, 1):
        weight = np.where(y == digit, 1.0, 1e-3)
        clf = GreedyPretrainedMLPClassifier((20,), max_iter=1, random_state=0)
        stack = clf.fit(X, y, sample_weight=weight).pretrainer_
        kept[digit] = stack.score_samples(X)
    better = kept[0] - kept[1]
    assert better[y == 0].mean() > 1
    assert better[y == 1].mean() < -1


def test_weights_act_in_the_unrolled_network(all_digits):
    """Its rows were once drawn alike, whatever they weigh."""
    X, y = all_digits
    kept = {}
    for digit in (0, 1):
        weight = np.where(y == digit, 1.0, 1e-3)
        stack = StackedAutoencoderTransformer(
            (20,), max_iter=0, unrolled_max_iter=20, random_state=0
        )
        clf = GreedyPretrainedMLPClassifier(pretrainer=stack, max_iter=1)
        kept[digit] = clf.fit(X, y, sample_weight=weight).pretrainer_.score_samples(X)
    better = kept[0] - kept[1]
    assert better[y == 0].mean() > 1
    assert better[y == 1].mean() < -1


# --- dropout, short weights, slow and frozen layers -----------------------------------


@pytest.mark.parametrize("name", ["dropout", "input_dropout"])
def test_dropout_changes_training_and_not_prediction(name, all_digits):
    X, y = all_digits[0][:400], all_digits[1][:400]
    params = {"pretrainer": None, "batch_size": 20, "random_state": 0, "max_iter": 30}
    plain = GreedyPretrainedMLPClassifier((40,), **params).fit(X, y)
    dropped = GreedyPretrainedMLPClassifier((40,), **{name: 0.5}, **params).fit(X, y)
    assert dropped.loss_ > 1.2 * plain.loss_  # harder to fit without half of them
    assert_array_equal(dropped.predict_proba(X), dropped.predict_proba(X))
    again = GreedyPretrainedMLPClassifier((40,), **{name: 0.5}, **params).fit(X, y)
    assert_array_equal(again.coefs_[0], dropped.coefs_[0])
    assert dropped.score(X, y) > 0.9


def test_weights_stay_short_in_hidden_layers(all_digits):
    clf = GreedyPretrainedMLPClassifier(
        (30, 20), pretrainer=None, max_norm=0.5, max_iter=20, random_state=0
    ).fit(*all_digits)
    for coef in clf.coefs_[:-1]:
        norms = np.linalg.norm(coef, axis=0)
        assert norms.max() <= 0.5 * (1 + 1e-5)
        assert (norms > 0.49).mean() > 0.5
    assert np.linalg.norm(clf.coefs_[-1], axis=0).max() > 0.5


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("n_frozen", [1, 2])
def test_frozen_layers_stay(solver, n_frozen, mlp_class, iris):
    mlp = mlp_class(
        pretrainer=StackedAutoencoderTransformer((6, 4), max_iter=3),
        solver=solver,
        n_frozen_layers=n_frozen,
        max_iter=10,
        alpha=0.1,
        random_state=0,
    ).fit(*iris)
    H = mlp.pretrainer_
    for layer in range(2):
        moved = np.abs(mlp.coefs_[layer] - H.coefs_[layer]).max()
        assert (moved < 1e-5) == (layer < n_frozen)


def test_lower_layers_move_less(iris):
    X, y = iris
    moved = {}
    for decay in (1.0, 0.1):
        mlp = GreedyPretrainedMLPClassifier(
            pretrainer=StackedAutoencoderTransformer((6, 5), max_iter=3),
            layer_decay=decay,
            batch_size=150,
            max_iter=1,
            learning_rate_init=0.01,
            random_state=0,
        ).fit(X, y)
        start = mlp.pretrainer_
        scale = start.visible_scale_[:, None]
        first = (mlp.coefs_[0] - start.coefs_[0]) * scale
        moved[decay] = [
            np.abs(first).max(),
            np.abs(mlp.coefs_[1] - start.coefs_[1]).max(),
        ]
    # Adam's first step is the learning rate, whatever the gradient.
    assert_allclose(moved[1.0], 0.01, rtol=0.02)
    assert_allclose(moved[0.1], [0.01 * 0.01, 0.01 * 0.1], rtol=0.02)


def test_more_frozen_layers_than_there_are(iris):
    with pytest.raises(ValueError, match="n_frozen_layers=3 is more than the number"):
        GreedyPretrainedMLPClassifier((4,), n_frozen_layers=3).fit(*iris)


@pytest.mark.parametrize(
    "params",
    [
        {"dropout": 0.2},
        {"input_dropout": 0.2},
        {"max_norm": 1.0},
        {"layer_decay": 0.5},
        {"head_max_iter": 3},
        {"early_stopping": True},
    ],
)
def test_full_batches_cannot(params, iris):
    (name,) = params
    with pytest.raises(ValueError, match=f"{name}=.* needs mini-batches"):
        GreedyPretrainedMLPClassifier((4,), solver="lbfgs", **params).fit(*iris)


# --- rows of one's own to watch -------------------------------------------------------


def test_validation_rows_are_followed(mlp_class, iris):
    """The same rows held out by hand and by the network: the same scores."""
    X, y = iris
    rng = np.random.default_rng(0)
    order = rng.permutation(150)
    train, held = order[:100], order[100:]
    mlp = mlp_class(
        (6,), max_iter=15, tol=0, n_iter_no_change=20, random_state=0, pretrainer=None
    )
    watched = mlp.fit(X[train], y[train], X_val=X[held], y_val=y[held])
    assert len(watched.validation_scores_) == watched.n_iter_ == 15
    assert len(watched.validation_loss_curve_) == 15
    last = watched.score(X[held], y[held])
    assert watched.validation_scores_[-1] == pytest.approx(last, abs=1e-6)
    plain = mlp_class(**mlp.get_params()).fit(X[train], y[train])
    assert_array_equal(plain.coefs_[0], watched.coefs_[0])  # only watched
    assert plain.validation_scores_ is plain.validation_loss_curve_ is None
    best = mlp.set_params(early_stopping=True)
    best.fit(X[train], y[train], X_val=X[held], y_val=y[held])
    score = best.score(X[held], y[held])
    assert best.best_validation_score_ == pytest.approx(score, abs=1e-6)
    assert best.best_validation_score_ == max(best.validation_scores_)
    assert best.t_ == best.n_iter_ * 100


@pytest.mark.parametrize("n_classes", [2, 3])
def test_validation_loss_is_that_of_the_predictions(n_classes, iris):
    X, y = iris
    y = np.minimum(y, n_classes - 1)
    clf = GreedyPretrainedMLPClassifier(
        (6,), max_iter=5, label_smoothing=0.2, dropout=0.3, alpha=1.0, random_state=0
    ).fit(X, y, X_val=X[::3], y_val=y[::3])
    loss = log_loss(y[::3], clf.predict_proba(X[::3]))
    assert clf.validation_loss_curve_[-1] == pytest.approx(loss, rel=1e-4)


def test_validation_loss_of_labels_is_summed_over_them(iris):
    X, Y = iris[0], np.eye(3, dtype=int)[iris[1]]
    clf = GreedyPretrainedMLPClassifier((6,), max_iter=5, random_state=0)
    clf.fit(X, Y, X_val=X[::3], y_val=Y[::3])
    held = zip(Y[::3].T, clf.predict_proba(X[::3]).T, strict=True)
    loss = sum(log_loss(y, p) for y, p in held)
    assert clf.validation_loss_curve_[-1] == pytest.approx(loss, rel=1e-4)


@pytest.mark.parametrize(
    "params", [{"pretrainer": "supervised"}, {"head_max_iter": 2}], ids=str
)
def test_rows_for_the_next_layer_are_kept_within_the_working_memory(
    params, monkeypatch, iris
):
    """Beyond it they are computed batch by batch, in the dtype of X."""
    X, y = iris[0].astype(np.float32), iris[1]
    seen = []

    def spy(fitted, data):
        seen.append(next_data(fitted, data))
        return seen[-1]

    monkeypatch.setattr("sklearn_greedy._fine_tuning.next_data", spy)
    clf = GreedyPretrainedMLPClassifier((6, 4), max_iter=2, random_state=0, **params)
    kept = clone(clf).fit(X, y)
    with sklearn.config_context(working_memory=0):
        computed = clf.fit(X, y)
    assert_array_equal(kept.coefs_[-1], computed.coefs_[-1])
    half = len(seen) // 2
    assert {rows.dtype for rows in seen} == {np.dtype(np.float32)}
    assert all(isinstance(rows, np.ndarray) for rows in seen[:half])
    assert all(isinstance(rows, LayerOutput) for rows in seen[half:])


def test_validation_loss_of_a_regressor_is_half_the_squared_error(iris):
    X, y = iris[0][:, :3], iris[0][:, 3]
    reg = GreedyPretrainedMLPRegressor((6,), pretrainer=None, max_iter=5)
    reg.fit(X, y, X_val=X[::3], y_val=y[::3])
    half = np.mean((reg.predict(X[::3]) - y[::3]) ** 2) / 2
    assert reg.validation_loss_curve_[-1] == pytest.approx(half, rel=1e-4)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_validation_rows_do_not_train(solver, iris):
    X, y = iris
    clf = GreedyPretrainedMLPClassifier((4,), max_iter=5, solver=solver, random_state=0)
    scored = clf.fit(X, y, X_val=X[:9], y_val=y[:9])
    assert len(scored.validation_scores_) == scored.n_iter_
    plain = GreedyPretrainedMLPClassifier(**clf.get_params()).fit(X, y)
    assert_array_equal(scored.coefs_[0], plain.coefs_[0])


def test_marked_validation_rows_are_not_scored(iris):
    X, y = iris
    marked = y.copy()
    marked[::2] = -1
    clf = GreedyPretrainedMLPClassifier((4,), unlabeled=-1, max_iter=3, random_state=0)
    some = clf.fit(X, y, X_val=X, y_val=marked).validation_scores_
    all_known = clf.fit(X, y, X_val=X[1::2], y_val=y[1::2]).validation_scores_
    assert_allclose(some, all_known)


def test_half_a_validation_set_raises(iris):
    X, y = iris
    with pytest.raises(ValueError, match="X_val was given without y_val"):
        GreedyPretrainedMLPClassifier().fit(X, y, X_val=X)
    with pytest.raises(ValueError, match="y_val was given without X_val"):
        GreedyPretrainedMLPClassifier().fit(X, y, y_val=y)
    with pytest.raises(ValueError, match="not among the known"):
        GreedyPretrainedMLPClassifier().fit(X, y, X_val=X, y_val=y + 7)
    with pytest.raises(ValueError, match="features"):
        GreedyPretrainedMLPClassifier().fit(X, y, X_val=X[:, :2], y_val=y)


# --- poisson --------------------------------------------------------------------------


def test_poisson_network_without_hidden_layers_is_the_linear_model(rng):
    X = rng.normal(size=(400, 3))
    y = rng.poisson(np.exp(X @ [0.5, -0.3, 0.2] + 1))
    reg = GreedyPretrainedMLPRegressor(
        (), pretrainer=None, loss="poisson", solver="lbfgs", alpha=0, tol=1e-8
    ).fit(X, y)
    peer = PoissonRegressor(alpha=0, tol=1e-8).fit(X, y)
    assert_allclose(reg.coefs_[0].ravel(), peer.coef_, rtol=1e-4)
    assert_allclose(reg.predict(X), peer.predict(X), rtol=1e-4)
    assert reg.out_activation_ == "exp"


@pytest.mark.parametrize("pretrainer", [None, "autoencoder", "rbm", "supervised"])
def test_poisson_network_learns_counts(pretrainer, rng):
    X = rng.normal(size=(1000, 3))
    y = rng.poisson(np.exp(np.sin(2 * X[:, 0]) + 0.5 * X[:, 1] ** 2))
    reg = GreedyPretrainedMLPRegressor(
        (32,), pretrainer=pretrainer, loss="poisson", max_iter=150, random_state=0
    )
    reg.set_params(learning_rate_init=0.01)
    linear = PoissonRegressor().fit(X, y).score(X, y)
    assert reg.fit(X, y).score(X, y) > linear + 0.2
    assert reg.predict(X).min() > 0


def test_poisson_validation_loss_is_half_the_deviance(rng):
    X, y = rng.normal(size=(100, 3)), rng.poisson(3.0, 100)
    reg = GreedyPretrainedMLPRegressor(
        (4,), loss="poisson", pretrainer=None, max_iter=3, random_state=0
    )
    reg.fit(X, y, X_val=X[::2], y_val=y[::2])
    half = mean_poisson_deviance(y[::2], reg.predict(X[::2])) / 2
    assert reg.validation_loss_curve_[-1] == pytest.approx(half, rel=1e-4)


@pytest.mark.skipif(SCIKIT_LEARN < (1, 7), reason="MLPRegressor has no loss before 1.7")
def test_poisson_network_becomes_one_of_scikit_learn(rng):
    X, y = rng.normal(size=(50, 3)), rng.poisson(2.0, 50)
    reg = GreedyPretrainedMLPRegressor((4,), loss="poisson", max_iter=3).fit(X, y)
    assert_allclose(reg.to_mlp().predict(X), reg.predict(X), rtol=1e-6)


def test_older_networks_of_scikit_learn_know_no_counts(rng, monkeypatch):
    X, y = rng.normal(size=(30, 2)), rng.poisson(2.0, 30)
    reg = GreedyPretrainedMLPRegressor((3,), loss="poisson", max_iter=1).fit(X, y)
    monkeypatch.setattr(
        "sklearn_greedy._native.MLPRegressor",
        type("Older", (), {"get_params": lambda self: {"alpha": 0.1}}),
    )
    with pytest.raises(ValueError, match=r"new in the networks of scikit-learn 1\.7"):
        reg.to_mlp()


def test_negative_counts_raise(rng):
    reg = GreedyPretrainedMLPRegressor((3,), loss="poisson")
    with pytest.raises(ValueError, match="needs targets that are not negative"):
        reg.fit(rng.normal(size=(9, 2)), np.arange(9) - 1.0)


def test_chunks_and_validation_rows_may_hold_no_events(rng):
    X = rng.random((40, 2))
    y = np.r_[np.zeros(10), rng.poisson(3, 30)]
    mlp = GreedyPretrainedMLPRegressor(
        (4,), loss="poisson", pretrainer=None, max_iter=2, random_state=0
    )
    mlp.fit(X, y, X_val=X[:10], y_val=y[:10]).partial_fit(X[:10], y[:10])
    assert np.isfinite(mlp.loss_)
    with pytest.raises(ValueError, match="not all 0"):
        mlp.fit(X[:10], y[:10])
