"""Every row is exported for TPU and CUDA from a machine without either, and the exported module is read."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import export
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from samfamily import FAMILY, SAM, Variant
from samfamily_jax import sharpness_aware
from tests.jax.reading import choices, rounds

P = PartitionSpec
LINE = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
KEY = jax.random.key(0)
PARAMS = {"hidden": jax.random.normal(KEY, (6, 5)), "norm": jnp.ones(5), "output": jax.random.normal(KEY, (5, 1))}
NORMALISATION = {"hidden": False, "norm": True, "output": False}
BATCH = (jax.random.normal(KEY, (64, 6)), jnp.ones((64, 1)))
PRODUCTS = 2 + 3
"""Matrix products of a gradient: two forward, and backward all but the one by the batch."""
ROWS = [name for name in FAMILY if name != "WSAM"] + ["WSAM, coupled"]


def loss_fn(params: Any, batch: Any) -> Any:
    x, y = batch
    return jnp.mean((jnp.tanh(x @ params["hidden"]) * params["norm"] @ params["output"] - y) ** 2)


def row(name: str) -> Variant:
    return FAMILY["WSAM"](decoupled=False) if name == "WSAM, coupled" else FAMILY[name]()


def exported(variant: Variant, platform: str, *, spread: bool = False) -> Any:
    """Export a step with its state; over eight devices, each with its part of the batch, where `spread`."""
    options: Any = {"mesh": LINE, "axis_name": "data"} if spread else {}
    sa = sharpness_aware(loss_fn, variant, normalisation=NORMALISATION, **options)
    step = jax.jit(sa.with_info)
    params, state, batch = jax.eval_shape(lambda: (PARAMS, sa.init(PARAMS), BATCH))
    if spread:
        where = NamedSharding(LINE, P("data"))
        batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), batch)
    return export.export(step, platforms=[platform])(params, state, batch)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
@pytest.mark.parametrize("name", ROWS)
def test_every_row_is_exported(name: str, platform: str) -> None:
    """And takes the matrix products of the gradients that it declares; a choice stays one, with both branches there."""
    variant = row(name)
    found = exported(variant, platform)
    assert found.platforms == (platform,)
    assert found.nr_devices == 1
    text = found.mlir_module()
    products = text.count("stablehlo.dot_general")
    chooses = variant.radius.stateful or name == "EigenSAM"
    assert choices(text) == chooses
    if variant.hessian_vector_products_per_step == 0:
        assert products == PRODUCTS * gradients_written(variant)
    assert not re.search(r"custom_call @(?!Sharding|SPMD|shape_assertion)", text)  # nothing that only a CPU has


def gradients_written(variant: Variant) -> float:
    """How many gradients stand in the program: where a step chooses, those of both branches."""
    if variant.radius.climbs_per_step == 1:
        return variant.gradients_per_step
    rests = 0 if variant.ascent.hands_over_gradient or variant.descent.needs_gradient else 1
    return 1 + variant.descent.gradients - (not variant.ascent.hands_over_gradient) + rests


def test_a_product_too_many_is_seen() -> None:
    """Negative control: two climbs take a gradient more than one."""
    text = exported(SAM(steps=2), "tpu").mlir_module()
    assert text.count("stablehlo.dot_general") == 3 * PRODUCTS


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
@pytest.mark.parametrize("name", [name for name in ROWS if not row(name).ball.mask.why_not_sharded])
def test_every_row_is_exported_for_eight_devices(name: str, platform: str) -> None:
    """With m the batch of a device, one round: perturbations are its own, and what comes of them is averaged."""
    found = exported(row(name).sharded(8), platform, spread=True)
    assert found.nr_devices == 8
    assert rounds(found.mlir_module()) == 1
