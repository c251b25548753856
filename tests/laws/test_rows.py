"""Layer 2: laws of whole steps, for every row with its options, each with a mutant that it kills."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samfamily import ASAM, SAM, Variant, Vec
from samfamily.program import drive
from tests.laws import losses
from tests.laws.losses import ORDERS, VARIANTS, Loss, affine, convex, start, vec, walk, wavy
from tests.spaces_under_test import Framework, to_tree
from tests.strategies import flat, radii, seeds, site

U = 2.0**-53
rows = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)


# ------------------------------------------------------------------------------------------------- zero and constant


@rows
def test_a_zero_gradient_is_no_perturbation(variant: Variant, framework: Framework) -> None:
    """P3: every point asked about is w, bit by bit, and the step is the base optimizer's."""
    named = getattr(variant.ball.metric, "euclidean", None) is not None
    w = vec(start(0)) if named else framework.vec(losses.tree(start(0)))
    zero = Vec(w.space, tuple(0 * x for x in w.leaves))
    points: list[Any] = []

    def answer(request: Any) -> Vec:
        if isinstance(request, Vec):
            points.append(request)
        return zero

    step = drive(variant.program(w, variant.init(w)), answer)
    for point in points:
        np.testing.assert_array_equal(flat(to_tree(point)), flat(to_tree(w)))
    np.testing.assert_array_equal(flat(to_tree(step.gradient)), 0)
    assert float(step.dual_norm) == 0


@rows
@given(seeds)
def test_an_affine_loss_is_climbed_for_nothing(variant: Variant, seed: int) -> None:
    """P4: SAM's gradient is the plain one, bit by bit, and its point attains the maximum."""
    loss, w = affine(seed), vec(start(seed))
    found = walk(variant, loss, w)
    np.testing.assert_array_equal(flat(found.step.gradient.collapse()), flat(found.gradients[0].collapse()))
    gain = loss.gradient(flat(w.leaves)) @ found.epsilon
    assert gain == pytest.approx(0.1 * float(found.step.dual_norm), rel=1e-12)


@rows
def test_a_radius_of_zero_asks_once_and_returns_what_it_was_told(variant: Variant) -> None:
    variant = variant.with_rho(0.0)
    w = vec(start(0))
    found = walk(variant, wavy(0), w)
    assert found.points == [w]
    assert found.step.gradient is found.gradients[0]
    assert found.step.radius == 0
    assert variant.gradients_per_step == 1
    assert variant.hessian_vector_products_per_step == 0


# ------------------------------------------------------------------------------------------------------------- costs


@rows
def test_a_step_costs_what_the_variant_states(variant: Variant) -> None:
    """P37: requests counted."""
    found = walk(variant, wavy(0), vec(start(0)))
    assert len(found.points) == variant.gradients_per_step
    assert len(found.products) == variant.hessian_vector_products_per_step
    assert found.points[0] is not found.points[-1]


# ---------------------------------------------------------------------------------------------------- scale of things


@rows
@given(seeds, st.integers(-12, 12))
def test_scaling_the_loss_changes_no_bit_of_the_perturbation(variant: Variant, seed: int, k: int) -> None:
    """P15, c = 2^k."""
    loss, w = wavy(seed), vec(start(seed))
    scaled = replace(loss, gradient=lambda x: 2.0**k * loss.gradient(x), hessian=lambda x: 2.0**k * loss.hessian(x))
    np.testing.assert_array_equal(walk(variant, scaled, w).epsilon, walk(variant, loss, w).epsilon)


@pytest.mark.parametrize("variant", [SAM(p=p) for p in ORDERS] + [ASAM(p=p) for p in ORDERS], ids=str)
@given(seeds, st.integers(-12, 12))
def test_the_perturbation_is_homogeneous_in_rho(variant: Variant, seed: int, k: int) -> None:
    """P16: eps(2^k rho) = 2^k eps(rho), bit by bit."""
    w, d = vec(start(seed)), vec(wavy(seed).gradient(start(seed)))
    one, other = ((rho * variant.ball.at(site(w)).maximiser(d)).collapse() for rho in (0.3, 2.0**k * 0.3))
    np.testing.assert_array_equal(flat(other), 2.0**k * flat(one))


# ----------------------------------------------------------------------------------------------------- convex losses


@pytest.mark.parametrize("p", ORDERS)
@given(seeds, radii)
def test_a_convex_loss_rises_at_least_by_its_linear_model(p: float, seed: int, rho: float) -> None:
    """P14: L(w + eps) >= L(w) + rho ||g||_q."""
    loss, w = convex(seed), start(seed)
    found = walk(SAM(rho=rho, p=p), loss, vec(w))
    linear = rho * float(found.step.dual_norm)
    assert loss.value(w + found.epsilon) >= loss.value(w) + linear - 1e-12 * (1 + abs(loss.value(w)) + linear)


def climbs_ever_higher(variant: Variant, loss: Loss, seed: int) -> None:
    points = walk(variant, loss, vec(start(seed))).points
    heights = [loss.value(flat(point.collapse())) for point in points]
    assert all(b >= a - 1e-12 * (1 + abs(a)) for a, b in pairwise(heights))


@pytest.mark.parametrize("p", ORDERS)
@given(seeds, radii)
def test_more_steps_climb_a_convex_loss_higher(p: float, seed: int, rho: float) -> None:
    """P13: each further climb inside the ball is at least as high."""
    climbs_ever_higher(SAM(rho=rho, p=p, steps=5), convex(seed), seed)


def test_losses_that_are_not_convex_fail_both() -> None:
    """Negative control: the two laws above are of convexity, and see its absence."""
    loss, w = wavy(0), start(0)
    found = walk(SAM(rho=7.0), loss, vec(w))
    assert loss.value(w + found.epsilon) < loss.value(w) + 7.0 * float(found.step.dual_norm)
    with pytest.raises(AssertionError):
        climbs_ever_higher(SAM(rho=7.0, steps=5), loss, 0)
