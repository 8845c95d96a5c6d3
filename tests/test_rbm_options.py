"""The parameters of the RBM stack: kinds of columns, schedules, penalties, health."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.special import expit, logit
from sklearn.compose import make_column_selector
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from tools import kernels, linear_score

from sklearn_greedy import (
    GreedyPretrainedMLPClassifier,
    GreedyPretrainedMLPRegressor,
    StackedRBMTransformer,
    _kernels,
)
from sklearn_greedy._health import idle_units

KINDS = ["gaussian", "bernoulli", "softmax", "softmax", "softmax", "poisson"]
PAIRS = [("softmax", slice(2, 5)), ("poisson", [5])]


@pytest.fixture
def mixed(rng):
    """A gaussian, a bernoulli, three one-hot columns and a count."""
    n = 80
    chosen = np.eye(3)[rng.integers(0, 3, n)]
    return np.column_stack(
        [
            rng.normal(40, 9, n),
            (rng.random(n) < 0.3).astype(float),
            chosen,
            rng.poisson(2 + 3 * chosen[:, 0]),
        ]
    )


def fit(X, sizes=(4,), **params):
    params = {"learning_rate": 0.01, "max_iter": 3, "random_state": 0} | params
    return StackedRBMTransformer(sizes, **params).fit(X)


def clusters(rng):
    """Rows in three clusters, whose columns vary less within them."""
    means = 3 * rng.normal(size=(3, 4))
    return means[rng.integers(3, size=600)] + 0.3 * rng.normal(size=(600, 4))


def frame_of(X):
    frame = pd.DataFrame(X, columns=["age", "member", "red", "green", "blue", "visits"])
    return frame.astype({"visits": int})


# --- kinds of columns ------------------------------------------------------------


def test_pairs_choose_kinds_and_auto_decides_on_the_rest(mixed):
    stack = fit(mixed, visible=PAIRS)
    assert stack.visible_kinds_.tolist() == KINDS
    assert stack.visible_scale_[0] == pytest.approx(mixed[:, 0].std())
    assert_array_equal(stack.visible_scale_[1:], 1)


@pytest.mark.parametrize(
    ("group", "counts"),
    [
        (["red", "green", "blue"], ["visits"]),
        (slice("red", "blue"), "visits"),
        ([2, 3, 4], 5),
        ([False, False, True, True, True, False], [-1]),
        (["red", "green", "blue"], make_column_selector(dtype_include=int)),
    ],
)
def test_columns_are_named_as_in_column_transformer(group, counts, mixed):
    stack = fit(frame_of(mixed), visible=[("softmax", group), ("poisson", counts)])
    assert stack.visible_kinds_.tolist() == KINDS
    expected = fit(mixed, visible=PAIRS)
    assert_array_equal(stack.coefs_[0], expected.coefs_[0])


def test_two_groups_side_by_side_stay_two(rng):
    X = np.hstack(
        [np.eye(3)[rng.integers(0, 3, 60)], np.eye(2)[rng.integers(0, 2, 60)]]
    )
    stack = fit(X, visible=[("softmax", [0, 1, 2]), ("softmax", [3, 4])])
    means = stack.inverse_transform(stack.transform(X))
    assert_allclose(means[:, :3].sum(axis=1), 1)
    assert_allclose(means[:, 3:].sum(axis=1), 1)


@pytest.mark.parametrize(
    ("visible", "message"),
    [
        ([("softmax", [2, 4])], r"columns \[2, 4\] of a softmax group must follow"),
        ([("poisson", [5]), ("gaussian", [5])], r"names the columns \[5\] more than"),
        ([("binomial", [5])], "names the kind 'binomial'; the kinds are"),
        (["poisson"], "list of pairs"),
        ([("poisson", [9])], "all features must be in"),
        ([("poisson", ["visits"])], "Specifying the columns using strings"),
    ],
)
def test_pairs_that_make_no_sense_are_refused(visible, message, mixed):
    with pytest.raises((ValueError, IndexError), match=message):
        fit(mixed, visible=visible)


def test_unknown_kind_names_the_parameter(mixed):
    with pytest.raises(ValueError, match="'visible' parameter"):
        fit(mixed, visible="counts")


def test_negative_counts_are_refused(mixed):
    mixed[3, 5] = -2
    with pytest.raises(
        ValueError, match=r"reach down to -2\. Counts cannot be negative"
    ):
        fit(mixed, visible=PAIRS)


@pytest.mark.parametrize("hidden", ["relu", "gaussian"])
def test_counts_need_bernoulli_hidden_units(hidden, mixed):
    with pytest.raises(ValueError, match="poisson columns need hidden='bernoulli'"):
        fit(mixed, visible=PAIRS, hidden=hidden)


def test_group_with_rows_that_do_not_sum_to_one_warns(mixed):
    mixed[:40, 2:5] = 0
    with pytest.warns(UserWarning, match="columns 2 to 4, whose rows sum to 0.5"):
        fit(mixed, visible=PAIRS)


def test_sparse_pairs_give_the_result_of_dense_ones(mixed):
    dense = fit(mixed, visible=PAIRS)
    for container in (sparse.csr_array, sparse.csr_matrix):
        other = fit(container(mixed), visible=PAIRS)
        assert_allclose(other.coefs_[0], dense.coefs_[0], atol=1e-6)


def test_biases_start_at_the_means_of_the_data(mixed):
    stack = fit(mixed, visible=PAIRS, learning_rate=1e-12, max_iter=1)
    means = stack.inverse_transform(np.zeros((1, 4)))
    assert_allclose(means[0], mixed.mean(axis=0), rtol=0.05, atol=0.02)


@pytest.mark.parametrize(
    ("visible", "bias_of"), [("bernoulli", logit), ("poisson", np.log)]
)
def test_biases_of_constant_columns_are_those_of_half_a_row_more(visible, bias_of):
    """At the bare means they are infinite."""
    X = np.tile([0.0, 1.0], (50, 1))
    stack = fit(X, visible=visible, learning_rate=1e-12, max_iter=1)
    expected = bias_of((X.sum(axis=0) + 0.5) / 51)
    assert_allclose(stack.visible_intercepts_[0], expected, rtol=1e-5)


@pytest.mark.parametrize("hidden", ["bernoulli", "relu", "gaussian"])
def test_activation_of_each_layer_follows_its_hidden_units(hidden, rng):
    X = (rng.random((60, 6)) < 0.4).astype(float)
    stack = fit(X, (5, 3), hidden=[hidden, "bernoulli"])
    expected = {"bernoulli": "logistic", "relu": "relu", "gaussian": "identity"}[hidden]
    assert stack.activations_ == [expected, "logistic"]
    x = X @ stack.coefs_[0] + stack.intercepts_[0]
    below = {
        "logistic": expit,
        "relu": lambda z: np.maximum(z, 0),
        "identity": lambda z: z,
    }
    top = expit(below[expected](x) @ stack.coefs_[1] + stack.intercepts_[1])
    assert_allclose(stack.transform(X), top, atol=1e-12)


def test_linear_code_goes_into_a_network(rng):
    X = (rng.random((60, 6)) < 0.4).astype(float)
    pretrainer = StackedRBMTransformer(
        (5, 2), hidden=["bernoulli", "gaussian"], learning_rate=0.01, max_iter=2
    )
    clf = GreedyPretrainedMLPClassifier(pretrainer=pretrainer, max_iter=2, tol=0)
    assert clf.fit(X, X[:, 0]).predict(X).shape == (60,)


def test_groups_are_learned(rng):
    """Two one-hot columns that always agree: one predicts the other."""
    codes = rng.integers(0, 3, 400)
    X = np.hstack([np.eye(3)[codes], np.eye(3)[codes]])
    stack = fit(
        X,
        (8,),
        visible=[("softmax", [0, 1, 2]), ("softmax", [3, 4, 5])],
        learning_rate=0.1,
        max_iter=60,
    )
    init = np.full((300, 6), np.nan)
    init[:, :3] = X[:300, :3]
    drawn = stack.sample(init=init, clamp=[0, 1, 2], n_gibbs_steps=50, random_state=0)
    assert_array_equal(drawn[:, :3], X[:300, :3])
    assert_array_equal(drawn[:, 3:].sum(axis=1), 1)
    assert np.mean(drawn[:, 3:].argmax(axis=1) == codes[:300]) > 0.9


# --- schedules and penalties -----------------------------------------------------


def recorded_constants(monkeypatch, X, **params):
    """(step, constants) of each kernel call of a fit."""
    calls, kernel = [], kernels.cd_slice

    def spy(*arguments):
        calls.append((arguments[15], arguments[11].copy()))
        return kernel(*arguments)

    monkeypatch.setattr(_kernels, "cd_slice", spy)
    fit(X, **params)
    return calls


def test_momentum_switches_after_its_epoch(monkeypatch, mixed):
    calls = recorded_constants(
        monkeypatch,
        mixed,
        momentum=0.8,
        initial_momentum=0.3,
        momentum_switch_epoch=2,
        max_iter=4,
    )
    assert [c[kernels.MOMENTUM] for _, c in calls] == [0.3, 0.3, 0.8, 0.8]


def test_decay_is_shared_between_l1_and_l2(monkeypatch, mixed):
    calls = recorded_constants(monkeypatch, mixed, alpha=0.4, l1_ratio=0.25)
    for _, constants in calls:
        assert constants[kernels.L1] == pytest.approx(0.1)
        assert constants[kernels.L2] == pytest.approx(0.3)


def test_l1_decay_empties_more_weights(rng):
    X = (rng.random((200, 10)) < 0.3).astype(float)
    options = {"alpha": 0.05, "learning_rate": 0.05, "max_iter": 40, "momentum": 0.0}
    near_zero = [
        np.mean(np.abs(fit(X, l1_ratio=ratio, **options).coefs_[0]) < 5e-3)
        for ratio in (0.0, 1.0)
    ]
    assert near_zero[1] > near_zero[0] + 0.2


def test_learning_rate_decay_divides_the_steps(rng):
    """One row a batch, no momentum: the t-th move is that of a fit with a rate
    divided by 1 + decay * t.
    """
    X = (rng.random((1, 6)) < 0.5).astype(float)
    options = {"momentum": 0.0, "alpha": 0.0, "batch_size": 1, "learning_rate": 0.1}
    one = fit(X, max_iter=1, learning_rate_decay=5.0, **options)
    plain = fit(X, max_iter=1, **options)
    assert_array_equal(one.coefs_[0], plain.coefs_[0])  # t = 0
    two = fit(X, max_iter=2, learning_rate_decay=5.0, **options)
    full = fit(X, max_iter=2, **options)
    moved = (two.coefs_[0] - one.coefs_[0]) * 6
    assert_allclose(moved, full.coefs_[0] - one.coefs_[0], atol=2e-6)


def test_parameters_of_the_last_epochs_are_averaged(mixed):
    each = [fit(mixed, max_iter=n, centered=True) for n in (3, 4, 5)]
    mean = fit(mixed, max_iter=5, centered=True, n_iter_averaged=3)
    for name in ("coefs_", "intercepts_", "visible_intercepts_"):
        last = [getattr(one, name)[0] for one in each]
        assert_allclose(getattr(mean, name)[0], np.mean(last, axis=0), atol=1e-6)
    # No more epochs than there are, and fewer where a layer is finished before.
    all_of_them = fit(mixed, max_iter=3, n_iter_averaged=9)
    assert_allclose(
        fit(mixed, max_iter=3, n_iter_averaged=3).coefs_[0], all_of_them.coefs_[0]
    )
    soon = fit(mixed, max_iter=9, tol=1e9, n_iter_no_change=2, n_iter_averaged=9)
    n_epochs = len(soon.loss_curves_[0])
    assert n_epochs < 9
    as_many = fit(mixed, max_iter=n_epochs, n_iter_averaged=9)
    assert_allclose(soon.coefs_[0], as_many.coefs_[0])


def test_learned_scales_of_the_last_epochs_are_averaged(rng):
    """Mean weights beside the scale of the last epoch would belong to no fit."""
    X = clusters(rng)
    each = [fit(X, learn_scale=True, max_iter=n).visible_scale_ for n in (3, 4, 5)]
    mean = fit(X, learn_scale=True, max_iter=5, n_iter_averaged=3)
    assert_allclose(mean.visible_scale_, np.mean(each, axis=0))
    assert not np.allclose(mean.visible_scale_, each[-1], rtol=1e-3)


def test_averages_come_nearer_to_the_best_density(rng):
    """Held-out likelihood at a rate that scatters."""
    prototypes = rng.random((4, 16)) < 0.5
    X = (prototypes[rng.integers(4, size=600)] ^ (rng.random((600, 16)) < 0.1)) * 1.0
    options = {"learning_rate": 0.3, "max_iter": 30, "batch_size": 10, "centered": True}
    last, mean = (
        fit(X[:300], n_iter_averaged=n, **options).log_likelihood(X[300:]).mean()
        for n in (1, 10)
    )
    assert mean > last + 0.02


@pytest.mark.parametrize(
    ("name", "value"), [("early_stopping", True), ("schedule", "simultaneous")]
)
def test_averages_need_the_last_epochs_of_one_layer(name, value, mixed):
    with pytest.raises(ValueError, match=rf"n_iter_averaged=2 needs {name}="):
        fit(mixed, n_iter_averaged=2, **{name: value})


def test_sparsity_is_the_gradient_of_the_cross_entropy(rng):
    """What add_sparsity adds to the positive phase, times v, is the derivative of
    weight * (target log q + (1 - target) log(1 - q)) by w and c.
    """
    v, w, c = rng.random((7, 4)), rng.normal(size=(4, 3)), rng.normal(size=3)
    target, weight = 0.1, 0.7

    def reward(theta):
        q = expit(v @ theta[:12].reshape(4, 3) + theta[12:]).mean(axis=0)
        return weight * np.sum(target * np.log(q) + (1 - target) * np.log(1 - q))

    h = expit(v @ w + c)
    moved = h.copy()
    kernels.add_sparsity(moved, target, weight)
    added = (moved - h) / len(v)
    gradient = np.concatenate([(v.T @ added).ravel(), added.sum(axis=0)])
    theta, step = np.concatenate([w.ravel(), c]), 1e-6
    moves = step * np.eye(theta.size)
    numeric = [(reward(theta + d) - reward(theta - d)) / (2 * step) for d in moves]
    assert_allclose(gradient, numeric, rtol=1e-6, atol=1e-9)


def test_sparsity_target_draws_the_mean_activation(rng):
    X = (rng.random((300, 12)) < 0.4).astype(float)
    options = {"learning_rate": 0.1, "max_iter": 30, "alpha": 0.0}
    plain = fit(X, (10,), **options).transform(X).mean()
    few = fit(X, (10,), sparsity_target=0.05, sparsity_weight=2.0, **options)
    assert few.transform(X).mean() < 0.1 < plain


def test_one_batch_of_any_size_has_a_chain_for_each_row(rng):
    """As many chains as ``batch_size`` says would not fit into memory."""
    X = (rng.random((30, 5)) < 0.5).astype(float)
    stack = StackedRBMTransformer((3,), batch_size=10**12, persistent=True)
    assert np.all(np.isfinite(stack.set_params(max_iter=1).fit(X).coefs_[0]))


def test_sparsity_needs_bernoulli_hidden_units(mixed):
    with pytest.raises(
        ValueError, match=r"needs hidden='bernoulli'\. Got hidden='relu'"
    ):
        fit(mixed[:, :2], hidden="relu", sparsity_target=0.1)


@pytest.mark.parametrize("n_chains", [1, 5, 100])
def test_number_of_chains_is_its_own(n_chains, rng):
    X = (rng.random((50, 6)) < 0.5).astype(float)
    stack = StackedRBMTransformer(
        (4,), persistent=True, n_chains=n_chains, batch_size=16, random_state=0
    )
    stack.partial_fit(X).partial_fit(X[:7])
    assert stack._resume["layers"][0]["state"]["chain"].shape == (n_chains, 4)
    assert np.isfinite(stack.coefs_[0]).all()


@pytest.mark.parametrize("params", [{"n_chains": 7}, {"n_temperatures": 2}])
def test_parameters_of_chains_need_chains(params, rng):
    """They were ignored."""
    X = (rng.random((50, 6)) < 0.5).astype(float)
    with pytest.raises(ValueError, match="there are none: set persistent=True"):
        fit(X, **params)


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("width", [16, 256])
@pytest.mark.parametrize("load", [load_wine, load_iris, load_breast_cancer])
def test_persistent_chains_on_tables_do_not_run_away(centered, width, load):
    """At the rate of chains of one step they diverged on every table."""
    X = load(return_X_y=True)[0]
    options = {"visible": "gaussian", "centered": centered, "learning_rate": "auto"}
    stack = fit(X, (width,), persistent=True, max_iter=10, **options)
    report = stack.layer_report_[0]
    assert report["reconstruction_error"] < 1.05 * report["baseline_error"]


@pytest.mark.parametrize("params", [{"centered": True}, {"n_temperatures": 3}])
def test_offsets_that_are_needed_later_begin_at_the_means(params, rng):
    """They began at 0, and reached the means after hundreds of updates."""
    X = (rng.random((300, 5)) < 0.8).astype(float)
    stack = StackedRBMTransformer((4,), persistent=True, random_state=0)
    stack.partial_fit(X).set_params(**params).partial_fit(X)
    visible, hidden = stack._resume["layers"][0]["state"]["offsets"]
    assert_allclose(visible, X.mean(axis=0), atol=0.02)
    assert_allclose(hidden, stack.transform(X).mean(axis=0), atol=0.1)


def test_warm_starts_count_epochs(rng):
    """Momentum never switched, and scales never moved, in fits of one epoch each."""
    X = 4 * rng.integers(0, 2, (300, 1)) + rng.normal(size=(300, 3))
    options = {"max_iter": 1, "warm_start": True}
    late = {"initial_momentum": 0.0, "momentum_switch_epoch": 2}
    never = fit(X, momentum=0.0, **options)
    switched = fit(X, momentum=0.9, **late, **options)
    scaled = fit(X, learn_scale=True, **options)
    assert_array_equal(never.fit(X).coefs_[0], switched.fit(X).coefs_[0])
    assert not np.array_equal(never.fit(X).coefs_[0], switched.fit(X).coefs_[0])
    first = scaled.visible_scale_
    assert_allclose(first, X.std(axis=0))
    assert np.all(np.abs(scaled.fit(X).visible_scale_ / first - 1) > 1e-6)


@pytest.mark.parametrize(
    ("change", "n_chains"),
    [({"persistent": False}, 0), ({"n_chains": 5}, 5), ({"n_chains": 20}, 20)],
)
def test_chains_obey_what_is_set_between_chunks(change, n_chains, rng):
    """Chains that were no longer wanted went on silently."""
    X = (rng.random((50, 6)) < 0.5).astype(float)
    stack = StackedRBMTransformer(
        (4,), persistent=True, batch_size=16, random_state=0
    ).partial_fit(X)
    assert stack._resume["layers"][0]["state"]["chain"].shape == (16, 4)
    stack.set_params(**change).partial_fit(X)
    assert stack._resume["layers"][0]["state"]["chain"].shape == (n_chains, 4)


@pytest.mark.parametrize(
    ("first", "then", "expected"),
    [
        ("sample", "mean", "mean"),
        ("mean", "sample", "sample"),
        ("sample", "auto", "sample"),
        ("mean", "auto", "mean"),
    ],
)
def test_reconstruction_set_between_chunks_is_obeyed(first, then, expected, mixed):
    """Only "auto" stands for the earlier choice, and gaussian units share in it."""
    X = mixed[:, :2]
    ours, theirs = (
        StackedRBMTransformer((4,), visible_reconstruction=first, random_state=0)
        .partial_fit(X)
        .set_params(visible_reconstruction=rule)
        .partial_fit(X)
        for rule in (then, expected)
    )
    assert ours.visible_reconstructions_ == [expected]
    assert_array_equal(ours.coefs_[0], theirs.coefs_[0])


# --- health ----------------------------------------------------------------------


def test_report_says_what_it_measures(monkeypatch, rng):
    X = (rng.random((200, 8)) < 0.3).astype(float)
    monkeypatch.setattr(
        "sklearn_greedy._stack.held_out_rows", lambda n, *_: np.arange(180, n)
    )
    stack = fit(X, (6, 3), early_stopping=True, max_iter=4)
    assert len(stack.layer_report_) == 2
    report = stack.layer_report_[0]
    hidden = expit(X[:180] @ stack.coefs_[0] + stack.intercepts_[0])
    assert report["mean_activation"] == pytest.approx(hidden.mean(), rel=1e-6)
    assert report["weight_norm"] == pytest.approx(np.linalg.norm(stack.coefs_[0]))
    assert report["n_dead"] == np.sum(hidden.max(axis=0) < 0.01)
    assert report["baseline_error"] == pytest.approx(X.var(axis=0).mean(), rel=0.1)
    assert 0 < report["reconstruction_error"] < 1
    assert abs(report["free_energy_gap"]) < 2
    assert fit(X).layer_report_[0]["free_energy_gap"] is None


def test_free_energy_gap_compares_training_and_held_out_rows(monkeypatch, rng):
    X = (rng.random((90, 8)) < 0.3).astype(float)
    monkeypatch.setattr(
        "sklearn_greedy._stack.held_out_rows",
        lambda n, *_: np.arange(60, n),
    )
    stack = fit(X, early_stopping=True, learning_rate=0.1, max_iter=20)
    energy = stack.free_energy(X)
    gap = energy[:60].mean() - energy[60:].mean()
    assert stack.layer_report_[0]["free_energy_gap"] == pytest.approx(gap, abs=1e-4)


def test_sorted_rows_are_reported_and_judged_as_shuffled_ones(rng):
    """Health is taken on rows from everywhere, not on the first class alone."""
    X = np.repeat(np.eye(8), 500, axis=0)
    report = fit(X, (6,), max_iter=5, learning_rate=0.1).layer_report_[0]
    assert report["baseline_error"] == pytest.approx(7 / 64, rel=0.01)
    assert report["n_dead"] < 6


def test_units_that_hardly_move_are_constant(rng):
    """All stood at about a half, neither off nor saturated, and nothing was said."""
    X = rng.beta(2, 60, (1000, 12))
    with pytest.warns(UserWarning, match=r"16 of 16 .* are constant.* \(0 are off"):
        stack = fit(X, (16,), visible="bernoulli", max_iter=2)
    assert stack.transform(X).std(axis=0).max() < 0.01
    assert stack.layer_report_[0]["n_constant"] == 16


def test_units_that_one_row_moves_are_constant():
    """Of tf-idf all hidden units stood still but for a post, and nothing was said."""
    H = np.full((1000, 3), 0.5)
    H[7] = 0.6
    assert idle_units(H, "logistic") == (0, 0, 3)
    H[::20, 0] = 0.6
    assert idle_units(H, "logistic") == (0, 0, 2)


def test_automatic_rate_of_chains_holds_where_columns_go_together(rng):
    """With 256 units the chains ran off: errors of thirty times that of the means."""
    X = rng.normal(size=(800, 20)) @ rng.normal(size=(20, 240))
    X += 0.5 * rng.normal(size=X.shape)
    stack = fit(X, (256,), learning_rate="auto", persistent=True, max_iter=20)
    report = stack.layer_report_[0]
    assert report["reconstruction_error"] < 0.8 * report["baseline_error"]


def test_large_counts_are_judged_by_their_variance(rng):
    """Their mean square is a thousand times that."""
    X = rng.poisson(1000, (300, 5)).astype(float)
    with pytest.warns(UserWarning, match="worse than the column means"):
        fit(X, (16,), visible="poisson", learning_rate="auto", max_iter=1)


def test_worse_than_the_column_means_warns_with_the_parameters(rng):
    X = (rng.random((200, 8)) < 0.5).astype(float)
    with pytest.warns(UserWarning, match=r"worse than the column means") as caught:
        fit(X, (6,), learning_rate=60.0, momentum=0.0, batch_size=10, max_iter=1)
    message = next(str(w.message) for w in caught if "column means" in str(w.message))
    assert "learning_rate (now 60)" in message
    assert "max_iter, now 1" in message


@pytest.mark.parametrize(("n_columns", "copies"), [(8, 1), (4, 3)])
def test_gap_monitor_is_the_training_score_plus_the_gap(
    n_columns, copies, monkeypatch, rng
):
    """Both parts by the public measures, at the epoch whose parameters were kept.
    Without copies the training rows hardly matter: where columns are independent, the
    score is minus the free energy, up to a constant.
    """
    X = np.repeat((rng.random((90, n_columns)) < 0.3) * 1.0, copies, axis=1)
    monkeypatch.setattr(
        "sklearn_greedy._stack.held_out_rows", lambda n, *_: np.arange(60, n)
    )
    stack = fit(X, early_stopping="free_energy_gap", learning_rate=0.2, max_iter=30)
    energy = stack.free_energy(X)
    score = stack.score(X[:60]) + energy[:60].mean() - energy[60:].mean()
    assert score == pytest.approx(max(stack.validation_scores_[0]), rel=1e-5)


def test_learned_scale_finds_the_noise_within_clusters(rng):
    """Two clusters with deviation 1: the hidden units explain the distance."""
    X = 4 * rng.integers(0, 2, (1000, 1)) + rng.normal(size=(1000, 3))
    options = {
        "learning_rate": 0.02,
        "max_iter": 100,
        "momentum": 0.5,
        "alpha": 0,
        "persistent": True,
        "visible_reconstruction": "sample",
        "centered": True,
    }
    fixed = fit(X, (3,), **options)
    learned = fit(X, (3,), learn_scale=True, **options)
    assert_allclose(fixed.visible_scale_, X.std(axis=0))
    assert_allclose(learned.visible_scale_, 1, atol=0.15)
    assert learned.log_likelihood(X).mean() > fixed.log_likelihood(X).mean() + 0.5
    again = fit(X, (3,), learn_scale=True, **options)
    assert_array_equal(again.visible_scale_, learned.visible_scale_)


@pytest.mark.parametrize("factor", [1e3, 1e9])
def test_learned_scale_takes_no_long_steps(factor, rng):
    """A gradient that grows with the square of the rows stands in the exponent."""
    X = clusters(rng)
    options = {"learn_scale": True, "warm_start": True, "learning_rate": 1e-9}
    stack = fit(X, max_iter=1, **options)
    first = stack.visible_scale_
    assert_allclose(stack.fit(factor * X).visible_scale_, first * np.exp(0.2))


@pytest.mark.parametrize("size", [2, 500])
def test_learned_scale_does_not_depend_on_the_size_of_chunks(size, rng):
    """Each of them took a whole step, and those of few rows to one side."""
    X = 2 * rng.normal(size=(2000, 3))
    stack = StackedRBMTransformer(
        (2,), visible="gaussian", learn_scale=True, learning_rate=1e-6, random_state=0
    ).partial_fit(X)
    scales = []
    for start in range(0, len(X), size):
        stack.partial_fit(X[start : start + size])
        scales.append(stack.visible_scale_)
    assert_allclose(np.mean(scales, axis=0), X.std(axis=0), rtol=0.05)


def test_few_rows_far_out_hardly_move_a_learned_scale(rng):
    """They moved it as far as a thousand rows could."""
    X = rng.normal(size=(1000, 3))
    stack = fit(X, learn_scale=True, learning_rate=1e-6, max_iter=1).partial_fit(X)
    before = stack.visible_scale_
    stack.partial_fit(30 * X[:5]).partial_fit(30 * X[:5])
    assert_allclose(stack.visible_scale_, before, rtol=0.005)


def test_best_epoch_of_a_learned_scale_keeps_its_scale(monkeypatch, rng):
    """Scores were of rows in the first scale, and the scale that of the last epoch."""
    monkeypatch.setattr(
        "sklearn_greedy._stack.held_out_rows", lambda n, *_: np.arange(300, n)
    )
    X = rng.integers(0, 2, (400, 2)) @ np.array([[3.0, -2, 1], [1, 2, -3]])
    X += 0.3 * rng.normal(size=X.shape) + 5
    stack = fit(X, learn_scale=True, early_stopping=True, max_iter=25)
    kept = stack.score(X[300:]) + np.log(X.std(axis=0)).sum()
    assert kept == pytest.approx(max(stack.validation_scores_[0]), rel=1e-5)
    assert np.argmax(stack.validation_scores_[0]) > 15


def test_learned_scale_of_a_constant_column_stays(rng):
    """It shrank by a fifth in every epoch, to 0 in the end."""
    X = np.column_stack([rng.normal(size=(100, 2)), np.full(100, 5.0)])
    stack = fit(X, visible="gaussian", learn_scale=True, max_iter=50)
    assert stack.visible_scale_[2] == 1


def test_floor_of_a_learned_scale_is_that_of_the_first_chunk(rng):
    X = 2 * rng.normal(size=(200, 3))
    stack = fit(X, learn_scale=True, max_iter=1)
    stack.partial_fit(X)
    for _ in range(60):
        stack.partial_fit(X[:1] + 1e-3 * rng.normal(size=(50, 3)))
    assert np.all(stack.visible_scale_ >= 0.05 * X.std(axis=0) * (1 - 1e-12))


def test_validation_score_of_large_weights_is_exact(rng):
    """In float32 the score of two equal columns became NaN, where weights reach 17."""
    X = np.repeat(rng.integers(0, 2, (600, 1)), 2, axis=1).astype(float)
    stack = fit(
        X,
        (1,),
        learning_rate=10.0,
        momentum=0.5,
        alpha=0,
        early_stopping=True,
        max_iter=200,
        n_iter_no_change=1000,
    )
    assert np.abs(stack.coefs_[0]).max() > 17
    assert np.isfinite(stack.validation_scores_[0]).all()


def test_batches_of_more_rows_than_there_are(rng):
    """Room was taken for as many as asked."""
    X = (rng.random((50, 6)) < 0.5).astype(float)
    most, whole = fit(X, batch_size=10**15), fit(X, batch_size=50)
    assert_array_equal(most.coefs_[0], whole.coefs_[0])


def test_learned_scale_has_a_floor(rng):
    X = rng.integers(0, 2, (100, 1)) * np.array([[10.0, 10.0, 10.0]])  # no noise at all
    stack = fit(X, (3,), learn_scale=True, learning_rate=1e-3, max_iter=60)
    assert np.all(stack.visible_scale_ >= 0.05 * X.std(axis=0) * (1 - 1e-12))
    stack.partial_fit(X)
    assert np.isfinite(stack.coefs_[0]).all()


@pytest.mark.parametrize(
    ("width", "params", "expected"),
    [
        (8, {}, 0.016 * 1.9),
        (8, {"momentum": 0.5}, 0.016 * 1.5),
        (512, {}, 0.016 * 1.9),
        (1024, {"visible": "gaussian"}, 0.016 * 1.9 / 8),
        (8, {"visible": "gaussian", "batch_size": 2}, 0.016 * 1.9 / 5),
        (8, {"batch_size": 1}, 0.016 * 1.9),
        (8, {"hidden": "relu"}, 0.0016 * 1.9),
        (8, {"hidden": "gaussian"}, 0.0016 * 1.9),
        (8, {"visible": "poisson"}, 0.0016 * 1.9),
        (8, {"learning_rate": 0.02}, 0.02),
    ],
)
def test_automatic_rate_goes_by_units_and_width(width, params, expected, rng):
    X = (rng.random((40, 5)) < 0.5).astype(float)
    stack = StackedRBMTransformer((4, width), max_iter=1, random_state=0)
    if "visible" in params or "hidden" in params:
        stack.set_params(hidden_layer_sizes=(width,))
    stack.set_params(**params).fit(X)
    assert stack.learning_rates_[-1] == pytest.approx(expected)


@pytest.mark.parametrize("n_columns", [512, 2048])
def test_automatic_rate_falls_sooner_with_width_over_many_columns(n_columns, rng):
    X = rng.normal(size=(20, n_columns))
    found = [
        fit(X, (width,), learning_rate="auto", max_iter=1).learning_rates_[0]
        for width in (64, 256, 512)
    ]
    begins = 256 * np.sqrt(512 / n_columns)
    expected = [min(1, begins / width) ** 1.5 for width in (64, 256, 512)]
    assert_allclose(found, np.multiply(0.016 * 1.9, expected))


@pytest.mark.parametrize("hidden", ["bernoulli", "relu", "gaussian"])
def test_automatic_rate_goes_by_the_reach_of_mini_batches(hidden, rng):
    """The columns go together: a mini-batch reaches as far as there are columns."""
    line = rng.normal(size=(64, 1)) @ np.ones((1, 450))
    X = np.hstack([line, rng.integers(0, 2, (64, 3))])
    kinds = [("gaussian", slice(450)), ("bernoulli", slice(450, 453))]
    stack = fit(X, (4,), visible=kinds, hidden=hidden, learning_rate="auto", max_iter=1)
    scaled = (X - X.mean(axis=0))[:, 0] / X[:, 0].std()
    halves = [np.mean(part**2) for part in (scaled[::2], scaled[1::2])]
    reach = 450 * max(halves)
    slowed = np.sqrt(reach / 400) if hidden == "bernoulli" else reach / 100
    rate = 0.016 if hidden == "bernoulli" else 0.0016
    assert slowed > 1
    assert stack.learning_rates_[0] == pytest.approx(rate * 1.9 / slowed)


def test_automatic_rate_goes_by_the_row_farthest_out(rng):
    """It is not among the thousand rows that batches are made of."""
    X = rng.normal(size=(3000, 4))
    X[1001] = 500
    scaled = (X - X.mean(axis=0)) / X.std(axis=0)
    stack = fit(X, (4,), hidden="relu", learning_rate="auto", batch_size=10, max_iter=1)
    longest = np.sum(scaled[1001] ** 2) / 10
    assert stack.learning_rates_[0] == pytest.approx(0.0016 * 1.9 * 100 / longest)


@pytest.mark.parametrize("hidden", ["bernoulli", "relu", "gaussian"])
@pytest.mark.parametrize("data", ["noise", "one direction"])
def test_automatic_rate_trains_wide_data(data, hidden, rng):
    """Most of these diverged at the default width, rectified units at any."""
    X = rng.normal(size=(1000, 1000))
    if data != "noise":
        X = rng.normal(size=(1000, 1)) @ rng.normal(size=(1, 1000)) + 0.3 * X
    stack = StackedRBMTransformer(hidden=hidden, max_iter=5, random_state=0).fit(X)
    (report,) = stack.layer_report_
    assert report["reconstruction_error"] < 1.01 * report["baseline_error"]


@pytest.mark.parametrize("hidden", ["bernoulli", "relu", "gaussian"])
def test_automatic_rate_trains_on_single_rows(hidden):
    X, y = load_digits(return_X_y=True)
    stack = fit(X, (32,), hidden=hidden, learning_rate="auto", batch_size=1, max_iter=2)
    assert linear_score(stack.transform(X), y) > 0.85


@pytest.mark.parametrize("width", [16, 256, 1000])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_automatic_rate_trains_raw_tables(width, momentum, rng):
    """Ten columns of any scale: at 0.1 the first epoch diverges."""
    X = 100 + 50 * rng.normal(size=(300, 3)) @ rng.normal(size=(3, 10))
    stack = StackedRBMTransformer((width,), momentum=momentum, random_state=0).fit(X)
    (report,) = stack.layer_report_
    assert report["reconstruction_error"] < report["baseline_error"]
    fast = StackedRBMTransformer((1000,), learning_rate=0.1, random_state=0)
    with pytest.raises(ValueError, match="diverged"):
        fast.fit(X)


def test_reconstruction_is_decided_anew_at_a_warm_start(rng):
    """What was named before was taken for a decision of "auto"."""
    X = (rng.random((200, 6)) < 0.5).astype(float)
    stack = StackedRBMTransformer(
        (4,), visible_reconstruction="mean", warm_start=True, random_state=0
    ).fit(X)
    stack.set_params(visible_reconstruction="auto").fit(X)
    assert stack.visible_reconstructions_ == ["sample"]


def test_learned_scales_of_periodic_rows_are_those_of_all(rng):
    """They were learned from every fourth row."""
    sizes = np.where(np.arange(4000) % 4 == 0, 1.0, 10.0)
    X = rng.normal(size=(4000, 3)) * sizes[:, None]
    stack = fit(X, learn_scale=True, visible="gaussian", learning_rate=1e-3, max_iter=8)
    assert np.all(stack.visible_scale_ > 0.5 * X.std(axis=0))


def relu_rate(X, **params):
    """Rate of two rectified units, and what it is without regard to the rows."""
    stack = fit(X, (2,), hidden="relu", learning_rate="auto", max_iter=1, **params)
    return stack.learning_rates_[0], 0.0016 * 1.9


def test_automatic_rate_of_rows_in_order_goes_by_those_that_follow_each_other(rng):
    X = np.sort(rng.normal(size=640))[:, None] @ np.ones((1, 400))
    scaled = ((X - X.mean(axis=0)) / X.std(axis=0))[:, 0]
    reach = 400 * max(np.mean(part**2) for part in np.split(scaled, 20))
    found, full = relu_rate(X, shuffle=False)
    assert found == pytest.approx(full * 100 / reach, rel=1e-3)
    assert relu_rate(X)[0] > 2 * found


def test_automatic_rate_of_very_wide_rows_goes_by_whole_mini_batches(rng):
    """Of so wide ones no more than 26 were looked at."""
    X = np.sign(rng.normal(size=(32, 40_000)))
    scaled = (X - X.mean(axis=0)) / X.std(axis=0)
    found, full = relu_rate(X)
    reach = np.linalg.norm(scaled, 2) ** 2 / 32
    assert found == pytest.approx(full * 100 / reach, rel=1e-3)


def test_automatic_rate_goes_by_the_rows_that_weigh(rng):
    line = rng.normal(size=1000)
    X = line[:, None] @ np.ones((1, 400))
    weights = np.where(np.abs(line) > 2, 1000.0, 1e-3)
    stack = StackedRBMTransformer((2,), hidden="relu", max_iter=1, random_state=0)
    network = GreedyPretrainedMLPRegressor(pretrainer=stack, max_iter=1, random_state=0)
    found, evenly = (
        network.fit(X, line, sample_weight=weight).pretrainer_.learning_rates_[0]
        for weight in (weights, None)
    )
    heavy, _ = relu_rate(X[weights > 1])
    assert found == pytest.approx(heavy, rel=0.2)
    assert evenly < 0.8 * found
