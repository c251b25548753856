r"""The vertices of the balls of p = 1 and p = inf, where a convex quadratic attains its maximum."""

from __future__ import annotations

from math import inf

import numpy as np

from samfamily.space import Array

ENUMERABLE = 20
"""The largest n for which 2^n vertices are visited."""


def best_axis(a: Array, H: Array, rho: float) -> Array:
    r"""Return the best of \(\pm\rho e_i\)."""
    best = int(np.argmax(abs(a) + 0.5 * rho * np.diag(H)))
    return rho * np.where(np.arange(a.size) == best, np.where(a < 0, -1.0, 1.0), 0.0)


def best_corner(a: Array, H: Array, rho: float) -> Array:
    r"""Return the best of \(\{\pm\rho\}^n\)."""
    n = a.size
    if n > ENUMERABLE:
        raise ValueError(
            f"p = inf has 2^n vertices, and n = {n} is more than the {ENUMERABLE} that are enumerated: use maximize "
            "for a lower bound, and gap_bound for an upper one"
        )
    best, corner = -inf, a
    block = 1 << min(n, 12)
    for start in range(0, 1 << n, block):
        bits = (np.arange(start, start + block)[:, None] >> np.arange(n)) & 1
        corners = rho * (2.0 * bits - 1)
        values = corners @ a + 0.5 * np.einsum("ki,ij,kj->k", corners, H, corners, optimize=True)
        if values.max() > best:
            best, corner = float(values.max()), corners[int(np.argmax(values))]
    return corner
