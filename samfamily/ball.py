r"""The norm ball round \(w\) in which the adversary moves, its dual norm and its maximiser.

With a metric \(T\) (self-adjoint, elementwise) and \(p \in [1, \infty]\), \(1/p + 1/q = 1\), the unit ball is
\(\{e : \lVert T^{-1} e\rVert_p \le 1\}\).  Its two faces are

$$ \lVert d\rVert_* = \max_{e} \langle d, e\rangle = \lVert T d\rVert_q, \qquad
   \operatorname*{arg\,max}_{e} \langle d, e\rangle = T\,\mathrm{lmo}_p(T d), \qquad
   \mathrm{lmo}_p(u) = \mathrm{sign}(v)\,|v|^{q-1},\quad v = u / \lVert u\rVert_q . $$

A mask \(M\) of zeros and ones may follow the maximiser: \(\hat\epsilon = \rho\,M\,T\,\mathrm{lmo}_p(T d)\) is then
shorter than \(\rho\), which is what sparse SAM does.  (A mask *inside* the ball, of full length, is a metric:
`Restricted`.)

That is all the geometry in the library: SAM is \(T = I\) (Foret et al., arXiv 2010.01412, eq. 2, whose denominator
\((\lVert g\rVert_q^q)^{1/p}\) equals \(\lVert g\rVert_q^{q-1}\)); ASAM is \(T = |w| + \eta\) (Kwon et al., arXiv
2102.11600).  Dividing by the norm first keeps every \(|v_i| \le 1\), so no power overflows.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from samfamily import check
from samfamily.mask import Everything, Mask
from samfamily.metric import Identity, Metric
from samfamily.program import Site
from samfamily.space import Scalar, Vec


@dataclass(frozen=True)
class Ball:
    r"""The family of balls \(\{e : \lVert T^{-1} e\rVert_p \le 1\}\), one for every \(w\).

    Attributes:
        p: the norm, in \([1, \infty]\).
        metric: what gives \(T\) at \(w\).
        mask: what gives \(M\), and may remember it.

    Raises:
        ValueError: p below 1 or NaN.

    Example:
        >>> import numpy as np
        >>> from samfamily import SAM
        >>> from samfamily.reference import value_and_grad
        >>> loss = lambda w: (0.5 * float(w[0] @ w[0]), [w[0]])  # value and gradient of |w|^2 / 2
        >>> value_and_grad(loss, SAM(rho=0.5).within(Ball(p=inf)))([np.array([3.0, -4.0])])  # all weights move by 0.5
        (12.5, [array([ 3.5, -4.5])])
    """

    p: float = 2.0
    metric: Metric = Identity()
    mask: Mask = Everything()

    def __post_init__(self) -> None:
        check.norm_order("p", self.p)

    def at(self, site: Site, M: Vec | float = 1.0) -> BallAt:
        r"""Return the ball where a step stands, its metric evaluated once, with the mask that was chosen there."""
        return BallAt(self.p, self.metric(site), M)


class BallAt:
    r"""The unit ball at one point.

    Args:
        p: the norm, in \([1, \infty]\).
        T: the metric at the point, a Vec or the number 1.
        M: the mask, likewise.

    Example:
        >>> import numpy as np
        >>> from samfamily.reference import NumpySpace
        >>> d = Vec(NumpySpace(1), (np.array([3.0, -4.0]),))
        >>> ball = BallAt(p=2)
        >>> float(ball.dual_norm(d)), *ball.maximiser(d).collapse()
        (5.0, array([ 0.6, -0.8]))
        >>> BallAt(p=inf).maximiser(d).collapse(), BallAt(p=1).maximiser(d).collapse()
        ((array([ 1., -1.]),), (array([ 0., -1.]),))
    """

    def __init__(self, p: float, T: Vec | float = 1.0, M: Vec | float = 1.0) -> None:
        self.p = p
        self.q = inf if p == 1 else 1.0 if p == inf else p / (p - 1)
        self.T, self.M = T, M
        self._last: tuple[Vec, Vec] | None = None
        self._best: tuple[Vec, Vec] | None = None

    def dual_norm(self, d: Vec) -> Scalar:
        r"""Return \(\lVert T d\rVert_q\), the largest \(\langle d, e\rangle\) on the unit ball."""
        return self._scaled(d).norm(self.q)

    def maximiser(self, d: Vec) -> Vec:
        r"""Return \(M\,T\,\mathrm{lmo}_p(T d)\), the unit ball's best answer to \(d\), or 0 at \(d = 0\)."""
        if self._best is None or self._best[0] is not d:
            u = self._scaled(d)
            lmo = vertex(u) if self.p == 1 else (u / u.norm(self.q)).signed_power(self.q - 1)
            self._best = (d, self.M * (self.T * lmo))
        return self._best[1]

    def _scaled(self, d: Vec) -> Vec:
        r"""Return \(T d\), computed once for a `d` whose norm and maximiser are both asked for."""
        if self._last is None or self._last[0] is not d:
            self._last = (d, self.T * d)
        return self._last[1]


def vertex(u: Vec) -> Vec:
    r"""Return \(\mathrm{lmo}_1(u) = \mathrm{sign}(u_j)\,e_j\), \(j\) the first index of the largest \(|u_j|\).

    The limit of \(\mathrm{lmo}_p\) as \(p \to 1\) splits the unit over all ties; any single one is a maximiser too, and
    a vertex of the ball, where a convex loss attains its maximum.
    """
    u = u.collapsed()
    return u.largest(1) * u.signed_power(0)
