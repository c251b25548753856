"""flax's nnx: a model that changes as one pass would change it, and every pass with the same dropout masks."""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx
from jax.sharding import PartitionSpec

from samfamily import SAM, SAMON, LookSAM
from samfamily.metric import biases
from samfamily_jax import nnx as sharp
from samfamily_jax import scanned
from samfamily_jax.partition import Partition
from tests.trainers.jax_by_hand import distance, sam, same

RHO, STEPS = 0.3, 3
X = jax.random.normal(jax.random.key(0), (8, 3))
Y = jnp.sin(jnp.sum(X, 1, keepdims=True))


class Net(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.inner, self.outer = nnx.Linear(3, 8, rngs=rngs), nnx.Linear(8, 1, rngs=rngs)
        self.norm, self.drop = nnx.BatchNorm(8, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return self.outer(self.drop(jnp.tanh(self.norm(self.inner(x)))))


NET: Any = Net(nnx.Rngs(0))
split: Any = nnx.split


def net() -> Any:
    return nnx.clone(NET)


def loss_fn(model: Net, x: Any, y: Any) -> Any:
    return jnp.mean((model(x) - y) ** 2)


def loss_and_prediction(model: Net, x: Any, y: Any) -> Any:
    prediction = model(x)
    return jnp.mean((prediction - y) ** 2), prediction


def rest(model: Any) -> Any:
    return nnx.state(model, nnx.Not(nnx.Param))


def train(vg: Callable[..., Any]) -> Any:
    model = net()
    optimizer = nnx.Optimizer(model, optax.sgd(0.1, momentum=0.9), wrt=nnx.Param)

    @nnx.jit
    def step(model: Net, optimizer: Any, x: Any, y: Any) -> Any:
        loss, gradients = vg(model, x, y)
        optimizer.update(model, gradients)
        return loss

    for _ in range(STEPS):
        step(model, optimizer, X, Y)
    return model


def test_rho_zero_is_bitwise_nnx_value_and_grad() -> None:
    ours, plain = train(sharp.value_and_grad(loss_fn, SAM(rho=0.0))), train(nnx.value_and_grad(loss_fn))
    assert same(nnx.state(ours), nnx.state(plain))
    assert not same(nnx.state(ours, nnx.Param), nnx.state(train(sharp.value_and_grad(loss_fn, SAM(RHO))), nnx.Param))


def test_the_gradients_are_a_tree_like_those_of_nnx() -> None:
    ours = nnx.eval_shape(sharp.value_and_grad(loss_and_prediction, SAM(), has_aux=True), net(), X, y=Y)
    plain = nnx.eval_shape(nnx.value_and_grad(loss_and_prediction, has_aux=True), net(), X, y=Y)
    assert str(jax.tree.structure(ours)) == str(jax.tree.structure(plain))


def by_hand() -> tuple[Any, Any]:
    """A functional loop: both passes from one state, and that of the first is kept."""
    graph, params, state = split(net(), nnx.Param, ...)
    tx = optax.sgd(0.1, momentum=0.9)
    opt_state = tx.init(params)

    @jax.jit
    def step(params: Any, state: Any, opt_state: Any) -> Any:
        def loss(params: Any) -> Any:
            model = nnx.merge(graph, params, state, copy=True)
            return loss_fn(model, X, Y), rest(model)

        (_, after), gradients = sam(jax.value_and_grad(loss, has_aux=True), params, RHO)
        updates, opt_state = tx.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), after, opt_state

    for _ in range(STEPS):
        params, state, opt_state = step(params, state, opt_state)
    return params, state


def test_it_walks_the_path_of_a_functional_loop() -> None:
    params, state = by_hand()
    ours = train(sharp.value_and_grad(loss_fn, SAM(RHO)))
    assert distance(nnx.state(ours, nnx.Param), params) < 1e-5
    assert distance(rest(ours)["norm"], state["norm"]) < 1e-6
    assert int(ours.drop.rngs.count[...]) == STEPS


def test_nnx_twice_moves_everything_twice() -> None:
    """Negative control: with nnx's own transformation statistics move and masks change between the passes."""

    def twice(model: Net, x: Any, y: Any) -> Any:
        home = nnx.state(model, nnx.Param)

        def gradient(params: Any) -> Any:
            nnx.update(model, params)
            return nnx.value_and_grad(loss_fn)(model, x, y)

        result = sam(gradient, home, RHO)
        nnx.update(model, home)
        return result

    params, state = by_hand()
    naive = train(twice)
    assert int(naive.drop.rngs.count[...]) == 2 * STEPS
    assert distance(rest(naive)["norm"], state["norm"]) > 1e-2
    assert distance(nnx.state(naive, nnx.Param), params) > 1e-2


@pytest.mark.parametrize("aux", ["perturbed", "both"])
def test_whichever_output_comes_back_the_model_keeps_the_first_pass(aux: Any) -> None:
    model, plain = net(), net()
    _, first = nnx.jit(loss_and_prediction)(plain, X, Y)
    vg = sharp.value_and_grad(loss_and_prediction, SAM(RHO), has_aux=True, aux=aux)
    (_, found), _ = nnx.jit(vg)(model, X, Y)
    assert distance(rest(model)["norm"], rest(plain)["norm"]) < 1e-6
    outputs = dict(zip(["clean", "perturbed"], found, strict=True)) if aux == "both" else {aux: found}
    assert [distance(output, first) < 1e-6 for output in outputs.values()] == [name == "clean" for name in outputs]


@cache
def sharded() -> tuple[Any, Any]:
    """Return the gradients and the model after one step in shards of two examples."""
    vg = sharp.value_and_grad(loss_fn, SAM(RHO).sharded(2), batch_argnums=(1, 2), shards=scanned)
    model = net()
    return nnx.jit(vg)(model, X, Y)[1], model


def test_shards_draw_their_own_masks_and_average_their_statistics() -> None:
    graph, params, state = split(net(), nnx.Param, ...)

    @jax.jit
    def shard(number: Any, x: Any, y: Any) -> Any:
        own: Any = nnx.merge(graph, params, state, copy=True)
        own.drop.rngs.key[...] = jax.random.fold_in(own.drop.rngs.key[...], number)
        before = rest(own)

        def loss(params: Any) -> Any:
            model = nnx.merge(graph, params, before, copy=True)
            return loss_fn(model, x, y), rest(model)["norm"]

        (_, norm), gradients = sam(jax.value_and_grad(loss, has_aux=True), params, RHO)
        return gradients, norm

    def mean(*numbers: int) -> Any:
        found = [shard(n, X[i : i + 2], Y[i : i + 2]) for i, n in zip(range(0, 8, 2), numbers, strict=True)]
        return jax.tree.map(lambda *x: sum(x) / len(x), *found)

    (expected, norm), (gradients, model) = mean(0, 1, 2, 3), sharded()
    assert distance(gradients, expected) < 1e-5
    assert distance(rest(model)["norm"], norm) < 1e-6
    assert distance(mean(0, 0, 0, 0)[0], expected) > 1e-2  # negative control: one mask for all shards
    assert distance(shard(0, X[:2], Y[:2])[1], norm) > 1e-3  # negative control: the first shard's statistics
    assert same(model.drop.rngs.key[...], NET.drop.rngs.key[...])
    assert int(model.drop.rngs.count[...]) == 1


@pytest.mark.parametrize("by", ["mesh", "shard_map"])
def test_devices_leave_the_model_that_one_device_leaves(by: str) -> None:
    (expected, alone), mesh = sharded(), jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    where: Any = {"mesh": mesh} if by == "mesh" else {}
    vg = sharp.value_and_grad(loss_fn, SAM(RHO).sharded(2), batch_argnums=(1, 2), axis_name="data", **where)
    graph, params, state = split(net(), nnx.Param, ...)

    def body(params: Any, state: Any, x: Any, y: Any) -> Any:
        model = nnx.merge(graph, params, state, copy=True)
        return vg(model, x, y)[1], nnx.state(model)

    whole, part = PartitionSpec(), PartitionSpec("data")
    over = jax.shard_map(body, mesh=mesh, in_specs=(whole, whole, part, part), out_specs=whole)
    gradients, after = jax.jit(body if by == "mesh" else over)(params, state, X, Y)
    assert distance(gradients, expected) < 1e-5
    assert distance(after, nnx.state(alone)) < 1e-6


def test_normalisation_layers_are_known() -> None:
    told = nnx.to_flat_state(sharp._normalisation(NET, nnx.Param))
    assert {path for path, is_normalisation in told if is_normalisation} == {("norm", "scale"), ("norm", "bias")}
    assert {path for path, _ in told} == {path for path, _ in nnx.to_flat_state(nnx.state(NET, nnx.Param))}
    nnx.eval_shape(sharp.value_and_grad(loss_fn, SAMON(RHO)), net(), X, Y)
    with pytest.raises(ValueError, match="normalisation"):  # negative control: where there are none
        nnx.eval_shape(sharp.value_and_grad(lambda m, x: jnp.mean(m(x)), SAMON(RHO)), NET.inner, X)


def test_only_what_wrt_names_climbs() -> None:
    """As a last layer on features that stay: the other parameters are part of the rest, which comes back as it was."""
    wrt = nnx.All(nnx.Param, nnx.PathContains("outer"))
    model, x, y = net(), X, Y
    _, gradients = nnx.jit(sharp.value_and_grad(loss_fn, SAM(RHO), wrt=wrt))(model, x, y)
    graph, params, state = split(net(), wrt, ...)
    assert str(jax.tree.structure(gradients)) == str(jax.tree.structure(params))
    loss = jax.value_and_grad(lambda p: loss_fn(nnx.merge(graph, p, state, copy=True), x, y))
    assert distance(gradients, jax.jit(lambda p: sam(loss, p, RHO)[1])(params)) < 1e-5
    assert same(nnx.state(model, nnx.Param), nnx.state(NET, nnx.Param))
    assert int(model.drop.rngs.count[...]) == 1


def test_names_and_filters_are_known() -> None:
    """ASAM asks for them; each variable lies in a box, whose `value` is no name, while a leaf may be called so."""
    leaves = Partition(nnx.state(NET, nnx.Param)).w.space.leaves
    assert [leaf.name for leaf in Partition({"value": X}).w.space.leaves] == ["value"]
    assert [leaf.name for leaf in leaves if biases(leaf)] == ["inner.bias", "norm.bias", "outer.bias"]
    assert [leaf.name for leaf in leaves if leaf.filter_axis == -1] == ["inner.kernel", "outer.kernel"]


def test_a_row_with_memory_in_nnx_jit() -> None:
    sa, model = sharp.sharpness_aware(loss_and_prediction, LookSAM(RHO, k=2), has_aux=True), net()
    state, step, counted = sa.init(model), nnx.jit(sa.with_info), []
    for i in range(4):
        ((loss, prediction), _), state, info = step(model, state, X, Y)
        counted.append(float(info.gradient_evaluations))
        assert int(model.drop.rngs.count[...]) == i + 1
        assert float(loss) == pytest.approx(float(jnp.mean((prediction - Y) ** 2)))
    assert counted == [2, 1, 2, 1]
    assert str(jax.tree.structure(state)) == str(jax.tree.structure(sa.init(model)))


def test_errors_come_before_the_first_step() -> None:
    with pytest.raises(TypeError, match="variant must be a Variant"):
        sharp.value_and_grad(loss_fn, 0.05)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="use sharpness_aware"):
        sharp.value_and_grad(loss_fn, LookSAM())
    with pytest.raises(ValueError, match="aux must be one of"):
        sharp.sharpness_aware(loss_fn, SAM(), aux="dirty")  # type: ignore[arg-type]
