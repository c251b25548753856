"""Memory of the parameters' size, kept from step to step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from samfamily.space import Leaves, Scalar
from samfamily_torch.foreach import add_into, beyond, copy_into, read, two_norms

SMALL = 2**14
"""Entries of a leaf below which, on a CPU, a call costs more than its arithmetic."""
CACHED = 2**22
"""Entries of a tree below which, on a CPU, one more pass over it costs little."""
FEW = 4
"""How many leaves of a larger tree, the largest, are worth a call of their own that saves them two passes."""
ALIGNMENT = 64
"""Bytes: PyTorch's allocator begins a tensor at a multiple of these."""


class Buffer:
    """Memory for one tree of leaves.

    Fresh memory costs a CPU more than a pass over it, and what an accelerator has captured knows addresses.  On a CPU
    the small leaves of a tree lie side by side in one tensor for each dtype.

    Args:
        like: leaves of the same shapes, dtypes and devices.

    Attributes:
        leaves: the memory.
    """

    leaves: Leaves

    def __init__(self, like: Leaves) -> None:
        self._kinds = [(x.dtype, x.numel()) for x in like]
        self._holds: Leaves | None = None
        cpu = all(type(x) is Tensor and x.device.type == "cpu" for x in like)
        cached = sum(x.numel() for x in like) < CACHED
        memory: dict[int, Tensor] = {}
        self._packs: list[tuple[Tensor, list[int]]] = []
        for dtype in {x.dtype for x in like} if cpu and cached else ():
            small = [i for i, x in enumerate(like) if x.dtype is dtype and x.numel() < SMALL and x.is_contiguous()]
            small.sort(key=lambda i: like[i].nbytes % ALIGNMENT > 0)  # so that all but the last begin where they should
            if small:
                pack, parts = _pack(_pick(like, small))
                self._packs.append((pack, small))
                memory |= zip(small, parts, strict=True)
        self._unpacked = [i for i in range(len(like)) if i not in memory]
        by_size = sorted(self._unpacked, key=lambda i: -like[i].numel())
        self._alone = by_size[:FEW] if cpu and not cached else []
        self._together = [i for i in range(len(like)) if i not in self._alone]
        self.leaves = tuple(memory[i] if i in memory else torch.empty_like(x) for i, x in enumerate(like))

    def write(self, a: Scalar, x: Leaves, y: Leaves) -> None:
        """Write a x + y here."""
        a, out, left = read(a), self.leaves, self._together
        held, self._holds = self._holds is x, None
        if isinstance(a, Tensor) or beyond(a, out):
            add_into(out, a, x, y)
            return
        for i in self._alone:
            torch.add(y[i], x[i], alpha=a, out=out[i])
        if held:
            for pack, small in self._packs:
                pack.mul_(a)
                torch._foreach_add_(_pick(out, small), _pick(y, small))
            left = self._unpacked
        if left:
            add_into(_pick(out, left), a, _pick(x, left), _pick(y, left))

    def two_norms(self, x: Leaves) -> list[Tensor]:
        """Return 2-norms of the parts of a tree of this kind, for which what is written here is lost."""
        norms: list[Tensor] = []
        for pack, small in self._packs:
            copy_into(_pick(self.leaves, small), _pick(x, small))
            norms += two_norms([pack])
        self._holds = x if self._packs else None  # a sum a x + y that comes next finds x here
        return norms + two_norms(_pick(x, self._unpacked))

    def forget(self) -> None:
        """Let go of what `two_norms` was asked about."""
        self._holds = None

    def fits(self, x: Leaves) -> bool:
        """Tell whether a tree is of this kind."""
        return [(u.dtype, u.numel()) for u in x] == self._kinds


def _pick(leaves: Sequence[Tensor], places: Sequence[int]) -> list[Tensor]:
    return [leaves[i] for i in places]


def _pack(like: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Return a tensor and its parts in the shapes of `like`."""
    sizes = [x.numel() for x in like]
    pack = like[0].new_empty(sum(sizes))
    return pack, [part.view(x.shape) for part, x in zip(pack.split(sizes), like, strict=True)]
