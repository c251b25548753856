r"""How far the adversary goes, and when: from where a step stands and \(\lVert d\rVert_*\) to \(\rho \ge 0\).

A radius of zero means: do not climb, reuse the gradient at w and ask for nothing more.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import isnan
from typing import Any, ClassVar, NamedTuple, TypeAlias

from samfamily import check, noise
from samfamily.program import Site
from samfamily.space import Scalar, Vec

Schedule: TypeAlias = Callable[[Scalar], Scalar]
r"""From the step \(t = 0, 1, \dots\) to a number."""
Rho: TypeAlias = Scalar | Vec | Schedule
r"""A number; a Vec with one number for each leaf; or a schedule."""


class Reach(NamedTuple):
    r"""What a radius decides.

    Attributes:
        rho: how far.
        climbs: whether at all; a bool, or a 0-d array where that is not known yet.
        memory: the member's memory for the next step.
    """

    rho: Scalar | Vec
    climbs: Any = True
    memory: Any = ()


@dataclass(frozen=True)
class Radius(ABC):
    r"""A rule for the radius, built round the paper's \(\rho\).

    Attributes:
        rho: a number, a schedule `step -> rho`, or a Vec of one number per leaf; in the units of the ball.
        stateful: whether the radius depends on the steps before, the counter included.

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
    def __call__(self, site: Site, dual_norm: Scalar, memory: Any) -> Reach:
        """Return how far the adversary goes where a step stands."""


@dataclass(frozen=True)
class Constant(Radius):
    r"""The radius is \(\rho\) whatever the gradient: the normalised step of Foret et al., arXiv 2010.01412."""

    def __call__(self, site: Site, dual_norm: Scalar, memory: Any) -> Reach:
        r"""Return \(\rho\)."""
        return Reach(self.value(site.step))


@dataclass(frozen=True)
class Unnormalised(Radius):
    r"""The radius is \(\rho\lVert d\rVert_*\): the perturbation is \(\rho d\) at p = 2 and T = I."""

    def __call__(self, site: Site, dual_norm: Scalar, memory: Any) -> Reach:
        r"""Return \(\rho\lVert d\rVert_*\)."""
        rho = self.value(site.step)
        return Reach(rho if is_zero(rho) else rho * dual_norm)


@dataclass(frozen=True)
class Periodic(Radius):
    r"""The radius is \(\rho\) in the steps \(0, k, 2k, \dots\) and 0 in the others.

    Attributes:
        k: the period.
    """

    k: int = 1
    stateful = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check.positive_integer("k", self.k)

    @property
    def climbs_per_step(self) -> float:
        """One in k."""
        return super().climbs_per_step / self.k

    def __call__(self, site: Site, dual_norm: Scalar, memory: Any) -> Reach:
        r"""Return \(\rho\), and whether it is time."""
        return Reach(self.value(site.step), site.step % self.k == 0)


@dataclass(frozen=True)
class Bernoulli(Radius):
    r"""The radius is \(\rho\) with a probability, drawn anew every step, and 0 otherwise.

    Attributes:
        probability: in (0, 1].
        seed: of the draws.
    """

    probability: float = 0.5
    seed: int = 0
    stateful = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check.fraction("probability", self.probability)

    @property
    def climbs_per_step(self) -> float:
        """The probability."""
        return super().climbs_per_step * self.probability

    def __call__(self, site: Site, dual_norm: Scalar, memory: Any) -> Reach:
        r"""Return \(\rho\), and the coin."""
        return Reach(self.value(site.step), noise.uniform(site.w.space, self.seed, site.step) < self.probability)


class Moments(NamedTuple):
    """The running mean and variance of the squared gradient norm."""

    mean: Scalar
    variance: Scalar


@dataclass(frozen=True)
class Thresholded(Radius):
    r"""The radius is \(\rho\) where the gradient is large for its recent history, and 0 elsewhere (AE-SAM).

    With \(n = \lVert d\rVert_*\), \(\mu_t = \delta\mu_{t-1} + (1-\delta) n^2\) and \(\sigma_t^2 = \delta\sigma_{t-1}^2
    + (1-\delta)(n^2 - \mu_t)^2\), the adversary climbs where \(n^2 \ge \mu_t + c_t\sigma_t\).

    Attributes:
        c: \(c_t\): a number, which may be infinite, or a schedule.
        delta: \(\delta\) in [0, 1).
    """

    c: float | Schedule = 0.0
    delta: float = 0.9
    stateful = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check.fraction("1 - delta", 1 - self.delta)
        c: Any = self.c
        if not callable(c) and (not isinstance(c, int | float) or isnan(c)):
            raise ValueError(f"c must be a number or a schedule, got {c!r}: c=-inf is SAM, c=inf the base optimizer")

    def init(self, w: Vec) -> Moments:
        """Return moments of zero."""
        return Moments(0.0 * w.norm(2), 0.0 * w.norm(1))  # two arrays, so that a state can be donated

    def __call__(self, site: Site, dual_norm: Scalar, memory: Moments) -> Reach:
        r"""Return \(\rho\), and whether the gradient is large."""
        square = dual_norm * dual_norm
        mean = self.delta * memory.mean + (1 - self.delta) * square
        variance = self.delta * memory.variance + (1 - self.delta) * (square - mean) ** 2
        c = self.c(site.step) if callable(self.c) else self.c
        deviations = site.w.space.divide(square - mean, variance**0.5)  # 0 where there is no variance
        return Reach(self.value(site.step), deviations >= c, Moments(mean, variance))


@dataclass(frozen=True)
class Tied:
    r"""A schedule of rho that follows the learning rate's, as in GSAM (Zhuang et al., arXiv 2203.08065).

    $$ \rho_t = \max\Bigl(0,\; \rho_{\min} + (\rho_{\max} - \rho_{\min})\,
       \frac{\eta_t - \eta_{\min}}{\eta_{\max} - \eta_{\min}}\Bigr) $$

    Below \(\eta_{\min}\), as in a warm-up, rho is below \(\rho_{\min}\), but never below 0.

    Attributes:
        lr: the learning rate's schedule, `step -> lr`.
        lr_max: its largest value.
        rho_max: rho there.
        lr_min: its smallest value.
        rho_min: rho there.

    Raises:
        ValueError: lr_max not above lr_min.

    Example:
        >>> rho = Tied(lambda step: 0.5**step, lr_max=1.0, rho_max=0.4)
        >>> rho(0), rho(1)
        (0.4, 0.2)
    """

    lr: Schedule
    lr_max: float
    rho_max: float
    lr_min: float = 0.0
    rho_min: float = 0.0

    def __post_init__(self) -> None:
        if not self.lr_max > self.lr_min:
            raise ValueError(f"lr_max must be above lr_min, got {self.lr_max} and {self.lr_min}")

    def __call__(self, step: Scalar) -> Scalar:
        r"""Return \(\rho_t\)."""
        share = (self.lr(step) - self.lr_min) / (self.lr_max - self.lr_min)
        rho = self.rho_min + (self.rho_max - self.rho_min) * share
        return (rho + abs(rho)) / 2


def is_zero(rho: Any) -> bool:
    """Tell whether a radius is known to be zero without reading an array."""
    return isinstance(rho, int | float) and rho == 0
