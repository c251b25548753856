"""One smooth network written out three times: by hand in NumPy, and as a loss in PyTorch and JAX.

Convolution-like filters (a leaf of three axes), linear layers, layer normalisation, tanh, cross-entropy: every kind of
leaf that a metric distinguishes, and analytic, so that the NumPy gradients also accept complex weights.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from samfamily import Leaf

NAMES = [f"{layer}.{kind}" for layer in ("filters", "hidden", "norm", "output") for kind in ("weight", "bias")]
SHAPES: list[tuple[int, ...]] = [(5, 3, 2), (5,), (4, 5), (4,), (4,), (4,), (3, 4), (3,)]
LEAVES = [Leaf(name, normalisation=name.startswith("norm")) for name in NAMES]
EXAMPLES = 12


def weights(seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape) / max(1, math.prod(shape[1:])) ** 0.5 for shape in SHAPES]


def batches(steps: int, seed: int = 1) -> list[tuple[Any, Any]]:
    rng = np.random.default_rng(seed)
    return [(rng.normal(size=(EXAMPLES, 3, 2)), rng.integers(0, 3, EXAMPLES)) for _ in range(steps)]


def numpy_loss(w: list[Any], x: Any, y: Any) -> tuple[Any, list[Any]]:
    """Return the mean cross-entropy and its gradients."""
    filters, bias1, hidden, bias2, gain, shift, output, bias3 = w
    n = np.arange(len(x))
    h1 = np.tanh(np.einsum("fcd,ncd->nf", filters, x) + bias1)
    a2 = h1 @ hidden.T + bias2
    centred = a2 - a2.mean(1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5)
    unit = centred / deviation
    h2 = np.tanh(unit * gain + shift)
    z = np.exp(h2 @ output.T + bias3)
    probability = z / z.sum(1, keepdims=True)
    dz = probability.copy()
    dz[n, y] -= 1
    dz = dz / len(x)
    dn = dz @ output * (1 - h2**2)
    du = dn * gain
    da2 = (du - du.mean(1, keepdims=True) - unit * (du * unit).mean(1, keepdims=True)) / deviation
    da1 = da2 @ hidden * (1 - h1**2)
    first = [np.einsum("nf,ncd->fcd", da1, x), da1.sum(0), da2.T @ h1, da2.sum(0)]
    gradients = [*first, (dn * unit).sum(0), dn.sum(0), dz.T @ h2, dz.sum(0)]
    return -np.mean(np.log(probability[n, y])), gradients


class TorchNetwork(torch.nn.Module):
    """The same network of modules, so that the adapter can tell by their types which parameters normalise."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.filters = torch.nn.Conv1d(3, 5, 2)
        self.hidden = torch.nn.Linear(5, 4)
        self.norm = torch.nn.LayerNorm(4)
        self.output = torch.nn.Linear(4, 3)
        self.to(dtype)
        with torch.no_grad():
            for p, x in zip(self.parameters(), weights(), strict=True):
                p.copy_(torch.tensor(x, dtype=dtype))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h1 = torch.tanh(self.filters(x).flatten(1))
        h2: torch.Tensor = self.output(torch.tanh(self.norm(self.hidden(h1))))
        return h2


def jax_loss(w: dict[str, Any], batch: tuple[Any, Any]) -> Any:
    filters, bias1, hidden, bias2, gain, shift, output, bias3 = (w[name] for name in NAMES)
    x, y = batch
    h1 = jnp.tanh(jnp.einsum("fcd,ncd->nf", filters, x) + bias1)
    h2 = jnp.tanh(jax.nn.standardize(h1 @ hidden.T + bias2, epsilon=1e-5) * gain + shift)
    return -jnp.mean(jax.nn.log_softmax(h2 @ output.T + bias3)[jnp.arange(len(x)), y])
