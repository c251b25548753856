"""The NumPy space and driver: the executable definition that every adapter is held to.

Plain enough to be read in one sitting, and never fast.  Scalars are float64 whatever the leaves are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Any, TypeAlias

import numpy as np

from samfamily.division import division
from samfamily.landscape import Landscape as AnyLandscape
from samfamily.landscape import Matrix, Product
from samfamily.program import Choice, GaussNewtonVector, HessianVector, Request, State, Step, drive, mean
from samfamily.space import Array, Leaf, Leaves, Scalar, Space, Vec
from samfamily.variant import Variant

Weights: TypeAlias = list[Array]
Loss: TypeAlias = Callable[..., tuple[float, Weights]]
"""`f(w, *batch) -> (loss, gradients)`: `w` and `gradients` are lists of ndarrays, all of one length."""


class NumpySpace(Space):
    r"""The space of tuples of ndarrays, with \(\langle x, y\rangle = \mathrm{Re} \sum_{l,i} \bar x_{li}\,y_{li}\).

    Args:
        leaves: how many leaves a tree has, or their names, or one `Leaf` for each.

    Example:
        >>> space = NumpySpace(2)
        >>> x, y = (np.array([3.0]), np.array([0.0, 4.0])), (np.ones(1), np.ones(2))
        >>> space.axpby(2.0, x, 1.0, y), float(space.inner(x, y)), float(space.norm(x, 2))
        ((array([7.]), array([1., 9.])), 7.0, 5.0)
    """

    def __init__(self, leaves: int | Sequence[str | Leaf]) -> None:
        named = [""] * leaves if isinstance(leaves, int) else leaves
        self.leaves = tuple(leaf if isinstance(leaf, Leaf) else Leaf(leaf) for leaf in named)

    def scale(self, a: Scalar, x: Leaves) -> Leaves:
        """See `Space.scale`."""
        return tuple(np.asarray(a * u, u.dtype) for u in x)

    def axpby(self, a: Scalar, x: Leaves, b: Scalar, y: Leaves) -> Leaves:
        """See `Space.axpby`."""
        return tuple(np.asarray(a * u + b * v, v.dtype) for u, v in zip(x, y, strict=True))

    def multiply(self, x: Leaves, y: Leaves) -> Leaves:
        """See `Space.multiply`."""
        return tuple(np.asarray(u * v, v.dtype) for u, v in zip(x, y, strict=True))

    def inner(self, x: Leaves, y: Leaves) -> Scalar:
        """See `Space.inner`."""
        a, b = _unit(self.norm(x, inf)), _unit(self.norm(y, inf))
        parts = (np.sum(np.conj(_wide(u) / a) * (_wide(v) / b)).real for u, v in zip(x, y, strict=True))
        return a * (b * sum(parts, np.float64(0)))

    def norm(self, x: Leaves, q: float) -> Scalar:
        """See `Space.norm`."""
        largest = np.max([0.0, *(np.max(np.abs(_wide(u))) for u in x if u.size)])
        if q == inf:
            return largest
        unit = _unit(largest)
        return unit * sum((np.sum(np.abs(_wide(u) / unit) ** q) for u in x), np.float64(0)) ** (1 / q)

    def sign(self, x: Array) -> Array:
        """See `Space.sign`."""
        return np.sign(x)

    def where(self, condition: Scalar, a: Scalar, b: Scalar) -> Scalar:
        """See `Space.where`."""
        return np.where(condition, a, b)

    def rounding(self, x: Leaves) -> float:
        """See `Space.rounding`."""
        return max((float(np.finfo(u.dtype).eps) for u in x), default=0.0)

    def threshold(self, x: Leaves, k: int) -> Scalar:
        """See `Space.threshold`."""
        return np.sort(np.concatenate([np.abs(_wide(u)).ravel() for u in x]))[-k]

    def counter(self, start: Scalar, like: Array | None) -> Array:
        """See `Space.counter`."""
        shape = () if like is None else like.shape
        return np.arange(np.prod(shape, dtype=int), dtype=np.uint64).reshape(shape) + np.uint64(start)

    def normal(self, u: Array, v: Array, like: Array) -> Array:
        """See `Space.normal`."""
        return np.asarray(np.sqrt(-2 * np.log(u)) * np.cos(2 * np.pi * v), like.dtype)


def _wide(x: Array) -> Array:
    return x.astype(np.promote_types(x.dtype, np.float64))


def _unit(largest: Scalar) -> Scalar:
    """Return what to divide by before squaring: the largest entry, or 1 where that is 0 or not finite."""
    return largest if 0 < largest < inf else np.float64(1)


def value_and_grad(
    f: Loss, variant: Variant, names: Sequence[str | Leaf] | None = None
) -> Callable[..., tuple[float, Weights]]:
    r"""Return `vg(w, *batch) -> (loss, gradients)`: the loss at w, and what the base optimizer should follow.

    Args:
        f: returns the loss and its gradients; with `second_order` it must accept complex weights, as the
            Hessian-vector product is \(\mathrm{Im}\,\nabla L(w + i h v) / h\), exact to rounding.
        variant: a row without memory.
        names: the names of the leaves, where a metric asks for them.

    Returns:
        The function; `batch` are arrays whose first axis counts examples.

    Raises:
        ValueError: a variant with memory.

    Example:
        >>> from samfamily import SAM
        >>> vg = value_and_grad(lambda w: (float(np.sum(w[0] ** 3)), [3 * w[0] ** 2]), SAM(rho=0.1))
        >>> vg([np.array([1.0])])
        (1.0, [array([3.63])])
    """
    if variant.stateful:
        raise ValueError(f"{variant.name} has a memory or a schedule: use samfamily.reference.sharpness_aware")

    def vg(w: Weights, *batch: Array) -> tuple[float, Weights]:
        result, _ = sharpness_aware(f, variant, names).value_and_grad(w, State(), *batch)
        return result

    return vg


class sharpness_aware:  # noqa: N801  called like the function of the same name in the JAX adapter
    r"""The driver for rows with memory, which walks from \((w_t, s_t)\) to \((L(w_t), \text{gradient}_t, s_{t+1})\).

    Args:
        f: as for `value_and_grad`.
        variant: any row.
        names: as for `value_and_grad`.

    Example:
        >>> from samfamily import SAM
        >>> sa = sharpness_aware(lambda w: (float(w[0] ** 2), [2 * w[0]]), SAM(rho=lambda step: 0.1 * step))
        >>> w = [np.array(1.0)]
        >>> state = sa.init(w)
        >>> for _ in range(2):
        ...     (loss, gradients), state = sa.value_and_grad(w, state)
        ...     print(round(float(gradients[0]), 12), state.step)
        2.0 1
        2.2 2
    """

    def __init__(self, f: Loss, variant: Variant, names: Sequence[str | Leaf] | None = None) -> None:
        self.f, self.variant, self.names = f, variant, names

    def init(self, w: Weights) -> State:
        """Return the state before the first step."""
        return self.variant.init(self._vec(w))

    def value_and_grad(self, w: Weights, state: State, *batch: Array) -> tuple[tuple[float, Weights], State]:
        """Return `((loss, gradients), state)`: the loss at w, what to follow, and the next state."""
        if self.variant.descent.adds:
            raise ValueError(f"{self.variant.name} adds to the weights after the base step: use evaluate, Step.addend")
        loss, step = self.evaluate(w, state, *batch)
        return (loss, list(step.gradient.collapse())), step.state

    def evaluate(self, w: Weights, state: State, *batch: Array) -> tuple[float, Step]:
        """Return the loss at w (or at the first point, where the variant does not ask at w) and the `Step`."""
        start = self._vec(w)
        loss, step = mean(self._step(start, state, shard) for shard in self._shards(batch))
        return float(loss), step

    def _step(self, w: Vec, state: State, batch: Sequence[Array]) -> tuple[float, Step]:
        losses: list[float] = []

        def answer(request: Request) -> Vec | bool:
            if isinstance(request, Choice):
                return bool(request.predicate)
            if isinstance(request, HessianVector):
                return complex_step(self.f, request, batch)
            loss, gradients = self.f(list(request.collapse()), *batch)
            if not losses or request is w:
                losses[:] = [loss]
            return Vec(w.space, tuple(gradients))

        step = drive(self.variant.program(w, state), answer)
        return losses[0], step

    def _shards(self, batch: Sequence[Array]) -> list[Sequence[Array]]:
        if self.variant.m is None:
            return [batch]
        if not batch:
            raise ValueError(f"{self.variant.name} with m = {self.variant.m} shards the batch: pass its arrays after w")
        return cut(batch, division(self.variant.m, examples_in(batch)).shards)

    def _vec(self, w: Weights) -> Vec:
        return vec(w, self.names)


def vec(w: Weights, names: Sequence[str | Leaf] | None = None) -> Vec:
    """Return weights as a Vec.

    Args:
        w: float arrays, or complex ones.
        names: as for `value_and_grad`.

    Returns:
        The Vec, in a space of its own.

    Raises:
        ValueError: an array of another dtype.

    Example:
        >>> w = vec([np.array([3.0]), np.array([4.0])], ["weight", "bias"])
        >>> float(w.norm(2)), [leaf.name for leaf in w.space.leaves]
        (5.0, ['weight', 'bias'])
    """
    leaves = tuple(np.asarray(x) for x in w)
    if not all(np.issubdtype(x.dtype, np.inexact) for x in leaves):
        raise ValueError(f"weights must be float arrays, got {[str(x.dtype) for x in leaves]}: use x.astype(float)")
    return Vec(NumpySpace(names or len(w)), leaves)


def examples_in(batch: Sequence[Array]) -> int:
    """Return the length that a batch's arrays have in common.

    Args:
        batch: arrays whose first axis counts examples.

    Returns:
        The length.

    Raises:
        ValueError: the arrays have different lengths.

    Example:
        >>> examples_in([np.ones((6, 28, 28)), np.ones(6)])
        6
    """
    if any(len(x) != len(batch[0]) for x in batch):
        raise ValueError(f"the arrays of the batch have different lengths {sorted({len(x) for x in batch})}")
    return len(batch[0])


def cut(batch: Sequence[Array], shards: int) -> list[Sequence[Array]]:
    r"""Return a batch in contiguous shards of equally many examples: \(S_j = (x_{jm}, \dots, x_{jm+m-1})\).

    Args:
        batch: arrays whose first axis counts n examples.
        shards: how many, k; \(m = n / k\) examples are in each.

    Returns:
        The shards, each a list of arrays.

    Example:
        >>> cut([np.arange(4), np.array([0, 0, 1, 1])], 2)
        [[array([0, 1]), array([0, 0])], [array([2, 3]), array([1, 1])]]
    """
    m = examples_in(batch) // shards
    return [[x[i * m : (i + 1) * m] for x in batch] for i in range(shards)]


def complex_step(f: Loss, request: HessianVector, batch: Sequence[Array]) -> Vec:
    r"""Return \(\mathrm{Im}\,\nabla L(w + i h v) / h\), the Hessian times v to rounding.

    Args:
        f: as for `value_and_grad`; it must accept complex weights.
        request: w and v.
        batch: what f takes after the weights.

    Returns:
        The product, in the dtypes of w.

    Raises:
        TypeError: f drops imaginary parts.

    Example:
        >>> w = vec([np.array([1.0, 2.0])])
        >>> complex_step(lambda w: (np.sum(w[0] ** 3), [3 * w[0] ** 2]), HessianVector(w, v=w), ()).collapse()
        (array([ 6., 24.]),)
    """
    h = 1e-100
    pairs = zip(request.w.collapse(), request.v.collapse(), strict=True)
    gradients = f([x.astype(complex) + 1j * h * v.astype(float) for x, v in pairs], *batch)[1]
    if not all(np.iscomplexobj(x) for x in gradients):
        raise TypeError("f's gradients are differentiated by a complex step, and must be complex where weights are")
    leaves = zip(gradients, request.w.leaves, strict=True)
    return Vec(request.w.space, tuple(np.asarray(x.imag / h, w.dtype) for x, w in leaves))


class Landscape(AnyLandscape):
    r"""A loss on data, in NumPy, as what is measured; see `samfamily.landscape`.

    $$ L(w) = \frac{\sum_j n_j L_j(w)}{\sum_j n_j}, \qquad n_j \text{ examples in batch } j $$

    Args:
        f: as for `value_and_grad`; for products it must accept complex weights.
        w: the weights.
        data: one batch as a tuple of arrays, or a list of such batches; nothing where the loss takes none.
        names: as for `value_and_grad`.

    Raises:
        ValueError: weights that are no float arrays.

    Example:
        >>> loss = lambda w, x: (0.5 * np.mean((x @ w[0]) ** 2), [x.T @ (x @ w[0]) / len(x)])
        >>> landscape = Landscape(loss, [np.ones(2)], (np.array([[1.0, 0.0], [0.0, 3.0]]),))
        >>> landscape.loss(), landscape.product(landscape.w).collapse()
        (2.5, (array([0.5, 4.5]),))
    """

    def __init__(self, f: Loss, w: Weights, data: Any = (), names: Sequence[str | Leaf] | None = None) -> None:
        super().__init__(data)
        self.f, self.w, self.names = f, vec(w, names), names

    def examples(self, batch: Any) -> int:
        """See `samfamily.Landscape.examples`."""
        return examples_in(batch) if batch else 1

    def cut(self, batch: Any, shards: int) -> Sequence[Any]:
        """See `samfamily.Landscape.cut`."""
        return cut(batch, shards)

    def loss_on(self, batch: Any, point: Vec) -> Any:
        """See `samfamily.Landscape.loss_on`."""
        return self.f(list(point.collapse()), *batch)[0]

    def gradient_on(self, batch: Any, point: Vec) -> tuple[Any, Vec]:
        """See `samfamily.Landscape.gradient_on`."""
        loss, gradients = self.f(list(point.collapse()), *batch)
        return loss, Vec(point.space, tuple(map(np.asarray, gradients)))

    def linear_on(self, batch: Any, point: Vec, of: Product) -> Matrix:
        """See `samfamily.Landscape.linear_on`; the Hessian alone, since f does not tell its outputs."""
        if of is GaussNewtonVector:
            raise TypeError("a NumPy landscape knows no outputs, and so no Gauss-Newton matrix: ask for the Hessian")
        return lambda v: complex_step(self.f, HessianVector(point, v), batch)
