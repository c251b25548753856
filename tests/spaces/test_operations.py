"""Layer 1: every operation of every adapter, on real and complex leaves of every dtype."""

from math import inf, nan
from typing import Any

import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from hypothesis import given

from tests.spaces import checks
from tests.spaces.checks import ORDERS, SHAPES, layouts, stretched
from tests.spaces_under_test import FRAMEWORKS, JAX, JAX_X64, Framework, to_numpy
from tests.strategies import Tree, sparing, tame

PAIRS = tame(2, SHAPES)
EXPONENTS = st.lists(st.sampled_from([-1, 0, 1]), min_size=len(SHAPES), max_size=len(SHAPES))
NUMBERS = st.sampled_from([0.0, 1.0, -1.0, 1 / 3, -7.3, 50.0])
DTYPES = [(f, t) for f in FRAMEWORKS for t in f.dtypes]


def number(framework: Framework, value: float, kind: str) -> Any:
    return value if kind == "python" else framework.array(np.float64(value), kind)


@sparing()
@given(st.data(), PAIRS, NUMBERS, NUMBERS)
def test_scale_and_axpby(framework: Framework, data: st.DataObject, pair: list[Tree], a: float, b: float) -> None:
    kinds = st.sampled_from(["python", "float32", framework.dtypes[0]])
    layout = data.draw(st.sampled_from(layouts(framework)))
    x, y = (framework.leaves(tree, layout) for tree in pair)
    a, b = (number(framework, value, data.draw(kinds)) for value in (a, b))
    checks.check_linear(framework, x, y, a, b)


@sparing()
@given(st.data(), PAIRS)
def test_dtypes_follow_the_second_argument(framework: Framework, data: st.DataObject, pair: list[Tree]) -> None:
    layout = data.draw(st.sampled_from(layouts(framework)))
    x, y = framework.leaves(pair[0]), framework.leaves(pair[1], layout)
    checks.check_linear(framework, x, y, 0.5, 1.0)
    checks.check_multiply(framework, x, y)


@sparing()
@given(st.data(), PAIRS)
def test_multiply(framework: Framework, data: st.DataObject, pair: list[Tree]) -> None:
    layout = data.draw(st.sampled_from(layouts(framework)))
    x, y = (framework.leaves(tree, layout) for tree in pair)
    checks.check_multiply(framework, x, y)
    broadcast = (x[0][:1], 1.0, 2.5, x[1])  # one row, numbers, a 0-d array
    checks.check_multiply(framework, broadcast, y)


@sparing()
@given(st.data(), PAIRS, EXPONENTS, st.sampled_from(ORDERS))
def test_norm(framework: Framework, data: st.DataObject, pair: list[Tree], exponents: list[int], q: float) -> None:
    layout = data.draw(st.sampled_from(layouts(framework)))
    checks.check_norm(framework, framework.leaves(stretched(pair[0], layout, exponents), layout), q)


@sparing()
@given(st.data(), PAIRS, EXPONENTS, EXPONENTS)
def test_inner(framework: Framework, data: st.DataObject, pair: list[Tree], up: list[int], down: list[int]) -> None:
    layout = data.draw(st.sampled_from(layouts(framework)))
    trees = (stretched(tree, layout, exponents) for tree, exponents in zip(pair, (up, down), strict=True))
    checks.check_inner(framework, *(framework.leaves(tree, layout) for tree in trees))


@sparing()
@given(st.data(), PAIRS)
def test_sign(framework: Framework, data: st.DataObject, pair: list[Tree]) -> None:
    for x in framework.leaves(pair[0], data.draw(st.sampled_from(layouts(framework)))):
        checks.check_sign(framework, x)


@pytest.mark.parametrize("b", [0.0, -1.0, 1e-30, 3.0, inf])
@pytest.mark.parametrize("a", [0.0, 1.0, -2.5])
def test_divide(framework: Framework, a: float, b: float) -> None:
    checks.check_divide(framework, a, b)
    checks.check_divide(framework, framework.scalar(a), framework.scalar(b))
    checks.check_divide(framework, a, framework.scalar(b))


@pytest.mark.parametrize("condition", [True, False])
def test_where(framework: Framework, condition: bool) -> None:
    yes = framework.scalar(1.0 if condition else -1.0) > 0
    assert float(framework.space(1).where(yes, framework.scalar(2.0), 3.0)) == (2.0 if condition else 3.0)


# ------------------------------------------------------------------------------------------------------- special trees

SPECIAL: dict[str, list[Any]] = {
    "one number": [-3.0],
    "one entry": [[2.0]],
    "no entry": [np.zeros(0), np.zeros((2, 0))],
    "zeros": [[0.0, 0.0], 0.0],
    "numbers": [1.0, -2.0, 2.0],
    "ties": [[1.0, -1.0], [[1.0]], []],
}


@pytest.mark.parametrize("q", ORDERS)
@pytest.mark.parametrize("tree", SPECIAL.values(), ids=SPECIAL)
def test_norm_of_special_trees(framework: Framework, tree: list[Any], q: float) -> None:
    checks.check_norm(framework, framework.leaves(tuple(np.array(x) for x in tree)), q)


@pytest.mark.parametrize("q", ORDERS)
def test_zero_has_norm_zero_exactly(framework: Framework, q: float) -> None:
    for t in framework.dtypes:
        assert float(framework.space(2).norm(framework.leaves((np.zeros(3), np.zeros(())), [t, t]), q)) == 0


@pytest.mark.parametrize("q", ORDERS)
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("value", [inf, -inf, nan])
def test_infinity_and_nan_come_through(framework: Framework, value: float, place: int, q: float) -> None:
    tree = [np.array([1.0, 2.0]), np.array(3.0), np.array([[0.5]])]
    tree[place] = np.full_like(tree[place], value)
    np.testing.assert_equal(float(framework.space(3).norm(framework.leaves(tuple(tree)), q)), abs(value))


@pytest.mark.parametrize("q", ORDERS)
def test_squares_beyond_float16(framework: Framework, q: float) -> None:
    checks.check_norm(framework, framework.leaves((np.array([6e4, -6e4]), np.array(6e4)), ["float16"] * 2), q)


@pytest.mark.parametrize("scale", [-1, 1])
@pytest.mark.parametrize("q", ORDERS)
def test_a_leaf_of_zeros_beside_extremes_of_a_wider_dtype(framework: Framework, q: float, scale: int) -> None:
    for narrow in framework.dtypes:
        dtypes = [narrow, framework.dtypes[0]]
        tree = stretched((np.zeros(2), np.array([1.0, -3.0])), dtypes, [0, scale])
        checks.check_norm(framework, framework.leaves(tree, dtypes), q)
        other = stretched((np.ones(2), np.array([2.0, 1.0])), dtypes, [0, -scale])
        checks.check_inner(framework, framework.leaves(tree, dtypes), framework.leaves(other, dtypes))


@pytest.mark.parametrize(("framework_", "narrow"), DTYPES, ids=lambda x: getattr(x, "name", x))
def test_a_scalar_may_exceed_the_dtype_of_the_leaf(framework_: Framework, narrow: str) -> None:
    """Like rho / ||g|| of a small gradient: in float32 or wider, whatever the leaf is."""
    with framework_.mode():
        x = framework_.leaves((np.array([1e-3, -2e-3]), np.array(1e-3)), [narrow] * 2)
        checks.check_linear(framework_, x, x, framework_.array(np.float64(1e6), "float32"), 1.0)


# ------------------------------------------------------------------------------------------------------------- complex


@sparing()
@given(tame(4, SHAPES), st.sampled_from(ORDERS))
def test_complex_leaves(framework: Framework, forest: list[Tree], q: float) -> None:
    a, b, c, d = forest
    x, y = (
        tuple(framework.array(re + 1j * im, framework.complex) for re, im in zip(*pair, strict=True))
        for pair in ((a, b), (c, d))
    )
    checks.check_norm(framework, x, q)
    checks.check_inner(framework, x, y)
    for u in x:
        checks.check_sign(framework, u)
    checks.check_linear(framework, x, y, framework.scalar(-0.3), 1.0)


@pytest.mark.parametrize("q", ORDERS)
def test_extreme_complex_entries(framework: Framework, q: float) -> None:
    for scale in (1e30, 1e-30):
        x = (framework.array(scale * np.array([3 + 4j, -1j]), framework.complex),)
        checks.check_norm(framework, x, q)
        checks.check_sign(framework, x[0])


# ---------------------------------------------------------------------------------------------------------- derivatives


@pytest.mark.parametrize("q", ORDERS)
@pytest.mark.parametrize("framework_", [JAX, JAX_X64], ids=lambda f: f.name)
def test_derivative_of_the_norm(framework_: Framework, q: float) -> None:
    """Zero at zero, the usual one elsewhere, and beside a zero entry at least a subgradient."""
    with framework_.mode():
        gradient = jax.grad(lambda x: framework_.space(2).norm(x, q))
        zero = framework_.leaves((np.zeros(2), np.zeros(())))
        assert all(np.all(to_numpy(x) == 0) for x in gradient(zero))
        (x, nothing), y = map(to_numpy, gradient(framework_.leaves((np.array([3.0, 0.0]), np.array(-4.0)))))
        n = (3**q + 4**q) ** (1 / q) if q < inf else 4
        exact = [(3 / n) ** (q - 1), -((4 / n) ** (q - 1))] if q < inf else [0, -1]
        np.testing.assert_allclose([x, y], exact, rtol=1e-5)
        assert abs(nothing) <= (1 if q == 1 else 0)


@pytest.mark.parametrize("framework_", [JAX, JAX_X64], ids=lambda f: f.name)
def test_derivative_of_the_guarded_division(framework_: Framework) -> None:
    with framework_.mode():
        divide = framework_.space(1).divide
        gradients = jax.grad(divide, (0, 1))(framework_.scalar(1.0), framework_.scalar(0.0))
        assert [float(x) for x in gradients] == [0.0, 0.0]
