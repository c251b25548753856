"""The networks of `curvature-cost` in JAX: those of `curvature_cost_torch` in plain arrays."""

import gc
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.curvature_cost import Task
from samfamily import Landscape as AnyLandscape
from samfamily_jax import Landscape

CLASSES = 10
Shapes = dict[str, tuple[int, ...]]
Network = Callable[[Any, Any], Any]


def mlp(w: Any, x: Any) -> Any:
    for i in range(3):
        x = jax.nn.relu(x @ w[f"w{i}"] + w[f"b{i}"])
    return x @ w["w3"] + w["b3"]


def cnn(w: Any, x: Any) -> Any:
    layout = ("NHWC", "HWIO", "NHWC")
    for i, stride in enumerate((1, 2, 2)):
        x = jax.lax.conv_general_dilated(x, w[f"w{i}"], (stride, stride), [(1, 1)] * 2, dimension_numbers=layout)
        x = jax.nn.relu(x + w[f"b{i}"])
    return x.mean((1, 2)) @ w["w3"] + w["b3"]


def transformer(w: Any, x: Any) -> Any:
    def normalised(x: Any, scale: Any) -> Any:
        x = x - x.mean(-1, keepdims=True)
        return x / jnp.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * (1 + scale)

    for i in range(2):
        q, k, v = (z.reshape(*x.shape[:2], 4, 32) for z in jnp.split(x @ w[f"in{i}"], 3, -1))
        x = normalised(x + jax.nn.dot_product_attention(q, k, v).reshape(x.shape) @ w[f"out{i}"], w[f"n{i}"])
        x = normalised(x + jax.nn.relu(x @ w[f"up{i}"]) @ w[f"down{i}"], w[f"m{i}"])
    return x.mean(1) @ w["head"]


MLP: Shapes = {"w0": (1024, 2048), "w1": (2048, 2048), "w2": (2048, 2048), "w3": (2048, CLASSES)}
MLP |= {"b0": (2048,), "b1": (2048,), "b2": (2048,), "b3": (CLASSES,)}
CNN: Shapes = {"w0": (3, 3, 3, 32), "w1": (3, 3, 32, 64), "w2": (3, 3, 64, 128), "w3": (128, CLASSES)}
CNN |= {"b0": (32,), "b1": (64,), "b2": (128,), "b3": (CLASSES,)}
TRANSFORMER: Shapes = {"head": (128, CLASSES)}
for _i in range(2):
    TRANSFORMER |= {f"in{_i}": (128, 384), f"out{_i}": (128, 128), f"up{_i}": (128, 512), f"down{_i}": (512, 128)}
    TRANSFORMER |= {f"n{_i}": (128,), f"m{_i}": (128,)}


def landscape(network: Network, shapes: Shapes, shape: tuple[int, ...]) -> AnyLandscape:
    """A loss on one batch."""
    keys = iter(jax.random.split(jax.random.key(0), len(shapes) + 1))
    initial = jax.nn.initializers.lecun_normal()
    w = {n: initial(next(keys), s, jnp.float32) if len(s) > 1 else jnp.zeros(s) for n, s in shapes.items()}

    def loss(w: Any, x: Any, y: Any) -> Any:
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(network(w, x)), y[:, None], 1))

    batch = jax.random.normal(next(keys), shape), jnp.arange(shape[0]) % CLASSES
    return Landscape(loss, w, batch)


def peak(function: Callable[[], Any], landscape: Any) -> int:
    """The bytes of all arrays that are alive at a product, at most; the weights' apart."""
    gc.collect()
    before, most, linear_on = _alive(), [0], landscape.linear_on

    def watching(*arguments: Any) -> Any:
        product = linear_on(*arguments)

        def watched(v: Any) -> Any:
            found = product(v)
            most[0] = max(most[0], _alive())
            return found

        return watched

    landscape.linear_on = watching
    function()
    del landscape.linear_on
    return most[0] - before


def _alive() -> int:
    return sum(x.nbytes for x in jax.live_arrays())


def tasks() -> list[Task]:
    """The networks, each with its batch."""
    given: list[tuple[str, Network, Shapes, tuple[int, ...]]] = [
        ("MLP", mlp, MLP, (128, 1024)),
        ("CNN", cnn, CNN, (32, 32, 32, 3)),
        ("transformer", transformer, TRANSFORMER, (16, 32, 128)),
    ]
    return [Task(name, partial(landscape, f, s, shape), _ready, peak) for name, f, s, shape in given]


def _ready(found: Any) -> None:
    jax.block_until_ready(jax.tree.leaves(found))
