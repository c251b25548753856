"""Layer 2: several climbs inside one ball, and mutants of the program that climb otherwise."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given

from samfamily import ASAM, SAM, State, Step, Variant, Vec
from samfamily.program import Asking
from tests.laws.ball_laws import p_norm
from tests.laws.losses import ORDERS, SIZE, start, vec, walk, wavy
from tests.strategies import flat, seeds, site

U = 2.0**-53


def stays_in_the_ball_and_follows_the_last_gradient(variant: Variant, seed: int) -> None:
    """k + 1 gradients; every point is w plus rho times the answer to the gradient at the point before."""
    w = vec(start(seed))
    found = walk(variant, wavy(seed), w)
    ball = variant.ball.at(site(w))
    assert len(found.points) == variant.ascent.steps + 1
    assert found.points[0] is w
    T = flat((ball.T * vec(np.ones(SIZE))).collapse())
    x = flat(w.leaves)
    for point, direction in zip(found.points[1:], found.gradients, strict=False):
        away = flat(point.collapse()) - x
        rounding = p_norm(U * abs(x) / T, variant.ball.p)
        assert p_norm(away / T, variant.ball.p) <= 0.1 * (1 + 100 * U) + 2 * rounding
        expected = (w + 0.1 * ball.maximiser(direction)).collapse()
        np.testing.assert_array_equal(flat(point.collapse()), flat(expected))
    assert found.step.gradient is found.gradients[-1]


STEPPED = [SAM(rho=0.1, p=p, steps=k) for p in ORDERS for k in (1, 4)]
STEPPED += [ASAM(rho=0.1, p=p, steps=3) for p in ORDERS]


@pytest.mark.parametrize("variant", STEPPED, ids=lambda v: f"{v.name}-p{v.ball.p}-{v.ascent.steps}")
@given(seeds)
def test_steps(variant: Variant, seed: int) -> None:
    stays_in_the_ball_and_follows_the_last_gradient(variant, seed)


@dataclass(frozen=True)
class FromTheLastPoint(Variant):
    """A mutant whose steps add up."""

    def program(self, w: Vec, state: State) -> Asking[Step]:
        d, point, ball = (yield w), w, self.ball.at(site(w))
        for _ in range(self.ascent.steps):
            point = point + 0.1 * ball.maximiser(d)
            d = yield point
        return Step(d, state, 0.0, 0.1)


@dataclass(frozen=True)
class AlwaysTheFirstGradient(Variant):
    """A mutant whose further steps go nowhere new."""

    def program(self, w: Vec, state: State) -> Asking[Step]:
        d = h = yield w
        for _ in range(self.ascent.steps):
            h = yield w + 0.1 * self.ball.at(site(w)).maximiser(d)
        return Step(h, state, 0.0, 0.1)


@dataclass(frozen=True)
class GradientAtHome(Variant):
    """A mutant that climbs and returns the gradient at w."""

    def program(self, w: Vec, state: State) -> Asking[Step]:
        g = d = yield w
        for _ in range(self.ascent.steps):
            d = yield w + 0.1 * self.ball.at(site(w)).maximiser(d)
        return Step(g, state, 0.0, 0.1)


@pytest.mark.parametrize("mutant", [FromTheLastPoint, AlwaysTheFirstGradient, GradientAtHome])
def test_mutants_of_the_steps_are_killed(mutant: type[Variant]) -> None:
    sound = SAM(rho=0.1, steps=3)
    variant = mutant("mutant", sound.radius, sound.ball, sound.ascent)
    with pytest.raises(AssertionError):
        stays_in_the_ball_and_follows_the_last_gradient(variant, 0)
