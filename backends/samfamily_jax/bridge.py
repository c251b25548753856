"""The bridge to optax: a variant as a gradient transformation round an optimizer.

For loops that hand everything to one optax object, and the place for variants that add to the weights after the base
optimizer's step.  Needs optax.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from samfamily.program import State
from samfamily.space import Leaves, Vec
from samfamily.variant import Variant
from samfamily_jax import memory
from samfamily_jax.partition import Partition
from samfamily_jax.run import Run, conjugate


class BridgeState(NamedTuple):
    """The state of the transformation: the optimizer's, and the variant's."""

    optimizer: Any
    variant: State


class Within:
    """A `value_and_grad_fn` that knows the whole parameters; see `within`."""

    def __init__(self, params: Any, value_and_grad_fn: Callable[[Any], Any]) -> None:
        self.params, self.value_and_grad_fn = params, value_and_grad_fn

    def __call__(self, part: Any) -> tuple[Any, Any]:
        """Return the loss with this part of the parameters in the whole, and its gradient with respect to the part."""
        value, gradients = self.value_and_grad_fn(_where_masked(part, self.params, part))
        return value, _where_masked(part, part, gradients)


def within(params: Any, value_and_grad_fn: Callable[[Any], Any]) -> Within:
    """Return a `value_and_grad_fn` for a transformation that has a part of the parameters.

    `optax.masked` and `optax.multi_transform` show a transformation its own part, with a `MaskedNode` in place of all
    else.  Each part climbs on its own, in a ball of its own, while the others stay at w; and asks for a gradient of the
    whole loss of its own.

    Args:
        params: the whole parameters, where they are now.
        value_and_grad_fn: `f(params) -> (loss, grads)` for the whole parameters.

    Returns:
        A function that fills a part up with the other parameters, calls `value_and_grad_fn`, and masks its gradients.

    Example:
        >>> from samfamily_jax import SAM
        >>> f = jax.value_and_grad(lambda p: 0.5 * (p["a"] ** 2 + p["b"] ** 2))
        >>> climbing = gradient_transformation(optax.sgd(1.0), SAM(rho=0.5))
        >>> tx = optax.multi_transform({"sam": climbing, "sgd": optax.sgd(1.0)}, {"a": "sam", "b": "sgd"})
        >>> p = {"a": jnp.array(1.0), "b": jnp.array(1.0)}
        >>> updates, _ = tx.update(f(p)[1], tx.init(p), p, value_and_grad_fn=within(p, f))
        >>> {name: float(x) for name, x in updates.items()}
        {'a': -1.5, 'b': -1.0}
    """
    return Within(params, value_and_grad_fn)


def _where_masked(part: Any, then: Any, otherwise: Any) -> Any:
    """Return the nodes of `then` where the part is masked, and those of `otherwise` elsewhere."""
    return jax.tree.map(lambda own, a, b: a if _is_masked(own) else b, part, then, otherwise, is_leaf=_is_masked)


def _is_masked(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)


def gradient_transformation(
    optimizer: optax.GradientTransformation,
    variant: Variant,
    learning_rate: float | Callable[[Any], Any] | None = None,
    *,
    normalisation: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Return a transformation whose `update` asks for the gradients that the variant wants, one call a step.

    `update(grads, state, params, value_and_grad_fn=f)` takes the gradient at `params` as `grads`, and calls
    `f(params) -> (loss, grads)` at the perturbed points.  Where optax masks a part of the parameters, pass
    `within(params, f)`.

    Args:
        optimizer: the base optimizer.
        variant: a row of the family, not sharded.
        learning_rate: the base optimizer's, a number or a schedule; only for variants that add to the weights after the
            base step.
        normalisation: as for `sharpness_aware`.

    Returns:
        The transformation; extra keywords are handed on to the optimizer.

    Raises:
        ValueError: a variant with `m`, whose batch nobody passes here; or one that adds and no learning rate.

    Example:
        >>> import jax
        >>> from samfamily_jax import WSAM
        >>> f = jax.value_and_grad(lambda w: 0.5 * jnp.sum(w**2))
        >>> tx = gradient_transformation(optax.sgd(0.1), WSAM(rho=0.5, gamma=0.5), learning_rate=0.1)
        >>> w = jnp.array([3.0, 4.0])
        >>> updates, state = tx.update(f(w)[1], tx.init(w), w, value_and_grad_fn=f)
        >>> [round(float(x), 3) for x in updates]
        [-0.33, -0.44]
    """
    if variant.m is not None:
        raise ValueError(
            f"{variant.name} with m = {variant.m} shards the batch, which update has not: use value_and_grad"
        )
    if variant.descent.adds and learning_rate is None:
        raise ValueError(f"{variant.name} adds to the weights at the base optimizer's pace: pass its learning_rate")
    base = optax.with_extra_args_support(optimizer)

    def init(params: Any) -> BridgeState:
        return BridgeState(base.init(params), memory.first(variant, Partition(params, normalisation)))

    def update(
        grads: Any, state: BridgeState, params: Any = None, *, value_and_grad_fn: Callable[[Any], Any], **extra: Any
    ) -> tuple[Any, BridgeState]:
        if params is None:
            raise ValueError("update needs the parameters: call update(grads, state, params, value_and_grad_fn=f)")
        masked = any(map(_is_masked, jax.tree.leaves(params, is_leaf=_is_masked)))
        if masked and not isinstance(value_and_grad_fn, Within):
            raise ValueError(
                "optax shows this transformation a part of the parameters, with MaskedNode for the others, and the "
                "loss needs all: pass value_and_grad_fn=samfamily_jax.bridge.within(params, f) with the whole params"
            )
        split = Partition(params, normalisation)

        def gradient(leaves: Leaves) -> tuple[tuple[Any, Any], Leaves]:
            if leaves is split.w.leaves:
                return (jnp.nan, None), split.of(grads)
            gradients = value_and_grad_fn(split.merge(leaves))[1]
            return (jnp.nan, None), split.of(gradients)  # update has no place for a loss

        step = Run(gradient).drive(variant.program(split.w, memory.inside(variant, split, state.variant)))
        followed = split.gradients(conjugate(step.gradient.collapse()))
        updates, inner = base.update(followed, state.optimizer, params, **extra)
        if step.addend is not None:
            rate: Any = learning_rate(state.variant.step) if callable(learning_rate) else learning_rate
            before = Vec(split.w.space, split.of(updates))
            updates = split.gradients((before - rate * step.addend).collapse())
        return updates, BridgeState(inner, memory.outside(split, step.state))

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType]  ours needs f
