"""Zero, infinite and undefined gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.fault_table import Outcome, all_of, fault
from benchmarks.faults_jax.libraries import RHO, Library, Loss, PyTree, looped
from benchmarks.faults_jax.task import LR, SGD, agree, norm, one_step, quadratic, same, vectors


@fault("A zero gradient is no 0/0: the base optimizer's step is all that happens", "google-deepmind/optax#1743")
def zero_gradient(library: Library) -> Outcome:
    """A dead layer or an empty batch divides by a norm of zero, and every weight is NaN."""
    base = optax.chain(optax.add_decayed_weights(0.5), SGD)
    found = one_step(library, library.trainer(lambda w: 0.0 * norm(w) ** 2, base, RHO), vectors())
    return agree(found, jax.tree.map(lambda w: np.asarray(w) * (1 - LR * 0.5), vectors()))


@fault("A zero gradient at the perturbed point is a gradient", "google-deepmind/optax#1743")
def zero_gradient_at_the_second_point(library: Library) -> Outcome:
    """A hinge is flat on the far side; what is not used there must not be NaN either, for 0 times NaN is NaN."""
    start = jnp.asarray(np.array([0.1], np.float32))  # climbing leads beyond the clip at 0.15
    found = one_step(library, library.trainer(lambda w: jnp.sum(jnp.clip(w, 0.0, 0.15)), SGD, RHO), start)
    return same(found, start)


@fault("NaN in pass 1 is seen by `optax.apply_if_finite`: weights and state are untouched", "davda54/sam#57")
def nan_in_pass_one(library: Library) -> Outcome:
    """One bad batch makes every weight NaN, because the perturbation touches all of them."""
    return _survives(library, _nan, at_home=True)


@fault("NaN in pass 2 is seen by `optax.apply_if_finite`: weights and state are untouched", "davda54/sam#57")
def nan_in_pass_two(library: Library) -> Outcome:
    """The guard looks at what `update` is handed; a gradient that is taken inside passes it by."""
    return _survives(library, _nan, at_home=False)


@fault("An infinite gradient with a finite loss in pass 1 is seen by `optax.apply_if_finite`", "davda54/sam#77")
def infinite_gradient_in_pass_one(library: Library) -> Outcome:
    """Rho / inf is 0, and so might be the perturbation."""
    return _survives(library, _overflowing, at_home=True)


@fault("An infinite gradient with a finite loss in pass 2 is seen by `optax.apply_if_finite`", "davda54/sam#77")
def infinite_gradient_in_pass_two(library: Library) -> Outcome:
    """What the base optimizer is handed must be finite."""
    return _survives(library, _overflowing, at_home=False)


def _nan(value: jax.Array, spoilt: jax.Array) -> jax.Array:
    return value * jnp.where(spoilt, jnp.nan, 1.0)


@jax.custom_vjp
def _overflowing(value: jax.Array, spoilt: jax.Array) -> jax.Array:
    """The value itself, with an infinite gradient: an overflow in the backward pass alone."""
    return value


_overflowing.defvjp(
    lambda value, spoilt: (value, spoilt), lambda spoilt, slope: (slope * jnp.where(spoilt, jnp.inf, 1.0), None)
)


def _survives(library: Library, spoil: Loss, *, at_home: bool) -> Outcome:
    """Take a good step, then one in which the pass at w, or the one that is not, goes wrong."""

    def loss(params: PyTree, home: PyTree, bad: Any) -> jax.Array:
        here = jnp.all(jnp.concatenate([a == b for a, b in zip(*map(jax.tree.leaves, (params, home)), strict=True)]))
        return spoil(quadratic(params), jnp.logical_and(bad, here if at_home else ~here))

    guarded = optax.apply_if_finite(library.optimizer(optax.sgd(LR, momentum=0.9), RHO), max_consecutive_errors=5)
    trainer = looped(library.value_and_grad(loss, RHO), guarded, library.keywords(loss))
    params, state = vectors(), trainer.init(vectors())
    for _ in range(library.calls):
        params, state, _ = trainer.call(params, state, vectors(), False)
    before, kept = params, state.inner_state
    for _ in range(library.calls):
        params, state, _ = trainer.call(params, state, before, True)
    return all_of(same(params, before), same(state.inner_state, kept, what="the state"))
