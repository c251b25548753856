"""Training in JAX: `jax.value_and_grad` for SGD, `samfamily_jax.value_and_grad` for the rest, optax for the step.

A Python loop over compiled steps, whose weights and optimizer state are donated. What is compiled is kept, so that
a worker compiles each method once, whatever the number of its seeds.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax

import samfamily_jax
from benchmarks.cells import Cell, Recipe
from benchmarks.data import Floats, Integers
from benchmarks.methods import METHODS
from benchmarks.network import Weights, initial_weights
from benchmarks.network_jax import cross_entropy, logits

Step = Callable[..., tuple[list[jax.Array], Any, jax.Array]]


def optimizer(recipe: Recipe, steps: int) -> optax.GradientTransformation:
    """What `torch.optim.SGD` with weight decay, momentum and a cosine schedule does."""
    schedule = optax.cosine_decay_schedule(recipe.learning_rate, steps)
    return optax.chain(optax.add_decayed_weights(recipe.weight_decay), optax.sgd(schedule, momentum=recipe.momentum))


@functools.cache
def compiled_step(recipe: Recipe, steps: int, method: str, rho: float) -> Step:
    """The compiled step: (weights, state, inputs, labels, batch) to the new weights and state and the loss before."""
    build = METHODS[method].build
    value_and_grad: Callable[..., Any] = (
        jax.value_and_grad(cross_entropy) if build is None else samfamily_jax.value_and_grad(cross_entropy, build(rho))
    )
    transform = optimizer(recipe, steps)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(
        weights: list[jax.Array], state: Any, inputs: jax.Array, labels: jax.Array, batch: jax.Array
    ) -> tuple[list[jax.Array], Any, jax.Array]:
        loss, gradients = value_and_grad(weights, (inputs[batch], labels[batch]))
        updates, state = transform.update(gradients, state, weights)
        moved: Any = optax.apply_updates(weights, updates)
        return moved, state, loss

    return step


@jax.jit
def error_rate(weights: list[jax.Array], inputs: jax.Array, labels: jax.Array) -> jax.Array:
    """The fraction of these examples that the network gets wrong."""
    return jnp.mean(jnp.argmax(logits(weights, inputs), axis=1) != labels)


loss_and_gradient = jax.jit(jax.value_and_grad(cross_entropy))
loss_alone = jax.jit(cross_entropy)


class Trainer:
    """One cell's weights, optimizer state and data."""

    def __init__(self, cell: Cell) -> None:
        data = cell.dataset()
        self.inputs, self.labels = jnp.asarray(data.inputs), jnp.asarray(data.labels, dtype=jnp.int32)
        self.evaluation = jnp.asarray(data.evaluation_inputs), jnp.asarray(data.evaluation_labels, dtype=jnp.int32)
        self.parameters = [jnp.array(weight) for weight in initial_weights(data.inputs.shape[1], cell.seed)]
        self.state = optimizer(cell.recipe, cell.steps).init(self.parameters)
        self.compiled = compiled_step(cell.recipe, cell.steps, cell.method, cell.rho)

    def step(self, batch: jax.Array) -> jax.Array:
        """One step on a batch; returns the loss before it."""
        self.parameters, self.state, loss = self.compiled(self.parameters, self.state, self.inputs, self.labels, batch)
        return loss

    def run_epoch(self, batches: Integers) -> float:
        """Take a step on each batch, wait until all are done, and return the mean loss."""
        losses = [self.step(batch) for batch in batches.astype(np.int32)]
        return float(np.mean(jax.device_get(losses)))

    def error(self) -> float:
        """The fraction of the evaluation examples that the network gets wrong."""
        return float(error_rate(self.parameters, *self.evaluation))

    def weights(self) -> Weights:
        """The weights as they stand."""
        return [np.array(weight) for weight in self.parameters]


class Objective:
    """The mean loss on these examples as a function of NumPy weights."""

    def __init__(self, inputs: Floats, labels: Integers) -> None:
        self.batch = jnp.asarray(inputs), jnp.asarray(labels, dtype=jnp.int32)

    def loss(self, weights: Sequence[npt.NDArray[np.floating]]) -> float:
        """The loss at these weights."""
        return float(loss_alone(_float32(weights), self.batch))

    def value_and_grad(
        self, weights: Sequence[npt.NDArray[np.floating]]
    ) -> tuple[np.float64, list[npt.NDArray[np.float64]]]:
        """The loss and its gradient at these weights."""
        loss, gradients = loss_and_gradient(_float32(weights), self.batch)
        return np.float64(loss), [np.asarray(gradient, dtype=np.float64) for gradient in gradients]


def _float32(weights: Sequence[npt.NDArray[np.floating]]) -> list[jax.Array]:
    return [jnp.asarray(weight, dtype=jnp.float32) for weight in weights]
