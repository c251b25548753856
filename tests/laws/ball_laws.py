"""The laws of the ball, each a check on anything that answers like `BallAt`, held against extended-precision NumPy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from typing import Any, TypeAlias

import numpy as np

from samfamily import Adaptive, Identity, elementwise, filterwise, layerwise
from samfamily.ball import BallAt
from samfamily.metric import Metric
from tests.spaces_under_test import EPS, NUMPY, Framework, to_tree
from tests.strategies import Tree, flat, site

Make: TypeAlias = Callable[[float, Any], Any]
"""From p and the metric at the point to a ball: `BallAt`, or a mutant of it."""


def filter_sizes(w: Any) -> Any:
    axes = tuple(range(1, w.ndim))
    return np.sqrt(np.sum(w**2, axis=axes, keepdims=True)) + 0 * w if w.ndim > 1 else abs(w)


ETA = 0.01
METRICS: dict[str, tuple[Metric, Callable[[Any], Any]]] = {
    "identity": (Identity(), np.ones_like),
    "elementwise": (Adaptive(elementwise, ETA), lambda w: abs(w) + ETA),
    "layerwise": (Adaptive(layerwise, ETA), lambda w: np.sqrt(np.sum(w**2)) + ETA + 0 * w),
    "filterwise": (Adaptive(filterwise, ETA), lambda w: filter_sizes(w) + ETA),
}
"""Each metric, and the plain formula of its value on one leaf."""


@dataclass(frozen=True)
class Case:
    """One ball and one direction: what a law is tried on."""

    p: float
    w: Tree
    d: Tree
    metric: str = "identity"
    framework: Framework = NUMPY

    @property
    def q(self) -> float:
        return inf if self.p == 1 else 1.0 if self.p == inf else self.p / (self.p - 1)

    @property
    def sizes(self) -> Any:
        """The metric at w, in one long vector."""
        formula = METRICS[self.metric][1]
        return flat([formula(x.astype(np.longdouble)) for x in self.w])

    @property
    def g(self) -> Any:
        """The direction as the framework holds it, in one long vector."""
        return flat(to_tree(self.framework.vec(self.d))).astype(np.longdouble)

    @property
    def rounding(self) -> float:
        """The tolerance of P1: (n + 4q + 8) u."""
        return float(self.g.size + 4 * (1 if self.p == 1 else self.q) + 8) * EPS[self.framework.dtypes[0]] / 2

    def answer(self, make: Make, scalar: float = 1.0) -> Tree:
        """Return the maximiser for `scalar` times d, leaf by leaf."""
        w = self.framework.vec(self.w)
        return to_tree(make(self.p, METRICS[self.metric][0](site(w))).maximiser(scalar * self.framework.vec(self.d)))


def p_norm(x: Any, p: float) -> Any:
    top = abs(x).max(initial=0)
    if p == inf or top == 0:
        return top
    return top * (abs(x / top) ** p).sum() ** (1 / np.longdouble(p))


def agree(left: Any, right: Any, relative: float) -> None:
    """Assert equality relative to each entry, but for what underflow may take from the smallest."""
    left, right = flat(left), flat(right)
    assert np.all(abs(left - right) <= relative * abs(right) + 1e-30 * abs(right).max(initial=0)), (left, right)


# ------------------------------------------------------------------------------------------------------------ the laws


def hoelder(make: Make, case: Case) -> None:
    r"""P1: \(\langle d, e\rangle = \lVert T d\rVert_q\), which is what `dual_norm` returns."""
    e, exact = flat(case.answer(make)), p_norm(case.sizes * case.g, case.q)
    assert abs(np.sum(case.g * e) - exact) <= case.rounding * exact
    ball = make(case.p, METRICS[case.metric][0](site(case.framework.vec(case.w))))
    assert abs(float(ball.dual_norm(case.framework.vec(case.d))) - exact) <= case.rounding * exact


def on_the_sphere(make: Make, case: Case) -> None:
    r"""P1: \(\lVert T^{-1} e\rVert_p \le 1\), with equality unless d is 0 or p is infinite."""
    size = p_norm(flat(case.answer(make)) / case.sizes, case.p)
    assert size <= 1 + case.rounding
    if np.any(case.g):
        assert size >= 1 - case.rounding


def optimal(make: Make, case: Case) -> None:
    """P2: no point of the ball does better; tried are corners, axes and a hundred random points."""
    rng = np.random.default_rng(0)
    n = case.g.size
    tried = np.concatenate([rng.normal(size=(100, n)), np.sign(rng.normal(size=(20, n))), np.eye(n), -np.eye(n)])
    best = np.sum(case.g * flat(case.answer(make)))
    for x in tried:
        e = case.sizes * x / (p_norm(x.astype(np.longdouble), case.p) or 1)
        assert np.sum(case.g * e) <= best * (1 + max(1e-12, case.rounding))


def zero_at_zero(make: Make, case: Case) -> None:
    """P3: the zero direction has the zero answer, exactly."""
    nothing = replace(case, d=tuple(0 * x for x in case.d))
    with np.errstate(invalid="ignore"):
        assert not np.any(flat(nothing.answer(make)) != 0)
    if case.p == 2:
        np.testing.assert_array_equal(flat(nothing.answer(make, 1e30)), 0)


def scale_free(make: Make, case: Case) -> None:
    """P15: multiplying the loss by a power of two changes no bit."""
    for k in (-12, 9):
        other = replace(case, d=tuple(2.0**k * x for x in case.d))
        np.testing.assert_array_equal(flat(other.answer(make)), flat(case.answer(make)))


def odd(make: Make, case: Case) -> None:
    """The answer to a d is sign(a) times the answer to d, also where the scalar a lies beside the leaves."""
    answer = flat(case.answer(make))
    for scalar in (2.0, -1.0, -0.5, 0.0):
        agree([flat(case.answer(make, scalar))], [np.sign(scalar) * answer], case.rounding)


def flips(make: Make, case: Case) -> None:
    """P17: flipping signs of coordinates flips those of the answer, bit by bit."""
    rng = np.random.default_rng(0)
    signs = [np.where(rng.random(x.shape) < 0.5, -1.0, 1.0) for x in case.d]
    other = replace(
        case,
        w=tuple(s * x for s, x in zip(signs, case.w, strict=True)),
        d=tuple(s * x for s, x in zip(signs, case.d, strict=True)),
    )
    np.testing.assert_array_equal(flat(other.answer(make)), flat(signs) * flat(case.answer(make)))


def chunks(make: Make, case: Case) -> None:
    """P17: cut into other leaves, the tree has the same answer; the norm is one over all leaves."""
    if case.metric in {"identity", "elementwise"}:
        cut = case.g.size // 2
        for pieces in ([flat(case.w)], [flat(case.d)]), (np.split(flat(case.w), [cut]), np.split(flat(case.d), [cut])):
            other = replace(case, w=tuple(pieces[0]), d=tuple(pieces[1]))
            agree(other.answer(make), case.answer(make), case.rounding)


def permutes(make: Make, case: Case) -> None:
    """P17: permuted coordinates have the permuted answer; at p = 1 off ties."""
    top = np.sort(abs(case.sizes * case.g))
    tied = case.p == 1 and top.size > 1 and top[-1] <= top[-2] * (1 + 1e-6)
    if case.metric in {"identity", "elementwise"} and not tied:
        order = np.random.default_rng(0).permutation(case.g.size)
        other = replace(case, w=(flat(case.w)[order],), d=(flat(case.d)[order],))
        agree(other.answer(make), [flat(case.answer(make))[order]], case.rounding)


LAWS = {law.__name__: law for law in (hoelder, on_the_sphere, optimal, zero_at_zero)}
LAWS |= {law.__name__: law for law in (scale_free, odd, flips, chunks, permutes)}

__all__ = ["LAWS", "METRICS", "BallAt", "Case", "Make", "agree", "p_norm"]
