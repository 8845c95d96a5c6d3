"""The mathematics of the RBM against enumeration of all states of tiny models.

Everything here is written out a second time, in float64 and from the energy

    E(v, h) = sum_bernoulli -b_i v_i + sum_gaussian (v_i - b_i)**2 / 2 - c h - v w h

of the scaled space, where gaussian units have unit variance. With at most four units
on a side the sums over all states are exact. Gaussian units are integrated in closed
form given the hidden state, or by quadrature where a second opinion is wanted.
"""

from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import pairwise, product

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import quad
from scipy.special import expit, logsumexp, softmax
from scipy.stats import chi2, chisquare
from tools import kernels, lists_for, no_list, numeric_gradient, rbm_constants

from sklearn_greedy import StackedRBMTransformer
from sklearn_greedy._energy import RBM
from sklearn_greedy._fitting import draw_seed, layer_streams
from sklearn_greedy._likelihood import pseudo_log_likelihood
from sklearn_greedy._threads import ALONE
from sklearn_greedy._units import BERNOULLI, GAUSSIAN, Units

B, G, H = BERNOULLI, GAUSSIAN, kernels.BERNOULLI_HIDDEN
KINDS = {
    "bernoulli": np.array([B, B, B, B]),
    "gaussian": np.array([G, G, G]),
    "mixed": np.array([B, G, G, B]),
}
EVERY_KIND = pytest.mark.parametrize("kind", list(KINDS))
SEED = np.array([20, 26], dtype=np.uint32)
F32 = np.float32


def binary_states(n):
    return np.array(list(product([0.0, 1.0], repeat=n)))


@dataclass(frozen=True)
class TinyRBM:
    """An RBM in the scaled space whose states can all be enumerated."""

    w: np.ndarray
    c: np.ndarray
    b: np.ndarray
    kinds: np.ndarray

    @property
    def gaussian(self):
        return self.kinds == G

    @property
    def hidden(self):
        return binary_states(len(self.c))

    @property
    def theta(self):
        return np.concatenate([self.w.ravel(), self.c, self.b])

    def at(self, theta):
        """The same RBM with the flat parameters theta = (w, c, b)."""
        w, c, b = split(theta, self)
        return replace(self, w=w, c=c, b=b)

    def energy(self, v, h):
        """Energies of all pairs of a row of v and a row of h."""
        g = self.gaussian
        own = 0.5 * ((v[:, g] - self.b[g]) ** 2).sum(axis=1) - v[:, ~g] @ self.b[~g]
        return own[:, None] - h @ self.c - v @ self.w @ h.T

    def log_unnormalised(self, v):
        """log sum_h exp(-E(v, h)), which is minus the free energy."""
        return logsumexp(-self.energy(v, self.hidden), axis=1)

    def log_hidden_weights(self):
        """log of exp(-E) summed or integrated over v, for every hidden state."""
        g = self.gaussian
        field = self.hidden @ self.w.T
        sums = np.logaddexp(0, self.b + field)[:, ~g].sum(axis=1)
        integrals = field * self.b + 0.5 * field**2 + 0.5 * np.log(2 * np.pi)
        return self.hidden @ self.c + sums + integrals[:, g].sum(axis=1)

    def log_partition(self):
        return logsumexp(self.log_hidden_weights())

    def log_likelihood(self, v):
        return np.mean(self.log_unnormalised(v)) - self.log_partition()

    def p_hidden_states(self, v):
        """p(h | v) of every hidden state, one row per row of v."""
        return softmax(-self.energy(v, self.hidden), axis=1)

    def hidden_means(self, v):
        return self.p_hidden_states(v) @ self.hidden

    def visible_means(self, h):
        z = self.b + h @ self.w.T
        return np.where(self.gaussian, z, expit(z))

    def negative_phase(self):
        """E[v h'], E[h] and E[v] under the model."""
        p = softmax(self.log_hidden_weights())
        means = self.visible_means(self.hidden)
        return means.T @ (p[:, None] * self.hidden), p @ self.hidden, p @ means

    def gradient(self, v):
        """Exact gradient of the mean log-likelihood, flat as (w, c, b)."""
        h = self.hidden_means(v)
        positive = v.T @ h / len(v), h.mean(axis=0), v.mean(axis=0)
        return flat(positive) - flat(self.negative_phase())

    def blocks(self, sampled=(B, G)):
        n = len(self.kinds)
        units = Units(self.kinds, np.zeros(n), np.ones(n), np.full(n, -1))
        return units.blocks(sampled)

    @property
    def model(self):
        """The package's form of this RBM."""
        return RBM(self.w, self.c, self.b, self.blocks())

    def parameters(self):
        """w, c and b as the kernels take them."""
        return [np.ascontiguousarray(a, F32) for a in (self.w, self.c, self.b)]


def flat(parts):
    return np.concatenate([np.ravel(part) for part in parts])


def split(theta, rbm):
    n, k = rbm.w.shape
    return theta[: n * k].reshape(n, k), theta[n * k : n * k + k], theta[n * k + k :]


def tiny_rbm(kind, n_hidden=3, spread=1.0, seed=0):
    rng = np.random.default_rng(seed)
    kinds = KINDS[kind]
    # Gaussian units answer linearly: smaller weights keep the modes in reach.
    row = np.where(kinds == G, 0.6, 1.0)[:, None] * spread
    return TinyRBM(
        w=row * rng.normal(size=(len(kinds), n_hidden)),
        c=0.5 * rng.normal(size=n_hidden),
        b=0.5 * rng.normal(size=len(kinds)),
        kinds=kinds,
    )


def tiny_data(kinds, n=6, seed=1):
    """Rows with values the units can take: 0/1 or any number."""
    rng = np.random.default_rng(seed)
    binary = (rng.random((n, len(kinds))) < 0.6).astype(float)
    return np.where(kinds == G, rng.normal(0.5, 1.0, binary.shape), binary)


def visible_grid(rbm, step=0.5, reach=14.0):
    """Visible states and log-weights of their sum: 0/1, or a trapezoidal rule."""
    nodes = np.arange(-reach, reach + step, step)
    axes = [nodes if kind == G else np.array([0.0, 1.0]) for kind in rbm.kinds]
    v = np.stack([a.ravel() for a in np.meshgrid(*axes, indexing="ij")], axis=1)
    return v, rbm.gaussian.sum() * np.log(step)


def run_chains(rbm, rows, k, sampled=(B, G), seed=SEED):
    """(v, h) of both phases of CD-k from the kernel, one chain per row."""
    rows = np.ascontiguousarray(rows, F32)
    m, (n, width) = len(rows), rbm.w.shape
    v, h = np.empty((2 * m, n), F32), np.empty((2 * m, width), F32)
    s, chain = np.empty((m, width), F32), np.empty((0, width), F32)
    parts = rbm.parameters()
    kernels.cd_statistics(
        rows,
        *parts,
        chain,
        np.ones(1),
        parts[1],  # offsets do not matter at one temperature
        flat(parts[1:]),
        rbm.blocks(sampled),
        H,
        k,
        seed,
        0,
        v,
        h,
        s,
        s,
        *no_list(len(v)),
        ALONE,
    )
    return v, h


def kernel_gradient(v, h, m, mu=None, lam=None):
    """The kernel's ascent direction from copies of the statistics."""
    centered = mu is not None
    mu = np.zeros(v.shape[1], F32) if mu is None else mu.astype(F32)
    lam = np.zeros(h.shape[1], F32) if lam is None else lam.astype(F32)
    grad = np.empty(mu.size * lam.size + lam.size + mu.size, F32)
    kernels.cd_gradient(v.copy(), h.copy(), m, centered, mu, lam, grad, ALONE)
    return grad.astype(float)


def standard_errors(v, h):
    """Standard errors of the means of v h', h and v over independent chains."""
    pairs = v[:, :, None] * h[:, None, :]
    return flat([a.std(axis=0) for a in (pairs, h, v)]) / np.sqrt(len(v))


# --- the exact model itself ------------------------------------------------------


@EVERY_KIND
def test_partition_function_agrees_between_both_ways_of_summing(kind):
    rbm = tiny_rbm(kind)
    v, log_weight = visible_grid(rbm)
    over_visible = logsumexp(rbm.log_unnormalised(v)) + log_weight
    assert_allclose(over_visible, rbm.log_partition(), rtol=1e-10)


@EVERY_KIND
def test_gradient_is_positive_minus_exact_negative_phase(kind):
    rbm = tiny_rbm(kind)
    rows = tiny_data(rbm.kinds)
    numeric = numeric_gradient(
        lambda theta: rbm.at(theta).log_likelihood(rows), rbm.theta
    )
    _, h = run_chains(rbm, rows, k=1)
    h = h[: len(rows)]
    positive = flat([rows.T @ h / len(rows), h.mean(axis=0), rows.mean(axis=0)])
    assert_allclose(positive - flat(rbm.negative_phase()), numeric, atol=1e-6)
    assert_allclose(rbm.gradient(rows), numeric, atol=1e-8)


# --- contrastive divergence ------------------------------------------------------


def cd_statistics_by_enumeration(rbm, rows, k):
    """Expected negative statistics of CD-k with bernoulli units: the distribution
    over hidden states is moved through the exact transition matrix.
    """
    v = binary_states(len(rbm.b))
    means = rbm.visible_means(rbm.hidden)
    p_v_given_h = np.prod(
        np.where(v[None] == 1, means[:, None], 1 - means[:, None]), axis=2
    )
    p_h_given_v = rbm.p_hidden_states(v)
    p_h = rbm.p_hidden_states(rows).mean(axis=0)
    p_h = p_h @ np.linalg.matrix_power(p_v_given_h @ p_h_given_v, k - 1)
    p_v, h = p_h @ p_v_given_h, rbm.hidden_means(v)
    return flat([v.T @ (p_v[:, None] * h), p_v @ h, p_v @ v])


@pytest.mark.parametrize("k", [1, 2, 5])
def test_cd_k_has_the_expectation_of_the_exact_chain(k):
    rbm = tiny_rbm("bernoulli", n_hidden=4, spread=1.5)
    rows = np.repeat(tiny_data(rbm.kinds), 10_000, axis=0)
    v, h = run_chains(rbm, rows, k)
    m = len(rows)
    found = flat([v[m:].T @ h[m:] / m, h[m:].mean(axis=0), v[m:].mean(axis=0)])
    expected = cd_statistics_by_enumeration(rbm, tiny_data(rbm.kinds), k)
    assert np.max(np.abs(found - expected) / standard_errors(v[m:], h[m:])) < 4


@EVERY_KIND
def test_cd_1_with_mean_reconstructions_averages_over_hidden_states(kind):
    rbm = tiny_rbm(kind)
    once = tiny_data(rbm.kinds)
    rows = np.repeat(once, 10_000, axis=0)
    v, h = run_chains(rbm, rows, 1, sampled=())
    m, p = len(rows), rbm.p_hidden_states(once).mean(axis=0)
    means = rbm.visible_means(rbm.hidden)
    back = rbm.hidden_means(means)
    expected = flat([means.T @ (p[:, None] * back), p @ back, p @ means])
    found = flat([v[m:].T @ h[m:] / m, h[m:].mean(axis=0), v[m:].mean(axis=0)])
    assert np.max(np.abs(found - expected) / standard_errors(v[m:], h[m:])) < 4


@EVERY_KIND
def test_cd_k_tends_to_the_exact_gradient(kind):
    rbm = tiny_rbm(kind, n_hidden=4 if kind == "bernoulli" else 3, spread=1.6)
    once = tiny_data(rbm.kinds)
    rows, exact, errors = np.repeat(once, 15_000, axis=0), rbm.gradient(once), []
    for k in (1, 3, 10, 50):
        v, h = run_chains(rbm, rows, k)
        found = kernel_gradient(v, h, len(rows))
        errors.append(np.linalg.norm(found - exact))
    noise = standard_errors(v[len(rows) :], h[len(rows) :])
    assert np.max(np.abs(found - exact) / noise) < 4
    assert all(later < earlier for earlier, later in pairwise(errors[:3]))
    assert errors[3] < 0.1 * errors[0]


@EVERY_KIND
def test_a_batch_of_one_row_has_its_own_unit_kinds(kind):
    """Each row of a batch gets what it would get alone, one row included."""
    rbm = tiny_rbm(kind)
    rows = tiny_data(rbm.kinds, n=3)
    together, _ = run_chains(rbm, rows, 1, sampled=())
    alone, _ = run_chains(rbm, rows[:1], 1, sampled=())
    assert_allclose(alone[1], together[3], rtol=1e-6)


@EVERY_KIND
@pytest.mark.parametrize("seed", range(5))
def test_cd_1_step_points_up_the_exact_likelihood(kind, seed):
    rbm = tiny_rbm(kind, spread=0.5, seed=seed)
    once = tiny_data(rbm.kinds, seed=seed + 100)
    rows, exact = np.repeat(once, 500, axis=0), rbm.gradient(once)
    step = kernel_gradient(*run_chains(rbm, rows, 1), len(rows))
    assert step @ exact > 0.5 * np.linalg.norm(step) * np.linalg.norm(exact)


# --- centering -------------------------------------------------------------------


def from_centered(theta, rbm, mu, lam):
    """Plain parameters of a centered RBM: c = c~ - w' mu, b = b~ - w lam."""
    w, c, b = split(theta, rbm)
    return flat([w, c - mu @ w, b - w @ lam])


@EVERY_KIND
def test_centered_gradient_is_the_plain_one_in_centered_coordinates(kind):
    rbm = tiny_rbm(kind)
    rng = np.random.default_rng(2)
    mu, lam = rng.random(len(rbm.b)), rng.random(len(rbm.c))
    rows = tiny_data(rbm.kinds, n=7)
    v, h = run_chains(rbm, rows, 2)
    # The map is linear, so differences give its Jacobian to rounding.
    jacobian = numeric_gradient(
        lambda theta: from_centered(theta, rbm, mu, lam), rbm.theta, step=1.0
    ).T
    plain = kernel_gradient(v, h, len(rows))
    expected = jacobian @ jacobian.T @ plain
    assert_allclose(kernel_gradient(v, h, len(rows), mu, lam), expected, atol=3e-6)


@EVERY_KIND
def test_centered_gradient_follows_its_formula_on_uneven_phases(kind):
    rbm = tiny_rbm(kind)
    rng = np.random.default_rng(3)
    v, h = rng.normal(size=(12, len(rbm.b))), rng.random((12, len(rbm.c)))
    mu, lam, m = rng.random(len(rbm.b)), rng.random(len(rbm.c)), 5
    products = np.einsum("ri,rj->rij", v - mu, h - lam)
    gw = products[:m].mean(axis=0) - products[m:].mean(axis=0)
    gc = h[:m].mean(axis=0) - h[m:].mean(axis=0) - mu @ gw
    gb = v[:m].mean(axis=0) - v[m:].mean(axis=0) - gw @ lam
    found = kernel_gradient(v.astype(F32), h.astype(F32), m, mu, lam)
    assert_allclose(found, flat([gw, gc, gb]), atol=2e-6)


def flipped_parameters(w, c, b, chosen):
    """The RBM that treats 1 - v in the chosen columns as the given one treats v."""
    w, b = w.copy(), b.copy()
    c = c + w[chosen].sum(axis=0)
    w[chosen] *= -1
    b[chosen] *= -1
    return w, c, b


def flipped_rows(rows, chosen):
    return np.where(chosen, 1 - rows, rows)


def train_by_kernel(rbm, rows, mu, lam, sliding, batch_size=5, rounds=10):
    """theta after some epochs of CD-2 with mean reconstructions and momentum."""
    theta = rbm.theta.astype(F32)
    velocity, grad = np.zeros_like(theta), np.empty_like(theta)
    mu, lam = mu.astype(F32), lam.astype(F32)
    n, width = rbm.w.shape
    work = np.empty(4 * batch_size * (n + width), F32)
    lists = lists_for(2 * batch_size, (n, width))
    for epoch in range(rounds):
        kernels.cd_slice(
            rows.astype(F32),
            batch_size,
            theta,
            velocity,
            mu,
            lam,
            np.empty((0, width), F32),
            np.ones(1),
            rbm.blocks(sampled=()),
            H,
            2,
            rbm_constants(0.2, momentum=0.5),
            sliding > 0,
            sliding,
            SEED,
            100 * epoch,
            grad,
            work,
            lists,
            ALONE,
        )
    return rbm.at(theta.astype(float))


@pytest.mark.parametrize("chosen", [[True] * 4, [True, False, False, True]])
@pytest.mark.parametrize("sliding", [0.001, 0.05])
def test_centered_trajectory_does_not_see_a_flip_of_the_data(chosen, sliding):
    rbm, chosen = tiny_rbm("bernoulli"), np.array(chosen)
    rows = tiny_data(rbm.kinds, n=23)
    w, c, b = flipped_parameters(rbm.w, rbm.c, rbm.b, chosen)
    mirror, mu = replace(rbm, w=w, c=c, b=b), rows.mean(axis=0)
    lam = np.full(len(c), 0.5)
    one = train_by_kernel(rbm, rows, mu, lam, sliding)
    other = train_by_kernel(
        mirror, flipped_rows(rows, chosen), flipped_rows(mu, chosen), lam, sliding
    )
    assert np.abs(one.theta - rbm.theta).max() > 0.1
    expected = flipped_parameters(one.w, one.c, one.b, chosen)
    assert_allclose(other.theta, flat(expected), atol=2e-5)
    assert_allclose(
        one.hidden_means(rows),
        other.hidden_means(flipped_rows(rows, chosen)),
        atol=2e-5,
    )


def test_plain_trajectory_does_see_a_flip_of_the_data():
    """Without offsets the same run differs, so the test above can fail."""
    rbm, chosen = tiny_rbm("bernoulli"), np.full(4, True)
    rows = tiny_data(rbm.kinds, n=23)
    w, c, b = flipped_parameters(rbm.w, rbm.c, rbm.b, chosen)
    none = np.zeros(4), np.zeros(3)
    one = train_by_kernel(rbm, rows, *none, 0.0)
    other = train_by_kernel(replace(rbm, w=w, c=c, b=b), 1 - rows, *none, 0.0)
    gap = one.hidden_means(rows) - other.hidden_means(1 - rows)
    assert np.abs(gap).max() > 1e-2


def test_stack_learns_the_same_features_from_flipped_data():
    rows = tiny_data(np.full(6, B), n=50)
    one = StackedRBMTransformer(
        (4,),
        visible_reconstruction="mean",
        alpha=0.0,
        centered=True,
        learning_rate=0.3,
        momentum=0.5,
        batch_size=8,
        random_state=0,
        max_iter=2,
    ).fit(rows)
    other = deepcopy(one)
    mirrored = flipped_parameters(
        one.coefs_[0], one.intercepts_[0], one.visible_intercepts_[0], np.full(6, True)
    )
    other.coefs_, other.intercepts_, other.visible_intercepts_ = (
        [part] for part in mirrored
    )
    before = one.transform(rows)
    for _ in range(5):
        one.partial_fit(rows)
        other.partial_fit(1 - rows)
    assert np.abs(one.transform(rows) - before).max() > 1e-2
    assert_allclose(one.transform(rows), other.transform(1 - rows), atol=2e-5)


def test_first_parameters_are_those_of_the_plain_rbm():
    """A centered start differs from the plain one by a shift of the biases only."""
    rows = tiny_data(np.full(4, B), n=30)
    still = {"learning_rate": 1e-30, "max_iter": 1, "random_state": 3}
    plain = StackedRBMTransformer((5,), centered=False, **still).fit(rows)
    centered = StackedRBMTransformer((5,), centered=True, **still).fit(rows)
    w = plain.coefs_[0]
    assert_allclose(centered.coefs_[0], w)
    assert_allclose(plain.intercepts_[0], 0, atol=1e-12)
    assert_allclose(centered.intercepts_[0], -rows.mean(axis=0) @ w, atol=1e-7)
    shift = plain.visible_intercepts_[0] - centered.visible_intercepts_[0]
    assert_allclose(shift, 0.5 * w.sum(axis=1), atol=1e-6)


# --- persistent chains -----------------------------------------------------------


def persistent_visible_states(rbm, n_chains, n_steps, k=1, betas=(1.0,)):
    """End of persistent chains that start at h = 0, far from the model; with several
    inverse temperatures those of the first one, with offsets at the exact means.
    """
    _, lam, mu = rbm.negative_phase()
    n, width = rbm.w.shape
    rows = tiny_data(rbm.kinds, n=1).astype(F32)
    n_all = n_chains * len(betas)
    chain = np.zeros((n_all, width), F32)
    v, h = np.empty((1 + n_all, n), F32), np.empty((1 + n_all, width), F32)
    s, fields = np.empty((2, n_all, width), F32)
    for step in range(n_steps):
        kernels.cd_statistics(
            rows,
            *rbm.parameters(),
            chain,
            np.array(betas),
            lam.astype(F32),
            flat([mu @ rbm.w, rbm.w @ lam]).astype(F32),
            rbm.blocks(),
            H,
            k,
            SEED,
            step,
            v,
            h,
            s,
            fields,
            *no_list(len(v)),
            ALONE,
        )
    return v[1 : 1 + n_chains].astype(float), chain[:n_chains]


def test_persistent_chains_reach_the_exact_distribution():
    rbm = tiny_rbm("bernoulli", n_hidden=4, spread=1.3)
    v, chain = persistent_visible_states(rbm, n_chains=20_000, n_steps=60)
    states = binary_states(4)
    place = 2 ** np.arange(3, -1, -1)
    p_visible = softmax(rbm.log_unnormalised(states))
    p_hidden = softmax(rbm.log_hidden_weights())
    for found, p in ((v, p_visible), (chain, p_hidden)):
        counts = np.bincount((found @ place).astype(int), minlength=16)
        assert chisquare(counts, p * len(found)).pvalue > 1e-3


def two_modes():
    """An RBM that is almost always all off or all on, with equal probability."""
    w = np.full((4, 3), 3.0)
    return TinyRBM(w, np.full(3, -6.0), np.full(4, -4.5), KINDS["bernoulli"])


def test_tempered_chains_reach_both_modes_where_plain_ones_do_not():
    rbm = two_modes()
    p = rbm.negative_phase()[2][0]
    options = {"n_chains": 4000, "n_steps": 40}
    plain, _ = persistent_visible_states(rbm, **options)
    tempered, chain = persistent_visible_states(
        rbm, betas=1 - np.arange(6) / 6, **options
    )
    assert plain.mean() < 0.25 * p
    assert abs(tempered.mean() - p) < 0.1
    place = 2 ** np.arange(3, -1, -1)
    states = softmax(rbm.log_unnormalised(binary_states(4)))
    tempered, _ = persistent_visible_states(
        rbm, betas=1 - np.arange(6) / 6, n_chains=4000, n_steps=400
    )
    counts = np.bincount((tempered @ place).astype(int), minlength=16)
    kept = states * 4000 > 5
    statistic = ((counts - states * 4000) ** 2 / (states * 4000))[kept].sum()
    assert chi2.sf(statistic, kept.sum()) > 1e-3
    assert chain.shape == (4000, 3)


@pytest.mark.parametrize("betas", [(1.0,), (1.0, 0.6, 0.2)])
@pytest.mark.parametrize("kind", ["gaussian", "mixed"])
def test_persistent_chains_reach_the_exact_moments(kind, betas):
    rbm = tiny_rbm(kind)
    v, chain = persistent_visible_states(
        rbm, n_chains=20_000, n_steps=60, k=2, betas=betas
    )
    p = softmax(rbm.log_hidden_weights())
    _, hidden, visible = rbm.negative_phase()
    # Var v_i = within (1, or p (1 - p)) plus between the hidden states.
    given_h = rbm.visible_means(rbm.hidden)
    square = np.where(rbm.gaussian, 1 + given_h**2, given_h)
    spread = np.sqrt(p @ square - visible**2)
    error = np.sqrt(len(v))
    assert np.max(np.abs(v.mean(axis=0) - visible) / spread) < 4 / error
    assert np.max(np.abs(chain.mean(axis=0) - hidden)) < 4 * 0.5 / error
    assert_allclose(v.std(axis=0), spread, rtol=0.03)


@pytest.mark.parametrize("n_rows", [5, 20, 100])
def test_persistent_training_reports_a_loss_in_every_epoch(n_rows):
    """Also where an epoch has fewer batches than the loss is taken at."""
    X, _ = raw_table("bernoulli", n_rows)
    params = {"batch_size": 10, "learning_rate": 1e-30, "random_state": 0}
    stack = StackedRBMTransformer((3,), persistent=True, max_iter=9, **params).fit(X)
    mean = X.mean(axis=0)
    expected = np.mean(mean * (1 - mean))
    assert_allclose(stack.loss_curves_[0], expected, rtol=0.5)
    stack.partial_fit(X).partial_fit(X[:3])
    assert min(stack.loss_curves_[0]) > 0


# --- updates of the formula, made by hand ----------------------------------------


def bits_below(p, step, phase, seed):
    """0/1 draws of the kernel's generator for probabilities p."""
    draws = np.ascontiguousarray(p, F32)
    keys = kernels.stream_keys(seed, step, phase)
    kernels.sample_bernoulli(draws.reshape(-1), 0, *keys)
    return draws.astype(float)


class HandMadeTraining:
    """Centered CD-1 with momentum and decay on batches, in float64."""

    def __init__(self, rbm, mu, lam, seed, *, rate, momentum, alpha, draw, chain=None):
        self.rbm, self.mu, self.lam, self.seed = rbm, mu, lam, seed
        self.rate, self.momentum, self.alpha = rate, momentum, alpha
        self.draw, self.chain = draw, chain
        self.velocity, self.step = np.zeros_like(rbm.theta), 0

    def phases(self, rows):
        """Visible and hidden units of the rows and at the end of the chains."""
        w, c, b = self.rbm.w, self.rbm.c, self.rbm.b
        h0 = expit(rows @ w + c)
        start = self.chain
        if start is None:
            start = bits_below(h0, self.step, 0, self.seed)
        z = start @ w.T + b
        v1 = np.where(self.rbm.gaussian, z, expit(z))
        if self.draw:  # bernoulli visible units only
            v1 = bits_below(v1, self.step, 1, self.seed)
        h1 = expit(v1 @ w + c)
        if self.chain is not None:
            self.chain = bits_below(h1, self.step, 2, self.seed)
        return h0, v1, h1

    def update(self, rows):
        h0, v1, h1 = self.phases(rows)
        self.mu = 0.99 * self.mu + 0.01 * rows.mean(axis=0)
        self.lam = 0.99 * self.lam + 0.01 * h0.mean(axis=0)
        gw = (rows - self.mu).T @ (h0 - self.lam) / len(rows)
        gw -= (v1 - self.mu).T @ (h1 - self.lam) / len(v1)
        gc = h0.mean(axis=0) - h1.mean(axis=0) - self.mu @ gw
        gb = rows.mean(axis=0) - v1.mean(axis=0) - gw @ self.lam
        gradient = flat([gw - self.alpha * self.rbm.w, gc, gb])
        self.velocity = self.momentum * self.velocity + self.rate * gradient
        self.rbm = self.rbm.at(self.rbm.theta + self.velocity)
        self.step += 1

    def run(self, rows, batch_size):
        for start in range(0, len(rows), batch_size):
            self.update(rows[start : start + batch_size])
        return self


def untrained(rows, **params):
    """An RBM stack at its start: so small a step moves nothing in float32."""
    params = {**params, "learning_rate": 1e-30}
    return StackedRBMTransformer((3,), **params).partial_fit(rows)


def hand_made_from(stack, scaled, params):
    """Training by the formula from the parameters of an untrained stack."""
    kinds = np.where(stack.visible_kinds_ == "gaussian", G, B)
    offset, scale = stack.visible_offset_, stack.visible_scale_
    rbm = TinyRBM(
        w=stack.coefs_[0] * scale[:, None],
        c=stack.intercepts_[0] + offset @ stack.coefs_[0],
        b=(stack.visible_intercepts_[0] - offset) / scale,
        kinds=kinds,
    )
    return HandMadeTraining(
        rbm,
        mu=np.where(kinds == B, scaled.mean(axis=0), 0.0),
        lam=np.full(3, 0.5),
        seed=layer_streams(draw_seed(params["random_state"]), 0)[1],
        rate=params["learning_rate"],
        momentum=params["momentum"],
        alpha=params["alpha"],
        draw=params["visible_reconstruction"] == "sample",
    )


def raw_table(kind, n, seed=5):
    """Raw data with 0/1 columns and columns far from unit scale, and their kinds."""
    kinds = KINDS[kind]
    rows = tiny_data(kinds, n, seed)
    return np.where(kinds == G, 400 + 25 * rows, rows), kinds


STACK = {
    "centered": True,
    "batch_size": 8,
    "learning_rate": 0.3,
    "momentum": 0.6,
    "alpha": 0.05,
    "random_state": 4,
}


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        ("bernoulli", "sample"),
        ("bernoulli", "mean"),
        ("gaussian", "mean"),
        ("mixed", "mean"),
    ],
)
@pytest.mark.parametrize("sizes", [(9,), (8, 1), (3, 20, 1, 9), (40,)])
def test_partial_fit_of_any_chunk_size_is_the_update_of_the_formula(kind, rule, sizes):
    params = {**STACK, "visible_reconstruction": rule}
    X, kinds = raw_table(kind, sum(sizes))
    ends, g = np.cumsum(sizes), kinds == G
    chunks = np.split(X, ends[:-1])
    # The scale is that of all rows up to the end of the chunk.
    offsets = [np.where(g, X[:end].mean(axis=0), 0) for end in ends]
    scales = [np.where(g, X[:end].std(axis=0), 1) for end in ends]
    scaled = [(x - o) / s for x, o, s in zip(chunks, offsets, scales, strict=True)]
    by_hand = hand_made_from(untrained(chunks[0], **params), scaled[0], params)
    stack = StackedRBMTransformer((3,), **params)
    for chunk, rows in zip(chunks, scaled, strict=True):
        stack.partial_fit(chunk)
        by_hand.run(rows, params["batch_size"])
    w, c, b = by_hand.rbm.w, by_hand.rbm.c, by_hand.rbm.b
    scale, offset = scales[-1], offsets[-1]
    assert_allclose(stack.visible_scale_, scale)
    assert_allclose(stack.coefs_[0] * scale[:, None], w, atol=1e-5)
    assert_allclose(stack.intercepts_[0] + offset @ stack.coefs_[0], c, atol=1e-5)
    assert_allclose((stack.visible_intercepts_[0] - offset) / scale, b, atol=1e-5)


def test_fit_with_a_short_last_batch_is_the_update_of_the_formula():
    params = {**STACK, "visible_reconstruction": "sample"}
    X, _ = raw_table("bernoulli", params["batch_size"] + 1)
    by_hand = hand_made_from(untrained(X, **params), X, params)
    for _ in range(3):
        by_hand.run(X, params["batch_size"])
    stack = StackedRBMTransformer((3,), max_iter=3, shuffle=False, **params).fit(X)
    found = flat([stack.coefs_[0], stack.intercepts_[0], stack.visible_intercepts_[0]])
    assert_allclose(found, by_hand.rbm.theta, atol=1e-5)


def test_persistent_chains_outlive_a_short_batch():
    """13 rows in batches of 8 and 5: always 8 chains, each phase with its own mean."""
    rbm, width = tiny_rbm("bernoulli", spread=0.5), 3
    rows = tiny_data(rbm.kinds, n=13)
    chain = np.tile(binary_states(3), (1, 1))
    mu, lam = rows.mean(axis=0), np.full(width, 0.5)
    by_hand = HandMadeTraining(
        rbm, mu, lam, SEED, rate=0.2, momentum=0.5, alpha=0.1, draw=True, chain=chain
    )
    by_hand.run(rows, 8).run(rows, 8)
    theta, chain = rbm.theta.astype(F32), chain.astype(F32)
    velocity, mu, lam = np.zeros_like(theta), mu.astype(F32), lam.astype(F32)
    work, lists = np.empty(2 * 16 * (4 + width), F32), lists_for(16, (4, width))
    for step in (0, 2):
        kernels.cd_slice(
            rows.astype(F32),
            8,
            theta,
            velocity,
            mu,
            lam,
            chain,
            np.ones(1),
            rbm.blocks(),
            H,
            1,
            rbm_constants(0.2, momentum=0.5, l2=0.1),
            True,
            0.01,
            SEED,
            step,
            np.empty_like(theta),
            work,
            lists,
            ALONE,
        )
    assert_allclose(theta, by_hand.rbm.theta, atol=1e-5)
    assert np.array_equal(chain, by_hand.chain)


# --- free energy and pseudo-log-likelihood ---------------------------------------


@EVERY_KIND
@pytest.mark.parametrize("spread", [0.3, 2.0])
def test_free_energy_sums_over_hidden_states(kind, spread):
    rbm = tiny_rbm(kind, n_hidden=4, spread=spread)
    rows = tiny_data(rbm.kinds, n=20)
    found = rbm.model.free_energy(rows)
    assert_allclose(found, -rbm.log_unnormalised(rows), rtol=1e-12, atol=1e-12)


def conditional_log_density(log_unnormalised, row, column, gaussian, width=1.0):
    """log p(v_i | rest) from an unnormalised log-density, by sum or integral."""

    def value(t):
        moved = row.copy()
        moved[column] = t
        return log_unnormalised(moved[None])[0]

    if not gaussian:
        return value(row[column]) - np.logaddexp(value(0.0), value(1.0))
    # Relative to the value at the row; the modes lie within a few widths.
    here, at = value(row[column]), row[column]
    total, _ = quad(
        lambda t: np.exp(value(t) - here),
        at - 25 * width,
        at + 25 * width,
        points=[at - 5 * width, at, at + 5 * width],
        limit=300,
        epsrel=1e-10,
    )
    return -np.log(total)


@EVERY_KIND
@pytest.mark.parametrize("spread", [0.3, 2.0])
def test_pseudo_likelihood_sums_exact_conditionals(kind, spread):
    rbm = tiny_rbm(kind, spread=spread)
    rows = tiny_data(rbm.kinds, n=5)
    expected = [
        sum(
            conditional_log_density(rbm.log_unnormalised, row, i, rbm.gaussian[i])
            for i in range(len(row))
        )
        for row in rows
    ]
    found = pseudo_log_likelihood(rbm.model, rows)
    assert_allclose(found, expected, rtol=1e-8)


def test_pseudo_likelihood_on_some_columns_scales_up():
    rbm = tiny_rbm("mixed")
    rows = tiny_data(rbm.kinds, n=5)
    arguments = rbm.model, rows
    single = [4 * pseudo_log_likelihood(*arguments, np.array([i])) for i in range(4)]
    halves = [pseudo_log_likelihood(*arguments, np.array(p)) for p in ([0, 1], [2, 3])]
    whole = pseudo_log_likelihood(*arguments)
    assert_allclose(np.mean(halves, axis=0), whole)
    assert_allclose(np.mean(single, axis=0), 4 * whole)


def test_pseudo_likelihood_is_exact_for_strong_and_weak_gaussian_weights():
    """The quadrature reaches every mode: p(v_i | rest) integrates to one."""
    grid = np.linspace(-60, 60, 24_001)
    for strength in (0.0, 0.01, 3.0, 12.0):
        w = strength * np.array([[1.0, -0.5, 1.5]])
        c, b = np.array([0.3, -1.0, -2.0]), np.array([0.7])
        model = TinyRBM(w, c, b, np.array([G])).model
        density = np.exp(pseudo_log_likelihood(model, grid[:, None]))
        assert_allclose(density.sum() * (grid[1] - grid[0]), 1, rtol=1e-9)


@pytest.mark.parametrize("strength", [0.1, 0.6, 0.95])
@pytest.mark.parametrize("bias", [-3.0, 0.7])
def test_density_over_rectified_units_goes_by_each_direction_alone(strength, bias):
    """Of units that grow upwards and of others that grow downwards, the squared weights
    were added: healthy fits had no score, and early stopping called them diverged.
    """
    up = np.array([0.6, 0.8, 0.0, 0.0])
    w = strength * (up - up[::-1])[None, :]
    c, b = np.array([0.3, -1.0, 2.0, 0.5]), np.array([bias])
    blocks = np.array([[0, 1, G, 0]])
    reach = 40 / (1 - strength)
    grid = np.linspace(-reach, reach, 40_001)
    rbm = RBM(w, c, b, blocks, hidden="relu")
    density = np.exp(pseudo_log_likelihood(rbm, grid[:, None]))
    assert_allclose(density.sum() * (grid[1] - grid[0]), 1, rtol=1e-8)
    too_strong = RBM(w / strength, c, b, blocks, hidden="relu")
    assert np.isnan(pseudo_log_likelihood(too_strong, grid[:1, None])).all()


def test_density_over_rectified_units_that_a_bias_keeps_off():
    w, c, b = np.array([[0.57, 0.76, 0.0]]), np.zeros(3), np.array([-30.0])
    rbm = RBM(w, c, b, np.array([[0, 1, G, 0]]), hidden="relu")
    grid = np.linspace(-45, -15, 20_001)
    density = np.exp(pseudo_log_likelihood(rbm, grid[:, None]))
    assert_allclose(density.sum() * (grid[1] - grid[0]), 1, rtol=1e-8)


def raw_stack(kind, seed=6):
    """A fitted stack with strong random weights, and raw rows."""
    X, kinds = raw_table(kind, 40)
    # Columns of very different units: the scale must not matter.
    X = np.where(kinds == G, X * np.array([0.1, 1.0, 1e4, 10.0])[: len(kinds)], X)
    stack = StackedRBMTransformer((3,), max_iter=1, random_state=0).fit(X)
    rng, scale = np.random.default_rng(seed), stack.visible_scale_
    stack.coefs_ = [rng.normal(size=(len(kinds), 3)) / scale[:, None]]
    stack.intercepts_ = [rng.normal(size=3) - stack.visible_offset_ @ stack.coefs_[0]]
    stack.visible_intercepts_ = [
        rng.normal(size=len(kinds)) * scale + stack.visible_offset_
    ]
    return stack, X[:4], kinds


def raw_log_density(stack, kinds):
    """log p(v) up to a constant in the units of the data, from fitted attributes."""
    w, c, a = stack.coefs_[0], stack.intercepts_[0], stack.visible_intercepts_[0]
    g, sigma, h = kinds == G, stack.visible_scale_, binary_states(3)

    def log_density(v):
        square = 0.5 * (((v - a) / sigma)[:, g] ** 2).sum(axis=1)
        own = v[:, ~g] @ a[~g] - square
        return own + logsumexp(h @ c + v @ w @ h.T, axis=1)

    return log_density


@EVERY_KIND
def test_free_energy_is_that_of_the_raw_data(kind):
    stack, X, kinds = raw_stack(kind)
    found = stack.free_energy(X)
    assert_allclose(found, -raw_log_density(stack, kinds)(X), rtol=1e-9)


@EVERY_KIND
def test_score_samples_is_a_log_density_in_the_units_of_the_data(kind):
    stack, X, kinds = raw_stack(kind)
    log_density, scale = raw_log_density(stack, kinds), stack.visible_scale_
    expected = [
        sum(
            conditional_log_density(log_density, row, i, kinds[i] == G, scale[i])
            for i in range(len(row))
        )
        for row in X
    ]
    assert_allclose(stack.score_samples(X), expected, rtol=1e-7)
    assert stack.score(X) == pytest.approx(np.mean(expected), rel=1e-7)


def test_change_of_units_shifts_the_score_by_the_log_of_the_factor():
    X, kinds = raw_table("mixed", 40)
    factor = np.where(kinds == G, 1000.0, 1.0)
    params = {"max_iter": 3, "momentum": 0.5, "learning_rate": 0.05, "random_state": 0}
    one = StackedRBMTransformer((3,), **params).fit(X)
    other = StackedRBMTransformer((3,), **params).fit(X * factor)
    shift = np.log(factor).sum()
    assert_allclose(
        one.score_samples(X), other.score_samples(X * factor) + shift, atol=1e-4
    )
    assert_allclose(one.free_energy(X), other.free_energy(X * factor), atol=1e-4)


# --- learning --------------------------------------------------------------------


def structured_rows(kind, n=300):
    """Two prototypes with noise: what independent units cannot describe."""
    rng = np.random.default_rng(8)
    prototypes = np.array([[1, 1, 0, 0], [0, 0, 1, 1]])[rng.integers(0, 2, n)]
    binary = np.where(rng.random((n, 4)) < 0.1, 1 - prototypes, prototypes)
    real = 50 + 10 * (3 * prototypes + rng.normal(size=(n, 4)))
    kinds = np.array([B, G, G, B]) if kind == "mixed" else np.full(4, B)
    kinds = np.full(4, G) if kind == "gaussian" else kinds
    return np.where(kinds == G, real, binary).astype(float), kinds


def exact_log_likelihood(stack, X, kinds):
    """Mean log-density of the scaled rows under the first layer."""
    offset, scale = stack.visible_offset_, stack.visible_scale_
    rbm = TinyRBM(
        w=stack.coefs_[0] * scale[:, None],
        c=stack.intercepts_[0] + offset @ stack.coefs_[0],
        b=(stack.visible_intercepts_[0] - offset) / scale,
        kinds=kinds,
    )
    return rbm.log_likelihood((X - offset) / scale)


@EVERY_KIND
@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("centered", [False, True])
def test_exact_likelihood_rises_during_training(kind, persistent, centered):
    X, kinds = structured_rows(kind)
    levels = []
    for epochs in (1, 60, 200):
        stack = StackedRBMTransformer(
            (3,),
            visible_reconstruction="sample",
            persistent=persistent,
            centered=centered,
            momentum=0.5,
            learning_rate=0.1 if kind == "bernoulli" else 0.05,
            batch_size=50,
            max_iter=epochs,
            random_state=0,
        ).fit(X)
        levels.append(exact_log_likelihood(stack, X, kinds))
    # The gain over independent units is of the size of the structure; late in the
    # training the level only trembles with the noise of the chains.
    assert levels[1] > levels[0] + 0.4
    assert levels[2] > levels[0] + 0.4
