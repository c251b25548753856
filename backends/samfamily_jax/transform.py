"""value_and_grad and sharpness_aware: the driver of a variant's program for JAX.

The program runs while JAX traces: each point that it asks about becomes one `jax.value_and_grad`, so a step is one
computation for `jit`, `scan` and donation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from samfamily.program import State, StepInfo
from samfamily.variant import Variant
from samfamily_jax import memory
from samfamily_jax.batch import Shards
from samfamily_jax.follow import Follow, Outcome
from samfamily_jax.run import conjugate

PyTree: TypeAlias = Any
Aux: TypeAlias = Literal["clean", "perturbed", "both"]


class SharpnessAware(NamedTuple):
    r"""Three pure functions, for a variant with or without memory.

    With the state \(s_t\) before step t, one step is \((w_t, s_t) \mapsto (L(w_t), \text{gradient}_t, s_{t+1})\).

    Attributes:
        init: `params -> state`, a pytree of one structure for ever; a vector in it is a pytree like `params`.
        value_and_grad: `(params, state, *args) -> (result, state)`, where `result` is what
            `jax.value_and_grad(fun)(params, *args)` returns: `(loss, grads)`, or `((loss, aux), grads)`.
        with_info: the same, returning `(result, state, info)` with a `StepInfo`.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from samfamily_jax import SAM, sharpness_aware
        >>> sa = sharpness_aware(lambda w: 0.5 * jnp.sum(w**2), SAM(rho=0.5))
        >>> def descend(carry, _):
        ...     w, state = carry
        ...     (loss, grads), state = sa.value_and_grad(w, state)
        ...     return (w - 0.5 * grads, state), loss
        >>> w = jnp.array([3.0, 4.0])
        >>> (w, state), losses = jax.lax.scan(descend, (w, sa.init(w)), length=3)
        >>> losses.round(2), int(state.step)
        (Array([12.5 ,  2.53,  0.38], dtype=float32), 3)
    """

    init: Callable[[PyTree], State]
    value_and_grad: Callable[..., tuple[Any, State]]
    with_info: Callable[..., tuple[Any, State, StepInfo]]


def sharpness_aware(
    fun: Callable[..., Any],
    variant: Variant,
    has_aux: bool = False,
    allow_int: bool = False,
    *,
    batch_argnums: int | Sequence[int] | None = None,
    aux: Aux = "clean",
    value_and_grad: Callable[..., Any] = jax.value_and_grad,
    shards: Shards | None = None,
    axis_name: str | Sequence[str] = (),
    mesh: Mesh | None = None,
    normalisation: PyTree = None,
) -> SharpnessAware:
    r"""Return the pure functions that follow `variant`, its memory and its step counter in an explicit state.

    $$ (w_t, s_t) \mapsto (L(w_t), \text{gradient}_t, s_{t+1}), \qquad
       \text{gradient}_t = \nabla L(w_t + \hat\epsilon_t) \text{ for SAM} $$

    A step whose losses or gradient are not all finite leaves the state as it was, so that a caller who skips the
    update, with `optax.apply_if_finite` for instance, goes on as if it had not been.

    Args:
        fun: `fun(params, *args) -> loss`, or `-> (loss, aux)` with `has_aux`.
        variant: a row of the family.
        has_aux: whether `fun` returns auxiliary output.
        allow_int: as for `value_and_grad`.
        batch_argnums: as for `value_and_grad`, counted with `params` as argument 0.
        aux: as for `value_and_grad`.
        value_and_grad: as for `value_and_grad`.
        shards: as for `value_and_grad`.
        axis_name: as for `value_and_grad`.
        mesh: as for `value_and_grad`.
        normalisation: as for `value_and_grad`.

    Returns:
        `init`, `value_and_grad` and `with_info`.

    Raises:
        TypeError: `variant` is not a Variant.
        ValueError: as for `value_and_grad`, but for the memory; and, when called, a state of another variant.

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
    follow = Follow(
        fun, variant, 0, has_aux, _positions(batch_argnums), aux, value_and_grad, shards, _several(axis_name), mesh,
        normalisation,
    )  # fmt: skip

    def init(params: PyTree) -> State:
        return memory.first(variant, follow.split((params,)))

    def with_info(params: PyTree, state: State, *args: Any, **kwargs: Any) -> tuple[Any, State, StepInfo]:
        outcome, aux, split = follow((params, *args), kwargs, state)
        finite = _all_finite(outcome)
        after = jax.tree.map(lambda new, old: jnp.where(finite, new, old), outcome.step.state, state)
        gradients = split.gradients(conjugate(outcome.step.gradient.collapse()), allow_int)
        return (((outcome.loss, aux) if has_aux else outcome.loss), gradients), after, _info(outcome, finite)

    def stepped(params: PyTree, state: State, *args: Any, **kwargs: Any) -> tuple[Any, State]:
        return with_info(params, state, *args, **kwargs)[:2]

    return SharpnessAware(init, stepped, with_info)


def value_and_grad(
    fun: Callable[..., Any],
    variant: Variant,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    *,
    batch_argnums: int | Sequence[int] | None = None,
    aux: Aux = "clean",
    value_and_grad: Callable[..., Any] = jax.value_and_grad,
    shards: Shards | None = None,
    axis_name: str | Sequence[str] = (),
    mesh: Mesh | None = None,
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
        has_aux: whether `fun` returns auxiliary output; for a variant with `m` it is that of every shard, stacked along
            a new first axis.
        holomorphic: False, as in `jax.value_and_grad`; a complex loss has no maximum.
        allow_int: whether integers and bools have the float0 gradients that JAX gives them, instead of None.
        batch_argnums: which positional arguments are batches; a variant with `m` cuts them into contiguous shards, and
            folds the number of the shard into every key of `jax.random.key` among the other arguments.  By default
            argument 1, if no other argument has an array of as many entries.
        aux: which auxiliary output comes back: that of the first pass, `"clean"`, which is the one at w unless the
            variant does not ask there; that of the last, `"perturbed"`; or `"both"` as a pair.
        value_and_grad: what differentiates, such as `equinox.filter_value_and_grad` or one that accumulates over
            micro-batches.  It is called as `value_and_grad(f, has_aux=True)(leaves, *rest, **kwargs)`: a tuple of the
            float arrays, and the arguments that are not differentiated.
        shards: the way of working through several shards inside a device: `unrolled`, `scanned` or `vmapped`; by
            default what is good for the platform.
        axis_name: the mesh axes over which the batch is spread.  Without `mesh` this is for calls inside a `shard_map`
            of the caller's; `aux` is then each device's own, and what else comes back is the same on all.
        mesh: the mesh, for arrays that `jit` spreads: the batch over `axis_name`, and the parameters over other axes if
            over any.  What comes back is what one device would return.
        normalisation: a pytree of bools, or a prefix of one, that tells which parameters belong to normalisation
            layers, for variants that ask; equinox and nnx modules tell it by their types.

    Returns:
        `vg(*args, **kwargs) -> (loss, grads)`, or `((loss, aux), grads)` with `has_aux`.

    Raises:
        TypeError: `variant` is not a Variant.
        ValueError: the variant has a memory or a schedule, use `sharpness_aware`; it adds to the weights;
            `holomorphic`; an axis that the mesh has not; when called, an `m` that does not fit the batch and devices,
            or several arguments that may be the batch.

    Example:
        >>> from samfamily_jax import SAM, value_and_grad
        >>> vg = jax.jit(value_and_grad(lambda w, x: jnp.mean((x @ w) ** 2), SAM(rho=0.1)))
        >>> loss, grads = vg(jnp.array([1.0, 0.0]), jnp.eye(2))
        >>> loss, grads
        (Array(0.5, dtype=float32), Array([1.1, 0. ], dtype=float32))
    """
    if holomorphic:
        raise ValueError("holomorphic=True differentiates a complex loss, which has no maximum: return its real part")
    moved = argnums if isinstance(argnums, int) else tuple(argnums)
    follow = Follow(
        fun, variant, moved, has_aux, _positions(batch_argnums), aux, value_and_grad, shards, _several(axis_name), mesh,
        normalisation,
    )  # fmt: skip
    if variant.stateful:
        raise ValueError(
            f"{variant.name} has a memory or a schedule of rho, which value_and_grad has nowhere to keep: "
            "use sharpness_aware(fun, variant), whose state goes from step to step"
        )

    def vg(*args: Any, **kwargs: Any) -> Any:
        outcome, aux, split = follow(args, kwargs, State())
        gradients = split.gradients(conjugate(outcome.step.gradient.collapse()), allow_int)
        return ((outcome.loss, aux) if has_aux else outcome.loss), gradients

    return vg


def _positions(batch_argnums: int | Sequence[int] | None) -> tuple[int, ...] | None:
    return None if batch_argnums is None else _several(batch_argnums)


def _several(one_or_more: Any) -> tuple[Any, ...]:
    return (one_or_more,) if isinstance(one_or_more, int | str) else tuple(one_or_more)


def _all_finite(outcome: Outcome) -> jax.Array:
    figures = [outcome.loss, outcome.perturbed_loss, *outcome.step.gradient.collapse()]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in figures]))


def _info(outcome: Outcome, finite: jax.Array) -> StepInfo:
    return StepInfo(
        loss=outcome.loss,
        perturbed_loss=outcome.perturbed_loss,
        dual_norm=jnp.asarray(outcome.step.dual_norm),
        radius=jnp.asarray(outcome.step.radius, float),
        gradient_evaluations=jnp.asarray(outcome.gradients, float),
        active=jnp.asarray(outcome.step.radius) > 0,
        effective_radius=jnp.asarray(outcome.step.effective_radius, float),
        skipped=1.0 - finite.astype(float),
    )
