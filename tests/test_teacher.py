"""Teachers: what they are fitted on, what they teach, and what they must return."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import make_multilabel_classification
from sklearn.ensemble import (
    GradientBoostingClassifier,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from sklearn_greedy import (
    GreedyPretrainedMLPClassifier,
    GreedyPretrainedMLPRegressor,
    StackedAutoencoderTransformer,
    StackedRBMTransformer,
    compare_pretraining,
)
from sklearn_greedy._fit_rows import fit_rows

N_LABELLED = 60
STACKS = {
    "autoencoder": StackedAutoencoderTransformer((6, 4), max_iter=3),
    "detection": StackedAutoencoderTransformer(
        (6, 4),
        max_iter=3,
        objective="detection",
        corruption="swap",
        corruption_level=0.3,
        tied_weights=False,
    ),
    "unrolled": StackedAutoencoderTransformer((6, 4), max_iter=1, unrolled_max_iter=3),
    "rbm": StackedRBMTransformer((6, 4), max_iter=3),
}


class Oracle(BaseEstimator):
    """Knows what it was told of each row, and keeps what it was fitted on."""

    def __init__(self, known=None, classes=None):
        self.known = known
        self.classes = classes

    def fit(self, X, y, sample_weight=None, X_unlabeled=None):
        self.fitted_on_ = {
            "X": X,
            "y": y,
            "sample_weight": sample_weight,
            "X_unlabeled": X_unlabeled,
        }
        if self.classes is not None:
            self.classes_ = np.asarray(self.classes)
        return self

    def predict(self, X):
        return np.array([self.known[row.tobytes()] for row in X])

    predict_proba = predict


def oracle(X, said, classes=None):
    pairs = zip(X, said, strict=True)
    return Oracle({row.tobytes(): value for row, value in pairs}, classes)


def network(cls=GreedyPretrainedMLPClassifier, stack="autoencoder", **params):
    defaults = {"supervised_weight": 0.5, "max_iter": 2, "random_state": 0}
    return cls(pretrainer=STACKS[stack], **{**defaults, **params})


def classification(kind, X, y):
    """Targets, the probabilities of one who knows them, and the classes."""
    if kind == "binary":
        y = (y == 2) * 1
    if kind == "multilabel":
        targets = np.column_stack([y == 0, y < 2]).astype(int)
        return targets, targets.astype(float), None
    classes = np.unique(y)
    return y, (y[:, None] == classes).astype(float), classes


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
@pytest.mark.parametrize("stack", STACKS)
def test_who_is_told_the_truth_learns_as_from_labels(stack, kind, iris):
    X, y = iris
    order = np.random.default_rng(0).permutation(len(X))
    X, (y, said, classes) = X[order], classification(kind, X[order], y[order])
    known, others = X[:N_LABELLED], X[N_LABELLED:]
    taught = network(stack=stack, teacher=oracle(X, said, classes))
    taught.fit(known, y[:N_LABELLED], X_unlabeled=others)
    knowing = network(stack=stack).fit(X, y)
    ignorant = network(stack=stack).fit(known, y[:N_LABELLED], X_unlabeled=others)
    found, expected, other = (
        each.pretrainer_.coefs_[-1] for each in (taught, knowing, ignorant)
    )
    assert_array_equal(found, expected)
    assert np.abs(found - other).max() > 1e-4


@pytest.mark.parametrize("n_outputs", [1, 2])
@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
def test_who_is_told_the_truth_learns_as_from_numbers(loss, n_outputs, iris, rng):
    # The other rows have the same targets again, so that their scale is the same.
    X = np.vstack([iris[0], iris[0] + rng.normal(size=iris[0].shape)])
    y = np.tile(iris[0][:, :n_outputs] ** 2, (2, 1))
    y = y[:, 0] if n_outputs == 1 else y
    half = len(X) // 2
    regressor = network(GreedyPretrainedMLPRegressor, loss=loss)
    taught = clone(regressor).set_params(teacher=oracle(X, y))
    taught.fit(X[:half], y[:half], X_unlabeled=X[half:])
    knowing = regressor.fit(X, y)
    assert_array_equal(taught.pretrainer_.coefs_[0], knowing.pretrainer_.coefs_[0])


@pytest.mark.parametrize("weights", [None, "uneven"])
def test_a_teacher_is_fitted_on_rows_with_a_label(weights, iris, rng):
    X, y = iris
    said = (y[:, None] == np.unique(y)).astype(float)
    names = np.array(["setosa", "versicolor", "virginica"])[y].astype(object)
    known = np.zeros(len(X), dtype=bool)
    known[rng.permutation(len(X))[:N_LABELLED]] = True
    marked = np.where(known, names, "")
    if weights is not None:
        weights = rng.uniform(0.5, 2, size=len(X))
    teacher = oracle(X, said)
    clf = network(teacher=teacher, unlabeled="")
    fitted_on = clf.fit(X, marked, sample_weight=weights).teacher_.fitted_on_
    assert_array_equal(fitted_on["X"], X[known])
    assert_array_equal(fitted_on["y"], names[known])
    assert_array_equal(fitted_on["X_unlabeled"], X[~known])
    if weights is None:
        assert fitted_on["sample_weight"] is None
    else:
        assert_array_equal(fitted_on["sample_weight"], weights[known])
    assert not hasattr(teacher, "fitted_on_")


def test_a_teacher_sees_no_label_of_a_held_out_row(all_digits):
    X, y = all_digits
    said = (y[:, None] == np.unique(y)).astype(float)
    weights = np.arange(1.0, 201.0)
    clf = network(teacher=oracle(X, said), early_stopping=True, validation_fraction=0.2)
    clf.fit(X[:200], y[:200], sample_weight=weights, X_unlabeled=X[200:400])
    fitted_on = clf.teacher_.fitted_on_
    assert fitted_on["X"].shape[0] == 160
    rows = fitted_on["sample_weight"].astype(int) - 1
    assert_array_equal(fitted_on["X"], X[rows])
    assert_array_equal(fitted_on["y"], y[rows])


def test_a_frozen_teacher_is_used_as_it_is(iris):
    X, y = iris
    known = np.arange(0, len(X), 2)
    forest = RandomForestClassifier(20, random_state=0)
    rows = {"X": X[known], "y": y[known], "X_unlabeled": np.delete(X, known, axis=0)}
    fresh = network(teacher=forest).fit(**rows)
    fitted = clone(forest).fit(X[known], y[known])
    frozen = network(teacher=FrozenEstimator(fitted)).fit(**rows)
    assert frozen.teacher_.estimator is fitted
    for found, expected in zip(frozen.coefs_, fresh.coefs_, strict=True):
        assert_array_equal(found, expected)


def test_seeds_that_a_teacher_lacks_follow_from_that_of_the_network(iris):
    X, y = iris
    rows = {"X": X[::2], "y": y[::2], "X_unlabeled": X[1::2]}
    votes = [(str(i), RandomForestClassifier(3)) for i in range(2)]
    teacher = VotingClassifier(votes, voting="soft")
    first, second = (network(teacher=teacher).fit(**rows) for _ in range(2))
    assert_array_equal(first.coefs_[0], second.coefs_[0])
    seeds = [forest.random_state for forest in first.teacher_.estimators_]
    assert seeds[0] != seeds[1]
    other = network(teacher=teacher, random_state=1).fit(**rows)
    assert other.teacher_.estimators_[0].random_state not in seeds
    given = clone(teacher).set_params(**{"0__random_state": 7})
    kept = network(teacher=given).fit(**rows).teacher_.estimators_
    assert kept[0].random_state == 7
    assert kept[1].random_state is not None


def test_kept_layers_are_those_of_the_same_teacher(iris, tmp_path):
    X, y = iris
    rows = {"X": X[::2], "y": y[::2], "X_unlabeled": X[1::2]}
    stack = clone(STACKS["autoencoder"]).set_params(
        memory=str(tmp_path), random_state=0
    )
    near, far = KNeighborsClassifier(3), KNeighborsClassifier(30)
    for teacher in near, far, near:
        kept = network(teacher=teacher).set_params(pretrainer=stack).fit(**rows)
        anew = clone(kept).set_params(pretrainer__memory=None).fit(**rows)
        assert_array_equal(kept.coefs_[0], anew.coefs_[0])
    assert len(list(tmp_path.rglob("output.pkl"))) == 4  # two layers of each


def test_nested_parameters_reach_the_teacher():
    clf = network(teacher=KNeighborsClassifier(3))
    assert clf.set_params(teacher__n_neighbors=5).teacher.n_neighbors == 5
    assert clone(clf).teacher.n_neighbors == 5


def test_a_teacher_says_nothing_where_all_rows_have_a_target(iris):
    clf = network(teacher=KNeighborsClassifier())
    with pytest.warns(UserWarning, match="is not used: all rows have a target"):
        clf.fit(*iris)
    assert clf.teacher_ is None
    assert_array_equal(clf.coefs_[0], network().fit(*iris).coefs_[0])


def test_rows_without_a_label_teach_where_the_targets_are_all_that_is_learned(iris):
    X, y = iris
    rows = {"X": X[::2], "y": y[::2], "X_unlabeled": X[1::2]}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", ".*reached max_iter")
        clf = network(supervised_weight=1, teacher=KNeighborsClassifier()).fit(**rows)
    with pytest.warns(UserWarning, match="or a teacher"):
        other = network(supervised_weight=1).fit(**rows)
    assert np.abs(clf.coefs_[0] - other.coefs_[0]).max() > 1e-4


def test_the_first_chunk_has_the_teacher(iris):
    X, y = iris
    marked = np.where(np.arange(len(y)) % 2, -1, y)
    clf = network(teacher=KNeighborsClassifier(), unlabeled=-1)
    clf.partial_fit(X, marked, classes=[0, 1, 2])
    assert_array_equal(clf.teacher_.classes_, [0, 1, 2])
    fitted = clone(clf).fit(X, marked)
    assert_array_equal(clf.pretrainer_.coefs_[0], fitted.pretrainer_.coefs_[0])


def test_a_network_is_its_own_teacher(all_digits):
    X, y = all_digits
    clf = network(supervised_weight=0)
    clf.set_params(teacher=clone(clf), supervised_weight=0.5)
    clf.fit(X[:100], y[:100], X_unlabeled=X[100:400])
    alone = clone(clf.teacher_).fit(X[:100], y[:100], X_unlabeled=X[100:400])
    assert_array_equal(clf.teacher_.coefs_[0], alone.coefs_[0])


def test_other_rows_that_follow_each_other_are_not_copied(iris):
    X, y = iris
    rows = fit_rows(network(), X[:50], y[:50], more=X[50:])
    assert np.shares_memory(rows.others, X)
    rows = fit_rows(network(unlabeled=-1), X, np.where(y > 0, -1, y))
    assert np.shares_memory(rows.others, X)
    assert_array_equal(rows.others, X[y > 0])
    rows = fit_rows(network(unlabeled=-1), X, np.where(y == 1, y, -1))
    assert_array_equal(rows.others, X[y != 1])


class Counted(KNeighborsClassifier):
    """Counts how often it is fitted."""

    n_fits = 0

    def fit(self, X, y):
        Counted.n_fits += 1
        return super().fit(X, y)


def test_comparing_leaves_the_teacher_to_the_pretrained_side(iris):
    X, y = iris
    marked = np.where(np.arange(len(y)) % 2, -1, y)
    clf = network(teacher=Counted(), unlabeled=-1)
    compare_pretraining(clf, X, marked, cv=3)
    assert Counted.n_fits == 3


def test_columns_may_have_names(iris):
    pd = pytest.importorskip("pandas")
    X, y = iris
    X = pd.DataFrame(X, columns=list("abcd"))
    fitted = KNeighborsClassifier().fit(X[::2], y[::2])
    clf = network(teacher=FrozenEstimator(fitted))
    clf.fit(X[::2], y[::2], X_unlabeled=X[1::2])
    assert_array_equal(clf.teacher_.predict(X), fitted.predict(X))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"teacher": SVC()}, "implementing 'fit' and 'predict_proba'"),
        ({"supervised_weight": 0}, r"Set it in \(0, 1\], or teacher=None"),
        ({"teacher": FrozenEstimator(LogisticRegression())}, "not fitted yet"),
    ],
)
def test_what_is_no_teacher_raises(params, message, iris):
    X, y = iris
    clf = network(**{"teacher": KNeighborsClassifier(), **params})
    with pytest.raises(ValueError, match=message):
        clf.fit(X[::2], y[::2], X_unlabeled=X[1::2])


def test_weights_need_a_teacher_that_takes_them(iris):
    X, y = iris
    rows = {"X": X[::2], "y": y[::2], "X_unlabeled": X[1::2]}
    weights = np.linspace(1, 2, len(y[::2]))
    with pytest.raises(ValueError, match="takes no sample_weight, which fit was given"):
        network(teacher=KNeighborsClassifier()).fit(**rows, sample_weight=weights)
    network(teacher=GradientBoostingClassifier()).fit(**rows, sample_weight=weights)


@pytest.mark.parametrize(
    ("said", "classes", "message"),
    [
        (np.full((150, 3), 1 / 3), ["a", "b", "c"], "teacher knows the classes"),
        (np.full((150, 2), 1 / 2), None, r"shape \(75, 3\). Got \(75, 2\)"),
        (np.full((150, 3), 1.5), None, "must return probabilities. Got values from"),
        (np.full((150, 3), np.nan), None, "must return probabilities. Got values from"),
    ],
)
def test_classes_must_be_said_as_probabilities(said, classes, message, iris):
    X, y = iris
    clf = network(teacher=oracle(X, said, classes))
    with pytest.raises(ValueError, match=message):
        clf.fit(X[::2], y[::2], X_unlabeled=X[1::2])


def test_several_labels_are_said_in_one_array():
    X, y = make_multilabel_classification(100, 4, n_classes=3, random_state=0)
    clf = network(teacher=MultiOutputClassifier(KNeighborsClassifier()))
    with pytest.raises(ValueError, match="must return an array of shape"):
        clf.fit(X[:50], y[:50], X_unlabeled=X[50:])


@pytest.mark.parametrize(
    ("loss", "said", "message"),
    [
        ("squared_error", np.full((150, 2), 1.0), "y has 2 outputs"),
        ("squared_error", np.full(150, np.nan), "contains NaN"),
        ("poisson", np.full(150, -1.0), "not negative"),
    ],
)
def test_numbers_must_be_said_as_the_loss_has_them(loss, said, message, iris):
    X, y = iris
    reg = network(GreedyPretrainedMLPRegressor, loss=loss, teacher=oracle(X, said))
    with pytest.raises(ValueError, match=message):
        reg.fit(X[::2], y[::2], X_unlabeled=X[1::2])


def test_a_regressor_predicts_for_a_regressor(iris):
    X, _ = iris
    y, X = X[:, 0], X[:, 1:]
    reg = network(GreedyPretrainedMLPRegressor, teacher=LinearRegression())
    reg.fit(X[::2], y[::2], X_unlabeled=X[1::2])
    expected = LinearRegression().fit(X[::2], y[::2]).coef_
    assert_array_equal(reg.teacher_.coef_, expected)
