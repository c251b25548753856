"""The PyTorch space: a parameter tree is a tuple of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import inf, pi
from typing import Any

import torch
from torch import Tensor

from samfamily.space import SMALLEST_NORMAL, Array, Leaf, Leaves, Scalar, Space
from samfamily_torch.foreach import Tensors, add_into, beyond, read, spacing, spread_like, two_norm, two_norms, whole


class TorchSpace(Space):
    r"""The space of tuples of tensors, with \(\langle x, y\rangle = \mathrm{Re} \sum_{l,i} \bar x_{li}\,y_{li}\).

    Args:
        leaves: one `Leaf` for each tensor, or how many of them there are if nothing is known of them.

    Attributes:
        home: leaves of the live parameters; a sum on them is `Displaced`.

    Example:
        >>> import torch
        >>> space, x = TorchSpace(1), (torch.full((4,), 3e4, dtype=torch.float16),)
        >>> float(space.norm(x, 2)), bool((x[0] ** 2).isinf().all())  # the norm is in range, the squares are not
        (60000.0, True)
    """

    home: Leaves | None = None

    def __init__(self, leaves: int | Sequence[Leaf]) -> None:
        self.leaves = (Leaf(),) * leaves if isinstance(leaves, int) else tuple(leaves)

    def scale(self, a: Scalar, x: Leaves) -> Leaves:
        """See `Space.scale`."""
        a = read(a)
        if isinstance(a, Tensor) or beyond(a, x):
            return tuple((u.double() * a).to(u.dtype) if beyond(a, (u,)) else (a * u).to(u.dtype) for u in x)
        return tuple(torch._foreach_mul(tuple(x), a))

    def axpby(self, a: Scalar, x: Leaves, b: Scalar, y: Leaves) -> Leaves:
        """See `Space.axpby`."""
        a, x = read(a), tuple(x)
        if not (isinstance(b, int | float) and b == 1):
            y = self.scale(b, y)
            add_into(y, a, x, y)
            return y
        if y is self.home:
            displaced: Any = Displaced(a, x, y)
            return displaced
        y = tuple(y)
        if isinstance(a, Tensor) or beyond(a, y):
            out = tuple(torch.empty_like(v) for v in y)
            add_into(out, a, x, y)
            return out
        return _in_dtypes(torch._foreach_add(y, x, alpha=a), y)

    def multiply(self, x: Leaves, y: Leaves) -> Leaves:
        """See `Space.multiply`."""
        if not all(isinstance(u, Tensor) for u in x):
            return tuple((u * v).to(v.dtype) for u, v in zip(x, y, strict=True))
        return _in_dtypes(torch._foreach_mul(tuple(x), tuple(y)), y)

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
        cpu = filled[0].device.type == "cpu"
        if q == 2 and (cpu or all(u.dtype is not torch.float64 for u in filled)):
            n = read(two_norm(two_norms(filled)))
            if isinstance(n, Tensor) or 1e-15 < n < 1e15:
                return n
        largest = whole(torch.stack([_largest(u) for u in filled]).max())
        if q == inf:
            return largest
        unit = _unit(largest)
        return unit * _total([torch.sum((u.abs() / unit) ** q) for u in _wide(filled)]) ** (1 / q)

    def sign(self, x: Array) -> Array:
        """See `Space.sign`."""
        return torch.sgn(x)

    def where(self, condition: Scalar, a: Scalar, b: Scalar) -> Scalar:
        """See `Space.where`."""
        if isinstance(condition, bool):
            return a if condition else b
        return torch.where(condition, a, b)

    def divide(self, a: Scalar, b: Scalar) -> Scalar:
        """See `Space.divide`."""
        a, b = read(a), read(b)
        if not isinstance(b, Tensor):
            return super().divide(a, b)
        quotient = b.reciprocal() if isinstance(a, float) and a == 1 else a / b
        return torch.where(b > SMALLEST_NORMAL, quotient, 0.0)

    def rounding(self, x: Leaves) -> float:
        """See `Space.rounding`."""
        return max(map(spacing, {u.dtype for u in x}), default=0.0)

    def threshold(self, x: Leaves, k: int) -> Scalar:
        """See `Space.threshold`."""
        return torch.topk(torch.cat([whole(u.abs()).reshape(-1) for u in x]), k).values[-1]

    def cumulative(self, mask: Array) -> Array:
        """See `Space.cumulative`."""
        return spread_like(super().cumulative(whole(mask)), mask)

    def counter(self, start: Scalar, like: Array | None) -> Array:
        """See `Space.counter`."""
        if like is None:
            return torch.as_tensor(start, dtype=torch.int64)
        return torch.arange(like.numel(), dtype=torch.int64, device=like.device).reshape(like.shape) + start

    def normal(self, u: Array, v: Array, like: Array) -> Array:
        """See `Space.normal`."""
        u, v = (x.to(torch.promote_types(like.dtype, torch.float32)) for x in (u, v))
        return spread_like((torch.sqrt(-2 * torch.log(u)) * torch.cos(2 * pi * v)).to(like.dtype), like)


class Displaced(Sequence[Tensor]):
    """The leaves of a x + w, where w are those of the live parameters: computed when they are looked at.

    Whoever only wants the parameters to stand there has them written into memory that is there already.
    """

    def __init__(self, a: Scalar, x: Leaves, w: Leaves) -> None:
        self._sum: tuple[Scalar, Leaves, Leaves] | None = (a, x, w)
        self._leaves: Leaves | None = None

    def write(self, out: Leaves) -> None:
        """Write them into `out`, which may be w itself."""
        add_into(out, *self._terms)

    def release(self) -> None:
        """Let go of everything: nobody looks at this point again."""
        self._sum = self._leaves = None

    @property
    def _terms(self) -> tuple[Scalar, Leaves, Leaves]:
        if self._sum is None:
            raise RuntimeError("a point that the program had its gradient at was let go: compute it again, w + epsilon")
        return self._sum

    def __len__(self) -> int:
        return len(self._terms[2])

    def __getitem__(self, i: Any) -> Any:
        if self._leaves is None:
            a, x, w = self._terms
            self._leaves = tuple(torch.empty_like(v) for v in w)
            add_into(self._leaves, a, x, w)
        return self._leaves[i]


def _in_dtypes(x: Tensors, y: Leaves) -> Leaves:
    """Return the leaves of x in the dtypes of y."""
    return tuple(u if u.dtype is v.dtype else u.to(v.dtype) for u, v in zip(x, y, strict=True))


def _wide(x: Sequence[Tensor]) -> Leaves:
    """Return the leaves in float32 or the widest of their dtypes: a scalar that fits one would overflow another."""
    dtype = reduce(torch.promote_types, (u.dtype for u in x), torch.float32)
    return tuple(u.to(dtype) for u in x)


def _largest(x: Tensor) -> Tensor:
    if x.is_complex():
        return x.abs().max().double()
    low, high = torch.aminmax(x)
    return torch.maximum(-low, high).double()


def _unit(largest: Tensor) -> Tensor:
    """Return what to divide by before taking powers: the largest entry, or 1 where that is 0 or not finite."""
    return torch.where((largest > 0) & largest.isfinite(), largest, 1.0)


def _total(parts: Sequence[Tensor]) -> Tensor:
    return whole(torch.stack([part.double() for part in parts]).sum())
