"""StackedRBMClassifier: a stack of RBMs whose top RBM also sees the label."""

import reprlib
from numbers import Integral
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.special import log_softmax, logsumexp, softmax
from sklearn.base import ClassifierMixin, clone
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from sklearn_greedy._base import GreedyEstimator, ScoresLabelled
from sklearn_greedy._callbacks import task_of
from sklearn_greedy._compat import (
    CallbackSupport,
    Interval,
    fit_context,
    validate_params,
    warn_user,
)
from sklearn_greedy._fit_rows import FitRows, fit_rows, uneven
from sklearn_greedy._fitting import draw_seed, fitting
from sklearn_greedy._memory import warn_of_no_seed
from sklearn_greedy._parameters import (
    HoldsEstimator,
    checked_pairs,
    is_sequence,
    layer_sizes,
)
from sklearn_greedy._rbm import StackedRBMTransformer
from sklearn_greedy._units import row_blocks, spread_rows

Array = npt.NDArray

_BLOCK_ROWS = 4096
# Rows, in the shares of the classes, that the biases of the labels are set by, and the
# most rounds that it takes.
_BIAS_ROWS, _BIAS_ROUNDS = 10_000, 100


class StackedRBMClassifier(
    CallbackSupport, HoldsEstimator, ScoresLabelled, ClassifierMixin, GreedyEstimator
):
    """Stack of RBMs whose top RBM models its input and the label together.

    The layers below the top learn from X alone, and so from rows without a label too.
    The top RBM sees their features beside one softmax group of label units, and a row
    belongs to the class that gives it the least free energy ([1]_; with one layer the
    classification RBM of [2]_). Unlike a fine-tuned network it is trained as a density
    throughout, and can draw rows of a class.

    Parameters
    ----------
    stack : StackedRBMTransformer, default=None
        The RBMs; the last of its ``hidden_layer_sizes`` is the RBM with the label
        units. None stands for ``StackedRBMTransformer()``: one RBM with 256 hidden
        units on X and the label. ``warm_start`` plays no part, and with
        ``schedule="simultaneous"`` the top is trained after the layers below.

    unlabeled : scalar or None, default=None
        Value that marks rows of y without a label, such as -1, "" or NaN (which stands
        for every kind of missing value). The layers below the top learn from them too,
        the top RBM and ``score`` leave them out; with one RBM alone they play no part.
        (Scorers by name, such as ``scoring="accuracy"`` of a search, count them as
        errors, and scikit-learn's own folds refuse NaN: `LabeledSplit` is for both.)
        None: there are none.

    random_state : int, RandomState instance or None, default=None
        Seed of training, in place of that of ``stack`` unless None.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels.

    features_ : StackedRBMTransformer or None
        The fitted layers below the top.

    top_ : StackedRBMTransformer
        The fitted top RBM; its last ``n_classes`` columns are the label units.

    n_features_in_ : int
        Number of columns seen in ``fit``.

    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns, where they are all strings.

    See Also
    --------
    GreedyPretrainedMLPClassifier : Fine-tunes a stack by backpropagation, which gives
        better predictions where labels are not few.

    Notes
    -----
    The up-down algorithm of [1]_, which tunes the generative and the recognition
    weights of all layers apart, is not part of it.

    References
    ----------
    .. [1] G. Hinton, S. Osindero and Y.-W. Teh, "A fast learning algorithm for deep
       belief nets", Neural Computation 18, 2006.
    .. [2] H. Larochelle and Y. Bengio, "Classification using discriminative restricted
       Boltzmann machines", ICML 2008.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_greedy import StackedRBMClassifier, StackedRBMTransformer
    >>> X, y = load_digits(return_X_y=True)
    >>> stack = StackedRBMTransformer((64, 128), max_iter=10)
    >>> rbm = StackedRBMClassifier(stack, random_state=0).fit(X[:1500] / 16, y[:1500])
    >>> rbm.predict(X[1500:] / 16).shape
    (297,)
    """

    _inside = "stack"
    _parameter_constraints: dict = {
        "stack": [StackedRBMTransformer, None],
        "unlabeled": "no_validation",
        "random_state": ["random_state"],
    }

    def __init__(self, stack=None, *, unlabeled=None, random_state=None) -> None:
        self.stack = stack
        self.unlabeled = unlabeled
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, sample_weight=None, X_unlabeled=None) -> Self:
        """Train the layers one after the other, the last with the labels.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,)
            Labels; rows with the value ``unlabeled`` have none.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, not negative. Each RBM draws its rows in proportion to
            them, and classes have their shares of the weight as mean probabilities.
        X_unlabeled : {array-like, sparse matrix} of shape (n_unlabeled, n_features), \
                default=None
            More rows for the layers below the top, each of weight 1. It is metadata,
            as that of `GreedyPretrainedMLPClassifier.fit`.

        Returns
        -------
        self : object
            The fitted classifier.

        Raises
        ------
        ValueError
            If training diverges, or a parameter of ``stack`` does not fit the data; if
            a weight is negative or all rows with a label have weight 0.

        Warns
        -----
        UserWarning
            If there is no layer below the top that would learn from ``X_unlabeled``.
        """
        with fitting(self):
            return self._fit(X, y, sample_weight, X_unlabeled)

    def _fit(self, X, y, sample_weight, X_unlabeled):
        rows = fit_rows(self, X, y, sample_weight, more=X_unlabeled)
        X, y = rows.X, rows.y
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        self.features_, self.top_ = self._split_stack()
        n_parts = 1 if self.features_ is None else 2
        if n_parts == 1 and X_unlabeled is not None:
            warn_user(
                "X_unlabeled is not used: the one RBM of stack learns from rows and "
                "their labels together. Give the stack a layer below it, such as "
                "hidden_layer_sizes=(256, 256)."
            )
        H, pairs = X, self._visible_pairs(rows.given)
        root = self._init_callback_context(max_subtasks=n_parts)
        root.call_on_fit_task_begin(estimator=self, X=X, y=y)
        if self.features_ is not None:
            with task_of(root, "layers below", 0, self, inner=self.features_, X=X, y=y):
                H, pairs = self._fit_below(rows, pairs)
        labels = slice(H.shape[1], H.shape[1] + len(self.classes_))
        self.top_.set_params(visible=[*(pairs or []), ("softmax", labels)])
        beside = _beside(H, np.eye(len(self.classes_), dtype=X.dtype)[codes])
        with task_of(root, "top RBM", 0, self, inner=self.top_, X=X, y=y):
            self.top_._fit_within(beside, beside, uneven(rows.weights))
        self._set_label_biases(X, codes, rows.weights)
        root.call_on_fit_task_end(
            estimator=self, X=X, y=y, reconstruction_attributes={}
        )
        return self

    def _fit_below(self, rows: FitRows, pairs: list | None):
        """Train the layers below the top. Returns the features of the labelled rows,
        and their kind as pairs.
        """
        if pairs is not None:
            self.features_.set_params(visible=pairs)
        self.features_._fit_within(rows.all_X, rows.given, rows.uneven_weights)
        H = self.features_._encode(rows.X)
        kind = self.features_._kind_above(len(self.features_.coefs_))
        return H, [(kind, slice(0, H.shape[1]))]

    def _set_label_biases(self, X, codes: Array, weights: Array | None) -> None:
        """Give each class its share of the rows, or of their weight, as mean
        probability, at which the biases of the label units maximise the likelihood of
        the labels given the rows.

        The last mini-batch of the RBM leaves them anywhere about there. Each round adds
        the log of what a class lacks (iterative scaling, which has one limit).
        """
        weights = np.ones(len(codes)) if weights is None else weights
        by_class = np.argsort(codes, kind="stable")
        some = np.sort(spread_rows(by_class[weights[by_class] > 0], _BIAS_ROWS))
        X, codes, weights = X[some], codes[some], weights[some]
        wanted = np.bincount(codes, weights, minlength=len(self.classes_))
        present = wanted > 0  # a rare class may not be among some rows
        log_wanted = np.log(np.where(present, wanted, 1.0))
        log_joint = self._in_blocks(log_softmax, X).astype(np.float64)
        biases = np.zeros(len(self.classes_))
        for _ in range(_BIAS_ROUNDS):
            log_p = log_softmax(log_joint + biases, axis=1)
            log_mass = logsumexp(log_p, axis=0, b=weights[:, np.newaxis])
            missing = np.where(present, log_wanted - log_mass, 0.0)
            biases += missing
            if np.abs(missing).max() < 1e-6:
                break
        self.top_.visible_intercepts_[0][-len(biases) :] += biases.astype(X.dtype)

    def predict_proba(self, X) -> Array:
        """Probability of each class given the row, from free energies.

        Exact under the top RBM for the features of the layers below (user guide,
        eq. 22).

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        probability : ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        return self._by_rows(softmax, X)

    def _by_rows(self, normalise, X) -> Array:
        """Minus the free energies of the classes, normalised, in blocks of rows."""
        return self._in_blocks(normalise, self._validate_rows(X))

    def _in_blocks(self, normalise, X) -> Array:
        """The same of validated rows."""
        blocks = row_blocks(X.shape, _BLOCK_ROWS)
        parts = [normalise(self._minus_energies(X[rows]), axis=1) for rows in blocks]
        return np.concatenate(parts).astype(X.dtype)

    def _minus_energies(self, H) -> Array:
        """Minus the free energy of each class, but for a constant of the row, for a
        block of validated rows.
        """
        if self.features_ is not None:
            H = self.features_._encode(H)
        rows = _beside(H, np.zeros((H.shape[0], len(self.classes_)), H.dtype))
        rbm = self.top_._rbm(0)
        x = self.top_._scaled_rows(rows) @ rbm.w + rbm.c
        return rbm.group_scores(x, H.shape[1], rows.shape[1])

    def predict(self, X) -> Array:
        """Most probable class of each row.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Labels.
        """
        best = np.argmax(self.predict_proba(X), axis=1)
        return self.classes_[best]

    def predict_log_proba(self, X) -> Array:
        """Log of ``predict_proba``.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        log_probability : ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        return self._by_rows(log_softmax, X)

    @validate_params(
        {"n_gibbs_steps": [Interval(Integral, 0, None, closed="left")]},
        prefer_skip_nested_validation=True,
    )
    def sample(self, y, *, n_gibbs_steps=1000, random_state=None) -> Array:
        """Draw a row of each of the given classes.

        Gibbs sampling in the top RBM with the label units clamped, then down.

        Parameters
        ----------
        y : array-like of shape (n_samples,)
            Labels, each one of ``classes_``.

        n_gibbs_steps : int, default=1000
            Gibbs steps of each chain.

        random_state : int, RandomState instance or None, default=None
            Seed of the draws.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Sampled rows, in the units of the data.

        Raises
        ------
        ValueError
            If a label was not seen in ``fit``.
        """
        check_is_fitted(self)
        y = column_or_1d(np.atleast_1d(y))
        if not len(y):
            raise ValueError("y is empty: give the label of each row to draw.")
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(
                f"y holds {reprlib.repr(unknown.tolist())}, but fit saw "
                f"{reprlib.repr(self.classes_.tolist())}."
            )
        n_inputs = self.top_.n_features_in_ - len(self.classes_)
        labels = np.eye(len(self.classes_))[np.searchsorted(self.classes_, y)]
        seed = draw_seed(random_state)
        drawn = self.top_.sample(
            n_gibbs_steps=n_gibbs_steps,
            init=_beside(np.full((len(y), n_inputs), np.nan), labels),
            clamp=slice(n_inputs, None),
            random_state=int(seed[0]),
        )[:, :n_inputs]
        if self.features_ is None:
            return drawn
        return self.features_._draw_down(drawn, np.random.default_rng(seed))

    def _split_stack(self):
        """Unfitted copies of the layers below the top (or None) and of the top."""
        stack = StackedRBMTransformer() if self.stack is None else clone(self.stack)
        stack._validate_params()
        sizes = layer_sizes(stack.hidden_layer_sizes)
        stack._check_lengths(len(sizes))
        if self.random_state is not None or stack.random_state is None:
            stack.random_state = self.random_state
        if stack.random_state is None and stack.memory is not None:
            warn_of_no_seed(stack.memory)
            stack.memory = None
        seed = draw_seed(stack.random_state)
        below, top = clone(stack), clone(stack)
        below.hidden_layer_sizes, top.hidden_layer_sizes = sizes[:-1], sizes[-1:]
        for name in stack._per_layer:
            value = getattr(stack, name)
            if is_sequence(value):
                below.set_params(**{name: list(value)[:-1]})
                top.set_params(**{name: list(value)[-1:]})
        below.set_params(random_state=int(seed[0]), warm_start=False)
        top.set_params(random_state=int(seed[1]), warm_start=False)
        top._n_below = len(sizes) - 1
        return (below if len(sizes) > 1 else None), top

    def _visible_pairs(self, X) -> list | None:
        """Pairs (kind, column numbers) for the columns of X, as ``stack`` says; None
        where the data decide.
        """
        visible, n_columns = self.top_.visible, self.n_features_in_
        if visible == "auto":
            return None
        if isinstance(visible, str):
            return [(visible, slice(0, n_columns))]
        names = getattr(self, "feature_names_in_", None)
        return checked_pairs(visible, self.top_._kinds, X, names, n_columns)


def _beside(H, labels: Array):
    """Features and label units as the columns of one matrix."""
    if sparse.issparse(H):
        return sparse.hstack([H, labels], format="csr")
    return np.hstack([H, labels])
