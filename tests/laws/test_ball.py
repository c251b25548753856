"""Layer 2: the ball, for every p and metric, on every framework; and mutants of it that the laws reject."""

from itertools import pairwise
from math import inf
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samfamily import Vec
from samfamily.ball import BallAt
from samfamily.reference import NumpySpace
from samfamily.space import Leaves
from tests.laws.ball_laws import LAWS, METRICS, Case, agree
from tests.spaces_under_test import NUMPY, Framework
from tests.strategies import Tree, flat, forests, orders, sparing, tame, trees

SHAPES = [(3,), (), (0,), (2, 2)]


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, inf])
@pytest.mark.parametrize("law", LAWS)
@given(forests(2), st.sampled_from(list(METRICS)))
def test_ball(law: str, p: float, forest: list[Tree], metric: str) -> None:
    w, d = forest
    LAWS[law](BallAt, Case(p, w, d, metric))


@pytest.mark.parametrize("law", LAWS)
@given(forests(2), orders, st.sampled_from(list(METRICS)))
def test_ball_of_any_order(law: str, forest: list[Tree], p: float, metric: str) -> None:
    w, d = forest
    LAWS[law](BallAt, Case(p, w, d, metric))


@pytest.mark.parametrize("law", LAWS)
@sparing(8)
@given(tame(2, SHAPES), st.sampled_from([1.0, 1.5, 2.0, 3.0, inf]), st.sampled_from(list(METRICS)))
def test_ball_of_every_framework(framework: Framework, law: str, forest: list[Tree], p: float, metric: str) -> None:
    w, d = forest
    LAWS[law](BallAt, Case(p, w, d, metric, framework))


# ------------------------------------------------------------------------------------------------------- special p


@given(trees())
def test_p_one_is_a_single_vertex_even_under_ties(d: Tree) -> None:
    e = flat(Case(1.0, d, d).answer(BallAt))
    assert np.count_nonzero(e) == np.any(flat(d))
    e = flat(Case(1.0, d, tuple(np.ones_like(x) for x in d)).answer(BallAt))
    np.testing.assert_array_equal(e, np.arange(e.size) == 0)


@given(trees())
def test_p_infinite_is_the_sign(d: Tree) -> None:
    np.testing.assert_array_equal(flat(Case(inf, d, d).answer(BallAt)), np.sign(flat(d)))


@given(tame(2))
def test_the_limits_of_p(forest: list[Tree]) -> None:
    w, d = forest
    g = abs(flat(d))
    agree([flat(Case(1e9, w, d).answer(BallAt))], [flat(Case(inf, w, d).answer(BallAt))], 1e-6)
    top = np.sort(g)
    if top.size > 1 and top[-1] > 1.01 * top[-2]:
        near, vertex_ = (flat(Case(p, w, d).answer(BallAt)) for p in (1 + 1e-5, 1.0))
        np.testing.assert_allclose(near, vertex_, atol=1e-4)


@given(tame(2), st.lists(st.floats(1, 50), min_size=2, max_size=4))
def test_balls_are_nested_in_p(forest: list[Tree], ps: list[float]) -> None:
    """The ball grows with p, and with it the dual norm."""
    w, d = forest
    v = Case(2.0, w, d).framework.vec(d)
    norms = [float(BallAt(p, 1.0).dual_norm(v)) for p in sorted(ps)]
    assert all(a <= b * (1 + 1e-9) for a, b in pairwise(norms))


@given(trees(), orders)
def test_a_ball_of_p_alone_has_the_metric_and_the_mask_one(d: Tree, p: float) -> None:
    v = NUMPY.vec(d)
    alone, spelled_out = BallAt(p), BallAt(p, T=1.0, M=1.0)
    assert alone.dual_norm(v) == spelled_out.dual_norm(v)
    np.testing.assert_array_equal(flat(alone.maximiser(v).collapse()), flat(spelled_out.maximiser(v).collapse()))


def test_the_metric_meets_a_direction_once() -> None:
    """However much is asked about the direction: a product is a pass over memory."""
    products: list[Any] = []

    class Counting(NumpySpace):
        def multiply(self, x: Leaves, y: Leaves) -> Leaves:
            products.append(x)
            return super().multiply(x, y)

    T, d, other = (Vec(Counting(1), (np.array(x),)) for x in ([1.0, 2.0], [3.0, 4.0], [5.0, 6.0]))
    ball = BallAt(2.0, T)
    for direction in (d, other):
        ball.dual_norm(direction)
        ball.dual_norm(direction)
        ball.maximiser(direction)
    assert sum(x is T.leaves for x in products) == 4  # inside and outside, for each


def rotated(p: float, d: Any) -> float:
    """Return how far the answer to a rotated direction is from the rotated answer."""
    q, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(d.size, d.size)))
    left, right = (flat(Case(p, (x,), (x,)).answer(BallAt)) for x in (q @ d, d))
    return float(np.max(abs(left - q @ right)))


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=6).filter(lambda d: max(map(abs, d)) > 0.1))
def test_only_the_two_norm_is_blind_to_rotation(d: list[float]) -> None:
    assert rotated(2.0, np.array(d)) <= 1e-12


@pytest.mark.parametrize("p", [1, 1.5, 3, inf])
def test_other_norms_see_rotation(p: float) -> None:
    """Negative control of the test above."""
    assert rotated(p, np.array([1.0, 2.0, 3.0])) > 0.1


def test_norm_and_maximiser_are_computed_once() -> None:
    """A descent that looks back at the climb asks again."""
    space = NumpySpace(1)
    d, other = (Vec(space, (np.array(x),)) for x in ([3.0, 4.0], [4.0, 3.0]))
    ball = BallAt(2, 1.0, 1.0)
    assert ball.maximiser(d) is ball.maximiser(d)
    assert ball.maximiser(other) is not ball.maximiser(d)
    np.testing.assert_allclose(ball.maximiser(d).collapse()[0], [0.6, 0.8])
