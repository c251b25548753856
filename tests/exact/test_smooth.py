"""Layer 2: the inner maximum of losses that are not quadratic, and what is proven of it."""

import inspect
from itertools import pairwise
from math import inf
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from samfamily.exact import direction_bound, gap_bound, maximize, maximize_quadratic
from tests.exact.oracles import on_the_sphere, p_norms
from tests.laws.losses import SIZE, Loss, convex, quadratic, start, wavy
from tests.strategies import Quadratic, quadratics, seeds, sparing


class Logistic:
    """Logistic regression on thirty examples: convex, and its gradient's Lipschitz constant is known."""

    def __init__(self, seed: int, n: int = 2) -> None:
        rng = np.random.default_rng(seed)
        self.X = rng.normal(size=(30, n)) * rng.choice([-1.0, 1.0], size=(30, 1))
        self.beta = float(np.linalg.norm(self.X, 2) ** 2 / 120)
        self.w = rng.normal(size=n)

    def value(self, w: Any) -> Any:
        return np.mean(np.logaddexp(0, -(w @ self.X.T)), axis=-1)

    def gradient(self, w: Any) -> Any:
        return -self.X.T @ (1 / (1 + np.exp(self.X @ w))) / 30

    def __call__(self, w: Any) -> tuple[float, Any]:
        return float(self.value(w)), self.gradient(w)

    def rho(self, x: float) -> float:
        return float(x * np.linalg.norm(self.gradient(self.w)) / self.beta)


def one_vector(loss: Loss) -> Any:
    return lambda w: (loss.value(w), loss.gradient(w))


@given(seeds, st.floats(0.01, 0.45))
def test_a_proven_maximum(seed: int, x: float) -> None:
    """P12, P6, P7: above every sample, within the bounds of the first-order step, and within its own error."""
    loss = Logistic(seed)
    rho, norm = loss.rho(x), float(np.linalg.norm(loss.gradient(loss.w)))
    found = maximize(loss, loss.w, rho, beta=loss.beta)
    assert found.certificate.exact
    assert found.certificate.error <= 1e-9 * rho
    angles = np.linspace(0, 2 * np.pi, 20_000)
    samples = loss.value(loss.w + rho * np.stack([np.cos(angles), np.sin(angles)], axis=1))
    tolerance = 1e-13 * abs(found.value)
    assert samples.max() <= found.value + tolerance
    assert found.value <= found.certificate.upper <= found.value + 1e-9 * rho * norm + tolerance
    first = rho * loss.gradient(loss.w) / norm
    gap = found.value - loss.value(loss.w + first)
    assert -tolerance <= gap <= gap_bound(loss.beta, rho, norm, convex=True) * (1 + 1e-8) + tolerance
    assert np.linalg.norm(found.epsilon - first) <= rho * (direction_bound(loss.beta, rho, norm) + 1e-8)
    away = np.linalg.norm(found.epsilon)
    assert away == pytest.approx(rho, rel=1e-12)


@given(seeds, st.floats(0.05, 0.45))
def test_the_error_is_an_error_bound(seed: int, x: float) -> None:
    """A search that is stopped early is no farther from the maximiser, and from the maximum, than it says."""
    loss = Logistic(seed, n=4)
    rho = loss.rho(x)
    best = maximize(loss, loss.w, rho, beta=loss.beta)
    for iterations in (1, 2, 3):
        early = maximize(loss, loss.w, rho, beta=loss.beta, iterations=iterations)
        assert early.certificate.exact
        assert np.linalg.norm(early.epsilon - best.epsilon) <= early.certificate.error + 1e-12 * rho
        assert best.value <= early.certificate.upper + 1e-13 * abs(best.value)
        assert early.certificate.evaluations == 2 + iterations


@given(seeds, st.floats(0.05, 0.45))
def test_the_iteration_contracts(seed: int, x: float) -> None:
    """P12: each step is at most x / (1 - x) times the last."""
    loss = Logistic(seed, n=4)
    points, rho = [], loss.rho(x)

    def recorded(w: Any) -> Any:
        points.append(w - loss.w)
        return loss(w)

    maximize(recorded, loss.w, rho, beta=loss.beta)
    steps = [np.linalg.norm(b - a) for a, b in pairwise(points[1:])]
    for shorter, longer in zip(steps[1:], steps, strict=False):
        assert shorter <= x / (1 - x) * longer * (1 + 1e-9) + 1e-14 * rho


def test_past_one_half_nothing_is_claimed() -> None:
    """Negative control: with x above 1/2, or without beta, what comes back says that it is a lower bound."""
    loss = Logistic(0)
    for rho, beta in ((loss.rho(0.51), loss.beta), (loss.rho(0.1), None)):
        found = maximize(loss, loss.w, rho, beta=beta)
        assert not found.certificate.exact
        assert found.certificate.error == inf
        assert (found.certificate.upper == inf) == (beta is None)
        assert found.value <= found.certificate.upper
    assert maximize(loss, loss.w, loss.rho(0.49), beta=loss.beta).certificate.exact


def test_a_beta_that_is_too_small_is_found_out() -> None:
    """Negative control: a false constant makes a false certificate, which sampling refutes."""
    found = maximize(lambda w: (np.sin(9 * w[0]), np.array([9 * np.cos(9 * w[0])])), np.zeros(1), 1.0, beta=1.0)
    assert found.certificate.exact
    assert found.value < 0.9


def is_in_the_ball_and_as_good_as_sampling(loss: Loss, w: Any, rho: float, p: float, T: Any) -> None:
    found = maximize(one_vector(loss), w, rho, p, metric=T, restarts=4)
    assert p_norms(found.epsilon / T, p) <= rho * (1 + 1e-12)
    assert found.value == pytest.approx(loss.value(w + found.epsilon), rel=1e-12)
    samples = on_the_sphere(SIZE, rho, 300, p=p) * T
    assert found.value >= max(loss.value(w + e) for e in samples) - 1e-12
    assert found.value >= loss.value(w)


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0, inf])
@pytest.mark.parametrize("family", [convex, wavy, quadratic])
@sparing(8)
@given(seeds, st.sampled_from([0.1, 1.0]))
def test_a_lower_bound_for_any_loss(family: Any, p: float, seed: int, rho: float) -> None:
    is_in_the_ball_and_as_good_as_sampling(family(seed), start(seed), rho, p, np.linspace(0.5, 2.0, SIZE))


@given(quadratics(most=4))
@example(Quadratic((-1e27,), (5e13,), 30.0))  # whose way to the maximum leads through w itself, to the last bit
@example(Quadratic((-1.0, -1.0, 0.0), (0.0, 0.0, 0.0), 0.1, turn=0))  # a top of 0, but for the rounding of H
@sparing(3)
def test_ascent_never_exceeds_the_exact_maximum_and_mostly_finds_it(case: Quadratic) -> None:
    exact = maximize_quadratic(case.g, case.H, case.rho)
    loss = lambda e: (case.g @ e + 0.5 * e @ case.H @ e, case.g + case.H @ e)  # noqa: E731
    found = maximize(loss, 0 * case.g, case.rho, restarts=5)
    size = abs(exact.value) + case.rho * np.linalg.norm(case.g)
    assert found.value <= exact.value + 1e-12 * (abs(exact.value) + case.rise)
    assert found.value >= exact.value - 1e-3 * size


def test_a_maximum_inside_the_ball_is_found() -> None:
    for p, near in ((2.0, 1e-6), (1.0, 1e-3), (3.0, 1e-3), (inf, 1e-3)):
        found = maximize(lambda w: (-float(np.sum(w**2)), -2 * w), np.array([0.3, -0.1]), 1.0, p, restarts=2)
        np.testing.assert_allclose(found.epsilon, [-0.3, 0.1], atol=near)


def test_restarts_find_the_higher_side() -> None:
    """The gradient points at the end that is lower, and there it points outwards: one start stays."""

    def lopsided(w: Any) -> tuple[float, Any]:
        (x,) = w
        return 0.1 * x + 0.5 * x**2 - 0.3 * x**3, np.array([0.1 + x - 0.9 * x**2])

    assert maximize(lopsided, np.zeros(1), 1.0, restarts=1).value == pytest.approx(0.3, rel=1e-12)
    for seed in range(3):
        assert maximize(lopsided, np.zeros(1), 1.0, restarts=10, seed=seed).value == pytest.approx(0.7, rel=1e-12)


def test_a_list_of_arrays_comes_back_as_a_list() -> None:
    w = [np.array([[1.0, 2.0]]), np.array(0.5), np.zeros(0)]
    found = maximize(lambda w: (sum(float(np.sum(x)) for x in w), [np.ones_like(x) for x in w]), w, 0.3, p=inf)
    assert [e.shape for e in found.epsilon] == [(1, 2), (), (0,)]
    assert all(np.all(e == 0.3) for e in found.epsilon)
    assert found.value == pytest.approx(3.5 + 3 * 0.3)


def test_the_gradient_of_the_maximum_is_the_gradient_at_the_maximiser() -> None:
    """P35 (Danskin), where the maximiser is unique; and not the gradient at w."""
    loss = Logistic(3, n=3)
    rho, h = loss.rho(0.3), 1e-5

    def highest(w: Any) -> float:
        return maximize(loss, w, rho, beta=loss.beta).value

    found = maximize(loss, loss.w, rho, beta=loss.beta)
    differences = [(highest(loss.w + h * e) - highest(loss.w - h * e)) / (2 * h) for e in np.eye(3)]
    np.testing.assert_allclose(differences, loss.gradient(loss.w + found.epsilon), atol=1e-9)
    assert np.max(abs(np.array(differences) - loss.gradient(loss.w))) > 1e-3


def test_whole_numbers_and_narrow_ones_are_taken_in_float64() -> None:
    def bowl(w: Any) -> tuple[float, Any]:
        (x,) = w
        assert x.dtype == np.float64
        return float(np.sum(x**2)), [2 * x]

    expected = maximize(bowl, [np.array([1.0, 2.0])], 0.1)
    for narrow in (np.array([1, 2]), np.array([1, 2], np.float32)):
        found = maximize(bowl, [narrow], 0.1)
        np.testing.assert_array_equal(found.epsilon[0], expected.epsilon[0])
        assert found.epsilon[0].dtype == np.float64


def test_the_seed_chooses_the_starts_and_the_first_is_the_first_order_step() -> None:
    def starts(seed: int) -> Any:
        points: list[Any] = []

        def flat_there(w: Any) -> Any:
            points.append(w.copy())
            return 0.0, np.array([1.0, 0.0]) if not np.any(w) else np.zeros(2)

        maximize(flat_there, np.zeros(2), 1.0, restarts=3, seed=seed)
        return points

    one, other = starts(0), starts(1)
    assert len(one) == 4
    np.testing.assert_array_equal(one[1], [1.0, 0.0])
    np.testing.assert_array_equal(one, starts(0))
    assert not np.array_equal(one[2:], other[2:])
    np.testing.assert_allclose(np.linalg.norm(one[1:], axis=1), 1.0)


def test_a_metric_for_each_leaf() -> None:
    w = [np.zeros(1), np.zeros(2)]
    found = maximize(
        lambda w: (sum(float(np.sum(x)) for x in w), [np.ones_like(x) for x in w]),
        w,
        0.5,
        p=inf,
        metric=[np.array([2.0]), np.array([1.0, 0.0])],
    )
    np.testing.assert_array_equal(np.concatenate(found.epsilon), [1.0, 0.5, 0.0])


def test_the_defaults_are_those_of_the_documentation() -> None:
    defaults = {name: p.default for name, p in inspect.signature(maximize).parameters.items()}
    assert {name: defaults[name] for name in ("p", "beta", "iterations", "restarts", "seed")} == {
        "p": 2,
        "beta": None,
        "iterations": 200,
        "restarts": 20,
        "seed": 0,
    }
    assert inspect.signature(maximize_quadratic).parameters["products"].default == 500
