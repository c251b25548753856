"""What users reported about cost, devices, and knowing what happens: numbers 7, 8 and 14 to 20 of the list."""

from typing import Any

import jax
import numpy as np
import pytest

from benchmarks.faults_jax import ascent, cost, devices, loops, shards
from benchmarks.faults_jax.libraries import RHO
from benchmarks.faults_jax.task import BATCHES, fit, network
from samfamily import FAMILY, SAM
from samfamily_jax import sharpness_aware
from tests.benchmarks.toy_jax import Mapping, Scanning
from tests.jax.probed import OURS, fails, holds

BATCH = BATCHES[0]


def passes(variant: Any, steps: int) -> int:
    """How many gradients a run of these steps computes, counted as it runs."""
    counted: list[int] = []

    def loss(params: Any, x: Any, y: Any) -> Any:
        jax.debug.callback(lambda: counted.append(1))
        return fit(params, x, y)

    sa = sharpness_aware(loss, variant)
    step, state = jax.jit(sa.value_and_grad), sa.init(network())
    for _ in range(steps):
        _, state = step(network(), state, *BATCH)
    jax.effects_barrier()
    return len(counted)


@pytest.mark.parametrize("row", ["SAM", "LookSAM", "PeriodicSAM", "MSAM"])
def test_a_step_costs_what_the_row_says(row: str) -> None:
    """14. davda54/sam#69: SAM is too expensive, and cheap variants cost as much."""
    variant = FAMILY[row]()
    assert passes(variant, 5) == pytest.approx(5 * variant.gradients_per_step)
    if row == "LookSAM":
        holds(cost.idle_steps, cost.operations_of_sam, cost.compiles_once)


def test_the_variants_that_were_wished_for_are_there() -> None:
    """15. keras-team/keras#16335, davda54/sam#22, davda54/sam#72, kozistr/pytorch_optimizer#424."""
    holds(ascent.units_of_weights, ascent.surrogate_gap)
    for row in ("ASAM", "GSAM", "FriendlySAM", "LookSAM", "FisherSAM"):
        sa = sharpness_aware(fit, FAMILY[row]())
        (loss, g), _ = sa.value_and_grad(network(), sa.init(network()), *BATCH)
        assert np.isfinite(loss)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(g))


def test_no_convolution_goes_into_a_loop_on_a_cpu() -> None:
    """16. jax-ml/jax#12868: 16 s instead of 3 ms."""
    assert fails(shards.no_convolution_in_a_loop, Scanning())[0] != "0"
    holds(shards.no_convolution_in_a_loop)


def test_shards_make_no_grouped_convolutions() -> None:
    """17. openxla/xla#47945, jax-ml/jax#20683: a vmapped kernel becomes a group, on every device."""
    assert fails(shards.no_grouped_convolution, Mapping())[0] != "0"
    holds(shards.no_grouped_convolution)


def test_m_and_the_number_of_devices_are_two_things() -> None:
    """8. google-research/sam#8: with four devices instead of eight, m doubled, and the result was another."""
    holds(devices.m_of_its_own)


def test_whether_devices_share_a_perturbation_is_said_and_not_inferred() -> None:
    """7. davda54/sam#18, davda54/sam#38, davda54/sam#83: is the first gradient averaged over devices?"""
    holds(devices.one_perturbation, devices.m_of_its_own)


def test_gradients_under_shard_map_are_not_summed_unasked() -> None:
    """18. jax-ml/jax#3970, jax-ml/jax#19175, jax-ml/jax#18711: gradients and psum inside SPMD maps."""
    holds(devices.under_shard_map)


def test_the_official_update_is_reproduced() -> None:
    """19. google-research/sam#5, google-research/sam#12: the repository does not run, and is not maintained."""
    holds(loops.official_update)


def test_a_step_tells_whether_it_climbed_and_what_it_found() -> None:
    """20. broadinstitute/permutect#243, HomebrewNLP/Olmax#59: "SAM did not help", and it was never on."""
    holds(cost.figures)
    sa = sharpness_aware(fit, SAM(rho=lambda step: RHO * (step >= 2)))
    step, state, active = jax.jit(sa.with_info), sa.init(network()), []
    for _ in range(3):
        _, state, info = step(network(), state, *BATCH)
        active.append((bool(info.active), float(info.perturbed_loss) > float(info.loss)))
    assert active == [(False, False), (False, False), (True, True)]
    assert OURS.figures(fit, RHO)(network(), *BATCH).gradient_evaluations == 2
