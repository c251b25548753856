"""m on many devices: the same numbers as on one, at one round of communication.

tests/distributed/test_jax_processes.py walks there with every m; here it is what else a loss may have and do.
"""

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from benchmarks.counting_jax import all_reduces
from samfamily import GSAM, SAM, LookSAM, Variant
from samfamily_jax import scanned, sharpness_aware, unrolled, value_and_grad, vmapped
from tests.jax.reading import rounds

P = PartitionSpec
AUTO = AxisType.Auto
LINE = jax.make_mesh((8,), ("data",), axis_types=(AUTO,))
KEY = jax.random.key(1)
EXAMPLES, STEPS = 64, 20
ROWS: dict[str, Variant] = {
    "SAM": SAM(rho=0.1),
    "LookSAM": LookSAM(rho=0.1, k=3),
}


def mesh_for(m: int | None) -> dict[str, Any]:
    """Return a mesh of eight devices on which m examples have whole devices, or a part of one."""
    if m is None or m <= 8:
        return {"mesh": LINE, "axis_name": "data"}
    return {
        "mesh": jax.make_mesh((EXAMPLES // m, m // 8), ("group", "inner"), axis_types=(AUTO, AUTO)),
        "axis_name": ("group", "inner"),
    }


def loss_fn(params: Any, batch: Any, key: Any) -> Any:
    x, y = batch
    h = jnp.tanh(x @ params["w"] + params["b"])
    kept = jax.random.bernoulli(key, 0.9, h.shape[1:])
    return jnp.mean(((h * kept).sum(1) - y) ** 2)


def problem() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(EXAMPLES, 3))
    return {"w": jnp.asarray(rng.normal(size=(3, 4))), "b": jnp.zeros(4)}, (jnp.asarray(x), jnp.asarray(x.sum(1)))


def walk(variant: Variant, **options: Any) -> Any:
    """Return the weights after twenty steps of gradient descent, and what the variant remembers."""
    params, batch = problem()
    sa = sharpness_aware(loss_fn, variant, **options)

    def step(carry: Any, i: Any) -> Any:
        params, state = carry
        (loss, gradients), state = sa.value_and_grad(params, state, batch, jax.random.fold_in(jax.random.key(1), i))
        return (jax.tree.map(lambda w, g: w - 0.05 * g, params, gradients), state), loss

    return jax.jit(lambda carry: jax.lax.scan(step, carry, jnp.arange(STEPS)))((params, sa.init(params)))


def distance(a: Any, b: Any) -> float:
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(jnp.max(jnp.abs(x - y) / (1 + jnp.abs(y)))) for x, y in leaves)


@cache
def alone(row: str, m: int | None) -> Any:
    """Return the same of one device; in a loop over the shards, which is quick to compile."""
    return walk(ROWS[row]) if m is None else walk(ROWS[row].sharded(m), shards=scanned)


def test_m_matters() -> None:
    """Negative control of the test below: another m is another path."""
    with jax.enable_x64(True):
        assert distance(alone("SAM", 8), alone("SAM", 16)) > 1e-3


@pytest.mark.parametrize("way", [unrolled, scanned, vmapped], ids=lambda way: way.__name__)
@pytest.mark.parametrize("row", ["SAM", "LookSAM"])
def test_every_way_through_the_shards_is_the_same(row: str, way: Any) -> None:
    """Four shards on one device, and 16 on eight devices with two each, dropout keys included."""
    with jax.enable_x64(True):
        assert distance(walk(ROWS[row].sharded(16), shards=way), alone(row, 16)) <= 1e-10
        assert distance(walk(ROWS[row].sharded(4), shards=way, **mesh_for(4)), alone(row, 4)) <= 1e-10


# --------------------------------------------------------------------------------------- in a shard_map of the user's


def in_shard_map(vg: Any, mesh: Any, axes: Any, *, check_vma: bool) -> Any:
    return jax.jit(
        jax.shard_map(vg, mesh=mesh, in_specs=(P(), P(axes), P()), out_specs=P(), check_vma=check_vma)
    )  # fmt: skip


@pytest.mark.parametrize("check_vma", [True, False])
@pytest.mark.parametrize("m", [4, 8, 16, None])
def test_a_shard_map_of_the_users(m: int | None, check_vma: bool) -> None:
    params, batch = problem()
    axes = ("group", "inner")
    mesh = jax.make_mesh((4, 2), axes, axis_types=(AUTO, AUTO))
    variant = GSAM(rho=0.1) if m is None else GSAM(rho=0.1).sharded(m)
    inside = in_shard_map(value_and_grad(loss_fn, variant, axis_name=axes), mesh, axes, check_vma=check_vma)
    assert distance(inside(params, batch, KEY), on_one_device(variant)) <= 1e-5


@cache
def on_one_device(variant: Variant) -> Any:
    """Return the loss and the gradient of one step."""
    shards = None if variant.m is None else scanned
    return jax.jit(value_and_grad(loss_fn, variant, shards=shards))(*problem(), KEY)


def by_hand(params: Any, batch: Any, key: Any) -> Any:
    """Write a step of SAM for each device as one would without knowing of `check_vma`."""
    _, g = jax.value_and_grad(loss_fn)(params, batch, key)
    n = jnp.sqrt(sum(jnp.sum(x**2) for x in jax.tree.leaves(g)))
    loss, h = jax.value_and_grad(loss_fn)(jax.tree.map(lambda w, x: w + 0.1 * x / n, params, g), batch, key)
    return jax.lax.pmean((loss, h), "data")


def test_without_the_cast_gradients_are_sums_over_devices() -> None:
    """Negative control: the obvious body is wrong by the number of devices, and is global SAM at that."""
    params, batch = problem()
    whole, apart = on_one_device(SAM(rho=0.1))[1], on_one_device(SAM(rho=0.1).sharded(8))[1]
    wrong = in_shard_map(by_hand, LINE, "data", check_vma=True)(params, batch, KEY)[1]
    assert distance(wrong, jax.tree.map(lambda x: 8 * x, whole)) <= 1e-5
    assert distance(wrong, apart) > 0.1


def test_whoever_names_no_axis_is_told() -> None:
    inside = in_shard_map(value_and_grad(loss_fn, SAM(rho=0.1)), LINE, "data", check_vma=True)
    with pytest.raises(ValueError, match=r"loss differs over the mesh axes \['data'\].*pass axis_name=\('data',\)"):
        inside(*problem(), KEY)


def test_an_axis_of_vmap_serves_too() -> None:
    params, (x, y) = problem()
    vg = value_and_grad(loss_fn, SAM(rho=0.1).sharded(4), axis_name="data")
    parts = (x.reshape(8, 8, 3), y.reshape(8, 8))
    found = jax.jit(jax.vmap(vg, in_axes=(None, 0, None), axis_name="data"))(params, parts, KEY)
    assert distance(jax.tree.map(lambda x: x[5], found), on_one_device(SAM(rho=0.1).sharded(4))) <= 1e-5


# --------------------------------------------------------------------------------------------- what is not the batch's


def test_tensor_parallel_axes_are_left_to_the_compiler() -> None:
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AUTO, AUTO))
    params, batch = problem()
    columns = {"w": NamedSharding(mesh, P(None, "model")), "b": NamedSharding(mesh, P("model"))}
    spread = jax.device_put(params, columns)
    vg = jax.jit(value_and_grad(loss_fn, SAM(rho=0.1).sharded(16), mesh=mesh, axis_name="data"))
    loss, gradients = vg(spread, batch, KEY)
    assert gradients["w"].sharding.is_equivalent_to(columns["w"], 2)
    assert distance((loss, gradients), on_one_device(SAM(rho=0.1).sharded(16))) <= 1e-5


def test_aux_is_that_of_every_shard() -> None:
    def loss(params: Any, batch: Any, key: Any) -> Any:
        return loss_fn(params, batch, key), {"mean": jnp.mean(batch[0]), "key": jax.random.uniform(key)}

    params, batch = problem()
    for m in (8, 32):
        vg = partial(value_and_grad, loss, SAM(rho=0.1).sharded(m), has_aux=True)
        (_, spread), _ = jax.jit(vg(**mesh_for(m)))(params, batch, KEY)
        (_, alone), _ = jax.jit(vg(shards=scanned))(params, batch, KEY)
        assert distance(spread, alone) <= 1e-6
        assert len(set(np.asarray(alone["key"]).tolist())) == EXAMPLES // m  # a key for every shard


@pytest.mark.parametrize("raw", [False, True])
def test_every_key_among_the_arguments_is_folded_with_the_shards_number(raw: bool) -> None:
    """Keys of any shape and anywhere; but not raw ones, which nobody can tell from other integers."""
    keys = jax.random.PRNGKey(0) if raw else jax.random.split(jax.random.key(0), 3)

    def loss(w: Any, x: Any, *, noise: Any) -> Any:
        own = noise["keys"][None] if raw else noise["keys"]
        return jnp.mean((x - w + sum(jax.random.normal(key, w.shape) for key in own)) ** 2)

    w, x, m, rho = jnp.array([0.3, -0.2]), jnp.arange(12.0).reshape(6, 2), 2, 0.1
    found = jax.jit(value_and_grad(loss, SAM(rho).sharded(m)))(w, x, noise={"keys": keys})
    by_shard = []
    for i in range(3):
        own = keys if raw else jnp.stack([jax.random.fold_in(key, i) for key in keys])
        f = jax.value_and_grad(lambda w, i=i, own=own: loss(w, x[m * i : m * i + m], noise={"keys": own}))
        value, g = f(w)
        by_shard.append((value, f(w + rho * g / jnp.linalg.norm(g))[1]))
    values, gradients = zip(*by_shard, strict=True)
    assert distance(found, (sum(values) / 3, sum(gradients) / 3)) < 1e-5


def test_rho_may_be_traced_and_parameters_static() -> None:
    def loss(params: Any, batch: Any, key: Any) -> Any:
        assert params["name"] == "net"
        return loss_fn(params, batch, key)

    params, batch = problem()

    @jax.jit
    def step(rho: Any, batch: Any) -> Any:
        vg = value_and_grad(loss, SAM(rho=rho).sharded(8), mesh=LINE, axis_name="data")
        return vg({**params, "name": "net"}, batch, key=KEY)[0]

    for rho in (0.0, 0.5):
        np.testing.assert_allclose(step(rho, batch), on_one_device(SAM(rho=rho).sharded(8))[0], rtol=1e-5)


@pytest.mark.parametrize("m", [8, 16, None])
def test_explicit_axes_serve_too(m: int | None) -> None:
    """What `jax.make_mesh` makes by default, for arrays that lie where they should and for those that do not."""
    variant = GSAM(rho=0.1) if m is None else GSAM(rho=0.1).sharded(m)
    shape, axes = ((4, 2), ("group", "inner")) if m == 16 else ((8,), ("data",))
    mesh = jax.make_mesh(shape, axes)
    assert set(mesh.axis_types) == {AxisType.Explicit}
    vg = jax.jit(value_and_grad(loss_fn, variant, mesh=mesh, axis_name=axes))
    params, batch = problem()
    spread = jax.device_put(batch, NamedSharding(mesh, P(axes)))
    for found in (vg(params, batch, KEY), vg(jax.device_put(params, NamedSharding(mesh, P())), spread, KEY)):
        assert distance(jax.device_get(found), jax.device_get(on_one_device(variant))) <= 1e-5


# -------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("m", "options", "message"),
    [
        (16, {"mesh": LINE, "axis_name": "data"}, r"m = 16 examples lie on 2 devices.*make_mesh\(\(4, 2\), \('group'"),
        (5, {"mesh": LINE, "axis_name": "data"}, r"m = 5 does not divide the batch of 8 examples on each of 8 devices"),
        (8, {"mesh": LINE, "axis_name": "rows"}, r"axis_name = \('rows',\) does not name axes of the mesh {'data': 8}"),
        (8, {"mesh": LINE}, r"axis_name = \(\) does not name axes"),
        (None, {"shards": scanned}, r"nothing to shard: give the variant an m"),
    ],
)
def test_what_does_not_fit(m: int | None, options: Any, message: str) -> None:
    variant = SAM() if m is None else SAM().sharded(m)
    with pytest.raises(ValueError, match=message):
        value_and_grad(loss_fn, variant, **options)(*problem(), KEY)


def test_a_batch_on_explicit_axes_needs_the_mesh() -> None:
    """Without it the shards are slices of an axis that JAX will not cut."""
    params, batch = problem()
    mesh = jax.make_mesh((8,), ("data",))
    spread = jax.device_put(batch, NamedSharding(mesh, P("data")))
    with pytest.raises(ValueError, match=r"spread over the mesh axes data.*pass mesh= and axis_name="):
        jax.jit(value_and_grad(loss_fn, SAM().sharded(4)))(params, spread, KEY)


def test_a_batch_that_the_devices_cannot_share() -> None:
    params, (x, y) = problem()
    vg = value_and_grad(loss_fn, SAM().sharded(4), mesh=LINE, axis_name="data")
    with pytest.raises(ValueError, match=r"global batch of 60 examples is not a multiple of the 8 devices"):
        vg(params, (x[:60], y[:60]), KEY)


# --------------------------------------------------------------------------------------------------------------- rounds


def lowered(m: int | None) -> Any:
    """A step over eight devices with eight examples each, in a shard_map."""
    variant = SAM(rho=0.1) if m is None else SAM(rho=0.1).sharded(m)
    params, batch = problem()
    inside = in_shard_map(value_and_grad(loss_fn, variant, axis_name="data"), LINE, "data", check_vma=True)
    return inside.trace(params, batch, KEY).lower()


@pytest.mark.parametrize(("m", "expected"), [(4, 1), (8, 1), (None, 2)])
def test_one_round_where_perturbations_are_apart_and_two_where_they_are_not(m: int | None, expected: int) -> None:
    step = lowered(m)
    assert rounds(step.as_text()) == expected
    assert all_reduces(step.compile()) == expected


def test_the_mesh_takes_no_more() -> None:
    params, batch = problem()
    for m, expected in ((8, 1), (None, 2)):
        variant = SAM(rho=0.1) if m is None else SAM(rho=0.1).sharded(m)
        vg = jax.jit(value_and_grad(loss_fn, variant, mesh=LINE, axis_name="data"))
        spread = jax.device_put(batch, NamedSharding(LINE, P("data")))
        program = vg.lower(jax.device_put(params, NamedSharding(LINE, P())), spread, KEY).compile()
        assert all_reduces(program) == expected
