"""The spectral density and the moments: quadrature as exact as Gauss's, and errors that are what they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from samfamily import curvature
from samfamily.curvature import Density, density, eigenvalues, moments
from samfamily.krylov import orthogonal, random
from tests.measuring.quadratics import flat, quadratic, rotated

HEAVY = np.concatenate([[300.0, 120.0, 50.0, -40.0], np.linspace(-1, 1, 56)])


def distance(found: curvature.Density, values: Any) -> float:
    return float(wasserstein_distance(np.concatenate(found.nodes), values, np.concatenate(found.weights)))


# ------------------------------------------------------------------------------------------------------------ density


@pytest.mark.parametrize("order", [1, 2, 5, 9])
def test_every_draw_integrates_polynomials_as_gauss_does(order: int) -> None:
    r"""\(\sum_i w_i \theta_i^k = \langle q, A^k q\rangle\) up to k = 2 order - 1, and not beyond."""
    H = rotated(np.linspace(-1, 2, 30))
    landscape = quadratic(H)
    found = density(landscape, order, draws=3)
    assert found.products == 3 * order
    for draw, (nodes, weights) in enumerate(zip(found.nodes, found.weights, strict=True)):
        assert np.all(np.diff(nodes) > 0)
        q = flat(random(landscape.w, 0, draw))
        q = q / np.linalg.norm(q)
        exact = [q @ np.linalg.matrix_power(H, k) @ q for k in range(2 * order + 1)]
        by_nodes = [weights @ nodes**k for k in range(2 * order + 1)]
        np.testing.assert_allclose(by_nodes[:-1], exact[:-1], rtol=1e-10)
        assert abs(by_nodes[-1] - exact[-1]) > 1e-7


@pytest.mark.parametrize("values", [[3.0], [3.0, -1.0], [2.0] * 9, [0.0] * 9, [1.0] + [0.0] * 8], ids=str)
def test_small_and_degenerate_spectra(values: list[float]) -> None:
    found = density(quadratic(rotated(values)), order=20, draws=40)
    distinct = len(set(values))
    assert found.products <= 40 * distinct + 4  # a direction with next to nothing of an eigenvector takes one more
    for nodes, weights in zip(found.nodes, found.weights, strict=True):
        assert np.max(np.min(abs(nodes[:, None] - values), 1)) <= 1e-13
        assert weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(found.range, (min(values), max(values)), atol=1e-13)


@pytest.mark.parametrize("k", [(0, 0), (3, 1), (30, 30)])
def test_error_bars_cover(k: tuple[int, int]) -> None:
    """Of shares of the spectrum and of a smoothed density, 25 times: whether ends are known or not."""
    landscape = quadratic(rotated(HEAVY))
    known = eigenvalues(landscape, *k, tolerance=1e-9) if any(k) else None
    x, centres, inside = np.array([-20.0, 20.0, 80.0]), np.linspace(-1, 1, 3), []
    true = (HEAVY[:, None] <= x).mean(0)
    bumps = (np.exp(-0.5 * ((HEAVY[:, None] - centres) / 0.6) ** 2) / (0.6 * np.sqrt(2 * np.pi))).mean(0)
    for seed in range(25):
        found = density(landscape, order=9, draws=8, known=known, seed=seed)
        assert all(weights.sum() == pytest.approx(1) for weights in found.weights)
        for (mean, error), exact in ((found.cumulative(x), true), (found.smoothed(centres, 0.6), bumps)):
            inside += list(abs(mean - exact) <= 2.36 * error + 1e-3)  # Student's t with seven degrees of freedom
    assert np.mean(inside) >= 0.8  # shares are skewed where they are those of few eigenvalues


def test_errors_are_the_standard_errors_of_a_sample() -> None:
    """Of two draws, one all below and one all above; kills the mutant that divides by their number."""
    found = Density((np.array([0.0]), np.array([2.0])), (np.array([1.0]), np.array([1.0])), 2)
    mean, error = found.cumulative(np.array(1.0))
    assert (float(mean), float(error)) == (0.5, 0.5)


def test_known_ends_are_nodes_of_their_share_and_the_rest_is_nearer() -> None:
    landscape = quadratic(rotated(HEAVY))
    known = eigenvalues(landscape, 3, 1, tolerance=1e-9)
    blind = [distance(density(landscape, 25, 4, seed=seed), HEAVY) for seed in range(3)]
    found = [density(landscape, 25, 4, known=known, seed=seed) for seed in range(3)]
    assert np.mean([distance(x, HEAVY) for x in found]) < 0.1 * np.mean(blind)
    for nodes, weights in zip(found[0].nodes, found[0].weights, strict=True):
        assert np.all(np.diff(nodes) >= 0)
        for value in known.values:
            at = np.flatnonzero(nodes == value)
            np.testing.assert_array_equal(weights[at], 1 / len(HEAVY))
        rest = ~np.isin(nodes, known.values)
        for i, v in enumerate(known.vectors):  # rounding lets them in again, with no weight to speak of
            assert weights[rest & (abs(nodes - known.values[i]) < 1)].sum() < 1e-12 + (abs(known.values[i]) < 2)
            assert abs(flat(v) @ flat(orthogonal(random(landscape.w, 0, 0), known.vectors)[0])) < 1e-13


def test_everything_may_be_known() -> None:
    landscape = quadratic(rotated([1.0, 2.0, 3.0]))
    known = eigenvalues(landscape, 3)
    found = density(landscape, known=known, draws=2)
    assert found.products == 0
    np.testing.assert_array_equal(found.nodes[1], known.values[::-1])
    np.testing.assert_allclose(found.weights[1], [1 / 3] * 3)


def test_eigenvectors_of_another_model() -> None:
    known = eigenvalues(quadratic(rotated([1.0, 2.0, 3.0])))
    landscape = quadratic(rotated([1.0, 2.0]))
    with pytest.raises(ValueError, match=r"known eigenvectors have other shapes.*pass those of the same model"):
        density(landscape, known=known)
    assert landscape.spent.products == 0


# ------------------------------------------------------------------------------------------------------------ moments


def test_moments_are_unbiased_and_their_errors_cover() -> None:
    values = np.linspace(-1, 2, 40)
    landscape = quadratic(rotated(values))
    found = [moments(landscape, products=12, seed=seed) for seed in range(120)]
    trace, square = values.sum(), (values**2).sum()
    for exact, samples, errors in (
        (trace, [x.trace for x in found], [x.trace_error for x in found]),
        (square, [x.frobenius**2 for x in found], [2 * x.frobenius * x.frobenius_error for x in found]),
    ):
        off = np.array(samples) - exact
        assert abs(off.mean()) <= 3 * off.std() / np.sqrt(len(off))
        # Four samples each: Student's t with three degrees of freedom keeps 95 % within 3.18 errors.
        assert np.mean(abs(off) <= 3.18 * np.array(errors)) >= 0.88
        assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(off.std(), rel=0.25)


@pytest.mark.parametrize("rank", [0, 1, 4])
@pytest.mark.parametrize("products", [15, 40])
def test_moments_of_small_rank_are_exact(rank: int, products: int) -> None:
    values = np.append(np.arange(rank) - 1.5, np.zeros(30 - rank))
    found = moments(quadratic(rotated(values)), products)
    assert found.trace == pytest.approx(values.sum(), abs=1e-12)
    assert found.frobenius == pytest.approx(np.linalg.norm(values), abs=1e-12)
    assert found.trace_error <= 1e-12
    assert found.frobenius_error <= 1e-12
    assert found.products <= products


@pytest.mark.parametrize("n", [1, 2, 3])
def test_moments_of_few_weights_are_exact(n: int) -> None:
    values = np.arange(n) - 0.5
    found = moments(quadratic(rotated(values)), 60)
    assert found.trace == pytest.approx(values.sum(), abs=1e-13)
    assert found.frobenius == pytest.approx(np.linalg.norm(values))
    assert found.products == 2 * n


@pytest.mark.parametrize("products", [6, 7, 8, 9])
def test_no_more_products_than_allowed(products: int) -> None:
    landscape = quadratic(rotated(HEAVY))
    found = moments(landscape, products)
    assert found.products == landscape.spent.products == 3 * (products // 3)
    assert np.isfinite(found.trace_error)


@pytest.mark.parametrize("products", [0, 1, 5])
def test_too_few_products_for_moments(products: int) -> None:
    with pytest.raises(ValueError, match=r"products.*(at least 1|leave no third with an error of its own: allow 6)"):
        moments(quadratic(rotated(HEAVY)), products)
