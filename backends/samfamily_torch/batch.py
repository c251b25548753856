"""Cutting a batch into shards of m examples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor


def examples_in(batch: tuple[Any, ...], without: str) -> int:
    """Return how many examples a batch has.

    Args:
        batch: tensors, or nested lists, tuples and mappings of tensors, whose first axis counts examples.
        without: what to say of a batch that has none.

    Returns:
        The number of examples.

    Raises:
        ValueError: no tensor with examples, or tensors of different lengths.
    """
    lengths = {len(x) for x in _tensors(batch)}
    if not lengths:
        raise ValueError(without)
    if len(lengths) > 1:
        raise ValueError(
            f"the tensors of the batch have different lengths {sorted(lengths)}: their first axis must agree"
        )
    return lengths.pop()


def cut(batch: tuple[Any, ...], shards: int) -> list[tuple[Any, ...]]:
    """Return a batch as contiguous shards of equally many examples.

    Args:
        batch: as for `examples_in`.  Anything that is no tensor, and a 0-d tensor, goes to every shard as it is.
        shards: how many; a batch that is not cut need not have examples.

    Returns:
        The shards, each of the batch's structure.

    Example:
        >>> import torch
        >>> cut((torch.arange(4), {"y": torch.ones(4, 1)}), shards=2)[1]
        (tensor([2, 3]), {'y': tensor([[1.],
                [1.]])})
    """
    return [batch] if shards == 1 else [_part(batch, i, shards) for i in range(shards)]


def _tensors(x: Any) -> Iterator[Tensor]:
    if isinstance(x, Tensor) and x.ndim:
        yield x
    elif isinstance(x, Mapping | list | tuple):
        for part in x.values() if isinstance(x, Mapping) else x:
            yield from _tensors(part)


def _part(x: Any, i: int, shards: int) -> Any:
    if isinstance(x, Tensor) and x.ndim:
        m = len(x) // shards
        return x[i * m : (i + 1) * m]
    if isinstance(x, Mapping):
        return {key: _part(part, i, shards) for key, part in x.items()}
    if isinstance(x, list | tuple):
        parts = (_part(part, i, shards) for part in x)
        return type(x)(*parts) if hasattr(x, "_fields") else type(x)(parts)
    return x
