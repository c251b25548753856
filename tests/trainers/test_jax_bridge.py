"""The bridge inside optax's own combinators: chain, masked, multi_transform, MultiSteps; one call a step."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

from samfamily import ASAM, SAM, WSAM, LookSAM
from samfamily_jax import value_and_grad
from samfamily_jax.bridge import gradient_transformation, within
from tests.trainers.jax_by_hand import distance, sam

RHO, STEPS = 0.3, 3
X = jax.random.normal(jax.random.key(0), (8, 3))
Y = jnp.sin(jnp.sum(X, 1))
PARAMS = {"w": jnp.array([0.3, -0.2, 0.5]), "layer": {"b": jnp.array(0.1), "n": None}}
LABELS = {"w": "kernels", "layer": "biases"}


def loss_fn(params: Any, x: Any, y: Any) -> Any:
    return jnp.mean((jnp.tanh(x @ params["w"]) + params["layer"]["b"] - y) ** 2)


def at(x: Any, y: Any) -> Any:
    return jax.value_and_grad(lambda p: loss_fn(p, x, y))


def walk(tx: Any, steps: int = STEPS) -> Any:
    @jax.jit
    def step(params: Any, opt_state: Any) -> Any:
        f = at(X, Y)
        updates, opt_state = tx.update(f(params)[1], opt_state, params, value_and_grad_fn=within(params, f))
        return optax.apply_updates(params, updates), opt_state

    params, opt_state = PARAMS, tx.init(PARAMS)
    for _ in range(steps):
        params, opt_state = step(params, opt_state)
    return params


def by_hand(gradient: Any, base: Any) -> Any:
    @jax.jit
    def step(params: Any, opt_state: Any) -> Any:
        updates, opt_state = base.update(gradient(params), opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    params, opt_state = PARAMS, base.init(PARAMS)
    for _ in range(STEPS):
        params, opt_state = step(params, opt_state)
    return params


def test_in_a_chain_what_follows_sees_the_perturbed_gradient() -> None:
    """Round the identity the bridge hands on what the variant follows; there is no second optimizer."""
    clipped = optax.chain(optax.clip_by_global_norm(0.2), optax.adamw(0.1))
    climbing = gradient_transformation(optax.identity(), SAM(RHO))
    expected = by_hand(lambda p: sam(at(X, Y), p, RHO)[1], clipped)
    assert distance(walk(optax.chain(climbing, clipped)), expected) < 1e-6
    assert distance(by_hand(lambda p: at(X, Y)(p)[1], clipped), expected) > 1e-2  # negative control


def test_two_groups_follow_two_variants_in_balls_of_their_own() -> None:
    groups = {"kernels": ASAM(0.5), "biases": SAM(RHO)}
    base = optax.sgd(0.1, momentum=0.9)
    tx = optax.multi_transform({name: gradient_transformation(base, v) for name, v in groups.items()}, LABELS)

    def gradient(params: Any) -> Any:
        _, w = value_and_grad(lambda w: loss_fn({**params, "w": w}, X, Y), groups["kernels"])(params["w"])
        _, layer = value_and_grad(lambda b: loss_fn({**params, "layer": b}, X, Y), groups["biases"])(params["layer"])
        return {"w": w, "layer": layer}

    expected = by_hand(gradient, base)
    assert distance(walk(tx), expected) < 1e-6
    together = by_hand(lambda p: sam(at(X, Y), p, RHO)[1], base)
    assert distance(together, expected) > 1e-2  # negative control: one ball for both


@pytest.mark.parametrize("mask", [{"w": True, "layer": False}, {"w": True, "layer": {"b": False, "n": False}}])
def test_a_part_may_climb_and_the_rest_be_frozen(mask: Any) -> None:
    climbing = gradient_transformation(optax.sgd(0.1), LookSAM(RHO, k=2))
    frozen = jax.tree.map(lambda part: not part, mask)
    after = walk(optax.chain(optax.masked(climbing, mask), optax.masked(optax.set_to_zero(), frozen)))
    assert distance(after["layer"], PARAMS["layer"]) == 0
    assert distance(after["w"], PARAMS["w"]) > 1e-2


def test_a_part_without_the_whole_is_refused() -> None:
    climbing = gradient_transformation(optax.sgd(0.1), SAM(RHO))
    tx, f = optax.masked(climbing, {"w": True, "layer": False}), at(X, Y)
    with pytest.raises(ValueError, match=r"MaskedNode.*value_and_grad_fn=samfamily_jax\.bridge\.within\(params, f\)"):
        tx.update(f(PARAMS)[1], tx.init(PARAMS), PARAMS, value_and_grad_fn=f)
    climbing.update(f(PARAMS)[1], climbing.init(PARAMS), PARAMS, value_and_grad_fn=f)  # the whole needs nothing


def test_multi_steps_climbs_the_mean_and_asks_the_last_function() -> None:
    """MultiSteps hands over the mean gradient of all mini-steps, and the `value_and_grad_fn` of the last one."""
    base, parts = optax.sgd(0.1), [(X[:4], Y[:4]), (X[4:], Y[4:])]
    tx = optax.MultiSteps(gradient_transformation(base, SAM(RHO)), 2)

    def run(functions: Any) -> Any:
        params, state = PARAMS, tx.init(PARAMS)
        for part, f in zip(parts, functions, strict=True):
            updates, state = tx.update(at(*part)(params)[1], state, params, value_and_grad_fn=f)
            params = optax.apply_updates(params, updates)
        return params

    last, whole = jax.jit(lambda: run([at(*part) for part in parts]))(), jax.jit(lambda: run([at(X, Y)] * 2))()
    _, mean = at(X, Y)(PARAMS)
    norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(mean)))
    point = jax.tree.map(lambda w, g: w + RHO * g / norm, PARAMS, mean)

    def stepped(f: Any) -> Any:
        return jax.tree.map(lambda w, g: w - 0.1 * g, PARAMS, f(point)[1])

    assert distance(whole, stepped(at(X, Y))) < 1e-6
    assert distance(last, stepped(at(*parts[1]))) < 1e-6
    assert distance(last, whole) > 1e-3  # negative control: they are not the same


def test_multi_steps_pays_for_the_second_gradient_at_every_mini_step() -> None:
    """What docs/trainers.md warns of: it computes the inner update each time, and throws it away until the last."""
    evaluated: list[Any] = []

    def f(params: Any) -> Any:
        jax.debug.callback(evaluated.append, params["w"])
        return at(X, Y)(params)

    tx = optax.MultiSteps(gradient_transformation(optax.sgd(0.1), SAM(RHO)), 4)
    step = jax.jit(lambda g, state: tx.update(g, state, PARAMS, value_and_grad_fn=f))
    state = tx.init(PARAMS)
    for _ in range(3):
        _, state = step(at(X, Y)(PARAMS)[1], state)
    jax.effects_barrier()
    assert len(evaluated) == 3
    assert state.gradient_step == 0


def test_what_is_added_after_the_base_step_follows_a_schedule() -> None:
    """Decoupled WSAM, w - eta_t (g + a (h - g)); kills the mutant that looks the rate up a step too late."""

    def rate(step: Any) -> Any:
        return 0.1 / (1 + step)

    gamma = 0.6
    found = walk(gradient_transformation(optax.sgd(rate), WSAM(RHO, gamma), rate))
    expected, f = PARAMS, at(X, Y)
    for step in range(STEPS):
        g, h, a = f(expected)[1], sam(f, expected, RHO)[1], gamma / (1 - gamma)
        move = jax.tree.map(lambda u, v, a=a: u + a * (v - u), g, h)
        expected = jax.tree.map(lambda w, x, step=step: w - rate(step) * x, expected, move)
    assert distance(found, expected) < 1e-6
    assert distance(found, walk(gradient_transformation(optax.sgd(rate), WSAM(RHO, gamma), 0.1))) > 1e-4


def test_other_keywords_are_handed_on() -> None:
    told = []

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        told.append((extra, params))
        return updates, state

    base = optax.GradientTransformationExtraArgs(lambda params: (), update)
    tx = gradient_transformation(base, SAM(RHO))
    f = at(X, Y)
    tx.update(f(PARAMS)[1], tx.init(PARAMS), PARAMS, value_and_grad_fn=f, value=3.0)
    assert told[0] == ({"value": 3.0}, PARAMS)


def test_what_the_bridge_cannot_do_is_refused() -> None:
    with pytest.raises(ValueError, match="m = 4 shards the batch, which update has not: use value_and_grad"):
        gradient_transformation(optax.sgd(0.1), SAM(RHO).sharded(4))
    with pytest.raises(ValueError, match="pass its learning_rate"):
        gradient_transformation(optax.sgd(0.1), WSAM(RHO))
    tx, f = gradient_transformation(optax.sgd(0.1), SAM(RHO)), at(X, Y)
    with pytest.raises(ValueError, match="update needs the parameters"):
        tx.update(f(PARAMS)[1], tx.init(PARAMS), value_and_grad_fn=f)
