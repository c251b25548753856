"""Layer 2: what becomes of the arrays that come in."""

from typing import Any

import numpy as np
import pytest

from samfamily.arrays import DenseMetric, largest, like, symmetric, symmetric_function


def test_lists_of_integers_become_float64() -> None:
    metric = DenseMetric([1, 2], 2).T
    assert metric is not None
    for x in (metric, symmetric([[2, 1], [1, 3]], 2), *like((np.zeros(2),), [[1, 2]])):
        assert isinstance(x, np.ndarray)
        assert x.dtype == np.float64


def test_small_integers_do_not_wrap_round() -> None:
    assert symmetric(np.array([[100]], np.int8), 1) == 100


def test_nothing_is_largest_in_no_array() -> None:
    assert largest(np.zeros(0)) == 0
    assert largest(np.array([1.0, -3.0])) == 3


def test_a_function_of_zero_is_symmetric() -> None:
    symmetric_function(lambda v: 0 * v, 5)


def test_asymmetry_of_roundings_size_is_let_through_and_more_is_not() -> None:
    """Whichever of the two products it is in: the bound is in units of |Hx| |y|, and half of it would be less."""
    n = 1000
    rng = np.random.default_rng(3)
    skew = rng.normal(size=(n, n))
    skew = (skew - skew.T) / n**0.5

    def of(size: float) -> Any:
        return lambda v: v + size * (skew @ v)

    symmetric_function(of(4e-7), n)
    with pytest.raises(ValueError, match=r"pass a function v -> H v with H = H\^T, in float64$") as raised:
        symmetric_function(of(1e-2), n)
    assert "XX" not in str(raised.value)


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(ValueError, match=r"^metric must be finite, got nan"):
        like((np.zeros(2),), [[1.0, np.nan]])
    with pytest.raises(ValueError, match=r"^scale must be finite"):
        like((np.zeros(2),), [[1.0, np.inf]], "scale")
