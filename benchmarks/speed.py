"""Speed beside scikit-learn, torch and the bare matrix products.

    python benchmarks/speed.py [--repeats 7] [--threads 1] [--data DIR] [--write]
        [--record NAME]

Every line is whole fits at equal epochs on the same float32 rows, in one process, warm
and interleaved (A B C A B C ...), so that ratios hold on a noisy machine. "GEMM floor"
is the time of the bare BLAS products of the same shapes, in the BLAS that the kernels
use. torch is timed where it is installed (`pip install torch`). Time to quality is
that of the shortest of our fits whose exact log-likelihood on adult (``bin_adult.npz``
in DIR) passes that of BernoulliRBM. Seconds of compiling: ``startup.py``.
"""

import datetime
import itertools
import os
import platform
import time
import warnings

import numba
import numpy as np
import scipy
import sklearn
from common import binary_set, options_of, publish
from sklearn.neural_network import BernoulliRBM, MLPClassifier
from threadpoolctl import threadpool_limits

from sklearn_greedy import (
    GreedyPretrainedMLPClassifier,
    StackedAutoencoderTransformer,
    StackedRBMTransformer,
)
from sklearn_greedy._compat import NoCallbackContext
from sklearn_greedy._energy import RBM
from sklearn_greedy._likelihood import exact_log_z

try:
    import torch
except ImportError:
    torch = None

# n_visible, n_hidden, batch size, rows, epochs, least speed-up over BernoulliRBM
RBM_CASES = [
    (20, 64, 32, 6400, 10, 8.0),
    (64, 256, 10, 2000, 10, 6.0),
    (64, 256, 100, 5000, 10, 3.0),
    (784, 500, 100, 5000, 2, 1.4),
]
# layer widths, batch size, rows, epochs, least speed-up over MLPClassifier
MLP_CASES = [
    ((20, 100, 10), 32, 3200, 10, 10.0),
    ((54, 100, 7), 200, 10000, 10, 4.0),
    ((784, 500, 10), 200, 5000, 3, 2.0),
]
# n_visible, n_hidden, batch size, rows, epochs, least speed-up over torch
AUTOENCODER_CASES = [
    (54, 128, 64, 6400, 20, 6.0),
    (784, 500, 100, 5000, 10, 1.3),
]

CALLBACK_ROWS = 1000
# layer widths, rows, iterations of the full-batch solver in float64
LBFGS_CASE = (54, 100, 7), 5000, 50


@numba.njit
def rbm_products(X, W, batch_size, epochs):
    """The matrix products of CD-1, and nothing else."""
    n_visible, n_hidden = W.shape
    h = np.zeros((batch_size, n_hidden), np.float32)
    v = np.zeros((batch_size, n_visible), np.float32)
    v2 = np.zeros((2 * batch_size, n_visible), np.float32)
    h2 = np.zeros((2 * batch_size, n_hidden), np.float32)
    gradient = np.zeros((n_visible, n_hidden), np.float32)
    for _ in range(epochs):
        for start in range(0, len(X), batch_size):
            np.dot(X[start : start + batch_size], W, h)
            np.dot(h, W.T, v)
            np.dot(v, W, h)
            np.dot(v2.T, h2, gradient)


@numba.njit
def mlp_products(X, W, V, batch_size, epochs):
    """The matrix products of backpropagation through one hidden layer."""
    h = np.zeros((batch_size, W.shape[1]), np.float32)
    o = np.zeros((batch_size, V.shape[1]), np.float32)
    gradient_w, gradient_v = np.zeros_like(W), np.zeros_like(V)
    for _ in range(epochs):
        for start in range(0, len(X), batch_size):
            rows = X[start : start + batch_size]
            np.dot(rows, W, h)
            np.dot(h, V, o)
            np.dot(h.T, o, gradient_v)
            np.dot(o, V.T, h)
            np.dot(rows.T, h, gradient_w)


@numba.njit
def autoencoder_products(X, W, batch_size, epochs):
    """The matrix products of an autoencoder with tied weights."""
    n_visible, n_hidden = W.shape
    h = np.zeros((batch_size, n_hidden), np.float32)
    z = np.zeros((batch_size, n_visible), np.float32)
    gradient = np.zeros((n_visible, n_hidden), np.float32)
    for _ in range(epochs):
        for start in range(0, len(X), batch_size):
            rows = X[start : start + batch_size]
            np.dot(rows, W, h)
            np.dot(h, W.T, z)
            np.dot(z.T, h, gradient)
            np.dot(z, W, h)
            np.dot(rows.T, h, gradient)


def torch_autoencoder(X, n_hidden, batch_size, epochs):
    """Tied weights, masking noise, relu, cross-entropy and torch.optim.Adam."""
    X = torch.from_numpy(X)
    n, n_visible = X.shape
    bound = (6 / (n_visible + n_hidden)) ** 0.5
    W = torch.empty(n_visible, n_hidden).uniform_(-bound, bound).requires_grad_()
    b = torch.zeros(n_visible, requires_grad=True)
    c = torch.zeros(n_hidden, requires_grad=True)
    optimizer = torch.optim.Adam([W, b, c])
    loss = torch.nn.BCEWithLogitsLoss(reduction="sum")
    for _ in range(epochs):
        order = torch.randperm(n)
        for start in range(0, n, batch_size):
            rows = X[order[start : start + batch_size]]
            noisy = rows * (torch.rand_like(rows) >= 0.25)
            h = torch.relu(torch.addmm(c, noisy, W))
            optimizer.zero_grad()
            (loss(torch.addmm(b, h, W.T), rows) / len(rows)).backward()
            optimizer.step()


def torch_rbm(X, n_hidden, batch_size, epochs):
    """CD-1 with momentum and decay, as one would write it with torch tensors."""
    X = torch.from_numpy(X)
    n, n_visible = X.shape
    W = 0.01 * torch.randn(n_visible, n_hidden)
    b, c = torch.zeros(n_visible), torch.zeros(n_hidden)
    velocity = [torch.zeros_like(p) for p in (W, b, c)]
    for _ in range(epochs):
        order = torch.randperm(n)
        for start in range(0, n, batch_size):
            v0 = X[order[start : start + batch_size]]
            h0 = torch.sigmoid(torch.addmm(c, v0, W))
            v1 = torch.sigmoid(torch.addmm(b, torch.bernoulli(h0), W.T))
            v1 = torch.bernoulli(v1)
            h1 = torch.sigmoid(torch.addmm(c, v1, W))
            m = len(v0)
            gradients = (
                (v0.T @ h0 - v1.T @ h1) / m - 1e-4 * W,
                (v0 - v1).mean(0),
                (h0 - h1).mean(0),
            )
            for p, u, g in zip((W, b, c), velocity, gradients, strict=True):
                u.mul_(0.9).add_(g, alpha=0.1)
                p.add_(u)


def torch_mlp(X, y, widths, batch_size, epochs):
    """A ReLU network with torch.optim.Adam."""
    X, y = torch.from_numpy(X), torch.from_numpy(y)
    layers = []
    for n_in, n_out in itertools.pairwise(widths):
        layers += [torch.nn.Linear(n_in, n_out), torch.nn.ReLU()]
    net = torch.nn.Sequential(*layers[:-1])
    optimizer = torch.optim.Adam(net.parameters(), weight_decay=1e-4)
    for _ in range(epochs):
        order = torch.randperm(len(X))
        for start in range(0, len(X), batch_size):
            index = order[start : start + batch_size]
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(X[index]), y[index]).backward()
            optimizer.step()


def interleaved(contenders, repeats, rest=0.0):
    """Seconds of each contender, (repeats,) arrays, after one warm-up round; ``rest``
    seconds pass before each.
    """
    times = {name: [] for name in contenders}
    for repeat in range(repeats + 1):
        for name, run in contenders.items():
            time.sleep(rest)
            start = time.perf_counter()
            run()
            if repeat:
                times[name].append(time.perf_counter() - start)
    return {name: np.array(seconds) for name, seconds in times.items()}


def rbm_contenders(n_visible, n_hidden, batch_size, rows, epochs):
    rng = np.random.default_rng(0)
    X = (rng.random((rows, n_visible)) < 0.3).astype(np.float32)
    W = rng.normal(0, 0.01, (n_visible, n_hidden)).astype(np.float32)
    common = {"batch_size": batch_size, "random_state": 0}
    contenders = {
        "ours": lambda: StackedRBMTransformer(
            (n_hidden,), max_iter=epochs, **common
        ).fit(X),
        "sklearn": lambda: BernoulliRBM(n_hidden, n_iter=epochs, **common).fit(X),
        "floor": lambda: rbm_products(X, W, batch_size, epochs),
    }
    if torch is not None:
        contenders["torch"] = lambda: torch_rbm(X, n_hidden, batch_size, epochs)
    return contenders


def mlp_contenders(widths, batch_size, rows, epochs):
    rng = np.random.default_rng(0)
    X = rng.random((rows, widths[0]), dtype=np.float32)
    y = rng.integers(0, widths[-1], rows)
    W = rng.normal(0, 0.01, widths[:2]).astype(np.float32)
    V = rng.normal(0, 0.01, widths[1:]).astype(np.float32)
    common = {
        "batch_size": batch_size,
        "max_iter": epochs,
        "n_iter_no_change": np.inf,
        "random_state": 0,
    }
    hidden = widths[1:-1]
    contenders = {
        "ours": lambda: GreedyPretrainedMLPClassifier(
            hidden, pretrainer=None, **common
        ).fit(X, y),
        "sklearn": lambda: MLPClassifier(hidden, **common).fit(X, y),
        "floor": lambda: mlp_products(X, W, V, batch_size, epochs),
    }
    if torch is not None:
        contenders["torch"] = lambda: torch_mlp(X, y, widths, batch_size, epochs)
    return contenders


def lbfgs_line(repeats):
    """Whole fits of the full-batch solver, which has no mini-batches to count."""
    widths, rows, iterations = LBFGS_CASE
    rng = np.random.default_rng(0)
    X, y = rng.random((rows, widths[0])), rng.integers(0, widths[-1], rows)
    hidden = widths[1:-1]
    common = {"solver": "lbfgs", "max_iter": iterations, "random_state": 0}
    contenders = {
        "ours": lambda: GreedyPretrainedMLPClassifier(
            hidden, pretrainer=None, **common
        ).fit(X, y),
        "sklearn": lambda: MLPClassifier(hidden, **common).fit(X, y),
    }
    seconds = interleaved(contenders, repeats)
    return (
        f"L-BFGS {'-'.join(map(str, widths))}, {rows} rows, {iterations} iterations in "
        f"float64: {np.median(seconds['ours']):.2f} s, {speed_up(seconds, 'sklearn')} "
        "beside scikit-learn (asked: not slower)."
    )


def autoencoder_contenders(n_visible, n_hidden, batch_size, rows, epochs):
    rng = np.random.default_rng(0)
    X = rng.random((rows, n_visible), dtype=np.float32)
    W = rng.normal(0, 0.01, (n_visible, n_hidden)).astype(np.float32)
    contenders = {
        "ours": lambda: StackedAutoencoderTransformer(
            (n_hidden,),
            activation="relu",
            corruption="masking",
            corruption_level=0.25,
            tied_weights=True,
            batch_size=batch_size,
            max_iter=epochs,
            random_state=0,
        ).fit(X),
        "floor": lambda: autoencoder_products(X, W, batch_size, epochs),
    }
    if torch is not None:
        contenders["torch"] = lambda: torch_autoencoder(X, n_hidden, batch_size, epochs)
    return contenders


def speed_up(seconds, peer):
    """How many times sooner we are, with quartiles; "-" without that peer."""
    if peer not in seconds:
        return "-"
    ratio = seconds[peer] / seconds["ours"]
    low, high = np.quantile(ratio, [0.25, 0.75])
    return f"{np.median(ratio):.1f}x ({low:.1f}-{high:.1f})"


def row(label, seconds, rows, batch_size, epochs, least):
    """A line of the Markdown table: microseconds per mini-batch and ratios."""
    batches = epochs * -(-rows // batch_size)
    micro = np.median(seconds["ours"]) / batches * 1e6
    floor = np.median(seconds["floor"] / seconds["ours"])
    return (
        f"| {label}, batch {batch_size} | {micro:.0f} | {speed_up(seconds, 'sklearn')} "
        f"| {speed_up(seconds, 'torch')} | {least} | {floor:.0%} |"
    )


def all_cases():
    """Yield (label, contenders, case) with what was asked as text."""
    for *sizes, least in RBM_CASES:
        case = *sizes, f"scikit-learn {least:g}x"
        yield f"CD-1 {sizes[0]}-{sizes[1]}", rbm_contenders(*sizes), case
    for *sizes, least in MLP_CASES:
        case = *sizes, f"scikit-learn {least:g}x"
        label = "Adam " + "-".join(map(str, sizes[0]))
        yield label, mlp_contenders(*sizes), case
    for *sizes, least in AUTOENCODER_CASES:
        label = f"denoising, tied, {sizes[0]}-{sizes[1]}"
        yield label, autoencoder_contenders(*sizes), (*sizes, f"torch {least:g}x")


class WithoutCallbacks(StackedRBMTransformer):
    """The same stack with nothing behind its calls of callbacks."""

    def _init_callback_context(self, **options):
        return NoCallbackContext()


def callback_line(repeats):
    """What the calls of callbacks cost where none is set, in percent of the time of
    small epochs.
    """
    X = np.random.default_rng(0).random((CALLBACK_ROWS, 64), dtype=np.float32)
    params = {"max_iter": 50, "batch_size": 100, "random_state": 0}
    contenders = {
        "with": lambda: StackedRBMTransformer((64,), **params).fit(X),
        "without": lambda: WithoutCallbacks((64,), **params).fit(X),
    }
    seconds = interleaved(contenders, 5 * repeats)
    shares = 100 * (seconds["with"] / seconds["without"] - 1)
    low, middle, high = np.percentile(shares, (25, 50, 75))
    return (
        f"Calls of callbacks where none is set, fits of 50 epochs of {CALLBACK_ROWS} "
        f"rows: {middle:+.1f}% of the time ({low:+.1f} to {high:+.1f}; asked: "
        "below 1%)."
    )


def peer_likelihood(peer, test):
    """Exact mean log-likelihood of a BernoulliRBM."""
    blocks = np.array([[0, test.shape[1], 1, 1]])
    parts = peer.components_.T, peer.intercept_hidden_, peer.intercept_visible_
    rbm = RBM(*(part.astype(float) for part in parts), blocks)
    return float(-rbm.free_energy(test).mean() - exact_log_z(rbm))


def quality_lines(folder, repeats):
    """Seconds to the likelihood that BernoulliRBM has after 50 epochs at its best
    learning rate, on adult with 23 hidden units; ours with default parameters but for
    centering.
    """
    parts = binary_set(folder, "adult")
    train, test = parts["train"], parts["test"].astype(float)
    peers = [
        BernoulliRBM(23, learning_rate=rate, n_iter=50, random_state=0).fit(train)
        for rate in (0.01, 0.03, 0.1)
    ]
    reached = [peer_likelihood(peer, test) for peer in peers]
    peer, goal = peers[int(np.argmax(reached))], max(reached)
    for epochs in range(1, 51):
        ours = StackedRBMTransformer(
            (23,), visible="bernoulli", centered=True, max_iter=epochs, random_state=0
        ).fit(train)
        found = float(ours.log_likelihood(test).mean())
        if found > goal:
            break
    seconds = interleaved(
        {"ours": lambda: ours.fit(train), "sklearn": lambda: peer.fit(train)}, repeats
    )
    ratio = np.median(seconds["sklearn"] / seconds["ours"])
    return [
        "| time to quality, adult, 23 hidden, exact | test log-likelihood | epochs "
        "| seconds |",
        "|---|---|---|---|",
        f"| BernoulliRBM, learning rate {peer.learning_rate:g} | {goal:.2f} | 50 | "
        f"{np.median(seconds['sklearn']):.3f} |",
        f"| StackedRBMTransformer, {ratio:.0f}x sooner (at least 20x) | {found:.2f} | "
        f"{epochs} | {np.median(seconds['ours']):.3f} |",
    ]


def environment(threads):
    versions = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "scikit-learn": sklearn.__version__,
        "numba": numba.__version__,
        "torch": "not installed" if torch is None else torch.__version__,
    }
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    today = datetime.date.today().isoformat()
    return (
        f"{today}; float32, {threads} BLAS thread(s) of {os.cpu_count()} cores; {named}"
    )


def main():
    options = options_of(
        __doc__,
        ("--repeats", {"type": int, "default": 7}),
        ("--threads", {"type": int, "default": 1}),
        ("--record", {"default": "speed", "help": "name under results/"}),
    )
    warnings.simplefilter("ignore")
    lines = [environment(options.threads), ""]
    lines += [
        "| fit | us per mini-batch | vs scikit-learn (quartiles) | vs torch | asked "
        "| share of GEMM floor |",
        "|---|---|---|---|---|---|",
    ]
    if torch is not None:
        torch.set_num_threads(options.threads)
    with threadpool_limits(options.threads):
        for label, contenders, case in all_cases():
            *_, batch_size, rows, epochs, least = case
            seconds = interleaved(contenders, options.repeats)
            lines.append(row(label, seconds, rows, batch_size, epochs, least))
            print(lines[-1], flush=True)
        lines += ["", lbfgs_line(options.repeats)]
        lines += ["", callback_line(options.repeats)]
        if (options.data / "bin_adult.npz").exists():
            lines += ["", *quality_lines(options.data, options.repeats)]
    publish(options.record, lines, options.write)


if __name__ == "__main__":
    main()
