"""Three networks of about 2,000 parameters, as PyTorch modules and as JAX functions of the same leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax.flatten_util import ravel_pytree
from torch import nn
from torch.nn.functional import cross_entropy

from samfamily import Composed

CLASSES = 6


class Case(NamedTuple):
    """A network: its module, the same as `apply(leaves, x)`, and examples with labels."""

    module: nn.Module
    apply: Callable[[Any, Any], Any]
    x: Any
    y: Any

    @property
    def leaves(self) -> list[Any]:
        """The module's parameters as arrays, in its order."""
        return [p.detach().numpy().copy() for p in self.module.parameters()]


def mlp() -> Case:
    """Return a network of three linear layers."""
    module = nn.Sequential(nn.Linear(12, 40), nn.Tanh(), nn.Linear(40, 30), nn.Tanh(), nn.Linear(30, CLASSES))

    def apply(leaves: Any, x: Any) -> Any:
        a, b, c, d, e, f = leaves
        return jnp.tanh(jnp.tanh(x @ a.T + b) @ c.T + d) @ e.T + f

    return _case(module, apply, (32, 12))


def cnn() -> Case:
    """Return a network of two convolutions, a mean and a linear layer."""
    module = nn.Sequential(
        nn.Conv1d(2, 16, 5, padding=2), nn.GELU(approximate="tanh"), nn.Conv1d(16, 20, 5, stride=2), nn.Tanh(),
        nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(20, CLASSES),
    )  # fmt: skip

    def convolved(x: Any, w: Any, b: Any, stride: int, padding: int) -> Any:
        return jax.lax.conv_general_dilated(x, w, (stride,), [(padding, padding)]) + b[:, None]

    def apply(leaves: Any, x: Any) -> Any:
        a, b, c, d, e, f = leaves
        x = jnp.tanh(convolved(jax.nn.gelu(convolved(x, a, b, 1, 2)), c, d, 2, 0))
        return x.mean(-1) @ e.T + f

    return _case(module, apply, (16, 2, 15))


class _Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.TransformerEncoderLayer(12, 3, 44, 0.0, batch_first=True, activation="relu")
        self.head = nn.Linear(12, CLASSES)

    def forward(self, x: Any) -> Any:
        return self.head(self.block(x).mean(1))


def transformer() -> Case:
    """Return a transformer's encoder block with a linear head."""

    def normalised(x: Any, w: Any, b: Any) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        return centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * w + b

    def apply(leaves: Any, x: Any) -> Any:
        inw, inb, outw, outb, aw, ab, bw, bb, n1w, n1b, n2w, n2b, headw, headb = leaves
        q, k, v = (z.reshape(*x.shape[:2], 3, 4) for z in jnp.split(x @ inw.T + inb, 3, -1))
        scores = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k) / 2, -1)
        attended = jnp.einsum("bhqk,bkhd->bqhd", scores, v).reshape(x.shape)
        x = normalised(x + attended @ outw.T + outb, n1w, n1b)
        x = normalised(x + jax.nn.relu(x @ aw.T + ab) @ bw.T + bb, n2w, n2b)
        return x.mean(1) @ headw.T + headb

    return _case(_Transformer(), apply, (12, 5, 12))


def _case(module: nn.Module, apply: Callable[[Any, Any], Any], shape: tuple[int, ...]) -> Case:
    rng = np.random.default_rng(len(shape) * shape[0])
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.from_numpy(rng.normal(size=p.shape) * (0.6 / max(1, p[0].numel()) ** 0.5)))
    module.double().eval()
    for p in module.parameters():
        p.data = p.data.double()
    return Case(module, apply, rng.normal(size=shape), rng.integers(0, CLASSES, shape[0]))


NETWORKS = {"MLP": mlp, "CNN": cnn, "transformer": transformer}


def torch_loss(case: Case) -> Callable[..., Any]:
    """Return `loss(x, y)`, the mean cross-entropy."""
    return lambda x, y: cross_entropy(case.module(x), y)


def jax_loss(case: Case) -> Callable[..., Any]:
    """Return `loss(leaves, x, y)`, the mean cross-entropy."""

    def loss(leaves: Any, x: Any, y: Any) -> Any:
        logits = jax.nn.log_softmax(case.apply(leaves, x), -1)
        return -jnp.mean(jnp.take_along_axis(logits, y[:, None], 1))

    return loss


def dense_hessian(case: Case) -> Any:
    """Return the whole Hessian as an array, made of a few rows at a time, which stay in a cache."""
    flat, back = ravel_pytree([jnp.asarray(x) for x in case.leaves])
    x, y = jnp.asarray(case.x), jnp.asarray(case.y)
    push = jax.linearize(jax.grad(lambda w: jax_loss(case)(back(w), x, y)), flat)[1]
    return np.asarray(jax.jit(lambda rows: jax.lax.map(push, rows, batch_size=16))(jnp.eye(len(flat))))


def torch_parts(case: Case) -> Composed:
    """Return the loss as outputs and the loss of those."""
    return Composed(lambda x, y: case.module(x), lambda z, x, y: cross_entropy(z, y))


def jax_parts(case: Case) -> Composed:
    """Return the same in JAX."""

    def loss(z: Any, x: Any, y: Any) -> Any:
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(z, -1), y[:, None], 1))

    return Composed(lambda leaves, x, y: case.apply(leaves, x), loss)
