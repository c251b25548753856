r"""How sharp a loss is round the weights: in the worst case and on average, in the ball that a variant trains with.

Worst-case m-sharpness is what sharpness-aware minimisation adds to the loss (Foret et al., arXiv 2010.01412, section
4.1): with the n examples in shards \(S_j\) of m,

$$ \frac{m}{n} \sum_{j} \max_{\lVert T^{-1}\epsilon\rVert_p \le \rho} L_{S_j}(w + \epsilon) - L_{S_j}(w) . $$

The maximum is taken where the variant's own program climbs (`worst_case`), or looked for in earnest (`searched`).
Average-case sharpness (`average_case`) is the mean over normal \(\epsilon\).  The adaptive versions are those of
adaptive variants: `worst_case(landscape, ASAM(rho=0.5))`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import inf, sqrt
from typing import Any, NamedTuple

from samfamily import check, noise
from samfamily.inner import InnerGap, measure
from samfamily.landscape import Landscape
from samfamily.program import Request, Site, Step, drive
from samfamily.search import Effort
from samfamily.space import Vec
from samfamily.variant import Variant


@dataclass(frozen=True)
class Sharpness:
    r"""A rise of the loss round the weights: k samples of it, one for each shard or draw, and their mean.

    $$ \bar r = \frac1k \sum_{j=1}^{k} r_j, \qquad r_j = L_j(w + \epsilon_j) - L_j(w), \qquad
       \text{error}^2 = \frac{1}{k (k - 1)} \sum_{j=1}^{k} (r_j - \bar r)^2 $$

    Attributes:
        value: the mean rise over shards or draws; in units of the loss.
        error: the standard error of that mean, infinite where there is one shard or draw.
        loss: the loss at w.
        samples: the rises themselves.
        upper: what the value could be at most with the true maxima; infinite where nobody can know.

    Example:
        >>> import numpy as np
        >>> from samfamily import SAM
        >>> from samfamily.reference import Landscape
        >>> loss = lambda w, x: (0.5 * float(np.mean((x - w[0]) ** 2)), [np.atleast_1d(np.mean(w[0] - x))])
        >>> found = worst_case(Landscape(loss, [np.zeros(1)], (np.array([1.0, 3.0]),)), SAM(rho=0.1).sharded(1))
        >>> [round(rise, 6) for rise in found.samples], round(found.value, 6)
        ([0.105, 0.305], 0.205)
        >>> print(found)
        0.205 ± 0.1 above 2.5
    """

    value: float
    error: float
    loss: float
    samples: tuple[float, ...]
    upper: float = inf

    def __str__(self) -> str:
        error = f" ± {self.error:.1g}" if self.error < inf else ""
        return f"{self.value:.4g}{error} above {self.loss:.4g}"


class Climbed(NamedTuple):
    r"""Where a variant's adversary goes from the weights.

    Attributes:
        loss: the loss at w.
        perturbed_loss: the loss at the last point that was climbed to.
        dual_norm: \(\lVert d\rVert_*\) of the direction at w.
        radius: how far it went.
        effective_radius: how far the weights went once rounded.
        cosine: of the gradients at w and at that point; 0 where one of them is.

    Example:
        >>> import numpy as np
        >>> from samfamily import SAM
        >>> from samfamily.reference import Landscape
        >>> scales = np.array([1.0, 10.0])
        >>> valley = Landscape(lambda w: (0.5 * float(scales @ w[0] ** 2), [scales * w[0]]), [np.array([1.0, 0.1])])
        >>> found = climb(valley, SAM(rho=0.1))
        >>> round(found.rise, 3), round(found.cosine, 3)  # more than |g| rho = 0.141, since the valley is curved
        (0.169, 0.975)
    """

    loss: float
    perturbed_loss: float
    dual_norm: float
    radius: float
    effective_radius: float
    cosine: float

    @property
    def rise(self) -> float:
        """How much higher the perturbed loss is."""
        return self.perturbed_loss - self.loss


def climb(landscape: Landscape, variant: Variant) -> Climbed:
    r"""Run a variant's program from the weights, take no step, and tell where its adversary went.

    $$ \text{rise} = L(w + \hat\epsilon) - L(w), \qquad
       \text{cosine} = \frac{\langle g, h\rangle}{\lVert g\rVert_2\,\lVert h\rVert_2}, \qquad
       g = \nabla L(w), \quad h = \nabla L(w + \hat\epsilon) $$

    Costs what a step costs, `variant.gradients_per_step`, and one gradient more for rows that do not ask at w.

    Args:
        landscape: the loss.
        variant: any row; a memory is as before the first step.  With an m, the figures are means over shards.

    Returns:
        The figures.

    Raises:
        ValueError: m does not divide a batch, weights that are not finite, no data.

    Example:
        >>> import numpy as np
        >>> from samfamily import SAM
        >>> from samfamily.reference import Landscape
        >>> bowl = Landscape(lambda w: (0.5 * float(w[0] @ w[0]), w), [np.array([3.0, 4.0])])
        >>> round(climb(bowl, SAM(rho=0.5)).rise, 9)
        2.625
    """
    landscape.check()
    rows = [_climb(shard, variant) for shard in landscape.shards(variant.m)]
    return Climbed(*(sum(column) / len(rows) for column in zip(*rows, strict=True)))


def worst_case(landscape: Landscape, variant: Variant) -> Sharpness:
    r"""Return the worst-case sharpness as the variant itself sees it: the loss where its climb ends, less that at w.

    $$ \frac{m}{n} \sum_{j} L_{S_j}(w + \hat\epsilon_j) - L_{S_j}(w) $$

    Of first order for `SAM(rho)`, by k climbs for `SAM(rho, steps=k)`, adaptive for `ASAM(rho)`, and m-sharpness for
    `variant.sharded(m)`; without an m all data share one perturbation.

    Args:
        landscape: the loss.
        variant: any row; a memory is as before the first step.

    Returns:
        The sharpness, a lower bound of the maximum's.

    Raises:
        ValueError: m does not divide a batch, weights that are not finite, no data.

    Example:
        >>> import numpy as np
        >>> from samfamily import SAM
        >>> from samfamily.reference import Landscape
        >>> def loss(w, x):
        ...     return 0.5 * float(np.mean((x - w[0]) ** 2)), [np.atleast_1d(np.mean(w[0] - x))]
        >>> landscape = Landscape(loss, [np.zeros(1)], (np.array([1.0, 1.0, -1.0, -1.0]),))
        >>> [round(worst_case(landscape, SAM(rho=0.1).sharded(m)).value, 6) for m in (1, 2, 4)]
        [0.105, 0.105, 0.0]
    """
    landscape.check()
    rows = [_climb(shard, variant) for shard in landscape.shards(variant.m)]
    return _mean([row.rise for row in rows], sum(row.loss for row in rows) / len(rows))


def searched(
    landscape: Landscape,
    variant: Variant,
    *,
    beta: float | None = None,
    iterations: int = 20,
    restarts: int = 3,
    seed: int = 0,
) -> Sharpness:
    r"""Return the worst-case sharpness with the maximum looked for in the whole ball, and bounded where it can be.

    $$ \frac{m}{n} \sum_{j} \max_{\lVert T^{-1}\epsilon\rVert_p \le \rho} L_{S_j}(w + \epsilon) - L_{S_j}(w) $$

    The best of an ascent with restarts, a lower bound; with the gradient's Lipschitz constant there is an upper one
    too, and where \(p = 2\) and \(\beta\rho < \tfrac12\lVert g\rVert\) the two meet in the exact maximum, as
    `iterations` grow (see `samfamily.exact`).

    Args:
        landscape: the loss.
        variant: any row whose radius is one number: its ball and its rho are looked at.
        beta: the gradient's Lipschitz constant on the ball, in the ball's norms, if it is known.
        iterations: points visited from one start, at most.
        restarts: starts of the search: the first-order step's point, and random ones.
        seed: of the random starts.

    Returns:
        The sharpness.

    Raises:
        ValueError: a negative beta, a variant with a mask, m does not divide a batch, weights that are not finite.
        TypeError: a radius for each leaf.

    Example:
        >>> import numpy as np
        >>> from samfamily import SAM
        >>> from samfamily.reference import Landscape
        >>> bowl = Landscape(lambda w: (0.5 * float(w[0] @ w[0]), w), [np.array([3.0, 4.0])])
        >>> found = searched(bowl, SAM(rho=0.5), beta=1.0)
        >>> round(found.value, 9), round(found.upper, 9)
        (2.625, 2.625)
    """
    landscape.check()
    effort, plain = Effort(iterations, restarts, 1e-6, seed), replace(variant, m=None)
    gaps: list[InnerGap] = [
        drive(measure(plain, shard.w, beta, effort), shard.gradient) for shard in landscape.shards(variant.m)
    ]
    loss = sum(gap.loss for gap in gaps) / len(gaps)
    return _mean([gap.best - gap.loss for gap in gaps], loss, sum(gap.upper - gap.loss for gap in gaps) / len(gaps))


def average_case(landscape: Landscape, variant: Variant, draws: int = 20, *, seed: int = 0) -> Sharpness:
    r"""Return how much the loss rises on average over normal perturbations of the weights.

    $$ \mathbb{E}_{z \sim \mathcal{N}(0, I)}\,L(w + \rho\,T z) - L(w) $$

    (Andriushchenko, Croce, Müller, Hein and Flammarion, arXiv 2302.07011, equation 2.)  Every z goes with -z, so that
    the slope of the loss at w adds no noise.  It does not depend on p, and not on m either.

    Args:
        landscape: the loss.
        variant: a row whose radius is one number, of which the metric T and rho are taken: \(\rho\) is each entry's
            standard deviation, and \(\rho\sqrt n\) about how far n weights go.
        draws: pairs of perturbations, two losses each; one gradient besides.
        seed: of the draws.

    Returns:
        The sharpness.

    Raises:
        ValueError: fewer draws than 1, weights that are not finite, no data.

    Example:
        >>> import numpy as np
        >>> from samfamily import SAM
        >>> from samfamily.reference import Landscape
        >>> bowl = Landscape(lambda w: (0.5 * float(w[0] @ w[0]), w), [np.ones(1000)])
        >>> round(average_case(bowl, SAM(rho=0.1)).value, 1)  # 1000 / 2 * 0.1**2
        5.0
    """
    check.positive_integer("draws", draws)
    landscape.check()
    w = landscape.w
    loss, g = landscape.gradient(w)
    site = Site(w, g, 0)
    ball = variant.ball.at(site)
    rho = variant.radius(site, ball.dual_norm(g), variant.radius.init(w)).rho
    rises = []
    for draw in range(draws):
        away = rho * (ball.T * noise.normal(w, seed, draw))
        rises.append((landscape.loss(w + away) + landscape.loss(w - away)) / 2 - loss)
    return _mean(rises, loss)


def _climb(landscape: Landscape, variant: Variant) -> Climbed:
    """Run the program on all of a landscape's data as one shard."""
    w = landscape.w
    first: list[tuple[float, Vec]] = []
    last: list[tuple[float, Vec]] = []

    def answer(request: Request) -> Any:
        if not isinstance(request, Vec):
            return landscape.answer(request)
        last[:] = [landscape.gradient(request)]
        if request is w:
            first[:] = last
        return last[0][1]

    step: Step = drive(variant.program(w, variant.init(w)), answer)
    (loss, g), (perturbed_loss, h) = (first or [landscape.gradient(w)])[0], last[0]
    lengths = float(g.norm(2)) * float(h.norm(2))
    cosine = float(g.inner(h)) / lengths if lengths > 0 else 0.0
    dual_norm, radius, effective_radius = map(float, (step.dual_norm, step.radius, step.effective_radius))
    return Climbed(loss, perturbed_loss, dual_norm, radius, effective_radius, cosine)


def _mean(samples: Iterable[float], loss: float, upper: float = inf) -> Sharpness:
    rises = tuple(samples)
    n, mean = len(rises), sum(rises) / len(rises)
    error = sqrt(sum((x - mean) ** 2 for x in rises) / (n - 1) / n) if n > 1 else inf
    return Sharpness(mean, error, loss, rises, upper)
