"""scikit-learn's callbacks: what they are told, when they stop a fit, what they see."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tools import SCIKIT_LEARN

from sklearn_greedy import (
    GreedyPretrainedMLPClassifier,
    GreedyPretrainedMLPRegressor,
    StackedAutoencoderTransformer,
    StackedRBMClassifier,
    StackedRBMTransformer,
)

if SCIKIT_LEARN < (1, 9):
    # What is there instead has tests in test_compat.py.
    pytest.skip("callbacks are new in scikit-learn 1.9", allow_module_level=True)

from sklearn.callback import ScoringMonitor

STACKS = {
    "rbm": StackedRBMTransformer((4, 3), max_iter=[2, 3], random_state=0),
    "autoencoder": StackedAutoencoderTransformer(
        (4, 3), max_iter=[2, 3], random_state=0
    ),
    "unrolled": StackedAutoencoderTransformer(
        (4, 3), max_iter=[2, 3], unrolled_max_iter=4, random_state=0
    ),
    "together": StackedRBMTransformer(
        (4, 3), max_iter=3, schedule="simultaneous", random_state=0
    ),
}
TASKS = {
    "rbm": {"layer 1": 2, "layer 2": 3},
    "autoencoder": {"layer 1": 2, "layer 2": 3},
    "unrolled": {"layer 1": 2, "layer 2": 3, "unrolled": 4},
    "together": {"layers": 3},
}


class Recorder:
    """Epochs by path of tasks; asks to stop after some of them; looks at estimators."""

    def __init__(self, stop_at=None, look=None, fail_at=None):
        self.stop_at, self.look, self.fail_at = stop_at, look, fail_at
        self.epochs, self.seen, self.began, self.over = {}, [], [], 0

    def setup(self, estimator, context):
        self.over = 0

    def on_fit_task_begin(self, estimator, context):
        self.began.append(context.task_name)

    def on_fit_task_end(self, estimator, context, *, X, y, fitted_estimator=None):
        if context.task_name != "epoch":
            return False
        name = context.parent.task_name
        self.epochs[name] = number = self.epochs.get(name, 0) + 1
        if self.look is not None:
            self.seen.append(self.look(fitted_estimator, X, y))
        if number == self.fail_at:
            raise RuntimeError("asked for")
        return number == self.stop_at

    def teardown(self, estimator, context):
        self.over += 1


class Propagated(Recorder):
    """The same for a pretrainer inside."""

    max_propagation_depth = None


# --- stacks ---------------------------------------------------------------------


@pytest.mark.parametrize("name", STACKS)
def test_epochs_of_each_layer_are_told(name, iris):
    recorder = Recorder()
    stack = clone(STACKS[name]).set_callbacks(recorder).fit(iris[0])
    assert recorder.epochs == TASKS[name]
    assert recorder.over == 1
    plain = clone(STACKS[name]).fit(iris[0])
    for ours, theirs in zip(stack.coefs_, plain.coefs_, strict=True):
        assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", STACKS)
def test_stack_is_fitted_after_every_epoch(name, iris):
    """After the last one it is the stack that ``fit`` gives."""
    X = iris[0]
    look = Recorder(look=lambda fitted, X, y: fitted.transform(X))
    stack = clone(STACKS[name]).set_callbacks(look).fit(X)
    widths = [H.shape[1] for H in look.seen]
    assert widths == {"together": [3] * 3}.get(name, [4] * 2 + [3] * (len(widths) - 2))
    assert_allclose(look.seen[-1], stack.transform(X), rtol=1e-6)
    assert all(np.isfinite(H).all() for H in look.seen)


@pytest.mark.parametrize("name", STACKS)
def test_stop_ends_the_layer_and_not_the_fit(name, iris):
    recorder = Recorder(stop_at=1)
    stack = clone(STACKS[name]).set_callbacks(recorder).fit(iris[0])
    assert recorder.epochs == dict.fromkeys(TASKS[name], 1)
    assert [len(curve) for curve in stack.loss_curves_] == [1, 1]
    assert stack.transform(iris[0]).shape == (150, 3)


@pytest.mark.parametrize("name", STACKS)
def test_callbacks_are_told_of_the_end_of_a_failed_fit(name, iris):
    recorder = Recorder(fail_at=2)
    stack = clone(STACKS[name]).set_callbacks(recorder)
    with pytest.raises(RuntimeError, match="asked for"):
        stack.fit(iris[0])
    assert recorder.over == 1
    assert set(vars(stack)) == {*stack.get_params(), "_skl_callbacks"}


def test_cached_layers_have_no_epochs(iris, tmp_path):
    stack = clone(STACKS["rbm"]).set_params(memory=str(tmp_path))
    stack.fit(iris[0])
    recorder = Recorder()
    stack.set_callbacks(recorder).fit(iris[0])
    assert recorder.epochs == {}
    assert recorder.began == ["fit", "layer 1", "layer 2"]


def test_cached_unrolled_network_is_shown_as_it_is(iris, tmp_path):
    """Callbacks were once shown what it would start from."""
    seen = []

    class AtTheEnd(Recorder):
        def on_fit_task_end(self, estimator, context, *, X, y, fitted_estimator=None):
            if context.task_name == "unrolled":
                seen.append(fitted_estimator.coefs_[0])
            return False

    stack = StackedAutoencoderTransformer(
        (4,), max_iter=1, unrolled_max_iter=2, memory=str(tmp_path), random_state=0
    )
    for _ in range(2):
        stack.set_callbacks(AtTheEnd()).fit(iris[0])
        assert_array_equal(seen[-1], stack.coefs_[0])


def test_layers_that_a_callback_stopped_are_not_kept(iris, tmp_path):
    """Nor those on top of them; what was not stopped is found with callbacks too."""
    memory = {"memory": str(tmp_path)}
    stopped = clone(STACKS["rbm"]).set_params(**memory)
    stopped.set_callbacks(Recorder(stop_at=1)).fit(iris[0])
    plain = clone(STACKS["rbm"]).fit(iris[0])
    recorder = Recorder()
    after = clone(STACKS["rbm"]).set_params(**memory).set_callbacks(recorder)
    after.fit(iris[0])
    assert recorder.epochs == TASKS["rbm"]
    for ours, theirs in zip(after.coefs_, plain.coefs_, strict=True):
        assert_array_equal(ours, theirs)
    assert after.loss_curves_ == plain.loss_curves_


def test_layers_above_a_stopped_one_are_not_found_by_others(iris, tmp_path):
    """They learned from what it gave when it was stopped."""

    class FirstLayer(Recorder):
        def on_fit_task_end(self, estimator, context, *, X, y, fitted_estimator=None):
            stop = super().on_fit_task_end(estimator, context, X=X, y=y)
            return stop and context.parent.task_name == "layer 1"

    stack = clone(STACKS["rbm"]).set_params(memory=str(tmp_path))
    clone(stack).set_callbacks(FirstLayer(stop_at=1)).fit(iris[0])
    plain = clone(STACKS["rbm"]).fit(iris[0])
    for ours, theirs in zip(stack.fit(iris[0]).coefs_, plain.coefs_, strict=True):
        assert_array_equal(ours, theirs)


# --- networks --------------------------------------------------------------------


def network(kind=GreedyPretrainedMLPClassifier, **params):
    stack = StackedAutoencoderTransformer((4,), max_iter=2)
    return kind(**{"pretrainer": stack, "max_iter": 3, "random_state": 0, **params})


def test_pretrainer_tells_of_its_layers_inside_the_network(iris):
    recorder = Propagated()
    network(head_max_iter=2).set_callbacks(recorder).fit(*iris)
    assert recorder.epochs == {"layer 1": 2, "head": 2, "fine-tuning": 3}
    assert recorder.over == 1


def test_supervised_layers_are_tasks(iris):
    recorder = Recorder()
    clf = network(pretrainer="supervised", hidden_layer_sizes=(4, 3))
    clf.set_callbacks(recorder).fit(*iris)
    assert recorder.epochs == {"layer 1": 3, "layer 2": 3, "fine-tuning": 3}


@pytest.mark.parametrize("name", [*STACKS, "supervised", None])
def test_tasks_end_in_the_order_in_which_they_began(name, iris):
    """That of a pre-training once began twice and never ended."""

    class Balance(Propagated):
        def on_fit_task_begin(self, estimator, context):
            self.began.append((type(estimator), context.task_name))

        def on_fit_task_end(self, estimator, context):
            assert self.began.pop() == (type(estimator), context.task_name)

    balance = Balance()
    clf = network(pretrainer=STACKS.get(name, name), head_max_iter=1)
    clf.set_callbacks(balance).fit(*iris)
    assert balance.began == []


def test_the_end_of_a_fit_shows_its_own_curves(iris):
    """They were once those of the fit before, or missing."""

    class AtTheEnd(Recorder):
        def on_fit_task_end(self, estimator, context, *, fitted_estimator):
            if context.task_name == "fit":
                self.seen.append(len(fitted_estimator.loss_curve_))

    end = AtTheEnd()
    clf = network().set_callbacks(end).fit(*iris)
    clf.set_params(max_iter=5).fit(*iris)
    assert end.seen == [3, 5]


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("stop_at", [None, 2])
def test_network_predicts_after_every_epoch(solver, stop_at, iris):
    X, y = iris
    look = Recorder(stop_at=stop_at, look=lambda fitted, X, y: fitted.predict_proba(X))
    clf = network(solver=solver).set_callbacks(look).fit(X, y)
    assert clf.n_iter_ == len(look.seen) == (stop_at or 3)
    assert_allclose(look.seen[-1], clf.predict_proba(X), rtol=1e-6)


def test_a_fit_that_is_done_at_once_can_be_stopped(iris):
    """L-BFGS without a step told of its one loss, and StopIteration left the fit."""
    clf = network(solver="lbfgs", tol=1e6)
    assert clf.set_callbacks(Recorder(stop_at=1)).fit(*iris).n_iter_ == 1


@pytest.mark.parametrize(
    "kind", [GreedyPretrainedMLPClassifier, GreedyPretrainedMLPRegressor]
)
def test_scoring_monitor_sees_scores_of_the_users_own_targets(kind, iris):
    X, y = iris[0], iris[1] if kind is GreedyPretrainedMLPRegressor else None
    y = np.array(["a", "b", "c"])[iris[1]] if y is None else y
    scoring = "r2" if kind is GreedyPretrainedMLPRegressor else "accuracy"
    monitor = ScoringMonitor(scoring=scoring)
    mlp = network(kind, max_iter=5).set_callbacks(monitor).fit(X, y)
    log = monitor.get_logs()
    rows = (log[-1] if isinstance(log, list) else log).data
    scores = [row[scoring] for row in rows if row["task_name"] == "epoch"]
    assert len(scores) == 5
    assert scores[-1] == pytest.approx(mlp.score(X, y))


def test_callbacks_are_given_the_users_weights(iris):
    class Weights(Recorder):
        def on_fit_task_end(self, estimator, context, *, metadata):
            self.seen.append(metadata)

    weight = np.linspace(0.5, 1.5, 150)
    recorder = Weights()
    clf = network(class_weight={0: 3.0}).set_callbacks(recorder)
    clf.fit(*iris, sample_weight=weight)
    assert_array_equal(recorder.seen[-1]["sample_weight"], weight)
    recorder.seen.clear()
    clf.fit(*iris)
    assert recorder.seen[-1] is None


@pytest.mark.parametrize("sizes", [(4,), (5, 4, 3)])
def test_a_classifier_of_label_units_tells_of_its_stacks(sizes, iris):
    """It took no callbacks: a progress bar around it showed nothing."""
    model = StackedRBMClassifier(
        StackedRBMTransformer(sizes, max_iter=2), random_state=0
    )
    own, all_of_them = Recorder(), Propagated()
    plain = clone(model).fit(*iris).predict_proba(iris[0])
    told = clone(model).set_callbacks(own, all_of_them).fit(*iris)
    parts = ["top RBM"] if len(sizes) == 1 else ["layers below", "top RBM"]
    assert own.began == ["fit", *parts]
    assert own.epochs == {}
    assert sum(all_of_them.epochs.values()) == 2 * len(sizes)
    assert own.over == all_of_them.over == 1
    assert_array_equal(told.predict_proba(iris[0]), plain)
    assert "_skl_callbacks" not in vars(told.top_)
    model.set_callbacks(Recorder(), Propagated(fail_at=1))
    with pytest.raises(RuntimeError, match="asked for"):
        model.fit(*iris)
    assert not hasattr(model, "classes_")


def test_frozen_pretrainers_get_no_callbacks(iris):
    stack = StackedAutoencoderTransformer((4,), max_iter=1).fit(iris[0])
    recorder = Propagated()
    clf = network(pretrainer=FrozenEstimator(stack)).set_callbacks(recorder)
    clf.fit(*iris)
    assert recorder.epochs == {"fine-tuning": 3}
    assert "_skl_callbacks" not in vars(stack)


def test_partial_fit_of_a_network_leaves_nothing_behind(iris):
    clf = network().partial_fit(*iris, classes=[0, 1, 2])
    clf.partial_fit(*iris)
    assert not [name for name in vars(clf) if "callback" in name]


def test_in_a_pipeline_and_a_search(iris):
    recorder = Propagated()
    pipeline = make_pipeline(StandardScaler(), network()).set_callbacks(recorder)
    pipeline.fit(*iris)
    assert recorder.epochs == {"layer 1": 2, "fine-tuning": 3}
    recorder = Propagated()
    search = GridSearchCV(network(), {"alpha": [0.1, 1.0]}, cv=2, refit=False)
    search.set_callbacks(recorder).fit(*iris)
    assert recorder.epochs == {"layer 1": 2 * 4, "fine-tuning": 3 * 4}


def test_looking_at_learned_scales_does_not_change_them(rng):
    """The score went by the scale at the last look: early stopping took the worst."""
    X = rng.integers(0, 2, (300, 2)) @ np.array([[3.0, -2, 1], [1, 2, -3]])
    X += 0.3 * rng.normal(size=X.shape)
    params = {"learn_scale": True, "early_stopping": True, "max_iter": 8}
    stack = StackedRBMTransformer((4,), random_state=0, **params)
    plain = clone(stack).fit(X)
    seen = clone(stack).set_callbacks(Recorder(look=lambda *_: None)).fit(X)
    assert seen.validation_scores_ == plain.validation_scores_
    assert_array_equal(seen.visible_scale_, plain.visible_scale_)
