"""One definition: no formula of the family stands in a backend, and every row can be had from every adapter."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import samfamily
import samfamily_jax
import samfamily_torch

ROOT = Path(__file__).parents[1]
ADAPTERS = [ROOT / "backends" / name for name in ("samfamily_torch", "samfamily_jax")]
MATHEMATICS = {"maximiser", "dual_norm", "signed_power", "vertex", "epsilon", "rho", "eta", "p", "T", "steps", "metric"}


def names(node: ast.AST) -> Iterator[str]:
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            yield part.id
        elif isinstance(part, ast.Attribute):
            yield part.attr


def formulas(source: str) -> list[str]:
    """Return what looks like mathematics of the family: arithmetic with its symbols, or a call of its functions."""
    found = []
    for node in ast.walk(ast.parse(source)):
        arithmetic = isinstance(node, ast.BinOp | ast.AugAssign) and not isinstance(node.op, ast.BitOr | ast.Mod)
        call = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if (arithmetic and MATHEMATICS & set(names(node))) or (
            call and node.func.attr in {"maximiser", "dual_norm", "signed_power", "inner"}  # type: ignore[attr-defined]
        ):
            found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize(
    "file", [f for adapter in ADAPTERS for f in adapter.rglob("*.py")], ids=lambda f: f"{f.parent.name}/{f.name}"
)
def test_no_formula_stands_in_a_backend(file: Path) -> None:
    assert formulas(file.read_text()) == []


@pytest.mark.parametrize("source", ["q = w + rho * d / n", "e = ball.maximiser(d)", "w += scale * self.epsilon"])
def test_a_formula_would_be_found(source: str) -> None:
    """Negative control of the test above."""
    assert formulas(source)


def test_the_family_itself_is_found() -> None:
    """Negative control: the scanner finds the formulas where they are."""
    assert formulas((ROOT / "samfamily" / "variant.py").read_text())
    assert formulas((ROOT / "samfamily" / "ball.py").read_text())


def test_every_row_is_importable_from_every_adapter() -> None:
    for name, row in samfamily.FAMILY.items():
        assert getattr(samfamily, name) is getattr(samfamily_torch, name) is getattr(samfamily_jax, name) is row
        assert name in samfamily_torch.__all__
        assert name in samfamily_jax.__all__
    assert set(samfamily.family.__all__) - {"FAMILY"} == set(samfamily.FAMILY)
