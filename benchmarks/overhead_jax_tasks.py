"""The networks, base optimizers and goals of `overhead` in JAX: those of `overhead_torch` in plain arrays and optax."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import optax

Weights = Any
"""A list of (weight, bias), one for each layer."""
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Task:
    """A network to train, and how far above its limit a step may be.

    Attributes:
        name: what the network is.
        loss: of weights and inputs.
        shapes: of the weights; every bias is as long as its weight's last axis.
        signal: the shape of one example.
        base: makes the base optimizer.
        base_name: which one it is.
        target: how long a step may take, in units of the limit.
        rounds: how often each contender is timed.
        batch: how many examples a batch has.
        more: whether steps that are cheaper and dearer than SAM's are timed on it too.
    """

    name: str
    loss: Callable[[Weights, jax.Array], jax.Array]
    shapes: tuple[Shape, ...]
    signal: Shape
    base: Callable[[], optax.GradientTransformation]
    base_name: str
    target: float
    rounds: int
    batch: int = 32
    more: bool = False

    @property
    def title(self) -> str:
        """What the task is, in one line."""
        return f"{self.name}, batch {self.batch}, {self.base_name}"

    def weights(self) -> Weights:
        """Weights that keep the size of a signal, and biases of zero."""
        initial = jax.nn.initializers.he_normal()
        keys = jax.random.split(jax.random.key(0), len(self.shapes))
        return [
            (initial(key, shape, jnp.float32), jnp.zeros(shape[-1]))
            for key, shape in zip(keys, self.shapes, strict=True)
        ]

    def inputs(self) -> jax.Array:
        """A batch."""
        return jax.random.normal(jax.random.key(1), (self.batch, *self.signal))


def dense(activation: Callable[[jax.Array], jax.Array], weights: Weights, inputs: jax.Array) -> jax.Array:
    """The loss of layers that are connected with all of the next."""
    hidden = inputs
    for weight, bias in weights[:-1]:
        hidden = activation(hidden @ weight + bias)
    weight, bias = weights[-1]
    return jnp.mean((hidden @ weight + bias) ** 2)


def convolutional(weights: Weights, inputs: jax.Array) -> jax.Array:
    """The loss of convolutions, all but the first of which halve the image, and a linear layer on their means."""
    hidden, stride = inputs, (1, 1)
    for kernel, bias in weights[:-1]:
        hidden = jax.lax.conv_general_dilated(
            hidden, kernel, stride, [(1, 1), (1, 1)], dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        hidden, stride = jax.nn.relu(hidden + bias), (2, 2)
    weight, bias = weights[-1]
    return jnp.mean((hidden.mean((1, 2)) @ weight + bias) ** 2)


def adamw() -> optax.GradientTransformation:
    return optax.adamw(1e-4, weight_decay=1e-2)


def sgd() -> optax.GradientTransformation:
    return optax.sgd(1e-4, momentum=0.9)


MLP = Task(
    "MLP 1024-2048-2048-2048-10",
    partial(dense, jax.nn.relu),
    tuple(pairwise((1024, 2048, 2048, 2048, 10))),
    (1024,),
    adamw,
    "AdamW",
    target=1.03,
    rounds=25,
)
"""10.5 million weights."""
CONV = Task(
    "small convolutional net",
    convolutional,
    (*((3, 3, *channels) for channels in pairwise((3, 32, 64, 128))), (128, 10)),
    (32, 32, 3),
    sgd,
    "SGD",
    target=1.03,
    rounds=40,
    more=True,
)
"""95 thousand weights, and images of 32 x 32."""
NARROW = Task(
    "100 layers of width 64",
    partial(dense, jnp.tanh),
    ((64, 64),) * 100,
    (64,),
    adamw,
    "AdamW",
    target=1.03,
    rounds=60,
)
"""200 arrays, none of which is large."""
TASKS = {"mlp": MLP, "conv": CONV, "narrow": NARROW}
