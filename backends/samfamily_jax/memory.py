"""A variant's state as users see it: what is a Vec inside is a pytree like the parameters outside.

So it can be sharded, inspected and saved leaf by leaf, by whatever handles the parameters.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from samfamily.program import State, each
from samfamily.space import Vec
from samfamily.variant import Variant
from samfamily_jax.partition import Partition


def first(variant: Variant, split: Partition) -> State:
    """Return the state before the first step, as users see it."""
    return outside(split, variant.init(split.w)._replace(step=jnp.zeros((), jnp.int32)))


def outside(split: Partition, state: State) -> State:
    """Return a state as users see it: where the parameters have no float leaf it has None."""
    seen: State = each(lambda x: split.gradients(x.collapse()) if isinstance(x, Vec) else x, state)
    return seen


def inside(variant: Variant, split: Partition, state: State) -> State:
    """Return a state as the variant's program knows it; raise ValueError where it is another variant's."""
    known = jax.eval_shape(variant.init, split.w)

    def vec(pattern: Any, found: Any) -> Any:
        if not isinstance(pattern, Vec):
            return found
        leaves = split.of(found)
        if [jnp.shape(x) for x in leaves] != [x.shape for x in pattern.leaves]:
            raise ValueError(f"shapes {[jnp.shape(x) for x in leaves]}")
        return Vec(split.w.space, leaves)

    try:
        result: State = each(vec, known, state)
    except (ValueError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(
            f"the state does not belong to {variant.name} and these parameters: make it with sharpness_aware(fun, "
            "variant).init(params), and load what was saved into that"
        ) from error
    return result._replace(step=state.step)
