"""Layer 2: the exact maximum of a quadratic in the Euclidean ball, for any symmetric H, with its certificate."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from samfamily.exact import InnerMaximum, maximize_quadratic
from tests.exact.oracles import model, on_the_sphere, pencil, projected_ascent
from tests.strategies import Quadratic, quadratics, seeds

HARD = Quadratic((2.0, 0.0), (0.0, 1.0), 1.0)
NEARLY_HARD = Quadratic((2.0, 1.9, -1.0), (1e-16, 0.01, 0.5), 1.0, turn=3)
INSIDE = Quadratic((-1.0, -2.0), (0.1, 0.2), 1.0, turn=1)
SINGULAR = Quadratic((0.0, 0.0, -1.0), (0.0, 0.0, 0.5), 1.0)
ON_A_POLE = Quadratic((0.0, 1.0, 0.0), (1.0, 0.0, 1.0), 1.0)
NOTHING = Quadratic((0.0, 0.0), (0.0, 0.0), 1.0)


def is_certified(case: Quadratic, found: InnerMaximum) -> None:
    """P5: the conditions that hold at a global maximum and nowhere else, and the value that follows from them."""
    g, H, e, c = case.g, case.H, found.epsilon, found.certificate
    mu, He = c.multiplier, case.H @ found.epsilon
    assert mu is not None
    assert mu >= 0
    size = np.linalg.norm(g) + np.linalg.norm(He)
    slack = np.linalg.norm(H, 2) * np.linalg.norm(e)  # what rounding e alone takes where He is far below |H||e|
    assert np.linalg.norm(mu * e - He - g) <= 1e-10 * size + 1e-14 * slack
    assert np.linalg.eigvalsh(mu * np.eye(case.n) - H)[0] >= -1e-10 * np.linalg.norm(H, 2)
    length = np.linalg.norm(e)
    assert length <= case.rho * (1 + 1e-10)
    assert mu == 0 or length >= case.rho * (1 - 1e-8)
    assert abs(found.value - model(g, H, e)) <= 1e-10 * abs(found.value)
    assert abs(found.value - 0.5 * (g @ e + mu * case.rho**2)) <= 1e-8 * abs(found.value)
    assert abs(c.upper - found.value) <= 1e-8 * abs(found.value)
    assert c.exact


@given(quadratics())
@example(HARD)
@example(NEARLY_HARD)
@example(INSIDE)
@example(SINGULAR)
@example(ON_A_POLE)
@example(NOTHING)
def test_the_certificate(case: Quadratic) -> None:
    is_certified(case, maximize_quadratic(case.g, case.H, case.rho))


@given(quadratics(), seeds)
@example(HARD, 0)
@example(NEARLY_HARD, 0)
@example(INSIDE, 0)
def test_nothing_in_the_ball_is_higher(case: Quadratic, seed: int) -> None:
    found = maximize_quadratic(case.g, case.H, case.rho)
    boundary = on_the_sphere(case.n, case.rho, 1000, seed)
    tolerance = 1e-12 * (abs(found.value) + case.rise)
    assert np.max(model(case.g, case.H, boundary)) <= found.value + tolerance
    assert np.max(model(case.g, case.H, 0.7 * boundary)) <= found.value + tolerance
    assert projected_ascent(case.g, case.H, case.rho) <= found.value + tolerance


@given(quadratics(hard=False))
def test_the_multiplier_is_an_eigenvalue_of_a_pencil(case: Quadratic) -> None:
    """P5, by an algorithm of another kind; it needs a well-scaled case, and the sphere."""
    case = replace(case, rho=1.0)
    scale = max(float(np.linalg.norm(case.H, 2)), float(np.linalg.norm(case.g)))
    assume(0.1 < scale < 1e3 and np.linalg.norm(case.g) > 0.1)
    mu = maximize_quadratic(case.g, case.H, 1.0).certificate.multiplier
    assert mu is not None
    assume(mu > 0)
    assert pencil(case.g, case.H, 1.0) == pytest.approx(mu, abs=1e-5 * scale)


def test_the_hard_case_by_hand() -> None:
    r"""max e2 + e1^2 on the circle: e2 = 1/2, and e1 reaches the circle on either side."""
    found = maximize_quadratic(HARD.g, HARD.H, HARD.rho)
    np.testing.assert_allclose(abs(found.epsilon), [np.sqrt(0.75), 0.5], rtol=1e-12)
    assert found.value == pytest.approx(1.25, rel=1e-12)
    assert found.certificate.multiplier == 2.0
    assert found.certificate.curvature == 2.0


def test_a_maximum_inside_by_hand() -> None:
    found = maximize_quadratic(np.array([0.1, 0.2]), np.diag([-1.0, -2.0]), 1.0)
    np.testing.assert_allclose(found.epsilon, [0.1, 0.1], rtol=1e-12)
    assert found.certificate.multiplier == 0
    assert found.value == pytest.approx(0.015, rel=1e-12)


def test_a_flat_top_is_left_alone_inside() -> None:
    """Where the top eigenvalue is 0, going on to the sphere would gain nothing: the shortest maximiser comes back."""
    found = maximize_quadratic(SINGULAR.g, SINGULAR.H, SINGULAR.rho)
    assert np.linalg.norm(found.epsilon) == pytest.approx(0.5, rel=1e-12)
    assert found.certificate.multiplier == 0


@given(quadratics(), st.integers(-40, 40), st.integers(-20, 20))
def test_scaling_the_loss_or_the_radius_scales_the_answer(case: Quadratic, k: int, j: int) -> None:
    a, b = 2.0**k, 2.0**j
    plain = maximize_quadratic(case.g, case.H, case.rho)
    scaled = maximize_quadratic(a * case.g / b, a * case.H / b**2, case.rho * b)
    assert scaled.value == pytest.approx(a * plain.value, rel=1e-9)


@given(quadratics(), st.lists(st.floats(0.1, 3.0), min_size=6, max_size=6), st.booleans())
def test_an_ellipsoid_is_a_ball_of_other_coordinates(case: Quadratic, sizes: list[float], full: bool) -> None:
    """e = T u with (T g, T H T), whether T is given as a diagonal or as a matrix."""
    diagonal = np.array(sizes[: case.n])
    Q = np.linalg.qr(np.random.default_rng(0).normal(size=(case.n, case.n)))[0]
    T = (Q * diagonal) @ Q.T if full else np.diag(diagonal)
    T = (T + T.T) / 2
    found = maximize_quadratic(case.g, case.H, case.rho, metric=T if full else diagonal)
    u = np.linalg.solve(T, found.epsilon)
    inner = maximize_quadratic(T @ case.g, T @ case.H @ T, case.rho)
    assert found.value == pytest.approx(inner.value, rel=1e-9, abs=1e-11 * case.rise)
    assert np.linalg.norm(u) <= case.rho * (1 + 1e-9)
    points = on_the_sphere(case.n, case.rho, 300) @ T
    assert np.max(model(case.g, case.H, points)) <= found.value + 1e-11 * (abs(found.value) + case.rise)


def test_a_metric_of_zero_keeps_a_coordinate_still() -> None:
    found = maximize_quadratic(np.array([1.0, 5.0]), np.eye(2), 0.5, metric=np.array([1.0, 0.0]))
    np.testing.assert_allclose(found.epsilon, [0.5, 0.0], atol=1e-15)


def test_no_radius_and_no_coordinates() -> None:
    for found in (
        maximize_quadratic(np.ones(2), np.eye(2), 0.0),
        maximize_quadratic(np.array([0.0, 1.0]), np.eye(2), 0.0),
        maximize_quadratic(np.ones(2), lambda v: v, 0.0),
        maximize_quadratic(np.zeros(0), np.zeros((0, 0)), 1.0),
        maximize_quadratic(np.zeros(0), lambda v: v, 1.0),
        maximize_quadratic(np.zeros(0), np.zeros((0, 0)), 1.0, p=1),
        maximize_quadratic(np.zeros(0), np.zeros((0, 0)), 1.0, p=np.inf),
    ):
        assert found.value == 0
        assert not np.any(found.epsilon)
        assert found.epsilon.shape in {(0,), (2,)}
        c = found.certificate
        assert (c.exact, c.upper, c.multiplier) == (True, 0, None)
    nothing = maximize_quadratic(NOTHING.g, NOTHING.H, 1.0)
    assert (nothing.value, nothing.certificate.residual, nothing.certificate.multiplier) == (0, 0, 0)


def test_numbers_near_the_end_of_the_range() -> None:
    found = maximize_quadratic(np.zeros(2), np.diag([1e200, 0.0]), 1e50)
    assert found.value == pytest.approx(0.5e300, rel=1e-12)
    assert found.certificate.curvature == pytest.approx(1e200, rel=1e-12)
    found = maximize_quadratic(np.array([1e200, 0.0]), np.eye(2), 1e50)
    assert found.value == pytest.approx(1e250, rel=1e-12)
    found = maximize_quadratic(np.zeros(2), np.diag([1e-200, 0.0]), 1e150)  # which only both together bring to range
    assert found.value == pytest.approx(0.5e100, rel=1e-12)


# ------------------------------------------------------------------------------------------------ a Hessian as function


def random_case(seed: int, n: int, kind: str) -> Quadratic:
    rng = np.random.default_rng(seed)
    eigenvalues = 10 ** rng.uniform(-6, 0, n) * rng.choice([-1, 1], n)
    if kind == "concave":
        eigenvalues = -abs(eigenvalues)
    leaning = rng.normal(size=n) * 10 ** rng.uniform(-3, 1)
    leaning[np.argmax(eigenvalues)] *= {"hard": 0.0, "nearly hard": 1e-12}.get(kind, 1.0)
    return Quadratic(tuple(eigenvalues), tuple(leaning), float(10 ** rng.uniform(-2, 1)), seed)


@pytest.mark.parametrize("kind", ["easy", "concave", "hard", "nearly hard"])
@pytest.mark.parametrize("n", [1, 2, 7, 40, 100])
@pytest.mark.parametrize("seed", range(3))
def test_a_function_serves_as_well_as_a_matrix(seed: int, n: int, kind: str) -> None:
    case = random_case(seed, n, kind)
    H, calls = case.H, 0

    def product(v: Any) -> Any:
        nonlocal calls
        calls += 1
        return H @ v

    found = maximize_quadratic(case.g, product, case.rho)
    assert found.value == pytest.approx(maximize_quadratic(case.g, H, case.rho).value, rel=1e-8)
    is_certified(case, found)
    assert found.certificate.evaluations == calls


def test_a_hundred_thousand_unknowns_take_few_products() -> None:
    """The count is the law: the easy case converges like any Krylov method, whatever n is."""
    n = 100_000
    diagonal = np.linspace(-1, 1, n) ** 3
    g = np.random.default_rng(0).normal(size=n)
    found = maximize_quadratic(g, lambda v: diagonal * v, 100.0)
    assert found.certificate.evaluations <= 40
    assert found.certificate.residual is not None
    assert found.certificate.residual <= 1e-10
    mu, e = found.certificate.multiplier, found.epsilon
    assert mu is not None
    np.testing.assert_allclose(e, g / (mu - diagonal), rtol=1e-8)
    lacking = np.linalg.norm(mu * e - diagonal * e - g) / (np.linalg.norm(g) + np.linalg.norm(diagonal * e))
    assert found.certificate.residual == pytest.approx(lacking, rel=1e-2)


def test_too_few_products_are_refused() -> None:
    diagonal, g = np.linspace(-1, 1, 300), np.full(300, 1e-3)
    with pytest.raises(RuntimeError, match=r"subspace of 8 vectors: raise products, now 8"):
        maximize_quadratic(g, lambda v: diagonal * v, 1.0, products=8)
    assert maximize_quadratic(g, lambda v: diagonal * v, 1.0).certificate.exact


# -------------------------------------------------------------------------------------------------- negative controls


@pytest.mark.parametrize("case", [HARD, NEARLY_HARD, INSIDE])
def test_the_certificate_rejects_what_is_no_maximum(case: Quadratic) -> None:
    found = maximize_quadratic(case.g, case.H, case.rho)
    shorter = replace(found, epsilon=0.999 * found.epsilon)
    higher = replace(found, value=found.value * (1 + 1e-6))
    looser = replace(
        found, certificate=replace(found.certificate, multiplier=(found.certificate.multiplier or 0) + 1e-3)
    )
    for wrong in (shorter, higher, looser):
        with pytest.raises(AssertionError):
            is_certified(case, wrong)


def test_a_local_maximum_is_rejected() -> None:
    """On the sphere, with a multiplier that solves the first condition and is below the top eigenvalue."""
    g, H = np.array([0.1, 0.0]), np.diag([1.0, 0.0])
    found = maximize_quadratic(g, H, 1.0)
    local = replace(
        found,
        epsilon=np.array([-1.0, 0.0]),
        value=0.4,
        certificate=replace(found.certificate, multiplier=0.9, upper=0.4),
    )
    with pytest.raises(AssertionError):
        is_certified(Quadratic((1.0, 0.0), (0.1, 0.0), 1.0), local)


@pytest.mark.parametrize("products", [False, True], ids=["matrix", "products"])
@pytest.mark.parametrize("of", [1e-120, 1e120])
def test_numbers_whose_squares_are_out_of_range(of: float, products: bool) -> None:
    """With g and rho in one unit and H in none, the value is in that unit squared."""
    g, H = np.array([1.0, -2.0, 0.5]), np.diag([2.0, -1.0, 0.3])
    hessian = (lambda v: H @ v) if products else H
    usual, other = maximize_quadratic(g, H, 1.0), maximize_quadratic(of * g, hessian, of)
    np.testing.assert_allclose(other.epsilon / of, usual.epsilon, rtol=1e-9)
    np.testing.assert_allclose(other.value / of / of, usual.value, rtol=1e-9)
