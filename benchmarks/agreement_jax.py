"""The networks of `agreement_task` in JAX, and their path."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import network_jax
from benchmarks.agreement_task import EPSILON, LR, MOMENTUM, Task
from benchmarks.walk_jax import QUICK, walk
from samfamily import Variant


def smooth(weights: Mapping[str, Any], batch: tuple[Any, Any]) -> Any:
    """The mean cross-entropy of two layers with tanh, the second of them behind layer normalisation."""
    inputs, labels = batch
    hidden = jnp.tanh(_linear(weights, "first", inputs))
    unit = jax.nn.standardize(_linear(weights, "second", hidden), epsilon=EPSILON)
    hidden = jnp.tanh(unit * weights["norm.weight"] + weights["norm.bias"])
    chosen = jax.nn.log_softmax(_linear(weights, "output", hidden))[jnp.arange(len(labels)), labels]
    return -jnp.mean(chosen)


def convolutional(weights: Mapping[str, Any], batch: tuple[Any, Any]) -> Any:
    """The mean cross-entropy of the report's network."""
    return network_jax.cross_entropy(list(weights.values()), batch)


def path(task: Task, variant: Variant, steps: int, optimised: bool = False) -> list[Any]:
    """The weights after each step; `optimised` lets XLA take its time over the program, as it does for users."""
    loss = convolutional if task.network == "cnn" else smooth
    return walk(
        loss,
        task.weights(),
        variant,
        task.batches(steps),
        LR,
        MOMENTUM,
        task.normalisation(),
        compiler_options=None if optimised else QUICK,
    )


def _linear(weights: Mapping[str, Any], layer: str, inputs: Any) -> Any:
    return inputs @ weights[f"{layer}.weight"].T + weights[f"{layer}.bias"]
