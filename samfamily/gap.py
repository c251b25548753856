r"""How far the first-order step can be from the exact inner maximum: bounds that are proven.

Let \(\hat\epsilon\) be the first-order step, \(\epsilon^*\) a maximiser of \(L(w + \epsilon)\) on the ball of
radius \(\rho\), \(\lVert g\rVert_*\) the dual norm of \(g = \nabla L(w)\), and \(\beta\) the Lipschitz constant of
the gradient in the ball's own norms,

$$ \lVert T(\nabla L(x) - \nabla L(y))\rVert_q \le \beta\,\lVert T^{-1}(x - y)\rVert_p . $$

Whether \(\rho\) is small is told by one number, \(x = \beta\rho / \lVert g\rVert_*\): the share of the gradient that
can change within the ball.
"""

from __future__ import annotations

from math import asin, inf, sin

from samfamily import check


def gap_bound(beta: float, rho: float, gradient_norm: float, *, p: float = 2, convex: bool = False) -> float:
    r"""Return the largest possible \(L(w + \epsilon^*) - L(w + \hat\epsilon)\): the smaller of two bounds.

    $$ \text{gap} \le \beta\rho^2 \quad(\tfrac12\beta\rho^2 \text{ for a convex } L), \qquad
       \text{gap} \le \frac{\beta^2\rho^3}{2\,\bigl((p-1)\lVert g\rVert_* - \beta\rho\bigr)}
       \quad\text{for } 1 < p \le 2 \text{ and a positive denominator.} $$

    The first is Taylor's theorem used at \(\epsilon^*\) and at \(\hat\epsilon\), and its constants are the best
    possible for every p.  The second says that SAM's *value* is off in third order only, away from critical points;
    it rests on the strong convexity of the ball.

    Args:
        beta: the gradient's Lipschitz constant; in units of the loss per squared unit of the radius.
        rho: the radius.
        gradient_norm: \(\lVert g\rVert_*\), such as `StepInfo.dual_norm`.
        p: norm of the ball, in [1, inf].
        convex: whether L is convex on the ball.

    Returns:
        The bound, in units of the loss.

    Raises:
        ValueError: a negative or infinite number, or p below 1.

    Example:
        >>> gap_bound(beta=2.0, rho=0.5, gradient_norm=0.1), gap_bound(2.0, 0.5, 0.1, convex=True)
        (0.5, 0.25)
        >>> gap_bound(beta=2.0, rho=0.5, gradient_norm=5.0)  # in third order
        0.0625
    """
    _check(beta, rho, gradient_norm, p)
    second = beta * rho * rho * (0.5 if convex else 1.0)
    room = (p - 1) * gradient_norm - beta * rho if p <= 2 else 0.0
    return min(second, (beta * rho) ** 2 * rho / (2 * room)) if room > 0 else second


def direction_bound(beta: float, rho: float, gradient_norm: float, *, p: float = 2) -> float:
    r"""Return the largest possible \(\lVert\hat\epsilon - \epsilon^*\rVert / \rho\), 2 where nothing better is known.

    $$ \frac{\lVert\hat\epsilon - \epsilon^*\rVert}{\rho} \le 2\sin\tfrac12\arcsin x \le \sqrt2\,x
       \quad\text{for } p = 2,\ x < 1, \qquad
       \frac{\lVert\hat\epsilon - \epsilon^*\rVert}{\rho} \le \frac{2x}{(p-1)(2-x)}
       \quad\text{for } 1 < p \le 2,\ x < 1 $$

    At p = 2 both points lie on the sphere along two gradients whose angle is at most \(\arcsin x\).  For p > 2 the
    sphere is too flat where a coordinate of the gradient vanishes for any bound of this order.

    Args:
        beta: the gradient's Lipschitz constant; in units of the loss per squared unit of the radius.
        rho: the radius.
        gradient_norm: \(\lVert g\rVert_*\).
        p: norm of the ball, in [1, inf], and of the distance.

    Returns:
        The bound, in units of the radius.

    Raises:
        ValueError: a negative or infinite number, or p below 1.

    Example:
        >>> round(direction_bound(beta=2.0, rho=0.01, gradient_norm=1.0), 6)  # x = 0.02
        0.020001
        >>> direction_bound(beta=2.0, rho=1.0, gradient_norm=1.0)
        2.0
    """
    _check(beta, rho, gradient_norm, p)
    x = beta * rho / gradient_norm if gradient_norm > 0 else inf
    if x >= 1 or p == 1 or p > 2:
        return 2.0
    return 2 * sin(asin(x) / 2) if p == 2 else min(2.0, 2 * x / ((p - 1) * (2 - x)))


def _check(beta: float, rho: float, gradient_norm: float, p: float) -> None:
    check.nonnegative("beta", beta)
    check.nonnegative("rho", rho)
    check.nonnegative("gradient_norm", gradient_norm)
    check.norm_order("p", p)
