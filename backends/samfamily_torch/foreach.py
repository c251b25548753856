"""Sums and norms of whole trees in few calls, and without reading a scalar that is not on a CPU."""

from __future__ import annotations

from functools import cache
from math import hypot
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor

from samfamily.space import Scalar

Tensors: TypeAlias = list[Tensor] | tuple[Tensor, ...]
"""What PyTorch takes for a list of tensors."""

LARGE = 2**18
"""Entries of a leaf from which, on a CPU, two passes over it cost more than a call."""
HALF = 65504.0
"""The largest float16: a number up to here is in the range of every dtype."""


def read(a: Scalar) -> Scalar:
    """Return a scalar on a CPU as a number, which costs nothing there; elsewhere it stays where it is."""
    return a.item() if isinstance(a, Tensor) and a.device.type == "cpu" else a


def whole(a: Tensor) -> Tensor:
    """Return a tensor with what every process has of it put together; one that is not spread comes back as it is."""
    return cast("Any", a).full_tensor() if hasattr(a, "full_tensor") else a


def spread_like(a: Tensor, like: Tensor) -> Tensor:
    """Return a whole tensor that all processes have as `like` is spread over them; as it is where that is not."""
    if not hasattr(like, "device_mesh"):
        return a
    from torch.distributed.tensor import DTensor, Replicate

    spread: Any = like
    mesh = spread.device_mesh
    copies: Any = DTensor.from_local(a, mesh, [Replicate()] * mesh.ndim)
    return cast("Tensor", copies.redistribute(placements=spread.placements))


def beyond(a: Scalar, leaves: Tensors) -> bool:
    """Tell whether a scalar may be out of a leaf's range where a u is not, as rho / n of a tiny gradient is."""
    if isinstance(a, Tensor):
        return any(u.dtype is torch.float16 for u in leaves)
    return abs(a) > HALF and any(abs(a) > torch.finfo(u.dtype).max for u in leaves)


def copy_into(out: Tensors, x: Tensors) -> None:
    """Copy x into `out`."""
    if all(type(o) is Tensor for o in out):
        torch._foreach_copy_(out, x)
    else:  # a DTensor knows no copy of lists
        for o, u in zip(out, x, strict=True):
            o.copy_(u)


def add_into(out: Tensors, a: Scalar, x: Tensors, y: Tensors) -> None:
    """Write a x + y into `out`, which may be `y`, in its dtypes."""
    a = read(a)
    if beyond(a, out):
        for o, u, v in zip(out, x, y, strict=True):
            o.copy_(v.double() + u.double() * a)
    elif isinstance(a, Tensor):
        _add_on_device(out, a, x, y)
    elif out is y:
        torch._foreach_add_(out, x, alpha=a)
    else:
        small = [i for i, o in enumerate(out) if o.numel() < LARGE or type(o) is not Tensor or o.device.type != "cpu"]
        if len(small) < len(out):
            for i in set(range(len(out))) - set(small):
                torch.add(y[i], x[i], alpha=a, out=out[i])
            out, x, y = ([leaves[i] for i in small] for leaves in (out, x, y))
        if small:
            copy_into(out, y)
            torch._foreach_add_(out, x, alpha=a)


def _add_on_device(out: Tensors, a: Tensor, x: Tensors, y: Tensors) -> None:
    """Write a x + y into `out`, where `a` is not read."""
    dtypes = {u.dtype for u in (*out, *x)}
    if len(dtypes) > 1:
        for o, u, v in zip(out, x, y, strict=True):
            torch.addcmul(v, u, a, out=o)
        return
    a = a.to(dtypes.pop())
    if out is y:
        torch._foreach_add_(out, torch._foreach_mul(x, a))
    else:
        copy_into(out, x)
        torch._foreach_mul_(out, a)
        torch._foreach_add_(out, y)


def two_norms(x: Tensors) -> list[Tensor]:
    """Return the leaves' 2-norms: accumulated in their own precision or float32 on a CPU, in float64 elsewhere."""
    if len({u.dtype for u in x}) > 1:
        return [norm for u in x for norm in two_norms([u])]
    if not x:
        return []
    narrowest = torch.float32 if x[0].device.type == "cpu" else torch.float64
    return list(torch._foreach_norm(x, 2, dtype=_wider(x[0].dtype, narrowest)))


@cache
def _wider(dtype: torch.dtype, other: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, other)


@cache
def spacing(dtype: torch.dtype) -> float:
    """Return the spacing of the numbers at 1."""
    return torch.finfo(dtype).eps


def two_norm(parts: Tensors) -> Scalar:
    """Return the 2-norm of a whole from those of its parts, in float64; on a CPU it is read."""
    if len({norm.dtype for norm in parts}) > 1:
        parts = [norm.double() for norm in parts]
    if parts[0].device.type == "cpu" and type(parts[0]) is Tensor:
        return hypot(*torch.stack(list(parts)).tolist())
    return whole(torch.linalg.vector_norm(torch.stack(list(parts)), dtype=torch.float64))
