"""Behaviour of both stacks of layers, as their users see it."""

import mmap
import pickle
import subprocess
import sys
import threading
import tracemalloc
import warnings
from contextlib import suppress
from copy import deepcopy
from numbers import Number

import cloudpickle
import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.special import expit
from sklearn.base import clone
from sklearn.datasets import load_digits, load_wine
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPRegressor
from sklearn.utils import shuffle
from sklearn.utils._param_validation import InvalidParameterError
from tools import leaves, linear_score, peak_memory

from sklearn_greedy import StackedAutoencoderTransformer, StackedRBMTransformer
from sklearn_greedy._backpropagation import CodePenalty
from sklearn_greedy._fit_rows import TwoParts
from sklearn_greedy._layer import LayerOutput
from sklearn_greedy._network import (
    fold_input,
    fold_output,
    forward,
    unfold_input,
    unfold_output,
)
from sklearn_greedy._rows import Rows, maps_of, row_major, without
from sklearn_greedy._threads import one_blas_thread
from sklearn_greedy._together import LayersTogether
from sklearn_greedy._units import ColumnStatistics, choose_units
from sklearn_greedy._validation import FloatRows

# Stacks whose features grow without bounds while the layer above learns.
GROWING = [
    StackedRBMTransformer((20, 10), hidden="relu"),
    StackedRBMTransformer((20, 10), hidden="gaussian"),
    StackedAutoencoderTransformer((20, 10)),
]
RATE = {
    StackedRBMTransformer: "learning_rate",
    StackedAutoencoderTransformer: "learning_rate_init",
}
# For each per-layer parameter two values that train differently.
PER_LAYER = {
    StackedRBMTransformer: {
        "learning_rate": (0.05, 0.2),
        "momentum": (0.5, 0.1),
        "alpha": (0.0, 0.1),
        "n_gibbs_steps": (1, 3),
        "persistent": (False, True),
        "visible_reconstruction": ("mean", "sample"),
        "batch_size": (16, 10),
        "max_iter": (2, 3),
    },
    StackedAutoencoderTransformer: {
        "activation": ("tanh", "logistic"),
        "corruption": ("masking", "gaussian"),
        "corruption_level": (0.3, 0.1),
        "emphasis": (0.5, 0.9),
        "contraction": (0.0, 0.1),
        "sparsity_target": (None, 0.2),
        "sparsity_weight": (0.1, 1.0),
        "code_l1": (0.0, 0.1),
        "n_active": (None, 2),
        "tied_weights": (True, False),
        "learning_rate_init": (0.01, 0.1),
        "momentum": (0.5, 0.1),
        "alpha": (0.0, 0.1),
        "batch_size": (16, 10),
        "max_iter": (2, 3),
    },
}
BAD_ELEMENT = {
    "learning_rate": -1.0,
    "learning_rate_init": 0.0,
    "momentum": 1.0,
    "alpha": -0.1,
    "n_gibbs_steps": 0,
    "persistent": "yes",
    "visible_reconstruction": "median",
    "activation": "swish",
    "corruption": "rain",
    "corruption_level": -0.5,
    "emphasis": 1.5,
    "contraction": -1.0,
    "sparsity_target": 1.0,
    "sparsity_weight": -1.0,
    "code_l1": -1.0,
    "n_active": 0,
    "tied_weights": 2,
    "batch_size": 0,
    "max_iter": 1.5,
}
# Without these the parameter of an autoencoder plays no part.
NEEDS = {
    "momentum": {"solver": "sgd"},
    "sparsity_target": {"activation": "logistic"},
    "sparsity_weight": {"activation": "logistic", "sparsity_target": 0.2},
}
EACH_PER_LAYER = [(cls, name) for cls, values in PER_LAYER.items() for name in values]
ARRAYS = (
    "coefs_",
    "intercepts_",
    "visible_intercepts_",
    "decoder_coefs_",
    "decoder_intercepts_",
)


@pytest.fixture
def binary(rng):
    return (rng.random((60, 6)) < [0.2, 0.4, 0.5, 0.6, 0.7, 0.8]).astype(float)


@pytest.fixture
def table(rng):
    """Correlated gaussian columns."""
    return rng.normal(size=(60, 3)) @ rng.normal(size=(3, 6))


def build(stack_class, sizes=(5, 3), **params):
    return stack_class(sizes, **{"max_iter": 2, "random_state": 0, **params})


def parameters(stack):
    """All parameter arrays of a fitted stack."""
    return [array for name in ARRAYS for array in getattr(stack, name, [])]


def assert_same(one, other):
    """Bit for bit the same parameters."""
    for a, b in zip(parameters(one), parameters(other), strict=True):
        assert_array_equal(a, b)


def assert_close(one, other, rtol=1e-4, atol=1e-6):
    for a, b in zip(parameters(one), parameters(other), strict=True):
        assert_allclose(a, b, rtol=rtol, atol=atol)


def differ(one, other, layer=0):
    return not np.array_equal(one.coefs_[layer], other.coefs_[layer])


# --- layers and their parameters -----------------------------------------------


@pytest.mark.parametrize(("cls", "name"), EACH_PER_LAYER)
def test_sequence_gives_each_layer_its_value(cls, name, binary):
    a, b = PER_LAYER[cls][name]
    needs = NEEDS.get(name, {}) if cls is StackedAutoencoderTransformer else {}
    one_value = build(cls, **needs, **{name: a}).fit(binary)
    same_values = build(cls, **needs, **{name: [a, a]}).fit(binary)
    two_values = build(cls, **needs, **{name: (a, b)}).fit(binary)
    assert_same(one_value, same_values)
    assert not differ(one_value, two_values, layer=0)
    assert differ(one_value, two_values, layer=1)


@pytest.mark.parametrize(("cls", "name"), EACH_PER_LAYER)
def test_sequence_of_wrong_length_names_the_parameter(cls, name, binary):
    values = [PER_LAYER[cls][name][0]] * 3
    with pytest.raises(ValueError, match=f"{name} has 3 values for 2 layers"):
        build(cls, **{name: values}).fit(binary)


@pytest.mark.parametrize(
    "values", [range(2, 4), pd.Series([2, 3], index=[1, 0]), pl.Series([2, 3])]
)
def test_values_per_layer_come_as_any_sequence(stack_class, values, binary):
    """Only lists, tuples and arrays were taken apart; others met obscure errors."""
    expected = build(stack_class, max_iter=[2, 3]).fit(binary)
    assert_same(build(stack_class, max_iter=values).fit(binary), expected)
    with pytest.raises(ValueError, match="max_iter has 2 values for 1 layers"):
        build(stack_class, (5,), max_iter=values).fit(binary)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64])
def test_numpy_numbers_are_numbers(stack_class, dtype, binary):
    """Small types overflowed in sums, and kernels were compiled anew for others."""
    params = {"max_iter": 2, "batch_size": 16}
    if stack_class is StackedRBMTransformer:
        params |= {"n_gibbs_steps": 2, "n_iter_averaged": 2}
    expected = build(stack_class, **params).fit(binary)
    for form in (dtype, lambda value: np.array([value, value], dtype)):
        numbers = {name: form(value) for name, value in params.items()}
        assert_same(build(stack_class, **numbers).fit(binary), expected)


@pytest.mark.parametrize("value", [{0: 2, 1: 3}, {2, 3}, np.array(2)])
def test_values_without_a_position_name_the_parameter(stack_class, value, binary):
    """They failed far inside, as an unsupported operand or an unsized object."""
    with pytest.raises(InvalidParameterError, match="'max_iter' parameter"):
        build(stack_class, max_iter=value).fit(binary)


@pytest.mark.parametrize(("cls", "name"), EACH_PER_LAYER)
def test_bad_element_raises_before_any_training(cls, name, binary, capsys):
    values = [PER_LAYER[cls][name][0], BAD_ELEMENT[name]]
    with pytest.raises(InvalidParameterError, match=f"'{name}' parameter"):
        build(cls, verbose=True, **{name: values}).fit(binary)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("cls", "name"), EACH_PER_LAYER)
def test_nested_sequence_is_a_bad_element(cls, name, binary):
    value = PER_LAYER[cls][name][0]
    with pytest.raises(InvalidParameterError, match=f"'{name}' parameter"):
        build(cls, **{name: [value, [value]]}).fit(binary)


def test_masking_of_all_cells_raises_before_any_training(binary, capsys):
    stack = build(
        StackedAutoencoderTransformer, corruption_level=[0.5, 1.0], verbose=True
    )
    with pytest.raises(ValueError, match="corruption_level must be below 1"):
        stack.fit(binary)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("sizes", [[5, 3], np.array([5, 3]), (np.int64(5), 3)])
def test_sizes_come_as_any_sequence(stack_class, sizes, binary):
    assert_same(build(stack_class, sizes).fit(binary), build(stack_class).fit(binary))


def test_one_size_may_be_a_number(stack_class, binary):
    assert_same(build(stack_class, 4).fit(binary), build(stack_class, (4,)).fit(binary))


@pytest.mark.parametrize("sizes", [(), (4, 0), (4, 2.5), "wide", (True,)])
def test_bad_sizes_raise(stack_class, sizes, binary):
    with pytest.raises(ValueError, match="hidden_layer_sizes"):
        build(stack_class, sizes).fit(binary)


def test_first_layers_do_not_depend_on_later_ones(stack_class, binary):
    shallow = build(stack_class, (5,)).fit(binary)
    deep = build(stack_class, (5, 4, 3)).fit(binary)
    assert_array_equal(deep.coefs_[0], shallow.coefs_[0])
    assert_array_equal(deep.intercepts_[0], shallow.intercepts_[0])
    middle = build(stack_class, (5, 4)).fit(binary)
    assert_array_equal(deep.coefs_[1], middle.coefs_[1])
    assert deep.loss_curves_[:2] == middle.loss_curves_


def test_a_layer_trains_on_the_clean_output_of_the_one_below(stack_class, binary):
    seen = []

    class Recorder(stack_class):
        def _build(self, task):
            seen.append(task.data)
            return super()._build(task)

    build(Recorder).fit(binary)
    assert_array_equal(seen[0], binary)
    assert_array_equal(seen[1], build(stack_class, (5,)).fit_transform(binary))


# --- kinds of columns ----------------------------------------------------------


def test_auto_chooses_units_column_by_column(stack_class, rng):
    X = rng.random((50, 5))
    X[:, 1] = rng.normal(3, 2, 50)
    X[:, 3] = rng.integers(0, 2, 50)
    X[:, 4] = rng.random(50) * 1.2
    stack = build(stack_class).fit(X)
    kinds = ["bernoulli", "gaussian", "bernoulli", "bernoulli", "gaussian"]
    assert stack.visible_kinds_.tolist() == kinds
    gaussian = stack.visible_kinds_ == "gaussian"
    assert_allclose(stack.visible_offset_[gaussian], X[:, gaussian].mean(axis=0))
    assert_allclose(stack.visible_scale_[gaussian], X[:, gaussian].std(axis=0))
    assert_array_equal(stack.visible_offset_[~gaussian], 0)
    assert_array_equal(stack.visible_scale_[~gaussian], 1)


@pytest.mark.parametrize("visible", ["bernoulli", "gaussian"])
def test_named_kind_holds_for_all_columns(stack_class, visible, binary):
    stack = build(stack_class, visible=visible).fit(binary)
    assert set(stack.visible_kinds_) == {visible}


def test_raw_columns_give_the_features_of_scaled_ones(stack_class, table):
    scaled, raw = (build(stack_class).fit(X) for X in (table, table * 1000 + 5))
    codes = scaled.transform(table)
    assert_allclose(raw.transform(table * 1000 + 5), codes, rtol=1e-4, atol=1e-6)
    assert_allclose(
        raw.inverse_transform(codes),
        scaled.inverse_transform(codes) * 1000 + 5,
        rtol=1e-4,
        atol=1e-3,
    )


def test_columns_far_from_zero_are_still_scaled(stack_class, table):
    """Dates in seconds: the spread is a millionth of the mean."""
    dates = 1.7e9 + 500.0 * table
    raw, scaled = build(stack_class).fit(dates), build(stack_class).fit(table)
    assert_allclose(raw.visible_scale_, 500 * scaled.visible_scale_, rtol=1e-5)
    assert_allclose(raw.transform(dates), scaled.transform(table), atol=1e-3)


def test_parameters_fold_and_unfold(rng):
    coef, intercept = rng.normal(size=(4, 3)), rng.normal(size=3)
    X = rng.normal(size=(7, 4)) * 50 + 9
    offset, scale = X.mean(axis=0), X.std(axis=0)
    folded = fold_input(coef, intercept, offset, scale)
    assert_allclose(X @ folded[0] + folded[1], (X - offset) / scale @ coef + intercept)
    for one, other in zip(
        unfold_input(*folded, offset, scale), (coef, intercept), strict=True
    ):
        assert_allclose(one, other)
    out_offset, out_scale = rng.normal(size=3), rng.random(3) + 0.5
    head = fold_output(coef, intercept, out_offset, out_scale)
    assert_allclose(
        X @ head[0] + head[1], (X @ coef + intercept) * out_scale + out_offset
    )
    for one, other in zip(
        unfold_output(*head, out_offset, out_scale), (coef, intercept), strict=True
    ):
        assert_allclose(one, other)


def test_constant_columns_are_harmless(stack_class, table):
    X = np.column_stack([table, np.full((60, 3), [0.0, 1.0, 1e6 / 3])])
    stack = build(stack_class).fit(X)
    assert stack.visible_kinds_[-3:].tolist() == ["bernoulli", "bernoulli", "gaussian"]
    assert stack.visible_scale_[-1] == 1
    H = stack.transform(X)
    assert np.isfinite(H).all()
    assert np.isfinite(stack.score(X))
    assert_allclose(stack.inverse_transform(H)[:, -1], 1e6 / 3, rtol=1e-5)


def test_hidden_units_that_hardly_vary_keep_a_scale_of_their_layer():
    variance = np.array([4.0, 1e-12, 0.0])
    high = np.sqrt(variance)
    statistics = ColumnStatistics(-high, high, np.zeros(3), variance, 10, 1e-16)
    assert_allclose(choose_units(statistics, "gaussian").scale, [2, 1e-6, 1])
    typical = np.sqrt(2)  # of the two that vary
    scale = choose_units(statistics, "gaussian", least_scale=0.1).scale
    assert_allclose(scale, [2, 0.1 * typical, 1])


@pytest.mark.parametrize("activation", ["tanh", "elu"])
def test_units_flattened_by_the_contraction_do_not_blow_up_the_next_layer(
    activation, rng
):
    """At unit variance they led to weights of several hundred in the layer above."""
    X = rng.standard_normal((2000, 3)) @ rng.standard_normal((3, 10))
    X += 0.1 * rng.standard_normal((2000, 10))
    stack = StackedAutoencoderTransformer(
        (64, 64),
        activation=activation,
        corruption=None,
        contraction=1.0,
        max_iter=30,
        random_state=0,
    ).fit(X)
    assert np.abs(stack.coefs_[1]).max() < 20


# --- from features back to data, and scores --------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_inverse_transform_is_in_the_units_of_the_data(stack_class, dtype, rng):
    factor = rng.normal(size=(400, 1))
    X = np.hstack([1000 + 50 * factor, -3 + 0.1 * factor, factor > 0]).astype(dtype)
    stack = build(stack_class, (8,), max_iter=60, batch_size=20).fit(X)
    V = stack.inverse_transform(stack.transform(X))
    assert V.shape == X.shape
    assert V.dtype == dtype
    assert_allclose(V.mean(axis=0), X.mean(axis=0), rtol=0.1)
    for column in range(2):
        assert np.corrcoef(V[:, column], X[:, column])[0, 1] > 0.8
    assert np.all((V[:, 2] >= 0) & (V[:, 2] <= 1))
    assert np.mean((V[:, 2] > 0.5) == X[:, 2]) > 0.9


def test_codes_in_float16_lead_back_to_large_columns(stack_class, table):
    """The square of their scale is infinite in float16."""
    X = 1e5 * table
    stack = build(stack_class, (5,)).fit(X)
    H = stack.transform(X).astype(np.float16)
    V = stack.inverse_transform(H)
    assert_allclose(V, stack.inverse_transform(H.astype(float)), rtol=1e-6)


def test_inverse_transform_of_wrong_width_raises(stack_class, binary):
    stack = build(stack_class).fit(binary)
    with pytest.raises(ValueError, match="3 hidden units"):
        stack.inverse_transform(np.ones((2, 4)))
    with pytest.raises(ValueError, match="3 hidden units"):
        stack.inverse_transform(np.ones(3))


def test_inverse_transform_takes_dense_numbers(stack_class, binary):
    stack = build(stack_class).fit(binary)
    H = stack.transform(binary)
    with pytest.raises(TypeError, match="Got a sparse matrix"):
        stack.inverse_transform(sparse.csr_array(H))
    H[0, 0] = np.nan
    with pytest.raises(ValueError, match="X contains NaN"):
        stack.inverse_transform(H)


def test_score_is_the_mean_of_repeatable_row_scores(stack_class, binary):
    stack = build(stack_class).fit(binary)
    scores = stack.score_samples(binary)
    assert scores.shape == (60,)
    assert_array_equal(stack.score_samples(binary), scores)
    assert stack.score(binary) == pytest.approx(scores.mean())
    assert_allclose(stack.score_samples(sparse.csr_array(binary)), scores)


def test_score_prefers_the_data_to_noise(stack_class, rng):
    factor = rng.random((400, 1)) < 0.5
    X = np.repeat(factor, 8, axis=1) ^ (rng.random((400, 8)) < 0.05)
    stack = build(stack_class, (8,), max_iter=40, batch_size=20).fit(X)
    noise = (rng.random((400, 8)) < 0.5).astype(float)
    assert stack.score(X) > stack.score(noise) + 1


def test_autoencoder_score_is_minus_its_reconstruction_loss(table):
    stack = build(StackedAutoencoderTransformer).fit(table)
    V = stack.inverse_transform(stack.transform(table))
    expected = -0.5 * (((table - V) / stack.visible_scale_) ** 2).sum(axis=1)
    assert_allclose(stack.score_samples(table), expected, rtol=1e-6)


# --- forms of input ------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_of_the_data_is_kept(stack_class, dtype, table):
    X = table.astype(dtype)
    stack = build(stack_class).fit(X)
    H = stack.transform(X)
    assert {array.dtype for array in parameters(stack)} == {np.dtype(dtype)}
    assert H.dtype == stack.inverse_transform(H).dtype == dtype
    stack.partial_fit(X.astype(np.float64))
    assert {array.dtype for array in parameters(stack)} == {np.dtype(dtype)}


def test_features_are_float32_where_all_the_data_are(stack_class, table):
    """The docstring promised the dtype of X whatever the stack was fitted on."""
    single = table.astype(np.float32)
    for of_fit, X in ((table, single), (single, table)):
        assert build(stack_class).fit(of_fit).transform(X).dtype == np.float64


def test_integers_count_as_float64(stack_class, binary):
    stack = build(stack_class).fit(binary.astype(np.int8))
    assert_same(stack, build(stack_class).fit(binary))


@pytest.mark.parametrize("to_sparse", [sparse.csr_array, sparse.csr_matrix])
@pytest.mark.parametrize("kind", ["binary", "mixed"])
def test_csr_gives_the_result_of_dense(stack_class, to_sparse, kind, binary):
    X = binary if kind == "binary" else binary * [1, 1, 5, 1, -2, 9]
    S = to_sparse(X)
    dense, csr = build(stack_class).fit(X), build(stack_class).fit(S)
    assert_close(dense, csr)
    assert_allclose(csr.transform(S), dense.transform(X), rtol=1e-4)
    dense.partial_fit(X[:20])
    csr.partial_fit(S[:20])
    assert_close(dense, csr)


@pytest.mark.parametrize("to_sparse", [sparse.csc_array, sparse.coo_array])
def test_other_sparse_formats_are_converted(stack_class, to_sparse, binary):
    csr = build(stack_class).fit(sparse.csr_array(binary))
    assert_same(build(stack_class).fit(to_sparse(binary)), csr)


@pytest.fixture(scope="module")
def wide():
    """A sparse matrix that would take 720 MB when dense."""
    rng = np.random.default_rng(0)
    shape = 3000, 30_000
    cells = np.divmod(rng.choice(np.prod(shape), 9000, replace=False), shape[1])
    return sparse.csr_array((rng.random(9000), cells), shape=shape)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_csr_is_never_dense_as_a_whole(stack_class, early_stopping, wide):
    options = {"centered": True} if stack_class is StackedRBMTransformer else {}
    options["early_stopping"] = early_stopping
    stack = build(stack_class, (2,), max_iter=1, **options)
    for method in (stack.fit, stack.partial_fit, stack.transform):
        assert peak_memory(method, wide) < 200e6


@pytest.mark.parametrize("method", ["score_samples", "free_energy"])
def test_csr_is_scored_in_blocks(method, wide):
    of_rbm = method == "free_energy"
    stack_class = StackedRBMTransformer if of_rbm else StackedAutoencoderTransformer
    stack = build(stack_class, (2,), max_iter=1).fit(wide[:100])
    assert peak_memory(getattr(stack, method), wide[:1500]) < 200e6


def test_memory_map_is_never_copied(stack_class, tmp_path):
    shape = (400_000, 80)
    X = np.memmap(tmp_path / "X.bin", np.float32, "w+", shape=shape)
    X[:] = np.random.default_rng(0).random((1000, 80), np.float32).repeat(400, 0)
    stack = build(stack_class, (2,), max_iter=1, batch_size=1000)
    assert peak_memory(stack.fit, X) < 64e6 < X.nbytes / 1.9


def read_only(X, tmp_path):
    X = X.copy()
    X.flags.writeable = False
    return X


def memory_map(X, tmp_path):
    np.save(tmp_path / "X.npy", X)
    return np.load(tmp_path / "X.npy", mmap_mode="r")


class Watched(mmap.mmap):
    """A memory map that knows how it is to be read."""

    def __new__(cls, path):
        with path.open("r+b") as file:
            return super().__new__(cls, file.fileno(), 0)

    def madvise(self, advice):
        self.__dict__.setdefault("advised", []).append(advice)
        super().madvise(advice)


@pytest.mark.skipif(not hasattr(mmap, "MADV_RANDOM"), reason="no advice on this system")
@pytest.mark.parametrize("working_memory", [1024, 0.001])
def test_the_system_reads_shuffled_rows_of_a_file_alone(
    stack_class, tmp_path, working_memory
):
    """It read megabytes around each row, over and over where memory is short."""
    X = np.random.default_rng(0).random((3000, 20), np.float32)
    X.tofile(tmp_path / "X.bin")
    found, file = [], Watched(tmp_path / "X.bin")
    mapped = np.ndarray(X.shape, np.float32, buffer=file)
    for rows in (X, mapped):
        stack = build(stack_class, (8, 4), max_iter=2)
        with sklearn.config_context(working_memory=working_memory):
            found.append(stack.fit(rows).coefs_[1])
    assert_array_equal(*found)
    there = file.advised
    assert there.count(mmap.MADV_RANDOM) >= 2
    assert there[1::2] == [mmap.MADV_NORMAL] * (len(there) // 2)
    assert maps_of(np.frombuffer(file, np.float32).reshape(X.shape)) == [file]
    assert maps_of(mapped.reshape(3, -1)) == []  # rows of 80,000 bytes
    whole = FloatRows(mapped.view(np.int32))
    parts = maps_of(LayerOutput({"coefs_": np.ones((20, 1))}, TwoParts(X, whole)))
    assert parts == [file]


def test_rows_in_order_are_read_as_they_come(tmp_path):
    X = np.zeros((300, 20), np.float32)
    X.tofile(tmp_path / "X.bin")
    file = Watched(tmp_path / "X.bin")
    rows = Rows(np.ndarray(X.shape, np.float32, buffer=file))
    rows.copied(np.arange(20, 300))
    assert not hasattr(file, "advised")
    rows.copied(np.arange(20, 300, 2))
    assert file.advised == [mmap.MADV_RANDOM, mmap.MADV_NORMAL]


LAYOUTS = {
    "fortran": lambda X, _: np.asfortranarray(X),
    "read-only": read_only,
    "memory map": memory_map,
    "strided rows": lambda X, _: np.repeat(X, 2, axis=0)[::2],
    "strided columns": lambda X, _: np.repeat(X, 2, axis=1)[:, ::2],
    "reversed": lambda X, _: np.ascontiguousarray(X[::-1])[::-1],
    "list": lambda X, _: X.tolist(),
    "pandas": lambda X, _: pd.DataFrame(X),
    "pandas arrow": lambda X, _: pd.DataFrame(X).astype("float64[pyarrow]"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_of_the_data_does_not_matter(stack_class, layout, table, tmp_path):
    plain = build(stack_class).fit(table)
    X = LAYOUTS[layout](table, tmp_path)
    stack = build(stack_class).fit(X)
    assert_close(stack, plain, rtol=1e-5)
    assert_allclose(stack.transform(X), plain.transform(table), rtol=1e-5)
    assert_close(stack.partial_fit(X), plain.partial_fit(table), rtol=1e-5)


def test_only_columns_in_one_piece_are_copied_into_rows(table, tmp_path):
    columns = np.asfortranarray(table)
    rows = row_major(columns)
    assert rows.flags.c_contiguous
    assert_array_equal(rows, table)
    with sklearn.config_context(working_memory=1e-6):
        assert row_major(columns) is columns
    views = table, table[::2], table[:, ::2], table[::-1], memory_map(table, tmp_path)
    repeated = np.broadcast_to(table[0], table.shape)
    for kept in (*views, repeated, sparse.csr_array(table)):
        assert row_major(kept) is kept


def test_polars_frame_gives_the_result_of_its_values(stack_class, table):
    frame = pl.DataFrame(table, schema=list("abcdef"))
    stack = build(stack_class).fit(frame)
    assert_close(stack, build(stack_class).fit(table), rtol=1e-5)
    assert stack.feature_names_in_.tolist() == list("abcdef")


def test_feature_names_and_output_frames(stack_class, table):
    frame = pd.DataFrame(table, columns=list("abcdef"), index=range(100, 160))
    stack = build(stack_class).fit(frame)
    prefix = stack_class.__name__.lower()
    names = [f"{prefix}{i}" for i in range(3)]
    assert stack.feature_names_in_.tolist() == list("abcdef")
    assert stack.get_feature_names_out().tolist() == names
    out = clone(stack).set_output(transform="pandas").fit_transform(frame)
    assert out.columns.tolist() == names
    assert out.index.tolist() == frame.index.tolist()
    assert_allclose(out, stack.transform(frame))
    out = clone(stack).set_output(transform="polars").fit_transform(frame)
    assert isinstance(out, pl.DataFrame)
    assert out.columns == names
    with pytest.raises(ValueError, match="feature names"):
        stack.transform(frame[list("fedcba")])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stack.inverse_transform(stack.transform(frame))


def test_inputs_are_never_changed(stack_class, table):
    for X in (table, table.astype(np.float32), sparse.csr_array(table)):
        before = X.copy()
        stack = build(stack_class).fit(X).partial_fit(X)
        H = stack.transform(X)
        H_before = H.copy()
        stack.score(X)
        stack.inverse_transform(H)
        assert_array_equal(H, H_before)
        if sparse.issparse(X):
            X, before = X.toarray(), before.toarray()
        assert_array_equal(X, before)


def test_features_of_the_caller_survive_a_later_fit(stack_class, table):
    stack = build(stack_class).fit(table)
    coefs = [coef.copy() for coef in stack.coefs_]
    held = stack.coefs_
    stack.partial_fit(table)
    for before, now in zip(coefs, held, strict=True):
        assert_array_equal(before, now)


# --- partial_fit ---------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 16, 60])
def test_partial_fit_takes_chunks_of_any_size(stack_class, size, binary):
    stack = build(stack_class, batch_size=16)
    for start in range(0, 60, size):
        assert stack.partial_fit(binary[start : start + size]) is stack
    assert [len(curve) for curve in stack.loss_curves_] == [-(-60 // size)] * 2
    assert stack.n_iter_ == 2 * -(-60 // size)
    assert np.isfinite(stack.transform(binary)).all()


def test_partial_fit_is_one_epoch_in_order(stack_class, binary):
    once = build(stack_class).partial_fit(binary)
    assert_same(once, build(stack_class, max_iter=1, shuffle=False).fit(binary))
    twice = build(stack_class, (5,)).partial_fit(binary).partial_fit(binary)
    assert_same(twice, build(stack_class, (5,), shuffle=False).fit(binary))


@pytest.mark.parametrize("persistent", [False, True])
def test_chunks_of_whole_batches_add_up(stack_class, persistent, binary):
    params = {"persistent": persistent} if "persistent" in dir(stack_class()) else {}
    whole = build(stack_class, (5,), batch_size=10, **params).partial_fit(binary[:20])
    parts = clone(whole).partial_fit(binary[:20])
    whole.partial_fit(binary[20:])
    for rows in (slice(20, 30), slice(30, 60)):
        parts.partial_fit(binary[rows])
    assert_same(whole, parts)


def test_partial_fit_after_fit_goes_on(stack_class, rng):
    X = np.repeat(rng.random((200, 2)) < 0.5, 4, axis=1).astype(float)
    fast = {RATE[stack_class]: 0.02, "batch_size": 10, "max_iter": 20}
    stack = build(stack_class, **fast).fit(X)
    first, last = stack.loss_curves_[0][0], stack.loss_curves_[0][-1]
    stack.partial_fit(X)
    assert stack.n_iter_ == 42
    assert first - stack.loss_curves_[0][-1] > 0.8 * (first - last) > 0


def test_epochs_of_chunks_add_to_those_of_each_layer(stack_class, binary):
    stack = build(stack_class, max_iter=[1, 3]).fit(binary)
    assert stack.partial_fit(binary).n_iter_ == 1 + 3 + 2
    assert stack.partial_fit(binary).n_iter_ == 1 + 3 + 2 + 2


def test_partial_fit_goes_on_from_the_last_fit_alone(stack_class, binary):
    """Momentum of chunks before that fit would carry it elsewhere."""
    again = build(stack_class).partial_fit(binary).fit(binary).partial_fit(binary)
    assert_same(again, build(stack_class).fit(binary).partial_fit(binary))


def test_wide_hidden_layers_are_not_held_for_all_rows(rng):
    X = rng.normal(size=(30_000, 3)).astype(np.float32)
    stack = StackedAutoencoderTransformer((256, 2), max_iter=1, batch_size=1000)
    stack.fit(X[:1000])
    tracemalloc.start()
    found = stack.transform(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30_000 * 256 * 4 / 2
    assert_allclose(found[20_000:], stack.transform(X[20_000:]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("held", [[], [3], [9, 0, 4], [40]])
def test_rows_without_those_held_out(held, rng):
    index = rng.permutation(10)
    left = without(index, np.array(held, dtype=int))
    assert_array_equal(left, [row for row in index if row not in held])


def test_another_solver_begins_its_own_moments(binary):
    """Those of the other one were taken for its own: one chunk spoiled a model."""
    sgd = {"solver": "sgd", "nesterovs_momentum": False, "batch_size": len(binary)}
    adam = {"solver": "adam", "learning_rate_init": 1e-3}
    sgd["learning_rate_init"] = 0.1
    stack = StackedAutoencoderTransformer((4,), random_state=0, **sgd)
    for _ in range(5):
        stack.partial_fit(binary)
    before = stack.coefs_[0].copy()
    stack.set_params(**adam).partial_fit(binary)
    # The first step of Adam has at most the length of its rate in every weight.
    assert np.abs(stack.coefs_[0] - before).max() < 1.001e-3
    plain = deepcopy(stack).set_params(**sgd, momentum=0.0).partial_fit(binary)
    heavy = stack.set_params(**sgd, momentum=0.9).partial_fit(binary)
    assert_array_equal(heavy.coefs_[0], plain.coefs_[0])


def test_warm_starts_go_on_with_the_units_that_are_kept(binary, monkeypatch):
    """Every fit opened all units again, and fits of one epoch never closed any."""
    epochs, kept = [], CodePenalty.kept

    def spy(self, epoch):
        epochs.append(epoch)
        return kept(self, epoch)

    monkeypatch.setattr(CodePenalty, "kept", spy)
    stack = build(StackedAutoencoderTransformer, (6,), n_active=2, max_iter=2)
    stack.set_params(warm_start=True).fit(binary).fit(binary).partial_fit(binary)
    assert sorted(set(epochs)) == [1, 2, 3, 4, 5]


def test_partial_fit_keeps_what_fit_decided(rng):
    nearly_binary = np.clip(rng.integers(0, 2, (200, 6)) * 0.98 + 0.01, 0, 1)
    stack = build(StackedRBMTransformer).fit(nearly_binary)
    decided, kinds = stack.visible_reconstructions_, stack.visible_kinds_
    assert decided[0] == "sample"
    stack.partial_fit(nearly_binary[:1])
    assert stack.visible_reconstructions_ == decided
    with pytest.warns(UserWarning, match=r"from 0 to 7, outside \[0, 1\]"):
        stack.partial_fit(np.full((1, 6), 7.0))
    assert_array_equal(stack.visible_kinds_, kinds)


def test_partial_fit_after_a_larger_batch_size(binary):
    stack = build(StackedRBMTransformer, batch_size=10, persistent=True)
    stack.partial_fit(binary).set_params(batch_size=40).partial_fit(binary)
    assert np.isfinite(stack.transform(binary)).all()


def test_partial_fit_after_loading_a_memory_map(stack_class, table, tmp_path):
    stack = build(stack_class).partial_fit(table)
    path = tmp_path / "stack.joblib"
    joblib.dump(stack, path)
    stored = path.read_bytes()
    loaded = joblib.load(path, mmap_mode="r")
    assert_allclose(loaded.transform(table), stack.transform(table))
    assert_same(loaded.partial_fit(table), stack.partial_fit(table))
    assert path.read_bytes() == stored


def test_partial_fit_with_other_columns_raises(stack_class, binary):
    stack = build(stack_class).partial_fit(binary)
    with pytest.raises(ValueError, match="features"):
        stack.partial_fit(binary[:, :4])


def test_partial_fit_alone_sets_every_fitted_attribute(stack_class, binary):
    fitted = {name for name in vars(build(stack_class).fit(binary)) if name[-1] == "_"}
    assert fitted <= set(vars(build(stack_class).partial_fit(binary)))


# --- stopping, warm start, reports ----------------------------------------------


def test_early_stopping_keeps_the_best_parameters(stack_class, binary):
    params = {"early_stopping": True, "validation_fraction": 0.3, "max_iter": 40}
    fast = {RATE[stack_class]: 0.3}
    stack = build(stack_class, (8,), **params, **fast, n_iter_no_change=3).fit(binary)
    scores = stack.validation_scores_[0]
    assert len(scores) == len(stack.loss_curves_[0]) == stack.n_iter_ < 40
    best = int(np.argmax(scores)) + 1
    assert best < stack.n_iter_
    short = clone(stack).set_params(max_iter=best).fit(binary)
    assert short.validation_scores_[0] == scores[:best]
    assert_same(short, stack)


def test_without_early_stopping_there_are_no_scores(stack_class, binary):
    assert build(stack_class).fit(binary).validation_scores_ is None


def test_early_stopping_needs_rows_to_train_on(stack_class):
    with pytest.raises(ValueError, match="n_samples=1"):
        build(stack_class, early_stopping=True).fit(np.ones((1, 3)))


def test_patience_is_that_of_scikit_learn(stack_class, table):
    params = {"tol": 1e9, "n_iter_no_change": 2, "max_iter": 20}
    expected = (
        MLPRegressor(hidden_layer_sizes=3, **params).fit(table, table[:, 0]).n_iter_
    )
    stack = build(stack_class, **params).fit(table)
    assert [len(curve) for curve in stack.loss_curves_] == [expected, expected]
    assert stack.n_iter_ == 2 * expected


def test_reaching_max_iter_warns_only_with_tol(stack_class, binary):
    long = {"tol": 0.0, "max_iter": 5, RATE[stack_class]: 0.02}
    with pytest.warns(ConvergenceWarning, match=r"layer 1 reached max_iter=5 .*last"):
        build(stack_class, (4,), n_iter_no_change=3, **long).fit(binary)
    seen = "reached max_iter=5, but n_iter_no_change=4 lets no .* before epoch 6"
    with pytest.warns(ConvergenceWarning, match=seen):
        build(stack_class, (4,), n_iter_no_change=4, **long).fit(binary)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        build(stack_class, (4,)).fit(binary)


def test_the_limit_of_the_unrolled_network_has_its_own_name(binary):
    options = {"tol": 0.0, "n_iter_no_change": 1, "unrolled_max_iter": 2}
    stack = build(StackedAutoencoderTransformer, (4,), max_iter=0, **options)
    with pytest.warns(ConvergenceWarning, match="unrolled reached unrolled_max_iter=2"):
        stack.fit(binary)


def test_warm_start_goes_on(stack_class, rng):
    X = np.repeat(rng.random((200, 2)) < 0.5, 4, axis=1).astype(float)
    fast = {RATE[stack_class]: 0.02, "batch_size": 10}
    stack = build(stack_class, max_iter=20, warm_start=True, **fast).fit(X)
    cold = stack.loss_curves_[0]
    warm = stack.fit(X).loss_curves_[0]
    assert cold[0] - warm[0] > 0.8 * (cold[0] - cold[-1]) > 0
    assert len(warm) == 20
    assert stack.n_iter_ == 40


def test_warm_start_with_changed_sizes_raises(stack_class, binary):
    stack = build(stack_class, warm_start=True).fit(binary)
    before = [array.copy() for array in parameters(stack)]
    stack.set_params(hidden_layer_sizes=(5, 4))
    with pytest.raises(ValueError, match=r"\(5, 4\).*\(5, 3\)"):
        stack.fit(binary)
    with pytest.raises(ValueError, match="features"):
        stack.fit(binary[:, :3])
    for old, now in zip(before, parameters(stack), strict=True):
        assert_array_equal(old, now)


@pytest.mark.parametrize("goes_on", ["warm_start", "partial_fit"])
def test_units_of_fitted_layers_stay(stack_class, goes_on, binary):
    """Layers above saw the new units as what the old ones were."""
    rbm = stack_class is StackedRBMTransformer
    changed = {"hidden": "relu"} if rbm else {"activation": "tanh"}
    stack = build(stack_class, (4, 3), warm_start=True).fit(binary)
    stack.set_params(**changed)
    with pytest.raises(ValueError, match="of the fitted layers, which have"):
        stack.fit(binary) if goes_on == "warm_start" else stack.partial_fit(binary)


def test_warnings_are_of_the_line_of_the_user(stack_class, binary, tmp_path):
    """Not of one of ours, of scikit-learn's wrappers or of joblib."""
    outside = build(stack_class, visible="bernoulli", tol=0.0, memory=str(tmp_path))
    search = GridSearchCV(outside, {"max_iter": [2]}, cv=2)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        outside.fit(3 * binary)
        search.fit(3 * binary)
    assert len(seen) > 3
    assert {warning.filename for warning in seen} == {__file__}


def test_verbose_prints_a_line_per_epoch_and_changes_nothing(
    stack_class, binary, capsys
):
    params = {"max_iter": [2, 3], "early_stopping": True}
    quiet = build(stack_class, **params).fit(binary)
    assert capsys.readouterr().out == ""
    loud = build(stack_class, verbose=True, **params).fit(binary)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert "layer 2" in lines[-1]
    assert "epoch 3/3" in lines[-1]
    assert f"{loud.loss_curves_[1][-1]:.6f}" in lines[-1]
    assert lines[-1].endswith("left = 0s")
    assert_same(quiet, loud)


def test_shuffle_visits_all_rows_in_another_order(stack_class, binary):
    plain = build(stack_class, (4,), shuffle=False)
    assert_same(clone(plain).fit(binary), clone(plain).fit(binary))
    assert differ(plain.fit(binary), build(stack_class, (4,)).fit(binary))


def test_slices_do_not_change_what_later_epochs_draw(stack_class, binary, monkeypatch):
    """Their noise goes by the number of mini-batches before, not by that of calls."""
    whole = build(stack_class, batch_size=10).fit(binary)
    monkeypatch.setattr("sklearn_greedy._training._SLICE_CALLS", 1)
    assert_same(build(stack_class, batch_size=10).fit(binary), whole)


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_outputs_that_do_not_fit_into_memory_are_computed_again(
    stack_class, container, early_stopping, binary
):
    X = container(binary)
    options = {"early_stopping": early_stopping, "max_iter": 3}
    kept = build(stack_class, (5, 4, 3), **options).fit(X)
    with sklearn.config_context(working_memory=1e-6):
        again = build(stack_class, (5, 4, 3), **options).fit(X)
    for ours, theirs in zip(again.coefs_, kept.coefs_, strict=True):
        assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_outputs_that_do_not_fit_are_not_in_memory(stack_class, rng):
    X = rng.random((100_000, 4), dtype=np.float32)
    stack = build(stack_class, (200, 3), max_iter=1, batch_size=200).fit(X[:400])
    peaks = {}
    for working_memory in (1024, 1):
        with sklearn.config_context(working_memory=working_memory):
            tracemalloc.start()
            stack.fit(X)
            peaks[working_memory] = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
    output = 100_000 * 200 * 4
    assert peaks[1024] > output
    assert peaks[1] < output / 2


def test_wide_rows_below_such_outputs_are_copied_a_few_at_a_time(stack_class, rng):
    X = rng.random((16_384, 512), dtype=np.float32)
    stack = build(stack_class, (8, 3), max_iter=1, batch_size=128).fit(X[:200])
    with sklearn.config_context(working_memory=0.1):
        assert peak_memory(stack.fit, X) < 0.6 * X.nbytes


# --- determinism ---------------------------------------------------------------


def fitted_arrays(stack, X):
    """Parameters of a clone fitted on X."""
    return parameters(clone(stack).fit(X))


def _worker_arrays(stack, X, names):
    """``fitted_arrays`` without anything a worker process would have to import."""
    stack.fit(X)
    return [array for name in names for array in getattr(stack, name, [])]


_FITS = """
import pickle, sys
stacks, X, names = pickle.loads(sys.stdin.buffer.read())
arrays = [
    [a for name in names for a in getattr(stack.fit(X), name, [])] for stack in stacks
]
sys.stdout.buffer.write(pickle.dumps(arrays))
"""


def in_thread(stack, X):
    out = []
    thread = threading.Thread(target=lambda: out.append(fitted_arrays(stack, X)))
    thread.start()
    thread.join()
    return out[0]


def in_new_interpreter(stacks, X):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _FITS],
        input=pickle.dumps((stacks, X, ARRAYS)),
        stdout=subprocess.PIPE,
        check=True,
    )
    return pickle.loads(done.stdout)


def test_int_seed_gives_the_same_bits_everywhere(table):
    """In this process, in a thread, in joblib workers and in a new interpreter."""
    stacks = [build(stack_class) for stack_class in RATE]
    expected = [fitted_arrays(stack, table) for stack in stacks]
    results = [
        [fitted_arrays(stack, table) for stack in stacks],
        [in_thread(stack, table) for stack in stacks],
        joblib.Parallel(n_jobs=2, backend="loky")(
            joblib.delayed(_worker_arrays)(stack, table, ARRAYS) for stack in stacks
        ),
        in_new_interpreter(stacks, table),
    ]
    for result in results:
        for arrays, same in zip(result, expected, strict=True):
            for a, b in zip(arrays, same, strict=True):
                assert_array_equal(a, b)


def test_random_state_instance_advances(stack_class, binary):
    rng = np.random.RandomState(3)
    first = build(stack_class, random_state=rng).fit(binary)
    again = build(stack_class, random_state=np.random.RandomState(3)).fit(binary)
    second = build(stack_class, random_state=rng).fit(binary)
    assert_same(first, again)
    assert differ(first, second)


def test_no_seed_means_another_result_each_time(stack_class, binary):
    one, other = (build(stack_class, random_state=None).fit(binary) for _ in range(2))
    assert differ(one, other)


# --- sampled or mean reconstructions -------------------------------------------


def made_up_data(name, rng):
    grey = rng.random((200, 6))
    return {
        "binary": (grey < 0.3).astype(float),
        "nearly binary": np.where(grey < 0.3, 0.02, 0.97),
        "skewed binary": (grey < 0.02).astype(float),
        "grey": grey,
        "smooth grey": 0.5 + 0.1 * (grey - 0.5),
        "gaussian": rng.normal(size=(200, 6)),
    }[name]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("binary", "sample"),
        ("nearly binary", "sample"),
        ("skewed binary", "sample"),
        ("grey", "mean"),
        ("smooth grey", "mean"),
        ("gaussian", "mean"),
    ],
)
def test_auto_reconstruction_follows_how_grey_the_data_are(name, expected, rng):
    X = made_up_data(name, rng)
    auto = build(StackedRBMTransformer, (4,)).fit(X)
    rules = {
        rule: build(StackedRBMTransformer, (4,), visible_reconstruction=rule).fit(X)
        for rule in ("sample", "mean")
    }
    assert_same(auto, rules.pop(expected))
    assert differ(auto, *rules.values())


@pytest.mark.parametrize("rule", ["sample", "mean"])
def test_chosen_reconstruction_is_reported(rule, binary):
    stack = build(StackedRBMTransformer, visible_reconstruction=[rule, "auto"])
    assert stack.fit(binary).visible_reconstructions_ == [rule, "mean"]


# --- warnings and failures -----------------------------------------------------


def test_data_outside_bernoulli_range_warn_with_the_figures(stack_class, table):
    X = np.vstack([np.zeros((50, 2)), [[-0.5, 1.0], [0.0, 2.25]]])
    with pytest.warns(UserWarning, match=r"from -0\.5 to 2\.25, outside \[0, 1\]"):
        build(stack_class, (4,), visible="bernoulli").fit(X)


@pytest.mark.filterwarnings("ignore:.* rebuilds its input worse")
def test_dead_or_saturated_layer_warns(stack_class, binary):
    strong = {RATE[stack_class]: [0.01, 300.0], "batch_size": 5, "max_iter": 5}
    seen = "of 6 hidden units of .* layer 2 are constant: .*[46] are off"
    with pytest.warns(UserWarning, match=seen):
        build(stack_class, (12, 6), **strong).fit(binary)


def test_healthy_layers_do_not_warn(stack_class, rng):
    """Of three bits, each in two columns, both layers have something to tell."""
    X = np.repeat(rng.integers(0, 2, (500, 3)), 2, axis=1).astype(float)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build(stack_class, (12, 6), max_iter=40).fit(X)


@pytest.mark.parametrize("layer", [1, 2])
def test_divergence_names_layer_epoch_and_parameter(stack_class, layer, table):
    name = RATE[stack_class]
    rates = [1e-3, 1e-3]
    rates[layer - 1] = 1e38
    options = {"solver": "sgd"} if stack_class is StackedAutoencoderTransformer else {}
    stack = build(stack_class, max_iter=20, **{name: rates}, **options)
    expected = rf"layer {layer}, epoch \d+: .*Lower {name} \(now 1e\+38\)"
    with pytest.raises(ValueError, match=expected):
        stack.fit(table)


def test_exploding_loss_is_never_silent(rng):
    """Many equal gaussian columns: a step too large grows long before it overflows."""
    X = np.repeat(rng.normal(size=(64, 1)), 500, axis=1)
    too_fast = {"learning_rate": 0.1, "momentum": 0.9, "centered": True}
    curve = [1.0]
    with suppress(ValueError):
        stack = build(StackedRBMTransformer, (256,), max_iter=6, **too_fast)
        curve = stack.fit(X).loss_curves_[0]
    assert curve[-1] < 1e4 * curve[0]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_data_raise(stack_class, bad, table):
    table[3, 2] = bad
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        build(stack_class).fit(table)


def interrupted(stack):
    """The same stack, interrupted by the user at its second layer."""

    class Interrupted(type(stack)):
        def _build(self, task):
            if task.layer == 1:
                raise KeyboardInterrupt
            return super()._build(task)

    stack.__class__ = Interrupted
    return stack


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_interrupted_first_fit_leaves_an_unfitted_stack(stack_class, method, table):
    stack = interrupted(build(stack_class))
    with pytest.raises(KeyboardInterrupt):
        getattr(stack, method)(table)
    with pytest.raises(NotFittedError):
        stack.transform(table)
    with pytest.raises(NotFittedError):
        stack.score(table)


def test_later_chunks_check_the_parameters_too(stack_class, binary):
    stack = build(stack_class).partial_fit(binary).set_params(shuffle="often")
    with pytest.raises(InvalidParameterError, match="shuffle"):
        stack.partial_fit(binary)


def test_interrupted_again_while_it_is_put_back(stack_class, table, monkeypatch):
    stack = build(stack_class).fit(table)
    before, return_to = joblib.hash(vars(stack)), one_blas_thread.return_to

    def impatient(depth):
        return_to(depth)
        raise KeyboardInterrupt

    monkeypatch.setattr(one_blas_thread, "return_to", impatient)
    with pytest.raises(KeyboardInterrupt):
        interrupted(stack).fit(table[:, :4])
    assert joblib.hash(vars(stack)) == before


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_interrupted_refit_leaves_the_earlier_fit(stack_class, method, table):
    stack = build(stack_class).fit(table)
    features, before = stack.transform(table), joblib.hash(vars(stack))
    other = table[:, :4] if method == "fit" else table
    with pytest.raises(KeyboardInterrupt):
        getattr(interrupted(stack), method)(other)
    assert joblib.hash(vars(stack)) == before
    assert_array_equal(stack.transform(table), features)


# --- storage -------------------------------------------------------------------


def joblib_round_trip(stack, tmp_path):
    joblib.dump(stack, tmp_path / "stack.joblib")
    return joblib.load(tmp_path / "stack.joblib")


ROUND_TRIPS = {
    "pickle": lambda stack, _: pickle.loads(pickle.dumps(stack)),
    "joblib": joblib_round_trip,
    "cloudpickle": lambda stack, _: cloudpickle.loads(cloudpickle.dumps(stack)),
}


@pytest.mark.parametrize("store", ROUND_TRIPS)
def test_stored_stack_is_the_same_stack(stack_class, store, table, tmp_path):
    stack = build(stack_class).partial_fit(table)
    loaded = ROUND_TRIPS[store](stack, tmp_path)
    assert_array_equal(loaded.transform(table), stack.transform(table))
    assert loaded.score(table) == stack.score(table)
    assert_same(loaded.partial_fit(table), stack.partial_fit(table))


def test_fitted_state_is_plain(stack_class, binary):
    stack = build(stack_class, early_stopping=True).fit(binary).partial_fit(binary)
    for leaf in leaves(vars(stack)):
        assert (
            leaf is None or type(leaf) is np.ndarray or isinstance(leaf, str | Number)
        )
        if isinstance(leaf, np.ndarray):
            assert leaf.dtype.kind in "fiubU"


# --- features that grow ----------------------------------------------------------


def streamed(stack, X, n_passes=20, n_rows=30):
    for _ in range(n_passes):
        for start in range(0, len(X), n_rows):
            stack.partial_fit(X[start : start + n_rows])
    return stack


@pytest.mark.parametrize("train", ["stream", "simultaneous", "warm starts"])
@pytest.mark.parametrize("stack", GROWING, ids=str)
def test_layers_that_learn_together_keep_the_scale_of_features(stack, train):
    """It was that of the first epoch or chunk: all RBM stacks with unbounded hidden
    units diverged in the second layer.
    """
    X = shuffle(load_wine(return_X_y=True)[0], random_state=0)
    stack = clone(stack).set_params(random_state=0)
    if train == "stream":
        streamed(stack, X)
    elif train == "warm starts":
        stack.set_params(warm_start=True, max_iter=2)
        for _ in range(10):
            stack.fit(X)
    else:
        stack.set_params(schedule=train, max_iter=20).fit(X)
    below = forward(X, stack.coefs_[:1], stack.intercepts_[:1], stack.activations_[:1])
    grown = below.std(axis=0) / stack._units[1]["scale"]
    assert 0.7 < np.median(grown) < 1.4
    report = stack.layer_report_[1]
    assert report["reconstruction_error"] < 0.7 * report["baseline_error"]


@pytest.mark.parametrize("stack", GROWING, ids=str)
def test_one_row_after_a_fit_hardly_moves_the_scale(stack):
    """One row alone has no deviation."""
    X, _ = load_wine(return_X_y=True)
    stack = clone(stack).set_params(random_state=0, max_iter=5).fit(X)
    scale = stack._units[1]["scale"]
    stack.partial_fit(X[:1])
    assert_allclose(stack._units[1]["scale"], scale, rtol=0.02)


def test_columns_of_a_stream_have_the_scale_of_all_its_rows(stack_class, rng):
    """It was that of the first chunk, also where that was a single row."""
    X = rng.normal(size=(1500, 4)) * [1, 10, 0.1, 5] + [0, 5, 100, 0]
    X[:700, 3] = 0  # as pixels at the border
    stack = stack_class((3, 2), visible="gaussian", random_state=0)
    for rows in np.split(X, [1, 2, 40, 740]):
        stack.partial_fit(rows)
    assert_allclose(stack.visible_offset_, X.mean(axis=0), atol=1e-9)
    assert_allclose(stack.visible_scale_, X.std(axis=0))


def test_learned_scales_stay_where_they_are_no_longer_learned(rng):
    """They were thrown away, and the weights were those of another input."""
    causes = rng.normal(size=(500, 2)) @ rng.normal(size=(2, 8))
    X = 3 * causes + 0.1 * rng.normal(size=(500, 8))
    params = {"hidden": "gaussian", "learning_rate": 5e-4, "random_state": 0}
    stack = StackedRBMTransformer((4,), learn_scale=True, **params)
    streamed(stack, X, n_passes=60, n_rows=500)
    scale, score = stack.visible_scale_, stack.score(X)
    assert np.all(scale < 0.5 * X.std(axis=0))
    stack.set_params(learn_scale=False).partial_fit(X)
    assert_allclose(stack.visible_scale_, scale)
    assert stack.score(X) > score


@pytest.mark.parametrize(("n_first", "size"), [(1, 1.0), (500, 1.0), (500, 1e-3)])
def test_floor_of_learned_scales_goes_by_all_rows(n_first, size, rng):
    """Columns that are constant in the first chunk kept a floor of their deviation."""
    causes = rng.normal(size=(500, 2)) @ rng.normal(size=(2, 8))
    X = 0.03 * causes + 0.001 * rng.normal(size=(500, 8))
    params = {"hidden": "gaussian", "learning_rate": 5e-4, "random_state": 0}
    stack = StackedRBMTransformer((4,), learn_scale=True, visible="gaussian", **params)
    stack.partial_fit(size * X[:n_first])
    streamed(stack, X, n_passes=60, n_rows=500)
    share = stack.visible_scale_ / X.std(axis=0)
    assert np.all(share < 0.5)
    assert np.all(share > 0.048)


def test_looking_at_a_layer_in_training_changes_nothing(monkeypatch):
    """A fold told the task of learned scales, which then followed from elsewhere."""
    X, _ = load_digits(return_X_y=True)

    def trained(looks):
        stack = StackedRBMTransformer(
            (24, 12),
            hidden="relu",
            learn_scale=True,
            schedule="simultaneous",
            warm_start=True,
            max_iter=3,
            random_state=0,
        )
        stack.fit(X / 16)
        plain = LayersTogether._rescale

        def rescale(self, step, rows):
            if looks:
                stack._fold(step.task, step.model)
            plain(self, step, rows)

        monkeypatch.setattr(LayersTogether, "_rescale", rescale)
        stack.fit(X / 16)
        monkeypatch.undo()
        return stack

    assert_array_equal(trained(True).coefs_[1], trained(False).coefs_[1])


def test_features_after_a_fit_keep_their_scale_beside_dead_units(rng):
    """A unit that is constant stood for a deviation of 1, and the scales of the others
    fell in proportion, ever further.
    """
    X = rng.normal(size=(500, 10))
    stack = StackedAutoencoderTransformer(
        (60, 5),
        activation="relu",
        max_iter=[30, 5],
        code_l1=[1.0, 0.0],
        learning_rate_init=[4e-3, 1e-5],
        random_state=0,
    ).fit(X)
    assert stack.layer_report_[0]["n_dead"] > 5
    stack.set_params(learning_rate_init=1e-9)
    streamed(stack, X, n_passes=30, n_rows=500)
    features = forward(
        X, stack.coefs_[:1], stack.intercepts_[:1], stack.activations_[:1]
    )
    deviation = features.std(axis=0)
    alive = deviation > 1e-9
    assert np.all(stack._units[1]["scale"][alive] > 0.9 * deviation[alive])


def test_columns_keep_the_scale_of_a_fit(stack_class, rng):
    X = rng.normal(size=(60, 4))
    stack = stack_class((3, 2), random_state=0).fit(X)
    scale = stack.visible_scale_
    stack.partial_fit(9 * X).partial_fit(9 * X)
    assert_array_equal(stack.visible_scale_, scale)


@pytest.mark.parametrize("visible", ["gaussian", "auto"])
@pytest.mark.filterwarnings("ignore:.* goes on with gaussian units")
def test_small_chunks_of_pixels_train_as_well_as_all_rows(stack_class, visible):
    """Most pixels near the border are 0 in ten images: they kept a scale of 1, or were
    taken for probabilities, and RBMs learned nothing from the rest.
    """
    X, y = load_digits(return_X_y=True)
    stack = stack_class((32,), visible=visible, random_state=0)
    streamed(stack, X, n_passes=3, n_rows=10)
    assert linear_score(stack.transform(X), y) > 0.85


@pytest.mark.parametrize("hidden", ["relu", "gaussian"])
@pytest.mark.parametrize("train", ["stream", "simultaneous"])
def test_learned_scales_change_in_proportion_to_the_features(hidden, train):
    """They did not follow at all, and the second layer diverged."""
    X = shuffle(load_digits(return_X_y=True)[0] / 16, random_state=0)
    stack = StackedRBMTransformer(
        (24, 12), hidden=hidden, learn_scale=True, random_state=0
    )
    if train == "stream":
        streamed(stack, X, n_passes=4, n_rows=100)
    else:
        stack.set_params(schedule=train, max_iter=6).fit(X)
    report = stack.layer_report_[1]
    assert report["reconstruction_error"] < 0.7 * report["baseline_error"]


def test_columns_that_leave_the_unit_interval_early_become_gaussian(stack_class, rng):
    """Counts that are 0 and 1 in the first rows."""
    X = rng.integers(0, 2, size=(60, 4)).astype(float)
    X[:, 3] = 0  # constant
    later = X + np.array([0, 3, 0, 7])
    stack = stack_class((3,), random_state=0).partial_fit(X)
    assert_array_equal(stack.visible_kinds_, ["bernoulli"] * 4)
    expected = r"layer 1 goes on with gaussian .* column 1 and 1 more: .* from 3 to 7,"
    with pytest.warns(UserWarning, match=expected) as said:
        stack.partial_fit(later[:30])
    assert len(said) == 1
    kinds = ["bernoulli", "gaussian", "bernoulli", "gaussian"]
    assert_array_equal(stack.visible_kinds_, kinds)
    stack.partial_fit(later[30:])
    both, gaussian = np.vstack([X, later]), [1, 3]
    assert_allclose(stack.visible_offset_, both.mean(axis=0) * [0, 1, 0, 1])
    assert_allclose(stack.visible_scale_[gaussian], both.std(axis=0)[gaussian])
    rebuilt = stack.inverse_transform(stack.transform(later)).mean(axis=0)
    assert_allclose(rebuilt[gaussian], both.mean(axis=0)[gaussian], rtol=0.5)


@pytest.mark.parametrize("value", [1 + 1e-7, -1e-17])
def test_rounding_beyond_the_unit_interval_in_a_single_row_is_none(
    stack_class, value, rng
):
    """The range that rounding goes by is not that of the row, 0."""
    stack = stack_class((3,), random_state=0)
    stack.partial_fit(rng.integers(0, 2, size=(20, 3)).astype(float))
    stack.partial_fit(np.array([[1.0, value, 0.0]]))
    assert_array_equal(stack.visible_kinds_, ["bernoulli"] * 3)


def test_kinds_that_are_named_later_stay(stack_class, rng):
    X = rng.integers(0, 2, size=(20, 3)).astype(float)
    stack = stack_class((3,), random_state=0).partial_fit(X)
    stack.set_params(visible=[("bernoulli", [1])])
    with pytest.warns(UserWarning, match="bernoulli units for columns that reach"):
        stack.partial_fit(X + np.array([0, 4, 0]))
    stack.partial_fit(X + np.array([0, 4, 0]))  # once is enough
    assert_array_equal(stack.visible_kinds_, ["bernoulli"] * 3)


def test_a_chunk_that_cannot_be_says_nothing_of_new_kinds(rng):
    X = rng.integers(0, 2, size=(20, 3)).astype(float)
    stack = StackedRBMTransformer((3,), visible=[("poisson", [2])], random_state=0)
    stack.partial_fit(X)
    with pytest.raises(ValueError, match="Counts cannot be negative"):
        stack.partial_fit(X + np.array([0, 5, -3]))  # a warning would fail the test
    assert_array_equal(stack.visible_kinds_, ["bernoulli", "bernoulli", "poisson"])


@pytest.mark.parametrize("first", ["named", "many rows", "a fit"])
def test_kinds_that_are_settled_stay(stack_class, first, rng):
    X = rng.integers(0, 2, size=(1200, 3)).astype(float)
    stack = stack_class((3,), max_iter=2, random_state=0)
    if first == "named":
        stack.set_params(visible=[("bernoulli", [1])]).partial_fit(X[:20])
    elif first == "many rows":
        stack.partial_fit(X)
    else:
        stack.fit(X[:20]).partial_fit(X[:20])
    with pytest.warns(UserWarning, match="bernoulli units for columns that reach"):
        stack.partial_fit(X[:20] + np.array([0, 4, 0]))
    assert_array_equal(stack.visible_kinds_, ["bernoulli"] * 3)


def test_a_column_that_was_constant_in_many_rows_may_become_gaussian(stack_class, rng):
    X = rng.integers(0, 2, size=(1200, 3)).astype(float)
    X[:, 2] = 0
    stack = stack_class((3,), random_state=0).partial_fit(X)
    with pytest.warns(UserWarning, match="gaussian units for column 2: "):
        stack.partial_fit(X[:20] + np.array([0, 0, 4]))
    assert_array_equal(stack.visible_kinds_, ["bernoulli", "bernoulli", "gaussian"])


@pytest.mark.parametrize("schedule", ["layerwise", "simultaneous"])
def test_a_loss_that_grows_without_end_raises(schedule, rng):
    """Only the layers in turn were looked at."""
    X = rng.normal(size=(600, 6)) @ rng.normal(size=(6, 10))
    params = {"learning_rate": 0.13, "max_iter": 2, "shuffle": False}
    stack = StackedRBMTransformer(
        (8,), hidden="relu", schedule=schedule, random_state=1, **params
    )
    with pytest.raises(ValueError, match="layer 1, epoch 2: the loss grew to"):
        stack.fit(X)


def test_base_biases_after_simultaneous_training_are_those_of_its_features(digits):
    """They were those of the features after the first epoch."""
    X = digits[0]
    stack = StackedRBMTransformer(
        (12, 6), schedule="simultaneous", max_iter=5, random_state=0
    ).fit(X)
    below = forward(X, stack.coefs_[:1], stack.intercepts_[:1], stack.activations_[:1])
    means = expit(stack._base_biases[1])
    assert_allclose(means, below.mean(axis=0), atol=0.01)
