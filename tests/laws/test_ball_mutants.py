"""Layer 2: mutants of the ball, and the laws that kill them."""

from math import inf
from typing import Any

import numpy as np
import pytest

from samfamily import Vec
from samfamily.ball import BallAt, vertex
from samfamily.space import Scalar
from tests.laws.ball_laws import LAWS, Case


class Flipped(BallAt):
    def maximiser(self, d: Vec) -> Vec:
        return -super().maximiser(d)


class WithoutSign(BallAt):
    def maximiser(self, d: Vec) -> Vec:
        return super().maximiser(d.map(lambda _, x: abs(x)))


class LeafByLeaf(BallAt):
    """Each leaf has a norm of its own."""

    def maximiser(self, d: Vec) -> Vec:
        return super().maximiser(d.map(lambda _, x: x / max(np.linalg.norm(x), 1e-300)))


class MetricOnce(BallAt):
    """T inside, and not outside."""

    def maximiser(self, d: Vec) -> Vec:
        return BallAt(self.p, 1.0).maximiser(self.T * d)


class MetricOutside(BallAt):
    """T outside, and not inside."""

    def maximiser(self, d: Vec) -> Vec:
        return self.T * BallAt(self.p, 1.0).maximiser(d)


class PForQ(BallAt):
    def __init__(self, p: float, T: Any) -> None:
        super().__init__(p, T)
        self.p, self.q = self.q, self.p


class WrongDualNorm(BallAt):
    def dual_norm(self, d: Vec) -> Scalar:
        return self._scaled(d).norm(self.p)


class Stabilised(BallAt):
    """A constant in the denominator."""

    def maximiser(self, d: Vec) -> Vec:
        return self.T * ((self.T * d) / (self.dual_norm(d) + 1e-2)).signed_power(self.q - 1)


class Unguarded(BallAt):
    """Divides by a norm of zero."""

    def maximiser(self, d: Vec) -> Vec:
        return self.T * ((self.T * d) * (1 / np.float64(self.dual_norm(d)))).signed_power(self.q - 1)


class Unnormalised(BallAt):
    def maximiser(self, d: Vec) -> Vec:
        return self.T * (self.T * d).signed_power(self.q - 1)


KILLED = [
    (Flipped, "hoelder"),
    (Flipped, "optimal"),
    (WithoutSign, "hoelder"),
    (WithoutSign, "flips"),
    (WithoutSign, "odd"),
    (LeafByLeaf, "hoelder"),
    (LeafByLeaf, "chunks"),
    (LeafByLeaf, "permutes"),
    (MetricOnce, "hoelder"),
    (MetricOnce, "on_the_sphere"),
    (MetricOutside, "hoelder"),
    (MetricOutside, "optimal"),
    (PForQ, "hoelder"),
    (PForQ, "on_the_sphere"),
    (WrongDualNorm, "hoelder"),
    (Stabilised, "on_the_sphere"),
    (Stabilised, "scale_free"),
    (Unguarded, "zero_at_zero"),
    (Unnormalised, "on_the_sphere"),
    (Unnormalised, "scale_free"),
]
EXAMPLE = Case(3.0, (np.array([1.0, -2.0]), np.array([[0.5]])), (np.array([3.0, -4.0]), np.array([[1.5]])))


@pytest.mark.parametrize(("mutant", "law"), KILLED, ids=lambda x: getattr(x, "__name__", x))
@pytest.mark.parametrize("metric", ["identity", "elementwise"])
def test_mutants_are_killed(mutant: type[BallAt], law: str, metric: str) -> None:
    case = Case(EXAMPLE.p, EXAMPLE.w, EXAMPLE.d, metric)
    LAWS[law](BallAt, case)
    if metric == "identity" and mutant in {MetricOnce, MetricOutside}:
        return  # there is no metric to forget
    with np.errstate(all="ignore"), pytest.raises(AssertionError):
        LAWS[law](mutant, case)


def test_every_law_kills_a_mutant() -> None:
    assert {law for _, law in KILLED} == set(LAWS)


def test_a_vertex_that_splits_ties_is_killed() -> None:
    """Without the first-index rule the answer at a tie is no vertex, and too long."""
    d = Case(1.0, (np.ones(2),), (np.ones(2),)).framework.vec((np.ones(2),))
    assert np.count_nonzero(vertex(d).collapse()[0]) == 1
    assert np.count_nonzero(abs(d.leaves[0]) == d.norm(inf)) == 2
