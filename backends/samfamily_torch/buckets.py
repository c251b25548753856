"""A step's result, sent to the other processes while the backward pass that makes it goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from samfamily.space import Vec

Send = Callable[[Tensor], Any]
"""Begins to sum a tensor over processes, in place, and returns what can be waited for."""


class Buckets:
    """The mean over processes of what a step makes of its gradients, sent in pieces.

    All processes send the same pieces in the same order, and each may do so when it likes: during the last backward
    pass as long as that is where its result comes from, or after it.  So whether a process climbs, which
    parameters it uses and what its closure does after the backward pass are its own affair.

    Args:
        parameters: what the gradient is of.
        capacity: bytes in a piece, unless one parameter has more.
        size: how many processes there are.
        send: how a piece is sent.

    Attributes:
        changed: whether a gradient is another than when it was sent.
    """

    changed: bool

    def __init__(self, parameters: Sequence[Tensor], capacity: int, size: int, send: Send) -> None:
        self._parameters, self._size, self._start = parameters, size, send
        self._pieces = pieces(parameters, capacity)
        self._sent: list[tuple[Tensor, Any]] = []
        self.changed = False

    @contextmanager
    def sending(self, unscale: float | Tensor, earlier: Vec | None, shards: int) -> Iterator[None]:
        """Hold the pass whose gradient is the last shard's result, and send what is there as soon as it is.

        Args:
            unscale: what the gradient is multiplied with.
            earlier: the sum of the other shards' results, if there are any.
            shards: how many there are.

        Yields:
            Nothing.
        """
        before, share = None if earlier is None else earlier.collapse(), 1 / (shards * self._size)
        there: set[int] = set()
        seen: list[tuple[Tensor, Tensor, int]] = []

        @torch.no_grad()
        def arrived(i: int, _: Tensor) -> None:
            there.add(i)
            while len(self._sent) < len(self._pieces) and there.issuperset(piece := self._pieces[len(self._sent)]):
                gradients: list[Any] = [self._parameters[i].grad for i in piece]
                seen.extend((self._parameters[i], g, g._version) for i, g in zip(piece, gradients, strict=True))
                flat = _flat([g.to_dense() for g in gradients]).mul_(unscale * share)
                self._send(flat if before is None else flat.add_(_flat([before[i] for i in piece]), alpha=share))

        hooks = [p.register_post_accumulate_grad_hook(partial(arrived, i)) for i, p in enumerate(self._parameters)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
        self.changed = any(p.grad is not g or g._version != version for p, g, version in seen)

    def mean(self, result: Vec) -> Vec:
        """Return the mean of the processes' results; what was not sent yet is sent from this process's here."""
        for piece in self._pieces[len(self._sent) :]:
            leaves = result.collapse()
            self._send(_flat([leaves[i] for i in piece]).div_(self._size))
        found: dict[int, Tensor] = {}
        for piece, (flat, work) in zip(self._pieces, self._sent, strict=True):
            work.wait()
            parts = flat.split([self._parameters[i].numel() for i in piece])
            found |= {i: x.view(self._parameters[i].shape) for i, x in zip(piece, parts, strict=True)}
        return Vec(result.space, tuple(found[i] for i in range(len(found))))

    def _send(self, flat: Tensor) -> None:
        self._sent.append((flat, self._start(flat)))


def pieces(parameters: Sequence[Tensor], capacity: int) -> list[list[int]]:
    """Return the places of the parameters of each piece, the last ones first, as a backward pass comes to them."""
    found: list[list[int]] = []
    kind, room = None, 0
    for i, x in reversed(list(enumerate(parameters))):
        if (x.dtype, x.device) != kind or x.nbytes > room:
            found.append([])
            kind, room = (x.dtype, x.device), capacity
        found[-1].append(i)
        room -= x.nbytes
    return found


def _flat(leaves: Sequence[Tensor]) -> Tensor:
    return torch.cat([x.reshape(-1) for x in leaves])
