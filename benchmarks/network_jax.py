"""The network in JAX.

A convolution is written as the matrix product of its kernel with the signal's patches. On a CPU XLA compiles that to
the same speed in a loop, under `vmap` and outside of both, which it does not do for its convolution operator.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from benchmarks.network import KERNELS, PADDING, STRIDE


def convolution(signal: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """The strided convolution of (batch, length, channels) with (outputs, channels, width), padded with zeros."""
    outputs, _, width = kernel.shape
    padded = jnp.pad(signal, ((0, 0), (PADDING, PADDING), (0, 0)))
    span = (padded.shape[1] - width) // STRIDE * STRIDE + 1
    patches = jnp.concatenate([padded[:, start : start + span : STRIDE] for start in range(width)], axis=2)
    return patches @ kernel.transpose(2, 1, 0).reshape(-1, outputs) + bias


def logits(weights: Sequence[jax.Array], inputs: jax.Array) -> jax.Array:
    """The network's outputs, of shape (batch, classes), for signals of shape (batch, length)."""
    hidden = inputs[:, :, None]
    for layer in range(len(KERNELS)):
        hidden = jax.nn.relu(convolution(hidden, weights[2 * layer], weights[2 * layer + 1]))
    return hidden.transpose(0, 2, 1).reshape(len(inputs), -1) @ weights[-2].T + weights[-1]


def cross_entropy(weights: Sequence[jax.Array], batch: tuple[jax.Array, jax.Array]) -> jax.Array:
    """The mean cross-entropy of (inputs, labels)."""
    inputs, labels = batch
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits(weights, inputs)), labels[:, None], axis=1)
    return -jnp.mean(chosen)
