r"""What the adversary climbs: from the point \(w\) to the direction \(d\) of its linear model \(\langle d, e\rangle\).

A member is called with `(w, memory)` and returns `(d, g, memory)`: the direction, the gradient at w if it asked for one
(else None), and its memory.  It may be a generator and yield requests.  `steps` repeats the climb from the point
reached, inside the same ball.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from samfamily import check
from samfamily.program import Asking
from samfamily.space import Vec


@dataclass(frozen=True)
class Ascent(ABC):
    r"""What the adversary climbs, and how many times.

    Attributes:
        steps: climbs from w; each perturbed point's gradient is the next direction, and the point is again \(w\) plus
            \(\rho\) times a maximiser, so that it never leaves the ball.
        gradients: how many gradients `__call__` asks for.
        stateful: whether the member has a memory.

    Raises:
        ValueError: fewer than one step.
    """

    steps: int = 1
    gradients: ClassVar[int] = 1
    stateful: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check.positive_integer("steps", self.steps)

    def init(self, w: Vec) -> Any:
        """Return the memory before the first step."""
        return ()

    @abstractmethod
    def __call__(self, w: Vec, memory: Any) -> Any:
        """Return `(d, g, memory)`, or a generator that asks for gradients and returns it."""


@dataclass(frozen=True)
class Gradient(Ascent):
    r"""The gradient itself: \(d = g = \nabla L(w)\) (Foret et al., arXiv 2010.01412)."""

    def __call__(self, w: Vec, memory: Any) -> Asking[tuple[Vec, Vec | None, Any]]:
        """Ask for the gradient at w and return it as the direction."""
        g = yield w
        return g, g, memory
