"""Examples with their output in the pages of the documentation."""

import doctest
import pathlib

import pytest

DOCS = pathlib.Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize("page", ["when_it_helps.md"])
def test_examples_of_a_page_print_what_it_shows(page):
    if not (DOCS / page).exists():
        pytest.skip("the sdist has no documentation")
    failed, attempted = doctest.testfile(str(DOCS / page), module_relative=False)
    assert attempted
    assert not failed
