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
        normalisation: a pytree of bools, or a prefix of one, that tells which leaves belong to normalisation layers.
            Without it they are told by the types of the equinox or nnx modules in the tree, if there are any.

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

    def __init__(self, tree: Any, normalisation: Any = None) -> None:
        paths, self._treedef = jax.tree_util.tree_flatten_with_path(tree, is_leaf=_is_none)
        self._leaves = [leaf for _, leaf in paths]
        self._moving = [i for i, leaf in enumerate(self._leaves) if _is_float(leaf)]
        if not self._moving:
            found = sorted({_kind(leaf) for leaf in self._leaves if leaf is not None}) or "no leaf at all"
            raise ValueError(f"the parameters have no float leaf to differentiate, found {found}: pass float arrays")
        names = [_name(paths[i][0]) for i in self._moving]
        told = _normalisations(tree, normalisation)
        space = JaxSpace(
            tuple(
                Leaf(name, -1 if name.split(".")[-1] == "kernel" else 0, told[i])
                for i, name in zip(self._moving, names, strict=True)
            )
        )
        self.w = Vec(space, tuple(jnp.asarray(self._leaves[i]) for i in self._moving))

    @property
    def rest(self) -> list[Any]:
        """The arrays that pass through, each in its leaf's place, and None in all others."""
        return [None if i in self._moving or not _is_array(x) else x for i, x in enumerate(self._leaves)]

    def merge(self, moving: Leaves, rest: Sequence[Any] | None = None) -> Any:
        """Return the tree with other float leaves, and with other arrays that pass through, where they are given."""
        if rest is None:
            return self._fill(moving, self._leaves)
        return self._fill(moving, [own if x is None else x for own, x in zip(self._leaves, rest, strict=True)])

    def of(self, tree: Any) -> Leaves:
        """Return the leaves of another tree of this structure, where this one's are floats."""
        leaves = jax.tree.leaves(tree, is_leaf=_is_none)
        return tuple(leaves[i] for i in self._moving)

    def gradients(self, moving: Leaves, allow_int: bool = False) -> Any:
        """Return a tree of gradients: None where there is none, which `eqx.apply_updates` reads as "leave it alone".

        With `allow_int` integers and bools have the float0 gradients that `jax.grad` gives them.
        """
        return self._fill(moving, [_float0(leaf) if allow_int else None for leaf in self._leaves])

    def _fill(self, moving: Leaves, rest: Sequence[Any]) -> Any:
        leaves = list(rest)
        for i, x in zip(self._moving, moving, strict=True):
            leaves[i] = x
        return jax.tree_util.tree_unflatten(self._treedef, leaves)


def _name(path: tuple[Any, ...]) -> str:
    """Return a leaf's name: its path, but for the box that flax puts round a variable."""
    boxed = len(path) > 1 and isinstance(path[-1], jax.tree_util.GetAttrKey) and path[-1].name == "value"
    return jax.tree_util.keystr(path[:-1] if boxed else path, simple=True, separator=".")


def _is_float(leaf: Array) -> bool:
    if isinstance(leaf, float | complex):
        return True
    return _is_array(leaf) and bool(jnp.issubdtype(leaf.dtype, jnp.inexact))


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def _float0(leaf: Any) -> Any:
    """Return JAX's gradient with respect to integers and bools; None for what is neither."""
    integral = isinstance(leaf, bool | int) or (
        _is_array(leaf) and bool(jnp.issubdtype(leaf.dtype, jnp.integer) or jnp.issubdtype(leaf.dtype, jnp.bool))
    )
    return np.zeros(np.shape(leaf), jax.dtypes.float0) if integral else None


NORMALISATIONS = {"BatchNorm", "LayerNorm", "RMSNorm", "GroupNorm", "InstanceNorm"}
"""The names of normalisation modules in equinox and in flax's nnx."""


def is_normalisation(node: Any) -> bool:
    """Tell whether a node of a tree is a normalisation module of equinox or nnx."""
    classes = type(node).__mro__
    return any(c.__name__ in NORMALISATIONS and c.__module__.startswith(("equinox", "flax")) for c in classes)


def _normalisations(tree: Any, told: Any) -> list[bool | None]:
    """Return for each leaf whether it belongs to a normalisation layer; None where nobody knows."""
    if told is not None:
        return jax.tree.leaves(jax.tree.broadcast(told, tree, is_leaf=_is_none))
    nodes = jax.tree.leaves(tree, is_leaf=lambda node: node is None or is_normalisation(node))
    sizes = [len(jax.tree.leaves(node, is_leaf=_is_none)) for node in nodes]
    found = [is_normalisation(node) for node, size in zip(nodes, sizes, strict=True) for _ in range(size)]
    return list(found) if any(found) else [None] * len(found)


def _is_none(node: Any) -> bool:
    return node is None


def _kind(leaf: Any) -> str:
    return str(getattr(leaf, "dtype", type(leaf).__name__))
