"""sharpness_aware and value_and_grad inside the loops that JAX users write: scan, donation, optax, memory."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from samfamily import FAMILY, SAM, VaSSO
from samfamily_jax import StepInfo, sharpness_aware, unrolled, value_and_grad, vmapped

X = jax.random.normal(jax.random.key(0), (16, 3))
Y = jnp.sum(X, 1)
PARAMS = {"w": jnp.array([0.3, -0.2, 0.5]), "b": jnp.zeros(())}


def loss_fn(params: Any, batch: Any) -> Any:
    x, y = batch
    return jnp.mean((jnp.tanh(x @ params["w"]) + params["b"] - y) ** 2)


VARIANTS = {
    "constant": SAM(rho=0.1),
    "schedule": SAM(rho=optax.linear_schedule(0.0, 0.2, 5)),
    "memory": VaSSO(rho=0.1, theta=0.1),
    "sharded": SAM(rho=0.1).sharded(4),
}


def python_loop(variant: Any, steps: int = 5, *, jit: bool = True, donate: bool = False) -> Any:
    sa = sharpness_aware(loss_fn, variant)
    tx = optax.adam(0.1)

    def step(params: Any, opt_state: Any, state: Any, batch: Any) -> Any:
        (loss, gradients), state = sa.value_and_grad(params, state, batch)
        updates, opt_state = tx.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, state, loss

    run = jax.jit(step, donate_argnums=(0, 1, 2) if donate else ()) if jit else step
    params = jax.tree.map(jnp.copy, PARAMS)
    opt_state, state = tx.init(params), sa.init(params)
    for _ in range(steps):
        params, opt_state, state, _ = run(params, opt_state, state, (X, Y))
    return params, state


def leaves_close(a: Any, b: Any) -> None:
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5)


@pytest.mark.parametrize("name", VARIANTS)
def test_jit_donation_and_scan_walk_the_same_path(name: str) -> None:
    variant = VARIANTS[name]
    expected, state = python_loop(variant, jit=False)
    leaves_close(python_loop(variant)[0], expected)
    leaves_close(python_loop(variant, donate=True)[0], expected)
    assert int(state.step) == 5

    sa, tx = sharpness_aware(loss_fn, variant), optax.adam(0.1)

    def body(carry: Any, _: Any) -> Any:
        params, opt_state, state = carry
        (loss, gradients), state = sa.value_and_grad(params, state, (X, Y))
        updates, opt_state = tx.update(gradients, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state, state), loss

    scan = jax.jit(lambda carry: jax.lax.scan(body, carry, length=5), donate_argnums=0)
    params = jax.tree.map(jnp.copy, PARAMS)
    (params, _, state), losses = scan((params, tx.init(params), sa.init(params)))
    leaves_close(params, expected)
    assert losses[-1] < losses[0]


def test_the_state_keeps_its_structure_and_has_no_aliases() -> None:
    sa = sharpness_aware(loss_fn, VARIANTS["memory"])
    state = sa.init(PARAMS)
    _, after = jax.jit(sa.value_and_grad)(PARAMS, state, (X, Y))
    assert str(jax.tree.structure(state)) == str(jax.tree.structure(after))
    assert [x.dtype for x in jax.tree.leaves(state)] == [x.dtype for x in jax.tree.leaves(after)]
    buffers = [x.unsafe_buffer_pointer() for x in jax.tree.leaves((PARAMS, state, after))]
    assert len(set(buffers)) == len(buffers)


@pytest.mark.parametrize("name", [name for name in FAMILY if name != "WSAM"])
def test_every_rows_state_keeps_its_structure_and_dtypes(name: str) -> None:
    """What `scan` and checkpoints rely on, for every row: shapes, dtypes and weak types of the state never change."""
    normalisation = {"w": True, "b": False}
    sa = sharpness_aware(loss_fn, FAMILY[name](), normalisation=normalisation)
    state = sa.init(PARAMS)
    _, after = jax.eval_shape(sa.value_and_grad, PARAMS, state, (X, Y))
    assert str(jax.tree.structure(after)) == str(jax.tree.structure(state))
    for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(state), strict=True):
        assert (a.shape, a.dtype, a.weak_type) == (b.shape, b.dtype, b.weak_type)


def test_an_idle_step_costs_one_gradient() -> None:
    """A step that does not climb runs the other branch of a conditional, and counts one gradient."""
    sa = sharpness_aware(loss_fn, FAMILY["LookSAM"](k=3))
    state, step = sa.init(PARAMS), jax.jit(sa.with_info)
    assert "stablehlo.case" in jax.jit(sa.with_info).lower(PARAMS, state, (X, Y)).as_text()
    counted = []
    for _ in range(6):
        _, state, info = step(PARAMS, state, (X, Y))
        counted.append((float(info.gradient_evaluations), bool(info.active)))
    assert counted == [(2, True), (1, False), (1, False)] * 2


@pytest.mark.parametrize("shards", [unrolled, vmapped], ids=lambda way: way.__name__)
def test_shards_that_decide_apart_are_counted_apart(shards: Any) -> None:
    """Half of AESAM's shards climb: the step took one gradient and a half, also where both branches are computed."""
    sa = sharpness_aware(loss_fn, FAMILY["AESAM"]().sharded(8), shards=shards)
    step, outputs = jax.jit(sa.with_info), jnp.tanh(X @ PARAMS["w"])
    _, state, first = step(PARAMS, sa.init(PARAMS), (X, Y))
    _, _, second = step(PARAMS, state, (X, outputs + jnp.repeat(jnp.array([10.0, 0.001]), 8)))
    assert (float(first.gradient_evaluations), float(second.gradient_evaluations)) == (2, 1.5)


def test_outside_jit_an_idle_step_runs_one_branch() -> None:
    """Negative control: while JAX traces, both are there."""
    calls = []

    def counted(params: Any, batch: Any) -> Any:
        calls.append(params)
        return loss_fn(params, batch)

    sa = sharpness_aware(counted, FAMILY["LookSAM"](k=3))
    state = sa.init(PARAMS)
    for expected in (2, 1, 1, 2):
        calls.clear()
        _, state = sa.value_and_grad(PARAMS, state, (X, Y))
        assert len(calls) == expected
    calls.clear()
    jax.jit(sa.value_and_grad).trace(PARAMS, state, (X, Y))
    assert len(calls) == 2


def test_memory_matters() -> None:
    """Negative control: forgetting the state between steps changes the gradient."""
    sa = sharpness_aware(loss_fn, VARIANTS["memory"])
    other = jax.tree.map(lambda x: x + 1, PARAMS)
    _, state = sa.value_and_grad(other, sa.init(PARAMS), (X, Y))
    (_, remembered), _ = sa.value_and_grad(PARAMS, state, (X, Y))
    (_, forgotten), _ = sa.value_and_grad(PARAMS, sa.init(PARAMS), (X, Y))
    assert not np.allclose(remembered["w"], forgotten["w"], rtol=1e-4)


def test_a_schedule_is_read_at_every_step() -> None:
    sa = sharpness_aware(loss_fn, VARIANTS["schedule"])
    state = sa.init(PARAMS)
    step = jax.jit(sa.with_info)
    radii = []
    for _ in range(4):
        _, state, info = step(PARAMS, state, (X, Y))
        radii.append(float(info.radius))
    np.testing.assert_allclose(radii, [0.0, 0.04, 0.08, 0.12], rtol=1e-6)


def test_info() -> None:
    sa = sharpness_aware(loss_fn, SAM(rho=0.1))
    (loss, _), _, info = jax.jit(sa.with_info)(PARAMS, sa.init(PARAMS), (X, Y))
    assert isinstance(info, StepInfo)
    assert all(figure.ndim == 0 for figure in info)
    assert float(loss) == float(info.loss) < float(info.perturbed_loss)
    g = jax.grad(loss_fn)(PARAMS, (X, Y))
    np.testing.assert_allclose(info.dual_norm, jnp.sqrt(sum(jnp.sum(x**2) for x in jax.tree.leaves(g))), rtol=1e-6)
    assert float(info.gradient_evaluations) == 2
    assert bool(info.active)


@pytest.mark.parametrize("jit", [False, True])
def test_shards_are_contiguous_blocks(jit: bool) -> None:
    vg = value_and_grad(loss_fn, SAM(rho=0.1).sharded(4))
    loss, gradients = (jax.jit(vg) if jit else vg)(PARAMS, (X, Y))
    alone = value_and_grad(loss_fn, SAM(rho=0.1))
    parts = [alone(PARAMS, (X[i : i + 4], Y[i : i + 4])) for i in range(0, 16, 4)]
    np.testing.assert_allclose(loss, loss_fn(PARAMS, (X, Y)), rtol=1e-6)
    leaves_close(gradients, jax.tree.map(lambda *g: sum(g) / 4, *(g for _, g in parts)))
    whole = alone(PARAMS, (X, Y))[1]
    assert not np.allclose(gradients["w"], whole["w"], rtol=1e-4)  # negative control: m matters


def test_shards_run_in_turn() -> None:
    """A barrier stands between one shard's sum and the next shard's weights, so that XLA may reuse the memory."""

    def barriers(m: int) -> int:
        vg = value_and_grad(loss_fn, SAM().sharded(m))
        return jax.jit(vg).lower(PARAMS, (X, Y)).as_text().count("stablehlo.optimization_barrier")

    assert [barriers(m) for m in (16, 8, 4)] == [0, 1, 3]


@pytest.mark.parametrize(("platform", "loops"), [("cpu", [False, False]), ("tpu", [False, True])])
def test_many_shards_go_into_a_loop_where_that_is_good(
    platform: str, loops: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four shards and sixteen: a loop is compiled once, but bad for the convolutions of a CPU."""
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    found = []
    for m in (4, 1):
        step = jax.jit(value_and_grad(loss_fn, SAM().sharded(m)))
        found.append("stablehlo.while" in step.lower(PARAMS, (X, Y)).as_text())
    assert found == loops


def test_vmap_over_seeds() -> None:
    vg = value_and_grad(loss_fn, SAM(rho=0.1))
    many = jax.tree.map(lambda x: jnp.stack([x, x + 0.5]), PARAMS)
    losses, gradients = jax.vmap(vg, in_axes=(0, None))(many, (X, Y))
    for i in range(2):
        loss, gradient = vg(jax.tree.map(lambda x, i=i: x[i], many), (X, Y))
        np.testing.assert_allclose(losses[i], loss, rtol=1e-6)
        np.testing.assert_allclose(gradients["w"][i], gradient["w"], rtol=1e-5)
