"""What users of SAM in any framework reported most often, as far as one device shows it: numbers 1 to 6 and 9 to 13."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks.faults_jax import ascent, loops, models, nonfinite, precision, settings, shards, trees
from benchmarks.faults_jax.libraries import RHO
from benchmarks.faults_jax.task import BATCHES, agree, at_worst, fit, network, norm
from samfamily import ASAM, FAMILY, GSAM, SAM, Variant
from samfamily_jax import sharpness_aware, value_and_grad
from tests.jax.probed import TRANSPARENT, fails, holds

BATCH = BATCHES[0]


@pytest.mark.parametrize("variant", [SAM(rho=0.0), ASAM(rho=0.0), GSAM(rho=0.0, alpha=0.0), SAM(rho=0.0).sharded(8)])
def test_settings_that_mean_nothing_change_nothing(variant: Variant) -> None:
    """1. google-deepmind/optax#1788, davda54/sam#80: rho = 0 is not the base optimizer."""
    vg = jax.jit(value_and_grad(fit, variant, batch_argnums=(1, 2)))
    plain = jax.jit(jax.value_and_grad(fit))
    jax.tree.map(np.testing.assert_array_equal, vg(network(), *BATCH), plain(network(), *BATCH))
    holds(settings.no_radius)


@pytest.mark.parametrize("row", ["SAM", "ASAM", "GSAM", "GNP", "StableSAM", "SAMPa", "FriendlySAM", "VaSSO"])
def test_a_zero_gradient_is_zero_for_every_kind_of_row(row: str) -> None:
    """2. google-deepmind/optax#1743: 0 / 0 makes every weight NaN."""
    sa = sharpness_aware(lambda w: 0.0 * jnp.sum(w**2), FAMILY[row]())
    step, w = jax.jit(sa.value_and_grad), jnp.ones(3)
    (_, first), state = step(w, sa.init(w))
    (_, second), _ = step(w, state)
    np.testing.assert_array_equal([first, second], np.zeros((2, 3)))
    holds(nonfinite.zero_gradient)


def test_a_scan_may_donate_all_that_it_carries() -> None:
    """3. google-deepmind/optax#1059: a state that holds what the loop holds is donated twice."""
    sa, tx = sharpness_aware(fit, FAMILY["LookSAM"](k=2)), optax.adam(0.1)

    def body(carry: Any, batch: Any) -> Any:
        params, opt_state, state = carry
        (loss, g), state = sa.value_and_grad(params, state, *batch)
        updates, opt_state = tx.update(g, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state, state), loss

    batches = tuple(jnp.stack(parts) for parts in zip(*BATCHES, strict=True))
    run: Any = jax.jit(lambda carry: jax.lax.scan(body, carry, batches), donate_argnums=0)
    carry = (network(), tx.init(network()), sa.init(network()))
    carry, _ = run(carry)
    _, losses = run(carry)
    assert np.isfinite(losses).all()
    holds(loops.donation, loops.scanned)


def test_loops_of_flax_and_equinox_stay_as_they_are() -> None:
    """4. google/flax#4471, google/flax#4545, google/flax#4144, google-deepmind/penzai#126: extra arguments get lost."""
    holds(loops.train_state, loops.nnx_optimizer)
    model = eqx.nn.Linear(4, 2, key=jax.random.key(0))
    tx = optax.sgd(0.1)

    @eqx.filter_jit(donate="all-except-first")
    def step(batch: Any, model: Any, opt_state: Any) -> Any:
        def loss(model: Any) -> jax.Array:
            return jnp.mean((jax.vmap(model)(batch[0]) - batch[1]) ** 2)

        value, g = value_and_grad(loss, SAM(rho=RHO))(model)
        updates, opt_state = tx.update(g, opt_state, eqx.filter(model, eqx.is_inexact_array))
        return eqx.apply_updates(model, updates), opt_state, value

    opt_state, losses = tx.init(eqx.filter(model, eqx.is_inexact_array)), []
    for _ in range(5):
        model, opt_state, value = step(BATCH, model, opt_state)
        losses.append(float(value))
    assert losses[-1] < losses[0]


def test_an_nnx_module_is_merged_as_a_copy() -> None:
    """5. google/flax#5050, AI-Hypercomputer/maxtext#4734: "cannot mutate from a different trace level"."""
    fails(models.nnx_statistics, TRANSPARENT)
    holds(models.nnx_statistics)


def test_statistics_and_keys_are_those_of_one_pass() -> None:
    """6. davda54/sam#17, davda54/sam#30, davda54/sam#40, team-approx-bayes/bayesian-sam#2: both passes move them."""
    for probe in (models.statistics_move_once, models.dropout_masks, models.returned_loss):
        fails(probe, TRANSPARENT)
        holds(probe)


def test_one_norm_for_all_that_is_perturbed() -> None:
    """9. google-research/sam#13, mueller-mp/SAM-ON#1: a norm per tensor, or one that counts what is masked."""
    holds(ascent.one_norm, ascent.masked_ascent, precision.several_dtypes)
    _, g = value_and_grad(fit, SAM(rho=RHO))(network(), *BATCH)
    leaf_by_leaf = jax.tree.map(lambda w, d: w + RHO * d / norm(d), network(), jax.grad(fit)(network(), *BATCH))
    assert not agree(g, jax.grad(fit)(leaf_by_leaf, *BATCH)).ok  # negative control: another gradient


def test_the_gradient_is_that_at_the_perturbed_point() -> None:
    """10. google-research/sam#14: with respect to w, or to w + eps?"""
    holds(ascent.gradient_at_the_perturbed_point, ascent.second_order)
    first, full = (value_and_grad(fit, SAM(rho=RHO, second_order=x))(network(), *BATCH)[1] for x in (False, True))
    assert agree(first, jax.grad(fit)(at_worst(fit, network(), *BATCH), *BATCH)).ok
    assert not agree(first, full).ok  # negative control: the question has two answers


def test_decay_is_climbed_where_it_is_a_part_of_the_loss() -> None:
    """11. davda54/sam#52: weight decay in the first pass, in the second, in both?"""
    holds(ascent.decoupled_decay, ascent.decay_in_the_loss)


@pytest.mark.parametrize("m", [1, 2, 4, 8])
def test_accumulation_means_one_of_two_things_and_both_can_be_said(m: int) -> None:
    """12. davda54/sam#3, davda54/sam#62, nblt/F-SAM#3, google-deepmind/optax#320, google-deepmind/optax#596."""
    _, sharded = value_and_grad(fit, SAM(rho=RHO).sharded(m), batch_argnums=(1, 2))(network(), *BATCH)
    one = value_and_grad(fit, SAM(rho=RHO))
    parts = [one(network(), *(x[i : i + m] for x in BATCH))[1] for i in range(0, 8, m)]
    assert agree(sharded, jax.tree.map(lambda *g: sum(g) / len(g), *parts)).ok
    assert agree(sharded, one(network(), *BATCH)[1]).ok is (m == 8)
    if m == 2:
        holds(shards.shards_equal_a_loop, loops.accumulation)


def test_half_precision_and_loss_scales_do_not_change_the_radius() -> None:
    """13. huggingface/pytorch-image-models#1366, dydjw9/Efficient_SAM#4, facebookresearch/fairscale#989."""
    for probe in (precision.norm_in_float16, precision.perturbation_rounded_away):
        fails(probe, TRANSPARENT)
        holds(probe)
    holds(precision.tiny_gradients, precision.huge_gradients, precision.loss_scale)
    holds(nonfinite.nan_in_pass_one, nonfinite.nan_in_pass_two)
    holds(nonfinite.infinite_gradient_in_pass_one, nonfinite.infinite_gradient_in_pass_two)


def test_padding_is_left_out_of_both_gradients() -> None:
    """mlcommons/algorithmic-efficiency#325: the second gradient was divided by the padded size."""

    def loss(params: Any, x: Any, y: Any, weight: Any) -> jax.Array:
        each = jnp.mean((jnp.tanh(x @ params["hidden"]) @ params["out"] - y) ** 2, axis=1)
        return jnp.sum(each * weight) / jnp.sum(weight)

    valid = jnp.arange(8) < 5
    _, padded = value_and_grad(loss, SAM(rho=RHO))(network(), *BATCH, valid)
    _, short = value_and_grad(fit, SAM(rho=RHO))(network(), *(x[:5] for x in BATCH))
    assert agree(padded, short).ok
    assert not agree(padded, value_and_grad(fit, SAM(rho=RHO))(network(), *BATCH)[1]).ok


def test_every_kind_of_leaf_is_taken() -> None:
    """int, bool, key, None, float0, empty, 0-d and complex leaves, and a tree of nothing."""
    holds(trees.leaves_that_are_no_floats, trees.float0_leaves, trees.empty_and_scalar_leaves)
    holds(trees.empty_tree, trees.complex_leaves)
