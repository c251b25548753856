"""`python -m benchmarks faults`: every probe can pass, every probe can fail, and what the peer's known faults are."""

import argparse
import json
from pathlib import Path

import pytest

from benchmarks import faults, faults_torch
from benchmarks.__main__ import COMMANDS
from benchmarks.fault_table import Finding, NotOfferedError, Outcome, Probe, linked, markdown, total
from benchmarks.faults_torch import probes
from benchmarks.faults_torch.libraries import Library, Ours, PytorchOptimizer
from benchmarks.faults_torch.ranks import fully_sharded_in
from tests.benchmarks.toy_libraries import Careful, Careless, Toy
from tests.benchmarks.toy_mutants import MUTANTS, LocalNorm

PROBES = [probe for probe in probes() if probe.name != "fully_sharded"]  # that one starts processes
PEER_FAULTS = {  # of pytorch_optimizer 4.1.0, as measured by hand before there were probes, and since
    "standard_closure", "returned_loss", "lightning_closure", "step_without_closure", "exception_in_pass_two",
    "nan_in_pass_one", "nan_in_pass_two", "infinite_gradient_in_pass_one", "infinite_gradient_in_pass_two",
    "scaler_step", "closure_given_to_the_scaler", "overflow_in_pass_one", "overflow_in_pass_two",
    "perturbation_rounded_away", "tiny_gradients", "huge_gradients", "double_precision", "autocast_round_the_step",
    "batch_norm_statistics", "cumulative_batch_norm_statistics", "batches_counted_twice",
    "statistics_held_still_twice", "statistics_after_an_exception", "dropout_masks", "no_radius_with_buffers",
    "deep_copies", "pickles", "added_group", "passes_of_looksam",
}  # fmt: skip

each_probe = pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)


@each_probe
def test_a_careful_optimizer_passes(probe: Probe) -> None:
    outcome = probe(Toy(Careful))
    assert outcome.ok is True, outcome.detail


@each_probe
def test_a_faulty_optimizer_fails(probe: Probe) -> None:
    outcome = probe(MUTANTS.get(probe.name, Toy(Careless)))
    assert outcome.ok is False, outcome.detail


@each_probe
def test_the_peer_has_the_faults_that_were_measured_in_it(probe: Probe) -> None:
    outcome = probe(PytorchOptimizer())
    assert outcome.ok is (probe.name not in PEER_FAULTS), outcome.detail
    assert outcome.detail


@each_probe
def test_this_library_has_none_of_them(probe: Probe) -> None:
    outcome = probe(Ours())
    assert outcome.ok is True, outcome.detail


def test_the_norm_is_the_whole_models_across_two_ranks() -> None:
    careful, local, peer, ours = fully_sharded_in([Toy(Careful), Toy(LocalNorm), PytorchOptimizer(), Ours()])
    assert careful.ok, careful.detail
    assert ours.ok, ours.detail
    assert peer.ok, peer.detail
    assert local == (False, local.detail)


def test_names_are_unique_and_every_probe_says_where_and_why() -> None:
    names = [probe.name for probe in probes()]
    assert len(set(names)) == len(names)
    assert len({probe.title for probe in probes()}) == len(names)
    assert set(MUTANTS) | PEER_FAULTS <= set(names)
    for probe in probes():
        assert probe.where
        assert probe.topic
        assert probe.look.__doc__


def test_the_command_is_registered() -> None:
    assert "faults" in COMMANDS


def look_at(library: Library) -> Outcome:
    """A probe of these tests."""
    if library.name == "bare":
        raise NotOfferedError("nothing there")
    raise ValueError("first line\nsecond line")


def named(name: str) -> Library:
    library = Library()
    library.name = name
    return library


def test_an_error_is_a_finding_and_what_is_not_offered_is_none() -> None:
    probe = Probe("it holds", "anybody/anything#7", look_at)
    assert probe(named("bare")) == (None, "nothing there")
    assert probe(named("other")) == (False, "ValueError: first line")


def test_the_markdown_can_be_pasted() -> None:
    probe = Probe("a | b holds", "anybody/anything#7, nobody", look_at)
    outcomes = {"one": Outcome(True, "yes"), "two": Outcome(False, "no"), "three": Outcome(None, "absent")}
    finding = Finding(probe, outcomes)
    lines = markdown([finding], list(outcomes), "Made here.").splitlines()
    assert lines[0] == "| What must hold | Where users met the opposite | one | two | three |"
    assert r"| a \| b holds | [anybody/anything#7](https://github.com/anybody/anything/issues/7), nobody |" in lines[3]
    assert lines[3].endswith("| ✓ | ✗ | – |")
    assert [total([finding], name) for name in outcomes] == ["1/1", "0/1", "0/0"]
    assert lines[-1] == "Made here."
    assert linked("nobody") == "nobody"


def test_the_command_prints_the_table_and_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = [probe for probe in PROBES if probe.name in {"standard_closure", "passes_of_looksam"}]
    monkeypatch.setattr(faults_torch, "probes", lambda: chosen)
    monkeypatch.setattr(faults_torch, "libraries", lambda: [Toy(Careful), Toy(Careless)])
    parser = argparse.ArgumentParser()
    faults.add_arguments(parser)
    assert faults.main(parser.parse_args(["--output", str(tmp_path / "new")])) == 0
    printed = capsys.readouterr().out
    table = (tmp_path / "new" / "faults.md").read_text(encoding="utf-8")
    content = json.loads((tmp_path / "new" / "faults.json").read_text(encoding="utf-8"))
    for probe in chosen:
        assert probe.title in table
        assert probe.title in printed
    assert "✗ Careless: 2 passes a step" in printed
    assert content["libraries"] == ["Careful", "Careless"]
    assert [row["name"] for row in content["faults"]] == [probe.name for probe in chosen]
    assert content["faults"][1]["outcomes"]["Careful"] == {"ok": True, "detail": "1.2 passes a step"}
