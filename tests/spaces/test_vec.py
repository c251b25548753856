"""Layer 1: Vec is a vector space with an inner product and norms, on every framework, at the cost that it states."""

from collections import Counter
from math import inf
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given

from samfamily import Ball, Vec
from samfamily.reference import NumpySpace
from samfamily.space import Leaves, Scalar
from tests.spaces.checks import SHAPES, plain_norm, wide
from tests.spaces_under_test import EPS, JAX, NUMPY, TORCH, Framework, to_tree
from tests.strategies import Tree, flat, orders, site, sparing, tame

A, B = -1 / 3, 2.7


def assert_same(framework: Framework, u: Vec, v: Vec, *terms: Vec) -> None:
    """Assert u = v within a few roundings of the sum of the terms' sizes."""
    left, right = flat([wide(x) for x in u.collapse()]), flat([wide(x) for x in v.collapse()])
    size = sum(abs(flat([wide(x) for x in term.collapse()])) for term in terms)
    assert np.all(abs(left - right) <= 4 * EPS[framework.dtypes[0]] * size)


@sparing()
@given(tame(3, SHAPES))
def test_addition_is_a_group(framework: Framework, forest: list[Tree]) -> None:
    u, v, w = map(framework.vec, forest)
    for left, right in zip((u + v).collapse(), (v + u).collapse(), strict=True):
        assert np.array_equal(wide(left), wide(right))
    assert_same(framework, (u + v) + w, u + (v + w), u, v, w)
    assert all(np.all(wide(x) == 0) for x in (v - v).collapse())
    assert_same(framework, u - v, u + -v)
    assert_same(framework, v + (u - u), v)


@sparing()
@given(tame(2, SHAPES))
def test_scalars_distribute(framework: Framework, forest: list[Tree]) -> None:
    u, v = map(framework.vec, forest)
    assert_same(framework, A * (u + v), A * u + A * v, u, v)
    assert_same(framework, (A + B) * v, A * v + B * v, v, B * v)
    assert_same(framework, A * (B * v), (A * B) * v, v)
    assert_same(framework, v / 3.0, (1 / 3) * v, v)
    assert_same(framework, B * (u * v), (B * u) * v, B * (u * v))
    assert_same(framework, u * (B * v), (B * u) * v, B * (u * v))
    zero = v / 0.0
    assert all(np.all(wide(x) == 0) for x in zero.collapse())


@sparing()
@given(tame(2, SHAPES), orders)
def test_inner_product_and_norms(framework: Framework, forest: list[Tree], p: float) -> None:
    u, v = map(framework.vec, forest)
    slack = 1 + 100 * EPS[framework.dtypes[0]]
    q = inf if p == 1 else 1.0 if p == inf else p / (p - 1)
    inner = float(u.inner(v))
    size = float((abs(flat([wide(x) for x in u.leaves])) * abs(flat([wide(x) for x in v.leaves]))).sum())
    rounding = 100 * EPS[framework.dtypes[0]] * size
    assert abs(inner) <= float(u.norm(2) * v.norm(2)) * slack  # Cauchy-Schwarz
    assert abs(inner) <= float(u.norm(p) * v.norm(q)) * slack  # Hoelder
    assert float((u + v).norm(p)) <= float(u.norm(p) + v.norm(p)) * slack  # triangle
    assert float((A * v).norm(p)) == pytest.approx(abs(A) * float(v.norm(p)), rel=1e-5, abs=0)
    assert float((A * u).inner(B * v)) == pytest.approx(A * B * inner, rel=1e-5, abs=rounding)
    assert float(v.inner(v)) == pytest.approx(float(v.norm(2)) ** 2, rel=1e-5, abs=0)
    assert inner == pytest.approx(float(v.inner(u)), rel=1e-5, abs=rounding)
    whole = v.collapse()
    assert float(v.norm(p)) == pytest.approx(float(plain_norm(whole, p)), rel=1e-5, abs=0)


@sparing()
@given(tame(1, SHAPES), orders)
def test_signed_power(framework: Framework, forest: list[Tree], p: float) -> None:
    v = framework.vec(forest[0])
    for r in {0.0, 1.0, 2.0, 1 / p}:
        x = flat([wide(u) for u in (-v).collapse()])
        got = flat(to_tree((-v).signed_power(r)))
        np.testing.assert_allclose(got, (np.sign(x) * abs(x) ** r).astype(float), rtol=1e-5)
    assert v.signed_power(1) is v


# ------------------------------------------------------------------------------------------------------------- scalars

LEFT: list[tuple[Framework, Any]] = [
    (NUMPY, 2),
    (NUMPY, 2.0),
    (NUMPY, np.float64(2)),
    (NUMPY, np.float32(2)),
    (NUMPY, np.array(2.0)),
    (TORCH, 2.0),
    (TORCH, np.float64(2)),
    (TORCH, torch.tensor(2.0)),
    (TORCH, torch.tensor(2.0, dtype=torch.float64)),
    (JAX, 2.0),
    (JAX, np.float32(2)),
    (JAX, jnp.float32(2)),
    (JAX, jnp.asarray(2.0)),
]


@pytest.mark.parametrize(("framework_", "two"), LEFT, ids=[f"{f.name}-{a!r}" for f, a in LEFT])
def test_scalars_on_either_side(framework_: Framework, two: Any) -> None:
    tree = (np.array([1.0, -2.0]), np.array(3.0))
    for dtype in framework_.dtypes:
        v = framework_.vec(tree, [dtype] * 2)
        for product in (two * v, v * two):
            assert isinstance(product, Vec)
            assert product.leaves is v.leaves
            assert all(x.dtype == y.dtype for x, y in zip(product.collapse(), v.leaves, strict=True))
            np.testing.assert_array_equal(flat(to_tree(product)), [2, -4, 6])
        np.testing.assert_array_equal(flat(to_tree(v / two)), [0.5, -1, 1.5])


def test_a_vec_goes_through_jit() -> None:
    v = JAX.vec((np.array([1.0, -2.0]), np.array(3.0)))
    doubled = jax.jit(lambda v, a: a * v)(v, 2.0)
    assert isinstance(doubled, Vec)
    np.testing.assert_array_equal(flat(to_tree(doubled)), [2, -4, 6])


# ---------------------------------------------------------------------------------------------------------------- cost


class Counting(NumpySpace):
    """Counts the passes over memory."""

    def __init__(self, leaves: int) -> None:
        super().__init__(leaves)
        self.passes: Counter[str] = Counter()

    def scale(self, a: Scalar, x: Leaves) -> Leaves:
        self.passes["scale"] += 1
        return super().scale(a, x)

    def axpby(self, a: Scalar, x: Leaves, b: Scalar, y: Leaves) -> Leaves:
        self.passes["axpby"] += 1
        return super().axpby(a, x, b, y)

    def norm(self, x: Leaves, q: float) -> Scalar:
        self.passes["norm"] += 1
        return super().norm(x, q)


def counted() -> tuple[Counting, Vec, Vec]:
    space = Counting(1)
    return space, Vec(space, (np.array([1.0, 2.0]),)), Vec(space, (np.array([3.0, -4.0]),))


def test_one_and_the_identity_cost_nothing() -> None:
    space, w, _ = counted()
    assert 1 * w is w
    assert w * 1.0 is w
    assert (2.0 * w).leaves is w.leaves
    assert w.collapse() is w.leaves
    assert not space.passes


def test_a_climb_is_one_pass_over_memory() -> None:
    space, w, d = counted()
    n = d.norm(2)
    space.passes.clear()
    point = w + 0.5 * (d / n)
    assert space.passes == {"axpby": 1}
    np.testing.assert_allclose(point.leaves[0], [1.3, 1.6], rtol=1e-15)


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, inf])
def test_dual_norm_and_maximiser_cost_one_norm_together(p: float) -> None:
    space, w, d = counted()
    ball = Ball(p).at(site(w))
    ball.dual_norm(d)
    ball.maximiser(d)
    ball.dual_norm(d)
    assert space.passes["norm"] == 1


def test_a_norm_is_remembered_for_each_order() -> None:
    space, _, d = counted()
    for q in (2, 2, 1, inf, 1):
        d.norm(q)
    assert space.passes == {"norm": 3}
    (2.0 * d).norm(2)
    assert space.passes == {"norm": 4}  # the count can rise: another Vec has norms of its own
