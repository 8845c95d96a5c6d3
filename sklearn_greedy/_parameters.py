"""Reading parameters that are no plain numbers: widths, selections, what is inside."""

from numbers import Integral
from typing import Self

import numpy as np
import numpy.typing as npt

from sklearn_greedy._compat import column_numbers, told_of

Array = npt.NDArray


def layer_sizes(hidden_layer_sizes) -> tuple[int, ...]:
    """Widths as a tuple of ints; raises ValueError unless all are positive."""
    sizes = np.atleast_1d(np.asarray(hidden_layer_sizes, dtype=object)).tolist()
    for size in sizes:
        if not isinstance(size, Integral) or isinstance(size, bool) or size <= 0:
            raise ValueError(
                "hidden_layer_sizes must be an integer or a sequence of integers "
                f"> 0. Got {hidden_layer_sizes!r} instead."
            )
    return tuple(int(size) for size in sizes)


def check_same_sizes(sizes: tuple[int, ...], fitted: tuple[int, ...]) -> None:
    """Raise where hidden layers that go on would have other widths."""
    if sizes != fitted:
        raise ValueError(
            f"hidden_layer_sizes={sizes} differs from the fitted layers {fitted}. Set "
            "it back, or call fit on a clone to start anew."
        )


def is_sequence(value) -> bool:
    """Whether a parameter has values by position: a list, an array, a range, a Series,
    but no name, dict or array without dimensions.
    """
    return np.asarray(value, dtype=object).ndim > 0


def checked_pairs(visible, kinds, X, names, n_columns: int) -> list[tuple[str, Array]]:
    """Pairs (kind, column numbers) of ``visible``, or ValueError; names : those of the
    columns of X, or None.
    """
    pairs: list[tuple[str, Array]] = []
    seen = np.zeros(n_columns, dtype=bool)
    for pair in visible:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise ValueError(
                "visible must be a kind or a list of pairs (kind, columns). Got "
                f"{pair!r} in the list."
            )
        kind, columns = pair
        if kind not in kinds:
            raise ValueError(
                f"visible names the kind {kind!r}; the kinds are {list(kinds)}."
            )
        with told_of("visible"):
            numbers = column_numbers(X, columns, names, n_columns)
        again = np.bincount(numbers, minlength=n_columns) + seen > 1
        if again.any():
            twice = np.flatnonzero(again).tolist()
            raise ValueError(f"visible names the columns {twice} more than once.")
        if kind == "softmax" and np.any(np.diff(numbers) != 1):
            raise ValueError(
                f"The columns {numbers.tolist()} of a softmax group must follow each "
                "other in X, as OneHotEncoder puts them."
            )
        seen[numbers] = True
        pairs.append((kind, numbers))
    return pairs


def selects_rows(columns) -> bool:
    """Whether a selection needs the rows of the user, or their frame."""
    return callable(columns) or isinstance(columns, slice)


class HoldsEstimator:
    """Mixin of estimators whose parameter ``_inside`` is another estimator, or a name
    or nothing; to stand before BaseEstimator.
    """

    _inside: str

    def set_params(self, **params) -> Self:
        """Set parameters, also those of the estimator inside.

        Parameters
        ----------
        **params : dict
            Names and values; ``<parameter>__<name>`` stands for a parameter of the
            estimator that a parameter holds.

        Returns
        -------
        self : object
            The estimator.

        Raises
        ------
        ValueError
            If there is no estimator inside, or a name is unknown.
        """
        inside = params.get(self._inside, getattr(self, self._inside))
        nested = [key for key in params if key.startswith(f"{self._inside}__")]
        if nested and not hasattr(inside, "set_params"):
            raise ValueError(
                f"{nested[0]} cannot be set: {self._inside}={inside!r} has no "
                f"parameters of its own. Give an instance as {self._inside}, such as "
                "StackedRBMTransformer()."
            )
        return super().set_params(**params)  # type: ignore[misc]
