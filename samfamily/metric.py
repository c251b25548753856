r"""The metric \(T\) of a ball: how far each weight may move, compared with the others.

A metric is called with the `Site` of a step and returns a Vec, with one leaf for each of the weights' (of its shape or
broadcasting to it), or the number 1.  Fisher-SAM measures with the gradient's square, ASAM with the weights themselves.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import einops

from samfamily import check, noise
from samfamily.program import Site
from samfamily.space import Array, Leaf, Vec


@dataclass(frozen=True)
class Metric(ABC):
    r"""What gives the metric \(T\) where a step stands: a Vec, or the number 1 for the identity.

    Attributes:
        stateful: whether the metric depends on the steps before, the counter included.
    """

    stateful: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, site: Site) -> Vec | float:
        """Return the metric."""


@dataclass(frozen=True)
class Identity(Metric):
    r"""The Euclidean metric \(T = I\), as the number 1: multiplying by it costs nothing.

    Example:
        >>> from samfamily import ASAM, SAM, Ball, Identity
        >>> ASAM(rho=0.1).within(Ball(metric=Identity())).ball == SAM(rho=0.1).ball
        True
    """

    def __call__(self, site: Site) -> float:
        """Return 1."""
        return 1.0


Size: TypeAlias = Callable[[Leaf, Array], Array]
"""How large the weights of one leaf are: something of the leaf's shape, or that broadcasts to it."""


def elementwise(leaf: Leaf, x: Array) -> Array:
    r"""Return \(|w_i|\) for each weight.

    Args:
        leaf: what is known of the array; not looked at.
        x: the weights, of any shape.

    Returns:
        The sizes, of the shape of x.

    Example:
        >>> import numpy as np
        >>> elementwise(Leaf(), np.array([3.0, -4.0]))
        array([3., 4.])
    """
    return abs(x)


def layerwise(leaf: Leaf, x: Array) -> Array:
    r"""Return \(\lVert w_l\rVert_2\) of the leaf.

    Args:
        leaf: what is known of the array; not looked at.
        x: the weights \(w_l\), of any shape.

    Returns:
        The size, 0-d.

    Example:
        >>> import numpy as np
        >>> float(layerwise(Leaf(), np.array([3.0, -4.0])))
        5.0
    """
    return abs(x) if x.ndim == 0 else einops.reduce(abs(x) ** 2, "... -> ", "sum") ** 0.5


def filterwise(leaf: Leaf, x: Array) -> Array:
    r"""Return \(\lVert f_j\rVert_2\) for each filter \(f_j\), and \(|w_i|\) for a leaf of fewer than two axes.

    A filter is a slice along `leaf.filter_axis`: an output channel of a convolution, a row of a linear layer (as in
    filter normalisation, Li et al., arXiv 1712.09913).

    Args:
        leaf: what is known of the array, its `filter_axis` above all.
        x: the weights, of any shape.

    Returns:
        The sizes; of as many axes as x, and of length 1 along all but the filter axis.

    Example:
        >>> import numpy as np
        >>> x = np.array([[3.0, 0.0], [4.0, 0.0]])
        >>> filterwise(Leaf(), x), filterwise(Leaf(filter_axis=-1), x)
        (array([[3.],
                [4.]]), array([[5., 0.]]))
    """
    if x.ndim < 2:
        return abs(x)
    axes = [f"axis{i}" for i in range(x.ndim)]
    kept = ["1"] * x.ndim
    kept[leaf.filter_axis] = axes[leaf.filter_axis]
    return einops.reduce(abs(x) ** 2, f"{' '.join(axes)} -> {' '.join(kept)}", "sum") ** 0.5


def biases(leaf: Leaf) -> bool:
    """Tell whether a leaf is a bias, by the last part of its name: the leaves that ASAM's authors leave Euclidean.

    Args:
        leaf: the leaf.

    Returns:
        Whether its last part has "bias" in it, or is "b" or "beta".

    Raises:
        ValueError: the leaf has no name.

    Example:
        >>> [biases(Leaf(name)) for name in ("conv.weight", "conv.bias", "dense/b")]
        [False, True, True]
    """
    if not leaf.name:
        raise ValueError(
            "biases are told by their names, and these leaves have none: give the adapter the names "
            "(PyTorch: SharpnessAware(..., model=model); NumPy: names=[...])"
        )
    last = leaf.name.replace("/", ".").split(".")[-1]
    return "bias" in last or last in {"b", "beta"}


@dataclass(frozen=True)
class Adaptive(Metric):
    r"""ASAM's metric \(T_w = \mathrm{size}(w) + \eta\) (Kwon et al., arXiv 2102.11600).

    Attributes:
        size: `elementwise`, `layerwise` or `filterwise`, or any function of that signature.
        eta: the constant \(\eta \ge 0\) that keeps a zero weight movable; in units of the weights.
        euclidean: picks leaves on which \(T = 1\), such as `biases`; None picks none.

    Raises:
        ValueError: eta negative or not finite.
        TypeError: size is no function.

    Example:
        >>> import numpy as np
        >>> from samfamily.reference import vec
        >>> w = vec([np.array([3.0, -4.0]), np.array([0.0])], ["weight", "bias"])
        >>> Adaptive(eta=0.01, euclidean=biases)(Site(w, w, 0)).collapse()
        (array([3.01, 4.01]), array([1.]))
    """

    size: Size = elementwise
    eta: float = 0.01
    euclidean: Callable[[Leaf], bool] | None = None

    def __post_init__(self) -> None:
        check.nonnegative("eta", self.eta)
        if not callable(self.size):
            raise TypeError(f"size must be a function such as samfamily.layerwise, got {self.size!r}")

    def __repr__(self) -> str:
        exempt = f", euclidean={self.euclidean.__name__}" if self.euclidean else ""
        return f"Adaptive({self.size.__name__}, eta={self.eta}{exempt})"

    def __call__(self, site: Site) -> Vec:
        r"""Return \(T_w\)."""
        euclidean = self.euclidean or (lambda leaf: False)
        return site.w.map(lambda leaf, x: abs(x) * 0 + 1 if euclidean(leaf) else self.size(leaf, x) + self.eta)


@dataclass(frozen=True)
class Fisher(Metric):
    r"""Fisher-SAM's metric \(T = (1 + \eta f)^{-1/2}\), \(f = g \odot g\) (Kim et al., arXiv 2206.04920).

    The diagonal of the empirical Fisher information is taken from the batch's own gradient, as the implementations do;
    so it is not invariant to the loss's scale.

    Attributes:
        eta: the weight \(\eta \ge 0\) of the Fisher information; in units of \(1/g^2\).

    Raises:
        ValueError: eta negative or not finite.
    """

    eta: float = 1.0

    def __post_init__(self) -> None:
        check.nonnegative("eta", self.eta)

    def __call__(self, site: Site) -> Vec:
        r"""Return \((1 + \eta g^2)^{-1/2}\)."""
        return site.d.map(lambda _, g: (1 + self.eta * abs(g) ** 2) ** -0.5)


@dataclass(frozen=True)
class Restricted(Metric):
    r"""A metric on some leaves, and \(T = 0\) on the others: they are neither measured nor moved.

    Attributes:
        metric: the metric on the leaves that move.
        moves: picks them, such as `normalisations`.
    """

    metric: Metric
    moves: Callable[[Leaf], bool]

    def __call__(self, site: Site) -> Vec:
        r"""Return \(T\), zeroed on the leaves that do not move."""
        ones = site.w.map(lambda leaf, x: abs(x) * 0 + (1 if self.moves(leaf) else 0))
        return ones * self.metric(site)


@dataclass(frozen=True)
class RandomLeaves(Metric):
    r"""\(T = 1\) on each leaf with probability \(\beta\), drawn anew every step, and 0 elsewhere.

    The weight half of ESAM (Du et al., arXiv 2110.03141), whose code draws per tensor.

    Attributes:
        beta: the probability, in (0, 1].
        seed: of the draws.

    Raises:
        ValueError: beta outside (0, 1].
    """

    beta: float
    seed: int = 0
    stateful = True  # the draw is a function of the step

    def __post_init__(self) -> None:
        check.fraction("beta", self.beta)

    def __call__(self, site: Site) -> Vec:
        """Return one or zero for each leaf."""
        space = site.w.space
        draws = [noise.uniform(space, self.seed, site.step, stream) for stream in range(len(space.leaves))]
        leaves = zip(site.w.collapse(), draws, strict=True)
        return Vec(space, tuple(abs(x) * 0 + space.where(u < self.beta, 1.0, 0.0) for x, u in leaves))


def normalisations(leaf: Leaf) -> bool:
    """Tell whether a leaf belongs to a normalisation layer, as the adapter said.

    Args:
        leaf: the leaf.

    Returns:
        Its `normalisation`.

    Raises:
        ValueError: the adapter was not told.

    Example:
        >>> leaves = [Leaf("conv.weight", normalisation=False), Leaf("norm.weight", normalisation=True)]
        >>> [leaf.name for leaf in leaves if normalisations(leaf)]
        ['norm.weight']
    """
    if leaf.normalisation is None:
        raise ValueError(
            f"nobody told whether the leaf {leaf.name!r} belongs to a normalisation layer: give the adapter the "
            "modules (PyTorch: SharpnessAware(..., model=model); JAX: normalisation=...; NumPy: names=[Leaf(...), ...])"
        )
    return leaf.normalisation
