"""haiku: parameters and state as dicts of dicts, the state as auxiliary output."""

from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import optax

from samfamily import SAM
from samfamily_jax import value_and_grad
from tests.trainers.jax_by_hand import distance, sam

RHO, STEPS = 0.3, 3
X = jax.random.normal(jax.random.key(0), (8, 3))
Y = jnp.sin(jnp.sum(X, 1, keepdims=True))


def forward(x: Any) -> Any:
    x = hk.BatchNorm(create_scale=True, create_offset=True, decay_rate=0.9)(hk.Linear(8, with_bias=False)(x), True)
    return hk.Linear(1)(hk.dropout(hk.next_rng_key(), 0.5, jnp.tanh(x)))


NET, TX = hk.transform_with_state(forward), optax.adam(0.1)


def loss_fn(params: Any, state: Any, key: Any, x: Any, y: Any) -> Any:
    prediction, state = NET.apply(params, state, key, x)
    return jnp.mean((prediction - y) ** 2), state


def by_hand(params: Any, *rest: Any) -> Any:
    return sam(jax.value_and_grad(lambda p: loss_fn(p, *rest), has_aux=True), params, RHO)


def train(vg: Any) -> tuple[Any, Any]:
    params, state = jax.jit(NET.init)(jax.random.key(1), X)
    opt_state = TX.init(params)

    @jax.jit
    def step(params: Any, state: Any, opt_state: Any, key: Any) -> Any:
        (_, state), gradients = vg(params, state, key, X, Y)
        updates, opt_state = TX.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), state, opt_state

    for i in range(STEPS):
        params, state, opt_state = step(params, state, opt_state, jax.random.key(i))
    return params, state


def test_the_loop_is_the_loop_by_hand_and_statistics_move_once() -> None:
    params, state = train(value_and_grad(loss_fn, SAM(RHO), has_aux=True))
    expected, expected_state = train(by_hand)
    assert distance(params, expected) < 1e-5
    assert distance(state, expected_state) < 1e-6
    assert {int(x["counter"]) for x in state.values()} == {STEPS}
    plain, _ = train(jax.value_and_grad(loss_fn, has_aux=True))
    assert distance(plain, expected) > 1e-2  # negative control: SAM matters
