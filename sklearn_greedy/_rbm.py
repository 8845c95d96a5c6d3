"""StackedRBMTransformer: a stack of restricted Boltzmann machines."""

from numbers import Integral, Real

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.special import expit, logit
from sklearn.utils import gen_batches
from sklearn.utils.validation import check_is_fitted

from sklearn_greedy._compat import Interval, StrOptions
from sklearn_greedy._likelihood import free_energy, pseudo_log_likelihood
from sklearn_greedy._network import (
    fold_input,
    unfold_input,
    unit_means,
)
from sklearn_greedy._stack import GreedyStack, LayerTask
from sklearn_greedy._training import Rows, kernels
from sklearn_greedy._units import (
    BERNOULLI,
    GREY_LIMIT,
    KINDS,
    Units,
    greyness,
    row_block,
)

Array = npt.NDArray

# Rate at which the offsets of a centered RBM follow the batch means.
_SLIDING = 0.01
# Rows and columns at which early stopping takes the pseudo-log-likelihood.
_MONITOR_ROWS = 500
_MONITOR_COLUMNS = 50
# Rows that give the mean activation of an RBM that is trained further.
_OFFSET_ROWS = 1000
_SCORE_ROWS = 1024


class ContrastiveDivergence:
    """An RBM in training: flat parameters (w, c, b), optimiser state, kernel call."""

    def __init__(self, task: LayerTask, centered: bool, sampled: list[int]):
        self.settings, self.seed = task.settings, task.seed
        self.rows = Rows(task.data, task.units)
        self.n_columns, self.width = self.rows.n_columns, task.width
        self.batch_size = task.settings.batch_size
        self.centered = centered
        size = self.n_columns * self.width
        self.products_per_row = size * (3 + 2 * self.settings.n_gibbs_steps)
        self.largest_product = 2 * size * self.batch_size
        self.calls_per_step = 3 + 2 * self.settings.n_gibbs_steps
        if task.theta is None:
            self.theta, offsets = self._initial_parameters(task)
        else:
            self.theta = task.theta
            offsets = None if task.state else self._present_offsets(task)
        state = task.state or {
            "velocity": np.zeros_like(self.theta),
            "offsets": offsets,
            "chain": self._initial_chain(task),
            "step": 0,
            "sampled": sampled,
        }
        self.velocity = np.array(state["velocity"])
        self.offsets = [np.array(offset) for offset in state["offsets"]]
        self.chain, self.step = np.array(state["chain"]), state["step"]
        if self.settings.persistent and len(self.chain) < self.batch_size:
            fresh = self._initial_chain(task)
            self.chain = np.concatenate([self.chain, fresh[len(self.chain) :]])
        self.sampled = state["sampled"]
        self._blocks = task.units.blocks(self.sampled)
        self._grad = np.empty_like(self.theta)
        n_rows = 2 * max(min(self.batch_size, len(self.rows)), len(self.chain))
        self._work = np.empty(
            2 * n_rows * (self.n_columns + self.width), dtype=np.float32
        )

    @property
    def samples_any(self) -> bool:
        """Whether any visible unit's reconstruction is drawn."""
        return bool(self._blocks[:, 3].any())

    def views(self) -> tuple[Array, Array, Array]:
        """Weights, hidden biases and visible biases, as views into theta."""
        size = self.n_columns * self.width
        w = self.theta[:size].reshape(self.n_columns, self.width)
        return w, self.theta[size : size + self.width], self.theta[size + self.width :]

    def _initial_parameters(self, task: LayerTask):
        """Weights N(0, 0.01), visible biases at the data's mean (its smoothed logit).

        The biases of a centered RBM belong to units minus their offsets; they are
        shifted here, so that theta always holds those of the plain RBM.
        """
        bernoulli = task.units.kinds == BERNOULLI
        n_rows = task.statistics.n_rows
        mean = np.where(bernoulli, task.statistics.mean, 0.0)
        smoothed = (np.clip(mean, 0, 1) * n_rows + 0.5) / (n_rows + 1)
        w = task.rng.normal(0.0, 0.01, (self.n_columns, self.width))
        b = np.where(bernoulli, logit(smoothed), 0.0)
        mu = mean if self.centered else np.zeros(self.n_columns)
        lam = np.full(self.width, 0.5 if self.centered else 0.0)
        theta = np.concatenate([w.ravel(), -(mu @ w), b - w @ lam])
        offsets = [mu.astype(np.float32), lam.astype(np.float32)]
        return theta.astype(np.float32), offsets

    def _hidden_means(self, index: Array) -> Array:
        rows = np.empty((len(index), self.n_columns), np.float32)
        self.rows.gather(index, rows)
        w, c, _ = self.views()
        return expit(rows @ w + c)

    def _present_offsets(self, task: LayerTask):
        """Offsets of an RBM that is trained further: the present mean activations."""
        if not self.centered:
            return [np.zeros(n, np.float32) for n in (self.n_columns, self.width)]
        mean = np.where(task.units.kinds == BERNOULLI, task.statistics.mean, 0.0)
        hidden = self._hidden_means(
            np.arange(min(len(self.rows), row_block(self.n_columns, _OFFSET_ROWS)))
        )
        return [mean.astype(np.float32), hidden.mean(axis=0)]

    def _initial_chain(self, task: LayerTask) -> Array:
        """Hidden states of the persistent chains, one per row of a mini-batch, drawn
        from the first rows of the data; empty without persistent chains.
        """
        if not self.settings.persistent:
            return np.empty((0, self.width), np.float32)
        means = self._hidden_means(np.arange(self.batch_size) % len(self.rows))
        draws = task.rng.random(means.shape, dtype=np.float32)
        return (draws < means).astype(np.float32)

    def state(self) -> dict:
        """Optimiser state as plain arrays, lists and numbers."""
        return {
            "velocity": self.velocity,
            "offsets": self.offsets,
            "chain": self.chain,
            "step": self.step,
            "sampled": self.sampled,
        }

    def train(self, index: Array) -> tuple[float, float]:
        """See ``Model.train``; the loss is the mean squared error per visible unit of
        the reconstruction after one Gibbs step.
        """
        rows = np.empty((len(index), self.n_columns), np.float32)
        self.rows.gather(index, rows)
        total, count = kernels().cd_slice(
            rows,
            self.batch_size,
            self.theta,
            self.velocity,
            *self.offsets,
            self.chain,
            self._blocks,
            self.settings.n_gibbs_steps,
            float(self.settings.learning_rate),
            float(self.settings.momentum),
            float(self.settings.alpha),
            _SLIDING if self.centered else 0.0,
            self.seed,
            self.step,
            self._grad,
            self._work,
        )
        self.step += -(-len(index) // self.batch_size)
        return total, float(count)

    def penalty(self) -> float:
        """The reported reconstruction error holds no penalty."""
        return 0.0


class StackedRBMTransformer(GreedyStack):
    """Stack of restricted Boltzmann machines, trained greedily layer by layer.

    Each layer is an RBM trained by contrastive divergence on the hidden probabilities
    of the layer below ([1]_, [2]_). Gaussian columns of the input are standardised
    inside and the scaling is folded into ``coefs_``, so that raw tables can be given.

    Parameters
    ----------
    hidden_layer_sizes : int or array-like of int, default=(256,)
        Number of hidden units of each layer.

    visible : {"auto", "bernoulli", "gaussian"}, default="auto"
        Kind of the visible units of the first layer. "auto" takes bernoulli units for
        columns with all values in [0, 1] and gaussian units for the others.

    learning_rate : float or array-like, default=0.1
        Step size of the updates, in (0, inf). Gaussian columns may need a smaller one.

    momentum : float or array-like, default=0.9
        Momentum of the updates, in [0, 1).

    alpha : float or array-like, default=1e-4
        Weight decay: ``alpha * w`` is subtracted from the gradient of the weights (not
        of the biases), whatever the batch size. In [0, inf).

    n_gibbs_steps : int or array-like, default=1
        Number of Gibbs steps k of CD-k, or per update of the persistent chains.

    persistent : bool or array-like, default=False
        Whether the negative phase comes from persistent chains (PCD, [3]_) instead of
        chains started at each mini-batch. There are ``batch_size`` chains; they start
        at the first rows of the data and are advanced before each update.

    visible_reconstruction : {"auto", "sample", "mean"} or array-like, default="auto"
        Whether reconstructed visible units are sampled or kept as means. "auto" takes
        means for gaussian units; bernoulli units are sampled when the data are nearly
        binary: when ``1 - sum var / sum mean (1 - mean)`` over the columns is below
        0.3.

    centered : bool, default=False
        Whether the gradient is taken with visible and hidden units relative to their
        means [4]_, which makes it independent of a flip of the data (without weight
        decay) and gives better densities. Without it the features are sparser, which
        suits linear models.

    batch_size : int or array-like, default=32
        Rows of a mini-batch.

    max_iter : int or array-like, default=20
        Epochs **per layer**.

    tol : float, default=None
        When the reconstruction error (with ``early_stopping``: the score) has not
        improved by ``tol`` for more than ``n_iter_no_change`` epochs, a layer is
        finished. None trains for ``max_iter`` epochs; with ``early_stopping`` it
        counts as 0.

    n_iter_no_change : int, default=10
        Epochs without improvement that end a layer.

    early_stopping : bool, default=False
        Whether to hold out rows, follow their pseudo-log-likelihood (on up to 500 rows
        and 50 columns) and keep the parameters of the best epoch of each layer.

    validation_fraction : float, default=0.1
        Share of the rows held out by ``early_stopping``, in (0, 1).

    shuffle : bool, default=True
        Whether to visit the rows in a new random order in every epoch.

    warm_start : bool, default=False
        Whether ``fit`` goes on from the present parameters.

    random_state : int, RandomState instance or None, default=None
        Seed of initialisation, shuffling and sampling. An int gives the same result
        in every call.

    verbose : bool or int, default=False
        Whether to print a line per epoch.

    Attributes
    ----------
    coefs_ : list of ndarray of shape (n_visible, n_hidden)
        Weights of each layer, for raw input.

    intercepts_ : list of ndarray of shape (n_hidden,)
        Hidden biases of each layer, for raw input.

    visible_intercepts_ : list of ndarray of shape (n_visible,)
        Visible biases of each layer; for gaussian columns the mean in their own units.

    activations_ : list of str
        Activation of each layer: "logistic".

    visible_kinds_ : ndarray of str, shape (n_features,)
        Kind of unit chosen for each column.

    visible_offset_, visible_scale_ : ndarray of shape (n_features,)
        Mean and standard deviation of the gaussian columns (0 and 1 elsewhere).

    visible_reconstructions_ : list of str
        What ``visible_reconstruction`` came to in each layer: "sample" where
        reconstructions of any unit are drawn, else "mean".

    loss_curves_ : list of list of float
        Mean squared reconstruction error per visible unit, per layer and epoch. With
        persistent chains it is taken on an eighth of each mini-batch.

    validation_scores_ : list of list of float or None
        With ``early_stopping``: score per layer and epoch.

    n_iter_ : int
        Epochs of all layers together.

    n_features_in_ : int
        Number of columns seen in ``fit``.

    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns, where they are all strings.

    See Also
    --------
    StackedAutoencoderTransformer : Greedy stack of (denoising) autoencoders.
    GreedyPretrainedMLPClassifier : Fine-tunes a pre-trained stack.
    sklearn.neural_network.BernoulliRBM : One bernoulli RBM.

    References
    ----------
    .. [1] G. Hinton, S. Osindero and Y.-W. Teh, "A fast learning algorithm for deep
       belief nets", Neural Computation 18, 2006.
    .. [2] G. Hinton, "A practical guide to training restricted Boltzmann machines",
       2010.
    .. [3] T. Tieleman, "Training restricted Boltzmann machines using approximations to
       the likelihood gradient", ICML 2008.
    .. [4] J. Melchior, A. Fischer and L. Wiskott, "How to center deep Boltzmann
       machines", JMLR 17, 2016.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_greedy import StackedRBMTransformer
    >>> X, _ = load_digits(return_X_y=True)
    >>> stack = StackedRBMTransformer((64, 32), max_iter=5, random_state=0)
    >>> stack.fit_transform(X / 16).shape
    (1797, 32)
    """

    _rate = "learning_rate"
    _per_layer = (
        "learning_rate",
        "momentum",
        "alpha",
        "n_gibbs_steps",
        "persistent",
        "visible_reconstruction",
        "batch_size",
        "max_iter",
    )
    _parameter_constraints: dict = {
        "hidden_layer_sizes": [
            "array-like",
            Interval(Integral, 1, None, closed="left"),
        ],
        "visible": [StrOptions({"auto", "bernoulli", "gaussian"})],
        "learning_rate": [Interval(Real, 0, None, closed="neither"), "array-like"],
        "momentum": [Interval(Real, 0, 1, closed="left"), "array-like"],
        "alpha": [Interval(Real, 0, None, closed="left"), "array-like"],
        "n_gibbs_steps": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "persistent": ["boolean", "array-like"],
        "visible_reconstruction": [
            StrOptions({"auto", "sample", "mean"}),
            "array-like",
        ],
        "centered": ["boolean"],
        "batch_size": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "max_iter": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "tol": [Interval(Real, 0, None, closed="left"), None],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "shuffle": ["boolean"],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        hidden_layer_sizes=(256,),
        *,
        visible="auto",
        learning_rate=0.1,
        momentum=0.9,
        alpha=1e-4,
        n_gibbs_steps=1,
        persistent=False,
        visible_reconstruction="auto",
        centered=False,
        batch_size=32,
        max_iter=20,
        tol=None,
        n_iter_no_change=10,
        early_stopping=False,
        validation_fraction=0.1,
        shuffle=True,
        warm_start=False,
        random_state=None,
        verbose=False,
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.visible = visible
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.alpha = alpha
        self.n_gibbs_steps = n_gibbs_steps
        self.persistent = persistent
        self.visible_reconstruction = visible_reconstruction
        self.centered = centered
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.shuffle = shuffle
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    def inverse_transform(self, X):
        """Mean-field pass down the stack: E[visible units | hidden means].

        Parameters
        ----------
        X : array-like of shape (n_samples, hidden_layer_sizes[-1])
            Probabilities (or states) of the top hidden units.

        Returns
        -------
        V : ndarray of shape (n_samples, n_features)
            Means of the visible units, in the units of the data.
        """
        H = self._validate_hidden(X)
        for layer in reversed(range(len(self.coefs_))):
            units = self._units[layer]
            scale = units["scale"].astype(H.dtype)
            z = H @ self.coefs_[layer].T * scale * scale
            z += self.visible_intercepts_[layer]
            H = unit_means(z, units["kinds"])
        return H

    def free_energy(self, X):
        """Free energy of each row under the first layer's RBM.

        Differences between rows are log-ratios of their densities; the level means
        nothing. Gaussian columns count in units of their standard deviation.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        energy : ndarray of shape (n_samples,)
            ``F(v)``, so that ``p(v)`` is proportional to ``exp(-F(v))``.
        """
        return self._by_rows(free_energy, X)

    def score_samples(self, X):
        """Pseudo-log-likelihood of each row under the first layer's RBM.

        ``sum_i log p(v_i | all other columns)`` over all columns, so that the same row
        always gets the same score. For gaussian columns it is a log-density in the
        units of the data.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        score : ndarray of shape (n_samples,)
            Pseudo-log-likelihood, higher is better.
        """
        score = self._by_rows(pseudo_log_likelihood, X)
        gaussian = self.visible_kinds_ == "gaussian"
        return score - np.log(self.visible_scale_[gaussian]).sum().astype(score.dtype)

    def _by_rows(self, measure, X) -> Array:
        """A measure of ``_likelihood`` on rows of the scaled data, in blocks."""
        check_is_fitted(self)
        X = self._validate(X, reset=False)
        units = Units(**self._units[0])
        w, c, b = self._scaled_parameters(0, units)
        out = np.empty(X.shape[0], dtype=X.dtype)
        for rows in gen_batches(X.shape[0], row_block(X.shape[1], _SCORE_ROWS)):
            part = X[rows]
            part = part.toarray() if sparse.issparse(part) else part
            v = (part - units.offset) / units.scale
            out[rows] = measure(v, w, c, b, units.kinds)
        return out

    def _units_above(self, layer: int) -> str:
        return "bernoulli"

    def _build(self, task: LayerTask) -> ContrastiveDivergence:
        return ContrastiveDivergence(task, self.centered, self._sampled_kinds(task))

    def _sampled_kinds(self, task: LayerTask) -> list[int]:
        """Kinds of units whose reconstructions are sampled."""
        rule = task.settings.visible_reconstruction
        if rule == "auto" and task.theta is not None:
            # Decided when training began; a small chunk would say nothing.
            sampled = self.visible_reconstructions_[task.layer] == "sample"
            return [BERNOULLI] if sampled else []
        if rule == "sample":
            return list(range(len(KINDS)))
        if rule == "mean" or greyness(task.statistics, task.units) >= GREY_LIMIT:
            return []
        return [BERNOULLI]

    def _monitor(self, task: LayerTask, model: ContrastiveDivergence, held: Array):
        rows = np.empty((min(len(held), _MONITOR_ROWS), model.n_columns), np.float32)
        model.rows.gather(held[: len(rows)], rows)
        columns = task.rng.permutation(model.n_columns)[:_MONITOR_COLUMNS]
        kinds = task.units.kinds

        def score() -> float:
            values = pseudo_log_likelihood(rows, *model.views(), kinds, columns)
            return float(np.mean(values))

        return score

    def _fold(self, task: LayerTask, model: ContrastiveDivergence) -> dict:
        w, c, b = (part.astype(np.float64) for part in model.views())
        units = task.units
        coef, intercept = fold_input(w, c, units.offset, units.scale)
        return {
            "coefs_": coef,
            "intercepts_": intercept,
            "visible_intercepts_": b * units.scale + units.offset,
            "activations_": "logistic",
            "visible_reconstructions_": "sample" if model.samples_any else "mean",
        }

    def _scaled_parameters(self, layer: int, units: Units):
        """(w, c, b) of a fitted layer in the scaled space."""
        w, c = unfold_input(
            self.coefs_[layer], self.intercepts_[layer], units.offset, units.scale
        )
        return w, c, (self.visible_intercepts_[layer] - units.offset) / units.scale

    def _recall(self, layer: int, units: Units) -> Array:
        parts = self._scaled_parameters(layer, units)
        return np.concatenate([part.ravel() for part in parts]).astype(np.float32)
