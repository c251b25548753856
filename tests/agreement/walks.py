"""The same walk on each backend: SGD with momentum, following a variant, from one start over the same batches."""

from typing import Any

import jax
import numpy as np
import torch

from benchmarks import walk_jax, walk_torch
from samfamily import Variant, reference
from tests.agreement.problem import LEAVES, NAMES, TorchNetwork, batches, jax_loss, numpy_loss, weights

LR, MOMENTUM = 0.2, 0.9


def numpy_walk(variant: Variant, steps: int, dtype: str) -> Any:
    w = [x.astype(dtype) for x in weights()]
    momentum = [np.zeros_like(x) for x in w]
    sa = reference.sharpness_aware(numpy_loss, variant, LEAVES)
    state = sa.init(w)
    for x, y in batches(steps):
        _, step = sa.evaluate(w, state, x.astype(dtype), y)
        state = step.state
        momentum = [MOMENTUM * m + g for m, g in zip(momentum, step.gradient.collapse(), strict=True)]
        w = [u - LR * m for u, m in zip(w, momentum, strict=True)]
        if step.addend is not None:
            w = [u - LR * a for u, a in zip(w, step.addend.collapse(), strict=True)]
    return np.concatenate([x.ravel() for x in w])


def torch_walk(variant: Variant, steps: int, dtype: str) -> Any:
    return walk_torch.walk(TorchNetwork(getattr(torch, dtype)), variant, batches(steps), LR, MOMENTUM)[-1]


def jax_walk(variant: Variant, steps: int, dtype: str, *, jit: bool = True) -> Any:
    """Follow the variant through `sharpness_aware`; through the bridge, unsharded, if it adds after the base step."""
    start = {name: x.astype(dtype) for name, x in zip(NAMES, weights(), strict=True)}
    normalisation = {leaf.name: leaf.normalisation for leaf in LEAVES}
    options = walk_jax.QUICK if jit and jax.default_backend() == "cpu" else None
    return walk_jax.walk(jax_loss, start, variant, batches(steps), LR, MOMENTUM, normalisation, jit, options)[-1]
