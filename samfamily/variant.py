r"""Variant: a member of the family as the product of four choices, and the one program that all members run.

With `w` and a state, the program asks for gradients and returns what the base optimizer should follow:

$$ d \leftarrow \text{ascent}(w), \qquad \hat\epsilon = \rho\,\arg\max_{\lVert e\rVert \le 1}\langle d, e\rangle, \qquad
   h = \nabla L(w + \hat\epsilon), \qquad \text{gradient} = \text{descent}(g, h). $$

Nothing else in the library decides anything about sharpness-aware minimisation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from math import inf
from typing import Any

from samfamily import check
from samfamily.ascent import Ascent, Gradient
from samfamily.ball import Ball
from samfamily.descent import Climb, Descended, Descent, Perturbed, SecondOrder
from samfamily.program import Asking, Site, State, Step, ask, choose
from samfamily.radius import Constant, Radius, Rho, is_zero
from samfamily.space import Scalar, Vec

HALF_PRECISION = 2.0**-12
"""Between the spacing of float32 at 1 and that of float16 and bfloat16."""


@dataclass(frozen=True)
class Variant:
    r"""A variant of sharpness-aware minimisation.

    $$ d \leftarrow \text{ascent}(w), \qquad
       \hat\epsilon = \rho\,\operatorname*{arg\,max}_{\lVert e\rVert \le 1}\langle d, e\rangle, \qquad
       h = \nabla L(w + \hat\epsilon), \qquad \text{gradient} = \text{descent}(g, h) $$

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
            if self.ball.mask.why_not_sharded:
                raise ValueError(f"{self.name} cannot be sharded with m = {self.m}: {self.ball.mask.why_not_sharded}")
        if isinstance(self.descent, SecondOrder):
            plain = self.ball == Ball() and self.ascent == Gradient() and isinstance(self.radius, Constant)
            if not plain:
                raise ValueError(
                    f"{self.name}: second_order keeps d(epsilon)/dw of one climb along the gradient with p = 2 and "
                    f"T = I; got {self.ball}, {self.ascent}, {self.radius}: drop second_order, or use p=2, steps=1 and "
                    "no metric (for p = 1 and inf that derivative is 0 almost everywhere, and nothing is lost)"
                )

    def init(self, w: Vec) -> State:
        """Return the state before the first step at `w`."""
        return State(0, self.ascent.init(w), self.ball.mask.init(w), self.radius.init(w), self.descent.init(w))

    def program(self, w: Vec, state: State) -> Asking[Step]:
        """Yield the requests of one step from `w`, and return its `Step`."""
        d, g, ascent, centre = yield from ask(self.ascent(w, state))
        site = Site(w, d, state.step)
        M, mask = yield from ask(self.ball.mask(site, state.ball))
        ball = self.ball.at(site, M)
        dual_norm = ball.dual_norm(d)
        rho, climbs, radius = self.radius(site, dual_norm, state.radius)
        if g is None and self.descent.needs_gradient:
            g = yield w
        if is_zero(rho) and self.descent.rests:
            climbs = False
        origin = w if centre is None else w + centre
        needed = g if self.descent.needs_gradient else None
        choice = choose(
            climbs,
            partial(self._climb, Climb(w, needed, d, ball, rho, origin, state.step), state.descent),
            partial(self._rest, g, origin, state.descent),
        )
        del d, g, needed, centre, site, M, ball, origin  # only the choice holds them now, and lets go when it can
        (gradient, descent, addend), arrived = yield from choice
        farthest = 0.0 if climbs is False else rho.norm(inf) if isinstance(rho, Vec) else rho
        went = farthest if isinstance(climbs, bool) else w.space.where(climbs, farthest, 0.0)
        return Step(gradient, State(state.step + 1, ascent, mask, radius, descent), dual_norm, went, addend, arrived)

    def _climb(self, climb: Climb, memory: Any) -> Asking[tuple[Descended, Scalar]]:
        """Climb as often as the ascent says, and descend from the last point."""
        for _ in range(self.ascent.steps - 1):
            climb = climb._replace(d=(yield climb.centre + climb.epsilon))
        epsilon, seen = climb.epsilon, climb if self.descent.looks_back else None
        point = climb.centre + epsilon
        arrived = share_that_arrives(climb.centre, point, epsilon)
        del climb, epsilon
        h = yield point
        return (yield from ask(self.descent(seen, h, memory))), arrived

    def _rest(self, g: Vec | None, origin: Vec, memory: Any) -> Asking[tuple[Descended, Scalar]]:
        """Descend with the gradient at w, asking for it where the ascent did not."""
        gradient = g if g is not None else (yield origin)
        return (yield from ask(self.descent.idle(gradient, memory))), share_that_arrives(origin, origin, 0.0 * origin)

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
        return self if rho is self.radius.rho else replace(self, radius=replace(self.radius, rho=rho))

    def within(self, ball: Ball) -> Variant:
        """Return this variant in another ball, such as `GSAM().within(Ball(p=inf, metric=Adaptive()))`."""
        return replace(self, ball=ball)

    @property
    def stateful(self) -> bool:
        """Whether a step depends on the steps before it: a memory, or the step counter."""
        parts: tuple[Any, ...] = (self.ascent, self.ball.metric, self.ball.mask, self.radius, self.descent)
        return self.radius.scheduled or any(part.stateful for part in parts)

    @property
    def gradients_per_step(self) -> float:
        """How many gradients of the whole batch a step evaluates, on average over many steps."""
        climbs = self.radius.climbs_per_step
        at_w = 0.0 if self.ascent.hands_over_gradient else 1.0 if self.descent.needs_gradient else 1.0 - climbs
        return self.ascent.gradients + at_w + climbs * (self.ascent.steps - 1 + self.descent.gradients)

    @property
    def gradients_besides_w(self) -> int:
        """How many gradients a step that climbs evaluates besides an opening one at the weights."""
        opening = 0 if self.ascent.hands_over_gradient else self.ascent.gradients + self.descent.needs_gradient
        return opening + self.ascent.steps - 1 + self.descent.gradients

    @property
    def gradient_returned(self) -> int:
        """Which of a step's gradients the base optimizer receives as it is, the first being 1; 0 if none.

        A step that rests may end before it.
        """
        return (self.ascent.hands_over_gradient + self.gradients_besides_w) * self.descent.returns_last

    @property
    def hessian_vector_products_per_step(self) -> float:
        """How many Hessian-vector products a step evaluates, on average over many steps."""
        return self.ascent.hessian_vector_products + self.radius.climbs_per_step * self.descent.hessian_vector_products


def share_that_arrives(origin: Vec, point: Vec, epsilon: Vec) -> Scalar:
    r"""Return \(\lVert(w \oplus \epsilon) - w\rVert / \lVert\epsilon\rVert\), where \(\oplus\) rounds.

    In float32 and wider it is the number 1, and costs nothing.  In bfloat16 a perturbation of less than half the
    spacing of the weights, which is 1/128 to 1/256 of them, vanishes.
    """
    if origin.space.rounding(origin.leaves) < HALF_PRECISION:
        return 1.0
    return origin.space.divide((point - origin).norm(2), epsilon.norm(2))
