"""The cache of layers: every miss that must be, and the hits that are its purpose."""

import warnings

import joblib
import numpy as np
import pytest
from joblib.memory import MemorizedResult
from numpy.testing import assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV

from sklearn_greedy import (
    GreedyPretrainedMLPClassifier,
    StackedAutoencoderTransformer,
    StackedRBMTransformer,
    _memory,
)
from sklearn_greedy._memory import data_digest

STACKS = [StackedRBMTransformer, StackedAutoencoderTransformer]
SMALL = {"max_iter": 2, "random_state": 0}


@pytest.fixture
def trained(monkeypatch):
    """Places of the layers that are trained while the test runs, in order."""
    places = []
    for cls in STACKS:
        build = cls._build

        def spy(self, task, build=build):
            places.append(task.place)
            return build(self, task)

        monkeypatch.setattr(cls, "_build", spy)
    return places


def same_attributes(one, other):
    for name, value in vars(one).items():
        if name.endswith("_") and name != "phase_seconds_":
            assert joblib.hash(value) == joblib.hash(getattr(other, name)), name


# --- hits ----------------------------------------------------------------------


def test_second_fit_trains_nothing_and_is_the_same(stack_class, digits, tmp_path):
    X = digits[0]
    plain = stack_class((8, 5), **SMALL).fit(X)
    first = stack_class((8, 5), memory=str(tmp_path), **SMALL).fit(X)
    second = stack_class((8, 5), memory=str(tmp_path), **SMALL).fit(X)
    same_attributes(first, plain)
    same_attributes(second, plain)
    assert_array_equal(second.transform(X), plain.transform(X))


def test_prefixes_are_shared(stack_class, digits, tmp_path, trained):
    X, memory = digits[0], joblib.Memory(tmp_path, verbose=0)
    for sizes in [(8,), (8, 5), (8, 5, 3), (8, 6, 3), (8, 5, 3)]:
        stack_class(sizes, memory=memory, **SMALL).fit(X)
    numbers = [int(place[-1]) for place in trained]
    assert numbers == [1, 2, 3, 2, 3]


def test_lower_layers_hit_where_an_upper_one_differs(
    stack_class, digits, tmp_path, trained
):
    for epochs in ([2, 2], [2, 3], [3, 3]):
        params = {"max_iter": epochs, "memory": str(tmp_path), "random_state": 0}
        stack_class((8, 5), **params).fit(digits[0])
    assert [int(place[-1]) for place in trained] == [1, 2, 2, 1, 2]


@pytest.mark.parametrize("change", [{"verbose": True}, {"warm_start": True}])
def test_what_cannot_matter_hits(stack_class, change, digits, tmp_path, trained):
    params = {"memory": str(tmp_path), **SMALL}
    stack_class((8,), **params).fit(digits[0])
    stack_class((8,), **params, **change).fit(digits[0])
    assert len(trained) == 1


@pytest.mark.parametrize("form", ["F-ordered", "memory map", "view"])
def test_layout_of_the_data_does_not_matter(form, digits, tmp_path):
    X = digits[0]
    other = X[:, ::-1].copy()[:, ::-1]
    if form == "F-ordered":
        other = np.asfortranarray(X)
    elif form == "memory map":
        np.save(tmp_path / "x.npy", X)
        other = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert data_digest(other) == data_digest(X)


def test_warm_starts_go_on_beside_a_cache(stack_class, digits, tmp_path):
    """It holds the layers of the first fit, which are not those of the second."""
    plain = stack_class((8, 5), warm_start=True, **SMALL)
    beside = clone(plain).set_params(memory=str(tmp_path))
    for _ in range(3):
        plain.fit(digits[0])
        beside.fit(digits[0])
        same_attributes(beside, plain)


def test_layers_trained_together_are_not_looked_up(digits, tmp_path):
    """The unrolled network on them would be taken from another stack's."""
    params = {"schedule": "simultaneous", "unrolled_max_iter": 2, **SMALL}
    for sizes in ((8, 5), (7, 4)):
        plain = StackedAutoencoderTransformer(sizes, **params).fit(digits[0])
        beside = clone(plain).set_params(memory=str(tmp_path)).fit(digits[0])
        same_attributes(beside, plain)


def test_without_a_seed_nothing_is_kept(stack_class, digits, tmp_path):
    stack = stack_class((8,), max_iter=1, memory=str(tmp_path))
    with pytest.warns(UserWarning, match="is not used: without a seed"):
        stack.fit(digits[0])
    assert not list(tmp_path.iterdir())


def test_without_a_seed_of_either_a_network_keeps_nothing(
    stack_class, digits, tmp_path
):
    """The stack has a seed from the network, but another one in every fit."""
    stack = stack_class((8,), max_iter=1, memory=str(tmp_path))
    clf = GreedyPretrainedMLPClassifier(pretrainer=stack, max_iter=1, tol=0.5)
    with pytest.warns(UserWarning, match="is not used: without a seed"):
        clf.fit(*digits)
    assert not list(tmp_path.iterdir())
    clf.set_params(random_state=0).fit(*digits)
    assert list(tmp_path.iterdir())


def test_unrolled_network_goes_on_from_cached_layers(digits, tmp_path, trained):
    params = {"memory": str(tmp_path), **SMALL}
    X = digits[0]
    StackedAutoencoderTransformer((8, 5), **params).fit(X)
    cached = StackedAutoencoderTransformer((8, 5), unrolled_max_iter=2, **params).fit(X)
    assert len(trained) == 2
    plain = StackedAutoencoderTransformer((8, 5), unrolled_max_iter=2, **SMALL).fit(X)
    same_attributes(cached, plain)


def test_unrolled_network_is_found_again(digits, tmp_path, monkeypatch):
    whole, train = [], StackedAutoencoderTransformer._train

    def spy(self, task, model, tasks):
        whole.append("unrolled" in task.place)
        return train(self, task, model, tasks)

    monkeypatch.setattr(StackedAutoencoderTransformer, "_train", spy)
    stack = StackedAutoencoderTransformer(
        (8,), unrolled_max_iter=2, memory=str(tmp_path), **SMALL
    )
    first = stack.fit(digits[0])
    again = clone(stack).fit(digits[0])
    assert whole == [False, True]
    same_attributes(again, first)
    clone(stack).set_params(unrolled_max_iter=3).fit(digits[0])
    assert whole[2:] == [True]


# --- misses --------------------------------------------------------------------

OTHER = {
    "visible": "gaussian",
    "random_state": 1,
    "activation": "tanh",
    "hidden": "relu",
    "corruption": "swap",
    "objective": "detection",
    "solver": "sgd",
    "schedule": None,  # the other one has no cache
    "memory": None,
    "verbose": None,
    "warm_start": None,
    "hidden_layer_sizes": (9,),
    "unrolled_max_iter": None,
    "early_stopping": True,
    "tol": 1e-3,
    "visible_reconstruction": "sample",
    "sparsity_target": 0.2,
    "initial_momentum": 0.3,
    "n_chains": 7,
    "max_gradient_norm": 1.0,
    "n_active": 3,
    "n_iter_no_change": 7,
}


def changed(params, name):
    """Another allowed value of a parameter."""
    value = params[name]
    if name == "learning_rate":
        return 0.01 if value == "auto" else "adaptive"
    if name in OTHER:
        return OTHER[name]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    return value * 0.5 if value else 0.25


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (cls, name)
        for cls in STACKS
        for name in cls().get_params(deep=False)
        if OTHER.get(name, 0) is not None
    ],
    ids=lambda v: getattr(v, "__name__", v),
)
def test_every_parameter_that_matters_misses(cls, name, digits, tmp_path, trained):
    params = {"hidden_layer_sizes": (8,), "memory": str(tmp_path), **SMALL}
    if name in ("learning_rate", "momentum", "nesterovs_momentum", "power_t"):
        params |= {"solver": "sgd"} if cls is StackedAutoencoderTransformer else {}
        params |= {"tol": 1e-5} if cls is StackedAutoencoderTransformer else {}
    if name in ("n_chains", "n_temperatures"):
        params["persistent"] = True
    if (
        name in ("sparsity_target", "sparsity_weight")
        and "activation" in cls().get_params()
    ):
        params["activation"] = "logistic"
    first = cls(**params)
    first.fit(digits[0])
    before = len(trained)
    other = changed(first.get_params(deep=False), name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cls(**{**params, name: other}).fit(digits[0])
    assert len(trained) == before + 1


def test_other_data_misses(stack_class, digits, tmp_path, trained):
    X = digits[0]
    stack = stack_class((8,), memory=str(tmp_path), **SMALL)
    one_cell = X.copy()
    one_cell[17, 20] += 1 / 16
    variants = [
        X,
        one_cell,
        X.astype(np.float32),
        X[:-1],
        sparse.csr_array(X),
        X.reshape(150, 128),
    ]
    for rows in variants:
        stack.fit(rows)
    assert len(trained) == len(variants)


@pytest.mark.parametrize(
    "cells",
    [([0, 1], [0, 2]), ([0, 0], [0, 1]), ([0, 1], [1, 0])],
    ids=["another column", "another row", "swapped columns"],
)
def test_places_of_sparse_cells_are_in_the_digest(cells):
    """Their values alone are those of many matrices."""
    one, other = (
        sparse.csr_array(([1.0, 2.0], places), shape=(2, 3))
        for places in (([0, 1], [0, 1]), cells)
    )
    assert data_digest(one) != data_digest(other)


def test_weights_and_targets_miss(stack_class, digits, tmp_path, trained):
    X, y = digits
    stack = stack_class((8,), memory=str(tmp_path), **SMALL)
    params = {"pretrainer": stack, "max_iter": 1, "random_state": 0}
    clf = GreedyPretrainedMLPClassifier(**params)
    weight = np.ones(len(y))
    weight[3] = 2
    supervised = GreedyPretrainedMLPClassifier(supervised_weight=0.5, **params)
    moved = y.copy()
    moved[:2] = y[:2][::-1]
    for fit in (
        lambda: clf.fit(X, y),
        lambda: clf.fit(X, y, sample_weight=weight),
        lambda: supervised.fit(X, y),
        lambda: supervised.fit(X, moved),
        lambda: supervised.set_params(supervised_weight=0.6).fit(X, y),
    ):
        before = len(trained)
        fit()
        assert len(trained) == before + 1
    clf.fit(X, moved)  # labels do not matter without a head
    assert len(trained) == before + 1


@pytest.mark.parametrize("unrolled", [0, 2])
def test_the_head_of_a_kept_layer_is_found_too(digits, tmp_path, trained, unrolled):
    """As it was when the targets took part in the training."""
    X, y = digits
    stack = StackedAutoencoderTransformer((8, 5), unrolled_max_iter=unrolled, **SMALL)
    clf = GreedyPretrainedMLPClassifier(
        pretrainer=stack, supervised_weight=0.5, max_iter=1, random_state=0
    )
    plain = clf.fit(X, y).coefs_[-1]
    stack.set_params(memory=str(tmp_path))
    for _ in range(2):
        assert_array_equal(clf.fit(X, y).coefs_[-1], plain)
    assert len(trained) == 2 * 2


def test_another_version_misses(stack_class, digits, tmp_path, trained, monkeypatch):
    stack = stack_class((8,), memory=str(tmp_path), **SMALL)
    stack.fit(digits[0])
    monkeypatch.setattr(_memory, "VERSION", "0.0.0")
    stack.fit(digits[0])
    assert len(trained) == 2


# --- searches and accidents ------------------------------------------------------


def search(digits, memory, n_jobs=None):
    stack = StackedAutoencoderTransformer(memory=memory, **SMALL)
    clf = GreedyPretrainedMLPClassifier(pretrainer=stack, max_iter=2, random_state=0)
    grid = {
        "pretrainer__hidden_layer_sizes": [(8,), (8, 5)],
        "alpha": [1e-4, 1e-2],
    }
    return GridSearchCV(clf, grid, cv=2, n_jobs=n_jobs, refit=False).fit(*digits)


def test_search_trains_each_prefix_once_per_fold(digits, tmp_path, trained):
    plain = search(digits, None)
    assert len(trained) == 2 * 2 * (1 + 2)
    trained.clear()
    cached = search(digits, str(tmp_path))
    assert len(trained) == 2 * 2
    for name in ("split0_test_score", "split1_test_score"):
        assert_array_equal(cached.cv_results_[name], plain.cv_results_[name])


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_workers_share_a_cache(backend, digits, tmp_path):
    plain = search(digits, None)
    with joblib.parallel_backend(backend, n_jobs=2):
        for _ in ("cold", "warm"):
            shared = search(digits, str(tmp_path))
            assert_array_equal(
                shared.cv_results_["mean_test_score"],
                plain.cv_results_["mean_test_score"],
            )


def test_halving_search_over_epochs(digits, tmp_path):
    stack = StackedRBMTransformer((8,), memory=str(tmp_path), random_state=0)
    clf = GreedyPretrainedMLPClassifier(pretrainer=stack, max_iter=2, random_state=0)
    found = HalvingGridSearchCV(
        clf,
        {"pretrainer__alpha": [0.0, 1e-4, 1e-3, 1e-2]},
        resource="pretrainer__max_iter",
        max_resources=4,
        min_resources=1,
        factor=2,
        cv=2,
    ).fit(*digits)
    assert set(found.cv_results_["n_resources"]) == {1, 2, 4}


def test_damaged_entry_is_trained_again(stack_class, digits, tmp_path, trained, caplog):
    stack = stack_class((8,), memory=str(tmp_path), **SMALL).fit(digits[0])
    before = stack.coefs_[0].copy()
    (entry,) = tmp_path.rglob("output.pkl")
    entry.write_bytes(entry.read_bytes()[:100])
    stack.fit(digits[0])
    assert "Exception while loading results" in caplog.text
    assert len(trained) == 2
    assert_array_equal(stack.coefs_[0], before)


def put_zeros(folder, coef):
    """Damage the one entry of a cache where it holds these weights."""
    (entry,) = folder.rglob("output.pkl")
    content = bytearray(entry.read_bytes())
    place = content.index(coef.tobytes()[:64])
    content[place : place + 64] = bytes(64)
    entry.write_bytes(content)


def test_entry_of_other_numbers_is_trained_again(
    stack_class, digits, tmp_path, trained
):
    """A file of the right length may hold blocks of zeros after a crash."""
    stack = stack_class((8,), memory=str(tmp_path), **SMALL).fit(digits[0])
    before = stack.coefs_[0].copy()
    put_zeros(tmp_path, before)
    with pytest.warns(UserWarning, match="damaged and is trained again"):
        stack.fit(digits[0])
    assert len(trained) == 2
    assert_array_equal(stack.coefs_[0], before)
    stack.fit(digits[0])
    assert len(trained) == 2


@pytest.mark.parametrize("entry", [(1, 2, 3), None, (b"", b"")])
def test_entry_of_another_form_is_trained_again(entry, digits, tmp_path, monkeypatch):
    """It made all fits fail."""
    stack = StackedRBMTransformer((8,), memory=str(tmp_path), **SMALL)
    with monkeypatch.context() as other:
        other.setattr(_memory, "_trained", _returning(entry))
        with pytest.warns(UserWarning, match="damaged and is trained again"):
            stack.fit(digits[0])


def _returning(entry):
    def _trained(key, train):
        return entry

    return _trained


def test_entry_of_libraries_that_are_not_here_is_trained_again(digits, tmp_path):
    content = b"cno_such_module\nno_such_name\n."
    stack = StackedRBMTransformer((8,), memory=str(tmp_path), **SMALL)
    before = stack.fit(digits[0]).coefs_[0].copy()
    (entry,) = tmp_path.rglob("output.pkl")
    joblib.dump((_memory._digest(content), content), entry)
    with pytest.warns(UserWarning, match="damaged and is trained again"):
        stack.fit(digits[0])
    assert_array_equal(stack.coefs_[0], before)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stack.fit(digits[0])  # the entry was replaced


def test_damaged_entry_that_cannot_be_removed_is_not_used(
    digits, tmp_path, trained, monkeypatch
):
    """Its wrong weights were, though the warning said that it was trained again."""
    stack = StackedRBMTransformer((8,), memory=str(tmp_path), **SMALL).fit(digits[0])
    before = stack.coefs_[0].copy()
    put_zeros(tmp_path, before)
    monkeypatch.setattr(MemorizedResult, "clear", lambda self: None)
    for n_trained in (2, 3):
        with pytest.warns(UserWarning, match="damaged and is trained again"):
            stack.fit(digits[0])
        assert len(trained) == n_trained
        assert_array_equal(stack.coefs_[0], before)


def test_another_class_of_the_same_name_misses(digits, tmp_path, trained):
    other = type("StackedRBMTransformer", (StackedRBMTransformer,), {})
    for cls in (StackedRBMTransformer, other):
        cls((8,), memory=str(tmp_path), **SMALL).fit(digits[0])
    assert len(trained) == 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_layout_of_the_rows_changes_no_bit(stack_class, dtype, rng):
    """A cache takes them for the same."""
    X = (rng.normal(size=(300, 30)) @ rng.normal(size=(30, 30)) + 3).astype(dtype)
    stack = stack_class((20, 8), **SMALL)
    expected = clone(stack).fit(X)
    for form in (np.asfortranarray(X), X[::-1].copy()[::-1], X.T.copy()[:].T):
        same_attributes(clone(stack).fit(form), expected)
