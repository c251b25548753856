r"""The trust-region problem, exactly.

$$ \max_{\lVert u\rVert_2 \le 1} \langle g, u\rangle + \tfrac12\langle u, Hu\rangle $$

A point \(u\) of the ball is a global maximiser if and only if there is a multiplier \(\mu \ge 0\) with

$$ (\mu I - H)\,u = g, \qquad \mu I - H \succeq 0, \qquad \mu\,(1 - \lVert u\rVert) = 0 $$

(Gay 1981; Sorensen 1982).  So one number is looked for, whatever the dimension, and it comes with its own proof.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from samfamily.space import Array


class Maximiser(NamedTuple):
    r"""A global maximiser \(u\), its multiplier \(\mu\), and the Hessian's largest eigenvalue."""

    u: Array
    multiplier: float
    top: float


def dense(g: Array, H: Array) -> Maximiser:
    r"""Solve the problem for a symmetric matrix by its eigenvalues, \(O(n^3)\)."""
    eigenvalues, Q = np.linalg.eigh(H)
    u, multiplier = secular(Q.T @ g, eigenvalues)
    return Maximiser(Q @ u, multiplier, float(eigenvalues[-1]))


def secular(c: Array, eigenvalues: Array) -> tuple[Array, float]:
    r"""Solve the problem for a diagonal matrix with ascending entries \(\lambda_i\): return \(u\) and \(\mu\).

    With \(\mu = \mu_0 + \nu\), \(\mu_0 = \max(\lambda_{\max}, 0)\), every
    \(u_i = c_i / (\nu + \mu_0 - \lambda_i)\), and \(\nu \ge 0\) is the root of the secular equation

    $$ \phi(\nu) = \frac{1}{\lVert u(\nu)\rVert} - 1 = 0 . $$

    \(\phi\) is concave and increasing, so Newton's method rises to the root from any point below it, and has arrived
    when it no longer rises.  The unknown is \(\nu\) and not \(\mu\): near the hard case, where \(g\) hardly leans on
    the top eigenvector, \(\nu\) is far smaller than \(\mu\)'s last digit.

    Without a root, \(\lVert u(0)\rVert < 1\), the maximiser lies inside the ball if \(\mu_0 = 0\).  Otherwise it is
    the hard case: \(u(0)\) and as much of the top eigenvector as reaches the sphere, in one of two directions.
    """
    base = max(float(eigenvalues[-1]), 0.0)
    poles = base - eigenvalues
    nu = max(0.0, float(np.max(abs(c) - poles)))

    def over_poles(x: Array) -> Array:
        return np.divide(x, poles + nu, out=np.zeros_like(x), where=c != 0)

    while True:
        u = over_poles(c)
        norm = _norm(u)
        if norm <= 1:
            break
        higher = nu + (norm - 1) * norm**2 / float(np.sum(u * over_poles(u)))
        if not higher > nu:
            break
        nu = higher
    if nu == 0 and base > 0 and norm < 1:
        u[-1] += np.sqrt((1 - norm) * (1 + norm))
    return u, base + nu


def lanczos(g: Array, product: Callable[[Array], Array], most: int, tolerance: float = 1e-11) -> Maximiser:
    r"""Solve the problem for a matrix that is given as the function \(v \mapsto Hv\): the generalised Lanczos method.

    The maximiser lies in the Krylov space of \(g\), and in the hard case needs a top eigenvector besides (Gould,
    Lucidi, Roma and Toint 1999), which lies in the Krylov space of almost any vector.  So one subspace, grown from
    both, is asked two questions: for the maximiser, and for the top eigenvector as far as the maximiser may depend on
    it, that is until the multiplier is above the eigenvalue and its error.  What either answer lacks extends the space.

    Args:
        g: the gradient, shape (n,).
        product: the function.
        most: vectors in the subspace, at most; twice as many times n numbers are kept.
        tolerance: of the residual of the first condition, relative to \(\lVert g\rVert + \lVert Hu\rVert\).

    Returns:
        The maximiser.

    Raises:
        RuntimeError: the subspace was full before the tolerance was reached.
    """
    space = _Subspace(product, g.size, min(most, g.size))
    space.extend(g, 1)
    space.extend(np.random.default_rng(0).normal(size=g.size), 1)
    while True:
        V, W = space.V[: space.size], space.W[: space.size]
        eigenvalues, Q = np.linalg.eigh(V @ W.T / 2 + W @ V.T / 2)
        y, multiplier = secular(Q.T @ (V @ g), eigenvalues)
        u, image, top = V.T @ (Q @ y), W.T @ (Q @ y), float(eigenvalues[-1])
        lacking = g + image - multiplier * u
        skew = W.T @ Q[:, -1] - top * (V.T @ Q[:, -1])
        size = max(float(abs(eigenvalues).max()), _norm(g))
        solved = _norm(lacking) <= tolerance * (_norm(g) + _norm(image))
        above = multiplier >= top + _norm(skew) or _norm(skew) <= tolerance * size
        if (solved and above) or space.size == g.size:
            return Maximiser(u, multiplier, top)
        depth = 1 + space.size // 20  # so that the small problem is solved less and less often
        grown = [space.extend(x, depth) for x, done in ((lacking, solved), (skew, above)) if not done]
        if not any(grown):
            if space.size == space.most:
                raise RuntimeError(
                    f"the maximiser was not found in a subspace of {space.most} vectors: raise products, now {most}, "
                    "or pass the Hessian as a matrix"
                )
            return Maximiser(u, multiplier, top)  # the space is invariant: there is nothing more to find in it


class _Subspace:
    """An orthonormal basis V and its images W, row by row."""

    def __init__(self, product: Callable[[Array], Array], n: int, most: int) -> None:
        self.product, self.most, self.size = product, most, 0
        self.V, self.W = np.empty((most, n)), np.empty((most, n))

    def extend(self, x: Array, depth: int) -> bool:
        """Add x, Hx, H^2 x, ..., made orthogonal to what is there; return whether anything was new."""
        before = self.size
        for _ in range(depth):
            length, V = _norm(x), self.V[: self.size]
            for _ in range(2):  # once loses what rounding leaves of the largest parts
                x = x - V.T @ (V @ x)
            if self.size == self.most or _norm(x) <= 1e-12 * length:
                break
            self.V[self.size] = x / _norm(x)
            self.W[self.size] = x = self.product(self.V[self.size])
            self.size += 1
        return self.size > before


def _norm(x: Array) -> float:
    return float(np.linalg.norm(x))
