"""The frameworks that have a `Space`, each with its way from NumPy to its arrays and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from samfamily import Leaf, Space, Vec
from samfamily.reference import NumpySpace
from samfamily_jax.space import JaxSpace
from samfamily_torch import TorchSpace
from tests.strategies import Tree

EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
TINY = {"float64": 5e-324, "float32": 2.0**-126, "float16": 2.0**-24, "bfloat16": 2.0**-126}
"""What rounding near zero may lose: the least subnormal, or the least normal number where XLA flushes the others."""


@dataclass(frozen=True)
class Framework:
    """A framework under test.

    Attributes:
        name: its name.
        dtypes: the real dtypes that its leaves may have, the widest first.
        complex: the widest complex dtype.
        space: from a number of leaves to a space; a broken one takes its place in a negative control.
        array: from a NumPy array and a dtype's name to an array.
        mode: the context in which all this happens.
    """

    name: str
    dtypes: tuple[str, ...]
    complex: str
    space: Callable[[int], Space]
    array: Callable[[Any, str], Any]
    mode: Callable[[], AbstractContextManager[Any]] = field(default=nullcontext)

    def scalar(self, x: float) -> Any:
        """Return a 0-d array of the widest dtype."""
        return self.array(np.float64(x), self.dtypes[0])

    def leaves(self, tree: Tree, dtypes: Sequence[str] = ()) -> Tree:
        """Return the tree's arrays in the dtypes given, or in the widest."""
        return tuple(self.array(x, t) for x, t in zip(tree, dtypes or [self.dtypes[0]] * len(tree), strict=True))

    def vec(self, tree: Tree, dtypes: Sequence[str] = ()) -> Vec:
        """Return the Vec of the tree's arrays."""
        return Vec(self.space(len(tree)), self.leaves(tree, dtypes))


def to_numpy(x: Any) -> Any:
    """Return an array of any framework, or a number, in float64 or complex128."""
    if isinstance(x, torch.Tensor):
        x = x.resolve_conj().to(torch.complex128 if x.is_complex() else torch.float64).numpy().copy()
    return np.asarray(x, complex if np.iscomplexobj(x) else float)


def to_tree(v: Vec) -> Tree:
    """Return the leaves of a Vec as NumPy arrays in float64."""
    return tuple(to_numpy(x) for x in v.collapse())


def dtype(x: Any) -> str:
    """Return the name of an array's dtype."""
    return str(x.dtype).removeprefix("torch.")


NUMPY = Framework("numpy", ("float64", "float32", "float16"), "complex128", NumpySpace, np.array)
TORCH = Framework(
    "torch",
    ("float64", "float32", "float16", "bfloat16"),
    "complex128",
    TorchSpace,
    lambda x, t: torch.tensor(x, dtype=getattr(torch, t)),
)
JAX = Framework(
    "jax",
    ("float32", "float16", "bfloat16"),
    "complex64",
    lambda count: JaxSpace((Leaf(),) * count),
    lambda x, t: jnp.asarray(np.asarray(x).astype(jnp.dtype(t))),
)
JAX_X64 = Framework(
    "jax-x64",
    ("float64", "float32", "float16", "bfloat16"),
    "complex128",
    JAX.space,
    JAX.array,
    lambda: jax.enable_x64(True),
)
FRAMEWORKS = [NUMPY, TORCH, JAX, JAX_X64]
