"""What XLA says of a program that it has compiled: operations, temporary memory, collectives; how often it had to."""

import math
import re
from collections.abc import Callable
from math import nan
from typing import Any

import jax


def flops(program: jax.stages.Compiled) -> float:
    """Floating-point operations, by XLA's own analysis; NaN where it has none, as for an accelerator's own libraries.

    Example:
        >>> import jax.numpy as jnp
        >>> flops(jax.jit(jnp.matmul).lower(jnp.ones((2, 3)), jnp.ones((3, 5))).compile())  # 30 products, 30 sums
        60.0
    """
    analysis: Any = program.cost_analysis()
    return float((analysis or {}).get("flops", nan))


def temporary_bytes(program: jax.stages.Compiled) -> int:
    """The memory that a program needs besides its arguments and its results."""
    analysis: Any = program.memory_analysis()
    return int(analysis.temp_size_in_bytes)


def tree_bytes(tree: Any) -> int:
    """The memory of all arrays, or shapes of arrays, in a pytree."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def all_reduces(program: jax.stages.Compiled) -> int:
    """How many sums over devices a program takes, whatever the number of arrays in each."""
    return len(sent(program))


def sent(program: jax.stages.Compiled) -> list[int]:
    """The bytes that a device puts into each sum over devices of a program.

    A sum over one device alone sends nothing and is left out.  One inside a loop is counted once.
    """
    found = re.findall(r"= (.*?) all-reduce(?:-start)?\((.*)", program.as_text() or "")
    return [shape_bytes(shape) for shape, rest in found if not alone(rest)]


def shape_bytes(shape: str) -> int:
    """The memory of an array, or of a tuple of arrays, as XLA writes their type.

    Example:
        >>> shape_bytes("(f32[2,3]{1,0}, bf16[5]{0}, /*index=2*/pred[7]{0}, f64[])")
        49
    """
    arrays = re.findall(r"(pred|[a-z]+(\d+)\w*)\[([\d,]*)\]", shape)
    return sum(int(bits or 8) * math.prod(map(int, filter(None, axes.split(",")))) // 8 for _, bits, axes in arrays)


def alone(operation: str) -> bool:
    """Whether an operation over devices, as XLA writes it in one of three ways, is one of each device with itself.

    Example:
        >>> alone("replica_groups={{0},{1}}"), alone("replica_groups=[2,1]<=[2]"), alone("replica_groups={{0,1}}")
        (True, True, False)
    """
    if found := re.search(r"replica_groups=\{\{([\d,]*)\}", operation):
        return "," not in found[1]
    if found := re.search(r"replica_groups=\[\d+,(\d+)\]", operation):
        return found[1] == "1"
    if found := re.search(r"replica_groups=\w+\[(.*?)\] *\{(.*?)\}", operation):
        sizes = dict(re.findall(r"('\w+')=(\d+)", found[1]))
        return all(sizes.get(axis) == "1" for axis in found[2].split(","))
    return False


class Traced:
    """A function that counts how often JAX traces it, and so how often it is compiled.

    Example:
        >>> increment = Traced(lambda x: x + 1)
        >>> jitted = jax.jit(increment)
        >>> _ = [jitted(x) for x in (1.0, 2.0, 3.0, 1)]
        >>> increment.times  # once for floats, once for whole numbers
        2
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.times = 0

    def __call__(self, *arguments: Any) -> Any:
        """Count, and call the function."""
        self.times += 1
        return self.function(*arguments)
