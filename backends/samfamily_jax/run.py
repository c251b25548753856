"""Answering a program's requests while JAX traces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.core import Tracer

from samfamily.program import Asking, Choice, HessianVector, Request, ask, drive
from samfamily.space import Leaves, Vec

Gradient: TypeAlias = Callable[[Leaves], tuple[tuple[Any, Any], Leaves]]
"""From the leaves of a point to `((loss, aux), gradients)`."""


class Seen(NamedTuple):
    """What the gradients told besides themselves.

    Attributes:
        loss: the loss at the first point asked about, which is w unless the variant does not ask there.
        aux: the auxiliary output there.
        last_loss: the loss at the last point asked about.
        last_aux: the auxiliary output there, or None where nobody wants it.
        gradients: how many were evaluated.
    """

    loss: Any
    aux: Any
    last_loss: Any
    last_aux: Any
    gradients: Any


class Run:
    """A driver for one program: every gradient that it asks for is traced once.

    Args:
        gradient: the loss's value and gradient.
        keep_last: whether the auxiliary output at the last point is wanted.
        settle: makes one type of what two branches return; see `Devices.settle`.
        seen: what was seen before this program began.

    Attributes:
        seen: what has been seen; None before the first gradient.
    """

    seen: Seen | None

    def __init__(
        self,
        gradient: Gradient,
        keep_last: bool = False,
        settle: Callable[[Any], Any] = lambda tree: tree,
        seen: Seen | None = None,
    ) -> None:
        self.gradient, self.keep_last, self.settle = gradient, keep_last, settle
        self.seen = seen

    def drive(self, program: Asking[Any]) -> Any:
        """Run a program to its end and return its result."""
        return drive(program, self._answer)

    def _answer(self, request: Request) -> Any:
        if isinstance(request, Choice):
            return self._choose(request)
        if isinstance(request, HessianVector):
            return self._hessian_vector(request)
        (loss, aux), gradients = self.gradient(request.collapse())
        before = self.seen or Seen(loss, aux, loss, None, 0)
        last = aux if self.keep_last else None
        self.seen = before._replace(last_loss=loss, last_aux=last, gradients=before.gradients + 1)
        return Vec(request.space, conjugate(gradients))

    def _hessian_vector(self, request: HessianVector) -> Vec:
        def gradients(leaves: Leaves) -> Leaves:
            return conjugate(self.gradient(leaves)[1])

        point, v = request.w.collapse(), request.v.collapse()
        return Vec(request.w.space, jax.jvp(gradients, (point,), (v,))[1])

    def _choose(self, choice: Choice) -> Any:
        """Trace both programs under `lax.cond`, and see what the one that runs has seen; outside `jit`, just choose."""
        if not isinstance(choice.predicate, Tracer):
            return bool(choice.predicate)

        def branch(program: Callable[[], Any]) -> Callable[[], tuple[Any, Any]]:
            def run() -> tuple[Any, Any]:
                inside = Run(self.gradient, self.keep_last, self.settle, self.seen)
                result = inside.drive(ask(program()))
                seen: Any = inside.seen
                news = seen if self.seen is None else (seen.last_loss, seen.last_aux, seen.gradients)
                return self.settle(jax.tree.map(plain, (result, news)))

            return run

        result, news = jax.lax.cond(choice.predicate, branch(choice.then), branch(choice.otherwise))
        self.seen = Seen(*news) if self.seen is None else Seen(self.seen.loss, self.seen.aux, *news)
        return result


def conjugate(leaves: Leaves) -> Leaves:
    """Turn JAX's gradient with respect to a complex leaf into the direction of ascent, and back; real leaves stay."""
    return tuple(jnp.conj(x) if jnp.iscomplexobj(x) else x for x in leaves)


def plain(x: Any) -> jax.Array:
    """Return an array that has a dtype of its own, so that both branches agree."""
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jax.dtypes.extended) else jax.lax.convert_element_type(x, x.dtype)
