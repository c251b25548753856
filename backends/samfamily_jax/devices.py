"""The devices that share a batch: which of them perturb together, and what is averaged over which.

Inside `jax.shard_map` every device has its part of the batch.  A parameter that is the same on all devices must be cast
before it is differentiated, since the transpose of JAX's implicit cast sums gradients over the devices, perturbations
included.  Everything here casts by itself, so a step is right whether `check_vma` is on or off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from samfamily.division import Division, division
from samfamily.program import each
from samfamily.space import Vec


@dataclass(frozen=True)
class Devices:
    """Two sets of mesh axes, between which a step may use the devices of each.

    Attributes:
        apart: axes over which every device perturbs on its own; what the step makes of it is averaged once, at its end.
        together: axes over which devices share a perturbation; every gradient is averaged over them.
    """

    apart: tuple[str, ...] = ()
    together: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many parts of the batch perturb on their own."""
        return math.prod(jax.lax.axis_size(axis) for axis in self.apart)

    @property
    def index(self) -> Any:
        """Which of them this device works on."""
        return jax.lax.axis_index(self.apart) if self.apart else 0

    def settle(self, tree: Any) -> Any:
        """Return a tree whose arrays are of the type that differs over `apart`."""
        return varying(tree, self.apart)

    def spread(self, tree: Any) -> Any:
        """Return a tree whose arrays may differ between all devices, so that each has a gradient of its own."""
        return varying(tree, self.apart + self.together)

    def shared(self, tree: Any) -> Any:
        """Return the mean of a tree of arrays over the devices that share a perturbation."""
        return jax.lax.pmean(tree, self.together) if self.together else tree

    def agreed(self, outcome: Any) -> Any:
        """Return the mean of tuples of Vecs and scalars over the devices that do not, in one round."""
        if not self.apart:
            return outcome
        found: list[Any] = []
        each(lambda x: found.extend(x.collapse() if isinstance(x, Vec) else [jnp.asarray(x)]), outcome)
        means = iter(jax.lax.pmean(found, self.apart))

        def mean(x: Any) -> Any:
            return Vec(x.space, tuple(next(means) for _ in x.leaves)) if isinstance(x, Vec) else next(means)

        return each(mean, outcome)


def divided(m: int | None, examples: int, axes: Sequence[str]) -> tuple[Devices, Division]:
    """Return how shards of m examples lie on the devices of these mesh axes, of which each has `examples`.

    Raises ValueError where `m` does not divide the global batch, or no axis holds those that share a perturbation.
    """
    sizes = {axis: jax.lax.axis_size(axis) for axis in axes}
    found = division(m, examples, math.prod(sizes.values()))
    return Devices(*cut(sizes, found.group, m)), found


def cut(sizes: dict[str, int], group: int, m: int | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the leading axes, over which perturbations differ, and the trailing ones, which hold `group` devices."""
    axes = tuple(sizes)
    for i in range(len(axes), -1, -1):
        if math.prod(sizes[axis] for axis in axes[i:]) == group:
            return axes[:i], axes[i:]
    shape = (math.prod(sizes.values()) // group, group)
    raise ValueError(
        f"m = {m} examples lie on {group} devices that follow one another, and of the axes {sizes} no last ones have "
        f"as many: use a mesh such as jax.make_mesh({shape}, ('group', 'inner')), and name both axes"
    )


def placed(x: Any, mesh: Mesh, spec: PartitionSpec) -> Any:
    """Return a part of the batch where `shard_map` wants it: over explicit axes, as `make_mesh` makes them, it asks."""
    asks = bool(spec) and AxisType.Explicit in mesh.axis_types
    return jax.reshard(x, NamedSharding(mesh, spec)) if asks else x


def varying(tree: Any, axes: tuple[str, ...]) -> Any:
    """Return a tree whose arrays are of the type that differs over these axes of the `shard_map` round it."""
    manual = jax.sharding.get_abstract_mesh().manual_axes
    if not any(axis in manual for axis in axes):  # an axis of `vmap` has no such types
        return tree

    def cast(x: Any) -> Any:
        missing = tuple(axis for axis in axes if axis in manual and axis not in differs(x))
        return jax.lax.pcast(x, missing, to="varying") if missing else x

    return jax.tree.map(cast, tree)


def differs(x: Any) -> frozenset[str]:
    """Return the axes over which an array's type says that it differs."""
    return frozenset(jax.typeof(x).manual_axis_type.varying)


def check_cast(loss: Any, leaves: Sequence[Any]) -> None:
    """Raise ValueError where the loss differs over an axis over which the parameters do not.

    JAX would sum the gradient over the devices, without a word.
    """
    axes = sorted(differs(loss) - frozenset().union(*map(differs, leaves)))
    if axes:
        raise ValueError(
            f"inside shard_map the loss differs over the mesh axes {axes} and the parameters do not, so that JAX would "
            f"sum the gradients over all devices, perturbations included: pass axis_name={tuple(axes)}"
        )
