"""Extra memory per row: the page's numbers are what PyTorch shows, and the page is what the table says."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from samfamily import FAMILY

DOCS = Path(__file__).parents[2] / "docs"


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("the_family", DOCS / "the_family.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


THE_FAMILY = generator()
ROWS = re.findall(
    r"^\| \[`(\w+)`\].*\| (\d+) \| (\d+) \| (state)? *\|$", (DOCS / "the-family.md").read_text(), re.MULTILINE
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
