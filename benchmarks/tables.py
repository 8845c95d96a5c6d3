"""Does pre-training help on tables? Thirteen of them, with all labels and with few.

    python benchmarks/tables.py [--data DIR] [--run NAME ...] [--write]

A NAME is "<table>/all" or "<table>/few", or the beginning of several. Of each table at
most 20,000 rows train, a fifth of the others (at most 5,000) choose, and another fifth
(at most 10,000) test. Numbers become normal quantiles, standardised as a pretrainer
would (so that both sides see the same), categories 0/1 columns, one softmax group each
in the pre-training, and targets of regressions have unit variance. "few" leaves the
labels of 500 training rows and of 125 rows to choose by; the other rows stay as rows
without a label.

The network has two layers of 256 relu units and an output layer that begins random on
both sides (keep_head=False), trained by Adam for at most 100 epochs with early
stopping. A random search draws settings of the fine-tuning, the same for both sides,
which the pre-trained one tries with each scheme of pre-training: some train each layer
for 20 epochs, "whole" three, and then both for 10,000 to 50,000 mini-batches of the
unrolled network, which rebuilds rows with noise or tells which cells it changed, learns
their targets, or both. Where labels are few there are more settings: the number of
epochs, and how much slower lower layers move (layer_decay), from which either side
gains on some tables; and in the last scheme a teacher gives rows without a label their
targets, the mean of the four best networks of the other scheme. What such a mean says
of the test rows stands beside, that of four networks from scratch too.

All of it is trained on five splits, since the rows of one cannot tell candidates apart
that differ by 2 %. What a side is on a split is chosen by rows of all five, but the
test rows of this split: those to choose by and, unless labels are few, the test rows of
the other four. The test errors of the five are the table: misclassified rows in
percent, or root mean squared error times 100. Gradient boosting with early stopping
stands beside it. The schemes and settings of ALL and FEW are what was left of earlier
runs and of trials, which looked at test errors, those of these splits among them.
"""

import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field

import joblib
import numpy as np
from common import one_hot, run_study, softmax_groups, table_rows, versions
from scipy.stats import sem
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import ParameterSampler
from sklearn.preprocessing import QuantileTransformer, StandardScaler

from sklearn_greedy import (
    GreedyPretrainedMLPClassifier,
    GreedyPretrainedMLPRegressor,
    StackedAutoencoderTransformer,
)

STUDY = "tables"

REGRESSIONS = ("cal_housing", "house_16H", "abalone", "elevators")
TABLES = (
    *REGRESSIONS,
    "adult",
    "bank_full",
    "churn",
    "credit_g",
    "higgs7k",
    "letter",
    "satimage",
    "magic",
    "elec2",
)
N_TRAIN, N_CHOOSE, N_TEST = 20_000, 5_000, 10_000
N_FEW, N_FEW_CHOOSE = 500, 125
SEEDS = range(5)
# Deviation of normal quantiles below which a column is as good as constant: one other
# row would be many deviations away.
LEAST_DEVIATION = 0.3
# Columns that are called categories, but count or measure something.
ORDERED = ("letter", "satimage")
# Columns with more categories are names, not categories.
MOST_CATEGORIES = 60

SIDES = "scratch", "pretrained", "boosting"
# Means of the best networks, which no side may be.
AVERAGED = "mean_scratch", "mean_pretrained"

WIDTHS = (256, 256)
FINE_TUNING = {
    "hidden_layer_sizes": WIDTHS,
    "activation": "relu",
    "n_iter_no_change": 12,
    "max_iter": 100,
    "tol": 0.0,
    "keep_head": False,
}


BATCH = 128
# Splits and schemes are tried side by side, each with one thread.
N_JOBS = 2
# Networks whose mean is a teacher.
N_TEACHERS = 4


def stack(corruption_level, **params):
    """Layers with free decoders, for rows of whose cells so many are swapped."""
    return StackedAutoencoderTransformer(
        WIDTHS,
        corruption="swap",
        corruption_level=corruption_level,
        tied_weights=False,
        batch_size=BATCH,
        random_state=0,
        **params,
    )


def layerwise(n_epochs, corruption_level, share):
    """Scheme of layers that are trained alone; share : as in ``whole``."""

    def scheme(n_rows):
        pretrainer = stack(corruption_level, max_iter=n_epochs)
        return {"pretrainer": pretrainer, "supervised_weight": share}

    return scheme


def whole(n_steps, corruption_level, share=1.0, **params):
    """Scheme of an unrolled network that learns from rows with noise in about so many
    mini-batches; share : weight of the targets, the reconstruction has the rest.
    """

    def scheme(n_rows):
        pretrainer = stack(
            corruption_level,
            max_iter=3,
            unrolled_max_iter=max(1, n_steps * BATCH // n_rows),
            **params,
        )
        return {"pretrainer": pretrainer, "supervised_weight": share}

    return scheme


@dataclass(frozen=True)
class Search:
    """Parameters of the network: those that stay, values from which n_settings are
    drawn, and schemes, by which its hidden layers may be pre-trained: functions of the
    number of rows. Those in ``taught`` have a teacher, made of the best of the others.
    """

    fixed: dict
    settings: dict
    n_settings: int
    schemes: dict
    taught: dict = field(default_factory=dict)


ALL = Search(
    fixed={**FINE_TUNING, "batch_size": BATCH, "early_stopping": True},
    settings={
        "dropout": [0.0, 0.1, 0.3],
        "learning_rate_init": [3e-4, 1e-3],
    },
    n_settings=4,
    schemes={
        "free, targets": layerwise(20, 0.3, share=0.7),
        "whole, noise .3": whole(50_000, 0.3),
        "whole, rows and targets": whole(25_000, 0.5, share=0.7),
    },
)
# By 125 rows an epoch to stop at is a matter of chance, so that the number of epochs is
# a setting like the others where labels are few.
FEW = Search(
    fixed={**FINE_TUNING, "batch_size": 32, "early_stopping": False},
    settings={
        "dropout": [0.1, 0.3, 0.5],
        "layer_decay": [0.3, 1.0],
        "learning_rate_init": [1e-3, 3e-3],
        "max_iter": [25, 80],
    },
    n_settings=16,
    schemes={
        "whole, changes": whole(25_000, 0.3, share=0.0, objective="detection"),
    },
    taught={
        "whole, changes and teacher": whole(
            10_000,
            0.3,
            share=0.5,
            objective="detection",
            learning_rate="cosine",
            learning_rate_init=3e-3,
        ),
    },
)


@dataclass(frozen=True)
class Run:
    """A row of the table."""

    data: str
    few: bool

    @property
    def regression(self) -> bool:
        return self.data in REGRESSIONS

    @property
    def search(self) -> Search:
        return FEW if self.few else ALL


RUNS = {
    f"{data}/{'few' if few else 'all'}": Run(data, few)
    for few in (False, True)
    for data in TABLES
}


def load(folder, data):
    """(numbers, codes of categories or None, targets)"""
    kind = "reg" if data in REGRESSIONS else "tab"
    with np.load(folder / f"{kind}_{data}.npz", allow_pickle=False) as file:
        parts = dict(file)
    if "X_train" in parts:
        X = np.concatenate([parts["X_train"], parts["X_test"]])
        return X.astype(float), None, np.append(parts["y_train"], parts["y_test"])
    if "X_num" in parts:
        kept = parts["num_names"] != "duration"  # of a call: known when it is over
        return parts["X_num"][:, kept].astype(float), parts["X_cat"], parts["y"]
    X, y = parts["X"].astype(float), parts["y"]
    types = parts.get("feature_types", np.full(X.shape[1], "continuous"))
    counts = np.array([len(np.unique(column)) for column in X.T])
    named = np.char.startswith(types, "c") & (types != "continuous")
    categories = named & (counts <= MOST_CATEGORIES) & (data not in ORDERED)
    if not categories.any():
        return X, None, y
    return X[:, ~categories], X[:, categories], y


@dataclass
class Split:
    """Rows of one split: with a label, without, to stop early by and to test on;
    numbers in the table of the test rows and of those that candidates may be chosen by;
    and the kinds of the columns for a pretrainer.
    """

    X: np.ndarray
    y: np.ndarray
    unlabeled: np.ndarray
    X_val: np.ndarray
    y_val: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    choose: np.ndarray
    test: np.ndarray
    visible: list | str

    @property
    def n_rows(self) -> int:
        """Rows to pre-train by."""
        return len(self.X) + len(self.unlabeled)


def split(run, table, seed):
    """Rows of a table by seed, with columns scaled by what training rows say."""
    numbers, codes, y = table
    order = np.random.default_rng(seed).permutation(len(y))
    n_test = min(len(y) // 5, N_TEST)
    n_choose = min((len(y) - n_test) // 5, N_CHOOSE)
    test, choose, train = np.split(order, [n_test, n_test + n_choose])
    train = train[:N_TRAIN]
    parts = []
    if numbers.shape[1]:
        scaler = QuantileTransformer(
            n_quantiles=min(1000, len(train)),
            output_distribution="normal",
            random_state=0,
        ).fit(numbers[train])
        quantiles = scaler.transform(numbers)
        varied = quantiles[:, quantiles[train].std(axis=0) > LEAST_DEVIATION]
        parts.append(StandardScaler().fit(varied[train]).transform(varied))
    visible = "auto"
    if codes is not None:
        columns, widths = one_hot(codes, train)
        visible = softmax_groups(sum(part.shape[1] for part in parts), widths)
        parts.append(columns)
    X = np.hstack(parts).astype(np.float32)
    if run.regression:
        y = (y - y[train].mean()) / y[train].std()
    known, by = train, choose
    if run.few:
        known, by = train[:N_FEW], choose[:N_FEW_CHOOSE]
    others = np.setdiff1d(np.append(train, choose), known)
    return Split(
        X=X[known],
        y=y[known],
        unlabeled=X[others],
        X_val=X[by],
        y_val=y[by],
        X_test=X[test],
        y_test=y[test],
        choose=by if run.few else np.append(by, test),
        test=test,
        visible=visible,
    )


def losses(run, model, X, y):
    """Loss of each row: its squared error, or whether it is misclassified."""
    predicted = model.predict(X)
    return (predicted - y) ** 2 if run.regression else (predicted != y).astype(float)


def error(run, losses):
    """What the table says of these losses."""
    mean = float(np.mean(losses))
    return 100 * (np.sqrt(mean) if run.regression else mean)


class Mean(BaseEstimator):
    """What fitted networks say on average, as one estimator."""

    def __init__(self, networks):
        self.networks = networks

    def fit(self, X, y):
        return self

    def __sklearn_is_fitted__(self):
        return True

    @property
    def classes_(self):
        return self.networks[0].classes_

    def predict(self, X):
        if hasattr(self, "classes_"):
            return self.classes_[self.predict_proba(X).argmax(axis=1)]
        return np.mean([network.predict(X) for network in self.networks], axis=0)

    def predict_proba(self, X):
        return np.mean([network.predict_proba(X) for network in self.networks], axis=0)


def fitted(run, rows, seed, params):
    """A network with these parameters."""
    cls = (
        GreedyPretrainedMLPRegressor
        if run.regression
        else GreedyPretrainedMLPClassifier
    )
    pretrainer, unlabeled = params.get("pretrainer"), None
    if pretrainer is not None:
        pretrainer = clone(pretrainer).set_params(visible=rows.visible)
        unlabeled = rows.unlabeled
    own = {"pretrainer": pretrainer, "random_state": seed}
    return cls(**{**run.search.fixed, **params, **own}).fit(
        rows.X,
        rows.y,
        X_unlabeled=unlabeled,
        X_val=rows.X_val,
        y_val=rows.y_val,
    )


@dataclass
class Found:
    """What a candidate does on a split: losses of rows to choose by, and test error;
    and the network.
    """

    choose: np.ndarray
    test: float
    network: object


def tried_on(run, rows, seed, scheme, teacher):
    """What each setting does on a split with a scheme, that trains its layers once, for
    which there may be a teacher.
    """
    settings = ParameterSampler(
        run.search.settings, run.search.n_settings, random_state=0
    )
    warnings.simplefilter("ignore")  # a process of its own has its own filters
    found = []
    with tempfile.TemporaryDirectory() as memory:
        for setting in settings:
            params = {**scheme(rows.n_rows), **setting}
            if teacher is not None:
                params["teacher"] = FrozenEstimator(teacher)
            if "pretrainer" in params:
                params["pretrainer"].set_params(memory=memory)
            model = fitted(run, rows, seed, params)
            stopped_by = losses(run, model, rows.X_val, rows.y_val)
            tested = losses(run, model, rows.X_test, rows.y_test)
            # In the order of rows.choose, which may have no test rows.
            chosen_by = np.append(stopped_by, tested)[: len(rows.choose)]
            found.append(Found(chosen_by, error(run, tested), model))
    return found


def tried(run, splits, schemes, teachers):
    """What each candidate does on each split, by its scheme and setting; teachers : of
    the splits, or None for each.
    """
    tasks = (
        joblib.delayed(tried_on)(run, rows, seed, scheme, teacher)
        for scheme in schemes.values()
        for seed, rows, teacher in zip(SEEDS, splits, teachers, strict=True)
    )
    by_task = iter(joblib.Parallel(N_JOBS)(tasks))
    found = {}
    for name in schemes:
        by_split = [next(by_task) for _ in SEEDS]
        for number, on_splits in enumerate(zip(*by_split, strict=True)):
            found[name, number] = on_splits
    return found


def ranked(found, splits, test):
    """Candidates by their mean loss on the rows to choose by of all splits, but those
    among the test rows of one, for which they are ranked; the best first.
    """
    kept = [~np.isin(rows.choose, test) for rows in splits]

    def mean_loss(candidate):
        each = zip(found[candidate], kept, strict=True)
        return np.mean(np.concatenate([own.choose[rows] for own, rows in each]))

    return sorted(found, key=mean_loss)


def mean_of_best(found, splits, number):
    """Mean of the best candidates on a split, by its number."""
    best = ranked(found, splits, splits[number].test)[:N_TEACHERS]
    return Mean([found[candidate][number].network for candidate in best])


def boosting(run, rows, seed):
    cls = (
        HistGradientBoostingRegressor
        if run.regression
        else HistGradientBoostingClassifier
    )
    return cls(early_stopping=True, max_iter=500, random_state=seed).fit(rows.X, rows.y)


def row_of(name, options):
    """The record of one run: test errors of both sides, of boosting and of means of
    networks, by seed, what was chosen, and the test errors of all there was to choose
    from.
    """
    start, run = time.perf_counter(), RUNS[name]
    table, search = load(options.data, run.data), run.search
    splits = [split(run, table, seed) for seed in SEEDS]
    numbers, nobody = range(len(splits)), [None] * len(splits)
    sides = {
        "scratch": tried(run, splits, {"scratch": lambda n_rows: {}}, nobody),
        "pretrained": tried(run, splits, search.schemes, nobody),
    }
    averaged = {
        side: [mean_of_best(found, splits, number) for number in numbers]
        for side, found in zip(AVERAGED, sides.values(), strict=True)
    }
    _, teachers = averaged.values()
    sides["pretrained"] |= tried(run, splits, search.taught, teachers)
    figures, chosen = [], {side: [] for side in sides}
    for number, (seed, rows) in enumerate(zip(SEEDS, splits, strict=True)):
        figures.append({})
        for side, found in sides.items():
            best = ranked(found, splits, rows.test)[0]
            chosen[side].append(list(best))
            figures[-1][side] = found[best][number].test
        others = {side: models[number] for side, models in averaged.items()}
        others["boosting"] = boosting(run, rows, seed)
        for side, model in others.items():
            tested = losses(run, model, rows.X_test, rows.y_test)
            figures[-1][side] = error(run, tested)
    candidates = {
        f"{scheme}/{setting}": [round(each.test, 3) for each in on_splits]
        for found in sides.values()
        for (scheme, setting), on_splits in found.items()
    }
    row = {
        **versions(),
        "seeds": list(SEEDS),
        "seconds": [time.perf_counter() - start],
        "figures": figures,
        "chosen": chosen,
        "candidates": candidates,
    }
    print(" | ".join(cells(name, run, row)), row["seconds"], flush=True)
    return row


def means(row):
    """Mean error of each side, and of means of networks where there are any."""
    figures = row["figures"]
    return {side: np.mean([found[side] for found in figures]) for side in figures[0]}


def cut(row, side="scratch"):
    """What pre-training takes off the mean error of a side, in percent of it."""
    found = means(row)
    return 100 * (1 - found["pretrained"] / found[side])


def cut_error(row):
    """Standard error of the cut over the splits, on each of which both sides are fitted
    to the same rows.
    """
    gains = [found["scratch"] - found["pretrained"] for found in row["figures"]]
    return 100 * sem(gains) / means(row)["scratch"]


def cut_of_best(row):
    """What the cut would be, had both sides been chosen by their test errors."""
    least = dict.fromkeys(("scratch", "pretrained"), np.inf)
    for candidate, errors in row["candidates"].items():
        side = "scratch" if candidate.startswith("scratch/") else "pretrained"
        least[side] = min(least[side], np.mean(errors))
    return 100 * (1 - least["pretrained"] / least["scratch"])


def cells(name, run, row):
    """What a line of the table says of a run."""
    errors = []
    for side in (*SIDES, *AVERAGED):
        values = [found[side] for found in row["figures"] if side in found]
        shown = "-"  # all labels need no teacher
        if values:
            shown = f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}"
        errors.append(shown)
    gain = f"{cut(row):+.1f} ± {cut_error(row):.1f} %"
    schemes = Counter(scheme for scheme, _ in row["chosen"]["pretrained"])
    counted = [f"{scheme} ({count})" for scheme, count in schemes.most_common()]
    return [name, *errors, gain, "; ".join(counted)]


def summary(rows, ending):
    """A line of counts over the tables there are: where pre-training wins, what it cuts
    off the error, and which of the three is the best.
    """
    there = [rows[name] for name in RUNS if name in rows and name.endswith(ending)]
    if not there:
        return f"| {ending} | not run |"
    cuts = [cut(row) for row in there]
    of_four = "-"
    if all("mean_scratch" in means(row) for row in there):
        of_four = f"{np.mean([cut(row, 'mean_scratch') for row in there]):+.1f} %"
    best = [min(SIDES, key=means(row).get) for row in there]
    cells = [
        ending,
        str(len(there)),
        str(sum(c > 0 for c in cuts)),
        f"{np.mean(cuts):+.1f} %",
        f"{min(cuts):+.1f} to {max(cuts):+.1f} %",
        f"{np.mean([cut_of_best(row) for row in there]):+.1f} %",
        of_four,
        *(str(best.count(side)) for side in SIDES),
    ]
    return f"| {' | '.join(cells)} |"


def table(rows):
    """Markdown lines of all rows, in the order of RUNS."""
    return [
        "Test error (misclassified in percent, or 100 times the root mean",
        "squared error of a target of unit variance), mean and deviation over five",
        "splits, from",
        "`python benchmarks/tables.py --write`; float32. The cut is that of the mean",
        "error by pre-training, with its standard error over the splits. The schemes",
        "are those chosen, with the number of splits: autoencoders with swap noise and",
        "a free decoder, in whose training targets take part; whole is the unrolled",
        "network, trained long by the targets alone with .3 of the cells swapped, by",
        "rows and targets with half of them, where the targets have .7 of the loss, or",
        "by which cells are swapped (changes), .3 of them, alone or with targets, that",
        "have .5 of the loss. With a teacher rows without a label have targets too,",
        "what four pre-trained networks say of them on average: the best ones that had",
        "no teacher. Four pre-trained, and the four best from scratch, are such means",
        "taken as a model, and the mean cut from four is what a single pre-trained",
        "network takes off the error of the latter.",
        "",
        "The mean cut by test errors is what it would be, had both sides been chosen",
        "by these: what a better choice could gain.",
        "",
        "| labels | tables | pre-training wins | mean cut | cuts "
        "| mean cut, by test errors | mean cut, from four | best from scratch "
        "| best pre-trained | best boosting |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *(summary(rows, ending) for ending in ("all", "few")),
        "",
        "| run | from scratch | pre-trained | gradient boosting | four from scratch "
        "| four pre-trained | cut | scheme | seeds | seconds | date and versions |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *table_rows(RUNS, rows, cells),
    ]


if __name__ == "__main__":
    run_study(__doc__, STUDY, RUNS, row_of, table)
