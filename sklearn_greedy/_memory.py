"""Trained layers kept from fit to fit: a cache under all that a layer depends on."""

import hashlib
import pickle
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import joblib
import numpy as np
from scipy import sparse
from sklearn.utils.validation import check_memory

from sklearn_greedy._compat import warn_user
from sklearn_greedy._units import row_blocks
from sklearn_greedy._version import VERSION

# Parameters of a stack that cannot matter to a layer, or that its key has in another
# form: widths layer by layer, the seed as drawn, columns by number.
_ELSEWHERE = {
    "hidden_layer_sizes",
    "memory",
    "random_state",
    "unrolled_max_iter",
    "verbose",
    "visible",
    "warm_start",
}


def warn_of_no_seed(memory) -> None:
    """Warn that nothing is kept, since no later fit would find it."""
    warn_user(
        f"memory={memory!r} is not used: without a seed each fit trains other layers. "
        "Set random_state."
    )


def data_digest(X) -> str:
    """Digest of the shape, dtype and values of a dense or CSR matrix."""
    digest = hashlib.sha256(repr((X.shape, X.dtype.str)).encode())
    if sparse.issparse(X):
        for part in (X.indptr, X.indices, X.data):
            digest.update(np.ascontiguousarray(part).data)
        return digest.hexdigest()
    # A few MB at a time: the rows need not lie in one piece.
    for rows in row_blocks(X.shape, X.shape[0]):
        digest.update(np.ascontiguousarray(X[rows]).data)
    return digest.hexdigest()


class LayerCache:
    """Layers of a stack in a `joblib.Memory`.

    The key of a layer is made of that of the layer below, its own width and its own
    parameters; that of the lowest begins with the data, the parameters of the whole
    stack, the seed and the package's version. Stacks that share layers from below
    therefore share their training.
    """

    def __init__(self, stack, X, seed, visible, weights, supervision):
        params = stack.get_params(deep=False)
        own = _ELSEWHERE | set(stack._per_layer)
        common = {name: params[name] for name in params if name not in own}
        cls = type(stack)
        # numpy reads no pickles of a later major version.
        versions = VERSION, np.__version__.partition(".")[0]
        digest = data_digest(X)
        stem = cls.__module__, cls.__qualname__, versions, stack._n_below, digest
        self._key = joblib.hash((stem, common, seed, visible, weights, supervision))
        self._load = check_memory(stack.memory).cache(_trained, ignore=["train"])

    def layer(self, part: int | str, settings, train: Callable[[], Any]):
        """The next layer up, or what is trained after all of them: from the cache, or
        trained now and put there unless a callback ended the training, of which the
        key does not tell. part : width of a layer, or a name.
        """
        self._key = joblib.hash((self._key, part, vars(settings)))
        try:
            return self._kept(train)
        except _Stopped as stopped:
            # Nor may layers on top of it be found by a stack that was not stopped.
            self._key = joblib.hash((self._key, "stopped", stopped.layer.fitted))
            return stopped.layer

    def _kept(self, train: Callable[[], Any]):
        """What is under the present key, put there now if need be; trained again where
        the entry is not what was once written.
        """
        kept = _read(self._load(self._key, train))
        if kept is not None:
            return kept
        warn_user("A layer kept in memory is damaged and is trained again.")
        layer = train()
        # Where nothing can be removed, the next fit warns and trains again.
        if hasattr(self._load, "call_and_shelve"):
            self._load.call_and_shelve(self._key, lambda: layer).clear()
            self._load(self._key, lambda: layer)
        return layer


class NoCache:
    """In place of a `LayerCache` where nothing is kept."""

    def layer(self, part: int | str, settings, train: Callable[[], Any]):
        """What is trained now."""
        return train()


class _Stopped(Exception):
    """Carries a layer past the cache, which keeps what is returned."""

    def __init__(self, layer):
        super().__init__("a callback ended the training")
        self.layer = layer


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _read(entry):
    """The layer of an entry, or None where it is damaged."""
    with suppress(Exception):  # whatever an entry of another form or library raises
        digest, content = entry
        if _digest(content) == digest:
            return pickle.loads(content)
    return None


def _trained(key: str, train: Callable[[], Any]) -> tuple[bytes, bytes]:
    """What the cache wraps; it looks at the key alone. A digest and what it is of."""
    layer = train()
    if layer.history.stopped:
        raise _Stopped(layer)
    content = pickle.dumps(layer, pickle.HIGHEST_PROTOCOL)
    return _digest(content), content
