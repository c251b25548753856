"""The networks of `architecture` in JAX, as modules of flax's linen. Images are of shape (batch, size, size, 3)."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from benchmarks.full import architecture
from benchmarks.full.architecture import Plan

Norm = Any


def convolution(c: architecture.Convolution, name: str) -> nn.Conv:
    """A convolution with its initial weights: normal, of variance 2 / (outputs times pixels of the kernel)."""
    return nn.Conv(
        c.outputs,
        (c.kernel, c.kernel),
        (c.stride, c.stride),
        padding=c.kernel // 2,
        use_bias=False,
        kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
        name=name,
    )


def symmetric(bound: float) -> Any:
    """An initialiser: uniform between minus this and this."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class Block(nn.Module):
    """A residual block."""

    block: architecture.Block
    preactivated: bool

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """The block's outputs."""
        norm = _norm(train)
        hidden, last = x, len(self.block.convolutions) - 1
        for i, c in enumerate(self.block.convolutions):
            if self.preactivated:
                hidden = nn.relu(norm(name=f"norms_{i}")(hidden))
                if not i and self.block.shortcut:
                    x = convolution(self.block.shortcut, "shortcut")(hidden)
                hidden = convolution(c, f"convolutions_{i}")(hidden)
            else:
                scale = nn.initializers.zeros_init() if i == last else nn.initializers.ones_init()
                hidden = norm(name=f"norms_{i}", scale_init=scale)(convolution(c, f"convolutions_{i}")(hidden))
                hidden = hidden if i == last else nn.relu(hidden)
        if self.preactivated:
            return hidden + x
        if self.block.shortcut:
            x = norm(name="shortcut_norm")(convolution(self.block.shortcut, "shortcut")(x))
        return nn.relu(hidden + x)


class Network(nn.Module):
    """A residual network."""

    plan: Plan

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """The outputs, of shape (batch, classes)."""
        plan, norm = self.plan, _norm(train)
        padding: Any = ((1, 1), (1, 1))
        hidden = convolution(plan.stem, "stem")(images)
        if not plan.preactivated:
            hidden = nn.relu(norm(name="norm")(hidden))
            hidden = nn.max_pool(hidden, (3, 3), (2, 2), padding)
        for i, block in enumerate(plan.blocks):
            hidden = Block(block, plan.preactivated, name=f"blocks_{i}")(hidden, train)
        if plan.preactivated:
            hidden = nn.relu(norm(name="norm")(hidden))
        init = symmetric(plan.classes**-0.5)
        outputs: jax.Array = nn.Dense(plan.classes, kernel_init=init, name="output")(hidden.mean((1, 2)))
        return outputs


def _norm(train: bool) -> Norm:
    return partial(nn.BatchNorm, use_running_average=not train, momentum=0.9, epsilon=1e-5)
