"""A variant's state as plain tensors and numbers, and back: what goes into a `state_dict`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from samfamily.space import Vec


def pack(memory: Any) -> Any:
    """Return a memory with every Vec as a list of tensors and every tuple as a list."""
    if isinstance(memory, Vec):
        return list(memory.collapse())
    return [pack(part) for part in memory] if isinstance(memory, tuple) else memory


def unpack(packed: Any, like: Any) -> Any:
    """Return what `pack` made, in the structure, dtypes and devices of `like`.

    Args:
        packed: lists of tensors and numbers.
        like: a memory of the structure that is wanted.

    Returns:
        The memory.

    Raises:
        ValueError: the two differ in structure or in a tensor's shape; names both sides.
    """
    if isinstance(like, Vec):
        leaves = like.collapse()
        _agree(packed, len(leaves))
        return Vec(like.space, tuple(_tensor(x, u) for x, u in zip(packed, leaves, strict=True)))
    if isinstance(like, tuple):
        _agree(packed, len(like))
        parts = [unpack(x, part) for x, part in zip(packed, like, strict=True)]
        return type(like)(*parts) if hasattr(like, "_fields") else tuple(parts)
    return _tensor(packed, like) if isinstance(like, Tensor) else packed


def settled(memory: Any) -> Any:
    """Return a memory with every Vec computed and its scalar multiplied in, as it comes back from a checkpoint."""
    if isinstance(memory, Vec):
        return Vec(memory.space, tuple(memory.collapse()))
    if isinstance(memory, tuple):
        parts = [settled(part) for part in memory]
        return type(memory)(*parts) if hasattr(memory, "_fields") else tuple(parts)
    return memory


def carry(memory: Any, fresh: Any, places: Sequence[int | None]) -> Any:
    """Return a memory for other parameters: of those that it knew what it kept, of new ones what `fresh` has.

    Args:
        memory: the memory so far.
        fresh: the memory that the parameters would begin with.
        places: for each parameter its place in `memory`, or None.

    Returns:
        A memory of `fresh`'s structure.
    """
    if isinstance(fresh, Vec):
        old = memory.collapse()
        pairs = zip(fresh.collapse(), places, strict=True)
        return Vec(fresh.space, tuple(new if i is None else old[i] for new, i in pairs))
    if isinstance(fresh, tuple):
        parts = [carry(x, y, places) for x, y in zip(memory, fresh, strict=True)]
        return type(fresh)(*parts) if hasattr(fresh, "_fields") else tuple(parts)
    return memory


def _agree(packed: Sequence[Any], expected: int) -> None:
    if not isinstance(packed, list) or len(packed) != expected:
        found = len(packed) if isinstance(packed, list) else packed
        raise ValueError(
            f"the checkpoint's memory has {found} entries where this optimizer's has {expected}: "
            "it was written for another variant or other parameters"
        )


def _tensor(x: Tensor, like: Tensor) -> Tensor:
    if x.shape != like.shape:
        raise ValueError(
            f"the checkpoint's memory has a tensor of shape {tuple(x.shape)} where this optimizer's has "
            f"{tuple(like.shape)}: it was written for other parameters"
        )
    return torch.empty_like(like).copy_(x)
