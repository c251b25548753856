r"""The inner maximum \(\max_{\lVert T^{-1}\epsilon\rVert_p \le \rho} L(w + \epsilon)\), exactly, with its proof.

SAM replaces this maximum by its first-order solution.  Here it is computed wherever it can be:

| loss | ball | method | cost |
|---|---|---|---|
| linear | every p, every metric | Hölder's inequality | O(n) |
| quadratic, any symmetric H | p = 2 | the trust region's secular equation | O(n^3), or Hessian-vector products |
| convex quadratic | p = 1 | the 2n vertices | O(n^2) |
| convex quadratic | p = inf | the 2^n vertices, n <= 20 | O(n^2 2^n) |
| smooth, gradient known to vary little | p = 2 | a contraction | gradients |
| any smooth | every p | ascent with restarts: a lower bound, and says so | gradients |

Everything is float64, whatever comes in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np

from samfamily import check, trust_region
from samfamily.arrays import DenseMetric, finite, largest, like, symmetric, symmetric_function
from samfamily.ball import BallAt
from samfamily.gap import direction_bound, gap_bound
from samfamily.program import drive
from samfamily.reference import NumpySpace
from samfamily.search import Effort, Found, Measuring, Search
from samfamily.space import Array, Vec
from samfamily.vertices import best_axis, best_corner

__all__ = [
    "Certificate",
    "InnerMaximum",
    "direction_bound",
    "gap_bound",
    "maximize",
    "maximize_linear",
    "maximize_quadratic",
]


@dataclass(frozen=True)
class Certificate:
    r"""What is proven about an inner maximum, up to rounding.

    Attributes:
        exact: whether epsilon is a global maximiser; if not, the value is a lower bound of the maximum.
        upper: no point of the ball is higher than this; infinite if nothing is known.
        multiplier: at p = 2 and for a quadratic, \(\mu \ge 0\) with \((\mu I - THT)u = Tg\), \(\epsilon = Tu\).
        residual: how far that equation is from holding, relative to \(\lVert Tg\rVert + \lVert THTu\rVert\).
        curvature: the largest eigenvalue of \(THT\), or Lanczos's estimate of it where H is a function: the multiplier
            is not below it.
        error: how far epsilon may be from the maximiser, \(\lVert T^{-1}(\epsilon - \epsilon^*)\rVert\); infinite if
            not known, as where there is more than one maximiser.
        evaluations: losses and gradients, or Hessian-vector products, that were asked for.

    Example:
        >>> certificate = maximize_quadratic(np.array([0.0, 1.0]), np.diag([2.0, 0.0]), rho=1.0).certificate
        >>> certificate.exact, round(certificate.upper, 9), round(certificate.multiplier, 9)
        (True, 1.25, 2.0)
        >>> certificate.residual < 1e-12
        True
    """

    exact: bool
    upper: float
    multiplier: float | None = None
    residual: float | None = None
    curvature: float | None = None
    error: float = inf
    evaluations: int = 0


@dataclass(frozen=True)
class InnerMaximum:
    r"""A maximum over the ball.

    Attributes:
        epsilon: where it is attained; of the gradient's or the weights' shape.
        value: the maximum, in units of the loss: of the model \(\langle g, \epsilon\rangle +
            \tfrac12\langle\epsilon, H\epsilon\rangle\), or of \(L(w + \epsilon)\) itself.
        certificate: what is proven about it.

    Example:
        >>> g, H = np.array([0.0, 1.0]), np.diag([2.0, 0.0])
        >>> best, first_order = maximize_quadratic(g, H, rho=1.0), maximize_linear(g, rho=1.0)
        >>> abs(best.epsilon).round(3), first_order.epsilon  # the first-order step is blind to the curvature
        (array([0.866, 0.5  ]), array([0., 1.]))
        >>> round(best.value, 9), float(first_order.epsilon @ (g + 0.5 * H @ first_order.epsilon))
        (1.25, 1.0)
    """

    epsilon: Any
    value: float
    certificate: Certificate


def maximize_linear(gradient: Array, rho: float, p: float = 2, metric: Array | None = None) -> InnerMaximum:
    r"""Return the maximum of \(\langle g, \epsilon\rangle\), which is \(\rho\lVert Tg\rVert_q\) (Hölder).

    For a linear loss the first-order step is exact.

    Args:
        gradient: \(g\), shape (n,).
        rho: the radius.
        p: norm of the ball, in [1, inf].
        metric: \(T\): the diagonal, shape (n,), at least 0; or a symmetric matrix, shape (n, n).  None is the identity.

    Returns:
        The maximum.

    Raises:
        ValueError: wrong shapes, entries that are not finite, rho < 0, p < 1.

    Example:
        >>> maximize_linear(np.array([3.0, -4.0]), rho=0.5).value
        2.5
        >>> maximize_linear(np.array([3.0, -4.0]), rho=0.5, p=inf).epsilon
        array([ 0.5, -0.5])
    """
    g, T, rho, p = _checked(gradient, rho, p, metric)
    u, steepness = _first_order(T(g), p)
    return InnerMaximum(rho * T(u), rho * steepness, Certificate(exact=True, upper=rho * steepness))


def maximize_quadratic(
    gradient: Array,
    hessian: Array | Callable[[Array], Array],
    rho: float,
    p: float = 2,
    metric: Array | None = None,
    products: int = 500,
) -> InnerMaximum:
    r"""Return the maximum of \(\langle g, \epsilon\rangle + \tfrac12\langle\epsilon, H\epsilon\rangle\) over the ball.

    For p = 2 any symmetric H will do: indefinite, singular, and the hard case, where \(g\) is orthogonal to the top
    eigenvectors.  The certificate's `upper` is then \(\tfrac12(\langle g, \epsilon\rangle + \mu\rho^2)\), the value of
    the dual problem (Sorensen 1982; Gould, Lucidi, Roma and Toint 1999 for a function).  For p = 1 and p = inf a
    convex H attains its maximum at a vertex.

    Args:
        gradient: \(g\), shape (n,).
        hessian: \(H\), shape (n, n); or, for p = 2, a function \(v \mapsto Hv\), for n up to some 1e5.
        rho: the radius.
        p: norm of the ball: 2, 1 or inf.
        metric: \(T\), as for `maximize_linear`.
        products: vectors to keep, at most, where H is a function; of n numbers each.

    Returns:
        The maximum.

    Raises:
        ValueError: wrong shapes, entries that are not finite, H not symmetric, rho < 0, p < 1; another p, an H that is
            not convex with p = 1 or inf, or n > 20 with p = inf, for which `maximize` gives a lower bound.
        TypeError: H is a function and p is not 2.
        RuntimeError: `products` vectors did not suffice.

    Example:
        >>> found = maximize_quadratic(np.array([0.0, 1.0]), np.diag([2.0, 0.0]), rho=1.0)
        >>> round(found.value, 12), found.certificate.multiplier, np.round(abs(found.epsilon), 3)
        (1.25, 2.0, array([0.866, 0.5  ]))
    """
    g, T, rho, p = _checked(gradient, rho, p, metric)
    if g.size == 0 or rho == 0:
        return InnerMaximum(0.0 * g, 0.0, Certificate(exact=True, upper=0.0))
    if p == 2:
        return _trust_region(g, hessian, rho, T, products)
    if callable(hessian):
        raise TypeError(f"p = {p} needs the Hessian as a matrix, got a function, which goes with p = 2: pass an array")
    if p not in {1, inf}:
        raise ValueError(f"the exact maximum of a quadratic is known for p = 1, 2 and inf, got p = {p}: use maximize")
    H = T.congruent(symmetric(hessian, g.size))
    lowest = float(np.linalg.eigvalsh(H)[0])
    if lowest < -1e-10 * largest(H):
        raise ValueError(
            f"p = {p} needs a convex quadratic, whose maximum is at a vertex; H has the eigenvalue {lowest:.3g}: "
            "use maximize for a lower bound"
        )
    u = best_axis(T(g), H, rho) if p == 1 else best_corner(T(g), H, rho)
    value = float(T(g) @ u + 0.5 * (u @ H @ u))
    return InnerMaximum(T(u), value, Certificate(exact=True, upper=value))


def maximize(
    value_and_grad: Callable[[Any], tuple[Any, Any]],
    w: Any,
    rho: float,
    p: float = 2,
    metric: Any = None,
    beta: float | None = None,
    iterations: int = 200,
    restarts: int = 20,
    seed: int = 0,
) -> InnerMaximum:
    r"""Return the maximum of a smooth loss \(L(w + \epsilon)\), proven where it can be, and else a lower bound.

    With p = 2 and a `beta` such that \(\beta\rho < \tfrac12\lVert g\rVert\), the fixed-point iteration

    $$ \epsilon \leftarrow \rho\,\nabla L(w + \epsilon) / \lVert\nabla L(w + \epsilon)\rVert $$

    converges to the one maximiser, with a proven error.  Elsewhere projected gradient ascent (p = 2) or conditional
    gradient ascent (any other p), from `restarts` starts, finds a lower bound, which is never below the first-order
    step's loss nor \(L(w)\).

    Args:
        value_and_grad: `w -> (loss, gradient)`, on what `w` is.
        w: an array, or a list of arrays.
        rho: the radius.
        p: norm of the ball, in [1, inf].
        metric: the diagonal \(T\), like w.  None is the identity.
        beta: the gradient's Lipschitz constant on the ball, in the ball's norms, if it is known.
        iterations: points visited from one start, at most.
        restarts: starts of the ascent.
        seed: of the random starts.

    Returns:
        The maximum; its `value` is a loss.

    Raises:
        ValueError: wrong shapes, numbers that are not finite, rho < 0, p < 1, iterations or restarts < 1.

    Example:
        >>> bowl = lambda w: (float(np.sum(w**4)), 4 * w**3)
        >>> found = maximize(bowl, np.array([1.0, 1.0]), rho=0.1, beta=12 * 1.1**2)
        >>> round(found.value, 6), found.certificate.exact, found.certificate.error < 1e-12
        (2.628564, True, True)
    """
    single = isinstance(w, np.ndarray)
    leaves = tuple(np.asarray(x, float) for x in ([w] if single else w))
    check.nonnegative("rho", rho)
    check.norm_order("p", p)
    if beta is not None:
        check.nonnegative("beta", beta)
    effort = Effort(iterations, restarts, seed=seed)
    start = Vec(NumpySpace(len(leaves)), leaves)
    T = 1.0 if metric is None else Vec(start.space, like(leaves, [metric] if single else metric))

    def evaluate(point: Vec) -> tuple[float, Vec]:
        here = list(point.collapse())
        value, gradient = value_and_grad(here[0] if single else here)
        g = like(leaves, [gradient] if single else gradient, "the gradient")
        if not np.isfinite(value):
            raise ValueError(f"the loss is {value} inside the ball: choose a smaller rho than {rho}")
        return float(value), Vec(start.space, g)

    def program() -> Measuring[Found]:
        loss, gradient = yield start
        return (yield from Search(start, T, rho, p, beta, effort).run(loss, gradient))

    found = drive(program(), evaluate)
    epsilon = list((T * found.best.u).collapse())
    certificate = Certificate(found.error < inf, found.upper, error=found.error, evaluations=found.evaluations)
    return InnerMaximum(epsilon[0] if single else epsilon, found.best.value, certificate)


def _first_order(a: Array, p: float) -> tuple[Array, float]:
    """Return the maximiser of a linear function on the unit ball, and the maximum."""
    ball, d = BallAt(p), Vec(NumpySpace(1), (a,))
    return ball.maximiser(d).collapse()[0], float(ball.dual_norm(d))


def _trust_region(
    g: Array, hessian: Array | Callable[[Array], Array], rho: float, T: DenseMetric, products: int
) -> InnerMaximum:
    r"""Solve the problem on the unit ball, with \(\rho Tg\) and \(\rho^2 THT\) brought to a scale of 1."""
    n, asked = g.size, 0
    H: Array | None = None if callable(hessian) else T.congruent(symmetric(hessian, n))
    unit = max(rho * largest(T(g)), 0.0 if H is None else rho * rho * largest(H)) or 1.0
    a = T(g) * (rho / unit)

    def product(v: Array) -> Array:
        nonlocal asked
        asked += 1
        if H is not None:
            return H @ v * (rho * rho / unit)
        image = np.asarray(hessian(T(v)))
        finite("H v", image, (n,))
        return T(image) * (rho * rho / unit)

    if H is not None:
        found = trust_region.dense(a, H * (rho * rho / unit))
    else:
        check.positive_integer("products", products)
        symmetric_function(product, n)
        found = trust_region.lanczos(a, product, products)
    u, mu = found.u, found.multiplier
    image = product(u)
    residual = float(np.linalg.norm(mu * u - image - a))
    size = float(np.linalg.norm(a) + np.linalg.norm(image)) or 1.0
    scale = unit / (rho * rho)
    return InnerMaximum(
        rho * T(u),
        unit * float(a @ u + 0.5 * (u @ image)),
        Certificate(
            exact=True,
            upper=unit * float(0.5 * (a @ u + mu)),
            multiplier=scale * mu,
            residual=residual / size,
            curvature=scale * found.top,
            evaluations=asked,
        ),
    )


def _checked(gradient: Array, rho: float, p: float, metric: Array | None) -> tuple[Array, DenseMetric, float, float]:
    g = np.asarray(gradient, float)
    if g.ndim != 1:
        raise ValueError(f"gradient must be one vector, got shape {g.shape}: pass gradient.ravel()")
    finite("gradient", g, g.shape)
    check.nonnegative("rho", rho)
    check.norm_order("p", p)
    return g, DenseMetric(metric, g.size), float(rho), float(p)
