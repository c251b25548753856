"""The JAX space: a parameter tree is a tuple of arrays, and a Vec is a pytree."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from math import inf

import jax
import jax.numpy as jnp
import numpy as np

from samfamily.space import Array, Leaf, Leaves, Scalar, Space, Vec


@dataclass(frozen=True)
class JaxSpace(Space):
    r"""The space of tuples of JAX arrays, with \(\langle x, y\rangle = \mathrm{Re} \sum_{l,i} \bar x_{li}\,y_{li}\).

    Attributes:
        leaves: one `Leaf` for each array.

    Example:
        >>> import jax.numpy as jnp
        >>> space, x = JaxSpace((Leaf("w"),)), (jnp.full(4, 3e4, jnp.float16),)
        >>> float(space.norm(x, 2)), bool(jnp.isinf(x[0] ** 2).all())  # the norm is in range, the squares are not
        (60000.0, True)
    """

    leaves: tuple[Leaf, ...]
    eager = False

    def scale(self, a: Scalar, x: Leaves) -> Leaves:
        """See `Space.scale`."""
        return tuple((a * u).astype(u.dtype) for u in x)

    def axpby(self, a: Scalar, x: Leaves, b: Scalar, y: Leaves) -> Leaves:
        """See `Space.axpby`."""
        return tuple((a * u + b * v).astype(v.dtype) for u, v in zip(x, y, strict=True))

    def multiply(self, x: Leaves, y: Leaves) -> Leaves:
        """See `Space.multiply`."""
        return tuple((u * v).astype(v.dtype) for u, v in zip(x, y, strict=True))

    def inner(self, x: Leaves, y: Leaves) -> Scalar:
        """See `Space.inner`."""
        a, b = _unit(self.norm(x, inf)), _unit(self.norm(y, inf))
        parts = (jnp.sum(jnp.conj(_wide(u) / a) * (_wide(v) / b)).real for u, v in zip(x, y, strict=True))
        return a * (b * _total(parts))

    def norm(self, x: Leaves, q: float) -> Scalar:
        """See `Space.norm`."""
        filled = [_wide(u) for u in x if u.size]
        if q == 2 and filled:
            return jax.lax.platform_dependent(filled, cpu=_two_norm_in_one_pass, default=_two_norm)
        return _norm(filled, q)

    def sign(self, x: Array) -> Array:
        """See `Space.sign`."""
        return jnp.sign(x)

    def where(self, condition: Scalar, a: Scalar, b: Scalar) -> Scalar:
        """See `Space.where`."""
        return jnp.where(condition, a, b)

    def rounding(self, x: Leaves) -> float:
        """See `Space.rounding`."""
        return max((float(jnp.finfo(u.dtype).eps) for u in x), default=0.0)

    def pinned(self, x: Leaves) -> Leaves:
        """See `Space.pinned`."""
        return tuple(jax.lax.optimization_barrier(tuple(x)))

    def threshold(self, x: Leaves, k: int) -> Scalar:
        """See `Space.threshold`."""
        return jnp.sort(jnp.concatenate([jnp.abs(_wide(u)).ravel() for u in x]))[-k]

    def counter(self, start: Scalar, like: Array | None) -> Array:
        """See `Space.counter`."""
        shape = () if like is None else like.shape
        first = np.uint32(start) if isinstance(start, int) else jnp.asarray(start).astype(jnp.uint32)
        return jnp.arange(math.prod(shape), dtype=jnp.uint32).reshape(shape) + first

    def normal(self, u: Array, v: Array, like: Array) -> Array:
        """See `Space.normal`."""
        u, v = (x.astype(jnp.promote_types(like.dtype, jnp.float32)) for x in (u, v))
        return (jnp.sqrt(-2 * jnp.log(u)) * jnp.cos(2 * jnp.pi * v)).astype(like.dtype)


def _wide(x: Array) -> Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _norm(x: Sequence[Array], q: float) -> Scalar:
    """Return the q-norm in two passes: one for the largest entry, by which all are divided before powers are taken."""
    largest = reduce(jnp.maximum, (jnp.max(jnp.abs(u)) for u in x), jnp.zeros(()))
    if q == inf:
        return jnp.where(largest == 0, 0.0, largest)  # JAX's |x| has slope 1 at 0
    unit = _unit(largest)
    total = _total(_squares(u, 1 / unit) if q == 2 else jnp.sum((jnp.abs(u) / unit) ** q) for u in x)
    root = jnp.where(total == 0, 1.0, total) ** (1 / q)  # the root of 0 has no derivative; the norm's is taken as 0
    return jnp.where(total == 0, 0.0, unit * root)


def _two_norm(x: Sequence[Array]) -> Scalar:
    return _norm(x, 2)


def _two_norm_in_one_pass(x: Sequence[Array]) -> Scalar:
    """Return the 2-norm in one pass where no square is out of range, and else in two.

    A branch costs a CPU nothing; an accelerator would have to wait for it, and passes over memory faster.
    """
    total = _total(_squares(u) for u in x)
    return jax.lax.cond((total > 1e-20) & (total < 1e38), _root, _two_norm_instead, total, x)


def _root(total: Scalar, x: Sequence[Array]) -> Scalar:
    return jnp.sqrt(jnp.where(total > 0, total, 1.0))  # under vmap this is computed also where it is not taken


def _two_norm_instead(total: Scalar, x: Sequence[Array]) -> Scalar:
    return _norm(x, 2)


def _squares(x: Array, unit: Scalar = 1.0) -> Scalar:
    r"""Return the sum of \(|x / unit|^2\), given 1 / unit."""
    if jnp.iscomplexobj(x):
        return _squares(x.real, unit) + _squares(x.imag, unit)
    return jnp.sum(jnp.square(x * unit))


def _unit(largest: Scalar) -> Scalar:
    """Return what to divide by before taking powers: the largest entry, or 1 where that is 0 or not finite.

    At most a quarter of the largest number, so that its reciprocal is not flushed to zero.
    """
    unit = jnp.minimum(largest, float(jnp.finfo(largest.dtype).max) / 4)
    return jax.lax.stop_gradient(jnp.where((largest > 0) & jnp.isfinite(largest), unit, 1.0))


def _total(parts: Iterable[Scalar]) -> Scalar:
    return sum(parts, jnp.zeros(()))


def _flatten(v: Vec) -> tuple[tuple[Leaves], Space]:
    return (v.collapse(),), v.space


def _unflatten(space: Space, children: tuple[Leaves]) -> Vec:
    return Vec(space, children[0])


jax.tree_util.register_pytree_node(Vec, _flatten, _unflatten)
