"""SAM as one would write it by hand, in plain JAX: what every loop is held to."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def sam(value_and_grad: Callable[[Any], Any], params: Any, rho: float) -> tuple[Any, Any]:
    """Return what the pass at w returns, `loss` or `(loss, aux)`, and the gradient at the worst point nearby."""
    result, gradients = value_and_grad(params)
    norm = jnp.sqrt(sum(jnp.sum(x**2) for x in jax.tree.leaves(gradients)))
    return result, value_and_grad(jax.tree.map(lambda w, g: w + rho * g / norm, params, gradients))[1]


def distance(a: Any, b: Any) -> float:
    """Return the largest difference between two trees of one structure."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(np.max(np.abs(_array(x) - _array(y)))) for x, y in pairs)


def same(a: Any, b: Any) -> bool:
    """Tell whether two trees are bitwise equal, dtypes included."""
    pairs = [(_array(x), _array(y)) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)]
    return all(x.dtype == y.dtype and x.tobytes() == y.tobytes() for x, y in pairs)


def buffers(tree: Any) -> list[int]:
    """Return where each array of a tree lies."""
    return [x.unsafe_buffer_pointer() for x in jax.tree.leaves(tree)]


def _array(x: Any) -> np.ndarray[Any, Any]:
    is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(x) if is_key else x)
