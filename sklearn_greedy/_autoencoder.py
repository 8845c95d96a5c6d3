"""StackedAutoencoderTransformer: a stack of (denoising) autoencoders."""

from dataclasses import replace
from functools import partial
from numbers import Integral, Real

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.special import entr, logit

from sklearn_greedy._backpropagation import (
    CORRUPTIONS,
    SCHEDULES,
    Backpropagation,
    CodePenalty,
    Corruption,
    Optimizer,
)
from sklearn_greedy._callbacks import EpochTasks, task_of
from sklearn_greedy._compat import (
    Interval,
    StrOptions,
    available_if,
    warn_user,
)
from sklearn_greedy._fitting import training_streams
from sklearn_greedy._layer import LayerTask, TrainedLayer
from sklearn_greedy._network import (
    ACTIVATIONS,
    TRANSPOSED,
    Network,
    fold,
    forward,
    glorot_uniform,
    unfold,
    unit_log_likelihood,
)
from sklearn_greedy._rows import SOME_ROWS, Rows
from sklearn_greedy._stack import GreedyStack
from sklearn_greedy._units import (
    BERNOULLI,
    ColumnStatistics,
    Units,
    output_blocks,
    row_blocks,
    spread_rows,
    unit_means,
)

Array = npt.NDArray

_SCORE_ROWS = 4096


def _rebuilds(stack) -> bool:
    """Whether the decoders of a stack give rows; AttributeError where they do not."""
    if stack._learned_objective() == "detection":
        raise AttributeError(
            "The decoders of objective='detection' tell which cells of a row were "
            "changed, and rebuild none. Use objective='reconstruction'."
        )
    return True


class StackedAutoencoderTransformer(GreedyStack):
    """Stack of denoising autoencoders, trained greedily layer by layer.

    Each layer learns to rebuild its clean input from a corrupted copy [1]_; its clean
    activations are the input of the next layer [2]_. The reconstruction has bernoulli
    units (cross-entropy), gaussian units (squared error) and softmax groups side by
    side. Gaussian columns are standardised inside and the scaling is folded into
    ``coefs_``, so that raw tables can be given.

    Parameters
    ----------
    hidden_layer_sizes : int or array-like of int, default=(256,)
        Number of hidden units of each layer.

    activation : {"relu", "logistic", "tanh", "softplus", "elu", "identity"} or \
            array-like, default="relu"
        Activation of the hidden units; "identity" makes a linear code.

    visible : {"auto", "bernoulli", "gaussian", "softmax"} or list, default="auto"
        Kind of the units that rebuild the columns of X. "auto" takes bernoulli units
        for columns with all values in [0, 1] (or beyond by a thousandth of their range,
        as scalers round), and gaussian units for the others. Columns there that are
        neither binary nor constant are mostly gaussian too, if half of them vary by
        less than a quarter of binary ones, as measurements behind a MinMaxScaler and
        tf-idf do. Where fewer do, these alone are, unless they are mostly 0 or 1 or
        under a tenth of the columns, as in images. A list of pairs ``(kind, columns)``
        chooses by columns, which are named as in ColumnTransformer; "auto" decides on
        columns in no pair. Each "softmax" pair is one group of one-hot columns that
        follow each other. Deeper layers rebuild logistic activations with bernoulli
        units and all others with gaussian units. In ``partial_fit`` the first chunk
        decides, but a column may turn gaussian later.

    objective : {"reconstruction", "detection"}, default="reconstruction"
        What the decoders learn from the corrupted input: "reconstruction" rebuilds the
        clean one, "detection" tells which cells the corruption changed, one logit per
        column with the binary cross-entropy, as mask estimation does for tables [6]_.
        It needs a corruption of single cells ("swap" is what tables gain from), and
        leaves nothing that rebuilds rows: `inverse_transform`, `reconstruct`,
        `score_samples`, `score` and `feature_report` are not there.

    corruption : {"masking", "gaussian", "salt_and_pepper", "swap"}, None or \
            array-like, default="masking"
        Noise on the input of each layer; the loss is against the clean input.
        "masking" sets cells to 0 (to the mean, in a gaussian column), "gaussian" adds
        normal noise (in units of the standard deviation, in a gaussian column),
        "salt_and_pepper" sets cells to the least or the greatest value of their
        column, "swap" to its value in another row of the mini-batch. A softmax group is
        changed as a whole.

    corruption_level : float or array-like, default=0.25
        Share of changed cells in [0, 1] (below 1 for masking), or standard deviation
        of the gaussian noise.

    emphasis : float or array-like, default=0.5
        Share of the loss's weight on corrupted cells, in [0, 1]: they weigh
        ``2 * emphasis`` and the others ``2 * (1 - emphasis)`` ([1]_, section 4.2). Not
        for gaussian noise, which changes every cell.

    contraction : float or array-like, default=0.0
        Weight of the contractive penalty [3]_, the squared Frobenius norm of the
        Jacobian of the code by the (scaled) input, in [0, inf).

    sparsity_target : float, None or array-like, default=None
        Mean activation that logistic hidden units are drawn to, in (0, 1), by the
        Kullback-Leibler divergence of the mean over the mini-batch from it.

    sparsity_weight : float or array-like, default=0.1
        Weight of that penalty, in [0, inf).

    code_l1 : float or array-like, default=0.0
        Weight of the L1 penalty ``sum_j |h_j|`` on the hidden units, in [0, inf).

    n_active : int, None or array-like, default=None
        Number of hidden units, the largest, that each row keeps, while the others are
        set to 0 (k-sparse autoencoder [4]_), also in ``transform``. In training it
        falls linearly from all units to this number over the first half of
        ``max_iter`` epochs, or chunks of ``partial_fit``. A network that starts from
        the stack keeps all units.

    tied_weights : bool or array-like, default=True
        Whether the decoder uses the transposed weights of the encoder. Weights that
        were trained apart (without this, or by ``unrolled_max_iter``) stay apart at a
        warm start and in ``partial_fit``.

    solver : {"adam", "sgd"}, default="adam"
        Optimiser.

    learning_rate : {"constant", "invscaling", "adaptive", "cosine"}, default="constant"
        Schedule of the step size. "cosine" lets it fall along half a cosine, from
        ``learning_rate_init`` in the first epoch to next to 0 in the last, of each
        layer and of the unrolled network [7]_; in ``partial_fit``, which has no last
        epoch, it stays. The others change that of "sgd" alone, as in MLPClassifier:
        "invscaling" divides it by ``(n_rows_seen + 1) ** power_t`` after each epoch,
        "adaptive" by 5 when training stalls, which needs ``tol`` or ``early_stopping``
        and is never seen in ``partial_fit``.

    learning_rate_init : float or array-like, default=0.001
        Step size, in (0, inf).

    power_t : float, default=0.5
        Exponent of "invscaling", in [0, inf).

    max_gradient_norm : float, default=None
        Longest gradient of a mini-batch (Euclidean norm over all parameters, without
        weight decay), in (0, inf); longer ones are scaled down. None: any length.

    momentum : float or array-like, default=0.9
        Momentum of "sgd", in [0, 1).

    nesterovs_momentum : bool, default=True
        Whether "sgd" uses Nesterov's momentum.

    alpha : float or array-like, default=0.0
        Weight decay: ``alpha * w`` is added to the gradient of the weights (not of the
        biases), whatever the batch size. In [0, inf).

    batch_size : int or array-like, default=32
        Rows of a mini-batch, all where there are fewer.

    max_iter : int or array-like, default=20
        Epochs **per layer**. 0 leaves a layer as it was initialised, so that
        ``unrolled_max_iter`` can be tried from a random start.

    tol : float, default=None
        When the loss (with ``early_stopping``: the score) has not improved by ``tol``
        for more than ``n_iter_no_change`` epochs, a layer is finished. None trains for
        ``max_iter`` epochs; with ``early_stopping`` it counts as 0.

    n_iter_no_change : int, default=10
        Epochs without improvement that end a layer.

    early_stopping : bool, default=False
        Whether to hold out rows, follow their reconstruction score from clean input
        (the cross-entropy of detection from one with noise) and keep the parameters of
        the best epoch of each layer.

    validation_fraction : float, default=0.1
        Share of the rows held out by ``early_stopping``, in (0, 1). They take part in
        the kinds, means and scales of the columns, and in nothing else.

    shuffle : bool, default=True
        Whether to visit the rows in a new random order in every epoch.

    schedule : {"layerwise", "simultaneous"}, default="layerwise"
        "layerwise" trains each layer to its end before the next one; "simultaneous"
        does so for one epoch, then passes some mini-batches at a time through all
        layers, each of which learns from the present output of those below, as
        ``partial_fit`` does. It needs one ``max_iter`` and ``batch_size`` for all
        layers, without ``tol`` and ``early_stopping``.

    memory : str, object with the joblib.Memory interface or None, default=None
        Folder in which every trained layer is kept, and the unrolled network, as in
        `~sklearn.pipeline.Pipeline`. A later fit of the same layers on the same data
        takes them from there, so that a search trains each prefix of a stack once per
        fold (user guide, "Searching with memory"). It needs a ``random_state``, does
        not serve warm starts and ``schedule="simultaneous"``, and warns only when a
        layer is trained.

    warm_start : bool, default=False
        Whether ``fit`` goes on from the present parameters, with the kinds of columns
        that it began with. Epochs are counted on (``n_active``), and noise and shuffles
        are those of later epochs, also with an int as ``random_state``. Layers over
        tanh, elu or softplus ones whose decoders were trained by ``unrolled_max_iter``
        go on with linear ones, from other reconstructions, which a warning says.

    unrolled_max_iter : int, default=0
        Epochs of training the whole network of encoders and decoders at the end of
        ``fit`` [5]_, on the corrupted input of the first layer and with the optimiser
        settings of the first layer. Weights are no longer tied then. With
        ``objective="detection"`` the decoders above the first layer begin random, since
        what they told of features leads to no logits of the columns.

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
        Decoder weights of each layer, for raw output, or for the logits of
        ``objective="detection"``.

    decoder_intercepts_ : list of ndarray of shape (n_inputs,)
        Decoder biases of each layer, for the same.

    activations_ : list of str
        Activation of each layer.

    visible_kinds_ : ndarray of str, shape (n_features,)
        Kind of unit chosen for each column.

    visible_offset_ : ndarray of shape (n_features,)
        Mean of the gaussian columns (0 elsewhere).

    visible_scale_ : ndarray of shape (n_features,)
        Standard deviation of the gaussian columns (1 elsewhere).

    decoder_activations_ : list of str
        Activation in which the decoder of each layer ends; "identity" for the first,
        whose units have their own means.

    n_active_ : list of int or None
        Units that each row keeps in each layer, or None for all.

    loss_curves_ : list of list of float
        Mean loss of a row (negative log-likelihood of the clean input, or of which
        cells are changed, plus the penalties), per layer and epoch. With a
        ``supervised_weight`` of ``s`` in a network, ``1 - s`` of it and ``s`` of the
        loss of the temporary output layer.

    unrolled_loss_curve_ : list of float
        Mean loss of a row in the epochs of ``unrolled_max_iter``.

    layer_report_ : list of dict
        Health of each layer on up to 1000 rows after the greedy phase: "n_dead" and
        "n_saturated" units, "n_constant" (these and others that hardly change from row
        to row), "mean_activation", "weight_norm" (Frobenius, of the encoder),
        "reconstruction_error" (squared error per column from clean scaled input) beside
        "baseline_error" (that of the column means), and "code_dimension": how many
        directions the code uses (participation ratio of the eigenvalues of its
        covariance). With ``objective="detection"`` "detection_loss" (cross-entropy per
        column, of rows with noise) beside "baseline_loss" (that of the share of changed
        cells in each column) in place of the errors.

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
    .. [3] S. Rifai et al., "Contractive auto-encoders: explicit invariance during
       feature extraction", ICML 2011.
    .. [4] A. Makhzani and B. Frey, "k-sparse autoencoders", ICLR 2014.
    .. [5] G. Hinton and R. Salakhutdinov, "Reducing the dimensionality of data with
       neural networks", Science 313, 2006.
    .. [6] J. Yoon et al., "VIME: extending the success of self- and semi-supervised
       learning to tabular domain", NeurIPS 2020.
    .. [7] I. Loshchilov and F. Hutter, "SGDR: stochastic gradient descent with warm
       restarts", ICLR 2017 (equation 5, without restarts).

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_greedy import StackedAutoencoderTransformer
    >>> X, _ = load_digits(return_X_y=True)
    >>> stack = StackedAutoencoderTransformer((64, 32), max_iter=5, random_state=0)
    >>> stack.fit_transform(X).shape
    (1797, 32)
    """

    decoder_coefs_: list[Array]
    decoder_intercepts_: list[Array]
    decoder_activations_: list[str]
    n_active_: list[int | None]
    _rate = "learning_rate_init"
    _units_parameter = "activation"
    _kinds = ("gaussian", "bernoulli", "softmax")
    _per_layer = (
        "activation",
        "corruption",
        "corruption_level",
        "emphasis",
        "contraction",
        "sparsity_target",
        "sparsity_weight",
        "code_l1",
        "n_active",
        "tied_weights",
        "learning_rate_init",
        "momentum",
        "alpha",
        "batch_size",
        "max_iter",
    )
    _parameter_constraints: dict = {
        **GreedyStack._parameter_constraints,
        "activation": [StrOptions(set(ACTIVATIONS)), "array-like"],
        "visible": [StrOptions({"auto", *_kinds}), list],
        "objective": [StrOptions({"reconstruction", "detection"})],
        "corruption": [StrOptions(set(CORRUPTIONS[1:])), None, "array-like"],
        "corruption_level": [Interval(Real, 0, None, closed="left"), "array-like"],
        "emphasis": [Interval(Real, 0, 1, closed="both"), "array-like"],
        "contraction": [Interval(Real, 0, None, closed="left"), "array-like"],
        "code_l1": [Interval(Real, 0, None, closed="left"), "array-like"],
        "n_active": [Interval(Integral, 1, None, closed="left"), None, "array-like"],
        "tied_weights": ["boolean", "array-like"],
        "solver": [StrOptions({"adam", "sgd"})],
        "learning_rate": [StrOptions(set(SCHEDULES))],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither"), "array-like"],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_gradient_norm": [Interval(Real, 0, None, closed="neither"), None],
        "nesterovs_momentum": ["boolean"],
        "max_iter": [Interval(Integral, 0, None, closed="left"), "array-like"],
        "early_stopping": ["boolean"],
        "unrolled_max_iter": [Interval(Integral, 0, None, closed="left")],
    }

    def __init__(
        self,
        hidden_layer_sizes=(256,),
        *,
        activation="relu",
        visible="auto",
        objective="reconstruction",
        corruption="masking",
        corruption_level=0.25,
        emphasis=0.5,
        contraction=0.0,
        sparsity_target=None,
        sparsity_weight=0.1,
        code_l1=0.0,
        n_active=None,
        tied_weights=True,
        solver="adam",
        learning_rate="constant",
        learning_rate_init=0.001,
        power_t=0.5,
        max_gradient_norm=None,
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
        schedule="layerwise",
        memory=None,
        warm_start=False,
        unrolled_max_iter=0,
        random_state=None,
        verbose=False,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.visible = visible
        self.objective = objective
        self.corruption = corruption
        self.corruption_level = corruption_level
        self.emphasis = emphasis
        self.contraction = contraction
        self.sparsity_target = sparsity_target
        self.sparsity_weight = sparsity_weight
        self.code_l1 = code_l1
        self.n_active = n_active
        self.tied_weights = tied_weights
        self.solver = solver
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_gradient_norm = max_gradient_norm
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
        self.schedule = schedule
        self.memory = memory
        self.warm_start = warm_start
        self.unrolled_max_iter = unrolled_max_iter
        self.random_state = random_state
        self.verbose = verbose

    @available_if(_rebuilds)
    def inverse_transform(self, X) -> Array:
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
        return unit_means(z, self._layer_units(0).blocks())

    @available_if(_rebuilds)
    def reconstruct(self, X) -> Array:
        """Rows as the stack rebuilds them: its guess of what they are without noise.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        V : ndarray of shape (n_samples, n_features)
            ``inverse_transform(transform(X))``, in the units of the data.
        """
        return self.inverse_transform(self.transform(X))

    @available_if(_rebuilds)
    def score_samples(self, X) -> Array:
        """Minus the reconstruction loss of each row: low for rows unlike the data.

        To find anomalies the code must be narrow: a layer with more units than columns
        rebuilds them as well. The row goes up and down the whole stack without noise.
        Bernoulli columns and softmax groups count with their log-likelihood, gaussian
        ones with minus half the squared error in units of their standard deviation.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        score : ndarray of shape (n_samples,)
            Higher is better.

        Warns
        -----
        UserWarning
            If rows are far outside [0, 1] in columns with bernoulli units.
        """
        X = self._rows_to_judge(X)
        units = self._layer_units(0)
        scale, blocks = units.scale.astype(self.coefs_[0].dtype), units.blocks()
        scores = [
            unit_log_likelihood(rows, z, blocks, scale) for rows, z in self._rebuilt(X)
        ]
        return np.concatenate(scores)

    @available_if(_rebuilds)
    def feature_report(self, X) -> dict:
        """How well each column is rebuilt.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        report : dict of ndarray of shape (n_features,)
            "feature" (name, or number where there are no names), "kind",
            "squared_error" (mean over rows, in the units of the data), "variance"
            (that error for the column's mean) and "r2" (one minus their ratio; NaN for
            a constant column). ``pandas.DataFrame(report)`` is a table of it.
        """
        X = self._validate_rows(X)
        units = self._layer_units(0)
        n_columns = X.shape[1]
        squares = np.zeros(n_columns)
        for rows, z in self._rebuilt(X):
            errors = rows - unit_means(z, units.blocks())
            squares += np.sum(errors**2, axis=0, dtype=float)
        statistics = ColumnStatistics.of(X)
        error, variance = squares / X.shape[0], statistics.variance
        with np.errstate(divide="ignore", invalid="ignore"):
            r2 = np.where(statistics.varies(), 1 - error / variance, np.nan)
        return {
            "feature": getattr(self, "feature_names_in_", np.arange(n_columns)),
            "kind": self.visible_kinds_,
            "squared_error": error,
            "variance": variance,
            "r2": r2,
        }

    def _rebuilt(self, X):
        """Yield (dense rows, pre-activations of their reconstruction), in blocks."""
        for block in row_blocks(X.shape, _SCORE_ROWS):
            part = X[block]
            z = self._decode(self._encode(part))
            yield part.toarray() if sparse.issparse(part) else part, z

    def _encode(self, X) -> Array:
        layers = self.coefs_, self.intercepts_, self.activations_, self.n_active_
        return forward(X, *layers)

    def _decode(self, codes: Array) -> Array:
        """Pre-activation of the reconstruction of X from codes."""
        down = self.decoder_coefs_, self.decoder_intercepts_, self.decoder_activations_
        return forward(codes, *(part[::-1] for part in down))

    def _activation(self, layer: int) -> str:
        return self._settings(layer).activation

    def _learned_objective(self) -> str:
        """What the fitted decoders learned, or those of the next fit will."""
        return getattr(self, "_objective", self.objective)

    def _check_unchanged(self, sizes: tuple[int, ...]) -> None:
        super()._check_unchanged(sizes)
        learned = self._learned_objective()
        if self.objective != learned:
            raise ValueError(
                f"objective={self.objective!r} asks something else of the fitted "
                f"decoders, which learned {learned!r}. Set it back, or call fit on a "
                "clone to start anew."
            )

    def _check_settings(self, settings) -> None:
        _check_level(settings.corruption, settings.corruption_level)
        of_cells = settings.corruption not in (None, "gaussian")
        of_some = of_cells and 0 < settings.corruption_level < 1
        if self.objective == "detection" and not of_some:
            raise ValueError(
                "objective='detection' tells changed cells from others and needs "
                "corruption='swap', 'salt_and_pepper' or 'masking' and a "
                f"corruption_level in (0, 1). Got corruption={settings.corruption!r} "
                f"and corruption_level={settings.corruption_level}."
            )
        if settings.emphasis != 0.5 and not of_cells:
            raise ValueError(
                "emphasis tells corrupted cells from clean ones and needs corruption="
                "'masking', 'salt_and_pepper' or 'swap'. Got corruption="
                f"{settings.corruption!r} and emphasis={settings.emphasis}."
            )
        if settings.corruption == "swap" and settings.batch_size == 1:
            raise ValueError(
                "corruption='swap' takes cells from other rows of the mini-batch, but "
                "batch_size=1 leaves none. Raise it."
            )
        if settings.sparsity_target is not None and settings.activation != "logistic":
            raise ValueError(
                "sparsity_target is a mean probability and needs activation='logistic'."
                f" Got activation={settings.activation!r}."
            )
        if settings.n_active is not None and self.unrolled_max_iter > 0:
            raise ValueError(
                "n_active keeps the largest units of a single layer and does not go "
                f"with unrolled_max_iter={self.unrolled_max_iter}."
            )
        stalls = self.tol is not None or self.early_stopping
        adaptive = self.solver == "sgd" and self.learning_rate == "adaptive"
        if adaptive and self.schedule == "simultaneous":
            raise ValueError(
                "learning_rate='adaptive' acts when training stalls, which nobody "
                "looks for with schedule='simultaneous': use schedule='layerwise'."
            )
        if adaptive and not stalls:
            raise ValueError(
                "learning_rate='adaptive' acts when training stalls: set tol or "
                "early_stopping."
            )

    def _network(self, n_in: int, layer: int, width: int, resumed: bool) -> Network:
        settings = self._settings(layer)
        if settings.tied_weights and not (resumed and self._came_untied(layer)):
            return Network.tied(n_in, width, settings.activation)
        return Network.dense((n_in, width, n_in), (settings.activation, "identity"))

    def _came_untied(self, layer: int) -> bool:
        """Whether the fitted weights of a layer are not each other's transpose."""
        (_, of_input), (_, of_output) = self._scaling(self._layer_units(layer))
        encoder, decoder = self.coefs_[layer], self.decoder_coefs_[layer]
        tied = encoder * (of_input * of_output)[:, None]
        rounding = 1e-3 * float(np.abs(tied).max())
        return not np.allclose(tied, decoder.T, rtol=1e-3, atol=rounding)

    def _build(self, task: LayerTask) -> Backpropagation:
        settings = task.settings
        n_in = task.data.shape[1]
        theta = task.theta
        network = self._network(n_in, task.layer, task.width, theta is not None)
        if theta is None:
            encoder = glorot_uniform(task.rng, n_in, task.width, settings.activation)
            decoder = glorot_uniform(task.rng, task.width, n_in, "identity")
            if settings.tied_weights:
                decoder = encoder[0].T, decoder[1]
            if self.objective == "detection":
                decoder = decoder[0], decoder[1] + logit(settings.corruption_level)
            theta = network.pack(*zip(encoder, decoder, strict=True))
        code = CodePenalty(
            settings.contraction,
            settings.code_l1,
            settings.sparsity_target,
            settings.sparsity_weight,
            settings.n_active,
            n_hidden=task.width,
            n_falling=settings.max_iter / 2,
        )
        return self._backpropagation(network, theta, task, code)

    def _backpropagation(self, network, theta, task, code=None) -> Backpropagation:
        settings = task.settings
        detects = self.objective == "detection"
        n_columns = task.data.shape[1]
        return Backpropagation(
            network,
            theta,
            Rows(task.data, task.units),
            output_blocks(n_columns, BERNOULLI) if detects else task.units.blocks(),
            self._optimizer(settings, task.own_share),
            batch_size=settings.batch_size,
            seed=task.seed,
            detects=detects,
            alpha=settings.alpha,
            corruption=self._corruption_of(task),
            code=code,
            state=task.state,
        )

    def _scaling(self, units: Units):
        """Offset and scale of the columns, and those of what decoders give for them:
        the same, but for the logits of ``objective="detection"``.
        """
        of_input = units.offset, units.scale
        if self.objective == "detection":
            return of_input, (np.zeros_like(units.offset), np.ones_like(units.scale))
        return of_input, of_input

    def _lossless(self) -> tuple[str, ...]:
        """Activations below a layer that may end its decoder without loss before
        unrolling; logits end in none.
        """
        return () if self.objective == "detection" else ("logistic", "relu")

    def _corruption_of(self, task: LayerTask) -> Corruption:
        settings = task.settings
        return Corruption.of(
            settings.corruption,
            settings.corruption_level,
            settings.emphasis,
            task.units,
            task.statistics,
        )

    def _take_units(self, task: LayerTask, model: Backpropagation) -> None:
        model.rows = Rows(task.data, task.units)
        model.noise = self._corruption_of(task)

    def _optimizer(self, settings, share: float) -> Optimizer:
        """Optimiser of a loss that has this share of the learning rate."""
        return Optimizer(
            self.solver,
            settings.learning_rate_init * share,
            settings.momentum,
            self.nesterovs_momentum,
            learning_rate=self.learning_rate,
            power_t=self.power_t,
            max_gradient_norm=self.max_gradient_norm,
        )

    def _head_options(self, task: LayerTask, model: Backpropagation) -> dict:
        optimizer = self._optimizer(task.settings, 1 - task.own_share)
        # The head sees the units that a row keeps; their penalties count once.
        code = replace(model.code, contraction=0.0, l1=0.0, sparsity_target=None)
        table = model.network.layers
        return {
            "layers": table[: len(table) // 2],  # the other half decodes
            "optimizer": optimizer,
            "corruption": model.noise,
            "code": code,
        }

    def _adopt(self, layers) -> None:
        super()._adopt(layers)
        self._objective = self.objective
        self.unrolled_loss_curve_: list[float] = []

    def _n_last_tasks(self) -> int:
        return int(self.unrolled_max_iter > 0)

    def _finish(self, X, new_task, seed: Array, root, cache) -> TrainedLayer | None:
        """Train the whole network of encoders and decoders, which start as they are."""
        n_before = getattr(self, "_n_unrolled", 0) if self.warm_start else 0
        self._n_unrolled = n_before
        if self.unrolled_max_iter == 0:
            return None
        settings = self._settings(0)
        settings.max_iter = n_epochs = self.unrolled_max_iter

        def attributes():
            return unrolled.fitted

        told = {"X": X, "attributes": attributes}
        with task_of(root, "unrolled", n_epochs, self, **told) as context:
            train = partial(
                self._train_unrolled, X, new_task, seed, n_before, settings, context
            )
            unrolled = cache.layer("unrolled", settings, train)
            self.unrolled_loss_curve_ = unrolled.history.losses
            self._n_unrolled = n_before + len(self.unrolled_loss_curve_)
            for name, value in unrolled.fitted.items():
                setattr(self, name, value)
        return unrolled

    def _train_unrolled(self, X, new_task, seed: Array, n_before, settings, context):
        """The network of encoders and decoders after training, as a `TrainedLayer`;
        n_before : its epochs in earlier fits.
        """
        width = self.coefs_[0].shape[1]
        task = new_task(0, X, width, resumed=True)
        task.place = f"{type(self).__name__}, unrolled"
        task.limit = "unrolled_max_iter"
        streams = training_streams(seed, len(self.coefs_), n_before)
        task.rng, task.order_rng, task.seed = streams
        task.settings = settings
        self._hold_out(task)
        ends = [*self.activations_, *self.activations_[-2::-1], "identity"]
        widths = [coef.shape[0] for coef in self.coefs_]
        network = Network.dense(
            (*widths, self.coefs_[-1].shape[1], *widths[::-1]), ends
        )
        scaling = self._scaling(task.units)
        theta = network.pack(*unfold(*self._unrolled_start(task), *scaling))
        model = self._backpropagation(network, theta, task)

        def attributes():
            theta = model.theta.astype(np.float64)
            return self._halves(network, theta, scaling)

        tasks = EpochTasks.of(context, self, X, attributes=attributes)
        history, head = self._train(task, model, tasks)
        fitted = attributes()
        fitted["_units"] = self._units_of(
            fitted, X[spread_rows(task.judged, SOME_ROWS)]
        )
        return TrainedLayer(fitted, task.units, {}, history, head)

    def _units_of(self, fitted: dict, rows) -> list[dict]:
        """Units of the layers for the features that some rows have now, with which
        ``partial_fit`` goes on.
        """
        units = [self._units[0]]
        for above in range(1, len(self.coefs_)):
            one = slice(above - 1, above)
            layer = fitted["coefs_"][one], fitted["intercepts_"][one]
            rows = forward(rows, *layer, self.activations_[one])
            found = self._units_above(above, ColumnStatistics.of(rows))
            units.append(dict(vars(found)))
        return units

    def _unrolled_start(self, task: LayerTask) -> tuple[list[Array], list[Array]]:
        """Weights and biases of the encoders, and of the decoders from the top."""
        coefs, intercepts = self.decoder_coefs_[::-1], self.decoder_intercepts_[::-1]
        if self.objective == "detection":
            # Logits of changed features are no features for the decoder below.
            for i, end in enumerate(self.activations_[-2::-1]):
                n_in, n_out = coefs[i].shape
                coefs[i], intercepts[i] = glorot_uniform(task.rng, n_in, n_out, end)
        return [*self.coefs_, *coefs], [*self.intercepts_, *intercepts]

    def _halves(self, network: Network, theta: Array, scaling) -> dict:
        """Fitted attributes from the two halves of the unrolled network."""
        n_layers = len(self.coefs_)
        dtype = self.coefs_[0].dtype
        coefs, intercepts = network.views(theta)
        coefs, intercepts = fold(coefs, intercepts, *scaling)
        coefs = [np.array(coef, dtype) for coef in coefs]
        intercepts = [np.array(intercept, dtype) for intercept in intercepts]
        return {
            "coefs_": coefs[:n_layers],
            "intercepts_": intercepts[:n_layers],
            "decoder_coefs_": coefs[: n_layers - 1 : -1],
            "decoder_intercepts_": intercepts[: n_layers - 1 : -1],
            "decoder_activations_": ["identity", *self.activations_[:-1]],
        }

    def _monitor(self, task: LayerTask, model: Backpropagation, held: Array):
        def score() -> float:
            total = 0.0
            for targets, z in model.pre_activations(held):
                total += float(_log_likelihood(model, targets, z).sum())
            return total / len(held)

        return score

    def _health(self, task: LayerTask, model: Backpropagation) -> dict:
        """What decoders give against what is known without them, and how much of the
        code is used.
        """
        rows = model.rows.spread(task.judged)
        targets, z = model.judged(rows)
        code = {"code_dimension": _participation_ratio(model.codes(rows))}
        if self.objective == "detection":
            likelihood = _log_likelihood(model, targets, z)
            shares = targets.mean(axis=0, dtype=float)
            return {
                "detection_loss": -float(likelihood.mean()) / model.n_columns,
                "baseline_loss": float(np.mean(entr(shares) + entr(1 - shares))),
                **code,
            }
        means = unit_means(z, model.blocks)
        return {
            "reconstruction_error": float(np.mean((rows - means) ** 2)),
            "baseline_error": float(np.mean(rows.var(axis=0))),
            **code,
        }

    def _fold(self, task: LayerTask, model: Backpropagation) -> dict:
        coefs, intercepts = model.network.views(model.theta.astype(np.float64))
        coefs, intercepts = fold(coefs, intercepts, *self._scaling(task.units))
        end = "identity"
        if task.layer > 0 and self._activation(task.layer - 1) in self._lossless():
            end = self._activation(task.layer - 1)
        return {
            "coefs_": coefs[0],
            "intercepts_": intercepts[0],
            "decoder_coefs_": coefs[1],
            "decoder_intercepts_": intercepts[1],
            "activations_": task.settings.activation,
            "decoder_activations_": end,
            "n_active_": task.settings.n_active,
        }

    def _recall(self, layer: int, units: Units) -> Array:
        end = self.decoder_activations_[layer]
        if end not in ("identity", *self._lossless()) and not self.unrolled_max_iter:
            warn_user(
                f"The decoder of layer {layer + 1} ended in {end} since the unrolled "
                "network was trained. Alone, the layer goes on with a linear one of "
                "the same weights: its features stay, but reconstructions and scores "
                "begin elsewhere. Only a fit with unrolled_max_iter trains the whole "
                "again."
            )
        coefs = self.coefs_[layer], self.decoder_coefs_[layer]
        intercepts = self.intercepts_[layer], self.decoder_intercepts_[layer]
        coefs, intercepts = unfold(coefs, intercepts, *self._scaling(units))
        width = self.coefs_[layer].shape[1]
        network = self._network(len(units.kinds), layer, width, resumed=True)
        if network.layers[-1, TRANSPOSED]:
            coefs[1] = coefs[0].T
        return network.pack(coefs, intercepts)


def _check_level(corruption, level) -> None:
    most = {"masking": 1.0, "salt_and_pepper": 1.0, "swap": 1.0}.get(corruption, np.inf)
    if level > most or (corruption == "masking" and level == 1):
        bound = "below 1" if corruption == "masking" else "at most 1"
        raise ValueError(
            f"corruption_level must be {bound} for {corruption}. Got {level!r} instead."
        )


def _log_likelihood(model: Backpropagation, targets: Array, z: Array) -> Array:
    """Minus the loss of each row, in the scaled space; targets, z : as from
    ``Backpropagation.judged``.
    """
    ones = np.ones(model.n_columns, np.float32)
    return unit_log_likelihood(targets, z, model.blocks, ones)


def _participation_ratio(codes: Array) -> float:
    """``(sum l)**2 / sum l**2`` of the eigenvalues l of the covariance; 0 for a
    constant code.
    """
    if len(codes) == 1:
        return 0.0
    centred = codes - codes.mean(axis=0, dtype=float)
    # Products of rows have the eigenvalues of those of columns, but for zeros.
    few = centred if len(codes) < codes.shape[1] else centred.T
    products = few @ few.T
    squares = float(np.vdot(products, products))
    return float(np.trace(products)) ** 2 / squares if squares > 0 else 0.0
