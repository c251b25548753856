r"""Variant: a member of the family as the product of four choices, and the one program that all members run.

With `w` and a state, the program asks for gradients and returns what the base optimizer should follow:

$$ d \leftarrow \text{ascent}(w), \qquad \hat\epsilon = \rho\,\arg\max_{\lVert e\rVert \le 1}\langle d, e\rangle, \qquad
   h = \nabla L(w + \hat\epsilon), \qquad \text{gradient} = \text{descent}(g, h). $$

Nothing else in the library decides anything about sharpness-aware minimisation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import Any

from samfamily import check
from samfamily.ascent import Ascent, Gradient
from samfamily.ball import Ball, Identity
from samfamily.descent import Climb, Descent, Perturbed, SecondOrder
from samfamily.program import Asking, State, Step, ask
from samfamily.radius import Radius, Rho, is_zero
from samfamily.space import Vec


@dataclass(frozen=True)
class Variant:
    r"""A variant of sharpness-aware minimisation.

    Attributes:
        name: the row's name.
        radius: how far the adversary goes, and when.
        ball: the norm ball round w.
        ascent: what the adversary climbs.
        descent: what the base optimizer receives.
        m: how many examples share one perturbation; None is the whole batch.

    Raises:
        ValueError: a combination that the mathematics forbids, with the reason.

    Example:
        >>> from samfamily import SAM
        >>> SAM(rho=0.05, steps=3).gradients_per_step
        4.0
        >>> SAM(rho=0.05).sharded(32).m
        32
    """

    name: str
    radius: Radius
    ball: Ball = Ball()
    ascent: Ascent = Gradient()
    descent: Descent = Perturbed()
    m: int | None = None

    def __post_init__(self) -> None:
        if self.m is not None:
            check.positive_integer("m", self.m)
        if isinstance(self.descent, SecondOrder):
            plain = self.ball.p == 2 and self.ball.metric == Identity() and self.ascent == Gradient()
            if not plain:
                raise ValueError(
                    f"{self.name}: second_order keeps d(epsilon)/dw of one climb along the gradient with p = 2 and "
                    f"T = I; got p = {self.ball.p}, metric = {self.ball.metric}, ascent = {self.ascent}: drop "
                    "second_order, or use p=2, steps=1 and no metric (for p = 1 and inf that derivative is 0 almost "
                    "everywhere, and nothing is lost)"
                )

    def init(self, w: Vec) -> State:
        """Return the state before the first step at `w`."""
        return State(0, self.ascent.init(w), self.radius.init(w), self.descent.init(w))

    def program(self, w: Vec, state: State) -> Asking[Step]:
        """Yield the requests of one step from `w`, and return its `Step`."""
        d, g, ascent = yield from ask(self.ascent(w, state.ascent))
        ball = self.ball.at(w)
        dual_norm = ball.dual_norm(d)
        rho, radius = self.radius(state.step, dual_norm, state.radius)
        if is_zero(rho):
            gradient, descent = yield from ask(self.descent.idle(g, state.descent))
        else:
            for _ in range(self.ascent.steps - 1):
                d = yield w + rho * ball.maximiser(d)
            climb = Climb(w, g, d, ball.dual_norm(d), rho, rho * ball.maximiser(d))
            h = yield w + climb.epsilon
            gradient, descent = yield from ask(self.descent(climb, h, state.descent))
        largest = rho.norm(inf) if isinstance(rho, Vec) else rho
        return Step(gradient, State(state.step + 1, ascent, radius, descent), dual_norm, largest)

    def sharded(self, m: int) -> Variant:
        r"""Return this variant with `m` examples to a perturbation (m-sharpness, arXiv 2010.01412, section 4.1).

        Every batch is cut into contiguous shards of `m` examples; each takes its own step from the same w, and the
        results are averaged.

        Args:
            m: examples to a perturbation; must divide every batch.

        Returns:
            The variant.

        Raises:
            ValueError: m below 1.
            TypeError: m not a whole number.
        """
        return replace(self, m=m)

    def with_rho(self, rho: Rho) -> Variant:
        r"""Return this variant with another \(\rho\): a number, a schedule, or a Vec of one number for each leaf."""
        return replace(self, radius=replace(self.radius, rho=rho))

    @property
    def stateful(self) -> bool:
        """Whether a step depends on the steps before it: a memory, or a schedule of rho."""
        axes: tuple[Any, ...] = (self.ascent, self.radius, self.descent)
        return self.radius.scheduled or any(axis.stateful for axis in axes)

    @property
    def gradients_per_step(self) -> float:
        """How many gradients of the whole batch a step evaluates, on average over many steps."""
        return self.ascent.gradients + self.radius.climbs_per_step * (self.ascent.steps - 1 + self.descent.gradients)

    @property
    def hessian_vector_products_per_step(self) -> float:
        """How many Hessian-vector products a step evaluates, on average over many steps."""
        return self.radius.climbs_per_step * self.descent.hessian_vector_products
