"""Sphinx configuration of the documentation."""

import os
from importlib.metadata import version as package_version

import matplotlib
from docutils import nodes

matplotlib.use("Agg")
# For the kernels of the notebooks: small fits on many threads wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

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
    for page in ("index", "first_steps", "user_guide", "measurements", "changelog")
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


def setup(app):
    """Connect the function above."""
    app.connect("missing-reference", link_to_scikit_learn)
