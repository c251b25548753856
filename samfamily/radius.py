r"""How far the adversary goes, and when: \((t, \lVert d\rVert_*) \mapsto \rho \ge 0\).

A radius of zero means: do not climb, reuse the gradient at w and ask for nothing more.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from samfamily import check
from samfamily.space import Scalar, Vec

Rho: TypeAlias = Scalar | Vec | Callable[[Scalar], Scalar]
r"""A number; a Vec with one number for each leaf; or a schedule from the step \(t = 0, 1, \dots\) to a number."""


@dataclass(frozen=True)
class Radius(ABC):
    r"""A rule for the radius, built round the paper's \(\rho\).

    Attributes:
        rho: a number, a schedule `step -> rho`, or a Vec of one number per leaf; in the units of the ball.
        stateful: whether the member has a memory besides the step counter.

    Raises:
        ValueError: a negative, infinite or NaN number; a schedule's values are checked when they are computed.
        TypeError: something that is neither number nor schedule.
    """

    rho: Rho
    stateful: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not callable(self.rho) and not isinstance(self.rho, Vec):
            check.radius("rho", self.rho)

    @property
    def scheduled(self) -> bool:
        """Whether rho is a function of the step."""
        return callable(self.rho)

    @property
    def climbs_per_step(self) -> float:
        """The fraction of the steps on which the adversary climbs."""
        return 0.0 if is_zero(self.rho) else 1.0

    def init(self, w: Vec) -> Any:
        """Return the memory before the first step."""
        return ()

    def value(self, step: Scalar) -> Scalar | Vec:
        r"""Return \(\rho\) at a step."""
        return check.radius("rho", self.rho(step)) if callable(self.rho) else self.rho

    @abstractmethod
    def __call__(self, step: Scalar, dual_norm: Scalar, memory: Any) -> tuple[Scalar | Vec, Any]:
        r"""Return the radius for this step and dual norm, and the memory."""


@dataclass(frozen=True)
class Constant(Radius):
    r"""The radius is \(\rho\) whatever the gradient: the normalised step of Foret et al., arXiv 2010.01412."""

    def __call__(self, step: Scalar, dual_norm: Scalar, memory: Any) -> tuple[Scalar | Vec, Any]:
        r"""Return \(\rho\) at this step."""
        return self.value(step), memory


def is_zero(rho: Any) -> bool:
    """Tell whether a radius is known to be zero without reading an array."""
    return isinstance(rho, int | float) and rho == 0
