r"""What the adversary climbs: the direction \(d\) of its linear model \(\langle d, e\rangle\) of the loss round w.

A member is called with `(w, state)` and returns a `Direction`.  It may be a generator and yield requests.  `steps`
repeats the climb from the point reached, inside the same ball.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from samfamily import check, noise
from samfamily.program import Asking, HessianVector, State, choose
from samfamily.space import Scalar, Vec


class Direction(NamedTuple):
    r"""What an ascent hands over.

    Attributes:
        d: the direction.
        g: the gradient at w, or None if the member did not ask for it.
        memory: the member's memory for the next step.
        centre: where the ball's centre lies, seen from w; None is at w.
    """

    d: Vec
    g: Vec | None
    memory: Any = ()
    centre: Vec | None = None


@dataclass(frozen=True)
class Ascent(ABC):
    r"""What the adversary climbs, and how many times.

    Attributes:
        steps: climbs from w; each perturbed point's gradient is the next direction, and the point is again \(w\) plus
            \(\rho\) times a maximiser, so that it never leaves the ball.
        gradients: how many gradients `__call__` asks for.
        hands_over_gradient: whether `g` is among them.
        stateful: whether the member has a memory.

    Raises:
        ValueError: fewer than one step.
    """

    steps: int = 1
    gradients: ClassVar[int] = 1
    hands_over_gradient: ClassVar[bool] = True
    stateful: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check.positive_integer("steps", self.steps)

    @property
    def hessian_vector_products(self) -> float:
        """How many Hessian-vector products `__call__` asks for, on average over many steps."""
        return 0.0

    def init(self, w: Vec) -> Any:
        """Return the memory before the first step."""
        return ()

    @abstractmethod
    def __call__(self, w: Vec, state: State) -> Any:
        """Return a `Direction`, or a generator that asks for gradients and returns it."""


class Mean(NamedTuple):
    """The memory of a running mean of gradients."""

    mean: Vec


class Last(NamedTuple):
    """The memory of one gradient."""

    gradient: Vec


@dataclass(frozen=True)
class Gradient(Ascent):
    r"""The gradient itself: \(d = g = \nabla L(w)\) (Foret et al., arXiv 2010.01412)."""

    def __call__(self, w: Vec, state: State) -> Asking[Direction]:
        """Ask for the gradient at w and return it as the direction."""
        g = yield w
        return Direction(g, g)


@dataclass(frozen=True)
class Residual(Ascent):
    r"""The gradient less its running mean: \(d = g - \sigma m_{t-1}\), \(m_t = \lambda m_{t-1} + (1-\lambda) g\).

    The mean stands for the full-batch gradient, so what is left is the batch's noise.  In the first step \(d = g\) and
    \(m = g\), as in the authors' code (Friendly-SAM, Li et al., arXiv 2403.12350).

    Attributes:
        sigma: how much of the mean is taken away.
        lmbda: how much of it is kept.
    """

    sigma: float = 1.0
    lmbda: float = 0.9
    stateful = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check.number("sigma", self.sigma)
        check.fraction("1 - lmbda", 1 - self.lmbda)

    def init(self, w: Vec) -> Mean:
        """Return a mean of zero, which the first step replaces."""
        return Mean(0.0 * w)

    def __call__(self, w: Vec, state: State) -> Asking[Direction]:
        """Ask for the gradient at w and return its residual."""
        g = yield w
        kept = self.lmbda * (state.step > 0)
        m = state.ascent.mean
        return Direction(g - (self.sigma * (state.step > 0)) * m, g, Mean(kept * m + (1 - kept) * g))


@dataclass(frozen=True)
class RunningMean(Ascent):
    r"""The gradient's running mean: \(d_t = (1-\theta) d_{t-1} + \theta g\), \(d_0 = g\) (VaSSO, arXiv 2309.15639).

    Attributes:
        theta: the weight of the newest gradient, in (0, 1].
    """

    theta: float = 0.9
    stateful = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check.fraction("theta", self.theta)

    def init(self, w: Vec) -> Mean:
        """Return a mean of zero, which the first step replaces."""
        return Mean(0.0 * w)

    def __call__(self, w: Vec, state: State) -> Asking[Direction]:
        """Ask for the gradient at w and return the mean."""
        g = yield w
        kept = (1 - self.theta) * (state.step > 0)
        d = kept * state.ascent.mean + (1 - kept) * g
        return Direction(d, g, Mean(d))


@dataclass(frozen=True)
class PreviousGradient(Ascent):
    r"""The gradient of the step before: \(d_t = g_{t-1}\), and no perturbation in the first step.

    Since it does not wait for \(g_t\), both gradients of a step can be computed at once (AsyncSAM).
    """

    stateful = True

    def init(self, w: Vec) -> Last:
        """Return a gradient of zero."""
        return Last(0.0 * w)

    def __call__(self, w: Vec, state: State) -> Asking[Direction]:
        """Ask for the gradient at w, to be climbed in the next step."""
        g = yield w
        return Direction(state.ascent.gradient, g, Last(g))


@dataclass(frozen=True)
class Recalled(Ascent):
    r"""What the descent remembers: \(d = \mathrm{sign} \cdot\) its memory's first vector; no gradient is asked for.

    Attributes:
        sign: 1 to climb along it, -1 against it.
    """

    sign: float = 1.0
    gradients = 0
    hands_over_gradient = False

    def __call__(self, w: Vec, state: State) -> Direction:
        """Return the remembered vector."""
        return Direction(self.sign * state.descent[0], None)


@dataclass(frozen=True)
class Noise(Ascent):
    r"""A random direction: \(d \sim \mathcal N(0, I)\), drawn anew every step.

    Attributes:
        seed: of the noise.
    """

    seed: int = 0
    gradients = 0
    hands_over_gradient = False
    stateful = True  # the draw is a function of the step

    def __call__(self, w: Vec, state: State) -> Direction:
        """Return the noise."""
        return Direction(noise.normal(w, self.seed, state.step), None)


@dataclass(frozen=True)
class GradientAtNoise(Ascent):
    r"""The gradient at a random point, round which the ball then lies: \(d = \nabla L(w + \sigma z)\).

    Attributes:
        sigma: the noise's standard deviation, in units of the weights.
        seed: of the noise.
    """

    sigma: float = 0.01
    seed: int = 0
    hands_over_gradient = False
    stateful = True  # the draw is a function of the step

    def __post_init__(self) -> None:
        super().__post_init__()
        check.nonnegative("sigma", self.sigma)

    def __call__(self, w: Vec, state: State) -> Asking[Direction]:
        """Ask for the gradient at the random point."""
        centre = self.sigma * noise.normal(w, self.seed, state.step)
        d = yield w + centre
        return Direction(d, None, (), centre)


class TopEigenvector(NamedTuple):
    """The memory of a unit vector near the Hessian's top eigenvector."""

    v: Vec


@dataclass(frozen=True)
class TowardsEigenvector(Ascent):
    r"""The unit gradient, turned towards the Hessian's top eigenvector \(v\) (Eigen-SAM, Luo et al., arXiv 2501.12666).

    $$ d = \hat g + \alpha\,\mathrm{sign}\langle g, v\rangle\,(v - \langle\hat g, v\rangle\,\hat g) $$

    Attributes:
        alpha: how far it is turned.
        every: steps between two refreshments of v.
        iterations: power iterations for each, a Hessian-vector product each, from where the last ones ended.
        seed: of the vector that the first ones start from.
    """

    alpha: float = 0.2
    every: int = 100
    iterations: int = 5
    seed: int = 0
    stateful = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check.number("alpha", self.alpha)
        check.positive_integer("every", self.every)
        check.positive_integer("iterations", self.iterations)

    @property
    def hessian_vector_products(self) -> float:
        """How many a step asks for on average."""
        return self.iterations / self.every

    def init(self, w: Vec) -> TopEigenvector:
        """Return a random unit vector."""
        z = noise.normal(w, self.seed, 0)
        return TopEigenvector(z / z.norm(2))

    def __call__(self, w: Vec, state: State) -> Asking[Direction]:
        """Ask for the gradient at w and, from time to time, for products that refresh v."""
        g = yield w
        memory: TopEigenvector = state.ascent
        v = yield from choose(state.step % self.every == 0, lambda: self._iterate(w, memory.v), lambda: memory.v)
        v = v / v.norm(2)  # a mean over shards is shorter
        unit = g / g.norm(2)
        along: Scalar = unit.inner(v)
        across = v - along * unit
        return Direction(unit + (self.alpha * w.space.sign(along)) * across, g, TopEigenvector(v))

    def _iterate(self, w: Vec, v: Vec) -> Asking[Vec]:
        for _ in range(self.iterations):
            product = yield HessianVector(w, v)
            v = product / product.norm(2)
        return v
