r"""A loss on data as a function of a pytree of parameters: what is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, TypeAlias, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from samfamily.landscape import Batch, Composed, Euclidean, Matrix, Product
from samfamily.landscape import Landscape as AnyLandscape
from samfamily.program import GaussNewtonVector
from samfamily.space import Leaves, Scalar, Vec
from samfamily_jax.batch import examples_in
from samfamily_jax.partition import Partition
from samfamily_jax.run import conjugate
from samfamily_jax.space import JaxSpace

T = TypeVar("T")
PyTree: TypeAlias = Any


class WideSpace(Euclidean, JaxSpace):
    """The JAX space outside of a trace: one compiled call for each operation, and sums in float64 whatever is on."""

    def scale(self, a: Scalar, x: Leaves) -> Leaves:
        """See `Space.scale`."""
        return _scale(a, tuple(x))

    def axpby(self, a: Scalar, x: Leaves, b: Scalar, y: Leaves) -> Leaves:
        """See `Space.axpby`."""
        return _axpby(a, tuple(x), b, tuple(y))

    def inner(self, x: Leaves, y: Leaves) -> Scalar:
        """See `Space.inner`."""
        with jax.enable_x64(True):  # noqa: FBT003  that is its only name
            found = _inner(tuple(x), tuple(y))
        return found if isinstance(found, Tracer) else float(found)

    def compiled(self, function: Callable[..., T], **fixed: Any) -> Callable[..., T]:
        """See `Space.compiled`."""
        jitted = _jitted(function, tuple(fixed.items()))

        def call(*arguments: Any, **named: Any) -> T:
            with jax.enable_x64(True):  # noqa: FBT003
                return jitted(*arguments, **named)

        return call


class Landscape(AnyLandscape):
    r"""A loss on data as a function of parameters, for `samfamily.curvature` and `samfamily.sharpness`.

    $$ L(w) = \frac1n \sum_{j} n_j L_j(w), $$

    the mean over all \(n\) examples of batches of \(n_j\).  Where batches are spread over the devices of a mesh, as
    `jax.device_put(batch, NamedSharding(mesh, P("data")))` leaves them, the compiler averages over the devices.

    Args:
        fun: `fun(params, *batch)`, the mean loss over the batch's examples, a pure function: with dropout off, and
            with batch normalisation by its running statistics, or the loss is another at every look.  Or
            `Composed(outputs, loss)`, with which Gauss-Newton products are there too: `outputs(params, *batch)` and
            `loss(outputs, *batch)`.
        params: any pytree; leaves that are no float arrays pass through.
        data: a tuple of arrays, which is one batch, or a list or loader of batches.  A batch is a list or tuple of the
            loss's arguments, or anything else that is its one argument; the first axis of arrays counts examples.
        normalisation: as for `value_and_grad`.

    Raises:
        TypeError: data that is no batch and no batches, or can be gone through once only.
        ValueError: no leaf is a float array; when asked: a batch without arrays, no batch in the data.

    Example:
        >>> import jax.numpy as jnp
        >>> from samfamily import curvature
        >>> loss = lambda w, x: jnp.mean((x @ w) ** 2)
        >>> landscape = Landscape(loss, jnp.ones(2), (jnp.array([[1.0, 0.0], [0.0, 3.0]]),))
        >>> print(curvature.eigenvalues(landscape, top=1, bottom=1))
        9 ± ..., 1 ± ... in 2 products
    """

    pure = True

    def __init__(
        self, fun: Callable[..., Any] | Composed, params: PyTree, data: Any, normalisation: PyTree = None
    ) -> None:
        super().__init__(data)
        parts = fun if isinstance(fun, Composed) else None
        split = Partition(params, normalisation)

        def outputs(leaves: Leaves, rest: Any, *batch: Any) -> Any:
            return None if parts is None else parts.outputs(split.merge(leaves, rest), *batch)

        def loss(leaves: Leaves, rest: Any, *batch: Any) -> Any:
            if parts is not None:
                return _number(parts.loss(outputs(leaves, rest, *batch), *batch))
            return _number(cast("Any", fun)(split.merge(leaves, rest), *batch))

        self._normalisation, self._structure = normalisation, jax.tree.structure(params)

        def curved(leaves: Leaves, rest: Any, *batch: Any) -> Any:
            return jax.linearize(lambda x: conjugate(jax.grad(loss)(x, rest, *batch)), leaves)[1]

        def bent(leaves: Leaves, rest: Any, *batch: Any) -> Any:
            z, push = jax.linearize(lambda x: outputs(x, rest, *batch), leaves)
            bend = jax.linearize(jax.grad(lambda z: _number(cast("Composed", parts).loss(z, *batch))), z)[1]
            return push, bend

        # A linearised function is a pytree: of one structure for all batches of a shape, and so compiled once.
        self._curved, self._bent = jax.jit(curved), None if parts is None else jax.jit(bent)
        self._loss, self._gradient = jax.jit(loss), jax.jit(jax.value_and_grad(loss))
        self.w, self._rest = _wide(split), split.rest

    def at(self, params: PyTree) -> Landscape:
        """Return the same loss on the same data at other parameters, compiled already.

        Args:
            params: of the same structure.

        Returns:
            The landscape, with counts of its own.

        Raises:
            ValueError: another structure.
        """
        structure: Any = jax.tree.structure(params)
        if structure != self._structure:
            raise ValueError(f"the parameters have the structure {structure} where the first had {self._structure}")
        split, other = Partition(params, self._normalisation), self.over(self.data)
        vars(other).update(w=_wide(split), _rest=split.rest)
        return other

    def examples(self, batch: Batch) -> int:
        """See `samfamily.Landscape.examples`."""
        return examples_in(arguments(batch), "a batch without examples: pass arrays whose first axis counts them")

    def cut(self, batch: Batch, shards: int) -> Sequence[Batch]:
        """See `samfamily.Landscape.cut`."""
        m = self.examples(batch) // shards

        def part(i: int, x: Any) -> Any:
            return x[i * m : (i + 1) * m] if jnp.ndim(x) else x

        return [jax.tree.map(partial(part, i), arguments(batch)) for i in range(shards)]

    def loss_on(self, batch: Batch, point: Vec) -> Any:
        """See `samfamily.Landscape.loss_on`."""
        return float(self._loss(point.collapse(), self._rest, *arguments(batch)))

    def gradient_on(self, batch: Batch, point: Vec) -> tuple[Any, Vec]:
        """See `samfamily.Landscape.gradient_on`."""
        loss, gradient = self._gradient(point.collapse(), self._rest, *arguments(batch))
        return float(loss), Vec(point.space, conjugate(gradient))

    def linear_on(self, batch: Batch, point: Vec, of: Product) -> Matrix:
        """See `samfamily.Landscape.linear_on`; holds what the derivative of the batch's gradient needs."""
        linearised, apply = self._curved, _pushed
        if of is GaussNewtonVector:
            if self._bent is None:
                raise TypeError(
                    "a Gauss-Newton product needs the model's outputs: pass Landscape(Composed(outputs, loss), ...)"
                )
            linearised, apply = self._bent, _pushed_bent_and_pulled
        held = linearised(point.collapse(), self._rest, *arguments(batch))
        return lambda v: Vec(point.space, apply(held, v.collapse()))


def arguments(batch: Batch) -> tuple[Any, ...]:
    """Return what a loss is called with after the parameters."""
    return tuple(batch) if isinstance(batch, list | tuple) else (batch,)


def _number(loss: Any) -> Any:
    """Return a loss without axes; raise TypeError where it is more or other than one real number."""
    if not isinstance(loss, jax.Array | np.ndarray | np.generic | float) or jnp.size(loss) != 1:
        kind = f"an array of shape {loss.shape}" if isinstance(loss, jax.Array) else type(loss).__name__
        raise TypeError(f"the loss returned {kind}: it must return the mean over the batch's examples, one number")
    if not jnp.issubdtype(jnp.result_type(loss), jnp.floating):
        raise TypeError(
            f"the loss returned a number of type {jnp.result_type(loss)}: it must be real, and differentiable"
        )
    return jnp.asarray(loss).reshape(())


def _wide(split: Partition) -> Vec:
    return Vec(WideSpace(split.w.space.leaves), split.w.leaves)


@cache
def _jitted(function: Callable[..., Any], fixed: tuple[tuple[str, Any], ...]) -> Callable[..., Any]:
    return jax.jit(partial(function, **dict(fixed)))


@jax.jit
def _pushed(push: Any, v: Leaves) -> Leaves:
    return push(v)


@jax.jit
def _pushed_bent_and_pulled(held: Any, v: Leaves) -> Leaves:
    r"""Return \(J^\top\nabla^2\ell(z)\,J v\)."""
    push, bend = held
    return jax.linear_transpose(push, v)(bend(push(v)))[0]


@jax.jit
def _scale(a: Scalar, x: Leaves) -> Leaves:
    return tuple((a * u).astype(u.dtype) for u in x)


@jax.jit
def _axpby(a: Scalar, x: Leaves, b: Scalar, y: Leaves) -> Leaves:
    return tuple((a * u + b * v).astype(v.dtype) for u, v in zip(x, y, strict=True))


@jax.jit
def _inner(x: Leaves, y: Leaves) -> Scalar:
    return sum(jnp.sum((jnp.conj(u) * v).real, dtype=jnp.float64) for u, v in zip(x, y, strict=True))
