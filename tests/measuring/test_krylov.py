"""Lanczos on trees: what the basis and the small matrix promise, and eigenvalues of matrices made to break them.

Four mutants were tried by hand, and each test says which of them it rejects.
"""

from __future__ import annotations

import weakref
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from samfamily import curvature
from samfamily.krylov import Krylov, orthogonal, random, rotate
from samfamily.reference import NumpySpace
from samfamily.space import Leaves, Scalar, Vec
from tests.measuring.quadratics import flat, quadratic, rotated, tree

EPS = np.finfo(float).eps
SPECTRA: dict[str, Any] = {
    "spread": np.linspace(-3, 5, 60),
    "heavy tails": np.concatenate([-np.geomspace(1e-9, 10, 30), np.geomspace(1e-9, 1e4, 30)]),
    "clustered ends": np.concatenate([1 + 1e-9 * np.arange(20), np.linspace(-0.5, 0.5, 20), -1 - 1e-9 * np.arange(20)]),
    "multiple": np.repeat([7.0, 2.0, 0.0, -1.0], 15),
    "few": np.array([5.0, 5.0] + [0.0] * 58),
    "rank one": np.eye(60)[0],
    "zero": np.zeros(60),
    "identity": np.ones(60),
    "negative": -np.linspace(1, 3, 60),
}


def worked(H: Any, memory: int, restarts: int, dtype: Any = float) -> tuple[Krylov, Any]:
    """Return a Krylov space that was restarted so often, and then grew to its memory, and its basis as columns."""
    landscape = quadratic(H, dtype)
    space = Krylov(landscape.product, random(landscape.w, 0, 0))
    for restart in range(restarts + 1):
        while space.size < memory:
            space.grow()
        if restart < restarts:
            values, Y, _ = space.ritz()
            kept = np.r_[0:2, memory - 3 : memory]
            space.restart(values[kept], Y[:, kept])
    return space, np.stack([flat(q) for q in space.basis], 1)


@pytest.mark.parametrize("name", SPECTRA)
def test_the_basis_is_orthonormal_after_many_restarts(name: str) -> None:
    """Rejects one pass of orthogonalisation instead of two, and a product of rounding taken for a direction."""
    _, Q = worked(rotated(SPECTRA[name]), 12, 15)
    np.testing.assert_allclose(Q.T @ Q, np.eye(13), atol=1e-12)


@pytest.mark.parametrize("name", SPECTRA)
def test_what_leads_out_of_the_space_is_known_after_restarts(name: str) -> None:
    r"""\(A Q = Q S + q b^\top\). Rejects b left as it was by a restart."""
    H = rotated(SPECTRA[name])
    space, Q = worked(H, 12, 7)
    size = float(np.linalg.norm(H, 2))
    np.testing.assert_allclose(H @ Q[:, :12], Q[:, :12] @ space.S + np.outer(Q[:, 12], space.b), atol=40 * EPS * size)
    np.testing.assert_allclose(space.S, Q[:, :12].T @ H @ Q[:, :12], atol=40 * EPS * size)


def test_half_as_many_digits_are_no_trouble() -> None:
    _, Q = worked(rotated(SPECTRA["heavy tails"]), 12, 25, np.float32)
    np.testing.assert_allclose(Q.T @ Q, np.eye(13), atol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_whole_space(n: int) -> None:
    H = rotated(np.arange(n) - 1.0)
    for top, bottom in ((n, 0), (0, n), (1, n - 1)):
        found = curvature.eigenvalues(quadratic(H), top, bottom)
        np.testing.assert_allclose(sorted(found.values), np.arange(n) - 1.0, atol=1e-14)
        assert found.converged


# ----------------------------------------------------------------------------------------------------------- rotation


class Counting(NumpySpace):
    """Counts how many vectors there are at most, of those that its operations made."""

    def __init__(self) -> None:
        super().__init__(1)
        self.made: list[Any] = []
        self.most = 0

    def _counted(self, leaves: Leaves) -> Leaves:
        self.made = [ref for ref in (*self.made, weakref.ref(leaves[0])) if ref() is not None]
        self.most = max(self.most, len(self.made))
        return leaves

    def scale(self, a: Scalar, x: Leaves) -> Leaves:
        return self._counted(super().scale(a, x))

    def axpby(self, a: Scalar, x: Leaves, b: Scalar, y: Leaves) -> Leaves:
        return self._counted(super().axpby(a, x, b, y))


@given(st.integers(1, 9), st.data())
def test_rotating_is_the_product_with_the_matrix_in_room_for_two(m: int, data: st.DataObject) -> None:
    """Rejects the signs of the reflections left out."""
    k = data.draw(st.integers(1, m))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    X = rng.normal(size=(11, m))
    Y = np.linalg.qr(rng.normal(size=(m, k)))[0] if data.draw(st.booleans()) else np.eye(m)[:, rng.permutation(m)[:k]]
    space = Counting()
    vectors = [2.0 * Vec(space, (0.5 * x,)) for x in X.T]
    vectors[:] = [v.collapsed() for v in vectors]
    assert space.most == m
    rotate(vectors, Y)
    assert space.most <= m + 2
    np.testing.assert_allclose(np.stack([v.leaves[0] for v in vectors], 1), X @ Y, atol=1e-13)


@given(st.integers(1, 20), st.integers(0, 999))
def test_what_is_orthogonal_to_a_basis(k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    Q, x = np.linalg.qr(rng.normal(size=(23, k)))[0], rng.normal(size=23)
    rest, parts = orthogonal(tree(x), [tree(q) for q in Q.T])
    np.testing.assert_allclose(flat(rest), x - Q @ (Q.T @ x), atol=1e-14)
    np.testing.assert_allclose(parts, Q.T @ x, atol=1e-13)


# -------------------------------------------------------------------------------------------------------- eigenvalues


@pytest.mark.parametrize("name", SPECTRA)
def test_the_ends_of_a_spectrum_with_the_least_memory(name: str) -> None:
    """Where an eigenvalue is multiple it may be found once; then what follows is an eigenvalue further in."""
    values, H = np.sort(SPECTRA[name])[::-1], rotated(SPECTRA[name])
    for memory in (5, 12, None):
        found = curvature.eigenvalues(quadratic(H), 2, 1, memory=memory, products=4000, tolerance=1e-7)
        assert found.converged
        size = max(abs(values))
        for end in (0, 2):
            np.testing.assert_allclose(found.values[end], values[[0, 0, -1][end]], atol=1e-9 * size)
        if len(np.unique(values)) == len(values):
            np.testing.assert_allclose(found.values, values[[0, 1, -1]], atol=1e-9 * size)
        for theta, v, error in zip(found.values, found.vectors, found.errors, strict=True):
            x = flat(v)
            assert np.linalg.norm(x) == pytest.approx(1, abs=1e-12)
            residual = np.linalg.norm(H @ x - theta * x)
            assert residual <= 1.001 * error + 20 * EPS * size
            assert residual >= 0.999 * error or error <= 1000 * EPS * size
            assert np.min(abs(values - theta)) <= error + 20 * EPS * size


@given(st.integers(1, 40), st.integers(0, 999), st.data())
def test_too_few_products_are_admitted_and_errors_bound(n: int, seed: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=n) ** data.draw(st.integers(1, 5))
    top = data.draw(st.integers(1, min(n, 3)))
    bottom = data.draw(st.integers(0, min(n - top, 2)))
    products = data.draw(st.integers(top + bottom, 30))
    found = curvature.eigenvalues(
        quadratic(rotated(values, seed)), top, bottom, memory=top + bottom + 2, products=products, seed=seed
    )
    assert found.products <= products
    for theta, error in zip(found.values, found.errors, strict=True):
        assert np.min(abs(values - theta)) <= error + n * EPS * np.max(abs(values))  # as the rotated matrix is rounded
    assert found.converged or np.any(found.errors > 1e-4 * abs(found.values))


def test_a_budget_that_is_too_small_says_so() -> None:
    found = curvature.eigenvalues(quadratic(rotated(np.linspace(-3, 5, 60))), 3, 2, products=7)
    assert not found.converged
    assert found.products == 7
    assert str(found).endswith("in 7 products, not converged")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_float32_is_as_good_as_it_can_be(dtype: Any) -> None:
    values = SPECTRA["heavy tails"]
    found = curvature.eigenvalues(quadratic(rotated(values), dtype), 3, 3, tolerance=0, memory=16, products=500)
    assert found.converged
    np.testing.assert_allclose(found.values, [*np.sort(values)[::-1][:3], *np.sort(values)[:3][::-1]],
                               atol=30 * np.finfo(dtype).eps * 1e4)  # fmt: skip


def test_the_seed_is_of_no_importance_and_gives_the_same_twice() -> None:
    H = rotated(SPECTRA["spread"])
    one, two, other = (curvature.eigenvalues(quadratic(H), 2, 2, seed=seed) for seed in (0, 0, 5))
    assert str(one) == str(two)
    np.testing.assert_allclose(one.values, other.values, rtol=1e-7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top": 4, "bottom": 3}, r"top = 4 and bottom = 3 eigenvalues of a model with 6 weights: ask for fewer"),
        ({"top": 3, "bottom": -1}, r"top = 3 and bottom = -1 eigenvalues"),
        ({"top": 0}, r"top \+ bottom must be at least 1, got 0"),
        ({"top": 2, "memory": 3}, r"memory = 3 vectors for 2 eigenvalues: keep at least 4"),
        ({"top": 2, "memory": 0}, r"memory = 0 vectors for 2 eigenvalues: keep at least 4"),
        ({"top": 2, "products": 1}, r"products = 1 for 2 eigenvalues: allow at least as many"),
        ({"tolerance": -1.0}, r"tolerance must be finite and at least 0, got -1"),
    ],
)
def test_what_cannot_be_asked_for(options: dict[str, Any], message: str) -> None:
    landscape = quadratic(rotated(np.arange(6.0)))
    with pytest.raises(ValueError, match=message):
        curvature.eigenvalues(landscape, **options)
    assert landscape.spent.products == 0
