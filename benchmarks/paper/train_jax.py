"""Training and measuring in JAX: an epoch is one compiled loop over its batches."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import samfamily_jax
from benchmarks.data import Floats
from benchmarks.network import Weights
from benchmarks.paper.networks import NETWORKS, Ops
from benchmarks.paper.task import Task
from samfamily import Variant

OPS = Ops(
    relu=jax.nn.relu,
    softmax=functools.partial(jax.nn.softmax, axis=-2),
    pad=lambda x, n: jnp.pad(x, ((0, 0), (n, n), (0, 0))),
    concatenate=jnp.concatenate,
)


def cross_entropies(network: str, weights: Sequence[jax.Array], inputs: jax.Array, targets: jax.Array) -> jax.Array:
    """The cross-entropy of each example."""
    return -jnp.sum(targets * jax.nn.log_softmax(NETWORKS[network].logits(OPS, weights, inputs)), axis=1)


def misses(network: str, weights: Sequence[jax.Array], inputs: jax.Array, targets: jax.Array) -> jax.Array:
    """One less the probability of the right class, for each example: a loss in [0, 1]."""
    return 1 - jnp.sum(targets * jax.nn.softmax(NETWORKS[network].logits(OPS, weights, inputs)), axis=1)


LOSSES = {"cross-entropy": cross_entropies, "miss": misses}


def mean_loss(network: str, loss: str = "cross-entropy") -> Callable[..., jax.Array]:
    """The mean of this loss over a batch's examples, called with weights, inputs and targets."""
    return lambda weights, inputs, targets: jnp.mean(LOSSES[loss](network, weights, inputs, targets))


def base_optimizer(name: str, momentum: Any, weight_decay: Any) -> optax.GradientTransformation:
    """The base optimizer of this name: what it makes of gradients is a direction, and the step is against it."""

    def rest(params: Any) -> Any:
        return [jnp.zeros_like(weight) for weight in params]

    def accelerate(updates: Any, state: Any, params: Any = None) -> Any:
        velocity = [momentum * v + g + weight_decay * w for w, g, v in zip(params, updates, state, strict=True)]
        return velocity, velocity

    if name == "SGD":  # as `torch.optim.SGD` has it, where a rate does not enter the velocity
        return optax.GradientTransformation(rest, accelerate)
    scale = {"AdamW": optax.scale_by_adam, "Lion": optax.scale_by_lion}[name]()
    return optax.chain(scale, optax.add_decayed_weights(weight_decay))


@functools.cache
def compiled(network: str, variant: Variant | None, optimizer: str) -> Callable[..., Any]:
    """One epoch of a variant, compiled for all radii, rates and decays: a loop over steps."""
    loss = mean_loss(network)

    def step(settings: Any, carry: Any, batch: Any) -> Any:
        (rho, *of_base), (weights, state, memory), (*examples, rate) = settings, carry, batch
        if variant is None:
            value, gradients = jax.value_and_grad(loss)(weights, *examples)
        else:
            sharp = sharpness_aware(loss, variant.with_rho(rho))
            (value, gradients), memory = sharp.value_and_grad(weights, memory, *examples)
        directions: Any
        directions, state = base_optimizer(optimizer, *of_base).update(gradients, state, weights)
        return ([w - rate * d for w, d in zip(weights, directions, strict=True)], state, memory), value

    def epoch(settings: Any, carry: Any, batches: Any) -> Any:
        return jax.lax.scan(functools.partial(step, settings), carry, batches)

    return jax.jit(epoch, donate_argnums=1)


def sharpness_aware(loss: Callable[..., jax.Array], variant: Variant) -> samfamily_jax.SharpnessAware:
    """The variant's functions; all shards of a batch, if there are any, at once, which for small models is faster."""
    shards = None if variant.m is None else samfamily_jax.vmapped
    return samfamily_jax.sharpness_aware(loss, variant, batch_argnums=(1, 2), shards=shards)


_losses = jax.jit(cross_entropies, static_argnums=0)
_outputs = jax.jit(lambda network, weights, inputs: NETWORKS[network].logits(OPS, weights, inputs), static_argnums=0)


class Trainer:
    """A training in progress."""

    def __init__(self, task: Task) -> None:
        weights, variant = [jnp.array(weight) for weight in task.weights], task.variant
        rho = None if variant is None else variant.radius.rho
        memory = None if variant is None else sharpness_aware(mean_loss(task.network), variant).init(weights)
        self.network = task.network
        of_base = task.momentum, task.weight_decay
        self.carry = weights, base_optimizer(task.optimizer, *of_base).init(weights), memory
        self.epoch = functools.partial(
            compiled(task.network, None if variant is None else variant.with_rho(1.0), task.optimizer), (rho, *of_base)
        )

    def run(self, inputs: Floats, targets: Floats, rates: Floats) -> float:
        """See `task.Trainer`."""
        self.carry, losses = self.epoch(self.carry, (inputs, targets, rates))
        return float(np.mean(jax.device_get(losses)))

    def losses(self, inputs: Floats, targets: Floats) -> Floats:
        """See `task.Trainer`."""
        return np.asarray(_losses(self.network, self.carry[0], inputs, targets))

    def outputs(self, inputs: Floats) -> Floats:
        """See `task.Trainer`."""
        return np.asarray(_outputs(self.network, self.carry[0], inputs))

    def weights(self) -> Weights:
        """See `task.Trainer`."""
        return [np.array(weight) for weight in self.carry[0]]


@functools.cache
def _first(network: str, loss: str, length: int, classes: int) -> samfamily_jax.Landscape:
    """A landscape whose compiled functions serve all weights and data."""
    zeros = [jnp.zeros(shape) for shape in NETWORKS[network].shapes(length)]
    return samfamily_jax.Landscape(mean_loss(network, loss), zeros, (jnp.zeros((1, length)), jnp.zeros((1, classes))))


def landscape(network: str, loss: str, weights: Weights, inputs: Floats, targets: Floats) -> samfamily_jax.Landscape:
    """See `task.landscape`."""
    first = _first(network, loss, inputs.shape[1], targets.shape[1])
    return first.at([jnp.array(weight) for weight in weights]).over([(jnp.array(inputs), jnp.array(targets))])
