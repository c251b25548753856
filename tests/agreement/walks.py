"""The same walk on each backend: SGD with momentum, following a variant, from one start over the same batches."""

from collections import OrderedDict
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

import samfamily_jax
from samfamily import Variant, reference
from samfamily_jax.bridge import gradient_transformation
from samfamily_torch import SharpnessAware
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
    model = TorchNetwork(getattr(torch, dtype))
    base = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)
    optimizer = SharpnessAware(base, variant, model=model)

    def closure(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        return loss

    for x, y in batches(steps):
        optimizer.step(closure, batch=(torch.tensor(x, dtype=getattr(torch, dtype)), torch.tensor(y)))
    return np.concatenate([p.detach().numpy().ravel() for p in model.parameters()])


def jax_walk(variant: Variant, steps: int, dtype: str, *, jit: bool = True) -> Any:
    """Follow the variant through `sharpness_aware`; through the bridge, unsharded, if it adds after the base step."""
    normalisation = OrderedDict((leaf.name, leaf.normalisation) for leaf in LEAVES)
    tx = optax.sgd(LR, MOMENTUM)
    with jax.enable_x64(dtype == "float64"):
        # Ordered, since a plain dict's leaves come sorted by name, and noise is a function of a leaf's place.
        w = OrderedDict((name, jnp.asarray(x, dtype)) for name, x in zip(NAMES, weights(), strict=True))
        if variant.descent.adds:
            bridge = gradient_transformation(tx, variant, LR, normalisation=normalisation)
            state = bridge.init(w)

            def step(w: Any, state: Any, batch: Any) -> Any:
                def f(w: Any) -> Any:
                    return jax.value_and_grad(jax_loss)(w, batch)

                updates, state = bridge.update(f(w)[1], state, w, value_and_grad_fn=f)
                return optax.apply_updates(w, updates), state

        else:
            sa = samfamily_jax.sharpness_aware(jax_loss, variant, normalisation=normalisation)
            state = (tx.init(w), sa.init(w))

            def step(w: Any, state: Any, batch: Any) -> Any:
                (_, gradients), variant_state = sa.value_and_grad(w, state[1], batch)
                updates, opt_state = tx.update(gradients, state[0], w)
                return optax.apply_updates(w, updates), (opt_state, variant_state)

        step = jax.jit(step) if jit else step
        for x, y in batches(steps):
            w, state = step(w, state, (jnp.asarray(x, dtype), jnp.asarray(y)))
        return np.concatenate([np.asarray(w[name]).ravel() for name in NAMES])
