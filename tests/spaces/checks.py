"""What every operation of every `Space` must do, held against extended-precision NumPy that knows no space."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import inf
from typing import Any

import numpy as np

from tests.spaces_under_test import EPS, TINY, Framework, dtype, to_numpy
from tests.strategies import Tree, flat

SHAPES = [(2, 3), (), (0,), (4,)]
ORDERS = [1, 1.5, 2, 3, 10, inf]


def layouts(framework: Framework) -> list[list[str]]:
    """Return dtypes for the leaves of SHAPES: each dtype by itself, and all of them mixed."""
    alone = [[t] * len(SHAPES) for t in framework.dtypes]
    mixed = [framework.dtypes[i % len(framework.dtypes)] for i in range(len(SHAPES))]
    return [*alone, mixed, mixed[::-1]]


def largest_scale(dtype: str) -> float:
    """Return a power of ten whose square is out of the dtype's range, while 200 times itself is inside it."""
    return {"float64": 1e200, "float16": 1e2}.get(dtype, 1e30)


def stretched(tree: Tree, dtypes: Sequence[str], exponents: Sequence[int]) -> Tree:
    """Return the tree with each leaf scaled up (1), down (-1) or not (0), as far as its dtype goes."""
    return tuple(x * largest_scale(t) ** e for x, t, e in zip(tree, dtypes, exponents, strict=True))


def wide(x: Any) -> Any:
    x = to_numpy(x)
    return x.astype(np.clongdouble if np.iscomplexobj(x) else np.longdouble)


def plain_norm(tree: Tree, q: float) -> Any:
    x = abs(flat([wide(x) for x in tree]))
    if q == inf or not x.size:
        return x.max(initial=0)
    return (x**q).sum() ** (1 / np.longdouble(q))


def accumulator(*trees: Tree) -> float:
    """Return the unit of the coarsest accumulator allowed: float32, or the leaves' own dtype where that is finer."""
    return EPS["float64"] if {to_name(x) for tree in trees for x in tree} == {"float64"} else EPS["float32"]


def to_name(x: Any) -> str:
    return dtype(x).replace("complex128", "float64").replace("complex64", "float32")


@contextmanager
def unchanged(*trees: Tree) -> Iterator[None]:
    """Assert that the block leaves the arrays of these trees as they are."""
    before = [to_numpy(x) for tree in trees for x in tree]
    yield
    for old, x in zip(before, (x for tree in trees for x in tree), strict=True):
        np.testing.assert_array_equal(to_numpy(x), old)


def assert_leaves(got: Tree, exact: Sequence[Any], size: Sequence[Any], like: Tree) -> None:
    """Assert shape and dtype of `like`, and values within two roundings of terms as large as `size`."""
    assert len(got) == len(like)
    for x, e, s, y in zip(got, exact, size, like, strict=True):
        assert dtype(x) == dtype(y)
        assert x.shape == y.shape
        t = to_name(y)
        assert np.all(abs(wide(x) - e) <= 2 * EPS[t] * s + TINY[t]), (to_numpy(x), e, t)


def assert_scalar(n: Any, exact: Any, tolerance: Any) -> None:
    assert np.ndim(n) == 0
    assert isinstance(n, float) or dtype(n) in {"float32", "float64"}
    assert abs(wide(n) - exact) <= tolerance, (float(n), float(exact))


# ---------------------------------------------------------------------------------------------------- the operations


def check_linear(framework: Framework, x: Tree, y: Tree, a: Any, b: Any) -> None:
    """scale and axpby, for scalars of any kind."""
    space = framework.space(len(x))
    wa, wb = wide(a), wide(b)
    with unchanged(x, y):
        scaled, total = space.scale(a, x), space.axpby(a, x, b, y)
    ax, by = [wa * wide(u) for u in x], [wb * wide(v) for v in y]
    assert_leaves(scaled, ax, [abs(u) for u in ax], x)
    assert_leaves(total, [u + v for u, v in zip(ax, by, strict=True)], list(map(_size, ax, by)), y)


def _size(u: Any, v: Any) -> Any:
    return abs(u) + abs(v)


def check_multiply(framework: Framework, x: Tree, y: Tree) -> None:
    """Multiply; a leaf of x may be a number or anything that broadcasts."""
    with unchanged([u for u in x if hasattr(u, "dtype")], y):  # type: ignore[arg-type]
        got = framework.space(len(y)).multiply(x, y)
    exact = [wide(u) * wide(v) for u, v in zip(x, y, strict=True)]
    assert_leaves(got, exact, [abs(e) for e in exact], y)


def check_norm(framework: Framework, x: Tree, q: float) -> None:
    """Norm: accumulated in float32 or wider, scaled against overflow and underflow."""
    with unchanged(x):
        n = framework.space(len(x)).norm(x, q)
    exact = plain_norm(x, q)
    order = 1 if q == inf else q
    assert_scalar(n, exact, (flat([to_numpy(u) for u in x]).size + 4 * order + 8) * accumulator(x) * exact)


def check_inner(framework: Framework, x: Tree, y: Tree) -> None:
    """Inner: relative to the sum of the sizes of its terms; tiny beside the product of the largest entries is zero."""
    u, v = flat([wide(x) for x in x]), flat([wide(y) for y in y])
    size = (abs(u) * abs(v)).sum()
    if size > np.finfo(framework.dtypes[0]).max:
        return  # the result may be out of range itself
    with unchanged(x, y):
        got = framework.space(len(x)).inner(x, y)
    least = TINY["float32"] * (1 + plain_norm(x, inf) * plain_norm(y, inf))
    assert_scalar(got, (u.conj() * v).sum().real, (u.size + 8) * accumulator(x, y) * size + u.size * least)


def check_sign(framework: Framework, x: Any) -> None:
    """Sign: x / |x|, and 0 at 0; exact on the reals."""
    with unchanged((x,)):
        got = framework.space(1).sign(x)
    u = wide(x)
    exact = np.where(u == 0, 0, u / np.where(u == 0, 1, abs(u)))
    assert got.shape == x.shape
    assert dtype(got) == dtype(x)
    tolerance = 4 * EPS[to_name(x)] if np.iscomplexobj(u) else 0
    assert np.all(abs(wide(got) - exact) <= tolerance)


def check_divide(framework: Framework, a: Any, b: Any) -> None:
    """Divide: a / b where b is positive, 0 elsewhere."""
    got = framework.space(1).divide(a, b)
    exact = wide(a) / wide(b) if b > 0 else 0
    assert abs(wide(got) - exact) <= EPS[framework.dtypes[0]] * abs(exact)


def rejected(check: Callable[..., None], *arguments: Any) -> bool:
    """Tell whether a check fails, for its negative controls."""
    try:
        check(*arguments)
    except (AssertionError, RuntimeError):
        return True
    return False
