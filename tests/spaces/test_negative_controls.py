"""The checks of layer 1 reject a space with one thing wrong, on every framework."""

from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import Any

import numpy as np
import pytest

from samfamily import Leaf, Space
from samfamily.space import Array, Leaves, Scalar
from tests.spaces import checks
from tests.spaces.checks import rejected
from tests.spaces_under_test import Framework


class Broken(Space):
    """A space that does everything as another does; its subclasses get one thing wrong."""

    def __init__(self, sound: Space) -> None:
        self.sound, self.leaves = sound, sound.leaves

    def scale(self, a: Scalar, x: Leaves) -> Leaves:
        return self.sound.scale(a, x)

    def axpby(self, a: Scalar, x: Leaves, b: Scalar, y: Leaves) -> Leaves:
        return self.sound.axpby(a, x, b, y)

    def multiply(self, x: Leaves, y: Leaves) -> Leaves:
        return self.sound.multiply(x, y)

    def inner(self, x: Leaves, y: Leaves) -> Scalar:
        return self.sound.inner(x, y)

    def norm(self, x: Leaves, q: float) -> Scalar:
        return self.sound.norm(x, q)

    def sign(self, x: Array) -> Array:
        return self.sound.sign(x)

    def where(self, condition: Scalar, a: Scalar, b: Scalar) -> Scalar:
        return self.sound.where(condition, a, b)

    def rounding(self, x: Leaves) -> float:
        return self.sound.rounding(x)

    def threshold(self, x: Leaves, k: int) -> Scalar:
        return self.sound.threshold(x, k)

    def counter(self, start: Scalar, like: Array | None) -> Array:
        return self.sound.counter(start, like)

    def normal(self, u: Array, v: Array, like: Array) -> Array:
        return self.sound.normal(u, v, like)


class SignOfTheRealPart(Broken):
    def sign(self, x: Array) -> Array:
        return self.sound.sign(x.real) + 0 * x


class SignWithoutZero(Broken):
    def sign(self, x: Array) -> Array:
        return self.sound.sign(x + 1e-3)


class NormWithoutRescaling(Broken):
    def norm(self, x: Leaves, q: float) -> Scalar:
        with np.errstate(over="ignore"):
            return sum(((abs(u) ** q).sum() for u in x), self.sound.norm((), q)) ** (1 / q)


class NormLeafByLeaf(Broken):
    def norm(self, x: Leaves, q: float) -> Scalar:
        return sum((self.sound.norm((u,), q) for u in x), self.sound.norm((), q))


class InnerWithoutConjugate(Broken):
    def inner(self, x: Leaves, y: Leaves) -> Scalar:
        return sum((u * v).sum().real for u, v in zip(x, y, strict=True))


class InnerOfTheSizes(Broken):
    def inner(self, x: Leaves, y: Leaves) -> Scalar:
        return self.sound.inner(tuple(abs(u) for u in x), tuple(abs(v) for v in y))


class AxpbyInTheWrongDtype(Broken):
    def axpby(self, a: Scalar, x: Leaves, b: Scalar, y: Leaves) -> Leaves:
        return self.sound.axpby(b, y, a, x)


class AxpbyInPlace(Broken):
    def axpby(self, a: Scalar, x: Leaves, b: Scalar, y: Leaves) -> Leaves:
        out = self.sound.axpby(a, x, b, y)
        for v, o in zip(y, out, strict=True):
            v[...] = o
        return y


class ScaleForgetsALeaf(Broken):
    def scale(self, a: Scalar, x: Leaves) -> Leaves:
        return (*self.sound.scale(a, x[:-1]), x[-1])


class MultiplyAddsUp(Broken):
    def multiply(self, x: Leaves, y: Leaves) -> Leaves:
        return self.sound.axpby(1.0, x, 1.0, y)


class DivideUnguarded(Broken):
    def divide(self, a: Scalar, b: Scalar) -> Scalar:
        with np.errstate(all="ignore"):
            return a / b


def linear(f: Framework) -> tuple[Any, ...]:
    x, y = (np.array([1.5, 2.0]), np.array([3.0])), (np.array([1.0, -2.0]), np.array([0.5]))
    return checks.check_linear, f, f.leaves(x, f.dtypes[:2]), f.leaves(y, f.dtypes[1::-1]), 0.5, 1.0


def product(f: Framework) -> tuple[Any, ...]:
    return checks.check_multiply, f, f.leaves((np.array([3.0]),)), f.leaves((np.array([4.0]),))


def norm(scale: float, q: float) -> Callable[[Framework], tuple[Any, ...]]:
    def case(f: Framework) -> tuple[Any, ...]:
        tree = (scale * np.array([3.0, 0.0]), scale * np.array([4.0, 1.0]))
        return checks.check_norm, f, f.leaves(tree, ["float32"] * 2), q

    return case


def inner(f: Framework) -> tuple[Any, ...]:
    x, y = (f.array(np.array(u), f.complex) for u in ([1 + 2j, -3], [2 - 1j, 1j + 1]))
    return checks.check_inner, f, (x,), (y,)


def sign(value: Any) -> Callable[[Framework], tuple[Any, ...]]:
    def case(f: Framework) -> tuple[Any, ...]:
        return checks.check_sign, f, f.array(np.array(value), f.complex if np.iscomplexobj(value) else f.dtypes[0])

    return case


def division(f: Framework) -> tuple[Any, ...]:
    return checks.check_divide, f, f.scalar(1.0), f.scalar(0.0)


CONTROLS: list[tuple[Callable[[Space], Space], Callable[[Framework], tuple[Any, ...]]]] = [
    (SignOfTheRealPart, sign([3 + 4j])),
    (SignWithoutZero, sign([0.0, 1.0])),
    (NormWithoutRescaling, norm(1e30, 2)),
    (NormWithoutRescaling, norm(1e-30, 2)),
    (NormLeafByLeaf, norm(1.0, 2)),
    (NormLeafByLeaf, norm(1.0, inf)),
    (InnerWithoutConjugate, inner),
    (InnerOfTheSizes, inner),
    (AxpbyInTheWrongDtype, linear),
    (AxpbyInPlace, linear),
    (ScaleForgetsALeaf, linear),
    (MultiplyAddsUp, product),
    (DivideUnguarded, division),
]


@pytest.mark.parametrize(("broken", "case"), CONTROLS, ids=[f"{b.__name__}{i}" for i, (b, _) in enumerate(CONTROLS)])
def test_broken_spaces_are_rejected(
    framework: Framework, broken: Callable[[Space], Space], case: Callable[[Framework], tuple[Any, ...]]
) -> None:
    check, f, *arguments = case(framework)
    check(f, *arguments)
    if broken is AxpbyInPlace and framework.name.startswith("jax"):
        return  # JAX has no arrays that could be changed
    damaged = replace(f, space=lambda count: broken(framework.space(count)))
    assert rejected(check, damaged, *arguments)


def test_the_wrapper_itself_is_not_rejected(framework: Framework) -> None:
    damaged = replace(framework, space=lambda count: Broken(framework.space(count)))
    for case in (linear, product, norm(1e30, 2), inner, sign([3 + 4j]), division):
        check, _, *arguments = case(framework)
        check(damaged, *arguments)
    assert Leaf() == damaged.space(1).leaves[0]
