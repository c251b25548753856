"""States saved and restored bitwise, in the middle of LookSAM's interval, by flax's and orbax's own means."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.serialization
import jax
import jax.numpy as jnp
import optax
import orbax.checkpoint
import pytest

from samfamily import SAM, LookSAM
from samfamily_jax import sharpness_aware
from tests.trainers.jax_by_hand import distance, same

X = jax.random.normal(jax.random.key(0), (8, 3))
PARAMS = {"w": jnp.array([0.3, -0.2, 0.5]), "b": jnp.zeros(()), "n": None}


def loss_fn(params: Any, x: Any) -> Any:
    return jnp.mean((jnp.tanh(x @ params["w"]) + params["b"] - jnp.sum(x, 1)) ** 2)


SA, TX = sharpness_aware(loss_fn, LookSAM(rho=0.3, k=4)), optax.adam(0.1)


@jax.jit
def step(everything: Any) -> Any:
    params, opt_state, state = everything
    (_, gradients), state = SA.value_and_grad(params, state, X)
    updates, opt_state = TX.update(gradients, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, state


def first() -> Any:
    return PARAMS, TX.init(PARAMS), SA.init(PARAMS)


def walk(everything: Any, steps: int) -> Any:
    for _ in range(steps):
        everything = step(everything)
    return everything


def through_bytes(everything: Any, _: Path) -> Any:
    return flax.serialization.from_bytes(first(), flax.serialization.to_bytes(everything))


def through_a_dict(everything: Any, _: Path) -> Any:
    return flax.serialization.from_state_dict(first(), flax.serialization.to_state_dict(everything))


def through_orbax(everything: Any, folder: Path) -> Any:
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "step", everything)
        checkpointer.wait_until_finished()
        return checkpointer.restore(folder / "step", first())


@pytest.mark.parametrize("through", [through_bytes, through_a_dict, through_orbax])
def test_a_restored_loop_goes_on_bitwise(through: Callable[[Any, Path], Any], tmp_path: Path) -> None:
    """Two steps into an interval of four: what LookSAM remembers of its last climb decides the next two steps."""
    halfway = walk(first(), 2)
    restored = through(halfway, tmp_path)
    assert str(jax.tree.structure(restored)) == str(jax.tree.structure(halfway))
    assert same(restored, halfway)
    assert same(walk(restored, 3), walk(first(), 5))
    params, opt_state, _ = restored  # negative control: without the state the loop climbs anew
    assert distance(walk((params, opt_state, SA.init(params)), 3)[0], walk(first(), 5)[0]) > 1e-3


def test_another_variants_checkpoint_is_refused() -> None:
    """A dict without LookSAM's memory cannot be loaded into its state, nor can a step be taken from another state."""
    other = sharpness_aware(loss_fn, SAM()).init(PARAMS)
    with pytest.raises(ValueError, match="does not belong to LookSAM and these parameters"):
        SA.value_and_grad(PARAMS, other, X)
    with pytest.raises(ValueError, match="do not match"):
        flax.serialization.from_state_dict(SA.init(PARAMS), flax.serialization.to_state_dict(other))
