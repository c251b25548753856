"""The ten traps of optax.contrib.sam 0.2.8, as measured in it: a test for each says that there is no such trap here.

The probe is that of `python -m benchmarks faults --backend jax`; each test shows that the peer falls into the trap, and
asks for more of this library than the probe does.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks.faults_jax import ascent, loops, nonfinite, settings
from benchmarks.faults_jax.libraries import RHO
from benchmarks.faults_jax.task import BATCHES, SGD, agree, fit, length, network, perturbation, quadratic, vectors
from samfamily import FAMILY, SAM, SAMON, VaSSO
from samfamily_jax import sharpness_aware, value_and_grad
from tests.jax.probed import OPAQUE, OURS, TRANSPARENT, fails, holds


def test_one_call_is_one_step_on_one_batch() -> None:
    """a. optax 0.2.8: two calls a step, on two batches, and every counter runs at half speed."""
    assert "counted 3 of 6" in fails(loops.turns_are_steps, TRANSPARENT)
    fails(loops.one_batch_for_a_step, TRANSPARENT)
    holds(loops.turns_are_steps, loops.one_batch_for_a_step)
    sa = sharpness_aware(fit, VaSSO())
    step, state = jax.jit(sa.value_and_grad), sa.init(network())
    for batch in BATCHES[:3]:
        _, state = step(network(), state, *batch)
    assert int(state.step) == 3


def test_a_trainer_that_hands_no_keywords_on_is_enough() -> None:
    """b. google/flax#4471, google/flax#4545, google-deepmind/penzai#126: `update` wants the loss's gradient."""
    assert "grad_fn must be provided" in fails(loops.train_state, OPAQUE)
    fails(loops.nnx_optimizer, OPAQUE)
    holds(loops.train_state, loops.nnx_optimizer)


def test_an_optimizer_for_each_group_sees_no_placeholders() -> None:
    """c. optax 0.2.8: inside `multi_transform` the gradient function is called with MaskedNodes."""
    assert "MaskedNode" in fails(loops.multi_transform, OPAQUE)
    holds(loops.multi_transform, loops.accumulation, loops.clipping_in_a_chain)


def test_no_state_holds_the_parameters_themselves() -> None:
    """d. google-deepmind/optax#1059: "attempt to donate the same buffer twice"."""
    assert "donate" in fails(loops.donation, TRANSPARENT)
    holds(loops.donation)
    for name in ("LookSAM", "VaSSO", "MSAM", "SSAMD"):
        sa = sharpness_aware(quadratic, FAMILY[name]())
        params = vectors()
        _, state = jax.jit(sa.value_and_grad)(params, sa.init(params))
        buffers = [x.unsafe_buffer_pointer() for x in jax.tree.leaves((params, state))]
        assert len(set(buffers)) == len(buffers), name


def test_what_is_not_chosen_may_be_nan() -> None:
    """e. google-deepmind/optax#1743: a choice by `c * a + (1 - c) * b` leaks NaN from the side that is not taken."""
    fails(nonfinite.zero_gradient_at_the_second_point, TRANSPARENT)
    holds(nonfinite.zero_gradient, nonfinite.zero_gradient_at_the_second_point)
    sa = sharpness_aware(lambda w, x: jnp.sum(w * x), FAMILY["LookSAM"](k=2))
    step, w = jax.jit(sa.value_and_grad), jnp.ones(2)
    state = sa.init(w)
    for _ in range(3):  # with and without a climb, LookSAM divides by lengths that are zero here
        (_, g), state = step(w, state, jnp.zeros(2))
        np.testing.assert_array_equal(g, jnp.zeros(2))


@pytest.mark.parametrize("variant", [SAM(rho=0.0), SAM(rho=lambda step: 0.0 * step), FAMILY["PeriodicSAM"](rho=0.0)])
def test_no_climb_is_the_base_optimizer_bit_by_bit(variant: Any) -> None:
    """f. google-deepmind/optax#1788: `sync_period=1` undoes the step before."""
    sa = sharpness_aware(fit, variant)
    _, expected = jax.jit(jax.value_and_grad(fit))(network(), *BATCHES[0])
    (_, found), _ = jax.jit(sa.value_and_grad)(network(), sa.init(network()), *BATCHES[0])
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_the_setting_for_no_climb() -> None:
    """f. google-deepmind/optax#1788, in a training loop."""
    fails(settings.no_climbing, TRANSPARENT)
    holds(settings.no_climbing)


def test_a_schedule_of_rho_moves() -> None:
    """g. optax 0.2.8: the ascent's counter is made anew at every step: .1, .1, .1, .1 instead of .1, .2, .3, .4."""
    fails(ascent.schedule_of_rho, OPAQUE)
    fails(ascent.schedule_of_rho, TRANSPARENT)
    holds(ascent.schedule_of_rho)
    sa = sharpness_aware(quadratic, SAM(rho=optax.linear_schedule(0.1, 0.3, 2)))
    step, state, told = jax.jit(sa.with_info), sa.init(vectors()), []
    for _ in range(3):
        _, state, info = step(vectors(), state)
        told.append(float(info.radius))
    np.testing.assert_allclose(told, [0.1, 0.2, 0.3], rtol=1e-6)


def test_a_masked_leaf_is_not_moved_by_its_raw_gradient() -> None:
    """h. optax 0.2.8: `masked(ascent)` hands the gradient of what it excludes through, as a perturbation."""
    fails(ascent.masked_ascent, OPAQUE)
    fails(ascent.masked_ascent, TRANSPARENT)
    holds(ascent.masked_ascent)
    mask = {"hidden": True, "out": False}
    variant = SAMON(rho=RHO, size=None)
    _, g = jax.jit(value_and_grad(fit, variant, normalisation=mask))(network(), *BATCHES[0])
    _, only = value_and_grad(lambda w, x, y: fit({"hidden": w, "out": network()["out"]}, x, y), SAM(rho=RHO))(
        network()["hidden"], *BATCHES[0]
    )
    assert agree(g["hidden"], only).ok
    assert float(jnp.abs(g["out"]).max()) > 0  # it is trained all the same


def test_the_radius_cannot_be_forgotten() -> None:
    """i. optax 0.2.8: `sam(optimizer, sgd(rho))` perturbs by rho times the gradient, 0.707 instead of 0.1."""
    for peer in (OPAQUE, TRANSPARENT):
        fails(ascent.normalised_by_default, peer)
    holds(ascent.normalised_by_default)
    for scale in (1e-20, 1.0, 1e20):
        found = perturbation(OURS, lambda loss: OURS.trainer(loss, SGD, 0.1), quadratic, vectors(), scale)
        assert length(found) == pytest.approx(0.1, rel=1e-5)


def test_a_climb_along_signs_is_asked_for_by_its_name() -> None:
    """j. optax 0.2.8, its notebook: Adam as the adversary is nearly `SAM(p=inf)`, and rho is not its radius."""
    fails(ascent.signs, OPAQUE)
    holds(ascent.signs)
    infinite = perturbation(OURS, lambda loss: OURS.signs(loss, SGD, RHO), fit, network(), *BATCHES[0])
    assert length(infinite, q=float("inf")) == pytest.approx(RHO, rel=1e-5)
