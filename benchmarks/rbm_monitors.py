"""Which early-stopping monitor finds the best epoch of an RBM?

    python benchmarks/rbm_monitors.py [--data DIR] [--write]

RBMs with 20 hidden units are trained for 300 epochs on up to 1,500 rows of small 0/1
sets, so that log Z is exact and they overfit. After every fifth epoch both monitors of
``early_stopping`` are taken on 500 held-out rows. The table gives the test
log-likelihood at the epoch that each would keep, beside the best there was and the
last. DIR holds ``bin_<set>.npz`` with the arrays train, valid and test.
"""

import numpy as np
from common import RESULTS, binary_set, options_of, stamp, versions

from sklearn_greedy import StackedRBMTransformer

SETS = ("adult", "dna", "mushrooms", "nips")
SEEDS = range(3)
N_CHECKS, EPOCHS_EACH = 60, 5
N_TRAIN, N_HELD, N_TEST = 1500, 500, 2000
METHODS = {"CD-1": False, "PCD-1": True}


def checkpoints(parts, persistent, seed):
    """Rows (test log-likelihood, held-out score, training score plus gap), one per
    check.
    """
    stack = StackedRBMTransformer(
        (20,),
        visible="bernoulli",
        learning_rate=0.05,
        momentum=0.5,
        alpha=0.0,
        batch_size=20,
        persistent=persistent,
        max_iter=EPOCHS_EACH,
        warm_start=True,
        random_state=np.random.RandomState(seed),
    )
    train, held, test = parts
    rows = []
    for _ in range(N_CHECKS):
        stack.fit(train)
        gap = float(stack.free_energy(train).mean() - stack.free_energy(held).mean())
        likelihood = float(stack.log_likelihood(test, method="exact").mean())
        rows.append((likelihood, stack.score(held), stack.score(train) + gap))
    return np.array(rows)


def load(folder, name):
    sizes = {"train": N_TRAIN, "valid": N_HELD, "test": N_TEST}
    data = binary_set(folder, name)
    return [data[part][:n].astype(float) for part, n in sizes.items()]


def line(folder, name, method):
    """Markdown line: means over seeds of the test log-likelihood."""
    kept = []
    for seed in SEEDS:
        likelihood, held, gap = checkpoints(load(folder, name), METHODS[method], seed).T
        kept.append(
            (
                likelihood.max(),
                likelihood[held.argmax()],
                likelihood[gap.argmax()],
                likelihood[-1],
            )
        )
    cells = [f"{mean:.2f}" for mean in np.mean(kept, axis=0)]
    return f"| {name}, {method} | " + " | ".join(cells) + " |"


def main():
    options = options_of(__doc__)
    lines = [
        "Test log-likelihood in nats, mean of seeds 0 to 2, at the epoch that each",
        "monitor keeps, from `python benchmarks/rbm_monitors.py --write`;",
        f"{stamp(versions())}; trained in float32.",
        "",
        '| set | best epoch | `early_stopping=True` | `"free_energy_gap"` | last |',
        "|---|---|---|---|---|",
    ]
    for name in SETS:
        for method in METHODS:
            lines.append(line(options.data, name, method))
            print(lines[-1], flush=True)
    if options.write:
        (RESULTS / "rbm_monitors.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
