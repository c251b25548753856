"""One smooth network written out three times: by hand in NumPy, and as a loss in PyTorch and JAX.

Convolution-like filters (a leaf of three axes), two linear layers, tanh, cross-entropy: every kind of leaf that a
metric distinguishes, and analytic, so that the NumPy gradients also accept complex weights.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

NAMES = ["filters.weight", "filters.bias", "hidden.weight", "hidden.bias", "output.weight", "output.bias"]
SHAPES: list[tuple[int, ...]] = [(5, 3, 2), (5,), (4, 5), (4,), (3, 4), (3,)]
EXAMPLES = 12


def weights(seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape) / max(1, math.prod(shape[1:])) ** 0.5 for shape in SHAPES]


def batches(steps: int, seed: int = 1) -> list[tuple[Any, Any]]:
    rng = np.random.default_rng(seed)
    return [(rng.normal(size=(EXAMPLES, 3, 2)), rng.integers(0, 3, EXAMPLES)) for _ in range(steps)]


def numpy_loss(w: list[Any], x: Any, y: Any) -> tuple[Any, list[Any]]:
    """Return the mean cross-entropy and its gradients."""
    filters, bias1, hidden, bias2, output, bias3 = w
    n = np.arange(len(x))
    h1 = np.tanh(np.einsum("fcd,ncd->nf", filters, x) + bias1)
    h2 = np.tanh(h1 @ hidden.T + bias2)
    z = np.exp(h2 @ output.T + bias3)
    probability = z / z.sum(1, keepdims=True)
    dz = probability.copy()
    dz[n, y] -= 1
    dz = dz / len(x)
    da2 = dz @ output * (1 - h2**2)
    da1 = da2 @ hidden * (1 - h1**2)
    gradients = [np.einsum("nf,ncd->fcd", da1, x), da1.sum(0), da2.T @ h1, da2.sum(0), dz.T @ h2, dz.sum(0)]
    return -np.mean(np.log(probability[n, y])), gradients


def torch_loss(w: list[Any], x: Any, y: Any) -> Any:
    filters, bias1, hidden, bias2, output, bias3 = w
    h1 = torch.tanh(torch.einsum("fcd,ncd->nf", filters, x) + bias1)
    h2 = torch.tanh(h1 @ hidden.T + bias2)
    return torch.nn.functional.cross_entropy(h2 @ output.T + bias3, y)


def jax_loss(w: dict[str, Any], batch: tuple[Any, Any]) -> Any:
    filters, bias1, hidden, bias2, output, bias3 = (w[name] for name in NAMES)
    x, y = batch
    h1 = jnp.tanh(jnp.einsum("fcd,ncd->nf", filters, x) + bias1)
    h2 = jnp.tanh(h1 @ hidden.T + bias2)
    return -jnp.mean(jax.nn.log_softmax(h2 @ output.T + bias3)[jnp.arange(len(x)), y])
