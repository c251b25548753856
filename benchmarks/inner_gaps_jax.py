"""`inner_gap` of the network in JAX."""

from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.network import Weights
from benchmarks.network_jax import cross_entropy
from samfamily import InnerGap, Variant
from samfamily_jax import inner_gap

LOSS = jax.jit(cross_entropy)


def compare(weights: Weights, batch: tuple[Any, Any], variant: Variant) -> InnerGap:
    """Compare at these weights on this batch."""
    with jax.enable_x64(True):
        here = [jnp.asarray(weight, jnp.float64) for weight in weights]
        return inner_gap(LOSS, variant, iterations=40, restarts=3)(here, tuple(map(jnp.asarray, batch)))
