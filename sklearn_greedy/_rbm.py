"""StackedRBMTransformer: a stack of restricted Boltzmann machines."""

from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.utils.validation import check_is_fitted

from sklearn_greedy._automatic_rate import automatic_rate
from sklearn_greedy._backpropagation import Optimizer
from sklearn_greedy._compat import (
    Interval,
    StrOptions,
    column_numbers,
    told_of,
    validate_params,
    warn_user,
)
from sklearn_greedy._contrastive import ContrastiveDivergence
from sklearn_greedy._energy import (
    HIDDEN_ACTIVATIONS,
    HIDDEN_KINDS,
    KIND_OF_ACTIVATION,
    RBM,
    free_energy_gap,
)
from sklearn_greedy._fitting import draw_seed
from sklearn_greedy._generation import draw_down, gibbs, initial_rows, sample_stack
from sklearn_greedy._layer import LayerTask
from sklearn_greedy._likelihood import (
    ais_log_z,
    dbn_bound,
    exact_log_z,
    pseudo_log_likelihood,
)
from sklearn_greedy._network import Network, fold_input, forward, unfold_input
from sklearn_greedy._stack import GreedyStack
from sklearn_greedy._units import (
    BERNOULLI,
    GREY_LIMIT,
    KINDS,
    POISSON,
    SOFTMAX,
    Units,
    greyness,
    mean_biases,
    row_blocks,
    unit_means,
)

Array = npt.NDArray

# Rows and columns at which early stopping takes the pseudo-log-likelihood.
_MONITOR_ROWS = 500
_MONITOR_COLUMNS = 50
_SCORE_ROWS = 1024
# Gibbs steps that bring a row of the data near the model's distribution.
_BURN_IN = 1000
# Kinds whose reconstructions are drawn where the data are nearly binary.
_BINARY = (BERNOULLI, SOFTMAX, POISSON)

# Parameters of methods.
_AT_LEAST_ONE = Interval(Integral, 1, None, closed="left")
_STEPS = Interval(Integral, 0, None, closed="left")
_LIKELIHOOD_CONSTRAINTS = {
    "method": [StrOptions({"auto", "exact", "ais"})],
    "n_runs": [_AT_LEAST_ONE],
    "n_temperatures": [_AT_LEAST_ONE],
}


class StackedRBMTransformer(GreedyStack):
    """Stack of restricted Boltzmann machines, trained greedily layer by layer.

    Each layer is an RBM trained by contrastive divergence on the hidden probabilities
    of the layer below ([1]_, [2]_). Gaussian columns of the input are standardised
    inside and the scaling is folded into ``coefs_``, so that raw tables can be given.
    ``log_likelihood`` is exact for few units and annealed [5]_ for many bernoulli
    hidden units; rectified and gaussian ones over gaussian columns have none.

    Parameters
    ----------
    hidden_layer_sizes : int or array-like of int, default=(256,)
        Number of hidden units of each layer.

    visible : {"auto", "bernoulli", "gaussian", "softmax", "poisson"} or list, \
            default="auto"
        Kind of the visible units of the first layer. "auto" takes bernoulli units for
        columns with all values in [0, 1] (or beyond by a thousandth of their range, as
        scalers round), and gaussian units for the others. Columns there that are
        neither binary nor constant are mostly gaussian too, if half of them vary by
        less than a quarter of binary ones, as measurements behind a MinMaxScaler and
        tf-idf do. Where fewer do, these alone are, unless they are mostly 0 or 1 or
        under a tenth of the columns, as in images. A list of pairs ``(kind, columns)``
        chooses by columns, which are named as in ColumnTransformer (names, numbers,
        slices, masks or a selector); "auto" decides on columns in no pair. Each
        "softmax" pair is one group of one-hot columns that follow each other;
        "poisson" is for counts and needs bernoulli hidden units. In ``partial_fit`` the
        first chunk decides, but a column may turn gaussian later.

    hidden : {"bernoulli", "relu", "gaussian"} or array-like, default="bernoulli"
        Kind of the hidden units. "relu" is the noisy rectified unit
        ``max(0, x + N(0, logistic(x)))`` of [6]_, "gaussian" a linear code with unit
        variance.

    learning_rate : float, "auto" or array-like, default="auto"
        Step size of the updates, in (0, inf). "auto" is ``0.016 * (1 + momentum)``, a
        tenth of it for hidden units that are not bernoulli or with poisson columns.
        If there are units of other kinds than bernoulli and softmax, it is multiplied
        by ``(256 / n_hidden)**1.5`` above 256 hidden units; with ``persistent=True``,
        where chains run away sooner, by 0.03 and by ``(128 / n_hidden)**1.5`` above
        128. It is lower still with more than 512 columns of other kinds, with fewer
        than 10 rows in a mini-batch, and where many gaussian columns go together or
        rows are far out (user guide, "The automatic learning rate"). What it was is
        found in ``learning_rates_``. On binary data about 0.1 reaches a high likelihood
        sooner.

    learning_rate_decay : float or array-like, default=0.0
        The step size of update t = 0, 1, ... is
        ``learning_rate / (1 + learning_rate_decay * t)``. In [0, inf).

    momentum : float or array-like, default=0.9
        Momentum of the updates, in [0, 1).

    initial_momentum : float, None or array-like, default=None
        Momentum of the first ``momentum_switch_epoch`` epochs, in [0, 1). None:
        ``momentum`` from the start.

    momentum_switch_epoch : int or array-like, default=5
        Epochs with ``initial_momentum``.

    alpha : float or array-like, default=1e-4
        Weight decay: ``alpha * w`` is subtracted from the gradient of the weights (not
        of the biases), whatever the batch size. In [0, inf).

    l1_ratio : float or array-like, default=0.0
        Share of the decay that is L1, in [0, 1]: ``alpha * (l1_ratio * sign(w) +
        (1 - l1_ratio) * w)`` is subtracted.

    sparsity_target : float, None or array-like, default=None
        Mean activation that bernoulli hidden units are drawn to, in (0, 1), by the
        cross-entropy between it and the mean over the mini-batch.

    sparsity_weight : float or array-like, default=0.1
        Weight of that penalty, in [0, inf).

    learn_scale : bool or array-like, default=False
        Whether the scale of gaussian columns is learned: between epochs its log takes
        a step up the likelihood, but the scale stays above 5 % of the column's standard
        deviation. Otherwise it is the standard deviation. The steps of
        ``partial_fit``, and the most that they can be, are in proportion to the rows of
        a chunk, up to 1000. Rows in clusters far apart are better left at the standard
        deviation: narrow units see no way between the clusters, and the density
        suffers. Compare ``log_likelihood`` with and without.

    n_gibbs_steps : int or array-like, default=1
        Number of Gibbs steps k of CD-k, or per update of the persistent chains.

    persistent : bool or array-like, default=False
        Whether the negative phase comes from persistent chains (PCD, [3]_) instead of
        chains started at each mini-batch. They start at the first rows of the data
        and are advanced before each update.

    n_chains : int, None or array-like, default=None
        Number of persistent chains. None: ``batch_size``, at most one for each row.

    n_temperatures : int or array-like, default=1
        Above 1, persistent chains are run by parallel tempering [7]_: that many copies
        of them, with interactions scaled by 1, 1 - 1/n, ..., 1/n, which exchange
        states, so that the chains leave deep modes. Each update takes that many times
        longer.

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
        Rows of a mini-batch, all where there are fewer.

    max_iter : int or array-like, default=20
        Epochs **per layer**.

    n_iter_averaged : int or array-like, default=1
        The fitted parameters are the mean of those after each of the last so many
        epochs [2]_; 1 takes the last alone. Stochastic updates scatter around the
        optimum, and the mean is nearer to it: with 10 and a learning rate that is kept
        larger than otherwise, densities are better. Keeps so many copies of a layer
        while it is trained. In [1, inf); not with ``early_stopping``, which keeps the
        best epoch, nor in ``partial_fit`` and ``schedule="simultaneous"``.

    tol : float, default=None
        When the reconstruction error (with ``early_stopping``: the score) has not
        improved by ``tol`` for more than ``n_iter_no_change`` epochs, a layer is
        finished. None trains for ``max_iter`` epochs; with ``early_stopping`` it
        counts as 0.

    n_iter_no_change : int, default=10
        Epochs without improvement that end a layer.

    early_stopping : bool or "free_energy_gap", default=False
        Whether to hold out rows, follow a score and keep the parameters of the best
        epoch of each layer. True: the pseudo-log-likelihood of the held-out rows.
        "free_energy_gap": that of as many training rows plus the free-energy gap
        (training minus held-out rows), which falls as the RBM overfits. Both look at
        up to 500 rows and 50 columns.

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
        Folder in which every trained layer is kept, as in
        `~sklearn.pipeline.Pipeline`. A later fit of the same layers on the same data
        takes them from there, so that a search trains each prefix of a stack once per
        fold (user guide, "Searching with memory"). It needs a ``random_state``, does
        not serve warm starts and ``schedule="simultaneous"``, and warns only when a
        layer is trained.

    warm_start : bool, default=False
        Whether ``fit`` goes on from the present parameters, with the kinds of columns
        that it began with. Epochs are counted on (``momentum_switch_epoch``), and
        samples and shuffles are those of later epochs, also with an int as
        ``random_state``, but velocities and ``learning_rate_decay`` begin anew.

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

    learning_rates_ : list of float
        Step size of each layer: what "auto" stood for, in ``partial_fit`` for the last
        chunk.

    activations_ : list of str
        Activation of each layer: "logistic", or "relu" or "identity" above rectified
        and gaussian hidden units.

    visible_kinds_ : ndarray of str, shape (n_features,)
        Kind of unit chosen for each column.

    visible_offset_ : ndarray of shape (n_features,)
        Mean of the gaussian columns (0 elsewhere).

    visible_scale_ : ndarray of shape (n_features,)
        Standard deviation, or learned scale, of the gaussian columns (1 elsewhere).

    visible_reconstructions_ : list of str
        What ``visible_reconstruction`` came to in each layer: "sample" where
        reconstructions of any unit are drawn, else "mean".

    loss_curves_ : list of list of float
        Mean squared reconstruction error per visible unit, per layer and epoch. With
        persistent chains it is taken on an eighth of each mini-batch. With a
        ``supervised_weight`` of ``s`` in a network, ``1 - s`` of it and ``s`` of the
        loss of the temporary output layer.

    layer_report_ : list of dict
        Health of each layer on up to 1000 rows: "n_dead" and "n_saturated" units,
        "n_constant" (these and others that hardly change from row to row),
        "mean_activation", "weight_norm" (Frobenius), "reconstruction_error" (squared
        error per visible unit by a mean-field pass up and down) beside
        "baseline_error" (that of the column means), and "free_energy_gap" (training
        minus held-out rows with ``early_stopping``, else None; more negative means
        more overfitting).

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

    .. [5] R. Salakhutdinov and I. Murray, "On the quantitative analysis of deep belief
       networks", ICML 2008.
    .. [6] V. Nair and G. Hinton, "Rectified linear units improve restricted Boltzmann
       machines", ICML 2010.

    .. [7] G. Desjardins, A. Courville, Y. Bengio, P. Vincent and O. Delalleau,
       "Tempered Markov chain Monte Carlo for training of restricted Boltzmann
       machines", AISTATS 2010.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_greedy import StackedRBMTransformer
    >>> X, _ = load_digits(return_X_y=True)
    >>> stack = StackedRBMTransformer((64, 32), max_iter=5, random_state=0)
    >>> stack.fit_transform(X / 16).shape
    (1797, 32)
    """

    visible_intercepts_: list[Array]
    learning_rates_: list[float]
    visible_reconstructions_: list[str]
    _rate = "learning_rate"
    _units_parameter = "hidden"
    _kinds = KINDS
    _per_layer = (
        "learning_rate",
        "learning_rate_decay",
        "momentum",
        "initial_momentum",
        "momentum_switch_epoch",
        "alpha",
        "l1_ratio",
        "sparsity_target",
        "sparsity_weight",
        "learn_scale",
        "hidden",
        "n_gibbs_steps",
        "persistent",
        "n_chains",
        "n_temperatures",
        "visible_reconstruction",
        "batch_size",
        "max_iter",
        "n_iter_averaged",
    )
    _parameter_constraints: dict = {
        **GreedyStack._parameter_constraints,
        "visible": [StrOptions({"auto", *KINDS}), list],
        "hidden": [StrOptions(set(HIDDEN_KINDS)), "array-like"],
        "learning_rate": [
            Interval(Real, 0, None, closed="neither"),
            StrOptions({"auto"}),
            "array-like",
        ],
        "learning_rate_decay": [Interval(Real, 0, None, closed="left"), "array-like"],
        "initial_momentum": [
            Interval(Real, 0, 1, closed="left"),
            None,
            "array-like",
        ],
        "momentum_switch_epoch": [
            Interval(Integral, 1, None, closed="left"),
            "array-like",
        ],
        "l1_ratio": [Interval(Real, 0, 1, closed="both"), "array-like"],
        "learn_scale": ["boolean", "array-like"],
        "n_gibbs_steps": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "persistent": ["boolean", "array-like"],
        "n_chains": [Interval(Integral, 1, None, closed="left"), None, "array-like"],
        "n_temperatures": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "visible_reconstruction": [
            StrOptions({"auto", "sample", "mean"}),
            "array-like",
        ],
        "centered": ["boolean"],
        "max_iter": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "n_iter_averaged": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "early_stopping": ["boolean", StrOptions({"free_energy_gap"})],
    }

    def __init__(
        self,
        hidden_layer_sizes=(256,),
        *,
        visible="auto",
        hidden="bernoulli",
        learning_rate="auto",
        learning_rate_decay=0.0,
        momentum=0.9,
        initial_momentum=None,
        momentum_switch_epoch=5,
        alpha=1e-4,
        l1_ratio=0.0,
        sparsity_target=None,
        sparsity_weight=0.1,
        learn_scale=False,
        n_gibbs_steps=1,
        persistent=False,
        n_chains=None,
        n_temperatures=1,
        visible_reconstruction="auto",
        centered=False,
        batch_size=32,
        max_iter=20,
        n_iter_averaged=1,
        tol=None,
        n_iter_no_change=10,
        early_stopping=False,
        validation_fraction=0.1,
        shuffle=True,
        schedule="layerwise",
        memory=None,
        warm_start=False,
        random_state=None,
        verbose=False,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.visible = visible
        self.hidden = hidden
        self.learning_rate = learning_rate
        self.learning_rate_decay = learning_rate_decay
        self.momentum = momentum
        self.initial_momentum = initial_momentum
        self.momentum_switch_epoch = momentum_switch_epoch
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.sparsity_target = sparsity_target
        self.sparsity_weight = sparsity_weight
        self.learn_scale = learn_scale
        self.n_gibbs_steps = n_gibbs_steps
        self.persistent = persistent
        self.n_chains = n_chains
        self.n_temperatures = n_temperatures
        self.visible_reconstruction = visible_reconstruction
        self.centered = centered
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.n_iter_averaged = n_iter_averaged
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.shuffle = shuffle
        self.schedule = schedule
        self.memory = memory
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    def inverse_transform(self, X) -> Array:
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
            units = self._layer_units(layer)
            scale = units.scale.astype(H.dtype)
            z = H @ self.coefs_[layer].T * scale * scale
            z += self.visible_intercepts_[layer]
            H = unit_means(z, units.blocks())
        return H

    def free_energy(self, X) -> Array:
        """Free energy of each row under the first layer's RBM.

        Differences between rows are log-ratios of their densities; the level means
        nothing. Gaussian columns count in units of their scale (``visible_scale_``).

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        energy : ndarray of shape (n_samples,)
            ``F(v)``, so that ``p(v)`` is proportional to ``exp(-F(v))``.
        """
        return self._by_rows(RBM.free_energy, X)

    def score_samples(self, X) -> Array:
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
            Pseudo-log-likelihood, higher is better. NaN, with a warning, where the
            weights are so large that the density cannot be normalised (that of counts,
            or over rectified or gaussian hidden units).

        Raises
        ------
        ValueError
            If a poisson column reaches below 0 or above 1e8.

        Warns
        -----
        UserWarning
            If rows are far outside [0, 1] in columns with bernoulli units.
        """
        scores = self._by_rows(pseudo_log_likelihood, X) - self._log_scale()
        n_missing = int(np.isnan(scores).sum())
        if n_missing:
            warn_user(
                f"score_samples is NaN for {n_missing} of {len(scores)} rows: the "
                "weights of the first layer are too large for its density to be "
                "normalised. Train anew with a lower learning_rate (now "
                f"{self.learning_rates_[0]:g}).",
            )
        return scores

    @validate_params(_LIKELIHOOD_CONSTRAINTS, prefer_skip_nested_validation=True)
    def log_partition(
        self,
        X=None,
        *,
        method="auto",
        n_runs=100,
        n_temperatures=10_000,
        random_state=None,
    ) -> dict[str, Any]:
        """Log of the normaliser Z of the top RBM.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), default=None
            Rows from which the chains of reverse annealing runs begin. Without them
            there are forward runs only.

        method : {"auto", "exact", "ais"}, default="auto"
            "exact" sums over all states of the smaller side (up to 24 units); "ais" is
            annealed importance sampling (Salakhutdinov and Murray 2008); "auto" is
            exact where that is possible.

        n_runs : int, default=100
            Annealing runs.

        n_temperatures : int, default=10_000
            Intermediate distributions of a run.

        random_state : int, RandomState instance or None, default=None
            Seed of the runs.

        Returns
        -------
        partition : dict
            "log_z", a 99.7 % interval from "low" to "high" and "method"; for "ais" also
            what the runs say of themselves and, with ``X``, "log_z_reverse" from runs
            in the other direction, which tend to err upwards as the forward ones err
            downwards.

        Raises
        ------
        ValueError
            If the method does not fit the units of the top RBM.
        """
        check_is_fitted(self)
        rbm = self._rbm(len(self.coefs_) - 1)
        if method != "ais":
            try:
                log_z = exact_log_z(rbm)
                return {"log_z": log_z, "low": log_z, "high": log_z, "method": "exact"}
            except ValueError:
                if method == "exact":
                    raise
        seed = draw_seed(random_state)
        samples = None
        if X is not None:
            rng = np.random.default_rng(seed)
            X = self._validate(X, reset=False)
            start = self._top_visible(X[np.arange(n_runs) % X.shape[0]])
            samples = gibbs(rbm, start, _BURN_IN, rng)
        return ais_log_z(
            rbm,
            self._base_biases[-1].astype(np.float64),
            n_runs=n_runs,
            n_temperatures=n_temperatures,
            seed=seed,
            target_samples=samples,
        )

    @validate_params(
        {**_LIKELIHOOD_CONSTRAINTS, "n_samples": [_AT_LEAST_ONE]},
        prefer_skip_nested_validation=True,
    )
    def log_likelihood(
        self,
        X,
        *,
        method="auto",
        n_runs=100,
        n_temperatures=10_000,
        n_samples=100,
        random_state=None,
    ) -> Array:
        """Log-likelihood of each row; for two and more layers its variational bound.

        For gaussian columns it is a log-density in the units of the data.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        method, n_runs, n_temperatures : str, int and int
            How log Z is found, see ``log_partition``.

        n_samples : int, default=100
            With two and more layers: hidden states drawn per row for the bound.

        random_state : int, RandomState instance or None, default=None
            Seed of the runs and of the draws.

        Returns
        -------
        log_likelihood : ndarray of shape (n_samples,)
            ``log p(v)`` in nats, or a lower bound of it (user guide, eq. 19).
        """
        check_is_fitted(self)
        seed = draw_seed(random_state)
        log_z = self.log_partition(
            method=method,
            n_runs=n_runs,
            n_temperatures=n_temperatures,
            random_state=int(seed[0]),
        )["log_z"]
        if len(self.coefs_) == 1:
            return -self._by_rows(RBM.free_energy, X) - log_z - self._log_scale()
        rbms = self._rbms()
        rng = np.random.default_rng(seed)

        def bound(_, v):
            return dbn_bound(rbms, v, log_z, n_samples=n_samples, rng=rng)

        return self._by_rows(bound, X) - self._log_scale()

    @validate_params({"n_steps": [_STEPS]}, prefer_skip_nested_validation=True)
    def gibbs(self, X, *, n_steps=1, random_state=None) -> Array:
        """Steps of Gibbs sampling in the first layer's RBM, from given rows.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows from which the chains begin.

        n_steps : int, default=1
            Full steps: hidden units given visible ones, then visible units.

        random_state : int, RandomState instance or None, default=None
            Seed of the chains.

        Returns
        -------
        V : ndarray of shape (n_samples, n_features)
            States of the visible units after the steps, in the units of the data.
        """
        X = self._validate_rows(X)
        rng = np.random.default_rng(draw_seed(random_state))
        v = gibbs(self._rbm(0), self._scaled_rows(X), n_steps, rng)
        return self._unscaled(v).astype(X.dtype)

    @validate_params(
        {"n_samples": [_AT_LEAST_ONE], "n_gibbs_steps": [_STEPS]},
        prefer_skip_nested_validation=True,
    )
    def sample(
        self,
        n_samples=1,
        *,
        n_gibbs_steps=1000,
        init=None,
        clamp=None,
        random_state=None,
    ) -> Array:
        """Draw rows from the stack: Gibbs sampling in the top RBM, then down.

        Contrastive divergence makes features, not densities: its chains never leave the
        data, and long ones may end in rows like none of them. For rows like the data
        train with ``persistent=True``, and gaussian columns with ``learn_scale=True``.

        Parameters
        ----------
        n_samples : int, default=1
            Rows to draw; with ``init`` its number of rows counts.

        n_gibbs_steps : int, default=1000
            Gibbs steps of each chain.

        init : array-like of shape (n_samples, n_features), default=None
            Rows from which the chains begin. Without it they begin at states drawn
            from the visible biases. NaN in free columns stands for such a draw.

        clamp : str, int, array-like or slice, default=None
            Columns of ``init`` that keep their values, named as in ColumnTransformer
            (names, numbers, mask, slice) and rounded to the dtype of the result: the
            others are drawn given these. Exact for one layer as the number of steps
            grows, but for "relu" hidden units, whose draws are an approximation; in
            deeper stacks the clamped columns are put back before each step. A softmax
            group is clamped as a whole.

        random_state : int, RandomState instance or None, default=None
            Seed of the draws.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Sampled rows, in the units of the data.

        Raises
        ------
        ValueError
            If columns are clamped without ``init``, clamped values are missing, or
            those of a softmax group are no probabilities.
        """
        check_is_fitted(self)
        rng = np.random.default_rng(draw_seed(random_state))
        rbms = self._rbms()
        clamped = self._clamped_columns(init, clamp)
        if init is None:
            v = initial_rows(rbms, n_samples, rng)
        else:
            given = self._given_rows(init, clamped)
            v = self._scaled_rows(given)
            v = np.where(np.isnan(v), initial_rows(rbms, len(v), rng), v)
        drawn = sample_stack(
            rbms, v, n_gibbs_steps, rng, clamped, scalings=self._scalings()
        )
        drawn = self._unscaled(drawn)
        if clamped is not None:  # as they were before they were scaled
            drawn[:, clamped] = given[:, clamped]
        return drawn.astype(self.coefs_[0].dtype)

    def _draw_down(self, H: Array, rng) -> Array:
        """Rows in the units of the data, by samples down from states of the top hidden
        units.
        """
        rbms = self._rbms()
        drawn = self._unscaled(draw_down(rbms, H, self._scalings(), rng))
        return drawn.astype(self.coefs_[0].dtype)

    def _clamped_columns(self, init, clamp) -> Array | None:
        """Mask of the clamped columns, or None."""
        if clamp is None:
            return None
        if init is None:
            raise ValueError(
                "clamp needs init: the rows whose clamped columns keep their values."
            )
        names = getattr(self, "feature_names_in_", None)
        clamped = np.zeros(self.n_features_in_, dtype=bool)
        with told_of("clamp"):
            clamped[column_numbers(init, clamp, names, len(clamped))] = True
        return clamped

    def _given_rows(self, init, clamped) -> Array:
        """Dense rows of ``init``; ValueError for NaN in clamped columns."""
        with told_of("init"):
            rows = self._validate(init, reset=False, ensure_all_finite="allow-nan")
        rows = rows.toarray() if sparse.issparse(rows) else np.asarray(rows)
        n_missing = 0 if clamped is None else int(np.isnan(rows[:, clamped]).sum())
        if n_missing:
            raise ValueError(
                f"init has {n_missing} missing value{'s' * (n_missing > 1)} in clamped "
                "columns. Give values there, or do not clamp these columns."
            )
        return rows

    def _scaled_rows(self, X, layer: int = 0) -> Array:
        """Dense float64 rows of a layer's input in its scaled space."""
        part = X.toarray() if sparse.issparse(X) else np.asarray(X)
        offset, scale = self._scalings()[layer]
        return (part - offset) / scale

    def _unscaled(self, v: Array) -> Array:
        """Rows in the units of the data."""
        offset, scale = self._scalings()[0]
        return v * scale + offset

    def _scalings(self) -> list[tuple[Array, Array]]:
        """Offset and scale of each layer's input."""
        return [(units["offset"], units["scale"]) for units in self._units]

    def _log_scale(self) -> float:
        """What the density loses by going back to the units of the data."""
        return float(np.log(self.visible_scale_).sum())

    def _rbms(self) -> list[RBM]:
        """All fitted layers, as ``_rbm``."""
        return [self._rbm(layer) for layer in range(len(self.coefs_))]

    def _rbm(self, layer: int) -> RBM:
        """A fitted layer in the scaled space, in float64."""
        units = self._layer_units(layer)
        w, c, b = (p.astype(np.float64) for p in self._scaled_parameters(layer, units))
        hidden = KIND_OF_ACTIVATION[self.activations_[layer]]
        return RBM(w, c, b, units.blocks(), hidden)

    def _top_visible(self, X) -> Array:
        """Rows as the top RBM saw them in training, in its scaled space."""
        below = self.coefs_[:-1], self.intercepts_[:-1], self.activations_[:-1]
        return self._scaled_rows(forward(X, *below), layer=-1)

    def _by_rows(self, measure, X) -> Array:
        """A measure of the first RBM on rows of the scaled data, in blocks."""
        X = self._rows_to_judge(X)
        rbm = self._rbm(0)
        out = np.empty(X.shape[0], dtype=X.dtype)
        for rows in row_blocks(X.shape, _SCORE_ROWS):
            out[rows] = measure(rbm, self._scaled_rows(X[rows]))
        return out

    def _check_settings(self, settings) -> None:
        if settings.sparsity_target is not None and settings.hidden != "bernoulli":
            raise ValueError(
                "sparsity_target is a mean probability and needs hidden='bernoulli'. "
                f"Got hidden={settings.hidden!r}."
            )
        for name, unused in (("n_chains", None), ("n_temperatures", 1)):
            value = getattr(settings, name)
            if value != unused and not settings.persistent:
                raise ValueError(
                    f"{name}={value!r} is about persistent chains, but there are none: "
                    f"set persistent=True, or leave {name}={unused!r}."
                )
        if settings.n_iter_averaged > 1:
            for name, alone in (("early_stopping", False), ("schedule", "layerwise")):
                value = getattr(self, name)
                if value != alone:
                    raise ValueError(
                        f"n_iter_averaged={settings.n_iter_averaged} needs "
                        f"{name}={alone!r}. Got {name}={value!r}."
                    )

    def _activation(self, layer: int) -> str:
        return HIDDEN_ACTIVATIONS[self._settings(layer).hidden]

    def _build(self, task: LayerTask) -> ContrastiveDivergence:
        if task.settings.hidden != "bernoulli" and POISSON in task.units.kinds:
            raise ValueError(
                "poisson columns need hidden='bernoulli': under "
                f"hidden={task.settings.hidden!r} the density of large counts cannot "
                "be normalised."
            )
        model = ContrastiveDivergence(task, self.centered, self._sampled_kinds(task))
        if task.settings.learning_rate == "auto":
            in_order = task.chunk or not self.shuffle
            task.settings.learning_rate = automatic_rate(task, model, in_order)
        return model

    def _head_options(self, task: LayerTask, model) -> dict:
        def pace(step: int) -> tuple[float, float]:
            rate, momentum = model.pace(step)
            return (1 - task.own_share) * rate, momentum

        optimizer = Optimizer("sgd", *pace(0), nesterovs_momentum=False)
        widths = model.n_columns, task.width
        encoder = Network.dense(widths, [self._activation(task.layer)])
        return {"layers": encoder.layers, "optimizer": optimizer, "pace": pace}

    def _sampled_kinds(self, task: LayerTask) -> list[int]:
        """Kinds of units whose reconstructions are sampled."""
        rule = task.settings.visible_reconstruction
        # "auto" was decided when training began; a small chunk would say nothing.
        if rule == "auto" and task.state is not None:
            return task.state["sampled"]
        if rule == "auto" and task.chunk and task.theta is not None:
            sampled = self.visible_reconstructions_[task.layer] == "sample"
            return list(_BINARY) if sampled else []
        if rule == "sample":
            return list(range(len(KINDS)))
        if rule == "mean" or greyness(task.statistics, task.units) >= GREY_LIMIT:
            return []
        return list(_BINARY)

    def _monitor(self, task: LayerTask, model: ContrastiveDivergence, held: Array):
        columns = task.rng.permutation(model.n_columns)[:_MONITOR_COLUMNS]
        # In float64: large weights leave nothing of a probability near 1 in float32.
        held_rows = model.rows.spread(held, _MONITOR_ROWS).astype(np.float64)
        rows = held_rows
        if self.early_stopping == "free_energy_gap":
            rows = model.rows.spread(task.judged, _MONITOR_ROWS).astype(np.float64)

        first = model.units.scale

        def score() -> float:
            rbm, ratio = model.precise_rbm(), first / model.units.scale
            now = ratio * rows  # in the present scale, where that is learned
            likelihood = float(np.mean(pseudo_log_likelihood(rbm, now, columns)))
            likelihood += float(np.log(ratio).sum())
            if rows is held_rows:
                return likelihood
            return likelihood + free_energy_gap(rbm, now, ratio * held_rows)

        return score

    def _health(self, task: LayerTask, model: ContrastiveDivergence) -> dict:
        """Reconstruction against the column means, and the free-energy gap."""
        rbm, rows = model.rbm(), model.rows.spread(task.judged)
        means = rbm.visible_means(rbm.hidden_means(rows))
        gap = None
        if task.held is not None:
            gap = free_energy_gap(rbm, rows, model.rows.spread(task.held))
        return {
            "reconstruction_error": float(np.mean((rows - means) ** 2)),
            "baseline_error": float(np.mean(rows.var(axis=0))),
            "free_energy_gap": gap,
        }

    def _take_units(self, task: LayerTask, model: ContrastiveDivergence) -> None:
        model.take_scale_of(task)

    def _present_units(self, task: LayerTask, model: ContrastiveDivergence) -> Units:
        return model.units

    def _fold(self, task: LayerTask, model: ContrastiveDivergence) -> dict:
        w, c, b = (part.astype(np.float64) for part in model.views())
        units = model.units
        coef, intercept = fold_input(w, c, units.offset, units.scale)
        return {
            "coefs_": coef,
            "intercepts_": intercept,
            "visible_intercepts_": b * units.scale + units.offset,
            "activations_": self._activation(task.layer),
            "learning_rates_": task.settings.learning_rate,
            "_base_biases": mean_biases(task.statistics, units),
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
        return np.concatenate([part.ravel() for part in parts], dtype=np.float32)
