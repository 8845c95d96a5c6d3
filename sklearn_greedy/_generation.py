"""Drawing rows from RBMs and stacks of them (user guide, "Drawing samples").

Everything here works on copies with a generator of its own: training state and the
arrays given are never touched.
"""

import reprlib

import numpy as np
import numpy.typing as npt

from sklearn_greedy._energy import RBM
from sklearn_greedy._units import (
    KIND,
    ROUNDING,
    SOFTMAX,
    START,
    STOP,
    draw_from_biases,
)

Array = npt.NDArray


def initial_rows(rbms: list[RBM], n: int, rng) -> Array:
    """States of the first visible layer drawn from its biases alone, (n, n_visible)."""
    return draw_from_biases(rbms[0].b, rbms[0].blocks, n, rng)


def gibbs(rbm: RBM, v: Array, n_steps: int, rng, clamped: Array | None = None) -> Array:
    """V after full Gibbs steps, hidden units given visible ones and back.

    clamped : mask of columns that keep their values, or None. Then the chain tends to
    the exact conditional distribution of the other columns.
    """
    _check_groups(rbm, v, clamped)
    given = v
    for _ in range(n_steps):
        v = _put_back(rbm.draw_visible(rbm.draw_hidden(v, rng), rng), given, clamped)
    return np.array(v)


def sample_stack(
    rbms: list[RBM],
    v: Array,
    n_steps: int,
    rng,
    clamped: Array | None = None,
    *,
    scalings,
) -> Array:
    """Rows drawn from a stack: Gibbs sampling in the top RBM, then down by samples.

    v : rows from which the chains begin, in the scaled space of the first layer;
    scalings : offset and scale of each layer's input, of which the first is not used.
    With clamped columns each step goes up from them and down again.
    """
    if len(rbms) == 1:
        return gibbs(rbms[0], v, n_steps, rng, clamped)
    _check_groups(rbms[0], v, clamped)
    # Unclamped chains stay in the top RBM; clamped columns pull at every step.
    n_rounds, n_each = (1, n_steps) if clamped is None else (n_steps, 1)
    offset, scale = scalings[-1]
    given = v
    for _ in range(n_rounds):
        top = gibbs(rbms[-1], _up(rbms, v, scalings, rng), n_each, rng)
        below = draw_down(rbms[:-1], top * scale + offset, scalings[:-1], rng)
        v = _put_back(below, given, clamped)
    return np.array(v)


def _up(rbms: list[RBM], v: Array, scalings, rng) -> Array:
    """Visible units of the top RBM, by samples of the hidden layers below."""
    for rbm, (offset, scale) in zip(rbms[:-1], scalings[1:], strict=True):
        v = (rbm.draw_hidden(v, rng) - offset) / scale
    return v


def draw_down(rbms: list[RBM], h: Array, scalings, rng) -> Array:
    """First visible layer, in its scaled space, by samples down from states h of the
    hidden units of the last of these RBMs.
    """
    for rbm, (offset, scale) in zip(rbms[:0:-1], scalings[:0:-1], strict=True):
        h = rbm.draw_visible(h, rng) * scale + offset
    return rbms[0].draw_visible(h, rng)


def _put_back(v: Array, given: Array, clamped: Array | None) -> Array:
    return v if clamped is None else np.where(clamped, given, v)


def _check_groups(rbm: RBM, v: Array, clamped: Array | None) -> None:
    """Raise where only a part of a softmax group is clamped, or its values are no
    probabilities.
    """
    if clamped is None:
        return
    for block in rbm.blocks[rbm.blocks[:, KIND] == SOFTMAX]:
        group = slice(block[START], block[STOP])
        if not clamped[group].any():
            continue
        seen = f"The columns {block[START]} to {block[STOP] - 1} are one softmax group"
        if not clamped[group].all():
            raise ValueError(f"{seen}; clamp all of them or none.")
        off = np.abs(v[:, group].sum(axis=1) - 1) > ROUNDING
        wrong = off | (v[:, group].min(axis=1) < -ROUNDING)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ValueError(
                f"{seen}, but the values clamped in row {row} are "
                f"{reprlib.repr(v[row, group].tolist())}. Give values of at least 0 "
                "that sum to 1."
            )
