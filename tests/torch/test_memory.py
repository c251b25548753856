"""Extra memory per row: the page's numbers are what PyTorch shows, and the page is what the table says."""

import re

import pytest

from samfamily import FAMILY
from tests.scripts import DOCS, script

THE_FAMILY = script("the_family")
ROWS = re.findall(
    r"^\| \[`(\w+)`\].*\| (\d+) \| (\d+) \| (yes)? *\|$", (DOCS / "the-family.md").read_text(), re.MULTILINE
)


def test_the_page_has_every_row_in_the_tables_order() -> None:
    assert [name for name, *_ in ROWS] == list(FAMILY)


@pytest.mark.parametrize(("name", "kept", "at_the_point", "state"), ROWS)
def test_parameter_copies(name: str, kept: str, at_the_point: str, state: str) -> None:
    variant = FAMILY[name]()
    assert variant.stateful == bool(state)
    assert THE_FAMILY.kept(variant) == int(kept)
    assert THE_FAMILY.copies_at_the_point(variant) == int(at_the_point)


def test_the_page_is_made_by_its_command() -> None:
    """Everything but the counts, which the test above has checked."""
    assert THE_FAMILY.page() == (DOCS / "the-family.md").read_text(), "run `make docs`"
