"""Layer 2: how far the first-order step of every backend and every row is from the exact maximum."""

from math import inf
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given

from samfamily import FAMILY, SAM, Adaptive, Ball, Variant, Vec, elementwise
from samfamily.ascent import Gradient
from samfamily.exact import direction_bound, gap_bound, maximize_quadratic
from samfamily.program import Choice, HessianVector, Request, drive
from samfamily.reference import NumpySpace
from tests.exact.oracles import corners, model, p_norms
from tests.spaces_under_test import NUMPY, Framework, to_tree
from tests.strategies import Quadratic, flat, site, sparing, steep

ORDERS = [1.0, 1.5, 2.0, 3.0, inf]


def dual(p: float) -> float:
    return inf if p == 1 else 1.0 if p == inf else p / (p - 1)


def constant(H: Any, p: float) -> float:
    r"""Return a constant with \(\lVert He\rVert_q \le \beta\lVert e\rVert_p\), the least one for p = 1, 2 and inf."""
    if p == 1:
        return float(np.max(abs(H)))
    if p == inf:
        return float(np.max(np.sum(abs(corners(len(H)) @ H), axis=1)))
    return float(np.linalg.norm(H, 2) * max(1.0, len(H) ** (1 - 2 / p)))


def step(framework: Framework, g: Any, rho: float, p: float) -> Any:
    """Return the first-order step as a backend computes it, on two leaves."""
    cut = np.split(g, [1])
    v = framework.vec((cut[0], cut[1]))
    return flat(to_tree(rho * Ball(p).at(site(v)).maximiser(v)))


def gap_of(g: Any, H: Any, e: Any, reached: Any) -> float:
    """Return the difference of two values of the model, without cancellation."""
    return float((g + 0.5 * H @ (e + reached)) @ (e - reached))


def within_the_bounds(g: Any, H: Any, rho: float, reached: Any, beta: float) -> None:
    """P6, P7 for p = 2: the gap is not negative and at most the bound, and so is the distance."""
    best = maximize_quadratic(g, H, rho)
    gap, norm = gap_of(g, H, best.epsilon, reached), float(np.linalg.norm(g))
    tolerance = 1e-12 * (rho * norm + beta * rho**2)
    convex = bool(np.linalg.eigvalsh(H)[0] >= 0)
    assert -tolerance <= gap <= gap_bound(beta, rho, norm, convex=convex) * (1 + 1e-8) + tolerance
    assert np.linalg.norm(best.epsilon - reached) <= rho * (direction_bound(beta, rho, norm) + 1e-8)


@given(steep())
def test_the_bounds(case: Quadratic) -> None:
    within_the_bounds(case.g, case.H, case.rho, step(NUMPY, case.g, case.rho, 2), case.beta)


@sparing(4)
@given(steep())
def test_the_bounds_on_every_framework(framework: Framework, case: Quadratic) -> None:
    within_the_bounds(case.g, case.H, case.rho, step(framework, case.g, case.rho, 2), case.beta)


@pytest.mark.parametrize("factor", [-1.0, 0.5, 1.2])
def test_a_step_that_is_not_first_order_breaks_the_bounds(factor: float) -> None:
    """Negative control: descending, going half of the way, and leaving the ball."""
    case = Quadratic((1.0, 0.2), (1.0, 1.0), 0.05, turn=0)
    within_the_bounds(case.g, case.H, case.rho, step(NUMPY, case.g, case.rho, 2), case.beta)
    with pytest.raises(AssertionError):
        within_the_bounds(case.g, case.H, case.rho, factor * step(NUMPY, case.g, case.rho, 2), case.beta)


@pytest.mark.parametrize("p", [1.0, inf])
@given(steep(convex=True))
def test_the_bounds_at_the_vertices(p: float, case: Quadratic) -> None:
    """P6 for p = 1 and inf, with the constants of those norms."""
    found = maximize_quadratic(case.g, case.H, case.rho, p)
    gap = found.value - model(case.g, case.H, step(NUMPY, case.g, case.rho, p))
    norm = float(p_norms(case.g, dual(p)))
    tolerance = 1e-12 * (case.rho * norm + case.rho**2)
    bound = gap_bound(constant(case.H, p), case.rho, norm, p=p, convex=True)
    assert -tolerance <= gap <= bound * (1 + 1e-8) + tolerance


def fixed_point(g: Any, H: Any, rho: float, p: float) -> Any:
    """Return where the first-order step, repeated from the point reached, ends."""
    e = step(NUMPY, g, rho, p)
    for _ in range(400):
        e = step(NUMPY, g + H @ e, rho, p)
    return e


@pytest.mark.parametrize("p", [1.25, 1.5, 1.75])
@sparing(4)
@given(steep(most=4))
def test_the_bounds_between_one_and_two(p: float, case: Quadratic) -> None:
    """P6, P7 for 1 < p < 2, where the ball is strongly convex and small steps have one maximiser."""
    norm, beta = float(p_norms(case.g, dual(p))), constant(case.H, p)
    rho = min(case.rho, 0.2 * (p - 1) * norm / max(beta, 1e-3))
    best, reached = fixed_point(case.g, case.H, rho, p), step(NUMPY, case.g, rho, p)
    gap, tolerance = gap_of(case.g, case.H, best, reached), 1e-12 * (rho * norm + beta * rho**2)
    assert -tolerance <= gap <= gap_bound(beta, rho, norm, p=p) * (1 + 1e-8) + tolerance
    assert p_norms(best - reached, p) <= rho * (direction_bound(beta, rho, norm, p=p) + 1e-8)


# ---------------------------------------------------------------------------------------------- orders and constants

XS = np.logspace(-4, -1, 7)


def sweep(case: Quadratic, xs: Any = XS) -> tuple[Any, Any, float, float]:
    """Return direction errors and gaps at x = beta rho / |g| of `xs`, |g|, and the tangential curvature a."""
    g, H = case.g, case.H
    norm = float(np.linalg.norm(g))
    unit = g / norm
    a = float(np.linalg.norm(H @ unit - (unit @ H @ unit) * unit))
    directions, gaps = [], []
    for x in xs:
        rho = x * norm / case.beta
        best, reached = maximize_quadratic(g, H, rho).epsilon, step(NUMPY, g, rho, 2)
        directions.append(np.linalg.norm(best - reached) / rho)
        gaps.append(gap_of(g, H, best, reached))
    return np.array(directions), np.array(gaps), norm, a


def has_the_orders(case: Quadratic) -> None:
    """P8: the direction's error falls like rho, the gap like rho^3."""
    directions, gaps, _, _ = sweep(case)
    assert abs(np.polyfit(np.log(XS), np.log(directions), 1)[0] - 1) <= 0.05
    assert abs(np.polyfit(np.log(XS), np.log(gaps), 1)[0] - 3) <= 0.1


@given(steep())
def test_the_orders(case: Quadratic) -> None:
    assume(case.beta > 1e-3 and sweep(case, [1e-2])[3] >= 0.1 * case.beta)
    has_the_orders(case)


@given(steep())
def test_the_constants(case: Quadratic) -> None:
    r"""P9: \((a/\lVert g\rVert)\rho\) and \((a^2 / 2\lVert g\rVert)\rho^3\), within one percent at small rho."""
    assume(case.beta > 1e-3)
    (direction,), (gap,), norm, a = sweep(case, [1e-3])
    assume(a >= 0.1 * case.beta)
    rho = 1e-3 * norm / case.beta
    assert direction == pytest.approx(a / norm * rho, rel=0.01)
    assert gap == pytest.approx(a**2 / (2 * norm) * rho**3, rel=0.01)


def test_the_orders_are_those_of_the_first_order_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a direction that is off by a constant angle has errors of other orders."""
    case = Quadratic((1.0, -0.5, 0.3), (1.0, 1.0, -2.0), 0.1, turn=4)
    has_the_orders(case)
    straight = step

    def crooked(framework: Framework, g: Any, rho: float, p: float) -> Any:
        return straight(framework, g + 1e-3 * np.linalg.norm(g) * np.eye(len(g))[0], rho, p)

    monkeypatch.setitem(globals(), "step", crooked)
    with pytest.raises(AssertionError):
        has_the_orders(case)


def extreme(p: float, convex: bool) -> tuple[Any, Any]:
    """Return the case of 3.5 of which no smaller constant holds: a gradient of next to nothing, the wrong way."""
    delta = 1e-9
    if p <= 2:
        return delta * np.array([0.0, 1.0]), np.diag([1.0, 0.0 if convex else -1.0])
    return delta * np.array([1.0, 1.0]), (np.array([[1.0, -1.0], [-1.0, 1.0]]) if convex else -np.eye(2)[::-1])


@pytest.mark.parametrize("convex", [True, False])
@pytest.mark.parametrize("p", ORDERS)
def test_the_constants_of_the_second_order_bound_are_the_best(p: float, convex: bool) -> None:
    r"""Cases within 1e-3 of \(\beta\rho^2\), and of half of it for a convex loss."""
    g, H = extreme(p, convex)
    angles = np.linspace(0, 2 * np.pi, 20001)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    sphere = circle / p_norms(circle, p)[:, None]
    beta = float(np.max(p_norms(sphere @ H, dual(p))))
    rho = 1.0
    gap = np.max(model(g, H, rho * sphere)) - model(g, H, step(NUMPY, g, rho, p))
    bound = gap_bound(beta, rho, float(p_norms(g, dual(p))), p=p, convex=convex)
    assert bound == pytest.approx(beta * (0.5 if convex else 1.0), rel=1e-12)
    assert (1 - 1e-3) * bound <= gap <= bound * (1 + 1e-9)


def test_the_bounds_are_the_smaller_of_two() -> None:
    assert gap_bound(2.0, 0.1, 1.0) == pytest.approx(4e-3 / (2 * 0.8), rel=1e-12)
    assert gap_bound(2.0, 0.1, 1e-3) == pytest.approx(0.02, rel=1e-12)
    assert gap_bound(2.0, 0.1, 0.2) == pytest.approx(0.02, rel=1e-12)
    assert gap_bound(2.0, 0.1, 1.0, p=1.5) == pytest.approx(4e-3 / (2 * 0.3), rel=1e-12)
    assert gap_bound(2.0, 0.1, 1.0, p=3) == pytest.approx(0.02, rel=1e-12)
    assert gap_bound(2.0, 0.1, 1.0, p=1, convex=True) == pytest.approx(0.01, rel=1e-12)
    assert direction_bound(1.0, 0.6, 1.0) == pytest.approx(np.sqrt(2 - 2 * np.sqrt(1 - 0.36)), rel=1e-12)
    assert direction_bound(1.0, 0.1, 1.0, p=1.5) == pytest.approx(0.2 / (0.5 * 1.9), rel=1e-12)
    assert [direction_bound(1.0, 1.0, 1.0), direction_bound(1.0, 0.1, 1.0, p=3), direction_bound(1, 1, 0)] == [2, 2, 2]
    assert [direction_bound(0.0, 1.0, 0.0), direction_bound(1.0, 0.1, 1.0, p=1)] == [2, 2]
    assert direction_bound(1.0, 1 - 1e-12, 1.0) == pytest.approx(np.sqrt(2), rel=1e-5)
    assert [direction_bound(0.0, 1.0, 1.0), direction_bound(1.0, 0.9, 1.0, p=1.1)] == [0, 2]


# ---------------------------------------------------------------------------------------------------------- every row

OWN_CENTRE = {"RSAM": "its ball lies round a random point", "RandomSmoothing": "its direction is noise"}


def perturbed(variant: Variant, g: Any, H: Any, w: Any) -> tuple[Any, Any]:
    """Return the first perturbation of a row's first step, zero if it rests, and its radius."""
    points: list[Any] = []

    def answer(request: Request) -> Vec | bool:
        if isinstance(request, Choice):
            return bool(request.predicate)
        if isinstance(request, HessianVector):
            return Vec(w.space, (H @ flat(request.v.collapse()),))
        points.append(flat(request.collapse()) - flat(w.leaves))
        return Vec(w.space, (g + H @ points[-1],))

    result = drive(variant.program(w, variant.init(w)), answer)
    return next((e for e in points if np.any(e)), np.zeros(len(g))), float(result.radius)


@pytest.mark.parametrize("name", [name for name in FAMILY if name not in OWN_CENTRE])
@sparing(4)
@given(steep())
def test_no_row_leaves_the_ball_and_those_that_climb_the_gradient_are_near_the_top(name: str, case: Quadratic) -> None:
    """Every row, in its own metric: the loss at its perturbed point is at most the exact maximum, and near it."""
    variant = FAMILY[name]()
    if name == "SAMON":
        variant = SAM(rho=0.05).within(Ball(metric=Adaptive(elementwise, eta=0.0)))  # there is no module to ask
    variant = variant.with_rho(min(case.rho, 0.05))
    g, H = case.g, case.H
    w = Vec(NumpySpace(["w"]), (np.random.default_rng(0).uniform(0.5, 2.0, case.n),))
    epsilon, radius = perturbed(variant, g, H, w)
    gradient = Vec(w.space, (g,))
    ball = variant.ball.at(site(w)._replace(d=gradient))
    T = np.ones(case.n) * flat((ball.T * Vec(w.space, (np.ones(case.n),))).collapse())
    assert np.linalg.norm(np.divide(epsilon, T, out=np.zeros(case.n), where=T > 0)) <= radius * (1 + 1e-9) + 1e-300
    best = maximize_quadratic(g, H, radius, metric=T)
    reached = model(g, H, epsilon)
    tolerance = 1e-12 * (1 + abs(best.value))
    assert reached <= best.value + tolerance
    if variant.ascent == Gradient() and not variant.ball.mask.stateful and np.any(epsilon):
        beta = float(np.linalg.norm(T[:, None] * H * T, 2))
        assert best.value - reached <= gap_bound(beta, radius, float(np.linalg.norm(T * g))) + tolerance
