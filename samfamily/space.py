r"""Space and Vec: the vector algebra in which the whole family is written.

A parameter tree is a point \(w\) of a real inner-product space whose coordinates are spread over *leaves* (arrays of
any shape).  `Space` is the short list of operations that a framework supplies on such trees; `Vec` is arithmetic over
them.  Whoever writes a variant writes `w + rho * ball.maximiser(d)` and never meets a framework; whoever adds a
framework implements the eleven operations below and never meets a variant.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import inf, prod
from sys import float_info
from typing import Any, ClassVar, TypeAlias, TypeVar

Array: TypeAlias = Any
"""An array of whichever framework the space belongs to."""
Scalar: TypeAlias = Any
"""A Python number or a 0-d array of the framework; reading it may synchronise, so the core never does."""
Leaves: TypeAlias = tuple[Array, ...]


T = TypeVar("T")

SMALLEST_NORMAL = float_info.min
"""Of float64; in a narrower type it is 0."""


@dataclass(frozen=True)
class Leaf:
    """What an adapter knows about one leaf of the parameter tree.

    Attributes:
        name: the leaf's path, such as `"conv.0.weight"`; empty if the adapter was not told.
        filter_axis: the axis that counts the filters of a weight (0 in PyTorch and equinox, -1 for a flax `kernel`).
        normalisation: whether it belongs to a normalisation layer; None if the adapter was not told.

    Example:
        >>> import numpy as np
        >>> from samfamily import SAMON
        >>> from samfamily.reference import value_and_grad
        >>> names = [Leaf("dense.weight", normalisation=False), Leaf("norm.weight", normalisation=True)]
        >>> loss = lambda w: (0.5 * float(w[0] @ w[0] + w[1] @ w[1]), w)
        >>> value_and_grad(loss, SAMON(rho=0.5, size=None), names)([np.ones(1), np.ones(1)])  # the second alone moves
        (1.0, [array([1.]), array([1.5])])
    """

    name: str = ""
    filter_axis: int = 0
    normalisation: bool | None = None


class Space(ABC):
    r"""The operations that a framework supplies on the leaves of a tree.

    With \(x_{li}\) the entries of leaf \(l\), a tree is one vector, whose inner product and norms go over all leaves:

    $$ \langle x, y\rangle = \mathrm{Re} \sum_{l,i} \bar x_{li}\,y_{li}, \qquad
       \lVert x\rVert_q = \Bigl(\sum_{l,i} |x_{li}|^q\Bigr)^{1/q}. $$

    Every operation is pure: it returns new leaves and leaves its arguments alone.  Leaves keep their shape and dtype;
    scalars are accumulated in float32 or wider and stay 0-d arrays of the framework.

    Attributes:
        leaves: one `Leaf` for each array of the tree, in order.
        eager: whether a value that was computed may be kept for later; not so while tracing, where it belongs to the
            branch that computed it, and where the compiler finds what is computed twice.

    Example:
        >>> import numpy as np
        >>> from samfamily.reference import NumpySpace
        >>> space, x = NumpySpace(2), (np.array([3.0]), np.array([0.0, 4.0]))
        >>> float(space.inner(x, x)), [float(space.norm(x, q)) for q in (1, 2, inf)]
        (25.0, [7.0, 5.0, 4.0])
        >>> space.divide(1.0, 4.0), space.divide(1.0, 0.0)  # SAM at a point where the gradient vanishes
        (0.25, 0.0)
    """

    leaves: tuple[Leaf, ...]
    eager: ClassVar[bool] = True

    @abstractmethod
    def scale(self, a: Scalar, x: Leaves) -> Leaves:
        r"""Return \(a x\)."""

    @abstractmethod
    def axpby(self, a: Scalar, x: Leaves, b: Scalar, y: Leaves) -> Leaves:
        r"""Return \(a x + b y\), in the dtypes of `y`; one pass over memory where `b` is the number 1."""

    @abstractmethod
    def multiply(self, x: Leaves, y: Leaves) -> Leaves:
        r"""Return \(x \odot y\) elementwise, in the dtypes of `y`; a leaf of `x` may be anything that broadcasts."""

    @abstractmethod
    def inner(self, x: Leaves, y: Leaves) -> Scalar:
        r"""Return \(\mathrm{Re}\,\langle x, y\rangle\) over all leaves; does not overflow before its result does."""

    @abstractmethod
    def norm(self, x: Leaves, q: float) -> Scalar:
        r"""Return \(\lVert x\rVert_q = (\sum_i |x_i|^q)^{1/q}\) over all leaves, \(q \in [1, \infty]\).

        Does not overflow or underflow before its result does; is zero, with a zero derivative, at zero.
        """

    @abstractmethod
    def sign(self, x: Array) -> Array:
        r"""Return \(x / |x|\) elementwise for one leaf, and 0 where \(x\) is 0."""

    @abstractmethod
    def where(self, condition: Scalar, a: Scalar, b: Scalar) -> Scalar:
        """Return `a` where `condition` holds and `b` elsewhere; for scalars."""

    @abstractmethod
    def rounding(self, x: Leaves) -> float:
        """Return the spacing of the numbers at 1 in the coarsest dtype of the leaves."""

    def pinned(self, x: Leaves) -> Leaves:
        """Return leaves whose numbers are the same wherever they are looked at.

        A compiler that computes a number twice may round it in two ways, and an entry then is not its own maximum.
        """
        return x

    def compiled(self, function: Callable[..., T], **fixed: Any) -> Callable[..., T]:
        """Return a function of Vecs and numbers as one call, where a framework makes one of many.

        Args:
            function: one that stands in a module, so that it is known again.
            **fixed: its arguments that stay the same.

        Returns:
            The function of its other arguments.
        """
        return partial(function, **fixed)

    @abstractmethod
    def threshold(self, x: Leaves, k: int) -> Scalar:
        r"""Return the k-th largest \(|x_i|\) over all leaves, \(1 \le k \le n\)."""

    def cumulative(self, mask: Array) -> Array:
        """Return for each entry of a mask how many are set up to it, itself included; shape as the mask."""
        return mask.reshape(-1).cumsum(0).reshape(mask.shape)

    @abstractmethod
    def counter(self, start: Scalar, like: Array | None) -> Array:
        """Return `start`, `start + 1`, ... for the entries of `like` (for one, where None), on its device.

        The integers are of a type whose products keep their low 32 bits.
        """

    @abstractmethod
    def normal(self, u: Array, v: Array, like: Array) -> Array:
        r"""Return \(\sqrt{-2\ln u}\,\cos 2\pi v\) in the dtype of `like`: normal if u and v are uniform on (0, 1)."""

    def divide(self, a: Scalar, b: Scalar) -> Scalar:
        r"""Return \(a / b\) where \(b > 0\) and 0 elsewhere: the library's one division by a quantity that may vanish.

        A subnormal \(b\) counts as 0, since its reciprocal overflows.  Both branches are finite, so a derivative taken
        through it is finite too.
        """
        if isinstance(b, int | float):
            return a / b if b > SMALLEST_NORMAL else 0.0 * a
        positive = b > SMALLEST_NORMAL
        return self.where(positive, a / self.where(positive, b, 1.0), 0.0)


class Vec:
    r"""A vector \(\alpha x\): the leaves \(x\) and, kept beside them, a scalar \(\alpha\).

    Keeping the scalar apart makes `w + rho * (d / n)` one `axpby` over memory, however many scalars are involved.  A
    Vec is immutable; it remembers its norms, so asking twice costs one pass.

    Args:
        space: the space that the leaves belong to.
        leaves: the arrays \(x\).
        alpha: the scalar \(\alpha\); as the number 1 it costs nothing.

    Example:
        >>> import numpy as np
        >>> from samfamily.reference import NumpySpace
        >>> x = Vec(NumpySpace(2), (np.array([3.0, 0.0]), np.array([4.0])))
        >>> float(x.norm(2))
        5.0
        >>> (x + 2 * (x / x.norm(2))).collapse()
        (array([4.2, 0. ]), array([5.6]))
    """

    __slots__ = ("_norms", "alpha", "leaves", "space")
    __array_ufunc__ = None  # a NumPy scalar on the left hands `a * vec` over to Vec

    def __init__(self, space: Space, leaves: Leaves, alpha: Scalar = 1.0) -> None:
        self.space = space
        self.leaves = leaves
        self.alpha = alpha
        self._norms: dict[float, Scalar] = {}

    def __repr__(self) -> str:
        return f"Vec({len(self.leaves)} leaves, alpha={self.alpha!r}, {type(self.space).__name__})"

    def collapse(self) -> Leaves:
        r"""Return the leaves of \(\alpha x\) themselves; costs nothing where \(\alpha\) is the number 1."""
        return self.leaves if _is_one(self.alpha) else self.space.scale(self.alpha, self.leaves)

    def collapsed(self) -> Vec:
        r"""Return the same vector with \(\alpha\) = 1."""
        return self if _is_one(self.alpha) else Vec(self.space, self.collapse())

    def map(self, function: Callable[[Leaf, Array], Array]) -> Vec:
        """Return the Vec of `function(leaf, array)`, leaf by leaf."""
        pairs = zip(self.space.leaves, self.collapse(), strict=True)
        return Vec(self.space, tuple(function(leaf, x) for leaf, x in pairs))

    def __add__(self, other: Vec) -> Vec:
        x, y = (other, self) if _is_one(self.alpha) else (self, other)
        return Vec(self.space, self.space.axpby(x.alpha, x.leaves, y.alpha, y.leaves))

    def __sub__(self, other: Vec) -> Vec:
        return self + -other

    def __neg__(self) -> Vec:
        return -1.0 * self

    def __mul__(self, other: Vec | Scalar) -> Vec:
        if isinstance(other, Vec):
            return Vec(self.space, self.space.multiply(self.leaves, other.leaves), self.alpha * other.alpha)
        if _is_one(other):
            return self
        return Vec(self.space, self.leaves, other * self.alpha)

    __rmul__ = __mul__

    def __truediv__(self, scalar: Scalar) -> Vec:
        r"""Return \(v / b\) where the scalar \(b\) is positive, and the zero vector elsewhere."""
        return Vec(self.space, self.leaves, self.space.divide(self.alpha, scalar))

    def largest(self, k: int) -> Vec:
        r"""Return ones at the k largest \(|v_i|\), the first of them where there are ties, and zeros elsewhere."""
        leaves = self.space.pinned(self.collapse())
        found = self if leaves is self.leaves else Vec(self.space, leaves)
        threshold = found.norm(inf) if k == 1 else self.space.threshold(leaves, k)
        left = k - sum(((abs(x) > threshold).sum() for x in leaves), 0)
        picked = []
        for x in leaves:
            tie = abs(x) == threshold
            picked.append(abs(x) * 0 + ((abs(x) > threshold) | (tie & (self.space.cumulative(tie) <= left))))
            left = left - tie.sum()
        return Vec(self.space, tuple(picked))

    @property
    def size(self) -> int:
        """How many coordinates the vector has."""
        return sum(prod(x.shape) for x in self.leaves)

    def inner(self, other: Vec) -> Scalar:
        r"""Return \(\mathrm{Re}\,\langle v, u\rangle\)."""
        return self.alpha * other.alpha * self.space.inner(self.leaves, other.leaves)

    def norm(self, q: float) -> Scalar:
        r"""Return \(\lVert v\rVert_q\), \(q \in [1, \infty]\)."""
        if q in self._norms:
            return self._norms[q]
        norm = self.space.norm(self.leaves, q)
        if not _is_one(self.alpha):
            norm = abs(self.alpha) * norm
        if self.space.eager:
            self._norms[q] = norm
        return norm

    def signed_power(self, r: float) -> Vec:
        r"""Return \(\mathrm{sign}(v)\,|v|^r\) elementwise, \(r \ge 0\); \(v\) itself, and no pass, at \(r = 1\)."""
        if r == 1:
            return self
        sign = self.space.sign
        if r == 0:  # of the leaves themselves: in half precision a multiple of them may round to zero
            a = self.alpha
            side = float(a > 0) - float(a < 0) if isinstance(a, int | float) else sign(a)
            return side * Vec(self.space, tuple(map(sign, self.leaves)))
        return self.map(lambda _, x: sign(x) * abs(x) ** r)


def _is_one(a: Scalar) -> bool:
    """Tell whether `a` is the Python number 1: an array is never read."""
    return isinstance(a, int | float) and a == 1
