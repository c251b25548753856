"""The table of properties in docs/testing.md names tests that exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLE = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TABLE)


def is_defined(file: str, name: str) -> bool:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return any(isinstance(node, ast.FunctionDef) and node.name == name for node in ast.walk(tree))


@pytest.mark.parametrize(("file", "name"), sorted(set(NAMED)))
def test_a_named_test_exists(file: str, name: str) -> None:
    assert is_defined(file, name)


def test_a_name_that_is_gone_is_found() -> None:
    """Negative control."""
    assert not is_defined("tests/docs/test_properties.py", "test_of_yesterday")


def test_all_properties_are_in_the_table() -> None:
    firsts = re.findall(r"^\| (P[\dP, ]+) \|", TABLE, re.MULTILINE)
    assert {int(number) for first in firsts for number in re.findall(r"\d+", first)} == set(range(1, 41))
