"""Everything compiled: random numbers, contrastive divergence, backpropagation.

All kernels live in this one file because numba's disk cache does not notice an
edited callee in another file. They are pure functions of arrays: they allocate
nothing, write only to their workspace, state and output arrays, and run one slice (many
mini-batches) per call, so that Python regains control several times a second.

Random numbers are a pure function of ``(seed, step, phase, element)``. A result
therefore does not depend on how an epoch is cut into slices. Training runs in
float32; the same code in float64 serves gradient checks. Each kernel has a
plain-NumPy twin with the same name in ``tests/reference.py``.
"""

import gc
import math
import os
from functools import reduce
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.compiler_lock import global_compiler_lock
from numba.core.errors import TypingError
from numba.core.imputils import impl_ret_borrowed
from numba.core.registry import CPUDispatcher
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array
from numba.np.linalg import ensure_blas

_CACHE = os.environ.get("SKLEARN_GREEDY_NUMBA_CACHE", "1").lower() not in {
    "0",
    "false",
    "no",
}

# Without compilation there are no atomic operations, and nothing is shared.
COMPILED = not vars(numba.config)["DISABLE_JIT"]

# Reductions may be reordered, so that they vectorise; NaN and inf stay exact.
# Fused multiply-add: exact NaN and inf, a last bit that depends on the processor.
_FUSE = frozenset({"contract"})
_REORDER = frozenset({"reassoc", "nsz", "contract"})


# Objects between two collections of garbage while a kernel is compiled (measured).
_COLLECT_AFTER = 100_000


class Entry(CPUDispatcher):
    """A kernel that Python calls.

    While it is compiled or loaded, garbage is collected less often than otherwise. The
    compiler makes so many objects that Python would look through all those of the
    process again and again: a tenth of the time of compiling, a sixth of that of
    loading.
    """

    def compile(self, sig):
        """Compile for a signature, or load what was compiled before."""
        with global_compiler_lock:  # or a thread might restore what another one set
            first, *others = gc.get_threshold()
            # 0 is for a collector at rest.
            gc.set_threshold(first and max(first, _COLLECT_AFTER), *others)
            try:
                return super().compile(sig)
            finally:
                gc.set_threshold(first, *others)


class Inner(CPUDispatcher):
    """A kernel that only kernels call. It goes without the wrapper for calls from
    Python, and a call without one would end the process.
    """

    def __call__(self, *arguments, **named):
        """Refuse."""
        raise TypeError(
            f"{self.py_func.__name__} is for other kernels alone. To call it from "
            "Python, compile its py_func anew, or say entry=True where it is defined."
        )


def _jit(fastmath=False, inline="never", forceinline=False, entry=False):
    """Compile lazily with the package's options; cache on disk where possible.

    entry : whether Python calls it; only then it gets the wrapper for that. The one for
    calls from C, which nobody makes, is left out.

    Who uses an array is not counted: that is for arrays that a kernel makes while it
    runs, of which there are none, and takes a twelfth of the time of compiling.

    Functions that do little themselves and call others, and those with one caller, are
    put into their callers (inline="always"), since LLVM would optimise all below them
    twice: alone and in the caller. They must have its fastmath. They should be short
    and not nest deeply: numba copies all their variables once for each of their blocks,
    and again for each level. A function with many callers costs less time of compiling
    with ``forceinline``, where LLVM alone puts it into them.

    A read-only install without a writable home has no place for a cache: numba then
    raises in the decorator, and the function is compiled in each process instead.
    """

    def decorate(func):
        options: dict[str, Any] = {
            "nogil": True,
            "error_model": "numpy",
            "inline": inline,
            "forceinline": forceinline,
            "no_cpython_wrapper": not entry,
            "no_cfunc_wrapper": True,
            "_nrt": False,
            "fastmath": set(fastmath) if fastmath else False,
        }
        kernel = _dispatcher(func, options)
        if COMPILED:
            kernel.__class__ = Entry if entry else Inner
        return kernel

    return decorate


def _dispatcher(func, options):
    """What compiles a function at its first call, with a cache where there may be."""
    if _CACHE:
        try:
            return numba.njit(cache=True, **options)(func)
        except RuntimeError as exc:
            if "no locator available" not in str(exc):
                raise
    return numba.njit(cache=False, **options)(func)


# Integer codes of activations, unit kinds, solvers and corruptions.
LOGISTIC, TANH, RELU, IDENTITY, SOFTPLUS, ELU = range(6)
GAUSSIAN, BERNOULLI, SOFTMAX, POISSON = range(4)
BERNOULLI_HIDDEN, RELU_HIDDEN, GAUSSIAN_HIDDEN = range(3)
SGD, NESTEROV, ADAM = range(3)
NO_CORRUPTION, MASKING, GAUSSIAN_NOISE, SALT_AND_PEPPER, SWAP = range(5)

# Columns of the integer tables that describe a network and a side of a model.
N_IN, N_OUT, ACTIVATION, WEIGHT, BIAS, TRANSPOSED = range(6)
START, STOP, KIND, SAMPLED = range(4)

# Columns of the table of floats that goes with that of the layers: share of a layer's
# input that is dropped, and factor of its learning rate (0 where it is frozen).
DROPOUT, PACE = range(2)

# Constants of an optimiser, in this order; no limit where a longest length is 0.
STEP_SIZE, BETA, BETA_1, BETA_2, EPSILON, MAX_GRADIENT, MAX_NORM = range(7)

# Constants of an update of an RBM, in this order.
RATE, RATE_DECAY, MOMENTUM, L2, L1, TARGET, SPARSITY = range(7)

# Constants of the corruption: level, and weight in the loss of corrupted cells (clean
# ones weigh 2 minus that).
LEVEL, EMPHASIS = range(2)

# Constants of the penalties on the code, the hidden units of the first layer.
CONTRACTION, CODE_L1, CODE_TARGET, CODE_SPARSITY, N_ACTIVE = range(5)

# A persistent chain is not paired with the rows, so their reconstruction costs one
# more product; it is taken for one row of this many only.
PERSISTENT_LOSS_SHARE = 8

# BLAS copies the weights into its own order at each product, which costs more than the
# product itself where rows are few. Both limits were measured.
FEW_ROWS = 16
LONG_ROW = 32

# With at most this share of numbers that are not 0, sums over these alone are sooner
# than BLAS, in matrices of some width (measured by benchmarks/nonzeros.py).
SPARSE_SHARE = 0.15
WIDE_ROW = 100
# Elements of a row that are tested together, no more than a wide row has.
TILE = 16
# Rows of the weights whose gradient by such sums is put to use before that of the next
# ones is taken, while it is still at hand (measured).
ROWS_AT_ONCE = 128

# A large product is cut into parts, which threads of a team may share. Their number
# follows from its size alone, so that a result does not depend on who multiplied: two
# parts from SHARED multiplications on (where two threads gain a tenth and more:
# benchmarks/threads.py), four and eight from 8 and 32 times as many.
SHARED = 3 << 23
# Places in the state of a team, a cache line apart: parts of the present product (high
# bits) and those taken of them (low bits); parts done; whether the work is over; and
# the product itself. A team without places shares nothing.
TAKEN, DONE, OVER, PRODUCT = 0, 8, 16, 24
TEAM_SIZE = 40
# Places in the description of a product a w: addresses, shape (m, k) (k, n), whether a
# or w is stored transposed, bytes of a number.
LEFT, RIGHT, OUT, N_ROWS, N_INNER, N_COLUMNS = range(6)
LEFT_TURNED, RIGHT_TURNED, ITEM_SIZE = range(6, 9)
# A helper that has found nothing to do this often leaves (some tenths of a second).
PATIENCE = 1 << 26

# Zero as a phase or a counter, and whether a factor of a product is turned. A literal 0
# or False would be a type of its own and compile the callee a second time.
_FIRST = np.int64(0)
AS_IT_IS, TURNED = np.bool_(False), np.bool_(True)

_F32 = np.float32
_ZERO = np.float32(0.0)
_HALF = np.float32(0.5)
_LOWEST = np.finfo(np.float32).min
_ONE = np.float32(1.0)
_TWO = np.float32(2.0)
# Cephes single-precision exp and log: x = n log 2 + r, log 2 in two parts.
_EXP_LO = np.float32(-87.3)
_EXP_HI = np.float32(88.3)
_LOG2E = np.float32(1.44269504)
_LN2_HI = np.float32(0.693359375)
_LN2_LO = np.float32(-2.12194440e-4)
_E0 = np.float32(1.9875691500e-4)
_E1 = np.float32(1.3981999507e-3)
_E2 = np.float32(8.3334519073e-3)
_E3 = np.float32(4.1665795894e-2)
_E4 = np.float32(1.6666665459e-1)
_E5 = np.float32(5.0000001201e-1)
_SQRT2 = np.float32(1.41421356)
_L0 = np.float32(7.0376836292e-2)
_L1 = np.float32(-1.1514610310e-1)
_L2 = np.float32(1.1676998740e-1)
_L3 = np.float32(-1.2420140846e-1)
_L4 = np.float32(1.4249322787e-1)
_L5 = np.float32(-1.6668057665e-1)
_L6 = np.float32(2.0000714765e-1)
_L7 = np.float32(-2.4999993993e-1)
_L8 = np.float32(3.3333331174e-1)
# Adding and subtracting 1.5 * 2**23 rounds a small float32 to the nearest integer.
_ROUND = np.float32(12582912.0)
_TO_UNIT = np.float32(2.0**-24)
# Giles' single-precision inverse error function, centre (C) and tail (T).
_C0 = np.float32(2.81022636e-08)
_C1 = np.float32(3.43273939e-07)
_C2 = np.float32(-3.5233877e-06)
_C3 = np.float32(-4.39150654e-06)
_C4 = np.float32(0.00021858087)
_C5 = np.float32(-0.00125372503)
_C6 = np.float32(-0.00417768164)
_C7 = np.float32(0.246640727)
_C8 = np.float32(1.50140941)
_T0 = np.float32(-0.000200214257)
_T1 = np.float32(0.000100950558)
_T2 = np.float32(0.00134934322)
_T3 = np.float32(-0.00367342844)
_T4 = np.float32(0.00573950773)
_T5 = np.float32(-0.0076224613)
_T6 = np.float32(0.00943887047)
_T7 = np.float32(1.00167406)
_T8 = np.float32(2.83297682)
_TAIL = np.float32(5.0)
_CENTRE = np.float32(2.5)
_THREE = np.float32(3.0)
# Above this mean a count is drawn as a rounded normal number.
_MANY = np.float32(30.0)
# Mean activations are kept this far from 0 and 1 in the sparsity penalty.
_MARGIN = np.float32(1e-6)


# --- operations ----------------------------------------------------------------


def _operation(plain=None) -> Any:
    """Decorate what generates the instructions of an operation, in the compiler's own
    terms: the first parameter is not one of the caller's. Without the compiler
    ``plain`` stands for it.
    """
    return intrinsic if COMPILED else lambda generator: plain


def _address(context, builder, signature, arguments, size=1):
    """Pointer to a place of a one-dimensional array from which on ``size`` elements are
    asked for.
    """
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    start = arguments[1]
    _check_bounds(context, builder, array, start, start.type(size))
    return builder.gep(array.data, [start])


def _check_bounds(context, builder, array, start, size):
    """With NUMBA_BOUNDSCHECK, raise IndexError unless all these elements are there."""
    if context.enable_boundscheck:
        room = builder.add(array.nitems, array.nitems.type(1))
        for bound in (start, builder.add(start, size)):
            cgutils.do_boundscheck(context, builder, bound, room)


def _view(a, n_dim, n_numbers, place):
    """Signature and generator of an operation (a, *numbers) that shows some of a
    contiguous array: place(builder, array, *numbers) gives its first element and shape.
    """
    if a.layout != "C":
        raise TypingError(f"a view is of a C-contiguous array, not of {a}")
    kind = types.Array(a.dtype, n_dim, "C", readonly=not a.mutable)

    def generate(context, builder, signature, arguments):
        array = context.make_array(a)(context, builder, arguments[0])
        start, shape = place(builder, array, *arguments[1:])
        _check_bounds(context, builder, array, start, reduce(builder.mul, shape))
        size = context.get_constant(types.intp, kind.dtype.bitwidth // 8)
        view = context.make_array(kind)(context, builder)
        populate_array(
            view,
            data=builder.gep(array.data, [start]),
            shape=shape,
            strides=[*(builder.mul(size, n) for n in shape[1:]), size],
            itemsize=size,
            meminfo=array.meminfo,
            parent=array.parent,
        )
        return impl_ret_borrowed(context, builder, kind, view._getvalue())

    return kind(a, *[types.intp] * n_numbers), generate


# The slices and shapes of NumPy see to every case there is, at a tenth of a second of
# compiling wherever they stand. These look at nothing: what they are asked for must be
# there. (With NUMBA_BOUNDSCHECK they raise IndexError, and without the compiler
# ValueError.)


@_operation(lambda a, start, size: a.reshape(-1)[start : start + size].reshape(size))
def vector_at(typing_context, a, start, size):
    """``size`` elements of a contiguous array, from ``start`` on, as a view."""
    return _view(a, 1, 2, lambda builder, array, start, size: (start, [size]))


@_operation(lambda a, start, m, n: a.reshape(-1)[start : start + m * n].reshape(m, n))
def matrix_at(typing_context, a, start, m, n):
    """m n elements of a contiguous array, from ``start`` on, as an (m, n) view."""
    return _view(a, 2, 3, lambda builder, array, start, m, n: (start, [m, n]))


@_operation(lambda a: a.reshape(-1))
def flat(typing_context, a):
    """All elements of a contiguous array, as a view."""
    return _view(a, 1, 0, lambda builder, array: (array.nitems.type(0), [array.nitems]))


@_operation(lambda a, first, m: a[first : first + m].reshape(m, a.shape[1]))
def rows_at(typing_context, a, first, m):
    """m rows of a contiguous matrix, from row ``first`` on, as a view."""

    def place(builder, array, first, m):
        width = cgutils.unpack_tuple(builder, array.shape)[1]
        return builder.mul(first, width), [m, width]

    return _view(a, 2, 2, place)


@_operation(
    lambda row, start: sum(
        1 << int(j) for j in np.flatnonzero(row[start : start + TILE].reshape(TILE))
    )
)
def nonzero_bits(typing_context, row, start):
    """A bit for each of TILE elements of a row, from ``start`` on: 1 where it is not 0,
    which are found by one comparison of vectors.
    """

    def generate(context, builder, signature, arguments):
        kind = ir.VectorType(context.get_value_type(row.dtype), TILE)
        at = _address(context, builder, signature, arguments, TILE)
        at = builder.bitcast(at, kind.as_pointer())
        tile = builder.load(at, align=row.dtype.bitwidth // 8)
        differs = builder.fcmp_unordered("!=", tile, ir.Constant(kind, None))  # or NaN
        bits = builder.bitcast(differs, ir.IntType(TILE))
        return builder.zext(bits, ir.IntType(64))

    return types.int64(row, types.intp), generate


@_operation(lambda bits: (bits & -bits).bit_length() - 1)
def lowest_bit(typing_context, bits):
    """Place of the lowest bit that is set, of a number that is not 0."""

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.IntType(1)(1))

    return types.int64(types.int64), generate


def _by_type(single, double) -> Any:
    """An operation on a number: ``single`` in float32 and ``double`` in float64. (Two
    branches would both be compiled wherever they stand.)
    """

    @_operation(lambda x: single(x) if x.dtype == np.float32 else np.float64(double(x)))
    def operation(typing_context, x):
        chosen = single if x == types.float32 else double
        function = typing_context.resolve_value_type(chosen)

        def generate(context, builder, signature, arguments):
            return context.get_function(function, signature)(builder, arguments)

        return function.get_call_type(typing_context, (x,), {}), generate

    return operation


# --- random numbers ------------------------------------------------------------


@_jit()
def scramble(x):
    """Mix 32 bits (two rounds of multiply and xor-shift, a bijection).

    Numba promotes uint32 arithmetic to 64 bits, hence a cast after each operation.
    """
    x = np.uint32(x ^ np.uint32(x >> np.uint32(16)))
    x = np.uint32(x * np.uint32(0x7FEB352D))
    x = np.uint32(x ^ np.uint32(x >> np.uint32(15)))
    x = np.uint32(x * np.uint32(0x846CA68B))
    return np.uint32(x ^ np.uint32(x >> np.uint32(16)))


@_jit()
def random_bits(counter, key0, key1):
    """32 random bits: ``scramble(scramble(counter ^ key0) + key1)``."""
    x = scramble(np.uint32(np.uint32(counter) ^ key0))
    return scramble(np.uint32(x + key1))


@_jit(entry=True)
def stream_keys(seed, step, phase):
    """Two key words of the stream of one phase of one mini-batch.

    seed : (2,) uint32. For a fixed seed and phase the keys of different steps differ.
    """
    offset = np.uint32(np.uint32(phase) * np.uint32(0x9E3779B9))
    first = np.uint32(seed[0] ^ offset)
    second = np.uint32(seed[1] + offset)
    counter = np.uint32(step)
    key0 = random_bits(counter, first, second)
    # 0 is a fixed point of scramble: shifted, so that step and seed cannot swap places.
    shifted0 = np.uint32(first + np.uint32(0xC2B2AE35))
    shifted1 = np.uint32(second + np.uint32(0x85EBCA6B))
    key1 = random_bits(counter, scramble(shifted1), scramble(shifted0))
    return key0, key1


@_jit()
def uniform_number(bits):
    """Map 32 bits to a float32 in [0, 1): the upper 24 bits over 2**24."""
    return _F32(np.int32(np.uint32(bits >> np.uint32(8)))) * _TO_UNIT


# Inlined by LLVM, or the loops that draw would not be vectorised.
@_jit(forceinline=True)
def normal_number(bits):
    """Map 32 bits to a standard normal float32: sqrt(2) erfinv(2 u - 1).

    The 24-bit uniform is taken at the middle of its cell, so that u = 0 and u = 1
    do not occur; |z| stays below 5.6.
    """
    k = np.int32(np.uint32(bits >> np.uint32(8)))
    x = _F32(np.int32(2) * k + np.int32(1) - np.int32(1 << 24)) * _TO_UNIT
    w = -log32((_ONE - x) * (_ONE + x))
    c = w - _CENTRE
    p = _C0 * c + _C1
    p = p * c + _C2
    p = p * c + _C3
    p = p * c + _C4
    p = p * c + _C5
    p = p * c + _C6
    p = p * c + _C7
    p = p * c + _C8
    t = np.sqrt(w) - _THREE
    q = _T0 * t + _T1
    q = q * t + _T2
    q = q * t + _T3
    q = q * t + _T4
    q = q * t + _T5
    q = q * t + _T6
    q = q * t + _T7
    q = q * t + _T8
    return _SQRT2 * (p if w < _TAIL else q) * x


# --- elementary functions ------------------------------------------------------


@_jit(fastmath=_FUSE)
def exp32(x):
    """exp(x) in float32, relative error about 1e-7; x is held in [-87.3, 88.3]."""
    x = min(max(x, _EXP_LO), _EXP_HI)  # in this form NaN passes through
    n = (x * _LOG2E + _ROUND) - _ROUND
    r = x - n * _LN2_HI
    r = r - n * _LN2_LO
    p = _E0 * r + _E1
    p = p * r + _E2
    p = p * r + _E3
    p = p * r + _E4
    p = p * r + _E5
    p = p * (r * r) + r + _ONE
    power = np.int32((np.int32(n) + np.int32(127)) << np.int32(23))
    return p * power.view(np.float32)


@_jit()
def log32(x):
    """log(x) in float32 for positive, normal x."""
    bits = _F32(x).view(np.int32)
    e = np.int32(np.int32(bits >> np.int32(23)) - np.int32(127))
    m = np.int32((bits & np.int32(0x007FFFFF)) | np.int32(0x3F800000)).view(np.float32)
    high = m > _SQRT2
    f = (m * _HALF if high else m) - _ONE
    n = _F32(e) + (_ONE if high else _ZERO)
    z = f * f
    p = _L0 * f + _L1
    p = p * f + _L2
    p = p * f + _L3
    p = p * f + _L4
    p = p * f + _L5
    p = p * f + _L6
    p = p * f + _L7
    p = p * f + _L8
    y = f * z * p + n * _LN2_LO - _HALF * z
    return f + y + n * _LN2_HI


exp = _by_type(exp32, math.exp)
log = _by_type(log32, math.log)


@_jit(fastmath=_FUSE)
def logistic(z):
    """z <- 1 / (1 + exp(-z)), in place; z : (size,). NaN passes through."""
    for i in range(z.size):
        z[i] = _ONE / (_ONE + exp(-z[i]))


@_jit(fastmath=_FUSE)
def activate(z, activation):
    """z <- f(z), in place; z : (size,). NaN passes through every activation."""
    if activation == LOGISTIC:
        logistic(z)
    elif activation == TANH:
        for i in range(z.size):  # tanh(x) = 2 logistic(2 x) - 1
            z[i] = _TWO / (_ONE + exp(-_TWO * z[i])) - _ONE
    elif activation == RELU:
        for i in range(z.size):
            # A product, since a choice between 0 and z[i] becomes a masked store,
            # five times slower on some processors. NaN passes through.
            z[i] = max(z[i], _LOWEST) * (_ZERO if z[i] <= _ZERO else _ONE)
    elif activation == SOFTPLUS:
        softplus(z)
    elif activation == ELU:
        for i in range(z.size):
            x = z[i]
            below = exp(-abs(x)) - _ONE
            z[i] = x if x > _ZERO else below


@_jit()
def slope_number(a, activation):
    """f'(z) from the output a = f(z)."""
    one = a * _ZERO + _ONE  # NaN stays NaN
    if activation == LOGISTIC:
        return a * (one - a)
    if activation == TANH:
        return one - a * a
    if activation == RELU:
        return one if a > 0 else one - one
    if activation == SOFTPLUS:
        return one - math.exp(-a)
    if activation == ELU:
        return one if a > 0 else one + a
    return one


@_jit()
def curvature_number(a, activation):
    """Derivative of f' by the output a = f(z)."""
    zero = a * _ZERO
    one = zero + _ONE
    if activation == LOGISTIC:
        return one - a - a
    if activation == TANH:
        return -a - a
    if activation == SOFTPLUS:
        return math.exp(-a)
    if activation == ELU:
        return zero if a > 0 else one
    return zero


@_jit()
def multiply_derivative(delta, a, activation):
    """delta <- delta * f'(z), written on the output a = f(z); both (size,)."""
    if activation == LOGISTIC:
        for i in range(a.size):
            delta[i] *= a[i] * (_ONE - a[i])
    elif activation == TANH:
        for i in range(a.size):
            delta[i] *= _ONE - a[i] * a[i]
    elif activation == RELU:
        for i in range(a.size):
            delta[i] = _ZERO if a[i] <= _ZERO else delta[i]
    elif activation == SOFTPLUS or activation == ELU:
        for i in range(a.size):
            delta[i] *= slope_number(a[i], activation)


@_jit()
def copy(a, out):
    """out <- a on the first a.size elements. (Assigning to a slice would compile
    string formatting for an error message: 8 seconds.)
    """
    for i in range(a.size):
        out[i] = a[i]


@_jit()
def fill(a, value):
    """a <- value; a : (size,)."""
    for i in range(a.size):
        a[i] = value


@_jit()
def scale(a, factor):
    """a <- factor * a; a : (size,)."""
    for i in range(a.size):
        a[i] *= factor


@_jit()
def add_row(a, weight, row):
    """a <- a + weight * row in every row; a : (rows, n), row : (n,)."""
    for r in range(a.shape[0]):
        for j in range(a.shape[1]):
            a[r, j] += weight * row[j]


@_jit()
def add_rows(a, weight, out):
    """out <- out + weight * sum of the rows of a; a : (rows, n), out : (n,)."""
    for r in range(a.shape[0]):
        for j in range(a.shape[1]):
            out[j] += weight * a[r, j]


@_jit(inline="always")
def column_sums(a, out):
    """out <- sum of the rows of a; a : (rows, n), out : (n,)."""
    fill(out, _ZERO)
    add_rows(a, _ONE, out)


@_jit(fastmath=_REORDER)
def squared_distance(a, b):
    """sum (a - b)**2 of two vectors of one length."""
    total = a.dtype.type(0.0)
    for i in range(a.size):
        difference = a[i] - b[i]
        total += difference * difference
    return total


@_jit(fastmath=_REORDER)
def inner_product(a, b):
    """sum a * b of two vectors of one length."""
    total = a.dtype.type(0.0)
    for i in range(a.size):
        total += a[i] * b[i]
    return total


@_jit()
def sample_bernoulli(p, counter, key0, key1):
    """p <- 1 where u < p, else 0, in place; p : (size,), counters from ``counter``."""
    first = np.uint32(counter)
    for i in range(p.size):
        u = uniform_number(random_bits(np.uint32(first + np.uint32(i)), key0, key1))
        p[i] = _ONE if u < p[i] else _ZERO


@_jit()
def sample_softmax(p, counter, key0, key1):
    """p <- a one-hot sample with probabilities p, in place; p : (size,), one uniform
    number for the group.
    """
    u = p.dtype.type(uniform_number(random_bits(np.uint32(counter), key0, key1)))
    left = u
    chosen = p.size - 1
    for j in range(p.size):
        left -= p[j]
        if left < _ZERO:
            chosen = j
            break
    for j in range(p.size):
        p[j] = _ONE if j == chosen else _ZERO


@_jit()
def poisson_number(mean, bits):
    """A poisson number by inversion of one uniform number; where the mean is above
    30, a normal number of the same mean and variance, rounded and not below 0.
    """
    if not mean <= _MANY:  # NaN goes on as NaN
        return max(np.floor(mean + np.sqrt(mean) * normal_number(bits) + _HALF), _ZERO)
    u = uniform_number(bits)
    term = exp32(-mean)
    total = term
    k = _ZERO
    while u >= total and term > _ZERO:
        k += _ONE
        term *= mean / k
        if k > mean and total + term == total:  # the rest is below rounding
            break
        total += term
    return k


@_jit()
def sample_poisson(mean, counter, key0, key1):
    """mean <- poisson numbers of these means, in place; mean : (size,)."""
    first = np.uint32(counter)
    for i in range(mean.size):
        bits = random_bits(np.uint32(first + np.uint32(i)), key0, key1)
        mean[i] = poisson_number(_F32(mean[i]), bits)


@_jit()
def add_normal(a, scale, counter, key0, key1):
    """a <- a + scale * N(0, 1), in place; a : (size,), counters from ``counter``."""
    first = np.uint32(counter)
    for i in range(a.size):
        z = normal_number(random_bits(np.uint32(first + np.uint32(i)), key0, key1))
        a[i] += scale * z


# --- products that threads share -----------------------------------------------


@_operation()
def atomic_load(typing_context, array, place):
    """array[place], before anything that is read later."""

    def generate(context, builder, signature, arguments):
        at = _address(context, builder, signature, arguments)
        return builder.load_atomic(at, "acquire", 8)

    return types.int64(array, types.intp), generate


@_operation()
def atomic_add(typing_context, array, place, number):
    """array[place] += number, in one step; what was there before."""

    def generate(context, builder, signature, arguments):
        at = _address(context, builder, signature, arguments)
        return builder.atomic_rmw("add", at, arguments[2], "seq_cst")

    return types.int64(array, types.intp, types.int64), generate


@_operation()
def atomic_store(typing_context, array, place, number):
    """array[place] <- number, after anything that was written before."""

    def generate(context, builder, signature, arguments):
        at = _address(context, builder, signature, arguments)
        builder.store_atomic(arguments[2], at, "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.int64), generate


@_operation()
def blas_gemm(
    typing_context, turned_a, turned_b, m, n, k, a, lda, b, ldb, c, ldc, item_size
):
    """C <- A B in column order, by the BLAS that NumPy products in numba call.

    The parameters of xGEMM, with addresses as numbers. np.dot takes no parts of
    matrices, and looks at its arguments wherever it stands.
    """

    def generate(context, builder, signature, arguments):
        *turned, m, n, k, a, lda, b, ldb, c, ldc, size = arguments
        a, b, c = _pointers(builder, a, b, c)
        one, zero = (_blas_number(builder, number, size) for number in (1.0, 0.0))
        sizes_and_matrices = m, n, k, one, a, lda, b, ldb, zero, c, ldc
        return _call_blas(context, builder, "gemm", size, turned, sizes_and_matrices)

    return types.void(*[types.intp] * 12), generate


@_operation()
def blas_gemv(typing_context, turned, m, n, a, lda, x, y, item_size):
    """y <- A x in column order; the parameters of xGEMV, as in ``blas_gemm``."""

    def generate(context, builder, signature, arguments):
        turned, m, n, a, lda, x, y, size = arguments
        a, x, y = _pointers(builder, a, x, y)
        one, zero = (_blas_number(builder, number, size) for number in (1.0, 0.0))
        sizes_and_arrays = m, n, one, a, lda, x, zero, y
        return _call_blas(context, builder, "gemv", size, [turned], sizes_and_arrays)

    return types.void(*[types.intp] * 8), generate


def _pointers(builder, *addresses):
    """Pointers to addresses that are numbers."""
    return [builder.inttoptr(address, cgutils.voidptr_t) for address in addresses]


def _by_size(builder, item_size, single, double):
    """``single`` where numbers take four bytes, else ``double``."""
    is_single = builder.icmp_signed("==", item_size, item_size.type(4))
    return builder.select(is_single, single, double)


def _blas_number(builder, number, item_size):
    """Pointer to a number as BLAS takes it."""
    kinds = ir.FloatType(), ir.DoubleType()
    slots = [cgutils.alloca_once_value(builder, kind(number)) for kind in kinds]
    pointers = [builder.bitcast(slot, cgutils.voidptr_t) for slot in slots]
    return _by_size(builder, item_size, *pointers)


def _call_blas(context, builder, name, item_size, turned, others):
    """Call numba's way into a function of BLAS: a letter for the type, one for each
    matrix that says whether it is transposed, and the other arguments.
    """
    ensure_blas()
    letter = {character: ir.IntType(8)(ord(character)) for character in "sdnt"}
    values = [_by_size(builder, item_size, letter["s"], letter["d"])]
    for flag in turned:
        is_set = builder.icmp_signed("!=", flag, flag.type(0))
        values.append(builder.select(is_set, letter["t"], letter["n"]))
    values += others
    shape = ir.FunctionType(ir.IntType(32), [value.type for value in values])
    call = cgutils.get_or_insert_function(builder.module, shape, f"numba_xx{name}")
    builder.call(call, values)
    return context.get_dummy_value()


@_jit()
def multiply_part(product, part, n_parts):
    """Part number ``part`` of n_parts of out <- a w: some rows of out where it has more
    rows than columns, else some of its columns. product : its description.
    """
    m, k, n = product[N_ROWS], product[N_INNER], product[N_COLUMNS]
    a, w, out = product[LEFT], product[RIGHT], product[OUT]
    a_turned, w_turned = product[LEFT_TURNED], product[RIGHT_TURNED]
    size = product[ITEM_SIZE]
    rows, columns = m, n
    if m > n:
        first = m * part // n_parts
        rows = m * (part + 1) // n_parts - first
        a += size * first * (1 if a_turned else k)
        out += size * first * n
    else:
        first = n * part // n_parts
        columns = n * (part + 1) // n_parts - first
        w += size * first * (k if w_turned else 1)
        out += size * first
    # In column order all three are transposed, so out' <- w' a'.
    a_width, w_width = m if a_turned else k, k if w_turned else n
    blas_gemm(
        w_turned, a_turned, columns, rows, k, w, w_width, a, a_width, out, n, size
    )


@_jit(inline="always")
def take_parts(team):
    """Multiply parts of the team's present product until none is left to take. Returns
    how many it were. team : (TEAM_SIZE,) state.

    A number in TAKEN that says that there is a part left makes it the taker's, and the
    product stays until all its parts are done.
    """
    n_mine = 0
    state = atomic_load(team, TAKEN)
    while (state & 0xFFFF) < (state >> 16):
        state = atomic_add(team, TAKEN, 1)
        part, n_parts = state & 0xFFFF, state >> 16
        if part < n_parts:
            multiply_part(vector_at(team, PRODUCT, TEAM_SIZE - PRODUCT), part, n_parts)
            atomic_add(team, DONE, 1)
            n_mine += 1
        state = atomic_load(team, TAKEN)
    return n_mine


@_jit(entry=True)
def assist(team):
    """Take parts of a team's products until its work is over, or long after there was
    one to take. team : (TEAM_SIZE,) state.
    """
    idle = 0
    while idle < PATIENCE and atomic_load(team, OVER) == 0:
        idle = idle + 1 if take_parts(team) == 0 else 0


@_jit()
def n_parts_of(m, k, n):
    """Parts of a product (m, k) (k, n)."""
    n_parts = np.int64(1)
    for most in (SHARED, 8 * SHARED, 32 * SHARED):
        if m * k * n >= most:
            n_parts *= 2
    return n_parts


@_jit()
def matmul(a, w, a_turned, w_turned, out, team):
    """out <- a w, with a' in place of a, or w' in place of w, where one is turned.

    All in row order; out : (m, n); team : (TEAM_SIZE,) state of the threads that share
    large products, or (0,) where they stay whole.
    """
    if not COMPILED:  # else numba leaves this out, and with it what np.dot costs
        np.dot(a.T if a_turned else a, w.T if w_turned else w, out)
        return
    m, n = out.shape
    at_a, at_w, at_out = a.ctypes.data, w.ctypes.data, out.ctypes.data
    (a_rows, lda), (w_rows, ldw), size = a.shape, w.shape, out.itemsize
    k = a_rows if a_turned else lda
    n_parts = n_parts_of(m, k, n)
    if team.size == 0 or n_parts == 1:
        # In column order all three are transposed, so out' <- w' a'.
        if n == 1:
            blas_gemv(not a_turned, lda, a_rows, at_a, lda, at_w, at_out, size)
        elif m == 1:
            blas_gemv(w_turned, ldw, w_rows, at_w, ldw, at_a, at_out, size)
        else:
            turns = w_turned, a_turned
            blas_gemm(*turns, n, m, k, at_w, ldw, at_a, lda, at_out, n, size)
        return
    product = vector_at(team, PRODUCT, TEAM_SIZE - PRODUCT)
    product[LEFT], product[RIGHT], product[OUT] = at_a, at_w, at_out
    product[N_ROWS], product[N_INNER], product[N_COLUMNS] = m, k, n
    product[LEFT_TURNED], product[RIGHT_TURNED] = a_turned, w_turned
    product[ITEM_SIZE] = size
    atomic_store(team, DONE, 0)
    atomic_store(team, TAKEN, n_parts << 16)
    take_parts(team)
    while atomic_load(team, DONE) < n_parts:
        pass


# --- products of few rows ------------------------------------------------------


@_jit(fastmath=_REORDER)
def few_rows_product(a, w, out):
    """out <- a w; a : (m, k), w : (k, n), out : (m, n).

    Two rows and four columns of a at a time, so that a row of w serves eight
    multiplications. An odd last row is its own partner (both write the same).
    """
    k, n = w.shape
    whole = k - k % 4
    for r in range(0, a.shape[0], 2):
        q = min(r + 1, a.shape[0] - 1)
        first, second = out[r], out[q]
        for j in range(n):
            first[j] = _ZERO
            second[j] = _ZERO
        for i in range(0, whole, 4):
            a0, a1, a2, a3 = a[r, i], a[r, i + 1], a[r, i + 2], a[r, i + 3]
            b0, b1, b2, b3 = a[q, i], a[q, i + 1], a[q, i + 2], a[q, i + 3]
            w0, w1, w2, w3 = w[i], w[i + 1], w[i + 2], w[i + 3]
            for j in range(n):
                x0, x1, x2, x3 = w0[j], w1[j], w2[j], w3[j]
                one = first[j] + a0 * x0 + a1 * x1 + a2 * x2 + a3 * x3
                two = second[j] + b0 * x0 + b1 * x1 + b2 * x2 + b3 * x3
                first[j] = one
                second[j] = two
        for i in range(whole, k):
            for j in range(n):
                one = first[j] + a[r, i] * w[i, j]
                two = second[j] + a[q, i] * w[i, j]
                first[j] = one
                second[j] = two


@_jit(fastmath=_REORDER)
def few_rows_product_transposed(a, w, out):
    """out <- a w'; a : (m, k), w : (n, k), out : (m, n). Two rows of a and four of w
    at a time, as in ``few_rows_product``.
    """
    n, k = w.shape
    whole = n - n % 4
    for r in range(0, a.shape[0], 2):
        q = min(r + 1, a.shape[0] - 1)
        first, second = a[r], a[q]
        for i in range(0, whole, 4):
            w0, w1, w2, w3 = w[i], w[i + 1], w[i + 2], w[i + 3]
            zero = a.dtype.type(0.0)
            s0, s1, s2, s3 = zero, zero, zero, zero
            t0, t1, t2, t3 = zero, zero, zero, zero
            for j in range(k):
                x, y = first[j], second[j]
                s0 += x * w0[j]
                s1 += x * w1[j]
                s2 += x * w2[j]
                s3 += x * w3[j]
                t0 += y * w0[j]
                t1 += y * w1[j]
                t2 += y * w2[j]
                t3 += y * w3[j]
            out[r, i], out[r, i + 1], out[r, i + 2], out[r, i + 3] = s0, s1, s2, s3
            out[q, i], out[q, i + 1], out[q, i + 2], out[q, i + 3] = t0, t1, t2, t3
        for i in range(whole, n):
            out[r, i] = inner_product(first, w[i])
            out[q, i] = inner_product(second, w[i])


@_jit()
def nonzero_places(row, places):
    """places[:n] <- where row : (k,) is not 0, in order; places : (k,), k of at least
    TILE. Returns n.
    """
    n = 0
    for start in range(0, row.size, TILE):
        first = min(start, row.size - TILE)  # the last tile ends with the row
        bits = nonzero_bits(row, first) >> (start - first)
        while bits != 0:
            places[n] = start + lowest_bit(bits)
            n += 1
            bits &= bits - 1
    return n


@_jit()
def few_nonzeros(a, starts, places):
    """Whether sums over the elements of a : (m, k) that are not 0 are sooner than dense
    products. If so, places[starts[r] : starts[r + 1]] <- their columns in each row r;
    otherwise the list ends where there are too many.

    starts : (m + 1,), of which the first is given; places : as nonzero_room says, and
    as many before as the first start. No places: no list is wanted.
    """
    if places.size == 0:
        return False
    most = starts[0] + np.int64(SPARSE_SHARE * a.size)
    for r in range(a.shape[0]):
        start = starts[r]
        starts[r + 1] = start + nonzero_places(
            a[r], vector_at(places, start, places.size - start)
        )
        if starts[r + 1] > most:
            return False
    return True


@_jit()
def nonzero_room(m, k, n):
    """Length of a list of the few elements of an (m, k) matrix that are not 0, with
    room for a row too many; 0 where products with n columns are always dense.
    """
    if k < WIDE_ROW or n < WIDE_ROW:
        return np.int64(0)
    return np.int64(SPARSE_SHARE * m * k) + k


def room_for_lists(m, shapes):
    """Workspace ``lists`` of the kernels for matrices (m, k) in products with n
    columns, of the given shapes (k, n): (4, longest) numbers.

    Its rows are starts and places, as few_nonzeros says, and ends and rows, as
    by_column says. What they hold is of no use after a call.
    """
    # As Python: the kernel is for other kernels alone.
    room = getattr(nonzero_room, "py_func", nonzero_room)
    longest = max(max(m + 1, k + 1, room(m, k, n)) for k, n in shapes)
    return np.empty((4, longest), np.int64)


@_jit(fastmath=_FUSE)
def sparse_product(a, w, starts, places, out):
    """out <- a w, over the elements of a that are listed; a : (m, k), w : (k, n). Four
    of them at once, so that a row of out is read and written a quarter as often.
    """
    for r in range(a.shape[0]):
        row, total = a[r], out[r]
        fill(total, _ZERO)
        start, end = starts[r], starts[r + 1]
        whole = end - (end - start) % 4
        for p in range(start, whole, 4):
            i0, i1, i2, i3 = places[p], places[p + 1], places[p + 2], places[p + 3]
            x0, x1, x2, x3 = row[i0], row[i1], row[i2], row[i3]
            for j in range(total.size):
                total[j] += (x0 * w[i0, j] + x1 * w[i1, j]) + (
                    x2 * w[i2, j] + x3 * w[i3, j]
                )
        for p in range(whole, end):
            add_row(rows_at(out, r, 1), row[places[p]], w[places[p]])


@_jit()
def by_column(starts, places, ends, rows):
    """rows <- the rows r of the listed elements of an (m, k) matrix, sorted by their
    columns and in each by r; ends <- the ends of the columns among them, and of all.

    starts : (m + 1,); ends : (k + 1,); places, rows : as nonzero_room says.
    """
    m, k = starts.size - 1, ends.size - 1
    for i in range(k + 1):
        ends[i] = 0
    for p in range(starts[0], starts[m]):
        ends[places[p] + 1] += 1
    for i in range(k):
        ends[i + 1] += ends[i]
    # The elements of column i begin at ends[i], which moves to their end.
    for r in range(m):
        for p in range(starts[r], starts[r + 1]):
            i = places[p]
            rows[ends[i]] = r
            ends[i] += 1


@_jit(fastmath=_FUSE)
def sparse_outer_product(a, d, rows, ends, first, out):
    """out <- a' d, over the elements of a that by_column says, for the columns of a
    from ``first`` on; a : (m, k), d : (m, n), out : (up to k - first, n).
    """
    p = ends[first - 1] if first > 0 else _FIRST
    for i in range(first, first + out.shape[0]):
        total = out[i - first]
        fill(total, _ZERO)
        while p + 1 < ends[i]:
            r0, r1 = rows[p], rows[p + 1]
            x0, x1 = a[r0, i], a[r1, i]
            for j in range(total.size):
                total[j] += x0 * d[r0, j] + x1 * d[r1, j]
            p += 2
        if p < ends[i]:
            add_row(rows_at(out, i - first, 1), a[rows[p], i], d[rows[p]])
            p += 1


@_jit(inline="always")
def dense_product(a, w, out, team):
    """out <- a w; a : (m, k), w : (k, n), out : (m, n)."""
    if a.shape[0] <= FEW_ROWS and w.shape[1] >= LONG_ROW:
        few_rows_product(a, w, out)
    else:
        matmul(a, w, AS_IT_IS, AS_IT_IS, out, team)


@_jit()
def listed_product(a, w, starts, places, out, team):
    """out <- a w, over the few elements of a that are not 0, or dense where they are
    many; a : (m, k), w : (k, n), out : (m, n). Returns whether they are few and listed.

    starts, places : of the list, as few_nonzeros says.
    """
    few = few_nonzeros(a, starts, places)
    if few:
        sparse_product(a, w, starts, places, out)
    else:
        dense_product(a, w, out, team)
    return few


@_jit(inline="always")
def product(a, w, out, lists, team):
    """out <- a w, dense or over what is not 0; a : (m, k), w : (k, n), out : (m, n).
    lists : room_for_lists.
    """
    room = nonzero_room(a.shape[0], a.shape[1], w.shape[1])
    starts, places = lists[0], vector_at(lists, lists.shape[1], room)
    starts[0] = 0
    listed_product(a, w, starts, places, out, team)


@_jit(inline="always")
def outer_product(a, d, out, lists, team):
    """out <- a' d, dense or over what is not 0; a : (m, k), d : (m, n), out :
    (k, n). lists : room_for_lists.
    """
    m, k = a.shape
    longest = lists.shape[1]
    starts = vector_at(lists, 0, m + 1)
    places = vector_at(lists, longest, nonzero_room(m, k, d.shape[1]))
    starts[0] = 0
    if few_nonzeros(a, starts, places):
        ends, rows = vector_at(lists, 2 * longest, k + 1), lists[3]
        by_column(starts, places, ends, rows)
        sparse_outer_product(a, d, rows, ends, _FIRST, out)
    else:
        matmul(a, d, TURNED, AS_IT_IS, out, team)


@_jit(inline="always")
def product_transposed(a, w, out, team):
    """out <- a w'; a : (m, k), w : (n, k), out : (m, n)."""
    if a.shape[0] <= FEW_ROWS and w.shape[1] >= LONG_ROW:
        few_rows_product_transposed(a, w, out)
    else:
        matmul(a, w, AS_IT_IS, TURNED, out, team)


# --- contrastive divergence ----------------------------------------------------


@_jit()
def softmax(z):
    """z <- exp(z) / sum exp(z), in place; z : (size,)."""
    top = z[0]
    for j in range(1, z.size):
        top = max(top, z[j])
    total = 0.0
    for j in range(z.size):
        x = z[j] - top
        z[j] = exp(x)
        total += z[j]
    scale(z, z.dtype.type(1.0 / total))


@_jit(fastmath=_FUSE)
def exponential(z):
    """z <- exp(z), in place; z : (size,)."""
    for i in range(z.size):
        z[i] = exp(z[i])


@_jit(fastmath=_FUSE)
def softplus(z):
    """z <- log(1 + exp(z)), in place; z : (size,). NaN passes through."""
    for i in range(z.size):
        x = z[i]
        z[i] = max(x, _ZERO) + log(_ONE + exp(-abs(x)))


@_jit()
def sample_rectified(x, key0, key1):
    """x <- max(0, x + N(0, logistic(x))), in place; x : (size,), the second argument
    being a variance (Nair and Hinton 2010, section 2).
    """
    for i in range(x.size):
        z = normal_number(random_bits(np.uint32(i), key0, key1))
        variance = _ONE / (_ONE + exp(-x[i]))
        x[i] = max(x[i] + np.sqrt(variance) * z, _ZERO)


@_jit()
def hidden_units(x, states, hidden, drawn, key0, key1):
    """x <- E[h | v] from the pre-activations x; where ``drawn``, states <- a sample.

    Means: logistic(x) of bernoulli units, log(1 + exp(x)) of rectified and x of
    gaussian ones. x, states : (size,).
    """
    if hidden == BERNOULLI_HIDDEN:
        logistic(x)
        if drawn:
            copy(x, states)
            sample_bernoulli(states, _FIRST, key0, key1)
        return
    if drawn:
        copy(x, states)
        if hidden == RELU_HIDDEN:
            sample_rectified(states, key0, key1)
        else:
            add_normal(states, x.dtype.type(1.0), _FIRST, key0, key1)
    if hidden == RELU_HIDDEN:
        softplus(x)


@_jit()
def visible_means(z, blocks):
    """z <- E[v | h] from the visible pre-activations, block by block; z : (rows, n)."""
    n = z.shape[1]
    # One block covers all rows, unless a row is a group of its own.
    whole = blocks.shape[0] == 1 and blocks[0, KIND] != SOFTMAX
    runs = 1 if whole else z.shape[0]
    for r in range(runs):
        for b in range(blocks.shape[0]):
            start = r * n + blocks[b, START]
            stop = z.size if whole else r * n + blocks[b, STOP]
            block = vector_at(z, start, stop - start)
            if blocks[b, KIND] == BERNOULLI:
                logistic(block)
            elif blocks[b, KIND] == SOFTMAX:
                softmax(block)
            elif blocks[b, KIND] == POISSON:
                exponential(block)


@_jit()
def sample_visible(v, blocks, key0, key1):
    """v <- a sample of p(v | h) with mean v, in the blocks marked as sampled.

    Bernoulli units, softmax groups and counts are drawn, gaussian units (unit
    variance) get normal noise.
    """
    n = v.shape[1]
    whole = blocks.shape[0] == 1 and blocks[0, KIND] != SOFTMAX
    runs = 1 if whole else v.shape[0]
    for r in range(runs):
        for b in range(blocks.shape[0]):
            start = r * n + blocks[b, START]
            stop = v.size if whole else r * n + blocks[b, STOP]
            if blocks[b, SAMPLED] == 0:
                continue
            block = vector_at(v, start, stop - start)
            if blocks[b, KIND] == BERNOULLI:
                sample_bernoulli(block, start, key0, key1)
            elif blocks[b, KIND] == SOFTMAX:
                sample_softmax(block, start, key0, key1)
            elif blocks[b, KIND] == POISSON:
                sample_poisson(block, start, key0, key1)
            else:
                add_normal(block, v.dtype.type(1.0), start, key0, key1)


@_jit()
def reconstruction_error(rows, v, n):
    """Squared distance of the first n rows of both; rows, v : (>= n, n_visible)."""
    size = n * rows.shape[1]
    return squared_distance(vector_at(rows, 0, size), vector_at(v, 0, size))


@_jit()
def scale_rows(a, betas, shift):
    """a <- beta a + (1 - beta) shift, where equal runs of rows belong to betas;
    a : (n, k), shift : (k,).
    """
    share = a.shape[0] // betas.size
    for t in range(1, betas.size):  # the first beta is 1
        part, beta = rows_at(a, t * share, share), a.dtype.type(betas[t])
        scale(flat(part), beta)
        add_row(part, _ONE - beta, shift)


@_jit()
def interaction(field, state, lam):
    """sum field * (state - lam); all (n_hidden,)."""
    total = 0.0
    for j in range(state.size):
        total += field[j] * (state[j] - lam[j])
    return total


@_jit()
def swap_chains(states, fields, lam, betas, first, key0, key1):
    """Exchange the states of chains at neighbouring temperatures (user guide, eq. 8).

    With the interaction I = (v - mu) w (h - lam)' of a chain, chains a and b at beta_a
    and beta_b change places with probability min(1, exp((beta_a - beta_b) (I_b -
    I_a))). Pairs begin at the temperatures first, first + 2, ... states, fields = (v -
    mu) w : (betas.size * n, n_hidden), of which the states are exchanged.
    """
    n = states.shape[0] // betas.size
    for t in range(first, betas.size - 1, 2):
        gap = betas[t] - betas[t + 1]
        for i in range(n):
            a, b = t * n + i, (t + 1) * n + i
            gain = interaction(fields[b], states[b], lam)
            gain -= interaction(fields[a], states[a], lam)
            u = uniform_number(random_bits(np.uint32(a), key0, key1))
            if u < math.exp(min(gap * gain, 0.0)):
                for j in range(states.shape[1]):
                    kept = states[a, j]
                    states[a, j] = states[b, j]
                    states[b, j] = kept


@_jit(inline="always")
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
    """Positive and negative phase of one mini-batch (user guide, eqs. 6-7).

    Upper part of v, h: the m rows and E[h | v]; lower part: the end of the Gibbs
    chains and E[h | v] there. Samples only drive the chains.

    rows : (m, n_visible); w : (n_visible, n_hidden); v : (m + n_chains, n_visible);
    h : (m + n_chains, n_hidden); s : (n_chains, n_hidden) workspace; chain :
    (n_chains, n_hidden) hidden states of persistent chains, or (0, n_hidden); betas :
    inverse temperatures, of which the first is 1 and each has an equal run of the
    persistent chains. Where there are several, lam : offsets of the hidden units,
    shifts : mu w and w lam', (n_hidden + n_visible,), and fields : workspace like s.
    starts : (m + n_chains + 1,) and places : the list of what is not 0 in v, if that is
    little; no places if no list is wanted. Returns the squared error of the
    reconstructions of the first rows, how many rows those are, and whether v is listed.
    """
    m = rows.shape[0]
    persistent = chain.shape[0] > 0
    tempered = betas.size > 1
    hidden_shift = vector_at(shifts, 0, w.shape[1])
    visible_shift = vector_at(shifts, w.shape[1], w.shape[0])
    n_paired, n_chains = m, v.shape[0] - m
    copy(flat(rows), flat(v))
    v0, v1 = rows_at(v, 0, m), rows_at(v, m, n_chains)
    h0, h1 = rows_at(h, 0, m), rows_at(h, m, n_chains)
    states = flat(s)
    starts[0] = 0
    few, few_below = listed_product(v0, w, starts, places, h0, team), False
    if not few:
        starts[m] = 0
    add_row(h0, _ONE, hidden_bias)
    key0, key1 = stream_keys(seed, step, _FIRST)
    hidden_units(flat(h0), states, hidden, not persistent, key0, key1)
    if persistent:
        # No more rows than there are chains to hold their reconstructions.
        n_paired = (m + PERSISTENT_LOSS_SHARE - 1) // PERSISTENT_LOSS_SHARE
        n_paired = min(n_paired, chain.shape[0])
        paired = rows_at(v1, 0, n_paired)
        product_transposed(rows_at(h0, 0, n_paired), w, paired, team)
        add_row(paired, _ONE, visible_bias)
        visible_means(paired, blocks)
        loss = reconstruction_error(rows, v1, n_paired)
        copy(flat(chain), states)
    else:
        loss = rows.dtype.type(0.0)
    for k in range(gibbs):
        product_transposed(s, w, v1, team)
        scale_rows(v1, betas, visible_shift)
        add_row(v1, _ONE, visible_bias)
        visible_means(v1, blocks)
        if k == 0 and not persistent:
            loss = reconstruction_error(rows, v1, n_paired)
        key0, key1 = stream_keys(seed, step, 2 * k + 1)
        sample_visible(v1, blocks, key0, key1)
        starts_below = vector_at(starts, m, n_chains + 1)
        few_below = listed_product(v1, w, starts_below, places, h1, team)
        if tempered:
            copy(flat(h1), flat(fields))
            add_row(fields, -_ONE, hidden_shift)
            scale_rows(h1, betas, hidden_shift)
        add_row(h1, _ONE, hidden_bias)
        key0, key1 = stream_keys(seed, step, 2 * k + 2)
        drawn = persistent or k < gibbs - 1
        hidden_units(flat(h1), states, hidden, drawn, key0, key1)
    if tempered:
        key0, key1 = stream_keys(seed, step, 2 * gibbs + 1)
        swap_chains(s, fields, lam, betas, step % 2, key0, key1)
    if persistent:
        copy(states, flat(chain))
    return loss, n_paired, few and few_below


@_jit(inline="always")
def slide(offset, a, rate):
    """offset <- (1 - rate) offset + rate * mean of the rows of a."""
    scale(offset, a.dtype.type(1.0 - rate))
    add_rows(a, a.dtype.type(rate / a.shape[0]), offset)


@_jit(inline="always")
def weigh_phases(h, m):
    """Scale the first m rows of h by 1 / m and the others by -1 / their number, so
    that a sum over rows is the difference of the two phases' means.
    """
    n = h.shape[0] - m
    scale(flat(rows_at(h, 0, m)), h.dtype.type(1.0 / m))
    scale(flat(rows_at(h, m, n)), h.dtype.type(-1.0 / n))


@_jit(inline="always")
def weighted_column_sums(v, m, out):
    """out <- mean of the first m rows of v minus the mean of the others."""
    n = v.shape[0] - m
    fill(out, _ZERO)
    add_rows(rows_at(v, 0, m), v.dtype.type(1.0 / m), out)
    add_rows(rows_at(v, m, n), v.dtype.type(-1.0 / n), out)


@_jit(inline="always")
def listed_column_sums(v, m, starts, places, out):
    """weighted_column_sums over the elements of v that are listed."""
    positive = v.dtype.type(1.0 / m)
    negative = v.dtype.type(-1.0 / (v.shape[0] - m))
    fill(out, _ZERO)
    for r in range(v.shape[0]):
        weight = positive if r < m else negative
        for p in range(starts[r], starts[r + 1]):
            out[places[p]] += weight * v[r, places[p]]


@_jit()
def centre_biases(gw, mu, lam, gc, gb):
    """gc <- gc - gw' mu and gb <- gb - gw lam, for some rows of the weights' gradient.

    gw : (rows, n_hidden); mu, gb : (rows,), of the same visible units; lam, gc :
    (n_hidden,).
    """
    gc_row = matrix_at(gc, 0, 1, gc.size)
    for i in range(gw.shape[0]):
        row = gw[i]
        add_row(gc_row, -mu[i], row)
        gb[i] -= inner_product(row, lam)


@_jit(inline="always")
def cd_gradient(v, h, m, centered, mu, lam, grad, team):
    """Ascent direction of the log-likelihood from the statistics of both phases.

    With D the mean of the first m rows minus the mean of the others, and offsets mu,
    lam where it is centered (without: the same with zeros; user guide, eq. 12):

        grad_w = D[(v - mu)' (h - lam)]
        grad_c = D[h] - grad_w' mu
        grad_b = D[v] - grad_w lam

    v : (m + n_chains, n_visible) and h : (m + n_chains, n_hidden), both overwritten;
    mu : (n_visible,), lam : (n_hidden,); grad : flat (w, c, b).
    """
    n_visible, n_hidden = mu.size, lam.size
    size = n_visible * n_hidden
    gw = matrix_at(grad, 0, n_visible, n_hidden)
    gc = vector_at(grad, size, n_hidden)
    gb = vector_at(grad, size + n_hidden, n_visible)
    weighted_column_sums(v, m, gb)
    weighted_column_sums(h, m, gc)
    if centered:
        add_row(v, -_ONE, mu)
        add_row(h, -_ONE, lam)
    weigh_phases(h, m)
    matmul(v, h, TURNED, AS_IT_IS, gw, team)
    if centered:
        centre_biases(gw, mu, lam, gc, gb)


@_jit()
def add_sparsity(h, target, weight):
    """Add to h what makes the update climb the sparsity penalty too (user guide, eq.
    14): with q_j the mean of column j,

        h_rj <- h_rj + weight (target - q_j) / (q_j (1 - q_j)) h_rj (1 - h_rj).

    h : (m, n_hidden) probabilities of the positive phase.
    """
    p, lam = h.dtype.type(target), h.dtype.type(weight)
    for j in range(h.shape[1]):
        q = h.dtype.type(0.0)
        for r in range(h.shape[0]):
            q += h[r, j]
        q = min(max(q / h.dtype.type(h.shape[0]), _MARGIN), _ONE - _MARGIN)
        factor = lam * (p - q) / (q * (_ONE - q))
        for r in range(h.shape[0]):
            h[r, j] += factor * h[r, j] * (_ONE - h[r, j])


@_jit()
def momentum_ascent(theta, velocity, grad, n_weights, rate, hyper):
    """velocity <- momentum * velocity + rate * (grad - l2 * theta - l1 * sign(theta)),
    then theta <- theta + velocity. Only the first n_weights entries decay; all
    (size,). hyper : constants of an update.
    """
    lr = theta.dtype.type(rate)
    beta = theta.dtype.type(hyper[MOMENTUM])
    decay = theta.dtype.type(hyper[L2])
    lasso = theta.dtype.type(hyper[L1])
    for i in range(n_weights):
        pull = decay * theta[i] + lasso * np.sign(theta[i])
        velocity[i] = beta * velocity[i] + lr * (grad[i] - pull)
        theta[i] += velocity[i]
    for i in range(n_weights, theta.size):
        velocity[i] = beta * velocity[i] + lr * grad[i]
        theta[i] += velocity[i]


@_jit(inline="always")
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
    """momentum_ascent along cd_gradient over the elements of v that are listed; a few
    rows of w at a time, whose gradient is then at hand.

    Where it is centered, v stays as it is: the weights of the rows have the sum 0, so

        D[(v - mu)' (h - lam)] = D[v' (h - lam)] - mu D[h].

    v : (m + n_chains, n_visible); h : (m + n_chains, n_hidden), overwritten; starts,
    places : of the list of v; ends, rows : room for that by columns; mu, lam : offsets;
    theta, velocity, grad : flat (w, c, b); difference : (n_hidden,), for D[h].
    """
    n_visible, n_hidden = v.shape[1], h.shape[1]
    size = n_visible * n_hidden
    gc = vector_at(grad, size, n_hidden)
    gb = vector_at(grad, size + n_hidden, n_visible)
    weighted_column_sums(h, m, gc)
    listed_column_sums(v, m, starts, places, gb)
    if centered:
        copy(gc, difference)
        add_row(h, -_ONE, lam)
    weigh_phases(h, m)
    by_column(starts, places, ends, rows)
    for first in range(0, n_visible, ROWS_AT_ONCE):
        n_rows = min(ROWS_AT_ONCE, n_visible - first)
        start, n = first * n_hidden, n_rows * n_hidden
        gw = matrix_at(grad, start, n_rows, n_hidden)
        sparse_outer_product(v, h, rows, ends, first, gw)
        if centered:
            offsets, slopes = vector_at(mu, first, n_rows), vector_at(gb, first, n_rows)
            for i in range(n_rows):
                add_row(rows_at(gw, i, 1), -offsets[i], difference)
            centre_biases(gw, offsets, lam, gc, slopes)
        momentum_ascent(
            vector_at(theta, start, n),
            vector_at(velocity, start, n),
            flat(gw),
            n,
            rate,
            hyper,
        )
    n = n_hidden + n_visible
    momentum_ascent(
        vector_at(theta, size, n),
        vector_at(velocity, size, n),
        vector_at(grad, size, n),
        _FIRST,
        rate,
        hyper,
    )


@_jit(entry=True)
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
    """Train an RBM on consecutive mini-batches of rows (the last may be short).

    theta = (w, hidden bias, visible bias), flat; velocity, grad like theta; mu, lam:
    offsets of visible and hidden units, which slide with rate ``sliding`` and serve
    where the gradient is ``centered`` or chains are tempered; hidden: kind of the
    hidden units; hyper: (learning rate, its decay per update, momentum, L2, L1,
    sparsity target, sparsity weight); work: at least
    (batch_size + n_chains) (n_visible + n_hidden) + 2 n_chains n_hidden floats, with
    batch_size chains where none persist; lists: room_for_lists of as many rows as there
    are in a batch and all chains. Only chains at temperature 1 count.
    Returns (sum of squared reconstruction errors, number of elements in that sum).
    """
    n_visible, n_hidden = mu.size, lam.size
    size = n_visible * n_hidden
    w = matrix_at(theta, 0, n_visible, n_hidden)
    hidden_bias = vector_at(theta, size, n_hidden)
    visible_bias = vector_at(theta, size + n_hidden, n_visible)
    total, count = 0.0, 0
    # The gradient is written after the statistics are taken.
    shifts = vector_at(grad, 0, n_hidden + n_visible)
    most = batch_size + max(batch_size, chain.shape[0])
    longest = lists.shape[1]
    places = vector_at(lists, longest, nonzero_room(most, n_visible, n_hidden))
    ends = vector_at(lists, 2 * longest, n_visible + 1)
    for start in range(0, rows.shape[0], batch_size):
        m = min(batch_size, rows.shape[0] - start)
        batch = rows_at(rows, start, m)
        n_chains = chain.shape[0] if chain.shape[0] > 0 else m
        n = m + n_chains
        v = matrix_at(work, 0, n, n_visible)
        at = n * n_visible
        h = matrix_at(work, at, n, n_hidden)
        at += n * n_hidden
        s = matrix_at(work, at, n_chains, n_hidden)
        at += n_chains * n_hidden
        fields = matrix_at(work, at, n_chains, n_hidden)
        if betas.size > 1:
            above = matrix_at(shifts, 0, 1, n_hidden)
            dense_product(matrix_at(mu, 0, 1, n_visible), w, above, team)
            below = matrix_at(shifts, n_hidden, 1, n_visible)
            product_transposed(matrix_at(lam, 0, 1, n_hidden), w, below, team)
        loss, n_paired, listed = cd_statistics(
            batch,
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
            lists[0],
            places,
            team,
        )
        total += loss
        count += n_paired * n_visible
        if sliding > 0.0:
            slide(mu, rows_at(v, 0, m), sliding)
            slide(lam, rows_at(h, 0, m), sliding)
        if hyper[SPARSITY] > 0.0:
            add_sparsity(rows_at(h, 0, m), hyper[TARGET], hyper[SPARSITY])
        counted = m + n_chains // betas.size
        v, h = rows_at(v, 0, counted), rows_at(h, 0, counted)
        rate = hyper[RATE] / (1.0 + hyper[RATE_DECAY] * step)
        if listed:
            sparse_ascent(
                v,
                h,
                m,
                vector_at(lists, 0, counted + 1),
                places,
                ends,
                lists[3],
                centered,
                mu,
                lam,
                theta,
                velocity,
                grad,
                rate,
                hyper,
                s[0],  # the chains have been kept
            )
        else:
            cd_gradient(v, h, m, centered, mu, lam, grad, team)
            momentum_ascent(theta, velocity, grad, size, rate, hyper)
        step += 1
    return total, count


# --- backpropagation -----------------------------------------------------------


@_jit()
def draw_cells(out, units, key0, key1):
    """out <- uniform numbers, one in each row for all columns of a unit; out : (m, n),
    units : (n,) column at which the unit of each column begins.
    """
    m, n = out.shape
    for r in range(m):
        for c in range(n):
            counter = np.uint32(r * n + units[c])
            out[r, c] = uniform_number(random_bits(counter, key0, key1))


@_jit(entry=True)
def corrupt(rows, noisy, corruption, level, units, limits, key0, key1):
    """noisy <- corrupted rows; both (m, n).

    Gaussian noise adds ``level * N(0, 1)``. The others change a cell with probability
    ``level``: masking sets it to 0, salt-and-pepper to the lower or the upper limit of
    its column, swap to the value of its column in another row. units : see
    ``draw_cells``, so that a softmax group is changed as a whole; limits : (2, n).
    """
    m, n = rows.shape
    amount = _F32(level)
    if corruption == GAUSSIAN_NOISE:
        copy(flat(rows), flat(noisy))
        add_normal(flat(noisy), rows.dtype.type(level), _FIRST, key0, key1)
        return
    draw_cells(noisy, units, key0, key1)
    half, stride = amount * _HALF, _F32((m - 1) / level)
    for r in range(m):
        if corruption == MASKING:
            for c in range(n):
                noisy[r, c] = rows[r, c] * (_ZERO if noisy[r, c] < amount else _ONE)
        elif corruption == SALT_AND_PEPPER:
            for c in range(n):
                u = noisy[r, c]
                end = limits[0, c] if u < half else limits[1, c]
                noisy[r, c] = end if u < amount else rows[r, c]
        else:
            for c in range(n):
                u = _F32(noisy[r, c])
                other = r
                if u < amount:  # then u / level is uniform too and chooses the row
                    other += 1 + min(np.int64(u * stride), m - 2)
                    if other >= m:
                        other -= m
                noisy[r, c] = rows[other, c] if m > 1 else rows[r, c]


@_jit(inline="always")
def mark_changes(rows, noisy, changed):
    """changed <- 1 where ``corrupt`` left another value, else 0; all (m, n)."""
    for r in range(rows.shape[0]):
        for c in range(rows.shape[1]):
            changed[r, c] = _ONE if noisy[r, c] != rows[r, c] else _ZERO


@_jit()
def weigh_cells(weights, noise, units, key0, key1):
    """Weight in the loss of each cell : (m, n), by whether ``corrupt`` changes it with
    the same keys. noise : (level, weight of the changed cells).
    """
    amount = _F32(noise[LEVEL])
    changed = weights.dtype.type(noise[EMPHASIS])
    unchanged = weights.dtype.type(2.0 - noise[EMPHASIS])
    draw_cells(weights, units, key0, key1)
    cells = flat(weights)
    for i in range(cells.size):
        cells[i] = changed if cells[i] < amount else unchanged


@_jit()
def weigh_rows(weights, row_weights):
    """Multiply the weights of cells : (m, n) by those of their rows : (m,), scaled to
    mean 1. Returns the sum of the row weights; where it is 0, all cells get 0.
    """
    m = weights.shape[0]
    total = 0.0
    for r in range(m):
        total += row_weights[r]
    share = m / total if total > 0.0 else 0.0
    for r in range(m):
        scale(weights[r], weights.dtype.type(row_weights[r] * share))
    return total


@_jit(fastmath=_REORDER)
def bernoulli_loss(z, y):
    """Negative log-likelihood sum log(1 + exp(z)) - y z, and z <- logistic(z) - y."""
    total = z.dtype.type(0.0)
    for i in range(z.size):
        x = z[i]
        t = exp(-abs(x))
        total += max(x, _ZERO) + log(_ONE + t) - y[i] * x
        z[i] = (_ONE if x >= _ZERO else t) / (_ONE + t) - y[i]
    return total


@_jit()
def softmax_loss(z, y):
    """Negative log-likelihood of one softmax group, and z <- softmax(z) - y."""
    top = z[0]
    for j in range(1, z.size):
        top = max(top, z[j])
    total = 0.0
    loss = 0.0
    for j in range(z.size):
        x = z[j] - top
        loss -= y[j] * x
        z[j] = exp(x)
        total += z[j]
    scale(z, z.dtype.type(1.0 / total))
    for j in range(z.size):
        z[j] -= y[j]
    return loss + math.log(total)


@_jit(fastmath=_REORDER)
def gaussian_loss(z, y):
    """Half squared error, and z <- z - y."""
    total = z.dtype.type(0.0)
    for i in range(z.size):
        z[i] -= y[i]
        total += z[i] * z[i]
    return 0.5 * total


@_jit()
def poisson_loss(z, y):
    """Half the deviance sum exp(z) - y - y (z - log y), and z <- exp(z) - y."""
    total = 0.0
    for i in range(z.size):
        # In float32 the terms of large counts would leave nothing of their difference.
        log_mean, count = np.float64(z[i]), np.float64(y[i])
        mean = math.exp(log_mean)
        total += mean - count - count * log_mean
        if count > 0.0:
            total += count * math.log(count)
        z[i] = mean - count
    return total


@_jit(inline="always")
def block_loss(z, y, kind):
    """Loss of the columns of one block of one row, and z <- mean - target."""
    if kind == GAUSSIAN:
        return gaussian_loss(z, y)
    if kind == BERNOULLI:
        return bernoulli_loss(z, y)
    if kind == POISSON:
        return poisson_loss(z, y)
    return softmax_loss(z, y)


@_jit(inline="always")
def are_equal(a):
    """Whether all elements of a : (size,) are one number."""
    for i in range(a.size):
        if a[i] != a[0]:
            return False
    return True


@_jit()
def output_delta(z, y, weights, blocks):
    """z <- (mean - target) / m and the loss: one canonical link per unit block.

    z : (m, n) pre-activations of the output; y : (m, n) targets; weights : (m, n) of
    the cells, or without rows where all weigh 1; that of a softmax group is its first
    column's. Returns the mean over rows of the summed negative log-likelihood of the
    columns.
    """
    m, n = z.shape
    weighted = weights.size > 0
    flat_weights = flat(weights)
    total = 0.0
    # Units of one kind that do not depend on each other need no loop over rows.
    whole = blocks.shape[0] == 1 and blocks[0, KIND] != SOFTMAX and not weighted
    for r in range(1 if whole else m):
        for b in range(blocks.shape[0]):
            kind = blocks[b, KIND]
            first, width = r * n + blocks[b, START], blocks[b, STOP] - blocks[b, START]
            if whole:
                width = z.size
            step = width
            if weighted and kind != SOFTMAX:
                # One by one where weights differ: many columns mostly share theirs.
                if not are_equal(vector_at(weights, first, width)):
                    step = 1
            for i in range(first, first + width, step):
                part = vector_at(z, i, step)
                loss = block_loss(part, vector_at(y, i, step), kind)
                if weighted:
                    loss *= flat_weights[i]
                    scale(part, flat_weights[i])
                total += loss
    scale(flat(z), z.dtype.type(1.0 / m))
    return total / m


@_jit()
def keep_largest(h, n_active):
    """Zero all but the n_active largest of each row (and their ties); h : (m, n).

    The limit comes from bisection, which needs no copy; NaN stays NaN.
    """
    for r in range(h.shape[0]):
        low, high = h[r, 0], h[r, 0]
        for j in range(1, h.shape[1]):
            low, high = min(low, h[r, j]), max(high, h[r, j])
        limit = low
        for _ in range(60):
            middle = low + (high - low) * h.dtype.type(0.5)
            n_above = 0
            for j in range(h.shape[1]):
                n_above += h[r, j] >= middle
            if n_above >= n_active:
                low = limit = middle
            else:
                high = middle
            if n_above == n_active:
                break
        for j in range(h.shape[1]):
            h[r, j] *= _ZERO if h[r, j] < limit else _ONE


@_jit()
def drop_input(a, rate, seed, step, layer):
    """a <- 0 with probability rate, else a / (1 - rate), in place (user guide, eq. 37);
    a : (m, n) input of a layer. The same ones for a step.
    """
    key0, key1 = stream_keys(seed, step, layer + 1)  # phase 0 corrupts
    limit = _F32(rate)
    gone, kept = a.dtype.type(0.0), a.dtype.type(1.0 / (1.0 - rate))
    numbers = flat(a)
    for i in range(numbers.size):
        u = uniform_number(random_bits(np.uint32(i), key0, key1))
        numbers[i] *= gone if u < limit else kept


@_jit(inline="always")
def forward(rows, theta, layers, traits, code, seed, step, work, lists, team):
    """Activations of all layers, one after the other in work; the last layer is left
    at its pre-activation : (m, n_out), which is returned. rows : (m, n_in of the first
    layer), of which some may have been dropped; layers : (L, 6); traits : (L, 2), of
    which DROPOUT counts here; code : constants of the penalties, of which N_ACTIVE
    counts here; lists : as for ``product``.
    """
    m = rows.shape[0]
    a = rows
    at = 0
    for i in range(layers.shape[0]):
        n_in, n_out = layers[i, N_IN], layers[i, N_OUT]
        z = matrix_at(work, at, m, n_out)
        first = layers[i, WEIGHT]
        if i == 0:
            product(a, matrix_at(theta, first, n_in, n_out), z, lists, team)
        elif layers[i, TRANSPOSED] == 0:
            matmul(a, matrix_at(theta, first, n_in, n_out), AS_IT_IS, AS_IT_IS, z, team)
        else:
            matmul(a, matrix_at(theta, first, n_out, n_in), AS_IT_IS, TURNED, z, team)
        add_row(z, _ONE, vector_at(theta, layers[i, BIAS], n_out))
        if i < layers.shape[0] - 1:
            activate(flat(z), layers[i, ACTIVATION])
        if i == 0 and code[N_ACTIVE] > 0.0:
            keep_largest(z, np.int64(code[N_ACTIVE]))
        if i < layers.shape[0] - 1 and traits[i + 1, DROPOUT] > 0.0:
            drop_input(z, traits[i + 1, DROPOUT], seed, step, i + 1)
        a = z
        at += m * n_out
    return a


@_jit(inline="always")
def weight_gradient(a, delta, transposed, shared, grad, scratch, lists, team):
    """grad <- a' delta (or delta' a for transposed weights); added to what is there
    when the weights are shared with a layer further up. a : (m, n_in), delta :
    (m, n_out), grad, scratch : (n_in * n_out,); lists : as for ``outer_product``.
    """
    n_in, n_out = a.shape[1], delta.shape[1]
    out = vector_at(scratch if shared else grad, 0, n_in * n_out)
    if transposed == 0:
        outer_product(a, delta, matrix_at(out, 0, n_in, n_out), lists, team)
    else:
        matmul(delta, a, TURNED, AS_IT_IS, matrix_at(out, 0, n_out, n_in), team)
    if shared:
        add_row(matrix_at(grad, 0, 1, grad.size), _ONE, scratch)


@_jit()
def squared_columns(w, out):
    """out <- sum of the squares of each column; w : (rows, n), out : (n,)."""
    fill(out, _ZERO)
    for i in range(w.shape[0]):
        for j in range(out.size):
            out[j] += w[i, j] * w[i, j]


@_jit()
def code_penalty(h, delta, w, activation, code, sums):
    """Penalties on the code h : (m, n) (user guide, eq. 27), and delta += their
    derivative by h:

        l1 <sum_j |h_j|> + sparsity sum_j KL(target, q_j), q_j = <h_j>,
        + contraction <sum_j f'(z_j)**2 sum_i w_ij**2>

    w : (n_in, n) weights of the encoder; sums : (n,) workspace. Returns the penalty.
    """
    m, n = h.shape
    share = 1.0 / m
    total = 0.0
    if code[CODE_L1] > 0.0:
        step = h.dtype.type(code[CODE_L1] * share)
        for r in range(m):
            for j in range(n):
                total += code[CODE_L1] * share * abs(h[r, j])
                delta[r, j] += step * np.sign(h[r, j])
    if code[CODE_SPARSITY] > 0.0:
        p = code[CODE_TARGET]
        column_sums(h, sums)
        for j in range(n):
            q = min(max(sums[j] * share, _MARGIN), 1.0 - _MARGIN)
            divergence = p * math.log(p / q)
            divergence += (1.0 - p) * math.log((1.0 - p) / (1.0 - q))
            total += code[CODE_SPARSITY] * divergence
            slope = (1.0 - p) / (1.0 - q) - p / q
            sums[j] = code[CODE_SPARSITY] * share * slope
        add_row(delta, _ONE, sums)
    if code[CONTRACTION] > 0.0:
        squared_columns(w, sums)
        factor = h.dtype.type(code[CONTRACTION] * share)
        lost = code[N_ACTIVE] > 0.0  # units at 0, which no input moves
        for r in range(m):
            for j in range(n):
                slope = slope_number(h[r, j], activation)
                if lost and h[r, j] == _ZERO:
                    slope = _ZERO
                part = factor * slope * sums[j]
                total += part * slope
                delta[r, j] += (part + part) * curvature_number(h[r, j], activation)
    return total


@_jit()
def add_contraction(h, w, activation, code, grad, sums):
    """grad += derivative of the contractive penalty by the weights at a fixed code:
    2 contraction <f'(z_j)**2> w_ij. h : (m, n); w, grad : (n_in, n); sums : (n,)
    workspace.
    """
    m, n = h.shape
    factor = h.dtype.type(2.0 * code[CONTRACTION] / m)
    lost = code[N_ACTIVE] > 0.0
    fill(sums, _ZERO)
    for r in range(m):
        for j in range(n):
            slope = slope_number(h[r, j], activation)
            if lost and h[r, j] == _ZERO:
                slope = _ZERO
            sums[j] += factor * slope * slope
    for i in range(w.shape[0]):
        for j in range(n):
            grad[i, j] += sums[j] * w[i, j]


@_jit(inline="always")
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
    """Gradient of the mean loss by backpropagation (user guide, eqs. 28-29), and of the
    penalties on the first layer's hidden units, whose sum is returned. Layers below the
    lowest one that is not frozen get none.

    work : activations as ``forward`` leaves them (changed here), the last layer's part
    replaced by (mean - target) / m; deltas : workspace like work; scratch : the largest
    weight matrix where weights are tied, else a row of the widest layer; lists :
    room_for_lists of all layers.
    """
    m = rows.shape[0]
    lowest = 0
    while lowest < layers.shape[0] - 1 and traits[lowest, PACE] == 0.0:
        lowest += 1
    at = 0
    for i in range(layers.shape[0] - 1):
        at += m * layers[i, N_OUT]
    n_out = layers[layers.shape[0] - 1, N_OUT]
    delta = matrix_at(work, at, m, n_out)
    penalty = 0.0
    for i in range(layers.shape[0] - 1, lowest - 1, -1):
        n_in, n_out = layers[i, N_IN], layers[i, N_OUT]
        n_sharing = 0
        for k in range(i + 1, layers.shape[0]):
            if layers[k, WEIGHT] == layers[i, WEIGHT]:
                n_sharing += 1
        first = layers[i, WEIGHT]
        own = vector_at(grad, first, n_in * n_out)
        transposed = layers[i, TRANSPOSED]
        if i > 0:
            at -= m * n_in
            a = matrix_at(work, at, m, n_in)
        else:
            a = rows
        shared = n_sharing > 0
        weight_gradient(a, delta, transposed, shared, own, scratch, lists, team)
        column_sums(delta, vector_at(grad, layers[i, BIAS], n_out))
        if i > lowest:
            below = matrix_at(deltas, at, m, n_in)
            if transposed == 0:
                w = matrix_at(theta, first, n_in, n_out)
                matmul(delta, w, AS_IT_IS, TURNED, below, team)
            else:
                w = matrix_at(theta, first, n_out, n_in)
                matmul(delta, w, AS_IT_IS, AS_IT_IS, below, team)
            activation = layers[i - 1, ACTIVATION]
            if traits[i, DROPOUT] > 0.0:
                # The derivative is written on what the unit was before.
                drop_input(below, traits[i, DROPOUT], seed, step, i)
                scale(flat(a), a.dtype.type(1.0 - traits[i, DROPOUT]))
            if i == 1:
                w = matrix_at(theta, layers[0, WEIGHT], layers[0, N_IN], n_in)
                sums = vector_at(scratch, 0, n_in)
                penalty = code_penalty(a, below, w, activation, code, sums)
            multiply_derivative(flat(below), flat(a), activation)
            if i == 1 and code[N_ACTIVE] > 0.0:  # units that lost do not learn
                for r in range(m):
                    for j in range(n_in):
                        below[r, j] *= _ZERO if a[r, j] == _ZERO else _ONE
            delta = below
    if code[CONTRACTION] > 0.0:
        n_in, n_out = layers[0, N_IN], layers[0, N_OUT]
        first = layers[0, WEIGHT]
        add_contraction(
            matrix_at(work, 0, m, n_out),
            matrix_at(theta, first, n_in, n_out),
            layers[0, ACTIVATION],
            code,
            matrix_at(grad, first, n_in, n_out),
            vector_at(scratch, 0, n_out),
        )
    return penalty


@_jit(entry=True)
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
    """Mean loss of a batch with its penalties on the code; its gradient goes to grad
    (flat, like theta).

    rows : (m, n_in), targets : (m, n_out); seed, step : which hidden units are
    dropped; see ``forward``, ``output_delta`` and ``backward``.
    """
    z = forward(rows, theta, layers, traits, code, seed, step, work, lists, team)
    loss = output_delta(z, targets, weights, blocks)
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


@_jit(fastmath=_REORDER)
def clip_gradient(grad, most):
    """Scale grad : (size,) down to the Euclidean norm ``most`` where it is longer."""
    square = 0.0
    for i in range(grad.size):
        number = np.float64(grad[i])  # whose square float32 may not hold
        square += number * number
    norm = math.sqrt(square)
    if norm > most:
        scale(grad, grad.dtype.type(most / norm))


@_jit()
def sgd_update(theta, velocity, grad, learning_rate, momentum, nesterov, alpha):
    """velocity <- momentum * velocity - lr * g with g = grad + alpha * theta; theta
    moves by velocity, or by momentum * velocity - lr * g (Nesterov). All (size,).
    """
    lr = theta.dtype.type(learning_rate)
    beta = theta.dtype.type(momentum)
    decay = theta.dtype.type(alpha)
    for i in range(theta.size):
        move = lr * (grad[i] + decay * theta[i])
        velocity[i] = beta * velocity[i] - move
        theta[i] += beta * velocity[i] - move if nesterov else velocity[i]


@_jit()
def adam_update(theta, first, second, grad, rate, beta_1, beta_2, epsilon, alpha):
    """Adam (Kingma and Ba 2015, section 2) with the bias corrections in ``rate``:
    first and second moment of g = grad + alpha * theta, then
    theta <- theta - rate * first / (sqrt(second) + epsilon). All (size,).
    """
    lr = theta.dtype.type(rate)
    b1, c1 = theta.dtype.type(beta_1), theta.dtype.type(1.0 - beta_1)
    b2, c2 = theta.dtype.type(beta_2), theta.dtype.type(1.0 - beta_2)
    eps, decay = theta.dtype.type(epsilon), theta.dtype.type(alpha)
    for i in range(theta.size):
        g = grad[i] + decay * theta[i]
        first[i] = b1 * first[i] + c1 * g
        second[i] = b2 * second[i] + c2 * g * g
        theta[i] -= lr * first[i] / (np.sqrt(second[i]) + eps)


@_jit(inline="always")
def update_part(theta, first, second, grad, solver, hyper, step, pace, alpha):
    """One optimiser step on a part of the parameters, of ``pace`` times the learning
    rate; first, second : moments, all (size,). hyper : constants of the optimiser.
    """
    step_size = hyper[STEP_SIZE] * pace
    if solver == ADAM:
        b1, b2, epsilon = hyper[BETA_1], hyper[BETA_2], hyper[EPSILON]
        t = float(step + 1)  # numba would compile a function for whole exponents
        rate = step_size * math.sqrt(1.0 - b2**t) / (1.0 - b1**t)
        adam_update(theta, first, second, grad, rate, b1, b2, epsilon, alpha)
    else:
        nesterov = solver == NESTEROV
        sgd_update(theta, first, grad, step_size, hyper[BETA], nesterov, alpha)


@_jit()
def limit_columns(w, most, sums):
    """Shorten each column of w that is longer than most; w : (n_in, n_out), sums :
    (n_out,) workspace.
    """
    squared_columns(w, sums)
    for j in range(w.shape[1]):
        norm = math.sqrt(sums[j])
        sums[j] = most / norm if norm > most else _ONE
    for i in range(w.shape[0]):
        for j in range(w.shape[1]):
            w[i, j] *= sums[j]


@_jit(inline="always")
def update_parameters(
    theta, state, grad, layers, traits, solver, hyper, updates, alpha, scratch
):
    """One optimiser step on all layers; only weights, not biases, decay. Then the
    weights into a hidden unit are held to the length MAX_NORM.

    state : (2, theta.size) moments; updates : (n_layers,) steps of each layer so far,
    which are counted here; scratch : a row of the widest layer. Tied weights are
    updated once, with the layer that holds them untransposed.
    """
    for i in range(layers.shape[0]):
        pace = traits[i, PACE]
        if pace == 0.0:
            continue
        for which in (WEIGHT, BIAS):
            if which == WEIGHT and layers[i, TRANSPOSED] == 1:
                continue
            a = layers[i, which]
            size = layers[i, N_OUT]
            if which == WEIGHT:
                size *= layers[i, N_IN]
            decay = alpha if which == WEIGHT else 0.0
            update_part(
                vector_at(theta, a, size),
                vector_at(state, a, size),
                vector_at(state, theta.size + a, size),
                vector_at(grad, a, size),
                solver,
                hyper,
                updates[i],
                pace,
                decay,
            )
        updates[i] += 1
        if hyper[MAX_NORM] > 0.0 and i < layers.shape[0] - 1:
            a, n_in, n_out = layers[i, WEIGHT], layers[i, N_IN], layers[i, N_OUT]
            w = matrix_at(theta, a, n_in, n_out)
            limit_columns(w, hyper[MAX_NORM], vector_at(scratch, 0, n_out))


@_jit(entry=True)
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
    """Train a network on consecutive mini-batches (the last may be short).

    The input is corrupted, the targets are not, or say which cells were (changed); then
    inputs and hidden units are dropped as traits : (L, 2) says. row_weights :
    (n_rows,) or empty where all rows weigh 1; the loss of a mini-batch is its weighted
    mean, and one of rows that all weigh 0 is left out. noise : (level, weight in the
    loss of corrupted cells, which must be 1 where the targets are not of the input's
    cells); units, limits : see ``corrupt``; code : constants of the penalties on the
    first layer's hidden units. noisy : workspace of batch_size rows of input; changed :
    another one for targets that say which cells differ, or empty; weights : workspace
    of batch_size rows of targets, or empty where all cells and rows weigh 1; step
    counts mini-batches from the start of training (random streams), updates : (L,)
    those that moved each layer (the optimiser's time). Returns the weighted sum over
    rows of the loss.
    """
    total = 0.0
    longest = hyper[MAX_GRADIENT]
    for start in range(0, rows.shape[0], batch_size):
        m = min(batch_size, rows.shape[0] - start)
        x, y = rows_at(rows, start, m), rows_at(targets, start, m)
        mass = float(m)
        number = step + start // batch_size
        key0, key1 = stream_keys(seed, number, _FIRST)
        cells = matrix_at(weights, 0, 0, y.shape[1])
        if weights.size > 0:
            cells = matrix_at(weights, 0, m, y.shape[1])
            if corruption != NO_CORRUPTION and noise[EMPHASIS] != 1.0:
                weigh_cells(cells, noise, units, key0, key1)
            else:
                fill(flat(cells), _ONE)
            if row_weights.size > 0:
                mass = weigh_rows(cells, vector_at(row_weights, start, m))
            if mass == 0.0:
                continue
        if corruption != NO_CORRUPTION or traits[0, DROPOUT] > 0.0:
            noisy_x = matrix_at(noisy, 0, m, x.shape[1])
            if corruption != NO_CORRUPTION:
                corrupt(x, noisy_x, corruption, noise[LEVEL], units, limits, key0, key1)
            else:
                copy(flat(x), flat(noisy_x))
            if changed.size > 0:
                y = matrix_at(changed, 0, m, x.shape[1])
                mark_changes(x, noisy_x, y)
            if traits[0, DROPOUT] > 0.0:
                drop_input(noisy_x, traits[0, DROPOUT], seed, number, _FIRST)
            x = noisy_x
        # As loss_gradient does, which would be one level more to put in (see _jit).
        z = forward(x, theta, layers, traits, code, seed, number, work, lists, team)
        loss = output_delta(z, y, cells, blocks)
        loss += backward(
            x,
            theta,
            grad,
            layers,
            traits,
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
        if longest > 0.0:
            clip_gradient(grad, longest)
        update_parameters(
            theta, state, grad, layers, traits, solver, hyper, updates, alpha, scratch
        )
    return total


# --- annealed importance sampling -----------------------------------------------


@_jit(fastmath=_REORDER)
def softplus_difference(x, t, u):
    """sum log(1 + exp(u x)) - log(1 + exp(t x)); x : (n_hidden,)."""
    total = x.dtype.type(0.0)
    low, high = x.dtype.type(t), x.dtype.type(u)
    for j in range(x.size):
        y, z = low * x[j], high * x[j]
        total += max(z, _ZERO) - max(y, _ZERO)
        total += log(_ONE + exp(-abs(z))) - log(_ONE + exp(-abs(y)))
    return total


@_jit(entry=True)
def ais_slice(
    v, w, c, a, b, blocks, temperatures, seed, step, x, s, log_weights, lists, team
):
    """Carry annealing runs through some temperatures (user guide, eq. 18).

    From each t to the next u a run is weighed,

        log weight += (u - t) v (b - a)'
                      + sum_j log(1 + exp(u x_j)) - log(1 + exp(t x_j)),

    with x = c + v w, and then takes a Gibbs step at u. v : (n_runs, n_visible) states,
    changed in place; a, b : visible biases of the base and of the target; blocks : all
    sampled; step : number of the first temperature; x, s : (n_runs, n_hidden)
    workspace; log_weights : (n_runs,) float64, added to; lists : as for ``product``.
    """
    flat_s = flat(s)
    for k in range(temperatures.size - 1):
        t, u = temperatures[k], temperatures[k + 1]
        product(v, w, x, lists, team)
        add_row(x, _ONE, c)
        for r in range(v.shape[0]):
            linear = 0.0
            for i in range(v.shape[1]):
                linear += v[r, i] * (b[i] - a[i])
            log_weights[r] += (u - t) * linear + softplus_difference(x[r], t, u)
        hot, cold = v.dtype.type(u), v.dtype.type(1.0 - u)
        copy(flat(x), flat_s)
        scale(flat_s, hot)
        logistic(flat_s)
        key0, key1 = stream_keys(seed, step + k, _FIRST)
        sample_bernoulli(flat_s, _FIRST, key0, key1)
        product_transposed(s, w, v, team)
        add_row(v, _ONE, b)
        scale(flat(v), hot)
        add_row(v, cold, a)
        visible_means(v, blocks)
        key0, key1 = stream_keys(seed, step + k, np.int64(1))
        sample_visible(v, blocks, key0, key1)
