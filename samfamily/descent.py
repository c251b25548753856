r"""What the base optimizer receives, from the gradient at w and the gradient at the perturbed point.

A member has two faces of one structure: `__call__` when the adversary has climbed, `idle` when the radius was zero.
Either may be a generator and yield requests.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from samfamily.program import Asking, HessianVector
from samfamily.space import Scalar, Vec


class Climb(NamedTuple):
    r"""What the adversary did, for the members that need more than gradients.

    Attributes:
        w: the weights.
        g: the gradient at w, or None if the ascent did not ask for it.
        d: the direction climbed last.
        dual_norm: \(\lVert d\rVert_*\) of that direction.
        rho: how far.
        epsilon: the perturbation \(\hat\epsilon\).
    """

    w: Vec
    g: Vec | None
    d: Vec
    dual_norm: Scalar
    rho: Scalar | Vec
    epsilon: Vec


@dataclass(frozen=True)
class Descent(ABC):
    """What the base optimizer receives.

    Attributes:
        gradients: how many gradients a climb costs here, the one at the perturbed point included.
        hessian_vector_products: how many of these a climb costs here.
        stateful: whether the member has a memory.
    """

    gradients: ClassVar[int] = 1
    hessian_vector_products: ClassVar[int] = 0
    stateful: ClassVar[bool] = False

    def init(self, w: Vec) -> Any:
        """Return the memory before the first step."""
        return ()

    @abstractmethod
    def __call__(self, climb: Climb, h: Vec, memory: Any) -> Any:
        """Return `(gradient, memory)` after a climb whose end has gradient `h`, or a generator that returns it."""

    def idle(self, g: Vec, memory: Any) -> Any:
        """Return `(gradient, memory)` when there was no climb: the gradient at w itself."""
        return g, memory


@dataclass(frozen=True)
class Perturbed(Descent):
    r"""The gradient at the perturbed point, \(\nabla L(w + \hat\epsilon)\), with \(\hat\epsilon\) held constant."""

    def __call__(self, climb: Climb, h: Vec, memory: Any) -> tuple[Vec, Any]:
        """Return `h`."""
        return h, memory


@dataclass(frozen=True)
class SecondOrder(Descent):
    r"""The whole derivative of \(w \mapsto L(w + \hat\epsilon(w))\), for \(p = 2\) and \(T = I\).

    With \(\hat g = g / \lVert g\rVert\) and \(h = \nabla L(w + \hat\epsilon)\),

    $$ h + \Bigl(\frac{\partial\hat\epsilon}{\partial w}\Bigr)^{\!\top} h
       = h + \frac{\rho}{\lVert g\rVert}\,\nabla^2 L(w)\,\bigl(h - \langle\hat g, h\rangle\,\hat g\bigr), $$

    the term that Foret et al. (arXiv 2010.01412, section 2) drop from their equation 3, and whose keeping they study in
    their appendix C.4.
    """

    hessian_vector_products: ClassVar[int] = 1

    def __call__(self, climb: Climb, h: Vec, memory: Any) -> Asking[tuple[Vec, Any]]:
        """Ask for one Hessian-vector product at w and return the whole derivative."""
        unit = climb.d / climb.dual_norm
        across = h - unit.inner(h) * unit
        correction = yield HessianVector(climb.w, climb.rho * (across / climb.dual_norm))
        return h + correction, memory
