"""What only autoencoder stacks do: corruptions, penalties, unrolling, reports."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score
from sklearn.neural_network._stochastic_optimizers import SGDOptimizer
from tools import recorded_networks

from sklearn_greedy import (
    GreedyPretrainedMLPClassifier,
    StackedAutoencoderTransformer,
    StackedRBMTransformer,
)
from sklearn_greedy._autoencoder import _participation_ratio
from sklearn_greedy._backpropagation import Backpropagation, CodePenalty, Optimizer
from sklearn_greedy._fitting import draw_seed
from sklearn_greedy._network import Network, glorot_uniform
from sklearn_greedy._rows import Rows
from sklearn_greedy._training import Plan, run_epochs
from sklearn_greedy._units import ColumnStatistics, choose_units

SEED = np.array([20, 26], dtype=np.uint32)


@pytest.fixture
def mixed(rng):
    """Numbers of any scale, a 0/1 column and a category of three, all related."""
    factor = rng.normal(size=(400, 1))
    numbers = np.hstack([1000 + 50 * factor, -3 + 0.1 * factor])
    numbers += [10, 0.02] * rng.normal(size=(400, 2))
    category = np.digitize(factor[:, 0], [-0.5, 0.5])
    return np.hstack([numbers, factor > 0, np.eye(3)[category]])


KINDS = [("gaussian", [0, 1]), ("bernoulli", [2]), ("softmax", [3, 4, 5])]


def fit(X, sizes=(8,), **params):
    defaults = {"max_iter": 30, "learning_rate_init": 0.01, "random_state": 0}
    return StackedAutoencoderTransformer(sizes, **{**defaults, **params}).fit(X)


def squared_error(stack, X):
    return np.mean(((stack.reconstruct(X) - X) / X.std(axis=0)) ** 2)


@pytest.fixture
def networks(monkeypatch):
    """Networks that are trained while the test runs, in order."""
    return recorded_networks(monkeypatch, "_autoencoder")


# --- units of the reconstruction -------------------------------------------------


def test_a_softmax_group_is_rebuilt_as_a_distribution(mixed):
    stack = fit(mixed, visible=KINDS)
    V = stack.reconstruct(mixed)
    assert_allclose(V[:, 3:].sum(axis=1), 1)
    assert np.all(V[:, 2:] >= 0)
    assert np.mean(V[:, 3:].argmax(axis=1) == mixed[:, 3:].argmax(axis=1)) > 0.9
    assert list(stack.visible_kinds_) == ["gaussian"] * 2 + ["bernoulli"] + (
        ["softmax"] * 3
    )


def test_score_is_the_log_likelihood_of_each_kind(mixed):
    stack = fit(mixed, (6, 4), visible=KINDS)
    V = stack.reconstruct(mixed)
    gaussian = -0.5 * (((mixed - V) / stack.visible_scale_)[:, :2] ** 2).sum(axis=1)
    bit, p = mixed[:, 2], V[:, 2]
    bernoulli = bit * np.log(p) + (1 - bit) * np.log(1 - p)
    group = (mixed * np.log(V, where=mixed > 0, out=np.zeros_like(V)))[:, 3:]
    expected = gaussian + bernoulli + group.sum(axis=1)
    assert_allclose(stack.score_samples(mixed), expected, rtol=1e-6)


@pytest.mark.parametrize("n_active", [None, 2])
def test_validation_score_is_the_score_of_the_held_out_rows(
    n_active, mixed, monkeypatch
):
    """Of a k-sparse code, too, it is that of the units a row keeps."""
    held = np.arange(0, 400, 7)
    monkeypatch.setattr("sklearn_greedy._stack.held_out_rows", lambda *_: held)
    params = {"visible": KINDS, "early_stopping": True, "max_iter": 1}
    stack = fit(mixed, n_active=n_active, **params)
    ((score,),) = stack.validation_scores_
    assert score == pytest.approx(stack.score(mixed[held]), rel=1e-4)


def test_columns_may_be_named(mixed):
    frame = pd.DataFrame(mixed, columns=list("abcdef"))
    named = [("softmax", ["d", "e", "f"]), ("gaussian", ["a", "b"])]
    ours, by_number = fit(frame, visible=named), fit(mixed, visible=KINDS)
    assert_allclose(ours.coefs_[0], by_number.coefs_[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("visible", "message"),
    [
        ([("softmax", [3, 5])], "must follow each other"),
        ([("poisson", [0])], "names the kind 'poisson'"),
    ],
)
def test_impossible_units_raise(visible, message, mixed):
    with pytest.raises(ValueError, match=message):
        fit(mixed, visible=visible)


# --- corruption ------------------------------------------------------------------


@pytest.mark.parametrize("corruption", ["masking", "gaussian", "swap"])
def test_noise_makes_the_stack_a_denoiser(corruption, rng):
    X = rng.normal(size=(1000, 2)) @ rng.normal(size=(2, 12))
    X += 0.1 * rng.normal(size=X.shape)
    noisy = X + 0.5 * X.std(axis=0) * rng.normal(size=X.shape)
    level = 0.5 if corruption == "gaussian" else 0.2
    params = {"sizes": (32,), "max_iter": 40, "learning_rate_init": 0.003}
    trained = fit(X, corruption=corruption, corruption_level=level, **params)
    plain = fit(X, corruption=None, **params)

    def error(stack):
        return np.mean((stack.reconstruct(noisy) - X) ** 2)

    assert error(trained) < 0.9 * error(plain)
    assert error(trained) < 0.5 * np.mean((noisy - X) ** 2)


def test_level_zero_is_no_corruption(mixed):
    none, zero = fit(mixed, corruption=None), fit(mixed, corruption_level=0.0)
    assert_array_equal(none.coefs_[0], zero.coefs_[0])


def test_emphasis_of_one_half_is_none(mixed):
    assert_array_equal(fit(mixed, emphasis=0.5).coefs_[0], fit(mixed).coefs_[0])


def test_full_emphasis_ignores_clean_cells(rng):
    # Every cell can be told from another column but not from its own row's noise.
    X = np.repeat(rng.normal(size=(500, 3)), 2, axis=1)
    X += 0.5 * rng.normal(size=X.shape)
    params = {"corruption": "swap", "corruption_level": 0.3, "max_iter": 60}
    even, full = fit(X, **params), fit(X, emphasis=1.0, **params)
    lost = X.copy()
    lost[:, 0] = rng.permutation(X[:, 0])

    def error(stack, column):
        return np.mean((stack.reconstruct(lost) - X)[:, column] ** 2)

    assert error(full, 0) < error(even, 0)  # better where cells are lost
    assert error(full, 3) > error(even, 3)  # and worse where they are clean


@pytest.mark.parametrize("corruption", [None, "gaussian"])
def test_emphasis_needs_cells_that_stay_clean(corruption, mixed):
    with pytest.raises(ValueError, match=r"emphasis .* needs corruption="):
        fit(mixed, corruption=corruption, emphasis=0.8)


# --- penalties -------------------------------------------------------------------


def jacobian_norm(stack, X):
    """Mean squared Frobenius norm of the Jacobian of logistic codes by scaled input."""
    h = stack.transform(X)
    w = stack.coefs_[0] * stack.visible_scale_[:, None]
    return np.mean((h * (1 - h)) ** 2 @ (w**2).sum(axis=0))


def test_contraction_flattens_the_code(mixed):
    params = {"activation": "logistic", "corruption": None}
    plain, flat = fit(mixed, **params), fit(mixed, contraction=0.3, **params)
    assert jacobian_norm(flat, mixed) < 0.8 * jacobian_norm(plain, mixed)
    assert flat.loss_curves_[0][-1] > plain.loss_curves_[0][-1]


def test_code_l1_shrinks_the_code(mixed):
    plain, small = fit(mixed), fit(mixed, code_l1=0.3)
    assert small.transform(mixed).mean() < 0.8 * plain.transform(mixed).mean()


def test_sparsity_target_is_met(mixed):
    params = {"activation": "logistic", "max_iter": 100}
    sparse = fit(mixed, sparsity_target=0.1, sparsity_weight=10.0, **params)
    means = sparse.transform(mixed).mean(axis=0)
    assert means.mean() == pytest.approx(0.1, abs=0.03)
    assert means.max() < 0.2


def test_sparsity_target_needs_probabilities(mixed):
    with pytest.raises(ValueError, match="needs activation='logistic'"):
        fit(mixed, sparsity_target=0.1)


def test_k_sparse_codes_keep_the_largest(mixed):
    stack = fit(mixed, (8, 6), n_active=[3, 2], activation="tanh")
    codes = stack.transform(mixed)
    assert_array_equal((codes != 0).sum(axis=1), 2)
    first = np.tanh(mixed @ stack.coefs_[0] + stack.intercepts_[0])
    first[first < np.sort(first, axis=1)[:, -3:-2]] = 0
    second = np.tanh(first @ stack.coefs_[1] + stack.intercepts_[1])
    second[second < np.sort(second, axis=1)[:, -2:-1]] = 0
    assert_allclose(codes, second, atol=1e-6)
    assert stack.n_active_ == [3, 2]


@pytest.mark.parametrize(
    ("sizes", "wide"), [((8, 6), [None, None]), ((16, 4), [9, None])]
)
def test_layers_with_fewer_units_than_n_active_keep_all(sizes, wide, mixed):
    """The rows for the layer above were cut at a rank counted from the other end, or
    there was no such rank.
    """
    params = {"activation": "tanh", "max_iter": 3}
    stack = fit(mixed, sizes, n_active=9, **params)
    expected = fit(mixed, sizes, n_active=wide, **params)
    for ours, theirs in zip(stack.coefs_, expected.coefs_, strict=True):
        assert_array_equal(ours, theirs)
    assert_array_equal(stack.transform(mixed), expected.transform(mixed))


def test_kept_units_fall_over_half_the_epochs():
    code = CodePenalty(n_active=10, n_hidden=100, n_falling=10)
    assert [code.kept(epoch) for epoch in (1, 6, 11, 20)] == [100, 55, 10, 10]
    assert CodePenalty().kept(1) is None


def test_kept_units_fall_over_chunks_as_over_epochs(mixed):
    params = {"n_active": 2, "visible": KINDS, "max_iter": 4}
    whole = fit(mixed, shuffle=False, **params)
    stream = clone(whole)
    for _ in range(4):
        stream.partial_fit(mixed)
    assert_array_equal(stream.coefs_[0], whole.coefs_[0])


def test_weight_decay_does_not_depend_on_the_batch_size(rng):
    # Without data in the loss (all cells constant) only the decay moves the weights.
    X = np.full((64, 3), 5.0)
    params = {"corruption": None, "solver": "sgd", "momentum": 0.0, "max_iter": 1}
    norms = []
    for batch_size, alpha in ((64, 0.1), (8, 0.1)):
        stack = fit(X, alpha=alpha, batch_size=batch_size, **params)
        start = fit(X, alpha=0.0, batch_size=batch_size, **params)
        norms.append(stack.coefs_[0] / start.coefs_[0])
    shrunk = 1 - 0.01 * 0.1  # per update
    assert_allclose(norms[0], shrunk, rtol=1e-4)
    assert_allclose(norms[1], shrunk**8, rtol=1e-3)


# --- the unrolled network --------------------------------------------------------


@pytest.mark.parametrize("activation", ["logistic", "relu"])
def test_unrolling_starts_from_the_greedy_stack(activation, mixed):
    params = {"sizes": (6, 4, 3), "visible": KINDS, "activation": activation}
    greedy = fit(mixed, **params)
    still = StackedAutoencoderTransformer(
        **{**greedy.get_params(), "unrolled_max_iter": 1, "solver": "sgd"},
    )
    # One epoch at a vanishing rate, from the same greedy phase.
    still = still.set_params(warm_start=True, max_iter=1, learning_rate_init=1e-30)
    vars(still).update({k: v for k, v in vars(greedy).items() if k.endswith("_")})
    for name in ("_units", "_n_epochs", "n_features_in_"):
        setattr(still, name, getattr(greedy, name))
    still.fit(mixed)
    assert_allclose(still.transform(mixed), greedy.transform(mixed), atol=1e-4)
    assert_allclose(
        still.reconstruct(mixed), greedy.reconstruct(mixed), rtol=1e-4, atol=1e-4
    )
    assert len(still.unrolled_loss_curve_) == 1


def test_unrolled_network_takes_the_settings_of_the_first_layer(mixed, networks):
    fit(mixed, (6, 4), batch_size=[10, 20], unrolled_max_iter=1, max_iter=1)
    assert [network.batch_size for network in networks] == [10, 20, 10]


def test_unrolled_network_has_noise_of_its_own(mixed, networks):
    """With that of the first layer it would see the same cells masked again."""
    fit(mixed, (6, 4), unrolled_max_iter=1, max_iter=1)
    assert len({tuple(network.seed) for network in networks}) == 3


def test_chunks_after_unrolling_leave_no_curve_of_it(mixed):
    stack = fit(mixed, unrolled_max_iter=2, max_iter=1)
    assert len(stack.unrolled_loss_curve_) == 2
    assert stack.partial_fit(mixed).unrolled_loss_curve_ == []


@pytest.mark.parametrize("activation", ["logistic", "relu", "tanh"])
def test_unrolling_rebuilds_better(activation, mixed):
    params = {"activation": [activation, activation, "identity"], "visible": KINDS}
    greedy = fit(mixed, (6, 4, 2), **params)
    whole = fit(mixed, (6, 4, 2), unrolled_max_iter=30, **params)
    assert squared_error(whole, mixed) < squared_error(greedy, mixed)
    losses = whole.unrolled_loss_curve_
    assert len(losses) == 30
    assert losses[-1] < losses[0]
    assert whole.decoder_activations_ == ["identity", activation, activation]
    assert greedy.unrolled_loss_curve_ == []


@pytest.mark.parametrize("goes_on", ["warm_start", "partial_fit"])
def test_decoders_of_the_unrolled_network_are_not_taken_for_others(goes_on, mixed):
    """They went on with a linear end and rebuilt something else without a word."""
    params = {"activation": "tanh", "visible": KINDS, "unrolled_max_iter": 2}
    stack = fit(mixed, (6, 4), warm_start=True, **params)
    before = stack.transform(mixed)
    stack.set_params(max_iter=1, unrolled_max_iter=0, learning_rate_init=1e-12)
    again = stack.fit if goes_on == "warm_start" else stack.partial_fit
    with pytest.warns(UserWarning, match="decoder of layer 2 ended in tanh"):
        again(mixed)
    assert stack.decoder_activations_ == ["identity", "identity"]
    assert_allclose(stack.transform(mixed), before, rtol=1e-4, atol=1e-5)
    again(mixed)  # no more warning


def test_report_of_a_constant_column_has_no_r2(rng):
    X = rng.normal(size=(100, 3))
    X[:, 1] = 0.1  # whose mean is rounded
    stack = StackedAutoencoderTransformer((2,), max_iter=2, random_state=0).fit(X)
    assert_array_equal(np.isnan(stack.feature_report(X)["r2"]), [False, True, False])


def test_integers_beyond_64_bits_are_numbers(rng):
    X = rng.normal(size=(30, 3))
    stack = StackedAutoencoderTransformer((2,), max_iter=1, random_state=0)
    one = stack.set_params(max_gradient_norm=10**30).fit(X).transform(X)
    assert_array_equal(one, stack.set_params(max_gradient_norm=1e30).fit_transform(X))


def test_warm_start_goes_on_with_the_unrolled_network(mixed):
    params = {"activation": "logistic", "visible": KINDS, "unrolled_max_iter": 20}
    stack = fit(mixed, (6, 4), warm_start=True, **params)
    before, losses = squared_error(stack, mixed), stack.unrolled_loss_curve_
    stack.set_params(max_iter=0).fit(mixed)
    assert stack.unrolled_loss_curve_[0] < losses[5]
    assert squared_error(stack, mixed) < 1.1 * before


def test_a_new_fit_forgets_the_unrolled_network(mixed):
    """Its epochs were counted on, so that a warm start after it had other noise."""
    again = fit(mixed, unrolled_max_iter=3).set_params(unrolled_max_iter=0).fit(mixed)
    for stack in (again, fresh := fit(mixed)):
        stack.set_params(unrolled_max_iter=2, warm_start=True).fit(mixed)
    assert_array_equal(again.coefs_[0], fresh.coefs_[0])


def test_tied_weights_stay_tied(mixed):
    stack = fit(mixed, (6, 4), visible=KINDS, warm_start=True).fit(mixed)
    tied = stack.coefs_[0] * stack.visible_scale_[:, None] ** 2
    assert_allclose(stack.decoder_coefs_[0], tied.T, rtol=1e-5)


def test_weights_come_apart_between_chunks(mixed, monkeypatch):
    """The optimiser has no moments for the new ones and begins anew, as after fit, the
    noise with it.
    """
    # A stream after a fit would draw other noise than one from the first chunk on.
    monkeypatch.setattr(
        "sklearn_greedy._stack.stream_seed",
        lambda random_state, n_before: draw_seed(random_state),
    )
    params = {"shuffle": False, "max_iter": 1}
    after_fit = fit(mixed, **params)
    chunks = clone(after_fit).partial_fit(mixed)
    for stack in (after_fit, chunks):
        stack.set_params(tied_weights=False).partial_fit(mixed)
    assert_array_equal(chunks.coefs_[0], after_fit.coefs_[0])
    assert_array_equal(chunks.decoder_coefs_[0], after_fit.decoder_coefs_[0])


@pytest.mark.filterwarnings("error")
def test_no_epochs_leave_the_random_start(mixed):
    start = fit(mixed, (6, 4), max_iter=0, tol=1e-3)
    bound = np.sqrt(6 / (6 + 6))
    weights = start.coefs_[0] * start.visible_scale_[:, None]
    assert np.abs(weights).max() <= bound
    assert weights.std() == pytest.approx(bound / np.sqrt(3), rel=0.3)
    assert start.loss_curves_ == [[], []]
    whole = fit(mixed, (6, 4), max_iter=0, unrolled_max_iter=30)
    assert squared_error(whole, mixed) < 0.5 * squared_error(start, mixed)


def test_unrolling_does_not_go_with_k_sparse_codes(mixed):
    with pytest.raises(ValueError, match="does not go with unrolled_max_iter=1"):
        fit(mixed, n_active=2, unrolled_max_iter=1)


# --- all layers together ---------------------------------------------------------


def test_simultaneous_training_is_partial_fit_on_chunks(rng):
    """Each layer on all rows in the first epoch; then sixteen mini-batches at a time,
    each through all layers.
    """
    X = (rng.random((300, 6)) < 0.3).astype(float)
    params = {"activation": "logistic", "batch_size": 10, "random_state": 0}
    whole = StackedAutoencoderTransformer(
        (5, 4), schedule="simultaneous", shuffle=False, max_iter=2, **params
    ).fit(X)
    stream = StackedAutoencoderTransformer((5, 4), **params)
    for chunk in (X, X[:160], X[160:]):
        stream.partial_fit(chunk)
    for ours, theirs in zip(whole.coefs_, stream.coefs_, strict=True):
        assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


def test_simultaneous_training_begins_layer_by_layer(mixed):
    """So that upper layers take their scale from layers that have begun to learn."""
    params = {"max_iter": 1, "shuffle": False}
    together = fit(mixed, (5, 3), schedule="simultaneous", **params)
    in_turn = fit(mixed, (5, 3), **params)
    for ours, theirs in zip(together._units, in_turn._units, strict=True):
        assert_array_equal(ours["scale"], theirs["scale"])
    for ours, theirs in zip(together.coefs_, in_turn.coefs_, strict=True):
        assert_array_equal(ours, theirs)


def test_simultaneous_loss_is_the_mean_over_rows(mixed):
    """Of layers that stand still it stays, though the last group of rows is smaller."""
    still = {"learning_rate_init": 1e-12, "corruption": None, "shuffle": False}
    params = {"schedule": "simultaneous", "batch_size": 10, "max_iter": 3}
    stack = fit(mixed, **params, **still)
    (curve,) = stack.loss_curves_
    assert_allclose(curve, curve[0], rtol=1e-4)


def test_simultaneous_reports_are_of_the_finished_stack(rng):
    """Upper layers were judged by what those below gave them while they moved."""
    X = rng.normal(size=(400, 6))
    params = {"learning_rate_init": 0.02, "max_iter": 3, "batch_size": 8}
    stack = fit(X, (5, 4), schedule="simultaneous", **params)
    shown = stack.layer_report_[1]["mean_activation"]
    assert shown == pytest.approx(stack.transform(X).mean(), rel=1e-5)


def test_simultaneous_training_of_no_epochs_leaves_the_random_start(mixed):
    """It looked for the losses of layers that there were not."""
    start = fit(mixed, (5, 3), max_iter=0)
    together = fit(mixed, (5, 3), max_iter=0, schedule="simultaneous")
    for ours, theirs in zip(together.coefs_, start.coefs_, strict=True):
        assert_array_equal(ours, theirs)
    assert together.loss_curves_ == [[], []]


@pytest.mark.parametrize("cls", [StackedAutoencoderTransformer, StackedRBMTransformer])
def test_simultaneous_training_learns_every_layer(cls, rng):
    factor = rng.random((1000, 1)) < 0.5
    X = (np.repeat(factor, 8, axis=1) ^ (rng.random((1000, 8)) < 0.05)).astype(float)
    stack = cls((6, 4), schedule="simultaneous", max_iter=60, random_state=0).fit(X)
    for report in stack.layer_report_:
        assert report["reconstruction_error"] < 0.6 * report["baseline_error"]
    assert np.mean((stack.inverse_transform(stack.transform(X)) > 0.5) == factor) > 0.95
    assert [len(losses) for losses in stack.loss_curves_] == [60, 60]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"early_stopping": True}, "set early_stopping=False"),
        ({"tol": 1e-3}, "set tol=None"),
        ({"max_iter": [2, 3]}, "one max_iter for all layers"),
        ({"batch_size": [8, 16]}, "one batch_size for all layers"),
    ],
)
def test_what_simultaneous_training_cannot_do_raises(params, message, mixed):
    with pytest.raises(ValueError, match=message):
        fit(mixed, (5, 3), schedule="simultaneous", **params)


# --- solvers ---------------------------------------------------------------------


def training(X, **params):
    """A network in training, outside any stack."""
    statistics = ColumnStatistics.of(X)
    units = choose_units(statistics, "gaussian")
    network = Network.dense((X.shape[1], 4, X.shape[1]), ("relu", "identity"))
    rng = np.random.default_rng(0)
    shapes = ((X.shape[1], 4, "relu"), (4, X.shape[1], "identity"))
    theta = network.pack(*zip(*(glorot_uniform(rng, *s) for s in shapes), strict=True))
    optimizer = Optimizer(**{"solver": "sgd", "learning_rate_init": 0.1, **params})
    blocks = units.blocks()
    return Backpropagation(
        network, theta, Rows(X, units), blocks, optimizer, batch_size=8, seed=SEED
    )


def test_inverse_scaling_is_that_of_mlp_classifier(rng):
    X = rng.normal(size=(40, 3))
    model = training(X, learning_rate="invscaling", power_t=0.4)
    peer = SGDOptimizer([], 0.1, lr_schedule="invscaling", power_t=0.4)
    for epoch in range(1, 5):
        model.epoch = epoch
        model.train(np.arange(40))
        assert model._rate == pytest.approx(peer.learning_rate)
        peer.iteration_ends(40 * epoch)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_cosine_rate_is_that_of_torch(rng, solver):
    """The closed form of `CosineAnnealingLR` with T_max=5, whose cosines are roots."""
    model = training(rng.normal(size=(40, 3)), solver=solver, learning_rate="cosine")
    rates = []

    def monitor():
        rates.append(model._rate)
        return 0.0

    lowered = "learning_rate_init", 0.1
    plan = Plan(5, None, np.inf, True, lowered, "here", monitor, follows_monitor=False)
    run_epochs(model, np.arange(40), plan, rng)
    root = np.sqrt(5)
    shares = np.array([8, 5 + root, 3 + root, 5 - root, 3 - root]) / 8
    assert_allclose(rates, 0.1 * shares)


@pytest.mark.parametrize("schedule", ["layerwise", "simultaneous"])
def test_cosine_falls_in_all_that_is_trained(mixed, networks, schedule):
    """Both layers, at each warm start anew; the unrolled network where there is one."""
    n_unrolled = 3 if schedule == "layerwise" else 0
    params = {"schedule": schedule, "learning_rate": "cosine", "max_iter": 4}
    stack = fit(mixed, (4, 3), unrolled_max_iter=n_unrolled, warm_start=True, **params)
    stack.fit(mixed)
    last = 0.01 * (1 + np.cos(np.pi * 3 / 4)) / 2
    last_unrolled = 0.01 * (1 + np.cos(np.pi * 2 / 3)) / 2
    once = [last, last, last_unrolled][: 2 + (n_unrolled > 0)]
    assert_allclose([network._rate for network in networks], 2 * once)
    stack.partial_fit(mixed)  # has no last epoch
    assert networks[-1]._rate == 0.01


@pytest.mark.parametrize("early_stopping", [False, True])
def test_cosine_that_has_fallen_asks_for_no_more_epochs(mixed, early_stopping):
    params = {"tol": 0.0, "early_stopping": early_stopping, "max_iter": 3}
    params["unrolled_max_iter"] = 3
    with pytest.warns(ConvergenceWarning) as told:
        fit(mixed, **params)
    assert len(told) == 2  # of the layer and the unrolled network
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        fit(mixed, learning_rate="cosine", **params)


def test_cosine_falls_for_targets_too(mixed, rng, monkeypatch):
    """Their share of the loss has its share of the step, and nothing is said of more
    epochs, though tol might stop it.
    """
    heads = recorded_networks(monkeypatch, "_supervision")
    stack = StackedAutoencoderTransformer((4,), learning_rate="cosine", max_iter=4)
    stack.set_params(tol=0.0)
    clf = GreedyPretrainedMLPClassifier(pretrainer=stack, supervised_weight=0.25)
    clf.set_params(max_iter=1, learning_rate="cosine")
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        clf.fit(mixed, rng.integers(0, 2, len(mixed)))
    last = 0.001 * (1 + np.cos(np.pi * 3 / 4)) / 2
    assert [head._rate for head in heads] == [pytest.approx(0.25 * last)]


def test_adaptive_rate_is_that_of_mlp_classifier(rng):
    model = training(rng.normal(size=(40, 3)), learning_rate="adaptive")
    peer = SGDOptimizer([], 0.1, lr_schedule="adaptive")
    slowed = True
    while slowed:
        slowed = model.slow_down()
        assert slowed is not peer.trigger_stopping("stalled", verbose=False)
        assert model._rate == pytest.approx(peer.learning_rate)


def test_constant_rate_does_not_slow_down(rng):
    model = training(rng.normal(size=(40, 3)))
    assert not model.slow_down()
    assert model._rate == 0.1


def test_adaptive_rate_needs_to_see_a_stall(mixed):
    with pytest.raises(ValueError, match="set tol or early_stopping"):
        fit(mixed, solver="sgd", learning_rate="adaptive")
    with pytest.raises(ValueError, match="use schedule='layerwise'"):
        # It was told to set tol, and then to leave it.
        fit(mixed, solver="sgd", learning_rate="adaptive", schedule="simultaneous")


def test_adaptive_rate_trains_on_where_constant_stops(mixed):
    params = {"solver": "sgd", "tol": 0.05, "n_iter_no_change": 2, "max_iter": 200}
    constant = fit(mixed, **params)
    adaptive = fit(mixed, learning_rate="adaptive", **params)
    assert adaptive.n_iter_ > constant.n_iter_


def test_longest_gradient_bounds_the_step(mixed):
    params = {"solver": "sgd", "momentum": 0.0, "max_iter": 1, "batch_size": 400}
    params |= {"visible": "gaussian", "tied_weights": False, "learning_rate_init": 1.0}
    free = fit(mixed, **params)
    start = fit(mixed, **{**params, "learning_rate_init": 1e-30})
    short = fit(mixed, max_gradient_norm=0.01, **params)

    def step(stack):
        scale = start.visible_scale_[:, None]
        return np.linalg.norm((stack.coefs_[0] - start.coefs_[0]) * scale)

    assert step(free) > 0.02
    assert step(short) <= 0.01 * (1 + 1e-3)


# --- uses ------------------------------------------------------------------------


def test_feature_report_is_the_error_of_each_column(mixed):
    frame = pd.DataFrame(mixed, columns=list("abcdef"))
    stack = fit(frame, visible=KINDS, max_iter=100)
    report = pd.DataFrame(stack.feature_report(frame)).set_index("feature")
    expected = ((stack.reconstruct(frame) - mixed) ** 2).mean(axis=0)
    assert_allclose(report["squared_error"], expected)
    assert_allclose(report["variance"], mixed.var(axis=0))
    assert_allclose(report["r2"], 1 - expected / mixed.var(axis=0))
    assert list(report.index) == list("abcdef")
    assert (report["r2"] > 0.5).all()


def test_feature_report_of_a_constant_column(mixed):
    mixed[:, 1] = 7.0
    report = fit(mixed).feature_report(mixed)
    assert np.isnan(report["r2"][1])
    assert report["variance"][1] == 0
    assert list(report["feature"]) == list(range(6))


def test_score_finds_rows_that_break_the_relations(mixed, rng):
    odd = mixed.copy()
    odd[:, 0] = rng.permutation(odd[:, 0])
    stack = fit(mixed[:300], visible=KINDS, max_iter=60)
    rows = np.vstack([mixed[300:], odd[300:]])
    scores = stack.score_samples(rows)
    assert roc_auc_score([0] * 100 + [1] * 100, -scores) > 0.8


@pytest.mark.parametrize("shape", [(1, 5), (8, 20), (50, 6)])
def test_participation_ratio_is_that_of_the_covariance(shape, rng):
    """Of a wide code the covariance took a gigabyte."""
    codes = rng.normal(size=shape) + 3
    if len(codes) == 1:
        assert _participation_ratio(codes) == 0
        return
    values = np.linalg.eigvalsh(np.cov(codes.T))
    expected = values.sum() ** 2 / (values**2).sum()
    assert _participation_ratio(codes) == pytest.approx(expected)


def test_code_dimension_counts_the_directions_in_use(rng):
    X = rng.normal(size=(1000, 3)) @ rng.normal(size=(3, 10))
    linear = {"activation": "identity", "corruption": None, "max_iter": 60}
    (report,) = fit(X, (8,), **linear).layer_report_
    assert 1.5 < report["code_dimension"] < 3.1


def test_code_dimension_is_that_of_the_units_a_row_keeps(mixed):
    stack = fit(mixed, visible=KINDS, n_active=2, max_iter=2)
    (report,) = stack.layer_report_
    expected = _participation_ratio(stack.transform(mixed))
    assert report["code_dimension"] == pytest.approx(expected, rel=1e-3)


def test_messages_name_what_was_seen(mixed):
    message = "Got corruption='gaussian' and emphasis=0.8"
    with pytest.raises(ValueError, match=re.escape(message)):
        fit(mixed, corruption="gaussian", emphasis=0.8)


def test_worse_than_the_means_of_small_columns_warns(rng):
    """What noise may add to the error is in proportion to the columns."""
    X = 0.1 * rng.random((500, 8))
    stack = StackedAutoencoderTransformer(
        (16,), visible="bernoulli", max_iter=40, random_state=0
    )
    with pytest.warns(UserWarning, match="worse than the column means"):
        stack.fit(X)
    assert stack.layer_report_[0]["reconstruction_error"] < 0.01


def test_unrolled_training_meets_other_noise_at_a_warm_start(monkeypatch, rng):
    X, met = rng.normal(size=(60, 4)), []
    stack = StackedAutoencoderTransformer(
        (3,), max_iter=1, unrolled_max_iter=2, warm_start=True, random_state=0
    )
    train = StackedAutoencoderTransformer._train

    def spy(self, task, model, tasks):
        met.append(
            (
                task.limit,
                *task.seed,
                task.order_rng.bit_generator.state["state"]["state"],
            )
        )
        return train(self, task, model, tasks)

    monkeypatch.setattr(StackedAutoencoderTransformer, "_train", spy)
    for _ in range(3):
        stack.fit(X)
    assert len(set(met)) == 6
