r"""Noise that is a function of a seed, the step, the leaf and the index alone.

Whoever computes it gets the same numbers: every framework, every process, every resumed run.  Each index is hashed on
32 bits (the finaliser of MurmurHash3, twice, with two keys), which makes a uniform of 23 bits, exact in float32; two
uniforms make a normal by Box and Muller.
"""

from __future__ import annotations

from collections.abc import Iterator

from samfamily.space import Array, Scalar, Space, Vec

LOW_32_BITS = 0xFFFFFFFF
GOLDEN_RATIO = 0x9E3779B9


def normal(like: Vec, seed: int, step: Scalar) -> Vec:
    """Return independent standard normal entries in the shape and dtypes of `like`."""
    space = like.space

    def leaf(x: Array, keys: Iterator[int]) -> Array:
        u, v = (_uniform(space, seed, step, next(keys), x) for _ in range(2))
        return space.normal(u, v, x)

    keys = iter(range(1, 2 * len(like.leaves) + 1))
    return Vec(space, tuple(leaf(x, keys) for x in like.leaves))


def uniform(space: Space, seed: int, step: Scalar, stream: int = 0) -> Scalar:
    """Return one number that is uniform on (0, 1); different streams are independent."""
    return _uniform(space, seed, step, stream, None)


def _uniform(space: Space, seed: int, step: Scalar, stream: int, like: Array | None) -> Array:
    key = _mix(space.counter(seed, None) + GOLDEN_RATIO * stream % 2**32)
    other = _mix(key ^ _mix(space.counter(step, None) + GOLDEN_RATIO))
    bits = _mix(_mix(space.counter(0, like) + key) ^ other)
    return ((bits >> 9) + 0.5) * 2.0**-23


def _mix(x: Array) -> Array:
    """Return a bijection of the 32-bit integers in which every bit of x moves half of the result."""
    x = x & LOW_32_BITS
    x = (x ^ (x >> 16)) * 0x85EBCA6B & LOW_32_BITS
    x = (x ^ (x >> 13)) * 0xC2B2AE35 & LOW_32_BITS
    return x ^ (x >> 16)
