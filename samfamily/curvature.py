r"""The curvature of a loss: eigenvalues at both ends of the spectrum, its density, trace and Frobenius norm.

All of it through products \(A v\) with the Hessian \(\nabla^2 L(w)\), or with the Gauss-Newton matrix
\(J^\top \nabla_z^2\ell\,J\), of a `Landscape`: \(A\) is never built, and parameter trees are never concatenated.  The
noise is counted, not drawn (`samfamily.noise`), so that both frameworks measure the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import pi, sqrt
from typing import Any

import numpy as np
import scipy.linalg

from samfamily import check
from samfamily.krylov import Krylov, extend, finite, orthogonal, random
from samfamily.landscape import Landscape, Product
from samfamily.program import HessianVector
from samfamily.space import Array, Vec


@dataclass(frozen=True)
class Eigenpairs:
    r"""Eigenvalues at one or both ends of a spectrum, descending, with their eigenvectors.

    Attributes:
        values: shape (k,), float64; those of the top first, then those of the bottom.
        vectors: k unit Vecs.
        errors: shape (k,): \(\lVert A v - \lambda v\rVert\), or what rounding makes of it; within that of each value
            there is an eigenvalue.
        converged: whether all errors are within the tolerance.
        products: how many it took.

    Example:
        >>> from samfamily.reference import Landscape
        >>> loss = lambda w: (0.5 * np.sum(w[0] ** 2 * [9, 4, -1]), [w[0] * [9, 4, -1]])
        >>> found = eigenvalues(Landscape(loss, [np.ones(3)]), top=1, bottom=1)
        >>> found.values.round(9), [abs(v.leaves[0]).round(6) for v in found.vectors], found.converged
        (array([ 9., -1.]), [array([1., 0., 0.]), array([0., 0., 1.])], True)
    """

    values: Array
    vectors: tuple[Vec, ...]
    errors: Array
    converged: bool
    products: int

    def __str__(self) -> str:
        told = ", ".join(f"{x:.4g} ± {e:.1g}" for x, e in zip(self.values, self.errors, strict=True))
        return f"{told} in {self.products} products" + ("" if self.converged else ", not converged")


def eigenvalues(
    landscape: Landscape,
    top: int = 1,
    bottom: int = 0,
    *,
    of: Product = HessianVector,
    memory: int | None = None,
    products: int = 1000,
    tolerance: float = 1e-4,
    seed: int = 0,
    progress: Callable[..., Any] | None = None,
) -> Eigenpairs:
    r"""Return the largest and the smallest eigenvalues of a loss's curvature, and their eigenvectors.

    Lanczos with full orthogonalisation, thickly restarted: where `memory` vectors are reached, the Ritz vectors nearest
    to both ends stay, and the space grows again from there (Wu and Simon, SIAM J. Matrix Anal. Appl. 22, 2000).
    Stops once every residual \(\lVert A v - \lambda v\rVert\) is at most `tolerance` of \(|\lambda|\) or as small as
    rounding lets it be; the eigenvalue itself is then off by about the square of that.  A multiple eigenvalue may be
    found once.

    Args:
        landscape: the loss, at weights with n entries.
        top: how many of the largest.
        bottom: how many of the smallest.
        of: which matrix, `HessianVector` or `GaussNewtonVector`.
        memory: vectors of the weights' size that are kept at most; those that are asked for and two more are the
            least, and twice those and 20 usual.
        products: when to stop in any case.
        tolerance: of the residual, relative to the eigenvalue.
        seed: of the start.
        progress: `tqdm.tqdm`, or what is called like it: `bar = progress(total=...)`, `bar.update(1)`, `bar.close()`.

    Returns:
        The eigenpairs; `converged` tells whether `products` sufficed.

    Raises:
        ValueError: more eigenvalues than n, too little memory, weights that are not finite, no data.
        TypeError: complex weights.
        FloatingPointError: a product is not finite.
        ArithmeticError: products that contradict each other, since the loss is a random one.

    Example:
        >>> from samfamily.reference import Landscape
        >>> import numpy as np
        >>> loss = lambda w: (0.5 * np.sum(w[0] ** 2 * [9, 4, -1]), [w[0] * [9, 4, -1]])
        >>> print(eigenvalues(Landscape(loss, [np.ones(3)]), top=1, bottom=1))
        9 ± ..., -1 ± ... in 3 products
    """
    n, wanted = landscape.w.size, top + bottom
    check.positive_integer("top + bottom", wanted)
    check.nonnegative("tolerance", tolerance)
    most = min(n, 2 * wanted + 20 if memory is None else memory)
    if min(top, bottom) < 0 or wanted > n:
        raise ValueError(f"top = {top} and bottom = {bottom} eigenvalues of a model with {n} weights: ask for fewer")
    if most < min(n, wanted + 2):
        raise ValueError(f"memory = {memory} vectors for {wanted} eigenvalues: keep at least {wanted + 2}")
    if products < wanted:
        raise ValueError(f"products = {products} for {wanted} eigenvalues: allow at least as many")
    _check(landscape)
    with landscape.matrix(of) as A, shown(progress, None) as tick:
        space = Krylov(A, random(landscape.w, seed, 0), seed)
        while True:
            for _ in range(1 + space.size // 8):  # so that the small problem is solved less and less often
                if space.size < most and space.products < products:
                    space.grow()
                    tick()
            if space.size < wanted:
                continue
            values, Y, errors = space.ritz()
            ends = _ends(space.size, top, bottom)
            errors = np.maximum(errors[ends], space.reachable)  # they are of S, which holds roundings
            converged = bool(np.all(errors <= np.maximum(tolerance * abs(values[ends]), space.reachable)))
            if converged or space.size == n or space.products >= products:
                break
            if space.size == most:
                more = (most - wanted) // 2 / wanted
                kept = _ends(most, top + int(more * top), bottom + int(more * bottom))
                space.restart(values[kept], Y[:, kept])
    space.restart(values[ends], Y[:, ends])
    return Eigenpairs(values[ends], tuple(space.basis[:wanted]), errors, converged, space.products)


@dataclass(frozen=True)
class Density:
    r"""The density of a spectrum: for each draw a measure on the line, of whose like the mean is taken.

    With the nodes \(\theta_i\) and weights \(\omega_i\) of each of k draws,

    $$ \frac1n \sum_{j=1}^{n} \delta_{\lambda_j} \approx
       \frac1k \sum_{\text{draws}} \sum_i \omega_i\,\delta_{\theta_i}, \qquad \sum_i \omega_i = 1 . $$

    Attributes:
        nodes: for each draw the eigenvalues \(\theta_i\) that it saw, ascending.
        weights: for each draw their shares \(\omega_i\), which add up to 1.
        products: how many it took.

    Example:
        >>> from samfamily.reference import Landscape
        >>> loss = lambda w: (0.5 * np.sum(w[0] ** 2 * [9, 4, -1, -1]), [w[0] * [9, 4, -1, -1]])
        >>> found = density(Landscape(loss, [np.ones(4)]), draws=100)
        >>> [round(x, 9) for x in found.range]
        [-1.0, 9.0]
        >>> height, error = found.smoothed(np.array([-1.0, 1.5]), width=0.1)
        >>> height.round(0)  # half of the eigenvalues there, and none here
        array([2., 0.])
    """

    nodes: tuple[Array, ...]
    weights: tuple[Array, ...]
    products: int

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest eigenvalue seen."""
        return min(float(x[0]) for x in self.nodes), max(float(x[-1]) for x in self.nodes)

    def cumulative(self, x: Array) -> tuple[Array, Array]:
        r"""Return the share of the spectrum that is at most x, shape as x, and its standard error."""
        return self._over_draws(lambda nodes, weights: weights @ (nodes[:, None] <= np.ravel(x)), x)

    def smoothed(self, x: Array, width: float) -> tuple[Array, Array]:
        r"""Return the density at x, shape as x, each eigenvalue a Gaussian of this width, and its standard error."""

        def one(nodes: Array, weights: Array) -> Array:
            z = (np.ravel(x) - nodes[:, None]) / width
            found: Array = weights @ np.exp(-0.5 * z * z) / (sqrt(2 * pi) * width)
            return found

        return self._over_draws(one, x)

    def _over_draws(self, of: Callable[[Array, Array], Array], x: Array) -> tuple[Array, Array]:
        rows = np.array([of(nodes, weights) for nodes, weights in zip(self.nodes, self.weights, strict=True)])
        mean, error = _estimate(rows)
        return mean.reshape(np.shape(x)), error.reshape(np.shape(x))


def density(
    landscape: Landscape,
    order: int = 60,
    draws: int = 10,
    *,
    of: Product = HessianVector,
    known: Eigenpairs | None = None,
    seed: int = 0,
    progress: Callable[..., Any] | None = None,
) -> Density:
    r"""Return the spectral density of a loss's curvature, by stochastic Lanczos quadrature.

    For a random direction q and its Lanczos matrix \(S = Y \Theta Y^\top\) of this order, the nodes
    \(\theta_i\) and weights \(y_{1i}^2\) are Gauss's quadrature of the measure
    \(\sum_j \langle q, v_j\rangle^2\,\delta_{\lambda_j}\), whose mean over q is the spectral density (Golub and
    Welsch 1969; Ubaru, Chen and Saad, SIAM J. Matrix Anal. Appl. 38, 2017; Ghorbani, Krishnan and Xiao, arXiv
    1901.10159).  Of k known eigenpairs each has its share of 1/n, and q is drawn orthogonal to them and measures what
    is left; where a few eigenvalues are much larger than all others, that is where most of the error was.

    Args:
        landscape: the loss, at weights with n entries.
        order: products for each draw, and vectors of the weights' size that are kept.
        draws: how many directions.
        of: which matrix, `HessianVector` or `GaussNewtonVector`.
        known: what `eigenvalues` found of the same matrix.
        seed: of the directions.
        progress: as for `eigenvalues`.

    Returns:
        The density.

    Raises:
        ValueError: an order or a number of draws below 1, eigenvectors of other weights, weights that are not finite,
            no data.
        TypeError: complex weights.
        FloatingPointError: a product is not finite.
        ArithmeticError: products that contradict each other, since the loss is a random one.

    Example:
        >>> from samfamily.reference import Landscape
        >>> loss = lambda w: (0.5 * np.sum(w[0] ** 2 * [9, 4, -1, -1]), [w[0] * [9, 4, -1, -1]])
        >>> found = density(Landscape(loss, [np.ones(4)]), order=4, draws=200)
        >>> share, error = found.cumulative(np.array([0.0, 5.0]))
        >>> share.round(1)
        array([0.5, 0.8])
    """
    check.positive_integer("order", order)
    check.positive_integer("draws", draws)
    ends = () if known is None else known.vectors
    w = landscape.w
    if any([x.shape for x in v.leaves] != [x.shape for x in w.leaves] for v in ends):
        raise ValueError("the known eigenvectors have other shapes than the weights: pass those of the same model")
    _check(landscape)
    n, k = w.size, len(ends)
    nodes, weights, products = [], [], 0
    with landscape.matrix(of) as A, shown(progress, order * draws) as tick:
        for draw in range(draws):
            values, shares = np.zeros(0), np.zeros(0)
            if k < n:
                space = Krylov(A, orthogonal(random(w, seed, draw), ends)[0], seed)
                while space.size < min(order, n - k) and not space.invariant:
                    space.grow()
                    tick()
                values, Y = scipy.linalg.eigh_tridiagonal(np.diag(space.S), np.diag(space.S, 1))
                shares = Y[0] ** 2 * ((n - k) / n)
                products += space.products
            if known is not None:
                values, shares = np.append(values, known.values), np.append(shares, np.full(k, 1 / n))
            ascending = np.argsort(values)
            nodes.append(values[ascending])
            weights.append(shares[ascending])
    return Density(tuple(nodes), tuple(weights), products)


@dataclass(frozen=True)
class Moments:
    r"""The trace and the Frobenius norm of a matrix.

    Attributes:
        trace: \(\sum_i \lambda_i\).
        trace_error: its standard error.
        frobenius: \((\sum_i \lambda_i^2)^{1/2}\).
        frobenius_error: its standard error.
        products: how many it took.

    Example:
        >>> from samfamily.reference import Landscape
        >>> scales = np.arange(1.0, 101.0) ** -2
        >>> loss = lambda w: (0.5 * np.sum(scales * w[0] ** 2), [scales * w[0]])
        >>> found = moments(Landscape(loss, [np.ones(100)]), products=60)
        >>> round(found.trace, 1), round(found.frobenius, 2), found.trace_error < 0.01  # 1.635 and 1.0403
        (1.6, 1.04, True)
    """

    trace: float
    trace_error: float
    frobenius: float
    frobenius_error: float
    products: int


def moments(
    landscape: Landscape,
    products: int = 60,
    *,
    of: Product = HessianVector,
    seed: int = 0,
    progress: Callable[..., Any] | None = None,
) -> Moments:
    r"""Return the trace and the Frobenius norm of a loss's curvature: Hutch++ (Meyer, Musco, Musco and Woodruff 2021).

    A third of the products finds a basis Q of where the matrix is large, a third is exact there, and the rest samples
    what is left with random signs g made orthogonal to Q,

    $$ \mathrm{tr}A = \mathrm{tr}\,Q^\top A Q + \mathbb{E}\,\langle g, A g\rangle, \qquad
       \lVert A\rVert_F^2 = \lVert A Q\rVert_F^2 + \mathbb{E}\,\lVert A g\rVert^2 . $$

    Args:
        landscape: the loss, at weights with n entries.
        products: how many, at least 6; a third of them are kept as vectors of the weights' size.
        of: which matrix, `HessianVector` or `GaussNewtonVector`.
        seed: of the random signs.
        progress: as for `eigenvalues`.

    Returns:
        The two, with standard errors.

    Raises:
        ValueError: fewer than 6 products, weights that are not finite, no data.
        TypeError: complex weights.
        FloatingPointError: a product is not finite.

    Example:
        >>> from samfamily.reference import Landscape
        >>> loss = lambda w: (0.5 * np.sum(w[0] ** 2 * [4, 3, -1]), [w[0] * [4, 3, -1]])
        >>> found = moments(Landscape(loss, [np.ones(3)]), products=30)
        >>> round(found.trace, 9), round(found.frobenius**2, 9)
        (6.0, 26.0)
    """
    check.positive_integer("products", products)
    if products < 6:
        raise ValueError(f"products = {products} leave no third with an error of its own: allow 6 or more")
    _check(landscape)
    w, third = landscape.w, products // 3

    def image(v: Vec) -> Vec:
        tick()
        return finite(A(v))[0]

    def signs(i: int) -> Vec:
        return random(w, seed, i).signed_power(0)

    with landscape.matrix(of) as A, shown(progress, 3 * third) as tick:
        basis: list[Vec] = []
        for i in range(min(third, w.size)):
            extend(basis, image(signs(i)))
        exact = np.array([(float(q.inner(a)), float(a.inner(a))) for q in basis for a in [image(q)]]).reshape(-1, 2)
        left = (orthogonal(signs(third + i), basis)[0] for i in range(third if len(basis) < w.size else 0))
        sampled = np.array([(float(g.inner(a)), float(a.inner(a))) for g in left for a in [image(g)]]).reshape(-1, 2)
    mean, error = _estimate(sampled) if len(sampled) else (np.zeros(2), np.zeros(2))
    trace, square = exact.sum(0) + mean
    frobenius = sqrt(max(float(square), 0.0))
    off = float(error[1]) / (2 * frobenius) if frobenius else 0.0
    return Moments(float(trace), float(error[0]), frobenius, off, min(third, w.size) + len(exact) + len(sampled))


def _check(landscape: Landscape) -> None:
    """Raise ValueError where a weight is not finite, and TypeError where one is complex."""
    landscape.check()
    for leaf, x in zip(landscape.w.space.leaves, landscape.w.leaves, strict=True):
        if "complex" in str(x.dtype):
            raise TypeError(
                f"the weights {leaf.name or 'in a leaf'} are complex, and random directions among them are not: "
                "measure a model whose parameters are their real and imaginary parts"
            )


def _estimate(samples: Array) -> tuple[Array, Array]:
    """Return the mean over the first axis, and its standard error; infinite where there is one sample."""
    n = len(samples)
    return samples.mean(0), samples.std(0, ddof=1) / sqrt(n) if n > 1 else np.full(samples.shape[1:], np.inf)


def _ends(size: int, top: int, bottom: int) -> Array:
    """Return the places of the largest, descending, and then of the smallest, in a list of ascending values."""
    return np.concatenate([np.arange(size)[::-1][:top], np.arange(size)[:bottom][::-1]])


@contextmanager
def shown(progress: Callable[..., Any] | None, total: int | None) -> Iterator[Callable[[], Any]]:
    """Hold a progress bar, and yield what moves it on by one.

    Args:
        progress: `tqdm.tqdm`, or what is called like it; None for no bar.
        total: how many moves there will be, if that is known.

    Yields:
        A function of nothing.

    Example:
        >>> from types import SimpleNamespace
        >>> bar = SimpleNamespace(update=lambda n: print("on by", n), close=lambda: print("closed"))
        >>> with shown(lambda total: bar, 1) as tick:
        ...     tick()
        on by 1
        closed
    """
    if progress is None:
        yield lambda: None
        return
    bar = progress(total=total)
    try:
        yield lambda: bar.update(1)
    finally:
        bar.close()
