"""One step of a variant on a loss: its batch in shards, its shards on devices."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from samfamily.division import division
from samfamily.program import State, Step
from samfamily.space import Leaves, Vec
from samfamily.variant import Variant
from samfamily_jax import batch, memory
from samfamily_jax.devices import check_cast, cut, divided, placed
from samfamily_jax.partition import Partition
from samfamily_jax.run import Run, plain

PyTree: TypeAlias = Any
AUX: dict[str, Callable[[Any, Any], Any]] = {
    "clean": lambda first, last: first,
    "perturbed": lambda first, last: last,
    "both": lambda first, last: (first, last),
}
"""Which auxiliary output comes back, of those at the first and the last point that a step asks about."""


USUAL_BATCH = 1
"""Where the batch is if nobody says: behind the parameters."""


class Outcome(NamedTuple):
    """What a finished program leaves: its step, the loss at w and at the last point asked about, and what it cost."""

    step: Step
    loss: Any
    perturbed_loss: Any
    gradients: Any


@dataclass(frozen=True)
class Follow:
    """A loss and a variant to follow on it; the arguments are those of `value_and_grad`."""

    fun: Callable[..., Any]
    variant: Variant
    argnums: int | tuple[int, ...]
    has_aux: bool
    batch_argnums: tuple[int, ...] | None
    aux: str
    value_and_grad: Callable[..., Any]
    shards: batch.Shards | None
    axis_name: tuple[str, ...]
    mesh: Mesh | None
    normalisation: PyTree

    def __post_init__(self) -> None:
        variant = self.variant
        if not isinstance(variant, Variant):
            raise TypeError(
                f"variant must be a Variant, got {variant!r}: pass a row of the family such as SAM(rho=0.05)"
            )
        if variant.descent.adds:
            raise ValueError(
                f"{variant.name} adds to the weights after the base optimizer's step, where value_and_grad has no say: "
                "use samfamily_jax.bridge.gradient_transformation, or the coupled form"
            )
        if self.aux not in AUX:
            raise ValueError(f"aux must be one of {list(AUX)}, got {self.aux!r}")
        if self.mesh is not None and not (self.axis_name and set(self.axis_name) <= set(self.mesh.shape)):
            raise ValueError(
                f"axis_name = {self.axis_name} does not name axes of the mesh {dict(self.mesh.shape)}: name those over "
                "which the batch is spread"
            )
        if self.shards is not None and variant.m is None:
            raise ValueError(f"shards = {self.shards!r} and nothing to shard: give the variant an m, .sharded(m)")

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any], state: State) -> tuple[Outcome, Any, Partition]:
        """Take a step; return its outcome, the auxiliary output, and the parameters."""
        moved = self._moved(args)
        batches = self._batches(args, moved)
        if self.mesh is not None and self.variant.m is not None:
            outcome, aux = self._over_mesh(args, kwargs, state, batches)
        else:
            axes = () if self.mesh is not None else self.axis_name
            outcome, aux = self._on_devices(args, kwargs, state, batches, axes)
        return outcome, aux, self.split(args)

    def split(self, args: tuple[Any, ...]) -> Partition:
        """Return the parameters among the arguments."""
        moved = self.argnums
        return Partition(args[moved] if isinstance(moved, int) else tuple(args[i] for i in moved), self.normalisation)

    @property
    def positions(self) -> tuple[int, ...]:
        """Where the batch is, as far as that is said."""
        return (USUAL_BATCH,) if self.batch_argnums is None else self.batch_argnums

    def _moved(self, args: tuple[Any, ...]) -> tuple[int, ...]:
        moved = (self.argnums,) if isinstance(self.argnums, int) else self.argnums
        if not all(-len(args) <= i < len(args) for i in moved):
            raise ValueError(
                f"argnums = {self.argnums} does not fit a loss called with {len(args)} positional arguments"
            )
        return tuple(i % len(args) for i in moved)

    def _batches(self, args: tuple[Any, ...], moved: tuple[int, ...]) -> tuple[int, ...]:
        if self.variant.m is None:
            return ()
        batches = self.positions
        if batches != (USUAL_BATCH,) and not all(-len(args) <= i < len(args) for i in batches):
            raise ValueError(f"batch_argnums = {batches} does not fit a loss called with {len(args)} arguments")
        batches = tuple(i % len(args) if i < 0 else i for i in batches if i < len(args))
        if set(batches) & set(moved):
            raise ValueError(
                f"batch_argnums = {batches} and argnums = {self.argnums} name one argument as batch and as parameters: "
                "say with batch_argnums where the batch is"
            )
        if self.batch_argnums is None:
            self._refuse_to_guess(args, batches, moved)
        return batches

    def _refuse_to_guess(self, args: tuple[Any, ...], batches: tuple[int, ...], moved: tuple[int, ...]) -> None:
        """Raise where another argument looks like a part of the batch that would stay whole."""
        entries, others = batch.lengths(tuple(args[i] for i in batches)), set(range(len(args))) - {*batches, *moved}
        if alike := [i for i in sorted(others) if entries & batch.lengths(args[i])]:
            raise ValueError(
                f"a variant with m = {self.variant.m} cuts argument {USUAL_BATCH} into shards, and of the other "
                f"arguments {alike} have as many entries: say which are cut, as in "
                f"batch_argnums={(USUAL_BATCH, *alike)}, or batch_argnums={USUAL_BATCH} if the others are to stay whole"
            )

    def _examples(self, args: tuple[Any, ...], batches: tuple[int, ...]) -> int:
        m = self.variant.m
        without = (
            f"a variant with m = {m} shards the batch, and argument {list(self.positions)} of the loss "
            "has no array with examples: pass the batch there, or name its position with batch_argnums"
        )
        return 1 if m is None else batch.examples_in([args[i] for i in batches], without)

    def _on_devices(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        state: State,
        batches: tuple[int, ...],
        axes: tuple[str, ...],
    ) -> tuple[Outcome, Any]:
        """Take a step on this device's part of the batch; the devices of `axes` have the others."""
        variant, split = self.variant, self.split(args)
        moved = self._moved(args)
        devices, (count, _) = divided(variant.m, self._examples(args, batches), axes)
        others = [i for i in range(len(args)) if i not in moved]
        rest, is_batch = [args[i] for i in others], [i in batches for i in others]
        start, known = devices.settle((split.w, memory.inside(variant, split, state)))
        known = known._replace(step=state.step)

        def loss(leaves: Leaves, *rest: Any, **kwargs: Any) -> tuple[Any, Any]:
            tree = split.merge(leaves)
            trees = (tree,) if isinstance(self.argnums, int) else tree
            filled = dict(zip((*moved, *others), (*trees, *rest), strict=True))
            result = self.fun(*(filled[i] for i in range(len(args))), **kwargs)
            return result if self.has_aux else (result, None)

        differentiated = self.value_and_grad(loss, has_aux=True)

        def one(w: Vec, rest: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Outcome, Any]:
            def gradient(leaves: Leaves) -> tuple[tuple[Any, Any], Leaves]:
                spread = devices.spread(leaves)
                (value, aux), gradients = differentiated(spread, *rest, **kwargs)
                check_cast(value, spread)
                value, gradients = devices.shared((value, gradients))
                return (value, aux), gradients

            run = Run(gradient, self.has_aux and self.aux != "clean", devices.settle)
            step = run.drive(variant.program(w, known))
            seen = run.seen
            assert seen is not None, "every program asks for a gradient"
            outcome = Outcome(step, seen.loss, seen.last_loss, jnp.asarray(seen.gradients, float))
            return devices.settle(jax.tree.map(plain, outcome)), AUX[self.aux](seen.aux, seen.last_aux)

        if count == 1 and devices.count == 1:
            outcome, aux = one(start, rest, kwargs)
            aux = aux if variant.m is None else jax.tree.map(lambda x: jnp.asarray(x)[None], aux)
        else:
            first = devices.index * count
            parts = batch.cut(rest, is_batch, kwargs, count, first, count * devices.count)
            way = self.shards or batch.usual(count)
            outcome, aux = way(lambda w, shard: one(w, *parts.arguments(shard)), start, parts.shards)
        outcome = devices.agreed(outcome)
        after = memory.outside(split, outcome.step.state)._replace(step=state.step + 1)
        return outcome._replace(step=outcome.step._replace(state=after)), aux

    def _over_mesh(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], state: State, batches: tuple[int, ...]
    ) -> tuple[Outcome, Any]:
        """Take a step with every device of the mesh on its part of the global batch.

        Axes over which perturbations differ are mapped by hand; all others, those of devices that share a perturbation
        and those of no business here, are left to the compiler.
        """
        mesh, m = self.mesh, self.variant.m
        assert mesh is not None
        examples = self._examples(args, batches)
        sizes = {axis: mesh.shape[axis] for axis in self.axis_name}
        count = math.prod(sizes.values())
        if examples % count:
            raise ValueError(
                f"the global batch of {examples} examples is not a multiple of the {count} devices of {sizes}: drop or "
                "pad the last, smaller batch"
            )
        apart, _ = cut(sizes, division(m, examples // count, count).group, m)
        if not apart:
            return self._on_devices(args, kwargs, state, batches, ())
        leaves, treedef = jax.tree.flatten((args, kwargs, state))
        flags = [i in batches for i, x in enumerate(args) for _ in jax.tree.leaves(x)]
        flags += [False] * (len(leaves) - len(flags))
        places = [i for i, x in enumerate(leaves) if isinstance(x, jax.Array | np.ndarray)]
        spread = [PartitionSpec(apart) if flags[i] and jnp.ndim(leaves[i]) else PartitionSpec() for i in places]

        def body(arrays: list[Any]) -> tuple[Outcome, Any]:
            filled = list(leaves)
            for i, x in zip(places, arrays, strict=True):
                filled[i] = x
            args, kwargs, state = jax.tree.unflatten(treedef, filled)
            return self._on_devices(args, kwargs, state, batches, apart)

        over = jax.shard_map(
            body,
            mesh=mesh,
            in_specs=(spread,),
            out_specs=(PartitionSpec(), PartitionSpec(apart)),
            axis_names=set(apart),
        )
        result: tuple[Outcome, Any] = over(
            [placed(leaves[i], mesh, spec) for i, spec in zip(places, spread, strict=True)]
        )
        return result
