"""The 2-norm at both ends of float32, on the way that a CPU takes and on the one that an accelerator takes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from samfamily import Leaf, Vec
from samfamily_jax.space import JaxSpace, _two_norm

WAYS = {"cpu": lambda x: JaxSpace((Leaf(),) * len(x)).norm(x, 2), "accelerator": _two_norm}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "x",
    [
        np.array([3e38]),
        np.array([-2e38, 2e38]),
        np.array([3e30, 4e30]),
        np.concatenate([[1e-18], np.full(10**6, 1e-20)]),  # squares that vanish, and are most of the sum
        np.array([3e-30, 4e-30]),
        np.array([2e-38]),
        np.zeros(3),
    ],
    ids=["largest", "root two", "large", "many small", "small", "smallest", "zero"],
)
def test_nothing_overflows_or_vanishes_before_the_norm_does(way: str, x: Any) -> None:
    found = jax.jit(WAYS[way])((jnp.asarray(x, jnp.float32),))
    np.testing.assert_allclose(np.float64(found), np.linalg.norm(x), rtol=1e-5)


def test_the_sum_of_squares_alone_would() -> None:
    """Negative control: the one pass that is enough in between."""
    plain = jax.jit(lambda x: jnp.sqrt(jnp.sum(x**2)))
    assert plain(jnp.float32([3e30, 4e30])) == np.inf
    assert plain(jnp.float32([3e-30, 4e-30])) == 0


def test_a_largest_entry_is_looked_for_among_numbers_that_are_computed_once() -> None:
    """XLA on a GPU rounded a gradient in two ways where it computed it twice, and no entry was its own maximum."""

    def largest(x: Any) -> Any:
        return Vec(JaxSpace((Leaf(),)), (jnp.sin(x) * x,)).largest(1).collapse()

    assert "optimization_barrier" in jax.jit(largest).lower(jnp.ones(5)).as_text()
