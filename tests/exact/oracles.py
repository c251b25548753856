"""What the exact maximum is held to: plain, slow, and made otherwise."""

from __future__ import annotations

from itertools import product
from math import inf
from typing import Any

import numpy as np


def model(g: Any, H: Any, e: Any) -> Any:
    """Return the quadratic at a point, or at every row of a matrix."""
    return e @ g + 0.5 * np.sum((e @ H) * e, axis=-1)


def p_norms(x: Any, p: float) -> Any:
    return np.max(abs(x), axis=-1) if p == inf else np.sum(abs(x) ** p, axis=-1) ** (1 / p)


def on_the_sphere(n: int, rho: float, count: int, seed: int = 0, p: float = 2) -> Any:
    x = np.random.default_rng(seed).normal(size=(count, n))
    return rho * x / p_norms(x, p)[:, None]


def projected_ascent(g: Any, H: Any, rho: float, starts: int = 20, steps: int = 200) -> float:
    """Return the best that projected gradient ascent finds in the Euclidean ball, with steps of 1 / |H|."""
    e = on_the_sphere(len(g), rho, starts, seed=1)
    e[0] = 0
    step = 1 / max(float(np.linalg.norm(H, 2)), float(np.linalg.norm(g)) / rho, 1e-300)
    for _ in range(steps):
        e = e + step * (g + e @ H)
        e = e * np.minimum(1, rho / np.maximum(p_norms(e, 2), 1e-300))[:, None]
    return float(np.max(model(g, H, e)))


def pencil(g: Any, H: Any, rho: float) -> float:
    r"""Return the multiplier as the largest real eigenvalue of \([[H, I], [g g' / rho^2, H]]\)."""
    n = len(g)
    big = np.block([[H, np.eye(n)], [np.outer(g, g) / rho**2, H]])
    eigenvalues = np.linalg.eigvals(big)
    return float(np.max(eigenvalues.real[abs(eigenvalues.imag) <= 1e-6 * np.max(abs(eigenvalues))]))


def corners(n: int) -> Any:
    return np.array(list(product([-1.0, 1.0], repeat=n))).reshape(-1, n)


def axes(n: int) -> Any:
    return np.concatenate([np.eye(n), -np.eye(n)])
