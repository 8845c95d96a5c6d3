"""Label units in the top RBM against enumeration and exact distributions."""

import numpy as np
import pandas as pd
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.special import logsumexp, softmax
from scipy.stats import chisquare
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler
from tools import bit_states, peak_memory

from sklearn_greedy import StackedRBMClassifier, StackedRBMTransformer


def rows_of_three_classes(rng, n=300):
    """0/1 columns whose probabilities depend on the class."""
    y = rng.integers(0, 3, n)
    p = np.array([[0.9, 0.1, 0.5, 0.2], [0.1, 0.8, 0.5, 0.7], [0.2, 0.2, 0.9, 0.9]])
    return (rng.random((n, 4)) < p[y]).astype(float), y


def joint_weights(top, v):
    """log sum_h exp(-E(v, label, h)) for each row of v and label, by enumeration."""
    h = bit_states(top.coefs_[0].shape[1])
    w, c, b = top.coefs_[0], top.intercepts_[0], top.visible_intercepts_[0]
    n_labels = len(b) - v.shape[1]
    columns = []
    for label in np.eye(n_labels):
        row = np.hstack([v, np.tile(label, (len(v), 1))])
        columns.append(row @ b + logsumexp(row @ w @ h.T + h @ c, axis=1))
    return np.column_stack(columns)


@pytest.mark.parametrize("sizes", [(3,), (5, 3)])
def test_probabilities_are_those_of_the_joint_density(sizes, rng):
    X, y = rows_of_three_classes(rng)
    rbm = StackedRBMClassifier(StackedRBMTransformer(sizes), random_state=0).fit(X, y)
    H = X if rbm.features_ is None else rbm.features_.transform(X)
    expected = softmax(joint_weights(rbm.top_, H), axis=1)
    assert_allclose(rbm.predict_proba(X), expected, rtol=1e-6)
    assert_allclose(np.exp(rbm.predict_log_proba(X)), expected, rtol=1e-6)
    assert_array_equal(rbm.predict(X), np.argmax(expected, axis=1))


@pytest.mark.parametrize("sizes", [(3,), (5, 3)])
def test_the_top_is_an_rbm_over_features_beside_one_group_of_labels(sizes, rng):
    X, y = rows_of_three_classes(rng)
    rbm = StackedRBMClassifier(StackedRBMTransformer(sizes), random_state=0).fit(X, y)
    H = X if rbm.features_ is None else rbm.features_.transform(X)
    alone = clone(rbm.top_).fit(np.hstack([H, np.eye(3)[y]]))
    assert_array_equal(rbm.top_.coefs_[0], alone.coefs_[0])
    assert_array_equal(rbm.top_.intercepts_[0], alone.intercepts_[0])
    assert list(rbm.top_.visible_kinds_[-3:]) == ["softmax"] * 3
    # One group: its means sum to 1.
    assert_allclose(rbm.top_._rbm(0).visible_means(np.eye(3))[:, -3:].sum(axis=1), 1)


def test_csr_is_never_dense_as_a_whole(rng):
    X = sparse.random(2000, 20_000, density=0.001, format="csr", random_state=0)
    stack = StackedRBMTransformer((2,), max_iter=1)
    rbm = StackedRBMClassifier(stack, random_state=0)
    dense = 8 * X.shape[0] * X.shape[1]
    assert peak_memory(rbm.fit, X, rng.integers(0, 2, 2000)) < dense / 4


def test_interrupted_refit_leaves_the_earlier_fit(monkeypatch, rng):
    X, y = rows_of_three_classes(rng)
    rbm = StackedRBMClassifier(StackedRBMTransformer((5, 3)), random_state=0).fit(X, y)
    before, attributes = rbm.predict_proba(X), set(vars(rbm))

    def interrupted(self, X, codes, weights):
        raise KeyboardInterrupt

    monkeypatch.setattr(StackedRBMClassifier, "_set_label_biases", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rbm.fit(X[:100, :2], y[:100])
    assert_array_equal(rbm.predict_proba(X), before)
    assert set(vars(rbm)) == attributes


def test_probabilities_with_gaussian_columns_and_relu_features(rng):
    """Scaling inside the top RBM does not change what belongs to a row."""
    X = rng.normal(size=(200, 3)) * 5 + 20
    y = np.array(["low", "high"])[(X[:, 0] > 20).astype(int)]
    stack = StackedRBMTransformer(
        (6, 8), hidden=["relu", "bernoulli"], learning_rate=0.005, max_iter=60
    )
    rbm = StackedRBMClassifier(stack, random_state=0).fit(X, y)
    labels = np.eye(2)
    H = rbm.features_.transform(X)
    energy = [
        rbm.top_.free_energy(np.hstack([H, np.tile(label, (200, 1))]))
        for label in labels
    ]
    expected = softmax(-np.column_stack(energy), axis=1)
    assert_allclose(rbm.predict_proba(X), expected, rtol=1e-9)
    assert rbm.score(X, y) > 0.9


@pytest.mark.parametrize("label", [0, 2])
def test_rows_of_a_class_have_its_exact_distribution(label, rng):
    X, y = rows_of_three_classes(rng)
    rbm = StackedRBMClassifier(StackedRBMTransformer((3,)), random_state=0).fit(X, y)
    drawn = rbm.sample(np.full(8000, label), n_gibbs_steps=60, random_state=1)
    place = drawn @ (8 >> np.arange(4))
    p = softmax(joint_weights(rbm.top_, bit_states(4))[:, label])
    assert chisquare(np.bincount(place.astype(int), minlength=16), 8000 * p)[1] > 1e-3


def test_drawn_digits_are_seen_as_what_they_were_drawn_for():
    """Two layers, by a classifier that never saw this stack."""
    X, y = load_digits(return_X_y=True)
    X = X / 16
    stack = StackedRBMTransformer((64, 128), learning_rate=0.1, max_iter=40)
    rbm = StackedRBMClassifier(stack, random_state=0).fit(X[:1400], y[:1400])
    assert rbm.score(X[1400:], y[1400:]) > 0.9  # writers that it never saw
    classes = np.repeat(np.arange(10), 20)
    drawn = rbm.sample(classes, n_gibbs_steps=200, random_state=0)
    nearest = np.argmin(
        ((drawn[:, None] - [X[y == k].mean(axis=0) for k in range(10)]) ** 2).sum(2), 1
    )
    assert np.mean(nearest == classes) > 0.5


def test_rows_of_a_deep_stack_are_drawn_and_no_means(rng):
    X, y = rows_of_three_classes(rng)
    stack = StackedRBMTransformer((6, 5), max_iter=1)
    rbm = StackedRBMClassifier(stack, random_state=0).fit(X, y)
    drawn = rbm.sample([0, 1, 2] * 10, n_gibbs_steps=2, random_state=0)
    assert_array_equal(np.unique(drawn), [0, 1])


def test_seed_of_the_stack_is_kept_without_another(rng):
    X, y = rows_of_three_classes(rng)
    rbm = StackedRBMClassifier(StackedRBMTransformer((4,), random_state=3))
    first = rbm.fit(X, y).predict_proba(X)
    assert_array_equal(rbm.fit(X, y).predict_proba(X), first)


def test_options_of_the_stack_reach_their_layers(rng):
    X, y = rows_of_three_classes(rng)
    stack = StackedRBMTransformer((6, 5, 4), max_iter=[1, 2, 3], alpha=(0.1, 0.2, 0.3))
    rbm = StackedRBMClassifier(stack, random_state=0).fit(X, y)
    assert rbm.features_.max_iter == [1, 2]
    assert rbm.top_.max_iter == [3]
    assert rbm.top_.alpha == [0.3]
    assert rbm.features_.hidden_layer_sizes == (6, 5)
    assert rbm.features_.random_state != rbm.top_.random_state
    assert stack.max_iter == [1, 2, 3]
    assert not hasattr(stack, "coefs_")


@pytest.mark.parametrize(
    "sequence", [range(5, 3, -1), pd.Series([5, 4], index=[1, 0]), np.array([5, 4])]
)
def test_values_per_layer_come_as_any_sequence(sequence, rng):
    """Ranges and Series went whole to the layers below and to the top."""
    X, y = rows_of_three_classes(rng)
    stack = StackedRBMTransformer(sequence, max_iter=sequence)
    rbm = StackedRBMClassifier(stack, random_state=0).fit(X, y)
    assert [part.coefs_[0].shape[1] for part in (rbm.features_, rbm.top_)] == [5, 4]
    assert [part.n_iter_ for part in (rbm.features_, rbm.top_)] == [5, 4]


@pytest.mark.parametrize("sizes", [(5,), (5, 4)])
def test_sequence_of_wrong_length_names_the_parameter(sizes, rng):
    """One layer took the last value, and two were counted without the top."""
    X, y = rows_of_three_classes(rng)
    stack = StackedRBMTransformer(sizes, learning_rate=[0.9, 0.1, 0.01])
    message = f"learning_rate has 3 values for {len(sizes)} layers"
    with pytest.raises(ValueError, match=message):
        StackedRBMClassifier(stack).fit(X, y)


@pytest.mark.parametrize(
    ("visible", "message"),
    [(["gaussian"], "Got 'gaussian' in the list"), ([("grey", [0])], "kind 'grey'")],
)
def test_kinds_are_checked_as_in_the_stack(visible, message, rng):
    X, y = rows_of_three_classes(rng)
    stack = StackedRBMTransformer((5,), visible=visible)
    with pytest.raises(ValueError, match=message):
        StackedRBMClassifier(stack).fit(X, y)


@pytest.mark.parametrize("where", ["config", "stack"])
def test_output_frames_do_not_get_between_the_layers(where, rng):
    """The features of the layers below came as a frame."""
    X, y = rows_of_three_classes(rng)
    stack = StackedRBMTransformer((5, 4), max_iter=2)
    expected = StackedRBMClassifier(stack, random_state=0).fit(X, y).predict_proba(X)
    output = "pandas" if where == "config" else "default"
    if where == "stack":
        stack.set_output(transform="pandas")
    with sklearn.config_context(transform_output=output):
        rbm = StackedRBMClassifier(stack, random_state=0).fit(X, y)
        assert_array_equal(rbm.predict_proba(X), expected)


def test_messages_count_the_layers_below(rng):
    """The top was called layer 1, as the lowest."""
    X, y = rows_of_three_classes(rng)
    hidden = ["bernoulli", "relu"]
    stack = StackedRBMTransformer((5, 4), learning_rate=[0.01, 1e8], hidden=hidden)
    with pytest.raises(ValueError, match="layer 2"):
        StackedRBMClassifier(stack, random_state=0).fit(X, y)


@pytest.mark.parametrize("sizes", [(8,), (8, 8)])
def test_classes_have_their_shares_as_mean_probabilities(sizes, rng):
    """The last update left the biases of the labels anywhere: predictions fell below
    the share of the largest class.
    """
    y = np.repeat([0, 1, 2], [140, 50, 10])
    X = (rng.random((200, 6)) < 0.3 + 0.2 * (y[:, None] == 1)) * 1.0
    stack = StackedRBMTransformer(sizes, learning_rate=0.1, max_iter=5)
    model = StackedRBMClassifier(stack, random_state=0).fit(X, y)
    assert_allclose(model.predict_proba(X).mean(axis=0), [0.7, 0.25, 0.05], atol=1e-4)
    assert model.score(X, y) >= 0.7


def test_log_probabilities_of_clear_rows_are_finite(rng):
    """They were logarithms of float32 probabilities: -inf, with a warning."""
    y = np.arange(40) % 2
    X = (y[:, None] ^ (rng.random((40, 1000)) < 0.02)).astype(np.float32)
    stack = StackedRBMTransformer((50,), max_iter=100, learning_rate=0.1)
    clf = StackedRBMClassifier(stack, random_state=0).fit(X, y)
    found = clf.predict_log_proba(X)
    assert found.dtype == np.float32
    assert found.min() < np.log(np.finfo(np.float32).smallest_subnormal)
    assert np.all(np.isfinite(found))
    assert_allclose(np.exp(found), clf.predict_proba(X), atol=1e-6)


@pytest.mark.parametrize("sizes", [(4,), (5, 4)])
def test_without_a_seed_nothing_is_kept(sizes, rng, tmp_path):
    """Layers were stored under a seed that was drawn and never came again."""
    X, y = rows_of_three_classes(rng)
    stack = StackedRBMTransformer(sizes, max_iter=1, memory=str(tmp_path))
    with pytest.warns(UserWarning, match="is not used: without a seed"):
        StackedRBMClassifier(stack).fit(X, y)
    assert not list(tmp_path.iterdir())
    StackedRBMClassifier(stack, random_state=0).fit(X, y)
    assert list(tmp_path.iterdir())


@pytest.mark.parametrize("sizes", [(4,), (5, 4)])
@pytest.mark.parametrize(
    "visible", ["auto", "gaussian", [("gaussian", ["b"]), ("bernoulli", ["a"])]]
)
def test_kinds_of_columns_are_chosen_as_in_the_stack(sizes, visible, rng):
    pandas = pytest.importorskip("pandas")
    X, y = rows_of_three_classes(rng)
    frame = pandas.DataFrame(X, columns=list("abcd"))
    stack = StackedRBMTransformer(sizes, visible=visible, learning_rate=0.02)
    rbm = StackedRBMClassifier(stack, random_state=0).fit(frame, y)
    expected = StackedRBMTransformer((4,), visible=visible, max_iter=1).fit(frame)
    seen = rbm.top_ if rbm.features_ is None else rbm.features_
    assert_array_equal(seen.visible_kinds_[:4], expected.visible_kinds_)
    assert rbm.predict(frame).shape == y.shape


def test_csr_gives_the_result_of_dense(rng):
    X, y = rows_of_three_classes(rng)
    for sizes in ((4,), (5, 4)):
        stack = StackedRBMTransformer(sizes)
        dense = StackedRBMClassifier(stack, random_state=0).fit(X, y)
        csr = StackedRBMClassifier(stack, random_state=0).fit(sparse.csr_array(X), y)
        assert_allclose(
            csr.predict_proba(sparse.csr_array(X)), dense.predict_proba(X), rtol=1e-5
        )


def test_features_have_the_least_scale_of_hidden_units(digits):
    """Units that hardly ever fire once reached hundreds in the top RBM."""
    X, y = digits
    stack = StackedRBMTransformer((30, 10), hidden="relu", max_iter=10)
    rbm = StackedRBMClassifier(stack, random_state=0).fit(X, y)
    scale = rbm.top_.visible_scale_[:30]
    varies = rbm.features_.transform(X).std(axis=0) > 0
    typical = np.sqrt(np.mean(np.square(scale[varies])))
    assert scale[varies].min() > 0.09 * typical


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
def test_rows_are_scored_in_blocks(container, monkeypatch, rng):
    X, y = rows_of_three_classes(rng)
    stack = StackedRBMTransformer((5, 3), max_iter=2)
    rbm = StackedRBMClassifier(stack, random_state=0).fit(container(X), y)
    whole = rbm.predict_proba(container(X))
    monkeypatch.setattr("sklearn_greedy._rbm_classifier._BLOCK_ROWS", 7)
    assert_allclose(rbm.predict_proba(container(X)), whole, rtol=1e-6)


@pytest.mark.parametrize("visible", [None, 5, (("gaussian", [0]),)])
def test_parameters_of_the_stack_are_validated(visible, rng):
    X, y = rows_of_three_classes(rng)
    rbm = StackedRBMClassifier(StackedRBMTransformer((3,), visible=visible))
    with pytest.raises(ValueError, match="'visible' parameter of StackedRBMTrans"):
        rbm.fit(X, y)


def test_no_label_to_draw_raises(rng):
    rbm = StackedRBMClassifier(random_state=0).fit(*rows_of_three_classes(rng))
    with pytest.raises(ValueError, match="y is empty"):
        rbm.sample([])


def test_unknown_label_to_draw_raises(rng):
    X, y = rows_of_three_classes(rng)
    rbm = StackedRBMClassifier(StackedRBMTransformer((3,)), random_state=0).fit(X, y)
    with pytest.raises(ValueError, match=r"y holds \[7\], but fit saw \[0, 1, 2\]"):
        rbm.sample([0, 7])
    with pytest.raises(ValueError, match=r"y holds \[3, 4, 5, 6, 7, 8, \.\.\.\], but"):
        rbm.sample(range(1000))


def test_search_over_nested_parameters(rng):
    X, y = rows_of_three_classes(rng)
    rbm = StackedRBMClassifier(StackedRBMTransformer((4,), max_iter=40), random_state=0)
    search = GridSearchCV(rbm, {"stack__learning_rate": [1e-6, 0.1]}, cv=3).fit(X, y)
    assert search.best_params_ == {"stack__learning_rate": 0.1}


def test_parameters_of_no_stack_cannot_be_set():
    with pytest.raises(ValueError, match=r"stack__max_iter cannot be set: stack=None"):
        StackedRBMClassifier().set_params(stack__max_iter=3)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_classes_that_alternate_keep_their_shares(n_classes, rng):
    """Every second row of more than ten thousand set the biases: one class was lost."""
    y = np.arange(12_000) % n_classes
    X = (rng.random((len(y), 6)) < np.where(y == 0, 0.6, 0.4)[:, None]).astype(float)
    stack = StackedRBMTransformer((4,), max_iter=1)
    clf = StackedRBMClassifier(stack, random_state=0).fit(X, y)
    shares = clf.predict_proba(X).mean(axis=0)
    assert_allclose(shares, 1 / n_classes, atol=0.02)


def assert_same_fit(one, other):
    parts = [(one.features_, other.features_), (one.top_, other.top_)]
    for a, b in parts[one.features_ is None :]:
        for mine, theirs in zip(a.coefs_, b.coefs_, strict=True):
            assert_array_equal(mine, theirs)
    assert_array_equal(
        one.top_.visible_intercepts_[0], other.top_.visible_intercepts_[0]
    )


# --- weights -----------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(4,), (5, 4)])
def test_rows_of_weight_0_have_no_part(sizes, rng):
    X, y = rows_of_three_classes(rng)
    weights = rng.integers(0, 3, 300)
    rbm = StackedRBMClassifier(StackedRBMTransformer(sizes), random_state=0)
    expected = clone(rbm).fit(X, y, sample_weight=weights)
    out = weights == 0
    X[out], y[out] = 1 - X[out], 2 - y[out]
    assert_same_fit(rbm.fit(X, y, sample_weight=weights), expected)


@pytest.mark.parametrize("sizes", [(4,), (5, 4)])
def test_even_weights_are_none(sizes, rng):
    X, y = rows_of_three_classes(rng)
    rbm = StackedRBMClassifier(StackedRBMTransformer(sizes), random_state=0)
    expected = clone(rbm).fit(X, y).predict_proba(X)
    found = rbm.fit(X, y, sample_weight=np.full(300, 3.7)).predict_proba(X)
    assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("sizes", [(4,), (5, 4)])
def test_classes_have_their_shares_of_the_weight(sizes, rng):
    X, y = rows_of_three_classes(rng)
    weights = rng.random(300) * np.array([0.5, 1.0, 4.0])[y]
    rbm = StackedRBMClassifier(StackedRBMTransformer(sizes), random_state=0)
    p = rbm.fit(X, y, sample_weight=weights).predict_proba(X)
    shares = np.bincount(y, weights) / weights.sum()
    assert_allclose(np.average(p, axis=0, weights=weights), shares, atol=1e-4)


def test_weights_reach_all_layers(rng):
    """Those of marked rows the layers below alone."""
    X, y = rows_of_three_classes(rng)
    known = np.arange(300) % 3 == 0
    weights = rng.random(300)
    stack = StackedRBMTransformer((5, 4))
    rbm = StackedRBMClassifier(stack, unlabeled=-1, random_state=0)
    rbm.fit(X, np.where(known, y, -1), sample_weight=weights)
    below, top = clone(rbm.features_), clone(rbm.top_)
    below._fit_within(X, X, weights)
    assert_array_equal(rbm.features_.coefs_[0], below.coefs_[0])
    beside = np.hstack([below.transform(X[known]), np.eye(3)[y[known]]])
    top._fit_within(beside, beside, weights[known])
    assert_array_equal(rbm.top_.coefs_[0], top.coefs_[0])


def test_labelled_rows_of_no_weight_raise(rng):
    X, y = rows_of_three_classes(rng)
    few = np.where(np.arange(300) < 40, y, -1)
    rbm = StackedRBMClassifier(unlabeled=-1)
    with pytest.raises(ValueError, match="zeros for all 40 labelled rows"):
        rbm.fit(X, few, sample_weight=few == -1)


# --- rows without a label ----------------------------------------------------------


@pytest.mark.parametrize("marker", [-1, np.nan, "?"])
def test_marked_rows_teach_the_layers_below_alone(marker, rng):
    X, codes = rows_of_three_classes(rng)
    y = np.array(["a", "b", "c"])[codes] if marker == "?" else codes
    known = np.arange(300) % 5 == 0
    few = np.where(known, y, marker)
    rbm = StackedRBMClassifier(
        StackedRBMTransformer((5, 3)), unlabeled=marker, random_state=0
    ).fit(X, few)
    assert rbm.classes_.tolist() == np.unique(y).tolist()
    below = clone(rbm.features_).fit(X)
    assert_array_equal(rbm.features_.coefs_[0], below.coefs_[0])
    H = below.transform(X[known])
    top = clone(rbm.top_).fit(np.hstack([H, np.eye(3)[codes[known]]]))
    assert_array_equal(rbm.top_.coefs_[0], top.coefs_[0])
    shares = np.bincount(codes[known]) / known.sum()
    assert_allclose(rbm.predict_proba(X[known]).mean(axis=0), shares, atol=1e-4)
    assert rbm.score(X, few) == rbm.score(X[known], y[known])


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array, np.ndarray.tolist])
def test_rows_beside_x_are_as_rows_marked_in_y(form, rng):
    X, y = rows_of_three_classes(rng)
    stack = StackedRBMTransformer((5, 3), max_iter=2)
    few = np.where(np.arange(300) < 40, y, -1)
    in_y = StackedRBMClassifier(stack, unlabeled=-1, random_state=0).fit(X, few)
    rbm = StackedRBMClassifier(stack, random_state=0)
    if form is sparse.csr_array:
        in_y.fit(form(X), few)
    beside = rbm.fit(X[:40], y[:40], X_unlabeled=form(X[40:]))
    assert_same_fit(beside, in_y)
    alone = clone(rbm).fit(X[:40], y[:40])
    assert not np.array_equal(alone.features_.coefs_[0], beside.features_.coefs_[0])


def test_one_rbm_learns_from_labelled_rows_alone(rng):
    X, y = rows_of_three_classes(rng)
    few = np.where(np.arange(300) < 40, y, -1)
    rbm = StackedRBMClassifier(StackedRBMTransformer((4,)), random_state=0)
    alone = clone(rbm).fit(X[:40], y[:40]).predict_proba(X)
    marked = clone(rbm).set_params(unlabeled=-1).fit(X, few)
    assert_array_equal(marked.predict_proba(X), alone)
    with pytest.warns(UserWarning, match="X_unlabeled is not used: the one RBM"):
        rbm.fit(X[:40], y[:40], X_unlabeled=X[40:])
    assert_array_equal(rbm.predict_proba(X), alone)


def test_kinds_of_columns_are_chosen_for_all_rows(rng):
    X, y = rows_of_three_classes(rng)
    frame = pd.DataFrame(X, columns=list("abcd"))
    visible = [("gaussian", ["b"]), ("bernoulli", ["a", "c", "d"])]
    stack = StackedRBMTransformer((5, 4), visible=visible, learning_rate=0.02)
    few = np.where(np.arange(300) < 40, y, -1)
    rbm = StackedRBMClassifier(stack, unlabeled=-1, random_state=0).fit(frame, few)
    assert rbm.features_.visible_offset_[1] == pytest.approx(X[:, 1].mean())
    assert list(rbm.features_.visible_kinds_) == [
        "bernoulli",
        "gaussian",
        "bernoulli",
        "bernoulli",
    ]


def test_rows_beside_x_reach_a_classifier_in_a_search_of_pipelines(rng):
    X, y = rows_of_three_classes(rng)
    more = 2 * X[60:]
    stack = StackedRBMTransformer((5, 3), max_iter=2)
    with sklearn.config_context(enable_metadata_routing=True):
        rbm = StackedRBMClassifier(stack, random_state=0)
        rbm.set_fit_request(X_unlabeled=True)
        pipe = make_pipeline(MaxAbsScaler(), rbm, transform_input=["X_unlabeled"])
        grid = {"stackedrbmclassifier__stack__max_iter": [2]}
        search = GridSearchCV(pipe, grid, cv=2)
        search.fit(X[:60] / 2, y[:60], X_unlabeled=more / 2)
        by_hand = StackedRBMClassifier(stack, random_state=0)
        by_hand.fit(X[:60], y[:60], X_unlabeled=more)
    assert_same_fit(search.best_estimator_[-1], by_hand)


def test_missing_label_without_marker_raises(rng):
    X, y = rows_of_three_classes(rng)
    y = y.astype(float)
    y[::2] = np.nan
    with pytest.raises(ValueError, match=r"150 of 300 rows\. Set unlabeled=np\.nan"):
        StackedRBMClassifier().fit(X, y)


def test_memory_map_beside_x_is_not_copied(rng, tmp_path):
    X, y = rows_of_three_classes(rng)
    X = np.tile(X, (1, 50))
    np.save(tmp_path / "more.npy", np.tile(X, (100, 1)))  # 48 MB
    more = np.load(tmp_path / "more.npy", mmap_mode="r")
    stack = StackedRBMTransformer((4, 4), max_iter=1, batch_size=1000)
    rbm = StackedRBMClassifier(stack, random_state=0).fit(X, y, X_unlabeled=more[:100])
    assert peak_memory(rbm.fit, X, y, None, more) < more.nbytes / 2
