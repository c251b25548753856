r"""The family: one row for each published variant, with its reference, and nothing else.

A row takes the paper's symbols as keywords and returns a `Variant`.  `FAMILY` lists every row in this order.
"""

from __future__ import annotations

from collections.abc import Callable

from samfamily.ascent import Gradient
from samfamily.ball import Adaptive, Ball, Size, elementwise
from samfamily.descent import Perturbed, SecondOrder
from samfamily.radius import Constant, Rho
from samfamily.space import Leaf
from samfamily.variant import Variant

__all__ = ["ASAM", "FAMILY", "SAM"]


def SAM(rho: Rho = 0.05, p: float = 2, steps: int = 1, second_order: bool = False) -> Variant:
    r"""Sharpness-aware minimisation: descend with the gradient at the worst point of the ball, to first order.

    $$ \hat\epsilon = \rho\,\mathrm{sign}(g)\,\frac{|g|^{q-1}}{\lVert g\rVert_q^{q-1}}, \qquad
       \text{gradient} = \nabla L(w + \hat\epsilon), \qquad g = \nabla L(w),\quad \tfrac1p + \tfrac1q = 1 $$

    Foret, Kleiner, Mobahi, Neyshabur, ICLR 2021, arXiv 2010.01412: eq. 2 for the perturbation, Algorithm 1 for the
    step, appendix C.4 for `second_order`, C.5 for p, C.6 for `steps`.  Costs steps + 1 gradients, and with
    `second_order` one Hessian-vector product.  Reduces to the base optimizer at rho = 0.

    Args:
        rho: radius of the ball in the units of the weights; a number or a schedule `step -> rho`.
        p: norm of the ball, in [1, inf].
        steps: climbs, each from w along the gradient at the point that the last one reached; all stay in the ball.
        second_order: keep the derivative of the perturbation itself; for p = 2 and one climb.

    Returns:
        The variant.

    Raises:
        ValueError: rho negative or not finite, p < 1, steps < 1, or second_order with another p or steps.

    Example:
        >>> import numpy as np
        >>> from samfamily.reference import value_and_grad
        >>> loss = lambda w: (0.5 * float(w[0] @ w[0]), [w[0]])  # value and gradient of |w|^2 / 2
        >>> value_and_grad(loss, SAM(rho=0.5))([np.array([3.0, 4.0])])
        (12.5, [array([3.3, 4.4])])
    """
    return Variant("SAM", Constant(rho), Ball(p), Gradient(steps), SecondOrder() if second_order else Perturbed())


def ASAM(
    rho: Rho = 0.5,
    eta: float = 0.01,
    p: float = 2,
    steps: int = 1,
    size: Size = elementwise,
    euclidean: Callable[[Leaf], bool] | None = None,
) -> Variant:
    r"""Adaptive SAM: the ball is measured in units of the weights, so that rescaling them changes nothing.

    $$ \hat\epsilon = \rho\,T_w\,\mathrm{sign}(g)\,\frac{|T_w g|^{q-1}}{\lVert T_w g\rVert_q^{q-1}}, \qquad
       T_w = \mathrm{size}(w) + \eta $$

    Kwon, Kim, Park, Choi, ICML 2021, arXiv 2102.11600.  Costs steps + 1 gradients.  Reduces to SAM where T is the
    identity.  Scale invariance is exact at eta = 0 with no Euclidean leaf.  The authors' code keeps T = 1 on biases:
    `ASAM(euclidean=samfamily.biases)`.

    Args:
        rho: radius of the ball, relative to the weights; a number or a schedule `step -> rho`.
        eta: added to every size, so that a weight of zero can move; in the units of the weights.
        p: norm of the ball, in [1, inf].
        steps: climbs inside the ball, which keeps its metric at w.
        size: `elementwise`, `layerwise` or `filterwise`, from `samfamily`.
        euclidean: picks the leaves on which T = 1, such as `samfamily.biases`.

    Returns:
        The variant.

    Raises:
        ValueError: rho or eta negative or not finite, p < 1, steps < 1.

    Example:
        >>> import numpy as np
        >>> from samfamily.reference import value_and_grad
        >>> loss = lambda w: (float(w[0].sum()), [np.ones(2)])
        >>> seen = []
        >>> _ = value_and_grad(lambda w: seen.append(w[0]) or loss(w), ASAM(rho=0.5, eta=0.0))([np.array([3.0, 4.0])])
        >>> (seen[1] - seen[0]) / seen[0]  # relative: proportional to the weight itself
        array([0.3, 0.4])
    """
    return Variant("ASAM", Constant(rho), Ball(p, Adaptive(size, eta, euclidean)), Gradient(steps))


FAMILY: dict[str, Callable[..., Variant]] = {row.__name__: row for row in (SAM, ASAM)}
