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
Loss = Callable[[Weights, jax.Array], jax.Array]
Shape = tuple[int, ...]
Convolution = Callable[[jax.Array, jax.Array, int], jax.Array]
"""From images, a kernel and a stride to images."""


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
        losses: ways to compute the loss, if steps that are cheaper and dearer than SAM's are timed on it too.
    """

    name: str
    loss: Loss
    shapes: tuple[Shape, ...]
    signal: Shape
    base: Callable[[], optax.GradientTransformation]
    base_name: str
    target: float
    rounds: int
    batch: int = 32
    losses: tuple[tuple[str, Loss], ...] = ()

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


def operator(images: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """A convolution by XLA's operator."""
    padding, layout = [(1, 1), (1, 1)], ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(images, kernel, (stride, stride), padding, dimension_numbers=layout)


def patches(images: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """The same as a product of the kernel with the images' patches.

    XLA's compiler for CPUs makes its convolution's derivative many times slower inside a conditional, and not this one.
    """
    size, width = images.shape[1], kernel.shape[0]
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [padded[:, i : i + size : stride, j : j + size : stride] for i in range(width) for j in range(width)]
    return jnp.concatenate(shifted, axis=3) @ kernel.reshape(-1, kernel.shape[-1])


def convolutional(convolution: Convolution, weights: Weights, inputs: jax.Array) -> jax.Array:
    """The loss of convolutions, all but the first of which halve the image, and a linear layer on their means."""
    hidden, stride = inputs, 1
    for kernel, bias in weights[:-1]:
        hidden, stride = jax.nn.relu(convolution(hidden, kernel, stride) + bias), 2
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
    partial(convolutional, operator),
    (*((3, 3, *channels) for channels in pairwise((3, 32, 64, 128))), (128, 10)),
    (32, 32, 3),
    sgd,
    "SGD",
    target=1.03,
    rounds=40,
    losses=tuple((how.__name__, partial(convolutional, how)) for how in (operator, patches)),
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
