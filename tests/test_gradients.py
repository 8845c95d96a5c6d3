"""Gradients by finite differences, optimisers by hand, both against scikit-learn."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer
from tools import kernels, lists_for, rbm_constants, solver_constants, traits_of

from sklearn_greedy import GreedyPretrainedMLPClassifier, GreedyPretrainedMLPRegressor
from sklearn_greedy._kernels import (
    ADAM,
    BERNOULLI,
    GAUSSIAN,
    NESTEROV,
    POISSON,
    SGD,
    SOFTMAX,
    TRANSPOSED,
    WEIGHT,
)
from sklearn_greedy._network import ACTIVATIONS, Network, forward
from sklearn_greedy._threads import ALONE

# --- finite differences --------------------------------------------------------

N_ROWS, N_FEATURES, STEP = 4, 5, 1e-5
# Of the random numbers that drop units: one mini-batch, seen again and again.
SEED, STEP_NUMBER = np.array([7, 8], dtype=np.uint32), 3
OUTPUTS = {
    "gaussian": [(0, 3, GAUSSIAN)],
    "bernoulli": [(0, 3, BERNOULLI)],
    "softmax": [(0, 3, SOFTMAX)],
    "poisson": [(0, 3, POISSON)],
    "mixed": [(0, 2, GAUSSIAN), (2, 4, BERNOULLI), (4, 7, SOFTMAX)],
}


def targets_for(blocks, rng):
    """Targets in the range of each block; those of a softmax block sum to one."""
    parts = []
    for start, stop, kind in blocks:
        shape = N_ROWS, stop - start
        if kind == GAUSSIAN:
            parts.append(rng.normal(size=shape))
        elif kind == BERNOULLI:
            parts.append(rng.random(shape))
        elif kind == POISSON:
            parts.append(rng.poisson(2.0, shape).astype(float))
        else:
            parts.append(rng.dirichlet(np.ones(shape[1]), size=N_ROWS))
    return np.hstack(parts)


class Loss:
    """Mean loss of a network on fixed rows, as a function of its parameters."""

    def __init__(
        self, network, blocks, rng, code=None, weights=None, dropout=0.0, pace=1.0
    ):
        self.network = network
        self.traits = traits_of(len(network.layers), dropout, pace)
        self.code = np.zeros(5) if code is None else code
        self.weights = np.empty((0, 0)) if weights is None else weights
        self.rows = rng.normal(size=(N_ROWS, N_FEATURES))
        self.targets = targets_for(blocks, rng)
        self.blocks = np.array([(*block, 0) for block in blocks], dtype=np.int64)
        # Exponentials of large weights are out of reach of finite differences.
        self.spread = 0.3 if POISSON in self.blocks[:, 2] else 0.7
        self.work = np.empty(N_ROWS * int(network.layers[:, 1].sum()))
        self.deltas = np.empty_like(self.work)
        sizes = network.layers[:, 0] * network.layers[:, 1]
        self.scratch = np.empty(int(sizes.max()))
        self.lists = lists_for(N_ROWS, *network.layers[:, :2])

    def __call__(self, theta):
        """Loss and gradient."""
        grad = np.full_like(theta, np.nan)
        loss = kernels.loss_gradient(
            self.rows,
            self.targets,
            self.weights,
            theta,
            grad,
            self.network.layers,
            self.traits,
            self.blocks,
            self.code,
            SEED,
            STEP_NUMBER,
            self.work,
            self.deltas,
            self.scratch,
            self.lists,
            ALONE,
        )
        return loss, grad

    def differences(self, theta):
        """Central differences of the loss along each parameter."""
        steps = STEP * np.eye(theta.size)
        return np.array(
            [(self(theta + d)[0] - self(theta - d)[0]) / (2 * STEP) for d in steps]
        )

    def distance_to_kink(self, theta):
        """Least pre-activation of the hidden layers in absolute value."""
        coefs, intercepts = self.network.views(theta)
        a, least = self.rows, np.inf
        for coef, intercept in zip(coefs[:-1], intercepts[:-1], strict=True):
            z = a @ coef + intercept
            a, least = np.maximum(z, 0), min(least, np.abs(z).min())
        return least

    def smooth_point(self, rng, relu):
        """Parameters at which no relu changes sign within the finite differences."""
        for _ in range(100):
            theta = self.spread * rng.normal(size=self.network.n_parameters)
            if not relu or self.distance_to_kink(theta) > 1e-3:
                return theta
        raise AssertionError("no point away from the kinks")


def check_gradient(network, blocks, activation, rng, **options):
    loss = Loss(network, blocks, rng, **options)
    theta = loss.smooth_point(rng, activation == "relu")
    before = theta.copy()
    _, grad = loss(theta)
    assert_array_equal(theta, before)
    assert np.abs(grad).max() > 1e-2
    # Central differences: h**2 times a third derivative, and eps / h of rounding.
    assert_allclose(grad, loss.differences(theta), rtol=1e-7, atol=3e-9)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_gradient(activation, output, depth, rng):
    blocks = OUTPUTS[output]
    sizes = [N_FEATURES, *(4, 3, 5)[:depth], blocks[-1][1]]
    network = Network.dense(sizes, [activation] * depth + ["identity"])
    check_gradient(network, blocks, activation, rng)


@pytest.mark.parametrize("activations", list(itertools.permutations(ACTIVATIONS, 2)))
def test_gradient_of_mixed_activations(activations, rng):
    """Each derivative belongs to the layer below the weights it passes through."""
    network = Network.dense([N_FEATURES, 4, 3, 7], [*activations, "identity"])
    relu = "relu" if "relu" in activations else ""
    check_gradient(network, OUTPUTS["mixed"], relu, rng)


TIED_OUTPUTS = {
    "gaussian": [(0, N_FEATURES, GAUSSIAN)],
    "bernoulli": [(0, N_FEATURES, BERNOULLI)],
    "mixed": [(0, 2, GAUSSIAN), (2, N_FEATURES, BERNOULLI)],
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("output", TIED_OUTPUTS)
def test_gradient_of_a_tied_autoencoder(activation, output, rng):
    network = Network.tied(N_FEATURES, 3, activation)
    check_gradient(network, TIED_OUTPUTS[output], activation, rng)


# What each penalty on the code does, alone: contraction, L1, target, weight, winners.
PENALTIES = {
    "contraction": [0.7, 0, 0, 0, 0],
    "both": [0.7, 0, 0, 0, 2],  # a unit that lost is moved by no input
    "l1": [0, 0.7, 0, 0, 0],
    "winners": [0, 0, 0, 0, 2],
    "sparsity": [0, 0, 0.1, 0.7, 0],
    "all": [0.3, 0.2, 0.1, 0.4, 2],
}


@pytest.mark.parametrize(
    ("activation", "penalty"),
    [
        *itertools.product(ACTIVATIONS, ["contraction", "l1", "winners", "both"]),
        ("logistic", "sparsity"),  # a target for probabilities
        ("logistic", "all"),
    ],
)
@pytest.mark.parametrize("tied", [False, True])
def test_gradient_of_penalties_on_the_code(activation, tied, penalty, rng):
    network = Network.dense([N_FEATURES, 4, N_FEATURES], [activation, "identity"])
    if tied:
        network = Network.tied(N_FEATURES, 4, activation)
    code = np.array(PENALTIES[penalty], dtype=float)
    # relu, and elu's second derivative, have kinks; so does |h| at 0.
    kinks = "relu" if activation != "logistic" else ""
    check_gradient(network, TIED_OUTPUTS["mixed"], kinks, rng, code=code)


@pytest.mark.parametrize("activation", ["logistic", "tanh", "relu", "softplus", "elu"])
def test_contraction_is_the_norm_of_the_jacobian(activation, rng):
    """What the penalty adds to the loss, against a Jacobian by finite differences."""
    network = Network.tied(N_FEATURES, 4, activation)
    plain = Loss(network, TIED_OUTPUTS["gaussian"], rng)
    theta = plain.smooth_point(rng, relu=True)
    before, _ = plain(theta)
    plain.code = np.array([1.0, 0, 0, 0, 0])
    after, _ = plain(theta)
    coefs, intercepts = network.views(theta)
    norms = []
    for x in plain.rows:
        steps = x + STEP * np.vstack([np.eye(N_FEATURES), -np.eye(N_FEATURES)])
        codes = forward(steps, coefs[:1], intercepts[:1], [activation])
        jacobian = (codes[:N_FEATURES] - codes[N_FEATURES:]) / (2 * STEP)
        norms.append((jacobian**2).sum())
    assert_allclose(after - before, np.mean(norms), rtol=1e-7)


@pytest.mark.parametrize("output", OUTPUTS)
def test_gradient_with_weighted_cells(output, rng):
    blocks = OUTPUTS[output]
    weights = rng.random((N_ROWS, blocks[-1][1])) + 0.5
    for start, stop, kind in blocks:
        if kind == SOFTMAX:  # a group has one weight
            weights[:, start:stop] = weights[:, start : start + 1]
    network = Network.dense([N_FEATURES, 4, blocks[-1][1]], ["tanh", "identity"])
    check_gradient(network, blocks, "tanh", rng, weights=weights)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("weighted", [False, True])
def test_gradient_with_dropout(activation, output, weighted, rng):
    """With the units of one mini-batch dropped, the loss is a function like another."""
    blocks = OUTPUTS[output]
    weights = None
    if weighted:
        weights = np.repeat(rng.random((N_ROWS, 1)) + 0.5, blocks[-1][1], axis=1)
    sizes = [N_FEATURES, 6, 5, blocks[-1][1]]
    network = Network.dense(sizes, [activation] * 2 + ["identity"])
    options = {"dropout": [0.0, 0.3, 0.6], "weights": weights}
    check_gradient(network, blocks, activation, rng, **options)


@pytest.mark.parametrize("activation", ["identity", "relu"])
def test_dropout_is_right_on_average(activation, rng):
    """The mean over many masks of a linear network's output is that without dropout;
    so is that of the units below, where they are positive.
    """
    n = 200_000
    network = Network.dense([2, 3, 1], [activation, "identity"])
    theta = np.abs(rng.normal(size=network.n_parameters))
    rows, traits = np.ones((n, 2)), traits_of(2, dropout=[0.0, 0.4])
    work, code = np.empty(n * 4), np.zeros(5)
    inputs = rows, theta, network.layers, traits, code
    lists = lists_for(len(rows), *network.layers[:, :2])
    kernels.forward(*inputs, SEED, 0, work, lists, ALONE)
    hidden, output = work[: 3 * n].reshape(n, 3), work[3 * n :]
    coefs, intercepts = network.views(theta)
    clean = np.ones(2) @ coefs[0] + intercepts[0]
    assert_allclose((hidden == 0).mean(axis=0), 0.4, atol=0.006)
    assert_allclose(hidden.max(axis=0), clean / 0.6, rtol=1e-12)
    assert_allclose(hidden.mean(axis=0), clean, rtol=0.01)
    assert_allclose(output.mean(), clean @ coefs[1][:, 0] + intercepts[1], rtol=0.01)


@pytest.mark.parametrize("n_frozen", [1, 2])
def test_frozen_layers_get_no_gradient_and_change_no_other(n_frozen, rng):
    network = Network.dense([N_FEATURES, 4, 3, 3], ["tanh", "tanh", "identity"])
    loss = Loss(network, OUTPUTS["softmax"], rng)
    theta = rng.normal(size=network.n_parameters)
    value, whole = loss(theta)
    loss.traits[:n_frozen, 1] = 0
    frozen_value, part = loss(theta)
    assert frozen_value == value
    for every, some in zip(network.views(whole), network.views(part), strict=True):
        assert all(np.isnan(array).all() for array in some[:n_frozen])
        for a, b in zip(every[n_frozen:], some[n_frozen:], strict=True):
            assert_array_equal(a, b)


def unrolled(activation, tied):
    """Autoencoder 5-4-3-4-5; tied: the decoder layers use the encoder's weights."""
    if not tied:
        sizes = [N_FEATURES, 4, 3, 4, N_FEATURES]
        return Network.dense(sizes, [activation] * 3 + ["identity"])
    code, linear = ACTIVATIONS.index(activation), ACTIVATIONS.index("identity")
    first, second, biases = 0, 20, 32
    layers = [
        (5, 4, code, first, biases, 0),
        (4, 3, code, second, biases + 4, 0),
        (3, 4, code, second, biases + 7, 1),
        (4, 5, linear, first, biases + 11, 1),
    ]
    return Network(np.array(layers, dtype=np.int64), biases + 16)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("output", TIED_OUTPUTS)
def test_gradient_of_an_unrolled_tied_autoencoder(activation, output, rng):
    network = unrolled(activation, tied=True)
    check_gradient(network, TIED_OUTPUTS[output], activation, rng)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_tied_gradient_is_the_sum_over_the_places_of_a_weight(activation, rng):
    """The chain rule: tied = encoder's part + transpose of the decoder's part."""
    tied, free = unrolled(activation, True), unrolled(activation, False)
    loss = Loss(tied, TIED_OUTPUTS["mixed"], rng)
    theta = 0.7 * rng.normal(size=tied.n_parameters)
    value, grad = loss(theta)
    loss.network = free
    untied_value, untied_grad = loss(free.pack(*tied.views(theta), dtype=np.float64))
    assert_allclose(value, untied_value, rtol=1e-13)
    coefs, intercepts = free.views(untied_grad)
    ours_coefs, ours_intercepts = tied.views(grad)
    for i in (0, 1):
        assert_allclose(ours_coefs[i], coefs[i] + coefs[3 - i].T, atol=1e-13)
    for ours, expected in zip(ours_intercepts, intercepts, strict=True):
        assert_allclose(ours, expected, atol=1e-13)


@pytest.mark.parametrize("output", OUTPUTS)
def test_bias_gradient_is_the_mean_residual(output, rng):
    """Canonical links: the gradient at the output's pre-activation is mean - target."""
    blocks = OUTPUTS[output]
    network = Network.dense([N_FEATURES, blocks[-1][1]], ["identity"])
    loss = Loss(network, blocks, rng)
    theta = rng.normal(size=network.n_parameters)
    (coef,), (intercept,) = network.views(theta)
    means = loss.rows @ coef + intercept
    for start, stop, kind in blocks:
        part = means[:, start:stop]
        if kind == BERNOULLI:
            part[...] = 1 / (1 + np.exp(-part))
        elif kind == POISSON:
            part[...] = np.exp(part)
        elif kind == SOFTMAX:
            part[...] = np.exp(part) / np.exp(part).sum(axis=1, keepdims=True)
    residual = means - loss.targets
    _, grad = loss(theta)
    (grad_coef,), (grad_intercept,) = network.views(grad)
    assert_allclose(grad_intercept, residual.mean(axis=0), atol=1e-14)
    assert_allclose(grad_coef, loss.rows.T @ residual / N_ROWS, atol=1e-14)


# --- optimisers ----------------------------------------------------------------

LR, MOMENTUM, BETA_1, BETA_2, EPSILON = 0.1, 0.9, 0.8, 0.95, 1e-3
HYPER = solver_constants(LR, MOMENTUM, BETA_1, BETA_2, EPSILON)


def test_sgd_momentum_by_hand():
    """v = m v - lr g, written out for gradients g1, g2, g3."""
    theta, velocity = np.array([1.0, -2.0]), np.zeros(2)
    g1, g2, g3 = np.array([[1.0, 2.0], [3.0, -1.0], [-2.0, 0.5]])
    expected = [
        1 * LR * g1,
        LR * (MOMENTUM * g1 + g2),
        LR * (MOMENTUM**2 * g1 + MOMENTUM * g2 + g3),
    ]
    position = theta.copy()
    for g, move in zip((g1, g2, g3), expected, strict=True):
        kernels.sgd_update(theta, velocity, g, LR, MOMENTUM, False, 0.0)
        position = position - move
        assert_allclose(velocity, -move, rtol=1e-14)
        assert_allclose(theta, position, rtol=1e-14)


def test_nesterov_momentum_by_hand():
    """The step looks ahead: m times the new velocity, minus lr g."""
    theta, velocity = np.array([1.0]), np.zeros(1)
    gradients = [2.0, -1.0, 4.0]
    velocities = [-0.2, 0.9 * -0.2 + 0.1, 0.9 * (0.9 * -0.2 + 0.1) - 0.4]
    position = 1.0
    for g, v in zip(gradients, velocities, strict=True):
        kernels.sgd_update(theta, velocity, np.array([g]), 0.1, 0.9, True, 0.0)
        position += 0.9 * v - 0.1 * g
        assert_allclose(velocity, v, rtol=1e-13)
        assert_allclose(theta, position, rtol=1e-13)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_equals_scikit_learn(nesterov, rng):
    theta, velocity = rng.normal(size=20), np.zeros(20)
    params = [theta.copy()]
    peer = SGDOptimizer(params, LR, momentum=MOMENTUM, nesterov=nesterov)
    for _ in range(20):
        grad = rng.normal(size=20)
        kernels.sgd_update(theta, velocity, grad, LR, MOMENTUM, nesterov, 0.0)
        peer.update_params(params, [grad])
        assert_allclose(theta, params[0], rtol=1e-12, atol=1e-13)


def test_adam_by_hand():
    """Sums of the gradients' own weights, written out for three steps."""
    theta, first, second = np.array([1.0]), np.zeros(1), np.zeros(1)
    gradients = np.array([2.0, -1.0, 4.0])
    position = 1.0
    for t in (1, 2, 3):
        seen, age = gradients[:t], np.arange(t)[::-1]
        m = (1 - BETA_1) * np.sum(BETA_1**age * seen)
        v = (1 - BETA_2) * np.sum(BETA_2**age * seen**2)
        correction = np.sqrt(1 - BETA_2**t) / (1 - BETA_1**t)
        position -= LR * correction * m / (np.sqrt(v) + EPSILON)
        kernels.update_part(
            theta, first, second, gradients[t - 1 : t], ADAM, HYPER, t - 1, 1.0, 0.0
        )
        assert_allclose([first[0], second[0]], [m, v], rtol=1e-13)
        assert_allclose(theta, position, rtol=1e-13)


def test_first_step_of_adam_has_the_length_of_the_learning_rate(rng):
    """Whatever the gradient's size, since m and sqrt(v) are the gradient's own."""
    for scale in (1e-3, 1.0, 1e3):
        theta, first, second = np.zeros((3, 10))
        grad = scale * rng.choice([-1.0, 1.0], size=10)
        hyper = solver_constants(LR, MOMENTUM, epsilon=1e-12)
        kernels.update_part(theta, first, second, grad, ADAM, hyper, 0, 1.0, 0.0)
        assert_allclose(theta, -LR * np.sign(grad), rtol=1e-6)


def test_adam_equals_scikit_learn(rng):
    theta, first, second = rng.normal(size=20), np.zeros(20), np.zeros(20)
    params = [theta.copy()]
    peer = AdamOptimizer(params, LR, BETA_1, BETA_2, EPSILON)
    for step in range(20):
        grad = rng.normal(size=20)
        kernels.update_part(theta, first, second, grad, ADAM, HYPER, step, 1.0, 0.0)
        peer.update_params(params, [grad])
        assert_allclose(theta, params[0], rtol=1e-12, atol=1e-13)


def test_momentum_ascent_by_hand():
    """velocity = m velocity + lr g, uphill; here without decay."""
    theta, velocity = np.array([1.0, -2.0]), np.zeros(2)
    g1, g2, g3 = np.array([[1.0, 2.0], [3.0, -1.0], [-2.0, 0.5]])
    expected = [
        1 * LR * g1,
        LR * (0.5 * g1 + g2),
        LR * (0.25 * g1 + 0.5 * g2 + g3),
    ]
    position, half = theta.copy(), rbm_constants(momentum=0.5)
    for g, move in zip((g1, g2, g3), expected, strict=True):
        kernels.momentum_ascent(theta, velocity, g, 1, LR, half)
        position = position + move
        assert_allclose(velocity, move, rtol=1e-14)
        assert_allclose(theta, position, rtol=1e-14)


def test_decay_of_an_rbm_shrinks_weights_only():
    """Without gradient and momentum each step multiplies by 1 - lr alpha."""
    theta, velocity, decay = np.ones(5), np.zeros(5), rbm_constants(l2=0.2)
    for _ in range(3):
        kernels.momentum_ascent(theta, velocity, np.zeros(5), 3, LR, decay)
    assert_allclose(theta[:3], (1 - LR * 0.2) ** 3, rtol=1e-14)
    assert_array_equal(theta[3:], 1)


def update_network(
    network, theta, state, grad, solver, hyper, *, step=0, alpha=0.0, pace=1.0
):
    layers = network.layers
    kernels.update_parameters(
        theta,
        state,
        grad,
        layers,
        traits_of(len(layers), pace=pace),
        solver,
        hyper,
        np.full(len(layers), step),
        alpha,
        np.empty(layers[:, 1].max()),
    )


@pytest.mark.parametrize("solver", [SGD, NESTEROV, ADAM])
@pytest.mark.parametrize("tied", [False, True])
def test_decay_of_a_network_shrinks_weights_only(solver, tied):
    """Tied weights decay once, and an undecayed parameter does not move at all."""
    network = unrolled("tanh", tied)
    theta = np.ones(network.n_parameters)
    state, grad = np.zeros((2, theta.size)), np.zeros(theta.size)
    hyper = solver_constants(LR, 0.0, BETA_1, BETA_2, EPSILON)
    update_network(network, theta, state, grad, solver, hyper, alpha=0.2)
    coefs, intercepts = network.views(theta)
    shrunk = 1 - LR * 0.2
    if solver == ADAM:
        # The decay is part of the gradient: m = g, v = g**2 after correction.
        root = np.sqrt(1 - BETA_2)
        shrunk = 1 - LR * root * 0.2 / (root * 0.2 + EPSILON)
    for coef, intercept in zip(coefs, intercepts, strict=True):
        assert_allclose(coef, shrunk, rtol=1e-12)
        assert_array_equal(intercept, 1)


@pytest.mark.parametrize("solver", [SGD, NESTEROV, ADAM])
def test_all_parameters_move_once(solver, rng):
    """A step on a network is the step on its flat vector, tied weights included."""
    network = unrolled("tanh", tied=True)
    assert set(network.layers[network.layers[:, TRANSPOSED] == 1, WEIGHT]) == {0, 20}
    theta, grad = rng.normal(size=(2, network.n_parameters))
    state = rng.random((2, theta.size))
    flat, flat_state = theta.copy(), state.copy()
    update_network(network, theta, state, grad, solver, HYPER, step=3)
    kernels.update_part(flat, *flat_state, grad, solver, HYPER, 3, 1.0, 0.0)
    assert_array_equal(theta, flat)
    assert_array_equal(state, flat_state)


@pytest.mark.parametrize("solver", [SGD, NESTEROV, ADAM])
def test_pace_is_a_factor_of_the_learning_rate(solver, rng):
    """Each layer moves as with its own rate; one of pace 0 stays, momentum and all."""
    network = Network.dense([3, 4, 2, 2], ["tanh", "tanh", "identity"])
    paces = [0.0, 0.25, 1.0]
    start, grad = rng.normal(size=(2, network.n_parameters))
    moments = rng.random((2, start.size))
    theta, state = start.copy(), moments.copy()
    update_network(network, theta, state, grad, solver, HYPER, pace=paces)
    for layer, pace in enumerate(paces):
        alone, alone_state = start.copy(), moments.copy()
        slower = solver_constants(pace * LR, MOMENTUM, BETA_1, BETA_2, EPSILON)
        update_network(network, alone, alone_state, grad, solver, slower)
        expected = start if pace == 0 else alone
        for ours, theirs in zip(
            network.views(theta), network.views(expected), strict=True
        ):
            assert_allclose(ours[layer], theirs[layer], rtol=1e-13)
    assert_array_equal(network.views(state[0])[0][0], network.views(moments[0])[0][0])


@pytest.mark.parametrize("solver", [SGD, NESTEROV, ADAM])
def test_max_norm_shortens_what_is_too_long_in_hidden_layers(solver, rng):
    network = Network.dense([5, 4, 3], ["tanh", "identity"])
    start = np.ones(network.n_parameters)
    network.views(start)[0][0][:, 0] = 0.1
    theta, state = start.copy(), np.zeros((2, start.size))
    still = solver_constants(0.0, max_norm=1.5)
    update_network(network, theta, state, np.zeros(theta.size), solver, still)
    (hidden, top), biases = network.views(theta)
    assert_array_equal(hidden[:, 0], 0.1)
    assert_allclose(np.linalg.norm(hidden[:, 1:], axis=0), 1.5, rtol=1e-12)
    for untouched in (top, *biases):
        assert_array_equal(untouched, 1)


# --- scikit-learn's networks ---------------------------------------------------

N_SAMPLES = 23
COMMON = {
    "hidden_layer_sizes": (6, 4),
    "shuffle": False,
    "alpha": 0.0,
    "warm_start": True,
    "random_state": 0,
}
SGD_STEP = {
    "solver": "sgd",
    "momentum": 0.0,
    "nesterovs_momentum": False,
    "learning_rate_init": LR,
}
PROBLEMS = ["softmax", "binary", "multilabel", "regression", "two outputs"]


def problem(name):
    """Rows and targets, and the two estimators' classes."""
    rng = np.random.default_rng(4)
    X = rng.normal(size=(N_SAMPLES, N_FEATURES))
    pair = GreedyPretrainedMLPClassifier, MLPClassifier
    if name == "softmax":
        return X, np.arange(N_SAMPLES) % 3, *pair
    if name == "binary":
        return X, np.arange(N_SAMPLES) % 2, *pair
    if name == "multilabel":
        return X, rng.integers(2, size=(N_SAMPLES, 3)), *pair
    y = rng.normal(size=(N_SAMPLES, 2))
    pair = GreedyPretrainedMLPRegressor, MLPRegressor
    return X, y if name == "two outputs" else y[:, 0], *pair


def start_alike(ours, peer, X, y):
    """One chunk each, then the peer's weights for both."""
    classes = {}
    if isinstance(peer, MLPClassifier):
        n_classes = y.shape[1] if y.ndim == 2 else y.max() + 1
        classes = {"classes": np.arange(n_classes)}
    ours.partial_fit(X, y, **classes)
    peer.partial_fit(X, y, **classes)
    copy_parameters(peer, ours)


def copy_parameters(source, target):
    target.coefs_ = [coef.copy() for coef in source.coefs_]
    target.intercepts_ = [intercept.copy() for intercept in source.intercepts_]


def parameters(estimator):
    parts = [*estimator.coefs_, *estimator.intercepts_]
    return np.concatenate([part.ravel() for part in parts])


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("activation", ["logistic", "tanh", "relu", "identity"])
@pytest.mark.parametrize("batch_size", [N_SAMPLES, 5])
def test_sgd_step_equals_scikit_learn(name, activation, batch_size):
    """The gradient, or the steps of five mini-batches of which the last is short."""
    X, y, our_class, peer_class = problem(name)
    options = COMMON | SGD_STEP | {"activation": activation, "batch_size": batch_size}
    ours, peer = our_class(pretrainer=None, **options), peer_class(**options)
    start_alike(ours, peer, X, y)
    start = parameters(peer)
    ours.partial_fit(X, y)
    peer.partial_fit(X, y)
    # Per unit of learning rate: of one batch this is minus the gradient.
    ours_moved = (parameters(ours) - start) / LR
    peer_moved = (parameters(peer) - start) / LR
    scale = np.abs(peer_moved).max()
    assert scale > 0.01
    # Training runs in float32: parameters of size 1 are rounded to 1e-7.
    assert_allclose(ours_moved, peer_moved, rtol=0, atol=1e-5 * max(scale, 1.0))


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_penalised_step_equals_scikit_learn(alpha):
    """One batch of all rows, where alpha means the same to both."""
    X, y, our_class, peer_class = problem("softmax")
    options = COMMON | SGD_STEP | {"alpha": alpha}
    ours, peer = our_class(pretrainer=None, **options), peer_class(**options)
    start_alike(ours, peer, X, y)
    ours.partial_fit(X, y)
    peer.partial_fit(X, y)
    assert_allclose(parameters(ours), parameters(peer), rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", ["softmax", "binary", "regression"])
@pytest.mark.parametrize(
    "solver",
    [
        {"solver": "adam", "learning_rate_init": 0.01, "epsilon": 1e-4},
        {"solver": "sgd", "learning_rate_init": 0.05, "nesterovs_momentum": False},
        {"solver": "sgd", "learning_rate_init": 0.05, "nesterovs_momentum": True},
    ],
    ids=["adam", "sgd", "nesterov"],
)
def test_epochs_equal_scikit_learn(name, solver):
    """Five epochs of mini-batches from the same weights with a fresh optimiser."""
    X, y, our_class, peer_class = problem(name)
    options = COMMON | solver
    options |= {"activation": "tanh", "batch_size": 5, "max_iter": 5}
    ours, peer = our_class(pretrainer=None, **options), peer_class(**options)
    for estimator in (ours, peer):
        with pytest.warns(ConvergenceWarning):
            estimator.fit(X, y)
    copy_parameters(peer, ours)
    start = parameters(peer)
    for estimator in (ours, peer):
        with pytest.warns(ConvergenceWarning):
            estimator.fit(X, y)
    assert np.abs(parameters(peer) - start).max() > 0.02
    assert_allclose(parameters(ours), parameters(peer), rtol=0, atol=2e-5)
    assert_allclose(ours.loss_curve_, peer.loss_curve_[-5:], rtol=1e-5)
