"""value_and_grad and sharpness_aware: the driver of a variant's program for JAX.

The program runs while JAX traces: each point that it asks about becomes one `jax.value_and_grad`, so a step is one
computation for `jit`, `scan` and donation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from samfamily.program import State, Step, StepInfo, add, divide
from samfamily.space import Leaves, Vec
from samfamily.variant import Variant
from samfamily_jax.batch import shards
from samfamily_jax.partition import Partition
from samfamily_jax.run import Run, conjugate

PyTree: TypeAlias = Any


class Outcome(NamedTuple):
    """What a finished program leaves: its step, the loss at w and at the last point asked about, and what it cost."""

    step: Step
    loss: jax.Array
    perturbed_loss: jax.Array
    gradients: Any


class SharpnessAware(NamedTuple):
    """Three pure functions, for a variant with or without memory.

    Attributes:
        init: `params -> state`, a pytree of one structure for ever.
        value_and_grad: `(params, state, *args) -> (result, state)`, where `result` is what
            `jax.value_and_grad(fun)(params, *args)` returns: `(loss, grads)`, or `((loss, aux), grads)`.
        with_info: the same, returning `(result, state, info)` with a `StepInfo`.
    """

    init: Callable[[PyTree], State]
    value_and_grad: Callable[..., tuple[Any, State]]
    with_info: Callable[..., tuple[Any, State, StepInfo]]


def sharpness_aware(
    fun: Callable[..., Any],
    variant: Variant,
    has_aux: bool = False,
    *,
    batch_argnums: int | Sequence[int] = 1,
    normalisation: PyTree = None,
) -> SharpnessAware:
    """Return the pure functions that follow `variant`, its memory and its step counter in an explicit state.

    Args:
        fun: `fun(params, *args) -> loss`, or `-> (loss, aux)` with `has_aux`.
        variant: a row of the family.
        has_aux: whether `fun` returns auxiliary output; what comes back is that of the pass at w, and for a variant
            with `m` that of every shard, stacked along a new first axis.
        batch_argnums: which arguments of `fun` are batches; a variant with `m` cuts them into shards.
        normalisation: a pytree of bools, or a prefix of one, that tells which parameters belong to normalisation
            layers, for variants that ask; equinox and nnx modules tell it by their types.

    Returns:
        `init`, `value_and_grad` and `with_info`.

    Raises:
        TypeError: `variant` is not a Variant.

    Example:
        >>> from samfamily_jax import SAM, sharpness_aware
        >>> sa = sharpness_aware(lambda w: 0.5 * jnp.sum(w**2), SAM(rho=lambda step: 0.5 * step))
        >>> w = jnp.array([3.0, 4.0])
        >>> state = sa.init(w)
        >>> for _ in range(2):
        ...     (loss, grads), state, info = jax.jit(sa.with_info)(w, state)
        ...     print(float(info.radius), float(info.perturbed_loss), grads)
        0.0 12.5 [3. 4.]
        0.5 15.125 [3.3 4.4]
    """
    _check_variant(variant)
    _refuse_addend(variant)

    def init(params: PyTree) -> State:
        return variant.init(Partition(params, normalisation).w)._replace(step=jnp.zeros((), jnp.int32))

    def with_info(params: PyTree, state: State, *args: Any, **kwargs: Any) -> tuple[Any, State, StepInfo]:
        split = Partition(params, normalisation)
        outcome, aux = _step(fun, variant, split, 0, has_aux, batch_argnums, state, (params, *args), kwargs)
        gradients = split.gradients(conjugate(outcome.step.gradient.collapse()))
        return (((outcome.loss, aux) if has_aux else outcome.loss), gradients), outcome.step.state, _info(outcome)

    def value_and_grad(params: PyTree, state: State, *args: Any, **kwargs: Any) -> tuple[Any, State]:
        return with_info(params, state, *args, **kwargs)[:2]

    return SharpnessAware(init, value_and_grad, with_info)


def value_and_grad(
    fun: Callable[..., Any],
    variant: Variant,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    batch_argnums: int | Sequence[int] = 1,
    normalisation: PyTree = None,
) -> Callable[..., Any]:
    r"""Return a function that is called like, and returns like, `jax.value_and_grad(fun, argnums, has_aux)`.

    The value is the loss at w; the gradient is what the variant tells the base optimizer to follow, for SAM
    \(\nabla L(w + \hat\epsilon)\).  Everything after it, optax or not, stays as it is.

    Args:
        fun: the loss: `fun(*args, **kwargs) -> loss`, or `-> (loss, aux)` with `has_aux`.
        variant: a row without memory; its rho may be a traced value.
        argnums: which positional arguments to differentiate and perturb, together.  Leaves that are not float arrays
            pass through untouched and have the gradient None.
        has_aux: whether `fun` returns auxiliary output; what comes back is that of the pass at w, and for a variant
            with `m` that of every shard, stacked along a new first axis.
        batch_argnums: which positional arguments are batches; a variant with `m` cuts them into shards.
        normalisation: a pytree of bools, or a prefix of one, that tells which parameters belong to normalisation
            layers, for variants that ask; equinox and nnx modules tell it by their types.

    Returns:
        `vg(*args, **kwargs) -> (loss, grads)`, or `((loss, aux), grads)` with `has_aux`.

    Raises:
        TypeError: `variant` is not a Variant.
        ValueError: the variant has a memory or a schedule; use `sharpness_aware`.

    Example:
        >>> from samfamily_jax import SAM, value_and_grad
        >>> vg = jax.jit(value_and_grad(lambda w, x: jnp.mean((x @ w) ** 2), SAM(rho=0.1)))
        >>> loss, grads = vg(jnp.array([1.0, 0.0]), jnp.eye(2))
        >>> loss, grads
        (Array(0.5, dtype=float32), Array([1.1, 0. ], dtype=float32))
    """
    _check_variant(variant)
    _refuse_addend(variant)
    if variant.stateful:
        raise ValueError(
            f"{variant.name} has a memory or a schedule of rho, which value_and_grad has nowhere to keep: "
            "use sharpness_aware(fun, variant), whose state goes from step to step"
        )

    def vg(*args: Any, **kwargs: Any) -> Any:
        moved = argnums if isinstance(argnums, int) else tuple(argnums)
        for i in (moved,) if isinstance(moved, int) else moved:
            if not -len(args) <= i < len(args):
                raise ValueError(
                    f"argnums = {argnums} does not fit a loss called with {len(args)} positional arguments"
                )
        split = Partition(args[moved] if isinstance(moved, int) else tuple(args[i] for i in moved), normalisation)
        outcome, aux = _step(fun, variant, split, moved, has_aux, batch_argnums, State(), args, kwargs)
        gradients = split.gradients(conjugate(outcome.step.gradient.collapse()))
        return ((outcome.loss, aux) if has_aux else outcome.loss), gradients

    return vg


def _step(
    fun: Callable[..., Any],
    variant: Variant,
    split: Partition,
    argnums: int | tuple[int, ...],
    has_aux: bool,
    batch_argnums: int | Sequence[int],
    state: State,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> tuple[Outcome, Any]:
    """Run one step's program on every shard; return the mean outcome, and aux at w."""
    moved = tuple(i % len(args) for i in ((argnums,) if isinstance(argnums, int) else argnums))
    batches = (batch_argnums,) if isinstance(batch_argnums, int) else tuple(batch_argnums)
    if variant.m is not None:
        if not all(-len(args) <= i < len(args) for i in batches) and batch_argnums != 1:
            raise ValueError(f"batch_argnums = {batch_argnums} does not fit a loss called with {len(args)} arguments")
        batches = tuple(i % len(args) if i < 0 else i for i in batches)
        if set(batches) & set(moved):
            raise ValueError(
                f"batch_argnums = {batch_argnums} and argnums = {argnums} name one argument as batch and as "
                "parameters: say with batch_argnums where the batch is"
            )

    def loss(leaves: Leaves, arguments: tuple[Any, ...]) -> tuple[jax.Array, Any]:
        tree = split.merge(leaves)
        filled = dict(zip(moved, (tree,) if isinstance(argnums, int) else tree, strict=True))
        result = fun(*(filled.get(i, x) for i, x in enumerate(arguments)), **kwargs)
        return result if has_aux else (result, None)

    auxes: list[Any] = []

    def one(w: Vec, arguments: tuple[Any, ...]) -> Outcome:
        run = Run(lambda leaves: jax.value_and_grad(loss, has_aux=True)(leaves, arguments))
        step = run.drive(variant.program(w, state))
        seen = run.seen
        assert seen is not None, "every program asks for a gradient"
        auxes.append(seen.aux)
        return Outcome(step, seen.loss, seen.last_loss, seen.gradients)

    parts = shards(args, batches, variant.m)
    outcome = _mean(split.w, one, parts)
    return outcome, auxes[0] if variant.m is None else jax.tree.map(lambda *x: jnp.stack(x), *auxes)


def _mean(w: Vec, one: Callable[[Vec, Any], Outcome], parts: Sequence[Any]) -> Outcome:
    """Return the mean outcome over parts.

    A barrier keeps a part from beginning before the last is summed up, so that one part's memory may serve all.  (Of
    jaxlib 0.10.2's compilers the one for CPUs drops it.)
    """
    total = one(w, parts[0])
    for part in parts[1:]:
        w, total = jax.lax.optimization_barrier((w, total))
        total = add(total, one(w, part))
    outcome: Outcome = divide(total, len(parts))
    return outcome


def _info(outcome: Outcome) -> StepInfo:
    return StepInfo(
        loss=outcome.loss,
        perturbed_loss=outcome.perturbed_loss,
        dual_norm=jnp.asarray(outcome.step.dual_norm),
        radius=jnp.asarray(outcome.step.radius, float),
        gradient_evaluations=jnp.asarray(outcome.gradients, float),
        active=jnp.asarray(outcome.step.radius) > 0,
        effective_radius=jnp.asarray(outcome.step.effective_radius, float),
        skipped=1.0 - _all_finite(outcome.loss, outcome.perturbed_loss, outcome.step.gradient.norm(2)),
    )


def _all_finite(*figures: Any) -> jax.Array:
    return jnp.all(jnp.stack([jnp.isfinite(figure) for figure in figures])).astype(float)


def _check_variant(variant: Variant) -> None:
    if not isinstance(variant, Variant):
        raise TypeError(f"variant must be a Variant, got {variant!r}: pass a row of the family such as SAM(rho=0.05)")


def _refuse_addend(variant: Variant) -> None:
    if variant.descent.adds:
        raise ValueError(
            f"{variant.name} adds to the weights after the base optimizer's step, where value_and_grad has no say: use "
            "samfamily_jax.optax.gradient_transformation, or the coupled form"
        )
