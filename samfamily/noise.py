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
    key = _mix(space, space.counter((seed + GOLDEN_RATIO * stream) % 2**32, None))
    other = _mix(space, key ^ _mix(space, space.counter(step, None) + space.counter(GOLDEN_RATIO, None)))
    bits = _mix(space, _mix(space, space.counter(0, like) + key) ^ other)
    return ((bits >> 9) + 0.5) * 2.0**-23


def _mix(space: Space, x: Array) -> Array:
    """Return a bijection of the 32-bit integers in which every bit of x moves half of the result."""
    low, first, second = (space.counter(constant, None) for constant in (LOW_32_BITS, 0x85EBCA6B, 0xC2B2AE35))
    x = x & low
    x = (x ^ (x >> 16)) * first & low
    x = (x ^ (x >> 13)) * second & low
    return x ^ (x >> 16)
