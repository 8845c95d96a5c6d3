"""Epochs as tasks of scikit-learn's callbacks."""

from collections.abc import Callable
from contextlib import contextmanager, nullcontext


@contextmanager
def task_of(
    root, name: str, n_epochs: int, estimator, *, inner=None, attributes=None, **data
):
    """A part of a fit, as the context of its task.

    inner : estimator whose fit is that part, or None; attributes : as of `EpochTasks`,
    at the end of it; data : what callbacks are given.
    """
    context = root.subcontext(task_name=name, max_subtasks=n_epochs)
    # Callbacks that are handed down hear of this task from the inner estimator.
    down = nullcontext() if inner is None else context.propagate_callback_context(inner)
    with down:
        context.call_on_fit_task_begin(estimator=estimator, **data)
        yield context
        context.call_on_fit_task_end(
            estimator=estimator, reconstruction_attributes=attributes, **data
        )


class EpochTasks:
    """The epochs of a layer or of a network, each a task of a callback context.

    context : of the layer; estimator, X, y, metadata : what callbacks are given, the
    last two also as functions that are called when one asks; attributes : function of
    the fitted attributes at the present parameters, or None where nothing can predict.
    """

    def __init__(
        self,
        context,
        estimator,
        X,
        y=None,
        *,
        metadata=None,
        attributes: Callable[[], dict] | None = None,
    ):
        self._context, self._estimator = context, estimator
        self._data = {"X": X, "y": y, "metadata": metadata}
        self._attributes = attributes

    @classmethod
    def of(cls, context, estimator, X, y=None, **options) -> "EpochTasks | NoTasks":
        """Tasks where the estimator has callbacks, else such as do nothing: an epoch of
        few rows takes no longer than a hundred calls.
        """
        if not getattr(estimator, "_skl_callbacks", None):
            return NO_TASKS
        return cls(context, estimator, X, y, **options)

    def begin(self) -> None:
        """An epoch begins."""
        self._epoch = self._context.subcontext(task_name="epoch")
        self._epoch.call_on_fit_task_begin(estimator=self._estimator, **self._data)

    def end(self) -> bool:
        """An epoch has ended; whether a callback asks to stop."""
        return self._epoch.call_on_fit_task_end(
            estimator=self._estimator,
            reconstruction_attributes=self._attributes,
            **self._data,
        )


class NoTasks:
    """In place of `EpochTasks` where no callback listens."""

    def begin(self) -> None:
        """An epoch begins."""

    def end(self) -> bool:
        """Nobody asks to stop."""
        return False


NO_TASKS = NoTasks()
