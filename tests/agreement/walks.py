"""The same walk on each backend: SGD with momentum, following a variant, from one start over the same batches."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

import samfamily_jax
from samfamily import Variant, reference
from samfamily_torch import SharpnessAware
from tests.agreement.problem import NAMES, batches, jax_loss, numpy_loss, torch_loss, weights

LR, MOMENTUM = 0.2, 0.9


def numpy_walk(variant: Variant, steps: int, dtype: str) -> Any:
    w = [x.astype(dtype) for x in weights()]
    momentum = [np.zeros_like(x) for x in w]
    sa = reference.sharpness_aware(numpy_loss, variant, NAMES)
    state = sa.init(w)
    for x, y in batches(steps):
        (_, gradients), state = sa.value_and_grad(w, state, x.astype(dtype), y)
        momentum = [MOMENTUM * m + g for m, g in zip(momentum, gradients, strict=True)]
        w = [u - LR * m for u, m in zip(w, momentum, strict=True)]
    return np.concatenate([x.ravel() for x in w])


def torch_walk(variant: Variant, steps: int, dtype: str) -> Any:
    w = [torch.nn.Parameter(torch.tensor(x, dtype=getattr(torch, dtype))) for x in weights()]
    named = list(zip(NAMES, w, strict=True))
    optimizer = SharpnessAware(torch.optim.SGD(named, lr=LR, momentum=MOMENTUM), variant)

    def closure(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = torch_loss(w, x, y)
        loss.backward()
        return loss

    for x, y in batches(steps):
        optimizer.step(closure, batch=(torch.tensor(x, dtype=getattr(torch, dtype)), torch.tensor(y)))
    return np.concatenate([p.detach().numpy().ravel() for p in w])


def jax_walk(variant: Variant, steps: int, dtype: str, *, jit: bool = True) -> Any:
    with jax.enable_x64(dtype == "float64"):
        w = {name: jnp.asarray(x, dtype) for name, x in zip(NAMES, weights(), strict=True)}
        momentum = jax.tree.map(jnp.zeros_like, w)
        sa = samfamily_jax.sharpness_aware(jax_loss, variant)

        def step(w: Any, momentum: Any, state: Any, batch: Any) -> Any:
            (_, gradients), state = sa.value_and_grad(w, state, batch)
            momentum = jax.tree.map(lambda m, g: MOMENTUM * m + g, momentum, gradients)
            return jax.tree.map(lambda u, m: u - LR * m, w, momentum), momentum, state

        step = jax.jit(step) if jit else step
        state = sa.init(w)
        for x, y in batches(steps):
            w, momentum, state = step(w, momentum, state, (jnp.asarray(x, dtype), jnp.asarray(y)))
        return np.concatenate([np.asarray(w[name]).ravel() for name in NAMES])
