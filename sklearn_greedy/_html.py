"""What the diagram of an estimator shows in a notebook."""

from typing import Any

import numpy as np

from sklearn_greedy._compat import VisualBlock


def stack_block(stack) -> Any:
    """Diagram of a stack: its name above the widths of its layers."""
    return VisualBlock(
        "single",
        stack,
        names=type(stack).__name__,
        name_details=str(stack),
        name_caption=widths_in_a_row(stack),
    )


def network_block(network) -> Any:
    """Diagram of a network: what its hidden layers begin with, then all layers."""
    start = getattr(network, "pretrainer_", None) or network.pretrainer
    steps = [] if start is None else [_start_step(start)]
    steps.append(_network_step(network))
    estimators, names, details = zip(*steps, strict=True)
    return VisualBlock("serial", estimators, names=names, name_details=details)


def _start_step(start):
    """(what is drawn, its name, its text) of the pretrainer."""
    if hasattr(start, "get_params"):
        return start, f"pretrainer: {type(start).__name__}", str(start)
    text = f"pretrainer: {start}" if isinstance(start, str) else "pretrainer: arrays"
    return _box(text, "", text), text, text


def _network_step(network):
    """(what is drawn, its name, its text) of the layers, the output included."""
    text = "\n".join(_layer_lines(network)) if hasattr(network, "coefs_") else ""
    return _box("network", widths_in_a_row(network), text), "network", text


def _box(name: str, caption: str, text: str) -> Any:
    """A box that is no estimator; text : what a click unfolds."""
    return VisualBlock(
        "single", None, names=name, name_details=text, name_caption=caption
    )


def widths_in_a_row(estimator) -> str:
    """Widths of the layers, of the input too once it is known: "64 → 256 → 128"."""
    if hasattr(estimator, "coefs_"):
        widths = [estimator.n_features_in_, *map(len, estimator.intercepts_)]
    else:
        sizes = estimator.hidden_layer_sizes
        widths = [] if sizes is None else ["inputs", *np.atleast_1d(sizes)]
    return " → ".join(map(str, widths))


def _layer_lines(network) -> list[str]:
    """A line per layer: number of units and activation."""
    activations = [*network.activations_, network.out_activation_]
    return [
        f"{len(intercept)} units, {activation}"
        for intercept, activation in zip(network.intercepts_, activations, strict=True)
    ]
