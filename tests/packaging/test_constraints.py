"""The pinned versions can be installed on the oldest Python that the project promises."""

import tomllib
from collections.abc import Iterable
from importlib.metadata import distributions
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PINS = {
    canonicalize_name(name): version
    for name, _, version in (line.partition("==") for line in (ROOT / "constraints.txt").read_text().splitlines())
    if version
}
NEEDS = {
    (canonicalize_name(found.metadata["Name"]), found.version): str(found.metadata.json.get("requires_python", ""))
    for found in distributions()
}


def oldest() -> str:
    """The first release that `requires-python` admits, as 3.11.0."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return f"{project['requires-python'].removeprefix('>=')}.0"


def refused(needs: Iterable[tuple[str, str]], python: str) -> list[str]:
    """The names whose need of a Python this one does not meet."""
    return [name for name, need in needs if not SpecifierSet(need).contains(python)]


def test_every_pin_admits_the_oldest_python() -> None:
    """A machine may have 3.11.2, where `make setup` would stop."""
    needs = [(name, NEEDS[name, version]) for name, version in PINS.items() if (name, version) in NEEDS]
    assert len(needs) > 0.9 * len(PINS)  # as far as they are installed here
    assert refused(needs, oldest()) == []


def test_a_pin_for_newer_pythons_is_seen() -> None:
    """Negative control: what asks for a patch release that came later."""
    assert refused([("late", ">=3.11.5"), ("usual", ">=3.10")], "3.11.0") == ["late"]
