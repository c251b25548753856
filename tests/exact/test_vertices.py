"""Layer 2: linear losses in every ball, and convex quadratics at the vertices of the balls of p = 1 and p = inf."""

from dataclasses import FrozenInstanceError
from math import inf
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from samfamily import SAM, exact
from samfamily.exact import maximize_linear, maximize_quadratic
from tests.exact.oracles import axes, corners, model, on_the_sphere, p_norms
from tests.laws.losses import quadratic, start, vec, walk
from tests.strategies import Quadratic, orders, quadratics, seeds, steep

SIZES = st.lists(st.floats(0.1, 3.0), min_size=6, max_size=6)


@given(quadratics(), orders, SIZES)
def test_a_linear_loss_rises_by_the_dual_norm(case: Quadratic, p: float, sizes: list[float]) -> None:
    """P1, P2: Hoelder's value, attained on the ball, and by no other point."""
    T = np.array(sizes[: case.n])
    found = maximize_linear(case.g, case.rho, p, T)
    assert found.value == pytest.approx(case.g @ found.epsilon, rel=1e-12)
    assert found.certificate.upper == found.value
    assert found.certificate.exact
    assert p_norms(found.epsilon / T, p) <= case.rho * (1 + 1e-12)
    others = on_the_sphere(case.n, case.rho, 200, p=p) * T
    assert np.max(others @ case.g) <= found.value * (1 + 1e-12)


def test_a_linear_loss_by_hand() -> None:
    g = np.array([3.0, -4.0])
    assert [maximize_linear(g, 0.5, p).value for p in (1, 2, inf)] == [2.0, 2.5, 3.5]
    turned = maximize_linear(g, 1.0, metric=np.array([[0.0, 1.0], [1.0, 0.0]]))
    np.testing.assert_allclose(turned.epsilon, [0.6, -0.8], rtol=1e-15)
    assert maximize_linear(np.zeros(3), 1.0).value == 0
    whole = maximize_linear([3, -4], 0.5)
    np.testing.assert_allclose(whole.epsilon, [0.3, -0.4], rtol=1e-15)


def is_the_best_vertex(case: Quadratic, p: float, T: Any) -> None:
    """P11: no vertex is higher, and no other point of the ball either."""
    found = maximize_quadratic(case.g, case.H, case.rho, p, T)
    vertices = case.rho * (axes if p == 1 else corners)(case.n) * T
    best = np.max(model(case.g, case.H, vertices))
    size = 1e-12 * (abs(best) + case.rho * np.linalg.norm(case.g))
    assert abs(found.value - best) <= size
    assert abs(found.value - model(case.g, case.H, found.epsilon)) <= size
    assert p_norms(found.epsilon / T, p) <= case.rho * (1 + 1e-12)
    inside = on_the_sphere(case.n, case.rho, 300, p=p) * T
    assert np.max(model(case.g, case.H, inside)) <= found.value + size
    assert found.certificate.exact
    assert found.certificate.upper == found.value


@pytest.mark.parametrize("p", [1.0, inf])
@given(quadratics(convex=True), SIZES)
def test_a_convex_quadratic_is_highest_at_a_vertex(p: float, case: Quadratic, sizes: list[float]) -> None:
    is_the_best_vertex(case, p, np.array(sizes[: case.n]))


def test_the_best_axis_by_hand() -> None:
    """Half the curvature counts, so the steeper axis wins by little; and where nothing leans, the axis itself does."""
    H = np.diag([0.0, 0.8])
    np.testing.assert_array_equal(maximize_quadratic(np.array([-1.0, 0.5]), H, 1.0, p=1).epsilon, [-1.0, 0.0])
    np.testing.assert_array_equal(maximize_quadratic(np.array([-1.0, 0.7]), H, 1.0, p=1).epsilon, [0.0, 1.0])
    np.testing.assert_array_equal(maximize_quadratic(np.zeros(2), H, 1.0, p=1).epsilon, [0.0, 1.0])


def test_a_quadratic_that_is_not_convex_can_be_higher_elsewhere() -> None:
    """Negative control: where all vertices are low, the refusal is what keeps the answer honest."""
    g, H = np.array([1.0, 1.0]), np.diag([-4.0, -4.0])
    assert np.max(model(g, H, corners(2))) < model(g, H, np.array([0.25, 0.25]))
    with pytest.raises(ValueError, match="convex"):
        maximize_quadratic(g, H, 1.0, p=inf)


def test_twenty_unknowns_are_enumerated() -> None:
    """A diagonal H decides every sign by the gradient's; one more unknown is refused."""
    g, H = np.random.default_rng(0).normal(size=20), np.diag(np.arange(20.0))
    found = maximize_quadratic(g, H, 0.1, p=inf)
    np.testing.assert_array_equal(found.epsilon, 0.1 * np.sign(g))
    with pytest.raises(ValueError, match=r"n = 21 is more than the 20 .* use maximize"):
        maximize_quadratic(np.ones(21), np.eye(21), 0.1, p=inf)


# ---------------------------------------------------------------------- where the first-order step is exact: P10


def first_order(g: Any, rho: float, p: float) -> Any:
    return maximize_linear(g, rho, p).epsilon


@given(steep())
def test_p_infinite_is_exact_where_every_slope_outlasts_the_ball(case: Quadratic) -> None:
    r"""P10: \(\min|g_i| > \rho \max_i \sum_j |H_{ij}|\) makes the signs of g those of the maximiser."""
    rows = max(float(np.max(np.sum(abs(case.H), axis=1))), 1e-3)
    rho = 0.99 * np.min(abs(case.g)) / rows
    every = rho * corners(case.n)
    np.testing.assert_array_equal(every[np.argmax(model(case.g, case.H, every))], first_order(case.g, rho, inf))
    inside = np.random.default_rng(0).uniform(-rho, rho, size=(500, case.n))
    assert np.max(model(case.g, case.H, inside)) <= model(case.g, case.H, first_order(case.g, rho, inf))


@given(steep(convex=True), st.sampled_from([0.01, 0.3, 1.0, 5.0]))
def test_p_one_is_exact_if_and_only_if(case: Quadratic, rho: float) -> None:
    r"""P10: the first-order vertex j is the best iff \(|g_j| - |g_i| \ge \tfrac12\rho(H_{ii} - H_{jj})\) for all i."""
    g, H = abs(case.g), case.H
    j = np.argmax(g)
    margins = (g[j] - g) - 0.5 * rho * (np.diag(H) - H[j, j])
    assume(np.min(abs(np.delete(margins, j))) > 1e-9)
    best = maximize_quadratic(case.g, H, rho, p=1)
    reached = model(case.g, H, first_order(case.g, rho, 1))
    assert (best.value - reached <= 1e-12 * best.value) == bool(np.all(margins >= 0))


def test_both_sides_of_that_equivalence_occur() -> None:
    """Negative control: the condition is neither always true nor always false."""
    H = np.diag([0.0, 1.0])
    for rho, holds in ((0.1, True), (1.0, False)):
        best = maximize_quadratic(np.array([1.0, 0.8]), H, rho, p=1)
        assert bool(np.array_equal(best.epsilon, [rho, 0.0])) is holds


@given(seeds)
def test_the_rows_step_is_that_of_the_linear_problem(seed: int) -> None:
    """What SAM adds to the weights is what `maximize_linear` returns."""
    loss, w = quadratic(seed), start(seed)
    for p in (1.0, 1.5, 2.0, 3.0, inf):
        found = walk(SAM(rho=0.3, p=p), loss, vec(w))
        np.testing.assert_allclose(found.epsilon, first_order(loss.gradient(w), 0.3, p), atol=1e-14)


def test_what_comes_back_is_frozen_and_says_only_what_is_known() -> None:
    found = maximize_linear(np.array([3.0, -4.0]), 0.5)
    c = found.certificate
    assert (c.multiplier, c.residual, c.curvature, c.error, c.evaluations) == (None, None, None, inf, 0)
    for value in (found, c):
        with pytest.raises(FrozenInstanceError):
            value.exact = False  # type: ignore[union-attr, misc]


def test_the_public_names() -> None:
    assert exact.__all__ == sorted(exact.__all__)
    for name in exact.__all__:
        assert getattr(exact, name).__doc__
    assert {"maximize", "maximize_linear", "maximize_quadratic", "gap_bound", "direction_bound"} < set(exact.__all__)
