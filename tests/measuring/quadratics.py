"""Losses that are quadratic, so that their curvature is any symmetric matrix that a test likes."""

from __future__ import annotations

from typing import Any

import numpy as np

from samfamily.reference import Landscape, vec
from samfamily.space import Vec


def rotated(values: Any, seed: int = 0) -> Any:
    """Return a symmetric matrix with these eigenvalues, and eigenvectors in no direction of note."""
    values = np.asarray(values, float)
    Q = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(values), len(values))))[0]
    H = Q * values @ Q.T
    return (H + H.T) / 2


def quadratic(H: Any, dtype: Any = float) -> Landscape:
    r"""Return \(\tfrac12 w^\top H w\) at w = 0, its weights in two leaves of different shapes, where there are two."""

    def f(w: Any) -> Any:
        x = np.concatenate([np.ravel(leaf) for leaf in w])
        return 0.5 * (x @ H @ x).real, split(H @ x)

    return Landscape(f, [x.astype(dtype) for x in split(np.zeros(len(H)))])


def split(x: Any) -> list[Any]:
    """Return a vector in two leaves, the first of which has two axes."""
    half = len(x) // 2
    return [x[:half].reshape(1, half), x[half:]] if half else [x]


def flat(v: Vec) -> Any:
    """Return a Vec as one array."""
    return np.concatenate([np.ravel(leaf) for leaf in v.collapse()])


def tree(x: Any) -> Vec:
    """Return an array as a Vec."""
    return vec(split(np.asarray(x, float)))
