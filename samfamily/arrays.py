r"""What comes in as plain arrays, checked: vectors, symmetric matrices, and a metric as a diagonal or a matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from samfamily.space import Array


class DenseMetric:
    """A metric of vectors of n entries.

    Args:
        T: its diagonal, at least 0; a symmetric matrix; or None for the identity.
        n: how many entries.

    Raises:
        ValueError: another shape, entries that are not finite, a negative diagonal, a matrix that is not symmetric.
    """

    def __init__(self, T: Array | None, n: int) -> None:
        self.T = None if T is None else np.asarray(T, float)
        if self.T is None:
            return
        if self.T.shape == (n, n):
            self.T = symmetric(self.T, n, "metric")
        else:
            finite("metric", self.T, (n,))
            if np.any(self.T < 0):
                raise ValueError(
                    f"metric must be at least 0, got {self.T.min()}: a length has no sign, use abs(w) + eta"
                )

    def __call__(self, v: Array) -> Array:
        """Return T v."""
        if self.T is None:
            return v
        return self.T @ v if self.T.ndim == 2 else self.T * v

    def congruent(self, H: Array) -> Array:
        """Return T H T."""
        if self.T is None:
            return H
        return self.T @ H @ self.T if self.T.ndim == 2 else self.T[:, None] * H * self.T


def finite(name: str, x: Array, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless an array has this shape and only finite entries."""
    if x.shape != shape:
        raise ValueError(
            f"{name} must have shape {shape}, as the gradient says, got {x.shape}: pass one entry for each"
        )
    if not np.all(np.isfinite(x)):
        where = [int(i) for i in np.argwhere(~np.isfinite(x))[0]]
        raise ValueError(f"{name} must be finite, got {x[tuple(where)]} at {where}: remove it, or choose another point")


def symmetric(matrix: Array, n: int, name: str = "hessian") -> Array:
    """Return a finite n by n matrix that is symmetric, to the last bit; raise ValueError for any other."""
    H = np.asarray(matrix, float)
    finite(name, H, (n, n))
    if (skew := largest(H - H.T)) > 1e-10 * largest(H):
        raise ValueError(f"{name} must be symmetric, got |H - H^T| up to {skew:.3g}: pass (H + H.T) / 2")
    return (H + H.T) / 2


def symmetric_function(product: Callable[[Array], Array], n: int) -> None:
    """Raise ValueError if two random vectors can tell that a linear function is not symmetric."""
    x, y = np.random.default_rng(0).normal(size=(2, n))
    Hx, Hy = product(x), product(y)
    if abs(y @ Hx - x @ Hy) > 1e-8 * (np.linalg.norm(Hx) * np.linalg.norm(y) + np.linalg.norm(Hy) * np.linalg.norm(x)):
        raise ValueError(
            f"hessian must be symmetric, got <y, Hx> = {y @ Hx:.6g} and <x, Hy> = {x @ Hy:.6g}: "
            "pass a function v -> H v with H = H^T, in float64"
        )


def like(leaves: tuple[Array, ...], given: Any, name: str = "metric") -> tuple[Array, ...]:
    """Return arrays in float64 if they are finite and have the shapes of `leaves`; raise ValueError otherwise."""
    arrays = tuple(np.asarray(x, float) for x in given)
    if [x.shape for x in arrays] != [x.shape for x in leaves]:
        shapes, wanted = [x.shape for x in arrays], [x.shape for x in leaves]
        raise ValueError(f"{name} must have the weights' shapes {wanted}, got {shapes}: pass one array for each")
    for x in arrays:
        finite(name, x, x.shape)
        if name == "metric" and np.any(x < 0):
            raise ValueError(f"metric must be at least 0, got {x.min()}: a length has no sign, use abs(w) + eta")
    return arrays


def largest(x: Array) -> float:
    """Return the largest entry in size, 0 where there is none."""
    return float(np.max(abs(x), initial=0.0))
