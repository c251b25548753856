"""Mutation testing changes what stands outside functions too, one place at a time."""

import pytest

from tests import mutants

FILE = "samfamily/descent.py"


@pytest.fixture(scope="module")
def differences() -> list[str]:
    places = {"across", "Blend", "Momentum", "Decoupled.adds"}
    return [mutant.difference for mutant in mutants.mutants(FILE) if mutant.place in places]


@pytest.mark.parametrize(
    ("place", "old", "new"),
    [
        ("across", "    return a - a.inner(unit) * unit", "    return a + a.inner(unit) * unit"),
        ("Blend", "    needs_gradient = True", "    needs_gradient = False"),
        ("Momentum", "    mu: float = 0.9", "    mu: float = 1.9"),
        ("Decoupled.adds", "        return True", "        return False"),
    ],
    ids=["function", "attribute", "default", "property"],
)
def test_every_kind_of_place_is_changed(differences: list[str], place: str, old: str, new: str) -> None:
    assert f"@@ {FILE} {place} @@\n-{old}\n+{new}" in differences


def test_a_mutant_is_the_file_with_one_change() -> None:
    source = (mutants.ROOT / FILE).read_text()
    assert all(mutant.source != source for mutant in mutants.mutants(FILE)[:20])
