"""What stands in for newer parts of scikit-learn."""

import pytest

from sklearn_greedy._compat import NoCallbackSupport


def test_without_callbacks_in_scikit_learn():
    class Older(NoCallbackSupport):
        pass

    older = Older()
    assert older.set_callbacks() is older
    with pytest.raises(NotImplementedError, match=r"need scikit-learn 1\.9"):
        older.set_callbacks(object())
    context = older._init_callback_context(max_subtasks=3).subcontext(task_name="x")
    context.call_on_fit_task_begin(estimator=older)
    with context.propagate_callback_context(older):
        assert context.call_on_fit_task_end(estimator=older) is False
