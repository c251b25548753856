r"""Landscape: a loss on data as a function of the weights, which is what gets measured.

Whoever measures asks a landscape for losses, gradients and products with its curvature, and never meets a framework or
a batch; an adapter says how one batch answers, and nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar, NamedTuple, Self, TypeAlias

from samfamily.division import division
from samfamily.program import Choice, GaussNewtonVector, HessianVector, Request, add, each
from samfamily.space import Leaves, Scalar, Space, Vec

Batch: TypeAlias = Any
Product: TypeAlias = type[HessianVector] | type[GaussNewtonVector]
"""A matrix, named by the request for its product with a vector."""
Matrix: TypeAlias = Callable[[Vec], Vec]
"""A symmetric matrix, as its product with a vector."""


class Composed(NamedTuple):
    r"""A loss in two parts, \(\ell(z(w))\), as Gauss-Newton products need it.

    Attributes:
        outputs: what the model makes of a batch, called as a loss is.
        loss: `loss(outputs, *batch)`, the mean over the batch's examples.

    Example:
        >>> import jax.numpy as jnp
        >>> from samfamily import Composed, GaussNewtonVector
        >>> from samfamily.curvature import eigenvalues
        >>> from samfamily_jax import Landscape
        >>> loss = Composed(lambda w, x, y: jnp.tanh(x @ w), lambda z, x, y: jnp.mean((z - y) ** 2))
        >>> landscape = Landscape(loss, jnp.zeros(2), (jnp.array([[1.0, 0.0], [0.0, 3.0]]), jnp.zeros(2)))
        >>> print(eigenvalues(landscape, top=1, bottom=1, of=GaussNewtonVector))
        9 ± ..., 1 ± ... in 2 products
    """

    outputs: Callable[..., Any]
    loss: Callable[..., Any]


class Euclidean(Space):
    r"""A space whose 2-norm is \(\langle x, x\rangle^{1/2}\), as exact as its inner product is."""

    def norm(self, x: Leaves, q: float) -> Scalar:
        """See `Space.norm`."""
        return self.inner(x, x) ** 0.5 if q == 2 else super().norm(x, q)  # type: ignore[safe-super]


@dataclass
class Spent:
    """What was computed, in passes over all data: a shard of a tenth of the examples counts a tenth.

    Attributes:
        losses: losses without a gradient.
        gradients: gradients, each with its loss.
        products: products with the Hessian or the Gauss-Newton matrix.
    """

    losses: float = 0.0
    gradients: float = 0.0
    products: float = 0.0


class Landscape(ABC):
    r"""A loss on data as a function of the weights: the mean over all examples of all batches.

    $$ L(w) = \frac{\sum_j n_j L_j(w)}{\sum_j n_j}, $$

    with \(n_j\) examples in batch j.  An adapter's landscape is made of a loss, the weights and data.

    Args:
        data: a tuple, which is one batch; or batches, such as a list or a loader, to be gone through again and again.

    Attributes:
        w: the weights as they stand.
        spent: what was computed so far.
        share: the share of all examples that it has: a shard's is below 1.
        pure: whether the loss is sure to be the same at every look, as a compiled function is.

    Raises:
        TypeError: data that is no batch and no batches, or can be gone through once only.
        ValueError: no batch in the data.

    Example:
        >>> import numpy as np
        >>> from samfamily import reference
        >>> loss = lambda w, x: (0.5 * float(np.mean((x - w[0]) ** 2)), [np.atleast_1d(np.mean(w[0] - x))])
        >>> landscape = reference.Landscape(loss, [np.zeros(1)], [(np.ones(3),), (np.array([3.0]),)])
        >>> landscape.loss(), landscape.gradient()[1].collapse()  # the batch of three weighs three times as much
        (1.5, (array([-1.5]),))
        >>> landscape.spent
        Spent(losses=1.0, gradients=1.0, products=0.0)
    """

    w: Vec
    pure: ClassVar[bool] = False

    def __init__(self, data: Any) -> None:
        if isinstance(data, Mapping) or hasattr(data, "shape") or not isinstance(data, Iterable):
            raise TypeError(
                f"data is a {type(data).__name__}: pass one batch as a tuple of the loss's arguments, such as (data,), "
                "or several in a list or a loader"
            )
        if isinstance(data, Iterator):
            raise TypeError(
                f"data is a {type(data).__name__}, which ends after one pass, and measuring takes many: pass a list of "
                "batches, a loader, or one batch as a tuple"
            )
        self.data: Iterable[Batch] = [data] if isinstance(data, tuple) else data
        self.spent = Spent()
        self.share = 1.0

    # ------------------------------------------------------------------------------------- what an adapter says

    @abstractmethod
    def examples(self, batch: Batch) -> int:
        """Return how many examples a batch has."""

    @abstractmethod
    def cut(self, batch: Batch, shards: int) -> Sequence[Batch]:
        """Return a batch in shards of equally many examples."""

    @abstractmethod
    def loss_on(self, batch: Batch, point: Vec) -> Any:
        """Return the loss of one batch."""

    @abstractmethod
    def gradient_on(self, batch: Batch, point: Vec) -> tuple[Any, Vec]:
        """Return the loss of one batch and its gradient."""

    @abstractmethod
    def linear_on(self, batch: Batch, point: Vec, of: Product) -> Matrix:
        """Return one batch's curvature at a point, which may hold on to what every product with it needs."""

    def among(self, mean: Any, examples: int) -> Any:
        """Return the mean over the examples of all processes, where several share the data."""
        return mean

    # --------------------------------------------------------------------------------------- what users ask for

    def loss(self, point: Vec | None = None) -> float:
        r"""Return \(L\) at a point, at w where None."""
        at = self.w if point is None else point
        self.spent.losses += self.share
        return float(self._mean(lambda batch: self.loss_on(batch, at)))

    def gradient(self, point: Vec | None = None) -> tuple[float, Vec]:
        r"""Return \(L\) and \(\nabla L\) at a point, at w where None."""
        at = self.w if point is None else point
        self.spent.gradients += self.share
        loss, gradient = self._mean(lambda batch: self.gradient_on(batch, at))
        return float(loss), gradient

    def product(self, v: Vec, of: Product = HessianVector, point: Vec | None = None) -> Vec:
        r"""Return \(\nabla^2 L\,v\), or another matrix times v, at a point, at w where None."""
        at = self.w if point is None else point
        return self._multiplied(v, lambda batch: self.linear_on(batch, at, of))

    @contextmanager
    def matrix(self, of: Product = HessianVector) -> Iterator[Matrix]:
        r"""Hold \(\nabla^2 L(w)\), or another matrix, for many products; where there is one batch, they are cheaper so.

        Args:
            of: which matrix.

        Yields:
            A function from v to the product.

        Raises:
            ArithmeticError: two looks at the loss differ.
        """
        w = self.w
        if not self.pure:
            self._look_twice()
        if isinstance(self.data, list) and len(self.data) == 1:
            held = self.linear_on(self.data[0], w, of)
            yield lambda v: self._multiplied(v, lambda _: held)
        else:
            yield lambda v: self._multiplied(v, lambda batch: self.linear_on(batch, w, of))

    def _look_twice(self) -> None:
        """Raise ArithmeticError where the loss is another at every look: one that is held would not be caught."""
        one, two = self.loss(), self.loss()
        rounding = self.w.space.rounding(self.w.leaves)
        if abs(one - two) > min(100 * rounding, rounding**0.5) * max(abs(one), abs(two)):
            raise ArithmeticError(
                f"the loss is {one:.9g} at one look and {two:.9g} at the next: dropout or random augmentation make it "
                "another; switch them off, with model.eval() where a layer does it"
            )

    def _multiplied(self, v: Vec, linear: Callable[[Batch], Matrix]) -> Vec:
        self.spent.products += self.share
        product: Vec = self._mean(lambda batch: linear(batch)(v))
        return product

    def answer(self, request: Request) -> Any:
        """Answer a variant's program."""
        if isinstance(request, Choice):
            return bool(request.predicate)
        if isinstance(request, Vec):
            return self.gradient(request)[1]
        return self.product(request.v, type(request), request.w)

    def over(self, data: Iterable[Batch]) -> Self:
        """Return the same loss at the same weights on other batches, with counts of its own."""
        other = copy(self)
        other.data, other.spent = data, Spent()
        return other

    def shards(self, m: int | None) -> Iterator[Landscape]:
        """Yield the landscape of each m examples that share a perturbation; this one itself where `m` is None.

        Args:
            m: examples to a perturbation; must divide every batch.

        Yields:
            The landscapes, which count into this one's `spent`.

        Raises:
            ValueError: `m` does not divide a batch.
        """
        if m is None:
            yield self
            return
        total = sum(map(self.examples, self.data))
        for batch in self.data:
            for part in self.cut(batch, division(m, self.examples(batch)).shards):
                shard = self.over([part])
                shard.spent, shard.share = self.spent, m / total
                yield shard

    def check(self) -> None:
        """Raise ValueError where a weight is not finite."""
        for leaf, x in zip(self.w.space.leaves, self.w.leaves, strict=True):
            if not float(Vec(self.w.space, (x,)).norm(inf)) < inf:
                raise ValueError(
                    f"the weights {leaf.name or 'in a leaf'} hold NaN or inf, and so would whatever is measured: "
                    "measure the weights of an earlier step"
                )

    def _mean(self, of: Callable[[Batch], Any]) -> Any:
        """Return the mean over all examples of what batches answer; equal batches, and one alone, are not rescaled."""
        total, examples, unit = None, 0, 0
        for batch in self.data:
            n = self.examples(batch)
            unit = unit or n
            part = _times(n / unit, of(batch)) if n else None
            total = part if total is None else total if part is None else add(total, part)
            examples += n
        if total is None:
            raise ValueError("the data holds no example: there is no loss to measure")
        return self.among(_times(unit / examples, total), examples)


def _times(a: float, item: Any) -> Any:
    return item if a == 1 else each(lambda x: a * x, item)
