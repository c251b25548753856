"""Trees of float64 arrays for hypothesis: well and badly scaled, with zeros, ties, 0-d and empty leaves.

Entries are never subnormal, so that a law may ask for relative precision; what happens in the subnormal range is for
tests that say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, prod
from typing import Any, TypeAlias

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from samfamily.program import Site
from samfamily.space import Vec

Tree: TypeAlias = tuple[Any, ...]
Shapes: TypeAlias = Sequence[tuple[int, ...]]

SHAPES: Shapes = [(), (1,), (3,), (2, 2), (2, 1, 2), (0,), (2, 0)]

entries = st.one_of(
    st.sampled_from([0.0, 1.0, -1.0, 0.5]),  # zeros and ties
    st.integers(-600, 600).map(lambda i: i / 30),
)
orders = st.one_of(st.sampled_from([1.0, 1.1, 1.5, 2.0, 3.0, 10.0, inf]), st.integers(106, 2000).map(lambda i: i / 100))
"""The p of a norm: the ends of [1, inf], the middle, and what lies between."""

radii = st.sampled_from([0.0, 0.05, 0.5, 1 / 3, 7.0])
seeds = st.integers(0, 2**32 - 1)


def sparing(share: int = 3) -> settings:
    """Settings for a law whose examples are dear, as where JAX runs op by op: a third of the profile's, or fewer."""
    return settings(max_examples=max(1, settings().max_examples // share))


@st.composite
def forests(
    draw: st.DrawFn, count: int = 2, shapes: Shapes | None = None, scales: Sequence[float] = (1e-30, 1.0, 1e30)
) -> list[Tree]:
    """Draw `count` trees of the same shapes; each leaf has a scale of its own, one of `scales`."""
    if shapes is None:
        shapes = draw(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=3))
    sizes = [prod(shape) for shape in shapes]
    forest = []
    for _ in range(count):
        flat = draw(st.lists(entries, min_size=sum(sizes), max_size=sum(sizes)))
        factors = draw(st.lists(st.sampled_from(scales), min_size=len(sizes), max_size=len(sizes)))
        parts = np.split(np.array(flat, float), np.cumsum(sizes)[:-1])
        forest.append(tuple((u * f).reshape(s) for u, f, s in zip(parts, factors, shapes, strict=True)))
    return forest


def tame(count: int = 2, shapes: Shapes | None = None) -> st.SearchStrategy[list[Tree]]:
    """Trees whose entries are zero or between 1/30 and 20 in size."""
    return forests(count, shapes, (1.0,))


def trees(shapes: Shapes | None = None) -> st.SearchStrategy[Tree]:
    """One tree, well or badly scaled."""
    return forests(1, shapes).map(lambda forest: forest[0])


def flat(tree: Sequence[Any]) -> Any:
    """Return all entries of a tree in one vector."""
    return np.concatenate([np.asarray(x).reshape(-1) for x in tree])


def site(w: Vec) -> Site:
    """Return the first step's place at `w`, for what looks at nothing but the weights."""
    return Site(w, w, 0)


@dataclass(frozen=True)
class Quadratic:
    """A quadratic in the basis of its eigenvectors; prints as what makes it again.

    Attributes:
        eigenvalues: of H, in any order.
        leaning: the gradient in that basis; a zero at the top eigenvalue makes the hard case.
        rho: the radius.
        turn: seed of the rotation into the standard basis; None leaves it out.
    """

    eigenvalues: tuple[float, ...]
    leaning: tuple[float, ...]
    rho: float
    turn: int | None = None

    @property
    def n(self) -> int:
        return len(self.eigenvalues)

    @property
    def basis(self) -> Any:
        if self.turn is None:
            return np.eye(self.n)
        return np.linalg.qr(np.random.default_rng(self.turn).normal(size=(self.n, self.n)))[0]

    @property
    def g(self) -> Any:
        return self.basis @ np.array(self.leaning)

    @property
    def H(self) -> Any:
        H = (self.basis * np.array(self.eigenvalues)) @ self.basis.T
        return (H + H.T) / 2

    @property
    def beta(self) -> float:
        """The gradient's Lipschitz constant in the Euclidean norm."""
        return max(map(abs, self.eigenvalues))

    @property
    def rise(self) -> float:
        r"""What values are rounded against: \(\rho\lVert g\rVert + \beta\rho^2\), as P6 has it."""
        return self.rho * float(np.linalg.norm(self.g)) + self.beta * self.rho**2


@st.composite
def quadratics(draw: st.DrawFn, most: int = 6, convex: bool = False, hard: bool = True) -> Quadratic:
    """Draw a quadratic: indefinite, singular, ill-conditioned, with equal eigenvalues; hard and nearly hard cases."""
    n = draw(st.integers(1, most))
    sizes = st.one_of(st.sampled_from([0.0, 1.0, 1.0, 2.0]), st.integers(-8, 0).map(lambda k: 10.0**k), st.floats(0, 3))
    signs = st.just(1.0) if convex else st.sampled_from([1.0, -1.0])
    eigenvalues = [draw(sizes) * draw(signs) for _ in range(n)]
    leaning = [draw(entries) for _ in range(n)]
    top = eigenvalues.index(max(eigenvalues))
    if hard:
        leaning[top] *= draw(st.sampled_from([1.0, 1.0, 0.0, 1e-3, 1e-8, 1e-16, 1e-30]))
    scale, rho = draw(st.sampled_from([1.0, 1.0, 1e-30, 1e30])), draw(st.sampled_from([1e-3, 0.1, 1.0, 30.0]))
    turn = draw(st.one_of(st.none(), seeds))
    return Quadratic(tuple(scale * x for x in eigenvalues), tuple(scale * x for x in leaning), rho, turn)


@st.composite
def steep(draw: st.DrawFn, most: int = 6, convex: bool = False) -> Quadratic:
    """Draw a quadratic with a gradient that is not zero, no entry of it tiny, and a curvature of order 1."""
    n = draw(st.integers(2, most))
    eigenvalues = draw(st.lists(st.floats(0.0 if convex else -2.0, 2.0), min_size=n, max_size=n))
    leaning = draw(st.lists(st.one_of(st.floats(0.1, 3.0), st.floats(-3.0, -0.1)), min_size=n, max_size=n))
    return Quadratic(tuple(eigenvalues), tuple(leaning), draw(st.sampled_from([1e-3, 1e-2, 0.1, 0.3])), draw(seeds))
