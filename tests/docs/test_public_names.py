"""Every public name says what it is, shows it in an example that runs, and gives the formula it stands for.

That the examples hold is checked where they stand: pytest runs every docstring's.
"""

import re
from collections.abc import Callable
from doctest import SKIP, DocTestParser
from types import ModuleType
from typing import Any, NamedTuple

import pytest

import samfamily
import samfamily_jax
import samfamily_torch

WITHOUT_FORMULA = {
    "samfamily.curvature.shown": "a progress bar",
    "samfamily.metric.biases": "reads a leaf's name",
    "samfamily.metric.normalisations": "reads what the adapter said of a leaf",
    "samfamily.monitor.to_tensorboard": "writes numbers elsewhere",
    "samfamily.program.State": "a record; what is in it belongs to the variant's members",
    "samfamily.recipe.Recipe": "plain values beside a checkpoint",
    "samfamily.reference.examples_in": "a length",
    "samfamily.reference.vec": "packs arrays",
    "samfamily.space.Leaf": "what is known of an array",
}
"""Names that compute nothing a formula could state, each with what it does instead."""

LATEX = re.compile(r"\$\$(.+?)\$\$|\\\((.+?)\\\)", re.DOTALL)
SYMBOL = re.compile(r"\s*\\?\w+\s*")


def has_docstring(of: Any) -> bool:
    """Tell whether somebody wrote one here: it is not inherited, nor the signature that dataclasses are given."""
    text = of.__doc__ or ""
    return bool(text.strip()) and not text.startswith(f"{of.__name__}(")


def has_example(of: Any) -> bool:
    return any(not example.options.get(SKIP) for example in DocTestParser().get_examples(of.__doc__ or ""))


def has_formula(of: Any) -> bool:
    r"""Tell whether there is LaTeX that says something: a symbol alone, such as \(w\), says nothing."""
    found = (one or two for one, two in LATEX.findall(of.__doc__ or ""))
    return any(not SYMBOL.fullmatch(formula) for formula in found)


def public(module: ModuleType) -> list[Any]:
    """Return what a module offers: its `__all__`, or without one what is defined in it and not private.

    Data (modules, constants, tables) have no docstring of their own and are left out, and so are aliases of types.
    """
    own = [n for n, of in vars(module).items() if getattr(of, "__module__", None) == module.__name__ and n[0] != "_"]
    names = getattr(module, "__all__", own)
    return [of for of in (getattr(module, name) for name in names) if callable(of) and hasattr(of, "__qualname__")]


MODULES = [
    samfamily,
    samfamily_torch,
    samfamily_jax,
    *(of for of in (getattr(samfamily, name) for name in samfamily.__all__) if isinstance(of, ModuleType)),
]
PUBLIC = {f"{of.__module__}.{of.__qualname__}": of for module in MODULES for of in public(module)}
every_name = pytest.mark.parametrize("name", PUBLIC)


@every_name
def test_a_public_name_has_a_docstring(name: str) -> None:
    assert has_docstring(PUBLIC[name])


@every_name
def test_a_public_name_has_an_example_that_runs(name: str) -> None:
    assert has_example(PUBLIC[name])


@every_name
def test_a_public_name_has_a_formula_or_a_reason(name: str) -> None:
    assert has_formula(PUBLIC[name]) != (name in WITHOUT_FORMULA)


@pytest.mark.parametrize("name", WITHOUT_FORMULA)
def test_a_name_without_a_formula_exists_and_has_none(name: str) -> None:
    assert not has_formula(PUBLIC[name])


@pytest.mark.parametrize(
    "name",
    [
        "samfamily.family.SAM",  # of a star import
        "samfamily.reference.sharpness_aware",  # of a module without a list of names
        "samfamily.gap.gap_bound",  # of another module's list
        "samfamily_torch.optimizer.SharpnessAware",
        "samfamily_jax.transform.SharpnessAware",  # not taken for its namesake
    ],
)
def test_a_public_name_is_looked_at(name: str) -> None:
    assert name in PUBLIC


def test_data_are_left_out() -> None:
    assert "FAMILY" in samfamily.__all__
    assert "bound" in samfamily.__all__
    assert not [of for of in public(samfamily) if of is samfamily.FAMILY or of is samfamily.bound]


class Complete:
    r"""A square, \(x^2\).

    Example:
        >>> 3**2
        9
    """


class Undocumented(NamedTuple):
    x: int


class Inheriting(Complete):
    pass


def bare() -> None:
    pass


def without_example() -> None:
    r"""Return \(x^2\), as in `f(3)`."""


def with_prompt_alone() -> None:
    r"""Return \(x^2\): type it after the >>> of the prompt."""


def without_formula() -> None:
    """Return a square.

    Example:
        >>> 3**2
        9
    """


def with_symbols_alone() -> None:
    r"""Return the square of \(x\), in units of \(\rho\)."""


def test_a_complete_docstring_passes() -> None:
    assert has_docstring(Complete)
    assert has_example(Complete)
    assert has_formula(Complete)


@pytest.mark.parametrize(
    ("check", "of"),
    [
        (has_docstring, bare),
        (has_docstring, Undocumented),
        (has_docstring, Inheriting),
        (has_example, bare),
        (has_example, Inheriting),
        (has_example, without_example),
        (has_example, with_prompt_alone),
        (has_formula, bare),
        (has_formula, Inheriting),
        (has_formula, without_formula),
        (has_formula, with_symbols_alone),
    ],
)
def test_what_lacks_is_found(check: Callable[[Any], bool], of: Any) -> None:
    """Negative control."""
    assert not check(of)


def test_an_example_that_is_skipped_is_none() -> None:
    """Negative control."""

    def skipped() -> None:  # in here, where pytest does not report that it skips it
        """Return a square.

        Example:
            >>> 3**2  # doctest: +SKIP
            10
        """

    assert not has_example(skipped)
