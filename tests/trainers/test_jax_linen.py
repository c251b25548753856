"""flax linen: TrainState, batch statistics as auxiliary output, dropout from one key in both passes."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest
from flax.training.train_state import TrainState

from samfamily import SAM
from samfamily_jax import value_and_grad
from samfamily_jax.partition import Partition
from tests.trainers.jax_by_hand import distance, sam

RHO, STEPS = 0.3, 3
X = jax.random.normal(jax.random.key(0), (8, 3))
Y = jnp.sin(jnp.sum(X, 1, keepdims=True))


class Net(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.BatchNorm(use_running_average=False, momentum=0.9)(nn.Dense(8, use_bias=False)(x))
        return nn.Dense(1)(nn.Dropout(0.5, deterministic=False)(jnp.tanh(x)))


class State(TrainState):
    batch_stats: Any


NET, TX = Net(), optax.adam(0.1)
FIRST: Any = jax.jit(NET.init)({"params": jax.random.key(1), "dropout": jax.random.key(2)}, X)


def loss_fn(params: Any, statistics: Any, x: Any, y: Any, key: Any) -> Any:
    variables = {"params": params, "batch_stats": statistics}
    prediction, new = NET.apply(variables, x, mutable=["batch_stats"], rngs={"dropout": key})
    return jnp.mean((prediction - y) ** 2), new["batch_stats"]


def train(vg: Any) -> Any:
    create: Any = State.create
    state = create(apply_fn=NET.apply, params=FIRST["params"], tx=TX, batch_stats=FIRST["batch_stats"])

    @jax.jit
    def step(state: Any, x: Any, y: Any, key: Any) -> Any:
        (_, statistics), gradients = vg(state.params, state.batch_stats, x, y, jax.random.fold_in(key, state.step))
        return state.apply_gradients(grads=gradients, batch_stats=statistics)

    for _ in range(STEPS):
        state = step(state, X, Y, jax.random.key(3))
    return state


def by_hand(params: Any, *rest: Any) -> Any:
    return sam(jax.value_and_grad(lambda p: loss_fn(p, *rest), has_aux=True), params, RHO)


def test_the_train_state_needs_no_keywords() -> None:
    ours, expected = train(value_and_grad(loss_fn, SAM(RHO), has_aux=True)), train(by_hand)
    assert distance(ours.params, expected.params) < 1e-5
    assert distance(ours.params, FIRST["params"]) > 1e-2
    assert int(ours.step) == STEPS


@pytest.mark.parametrize("aux", ["clean", "perturbed"])
def test_statistics_move_once(aux: Any) -> None:
    """The mean after one step is 0.9 times the old plus 0.1 times that of the one pass."""
    vg: Any = jax.jit(value_and_grad(loss_fn, SAM(RHO), has_aux=True, aux=aux))
    params, statistics = FIRST["params"], FIRST["batch_stats"]
    (_, after), _ = vg(params, statistics, X, Y, jax.random.key(3))
    once = 0.1 * jnp.mean(X @ params["Dense_0"]["kernel"], 0)
    assert (distance(after["BatchNorm_0"]["mean"], once) < 1e-6) == (aux == "clean")
    assert distance(after["BatchNorm_0"]["mean"], 0.9 * once + once) > 1e-3  # negative control: moved twice


def test_both_passes_draw_the_same_masks() -> None:
    def other_masks(params: Any, statistics: Any, x: Any, y: Any, key: Any) -> Any:
        keys = iter(jax.random.split(key))
        return sam(lambda p: jax.value_and_grad(loss_fn, has_aux=True)(p, statistics, x, y, next(keys)), params, RHO)

    args = (FIRST["params"], FIRST["batch_stats"], X, Y, jax.random.key(3))
    _, gradients = jax.jit(value_and_grad(loss_fn, SAM(RHO), has_aux=True))(*args)
    assert distance(gradients, jax.jit(by_hand)(*args)[1]) < 1e-5
    assert distance(gradients, jax.jit(other_masks)(*args)[1]) > 1e-2  # negative control


def test_a_partitioned_kernel_keeps_its_name() -> None:
    """ASAM finds its filters by that; `nn.with_partitioning` puts a box round it."""
    boxed: Any = {"kernel": nn.Partitioned(X, names=(None, "model"))}
    assert Partition(boxed).w.space.leaves == Partition({"kernel": X}).w.space.leaves
