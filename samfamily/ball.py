r"""The norm ball round \(w\) in which the adversary moves, its dual norm and its maximiser.

With a metric \(T\) (self-adjoint, elementwise) and \(p \in [1, \infty]\), \(1/p + 1/q = 1\), the unit ball is
\(\{e : \lVert T^{-1} e\rVert_p \le 1\}\).  Its two faces are

$$ \lVert d\rVert_* = \max_{e} \langle d, e\rangle = \lVert T d\rVert_q, \qquad
   \operatorname*{arg\,max}_{e} \langle d, e\rangle = T\,\mathrm{lmo}_p(T d), \qquad
   \mathrm{lmo}_p(u) = \mathrm{sign}(v)\,|v|^{q-1},\quad v = u / \lVert u\rVert_q . $$

That is all the geometry in the library: SAM is \(T = I\) (Foret et al., arXiv 2010.01412, eq. 2, whose denominator
\((\lVert g\rVert_q^q)^{1/p}\) equals \(\lVert g\rVert_q^{q-1}\)); ASAM is \(T = |w| + \eta\) (Kwon et al., arXiv
2102.11600).  Dividing by the norm first keeps every \(|v_i| \le 1\), so no power overflows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Protocol, TypeAlias

import einops

from samfamily import check
from samfamily.space import Array, Leaf, Scalar, Vec


class Metric(Protocol):
    r"""What turns the point \(w\) into the metric \(T\) there: a Vec, or the number 1 for the identity."""

    def __call__(self, w: Vec) -> Vec | float:
        """Return the metric at `w`."""
        ...


@dataclass(frozen=True)
class Identity:
    r"""The Euclidean metric \(T = I\), as the number 1: multiplying by it costs nothing."""

    def __call__(self, w: Vec) -> float:
        """Return 1."""
        return 1.0


@dataclass(frozen=True)
class Ball:
    r"""The family of balls \(\{e : \lVert T_w^{-1} e\rVert_p \le 1\}\), one for every \(w\).

    Attributes:
        p: the norm, in \([1, \infty]\).
        metric: what gives \(T\) at \(w\).

    Raises:
        ValueError: p below 1 or NaN.
    """

    p: float = 2.0
    metric: Metric = Identity()

    def __post_init__(self) -> None:
        check.norm_order("p", self.p)

    def at(self, w: Vec) -> BallAt:
        r"""Return the ball at the point \(w\), its metric evaluated once."""
        return BallAt(self.p, self.metric(w))


class BallAt:
    r"""The unit ball at one point.

    Args:
        p: the norm, in \([1, \infty]\).
        T: the metric at the point, a Vec or the number 1.

    Example:
        >>> import numpy as np
        >>> from samfamily.reference import NumpySpace
        >>> d = Vec(NumpySpace(1), (np.array([3.0, -4.0]),))
        >>> ball = Ball(p=2).at(d)
        >>> float(ball.dual_norm(d)), *ball.maximiser(d).collapse()
        (5.0, array([ 0.6, -0.8]))
        >>> Ball(p=inf).at(d).maximiser(d).collapse(), Ball(p=1).at(d).maximiser(d).collapse()
        ((array([ 1., -1.]),), (array([ 0., -1.]),))
    """

    def __init__(self, p: float, T: Vec | float) -> None:
        self.p = p
        self.q = inf if p == 1 else 1.0 if p == inf else p / (p - 1)
        self.T = T
        self._last: tuple[Vec, Vec] | None = None

    def dual_norm(self, d: Vec) -> Scalar:
        r"""Return \(\lVert T d\rVert_q\), the largest \(\langle d, e\rangle\) on the unit ball."""
        return self._scaled(d).norm(self.q)

    def maximiser(self, d: Vec) -> Vec:
        r"""Return \(T\,\mathrm{lmo}_p(T d)\), the unit ball's best answer to \(d\), or 0 at \(d = 0\)."""
        u = self._scaled(d)
        if self.p == 1:
            return self.T * vertex(u)
        return self.T * (u / u.norm(self.q)).signed_power(self.q - 1)

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
    largest = Vec(u.space, u.leaves).norm(inf)
    picked, seen = [], 0
    for x in u.leaves:
        hit = abs(x) == largest
        rank = hit.reshape(-1).cumsum(0).reshape(x.shape) + seen
        picked.append(u.space.sign(x) * (hit & (rank == 1)))
        seen = seen + hit.sum()
    return Vec(u.space, tuple(picked))


# ------------------------------------------------------------------------------------------------ adaptive metrics

Size: TypeAlias = Callable[[Leaf, Array], Array]
"""How large the weights of one leaf are: something of the leaf's shape, or that broadcasts to it."""


def elementwise(leaf: Leaf, x: Array) -> Array:
    r"""Return \(|w_i|\) for each weight."""
    return abs(x)


def layerwise(leaf: Leaf, x: Array) -> Array:
    r"""Return \(\lVert w_l\rVert_2\) of the leaf."""
    return abs(x) if x.ndim == 0 else einops.reduce(abs(x) ** 2, "... -> ", "sum") ** 0.5


def filterwise(leaf: Leaf, x: Array) -> Array:
    r"""Return \(\lVert f_j\rVert_2\) for each filter \(f_j\), and \(|w_i|\) for a leaf of fewer than two axes.

    A filter is a slice along `leaf.filter_axis`: an output channel of a convolution, a row of a linear layer (as in
    filter normalisation, Li et al., arXiv 1712.09913).
    """
    if x.ndim < 2:
        return abs(x)
    axes = [f"axis{i}" for i in range(x.ndim)]
    kept = ["1"] * x.ndim
    kept[leaf.filter_axis] = axes[leaf.filter_axis]
    return einops.reduce(abs(x) ** 2, f"{' '.join(axes)} -> {' '.join(kept)}", "sum") ** 0.5


def biases(leaf: Leaf) -> bool:
    """Tell whether a leaf is a bias, by the last part of its name: the leaves that ASAM's authors leave Euclidean."""
    if not leaf.name:
        raise ValueError(
            "biases are told by their names, and these leaves have none: give the adapter the names "
            "(PyTorch: SharpnessAware(..., model=model); NumPy: names=[...])"
        )
    last = leaf.name.replace("/", ".").split(".")[-1]
    return "bias" in last or last in {"b", "beta"}


@dataclass(frozen=True)
class Adaptive:
    r"""ASAM's metric \(T_w = \mathrm{size}(w) + \eta\) (Kwon et al., arXiv 2102.11600).

    Attributes:
        size: `elementwise`, `layerwise` or `filterwise`, or any function of that signature.
        eta: the constant \(\eta \ge 0\) that keeps a zero weight movable; in units of the weights.
        euclidean: picks leaves on which \(T = 1\), such as `biases`; None picks none.

    Raises:
        ValueError: eta negative or not finite.
    """

    size: Size = elementwise
    eta: float = 0.01
    euclidean: Callable[[Leaf], bool] | None = None

    def __post_init__(self) -> None:
        check.nonnegative("eta", self.eta)

    def __repr__(self) -> str:
        exempt = f", euclidean={self.euclidean.__name__}" if self.euclidean else ""
        return f"Adaptive({self.size.__name__}, eta={self.eta}{exempt})"

    def __call__(self, w: Vec) -> Vec:
        r"""Return \(T_w\) with one leaf for each of `w`, of its shape or broadcasting to it."""
        euclidean = self.euclidean or (lambda leaf: False)
        return w.map(lambda leaf, x: 1.0 if euclidean(leaf) else self.size(leaf, x) + self.eta)
