"""Around every fit: its seeds, its threads, and what is left where it fails."""

from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
from sklearn.utils import check_random_state

from sklearn_greedy._threads import one_blas_thread

Array = npt.NDArray

# Attributes that scikit-learn takes away when callbacks were told of the end of a fit.
_OF_CALLBACKS = {"_callback_fit_ctx", "_skl_callbacks_to_teardown"}


def draw_seed(random_state) -> Array:
    """Two 32-bit words for the counter-based generators."""
    rng = check_random_state(random_state)
    return rng.randint(0, 2**32, size=2, dtype=np.uint32)


def layer_streams(seed: Array, *place: int):
    """A NumPy generator and a kernel seed that depend on these numbers alone; place :
    that of a layer and, at a warm start, the number of epochs before.
    """
    words = np.random.SeedSequence([*(int(word) for word in seed), *place])
    for_python, for_kernels = words.spawn(2)
    return np.random.default_rng(for_python), for_kernels.generate_state(2, np.uint32)


def training_streams(seed: Array, layer: int, n_before: int):
    """The generator of initial parameters and held-out rows, that of the order of the
    rows, and a kernel seed. After earlier epochs the last two are others: a layer that
    met the same noise in every fit would learn it by heart.
    """
    rng, kernel_seed = layer_streams(seed, layer)
    if not n_before:
        return rng, rng, kernel_seed
    return rng, *layer_streams(seed, layer, n_before)


def stream_seed(random_state, n_before: int) -> Array:
    """Seed of a stream that goes on from a fit of so many epochs (0: from nothing),
    whose noise it is not to meet again.
    """
    seed = draw_seed(random_state)
    return layer_streams(seed, n_before)[1] if n_before else seed


@contextmanager
def fitting(estimator):
    """Around every fit: BLAS has one thread, and the attributes are put back where
    fitting fails or is interrupted.
    """
    before, depth = dict(vars(estimator)), one_blas_thread.depth()
    try:
        with one_blas_thread:
            yield
    except BaseException:
        present = vars(estimator)
        # Callbacks are still to be told that it is over.
        before |= {name: present[name] for name in _OF_CALLBACKS & present.keys()}
        try:
            one_blas_thread.return_to(depth)  # where Ctrl-C came in its own steps
        finally:  # where it came again
            present.update(before)
            for name in present.keys() - before.keys():
                del present[name]
        raise
