"""StackedAutoencoderTransformer: a stack of (denoising) autoencoders."""

from numbers import Integral, Real

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.utils import gen_batches
from sklearn.utils.validation import check_is_fitted

from sklearn_greedy._compat import Interval, StrOptions
from sklearn_greedy._network import (
    ACTIVATIONS,
    Network,
    dense_layer,
    fold_input,
    fold_output,
    forward,
    glorot_uniform,
    unfold_input,
    unfold_output,
    unit_log_likelihood,
)
from sklearn_greedy._stack import GreedyStack, LayerTask
from sklearn_greedy._training import Backpropagation, Optimizer, Rows
from sklearn_greedy._units import Units, row_block, unit_means

Array = npt.NDArray

_SCORE_ROWS = 4096


class StackedAutoencoderTransformer(GreedyStack):
    """Stack of denoising autoencoders, trained greedily layer by layer.

    Each layer learns to rebuild its clean input from a corrupted copy [1]_; its clean
    activations are the input of the next layer [2]_. The reconstruction has one unit
    per column, bernoulli (cross-entropy) or gaussian (squared error). Gaussian columns
    are standardised inside and the scaling is folded into ``coefs_``, so that raw
    tables can be given.

    Parameters
    ----------
    hidden_layer_sizes : int or array-like of int, default=(256,)
        Number of hidden units of each layer.

    activation : {"relu", "logistic", "tanh", "identity"} or array-like, default="relu"
        Activation of the hidden units.

    visible : {"auto", "bernoulli", "gaussian"}, default="auto"
        Kind of the units that rebuild the columns of X. "auto" takes bernoulli units
        for columns with all values in [0, 1] and gaussian units for the others.
        Deeper layers rebuild logistic activations with bernoulli units and all others
        with gaussian units.

    corruption : {"masking", "gaussian"} or None, or array-like, default="masking"
        Noise on the input of each layer. "masking" sets cells to 0 (to the mean, in a
        gaussian column), "gaussian" adds normal noise (in units of the standard
        deviation, in a gaussian column). The loss is against the clean input.

    corruption_level : float or array-like, default=0.25
        Share of masked cells in [0, 1), or standard deviation of the noise.

    tied_weights : bool or array-like, default=True
        Whether the decoder uses the transposed weights of the encoder.

    solver : {"adam", "sgd"}, default="adam"
        Optimiser.

    learning_rate_init : float or array-like, default=0.001
        Step size, in (0, inf).

    momentum : float or array-like, default=0.9
        Momentum of "sgd", in [0, 1).

    nesterovs_momentum : bool, default=True
        Whether "sgd" uses Nesterov's momentum.

    alpha : float or array-like, default=0.0
        Weight decay: ``alpha * w`` is added to the gradient of the weights (not of the
        biases), whatever the batch size. In [0, inf).

    batch_size : int or array-like, default=32
        Rows of a mini-batch.

    max_iter : int or array-like, default=20
        Epochs **per layer**.

    tol : float, default=None
        When the loss (with ``early_stopping``: the score) has not improved by ``tol``
        for more than ``n_iter_no_change`` epochs, a layer is finished. None trains for
        ``max_iter`` epochs; with ``early_stopping`` it counts as 0.

    n_iter_no_change : int, default=10
        Epochs without improvement that end a layer.

    early_stopping : bool, default=False
        Whether to hold out rows, follow their reconstruction score from clean input
        and keep the parameters of the best epoch of each layer.

    validation_fraction : float, default=0.1
        Share of the rows held out by ``early_stopping``, in (0, 1).

    shuffle : bool, default=True
        Whether to visit the rows in a new random order in every epoch.

    warm_start : bool, default=False
        Whether ``fit`` goes on from the present parameters.

    random_state : int, RandomState instance or None, default=None
        Seed of initialisation, shuffling and corruption. An int gives the same result
        in every call.

    verbose : bool or int, default=False
        Whether to print a line per epoch.

    Attributes
    ----------
    coefs_ : list of ndarray of shape (n_inputs, n_hidden)
        Encoder weights of each layer, for raw input.

    intercepts_ : list of ndarray of shape (n_hidden,)
        Encoder biases of each layer, for raw input.

    decoder_coefs_ : list of ndarray of shape (n_hidden, n_inputs)
        Decoder weights of each layer, for raw output.

    decoder_intercepts_ : list of ndarray of shape (n_inputs,)
        Decoder biases of each layer, for raw output.

    activations_ : list of str
        Activation of each layer.

    visible_kinds_ : ndarray of str, shape (n_features,)
        Kind of unit chosen for each column.

    visible_offset_, visible_scale_ : ndarray of shape (n_features,)
        Mean and standard deviation of the gaussian columns (0 and 1 elsewhere).

    loss_curves_ : list of list of float
        Mean loss of a row (negative log-likelihood of the clean input plus the penalty
        on the weights), per layer and epoch.

    layer_report_ : list of dict
        Health of each layer on up to 1000 rows: "n_dead" and "n_saturated" units,
        "mean_activation" and "weight_norm" (Frobenius, of the encoder).

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
    StackedRBMTransformer : Greedy stack of restricted Boltzmann machines.
    GreedyPretrainedMLPClassifier : Fine-tunes a pre-trained stack.

    References
    ----------
    .. [1] P. Vincent et al., "Stacked denoising autoencoders", JMLR 11, 2010.
    .. [2] Y. Bengio et al., "Greedy layer-wise training of deep networks", NIPS 2006.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_greedy import StackedAutoencoderTransformer
    >>> X, _ = load_digits(return_X_y=True)
    >>> stack = StackedAutoencoderTransformer((64, 32), max_iter=5, random_state=0)
    >>> stack.fit_transform(X).shape
    (1797, 32)
    """

    _rate = "learning_rate_init"
    _per_layer = (
        "activation",
        "corruption",
        "corruption_level",
        "tied_weights",
        "learning_rate_init",
        "momentum",
        "alpha",
        "batch_size",
        "max_iter",
    )
    _parameter_constraints: dict = {
        "hidden_layer_sizes": [
            "array-like",
            Interval(Integral, 1, None, closed="left"),
        ],
        "activation": [StrOptions(set(ACTIVATIONS)), "array-like"],
        "visible": [StrOptions({"auto", "bernoulli", "gaussian"})],
        "corruption": [StrOptions({"masking", "gaussian"}), None, "array-like"],
        "corruption_level": [Interval(Real, 0, None, closed="left"), "array-like"],
        "tied_weights": ["boolean", "array-like"],
        "solver": [StrOptions({"adam", "sgd"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither"), "array-like"],
        "momentum": [Interval(Real, 0, 1, closed="left"), "array-like"],
        "nesterovs_momentum": ["boolean"],
        "alpha": [Interval(Real, 0, None, closed="left"), "array-like"],
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
        activation="relu",
        visible="auto",
        corruption="masking",
        corruption_level=0.25,
        tied_weights=True,
        solver="adam",
        learning_rate_init=0.001,
        momentum=0.9,
        nesterovs_momentum=True,
        alpha=0.0,
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
        self.activation = activation
        self.visible = visible
        self.corruption = corruption
        self.corruption_level = corruption_level
        self.tied_weights = tied_weights
        self.solver = solver
        self.learning_rate_init = learning_rate_init
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.alpha = alpha
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
        """Decode: the reconstruction that belongs to given codes.

        Parameters
        ----------
        X : array-like of shape (n_samples, hidden_layer_sizes[-1])
            Activations of the top layer.

        Returns
        -------
        V : ndarray of shape (n_samples, n_features)
            Reconstruction, in the units of the data.
        """
        z = self._decode(self._validate_hidden(X))
        return unit_means(z, Units(**self._units[0]).blocks())

    def score_samples(self, X):
        """Minus the reconstruction loss of each row.

        The row goes up and down the whole stack without noise. Bernoulli columns count
        with their log-likelihood, gaussian ones with minus half the squared error in
        units of their standard deviation.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        score : ndarray of shape (n_samples,)
            Higher is better.
        """
        check_is_fitted(self)
        X = self._validate(X, reset=False)
        units = Units(**self._units[0])
        scale = units.scale.astype(X.dtype)
        out = np.empty(X.shape[0], dtype=X.dtype)
        for rows in gen_batches(X.shape[0], row_block(X.shape[1], _SCORE_ROWS)):
            part = X[rows]
            codes = forward(part, self.coefs_, self.intercepts_, self.activations_)
            part = part.toarray() if sparse.issparse(part) else part
            z = self._decode(codes)
            out[rows] = unit_log_likelihood(part, z, units.kinds, scale)
        return out

    def _decode(self, codes: Array) -> Array:
        """Pre-activation of the reconstruction of X from codes."""
        for layer in reversed(range(1, len(self.coefs_))):
            z = dense_layer(
                codes, self.decoder_coefs_[layer], self.decoder_intercepts_[layer]
            )
            codes = unit_means(z, Units(**self._units[layer]).blocks())
        return dense_layer(codes, self.decoder_coefs_[0], self.decoder_intercepts_[0])

    def _units_above(self, layer: int) -> str:
        below = self.activation
        if not isinstance(below, str):
            below = below[layer - 1]
        return "bernoulli" if below == "logistic" else "gaussian"

    def _check_settings(self, settings) -> None:
        _check_level(settings.corruption, settings.corruption_level)

    def _network(self, n_in: int, layer: int, width: int) -> Network:
        settings = self._settings(layer)
        if settings.tied_weights:
            return Network.tied(n_in, width, settings.activation)
        return Network.dense((n_in, width, n_in), (settings.activation, "identity"))

    def _build(self, task: LayerTask) -> Backpropagation:
        settings = task.settings
        n_in = task.data.shape[1]
        network = self._network(n_in, task.layer, task.width)
        theta = task.theta
        if theta is None:
            encoder = glorot_uniform(task.rng, n_in, task.width, settings.activation)
            decoder = glorot_uniform(task.rng, task.width, n_in, "identity")
            if settings.tied_weights:
                decoder = encoder[0].T, decoder[1]
            theta = network.pack(*zip(encoder, decoder, strict=True))
        return Backpropagation(
            network,
            theta,
            Rows(task.data, task.units),
            task.units.blocks(),
            Optimizer(
                self.solver,
                settings.learning_rate_init,
                settings.momentum,
                self.nesterovs_momentum,
            ),
            batch_size=settings.batch_size,
            seed=task.seed,
            alpha=settings.alpha,
            corruption=settings.corruption,
            corruption_level=settings.corruption_level,
            state=task.state,
        )

    def _monitor(self, task: LayerTask, model: Backpropagation, held: Array):
        kinds, ones = task.units.kinds, np.ones(model.n_columns, np.float32)

        def score() -> float:
            total = 0.0
            for rows, z in model.pre_activations(held):
                total += float(unit_log_likelihood(rows, z, kinds, ones).sum())
            return total / len(held)

        return score

    def _fold(self, task: LayerTask, model: Backpropagation) -> dict:
        coefs, intercepts = model.network.views(model.theta.astype(np.float64))
        scaling = task.units.offset, task.units.scale
        encoder = fold_input(coefs[0], intercepts[0], *scaling)
        decoder = fold_output(coefs[1], intercepts[1], *scaling)
        return {
            "coefs_": encoder[0],
            "intercepts_": encoder[1],
            "decoder_coefs_": decoder[0],
            "decoder_intercepts_": decoder[1],
            "activations_": task.settings.activation,
        }

    def _recall(self, layer: int, units: Units) -> Array:
        scaling = units.offset, units.scale
        encoder = unfold_input(self.coefs_[layer], self.intercepts_[layer], *scaling)
        decoder = unfold_output(
            self.decoder_coefs_[layer], self.decoder_intercepts_[layer], *scaling
        )
        network = self._network(len(units.kinds), layer, self.coefs_[layer].shape[1])
        if network.layers[-1, 5]:
            decoder = encoder[0].T, decoder[1]
        return network.pack(*zip(encoder, decoder, strict=True))


def _check_level(corruption, level) -> None:
    if corruption == "masking" and level >= 1:
        raise ValueError(
            f"corruption_level must be below 1 for masking. Got {level!r} instead."
        )
