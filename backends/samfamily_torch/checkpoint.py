"""A variant's state as plain tensors and numbers, and back: what goes into a `state_dict`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from samfamily.program import State
from samfamily.space import Vec

OWN = "samfamily"
"""The name of what is ours in a `state_dict`: an entry of its first group, and what the names of memory begin with."""


def pack(state: State) -> tuple[list[dict[str, Tensor]], dict[str, Any]]:
    """Return a state as entries of each parameter, and entries that no parameter owns.

    An entry's name is its path in the state, such as `samfamily.descent.v`.  So a parameter's memory stands beside the
    base optimizer's, is saved under the parameter's name, and is cut anew where the parameter is.
    """
    named = list(_named(state, OWN))
    vectors = [(name, x.collapse()) for name, x in named if isinstance(x, Vec)]
    count = len(vectors[0][1]) if vectors else 0
    own = [{name: leaves[i] for name, leaves in vectors} for i in range(count)]
    return own, {name: x for name, x in named if not isinstance(x, Vec)}


def unpack(vectors: Sequence[Mapping[str, Tensor]], scalars: Mapping[str, Any], like: Any, name: str = OWN) -> Any:
    """Return what `pack` made, in the structure, dtypes and devices of `like`.

    Args:
        vectors: entries of each parameter.
        scalars: entries that no parameter owns.
        like: a state of the structure that is wanted.
        name: the path to `like`.

    Returns:
        The state.

    Raises:
        ValueError: an entry is missing, or of another shape; names both sides.
    """
    if isinstance(like, Vec):
        leaves = like.collapse()
        return Vec(like.space, tuple(_tensor(name, x, u) for x, u in zip(vectors, leaves, strict=True)))
    if isinstance(like, tuple):
        return _rebuilt(like, (unpack(vectors, scalars, part, path) for path, part in _parts(like, name)))
    x = _entry(name, scalars)
    return torch.empty_like(like).copy_(x) if isinstance(like, Tensor) else x


def split(entries: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the entries that are the base optimizer's, and those that `pack` made."""
    own = {name: x for name, x in entries.items() if str(name).startswith(f"{OWN}.")}
    return {name: x for name, x in entries.items() if name not in own}, own


def settled(memory: Any) -> Any:
    """Return a memory with every Vec computed and its scalar multiplied in, as it comes back from a checkpoint."""
    if isinstance(memory, Vec):
        return Vec(memory.space, tuple(memory.collapse()))
    if isinstance(memory, tuple):
        return _rebuilt(memory, map(settled, memory))
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
        return _rebuilt(fresh, (carry(x, y, places) for x, y in zip(memory, fresh, strict=True)))
    return memory


def _named(x: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the Vecs and scalars of a state, each with its path."""
    if isinstance(x, tuple):
        for path, part in _parts(x, name):
            yield from _named(part, path)
    else:
        yield name, x


def _parts(x: tuple[Any, ...], name: str) -> list[tuple[str, Any]]:
    fields = getattr(x, "_fields", range(len(x)))
    return [(f"{name}.{field}", part) for field, part in zip(fields, x, strict=True)]


def _rebuilt(like: Any, parts: Iterable[Any]) -> Any:
    return type(like)(*parts) if hasattr(like, "_fields") else tuple(parts)


def _entry(name: str, entries: Mapping[str, Any]) -> Any:
    if name not in entries:
        raise ValueError(
            f"the checkpoint has no {name!r}, which this optimizer remembers: it was written for another variant or "
            "other parameters"
        )
    return entries[name]


def _tensor(name: str, entries: Mapping[str, Tensor], like: Tensor) -> Tensor:
    x = _entry(name, entries)
    if x.shape != like.shape:
        raise ValueError(
            f"the checkpoint's {name!r} has a tensor of shape {tuple(x.shape)} where this optimizer's has "
            f"{tuple(like.shape)}: it was written for other parameters"
        )
    return torch.empty_like(like).copy_(x)
