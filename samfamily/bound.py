r"""The generalisation bound of sharpness-aware minimisation, Theorem 2 of Foret et al. (arXiv 2010.01412), in numbers.

With probability \(1 - \delta\) over n training examples, for a loss in [0, 1] and k weights w,

$$ L_D(w) \le \max_{\lVert\epsilon\rVert_2 \le \rho} L_S(w + \epsilon) + \sqrt{\frac{
   k \log\Bigl(1 + \frac{\lVert w\rVert^2}{\rho^2}\bigl(1 + \sqrt{\tfrac{\log n}{k}}\bigr)^2\Bigr)
   + 4 \log\frac{n}{\delta} + 8 \log(6n + 3k)}{n - 1}}, $$

provided that the weights are no worse than their surroundings,
\(L_D(w) \le \mathbb{E}_{\epsilon \sim \mathcal{N}(0, \sigma^2 I)}\,L_D(w + \epsilon)\).

Printed differently there: the theorem's \(\tilde O(1)\) is \(8 \log(6n + 3k)\) in its proof; that the loss is at most 1
is used and not said; and the proviso is stated at \(\sigma = \rho\), where the proof uses it at
\(\sigma = \rho / (\sqrt k + \sqrt{\log n})\), the size at which a normal \(\epsilon\) lies in the ball with probability
\(1 - 1/\sqrt n\).  The bound is above 1, and says nothing, unless \(\lVert w\rVert^2\) is about
\(\rho^2 (e^{n/k} - 1)\) or less: for every network of more weights than examples.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, expm1, hypot, inf, isfinite, log, log1p, sqrt

from samfamily import check
from samfamily.family import SAM
from samfamily.landscape import Landscape
from samfamily.sharpness import average_case, searched
from samfamily.variant import Variant

LOG_OF_LARGEST = 1400.0
"""Of the square of the largest float, about."""


@dataclass(frozen=True)
class Bound:
    r"""The right-hand side of Theorem 2.

    Attributes:
        worst_loss: \(\max_{\lVert\epsilon\rVert\le\rho} L_S(w + \epsilon)\), as it was given.
        complexity: the square root.
        sigma: \(\rho / (\sqrt k + \sqrt{\log n})\), at which the proviso is needed.
        largest_norm: the \(\lVert w\rVert\) above which the bound is vacuous for any loss; 0 where it always is.
        proven: whether no loss in the ball is higher than `worst_loss`; if that is not known, the bound may be too low.
        margin: \(\mathbb{E}\,L(w + \epsilon) - L(w)\) on held-out data, which the proviso wants to be at least 0; None
            where it was not measured.

    Example:
        >>> found = theorem_2(0.1, norm=1.0, rho=0.5, n=100_000, k=100)
        >>> round(found.value, 3), found.vacuous, round(found.sigma, 4)
        (0.161, False, 0.0373)
        >>> theorem_2(0.1, norm=1.01 * found.largest_norm, rho=0.5, n=100_000, k=100).vacuous
        True
    """

    worst_loss: float
    complexity: float
    sigma: float
    largest_norm: float
    proven: bool = False
    margin: float | None = None

    @property
    def value(self) -> float:
        r"""What \(L_D(w)\) is at most, if the proviso holds."""
        return self.worst_loss + self.complexity

    @property
    def vacuous(self) -> bool:
        """Whether the bound says nothing: a loss in [0, 1] is at most 1 anyway."""
        return self.value >= 1

    def __str__(self) -> str:
        said = f"{self.worst_loss:.4g} + {self.complexity:.4g} = {self.value:.4g}"
        if self.vacuous:
            said += ": vacuous, a loss in [0, 1] is at most 1 anyway"
        if not self.proven:
            said += "; the worst loss is the best found, not proven to be the maximum"
        if self.margin is not None and self.margin < 0:
            said += f"; the proviso fails on held-out data, by {-self.margin:.3g}"
        return said


def theorem_2(worst_loss: float, norm: float, rho: float, *, n: int, k: int, delta: float = 0.05) -> Bound:
    r"""Return the bound from its ingredients.

    Args:
        worst_loss: \(\max_{\lVert\epsilon\rVert_2\le\rho} L_S(w + \epsilon)\) of a loss in [0, 1].
        norm: \(\lVert w\rVert_2\).
        rho: the radius, in the units of the weights.
        n: training examples.
        k: weights.
        delta: how often the bound may fail.

    Returns:
        The bound.

    Raises:
        ValueError: a loss outside of [0, 1], a radius that is not positive, fewer examples than 2, a delta outside of
            (0, 1].

    Example:
        >>> print(theorem_2(0.1, norm=1.0, rho=0.5, n=100_000, k=100))
        0.1 + 0.0... = 0.1...; the worst loss is the best found, not proven to be the maximum
        >>> theorem_2(0.1, norm=30.0, rho=0.05, n=50_000, k=1_000_000).vacuous
        True
    """
    check.number("worst_loss", worst_loss)
    check.nonnegative("norm", norm)
    check.fraction("delta", delta)
    check.positive_integer("n", n)
    check.positive_integer("k", k)
    if not 0 <= worst_loss <= 1:
        raise ValueError(
            f"worst_loss must be in [0, 1], as the theorem needs every example's loss to be, got {worst_loss:.6g}: "
            "measure the error rate, or 1 - p of the right class, instead of a cross-entropy"
        )
    if not (rho > 0 and isfinite(rho)):
        raise ValueError(f"rho must be positive and finite, got {rho!r}: the bound is infinite at 0")
    if n < 2:
        raise ValueError(f"n must be at least 2, got {n}: the bound divides by n - 1")
    spread = 1 + sqrt(log(n) / k)
    rest = 4 * log(n / delta) + 8 * log(6 * n + 3 * k)
    ratio = norm / rho * spread
    dimensions = log1p(ratio**2) if ratio < 1 else 2 * log(hypot(1, ratio))  # log(1 + ratio^2), in range
    complexity = sqrt((k * dimensions + rest) / (n - 1))
    room = (n - 1 - rest) / k
    reach = 0.0 if room <= 0 else exp(room / 2) * sqrt(-expm1(-room)) if room < LOG_OF_LARGEST else inf
    return Bound(worst_loss, complexity, rho / (sqrt(k) + sqrt(log(n))), rho / spread * reach)


def of(
    landscape: Landscape,
    variant: Variant,
    *,
    held_out: Landscape | None = None,
    delta: float = 0.05,
    beta: float | None = None,
    draws: int = 20,
) -> Bound:
    r"""Measure the ingredients of Theorem 2 on a landscape, and return the bound.

    Args:
        landscape: a loss in [0, 1] of every example, differentiable, such as \(1 - p\) of the right class, on the
            training data: all of it, as n is counted there.
        variant: `SAM(rho)`, of which rho is taken: the theorem is about the Euclidean ball.
        held_out: the same loss on data that the weights were not trained on, for the proviso.
        delta: how often the bound may fail.
        beta: as for `sharpness.searched`, whose upper bound is taken where there is one, and else the best found.
        draws: as for `sharpness.average_case`.

    Returns:
        The bound, with the proviso's margin where there are held-out data.

    Raises:
        ValueError: a loss outside of [0, 1], another ball than the Euclidean, an m, no radius.

    Example:
        >>> import numpy as np
        >>> from samfamily import SAM
        >>> from samfamily.reference import Landscape
        >>> def loss(w, x):  # in [0, 1]
        ...     return float(np.mean(np.sin(x * w[0]) ** 2)), [np.atleast_1d(np.mean(x * np.sin(2 * x * w[0])))]
        >>> x = np.random.default_rng(0).normal(size=100_000)
        >>> found = of(Landscape(loss, [np.array([0.2])], (x,)), SAM(rho=0.05))
        >>> found.vacuous, round(found.worst_loss, 2)
        (False, 0.06)
    """
    rho = variant.radius.rho
    plain = SAM(rho=rho)
    if variant != plain or not isinstance(rho, int | float):
        raise ValueError(
            f"Theorem 2 is about the Euclidean ball of all data, got {variant}: pass SAM(rho=...), without an m"
        )
    found = searched(landscape, variant, beta=beta)
    n = sum(landscape.examples(batch) for batch in landscape.data)
    best, proven = found.loss + found.value, found.upper < inf
    worst = min(1.0, found.loss + found.upper) if proven and best <= 1 else best
    bound = theorem_2(worst, float(landscape.w.norm(2)), rho, n=n, k=landscape.w.size, delta=delta)
    margin = None if held_out is None else average_case(held_out, plain.with_rho(bound.sigma), draws).value
    return Bound(bound.worst_loss, bound.complexity, bound.sigma, bound.largest_norm, proven, margin)
