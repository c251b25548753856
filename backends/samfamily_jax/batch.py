"""Cutting a batch into shards of m examples."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from samfamily.division import division


def shards(arguments: tuple[Any, ...], batch_argnums: tuple[int, ...], m: int | None) -> list[tuple[Any, ...]]:
    """Return the arguments once for every contiguous shard of `m` examples; once in all where `m` is None.

    Args:
        arguments: the positional arguments of the loss.
        batch_argnums: which of them are batches: pytrees of arrays whose first axis counts examples.  A 0-d leaf goes
            to every shard as it is.
        m: examples to a shard.

    Returns:
        The arguments for each shard.

    Raises:
        ValueError: nothing to shard, arrays of different lengths, or a length that `m` does not divide.
    """
    if m is None:
        return [arguments]
    lengths = {
        jnp.shape(x)[0]
        for i in batch_argnums
        if i < len(arguments)
        for x in jax.tree.leaves(arguments[i])
        if jnp.ndim(x)
    }
    if not lengths:
        raise ValueError(
            f"a variant with m = {m} shards the batch, and argument {list(batch_argnums)} of the loss has no array "
            "with examples: pass the batch there, or name its position with batch_argnums"
        )
    if len(lengths) > 1:
        raise ValueError(
            f"the arrays of the batch have different lengths {sorted(lengths)}: their first axis must agree"
        )

    def cut(start: int) -> tuple[Any, ...]:
        def part(x: Any) -> Any:
            return x[start : start + m] if jnp.ndim(x) else x

        return tuple(jax.tree.map(part, x) if i in batch_argnums else x for i, x in enumerate(arguments))

    return [cut(i * m) for i in range(division(m, lengths.pop()).shards)]
