r"""Lanczos on parameter trees: an orthonormal basis of Vecs that grows by products, and the small matrix that it makes.

With A the symmetric matrix and \(Q = (q_1, \dots, q_m)\) the basis, every product is made orthogonal to all of Q, twice
(Daniel, Gragg, Kaufman and Stewart 1976), and

$$ A Q = Q S + q_{m+1}\,b^\top, \qquad S = Q^\top A Q . $$

So the basis is orthonormal to rounding and no eigenvalue appears as its own ghost.  Entries of S are computed, not
assumed: one line serves a first run, where S is tridiagonal, and what follows a restart, where it is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import copysign, inf, sqrt
from typing import Any

import numpy as np
import scipy.linalg

from samfamily import noise
from samfamily.landscape import Matrix
from samfamily.space import Array, Vec

FEW = 8
"""Vectors that are taken away at once, where a framework makes one call of that."""


class Krylov:
    r"""The space of a vector and its images.

    Args:
        product: the matrix.
        start: any vector but zero.
        seed: of the direction in which a space that turns out to be invariant goes on.

    Attributes:
        basis: the q, and once a product has led out of their space the next one.
        S: the matrix in this basis.
        b: what leads out of the space, \(b = Q^\top A\,q_{m+1}\).
        products: how many there were.
        restarts: likewise.
        scale: the largest \(\lVert A q\rVert\) seen, which \(\lVert A\rVert_2\) cannot be below.
    """

    def __init__(self, product: Matrix, start: Vec, seed: int = 0) -> None:
        self.product, self.seed = product, seed
        self.basis = [(start / start.norm(2)).collapsed()]
        self.S, self.b = np.zeros((0, 0)), np.zeros(0)
        self.products, self.restarts, self.scale = 0, 0, 0.0

    @property
    def size(self) -> int:
        """How many vectors have been multiplied."""
        return len(self.S)

    @property
    def invariant(self) -> bool:
        """Whether nothing leads out of the space."""
        return self.size > 0 and not np.any(self.b)

    @property
    def reachable(self) -> float:
        """How small a residual rounding lets be; every restart adds one of the matrix's."""
        q = self.basis[0]
        return float((10 + self.restarts) * q.space.rounding(q.leaves) * self.scale)

    def grow(self) -> None:
        """Multiply the next vector.

        Raises:
            FloatingPointError: the product is not finite.
            ArithmeticError: it contradicts earlier products, so that there is no one symmetric matrix.
        """
        q = self.basis[self.size]
        rest, s = orthogonal(self._image(q), self.basis)  # and nobody holds on to the image
        rounding = q.space.rounding(q.leaves)
        if np.any(abs(s[:-1] - self.b) > sqrt(rounding) * self.scale):
            raise ArithmeticError(
                f"two products with the curvature contradict each other by {np.max(abs(s[:-1] - self.b)):.3g}, where "
                f"the matrix is of size {self.scale:.3g}: the loss changes between two looks, as dropout and "
                "random augmentation make it, or is computed in a narrower type than its weights, as by autocast: "
                "switch that off"
            )
        self.S = np.block([[self.S, s[:-1, None]], [s]])
        beta = float(rest.norm(2))
        if beta <= 10 * rounding * self.scale:
            beta, rest = 0.0, random(q, self.seed, self.products)
        self.b = np.append(np.zeros(self.size - 1), beta)
        if self.size < q.size:
            if beta == 0:
                rest = orthogonal(rest, self.basis)[0]
            self.basis.append((rest / rest.norm(2)).collapsed())

    def _image(self, q: Vec) -> Vec:
        image, length = finite(self.product(q))
        self.products, self.scale = self.products + 1, max(self.scale, length)
        return image

    def ritz(self) -> tuple[Array, Array, Array]:
        r"""Return the eigenvalues of S, ascending, its eigenvectors y, and \(\lVert A Qy - \theta Qy\rVert\).

        The last is \(|b^\top y|\), and an eigenvalue of A lies within it of \(\theta\).
        """
        values, Y = scipy.linalg.eigh(self.S)
        return values, Y, abs(self.b @ Y)

    def restart(self, values: Array, Y: Array) -> None:
        """Keep these Ritz pairs, and the vector that leads out of the space (Wu and Simon 2000)."""
        ahead = self.basis[self.size :]
        del self.basis[self.size :]
        rotate(self.basis, Y)
        self.basis += ahead
        self.S, self.b = np.diag(values), self.b @ Y
        self.restarts += 1


def random(like: Vec, seed: int, i: int) -> Vec:
    """Return the i-th of a seed's independent normal directions."""
    return like.space.compiled(noise.normal, seed=seed)(like, step=i)


def finite(image: Vec) -> tuple[Vec, float]:
    """Return a product and its norm; raise FloatingPointError where it is not finite."""
    length = float(image.norm(2))
    if not length < inf:
        raise FloatingPointError(
            f"a product with the curvature has the norm {length}: the loss, its data or one of its derivatives is not "
            "finite at these weights; look at the data, measure the weights of an earlier step, or in float64"
        )
    return image, length


def orthogonal(v: Vec, basis: Sequence[Vec]) -> tuple[Vec, Array]:
    r"""Return \(v - Q Q^\top v\), with a second pass for what rounding left, and \(Q^\top v\)."""
    clear, total = v.space.compiled(_cleared), np.zeros(len(basis))
    for _ in range(2):
        found: list[Any] = []
        while len(found) < len(basis):
            few = min(FEW, 1 << (len(basis) - len(found)).bit_length() - 1)  # a power of 2, to compile but a few sizes
            v, parts = clear(v, basis[len(found) : len(found) + few])
            found += parts
        total += np.array(list(map(float, found)))
    return v, total


def _cleared(v: Vec, few: Sequence[Vec]) -> tuple[Vec, list[Any]]:
    r"""Return \(v - \sum_i q_i \langle q_i, v\rangle\), and the inner products."""
    parts = [q.inner(v) for q in few]  # all of them before the first is read
    if v.space.eager:
        parts = list(map(float, parts))
    for part, q in zip(parts, few, strict=True):
        v = v - part * q
    return v, parts


def extend(basis: list[Vec], v: Vec) -> None:
    """Add what of v is new to an orthonormal basis, if anything is."""
    rest, _ = orthogonal(v, basis)
    if float(rest.norm(2)) > 10 * v.space.rounding(v.leaves) * float(v.norm(2)):
        basis.append((rest / rest.norm(2)).collapsed())


def rotate(vectors: list[Vec], Y: Array) -> None:
    r"""Replace m vectors by the k that the orthonormal columns of Y make of them, with room for two more vectors.

    \(Y = H_1 \cdots H_k\,\mathrm{diag}(\pm 1)\) with reflections \(H_j = I - 2 u u^\top\), and each of them changes the
    vectors one by one.
    """
    Y = Y.copy()
    k = Y.shape[1]
    signs = []
    for j in range(k):
        u = np.zeros(len(Y))
        u[j:] = Y[j:, j]
        signs.append(-copysign(1.0, u[j]))
        u[j] += copysign(1.0, u[j])
        u /= np.linalg.norm(u)
        Y -= 2 * np.outer(u, u @ Y)
        mirrored = combination(u[j:], vectors[j:])
        for i in range(j, len(vectors)):
            vectors[i] = vectors[i] - (2 * float(u[i])) * mirrored
        del mirrored  # before there is a next one
    del vectors[k:]
    for i, sign in enumerate(signs):
        vectors[i] = (sign * vectors[i]).collapsed()


def combination(coefficients: Array, vectors: Sequence[Vec]) -> Vec:
    r"""Return \(\sum_i c_i v_i\)."""
    total = float(coefficients[0]) * vectors[0]
    for c, v in zip(coefficients[1:], vectors[1:], strict=True):
        total = total + float(c) * v
    return total
