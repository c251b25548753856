"""The PyTorch space: a parameter tree is a tuple of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import inf, pi

import torch
from torch import Tensor

from samfamily.space import Array, Leaf, Leaves, Scalar, Space


class TorchSpace(Space):
    """The space of tuples of tensors.

    A fresh allocation costs more than a pass over memory on a CPU, so leaves that are out of use can be handed back
    with `recycle`, and become the next sum.

    Args:
        leaves: one `Leaf` for each tensor, or how many of them there are if nothing is known of them.
    """

    def __init__(self, leaves: int | Sequence[Leaf]) -> None:
        self.leaves = (Leaf(),) * leaves if isinstance(leaves, int) else tuple(leaves)
        self._spare: Leaves | None = None

    def recycle(self, x: Leaves) -> None:
        """Take back leaves that nobody will read again."""
        self._spare = x

    def scale(self, a: Scalar, x: Leaves) -> Leaves:
        """See `Space.scale`."""
        a = _read(a)
        return tuple((u.double() * a).to(u.dtype) if _beyond(a, u) else (a * u).to(u.dtype) for u in x)

    def axpby(self, a: Scalar, x: Leaves, b: Scalar, y: Leaves) -> Leaves:
        """See `Space.axpby`."""
        if not (isinstance(b, int | float) and b == 1):
            y = self.scale(b, y)
        out, self._spare = self._spare or tuple(torch.empty_like(v) for v in y), None
        a = _read(a)
        for u, v, o in zip(x, y, out, strict=True):
            if _beyond(a, v):
                o.copy_(v.double() + u.double() * a)
            elif isinstance(a, Tensor):
                torch.addcmul(v, u, a, out=o)
            else:
                torch.add(v, u, alpha=a, out=o)
        return out

    def multiply(self, x: Leaves, y: Leaves) -> Leaves:
        """See `Space.multiply`."""
        return tuple((u * v).to(v.dtype) for u, v in zip(x, y, strict=True))

    def inner(self, x: Leaves, y: Leaves) -> Scalar:
        """See `Space.inner`."""
        a, b = _unit(self.norm(x, inf)), _unit(self.norm(y, inf))
        x, y = _wide(x), _wide(y)
        parts = [torch.sum((u / a).conj() * (v / b)).real for u, v in zip(x, y, strict=True)]
        return a * (b * _total(parts))

    def norm(self, x: Leaves, q: float) -> Scalar:
        """See `Space.norm`.  The 2-norm takes one pass; a second one rescales what squares out of the dtype's range."""
        filled = [u for u in x if u.numel()]
        if not filled:
            return torch.zeros((), dtype=torch.float64)
        if q == 2 and (filled[0].device.type == "cpu" or all(u.dtype is not torch.float64 for u in filled)):
            n = torch.linalg.vector_norm(torch.stack([_two_norm(u) for u in filled]))
            if n.device.type != "cpu" or 1e-15 < n < 1e15:
                return n
        largest = torch.stack([_largest(u) for u in filled]).max()
        if q == inf:
            return largest
        unit = _unit(largest)
        return unit * _total([torch.sum((u.abs() / unit) ** q) for u in _wide(filled)]) ** (1 / q)

    def sign(self, x: Array) -> Array:
        """See `Space.sign`."""
        return torch.sgn(x)

    def where(self, condition: Scalar, a: Scalar, b: Scalar) -> Scalar:
        """See `Space.where`."""
        return torch.where(condition, a, b)

    def rounding(self, x: Leaves) -> float:
        """See `Space.rounding`."""
        return max((torch.finfo(u.dtype).eps for u in x), default=0.0)

    def threshold(self, x: Leaves, k: int) -> Scalar:
        """See `Space.threshold`."""
        return torch.topk(torch.cat([u.abs().reshape(-1) for u in x]), k).values[-1]

    def counter(self, start: Scalar, like: Array | None) -> Array:
        """See `Space.counter`."""
        if like is None:
            return torch.as_tensor(start, dtype=torch.int64)
        return torch.arange(like.numel(), dtype=torch.int64, device=like.device).reshape(like.shape) + start

    def normal(self, u: Array, v: Array, like: Array) -> Array:
        """See `Space.normal`."""
        u, v = (x.to(torch.promote_types(like.dtype, torch.float32)) for x in (u, v))
        return (torch.sqrt(-2 * torch.log(u)) * torch.cos(2 * pi * v)).to(like.dtype)


def _read(a: Scalar) -> Scalar:
    """Return a scalar on a CPU as a number, which costs nothing there; elsewhere it stays where it is."""
    return a.item() if isinstance(a, Tensor) and a.device.type == "cpu" else a


def _beyond(a: Scalar, u: Tensor) -> bool:
    """Tell whether a scalar may be out of a leaf's range where a u is not, as rho / n of a tiny gradient is."""
    return u.dtype is torch.float16 if isinstance(a, Tensor) else abs(a) > torch.finfo(u.dtype).max


def _wide(x: Sequence[Tensor]) -> Leaves:
    """Return the leaves in float32 or the widest of their dtypes: a scalar that fits one would overflow another."""
    dtype = reduce(torch.promote_types, (u.dtype for u in x), torch.float32)
    return tuple(u.to(dtype) for u in x)


def _two_norm(x: Tensor) -> Tensor:
    """Return one leaf's 2-norm: accumulated in its own precision or float32 on a CPU, in float64 elsewhere."""
    narrowest = torch.float32 if x.device.type == "cpu" else torch.float64
    return torch.linalg.vector_norm(x, dtype=torch.promote_types(x.dtype, narrowest)).double()


def _largest(x: Tensor) -> Tensor:
    if x.is_complex():
        return x.abs().max().double()
    low, high = torch.aminmax(x)
    return torch.maximum(-low, high).double()


def _unit(largest: Tensor) -> Tensor:
    """Return what to divide by before taking powers: the largest entry, or 1 where that is 0 or not finite."""
    return torch.where((largest > 0) & largest.isfinite(), largest, 1.0)


def _total(parts: Sequence[Tensor]) -> Tensor:
    return torch.stack([part.double() for part in parts]).sum()
