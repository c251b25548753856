"""Which leaves of a model belong to a normalisation layer, told by the modules of equinox and of flax's nnx."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from samfamily_jax.partition import Partition, is_normalisation

KEY = jax.random.key(0)
EQUINOX: dict[str, Callable[[], Any]] = {
    "BatchNorm": lambda: eqx.nn.BatchNorm(4, "batch", mode="batch"),
    "LayerNorm": lambda: eqx.nn.LayerNorm(4),
    "RMSNorm": lambda: eqx.nn.RMSNorm(4),
    "GroupNorm": lambda: eqx.nn.GroupNorm(2, 4),
}
NNX: dict[str, Callable[[Any], Any]] = {
    "BatchNorm": lambda rngs: nnx.BatchNorm(4, rngs=rngs),
    "LayerNorm": lambda rngs: nnx.LayerNorm(4, rngs=rngs),
    "RMSNorm": lambda rngs: nnx.RMSNorm(4, rngs=rngs),
    "GroupNorm": lambda rngs: nnx.GroupNorm(4, num_groups=2, rngs=rngs),
    "InstanceNorm": lambda rngs: nnx.InstanceNorm(4, rngs=rngs),
}


def weights(module: Any) -> Any:
    """The arrays of a module that are floats and trained."""
    return eqx.filter(module, eqx.is_inexact_array)


@pytest.mark.parametrize("name", EQUINOX)
def test_normalisation_layers_of_equinox_are_told(name: str) -> None:
    """Kills the mutants that leave out a name, or a package."""
    layer = EQUINOX[name]()
    tree = (eqx.nn.Linear(4, 4, key=KEY), weights(layer))
    told = [leaf.normalisation for leaf in Partition(tree, None).w.space.leaves]
    assert told == [False, False, *[True] * len(jax.tree.leaves(tree[1]))]
    assert len(told) > 2


@pytest.mark.parametrize("name", NNX)
def test_normalisation_layers_of_nnx_are_told(name: str) -> None:
    rngs = nnx.Rngs(0)
    assert is_normalisation(NNX[name](rngs))
    assert not is_normalisation(nnx.Linear(4, 4, rngs=rngs))


def test_where_no_module_is_seen_nothing_is_known() -> None:
    """A dict of arrays, which may well belong to one."""
    tree = {"scale": jnp.ones(4), "kernel": jnp.ones((4, 4))}
    assert [leaf.normalisation for leaf in Partition(tree, None).w.space.leaves] == [None, None]


def test_a_module_of_that_name_from_elsewhere_is_none() -> None:
    assert not is_normalisation(type("LayerNorm", (), {})())
