"""The walk of `walk_torch` in JAX: the same steps over the same batches, from weights that are given by name."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import samfamily_jax
from samfamily import Variant
from samfamily_jax.bridge import gradient_transformation

Loss = Callable[[Any, tuple[Any, Any]], Any]
"""Of the weights and a batch."""
Step = Callable[[Any, Any, tuple[Any, Any]], tuple[Any, Any]]
"""From weights, state and a batch to the next weights and state."""
QUICK: Any = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
    "xla_llvm_disable_expensive_passes": True,
}
"""Compiler options to compile in a quarter of the time, on a CPU, what is far too small to be slow."""


def walk(
    loss: Loss,
    weights: Mapping[str, Any],
    variant: Variant,
    batches: Iterable[tuple[Any, Any]],
    lr: float,
    momentum: float,
    normalisation: Mapping[str, bool | None] | None = None,
    jit: bool = True,
    compiler_options: dict[str, Any] | None = None,
) -> list[Any]:
    """The weights after each step, every time in one vector, in the precision that they are given in.

    A variant goes through `sharpness_aware`; one that adds after the base step through the bridge.
    """
    dtype = next(iter(weights.values())).dtype
    told = None if normalisation is None else OrderedDict(normalisation)
    with jax.enable_x64(dtype == "float64"):
        # Ordered, since a plain dict's leaves come sorted by name, and noise is a function of a leaf's place.
        w = OrderedDict((name, jnp.asarray(x)) for name, x in weights.items())
        make = _bridged if variant.descent.adds else _driven
        step, state = make(loss, variant, w, optax.sgd(lr, momentum), lr, told)
        step = jax.jit(step, compiler_options=compiler_options) if jit else step
        path = []
        for x, y in batches:
            w, state = step(w, state, (jnp.asarray(x, dtype), jnp.asarray(y)))
            path.append(np.concatenate([np.asarray(leaf).ravel() for leaf in w.values()]))
        return path


def _driven(loss: Loss, variant: Variant, w: Any, tx: Any, _: float, normalisation: Any) -> tuple[Step, Any]:
    sa = samfamily_jax.sharpness_aware(loss, variant, normalisation=normalisation)

    def step(w: Any, state: Any, batch: tuple[Any, Any]) -> tuple[Any, Any]:
        (_, gradients), variant_state = sa.value_and_grad(w, state[1], batch)
        updates, opt_state = tx.update(gradients, state[0], w)
        return optax.apply_updates(w, updates), (opt_state, variant_state)

    return step, (tx.init(w), sa.init(w))


def _bridged(loss: Loss, variant: Variant, w: Any, tx: Any, lr: float, normalisation: Any) -> tuple[Step, Any]:
    bridge = gradient_transformation(tx, variant, lr, normalisation=normalisation)

    def step(w: Any, state: Any, batch: tuple[Any, Any]) -> tuple[Any, Any]:
        def f(w: Any) -> Any:
            return jax.value_and_grad(loss)(w, batch)

        updates, state = bridge.update(f(w)[1], state, w, value_and_grad_fn=f)
        return optax.apply_updates(w, updates), state

    return step, bridge.init(w)
