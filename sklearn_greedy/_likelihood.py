"""Likelihood measures: log Z, the bound for stacks, pseudo-log-likelihood.

All take an RBM in the scaled space (see ``_energy``). Numbers are float64 but for the
states of annealing runs, which are sampled in float32 by a compiled kernel.
"""

import itertools

import numpy as np
import numpy.typing as npt
from scipy.special import expit, gammaln, logsumexp
from scipy.stats import t as student
from sklearn.utils import gen_batches

from sklearn_greedy._energy import RBM, hidden_log_sums
from sklearn_greedy._threads import ALONE, kernels
from sklearn_greedy._units import (
    BERNOULLI,
    GAUSSIAN,
    POISSON,
    SAMPLED,
    SOFTMAX,
    draw_from_biases,
    log_normaliser,
)

Array = npt.NDArray

# The smaller side of an RBM is enumerated up to 2**24 states.
MOST_UNITS = 24
_BLOCK_FLOATS = 1 << 20
# Factors that are multiplied before their logarithm is taken.
_FACTORS = 8
# Step and margin, in standard deviations, of the quadrature for gaussian units.
_STEP = 0.75
_REACH = 9.0
# Weights that would need more nodes are those of a fit that diverged.
_MOST_NODES = 100_000
# Counts are summed one by one up to the first number; the last needs 60,000 nodes.
_SINGLE_COUNTS = 1024
_MOST_COUNTS = 1e8
# Counts in a run of equidistant nodes; divides the number of those above, with 0.
_RUN = 41
# Steps from above onto the last mode of a count; fewer leave a greater bound.
_MODE_STEPS = 20
# Gauss-Legendre nodes on a stretch of two standard deviations.
_PANEL_NODES = 8
# Confidence of the interval of annealed importance sampling.
_CONFIDENCE = 0.997
# Multiplications of one call of the annealing kernel, about 100 ms.
_CALL_PRODUCTS = 1 << 31
# Weights up to which exp(weight) is safe beside 1 in float64.
_SAFE_WEIGHT = 30.0
# Exponents up to which _FACTORS exponentials can be multiplied in float64.
_SAFE_EXPONENT = 80.0


# --- the partition function ------------------------------------------------------


def exact_log_z(rbm: RBM) -> float:
    """Log Z by the sum over all states of the smaller discrete side (user guide, eq.
    17).

    Raises ValueError where no side is discrete and small enough.
    """
    sides = [
        (_hidden_axes(rbm), rbm.hidden_log_weight),
        (_visible_axes(rbm), lambda v: -rbm.free_energy(v)),
    ]
    sizes = [_log2_states(axes) for axes, _ in sides]
    smaller = int(np.argmin(sizes))
    if sizes[smaller] > MOST_UNITS:
        other = "method='ais'"
        if rbm.hidden != "bernoulli":
            other = "score_samples, or hidden='bernoulli'"
        raise ValueError(
            f"The exact log Z needs at most {MOST_UNITS} bernoulli hidden units, or "
            f"bernoulli and softmax columns with at most 2**{MOST_UNITS} states. Got "
            f"{rbm.w.shape[1]} {rbm.hidden} hidden units and {rbm.w.shape[0]} columns. "
            f"Use {other}."
        )
    if smaller == 0 and len(rbm.columns(BERNOULLI)) == len(rbm.b):
        fast = _bits_log_z(rbm)
        if np.isfinite(fast):
            return fast
    axes, log_weight = sides[smaller]
    assert axes is not None  # an infinite side is never the smaller one
    total = -np.inf
    for states in _all_states(axes, rbm.w.shape[1 - smaller]):
        total = np.logaddexp(total, logsumexp(log_weight(states)))
    return float(total)


def _bits_log_z(rbm: RBM) -> float:
    """Log Z over hidden states of an RBM of bernoulli units, without an exponential or
    a logarithm per state and column.

    A hidden state is a low and a high half, and ``1 + exp(z)`` is ``1 + exp(z_low)
    exp(z_high)`` with both exponentials at hand. Factors are multiplied, eight columns
    at a time, before the logarithm is taken. NaN or infinite where they overflow.
    """
    n_visible, n_hidden = rbm.w.shape
    n_low = n_hidden // 2
    low, high = _bits(n_low), _bits(n_hidden - n_low)
    padded = -n_visible % _FACTORS
    with np.errstate(over="ignore", invalid="ignore"):
        # Columns first, so that a block of columns is a contiguous run of rows.
        low_exp = np.exp(np.pad(rbm.w[:, :n_low] @ low.T, ((0, padded), (0, 0))))
        high_exp = np.exp(rbm.w[:, n_low:] @ high.T + rbm.b[:, None])
        high_exp = np.pad(high_exp, ((0, padded), (0, 0)))  # factors of exactly 1
        low_bias, high_bias = low @ rbm.c[:n_low], high @ rbm.c[n_low:]
        total = -np.inf
        for k in range(len(high)):
            log_weight = low_bias + high_bias[k]
            for start in range(0, len(low_exp), _FACTORS):
                columns = slice(start, start + _FACTORS)
                factors = 1 + low_exp[columns] * high_exp[columns, k, None]
                log_weight += np.log(factors.prod(axis=0))
            total = np.logaddexp(total, logsumexp(log_weight))
    return float(total)


def _bits(n: int) -> Array:
    """All states of n bits, (2**n, n)."""
    return (np.arange(2**n)[:, None] >> np.arange(n) & 1).astype(np.float64)


def _hidden_axes(rbm: RBM) -> list[Array] | None:
    """States of each hidden unit, or None where there are infinitely many."""
    if rbm.hidden != "bernoulli":
        return None
    return [np.array([[0.0], [1.0]])] * rbm.w.shape[1]


def _visible_axes(rbm: RBM) -> list[Array] | None:
    """States of each visible unit or group, or None."""
    axes: list[Array] = []
    for start, stop, kind, _ in rbm.blocks:
        if kind == BERNOULLI:
            axes += [np.array([[0.0], [1.0]])] * (stop - start)
        elif kind == SOFTMAX:
            axes.append(np.eye(stop - start))
        else:
            return None
    return axes


def _log2_states(axes: list[Array] | None) -> float:
    return np.inf if axes is None else float(np.log2([len(a) for a in axes]).sum())


def _all_states(axes: list[Array], n_other: int):
    """Yield all joint states in blocks that need a few MB, with ``n_other`` floats of
    the other side per state.
    """
    sizes = np.array([len(axis) for axis in axes])
    n_states = int(np.prod(sizes, dtype=object))
    width = sum(axis.shape[1] for axis in axes)
    for part in gen_batches(n_states, max(1, 2 * _BLOCK_FLOATS // (width + n_other))):
        digits = np.unravel_index(np.arange(part.start, part.stop), sizes)
        yield np.hstack([axis[d] for axis, d in zip(axes, digits, strict=True)])


def ais_log_z(
    rbm: RBM,
    base_bias: Array,
    *,
    n_runs: int,
    n_temperatures: int,
    seed: Array,
    target_samples: Array | None = None,
) -> dict:
    """Log Z by annealed importance sampling (Salakhutdinov and Murray 2008, sec. 4.1).

    base_bias : visible biases of the base RBM, which has no weights; target_samples :
    (n_runs, n_visible) states of long chains of ``rbm``, from which reverse runs begin.
    """
    if rbm.hidden != "bernoulli":
        other = "Use score_samples, or hidden='bernoulli'"
        if _log2_states(_visible_axes(rbm)) <= MOST_UNITS:
            other = "Use method='exact'"
        raise ValueError(
            "Annealed importance sampling needs bernoulli hidden units. Got "
            f"hidden={rbm.hidden!r}. {other}."
        )
    temperatures = _temperatures(n_temperatures)
    rng = np.random.default_rng(seed)
    start = draw_from_biases(base_bias, rbm.blocks, n_runs, rng)
    base = float(log_normaliser(base_bias[None, :], rbm.blocks)[0])
    base += rbm.w.shape[1] * np.log(2) - _gaussian_constant(rbm)
    forward = _anneal(rbm, base_bias, start, temperatures, seed)
    log_z, low, high = _log_mean(forward)
    result = {
        "log_z": base + log_z,
        "low": base + low,
        "high": base + high,
        "method": "ais",
        "n_runs": n_runs,
        "n_temperatures": n_temperatures,
        "effective_runs": _effective_number(forward),
    }
    if target_samples is not None:
        back = _anneal(rbm, base_bias, target_samples, temperatures[::-1], seed ^ 1)
        result["log_z_reverse"] = base - _log_mean(back)[0]
    return result


def _effective_number(log_weights: Array) -> float:
    """(sum w)**2 / sum w**2: about how many runs carry the estimate."""
    return float(np.exp(2 * logsumexp(log_weights) - logsumexp(2 * log_weights)))


def _gaussian_constant(rbm: RBM) -> float:
    """What the energy holds of gaussian biases and the annealing leaves out."""
    return 0.5 * float((rbm.b[rbm.columns(GAUSSIAN)] ** 2).sum())


def _temperatures(n: int) -> Array:
    """0 to 1, most of them near 1 (Salakhutdinov and Murray 2008, sec. 5: one in 29 up
    to 0.5, eight in 29 up to 0.9).
    """
    shares, ends = np.array([0, 1, 9, 29]) / 29, np.array([0, 0.5, 0.9, 1.0])
    return np.interp(np.linspace(0, 1, n + 1), shares, ends)


def _anneal(
    rbm: RBM, base_bias: Array, start: Array, temperatures: Array, seed
) -> Array:
    """Log weights of annealing runs from ``start``, (n_runs,).

    Upwards a run is weighed and then moved at the new temperature; downwards, where it
    begins at a sample of the first temperature, likewise, which is the reverse order of
    the reverse moves, since Gibbs steps are reversible.
    """
    m, (n_visible, n_hidden) = len(start), rbm.w.shape
    arrays = start, rbm.w, rbm.c, base_bias, rbm.b
    parts = [np.array(a, np.float32, order="C") for a in arrays]
    sampled = rbm.blocks.copy()
    sampled[:, SAMPLED] = 1
    x, s = np.empty((2, m, n_hidden), np.float32)
    log_weights, lists = np.zeros(m), kernels().room_for_lists(m, [rbm.w.shape])
    work = x, s, log_weights, lists, ALONE
    per_call = max(1, _CALL_PRODUCTS // (2 * m * n_visible * n_hidden))
    for step in range(0, len(temperatures) - 1, per_call):
        part = np.ascontiguousarray(temperatures[step : step + per_call + 1])
        kernels().ais_slice(*parts, sampled, part, seed, step, *work)
    return log_weights


def _log_mean(log_weights: Array) -> tuple[float, float, float]:
    """Log of the mean weight and an interval around it.

    For few heavy weights the normal interval of the mean is far too short. The mean of
    a log-normal weight has the logarithm ``mean + variance / 2`` of the log weights,
    and Cox's method gives an interval for that; it is joined with the plain estimate.
    """
    n = len(log_weights)
    log_mean = float(logsumexp(log_weights) - np.log(n))
    if n < 2:
        return log_mean, -np.inf, np.inf
    variance = float(log_weights.var(ddof=1))
    centre = float(log_weights.mean()) + variance / 2
    error = np.sqrt(variance / n + variance**2 / (2 * (n - 1)))
    # Never closer than what float32 states round away.
    reach = float(student.ppf((1 + _CONFIDENCE) / 2, n - 1)) * error
    reach += 1e-5 * max(1.0, float(np.abs(log_weights).max()))
    return log_mean, min(centre - reach, log_mean), max(centre + reach, log_mean)


# --- stacks ------------------------------------------------------------------------


def dbn_bound(rbms: list[RBM], v: Array, log_z_top: float, *, n_samples, rng) -> Array:
    """Variational lower bound of log p(v) of a stack of two or more RBMs (user guide,
    eq. 19), by ``n_samples`` draws of the lower hidden layers per row.

    Raises ValueError where a hidden layer below the top is not bernoulli.
    """
    for rbm in rbms[:-1]:
        if rbm.hidden != "bernoulli":
            raise ValueError(
                "The bound needs bernoulli hidden units below the top layer. Got "
                f"hidden={rbm.hidden!r}."
            )
    first = rbms[0].hidden_means(v)  # the same for all draws
    total = n_samples * _entropy(first)
    for _ in range(n_samples):
        below, q = v, first
        for rbm, above in itertools.pairwise(rbms):
            h = (rng.random(q.shape) < q).astype(q.dtype)
            total += _log_conditional(rbm, below, h)
            below = h
            if above is not rbms[-1]:
                q = above.hidden_means(below)
                total += _entropy(q)
        total -= rbms[-1].free_energy(below)
    return total / n_samples - log_z_top


def _log_conditional(rbm: RBM, v: Array, h: Array) -> Array:
    """Log p(v | h) of each pair of rows."""
    z = h @ rbm.w.T + rbm.b
    gaussian, counts = rbm.columns(GAUSSIAN), rbm.columns(POISSON)
    base = 0.5 * (v[:, gaussian] ** 2).sum(axis=1)
    base += gammaln(v[:, counts] + 1).sum(axis=1)
    return (v * z).sum(axis=1) - log_normaliser(z, rbm.blocks) - base


def _entropy(q: Array) -> Array:
    """Entropy of independent bernoulli units with these means."""
    p = np.clip(q, 1e-300, 1.0)
    r = np.clip(1 - q, 1e-300, 1.0)
    return -(q * np.log(p) + (1 - q) * np.log(r)).sum(axis=1)


# --- pseudo-log-likelihood -----------------------------------------------------------


def pseudo_log_likelihood(rbm: RBM, v: Array, columns: Array | None = None) -> Array:
    """``sum log p(unit | all other units)`` of each row, exactly for every unit.

    A softmax group is one unit. Bernoulli units and groups: from the free energies with
    the unit in each of its states, weighted by the value (which may lie between);
    gaussian units and counts: with a normaliser over all values. ``columns``: sum over
    units that begin in these columns only, scaled up to all of them. Rows are taken in
    blocks (user guide, eqs. 15-16). ValueError for counts below 0 or too large.
    """
    units = list(_units_of(rbm))
    chosen = units
    if columns is not None:
        wanted = set(np.asarray(columns).tolist())
        chosen = [unit for unit in units if unit[0] in wanted]
        if not chosen:  # inside one wide group only
            chosen = units
    _check_counts(v, [start for start, _, kind in chosen if kind == POISSON])
    out = np.empty(len(v), dtype=v.dtype)
    for rows in gen_batches(len(v), max(1, _BLOCK_FLOATS // rbm.w.shape[1] // 8)):
        x = v[rows] @ rbm.w + rbm.c
        on = expit(x) if rbm.hidden == "bernoulli" else None
        out[rows] = sum(_log_unit(rbm, v[rows], x, on, *unit) for unit in chosen)
    return out * (len(units) / len(chosen))


def _check_counts(v: Array, columns: list[int]) -> None:
    """Raise where poisson columns hold what has no density, or none that is found."""
    for column in columns:
        low, high = v[:, column].min(initial=0), v[:, column].max(initial=0)
        if low < 0:
            raise ValueError(
                f"Column {column} has a poisson unit, but holds {low:.4g}. Counts "
                "cannot be negative."
            )
        if high > _MOST_COUNTS:
            raise ValueError(
                "The pseudo-likelihood of poisson columns takes counts up to "
                f"{_MOST_COUNTS:.0e}. Got {high:.4g} in column {column}: use "
                "'gaussian' for it."
            )


def _units_of(rbm: RBM):
    """(start, stop, kind) of each unit; a softmax group is one unit."""
    for start, stop, kind, _ in rbm.blocks:
        if kind == SOFTMAX:
            yield int(start), int(stop), SOFTMAX
        else:
            for column in range(start, stop):
                yield column, column + 1, int(kind)


def _log_unit(rbm: RBM, v, x, on, start: int, stop: int, kind: int) -> Array:
    """Log p(unit | rest); x : (n, n_hidden) pre-activations, on : their logistic."""
    if kind == SOFTMAX:
        return _log_group(rbm, v[:, start:stop], x, start, stop)
    value, weights, bias = v[:, start], rbm.w[start], rbm.b[start]
    if kind == BERNOULLI:
        logit = bias + _log_odds(rbm, value, x, on, weights)
        return value * logit - np.logaddexp(0, logit)
    off = x - value[:, None] * weights
    if kind == POISSON:
        return _log_count(rbm, value, off, weights, bias)
    return _log_gaussian(rbm, value, off, weights, bias)


def _log_odds(rbm: RBM, value, x, on, weights) -> Array:
    """Hidden part of the log-odds of a bernoulli unit, ``sum_j s(off + w) - s(off)``.

    For 0/1 values ``s(x -+ w) - s(x) = log(1 + logistic(x) (exp(-+w) - 1))``, one
    logarithm in place of two softplus.
    """
    binary = on is not None and np.all((value == 0) | (value == 1))
    if binary and np.abs(weights).max(initial=0) < _SAFE_WEIGHT:
        sign = np.where(value == 1, -1.0, 1.0)[:, None]
        moved = np.where(value[:, None] == 1, np.expm1(-weights), np.expm1(weights))
        return (sign * np.log1p(on * moved)).sum(axis=1)
    off = x - value[:, None] * weights
    return hidden_log_sums(off + weights, rbm.hidden) - hidden_log_sums(off, rbm.hidden)


def _log_group(rbm: RBM, part: Array, x: Array, start: int, stop: int) -> Array:
    """Log p(group | rest), weighted by the values where they lie between 0 and 1."""
    off = x - part @ rbm.w[start:stop]
    scores = rbm.group_scores(off, start, stop)
    return (part * scores).sum(axis=1) - part.sum(axis=1) * logsumexp(scores, axis=1)


def _log_count(rbm: RBM, value, off, weights, bias) -> Array:
    """Log p(v_i = value | rest) of a count, normalised over 0, 1, ... until terms far
    beyond the largest mean and the value no longer count.
    """

    def own_term(k):
        return bias * k - gammaln(k + 1)

    largest = max(float(value.max(initial=0)), _largest_mean(off, weights, bias))
    total = np.full(len(value), -np.inf)
    nodes = itertools.islice(_count_nodes(), _MOST_NODES)
    sums = _log_sums_at_counts(off, weights, rbm.hidden)
    for (k, log_weight), hidden in zip(nodes, sums, strict=False):
        term = own_term(k) + hidden + log_weight
        total = np.logaddexp(total, term)
        if k > largest and np.all(term < total - 40):
            hidden = hidden_log_sums(off + value[:, None] * weights, rbm.hidden)
            return own_term(value) + hidden - total
    return np.full_like(value, np.nan)


def _largest_mean(off, weights, bias) -> float:
    """Count near which the last of the modes of a poisson unit lies, for any row, or a
    greater one: with hidden units that large counts switch on, there may be several.

    Modes are fixed points of the mean ``exp(bias + sum_j w_j s(off_j + w_j k))``;
    from the greatest there can be, with positive weights alone, it falls onto the last.
    """
    up = np.maximum(weights, 0)
    most = np.log(_MOST_COUNTS)
    mean = np.full(len(off), np.exp(min(bias + up.sum(), most)))
    for _ in range(_MODE_STEPS):
        if mean.max(initial=0) <= 1:  # a few terms more cost less than steps
            break
        on = expit(off + mean[:, None] * up)
        mean = np.exp(np.minimum(bias + on @ up, most))
    return float(mean.max(initial=0))


def _count_nodes():
    """Yield nodes and log weights of a quadrature for the sum over counts 0, 1, ...

    Large counts are integrated over their square root, in which a poisson unit has the
    standard deviation 1/2 at any mean; under bernoulli hidden units the terms are those
    of a mixture of such units. By the Euler-Maclaurin formula a sum from n on is the
    integral from ``n - 1/2`` on, plus the derivative there over 24.
    """
    for k in range(_SINGLE_COUNTS - 1):
        yield float(k), 0.0
    yield _SINGLE_COUNTS - 1.0, np.log(1 - 1 / 24)
    yield float(_SINGLE_COUNTS), np.log(1 / 24)
    points, weights = np.polynomial.legendre.leggauss(_PANEL_NODES)
    start = np.sqrt(_SINGLE_COUNTS - 0.5)
    for panel in itertools.count():
        roots = start + panel + (points + 1) / 2
        # Of d(root**2) = 2 root d(root), the 2 goes with half of [-1, 1].
        yield from zip(roots**2, np.log(weights * roots), strict=True)


def _log_sums_at_counts(off: Array, weights: Array, kind: str):
    """Yield ``hidden_log_sums(off + k * weights, kind)`` at the nodes k of
    ``_count_nodes``.
    """
    for first in range(0, _SINGLE_COUNTS + 1, _RUN):
        run = np.arange(first, first + _RUN, dtype=float)
        yield from _log_sums_along(off, weights, run, kind)
    for k, _ in itertools.islice(_count_nodes(), _SINGLE_COUNTS + 1, None):
        yield hidden_log_sums(off + k * weights, kind)


def _log_gaussian(rbm: RBM, value, off, weights, bias) -> Array:
    """Log p(v_i = value | rest) of a unit-variance gaussian unit.

    With bernoulli hidden units the density ``exp(-(t - bias)**2 / 2) prod_j (1 +
    exp(off_j + t weights_j))`` is a mixture of unit normals with means between the bias
    plus all negative and the bias plus all positive weights. On such a mixture the
    trapezoidal rule with steps of 3/4 is exact to rounding. With gaussian hidden units
    it is one normal; with rectified ones the grid must reach further.
    """
    if rbm.hidden == "gaussian":
        precision = 1 - weights @ weights
        if precision <= 0:  # no density: the units drive each other to infinity
            return np.full_like(value, np.nan)
        mean = (bias + off @ weights) / precision
        log_precision = 0.5 * np.log(precision / (2 * np.pi))
        return log_precision - 0.5 * precision * (value - mean) ** 2

    low, high, step = _grid(rbm, off, weights, bias)
    if not high - low < _MOST_NODES * step:
        return np.full_like(value, np.nan)
    nodes = np.arange(low, high + step, step)
    normaliser = np.full(len(off), -np.inf)
    sums = _log_sums_along(off, weights, nodes, rbm.hidden)
    for t, hidden in zip(nodes, sums, strict=True):
        normaliser = np.logaddexp(normaliser, hidden - 0.5 * (t - bias) ** 2)
    hidden = hidden_log_sums(off + value[:, None] * weights, rbm.hidden)
    return hidden - 0.5 * (value - bias) ** 2 - normaliser - np.log(step)


def _log_sums_along(off: Array, weights: Array, nodes: Array, kind: str):
    """Yield ``hidden_log_sums(off + t * weights, kind)`` for equidistant nodes t.

    Bernoulli units take one exponential at the first node, which grows by the same
    factor from node to node, and one logarithm for a product of several of them.
    """
    most = np.abs(off).max(initial=0) + np.abs(np.outer(nodes[[0, -1]], weights)).max()
    if kind != "bernoulli" or most > _SAFE_EXPONENT:
        for t in nodes:
            yield hidden_log_sums(off + t * weights, kind)
        return
    odds = np.exp(off + nodes[0] * weights)
    growth = np.exp((nodes[1] - nodes[0]) * weights)
    size = -(-odds.shape[1] // _FACTORS)
    for _ in nodes:
        terms = odds + 1
        products = terms[:, :size].copy()
        for start in range(size, terms.shape[1], size):
            part = terms[:, start : start + size]
            products[:, : part.shape[1]] *= part
        yield np.log(products).sum(axis=1)
        odds *= growth


def _grid(rbm: RBM, off: Array, weights: Array, bias: float):
    """Ends and step of the quadrature nodes."""
    if rbm.hidden == "bernoulli":
        low = bias + np.minimum(weights, 0).sum() - _REACH
        return low, bias + np.maximum(weights, 0).sum() + _REACH, _STEP
    most = (np.maximum(off, 0) + np.log(2)).max(axis=0, initial=0.0)
    high = _last_node(most, np.maximum(weights, 0), bias)
    return -_last_node(most, np.maximum(-weights, 0), -bias), high, _STEP / 2


def _last_node(off: Array, weights: Array, bias: float) -> float:
    """Where the density of a unit over rectified units has vanished, above 0; infinity
    where it never does.

    Only the units with positive weights grow with t. The slope of their part is at most
    ``sum_j w_j (off_j + t w_j)``, beside ``bias - t`` of the unit's own.
    """
    precision = 1 - float(weights @ weights)
    if precision <= 0:
        return np.inf
    top = (bias + float(off @ weights)) / precision
    return max(top, 0.0) + _REACH / np.sqrt(precision)
