r"""What the base optimizer receives, from the gradient at w and the gradient at the perturbed point.

A member has two faces of one structure: `__call__` when the adversary has climbed, `idle` when the radius was zero.
Either may be a generator and yield requests.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from samfamily import check
from samfamily.ball import BallAt
from samfamily.program import Asking, HessianVector
from samfamily.radius import Schedule
from samfamily.space import Scalar, Vec


class Climb(NamedTuple):
    r"""What the adversary did.

    Attributes:
        w: the weights.
        g: the gradient at w; None if the descent does not need it.
        d: the direction climbed last.
        ball: the ball in which it climbed.
        rho: how far.
        centre: the ball's centre, w but for few rows.
        step: how many steps were taken before.
    """

    w: Vec
    g: Any
    d: Vec
    ball: BallAt
    rho: Scalar | Vec
    centre: Vec
    step: Scalar

    @property
    def dual_norm(self) -> Scalar:
        r"""\(\lVert d\rVert_*\)."""
        return self.ball.dual_norm(self.d)

    @property
    def epsilon(self) -> Vec:
        r"""The perturbation \(\hat\epsilon\), seen from the centre."""
        return self.rho * self.ball.maximiser(self.d)


class Descended(NamedTuple):
    """What a descent makes: the gradient for the base optimizer, the memory, and an addend after the base step."""

    gradient: Vec
    memory: Any = ()
    addend: Vec | None = None


@dataclass(frozen=True)
class Descent(ABC):
    """What the base optimizer receives.

    Attributes:
        gradients: how many gradients a climb costs here, the one at the perturbed point included.
        hessian_vector_products: how many of these a climb costs here.
        needs_gradient: whether the gradient at w is needed although the ascent may not hand it over.
        looks_back: whether the climb is looked at once the gradient at its end is there; where it is not, the climb is
            let go before that gradient is computed, and with it the memory of several vectors.
        returns_last: whether what it makes is the last gradient that was asked for, as it is; an adapter may then send
            that to other devices while it is computed.  After a rest, only if no gradient was asked for before.
        stateful: whether the member has a memory.
        rests: whether the member has an idle face; without one even a radius of zero is climbed.
        adds: whether it makes an addend.
    """

    gradients: ClassVar[int] = 1
    hessian_vector_products: ClassVar[int] = 0
    needs_gradient: ClassVar[bool] = False
    looks_back: ClassVar[bool] = True
    returns_last: ClassVar[bool] = False
    stateful: ClassVar[bool] = False
    rests: ClassVar[bool] = True

    @property
    def adds(self) -> bool:
        """Whether it makes an addend."""
        return False

    def init(self, w: Vec) -> Any:
        """Return the memory before the first step."""
        return ()

    @abstractmethod
    def __call__(self, climb: Any, h: Vec, memory: Any) -> Any:
        """Return `Descended` after a climb whose end has gradient `h`, or a generator that returns it.

        `climb` is a `Climb`, or None where the member does not look back.
        """

    def idle(self, g: Vec, memory: Any) -> Any:
        """Return `Descended` when there was no climb: the gradient at w itself."""
        return Descended(g, memory)


@dataclass(frozen=True)
class Perturbed(Descent):
    r"""The gradient at the perturbed point, \(\nabla L(w + \hat\epsilon)\), with \(\hat\epsilon\) held constant."""

    looks_back = False
    returns_last = True

    def __call__(self, climb: Climb | None, h: Vec, memory: Any) -> Descended:
        """Return `h`."""
        return Descended(h, memory)


@dataclass(frozen=True)
class SecondOrder(Descent):
    r"""The whole derivative of \(w \mapsto L(w + \hat\epsilon(w))\), for \(p = 2\) and \(T = I\).

    With \(\hat g = g / \lVert g\rVert\) and \(h = \nabla L(w + \hat\epsilon)\),

    $$ h + \Bigl(\frac{\partial\hat\epsilon}{\partial w}\Bigr)^{\!\top} h
       = h + \frac{\rho}{\lVert g\rVert}\,\nabla^2 L(w)\,\bigl(h - \langle\hat g, h\rangle\,\hat g\bigr), $$

    the term that Foret et al. (arXiv 2010.01412, section 2) drop from their equation 3, and whose keeping they study in
    their appendix C.4.
    """

    hessian_vector_products = 1

    def __call__(self, climb: Climb, h: Vec, memory: Any) -> Asking[Descended]:
        """Ask for one Hessian-vector product at w and return the whole derivative."""
        unit = climb.d / climb.dual_norm
        pulled = climb.rho * h
        across = pulled - unit.inner(pulled) * unit
        correction = yield HessianVector(climb.w, across / climb.dual_norm)
        return Descended(h + correction, memory)


@dataclass(frozen=True)
class Blend(Descent):
    r"""\((1 - a) g + a h\): a step between the base optimizer's and SAM's (GNP, WSAM).

    Attributes:
        a: the weight of the perturbed gradient.
    """

    a: float
    needs_gradient = True

    def __post_init__(self) -> None:
        check.number("a", self.a)

    def __call__(self, climb: Climb, h: Vec, memory: Any) -> Descended:
        """Return the blend."""
        return Descended((1 - self.a) * climb.g + self.a * h, memory)


@dataclass(frozen=True)
class Decoupled(Descent):
    r"""\(g\) for the base optimizer, and the addend \(a\,(h - g)\) after its step (WSAM, decoupled).

    Attributes:
        a: the weight of the sharpness gradient.
    """

    a: float
    needs_gradient = True

    def __post_init__(self) -> None:
        check.number("a", self.a)

    @property
    def adds(self) -> bool:
        """It does."""
        return True

    def __call__(self, climb: Climb, h: Vec, memory: Any) -> Descended:
        """Return `g` and the addend."""
        return Descended(climb.g, memory, self.a * (h - climb.g))

    def idle(self, g: Vec, memory: Any) -> Descended:
        """Return `g` and an addend of zero."""
        return Descended(g, memory, 0.0 * g)


@dataclass(frozen=True)
class SurrogateGap(Descent):
    r"""\(h - \alpha\,g_\perp\), with \(g_\perp = g - \langle g, \hat h\rangle\hat h\) (GSAM, arXiv 2203.08065).

    Attributes:
        alpha: how much of the gap's gradient is descended.
    """

    alpha: float
    needs_gradient = True

    def __post_init__(self) -> None:
        check.number("alpha", self.alpha)

    def __call__(self, climb: Climb, h: Vec, memory: Any) -> Descended:
        """Return the gradient of the perturbed loss, less the part of `g` across it."""
        return Descended(h - self.alpha * across(climb.g, h), memory)


@dataclass(frozen=True)
class SurrogateGapOfLoss(Descent):
    r"""\(g + \alpha\,h_\perp\), with \(h_\perp = h - \langle h, \hat g\rangle\hat g\): GSAM round the loss itself.

    Attributes:
        alpha: how much of the gap's gradient is descended.
    """

    alpha: float
    needs_gradient = True

    def __post_init__(self) -> None:
        check.number("alpha", self.alpha)

    def __call__(self, climb: Climb, h: Vec, memory: Any) -> Descended:
        """Return the gradient at w, and the part of `h` across it."""
        return Descended(climb.g + self.alpha * across(h, climb.g), memory)


@dataclass(frozen=True)
class Renormalised(Descent):
    r"""\(h\,\lVert g\rVert / \lVert h\rVert\): SAM's direction at the base optimizer's length (StableSAM)."""

    needs_gradient = True

    def __call__(self, climb: Climb, h: Vec, memory: Any) -> Descended:
        """Return `h` at the length of `g`."""
        return Descended(climb.g.norm(2) * (h / h.norm(2)), memory)


class Across(NamedTuple):
    """The memory of the part of the perturbed gradient that lies across the gradient."""

    v: Vec


@dataclass(frozen=True)
class Reuse(Descent):
    r"""\(h\) after a climb; else \(g + \alpha\lVert g\rVert v/\lVert v\rVert\) with the last \(v = h_\perp\) (LookSAM).

    Attributes:
        alpha: the length of the reused part, in units of the gradient's.
    """

    alpha: float
    needs_gradient = True
    returns_last = True
    stateful = True

    def __post_init__(self) -> None:
        check.number("alpha", self.alpha)

    def init(self, w: Vec) -> Across:
        """Return a part of zero."""
        return Across(0.0 * w)

    def __call__(self, climb: Climb, h: Vec, memory: Across) -> Descended:
        """Return `h` and remember its part across `g`, unless that is but the rounding of parallel gradients."""
        v = across(h, climb.g)
        means_something = h.space.where(v.norm(2) > 16 * h.space.rounding(h.leaves) * h.norm(2), 1.0, 0.0)
        return Descended(h, Across(means_something * v))

    def idle(self, g: Vec, memory: Across) -> Descended:
        """Return `g` and the remembered part, at alpha times the length of `g`."""
        return Descended(g + (self.alpha * g.norm(2)) * (memory.v / memory.v.norm(2)), memory)


class Velocity(NamedTuple):
    """The memory of a momentum buffer."""

    v: Vec


@dataclass(frozen=True)
class Momentum(Descent):
    r"""\(h\), and the memory \(v = \mu v + h\): the base optimizer's momentum, kept here for an ascent to climb.

    With \(\mu = 0\) the memory is the last gradient.

    Attributes:
        mu: the momentum, in [0, 1).
    """

    mu: float = 0.9
    looks_back = False
    returns_last = True
    stateful = True

    def __post_init__(self) -> None:
        check.fraction("1 - mu", 1 - self.mu)

    def init(self, w: Vec) -> Velocity:
        """Return a velocity of zero."""
        return Velocity(0.0 * w)

    def __call__(self, climb: Climb | None, h: Vec, memory: Velocity) -> Descended:
        """Return `h` and add it to the velocity."""
        return self.idle(h, memory)

    def idle(self, g: Vec, memory: Velocity) -> Descended:
        """Return `g` and add it to the velocity."""
        return Descended(g, Velocity(self.mu * memory.v + g))


@dataclass(frozen=True)
class Extrapolated(Descent):
    r"""\((1-\lambda) h + \lambda h'\) with \(h' = \nabla L(w - \eta d)\), the direction of the next climb (SAMPa).

    Attributes:
        lmbda: the weight \(\lambda\) of the extrapolated gradient.
        lr: the learning rate \(\eta\), a number or a schedule.
    """

    lmbda: float
    lr: float | Schedule
    gradients = 2
    stateful = True
    rests = False

    def __post_init__(self) -> None:
        check.number("lmbda", self.lmbda)
        if not callable(self.lr):
            check.nonnegative("lr", self.lr)

    def init(self, w: Vec) -> Velocity:
        """Return a direction of zero."""
        return Velocity(0.0 * w)

    def __call__(self, climb: Climb, h: Vec, memory: Velocity) -> Asking[Descended]:
        """Ask for the extrapolated gradient and blend."""
        lr = self.lr(climb.step) if callable(self.lr) else self.lr
        ahead = yield climb.w - lr * climb.d
        return Descended((1 - self.lmbda) * h + self.lmbda * ahead, Velocity(ahead))


@dataclass(frozen=True)
class Curvature(Descent):
    r"""\(h_+ + \gamma\,(h_+ + h_- - 2g) + \beta\,(h_+ - h_-)\), \(h_\pm = \nabla L(w \pm \hat\epsilon)\) (CR-SAM).

    The second difference is the gradient of the curvature along \(\hat\epsilon\), the first one that of the slope.

    Attributes:
        gamma: the weight of the second difference.
        beta: the weight of the first.
    """

    gamma: float
    beta: float
    gradients = 2
    needs_gradient = True

    def __post_init__(self) -> None:
        check.number("gamma", self.gamma)
        check.number("beta", self.beta)

    def __call__(self, climb: Climb, h: Vec, memory: Any) -> Asking[Descended]:
        """Ask for the gradient on the other side of w."""
        opposite = yield climb.centre - climb.epsilon
        second = h + opposite - 2 * climb.g
        return Descended(h + self.gamma * second + self.beta * (h - opposite), memory)


def across(a: Vec, b: Vec) -> Vec:
    r"""Return the part of \(a\) across \(b\): \(a - \langle a, \hat b\rangle\hat b\)."""
    unit = b / b.norm(2)
    return a - a.inner(unit) * unit
