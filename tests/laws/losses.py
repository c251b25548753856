"""Losses with known derivatives, a driver that keeps every request, and the variants that laws are tried on.

All are analytic, so that their gradients also accept complex weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, prod
from typing import Any

import numpy as np

from samfamily import ASAM, SAM, HessianVector, State, Step, Variant, Vec, biases, filterwise, layerwise
from samfamily.program import Choice, Request, drive
from samfamily.reference import NumpySpace
from tests.strategies import Tree, flat

SHAPES: list[tuple[int, ...]] = [(2, 2), (), (3,)]
NAMES = ["layer.weight", "scale", "layer.bias"]
SIZE = sum(prod(shape) for shape in SHAPES)


def tree(x: Any) -> Tree:
    """Return one long vector as leaves of SHAPES."""
    parts = np.split(x, np.cumsum([prod(shape) for shape in SHAPES])[:-1])
    return tuple(part.reshape(shape) for part, shape in zip(parts, SHAPES, strict=True))


def vec(x: Any) -> Vec:
    return Vec(NumpySpace(NAMES), tree(x))


@dataclass(frozen=True)
class Loss:
    """A loss of one long vector: its value, gradient and Hessian there."""

    value: Callable[[Any], Any]
    gradient: Callable[[Any], Any]
    hessian: Callable[[Any], Any]

    def __call__(self, w: Any) -> tuple[Any, list[Any]]:
        """Return value and gradient as the NumPy driver wants them."""
        x = flat(w)
        return self.value(x), list(tree(self.gradient(x)))


def affine(seed: int) -> Loss:
    c = np.random.default_rng(seed).normal(size=SIZE)
    return Loss(lambda x: c @ x, lambda x: c + 0 * x, lambda x: 0 * np.eye(SIZE))


def quadratic(seed: int, isotropic: bool = False) -> Loss:
    rng = np.random.default_rng(seed)
    a, c = rng.normal(size=(SIZE, SIZE)), rng.normal(size=SIZE)
    H = 1.7 * np.eye(SIZE) if isotropic else a + a.T
    return Loss(lambda x: x @ H @ x / 2 + c @ x, lambda x: H @ x + c, lambda x: H)


def convex(seed: int) -> Loss:
    """Log-sum-exp of random affine functions, and a little of a square."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(9, SIZE)), rng.normal(size=9)

    def softmax(x: Any) -> Any:
        z = np.exp(a @ x + b)
        return z / z.sum()

    def hessian(x: Any) -> Any:
        s = softmax(x)
        return a.T @ (np.diag(s) - np.outer(s, s)) @ a + 0.1 * np.eye(SIZE)

    return Loss(lambda x: np.log(np.exp(a @ x + b).sum()) + 0.05 * x @ x, lambda x: a.T @ softmax(x) + 0.1 * x, hessian)


def wavy(seed: int) -> Loss:
    """Smooth, and convex nowhere near."""
    a = np.random.default_rng(seed).normal(size=(9, SIZE))
    return Loss(
        lambda x: np.sin(a @ x).sum(), lambda x: a.T @ np.cos(a @ x), lambda x: -a.T @ np.diag(np.sin(a @ x)) @ a
    )


@dataclass
class Walk:
    """One step of a variant, driven by hand.

    Attributes:
        points: where it asked for gradients.
        gradients: what it was told.
        products: the Hessian-vector products that it asked for.
        step: what it returned.
    """

    points: list[Vec]
    gradients: list[Vec]
    products: list[HessianVector]
    step: Step

    @property
    def epsilon(self) -> Any:
        """The last point minus the first."""
        return flat(self.points[-1].collapse()) - flat(self.points[0].collapse())


def walk(variant: Variant, loss: Loss, w: Vec, state: State | None = None) -> Walk:
    points, gradients, products = [], [], []

    def answer(request: Request) -> Vec | bool:
        if isinstance(request, Choice):
            return bool(request.predicate)
        if isinstance(request, HessianVector):
            products.append(request)
            return vec(loss.hessian(flat(request.w.collapse())) @ flat(request.v.collapse()))
        points.append(request)
        gradients.append(vec(loss.gradient(flat(request.collapse()))))
        return gradients[-1]

    step = drive(variant.program(w, variant.init(w) if state is None else state), answer)
    return Walk(points, gradients, products, step)


def start(seed: int) -> Any:
    return np.random.default_rng(seed + 1).normal(size=SIZE)


ORDERS = [1.0, 1.5, 2.0, 3.0, inf]
VARIANTS: dict[str, Variant] = {
    **{f"SAM p={p}": SAM(rho=0.1, p=p) for p in ORDERS},
    **{f"SAM p={p} 3 steps": SAM(rho=0.1, p=p, steps=3) for p in ORDERS},
    **{f"ASAM p={p}": ASAM(rho=0.1, p=p) for p in ORDERS},
    "ASAM layerwise": ASAM(rho=0.1, size=layerwise),
    "ASAM filterwise 2 steps": ASAM(rho=0.1, size=filterwise, steps=2),
    "ASAM Euclidean biases": ASAM(rho=0.1, euclidean=biases),
    "SAM second order": SAM(rho=0.1, second_order=True),
}
