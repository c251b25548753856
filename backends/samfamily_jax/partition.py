"""Which leaves of a pytree a gradient exists for, and the way back to the whole tree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from samfamily.space import Array, Leaf, Leaves, Vec
from samfamily_jax.space import JaxSpace


class Partition:
    """A pytree, split into its float leaves and the rest, which passes through untouched.

    Args:
        tree: any pytree: dicts, tuples, NamedTuples, flax or equinox modules; leaves may be integers, bools, keys or
            no arrays at all.

    Attributes:
        w: the float leaves as a Vec, each named by its path.

    Raises:
        ValueError: no leaf is a float array.

    Example:
        >>> split = Partition({"n": 3, "w": jnp.ones(2)})
        >>> split.w.collapse(), [leaf.name for leaf in split.w.space.leaves]
        ((Array([1., 1.], dtype=float32),), ['w'])
        >>> split.merge((jnp.zeros(2),))
        {'n': 3, 'w': Array([0., 0.], dtype=float32)}
        >>> split.gradients((jnp.zeros(2),))
        {'n': None, 'w': Array([0., 0.], dtype=float32)}
    """

    w: Vec

    def __init__(self, tree: Any) -> None:
        paths, self._treedef = jax.tree_util.tree_flatten_with_path(tree)
        self._leaves = [leaf for _, leaf in paths]
        self._moving = [i for i, leaf in enumerate(self._leaves) if _is_float(leaf)]
        if not self._moving:
            found = sorted({_kind(leaf) for leaf in self._leaves}) or "no leaf at all"
            raise ValueError(f"the parameters have no float leaf to differentiate, found {found}: pass float arrays")
        names = [jax.tree_util.keystr(paths[i][0], simple=True, separator=".") for i in self._moving]
        space = JaxSpace(tuple(Leaf(name, -1 if name.split(".")[-1] == "kernel" else 0) for name in names))
        self.w = Vec(space, tuple(jnp.asarray(self._leaves[i]) for i in self._moving))

    def merge(self, moving: Leaves) -> Any:
        """Return the tree with other float leaves."""
        return self._fill(moving, self._leaves)

    def gradients(self, moving: Leaves) -> Any:
        """Return a tree of gradients: None where there is none, which optax and equinox read as "leave it alone"."""
        return self._fill(moving, [None] * len(self._leaves))

    def _fill(self, moving: Leaves, rest: Sequence[Any]) -> Any:
        leaves = list(rest)
        for i, x in zip(self._moving, moving, strict=True):
            leaves[i] = x
        return jax.tree_util.tree_unflatten(self._treedef, leaves)


def _is_float(leaf: Array) -> bool:
    if isinstance(leaf, float | complex):
        return True
    return isinstance(leaf, jax.Array | np.ndarray | np.generic) and bool(jnp.issubdtype(leaf.dtype, jnp.inexact))


def _kind(leaf: Any) -> str:
    return str(getattr(leaf, "dtype", type(leaf).__name__))
