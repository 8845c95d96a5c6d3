"""Sphinx configuration of the documentation."""

import os
import pathlib
from importlib.metadata import version as package_version

import matplotlib
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

matplotlib.use("Agg")
# For the kernels of the notebooks: small fits on many threads wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

RESULTS = pathlib.Path(__file__).parents[1] / "benchmarks" / "results"
SCIKIT_LEARN = "https://scikit-learn.org/stable"

project = "sklearn_greedy"
author = "The sklearn_greedy developers"
copyright = author
version = release = package_version("sklearn_greedy")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "myst_nb",
    "matplotlib.sphinxext.plot_directive",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "auto_examples/*.ipynb", "notebooks/data"]
default_role = "obj"
smartquotes = False  # a quoted value can be copied into code
toc_object_entries_show_parents = "hide"
math_eqref_format = "eq. {number}"

# API pages: the class template lists the methods, so numpydoc must not do it again.
autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
# Methods that every scikit-learn estimator has and that are explained there.
autosummary_context = {
    "skipped_methods": [
        "__init__",
        "get_metadata_routing",
        "get_params",
        "set_params",
        "set_partial_fit_request",
        "set_score_request",
    ]
}

# The notebooks hold no outputs: every build runs them, and what fails or warns there
# fails or warns here.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
nb_output_stderr = "warn"

sphinx_gallery_conf = {
    "examples_dirs": ["../examples"],
    "gallery_dirs": ["auto_examples"],
    # Scripts named plot_*.py are run, all others are only shown.
    "filename_pattern": r"plot_[^/\\]*\.py$",
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("sklearn_greedy",),
    "reference_url": {"sklearn_greedy": None},
    "within_subsection_order": "FileNameSortKey",
    "show_memory": False,
    "plot_gallery": True,
    "abort_on_example_error": False,
}

plot_html_show_formats = False
plot_html_show_source_link = False
plot_formats = [("png", 100)]

html_theme = "pydata_sphinx_theme"
html_title = f"{project} {release}"
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "navigation_with_keys": False,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
}
html_sidebars = {
    page: []
    for page in (
        "index",
        "first_steps",
        "user_guide",
        "greedy_or_at_once",
        "when_it_helps",
        "measurements",
        "changelog",
    )
}


def link_to_scikit_learn(app, env, node, contnode):
    """Resolve references into scikit-learn by their address, without a network.

    Objects are linked by their full name. Inherited docstrings also refer to labels and
    terms of scikit-learn's guide; on the API pages these become plain text.
    """
    target = node.get("reftarget", "")
    if node.get("refdomain") == "py" and target.startswith("sklearn."):
        uri = f"{SCIKIT_LEARN}/modules/generated/{target}.html"
        return nodes.reference("", "", contnode, internal=False, refuri=uri)
    on_api_page = node.get("refdoc", "").startswith("generated/")
    if on_api_page and node.get("reftype") in {"ref", "term"}:
        return contnode
    return None


class MeasuredRows(SphinxDirective):
    """Part of a table under benchmarks/results, for Markdown pages: its argument is the
    file; ``rows`` begin with one of these names, ``columns`` are called so (both parted
    by semicolons).
    """

    required_arguments = 1
    option_spec = {"rows": str, "columns": str}

    def run(self):
        path = RESULTS / self.arguments[0]
        self.env.note_dependency(str(path))
        begins, shown = (
            [name.strip() for name in self.options[option].split(";")]
            for option in ("rows", "columns")
        )
        lines = path.read_text(encoding="utf-8").splitlines()
        table = [
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in lines
            if line.startswith("|")
        ]
        heading = next((row for row in table if set(shown) <= set(row)), None)
        if heading is None:
            raise self.error(f"No table of {path.name} has the columns {shown}.")
        places = [heading.index(column) for column in shown]
        found = [
            row
            for row in table
            if row[0].startswith(tuple(begins)) and len(row) == len(heading)
        ]
        if not found:
            raise self.error(f"No row of {path.name} begins with {begins}.")
        part = [heading, ["---"] * len(heading), *found]
        text = [f"| {' | '.join(row[place] for place in places)} |" for row in part]
        container = nodes.container()
        self.state.nested_parse(StringList(text, str(path)), 0, container)
        return container.children


def setup(app):
    """Connect what stands above."""
    app.add_directive("measured-rows", MeasuredRows)
    app.connect("missing-reference", link_to_scikit_learn)
