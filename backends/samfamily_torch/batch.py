"""Cutting a batch into shards of m examples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from samfamily.program import shard_count


def shards(batch: tuple[Any, ...], m: int | None) -> list[tuple[Any, ...]]:
    """Return the batch as contiguous shards of `m` examples; as a single one where `m` is None.

    Args:
        batch: tensors, or nested lists, tuples and mappings of tensors, whose first axis counts examples.  Anything
            else, and a 0-d tensor, goes to every shard as it is.
        m: examples to a shard.

    Returns:
        The shards, each of the batch's structure.

    Raises:
        ValueError: nothing to shard, arrays of different lengths, or a length that `m` does not divide.

    Example:
        >>> import torch
        >>> shards((torch.arange(4), {"y": torch.ones(4, 1)}), m=2)[1]
        (tensor([2, 3]), {'y': tensor([[1.],
                [1.]])})
    """
    if m is None:
        return [batch]
    lengths = {len(x) for x in _tensors(batch)}
    if not lengths:
        raise ValueError(
            f"a variant with m = {m} shards the batch, and there is none: call step(closure, batch=(x, y))"
        )
    if len(lengths) > 1:
        raise ValueError(
            f"the tensors of the batch have different lengths {sorted(lengths)}: their first axis must agree"
        )
    return [_cut(batch, i * m, (i + 1) * m) for i in range(shard_count(lengths.pop(), m))]


def _tensors(x: Any) -> Iterator[Tensor]:
    if isinstance(x, Tensor) and x.ndim:
        yield x
    elif isinstance(x, Mapping | list | tuple):
        for part in x.values() if isinstance(x, Mapping) else x:
            yield from _tensors(part)


def _cut(x: Any, start: int, stop: int) -> Any:
    if isinstance(x, Tensor) and x.ndim:
        return x[start:stop]
    if isinstance(x, Mapping):
        return {key: _cut(part, start, stop) for key, part in x.items()}
    if isinstance(x, list | tuple):
        parts = (_cut(part, start, stop) for part in x)
        return type(x)(*parts) if hasattr(x, "_fields") else type(x)(parts)
    return x
