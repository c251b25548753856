"""The protocol between a variant and its drivers: what a program asks for, what it returns, and how one is driven.

A variant's program is a generator.  It *yields a request* and is *sent the answer*:

| request | answer |
|---|---|
| a `Vec` | the gradient of the loss at that point, a `Vec` |
| `HessianVector(w, v)` | the Hessian at `w` times `v`, a `Vec` |
| `Choice(predicate, then, otherwise)` | whether the predicate holds, a bool; or, by a driver that traces both, the
result |

and it returns a `Step`.  A driver knows how its framework answers and nothing else.  It may reuse the memory of a point
that it has answered: a program that wants to look at the point again computes it again.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from inspect import isgenerator
from typing import Any, NamedTuple, TypeAlias, TypeVar, cast

from samfamily.space import Scalar, Vec

T = TypeVar("T")
Q = TypeVar("Q")


class HessianVector(NamedTuple):
    r"""The request for \(\nabla^2 L(w)\,v\).

    Attributes:
        w: the point.
        v: the vector, of the shapes of w.

    Example:
        >>> import numpy as np
        >>> from samfamily import HessianVector
        >>> from samfamily.reference import Landscape
        >>> landscape = Landscape(lambda w: (np.sum(w[0] ** 3), [3 * w[0] ** 2]), [np.array([1.0, 2.0])])
        >>> w = landscape.w
        >>> landscape.answer(HessianVector(w, v=w)).collapse()  # 6 w, times w
        (array([ 6., 24.]),)
    """

    w: Vec
    v: Vec


class GaussNewtonVector(NamedTuple):
    r"""The request for \(J^\top\nabla^2\ell(z)\,J v\), for a loss \(\ell(z(w))\) with \(J = \partial z/\partial w\).

    Attributes:
        w: the point.
        v: the vector, of the shapes of w.

    Example:
        >>> import jax.numpy as jnp
        >>> from samfamily import Composed, GaussNewtonVector, HessianVector
        >>> from samfamily_jax import Landscape
        >>> loss = Composed(lambda w, x: x * w**2, lambda z, x: 0.5 * jnp.mean((z - 9) ** 2))
        >>> landscape = Landscape(loss, jnp.array([1.0]), (jnp.array([1.0]),))
        >>> w = landscape.w
        >>> [float(landscape.answer(ask(w, v=w)).collapse()[0][0]) for ask in (GaussNewtonVector, HessianVector)]
        [4.0, -12.0]
    """

    w: Vec
    v: Vec


class Choice(NamedTuple):
    """The request to choose between two programs whose results have one structure; see `choose`."""

    predicate: Scalar
    then: Callable[[], Any]
    otherwise: Callable[[], Any]


Request: TypeAlias = Vec | HessianVector | Choice
Asking: TypeAlias = Generator[Request, Any, T]
"""A generator that yields requests, is sent their answers and returns a `T`."""


class State(NamedTuple):
    """What a variant carries from step to step: created by `Variant.init`, of one structure ever after.

    Attributes:
        step: how many steps have been taken; a schedule of the radius is a function of it.
        ascent: the memory that the ascent owns; a NamedTuple of Vecs and scalars, or `()`.
        ball: likewise for the ball.
        radius: likewise for the radius.
        descent: likewise for the descent.

    Example:
        >>> import numpy as np
        >>> from samfamily import AESAM
        >>> from samfamily.reference import sharpness_aware
        >>> sa = sharpness_aware(lambda w: (0.5 * float(w[0] @ w[0]), [w[0]]), AESAM(rho=0.1, delta=0.9))
        >>> w = [np.array([3.0, 4.0])]
        >>> _, state = sa.value_and_grad(w, sa.init(w))
        >>> state.step, round(float(state.radius.mean), 9)  # a tenth of the squared norm
        (1, 2.5)
    """

    step: Scalar = 0
    ascent: Any = ()
    ball: Any = ()
    radius: Any = ()
    descent: Any = ()


class Site(NamedTuple):
    r"""Where a step stands once it has a direction: what the ball and the radius may look at.

    Attributes:
        w: the weights.
        d: the direction of ascent.
        step: how many steps were taken before.
    """

    w: Vec
    d: Vec
    step: Scalar


class Step(NamedTuple):
    r"""What a program returns.

    Attributes:
        gradient: the vector that the base optimizer follows.
        state: the state for the next step.
        dual_norm: \(\lVert d\rVert_*\) of the first ascent direction; in units of loss per unit of radius.
        radius: \(\rho\) of the last climb, 0 if there was none; in the units of the ball.
        addend: a vector that, times the learning rate, is subtracted from the weights after the base optimizer's step;
            None for almost every row.
        arrived: the share of the last perturbation's length that rounding left; the number 1 in float32 and wider.

    Example:
        >>> import numpy as np
        >>> from samfamily import SAM
        >>> from samfamily.reference import sharpness_aware
        >>> sa = sharpness_aware(lambda w: (0.5 * float(w[0] @ w[0]), [w[0]]), SAM(rho=0.5))
        >>> loss, step = sa.evaluate([np.array([3.0, 4.0])], State())
        >>> step.gradient.collapse(), float(step.dual_norm), step.effective_radius, step.state.step
        ((array([3.3, 4.4]),), 5.0, 0.5, 1)
    """

    gradient: Vec
    state: State
    dual_norm: Scalar
    radius: Scalar
    addend: Vec | None = None
    arrived: Scalar = 1.0

    @property
    def effective_radius(self) -> Scalar:
        """How far the weights went once rounded."""
        return self.radius * self.arrived


class StepInfo(NamedTuple):
    r"""What the last step did; every figure is a 0-d array of the framework, and reading one may synchronise.

    Attributes:
        loss: the loss at w, before the step.
        perturbed_loss: the loss at the last perturbed point; equal to `loss` if there was none.
        dual_norm: \(\lVert d\rVert_*\) of the ascent direction at w.
        radius: how far the adversary went, \(\rho\).
        gradient_evaluations: gradients of the whole batch that the step cost.
        active: whether the weights were perturbed.
        effective_radius: how far the weights went once rounded: the radius, but less where a perturbation is smaller
            than the spacing of bfloat16 or float16 weights.
        skipped: steps skipped so far because a loss or a gradient was not finite; in JAX, where the caller decides, 1
            if this step's were not.

    Example:
        >>> import jax.numpy as jnp
        >>> from samfamily_jax import SAM, sharpness_aware
        >>> sa = sharpness_aware(lambda w: 0.5 * jnp.sum(w**2), SAM(rho=0.5))
        >>> w = jnp.array([3.0, 4.0])
        >>> result, state, info = sa.with_info(w, sa.init(w))
        >>> float(info.loss), float(info.perturbed_loss), float(info.dual_norm), bool(info.active)
        (12.5, 15.125, 5.0, True)
    """

    loss: Scalar
    perturbed_loss: Scalar
    dual_norm: Scalar
    radius: Scalar
    gradient_evaluations: Scalar
    active: Scalar
    effective_radius: Scalar
    skipped: Scalar


def drive(program: Generator[Q, Any, T], answer: Callable[[Q], Any]) -> T:
    """Run a program to its end, answering each of its requests with `answer(request)`, and return its result."""
    try:
        request = next(program)
        while True:
            request = program.send(answer(request))
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        program.close()


def ask(result: T | Asking[T]) -> Asking[T]:
    """Return what an axis member returned, having run it first if it is a generator that makes requests.

    So a member may be either, and a program says `x = yield from ask(member(...))`.

    Args:
        result: a value, or a generator that returns one.

    Returns:
        The value.
    """
    if isgenerator(result):
        return (yield from cast("Asking[T]", result))
    return cast("T", result)


def choose(predicate: Scalar, then: Callable[[], Any], otherwise: Callable[[], Any]) -> Asking[Any]:
    """Return what `then()` returns where the predicate holds, and else what `otherwise()` returns.

    A predicate that is known is decided here.  One that is an array becomes a request: a driver that can read it
    answers with a bool, and one that traces runs both programs under its own conditional and answers with the result.

    Args:
        predicate: a bool or a 0-d array.
        then: returns a value or a generator; both results must have one structure.
        otherwise: likewise.

    Returns:
        The result.
    """
    answer = predicate if isinstance(predicate, bool) else (yield Choice(predicate, then, otherwise))
    if isinstance(answer, bool):
        chosen = then() if answer else otherwise()
        del then, otherwise  # and with them what the chosen one lets go of while it runs
        return (yield from ask(chosen))
    return answer


def mean(items: Iterable[Any]) -> Any:
    """Return the mean over shards of `Step`s or other tuples of Vecs and scalars, entry by entry.

    Consumes `items` one at a time, so that only a running sum is kept.  A single item comes back as it is.
    """
    items = iter(items)
    total, count = next(items), 1
    for item in items:
        total, count = add(total, item), count + 1
    return divide(total, count)


def add(a: Any, b: Any) -> Any:
    """Return the sum of two `Step`s or other tuples of Vecs and scalars, entry by entry."""
    return each(lambda x, y: x + y, a, b)


def divide(total: Any, count: int) -> Any:
    """Return a sum of `count` items divided by `count`; the item itself where it is one."""
    return total if count == 1 else each(lambda x: x * (1 / count), total)


def each(function: Callable[..., Any], item: Any, *others: Any) -> Any:
    """Return `item` with every Vec and scalar in it replaced by what `function` makes of it.

    Args:
        function: of a Vec or scalar of `item`, and of what stands in its place in each of the others.
        item: a `Step`, a `State`, or other nested tuples of Vecs and scalars; a State's step counter passes through.
        *others: of the same structure of tuples, down to the Vecs and scalars of `item`.

    Returns:
        A structure like `item`.
    """
    if isinstance(item, State):
        memories = zip(item[1:], *(other[1:] for other in others), strict=True)
        return State(item.step, *(each(function, *parts) for parts in memories))
    if isinstance(item, tuple):
        parts = (each(function, *parts) for parts in zip(item, *others, strict=True))
        return type(item)(*parts) if hasattr(item, "_fields") else tuple(parts)
    return None if item is None else function(item, *others)
