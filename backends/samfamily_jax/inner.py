"""inner_gap: how good the first-order step is for a loss, at its parameters, on a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax

from samfamily.inner import InnerGap, measure
from samfamily.program import drive
from samfamily.search import Effort
from samfamily.space import Leaves, Vec
from samfamily.variant import Variant
from samfamily_jax.partition import Partition
from samfamily_jax.run import conjugate

PyTree: TypeAlias = Any


def inner_gap(
    fun: Callable[..., Any],
    variant: Variant,
    has_aux: bool = False,
    *,
    beta: float | None = None,
    iterations: int = 20,
    restarts: int = 3,
    seed: int = 0,
    normalisation: PyTree = None,
) -> Callable[..., InnerGap]:
    r"""Return a function that compares the first-order step with the best that can be found in the variant's ball.

    $$ \text{ratio} = \frac{L(w + \hat\epsilon) - L(w)}
                          {\max_{\lVert T^{-1}\epsilon\rVert_p \le \rho} L(w + \epsilon) - L(w)} $$

    Near 1, rho is small enough for the first-order step; far below 1, the step misses most of what the ball holds.
    Costs up to `iterations * restarts` gradients, and reads numbers to the host: for looking now and
    then, outside `jit`.  Pass `jax.jit(fun)` to have those gradients compiled.

    Args:
        fun: `fun(params, *args) -> loss`, or `-> (loss, aux)` with `has_aux`; the same at every call.
        variant: any row whose radius is one number, such as `SAM(rho=0.05)`: its ball and its rho are looked at.
        has_aux: whether `fun` returns auxiliary output, which is dropped.
        beta: the gradient's Lipschitz constant on the ball, in the ball's norms, if it is known: with one, `upper` is
            a proven bound, and at p = 2 and x < 1/2 `best` is the proven maximum.
        iterations: points visited from one start, at most.
        restarts: starts of the search: the first-order step's point, and random ones.
        seed: of the random starts.
        normalisation: as for `value_and_grad`.

    Returns:
        `measure(params, *args, **kwargs) -> InnerGap`.

    Raises:
        TypeError: `variant` is not a Variant.
        ValueError: when called: a negative beta, a variant with an `m` or a mask.

    Example:
        >>> import jax.numpy as jnp
        >>> from samfamily_jax import SAM, inner_gap
        >>> loss = jax.jit(lambda w: 0.5 * (w[0] ** 2 + 10 * w[1] ** 2))
        >>> found = inner_gap(loss, SAM(rho=1.0), beta=10.0)(jnp.array([1.0, 0.1]))
        >>> f"{found.ratio:.2f} {found.x:.2f} {found.certified}"
        '0.69 7.07 False'
    """
    if not isinstance(variant, Variant):
        raise TypeError(f"variant must be a Variant, got {variant!r}: pass a row of the family such as SAM(rho=0.05)")

    def compare(params: PyTree, *args: Any, **kwargs: Any) -> InnerGap:
        split = Partition(params, normalisation)

        def loss(leaves: Leaves) -> Any:
            result = fun(split.merge(leaves), *args, **kwargs)
            return result[0] if has_aux else result

        def answer(point: Vec) -> tuple[Any, Vec]:
            value, gradients = jax.value_and_grad(loss)(point.collapse())
            return value, Vec(point.space, conjugate(gradients))

        return drive(measure(variant, split.w, beta, Effort(iterations, restarts, 1e-6, seed)), answer)

    return compare
