r"""How good the first-order step is for a real model and batch: what `inner_gap` of both adapters drives."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from samfamily import check
from samfamily.gap import gap_bound
from samfamily.program import Site
from samfamily.search import Effort, Measuring, Search
from samfamily.space import Vec
from samfamily.variant import Variant


@dataclass(frozen=True)
class InnerGap:
    r"""How good the first-order step is for one loss, at one point, in one ball.

    Attributes:
        rho: the radius.
        p: norm of the ball.
        dual_norm: \(\lVert g\rVert_*\) at w.
        loss: \(L(w)\).
        first_order: \(L(w + \hat\epsilon)\), what the first-order step reaches.
        best: the highest loss that was found in the ball.
        upper: no loss in the ball is higher; infinite where no `beta` was given.
        certified: whether `best` is proven to be the maximum, up to `upper`; otherwise it is a lower bound of it.
        beta: the gradient's Lipschitz constant in the ball's norms: the one that was given, or the largest slope seen.
        beta_given: which of the two.
        bound: what `gap_bound` makes of beta; proven where beta was given and holds.
        evaluations: losses and gradients that it took.

    Example:
        >>> import numpy as np
        >>> from samfamily import SAM
        >>> from samfamily.program import drive
        >>> from samfamily.reference import Landscape
        >>> scales = np.array([1.0, 10.0])  # as samfamily_torch.inner_gap and samfamily_jax.inner_gap do:
        >>> valley = Landscape(lambda w: (0.5 * float(scales @ w[0] ** 2), [scales * w[0]]), [np.array([1.0, 0.1])])
        >>> found = drive(measure(SAM(rho=1.0), valley.w, 10.0, Effort(20, 3)), valley.gradient)
        >>> round(found.ratio, 2), round(found.gap, 2), round(found.x, 2)
        (0.69, 1.89, 7.07)
    """

    rho: float
    p: float
    dual_norm: float
    loss: float
    first_order: float
    best: float
    upper: float
    certified: bool
    beta: float
    beta_given: bool
    bound: float
    evaluations: int

    @property
    def gap(self) -> float:
        r"""How much higher `best` is than the first-order step's loss."""
        return self.best - self.first_order

    @property
    def ratio(self) -> float:
        r"""The share of the best rise that the first-order step attains: 1 is all of it, below 0 the loss fell."""
        rise = self.best - self.loss
        return (self.first_order - self.loss) / rise if rise > 0 else 1.0

    @property
    def x(self) -> float:
        r"""\(\beta\rho / \lVert g\rVert_*\), the share of the gradient that the ball can change; infinite at g = 0."""
        return self.beta * self.rho / self.dual_norm if self.dual_norm > 0 else inf

    def __str__(self) -> str:
        kind = "maximum" if self.certified else "best found"
        return (
            f"rho = {self.rho:.4g}: the first-order step takes the loss from {self.loss:.6g} to "
            f"{self.first_order:.6g}; the {kind} is {self.best:.6g}; ratio {self.ratio:.4f}, x = {self.x:.4f}"
        )


def measure(variant: Variant, w: Vec, beta: float | None, effort: Effort) -> Measuring[InnerGap]:
    r"""Compare the first-order step with the best that can be found in a variant's ball.

    Of the variant only the ball and the radius matter.  At \(x < \tfrac12\), \(p = 2\) and a beta that was given, the
    comparison is with the exact maximum.

    Args:
        variant: any row whose radius is one number.
        w: the weights.
        beta: the gradient's Lipschitz constant in the ball's norms, if it is known.
        effort: how hard to search.

    Returns:
        The comparison.

    Raises:
        ValueError: a negative beta, a variant with an `m` or a mask.
        TypeError: a radius for each leaf.
    """
    if beta is not None:
        check.nonnegative("beta", beta)
    if variant.m is not None:
        raise ValueError(
            f"{variant.name} with m = {variant.m} has an inner maximum for every shard: pass the variant without "
            "sharded, and one shard as the batch"
        )
    if variant.ball.mask.stateful:
        raise ValueError(f"{variant.name} keeps a mask, and its ball has corners that move: pass SAM(rho=...)")
    loss, g = yield w
    site = Site(w, g, 0)
    ball = variant.ball.at(site)
    dual_norm = ball.dual_norm(g)
    reach = variant.radius(site, dual_norm, variant.radius.init(w))
    if isinstance(reach.rho, Vec):
        raise TypeError(f"{variant.name} has a radius for each leaf: pass one number, with_rho(0.05)")
    rho = float(reach.rho)
    found = yield from Search(w, ball.T, rho, ball.p, beta, effort).run(loss, g)
    constant = found.slope if beta is None else beta
    return InnerGap(
        rho=rho,
        p=ball.p,
        dual_norm=float(dual_norm),
        loss=float(loss),
        first_order=found.first.value,
        best=found.best.value,
        upper=found.upper,
        certified=found.error < inf,
        beta=constant,
        beta_given=beta is not None,
        bound=gap_bound(constant, rho, float(dual_norm), p=ball.p),
        evaluations=found.evaluations,
    )
