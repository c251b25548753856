"""Loops with optax alone: scan, donation, seeds, micro-batches, and steps that are not finite."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from samfamily import FAMILY, SAM, LookSAM
from samfamily_jax import sharpness_aware, value_and_grad
from tests.trainers.jax_by_hand import buffers, distance, sam, same

RHO, STEPS = 0.3, 3
X = jax.random.normal(jax.random.key(0), (8, 3))
Y = jnp.sin(jnp.sum(X, 1))
PARAMS = {"w": jnp.array([0.3, -0.2, 0.5]), "b": jnp.array(0.1)}
TX = optax.adamw(0.1)


def loss_fn(params: Any, x: Any, y: Any) -> Any:
    return jnp.mean((jnp.tanh(x @ params["w"]) + params["b"] - y) ** 2)


def by_hand(params: Any, x: Any, y: Any) -> Any:
    return sam(jax.value_and_grad(lambda p: loss_fn(p, x, y)), params, RHO)


def step_with(vg: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    def step(carry: Any, batch: Any) -> Any:
        params, opt_state = carry
        loss, gradients = vg(params, *batch)
        updates, opt_state = TX.update(gradients, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), loss

    return step


def train(vg: Callable[..., Any], **options: Any) -> Any:
    step, carry = jax.jit(step_with(vg), **options), jax.tree.map(jnp.copy, (PARAMS, TX.init(PARAMS)))
    for _ in range(STEPS):
        carry, _ = step(carry, (X, Y))
    return carry


def test_an_optax_loop_donated_and_scanned() -> None:
    vg = value_and_grad(loss_fn, SAM(RHO))
    expected = train(by_hand)
    assert distance(train(vg), expected) < 1e-6
    assert distance(train(vg, donate_argnums=0), expected) < 1e-6
    batches = jax.tree.map(lambda x: jnp.stack([x] * STEPS), (X, Y))
    scanned, losses = jax.jit(lambda carry, xs: jax.lax.scan(step_with(vg), carry, xs))(
        (PARAMS, TX.init(PARAMS)), batches
    )
    assert distance(scanned, expected) < 1e-6
    assert losses[-1] < losses[0]
    assert distance(train(jax.value_and_grad(loss_fn)), expected) > 1e-2  # negative control


def test_vmap_over_seeds() -> None:
    """Every seed has a ball of its own, and LookSAM's clock and memory too."""
    sa = sharpness_aware(loss_fn, LookSAM(RHO, k=2))

    def run(key: Any) -> Any:
        params = {"w": jax.random.normal(key, (3,)), "b": jnp.zeros(())}
        state = sa.init(params)

        def step(carry: Any, _: Any) -> Any:
            params, state = carry
            (_, gradients), state = sa.value_and_grad(params, state, X, Y)
            return (jax.tree.map(lambda w, g: w - 0.1 * g, params, gradients), state), None

        return jax.lax.scan(step, (params, state), length=STEPS)[0]

    keys = jax.random.split(jax.random.key(1), 3)
    params, state = jax.jit(jax.vmap(run))(keys)
    one = jax.jit(run)
    alone = [one(key) for key in keys]
    assert distance((params, state), jax.tree.map(lambda *x: jnp.stack(x), *alone)) < 1e-6
    assert np.ptp(params["w"], axis=0).min() > 1e-3


def accumulated(fun: Callable[..., Any], has_aux: bool = False) -> Callable[..., Any]:
    """A `value_and_grad` that goes through micro-batches of two examples and averages."""
    assert has_aux

    def vg(leaves: Any, *batch: Any) -> Any:
        micro = jax.tree.map(lambda x: x.reshape(4, 2, *x.shape[1:]), batch)

        def body(total: Any, one: Any) -> Any:
            (loss, aux), gradients = jax.value_and_grad(fun, has_aux=True)(leaves, *one)
            return jax.tree.map(lambda t, new: t + new / 4, total, (loss, gradients)), aux

        nothing = jnp.zeros(()), jax.tree.map(jnp.zeros_like, leaves)
        (loss, gradients), aux = jax.lax.scan(body, nothing, micro)
        return (loss, aux), gradients

    return vg


def test_micro_batches_share_the_perturbation_of_the_whole_batch() -> None:
    vg = jax.jit(value_and_grad(loss_fn, SAM(RHO), value_and_grad=accumulated))
    loss, gradients = vg(PARAMS, X, Y)
    whole, expected = jax.jit(value_and_grad(loss_fn, SAM(RHO)))(PARAMS, X, Y)
    assert distance((loss, gradients), (whole, expected)) < 1e-6
    _, apart = jax.jit(value_and_grad(loss_fn, SAM(RHO).sharded(2), batch_argnums=(1, 2)))(PARAMS, X, Y)
    assert distance(apart, expected) > 1e-3  # negative control: a perturbation for each micro-batch


@pytest.mark.parametrize("name", [name for name in FAMILY if name != "WSAM"])
def test_every_rows_state_is_donated_with_parameters_and_optimizer(name: str) -> None:
    sa = sharpness_aware(loss_fn, FAMILY[name](), normalisation={"w": True, "b": False})

    tx = optax.sgd(0.1, momentum=0.9)

    def step(params: Any, opt_state: Any, state: Any) -> Any:
        (_, gradients), state = sa.value_and_grad(params, state, X, Y)
        updates, opt_state = tx.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, state

    params = jax.tree.map(jnp.copy, PARAMS)
    before = (params, tx.init(params), sa.init(params))
    after = jax.jit(step, donate_argnums=(0, 1, 2)).lower(*before).compile()(*before)
    assert all(x.is_deleted() for x in jax.tree.leaves(before))
    assert len(set(buffers(after))) == len(buffers(after))
    assert int(after[2].step) == 1


def test_auxiliary_output_of_either_pass() -> None:
    def loss(params: Any, x: Any, y: Any) -> Any:
        return loss_fn(params, x, y), params

    def found(aux: Any) -> Any:
        return jax.jit(value_and_grad(loss, SAM(RHO), has_aux=True, aux=aux))(PARAMS, X, Y)[0][1]

    first, last = found("both")
    assert same(first, PARAMS)
    assert same(found("clean"), PARAMS)
    assert distance(found("perturbed"), last) < 1e-7
    length = jnp.sqrt(sum(jnp.sum((x - y) ** 2) for x, y in zip(*map(jax.tree.leaves, (last, first)), strict=True)))
    assert float(length) == pytest.approx(RHO, rel=1e-5)


def test_jax_keywords_mean_what_they_mean_in_jax() -> None:
    with pytest.raises(ValueError, match=r"holomorphic=True .*no maximum: return its real part"):
        value_and_grad(loss_fn, SAM(), holomorphic=True)
    whole = {**PARAMS, "n": jnp.array(2), "flag": jnp.array(True)}
    _, expected = jax.eval_shape(jax.value_and_grad(loss_fn, allow_int=True), whole, X, Y)
    _, gradients = jax.jit(value_and_grad(loss_fn, SAM(), allow_int=True))(whole, X, Y)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), gradients) == jax.tree.map(lambda x: (x.shape, x.dtype), expected)
    assert gradients["n"].dtype == jax.dtypes.float0
    assert jax.jit(value_and_grad(loss_fn, SAM()))(whole, X, Y)[1]["n"] is None


def test_a_step_that_is_not_finite_leaves_everything_as_it_was() -> None:
    sa, tx = sharpness_aware(loss_fn, LookSAM(RHO, k=3)), optax.apply_if_finite(optax.adam(0.1), 5)

    @jax.jit
    def step(params: Any, opt_state: Any, state: Any, x: Any) -> Any:
        (_, gradients), state, info = sa.with_info(params, state, x, Y)
        updates, opt_state = tx.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, state, info.skipped

    params, opt_state, state, skipped = step(PARAMS, tx.init(PARAMS), sa.init(PARAMS), X)
    assert float(skipped) == 0
    assert distance(params, PARAMS) > 1e-2
    other, opt_state, after, skipped = step(params, opt_state, state, X.at[0, 0].set(jnp.nan))
    assert float(skipped) == 1
    assert same((other, after), (params, state))
    assert int(step(other, opt_state, after, X)[2].step) == 2


@pytest.mark.parametrize("where", ["loss at w", "loss at the perturbed point", "gradient", "nowhere"])
def test_whatever_is_not_finite_leaves_the_state(where: str) -> None:
    """The loss at w alone, that at the perturbed point alone, or the gradient of a finite loss; as a control, none."""

    def loss(params: Any, x: Any, y: Any) -> Any:
        value = loss_fn(params, x, y)
        pairs = zip(*map(jax.tree.leaves, (params, PARAMS)), strict=True)
        moved = jnp.any(jnp.stack([jnp.any(a != b) for a, b in pairs]))
        if where == "gradient":  # the root of nought has an infinite slope
            return value + jnp.sqrt(jnp.sum(0.0 * jax.tree.leaves(params)[0] ** 2))
        spoilt = {"loss at w": ~moved, "loss at the perturbed point": moved, "nowhere": jnp.array(False)}[where]
        return value + jax.lax.stop_gradient(jnp.where(spoilt, jnp.nan, 0.0))

    sa = sharpness_aware(loss, LookSAM(RHO, k=3))
    state = sa.init(PARAMS)
    _, after, info = jax.jit(sa.with_info)(PARAMS, state, X, Y)
    assert float(info.skipped) == (where != "nowhere")
    assert same(after, state) == (where != "nowhere")
