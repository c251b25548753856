"""Theorem 2: the formula against its own proof, and what it says of itself."""

from __future__ import annotations

from math import inf, log, pi, sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from samfamily import ASAM, SAM, bound
from samfamily.bound import theorem_2
from samfamily.reference import Landscape

SIZES = {"n": st.integers(2, 10**7), "k": st.integers(1, 10**8)}
NUMBERS = {"rho": st.floats(1e-3, 10), "norm": st.floats(0, 1e3), "delta": st.floats(1e-6, 1)}


def pac_bayes(norm: float, sigma: float, n: int, k: int, delta: float) -> float:
    r"""Return the proof's last step but one: its prior from a grid, with the union bound's price for it.

    Priors have variances \(c\,e^{(1-j)/k}\), \(c = \sigma^2(1 + e^{4n/k})\), each at confidence
    \(6\delta/(\pi j)^2\); the best is within a factor \(e^{1/k}\) of \(\sigma^2 + \lVert w\rVert^2/k\).
    """
    wanted = sigma**2 + norm**2 / k
    log_c = log(sigma**2) + np.logaddexp(0, 4 * n / k)
    j = max(1, int(np.floor(1 + k * (log_c - log(wanted)))))
    log_prior = log_c + (1 - j) / k
    kl = 0.5 * (k * wanted / np.exp(log_prior) - k + k * (log_prior - log(sigma**2)))
    return 1 / sqrt(n) + sqrt((kl + log(n / delta) + 2 * log(pi * j) - log(6)) / (2 * (n - 1)))


@given(**SIZES, **NUMBERS)
def test_it_is_no_lower_than_what_is_proven(n: int, k: int, rho: float, norm: float, delta: float) -> None:
    """Kills a smaller factor of k, and a spread without its logarithm."""
    found = theorem_2(0.0, norm, rho, n=n, k=k, delta=delta)
    if norm**2 <= k * found.sigma**2 * np.exp(min(4 * n / k, 600)):  # beyond, the proof takes the bound to be above 1
        assert found.complexity >= pac_bayes(norm, found.sigma, n, k, delta) * (1 - 1e-12)
    else:
        assert found.complexity >= 1


@given(**SIZES, delta=NUMBERS["delta"])
def test_its_constants_are_the_printed_ones(n: int, k: int, delta: float) -> None:
    """At w = 0 only the terms without w are left, whose slack the proof would forgive a smaller constant."""

    def terms(delta: float) -> float:
        return theorem_2(0.0, 0.0, 1.0, n=n, k=k, delta=delta).complexity ** 2 * (n - 1)

    assert terms(delta / 2) - terms(delta) == pytest.approx(4 * log(2), rel=1e-6)
    assert np.exp((terms(delta) - 4 * log(n / delta)) / 8) == pytest.approx(6 * n + 3 * k, rel=1e-6)


@given(**SIZES, rho=NUMBERS["rho"])
def test_normal_noise_of_size_sigma_lies_in_the_ball(n: int, k: int, rho: float) -> None:
    sigma = theorem_2(0.0, 1.0, rho, n=n, k=k).sigma
    assert chi2.sf((rho / sigma) ** 2, k) <= 1 / sqrt(n)


def test_noise_of_size_rho_does_not() -> None:
    """Negative control: the proviso as the theorem prints it, and without the logarithm."""
    n, k, rho = 50_000, 1000, 0.05
    assert chi2.sf((rho / rho) ** 2, k) > 1 / sqrt(n)
    assert chi2.sf((rho / (rho / sqrt(k))) ** 2, k) > 1 / sqrt(n)


@given(**SIZES, rho=NUMBERS["rho"])
def test_above_the_largest_norm_it_is_vacuous(n: int, k: int, rho: float) -> None:
    largest = theorem_2(0.0, 0.0, rho, n=n, k=k).largest_norm
    if 0 < largest < inf:
        assert theorem_2(0.0, largest, rho, n=n, k=k).complexity == pytest.approx(1, rel=1e-6)
        assert theorem_2(0.0, 1.01 * largest, rho, n=n, k=k).vacuous
    elif largest == 0:
        assert theorem_2(0.0, 0.0, rho, n=n, k=k).vacuous


def test_a_network_gets_a_vacuous_bound_and_is_told() -> None:
    found = theorem_2(0.02, norm=30.0, rho=0.05, n=50_000, k=36_500_000)  # WRN-28-10 on CIFAR-10
    assert found.vacuous
    assert found.largest_norm < 0.01
    assert "vacuous, a loss in [0, 1] is at most 1 anyway" in str(found)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"worst_loss": 2.3}, r"in \[0, 1\].*got 2.3.*instead of a cross-entropy"),
        ({"worst_loss": -0.1}, r"in \[0, 1\]"),
        ({"worst_loss": float("nan")}, "finite"),
        ({"rho": 0.0}, "rho must be positive"),
        ({"norm": -1.0}, "norm"),
        ({"n": 1}, "n must be at least 2"),
        ({"delta": 0.0}, "delta"),
        ({"k": 0}, "k must be at least 1"),
    ],
)
def test_what_the_theorem_does_not_cover_is_refused(change: dict[str, Any], why: str) -> None:
    given: dict[str, Any] = {"worst_loss": 0.5, "norm": 1.0, "rho": 0.1, "n": 100, "k": 10, **change}
    with pytest.raises(ValueError, match=why):
        theorem_2(given.pop("worst_loss"), given.pop("norm"), given.pop("rho"), **given)


def ripples(scale: float = 1.0) -> Any:
    def loss(w: Any, x: Any) -> Any:
        return scale * float(np.mean(np.sin(x * w[0]) ** 2)), [scale * np.atleast_1d(np.mean(x * np.sin(2 * x * w[0])))]

    return loss


def test_it_is_measured_on_a_landscape() -> None:
    rng = np.random.default_rng(0)
    train = Landscape(ripples(), [np.array([0.2])], (rng.normal(size=100_000),))
    fresh = Landscape(ripples(), [np.array([0.2])], (rng.normal(size=1000),))
    found = bound.of(train, SAM(rho=0.05), held_out=fresh, beta=2.0)
    assert found.proven
    assert not found.vacuous
    ends = [train.loss(train.w + sign * 0.05 * (train.w / train.w.norm(2))) for sign in (1.0, -1.0)]
    assert found.worst_loss == pytest.approx(max(ends), rel=1e-5)
    assert found.complexity == theorem_2(0.0, 0.2, 0.05, n=100_000, k=1).complexity
    assert found.margin is not None
    assert found.margin > 0  # a basin: round the weights the loss is higher
    assert "not proven" not in str(found)


def test_a_hill_fails_the_proviso_and_is_told() -> None:
    x = np.full(1000, 1.0)
    hill = Landscape(ripples(), [np.array([pi / 2])], (x,))
    found = bound.of(hill, SAM(rho=0.05), held_out=hill)
    assert found.margin is not None
    assert found.margin < 0
    assert "the proviso fails on held-out data" in str(found)


def test_another_ball_or_loss_is_refused() -> None:
    landscape = Landscape(ripples(), [np.array([0.2])], (np.ones(10),))
    for variant in (ASAM(rho=0.05), SAM(rho=0.05, p=1), SAM(rho=0.05).sharded(5)):
        with pytest.raises(ValueError, match="Euclidean ball of all data"):
            bound.of(landscape, variant)
    with pytest.raises(ValueError, match="instead of a cross-entropy"):
        bound.of(Landscape(ripples(50.0), [np.array([0.2])], (np.ones(10),)), SAM(rho=0.05))
