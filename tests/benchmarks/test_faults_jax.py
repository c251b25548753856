"""`python -m benchmarks faults --backend jax`: every probe can pass and fail, and what optax's faults are."""

import argparse
import json
from pathlib import Path

import pytest

from benchmarks import faults, faults_jax
from benchmarks.fault_table import Probe
from benchmarks.faults_jax import devices, probes
from benchmarks.faults_jax.libraries import Library
from tests.benchmarks.toy_jax import MUTANTS, Naive
from tests.jax.probed import OPAQUE, OURS, TRANSPARENT, fails, holds, look

FAULTS_OF_BOTH = {  # of optax 0.2.8, in either mode
    "normalised_by_default", "signs", "masked_ascent", "schedule_of_rho", "zero_gradient", "nan_in_pass_two",
    "infinite_gradient_in_pass_two", "norm_in_float16", "tiny_gradients", "huge_gradients",
    "perturbation_rounded_away", "leaves_that_are_no_floats", "float0_leaves", "complex_leaves",
}  # fmt: skip
OPAQUE_FAULTS = FAULTS_OF_BOTH | {
    "train_state", "nnx_optimizer", "multi_transform", "clipping_in_a_chain", "accumulation",
}  # fmt: skip
TRANSPARENT_FAULTS = FAULTS_OF_BOTH | {
    "turns_are_steps", "one_batch_for_a_step", "donation", "no_radius", "no_climbing", "frozen_leaves",
    "zero_gradient_at_the_second_point", "several_dtypes", "comes_home", "returned_loss",
    "statistics_move_once", "nnx_statistics", "dropout_masks",
}  # fmt: skip
NOT_IN_OPTAX = {
    "second_order", "units_of_weights", "surrogate_gap", "shards_equal_a_loop", "no_convolution_in_a_loop",
    "no_grouped_convolution", "idle_steps", "figures",
}  # fmt: skip
PEERS: dict[Library, set[str]] = {OPAQUE: OPAQUE_FAULTS, TRANSPARENT: TRANSPARENT_FAULTS}
NAMED = {probe.name: probe for probe in probes()}

each_probe = pytest.mark.parametrize(
    "probe", [probe for probe in probes() if probe not in devices.PROBES], ids=lambda probe: probe.name
)


@each_probe
def test_this_library_has_none_of_them(probe: Probe) -> None:
    holds(probe)


@pytest.mark.parametrize(
    ("peer", "name"),
    [(peer, name) for peer in PEERS for name in sorted(PEERS[peer])],
    ids=lambda x: getattr(x, "name", x),
)
def test_optax_has_the_faults_that_were_measured_in_it(peer: Library, name: str) -> None:
    """Which also shows that these probes can fail."""
    assert fails(NAMED[name], peer)


@pytest.mark.parametrize("name", sorted(NOT_IN_OPTAX))
def test_what_optax_does_not_offer_is_no_fault(name: str) -> None:
    assert [look(NAMED[name], peer).ok for peer in PEERS] == [None, None]


@pytest.mark.parametrize("name", MUTANTS)
def test_a_faulty_library_fails(name: str) -> None:
    assert fails(NAMED[name], MUTANTS[name])


def test_on_four_devices() -> None:
    """One process for both: starting it is what takes the time."""
    ours, naive = devices.on_four_devices([OURS, Naive()])
    for name in (probe.name for probe in devices.PROBES):
        assert ours[name].ok is True, ours[name].detail
        assert naive[name].ok is False, naive[name].detail


def test_every_probe_can_fail_and_says_where_and_why() -> None:
    names = [probe.name for probe in probes()]
    assert len(set(names)) == len(names) == len({probe.title for probe in probes()})
    assert set(names) == OPAQUE_FAULTS | TRANSPARENT_FAULTS | set(MUTANTS) | {probe.name for probe in devices.PROBES}
    for probe in probes():
        assert probe.where
        assert probe.topic
        assert probe.look.__doc__


def test_the_command_takes_jax(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = [probe for probe in probes() if probe.name in {"turns_are_steps", "figures"}]
    monkeypatch.setattr(faults_jax, "probes", lambda: chosen)
    parser = argparse.ArgumentParser()
    faults.add_arguments(parser)
    assert faults.main(parser.parse_args(["--backend", "jax", "--output", str(tmp_path)])) == 0
    content = json.loads((tmp_path / "faults.json").read_text(encoding="utf-8"))
    names = content["libraries"]
    assert names[0] == "samfamily"
    assert [name.split()[-1] for name in names[1:]] == ["opaque", "transparent"]
    assert [[row["outcomes"][name]["ok"] for name in names] for row in content["faults"]] == [
        [True, True, False],
        [True, None, None],
    ]
