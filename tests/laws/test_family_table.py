"""Layer 2: the table of the family is complete, documented, and made of values."""

import dataclasses
import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest

from samfamily import FAMILY, SAM, Variant, biases, family, layerwise
from samfamily.ascent import Gradient
from samfamily.radius import Constant

rows = pytest.mark.parametrize("row", FAMILY.values(), ids=FAMILY)


def test_the_table_lists_every_row_as_it_stands_in_the_file() -> None:
    public = [name for name in family.__all__ if name != "FAMILY"]
    assert sorted(FAMILY) == sorted(public)
    functions = [f for f in vars(family).values() if inspect.isfunction(f) and f.__module__ == family.__name__]
    assert [f.__name__ for f in functions] == list(FAMILY)
    assert functions == list(FAMILY.values())


def is_documented(row: Callable[..., Any]) -> None:
    text = inspect.getdoc(row) or ""
    assert re.search(r"arXiv \d{4}\.\d{4,5}|NeurIPS|from memory|third party", text)
    assert re.search(r"\$\$.+\$\$", text, re.DOTALL)
    assert "Reduces to " in text
    assert ">>> " in text
    for argument in inspect.signature(row).parameters:
        assert f"    {argument}: " in text


def is_a_value(variant: Variant) -> None:
    assert hash(variant) == hash(dataclasses.replace(variant))
    assert variant == dataclasses.replace(variant)
    for axis in (variant, variant.radius, variant.ball, variant.ascent, variant.descent):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(axis, dataclasses.fields(axis)[0].name if dataclasses.fields(axis) else "x", 1)


@rows
def test_every_row_is_documented(row: Callable[..., Variant]) -> None:
    is_documented(row)


@rows
def test_every_row_builds_with_its_defaults_into_a_value(row: Callable[..., Variant]) -> None:
    variant = row()
    assert isinstance(variant, Variant)
    assert variant.name == row.__name__
    assert variant.m is None
    assert variant == row()
    if not variant.ball.mask.why_not_sharded:
        assert variant.sharded(4) != variant
        assert variant.sharded(4).m == 4
    assert variant.with_rho(0.25).radius.rho == 0.25
    is_a_value(variant)


ANOTHER: dict[str, Any] = {
    "rho": 0.123,
    "p": 1.5,
    "steps": 2,
    "second_order": True,
    "eta": 0.7,
    "sparsity": 0.3,
    "every": 7,
    "drop": 0.2,
    "seed": 3,
    "beta": 0.25,
    "alpha": 0.33,
    "minimize_fp": False,
    "gamma": 0.125,
    "decoupled": False,
    "k": 3,
    "probability": 0.3,
    "c": 1.5,
    "delta": 0.75,
    "sigma": 0.6,
    "lmbda": 0.35,
    "theta": 0.65,
    "mu": 0.55,
    "lr": 0.015,
    "iterations": 2,
    "size": layerwise,
    "euclidean": biases,
}
"""For each keyword of a row, a value that is not its default; a row with a new keyword adds one here."""


def every_keyword_arrives(row: Callable[..., Variant]) -> None:
    for keyword in inspect.signature(row).parameters:
        variant = row(**{keyword: ANOTHER[keyword]})
        assert variant != row()
        chooses = isinstance(ANOTHER[keyword], bool) or callable(ANOTHER[keyword]) or row.__name__ in {"ESAM", "WSAM"}
        assert chooses or repr(ANOTHER[keyword]) in repr(variant)


@rows
def test_every_keyword_of_a_row_arrives(row: Callable[..., Variant]) -> None:
    every_keyword_arrives(row)


def test_a_row_that_drops_a_keyword_is_rejected() -> None:
    """Negative control."""

    def forgetful(rho: float = 0.05, steps: int = 1) -> Variant:
        return SAM(rho)

    with pytest.raises(AssertionError):
        every_keyword_arrives(forgetful)


def test_a_row_without_words_is_rejected() -> None:
    """Negative control."""

    def undocumented(rho: float = 0.05) -> Variant:
        """Says nothing."""
        return SAM(rho)

    with pytest.raises(AssertionError):
        is_documented(undocumented)


def test_a_variant_that_can_change_is_rejected() -> None:
    """Negative control."""

    class Loose(Variant):
        __setattr__ = object.__setattr__

    with pytest.raises((AssertionError, pytest.fail.Exception)):
        is_a_value(Loose("loose", Constant(0.1)))


def test_variants_that_differ_are_unequal() -> None:
    assert SAM(0.1) != SAM(0.2)
    assert SAM(p=1) != SAM(p=2)
    assert SAM(steps=2) != SAM()
    assert SAM().ascent == Gradient()
    assert len({SAM(), SAM(), SAM(0.1), SAM().sharded(2)}) == 3
