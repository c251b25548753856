r"""The inner maximum of any smooth loss, searched for by a program: fixed-point iteration, and ascent with restarts.

Like a variant's, these programs are generators in the algebra of `Vec`, so that one statement serves NumPy and both
adapters.  They yield a point and are sent `(loss, gradient)` there.  Unlike a step of training they read what they are
sent, number by number: this is for looking, not for every step.

In the coordinates \(u = T^{-1}\epsilon\) the ball is \(\lVert u\rVert_p \le \rho\) and the gradient
\(a = T\,\nabla L(w + Tu)\).
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from math import inf
from typing import Any, NamedTuple, TypeAlias, TypeVar

from samfamily import check, noise
from samfamily.ball import BallAt
from samfamily.space import Vec

R = TypeVar("R")
Measuring: TypeAlias = Generator[Vec, tuple[Any, Vec], R]
"""A generator that yields points, is sent the loss and its gradient there, and returns an `R`."""


class Visited(NamedTuple):
    """A point of the ball where the loss was measured: u, the loss, and the gradient a."""

    u: Vec
    value: float
    a: Vec


class Found(NamedTuple):
    r"""What a search found.

    Attributes:
        best: the highest point.
        first: the first-order step's point.
        upper: no point of the ball is higher than this; infinite if nobody said how the gradient varies.
        error: no maximiser is farther from `best` than this, in the ball's norm; infinite if not known.
        slope: the largest \(\lVert a - a_0\rVert_q / \lVert u\rVert_p\) seen, which the gradient's Lipschitz constant
            cannot be below.
        evaluations: losses and gradients measured.
    """

    best: Visited
    first: Visited
    upper: float
    error: float
    slope: float
    evaluations: int


@dataclass(frozen=True)
class Effort:
    r"""How hard to search.

    Attributes:
        iterations: points visited from one start at most.
        restarts: starts: the first-order step's point, and random ones on the sphere.
        tolerance: where to stop: of the distance to the maximiser and of the linear model's rise, both relative.
        seed: of the random starts.

    Raises:
        ValueError: iterations or restarts below 1, a tolerance that is negative or not finite.
    """

    iterations: int = 200
    restarts: int = 20
    tolerance: float = 1e-12
    seed: int = 0

    def __post_init__(self) -> None:
        check.positive_integer("iterations", self.iterations)
        check.positive_integer("restarts", self.restarts)
        check.nonnegative("tolerance", self.tolerance)


class Search:
    r"""The search for the maximum of \(L(w + Tu)\) on \(\lVert u\rVert_p \le \rho\).

    Args:
        w: the weights.
        T: the metric, or the number 1.
        rho: the radius.
        p: norm of the ball.
        beta: the Lipschitz constant of \(a\) in the ball's norms, if it is known.
        effort: how hard to search.
    """

    def __init__(
        self, w: Vec, T: Vec | float, rho: float, p: float, beta: float | None, effort: Effort = Effort()
    ) -> None:
        self.w, self.T, self.rho, self.beta, self.effort = w, T, rho, beta, effort
        self.ball = BallAt(p)
        self.evaluations, self.slope = 1, 0.0

    def run(self, loss: Any, gradient: Vec) -> Measuring[Found]:
        """Search from the loss and its gradient at w, and return what was found."""
        rho, beta = self.rho, self.beta
        self.origin = origin = Visited(0.0 * self.w, float(loss), self.T * gradient)
        steepness = float(origin.a.norm(self.ball.q))
        first = yield from self._visit(self._farthest(origin))
        upper = inf if beta is None else origin.value + rho * steepness + 0.5 * beta * rho * rho
        if self.ball.p == 2 and beta is not None and 2 * beta * rho < steepness:
            best, error = yield from self._contract(first, beta * rho / (steepness - beta * rho))
            higher = rho * float(best.a.norm(2)) - float(best.a.inner(best.u)) + 0.5 * beta * error**2
            return self._found(best, first, min(upper, best.value + max(higher, 0.0)), error)
        best = max(origin, (yield from self._ascend(first)), key=_value)
        for i in range(1, self.effort.restarts):
            z = noise.normal(self.w, self.effort.seed, i)
            start = yield from self._visit(rho * (z / z.norm(self.ball.p)))
            best = max(best, (yield from self._ascend(start)), key=_value)
        return self._found(best, first, upper, inf)

    def _contract(self, point: Visited, kappa: float) -> Measuring[tuple[Visited, float]]:
        r"""Iterate \(u \leftarrow \rho\,a(u) / \lVert a(u)\rVert\), a contraction at p = 2 and \(x < \tfrac12\).

        There \(\kappa = x / (1-x) < 1\), \(x = \beta\rho / \lVert a_0\rVert\), and the one fixed point is the global
        maximiser.  After a step of length s it is at most \(\delta = s\,\kappa / (1-\kappa)\) away, and the loss
        there at most \(\rho\lVert a\rVert - \langle a, u\rangle + \tfrac12\beta\delta^2\) higher.
        """
        error = 2 * self.rho
        for _ in range(self.effort.iterations):
            u = self._farthest(point)
            nearer = float((u - point.u).norm(2)) * kappa / (1 - kappa)
            if nearer >= error:  # as near as rounding lets it come
                break
            point, error = (yield from self._visit(u)), nearer
            if error <= self.effort.tolerance * self.rho:
                break
        return point, error

    def _ascend(self, point: Visited) -> Measuring[Visited]:
        """Take the same step, damped until the loss rises: what it ends at is a local maximum, a lower bound."""
        t = 1.0
        for _ in range(self.effort.iterations):
            farthest = self._farthest(point)
            rise = float(point.a.inner(farthest - point.u))
            told_apart = self.w.space.rounding(self.w.leaves) * abs(point.value)
            steep = self.rho * float(point.a.norm(self.ball.q))
            if rise <= self.effort.tolerance * steep or t * rise <= told_apart:
                break
            trial = yield from self._visit(_towards(self.ball.p, self.rho, point.u, farthest, t))
            if trial.value > point.value + 1e-4 * float(point.a.inner(trial.u - point.u)):
                point, t = trial, min(1.0, 2 * t)
            else:
                t = t / 4
        return point

    def _farthest(self, point: Visited) -> Vec:
        """Return the ball's best answer to the gradient at a point."""
        return self.rho * self.ball.maximiser(point.a)

    def _visit(self, u: Vec) -> Measuring[Visited]:
        value, g = yield self.w + self.T * u
        point = Visited(u, float(value), self.T * g)
        self.evaluations += 1
        if (distance := float(u.norm(self.ball.p))) > 0:
            self.slope = max(self.slope, float((point.a - self.origin.a).norm(self.ball.q)) / distance)
        return point

    def _found(self, best: Visited, first: Visited, upper: float, error: float) -> Found:
        return Found(best, first, float(upper), float(error), self.slope, self.evaluations)


def _value(point: Visited) -> float:
    return point.value


def _towards(p: float, rho: float, u: Vec, farthest: Vec, t: float) -> Vec:
    r"""Return a point of the ball on the way from \(u\), \(t = 1\) being the farthest along the gradient.

    At p = 2 it is the projected gradient's, \(\Pi(u + \tfrac{t}{1-t}\,\rho\hat a)\); else the conditional gradient's,
    \((1-t) u + t\,\rho\,\mathrm{lmo}_p(a)\), which needs no projection.
    """
    if t == 1:
        return farthest
    if p != 2:
        return (1 - t) * u + t * farthest
    beyond = u + (t / (1 - t)) * farthest
    length = float(beyond.norm(2))
    return beyond if length <= rho else (rho / length) * beyond
