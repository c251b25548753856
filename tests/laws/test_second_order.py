"""Layer 2: second_order is the whole derivative of w -> L(w + eps(w)), and nothing else is."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from samfamily import SAM, HessianVector, Vec
from samfamily.descent import Climb, Descended, SecondOrder
from samfamily.program import Asking
from samfamily.reference import value_and_grad
from samfamily.variant import Variant
from tests.laws.losses import SIZE, Loss, convex, quadratic, start, tree, vec, walk, wavy
from tests.strategies import flat, seeds

RHO = 0.3
ROW = SAM(rho=RHO, second_order=True)
FAMILIES: list[Callable[[int], Loss]] = [quadratic, convex, wavy]


def gradient(variant: Variant, loss: Loss, w: Any) -> Any:
    """Return what the variant follows, its Hessian-vector products by the NumPy driver's complex step."""
    return flat(value_and_grad(loss, variant)(list(tree(w)))[1])


def perturbed(loss: Loss, w: Any) -> Any:
    """Return L(w + eps(w)), written out."""
    g = loss.gradient(w)
    return loss.value(w + RHO * g / np.sqrt(g @ g))


def is_the_whole_derivative(variant: Variant, loss: Loss, w: Any) -> None:
    """P33: equal to central differences of h = 1e-5, to 1e-7 of the curvature's size."""
    h = 1e-5
    differences = [(perturbed(loss, w + h * e) - perturbed(loss, w - h * e)) / (2 * h) for e in np.eye(SIZE)]
    np.testing.assert_allclose(gradient(variant, loss, w), differences, rtol=1e-7, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
@given(seeds)
def test_it_equals_central_differences(family: Callable[[int], Loss], seed: int) -> None:
    is_the_whole_derivative(ROW, family(seed), start(seed))


@given(seeds)
def test_its_closed_form_on_quadratics(seed: int) -> None:
    r"""SAM's gradient plus \((\rho^2 / \lVert g\rVert) H P_\perp H \hat g\)."""
    loss, w = quadratic(seed), start(seed)
    g, H = loss.gradient(w), loss.hessian(w)
    n = np.linalg.norm(g)
    unit = g / n
    across = np.eye(SIZE) - np.outer(unit, unit)
    expected = g + RHO * H @ unit + RHO**2 / n * H @ across @ H @ unit
    np.testing.assert_allclose(
        gradient(ROW, loss, w), expected, rtol=1e-10, atol=1e-10 * float(np.linalg.norm(expected))
    )


@given(seeds)
def test_it_is_sam_where_the_hessian_is_a_multiple_of_one(seed: int) -> None:
    loss, w = quadratic(seed, isotropic=True), start(seed)
    np.testing.assert_allclose(gradient(ROW, loss, w), gradient(SAM(rho=RHO), loss, w), rtol=1e-12, atol=1e-12)


@given(seeds)
def test_the_complex_step_is_the_hessian(seed: int) -> None:
    """The driver by complex steps, and the walk by the Hessian itself, are one."""
    loss, w = wavy(seed), start(seed)
    by_hand = flat(walk(ROW, loss, vec(w)).step.gradient.collapse())
    np.testing.assert_allclose(gradient(ROW, loss, w), by_hand, rtol=1e-12, atol=1e-12)


class WithoutProjection(SecondOrder):
    def __call__(self, climb: Climb, h: Vec, memory: Any) -> Asking[Descended]:
        correction = yield HessianVector(climb.w, climb.rho * (h / climb.dual_norm))
        return Descended(h + correction, memory)


class WithoutTheNorm(SecondOrder):
    def __call__(self, climb: Climb, h: Vec, memory: Any) -> Asking[Descended]:
        unit = climb.d / climb.dual_norm
        correction = yield HessianVector(climb.w, climb.rho * (h - unit.inner(h) * unit))
        return Descended(h + correction, memory)


class AtThePerturbedPoint(SecondOrder):
    def __call__(self, climb: Climb, h: Vec, memory: Any) -> Asking[Descended]:
        unit = climb.d / climb.dual_norm
        across = h - unit.inner(h) * unit
        correction = yield HessianVector(climb.w + climb.epsilon, climb.rho * (across / climb.dual_norm))
        return Descended(h + correction, memory)


class Subtracted(SecondOrder):
    def __call__(self, climb: Climb, h: Vec, memory: Any) -> Asking[Descended]:
        unit = climb.d / climb.dual_norm
        across = h - unit.inner(h) * unit
        correction = yield HessianVector(climb.w, climb.rho * (across / climb.dual_norm))
        return Descended(h - correction, memory)


@pytest.mark.parametrize("mutant", [WithoutProjection, WithoutTheNorm, AtThePerturbedPoint, Subtracted])
def test_mutants_are_killed(mutant: type[SecondOrder]) -> None:
    with pytest.raises(AssertionError):
        is_the_whole_derivative(Variant("mutant", ROW.radius, descent=mutant()), wavy(0), start(0))


def test_plain_sam_is_not_the_whole_derivative() -> None:
    """Negative control: the term that Foret et al. drop is there to be seen."""
    with pytest.raises(AssertionError):
        is_the_whole_derivative(SAM(rho=RHO), wavy(0), start(0))
