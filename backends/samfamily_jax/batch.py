"""Cutting a batch into shards of m examples, and the ways of working through them inside a device.

A way is a value: it is given a function of one shard and all shards, and returns the mean over them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from samfamily.program import add, divide
from samfamily.space import Vec
from samfamily_jax.devices import differs, varying

One: TypeAlias = Callable[[Vec, Any], tuple[Any, Any]]
"""From the weights and one shard to `(outcome, aux)`; the outcome is made of Vecs and scalars."""
Shards: TypeAlias = Callable[[One, Vec, Any], tuple[Any, Any]]
"""From that, the weights and all shards to the mean outcome, and every shard's aux, stacked along a new first axis."""

FEW = 4
"""As many shards are unrolled on any platform."""


def unrolled(one: One, w: Vec, shards: Any) -> tuple[Any, Any]:
    r"""Take one shard after another, each with its own copy of the computation: \(\frac1k \sum_{j=1}^k f(w, S_j)\).

    A barrier keeps a shard from beginning before the last is summed up, so that one shard's memory may serve all.  (Of
    jaxlib 0.10.2's compilers the one for CPUs drops it.)

    Args:
        one: from the weights and one shard to `(outcome, aux)`.
        w: the weights.
        shards: a pytree of arrays whose first axis counts shards.

    Returns:
        The mean outcome, and every shard's aux, stacked along a new first axis.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from samfamily_jax import SAM, value_and_grad
        >>> loss = lambda w, x: jnp.mean(0.5 * (x - w) ** 2)
        >>> vg = jax.jit(value_and_grad(loss, SAM(rho=0.5).sharded(2), shards=unrolled))
        >>> vg(jnp.array(0.0), jnp.array([1.0, 3.0, -1.0, -1.0]))  # (-2.5 + 1.5) / 2
        (Array(1.5, dtype=float32), Array(-0.5, dtype=float32))
    """
    count = len(jax.tree.leaves(shards)[0])
    total, aux = one(w, jax.tree.map(lambda x: x[0], shards))
    auxes = [aux]
    for i in range(1, count):
        w, total = jax.lax.optimization_barrier((w, total))
        outcome, aux = one(w, jax.tree.map(lambda x, i=i: x[i], shards))
        total = add(outcome, total)
        auxes.append(aux)
    return divide(total, count), jax.tree.map(lambda *x: jnp.stack(x), *auxes)


def scanned(one: One, w: Vec, shards: Any) -> tuple[Any, Any]:
    r"""Take one shard after another in a loop of one copy of the computation: least to compile, and least memory.

    Returns \(\frac1k \sum_{j=1}^k f(w, S_j)\), as the other ways do.  Not for convolutions on a CPU, which are tens of
    times slower inside a loop.

    Args:
        one: from the weights and one shard to `(outcome, aux)`.
        w: the weights.
        shards: a pytree of arrays whose first axis counts shards.

    Returns:
        The mean outcome, and every shard's aux, stacked along a new first axis.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from samfamily_jax import SAM, value_and_grad
        >>> loss = lambda w, x: jnp.mean(0.5 * (x - w) ** 2)
        >>> vg = jax.jit(value_and_grad(loss, SAM(rho=0.5).sharded(2), shards=scanned))
        >>> vg(jnp.array(0.0), jnp.array([1.0, 3.0, -1.0, -1.0]))
        (Array(1.5, dtype=float32), Array(-0.5, dtype=float32))
    """
    count = len(jax.tree.leaves(shards)[0])
    shapes, _ = jax.eval_shape(one, w, jax.tree.map(lambda x: x[0], shards))
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    def body(total: Any, shard: Any) -> tuple[Any, Any]:
        outcome, aux = one(w, shard)
        return add(outcome, total), aux

    total, auxes = jax.lax.scan(body, varying(nothing, tuple(differs(w.leaves[0]))), shards)
    return divide(total, count), auxes


def vmapped(one: One, w: Vec, shards: Any) -> tuple[Any, Any]:
    r"""Take all shards at once, each with perturbed weights of its own: for small models of matrix products.

    Returns \(\frac1k \sum_{j=1}^k f(w, S_j)\), as the other ways do.  A variant that does not climb at every step
    computes both of its branches here, and takes one.

    Args:
        one: from the weights and one shard to `(outcome, aux)`.
        w: the weights.
        shards: a pytree of arrays whose first axis counts shards.

    Returns:
        The mean outcome, and every shard's aux, stacked along a new first axis.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from samfamily_jax import SAM, value_and_grad
        >>> loss = lambda w, x: jnp.mean(0.5 * (x - w) ** 2)
        >>> vg = jax.jit(value_and_grad(loss, SAM(rho=0.5).sharded(2), shards=vmapped))
        >>> vg(jnp.array(0.0), jnp.array([1.0, 3.0, -1.0, -1.0]))
        (Array(1.5, dtype=float32), Array(-0.5, dtype=float32))
    """
    count = len(jax.tree.leaves(shards)[0])
    outcomes, auxes = jax.vmap(one, in_axes=(None, 0))(w, shards)
    return jax.tree.map(lambda x: (jnp.sum(x, 0) / count).astype(x.dtype), outcomes), auxes


def usual(count: int) -> Shards:
    """Return the way that is good for this platform: a loop for many shards, but not on a CPU."""
    return unrolled if count <= FEW or jax.default_backend() == "cpu" else scanned


class Cut(NamedTuple):
    """Arguments in shards.

    Attributes:
        shards: a pytree of arrays with a first axis that counts shards.
        arguments: from one entry along that axis to the arguments `(args, kwargs)` of the loss.
    """

    shards: Any
    arguments: Callable[[Any], tuple[tuple[Any, ...], dict[str, Any]]]


def examples_in(batches: Sequence[Any], without: str) -> int:
    """Return how many examples there are.

    Args:
        batches: pytrees of arrays whose first axis counts examples; a 0-d leaf goes to every shard as it is.
        without: what to say of batches that have none.

    Returns:
        The number.

    Raises:
        ValueError: nothing to shard, or arrays of different lengths.
    """
    found = lengths(tuple(batches))
    if not found:
        raise ValueError(without)
    if len(found) > 1:
        raise ValueError(f"the arrays of the batch have different lengths {sorted(found)}: their first axis must agree")
    return found.pop()


def lengths(tree: Any) -> set[int]:
    """Return how many entries the arrays of a pytree have along their first axis, those that have one."""
    return {x.shape[0] for x in jax.tree.leaves(tree) if getattr(x, "shape", ())}


def cut(
    args: Sequence[Any], is_batch: Sequence[bool], kwargs: dict[str, Any], count: int, start: Any, total: int
) -> Cut:
    """Cut arguments into `count` contiguous shards.

    A key of `jax.random.key` outside the batches is folded with the shard's number, so that every shard draws its own
    numbers, the same on one device and on many.

    Args:
        args: positional arguments of the loss.
        is_batch: which of them are batches, to be cut.
        kwargs: keyword arguments of the loss.
        count: how many shards.
        start: the number of the first shard.
        total: how many shards there are on all devices; where it is 1, keys stay as they are.

    Returns:
        The shards.

    Raises:
        ValueError: a batch whose type says that it is spread over devices.
    """
    leaves, treedef = jax.tree.flatten((tuple(args), kwargs))
    flags = [flag for x, flag in zip(args, is_batch, strict=True) for _ in jax.tree.leaves(x)]
    flags += [False] * (len(leaves) - len(flags))
    parts = {i: x for i, (x, flag) in enumerate(zip(leaves, flags, strict=True)) if flag and jnp.ndim(x)}
    for x in parts.values():
        _check_whole(x)
    stacked = {i: jnp.reshape(x, (count, len(x) // count, *x.shape[1:])) for i, x in parts.items()}

    def arguments(shard: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        number, own = shard
        filled = [own[i] if i in own else _folded(x, number) if total > 1 else x for i, x in enumerate(leaves)]
        found: tuple[tuple[Any, ...], dict[str, Any]] = jax.tree.unflatten(treedef, filled)
        return found

    return Cut((start + jnp.arange(count), stacked), arguments)


def _check_whole(x: Any) -> None:
    """Raise ValueError where an array's type says that its first axis lies on several devices."""
    if axes := jax.typeof(x).sharding.spec[0]:
        raise ValueError(
            f"the batch is spread over the mesh axes {axes}, along which it should be cut into shards: pass mesh= and "
            "axis_name=, so that every device cuts its own part"
        )


def _folded(x: Any, number: Any) -> Any:
    """Return keys folded with a number, and anything else as it is."""
    if not (isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)):
        return x

    def fold(key: Any) -> Any:
        return jax.random.fold_in(key, number)

    for _ in range(x.ndim):
        fold = jax.vmap(fold)
    return fold(x)
