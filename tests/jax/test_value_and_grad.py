"""value_and_grad: jax.value_and_grad's own call and return, at a cost that is counted."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from samfamily import ASAM, SAM
from samfamily_jax import value_and_grad


class Parameters(NamedTuple):
    w: Any
    b: Any


KEY = jax.random.key(0)
X = jax.random.normal(KEY, (8, 3))
Y = jnp.sum(X, 1, keepdims=True) ** 2


def predict(w: Any, b: Any, x: Any) -> Any:
    return jnp.tanh(x @ w) @ jnp.ones((w.shape[1], 1)) + b


def mse(prediction: Any) -> Any:
    return jnp.mean((prediction - Y) ** 2)


W = {"w": jax.random.normal(KEY, (3, 4)), "b": jnp.zeros(1)}
TREES: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "dict": (W, lambda p: mse(predict(p["w"], p["b"], X))),
    "tuple": ((W["w"], W["b"]), lambda p: mse(predict(p[0], p[1], X))),
    "list": ([W["w"], [W["b"]]], lambda p: mse(predict(p[0], p[1][0], X))),
    "NamedTuple": (Parameters(**W), lambda p: mse(predict(p.w, p.b, X))),
    "array": (W["w"], lambda p: mse(predict(p, 0.0, X))),
    "nested with None": ({"layer": {"w": W["w"], "unused": None}}, lambda p: mse(predict(p["layer"]["w"], 0.0, X))),
    "flax": (
        (dense := nn.Dense(1)).init(KEY, X),
        lambda p: mse(dense.apply(p, X)),
    ),
    "equinox": (eqx.filter(eqx.nn.Linear(3, 1, key=KEY), eqx.is_array), lambda p: mse(jax.vmap(p)(X))),
}


def sam_by_hand(loss: Callable[[Any], Any], params: Any, rho: float) -> tuple[Any, Any]:
    """Write SAM at p = 2 with jax.grad and tree_map alone."""
    value, g = jax.value_and_grad(loss)(params)
    n = jnp.sqrt(sum(jnp.sum(x**2) for x in jax.tree.leaves(g)))
    return value, jax.grad(loss)(jax.tree.map(lambda w, d: w + rho * d / n, params, g))


def close(a: Any, b: Any, rtol: float = 1e-5) -> None:
    assert str(jax.tree.structure(a)) == str(jax.tree.structure(b))
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-6)


def differs(a: Any, b: Any) -> bool:
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return any(not np.allclose(x, y, rtol=1e-3, atol=1e-6) for x, y in pairs)


@pytest.mark.parametrize("kind", TREES)
@pytest.mark.parametrize("jit", [False, True])
def test_every_kind_of_tree(kind: str, jit: bool) -> None:
    params, loss = TREES[kind]
    vg = value_and_grad(loss, SAM(rho=0.3))
    value, gradients = (jax.jit(vg) if jit else vg)(params)
    expected, by_hand = sam_by_hand(loss, params, 0.3)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    close(gradients, by_hand)
    assert differs(gradients, jax.grad(loss)(params))  # negative control: this is not the plain gradient


def test_leaves_that_are_not_floats_pass_through() -> None:
    params = {"w": jnp.array([3.0, 4.0]), "n": jnp.array(2), "flag": jnp.array(True), "key": KEY, "none": None}
    seen = []

    def loss(p: Any) -> Any:
        seen.append(p)
        return jnp.where(p["flag"], jnp.sum(p["w"] ** p["n"]), 0.0) / 2 + 0 * jax.random.uniform(p["key"])

    value, gradients = jax.jit(value_and_grad(loss, SAM(rho=0.5)))(params)
    assert float(value) == 12.5
    np.testing.assert_allclose(gradients["w"], [3.3, 4.4], rtol=1e-6)
    assert gradients["n"] is gradients["flag"] is gradients["key"] is gradients["none"] is None
    assert all(p["n"].dtype == jnp.int32 and p["flag"].dtype == jnp.bool for p in seen)
    tree = {"w": params["w"], "n": params["n"]}
    floats = eqx.filter(tree, eqx.is_inexact_array)
    tx = optax.adamw(0.1)
    _, gradients = value_and_grad(lambda p: jnp.sum(p["w"] ** p["n"]), SAM())(tree)
    updates, _ = tx.update(gradients, tx.init(floats), floats)
    after = eqx.apply_updates(tree, updates)
    assert after["n"].dtype == jnp.int32
    assert int(after["n"]) == 2


def test_an_equinox_module_with_static_leaves() -> None:
    model = eqx.nn.MLP(3, 1, 4, 1, activation=jnp.tanh, key=KEY)

    def loss(model: Any, x: Any) -> Any:
        return mse(jax.vmap(model)(x))

    value, gradients = eqx.filter_jit(value_and_grad(loss, SAM(rho=0.1)))(model, X)
    params, static = eqx.partition(model, eqx.is_inexact_array)
    expected, by_hand = sam_by_hand(lambda p: loss(eqx.combine(p, static), X), params, 0.1)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    close(eqx.filter(gradients, eqx.is_array), by_hand)
    optimizer = optax.sgd(0.1, momentum=0.9)
    updates, _ = optimizer.update(gradients, optimizer.init(eqx.filter(model, eqx.is_inexact_array)))
    assert differs(eqx.filter(eqx.apply_updates(model, updates), eqx.is_array), params)


def test_argnums_may_be_several_and_are_perturbed_together() -> None:
    def loss(x: Any, w: Any, b: Any, *, power: int = 1) -> Any:
        return mse(predict(w, b, x)) ** power

    value, gradients = value_and_grad(loss, SAM(rho=0.3), argnums=(1, 2))(X, W["w"], W["b"], power=2)
    expected, by_hand = sam_by_hand(lambda p: loss(X, *p, power=2), (W["w"], W["b"]), 0.3)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert isinstance(gradients, tuple)
    close(gradients, by_hand)
    _, only = value_and_grad(loss, SAM(rho=0.3), argnums=1)(X, W["w"], W["b"])
    close(only, sam_by_hand(lambda w: loss(X, w, W["b"]), W["w"], 0.3)[1])


def test_auxiliary_output_is_that_of_the_pass_at_w() -> None:
    def loss(w: Any, x: Any) -> Any:
        return jnp.mean((x @ w) ** 2), {"w": w, "mean": jnp.mean(x)}

    w = jnp.ones((3, 1))
    (value, aux), gradients = jax.jit(value_and_grad(loss, SAM(rho=0.3), has_aux=True))(w, X)
    np.testing.assert_array_equal(aux["w"], w)
    np.testing.assert_allclose(value, jnp.mean((X @ w) ** 2), rtol=1e-6)
    close(gradients, sam_by_hand(lambda w: loss(w, X)[0], w, 0.3)[1])
    (_, aux), _ = value_and_grad(loss, SAM(rho=0.3).sharded(2), has_aux=True)(w, X)
    np.testing.assert_allclose(aux["mean"], X.reshape(4, 2, 3).mean((1, 2)), rtol=1e-5)


def gradients_traced(variant: Any, *batch: Any) -> int:
    """Count how often the loss is differentiated."""
    calls = []

    def loss(w: Any, *batch: Any) -> Any:
        calls.append(w)
        return jnp.sum(w**2) * (jnp.mean(batch[0]) if batch else 1.0)

    jax.make_jaxpr(value_and_grad(loss, variant))(jnp.ones(3), *batch)
    return len(calls)


def test_gradients_are_counted() -> None:
    assert gradients_traced(SAM()) == SAM().gradients_per_step == 2
    assert gradients_traced(SAM(steps=3)) == SAM(steps=3).gradients_per_step == 4
    assert gradients_traced(ASAM(steps=2)) == ASAM(steps=2).gradients_per_step == 3
    assert gradients_traced(SAM(rho=0.0)) == SAM(rho=0.0).gradients_per_step == 1
    assert gradients_traced(SAM().sharded(2), jnp.ones(8)) == 2 * 4


def test_a_step_costs_two_gradients_in_flops() -> None:
    def loss(params: Any, x: Any) -> Any:
        for w in params:
            x = jnp.tanh(x @ w)
        return jnp.mean(x**2)

    params, x = [jnp.ones((128, 128))] * 4, jnp.ones((256, 128))

    def flops(function: Any) -> float:
        analysis: Any = jax.jit(function).lower(params, x).compile().cost_analysis()
        return float(analysis["flops"])

    ratio = flops(value_and_grad(loss, SAM())) / flops(jax.value_and_grad(loss))
    assert ratio == pytest.approx(2, abs=0.02)


def test_rho_may_be_traced_and_compiles_once() -> None:
    traces = []

    @jax.jit
    def step(w: Any, rho: Any) -> Any:
        traces.append(rho)
        return value_and_grad(lambda w: jnp.sum(w**2) / 2, SAM(rho=rho))(w)

    for rho in (0.0, 0.5, 1.0):
        _, gradients = step(jnp.array([3.0, 4.0]), rho)
        np.testing.assert_allclose(gradients, [3 + 0.6 * rho, 4 + 0.8 * rho], rtol=1e-6)
    assert len(traces) == 1


def test_rho_zero_is_bitwise_value_and_grad() -> None:
    params, loss = TREES["dict"]
    for vg in (value_and_grad(loss, SAM(rho=0.0)), value_and_grad(loss, ASAM(rho=0.0))):
        for a, b in zip(jax.tree.leaves(vg(params)), jax.tree.leaves(jax.value_and_grad(loss)(params)), strict=True):
            np.testing.assert_array_equal(a, b)
    assert differs(value_and_grad(loss, SAM(rho=0.1))(params), jax.value_and_grad(loss)(params))


@pytest.mark.parametrize("p", [1, 1.5, 2, float("inf")])
def test_a_zero_gradient_is_left_alone_and_has_finite_derivatives(p: float) -> None:
    """For 2 < p < inf the maximiser has no derivative where a coordinate is zero: |v|^(q-1) is not even Lipschitz."""

    def loss(w: Any) -> Any:
        return jnp.sum(w**2)

    vg = value_and_grad(loss, SAM(rho=0.5, p=p))
    _, gradients = vg(jnp.zeros(3))
    np.testing.assert_array_equal(gradients, jnp.zeros(3))
    through = jax.grad(lambda w: jnp.sum(vg(w)[1] ** 2))
    assert np.isfinite(through(jnp.zeros(3))).all()
    assert np.isfinite(through(jnp.array([1.0, 0.0, -2.0]))).all()


def test_a_complex_leaf_climbs() -> None:
    """Negative control: without conjugation JAX's gradient points down along the imaginary axis."""

    def loss(z: Any) -> Any:
        return jnp.abs(z - 1j) ** 2

    z = jnp.array(1.0 + 0.5j)
    up, down = (z + 0.1 * d / jnp.abs(d) for d in (jnp.conj(jax.grad(loss)(z)), jax.grad(loss)(z)))
    _, gradient = value_and_grad(loss, SAM(rho=0.1))(z)
    assert loss(up) > loss(z)
    np.testing.assert_allclose(gradient, jax.grad(loss)(up), rtol=1e-5)
    assert not np.allclose(gradient, jax.grad(loss)(down), rtol=1e-3)
