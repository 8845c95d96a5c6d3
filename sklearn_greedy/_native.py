"""A network of scikit-learn's own from one of ours."""

import copy

import numpy as np
from sklearn.base import is_regressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import LabelBinarizer

# What scikit-learn's networks know, and the fitted attributes they share with ours.
_ACTIVATIONS = {"identity", "logistic", "tanh", "relu"}
_ATTRIBUTES = (
    "coefs_",
    "intercepts_",
    "classes_",
    "n_layers_",
    "n_outputs_",
    "out_activation_",
    "n_features_in_",
    "feature_names_in_",
    "n_iter_",
    "t_",
    "loss_",
    "loss_curve_",
    "best_loss_",
    "validation_scores_",
    "best_validation_score_",
)


def native_network(network) -> MLPClassifier | MLPRegressor:
    """The fitted network as one of scikit-learn's with the same predictions, or
    ValueError where it has none.
    """
    native = MLPRegressor if is_regressor(network) else MLPClassifier
    known = native().get_params()
    activation = _only_activation(network)
    if network.out_activation_ == "exp" and "loss" not in known:
        raise ValueError(
            "loss='poisson' is new in the networks of scikit-learn 1.7. Update "
            "scikit-learn, or use loss='squared_error'."
        )
    own = {k: v for k, v in network.get_params(deep=False).items() if k in known}
    sizes = tuple(coef.shape[1] for coef in network.coefs_[:-1])
    mlp = native(**{**own, "hidden_layer_sizes": sizes, "activation": activation})
    for name in _ATTRIBUTES:
        if hasattr(network, name):
            setattr(mlp, name, copy.deepcopy(getattr(network, name)))
    if native is MLPClassifier:
        multilabel = network._multilabel
        labels = np.eye(len(mlp.classes_)) if multilabel else mlp.classes_
        mlp._label_binarizer = LabelBinarizer().fit(labels)
    # What looks for a stalled training, which is new.
    mlp._no_improvement_count = 0
    if network.early_stopping:
        mlp._best_coefs = [coef.copy() for coef in mlp.coefs_]
        mlp._best_intercepts = [b.copy() for b in mlp.intercepts_]
    else:
        mlp.best_loss_ = np.inf  # ours is of scaled targets, and with other noise
    return mlp


def _only_activation(network) -> str:
    """The activation of all hidden layers, one that scikit-learn has."""
    used = set(network.activations_) or {"identity"}
    if len(used) > 1 or not used <= _ACTIVATIONS:
        raise ValueError(
            f"The hidden activations are {network.activations_}; scikit-learn's "
            f"networks have one for all layers, out of {sorted(_ACTIVATIONS)}."
        )
    return used.pop()
