"""The ways to take a step in JAX that `overhead` compares; weights and memory are donated, the batch an argument."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import samfamily_jax
from benchmarks.overhead_jax_tasks import Task, Weights
from samfamily import Variant
from samfamily_jax import sharpness_aware

RHO = 0.05

Memory = Any
Update = Callable[..., tuple[Weights, Memory, jax.Array]]


class Method(NamedTuple):
    """A way to take a step.

    Attributes:
        init: from weights to memory.
        update: from weights, memory, a batch and perhaps rho to new weights and memory and the loss before.
    """

    init: Callable[[Weights], Memory]
    update: Update


class Training:
    """One network in training, from the same weights and on the same batch, whose weights and memory are donated."""

    def __init__(self, task: Task, method: Method) -> None:
        self.weights, self.inputs = task.weights(), task.inputs()
        self.memory = jax.tree.map(jnp.copy, method.init(self.weights))  # nothing is donated twice
        self.update = donating(method)

    def step(self, *rho: float) -> None:
        """Take a step and wait for it."""
        self.weights, self.memory, _ = self.update(self.weights, self.memory, self.inputs, *rho)
        jax.block_until_ready((self.weights, self.memory))


def donating(method: Method) -> Any:
    """The compiled update, which writes new weights and memory over the old ones."""
    return jax.jit(method.update, donate_argnums=(0, 1))


def program(task: Task, method: Method) -> jax.stages.Compiled:
    """The program that a step runs."""
    weights = jax.eval_shape(task.weights)
    compiled: jax.stages.Compiled = (
        donating(method).lower(weights, jax.eval_shape(method.init, weights), jax.eval_shape(task.inputs)).compile()
    )
    return compiled


def descended(base: optax.GradientTransformation, gradient: Any, memory: Any, weights: Weights) -> tuple[Weights, Any]:
    """The weights and the memory after one step of the base optimizer."""
    updates, memory = base.update(gradient, memory, weights)
    return optax.apply_updates(weights, updates), memory


def plain(task: Task) -> Method:
    """The base optimizer's step."""
    base, value_and_grad = task.base(), jax.value_and_grad(task.loss)

    def update(weights: Weights, memory: Memory, inputs: jax.Array) -> tuple[Weights, Memory, jax.Array]:
        loss, gradient = value_and_grad(weights, inputs)
        return *descended(base, gradient, memory, weights), loss

    return Method(base.init, update)


def limit(task: Task) -> Method:
    """Two gradients and the base optimizer's step.

    The second batch is the first one moved by nothing times an entry of every part of the first gradient, so that XLA
    can neither take the two gradients for one nor leave a part of the first out.
    """
    base, value_and_grad = task.base(), jax.value_and_grad(task.loss)

    def update(weights: Weights, memory: Memory, inputs: jax.Array) -> tuple[Weights, Memory, jax.Array]:
        loss, first = value_and_grad(weights, inputs)
        entries = sum(leaf[(0,) * leaf.ndim] for leaf in jax.tree.leaves(first))
        _, second = value_and_grad(weights, inputs + 0.0 * entries)
        return *descended(base, second, memory, weights), loss

    return Method(base.init, update)


def ours(task: Task, row: Callable[[Any], Variant], **options: Any) -> Method:
    """This library's step with a row without memory; `options` are those of `value_and_grad`."""
    base = task.base()

    def update(
        weights: Weights, memory: Memory, inputs: jax.Array, rho: Any = RHO
    ) -> tuple[Weights, Memory, jax.Array]:
        loss, gradient = samfamily_jax.value_and_grad(task.loss, row(rho), **options)(weights, inputs)
        return *descended(base, gradient, memory, weights), loss

    return Method(base.init, update)


def ours_with_memory(task: Task, variant: Variant) -> Method:
    """This library's step with a row that remembers."""
    base, aware = task.base(), sharpness_aware(task.loss, variant)

    def init(weights: Weights) -> Memory:
        return base.init(weights), aware.init(weights)

    def update(weights: Weights, memory: Memory, inputs: jax.Array) -> tuple[Weights, Memory, jax.Array]:
        (loss, gradient), after = aware.value_and_grad(weights, memory[1], inputs)
        weights, before = descended(base, gradient, memory[0], weights)
        return weights, (before, after), loss

    return Method(init, update)


def peer(task: Task, opaque: bool) -> Method:
    """SAM as optax has it: opaque, with both gradients in one call, or transparent, one in each of two calls."""
    ascent = optax.chain(optax.contrib.normalize(), optax.sgd(RHO))
    base = optax.contrib.sam(task.base(), ascent, sync_period=2, opaque_mode=opaque)
    value_and_grad = jax.value_and_grad(task.loss)

    def update(weights: Weights, memory: Memory, inputs: jax.Array) -> tuple[Weights, Memory, jax.Array]:
        loss, gradient = value_and_grad(weights, inputs)
        updates, memory = base.update(
            gradient, memory, weights, grad_fn=lambda point, _: value_and_grad(point, inputs)[1]
        )
        return optax.apply_updates(weights, updates), memory, loss

    return Method(base.init, update)
