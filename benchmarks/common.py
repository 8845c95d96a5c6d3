"""What the studies share: data sets, records and their options."""

import argparse
import datetime
import gzip
import itertools
import json
import pathlib
import platform
import time
import warnings

import numpy as np
import sklearn
from sklearn.preprocessing import OneHotEncoder

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def options_of(doc, *arguments):
    """Options of a study: --data, --write and others, as (name, keywords) pairs."""
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    data = ROOT.parent / "shared" / "data"
    parser.add_argument("--data", type=pathlib.Path, default=data, help="folder")
    parser.add_argument("--write", action="store_true", help="keep under results/")
    for name, keywords in arguments:
        parser.add_argument(name, **keywords)
    return parser.parse_args()


def versions():
    """Date and versions that belong to every record."""
    return {
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
    }


def stamp(record):
    """The same as a line of text."""
    return (
        f"{record['date']}, Python {record['python']}, NumPy {record['numpy']}, "
        f"scikit-learn {record['scikit-learn']}"
    )


def keep(study, name, row, table):
    """Put a row into the records of a study and render them all by ``table(rows)``."""
    path = RESULTS / f"{study}.json"
    rows = json.loads(path.read_text()) if path.exists() else {}
    rows[name] = row
    path.write_text(json.dumps(rows, indent=1) + "\n")
    (RESULTS / f"{study}.md").write_text("\n".join(table(rows)) + "\n")


def run_study(doc, study, runs, row_of, table, *arguments):
    """What a study of several runs does: ``--run`` chooses some, row_of(name, options)
    is the record of one, and ``--write`` keeps it.
    """
    names = {"nargs": "+", "default": list(runs), "metavar": "NAME"}
    options = options_of(doc, ("--run", names), *arguments)
    warnings.simplefilter("ignore")
    for name in chosen(options.run, runs):
        row = row_of(name, options)
        if options.write:
            keep(study, name, row, table)


def run_parts(doc, study, parts, *arguments):
    """The same for a study whose runs have tables of their own: parts holds for each
    name the functions figures(options) and table(row).
    """

    def row_of(name, options):
        figures, table_of_part = parts[name]
        row = {**versions(), **figures(options)}
        print("\n".join(table_of_part(row)), flush=True)
        return row

    def table(rows):
        tables = [parts[name][1](rows[name]) for name in parts if name in rows]
        return [line for lines in tables for line in (*lines, "")][:-1]

    run_study(doc, study, parts, row_of, table, *arguments)


def timed(call, *args, **options):
    """(what a call returns, its seconds)"""
    start = time.perf_counter()
    found = call(*args, **options)
    return found, time.perf_counter() - start


def over_seeds(name, seeds, measure, shown):
    """The record of a run; measure(seed) gives a list of figures and the seconds that
    count, and shown(figures) the text of both that is printed.
    """
    figures, seconds = [], []
    for seed in seeds:
        found, spent = measure(seed)
        figures += found
        seconds.append(spent)
        print(f"{name}, seed {seed}: {shown(found)}; {spent:.0f} s", flush=True)
    return {**versions(), "seeds": list(seeds), "seconds": seconds, "figures": figures}


def seeds_option(default):
    """Option of a study that takes the seeds 0 to N - 1."""
    return "--seeds", {"type": int, "default": default, "help": "seeds 0 to SEEDS - 1"}


def publish(study, lines, write):
    """Print the lines of a study that is measured at once, and keep them if asked."""
    text = "\n".join(lines) + "\n"
    print(f"\n{text}")
    if write:
        (RESULTS / f"{study}.md").write_text(text)


def table_rows(runs, rows, cells):
    """Markdown lines of the rows there are, in the order of runs; cells(name, run, row)
    are those of one line, without its seeds, time and versions.
    """
    lines = []
    for name, run in runs.items():
        if name in rows:
            line = *cells(name, run, rows[name]), *_source(rows[name])
            lines.append("| " + " | ".join(line) + " |")
    return lines


def _source(row):
    """Seeds, mean seconds, date and versions of a record."""
    seeds = ", ".join(map(str, row["seeds"]))
    return seeds, f"{np.mean(row['seconds']):.0f}", stamp(row)


def chosen(names, runs):
    """The runs that are called by one of the names, or begin with it."""
    found = []
    for name in names:
        begins = [run for run in runs if run.startswith(name)]
        if not begins:
            raise SystemExit(
                f"No run begins with {name!r}; there are {', '.join(runs)}"
            )
        found += [name] if name in runs else begins
    return [run for run in runs if run in found]


def mean_and_spread(figures, key):
    """Mean and deviation over seeds as text."""
    values = [found[key] for found in figures if key in found]
    if not values:
        return "-"
    spread = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    return f"{np.mean(values):.2f}{spread}"


def read_idx(folder, name):
    """Array of an idx file of unsigned bytes; images as rows."""
    path = next(
        (p for p in (folder / name, folder / f"mnist-{name}") if p.exists()), None
    )
    if path is None:
        raise SystemExit(f"{folder} holds neither {name} nor mnist-{name}")
    raw = gzip.decompress(path.read_bytes())
    n_dims = raw[3]
    shape = np.frombuffer(raw, ">i4", n_dims, offset=4)
    data = np.frombuffer(raw, np.uint8, offset=4 + 4 * n_dims)
    return data.reshape(shape[0], -1).squeeze()


def mnist_images(folder):
    """Training and test images in [0, 1], float32."""
    names = "train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte.gz"
    return [read_idx(folder, name).astype(np.float32) / 255 for name in names]


def mnist_labels(folder):
    """Labels of the training and of the test images."""
    names = "train-labels-idx1-ubyte.gz", "t10k-labels-idx1-ubyte.gz"
    return [read_idx(folder, name) for name in names]


def binary_set(folder, name):
    """Parts train, valid and test of a set of 0/1 columns."""
    with np.load(folder / f"bin_{name}.npz", allow_pickle=False) as parts:
        return {part: parts[part].astype(np.float32) for part in parts.files}


def table_set(folder, name):
    """(numbers, codes of categories or None, labels) of a table."""
    with np.load(folder / f"tab_{name}.npz", allow_pickle=False) as parts:
        if "X_num" in parts:
            return parts["X_num"].astype(float), parts["X_cat"], parts["y"]
        return parts["X"].astype(float), None, parts["y"]


def one_hot(codes, known=slice(None)):
    """Categories as 0/1 columns, and the number of columns of each category. There is
    one for each value in the rows known; other values are 0 in all of them.
    """
    encoder = OneHotEncoder(sparse_output=False, handle_unknown="ignore")
    columns = encoder.fit(codes[known]).transform(codes)
    return columns, [len(found) for found in encoder.categories_]


def softmax_groups(first, widths):
    """Visible units of categories with so many 0/1 columns each, from column first."""
    ends = first + np.cumsum([0, *widths])
    return [
        ("softmax", list(range(a, b))) for a, b in itertools.pairwise(ends.tolist())
    ]
