"""equinox: modules with static leaves and None, filter_jit with donation, and its own value_and_grad injected."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
import pytest

from samfamily import SAM, LookSAM
from samfamily_jax import sharpness_aware, value_and_grad
from tests.trainers.jax_by_hand import distance, sam

RHO, STEPS = 0.3, 3
X = jax.random.normal(jax.random.key(0), (8, 3))
Y = jnp.sin(jnp.sum(X, 1, keepdims=True))


class Net(eqx.Module):
    """Arrays, a function, a number, an integer array, a name, and nothing at all."""

    mlp: eqx.nn.MLP
    power: jax.Array
    nothing: None = None
    name: str = eqx.field(default="net", static=True)

    def __call__(self, x: Any) -> Any:
        return self.mlp(x) ** self.power


def net() -> Net:
    return Net(eqx.nn.MLP(3, 1, 4, 1, activation=jnp.tanh, use_bias=False, key=jax.random.key(1)), jnp.array(1))


def loss_fn(model: Net, x: Any, y: Any) -> Any:
    return jnp.mean((jax.vmap(model)(x) - y) ** 2)


TX = optax.adamw(0.1)


def by_hand() -> Any:
    params, static = eqx.partition(net(), eqx.is_inexact_array)
    opt_state = TX.init(params)

    @jax.jit
    def step(params: Any, opt_state: Any) -> Any:
        _, gradients = sam(jax.value_and_grad(lambda p: loss_fn(eqx.combine(p, static), X, Y)), params, RHO)
        updates, opt_state = TX.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    for _ in range(STEPS):
        params, opt_state = step(params, opt_state)
    return params


def floats(model: Any) -> Any:
    return eqx.filter(model, eqx.is_inexact_array)


@pytest.mark.parametrize("inject", [jax.value_and_grad, eqx.filter_value_and_grad], ids=["jax", "equinox"])
def test_a_donated_loop_is_the_loop_by_hand(inject: Any) -> None:
    vg, model = value_and_grad(loss_fn, SAM(RHO), value_and_grad=inject), net()
    opt_state = TX.init(floats(model))
    first = model.mlp.layers[0].weight

    @eqx.filter_jit(donate="all")
    def step(model: Net, opt_state: Any, batch: Any) -> Any:
        loss, gradients = vg(model, *batch)
        updates, opt_state = TX.update(gradients, opt_state, floats(model))
        return eqx.apply_updates(model, updates), opt_state, loss

    for _ in range(STEPS):
        model, opt_state, _ = step(model, opt_state, (X.copy(), Y.copy()))
    assert distance(floats(model), by_hand()) < 1e-6
    assert distance(floats(model), floats(net())) > 1e-2
    assert first.is_deleted()
    assert (int(model.power), model.name, model.nothing) == (1, "net", None)


def test_a_row_with_memory_is_donated_with_the_rest() -> None:
    sa, model = sharpness_aware(loss_fn, LookSAM(RHO, k=1)), net()  # at k = 1 it is SAM
    opt_state, state = TX.init(floats(model)), sa.init(model)

    @eqx.filter_jit(donate="all")
    def step(model: Net, opt_state: Any, state: Any) -> Any:
        (_, gradients), state = sa.value_and_grad(model, state, X, Y)
        updates, opt_state = TX.update(gradients, opt_state, floats(model))
        return eqx.apply_updates(model, updates), opt_state, state

    for _ in range(STEPS):
        model, opt_state, state = step(model, opt_state, state)
    assert distance(floats(model), by_hand()) < 1e-6
    assert int(state.step) == STEPS


def test_batch_norm_with_an_explicit_state_moves_once() -> None:
    """equinox threads a `State` through the model; as auxiliary output it is that of the pass at w."""
    norm, state = eqx.nn.make_with_state(eqx.nn.BatchNorm)(3, "batch", mode="batch")

    def loss(norm: Any, state: Any, x: Any) -> Any:
        y, state = jax.vmap(norm, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(x * norm.weight, state)
        return jnp.mean((y - Y) ** 2), state

    vg = eqx.filter_jit(value_and_grad(loss, SAM(RHO), has_aux=True))
    (_, after), gradients = vg(norm, state, X)
    assert distance(after, eqx.filter_jit(loss)(norm, state, X)[1]) < 1e-6
    (_, perturbed), _ = eqx.filter_jit(value_and_grad(loss, SAM(RHO), has_aux=True, aux="perturbed"))(norm, state, X)
    assert distance(after, perturbed) > 1e-3  # negative control: at the perturbed point the statistics are others
    assert distance(gradients.weight, jnp.zeros(3)) > 0
