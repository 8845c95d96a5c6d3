"""The compiled kernels against their plain-NumPy twins, and their contracts.

``check_twin`` runs a kernel and its twin on equal copies of the arguments and compares
what they return and every array afterwards: outputs, workspaces and untouched inputs.
Workspaces start as NaN, so that a kernel that reads one before writing it fails.
"""

import ast
import gc
import inspect
import itertools
import os
import subprocess
import sys
import threading
import time
from contextlib import nullcontext

import numba
import numpy as np
import pytest
import reference
from numba.core.registry import CPUDispatcher
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit, logsumexp, ndtri, softmax, xlogy
from scipy.stats import chi2, poisson
from tools import (
    kernels,
    lists_for,
    no_list,
    rbm_constants,
    solver_constants,
    traits_of,
)

from sklearn_greedy import _backpropagation, _kernels, _network, _units
from sklearn_greedy._kernels import (
    ADAM,
    BERNOULLI,
    ELU,
    GAUSSIAN,
    GAUSSIAN_NOISE,
    IDENTITY,
    LOGISTIC,
    MASKING,
    NESTEROV,
    NO_CORRUPTION,
    POISSON,
    RELU,
    SALT_AND_PEPPER,
    SGD,
    SOFTMAX,
    SOFTPLUS,
    SWAP,
    TANH,
    flat,
    matrix_at,
    rows_at,
    vector_at,
)
from sklearn_greedy._network import Network
from sklearn_greedy._threads import ALONE
from sklearn_greedy._units import output_blocks

SOURCE = inspect.getsource(_kernels)
DISPATCHERS = {
    name: value for name, value in vars(_kernels).items() if hasattr(value, "py_func")
}
DTYPES = [np.float32, np.float64]
NAMES_OF_ACTIVATIONS = ["logistic", "tanh", "relu", "identity", "softplus", "elu"]
ACTIVATIONS = [LOGISTIC, TANH, RELU, IDENTITY, SOFTPLUS, ELU]
CORRUPTIONS = [MASKING, GAUSSIAN_NOISE, SALT_AND_PEPPER, SWAP]
# Largest difference from the twin, relative to the largest entry of an array.
TOLERANCE = {np.float32: 3e-6, np.float64: 1e-13}
# The main loop of a vectorised kernel takes 4 to 64 elements, the rest come one by one.
SIZES = [0, 1, 3, 8, 15, 16, 17, 33, 64, 100]
KEYS = np.uint32(0x12345678), np.uint32(0x9ABCDEF0)


@pytest.mark.parametrize("module", [_network, _units, _backpropagation])
def test_numbers_of_kinds_and_columns_are_those_of_the_kernels(module):
    """They stand twice, since a cached kernel would not notice a change elsewhere."""
    both = vars(module).keys() & vars(_kernels).keys()
    numbers = {name for name in both if isinstance(vars(_kernels)[name], int)}
    assert numbers
    for name in numbers:
        assert vars(module)[name] == vars(_kernels)[name], name


def test_names_of_kinds_are_in_the_order_of_the_kernels():
    for names in (_network.ACTIVATIONS, _units.KINDS, _backpropagation.SOLVERS):
        numbers = [vars(_kernels)[name.upper()] for name in names]
        assert numbers == list(range(len(names)))


def copies_of(arguments):
    return [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]


def assert_close(actual, expected, tolerance, name=""):
    expected = np.asarray(expected, dtype=np.float64)
    finite = expected[np.isfinite(expected)]
    scale = max(1.0, np.abs(finite).max(initial=0.0))
    assert_allclose(actual, expected, rtol=0, atol=tolerance * scale, err_msg=name)


def check_twin(name, *arguments, tolerance=None):
    """Run kernel and twin; the kernel's result and its arguments afterwards."""
    ours, theirs = copies_of(arguments), copies_of(arguments)
    result = getattr(kernels, name)(*ours)
    expected = getattr(reference, name)(*theirs)
    dtype = next(a.dtype.type for a in arguments if np.asarray(a).dtype.kind == "f")
    tolerance = TOLERANCE[dtype] if tolerance is None else tolerance
    if expected is None:
        assert result is None
    else:
        assert_close(result, expected, tolerance, "returned value")
    for parameter, ours_, theirs_ in zip(
        inspect.signature(getattr(reference, name)).parameters,
        ours,
        theirs,
        strict=True,
    ):
        if isinstance(ours_, np.ndarray) and parameter != "lists":  # of no use after
            assert_close(ours_, theirs_, tolerance, f"{name}: {parameter}")
    return result, ours


def each(kernel, values, *more):
    """A scalar kernel, called from Python on each value."""
    return np.array([kernel(value, *more) for value in values])


def unwritten(size, dtype):
    return np.full(size, np.nan, dtype=dtype)


def list_of(a):
    """starts and places of all elements that are not 0."""
    return np.array([0, *np.cumsum(np.count_nonzero(a, axis=1))]), np.nonzero(a)[1]


# --- policy --------------------------------------------------------------------


def test_every_kernel_has_a_twin_of_the_same_signature():
    assert len(DISPATCHERS) > 30
    for name, dispatcher in DISPATCHERS.items():
        twin = getattr(reference, name)
        ours = list(inspect.signature(dispatcher.py_func).parameters)
        assert list(inspect.signature(twin).parameters) == ours, name


def test_no_twin_without_a_kernel():
    public = {
        name
        for name, value in vars(reference).items()
        if getattr(value, "__module__", "") == reference.__name__
        and not name.startswith("_")
    }
    assert public == set(DISPATCHERS)


def test_every_kernel_is_compared_here():
    """A new kernel must be named in this file: by check_twin or as ``kernels.name``."""
    tree = ast.parse(inspect.getsource(inspect.getmodule(check_twin)))
    named = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    named |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert set(DISPATCHERS) <= named


@pytest.mark.parametrize("name", DISPATCHERS)
def test_compiler_options(name):
    """An option left out is inherited from the caller that compiles first, and a
    fastmath version then reaches all callers; NaN must never be assumed away.
    """
    options = DISPATCHERS[name].targetoptions
    assert options["nogil"] is True
    assert options["nopython"] is True
    assert options["error_model"] == "numpy"
    assert not options.get("parallel", False)
    assert options["_nrt"] is False  # nothing is allocated, or it does not compile
    fastmath = options["fastmath"]
    assert fastmath is False or (
        isinstance(fastmath, set) and not fastmath & {"nnan", "ninf", "fast", "arcp"}
    )


def test_every_function_of_the_module_is_compiled():
    tree = ast.parse(SOURCE)
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    decorated = [node for node in functions if node.decorator_list]
    operations = {node.name for node in decorated if "_operation" in ast.dump(node)}
    assert {node.name for node in decorated} - operations == set(DISPATCHERS)
    # What is written in the compiler's own terms, and what writes that.
    views = {"flat", "vector_at", "matrix_at", "rows_at"}
    atomic = {"atomic_load", "atomic_add", "atomic_store"}
    of_bits = {"nonzero_bits", "lowest_bit"}
    assert operations == {*views, *atomic, *of_bits, "blas_gemm", "blas_gemv"}
    others = {node.name for node in functions} - {node.name for node in decorated}
    wrappers = {"_jit", "_dispatcher", "_operation", "_by_type"}
    places = {"_view", "_address", "_check_bounds"}
    blas = {"_call_blas", "_pointers", "_blas_number", "_by_size"}
    assert others == wrappers | places | blas | {"room_for_lists"}


@pytest.mark.skipif(not _kernels.COMPILED, reason="plain functions may be called")
def test_kernels_for_kernels_alone_refuse_calls_from_python():
    """They have no wrapper for these: without the refusal the process would end."""
    inner = {n for n, k in DISPATCHERS.items() if isinstance(k, _kernels.Inner)}
    slices = {"cd_slice", "backprop_slice", "ais_slice"}
    others = {"loss_gradient", "stream_keys", "corrupt", "assist"}
    assert set(DISPATCHERS) - inner == slices | others
    with pytest.raises(TypeError, match="exp32 is for other kernels alone"):
        _kernels.exp32(np.float32(1))


@pytest.mark.skipif(not _kernels.COMPILED, reason="nothing compiles")
@pytest.mark.parametrize("first", [700, 1_000_000, 0], ids=["often", "seldom", "off"])
@pytest.mark.parametrize("fails", [False, True])
def test_garbage_is_collected_seldom_while_compiling(first, fails, monkeypatch):
    """Often is a tenth of the time. Afterwards all is as it was."""
    before = gc.get_threshold()
    during = []

    def compile_nothing(self, signature):
        during.append(gc.get_threshold())
        if fails:
            raise ValueError("no such signature")

    monkeypatch.setattr(CPUDispatcher, "compile", compile_nothing)
    try:
        gc.set_threshold(first, 9, 8)
        with pytest.raises(ValueError, match="no such") if fails else nullcontext():
            _kernels.stream_keys.compile(())
        after = gc.get_threshold()
    finally:
        gc.set_threshold(*before)
    assert after == (first, 9, 8)
    seldom = {700: 100_000, 1_000_000: 1_000_000, 0: 0}
    assert during == [(seldom[first], 9, 8)]


# --- views ---------------------------------------------------------------------


VIEWS = {
    "flat": (lambda a: flat(a), lambda a: a.reshape(-1)),
    "vector": (lambda a: vector_at(a, 5, 6), lambda a: a.reshape(-1)[5:11]),
    "no vector": (lambda a: vector_at(a, 12, 0), lambda a: a.reshape(-1)[12:]),
    "matrix": (
        lambda a: matrix_at(a, 2, 5, 2),
        lambda a: a.reshape(-1)[2:].reshape(5, 2),
    ),
    "rows": (lambda a: rows_at(a, 1, 2), lambda a: a[1:]),
    "no rows": (lambda a: rows_at(a, 3, 0), lambda a: a[3:]),
}


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("writeable", [True, False])
def test_views_are_those_of_numpy(name, dtype, writeable):
    """The same elements of the same memory, read-only where that is."""
    compiled, plain = VIEWS[name]
    a = np.arange(12, dtype=dtype).reshape(3, 4)
    a.flags.writeable = writeable
    view, expected = numba.njit(compiled)(a), plain(a)
    assert_array_equal(view, expected)
    assert view.dtype == dtype
    assert view.shape == expected.shape
    assert view.strides == expected.strides or view.size == 0
    assert view.flags.writeable == writeable
    assert view.size == 0 or np.shares_memory(view, a)


@pytest.mark.skipif(not _kernels.COMPILED, reason="NumPy copies such an array")
@pytest.mark.parametrize("name", VIEWS)
def test_views_of_arrays_that_are_not_contiguous_are_not_compiled(name):
    with pytest.raises(numba.TypingError, match="a view is of a C-contiguous array"):
        numba.njit(VIEWS[name][0])(np.zeros((3, 8))[:, ::2])


def test_views_of_vectors_keep_them_alive():
    """A view counts as a user of the memory that it shows."""

    @numba.njit
    def last():
        return vector_at(np.arange(1000), 990, 10)

    views = [last() for _ in range(100)]
    for view in views:
        assert_array_equal(view, np.arange(990, 1000))


@pytest.mark.parametrize("setting", ["NUMBA_BOUNDSCHECK", "NUMBA_DISABLE_JIT"])
def test_views_beyond_an_array_are_found_where_bounds_are_checked(setting):
    code = """
import numba, numpy as np
from sklearn_greedy._kernels import matrix_at, nonzero_bits, rows_at, vector_at
for beyond in (
    lambda a: vector_at(a, 44, 5),
    lambda a: vector_at(a, -1, 5),
    lambda a: matrix_at(a, 0, 17, 3),
    lambda a: rows_at(a, 2, 2),
    lambda a: nonzero_bits(a[0], 1),
    lambda a: nonzero_bits(a[0], -1),
):
    try:
        numba.njit(beyond)(np.arange(12.0).reshape(3, 4).repeat(4, axis=1))
    except (IndexError, ValueError):
        print("found")
"""
    run = [sys.executable, "-c", code]
    environment = {**os.environ, setting: "1"}
    done = subprocess.run(run, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["found"] * 6, done.stderr


def test_source_draws_no_numpy_random_numbers():
    """The state of np.random inside compiled code is another one, per thread."""
    tree = ast.parse(SOURCE)
    attributes = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    assert not attributes & {"random", "prange", "default_rng", "RandomState"}


def test_source_imports_nothing_of_the_package():
    """Numba's disk cache does not notice an edited callee in another file."""
    imported = set()
    for node in ast.walk(ast.parse(SOURCE)):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(node.module)
    packages = {name.split(".")[0] for name in imported}
    standard = {"functools", "gc", "math", "os", "typing"}
    assert packages == {*standard, "numba", "llvmlite", "numpy"}


# --- random numbers ------------------------------------------------------------


def some_bits():
    special = [0, 1, 255, 256, 2**31 - 1, 2**31, 2**32 - 256, 2**32 - 1]
    drawn = np.random.default_rng(5).integers(2**32, size=5000)
    return np.concatenate([special, drawn]).astype(np.uint32)


def test_scramble_and_random_bits_are_bit_identical():
    bits = some_bits()
    assert_array_equal(each(kernels.scramble, bits), reference.scramble(bits))
    assert_array_equal(
        each(kernels.random_bits, bits, *KEYS), reference.random_bits(bits, *KEYS)
    )


@pytest.mark.parametrize("seed", [(0, 0), (2**32 - 1, 1), (123456789, 2**31)])
def test_stream_keys_are_bit_identical(seed):
    seed = np.array(seed, dtype=np.uint32)
    for step in (0, 1, 2, 1000, 2**31, 2**32 - 1):
        for phase in (0, 1, 2, 7, 100):
            expected = reference.stream_keys(seed, step, phase)
            assert kernels.stream_keys(seed, step, phase) == tuple(map(int, expected))


def test_uniform_and_normal_numbers_are_bit_identical():
    bits = some_bits()
    for name in ("uniform_number", "normal_number"):
        ours = each(getattr(kernels, name), bits).astype(np.float32)
        assert_array_equal(ours, getattr(reference, name)(bits), err_msg=name)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("counter", [0, 1, 1000, 2**32 - 7])
def test_samples_are_bit_identical(dtype, counter, rng):
    """Also where the counter wraps around."""
    for size in SIZES:
        values = rng.random(size).astype(dtype)
        check_twin("sample_bernoulli", values, counter, *KEYS, tolerance=0)
        check_twin("add_normal", values, dtype(0.3), counter, *KEYS, tolerance=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_corruption_is_bit_identical(dtype, corruption, rng):
    for shape in [(1, 1), (1, 7), (2, 5), (9, 33)]:
        rows = rng.normal(size=shape).astype(dtype)
        units = np.arange(shape[1])
        units[2:5] = min(2, shape[1] - 1)
        limits = np.stack([rows.min(axis=0), rows.max(axis=0)]).astype(np.float32)
        for level in (0.3, 1.0):
            arguments = [corruption, level, units, limits, *KEYS]
            noisy = unwritten(shape, dtype)
            check_twin("corrupt", rows, noisy, *arguments, tolerance=0)
            check_twin("weigh_cells", noisy, np.array([level, 1.7]), units, *KEYS)
            check_twin("draw_cells", noisy, units, *KEYS, tolerance=0)


@pytest.mark.parametrize("corruption", [MASKING, SALT_AND_PEPPER, SWAP])
@pytest.mark.parametrize("level", [0.1, 0.5, 0.9, 1.0])
def test_corruption_level_is_the_share_of_changed_cells(corruption, level):
    """Cells hold their own numbers, so that each change shows."""
    rows = 1 + np.arange(100_000, dtype=np.float32).reshape(500, 200)
    noisy, limits = rows.copy(), np.float32([[-1] * 200, [-2] * 200])
    kernels.corrupt(rows, noisy, corruption, level, np.arange(200), limits, *KEYS)
    changed = noisy != rows
    deviation = np.sqrt(level * (1 - level) / rows.size)
    assert abs(changed.mean() - level) <= 4.5 * deviation
    weights = np.empty_like(rows)
    noise = np.array([level, 1.5])
    kernels.weigh_cells(weights, noise, np.arange(200), *KEYS)
    assert_array_equal(weights, np.where(changed, 1.5, 0.5))
    if corruption == SALT_AND_PEPPER:
        low = np.mean(noisy[changed] == -1)
        assert abs(low - 0.5) <= 4.5 * 0.5 / np.sqrt(changed.sum())


def test_swapped_cells_come_from_every_other_row_of_their_column():
    m, n = 5, 20_000
    rows = np.repeat(np.arange(m, dtype=np.float32)[:, None], n, axis=1)
    noisy, limits = rows.copy(), np.zeros((2, n), np.float32)
    kernels.corrupt(rows, noisy, SWAP, 0.5, np.arange(n), limits, *KEYS)
    for r in range(m):
        counts = np.bincount(noisy[r].astype(int), minlength=m)
        others = np.delete(counts, r)
        assert chi2.sf(((others - others.mean()) ** 2 / others.mean()).sum(), 3) > 1e-4
        assert abs(counts[r] / n - 0.5) < 0.02


@pytest.mark.parametrize("corruption", [MASKING, SALT_AND_PEPPER, SWAP])
def test_a_group_of_columns_is_corrupted_as_a_whole(corruption, rng):
    rows = np.eye(4, dtype=np.float32)[rng.integers(0, 4, 400)]
    rows = np.hstack([rows, rows])
    units = np.repeat([0, 4], 4)
    limits = np.float32([[0] * 8, [1] * 8])
    noisy = np.empty_like(rows)
    kernels.corrupt(rows, noisy, corruption, 0.5, units, limits, *KEYS)
    sums = {tuple(part.sum(axis=1)) for part in (noisy[:, :4], noisy[:, 4:])}
    allowed = {MASKING: {0, 1}, SALT_AND_PEPPER: {0, 1, 4}, SWAP: {1}}[corruption]
    assert {value for part in sums for value in part} == allowed


def test_certain_probabilities_give_certain_samples():
    p = np.repeat(np.float32([0, 1]), 100_000)
    samples = p.copy()
    kernels.sample_bernoulli(samples, 0, *KEYS)
    assert_array_equal(samples, p)


def test_draws_at_the_edge_of_their_probability():
    """What a random row meets once in ten million draws."""
    bits = each(kernels.random_bits, np.arange(50, dtype=np.uint32), *KEYS)
    uniform = each(kernels.uniform_number, bits.astype(np.uint32)).astype(np.float32)
    for p, on in ((uniform, 0), (np.nextafter(uniform, np.float32(1)), 1)):
        drawn = p.copy()
        kernels.sample_bernoulli(drawn, 0, *KEYS)
        assert_array_equal(drawn, on)
    for counter, u in enumerate(uniform):
        # On the border the next class is drawn, and the last one for lack of any.
        for p, drawn in (([u, 1 - u], [0, 1]), ([u / 2, u / 4, 0], [0, 0, 1])):
            group = np.array(p, np.float32)
            kernels.sample_softmax(group, counter, *KEYS)
            assert_array_equal(group, drawn)


# --- elementary functions ------------------------------------------------------


def test_exp_is_accurate():
    x = np.linspace(-87.29, 88.29, 40_001).astype(np.float32)
    exact = np.exp(x.astype(np.float64))
    assert np.abs(each(kernels.exp32, x) / exact - 1).max() < 1.5e-7
    assert_allclose(reference.exp32(x), exact, rtol=1e-7)


def test_exp_is_held_at_both_ends():
    x = np.float32([-np.inf, -1e30, -88, 89, 1e30, np.inf, np.nan])
    low, high = np.exp(-87.3), np.exp(88.3)
    expected = [low, low, low, high, high, high, np.nan]
    assert_allclose(each(kernels.exp32, x), expected, rtol=1e-5)


def test_exp_is_exact_where_it_can_be():
    assert kernels.exp32(np.float32(0)) == 1.0


def test_log_is_accurate():
    grid = np.linspace(-87, 88, 20_001)
    near_one = 1 + np.linspace(-0.3, 0.4, 20_001)
    x = np.concatenate([np.exp(grid), near_one]).astype(np.float32)
    ours, exact = each(kernels.log32, x), np.log(x.astype(np.float64))
    assert np.abs(ours - exact).max() <= 1e-7 * np.abs(exact).max()
    close = np.abs(exact) > 0
    assert np.abs(ours[close] / exact[close] - 1).max() < 1.5e-7
    assert kernels.log32(np.float32(1)) == 0.0


def test_log_is_bit_identical_to_its_twin():
    x = np.exp(np.linspace(-87, 88, 5001)).astype(np.float32)
    ours = each(kernels.log32, x).astype(np.float32)
    assert_array_equal(ours, reference.log32(x))


def test_normal_number_is_accurate():
    """Against the exact quantile at the middle of each of the 2**24 cells."""
    k = np.unique(np.concatenate([np.arange(5000), np.arange(0, 2**23, 1009)]))
    k = np.concatenate([k, 2**24 - 1 - k])
    bits = (k << 8).astype(np.uint32)
    exact = ndtri((k + 0.5) / 2**24)
    # Near 1 the argument of ndtri is rounded: mirror the upper half.
    upper = k >= 2**23
    exact[upper] = -ndtri((2**24 - 1 - k[upper] + 0.5) / 2**24)
    ours = each(kernels.normal_number, bits)
    assert np.abs(ours / exact - 1).max() < 1e-6
    assert np.abs(ours).max() < 5.6


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation_equals_its_twin(dtype, activation, rng):
    for size in SIZES:
        z = (10 * rng.normal(size=size)).astype(dtype)
        check_twin("activate", z, activation)
        a = z.copy()
        kernels.activate(a, activation)
        check_twin("multiply_derivative", z, a, activation)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation_does_not_depend_on_the_place_in_the_array(dtype, activation, rng):
    """The vectorised loop and its scalar remainder round alike: rows come out the
    same in any batch.
    """
    z = (10 * rng.normal(size=131)).astype(dtype)
    whole = z.copy()
    kernels.activate(whole, activation)
    for start, stop in [(0, 1), (1, 8), (5, 22), (64, 131), (130, 131)]:
        part = z[start:stop].copy()
        kernels.activate(part, activation)
        assert_array_equal(part, whole[start:stop])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("activation", "limits"),
    [
        (LOGISTIC, (0, 1)),
        (TANH, (-1, 1)),
        (RELU, (0, np.inf)),
        (IDENTITY, (-np.inf, np.inf)),
        (SOFTPLUS, (0, np.inf)),
        (ELU, (-1, np.inf)),
    ],
)
def test_nan_and_infinity_pass_through_activations(dtype, activation, limits):
    """In the vectorised loop and in its remainder."""
    z = np.tile([np.nan, -np.inf, np.inf], 23).astype(dtype)
    kernels.activate(z, activation)
    assert_allclose(z, np.tile([np.nan, *limits], 23), rtol=0, atol=1e-37)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_nan_passes_through_derivatives(activation):
    delta = np.full(33, np.nan, dtype=np.float32)
    kernels.multiply_derivative(delta, np.full(33, 0.5, np.float32), activation)
    assert np.isnan(delta).all()


def test_logistic_and_tanh_at_extreme_inputs():
    z = np.float32([-3e38, -1e4, -100, -88, 88, 100, 1e4, 3e38, 1e-45, -1e-45, 0])
    for name, function in [("logistic", expit), ("tanh", np.tanh)]:
        a = z.copy()
        kernels.activate(a, LOGISTIC if name == "logistic" else TANH)
        assert_allclose(a, function(z.astype(float)), rtol=0, atol=1e-37, err_msg=name)


@pytest.mark.parametrize("dtype", DTYPES)
def test_small_array_kernels_equal_their_twins(dtype, rng):
    for rows, columns in [(1, 1), (3, 5), (16, 17), (33, 2)]:
        a = rng.normal(size=(rows, columns)).astype(dtype)
        b = rng.normal(size=(rows, columns)).astype(dtype)
        row = rng.normal(size=columns).astype(dtype)
        check_twin("logistic", a.ravel())
        check_twin("add_row", a, dtype(-0.3), row)
        check_twin("column_sums", a, unwritten(columns, dtype))
        check_twin("add_rows", a, dtype(0.3), row)
        check_twin("scale", a.ravel(), dtype(0.3))
        check_twin("squared_distance", a.ravel(), b.ravel())
        check_twin("inner_product", a.ravel(), b.ravel())
        check_twin("slide", row, a, 0.05)
        for numbers in (row, np.full_like(row, 0.3), np.full_like(row, np.nan)):
            check_twin("are_equal", numbers)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["squared_distance", "inner_product", "gaussian_loss"])
def test_reordered_sums_keep_nan_and_infinity(dtype, name):
    for bad in (np.nan, np.inf):
        a, b = np.ones(37, dtype), np.full(37, 2, dtype)
        a[20] = bad
        assert not np.isfinite(getattr(kernels, name)(a, b))


# --- contrastive divergence ----------------------------------------------------

N_VISIBLE, N_HIDDEN = 7, 5
BLOCKS = {
    "bernoulli": [(0, 7, BERNOULLI)],
    "gaussian": [(0, 7, GAUSSIAN)],
    "softmax": [(0, 7, SOFTMAX)],
    "poisson": [(0, 7, POISSON)],
    "mixed": [(0, 3, BERNOULLI), (3, 5, GAUSSIAN), (5, 7, BERNOULLI)],
    "all kinds": [
        (0, 2, SOFTMAX),
        (2, 3, POISSON),
        (3, 4, GAUSSIAN),
        (4, 5, BERNOULLI),
        (5, 7, SOFTMAX),
    ],
}
SAMPLED_KINDS = {
    "mean": [],
    "sampled bernoulli": [BERNOULLI],
    "sampled": [BERNOULLI, GAUSSIAN, SOFTMAX, POISSON],
}
HIDDEN = {
    "bernoulli": kernels.BERNOULLI_HIDDEN,
    "relu": kernels.RELU_HIDDEN,
    "gaussian": kernels.GAUSSIAN_HIDDEN,
}


def block_table(side, sampled=()):
    table = [(*block, int(block[2] in sampled)) for block in BLOCKS[side]]
    return np.array(table, dtype=np.int64)


def visible_rows(side, n_rows, rng, dtype):
    rows = rng.normal(size=(n_rows, N_VISIBLE))
    for start, stop, kind in BLOCKS[side]:
        if kind == BERNOULLI:
            rows[:, start:stop] = rng.random((n_rows, stop - start))
        elif kind == SOFTMAX:
            rows[:, start:stop] = rng.dirichlet(np.ones(stop - start), n_rows)
        elif kind == POISSON:
            rows[:, start:stop] = rng.integers(0, 4, (n_rows, stop - start))
    return rows.astype(dtype)


def rbm_arguments(
    dtype,
    side="mixed",
    sampled="sampled",
    gibbs=1,
    persistent=False,
    sliding=0.01,
    n_rows=23,
    batch_size=5,
    seed=1,
    hidden="bernoulli",
    n_chains=None,
):
    """Arguments of cd_slice by name, with a short last batch; as many persistent chains
    as rows in a batch, but for a number that is given.
    """
    rng = np.random.default_rng(seed)
    size = N_VISIBLE * N_HIDDEN + N_VISIBLE + N_HIDDEN
    if n_chains is None:
        n_chains = batch_size * persistent
    most = max(batch_size, n_chains)
    floats = (batch_size + most) * (N_VISIBLE + N_HIDDEN) + 2 * most * N_HIDDEN
    return {
        "rows": visible_rows(side, n_rows, rng, dtype),
        "batch_size": batch_size,
        "theta": (0.5 * rng.normal(size=size)).astype(dtype),
        "velocity": (0.1 * rng.normal(size=size)).astype(dtype),
        "mu": (rng.random(N_VISIBLE) * (sliding > 0)).astype(dtype),
        "lam": (rng.random(N_HIDDEN) * (sliding > 0)).astype(dtype),
        "chain": (rng.random((n_chains, N_HIDDEN)) < 0.5).astype(dtype),
        "betas": np.ones(1),
        "blocks": block_table(side, SAMPLED_KINDS[sampled]),
        "hidden": HIDDEN[hidden],
        "gibbs": gibbs,
        "hyper": rbm_constants(momentum=0.5, l2=0.01),
        "centered": sliding > 0,
        "sliding": sliding,
        "seed": np.array([11, 22], dtype=np.uint32),
        "step": 6,
        "grad": unwritten(size, dtype),
        "work": unwritten(floats, dtype),
        "lists": lists_for(batch_size + most, (N_VISIBLE, N_HIDDEN)),
        "team": ALONE,
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m", [1, 2, 5, 16, 17])
@pytest.mark.parametrize(("k", "n"), [(3, 40), (40, 3), (32, 33), (9, 5)])
def test_products_equal_their_twins(dtype, m, k, n, rng):
    """On both sides of the number of rows and the row length that decide."""
    a, w = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
    turned = np.ascontiguousarray(w.T)
    check_twin("few_rows_product", a, w, unwritten((m, n), dtype))
    check_twin("few_rows_product_transposed", a, turned, unwritten((m, n), dtype))
    lists = lists_for(m, (k, n))
    check_twin("dense_product", a, w, unwritten((m, n), dtype), ALONE)
    check_twin("product", a, w, unwritten((m, n), dtype), lists, ALONE)
    check_twin("product_transposed", a, turned, unwritten((m, n), dtype), ALONE)
    check_twin("copy", a.ravel(), unwritten(m * k + 2, dtype))
    check_twin("fill", unwritten(m * k, dtype), dtype(2.5))
    d = rng.normal(size=(m, n)).astype(dtype)
    check_twin("outer_product", a, d, unwritten((k, n), dtype), lists, ALONE)


# Shapes (m, k, n) of products that are shared in two parts, of rows and of columns.
LARGE = [(400, 300, 250), (250, 300, 401)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("m", "k", "n"), [(5, 7, 3), (1, 7, 3), (5, 7, 1), (1, 7, 1), *LARGE]
)
@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True)])
def test_product_of_matrices_equals_its_twin(dtype, m, k, n, turned, rng):
    a, w = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
    a = np.ascontiguousarray(a.T) if turned[0] else a
    w = np.ascontiguousarray(w.T) if turned[1] else w
    team, out = np.zeros(kernels.TEAM_SIZE, np.int64), unwritten((m, n), dtype)
    check_twin("matmul", a, w, *turned, out, ALONE)
    kernels.matmul(a, w, *turned, out, team)
    expected = out.copy()
    reference.matmul(a, w, *turned, expected, team)
    assert_close(out, expected, TOLERANCE[dtype])
    assert team[kernels.DONE] == (2 if m > 5 else 0)


def shared_product(dtype, m, k, n, turned, rng):
    """A team with a product that is still to do; its arrays, of which the team has the
    addresses; and the result.
    """
    team = np.zeros(kernels.TEAM_SIZE, np.int64)
    a, w = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
    stored = [x.T.copy() if flip else x for x, flip in zip((a, w), turned, strict=True)]
    out = unwritten((m, n), dtype)
    addresses = [x.ctypes.data for x in (*stored, out)]
    team[kernels.PRODUCT :][:9] = [*addresses, m, k, n, *turned, out.itemsize]
    return team, (*stored, out), a @ w


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(11, 4, 5), (5, 4, 11), (6, 6, 6), (1, 9, 2)])
@pytest.mark.parametrize("turned", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_parts_of_products_equal_their_twins(dtype, shape, turned, rng):
    """Each writes its own part, and all together the whole."""
    team, arrays, expected = shared_product(dtype, *shape, turned, rng)
    out = arrays[-1]
    for part in range(4):
        written = []
        for module in (kernels, reference):
            out[...] = np.nan
            module.multiply_part(team[kernels.PRODUCT :], part, 4)
            written.append(out.copy())
        assert_close(*written, TOLERANCE[dtype])
        expected[np.isfinite(out)] -= out[np.isfinite(out)]
    assert_close(expected, np.zeros(shape[::2]), TOLERANCE[dtype])


@pytest.mark.parametrize("n_taken", [0, 3, 4, 6])
def test_parts_that_are_left_are_taken(n_taken):
    """More may have been asked for than there were."""
    teams = []
    for module in (kernels, reference):
        team, arrays, expected = shared_product(
            np.float64, 9, 4, 7, (0, 0), np.random.default_rng(0)
        )
        out = arrays[-1]
        team[kernels.TAKEN], team[kernels.DONE] = (4 << 16) + n_taken, min(n_taken, 4)
        assert module.take_parts(team) == max(0, 4 - n_taken)
        first = 9 * min(n_taken, 4) // 4
        assert_allclose(out[first:], expected[first:], rtol=1e-12)
        assert np.isnan(out[:first]).all()
        teams.append(team[: kernels.PRODUCT])
    assert_array_equal(*teams)
    assert teams[0][kernels.DONE] == 4


def test_a_helper_takes_parts_until_the_work_is_over(rng):
    team, arrays, expected = shared_product(np.float32, 9, 4, 7, (0, 0), rng)
    out = arrays[-1]
    kernels.assist(team)  # nothing comes, so it ends by itself
    assert team[kernels.DONE] == 0
    team[kernels.TAKEN] = 4 << 16
    helper = threading.Thread(target=kernels.assist, args=(team,))
    helper.start()
    deadline = time.monotonic() + 60
    while team[kernels.DONE] < 4 and time.monotonic() < deadline:
        time.sleep(0.001)
    team[kernels.OVER] = 1
    helper.join()
    assert_close(out, expected, TOLERANCE[np.float32])
    team[kernels.TAKEN] = 4 << 16
    for module in (kernels, reference):
        module.assist(team)
    assert team[kernels.DONE] == 4


@pytest.mark.parametrize("times", [1, 8, 32])
def test_number_of_parts_follows_from_the_size(times):
    for m, k, n in itertools.permutations((kernels.SHARED // 64, 64, times)):
        for less in (0, 1):
            found = kernels.n_parts_of(m - less, k, n)
            assert found == reference.n_parts_of(m - less, k, n)
        assert kernels.n_parts_of(m, k, n) == {1: 2, 8: 4, 32: 8}[times]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5])
@pytest.mark.parametrize("k", [kernels.WIDE_ROW - 1, 130])
def test_products_of_sparse_rows_equal_their_twins(dtype, share, k, rng):
    a = np.where(rng.random((20, k)) < share, rng.normal(size=(20, k)), 0).astype(dtype)
    for n in (7, 110):
        w = rng.normal(size=(k, n)).astype(dtype)
        d = rng.normal(size=(20, n)).astype(dtype)
        lists = lists_for(20, (k, n))
        check_twin("product", a, w, unwritten((20, n), dtype), lists, ALONE)
        check_twin("outer_product", a, d, unwritten((k, n), dtype), lists, ALONE)
        few = list_of(a)
        check_twin("sparse_product", a, w, *few, unwritten((20, n), dtype))
        ends, rows = np.empty((2, k + 1), int), np.empty((2, len(few[1])), int)
        kernels.by_column(*few, ends[0], rows[0])
        reference.by_column(*few, ends[1], rows[1])
        assert_array_equal(*ends)
        assert_array_equal(*rows)
        for first in (0, 60):
            gradient = unwritten((k - first - 3, n), dtype)
            turned = rows[0], ends[0]
            check_twin("sparse_outer_product", a, d, *turned, first, gradient)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
@pytest.mark.parametrize("k", [kernels.TILE, 3 * kernels.TILE - 1, 130])
@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_places_of_nonzeros(dtype, share, k, zero, rng):
    row = np.where(rng.random(k) < share, rng.normal(size=k), zero).astype(dtype)
    ours, theirs = np.empty((2, k), np.int64)
    found = kernels.nonzero_places(row, ours)
    assert found == reference.nonzero_places(row, theirs)
    assert_array_equal(ours[:found], theirs[:found])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("place", [5, 125, 129])
def test_what_is_not_a_number_is_not_zero(dtype, place):
    row, places = np.zeros(130, dtype), np.empty(130, np.int64)
    row[place] = np.nan
    assert kernels.nonzero_places(row, places) == 1
    assert places[0] == place


@pytest.mark.parametrize("dtype", DTYPES)
def test_nonzeros_that_cancel_are_found(dtype):
    row, places = np.zeros(130, dtype), np.empty(130, np.int64)
    row[[3, 5, 40, 41, 100]] = 1, -1, -2, 2, 1
    found = kernels.nonzero_places(row, places)
    assert places[:found].tolist() == [3, 5, 40, 41, 100]


@pytest.mark.parametrize("share", [0.0, 0.02, 0.11, 0.2, 1.0])
@pytest.mark.parametrize("before", [0, 7])
def test_lists_of_few_nonzeros(share, before, rng):
    """A list goes on where the one before ends, and has room for a row too many."""
    a = (rng.random((20, 130)) < share).astype(np.float32)
    room = kernels.nonzero_room(20, 130, 110)
    assert room == reference.nonzero_room(20, 130, 110)
    assert kernels.nonzero_room(20, 130, 99) == 0 == reference.nonzero_room(20, 99, 130)
    ours, theirs = np.full((2, before + room), -1)
    starts = np.full((2, 21), before)
    found = kernels.few_nonzeros(a, starts[0], ours)
    assert found == reference.few_nonzeros(a, starts[1], theirs) == (share < 0.15)
    assert (ours[:before] == -1).all()
    if found:
        assert_array_equal(starts[0], starts[1])
        assert_array_equal(ours[: starts[0, -1]], theirs[: starts[0, -1]])
    assert not kernels.few_nonzeros(a, starts[0], ours[:0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5])
@pytest.mark.parametrize("wanted", [True, False])
def test_product_that_lists_nonzeros_equals_its_twin(dtype, share, wanted, rng):
    """It says whether there is a list, which later sums go over."""
    a = np.where(rng.random((20, 130)) < share, 2.0, 0).astype(dtype)
    w = rng.normal(size=(130, 110)).astype(dtype)
    room = kernels.nonzero_room(20, 130, 110) * wanted
    lists = np.zeros((2, 21), int), np.zeros((2, room), int)
    outs = unwritten((2, 20, 110), dtype)
    parts = zip((kernels, reference), *lists, outs, strict=True)
    found = [module.listed_product(a, w, *rest, ALONE) for module, *rest in parts]
    assert found == 2 * [wanted and share < 0.15]
    assert_close(outs[0], outs[1], TOLERANCE[dtype])
    if found[0]:
        assert_array_equal(*lists[0])
        assert_array_equal(*lists[1][:, : lists[0][0, -1]])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_row_that_is_not_finite_is_seen_in_a_sparse_product(value):
    a, w = np.zeros((4, 200)), np.ones((200, 150))
    a[2, 7] = value
    out, turned = np.empty((4, 150)), np.empty((200, 150))
    lists = lists_for(4, (200, 150))
    assert kernels.few_nonzeros(a, np.zeros(5, np.int64), lists[1])
    kernels.product(a, w, out, lists, ALONE)
    assert_array_equal((out != 0).all(axis=1), [False, False, True, False])
    kernels.outer_product(a, np.ones((4, 150)), turned, lists, ALONE)
    assert_array_equal(np.flatnonzero((turned != 0).all(axis=1)), [7])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("side", BLOCKS)
def test_visible_units_equal_their_twins(dtype, side, rng):
    for n_rows in (1, 4, 9):
        z = (3 * rng.normal(size=(n_rows, N_VISIBLE))).astype(dtype)
        check_twin("visible_means", z, block_table(side))
        v = visible_rows(side, n_rows, rng, dtype)
        for kinds in SAMPLED_KINDS.values():
            blocks = block_table(side, kinds)
            check_twin("sample_visible", v, blocks, *KEYS, tolerance=0)


@pytest.mark.parametrize("kind", [BERNOULLI, GAUSSIAN])
def test_samples_do_not_depend_on_how_columns_are_cut_into_blocks(kind, rng):
    v = rng.random((6, N_VISIBLE)).astype(np.float32)
    results = []
    for cuts in [(0, 7), (0, 2, 7), (0, 1, 6, 7)]:
        table = [(a, b, kind, 1) for a, b in itertools.pairwise(cuts)]
        results.append(v.copy())
        kernels.sample_visible(results[-1], np.array(table, dtype=np.int64), *KEYS)
    assert_array_equal(results[1], results[0])
    assert_array_equal(results[2], results[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "n_chains"), [(5, 5), (3, 8), (1, 1)])
def test_phase_means_and_gradient_equal_their_twins(dtype, m, n_chains, rng):
    v = rng.normal(size=(m + n_chains, N_VISIBLE)).astype(dtype)
    h = rng.random((m + n_chains, N_HIDDEN)).astype(dtype)
    mu, lam = rng.random(N_VISIBLE).astype(dtype), rng.random(N_HIDDEN).astype(dtype)
    size = N_VISIBLE * N_HIDDEN + N_VISIBLE + N_HIDDEN
    check_twin("weigh_phases", h, m)
    check_twin("weighted_column_sums", v, m, unwritten(N_VISIBLE, dtype))
    for centered in (True, False):
        grad = unwritten(size, dtype)
        check_twin("cd_gradient", v, h, m, centered, mu, lam, grad, ALONE)
    check_twin("reconstruction_error", v, v + v[::-1], m)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_visible", [5, kernels.ROWS_AT_ONCE, 300])
@pytest.mark.parametrize("centered", [False, True])
def test_update_over_nonzeros_equals_its_twin(dtype, n_visible, centered, rng):
    """With fewer rows of weights than are taken at once, as many, and some more."""
    m, n_rows, n_hidden = 4, 9, 6
    v = np.where(rng.random((n_rows, n_visible)) < 0.3, 2.0, 0).astype(dtype)
    h = rng.random((n_rows, n_hidden)).astype(dtype)
    few = list_of(v)
    check_twin("listed_column_sums", v, m, *few, unwritten(n_visible, dtype))
    size = n_visible * n_hidden + n_hidden + n_visible
    parameters = rng.normal(size=(2, size)).astype(dtype)
    hyper = rbm_constants(momentum=0.5, l2=0.2, l1=0.1)
    offsets = [rng.random(n).astype(dtype) for n in (n_visible, n_hidden)]
    grad, difference = unwritten(size, dtype), unwritten(n_hidden, dtype)
    turned = np.zeros(n_visible + 1, int), np.zeros(len(few[1]), int)
    model = *few, *turned, centered, *offsets, *parameters, grad
    check_twin("sparse_ascent", v, h, m, *model, 0.1, hyper, difference)


@pytest.mark.parametrize("dtype", DTYPES)
def test_biases_of_a_centered_gradient_equal_their_twin(dtype, rng):
    gw = rng.normal(size=(7, 5)).astype(dtype)
    mu, lam, gc, gb = (rng.normal(size=n).astype(dtype) for n in (7, 5, 5, 7))
    check_twin("centre_biases", gw, mu, lam, gc, gb)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("m", [3, 10])
def test_statistics_equal_their_twin(dtype, persistent, m, rng):
    """With fewer rows than persistent chains, and one or two rows for the loss."""
    n_chains = m + 2 if persistent else m
    check_twin(
        "cd_statistics",
        visible_rows("mixed", m, rng, dtype),
        rng.normal(size=(N_VISIBLE, N_HIDDEN)).astype(dtype),
        rng.normal(size=N_HIDDEN).astype(dtype),
        rng.normal(size=N_VISIBLE).astype(dtype),
        (rng.random((n_chains * persistent, N_HIDDEN)) < 0.5).astype(dtype),
        np.ones(1),
        rng.random(N_HIDDEN).astype(dtype),
        rng.normal(size=N_HIDDEN + N_VISIBLE).astype(dtype),
        block_table("mixed", [BERNOULLI]),
        kernels.BERNOULLI_HIDDEN,
        2,
        np.array([3, 4], dtype=np.uint32),
        7,
        unwritten((m + n_chains, N_VISIBLE), dtype),
        unwritten((m + n_chains, N_HIDDEN), dtype),
        unwritten((n_chains, N_HIDDEN), dtype),
        unwritten((n_chains, N_HIDDEN), dtype),
        *no_list(m + n_chains),
        ALONE,
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("side", BLOCKS)
@pytest.mark.parametrize("sampled", SAMPLED_KINDS)
@pytest.mark.parametrize("gibbs", [1, 3])
@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("sliding", [0.0, 0.05])
def test_rbm_training_equals_its_twin(dtype, side, sampled, gibbs, persistent, sliding):
    arguments = rbm_arguments(dtype, side, sampled, gibbs, persistent, sliding)
    before = arguments["theta"].copy()
    (total, count), after = check_twin("cd_slice", *arguments.values())
    assert np.isfinite(total)
    # Persistent chains: a loss of one row in each of the five mini-batches.
    assert count == (5 if persistent else 23) * N_VISIBLE
    assert np.abs(after[2] - before).max() > 0.01


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize(
    ("persistent", "betas"), [(False, [1.0]), (True, [1.0]), (True, [1.0, 0.7, 0.2])]
)
@pytest.mark.parametrize(("share", "bias"), [(0.03, -6.0), (0.03, 0.0), (0.5, -6.0)])
def test_rbm_training_over_nonzeros_equals_its_twin(
    centered, persistent, share, bias, betas
):
    """With few ones in the rows, in the reconstructions, or in both; hot chains take no
    part in the gradient, and there may be more chains than rows.
    """
    rng = np.random.default_rng(3)
    n_chains, sliding = 5 * persistent * len(betas), 0.01 * (centered or len(betas) > 1)
    n_visible, n_hidden, m = 120, 101, 8
    rows = (rng.random((23, n_visible)) < share).astype(float)
    size = n_visible * n_hidden + n_visible + n_hidden
    theta = 0.1 * rng.normal(size=size)
    theta[-n_visible:] += bias
    check_twin(
        "cd_slice",
        rows,
        m,
        theta,
        np.zeros(size),
        rng.random(n_visible) * (sliding > 0),
        rng.random(n_hidden) * (sliding > 0),
        (rng.random((n_chains, n_hidden)) < 0.5).astype(float),
        np.array(betas),
        np.array([[0, n_visible, BERNOULLI, 1]]),
        kernels.BERNOULLI_HIDDEN,
        2,
        rbm_constants(momentum=0.5),
        centered,
        sliding,
        np.array([11, 22], dtype=np.uint32),
        0,
        unwritten(size, np.float64),
        unwritten((m + 15) * (n_visible + n_hidden) + 30 * n_hidden, np.float64),
        lists_for(m + max(m, n_chains), (n_visible, n_hidden)),
        ALONE,
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("side", BLOCKS)
@pytest.mark.parametrize("persistent", [False, True])
def test_rbm_training_with_one_row_in_the_last_batch(dtype, side, persistent):
    arguments = rbm_arguments(dtype, side, persistent=persistent, n_rows=16)
    check_twin("cd_slice", *arguments.values())


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("alpha", [0.0, 0.1])
def test_rbm_momentum_and_decay_equal_their_twin(momentum, alpha):
    arguments = rbm_arguments(np.float64)
    arguments["hyper"] = rbm_constants(momentum=momentum, l2=alpha)
    check_twin("cd_slice", *arguments.values())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("side", BLOCKS)
@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("persistent", [False, True])
def test_every_pair_of_unit_kinds_trains_as_its_twin(dtype, side, hidden, persistent):
    """With small steps: linear hidden units answer to rounding without bound."""
    options = {"hidden": hidden, "n_rows": 13, "n_chains": 7 * persistent}
    arguments = rbm_arguments(dtype, side, gibbs=2, **options)
    arguments["theta"] *= dtype(0.2)
    arguments["hyper"] = rbm_constants(rate=0.01, momentum=0.5)
    check_twin("cd_slice", *arguments.values())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("side", ["bernoulli", "all kinds"])
@pytest.mark.parametrize("centered", [True, False])
def test_tempered_training_equals_its_twin(dtype, side, centered, rng):
    """Five chains at each of three temperatures. Offsets slide for them also where the
    gradient is not centered.
    """
    arguments = rbm_arguments(dtype, side, gibbs=2, n_chains=15)
    arguments["centered"] = centered
    arguments["theta"] *= dtype(0.5)
    arguments["betas"] = np.array([1.0, 0.7, 0.2])
    check_twin("cd_slice", *arguments.values())
    a, states = rng.normal(size=(2, 15, N_HIDDEN)).astype(dtype)
    betas, lam = arguments["betas"], arguments["lam"]
    check_twin("scale_rows", a, betas, lam)
    check_twin("interaction", a[0], states[0], lam)
    uneven = np.array([1.0, 0.9, 0.3])
    for first in (0, 1):
        for ladder in (betas, uneven):
            check_twin("swap_chains", states, a, lam, ladder, first, *KEYS)


@pytest.mark.parametrize(
    "changes", [{"decay": 0.1}, {"l1": 0.2}, {"target": 0.1, "weight": 0.5}]
)
def test_rate_decay_lasso_and_sparsity_equal_their_twin(changes):
    arguments = rbm_arguments(np.float64)
    arguments["hyper"] = rbm_constants(momentum=0.5, **changes)
    check_twin("cd_slice", *arguments.values())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("hidden", HIDDEN.values())
def test_hidden_units_equal_their_twins(dtype, hidden, rng):
    x = (3 * rng.normal(size=40)).astype(dtype)
    for drawn in (True, False):
        check_twin("hidden_units", x, unwritten(40, dtype), hidden, drawn, *KEYS)
    check_twin("softplus", 30 * x)
    check_twin("exponential", x)
    check_twin("softmax", 10 * x)
    check_twin("sample_rectified", x, *KEYS)
    h = rng.random((5, 4)).astype(dtype)
    h[:, 1], h[:, 2] = 0, 1
    _, (after, *_) = check_twin("add_sparsity", h, 0.1, 0.3)
    assert np.isfinite(after).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_groups_and_counts_are_drawn_as_by_their_twins(dtype, rng):
    for counter in range(50):
        p = rng.dirichlet(np.ones(4)).astype(dtype)
        check_twin("sample_softmax", p, counter, *KEYS, tolerance=0)
    means = np.array([0.0, 1e-3, 0.5, 3, 12, 29.9, 31, 500]).repeat(20).astype(dtype)
    check_twin("sample_poisson", means, 3, *KEYS, tolerance=0)
    bits = reference.random_bits(np.uint32(5), *KEYS)
    check_twin("poisson_number", np.float32(2.5), bits, tolerance=0)


@pytest.mark.parametrize("mean", [0.5, 3, 12, 29.9])
@pytest.mark.parametrize("bits", [2**32 - 1, 2**32 - 256, 2**32 - 1024])
def test_counts_of_the_largest_numbers_are_counts_that_occur(mean, bits):
    arguments = np.float32(mean), np.uint32(bits)
    count, _ = check_twin("poisson_number", *arguments, tolerance=0)
    assert count <= poisson.isf(1e-10, mean)


@pytest.mark.parametrize("mean", [0.3, 4.0, 25.0, 90.0])
def test_counts_have_the_poisson_distribution(mean):
    counts = np.full(100_000, mean, np.float32)
    kernels.sample_poisson(counts, 0, *KEYS)
    error = np.sqrt(mean / counts.size)
    assert abs(counts.mean() - mean) < 4 * error
    spread = np.sqrt((mean + 2 * mean**2) / counts.size)
    assert abs(counts.var() - mean) < 4 * spread + 0.1 * (mean > 30)
    if mean < 30:
        most = int(mean + 3 * np.sqrt(mean)) + 1
        observed = np.bincount(counts.astype(int).clip(0, most), minlength=most + 1)
        cells = poisson.pmf(np.arange(most), mean)
        expected = np.append(cells, 1 - cells.sum()) * counts.size
        kept = expected > 5
        statistic = ((observed - expected) ** 2 / expected)[kept].sum()
        assert chi2.sf(statistic, kept.sum()) > 1e-4


def test_nan_passes_through_the_units_of_an_rbm():
    for hidden in HIDDEN.values():
        x = np.array([np.nan, 0.5], np.float32)
        kernels.hidden_units(x, x.copy(), hidden, True, *KEYS)
        assert np.isnan(x[0])
    for name in ("softmax", "exponential"):
        x = np.array([np.nan, 0.5], np.float32)
        getattr(kernels, name)(x)
        assert np.isnan(x[0])
    count = np.array([np.nan], np.float32)
    kernels.sample_poisson(count, 0, *KEYS)
    assert np.isnan(count[0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_momentum_ascent_equals_its_twin(dtype, rng):
    theta, velocity, grad = rng.normal(size=(3, 50)).astype(dtype)
    theta[::3] = 0  # where L1 pulls to neither side
    for n_weights in (0, 31, 50):
        constants = rbm_constants(momentum=0.5, l2=0.2, l1=0.1)
        check_twin("momentum_ascent", theta, velocity, grad, n_weights, 0.1, constants)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("side", BLOCKS)
def test_annealing_equals_its_twin(dtype, side, rng):
    """Up and down, and the same in one call or in two."""
    blocks = block_table(side, SAMPLED_KINDS["sampled"])
    parts = [
        visible_rows(side, 6, rng, dtype),
        (0.5 * rng.normal(size=(N_VISIBLE, N_HIDDEN))).astype(dtype),
        *(rng.normal(size=n).astype(dtype) for n in (N_HIDDEN, N_VISIBLE, N_VISIBLE)),
    ]
    seed, log_weights = np.array([3, 4], dtype=np.uint32), np.zeros(6)
    work = [unwritten((6, N_HIDDEN), dtype) for _ in range(2)]
    far = np.array([-500, -100, -1, 0, 1, 100, 500], dtype)
    for x in (parts[2], far):
        found, _ = check_twin("softplus_difference", x, 0.2, 0.9)
        exact = np.logaddexp(0, 0.9 * x) - np.logaddexp(0, 0.2 * x)
        assert_allclose(found, exact.sum(), rtol=1e-5)
    for temperatures in (np.linspace(0, 1, 6), np.linspace(1, 0.4, 4)):
        arguments = [*parts, blocks, temperatures, seed, 5, *work, log_weights]
        arguments += [lists_for(6, (N_VISIBLE, N_HIDDEN)), ALONE]
        _, after = check_twin("ais_slice", *arguments)
        apart = copies_of(arguments)
        for first, stop in ((0, 3), (2, len(temperatures))):
            apart[6], apart[8] = temperatures[first:stop], 5 + first
            kernels.ais_slice(*apart)
        assert_array_equal(apart[0], after[0])
        assert_array_equal(apart[-3], after[-3])


def in_slices(kernel, arguments, batches, state):
    """Call a kernel on consecutive groups of batches; the state arrays and results."""
    arguments = dict(zip(arguments, copies_of(arguments.values()), strict=True))
    rows, targets = arguments["rows"], arguments.get("targets")
    results, start = [], 0
    for n_batches in batches:
        stop = start + n_batches * arguments["batch_size"]
        part = {"rows": rows[start:stop]}
        if targets is not None:
            part["targets"] = targets[start:stop]
        results.append(kernel(*(arguments | part).values()))
        arguments["step"] += n_batches
        start = stop
    return [arguments[name] for name in state], results


@pytest.mark.parametrize("persistent", [False, True])
def test_rbm_training_does_not_depend_on_slices(persistent):
    """Ten batches, the last one short: at once, in 3 + 4 + 3, and one by one."""
    arguments = rbm_arguments(np.float32, persistent=persistent, n_rows=48)
    state = ["theta", "velocity", "mu", "lam", "chain"]
    whole, ((total, count),) = in_slices(kernels.cd_slice, arguments, [10], state)
    for batches in [(3, 4, 3), (1,) * 10]:
        parts, results = in_slices(kernels.cd_slice, arguments, batches, state)
        for name, ours, expected in zip(state, parts, whole, strict=True):
            assert_array_equal(ours, expected, err_msg=name)
        assert sum(part[1] for part in results) == count
        assert_allclose(sum(part[0] for part in results), total, rtol=1e-12)


def test_rbm_training_leaves_its_inputs_alone():
    arguments = rbm_arguments(np.float32, persistent=True)
    inputs = ["rows", "blocks", "seed"]
    after, _ = in_slices(kernels.cd_slice, arguments, [5], inputs)
    for name, array in zip(inputs, after, strict=True):
        assert_array_equal(array, arguments[name], err_msg=name)


def test_rbm_training_on_no_rows_changes_nothing():
    arguments = rbm_arguments(np.float32, n_rows=0)
    theta = arguments["theta"].copy()
    assert kernels.cd_slice(*arguments.values()) == (0.0, 0)
    assert_array_equal(arguments["theta"], theta)


@pytest.mark.parametrize("side", BLOCKS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_rbm_training_shows_rows_that_are_not_finite(side, bad):
    arguments = rbm_arguments(np.float32, side)
    arguments["rows"][7, 3] = bad
    total, _ = kernels.cd_slice(*arguments.values())
    assert not np.isfinite(total)
    assert not np.isfinite(arguments["theta"]).all()


def test_rbm_training_survives_extreme_parameters():
    """Saturated units are no reason for a NaN."""
    arguments = rbm_arguments(np.float32, "bernoulli")
    arguments["theta"] *= np.float32(1e6)
    total, _ = kernels.cd_slice(*arguments.values())
    assert np.isfinite(total)
    assert np.isfinite(arguments["theta"]).all()


# --- backpropagation -----------------------------------------------------------

MIXED_OUTPUT = np.array(
    [(0, 2, GAUSSIAN, 0), (2, 4, BERNOULLI, 0), (4, 7, SOFTMAX, 0)], dtype=np.int64
)
LOSSES = ["gaussian_loss", "bernoulli_loss", "softmax_loss", "poisson_loss"]
# Contraction, L1, sparsity target and weight, number of winners.
PENALTIES = [0.1, 0.05, 0.2, 0.3, 0.0]
WINNERS = [0.0, 0.0, 0.0, 0.0, 2.0]
WINNER = [0.0, 0.0, 0.0, 0.0, 1.0]


def mixed_targets(n_rows, rng, dtype):
    targets = np.zeros((n_rows, 7))
    targets[:, :2] = rng.normal(size=(n_rows, 2))
    targets[:, 2:4] = rng.random((n_rows, 2))
    targets[np.arange(n_rows), 4 + rng.integers(3, size=n_rows)] = 1
    return targets.astype(dtype)


def network_arguments(
    dtype,
    solver=ADAM,
    corruption=MASKING,
    tied=False,
    activation="tanh",
    n_rows=23,
    batch_size=5,
    code=None,
    emphasised=False,
    detects=False,
    longest=0.0,
    row_weights=False,
    dropout=0.0,
    pace=1.0,
    max_norm=0.0,
):
    """Arguments of backprop_slice by name, with a short last batch."""
    rng = np.random.default_rng(2)
    if tied:
        network = Network.tied(6, 4, activation)
        targets = rng.random((n_rows, 6)).astype(dtype)
        blocks = np.array([(0, 2, GAUSSIAN, 0), (2, 6, BERNOULLI, 0)], dtype=np.int64)
    else:
        hidden = [activation, "relu", "logistic"]
        network = Network.dense([6, 5, 4, 3, 7], [*hidden, "identity"])
        targets, blocks = mixed_targets(n_rows, rng, dtype), MIXED_OUTPUT
    layers, size = network.layers, network.n_parameters
    width, n_cells = int(layers[:, 1].sum()), batch_size * targets.shape[1]
    return {
        "rows": rng.normal(size=(n_rows, 6)).astype(dtype),
        "targets": targets,
        "row_weights": rng.random(n_rows if row_weights else 0).astype(dtype),
        "batch_size": batch_size,
        "theta": (0.7 * rng.normal(size=size)).astype(dtype),
        "state": (0.1 * rng.random((2, size))).astype(dtype),
        "grad": unwritten(size, dtype),
        "layers": layers,
        "traits": traits_of(len(layers), dropout, pace),
        "blocks": blocks,
        "corruption": corruption,
        "noise": np.array([0.3, 1.4 if emphasised else 1.0]),
        "units": np.arange(6),
        "limits": np.float32([[-1] * 6, [2] * 6]),
        "solver": solver,
        "hyper": solver_constants(0.05, 0.9, 0.8, 0.99, 1e-6, longest, max_norm),
        "alpha": 0.01,
        "code": np.array([0.0] * 5 if code is None else code),
        "seed": np.array([33, 44], dtype=np.uint32),
        "step": 2,
        "updates": np.arange(len(layers)),
        "noisy": unwritten(batch_size * 6, dtype),
        "changed": unwritten(batch_size * 6 if detects else 0, dtype),
        "weights": unwritten(n_cells if emphasised or row_weights else 0, dtype),
        "work": unwritten(batch_size * width, dtype),
        "deltas": unwritten(batch_size * width, dtype),
        "scratch": unwritten(24 if tied else 7, dtype),
        "lists": lists_for(batch_size, *layers[:, :2]),
        "team": ALONE,
    }


def gradient_arguments(**options):
    """Arguments of loss_gradient by name: one batch of network_arguments."""
    arguments = network_arguments(**options)
    arguments["rows"] = arguments["rows"][: arguments["batch_size"]].copy()
    arguments["targets"] = arguments["targets"][: arguments["batch_size"]].copy()
    arguments["weights"] = np.empty((0, 0), arguments["rows"].dtype)
    wanted = inspect.signature(reference.loss_gradient).parameters
    return {name: arguments[name] for name in wanted}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LOSSES)
def test_losses_equal_their_twins(dtype, name, rng):
    for size in SIZES[1:]:
        z = (5 * rng.normal(size=size)).astype(dtype)
        y = rng.dirichlet(np.ones(size)).astype(dtype)
        check_twin(name, z, y)


@pytest.mark.parametrize("dtype", DTYPES)
def test_bernoulli_loss_at_extreme_logits(dtype):
    """The loss of a confident mistake is the logit itself, never infinite."""
    x = np.array([-1e30, -1e4, -100, -20, 0, 20, 100, 1e4, 1e30])
    for target in (0.0, 0.25, 1.0):
        for value in x:
            z, y = np.full(1, value, dtype), np.full(1, target, dtype)
            loss = kernels.bernoulli_loss(z, y)
            exact = np.logaddexp(0, value) - target * value
            assert_allclose(loss, exact, rtol=1e-6, atol=1e-7)
            assert_allclose(z[0], expit(value) - target, rtol=0, atol=1e-7)


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_loss_at_extreme_logits(dtype):
    for shift in (-1e30, -1e4, 0, 1e4, 1e30):
        z = np.array([0, 1, 2], dtype=dtype)
        z += dtype(shift)
        p = np.exp(z.astype(float) - z.max())
        p /= p.sum()
        y = np.array([0, 1, 0], dtype=dtype)
        loss = kernels.softmax_loss(z, y)
        assert_allclose(loss, -np.log(p[1]), rtol=1e-6)
        assert_allclose(z + y, p, rtol=0, atol=1e-6)
    z = np.array([-1e4, 0, 1e4], dtype=dtype)
    y = np.array([1, 0, 0], dtype=dtype)
    assert_allclose(kernels.softmax_loss(z, y), 2e4, rtol=1e-6)
    assert_allclose(z, [-1, 0, 1], rtol=0, atol=1e-7)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("second", [1, 999])
def test_the_largest_logit_of_a_group_may_stand_anywhere(dtype, second):
    for order in itertools.permutations([0, second, 1000]):
        logits = np.array(order, dtype)
        p = softmax(logits.astype(float))
        for y in np.eye(3, dtype=dtype):
            z = logits.copy()
            loss = kernels.softmax_loss(z, y)
            expected = logsumexp(logits.astype(float)) - y @ logits
            assert_allclose(loss, expected, rtol=1e-6, atol=1e-6)
            assert_allclose(z + y, p, rtol=0, atol=1e-6)
        kernels.softmax(logits)
        assert_allclose(logits, p, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_losses_show_values_that_are_not_finite(dtype, name, bad):
    for place in (0, 3, 36):
        z, y = np.ones(37, dtype), np.full(37, 1 / 37, dtype)
        z[place] = bad
        assert not np.isfinite(getattr(kernels, name)(z, y))


def test_losses_are_least_at_the_target(rng):
    """Negative log-likelihoods: at mean = target the delta is zero and the loss is
    the entropy of the target.
    """
    p = rng.dirichlet(np.ones(6))
    z = np.log(p)
    assert_allclose(kernels.softmax_loss(z, p), -xlogy(p, p).sum(), rtol=1e-12)
    assert_allclose(z, 0, atol=1e-15)
    q = rng.random(6)
    z = np.log(q / (1 - q))
    entropy = -(xlogy(q, q) + xlogy(1 - q, 1 - q)).sum()
    assert_allclose(kernels.bernoulli_loss(z, q), entropy, rtol=1e-12)
    assert_allclose(z, 0, atol=1e-15)
    counts = np.array([0.5, 1.0, 7.0])
    z = np.log(counts)
    assert_allclose(kernels.poisson_loss(z, counts), 0, atol=1e-14)
    assert_allclose(z, 0, atol=1e-14)
    z, none = np.full(3, -40.0), np.zeros(3)
    assert_allclose(kernels.poisson_loss(z, none), 0, atol=1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
def test_output_delta_equals_its_twin(dtype, rng):
    for m in (1, 5):
        z = (2 * rng.normal(size=(m, 7))).astype(dtype)
        y = mixed_targets(m, rng, dtype)
        of_cells, of_rows = rng.random((m, 7)), rng.random((m, 1)).repeat(7, axis=1)
        for weights in (of_cells, of_rows, np.empty((0, 7))):
            check_twin("output_delta", z, y, weights.astype(dtype), MIXED_OUTPUT)
        for start, stop, kind, _ in MIXED_OUTPUT:
            row = z[0, start:stop].copy(), y[0, start:stop].copy()
            check_twin("block_loss", *row, kind)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [GAUSSIAN, BERNOULLI, SOFTMAX, POISSON])
def test_weights_of_one_block_and_of_counts_act_as_in_its_twin(dtype, kind, rng):
    z, y = rng.normal(size=(5, 7)).astype(dtype), rng.dirichlet(np.ones(7), 5)
    weights = rng.random((5, 7)).astype(dtype)
    for blocks in ([(0, 7, kind, 0)], [(0, 3, kind, 0), (3, 7, GAUSSIAN, 0)]):
        check_twin("output_delta", z, y.astype(dtype), weights, np.array(blocks))


@pytest.mark.parametrize("kind", [GAUSSIAN, BERNOULLI, SOFTMAX])
def test_weights_of_one_change_nothing_and_of_zero_drop_a_cell(kind, rng):
    z, y = rng.normal(size=(4, 6)), rng.dirichlet(np.ones(6), size=4)
    blocks = np.array([(0, 3, kind, 0), (3, 6, kind, 0)], dtype=np.int64)
    plain, weighted, dropped = z.copy(), z.copy(), z.copy()
    weights = np.ones((4, 6))
    loss = kernels.output_delta(plain, y, np.empty((0, 6)), blocks)
    assert_allclose(
        kernels.output_delta(weighted, y, weights, blocks), loss, rtol=1e-13
    )
    assert_allclose(weighted, plain, rtol=1e-13)
    weights[:, 3:] = 0
    half = kernels.output_delta(dropped, y, weights, blocks)
    left = z[:, :3].copy()
    empty = np.empty((0, 3))
    expected = kernels.output_delta(left, y[:, :3].copy(), empty, blocks[:1])
    assert_allclose(half, expected, rtol=1e-13)
    assert_allclose(dropped[:, 3:], 0)


@pytest.mark.parametrize("kind", [GAUSSIAN, BERNOULLI])
def test_output_delta_does_not_depend_on_how_columns_are_cut(kind, rng):
    z, y = rng.normal(size=(4, 7)), rng.random((4, 7))
    whole, parts = z.copy(), z.copy()
    loss = kernels.output_delta(whole, y, np.empty((0, 7)), output_blocks(7, kind))
    blocks = np.array([(0, 3, kind, 0), (3, 7, kind, 0)], dtype=np.int64)
    assert_allclose(
        kernels.output_delta(parts, y, np.empty((0, 7)), blocks), loss, rtol=1e-13
    )
    assert_array_equal(parts, whole)


def check_passes(arguments):
    """The passes up and down the layers, each by itself."""
    parts = [
        {name: arguments[name] for name in inspect.signature(twin).parameters}
        for twin in (reference.forward, reference.backward)
    ]
    _, after = check_twin("forward", *parts[0].values())
    check_twin("backward", *(parts[1] | {"work": after[-3]}).values())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", NAMES_OF_ACTIVATIONS)
@pytest.mark.parametrize("pace", [[0, 1, 0.5, 1], [1, 0, 1, 1]])
def test_gradient_with_dropout_and_frozen_layers_equals_its_twin(
    dtype, activation, pace
):
    arguments = gradient_arguments(
        dtype=dtype,
        tied=False,
        activation=activation,
        dropout=[0.5, 0.3, 0.5, 0.3],
        pace=pace,
    )
    check_passes(arguments)
    check_twin("loss_gradient", *arguments.values())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("activation", NAMES_OF_ACTIVATIONS)
@pytest.mark.parametrize("code", [None, PENALTIES, WINNERS, WINNER])
def test_gradient_and_its_parts_equal_their_twins(dtype, tied, activation, code):
    if code is PENALTIES and activation != "logistic":
        code = [*PENALTIES[:2], 0.0, 0.0, 0.0]
    options = {"dtype": dtype, "tied": tied, "activation": activation, "code": code}
    arguments = gradient_arguments(**options)
    check_passes(arguments)
    loss, _ = check_twin("loss_gradient", *arguments.values())
    assert np.isfinite(loss)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_penalties_on_the_code_equal_their_twins(dtype, activation, rng):
    h = rng.normal(size=(6, 4)).astype(dtype)
    if activation in (LOGISTIC, SOFTPLUS):
        h = np.abs(h) / np.abs(h).max() * dtype(0.9)
    w, grad = rng.normal(size=(2, 5, 4)).astype(dtype)
    sums = unwritten(4, dtype)
    check_twin("squared_columns", w, sums)
    lost = h.copy()
    lost[:, 1] = 0
    for units, n_active in ((h, 0.0), (lost, 3.0)):
        code = np.array([*PENALTIES[:2], 0.0, 0.0, n_active])
        check_twin("add_contraction", units, w, activation, code, grad, sums)
        check_twin("code_penalty", units, 0 * h, w, activation, code, sums)
    if activation == LOGISTIC:
        h[:, 1], h[:, 2] = 0, 1  # as saturated units are
        code = np.array(PENALTIES)
        # The kernel's bound of the means is a number of float32.
        arguments = h, 0 * h, w, LOGISTIC, code, sums
        total, (_, delta, *_) = check_twin("code_penalty", *arguments, tolerance=3e-6)
        assert np.isfinite(total)
        assert np.isfinite(delta).all()
    for value in h.ravel():
        check_twin("slope_number", value, activation)
        check_twin("curvature_number", value, activation)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_active", [1, 3, 7, 8])
def test_winners_equal_their_twin(dtype, n_active, rng):
    h = rng.normal(size=(20, 8)).astype(dtype)
    _, (kept, _) = check_twin("keep_largest", h, n_active)
    assert_array_equal((kept != 0).sum(axis=1), n_active)


def test_a_winner_is_told_from_one_that_is_close():
    h = np.array([[1 + 1e-6, 1, 0, -1000, 0.5]])
    _, (kept, _) = check_twin("keep_largest", h, 1)
    assert_array_equal(kept != 0, [[True, False, False, False, False]])


def test_winners_keep_ties_and_nan():
    h = np.array([[1.0, 1.0, 0.5, 0.0], [np.nan, 1.0, 2.0, 3.0], [0.0] * 4])
    kernels.keep_largest(h, 1)
    assert_array_equal(h[0], [1, 1, 0, 0])
    assert np.isnan(h[1, 0])
    assert_array_equal(h[2], 0)


def test_clipping_of_a_gradient_whose_square_float32_does_not_hold():
    """It came out as 0."""
    grad = np.full(4, 1e20, np.float32)
    kernels.clip_gradient(grad, 1.0)
    assert_allclose(grad, 0.5, rtol=1e-6)


def test_poisson_loss_of_large_counts_is_exact(rng):
    """Half a deviance near 1/2 is the difference of terms of 1e7."""
    log_mean = np.full(500, 14.0)
    y = rng.poisson(np.exp(log_mean)).astype(np.float32)
    exact = reference.poisson_loss(log_mean.copy(), y.astype(float))
    loss = kernels.poisson_loss(log_mean.astype(np.float32), y)
    assert loss == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_clipping_equals_its_twin(dtype, rng):
    grad = rng.normal(size=37).astype(dtype)
    for share in (0.02, 0.55, 0.99, 1.01, 200):
        most = share * float(np.linalg.norm(grad.astype(float)))
        _, (clipped, _) = check_twin("clip_gradient", grad, most)
        length = np.linalg.norm(clipped.astype(float))
        assert_allclose(
            length, min(most, np.linalg.norm(grad.astype(float))), rtol=1e-5
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("shared", [False, True])
def test_weight_gradient_equals_its_twin(dtype, transposed, shared, rng):
    a = rng.normal(size=(5, 3)).astype(dtype)
    delta = rng.normal(size=(5, 4)).astype(dtype)
    grad = rng.normal(size=12).astype(dtype)
    scratch = unwritten(20, dtype)
    work = grad, scratch, lists_for(5, (3, 4))
    check_twin("weight_gradient", a, delta, transposed, shared, *work, ALONE)


def test_gradient_of_a_batch_is_the_mean_over_its_rows():
    whole = gradient_arguments(dtype=np.float64)
    loss = kernels.loss_gradient(*whole.values())
    losses, gradients = [], []
    for i in range(len(whole["rows"])):
        row = {name: whole[name][i : i + 1] for name in ("rows", "targets")}
        losses.append(kernels.loss_gradient(*(whole | row).values()))
        gradients.append(whole["grad"].copy())
    kernels.loss_gradient(*whole.values())
    assert_allclose(loss, np.mean(losses), rtol=1e-13)
    assert_allclose(whole["grad"], np.mean(gradients, axis=0), rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_equals_its_twin(dtype, nesterov, rng):
    for size in SIZES:
        theta, velocity, grad = rng.normal(size=(3, size)).astype(dtype)
        check_twin("sgd_update", theta, velocity, grad, 0.1, 0.9, nesterov, 0.2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_adam_equals_its_twin(dtype, rng):
    for size in SIZES:
        theta, first, grad = rng.normal(size=(3, size)).astype(dtype)
        second = rng.random(size).astype(dtype)
        constants = 0.1, 0.9, 0.999, 1e-8, 0.2
        check_twin("adam_update", theta, first, second, grad, *constants)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("solver", [SGD, NESTEROV, ADAM])
@pytest.mark.parametrize("step", [0, 1, 100_000])
def test_solver_step_equals_its_twin(dtype, solver, step, rng):
    arguments = network_arguments(dtype, tied=True)
    theta, layers, hyper = (arguments[name] for name in ("theta", "layers", "hyper"))
    state = arguments["state"]
    grad = rng.normal(size=theta.size).astype(dtype)
    check_twin("update_part", theta, *state, grad, solver, hyper, step, 0.5, 0.1)
    traits, scratch = arguments["traits"], arguments["scratch"]
    updates = step + np.arange(len(layers))
    step_of = theta, state, grad, layers, traits, solver, hyper, updates, 0.1, scratch
    check_twin("update_parameters", *step_of)


@pytest.mark.parametrize("dtype", DTYPES)
def test_limited_columns_equal_their_twin(dtype, rng):
    w = rng.normal(size=(6, 9)).astype(dtype)
    w[:, 2] = 0
    _, (limited, *_) = check_twin("limit_columns", w, 2.0, unwritten(9, dtype))
    length = np.linalg.norm(w, axis=0)
    assert_allclose(np.linalg.norm(limited, axis=0), np.minimum(length, 2), rtol=1e-5)
    assert 2 < (length > 2).sum() < 9


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rate", [0.0, 0.3, 0.9])
def test_dropping_equals_its_twin(dtype, rate, rng):
    seed = np.array([5, 6], dtype=np.uint32)
    for shape in itertools.product((1, 3), SIZES):
        a = rng.normal(size=shape).astype(dtype)
        check_twin("drop_input", a, rate, seed, 4, 1)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_dropping_keeps_the_mean(rate):
    a = np.ones(1_000_000)
    kernels.drop_input(a.reshape(1000, 1000), rate, np.array([1, 2], np.uint32), 0, 0)
    assert_allclose((a == 0).mean(), rate, atol=0.003)
    assert_allclose(a.mean(), 1, atol=0.01)
    assert len(np.unique(a)) == 2


def check_training(arguments):
    """backprop_slice equals its twin, with a finite loss. Returns its arrays after."""
    # Adam divides by the root of small second moments, which enlarges rounding.
    tolerance = {"float32": 2e-5, "float64": 1e-12}[arguments["theta"].dtype.name]
    total, after = check_twin(
        "backprop_slice", *arguments.values(), tolerance=tolerance
    )
    assert np.isfinite(total)
    return after


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("solver", [SGD, NESTEROV, ADAM])
@pytest.mark.parametrize("corruption", [NO_CORRUPTION, *CORRUPTIONS])
@pytest.mark.parametrize("tied", [False, True])
def test_network_training_equals_its_twin(dtype, solver, corruption, tied):
    arguments = network_arguments(dtype, solver, corruption, tied)
    before = arguments["theta"].copy()
    after = check_training(arguments)
    assert np.abs(after[4] - before).max() > 0.01


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("corruption", [MASKING, SALT_AND_PEPPER, SWAP])
@pytest.mark.parametrize("code", [PENALTIES, WINNERS])
@pytest.mark.parametrize("row_weights", [False, True])
def test_penalised_training_equals_its_twin(dtype, corruption, code, row_weights):
    """Emphasis, clipping and penalties at once, on a tied layer, also with weights."""
    arguments = network_arguments(
        dtype,
        NESTEROV,
        corruption,
        tied=True,
        activation="logistic",
        code=code,
        emphasised=True,
        row_weights=row_weights,
        longest=0.5,
    )
    check_training(arguments)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("corruption", [MASKING, SALT_AND_PEPPER, SWAP])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_detection_of_changes_equals_its_twin(dtype, corruption, weighted, dropout):
    """Dropped inputs are no changed cells."""
    arguments = network_arguments(
        dtype,
        ADAM,
        corruption,
        tied=True,
        detects=True,
        emphasised=weighted,
        row_weights=weighted,
        dropout=dropout,
    )
    check_training(arguments)
    rows, changed = arguments["rows"], np.empty_like(arguments["rows"])
    check_twin("mark_changes", rows, np.where(rows > 0, rows, 0), changed)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("solver", [SGD, NESTEROV, ADAM])
@pytest.mark.parametrize("corruption", [NO_CORRUPTION, SWAP])
def test_training_with_dropout_equals_its_twin(dtype, solver, corruption):
    """Dropped inputs and hidden units, a frozen layer, one that moves less and short
    columns at once.
    """
    arguments = network_arguments(
        dtype,
        solver,
        corruption,
        row_weights=True,
        dropout=[0.2, 0.5, 0.3, 0.5],
        pace=[0, 0.5, 1, 1],
        max_norm=1.0,
    )
    check_training(arguments)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("corruption", [NO_CORRUPTION, SWAP])
@pytest.mark.parametrize("tied", [False, True])
def test_weighted_training_equals_its_twin(dtype, corruption, tied):
    """With weights of rows, one mini-batch of which weighs nothing."""
    arguments = network_arguments(dtype, ADAM, corruption, tied, row_weights=True)
    arguments["row_weights"][5:10] = 0
    check_training(arguments)
    check_twin("weigh_rows", np.ones((5, 3), dtype), arguments["row_weights"][:5])
    check_twin("weigh_rows", np.ones((5, 3), dtype), arguments["row_weights"][5:10])


def test_batches_without_weight_and_frozen_layers_take_no_time():
    """Adam's bias correction once counted steps that moved nothing."""
    arguments = network_arguments(np.float64, ADAM, NO_CORRUPTION, row_weights=True)
    arguments["row_weights"][:5] = 0
    arguments["traits"][0, 1] = 0
    (before,), _ = in_slices(kernels.backprop_slice, arguments, [], ["updates"])
    (updates,), _ = in_slices(kernels.backprop_slice, arguments, [5], ["updates"])
    assert_array_equal(updates - before, [0, 4, 4, 4])


@pytest.mark.parametrize("solver", [SGD, NESTEROV, ADAM])
def test_a_weight_of_two_is_the_row_twice(solver):
    """One mini-batch: repeated rows and weighted rows move the network alike."""
    arguments = network_arguments(np.float64, solver, NO_CORRUPTION, row_weights=True)
    arguments |= {"batch_size": 60}
    for name in ("noisy", "weights", "work", "deltas"):
        arguments[name] = np.empty(60 * 30)
    counts = np.arange(23) % 3
    arguments["row_weights"] = counts.astype(float)
    state = ["theta", "state", "updates"]
    weighted, (total,) = in_slices(kernels.backprop_slice, arguments, [1], state)
    for name in ("rows", "targets"):
        arguments[name] = np.repeat(arguments[name], counts, axis=0)
    arguments["row_weights"] = np.empty(0)
    repeated, (expected,) = in_slices(kernels.backprop_slice, arguments, [1], state)
    assert total == pytest.approx(expected, rel=1e-12)
    for ours, theirs in zip(weighted, repeated, strict=True):
        assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("solver", [SGD, NESTEROV, ADAM])
@pytest.mark.parametrize("tied", [False, True])
def test_network_training_does_not_depend_on_slices(solver, tied):
    """Ten batches, the last one short: at once, in 3 + 4 + 3, and one by one."""
    arguments = network_arguments(np.float32, solver, tied=tied, n_rows=48)
    state = ["theta", "state", "updates"]
    whole, (total,) = in_slices(kernels.backprop_slice, arguments, [10], state)
    for batches in [(3, 4, 3), (1,) * 10]:
        parts, totals = in_slices(kernels.backprop_slice, arguments, batches, state)
        for name, ours, expected in zip(state, parts, whole, strict=True):
            assert_array_equal(ours, expected, err_msg=name)
        assert_allclose(sum(totals), total, rtol=1e-12)


@pytest.mark.parametrize("corruption", [NO_CORRUPTION, *CORRUPTIONS])
def test_network_training_leaves_its_inputs_alone(corruption):
    arguments = network_arguments(np.float32, corruption=corruption)
    inputs = ["rows", "targets", "layers", "blocks", "hyper", "seed"]
    after, _ = in_slices(kernels.backprop_slice, arguments, [5], inputs)
    for name, array in zip(inputs, after, strict=True):
        assert_array_equal(array, arguments[name], err_msg=name)


def test_network_training_on_no_rows_changes_nothing():
    arguments = network_arguments(np.float32, n_rows=0)
    theta = arguments["theta"].copy()
    assert kernels.backprop_slice(*arguments.values()) == 0.0
    assert_array_equal(arguments["theta"], theta)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("activation", NAMES_OF_ACTIVATIONS)
def test_network_training_shows_rows_that_are_not_finite(activation, tied):
    arguments = network_arguments(
        np.float32, corruption=NO_CORRUPTION, tied=tied, activation=activation
    )
    arguments["rows"][7, 3] = np.nan
    assert np.isnan(kernels.backprop_slice(*arguments.values()))
    assert np.isnan(arguments["theta"]).any()
