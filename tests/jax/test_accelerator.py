"""On a GPU or TPU: the walks of a CPU, every way through the shards, extremes, one program, no trips to the host."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks.counting_jax import Traced
from samfamily import AESAM, ASAM, FAMILY, GSAM, SAM, Leaf, LookSAM, RandomSmoothing, Variant, filterwise
from samfamily_jax import scanned, sharpness_aware, unrolled, value_and_grad, vmapped
from samfamily_jax.space import JaxSpace
from tests.agreement.problem import NAMES, batches, jax_loss, weights
from tests.agreement.walks import jax_walk

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(jax.default_backend() not in {"gpu", "tpu"}, reason="JAX finds no accelerator here"),
]

STEPS = 6
OPTIONS: dict[str, Variant] = {
    "SAM, p=1": SAM(rho=0.1, p=1),
    "SAM, p=3": SAM(rho=0.1, p=3),
    "SAM, 3 steps": SAM(rho=0.1, steps=3),
    "SAM, second order": SAM(rho=0.1, second_order=True),
    "ASAM, filterwise": ASAM(rho=0.1, size=filterwise),
}
SHARDED: dict[str, Variant] = {
    f"{row.name}, m=4": row.sharded(4)
    for row in (SAM(rho=0.1), GSAM(rho=0.1), LookSAM(rho=0.1, k=3), RandomSmoothing(rho=0.1))
}
CASES = {name: row() for name, row in FAMILY.items()} | OPTIONS | SHARDED


def distance(a: Any, b: Any) -> float:
    return float(np.linalg.norm(np.float64(a) - np.float64(b)) / np.linalg.norm(np.float64(b)))


@contextmanager
def on_cpu() -> Iterator[None]:
    with jax.default_device(jax.devices("cpu")[0]):
        yield


@pytest.fixture(autouse=True)
def every_bit() -> Iterator[None]:
    """Products of float32 in float32, not in TensorFloat-32."""
    with jax.default_matmul_precision("highest"):
        yield


def leaves_and_batch(dtype: str = "float32") -> tuple[dict[str, Any], tuple[Any, Any]]:
    x, y = batches(1)[0]
    w = {name: jnp.asarray(u, dtype) for name, u in zip(NAMES, weights(), strict=True)}
    return w, (jnp.asarray(x, dtype), jnp.asarray(y))


# --------------------------------------------------------------------------------------------------------- same walks


@pytest.mark.skipif(jax.default_backend() == "tpu", reason="float64 is emulated there")
@pytest.mark.parametrize("case", CASES)
def test_every_row_walks_as_on_a_cpu(case: str) -> None:
    """Random rows too, whose noise is counted and not drawn."""
    there = jax_walk(CASES[case], STEPS, "float64")
    with on_cpu():
        here = jax_walk(CASES[case], STEPS, "float64")
    assert distance(there, here) <= 1e-10


@pytest.mark.parametrize("case", ["SAM", "ASAM", "GSAM", "SAM, p=3", "SAM, m=4"])
def test_float32_walks_as_float64(case: str) -> None:
    with on_cpu():
        exact = jax_walk(CASES[case], STEPS, "float64")
    assert distance(jax_walk(CASES[case], STEPS, "float32"), exact) <= 1e-5 * exact.size**0.5


@pytest.mark.parametrize(
    ("one", "other"),
    [(SAM(rho=0.1), SAM(rho=0.1 * (1 + 1e-7))), (RandomSmoothing(seed=0), RandomSmoothing(seed=1))],
    ids=["rho", "seed"],
)
def test_the_comparison_sees_a_small_difference(one: Variant, other: Variant) -> None:
    """Negative control."""
    there = jax_walk(one, STEPS, "float64")
    with on_cpu():
        assert distance(there, jax_walk(other, STEPS, "float64")) > 1e-10


def test_the_walks_are_on_two_devices() -> None:
    """Negative control: what is compared was not computed at one place."""
    assert jnp.zeros(()).devices() == {jax.devices()[0]}
    with on_cpu():
        assert jnp.zeros(()).devices() == {jax.devices("cpu")[0]}
    assert jax.devices()[0].platform != "cpu"


@pytest.mark.parametrize("row", [SAM(rho=0.1), GSAM(rho=0.1)], ids=lambda row: row.name)
def test_every_way_through_the_shards_is_the_same(row: Variant) -> None:
    w, batch = leaves_and_batch()
    found = []
    for way in (unrolled, scanned, vmapped, None):
        sa = sharpness_aware(jax_loss, row.sharded(4), shards=way)
        step, state, gradients = jax.jit(sa.value_and_grad), sa.init(w), []
        for _ in range(3):
            (loss, g), state = step(w, state, batch)
            gradients.append(np.concatenate([np.ravel(loss), *(np.ravel(g[name]) for name in NAMES)]))
        found.append(np.concatenate(gradients))
    for other in found[1:]:
        assert distance(other, found[0]) <= 1e-5
    whole = value_and_grad(jax_loss, SAM(rho=0.1))(w, batch)[1]
    assert distance(found[0][1 : 1 + whole[NAMES[0]].size], np.ravel(whole[NAMES[0]])) > 1e-3  # negative control: m


# ---------------------------------------------------------------------------------------------------------- extremes


@pytest.mark.parametrize(
    "x",
    [[3e38], [-2e38, 2e38], [3e30, 4e30], [3e-30, 4e-30], [2e-38], [1e-18, *[1e-20] * 10_000], [0.0, 0.0]],
    ids=["largest", "root two", "large", "small", "smallest", "many small", "zero"],
)
def test_no_norm_overflows_or_vanishes_before_its_result_does(x: list[float]) -> None:
    found = jax.jit(lambda x: JaxSpace((Leaf(),)).norm((x,), 2))(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(np.float64(found), np.linalg.norm(x), rtol=1e-5)


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_gradients_of_any_size_are_perturbed_by_rho(size: float) -> None:
    """The loss is linear, so that it rises by rho times the gradient's norm."""
    w, direction = {"w": jnp.zeros(2)}, jnp.asarray([0.6 * size, 0.8 * size], jnp.float32)
    sa = sharpness_aware(lambda w, direction: w["w"] @ direction, SAM(rho=0.5))
    _, _, info = jax.jit(sa.with_info)(w, sa.init(w), direction)
    np.testing.assert_allclose(np.float64(info.perturbed_loss - info.loss), 0.5 * size, rtol=1e-5)
    np.testing.assert_allclose(np.float64(info.dual_norm), size, rtol=1e-5)


def test_a_zero_gradient_perturbs_nothing() -> None:
    w = {"w": jnp.ones(3)}
    loss, g = jax.jit(value_and_grad(lambda w: 0.0 * jnp.sum(w["w"] ** 2), SAM(rho=0.5)))(w)
    assert float(loss) == 0
    assert not np.any(g["w"])


@pytest.mark.parametrize("row", [SAM(rho=1.0), ASAM(rho=1.0)], ids=lambda row: row.name)
def test_weights_in_bfloat16(row: Variant) -> None:
    """Their norms are taken in float32; what rounding takes from the perturbation is told."""
    sa = sharpness_aware(jax_loss, row)
    found, radius = [], 0.0
    for place in (on_cpu, None):
        with on_cpu() if place else jax.default_device(jax.devices()[0]):
            w, batch = leaves_and_batch("bfloat16")
            (loss, g), _, info = jax.jit(sa.with_info)(w, sa.init(w), batch)
            assert all(g[name].dtype == jnp.bfloat16 for name in NAMES)
            found.append([np.float64(x) for x in (loss, info.perturbed_loss, info.dual_norm, info.effective_radius)])
            assert info.dual_norm.dtype == jnp.float32
            radius = float(info.radius)
    np.testing.assert_allclose(found[0], found[1], rtol=5e-2)
    assert found[1][3] == pytest.approx(radius, rel=0.1)
    assert found[1][3] != radius


# ----------------------------------------------------------------------------------------------------- what it costs


def donated(variant: Variant) -> tuple[Any, Any]:
    """Return a compiled step, and what it carries."""
    tx, sa = (
        optax.adam(1e-2),
        sharpness_aware(jax_loss, variant, normalisation={n: n.startswith("norm") for n in NAMES}),
    )
    w, batch = leaves_and_batch()

    def step(w: Any, states: Any, batch: Any) -> Any:
        (loss, g), state = sa.value_and_grad(w, states[1], batch)
        updates, moments = tx.update(g, states[0], w)
        return optax.apply_updates(w, updates), (moments, state), loss

    carried = jax.device_put(((w, (tx.init(w), sa.init(w))), batch), jax.devices()[0])
    return jax.jit(step, donate_argnums=(0, 1)), jax.tree.map(jnp.copy, carried)  # nothing is donated twice


@pytest.mark.parametrize("name", [name for name in FAMILY if not FAMILY[name]().descent.adds])
def test_steps_stay_on_the_device(name: str) -> None:
    """After the first one nothing goes to the host or comes from it, whatever the row decides."""
    step, ((w, states), batch) = donated(FAMILY[name]())
    program: Any = step.lower(w, states, batch).compile().as_text()
    assert not any(word in program for word in ("callback", "infeed", "outfeed"))
    w, states, loss = step(w, states, batch)
    with jax.transfer_guard("disallow"):
        for _ in range(3):
            w, states, loss = step(w, states, batch)
    assert np.isfinite(jax.device_get(loss))


def test_what_leaves_the_device_is_seen() -> None:
    """Negative control of the test above."""
    step, ((w, states), batch) = donated(SAM())
    step_of_host = partial(step, w, states)
    with pytest.raises(Exception, match=r"[Dd]isallowed"), jax.transfer_guard("disallow"):
        step_of_host(jax.device_get(batch))

    def told(w: Any, batch: Any) -> Any:
        jax.debug.callback(lambda: None)
        return jax_loss(w, batch)

    w, batch = leaves_and_batch()
    program: Any = jax.jit(value_and_grad(told, SAM())).lower(w, batch).compile().as_text()
    assert "callback" in program


@pytest.mark.parametrize("row", [SAM, ASAM, LookSAM, AESAM], ids=lambda row: row.__name__)
def test_one_program_for_every_rho(row: Any) -> None:
    w, batch = leaves_and_batch()

    def step(w: Any, state: Any, batch: Any, rho: Any) -> Any:
        return sharpness_aware(jax_loss, row(rho=rho)).value_and_grad(w, state, batch)

    traced = Traced(step)
    jitted, state, losses = jax.jit(traced), sharpness_aware(jax_loss, row()).init(w), []
    for rho in (0.01, 0.1, 1.0):
        (_, g), _ = jitted(w, state, batch, jnp.asarray(rho))
        losses.append(float(jnp.linalg.norm(g[NAMES[0]])))
    assert traced.times == 1
    assert len(set(losses)) == 3
