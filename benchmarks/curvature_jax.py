"""The network's landscape in JAX."""

import jax
import jax.numpy as jnp

from benchmarks.data import Floats, Integers
from benchmarks.network import Weights
from benchmarks.network_jax import cross_entropy
from samfamily_jax import Landscape


def landscape(weights: Weights, inputs: Floats, labels: Integers) -> Landscape:
    """The mean loss on these examples around these weights."""
    data = jnp.asarray(inputs), jnp.asarray(labels, dtype=jnp.int32)
    return Landscape(_loss, [jnp.asarray(weight) for weight in weights], data)


def _loss(weights: list[jax.Array], inputs: jax.Array, labels: jax.Array) -> jax.Array:
    return cross_entropy(weights, (inputs, labels))
