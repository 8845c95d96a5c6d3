"""The notebooks of the documentation, which its build runs: what is kept of them."""

import ast
import json
import re
from pathlib import Path

import pytest

import sklearn_greedy

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

pytestmark = pytest.mark.skipif(not NOTEBOOKS, reason="docs are not in the sdist")


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return json.loads(request.param.read_text(encoding="utf-8"))


def source(notebook, kind):
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == kind]
    return ["".join(cell["source"]) for cell in cells]


def test_notebooks_hold_no_outputs(notebook):
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
            assert cell["metadata"] == {}


def test_notebooks_are_short_and_end_with_who_wins(notebook):
    assert 8 <= len(notebook["cells"]) <= 15
    headings = re.findall(r"^#+ .*", "\n".join(source(notebook, "markdown")), re.M)
    assert headings[0].startswith("# ")
    assert headings[-1] == "## Who wins"
    assert "print(" in source(notebook, "code")[-1]


def test_notebooks_use_public_names(notebook):
    tree = ast.parse("\n".join(source(notebook, "code")))
    found = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in found if node.module.split(".")[0] == "sklearn_greedy"]
    assert [node.module for node in ours] == ["sklearn_greedy"]
    assert {alias.name for alias in ours[0].names} <= set(sklearn_greedy.__all__)


def test_notebooks_read_what_lies_beside_them(notebook):
    paths = re.findall(r'"(data/[^"]+)"', "\n".join(source(notebook, "code")))
    assert paths
    assert all((FOLDER / path).is_file() for path in paths)


def test_data_are_small_and_described():
    readme = (FOLDER / "data" / "README.md").read_text(encoding="utf-8")
    files = [path for path in (FOLDER / "data").iterdir() if path.suffix == ".gz"]
    assert all(f"`{path.name}`" in readme for path in files)
    assert sum(path.stat().st_size for path in files) < 1_500_000


def test_every_notebook_has_its_page():
    index = (FOLDER / "index.rst").read_text(encoding="utf-8")
    listed = index.split(":hidden:")[1].split()
    assert listed == [path.stem for path in NOTEBOOKS]
