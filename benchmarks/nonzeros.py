"""Sums over non-zeros beside dense products: the break-even, and whole fits.

    python benchmarks/nonzeros.py [--repeats 7] [--data DIR] [--write] [--record NAME]

The first table is the time of a dense product (forward and gradient, in the BLAS that
the kernels use) over that of sums over the non-zeros alone, by their share: the kernels
take the sums up to SPARSE_SHARE. The second is whole RBM fits of CSR rows, warm and
interleaved in one process, beside the same kernels compiled without the sums and beside
BernoulliRBM. DIR holds ``text_pcmac.npz`` and ``bin_adult.npz``.
"""

import importlib.util
import os
import warnings

import numba
import numpy as np
from common import binary_set, options_of, publish, stamp, versions
from scipy import sparse
from sklearn.neural_network import BernoulliRBM
from speed import interleaved, speed_up
from threadpoolctl import threadpool_limits

from sklearn_greedy import StackedRBMTransformer, _contrastive, _kernels
from sklearn_greedy._threads import ALONE

# rows, columns, columns of the weights
SHAPES = [(100, 3289, 256), (100, 784, 500), (100, 123, 256), (32, 123, 128)]
SHARES = (0.01, 0.03, 0.05, 0.08, 0.12, 0.15, 0.2)
N_HIDDEN, BATCH_SIZE, EPOCHS = 256, 100, 5
# Data, dtype of the rows, and whether the RBM is centered, which BernoulliRBM is not.
# scikit-learn's encoders and vectorizers give float64, in which it then works.
FITS = [
    ("pcmac", np.float32, False),
    ("pcmac", np.float32, True),
    ("pcmac", np.float64, False),
    ("adult", np.float32, False),
    ("adult", np.float64, False),
]


def kernels_with(share):
    """The same kernels, compiled to take sums over non-zeros up to another share."""
    path, cache = _kernels.__file__, "SKLEARN_GREEDY_NUMBA_CACHE"
    before = os.environ.get(cache)
    os.environ[cache] = "0"  # or the cache of the others would be taken
    try:
        spec = importlib.util.spec_from_file_location("other_kernels", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        os.environ.pop(cache)
        if before is not None:
            os.environ[cache] = before
    module.SPARSE_SHARE = share
    return module


def products_of(kernels):
    """Product and outer product of a module of kernels as functions that Python may
    call: by sums over what is not 0, and dense.
    """
    product, outer_product = kernels.product, kernels.outer_product
    matmul, as_it_is, turned = kernels.matmul, kernels.AS_IT_IS, kernels.TURNED

    @numba.njit
    def listed(a, w, d, out, grad, lists, team):
        product(a, w, out, lists, team)
        outer_product(a, d, grad, lists, team)

    @numba.njit
    def dense(a, w, d, out, grad, lists, team):
        matmul(a, w, as_it_is, as_it_is, out, team)
        matmul(a, d, turned, as_it_is, grad, team)

    return listed, dense


def break_even(repeats):
    """Lines of the first table."""
    rng = np.random.default_rng(0)
    kernels = kernels_with(1.0)
    listed, dense = products_of(kernels)
    lines = [
        "| product | " + " | ".join(f"{share:.0%}" for share in SHARES) + " |",
        "|---" * (len(SHARES) + 1) + "|",
    ]
    for m, k, n in SHAPES:
        w, d = rng.normal(size=(k, n)), rng.normal(size=(m, n))
        w, d = w.astype(np.float32), d.astype(np.float32)
        out, grad = np.empty((m, n), np.float32), np.empty((k, n), np.float32)
        cells = []
        for share in SHARES:
            a = (rng.random((m, k)) < share).astype(np.float32)
            lists = kernels.room_for_lists(m, [(k, n)])
            given = a, w, d, out, grad, lists, ALONE
            contenders = {
                "ours": lambda given=given: listed(*given),
                "dense": lambda given=given: dense(*given),
            }
            seconds = interleaved(contenders, 10 * repeats)
            cells.append(f"{np.median(seconds['dense'] / seconds['ours']):.2f}x")
        lines.append(f"| {m} x {k} by {n} | " + " | ".join(cells) + " |")
    return lines


def sparse_rows(folder, name):
    """CSR rows of zeros and ones."""
    if name == "adult":
        return sparse.csr_matrix(binary_set(folder, "adult")["train"])
    with np.load(folder / "text_pcmac.npz", allow_pickle=False) as z:
        ones = np.ones(len(z["data"]), np.float32)
        parts = ones, z["indices"].astype(np.int32), z["indptr"]
        return sparse.csr_matrix(parts, shape=tuple(z["shape"]))


def fits(X, centered, dense):
    """Whole fits of one layer."""
    common = {"batch_size": BATCH_SIZE, "random_state": 0}
    stack = StackedRBMTransformer(
        (N_HIDDEN,), max_iter=EPOCHS, centered=centered, **common
    )
    peer = BernoulliRBM(N_HIDDEN, n_iter=EPOCHS, **common)

    def ours(kernels):
        original = _contrastive.kernels
        _contrastive.kernels = lambda: kernels
        try:
            stack.fit(X)
        finally:
            _contrastive.kernels = original

    contenders = {"ours": lambda: ours(_kernels), "dense": lambda: ours(dense)}
    return contenders if centered else {**contenders, "sklearn": lambda: peer.fit(X)}


def main():
    options = options_of(
        __doc__,
        ("--repeats", {"type": int, "default": 7}),
        ("--record", {"default": "nonzeros", "help": "name under results/"}),
    )
    warnings.simplefilter("ignore")
    lines = [
        f"{stamp(versions())}; kernels in float32, one BLAS thread; from "
        f"`python benchmarks/nonzeros.py --write --record {options.record}`.",
        "",
    ]
    dense = kernels_with(0.0)
    with threadpool_limits(1):
        lines += [*break_even(options.repeats), ""]
        lines += [
            "| RBM fit | share of ones | beside dense products | beside BernoulliRBM |",
            "|---|---|---|---|",
        ]
        for name, dtype, centered in FITS:
            X = sparse_rows(options.data, name).astype(dtype)
            seconds = interleaved(fits(X, centered, dense), options.repeats)
            kind = ", centered" if centered else ""
            kind += ", rows in float64" if dtype == np.float64 else ""
            lines.append(
                f"| {name}, {X.shape[1]}-{N_HIDDEN}, batch {BATCH_SIZE}{kind} "
                f"| {X.nnz / np.prod(X.shape):.1%} | {speed_up(seconds, 'dense')} "
                f"| {speed_up(seconds, 'sklearn')} |"
            )
    publish(options.record, lines, options.write)


if __name__ == "__main__":
    main()
