"""For flax's nnx: losses of a model, called like `nnx.value_and_grad`, that leave the model as one pass would.

Needs flax.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from samfamily.program import State, StepInfo
from samfamily.variant import Variant
from samfamily_jax import transform
from samfamily_jax.partition import is_normalisation
from samfamily_jax.transform import Aux, SharpnessAware


def value_and_grad(
    fun: Callable[..., Any],
    variant: Variant,
    has_aux: bool = False,
    *,
    wrt: Any = nnx.Param,
    aux: Aux = "clean",
    **options: Any,
) -> Callable[..., Any]:
    """Return a function that is called like, and returns like, `nnx.value_and_grad(fun, has_aux=has_aux)`.

    What a pass writes into the model besides its parameters, such as batch statistics and the counts of random streams,
    is written once, as the pass at w leaves it; every pass draws the same dropout masks.

    Args:
        fun: the loss: `fun(model, *args, **kwargs) -> loss`, or `-> (loss, aux)` with `has_aux`.
        variant: a row without memory.
        has_aux: whether `fun` returns auxiliary output.
        wrt: the filter of what is differentiated and perturbed.
        aux: which auxiliary output comes back, as for `samfamily_jax.value_and_grad`; what the model keeps is always
            that of the first pass.
        **options: those of `samfamily_jax.value_and_grad`, such as `axis_name`; `batch_argnums` counts the model as 0.
            With an `m`, every shard draws its own dropout masks, and float statistics are averaged over the shards, on
            all devices.

    Returns:
        `vg(model, *args, **kwargs) -> (loss, grads)`, or `((loss, aux), grads)` with `has_aux`.

    Raises:
        TypeError: as `samfamily_jax.value_and_grad`.
        ValueError: likewise.

    Example:
        >>> from samfamily_jax import SAM
        >>> model = nnx.Linear(2, 1, use_bias=False, rngs=nnx.Rngs(0))
        >>> model.kernel[...] = jnp.array([[1.0], [0.0]])
        >>> vg = value_and_grad(lambda model, x: jnp.mean(model(x) ** 2), SAM(rho=0.1))
        >>> loss, grads = vg(model, jnp.eye(2))
        >>> loss, grads["kernel"][...].ravel()
        (Array(0.5, dtype=float32), Array([1.1, 0. ], dtype=float32))
    """
    split = _Split(fun, variant, has_aux, wrt, aux, options)

    def follow(model: Any) -> Callable[..., Any]:
        return transform.value_and_grad(split.pure, variant, 0, has_aux=True, **split.options(model))

    follow(None)  # raises what is wrong already

    def vg(model: Any, *args: Any, **kwargs: Any) -> Any:
        graph, params, rest = split(model)
        return split.write(model, follow(model)(params, *args, graph=graph, rest=rest, kwargs=kwargs))

    return vg


def sharpness_aware(
    fun: Callable[..., Any],
    variant: Variant,
    has_aux: bool = False,
    *,
    wrt: Any = nnx.Param,
    aux: Aux = "clean",
    **options: Any,
) -> SharpnessAware:
    """Return the functions that follow `variant`, with its memory in an explicit state and a model in params' place.

    Args:
        fun: as for `value_and_grad`.
        variant: a row of the family.
        has_aux: as for `value_and_grad`.
        wrt: as for `value_and_grad`.
        aux: as for `value_and_grad`.
        **options: those of `samfamily_jax.sharpness_aware`.

    Returns:
        `init(model) -> state`, `value_and_grad(model, state, *args) -> (result, state)`, and `with_info`.

    Raises:
        TypeError: as `samfamily_jax.sharpness_aware`.
        ValueError: likewise.

    Example:
        >>> from samfamily_jax import LookSAM
        >>> model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
        >>> sa = sharpness_aware(lambda model, x: jnp.mean(model(x) ** 2), LookSAM(rho=0.1, k=2))
        >>> state, step = sa.init(model), nnx.jit(sa.with_info)
        >>> for _ in range(2):
        ...     (loss, grads), state, info = step(model, state, jnp.eye(2))
        ...     print(float(info.gradient_evaluations))
        2.0
        1.0
    """
    split = _Split(fun, variant, has_aux, wrt, aux, options)

    def follow(model: Any) -> SharpnessAware:
        return transform.sharpness_aware(split.pure, variant, has_aux=True, **split.options(model))

    follow(None)  # raises what is wrong already

    def init(model: Any) -> State:
        return follow(model).init(split(model)[1])

    def with_info(model: Any, state: State, *args: Any, **kwargs: Any) -> tuple[Any, State, StepInfo]:
        graph, params, rest = split(model)
        result, state, info = follow(model).with_info(params, state, *args, graph=graph, rest=rest, kwargs=kwargs)
        return split.write(model, result), state, info

    def stepped(model: Any, state: State, *args: Any, **kwargs: Any) -> tuple[Any, State]:
        return with_info(model, state, *args, **kwargs)[:2]

    return SharpnessAware(init, stepped, with_info)


class _Split:
    """A loss of a model as a pure function of its parameters, and the way back into the model."""

    def __init__(
        self, fun: Callable[..., Any], variant: Variant, has_aux: bool, wrt: Any, aux: Aux, options: dict[str, Any]
    ) -> None:
        self.fun, self.has_aux, self.wrt, self.aux, self.given = fun, has_aux, wrt, aux, options
        self.sharded = getattr(variant, "m", None) is not None
        names: str | Sequence[str] = options.get("axis_name", ())
        axes = (names,) if isinstance(names, str) else tuple(names)
        self.axes = axes if options.get("mesh") is None else ()

    def __call__(self, model: Any) -> tuple[Any, Any, Any]:
        """Return the model's graph, its parameters, and the rest of its state."""
        parts: Any = nnx.split(model, self.wrt, ...)
        graph, params, rest = parts
        return graph, params, rest

    def options(self, model: Any) -> dict[str, Any]:
        """Return the options for a model, whose parameters alone do not tell which layers they come from."""
        told = None if model is None else _normalisation(model, self.wrt)
        # The model keeps what the first pass leaves, whichever auxiliary output is wanted.
        return {"normalisation": told, **self.given, "aux": "both" if self.aux == "perturbed" else self.aux}

    def pure(self, params: Any, *args: Any, graph: Any, rest: Any, kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """Return the loss, and its auxiliary output beside the rest of the state as this pass leaves it."""
        model = nnx.merge(graph, params, rest, copy=True)
        result = self.fun(model, *args, **kwargs)
        loss, aux = result if self.has_aux else (result, None)
        return loss, (aux, nnx.state(model, nnx.Not(self.wrt)))

    def write(self, model: Any, result: Any) -> Any:
        """Write the rest of the state into the model, and return what the caller of the loss expects."""
        (loss, found), gradients = result
        if self.aux == "clean":
            aux, rest = found
        else:
            (first, rest), (last, _) = found
            aux = last if self.aux == "perturbed" else (first, last)
        nnx.update(model, self._one(rest))
        return ((loss, aux) if self.has_aux else loss), gradients

    def _one(self, rest: Any) -> Any:
        """Return one state of those that shards leave: the mean of floats, and of anything but keys the first."""

        def one(x: Any) -> Any:
            if not jnp.issubdtype(x.dtype, jnp.inexact):
                return x[0] if self.sharded else x
            x = jnp.mean(x, 0) if self.sharded else x
            return jax.lax.pmean(x, self.axes) if self.axes else x

        kept = nnx.filter_state(rest, nnx.Not(_is_key)) if self.sharded else rest  # shards have keys of their own
        return jax.tree.map(one, kept)


def _is_key(_: Any, variable: Any) -> bool:
    return any(jnp.issubdtype(x.dtype, jax.dtypes.prng_key) for x in jax.tree.leaves(variable))


def _normalisation(model: Any, wrt: Any) -> Any:
    """Return a state that tells for each parameter whether it is a normalisation layer's; None if there is no such."""
    layers = [path for path, module in nnx.iter_modules(model) if is_normalisation(module)]
    paths = [path for path, _ in nnx.to_flat_state(nnx.state(model, wrt))]
    told = [(path, any(path[: len(layer)] == layer for layer in layers)) for path in paths]
    return nnx.from_flat_state(told) if layers else None
