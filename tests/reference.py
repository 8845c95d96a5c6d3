"""Plain-NumPy twins of the compiled kernels: the readable form of each algorithm.

Every function has the name, the arguments and the in-place behaviour of a kernel in
``sklearn_greedy/_kernels.py``. Random numbers agree with the kernels bit for bit, so
uint32 arithmetic wraps and the float32 polynomials behind ``normal_number`` are
evaluated in the same order. All other results agree to rounding, and use NumPy's own
exp and log. Functions of random bits also accept arrays of counters.
"""

import ctypes
import itertools
import math

import numpy as np
from scipy.special import xlogy

from sklearn_greedy._kernels import (
    ACTIVATION,
    ADAM,
    BERNOULLI,
    BERNOULLI_HIDDEN,
    BIAS,
    CODE_L1,
    CODE_SPARSITY,
    CODE_TARGET,
    CONTRACTION,
    DONE,
    DROPOUT,
    ELU,
    EMPHASIS,
    GAUSSIAN,
    GAUSSIAN_NOISE,
    IDENTITY,
    ITEM_SIZE,
    KIND,
    L1,
    L2,
    LEFT,
    LEFT_TURNED,
    LEVEL,
    LOGISTIC,
    MASKING,
    MAX_GRADIENT,
    MAX_NORM,
    MOMENTUM,
    N_ACTIVE,
    N_COLUMNS,
    N_IN,
    N_INNER,
    N_OUT,
    N_ROWS,
    NESTEROV,
    NO_CORRUPTION,
    OUT,
    OVER,
    PACE,
    PERSISTENT_LOSS_SHARE,
    POISSON,
    PRODUCT,
    RATE,
    RATE_DECAY,
    RELU,
    RELU_HIDDEN,
    RIGHT,
    RIGHT_TURNED,
    SALT_AND_PEPPER,
    SAMPLED,
    SHARED,
    SOFTMAX,
    SOFTPLUS,
    SPARSE_SHARE,
    SPARSITY,
    START,
    STOP,
    TAKEN,
    TANH,
    TARGET,
    TRANSPOSED,
    WEIGHT,
    WIDE_ROW,
)

F32 = np.float32
U32 = np.uint32

_ERFINV_CENTRE = F32(
    [
        2.81022636e-08,
        3.43273939e-07,
        -3.5233877e-06,
        -4.39150654e-06,
        0.00021858087,
        -0.00125372503,
        -0.00417768164,
        0.246640727,
        1.50140941,
    ]
)
_ERFINV_TAIL = F32(
    [
        -0.000200214257,
        0.000100950558,
        0.00134934322,
        -0.00367342844,
        0.00573950773,
        -0.0076224613,
        0.00943887047,
        1.00167406,
        2.83297682,
    ]
)
_LOG = F32(
    [
        7.0376836292e-2,
        -1.1514610310e-1,
        1.1676998740e-1,
        -1.2420140846e-1,
        1.4249322787e-1,
        -1.6668057665e-1,
        2.0000714765e-1,
        -2.4999993993e-1,
        3.3333331174e-1,
    ]
)


def _polynomial(coefficients, x):
    """Horner's rule, highest power first; the order of rounding matters."""
    value = coefficients[0]
    for coefficient in coefficients[1:]:
        value = value * x + coefficient
    return value


def _counters(first, size):
    return (first + np.arange(size, dtype=np.int64)).astype(U32)


def _wide(x):
    """In float64, so that the twin's own rounding does not count."""
    return np.asarray(x, dtype=np.float64)


# --- random numbers ------------------------------------------------------------


@np.errstate(over="ignore")
def scramble(x):
    """Two rounds of multiply and xor-shift on 32 bits that wrap around."""
    x = np.asarray(x).astype(U32)
    x = (x ^ (x >> U32(16))) * U32(0x7FEB352D)
    x = (x ^ (x >> U32(15))) * U32(0x846CA68B)
    return x ^ (x >> U32(16))


@np.errstate(over="ignore")
def random_bits(counter, key0, key1):
    """Scramble the keyed counter twice."""
    counter = np.asarray(counter).astype(U32)
    return scramble(scramble(counter ^ U32(key0)) + U32(key1))


@np.errstate(over="ignore")
def stream_keys(seed, step, phase):
    """Two keys of the stream of (seed, step, phase)."""
    offset = U32(phase) * U32(0x9E3779B9)
    first, second = seed[0] ^ offset, seed[1] + offset
    key0 = random_bits(step, first, second)
    key1 = random_bits(
        step,
        scramble(second + U32(0x85EBCA6B)),
        scramble(first + U32(0xC2B2AE35)),
    )
    return key0, key1


def uniform_number(bits):
    """The upper 24 bits as a float32 in [0, 1)."""
    return (bits >> U32(8)).astype(F32) * F32(2.0**-24)


def normal_number(bits):
    """Sqrt(2) erfinv(x) with x at the middle of one of 2**24 cells of (-1, 1)."""
    k = (bits >> U32(8)).astype(np.int64)
    x = (2 * k + 1 - 2**24).astype(F32) * F32(2.0**-24)
    w = -log32((F32(1) - x) * (F32(1) + x))
    centre = _polynomial(_ERFINV_CENTRE, w - F32(2.5))
    tail = _polynomial(_ERFINV_TAIL, np.sqrt(w) - F32(3))
    return F32(1.41421356) * np.where(w < F32(5), centre, tail) * x


# --- elementary functions ------------------------------------------------------


def exp32(x):
    """Exp with the argument held in the range of normal float32 results."""
    return np.exp(np.clip(_wide(x), F32(-87.3), F32(88.3))).astype(F32)


def log32(x):
    """Log of m 2**n with m in [sqrt(1/2), sqrt(2)], in float32 steps."""
    bits = np.asarray(x, dtype=F32).view(np.int32)
    mantissa = ((bits & np.int32(0x007FFFFF)) | np.int32(0x3F800000)).view(F32)
    high = mantissa > F32(1.41421356)
    f = np.where(high, mantissa * F32(0.5), mantissa) - F32(1)
    n = ((bits >> np.int32(23)) - np.int32(127) + high).astype(F32)
    z = f * f
    y = f * z * _polynomial(_LOG, f) + n * F32(-2.12194440e-4) - F32(0.5) * z
    return f + y + n * F32(0.693359375)


def logistic(z):
    """z <- 1 / (1 + exp(-z)); the clip keeps exp from overflowing."""
    z[...] = 1 / (1 + np.exp(-np.clip(_wide(z), -700, 700)))


def activate(z, activation):
    """z <- f(z)."""
    if activation == LOGISTIC:
        logistic(z)
    elif activation == TANH:
        z[...] = np.tanh(_wide(z))
    elif activation == RELU:
        z[...] = np.maximum(z, 0)
    elif activation == SOFTPLUS:
        softplus(z)
    elif activation == ELU:
        z[...] = np.where(z > 0, z, np.expm1(-abs(_wide(z))))


def slope_number(a, activation):
    """Derivative of the activation, from its output."""
    slopes = {
        LOGISTIC: lambda a: a * (1 - a),
        TANH: lambda a: 1 - a**2,
        RELU: lambda a: np.where(a > 0, 1.0, 0.0),
        IDENTITY: lambda a: 1.0 + 0 * a,
        SOFTPLUS: lambda a: 1 - np.exp(-a),
        ELU: lambda a: np.where(a > 0, 1.0, 1 + a),
    }
    return slopes[activation](_wide(a))


def curvature_number(a, activation):
    """Derivative of ``slope_number`` by a."""
    curvatures = {
        LOGISTIC: lambda a: 1 - 2 * a,
        TANH: lambda a: -2 * a,
        SOFTPLUS: lambda a: np.exp(-a),
        ELU: lambda a: np.where(a > 0, 0.0, 1.0),
    }
    return curvatures.get(activation, lambda a: 0.0 * a)(_wide(a))


def multiply_derivative(delta, a, activation):
    """delta <- delta * f'(z), from the output a."""
    if activation == LOGISTIC:
        delta *= a * (1 - a)
    elif activation == TANH:
        delta *= 1 - a**2
    elif activation == RELU:
        delta[a <= 0] = 0
    elif activation != IDENTITY:
        delta[...] = delta * slope_number(a, activation)


def copy(a, out):
    out[: a.size] = a


def fill(a, value):
    """One value everywhere."""
    a[...] = value


def scale(a, factor):
    a *= factor


def add_row(a, weight, row):
    a += weight * row


def add_rows(a, weight, out):
    """The sum of the rows, weighted, on top of what is there."""
    out += weight * a.sum(axis=0)


def column_sums(a, out):
    out[...] = a.sum(axis=0)


def squared_distance(a, b):
    return np.sum((a - b) ** 2)


def sample_bernoulli(p, counter, key0, key1):
    """p <- 1 with probability p, else 0."""
    bits = random_bits(_counters(counter, p.size), key0, key1)
    p[...] = uniform_number(bits) < p


def add_normal(a, scale, counter, key0, key1):
    """a <- a + scale N(0, 1)."""
    bits = random_bits(_counters(counter, a.size), key0, key1)
    a += scale * normal_number(bits).astype(a.dtype)


def sample_softmax(p, counter, key0, key1):
    """p <- one-hot: the first column at which the cumulated sum passes u."""
    left = p.dtype.type(uniform_number(random_bits(counter, key0, key1)))
    chosen = len(p) - 1
    for j, share in enumerate(p):
        left = left - share
        if left < 0:
            chosen = j
            break
    p[...] = np.arange(len(p)) == chosen


def poisson_number(mean, bits):
    """Inversion of one uniform number, or a rounded normal number above 30."""
    if not mean <= 30:
        return np.maximum(np.floor(mean + np.sqrt(mean) * normal_number(bits) + 0.5), 0)
    u, k = uniform_number(bits), F32(0)
    term = total = exp32(-mean)
    while u >= total and term > 0:
        k += F32(1)
        term = F32(term * (mean / k))
        if k > mean and F32(total + term) == total:
            break
        total = F32(total + term)
    return k


def sample_poisson(mean, counter, key0, key1):
    bits = random_bits(_counters(counter, mean.size), key0, key1)
    for i in range(mean.size):
        mean[i] = poisson_number(F32(mean[i]), bits[i : i + 1][0])


# --- contrastive divergence ----------------------------------------------------


def softmax(z):
    """z <- exp(z) / sum exp(z)."""
    e = np.exp(_wide(z) - z.max())
    z[...] = e / e.sum()


def exponential(z):
    z[...] = exp32(z) if z.dtype == F32 else np.exp(z)


def softplus(z):
    z[...] = np.logaddexp(0, _wide(z))


def sample_rectified(x, key0, key1):
    """x <- max(0, x + N(0, variance logistic(x)))."""
    variance = x.copy()
    logistic(variance)
    z = normal_number(random_bits(_counters(0, x.size), key0, key1))
    x[...] = np.maximum(x + np.sqrt(variance) * z, 0)


def hidden_units(x, states, hidden, drawn, key0, key1):
    """x <- E[h | v] and states <- a sample, from the pre-activations x."""
    before = x.copy()
    if hidden == BERNOULLI_HIDDEN:
        logistic(x)
    elif hidden == RELU_HIDDEN:
        softplus(x)
    if not drawn:
        return
    states[: x.size] = x if hidden == BERNOULLI_HIDDEN else before
    if hidden == BERNOULLI_HIDDEN:
        sample_bernoulli(states[: x.size], 0, key0, key1)
    elif hidden == RELU_HIDDEN:
        sample_rectified(states[: x.size], key0, key1)
    else:
        add_normal(states[: x.size], x.dtype.type(1), 0, key0, key1)


def visible_means(z, blocks):
    """z <- E[v | h], block by block; gaussian ones keep z itself."""
    for block in blocks:
        part = z[:, block[START] : block[STOP]]
        if block[KIND] == BERNOULLI:
            logistic(part)
        elif block[KIND] == POISSON:
            exponential(part)
        elif block[KIND] == SOFTMAX:
            for row in part:
                softmax(row)


def sample_visible(v, blocks, key0, key1):
    """v <- a sample with mean v; the counter is the place in the whole matrix."""
    bits = random_bits(_counters(0, v.size).reshape(v.shape), key0, key1)
    for block in blocks[blocks[:, SAMPLED] == 1]:
        columns = slice(block[START], block[STOP])
        if block[KIND] == BERNOULLI:
            v[:, columns] = uniform_number(bits[:, columns]) < v[:, columns]
        elif block[KIND] in (SOFTMAX, POISSON):
            draw = sample_softmax if block[KIND] == SOFTMAX else sample_poisson
            for r, row in enumerate(v):
                counter = r * v.shape[1] + block[START]
                draw(row[columns], counter, key0, key1)
        else:
            v[:, columns] += normal_number(bits[:, columns])


def reconstruction_error(rows, v, n):
    return squared_distance(rows[:n], v[:n])


def multiply_part(product, part, n_parts):
    """Some rows or columns of a product of matrices that stand at some addresses."""
    m, k, n = (int(product[place]) for place in (N_ROWS, N_INNER, N_COLUMNS))
    a_turned, w_turned = product[LEFT_TURNED], product[RIGHT_TURNED]
    single = product[ITEM_SIZE] == 4

    def matrix(address, *shape):
        number = ctypes.c_float if single else ctypes.c_double
        kind = number * math.prod(shape)
        return np.ctypeslib.as_array(kind.from_address(int(address))).reshape(shape)

    a = matrix(product[LEFT], k, m).T if a_turned else matrix(product[LEFT], m, k)
    w = matrix(product[RIGHT], n, k).T if w_turned else matrix(product[RIGHT], k, n)
    out = matrix(product[OUT], m, n)
    longest = max(m, n)
    some = slice(longest * part // n_parts, longest * (part + 1) // n_parts)
    some = (some,) if m > n else (slice(None), some)
    out[some] = (a @ w)[some]


def take_parts(team):
    """All parts that are left."""
    n_parts, first = divmod(int(team[TAKEN]), 1 << 16)
    for part in range(first, n_parts):
        multiply_part(team[PRODUCT:], part, n_parts)
    n_mine = max(0, n_parts - first)
    team[TAKEN] += n_mine
    team[DONE] += n_mine
    return n_mine


def assist(team):
    """Nothing comes while nobody else runs."""
    if not team[OVER]:
        take_parts(team)


def n_parts_of(m, k, n):
    """Powers of two, by limits of size."""
    return 1 << sum(m * k * n >= SHARED * times for times in (1, 8, 32))


def matmul(a, w, a_turned, w_turned, out, team):
    """A product is the same whoever multiplies."""
    out[...] = (a.T if a_turned else a) @ (w.T if w_turned else w)


def few_rows_product(a, w, out):
    out[...] = a @ w


def few_rows_product_transposed(a, w, out):
    out[...] = a @ w.T


def nonzero_places(row, places):
    found = np.flatnonzero(row)
    places[: len(found)] = found
    return len(found)


def few_nonzeros(a, starts, places):
    """Columns of what is not 0, row by row, where that is little and wanted."""
    counts = np.count_nonzero(a, axis=1)
    if not places.size or counts.sum() > int(SPARSE_SHARE * a.size):
        return False
    starts[1:] = starts[0] + np.cumsum(counts)
    places[starts[0] : starts[-1]] = np.nonzero(a)[1]
    return True


def nonzero_room(m, k, n):
    """Room for a list of the above, where products are wide enough for it."""
    return int(SPARSE_SHARE * m * k) + k if min(k, n) >= WIDE_ROW else 0


def product(a, w, out, lists, team):
    out[...] = a @ w


def dense_product(a, w, out, team):
    out[...] = a @ w


def sparse_product(a, w, starts, places, out):
    out[...] = _listed(a, starts, places) @ w


def listed_product(a, w, starts, places, out, team):
    out[...] = a @ w
    return few_nonzeros(a, starts, places)


def _listed(a, starts, places):
    """The matrix of the elements that are listed."""
    spans = [slice(*ends) for ends in itertools.pairwise(starts)]
    listed = np.zeros_like(a)
    for r, span in enumerate(spans):
        listed[r, places[span]] = a[r, places[span]]
    return listed


def product_transposed(a, w, out, team):
    out[...] = a @ w.T


def scale_rows(a, betas, shift):
    beta = np.repeat(betas, len(a) // len(betas))[:, None]
    a[...] = beta * a + (1 - beta) * shift


def interaction(field, state, lam):
    return np.sum(field * (state - lam))


def swap_chains(states, fields, lam, betas, first, key0, key1):
    """Metropolis exchange of neighbours, by (v - mu) w (h - lam)'."""
    n = len(states) // len(betas)
    interactions = np.sum(fields * (states - lam), axis=1)
    u = uniform_number(random_bits(_counters(0, len(states)), key0, key1))
    for t in range(first, len(betas) - 1, 2):
        a, b = np.arange(n) + t * n, np.arange(n) + (t + 1) * n
        gain = (betas[t] - betas[t + 1]) * (interactions[b] - interactions[a])
        swapped = u[a] < np.exp(np.minimum(gain, 0))
        a, b = a[swapped], b[swapped]
        states[a], states[b] = states[b], states[a]


def cd_statistics(
    rows,
    w,
    hidden_bias,
    visible_bias,
    chain,
    betas,
    lam,
    shifts,
    blocks,
    hidden,
    gibbs,
    seed,
    step,
    v,
    h,
    s,
    fields,
    starts,
    places,
    team,
):
    """Positive phase in the first rows of v and h, negative phase below."""
    m, persistent = len(rows), len(chain) > 0

    hidden_shift, visible_shift = np.split(shifts, [len(hidden_bias)])

    def up(visible, phase, drawn, scales=(1.0,)):
        """Means of the hidden units, and samples into s where drawn."""
        means = visible @ w
        if len(scales) > 1:
            scale_rows(means, scales, hidden_shift)
        means += hidden_bias
        keys = stream_keys(seed, step, phase)
        hidden_units(means.reshape(-1), s.reshape(-1), hidden, drawn, *keys)
        return means

    def reconstruct(hidden, scales=(1.0,)):
        means = hidden @ w.T
        if len(scales) > 1:
            scale_rows(means, scales, visible_shift)
        means += visible_bias
        visible_means(means, blocks)
        return means

    n_paired = m
    v[:m], h[:m] = rows, up(rows, 0, not persistent)
    starts[0] = 0
    few, few_below = few_nonzeros(rows, starts[: m + 1], places), False
    if not few:
        starts[m] = 0
    if persistent:
        n_paired = min(-(-m // PERSISTENT_LOSS_SHARE), len(chain))
        s[...] = chain
        loss = reconstruction_error(rows, reconstruct(h[:m]), n_paired)
    for k in range(gibbs):
        v[m:] = reconstruct(s, betas)
        if k == 0 and not persistent:
            loss = reconstruction_error(rows, v[m:], n_paired)
        sample_visible(v[m:], blocks, *stream_keys(seed, step, 2 * k + 1))
        few_below = few_nonzeros(v[m:], starts[m : len(v) + 1], places)
        h[m:] = up(v[m:], 2 * k + 2, persistent or k < gibbs - 1, betas)
    if len(betas) > 1:
        fields[...] = v[m:] @ w - hidden_shift
        keys = stream_keys(seed, step, 2 * gibbs + 1)
        swap_chains(s, fields, lam, betas, step % 2, *keys)
    if persistent:
        chain[...] = s
    return loss, n_paired, few and few_below


def inner_product(a, b):
    return np.sum(a * b)


def slide(offset, a, rate):
    """Exponential moving average of the column means."""
    offset[...] = (1 - rate) * offset + rate * a.mean(axis=0)


def weigh_phases(h, m):
    """Rows weighted so that their sum is the difference of the phases' means."""
    h[:m] /= m
    h[m:] /= -(len(h) - m)


def outer_product(a, d, out, lists, team):
    """Product of a transposed matrix and another."""
    out[...] = a.T @ d


def by_column(starts, places, ends, rows):
    """The rows of listed elements, sorted by their columns, and where these end."""
    in_order = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    columns = places[starts[0] : starts[-1]]
    rows[: len(columns)] = in_order[np.argsort(columns, kind="stable")]
    ends[:-1] = np.cumsum(np.bincount(columns, minlength=len(ends) - 1))
    ends[-1] = len(columns)


def sparse_outer_product(a, d, rows, ends, first, out):
    """Products of some columns, over the elements that are sorted by them."""
    starts = np.concatenate([[0], ends[:-1]])
    for i, total in enumerate(out, start=first):
        some = rows[starts[i] : ends[i]]
        total[...] = a[some, i] @ d[some]


def weighted_column_sums(v, m, out):
    out[...] = v[:m].mean(axis=0) - v[m:].mean(axis=0)


def listed_column_sums(v, m, starts, places, out):
    weighted_column_sums(_listed(v, starts, places), m, out)


def cd_gradient(v, h, m, centered, mu, lam, grad, team):
    """Gradient of the centered RBM, turned back to the plain one's parameters."""
    difference_v = v[:m].mean(axis=0) - v[m:].mean(axis=0)
    difference_h = h[:m].mean(axis=0) - h[m:].mean(axis=0)
    if centered:
        v -= mu
        h -= lam
    else:
        mu, lam = 0 * mu, 0 * lam
    weigh_phases(h, m)
    grad_w = v.T @ h
    centre_biases(grad_w, mu, lam, difference_h, difference_v)
    grad[...] = np.concatenate([grad_w.ravel(), difference_h, difference_v])


def add_sparsity(h, target, weight):
    """The positive phase, moved along the gradient of the sparsity penalty."""
    q = np.clip(h.mean(axis=0), F32(1e-6), 1 - F32(1e-6))
    h += weight * (target - q) / (q * (1 - q)) * h * (1 - h)


def momentum_ascent(theta, velocity, grad, n_weights, rate, hyper):
    """One step uphill; only the weights, which come first, decay."""
    decays = np.arange(theta.size) < n_weights
    pull = np.where(decays, hyper[L2] * theta + hyper[L1] * np.sign(theta), 0.0)
    velocity[...] = hyper[MOMENTUM] * velocity + rate * (grad - pull)
    theta += velocity


def centre_biases(gw, mu, lam, gc, gb):
    """From biases of the centered parameters to those of the plain ones."""
    gc -= mu @ gw
    gb -= gw @ lam


def sparse_ascent(
    v,
    h,
    m,
    starts,
    places,
    ends,
    rows,
    centered,
    mu,
    lam,
    theta,
    velocity,
    grad,
    rate,
    hyper,
    difference,
):
    """One step uphill along the gradient from the elements that are listed."""
    by_column(starts, places, ends, rows)
    if centered:
        difference[...] = h[:m].mean(axis=0) - h[m:].mean(axis=0)
    cd_gradient(_listed(v, starts, places), h, m, centered, mu, lam, grad, None)
    momentum_ascent(theta, velocity, grad, v.shape[1] * h.shape[1], rate, hyper)


def cd_slice(
    rows,
    batch_size,
    theta,
    velocity,
    mu,
    lam,
    chain,
    betas,
    blocks,
    hidden,
    gibbs,
    hyper,
    centered,
    sliding,
    seed,
    step,
    grad,
    work,
    lists,
    team,
):
    """Train an RBM on consecutive mini-batches."""
    n_visible, n_hidden = len(mu), len(lam)
    n_weights = n_visible * n_hidden
    w, hidden_bias, visible_bias = np.split(theta, [n_weights, n_weights + n_hidden])
    total, count = 0.0, 0
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        m = len(batch)
        n_chains = len(chain) or m
        v, h, s, fields = _carve(
            work,
            (m + n_chains, n_visible),
            (m + n_chains, n_hidden),
            (n_chains, n_hidden),
            (n_chains, n_hidden),
        )
        weights = w.reshape(n_visible, n_hidden)
        shifts = np.concatenate([mu @ weights, weights @ lam])
        starts = np.empty(len(v) + 1, np.int64)
        places = np.empty(nonzero_room(len(v), n_visible, n_hidden), np.int64)
        loss, n_paired, few = cd_statistics(
            batch,
            weights,
            hidden_bias,
            visible_bias,
            chain,
            betas,
            lam,
            shifts,
            blocks,
            hidden,
            gibbs,
            seed,
            step,
            v,
            h,
            s,
            fields,
            starts,
            places,
            team,
        )
        total, count = total + loss, count + n_paired * n_visible
        if sliding > 0:
            slide(mu, batch, sliding)
            slide(lam, h[:m], sliding)
        if hyper[SPARSITY] > 0:
            add_sparsity(h[:m], hyper[TARGET], hyper[SPARSITY])
        counted = m + n_chains // len(betas)
        phases, model = (v[:counted], h[:counted], m), (centered, mu, lam)
        rate = hyper[RATE] / (1 + hyper[RATE_DECAY] * step)
        if few:
            listed = starts[: counted + 1], places
            turned = np.empty(n_visible + 1, np.int64), np.empty_like(places)
            update = theta, velocity, grad, rate, hyper
            sparse_ascent(*phases, *listed, *turned, *model, *update, s[0])
        else:
            cd_gradient(*phases, *model, grad, team)
            momentum_ascent(theta, velocity, grad, n_weights, rate, hyper)
        step += 1
    return total, count


def _carve(work, *shapes):
    """Consecutive parts of a flat workspace as matrices."""
    ends = np.cumsum([rows * columns for rows, columns in shapes])
    parts = np.split(work, ends)[:-1]
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


# --- backpropagation -----------------------------------------------------------


def draw_cells(out, units, key0, key1):
    """One uniform number per unit of each row."""
    cells = np.arange(len(out))[:, None] * out.shape[1] + units
    out[...] = uniform_number(random_bits(cells.astype(np.uint32), key0, key1))


def corrupt(rows, noisy, corruption, level, units, limits, key0, key1):
    """Masking, salt and pepper, swap: cell by cell; gaussian noise is added."""
    noisy[...] = rows
    if corruption == GAUSSIAN_NOISE:
        add_normal(noisy.reshape(-1), rows.dtype.type(level), 0, key0, key1)
        return
    m, n = rows.shape
    u = np.empty(rows.shape, np.float32)
    draw_cells(u, units, key0, key1)
    amount = np.float32(level)
    changed = u < amount
    if corruption == MASKING:
        noisy[changed] = 0
    elif corruption == SALT_AND_PEPPER:
        salt = np.where(u < amount * np.float32(0.5), limits[0], limits[1])
        noisy[changed] = salt[changed]
    elif m > 1:
        hop = np.minimum((u * np.float32((m - 1) / level)).astype(int), m - 2)
        other = (np.arange(m)[:, None] + 1 + hop) % m
        swapped = rows[other, np.arange(n)]
        noisy[changed] = swapped[changed]


def mark_changes(rows, noisy, changed):
    changed[...] = rows != noisy


def weigh_cells(weights, noise, units, key0, key1):
    """Weight of each cell by whether it is corrupted."""
    draw_cells(weights, units, key0, key1)
    changed = weights < np.float32(noise[LEVEL])
    weights[...] = np.where(changed, noise[EMPHASIS], 2 - noise[EMPHASIS])


def weigh_rows(weights, row_weights):
    """Weights of cells times those of their rows, scaled to mean 1."""
    total = float(np.sum(row_weights, dtype=float))
    if total > 0:
        weights *= (row_weights * (len(row_weights) / total))[:, None]
    else:
        weights[...] = 0
    return total


def bernoulli_loss(z, y):
    """Sum log(1 + exp(z)) - y z, and z <- logistic(z) - y."""
    loss = np.sum(np.logaddexp(0, _wide(z)) - _wide(y) * z)
    logistic(z)
    z -= y
    return loss


def softmax_loss(z, y):
    """Minus sum y log(softmax(z)), and z <- softmax(z) - y."""
    x = _wide(z) - z.max()
    total = np.exp(x).sum()
    z[...] = np.exp(x) / total - y
    return np.log(total) - np.sum(y * x)


def gaussian_loss(z, y):
    """Half the squared error, and z <- z - y."""
    z -= y
    return 0.5 * np.sum(z**2)


def poisson_loss(z, y):
    """Half the deviance of counts y with means exp(z), and z <- exp(z) - y."""
    mean = np.exp(_wide(z))
    z[...] = mean - y
    return np.sum(mean - y + xlogy(y, y / mean))


def block_loss(z, y, kind):
    """Loss of one block of one row."""
    losses = {
        GAUSSIAN: gaussian_loss,
        BERNOULLI: bernoulli_loss,
        POISSON: poisson_loss,
    }
    return losses.get(kind, softmax_loss)(z, y)


def are_equal(a):
    return bool((a == a[0]).all())


def output_delta(z, y, weights, blocks):
    """z <- (mean - target) / m, and the mean loss of a row."""
    total = 0.0
    weights = weights if weights.size else np.ones_like(z)
    for r in range(len(z)):
        for block in blocks:
            start, stop, kind = block[START], block[STOP], block[KIND]
            width = stop - start if kind == SOFTMAX else 1
            for i in range(start, stop, width):
                part = slice(i, i + width)
                total += weights[r, i] * block_loss(z[r, part], y[r, part], kind)
                z[r, part] *= weights[r, i]
    z /= len(z)
    return total / len(z)


def keep_largest(h, n_active):
    """Zero what is below the n_active-th largest of its row."""
    limit = -np.partition(-h, n_active - 1, axis=1)[:, n_active - 1]
    h[h < limit[:, None]] = 0


def _activations(layers, m, work):
    """The part of work that belongs to each layer, (m, n_out)."""
    return _carve(work, *((m, layer[N_OUT]) for layer in layers))


def _weights(theta, layer):
    """The matrix by which a layer multiplies its input."""
    flat = theta[layer[WEIGHT] : layer[WEIGHT] + layer[N_IN] * layer[N_OUT]]
    if layer[TRANSPOSED]:
        return flat.reshape(layer[N_OUT], layer[N_IN]).T
    return flat.reshape(layer[N_IN], layer[N_OUT])


def _bias(theta, layer):
    return theta[layer[BIAS] : layer[BIAS] + layer[N_OUT]]


def drop_input(a, rate, seed, step, layer):
    """Zero some of the input of a layer and scale up the rest."""
    keys = stream_keys(seed, step, layer + 1)
    u = uniform_number(random_bits(np.arange(a.size, dtype=np.uint32), *keys))
    a *= np.where(u < np.float32(rate), 0, 1 / (1 - rate)).reshape(a.shape)


def forward(rows, theta, layers, traits, code, seed, step, work, lists, team):
    """Activations of each layer in work; the last one stays a pre-activation."""
    a = rows
    outputs = _activations(layers, len(rows), work)
    for i, layer in enumerate(layers):
        outputs[i][...] = a @ _weights(theta, layer) + _bias(theta, layer)
        if i < len(layers) - 1:
            activate(outputs[i], layer[ACTIVATION])
        if i == 0 and code[N_ACTIVE] > 0:
            keep_largest(outputs[i], int(code[N_ACTIVE]))
        if i < len(layers) - 1 and traits[i + 1, DROPOUT] > 0:
            drop_input(outputs[i], traits[i + 1, DROPOUT], seed, step, i + 1)
        a = outputs[i]
    return a


def weight_gradient(a, delta, transposed, shared, grad, scratch, lists, team):
    """Gradient of one layer's weights, in the order in which they are stored."""
    product = delta.T @ a if transposed else a.T @ delta
    if shared:
        scratch[: product.size] = product.ravel()
        grad += scratch[: product.size]
    else:
        grad[...] = product.ravel()


def squared_columns(w, out):
    """Sum of the squares of each column."""
    out[...] = np.sum(w**2, axis=0)


def code_penalty(h, delta, w, activation, code, sums):
    """L1, Kullback-Leibler and contractive penalty, and their derivatives by h."""
    m, total = len(h), 0.0
    if code[CODE_L1] > 0:
        total += code[CODE_L1] * np.abs(_wide(h)).sum() / m
        delta += code[CODE_L1] / m * np.sign(h)
    if code[CODE_SPARSITY] > 0:
        p, q = code[CODE_TARGET], np.clip(_wide(h).mean(axis=0), 1e-6, 1 - 1e-6)
        divergence = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
        total += code[CODE_SPARSITY] * divergence.sum()
        sums[...] = code[CODE_SPARSITY] / m * ((1 - p) / (1 - q) - p / q)
        delta += sums
    if code[CONTRACTION] > 0:
        squared_columns(w, sums)
        slope = _slope_of_code(h, activation, code)
        part = code[CONTRACTION] / m * slope * sums
        total += np.sum(part * slope)
        delta += 2 * part * curvature_number(h, activation)
    return total


def _slope_of_code(h, activation, code):
    """Derivatives of the hidden units, of which those that lost stand still."""
    slope = slope_number(h, activation)
    return np.where((code[N_ACTIVE] > 0) & (h == 0), 0, slope)


def add_contraction(h, w, activation, code, grad, sums):
    """The part of the contractive gradient at a fixed code."""
    slope = _slope_of_code(h, activation, code)
    sums[...] = 2 * code[CONTRACTION] * np.mean(slope**2, axis=0)
    grad += sums * w


def backward(
    rows,
    theta,
    grad,
    layers,
    traits,
    code,
    seed,
    step,
    work,
    deltas,
    scratch,
    lists,
    team,
):
    """Backpropagate (mean - target) / m, which the last layer's part of work holds."""
    outputs = _activations(layers, len(rows), work)
    errors = _activations(layers, len(rows), deltas)
    delta, penalty = outputs[-1], 0.0
    moving = np.flatnonzero(traits[:, PACE])
    lowest = moving[0] if len(moving) else len(layers) - 1
    for i in reversed(range(lowest, len(layers))):
        layer = layers[i]
        below = outputs[i - 1] if i > 0 else rows
        size = layer[N_IN] * layer[N_OUT]
        weight_gradient(
            below,
            delta,
            layer[TRANSPOSED],
            layer[WEIGHT] in layers[i + 1 :, WEIGHT],
            grad[layer[WEIGHT] : layer[WEIGHT] + size],
            scratch,
            lists,
            team,
        )
        column_sums(delta, _bias(grad, layer))
        if i > lowest:
            errors[i - 1][...] = delta @ _weights(theta, layer).T
            delta = errors[i - 1]
            if traits[i, DROPOUT] > 0:
                drop_input(delta, traits[i, DROPOUT], seed, step, i)
                below *= 1 - traits[i, DROPOUT]
            activation = layers[i - 1, ACTIVATION]
            if i == 1:
                w = _weights(theta, layers[0])
                sums = scratch[: layer[N_IN]]
                penalty = code_penalty(below, delta, w, activation, code, sums)
            multiply_derivative(delta, below, activation)
            if i == 1 and code[N_ACTIVE] > 0:
                delta[below == 0] = 0
    if code[CONTRACTION] > 0:
        first, sums = layers[0], scratch[: layers[0, N_OUT]]
        parts = outputs[0], _weights(theta, first), first[ACTIVATION]
        add_contraction(*parts, code, _weights(grad, first), sums)
    return penalty


def loss_gradient(
    rows,
    targets,
    weights,
    theta,
    grad,
    layers,
    traits,
    blocks,
    code,
    seed,
    step,
    work,
    deltas,
    scratch,
    lists,
    team,
):
    """Mean loss of a batch with its penalties, and its gradient in grad."""
    output = forward(rows, theta, layers, traits, code, seed, step, work, lists, team)
    loss = output_delta(output, targets, weights, blocks)
    return loss + backward(
        rows,
        theta,
        grad,
        layers,
        traits,
        code,
        seed,
        step,
        work,
        deltas,
        scratch,
        lists,
        team,
    )


def clip_gradient(grad, most):
    """Shorten a gradient that is longer than ``most``."""
    norm = np.linalg.norm(_wide(grad))
    if norm > most:
        grad *= most / norm


def sgd_update(theta, velocity, grad, learning_rate, momentum, nesterov, alpha):
    """Gradient descent with (Nesterov) momentum."""
    move = learning_rate * (grad + alpha * theta)
    velocity[...] = momentum * velocity - move
    theta += momentum * velocity - move if nesterov else velocity


def adam_update(theta, first, second, grad, rate, beta_1, beta_2, epsilon, alpha):
    """Adam; ``rate`` holds the bias corrections."""
    g = grad + alpha * theta
    first[...] = beta_1 * first + (1 - beta_1) * g
    second[...] = beta_2 * second + (1 - beta_2) * g**2
    theta -= rate * first / (np.sqrt(second) + epsilon)


def update_part(theta, first, second, grad, solver, hyper, step, pace, alpha):
    """One step of the chosen optimiser."""
    learning_rate, momentum, beta_1, beta_2, epsilon = hyper[:5]
    learning_rate = learning_rate * pace
    if solver == ADAM:
        t = step + 1
        rate = learning_rate * np.sqrt(1 - beta_2**t) / (1 - beta_1**t)
        adam_update(theta, first, second, grad, rate, beta_1, beta_2, epsilon, alpha)
    else:
        nesterov = solver == NESTEROV
        sgd_update(theta, first, grad, learning_rate, momentum, nesterov, alpha)


def limit_columns(w, most, sums):
    """Columns no longer than ``most``."""
    sums[...] = np.minimum(1, most / np.maximum(np.linalg.norm(_wide(w), axis=0), 1e-9))
    w *= sums


def update_parameters(
    theta, state, grad, layers, traits, solver, hyper, updates, alpha, scratch
):
    """One step on all layers that move; biases do not decay, tied weights move once."""
    for i, layer in enumerate(layers):
        pace, size = traits[i, PACE], layer[N_IN] * layer[N_OUT]
        if pace == 0:
            continue
        weights = slice(layer[WEIGHT], layer[WEIGHT] + size)
        biases = slice(layer[BIAS], layer[BIAS] + layer[N_OUT])
        parts = (
            [(biases, 0.0)] if layer[TRANSPOSED] else [(weights, alpha), (biases, 0.0)]
        )
        for part, decay in parts:
            first, second = state[0, part], state[1, part]
            moved = theta[part], first, second, grad[part]
            update_part(*moved, solver, hyper, updates[i], pace, decay)
        updates[i] += 1
        if hyper[MAX_NORM] > 0 and i < len(layers) - 1:
            limit_columns(
                _weights(theta, layer), hyper[MAX_NORM], scratch[: layer[N_OUT]]
            )


def backprop_slice(
    rows,
    targets,
    row_weights,
    batch_size,
    theta,
    state,
    grad,
    layers,
    traits,
    blocks,
    corruption,
    noise,
    units,
    limits,
    solver,
    hyper,
    alpha,
    code,
    seed,
    step,
    updates,
    noisy,
    changed,
    weights,
    work,
    deltas,
    scratch,
    lists,
    team,
):
    """Train a network on consecutive mini-batches."""
    total = 0.0
    for start in range(0, len(rows), batch_size):
        x = rows[start : start + batch_size]
        y = targets[start : start + batch_size]
        number, mass = step + start // batch_size, len(x)
        keys = stream_keys(seed, number, 0)
        cells = weights[:0].reshape(0, y.shape[1])
        if weights.size:
            cells = weights[: y.size].reshape(y.shape)
            cells[...] = 1
            if corruption != NO_CORRUPTION and noise[EMPHASIS] != 1:
                weigh_cells(cells, noise, units, *keys)
            if row_weights.size:
                mass = weigh_rows(cells, row_weights[start : start + len(x)])
        if mass == 0:
            continue
        noisy_x = noisy[: x.size].reshape(x.shape)
        if corruption != NO_CORRUPTION:
            corrupt(x, noisy_x, corruption, noise[LEVEL], units, limits, *keys)
            if changed.size:
                y = changed[: x.size].reshape(x.shape)
                mark_changes(x, noisy_x, y)
            x = noisy_x
        if traits[0, DROPOUT] > 0:
            noisy_x[...] = x
            drop_input(noisy_x, traits[0, DROPOUT], seed, number, 0)
            x = noisy_x
        loss = loss_gradient(
            x,
            y,
            cells,
            theta,
            grad,
            layers,
            traits,
            blocks,
            code,
            seed,
            number,
            work,
            deltas,
            scratch,
            lists,
            team,
        )
        total += loss * mass
        if hyper[MAX_GRADIENT] > 0:
            clip_gradient(grad, hyper[MAX_GRADIENT])
        update_parameters(
            theta, state, grad, layers, traits, solver, hyper, updates, alpha, scratch
        )
    return total


# --- annealed importance sampling -----------------------------------------------


def softplus_difference(x, t, u):
    return np.sum(np.logaddexp(0, u * _wide(x)) - np.logaddexp(0, t * _wide(x)))


def ais_slice(
    v, w, c, a, b, blocks, temperatures, seed, step, x, s, log_weights, lists, team
):
    """Weigh the states between two temperatures, then move them at the second."""
    for k, (t, u) in enumerate(itertools.pairwise(temperatures)):
        x[...] = v @ w + c
        log_weights += (u - t) * _wide(v) @ _wide(b - a)
        log_weights += [softplus_difference(row, t, u) for row in x]
        s[...] = u * x
        logistic(s)
        sample_bernoulli(s.reshape(-1), 0, *stream_keys(seed, step + k, 0))
        v[...] = u * (s @ w.T + b) + (1 - u) * a
        visible_means(v, blocks)
        sample_visible(v, blocks, *stream_keys(seed, step + k, 1))
