"""How near learning_rate="auto" of RBMs comes to divergence over gaussian columns.

    python benchmarks/automatic_rate.py [--data DIR] [--write]

One layer, CD-1, ten epochs of up to 2000 rows, standardised inside. Cells are the
largest of 1, 2, 4 and 8 times the automatic rate that does not diverge, and in brackets
what that rate is multiplied by for the columns and the rows of a mini-batch: where one
over it exceeds the multiple, the rate that goes by the width alone is above the largest
that was seen to train. Persistent chains run off without an end of the training: there
cells are the reconstruction error over that of the column means, at once and twice the
automatic rate. DIR holds the images of MNIST, `freyfaces.npz`, `usps_zip.npz` and
`text_pcmac.npz`.
"""

import warnings

import numpy as np
from common import mnist_images, options_of, publish, stamp, versions
from nonzeros import sparse_rows
from sklearn.datasets import load_digits

from sklearn_greedy import StackedRBMTransformer

MOST_ROWS, MULTIPLES = 2000, (1, 2, 4, 8)
HIDDEN, WIDTHS, BATCHES = ("bernoulli", "relu", "gaussian"), (64, 256, 512), (1, 4, 32)


def wide_data(folder):
    """(name, rows) with some hundred to some thousand columns."""
    for name, entry in (("usps_zip", "X_train"), ("freyfaces", "X")):
        with np.load(folder / f"{name}.npz", allow_pickle=False) as z:
            yield name, z[entry][:MOST_ROWS]
    yield "mnist", mnist_images(folder)[0][:MOST_ROWS]
    yield "text_pcmac", sparse_rows(folder, "pcmac")
    rng = np.random.default_rng(0)
    yield "noise", rng.normal(size=(MOST_ROWS, 3000))
    line = rng.normal(size=(MOST_ROWS, 1)) @ rng.normal(size=(1, 1000))
    yield "one direction", line + 0.3 * rng.normal(size=line.shape)


def rate_of_width(hidden, width):
    """The automatic rate of small tables in mini-batches of at least ten rows."""
    rate = 0.016 if hidden == "bernoulli" else 0.0016
    return rate * 1.9 * min(1.0, (256 / width) ** 1.5)


def cell(X, hidden, width, batch_size):
    """What the automatic rate bears, as text."""
    stack = StackedRBMTransformer(
        (width,),
        visible="gaussian",
        hidden=hidden,
        batch_size=batch_size,
        max_iter=1,
        random_state=0,
    )
    try:
        automatic = stack.fit(X).learning_rates_[0]
    except ValueError:
        return "diverges"
    share, most = automatic / rate_of_width(hidden, width), 0
    for multiple in MULTIPLES:
        stack.set_params(learning_rate=multiple * automatic, max_iter=10)
        try:
            stack.fit(X)
        except ValueError:
            break
        most = multiple
    return f"{most}x ({share:.2g})" if most else f"diverges ({share:.2g})"


def chain_cell(X, width, multiple):
    """Reconstruction error over that of the means, with persistent chains."""
    stack = StackedRBMTransformer(
        (width,), visible="gaussian", persistent=True, max_iter=1, random_state=0
    )
    try:
        automatic = stack.fit(X).learning_rates_[0]
        stack.set_params(learning_rate=multiple * automatic, max_iter=10)
        report = stack.fit(X).layer_report_[0]
    except ValueError:
        return "diverges"
    return f"{report['reconstruction_error'] / report['baseline_error']:.2g}"


def main():
    options = options_of(__doc__)
    warnings.simplefilter("ignore")
    lines = [
        f"{stamp(versions())}; float32, seed 0; from "
        "`python benchmarks/automatic_rate.py --write`.",
        "",
        "| data, mini-batches of 32 | columns | hidden units | "
        + " | ".join(f"{width}" for width in WIDTHS)
        + " |",
        "|---" * (3 + len(WIDTHS)) + "|",
    ]
    for name, X in wide_data(options.data):
        for hidden in HIDDEN:
            cells = [cell(X, hidden, width, 32) for width in WIDTHS]
            start = f"| {name} | {X.shape[1]} | {hidden} | "
            lines.append(start + " | ".join(cells) + " |")
    lines += [
        "",
        "| data, persistent chains | columns | "
        + " | ".join(f"{width} units, {k}x" for width in WIDTHS for k in (1, 2))
        + " |",
        "|---" * (2 + 2 * len(WIDTHS)) + "|",
    ]
    for name, X in wide_data(options.data):
        cells = [chain_cell(X, width, k) for width in WIDTHS for k in (1, 2)]
        lines.append(f"| {name} | {X.shape[1]} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "| digits, 64 columns, 64 hidden units | "
        + " | ".join(f"mini-batches of {size}" for size in BATCHES)
        + " |",
        "|---" * (1 + len(BATCHES)) + "|",
    ]
    digits = load_digits().data
    for hidden in HIDDEN:
        cells = [cell(digits, hidden, 64, size) for size in BATCHES]
        lines.append(f"| {hidden} | " + " | ".join(cells) + " |")
    publish("automatic_rate", lines, options.write)


if __name__ == "__main__":
    main()
