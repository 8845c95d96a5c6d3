"""Examples in the pages of the documentation and in the README."""

import doctest
import re
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# A block of code, by the ending of the page's name.
BLOCKS = {
    ".rst": re.compile(r"^\.\. code-block:: python\n((?: +.*\n|\s*\n)+)", re.MULTILINE),
    ".md": re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL),
}


@pytest.mark.parametrize("page", ["when_it_helps.md"])
def test_examples_of_a_page_print_what_it_shows(page):
    path = ROOT / "docs" / page
    if not path.exists():
        pytest.skip("the sdist has no documentation")
    failed, attempted = doctest.testfile(
        str(path), module_relative=False, encoding="utf-8"
    )
    assert attempted
    assert not failed


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "page",
    ["README.md", "docs/index.rst", "docs/first_steps.rst", "docs/saving.rst"],
)
def test_code_of_a_page_runs(page, tmp_path, monkeypatch):
    """Block after block, as a reader would paste them into one session."""
    pytest.importorskip("sphinx_gallery", reason="runs with the docs extra")
    path = ROOT / page
    blocks = BLOCKS[path.suffix].findall(path.read_text(encoding="utf-8"))
    assert blocks
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks:
        exec(compile(textwrap.dedent(block), page, "exec"), names)
