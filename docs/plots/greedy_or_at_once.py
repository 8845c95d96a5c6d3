"""Gradients at the start and errors by depth, from the records of the study."""

import json
import pathlib

import matplotlib.pyplot as plt
import numpy as np

RECORDS = pathlib.Path.cwd().parents[1] / "benchmarks/results/greedy_or_at_once.json"
STYLES = {"random": "--", "layer by layer": "-"}


def curves(claim, word, places):
    """(names of a line, mean and deviation at each place), for each line of a claim."""
    figures = json.loads(RECORDS.read_text())[claim]["figures"]
    groups = {}
    for found in figures:
        values = [found[place] for place in places]
        groups.setdefault((found[word], found["start"]), []).append(values)
    for names, values in groups.items():
        yield names, np.mean(values, axis=0), np.std(values, axis=0, ddof=1)


figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")

places = [*(f"layer {n}" for n in range(1, 7)), "output"]
colours = {"logistic": "C0", "relu": "C1"}
for (units, start), mean, spread in curves("gradients", "units", places):
    left.errorbar(
        [*"123456", "output"],
        mean,
        spread,
        color=colours[units],
        linestyle=STYLES[start],
        label=f"{units}, {start}",
    )
left.set(
    xlabel="layer", ylabel="norm of the gradient, power of ten", title="At the start"
)
left.legend(fontsize=8)

colours = {"logistic, SGD": "C0", "logistic, Adam": "C2", "relu, Adam": "C1"}
for (network, start), mean, _ in curves(
    "depth", "network", [f"{n} layers" for n in (2, 4, 6)]
):
    right.plot(
        [2, 4, 6],
        mean,
        marker="o",
        color=colours[network],
        linestyle=STYLES[start],
        label=f"{network}, {start}",
    )
right.set(
    xlabel="hidden layers", yscale="log", title="After training", xticks=[2, 4, 6]
)
right.set_ylabel("test error, %")
right.set_yticks([3, 5, 10, 30, 90], ["3", "5", "10", "30", "90"])
right.minorticks_off()
right.legend(fontsize=8)
