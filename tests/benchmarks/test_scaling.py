"""`python -m benchmarks scaling`: its counters, its model's laws, its tables and its page. No time is asserted."""

import argparse
import io
import json
import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from torch import distributed

from benchmarks import scaling, scaling_jax, scaling_paper, scaling_runs, tables
from benchmarks.__main__ import main
from benchmarks.collectives_torch import Sent
from benchmarks.counting_jax import all_reduces, alone, sent, shape_bytes
from benchmarks.scaling_model import BUCKET, Link, Machine, Work, buckets, hidden_from, ring, step, tree, waited
from benchmarks.scaling_paper import DEVICES, MACHINES, WORKS, milliseconds
from benchmarks.scaling_runs import Place, torch_processes
from benchmarks.scaling_task import DEVICE, JAX_WAYS, JIT_SGD, JIT_WHOLE, PART, SGD, WAYS, WHOLE, Measured, Task
from benchmarks.workers import Worker, answers
from samfamily.division import division

ROOT = Path(__file__).parents[2]
TINY = Task((4, 400, 3), batch=16)

# ------------------------------------------------------------------------------------------------------------- counting


class Program:
    """What XLA says of a program that sums."""

    def __init__(self, text: str) -> None:
        self.text = text

    def as_text(self) -> str:
        return self.text


def test_bytes_are_those_of_every_array_that_is_summed() -> None:
    program: Any = Program(
        "%all-reduce = (f32[2,3]{1,0}, /*index=1*/bf16[5]{0}, f32[]) all-reduce(%a, %b, %c), replica_groups={{0,1}}\n"
        "%y = f32[7]{0} get-tuple-element(%all-reduce), index=0\n"
        "%s = f64[3]{0:T(256)} all-reduce-start(%y), replica_groups=[1,2]<=[2]\n"
        "%t = f32[9]{0} all-reduce(%s), replica_groups={{0},{1}}, to_apply=%add\n"
        "%g = f32[11]{0} all-gather(%t), replica_groups={{0,1}}"
    )
    assert sent(program) == [24 + 10 + 4, 24]
    assert all_reduces(program) == 2


@pytest.mark.parametrize(
    ("shape", "size"), [("f32[]", 4), ("pred[3]", 3), ("bf16[2,2]", 8), ("f8e4m3fn[5]", 5), ("c64[2]", 16), ("()", 0)]
)
def test_the_memory_of_a_shape(shape: str, size: int) -> None:
    assert shape_bytes(shape) == size


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ("{{0},{1}}", True),
        ("[8,1]<=[8]", True),
        ("mesh['axis_0'=8,'axis_1'=1] {'axis_1'}", True),
        ("{{0,1},{2,3}}", False),
        ("[2,4]<=[8]", False),
        ("mesh['axis_0'=8,'axis_1'=1] {'axis_0'}", False),
        ("mesh['axis_0'=8] {'axis_0':(1)4}", False),
        ("{}", False),
    ],
)
def test_a_sum_with_oneself_is_none(groups: str, expected: bool) -> None:
    assert alone(f"%a), channel_id=1, replica_groups={groups}, use_global_device_ids=true, to_apply=%add") is expected


def test_what_ddp_and_others_send_is_seen(tmp_path: Path) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 3))
        with Sent() as without:  # negative control: nothing is sent
            model(torch.ones(2, 4))
        with Sent() as counted:
            model(torch.ones(2, 4)).sum().backward()
            distributed.all_reduce(torch.ones(5, dtype=torch.float64))
    finally:
        distributed.destroy_process_group()
    assert without.bytes == []
    assert counted.bytes == [4 * 15, 40]


# ------------------------------------------------------------------------------------------------------------- measured


def counted(found: Sequence[Measured]) -> dict[str, tuple[int, int, int]]:
    return {way.way: (way.gradients, way.small, sum(way.sent)) for way in found}


def test_simulated_devices_send_twice_without_an_m_and_once_with_one() -> None:
    found = counted(
        [Measured(way, scaling_jax.step(TINY, way)[1], []) for way in JAX_WAYS]
    )  # on the eight devices of tests/conftest.py
    gradient = 4 * TINY.parameters
    assert [found[way][:2] for way in (WHOLE, JIT_WHOLE)] == [(2, 0)] * 2
    assert [found[way][:2] for way in (SGD, JIT_SGD, DEVICE, PART)] == [(1, 0)] * 4
    for way, (gradients, _, size) in found.items():
        assert gradients * gradient <= size <= gradients * (gradient + 4), way  # a loss goes along


def test_steps_by_hand_are_those_by_jit() -> None:
    """What is timed is what it is called."""
    network, ends = scaling_jax.trained(TINY), {}
    for way in (SGD, JIT_SGD, WHOLE, JIT_WHOLE):
        how, weights = scaling_jax.method(network, way, TINY.m(way, 8)), network.weights()
        after, *_ = jax.jit(how.update)(weights, how.init(weights), network.inputs())
        ends[way] = np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(after)])
    np.testing.assert_allclose(ends[SGD], ends[JIT_SGD], rtol=0, atol=1e-8)
    np.testing.assert_allclose(ends[WHOLE], ends[JIT_WHOLE], rtol=0, atol=1e-8)
    assert not np.allclose(ends[SGD], ends[WHOLE], rtol=0, atol=1e-7)  # negative control


def test_processes_send_twice_without_an_m_and_once_with_one() -> None:
    places = torch_processes(2).measure(TINY, rounds=2)
    found, gradient = counted(places), 4 * TINY.parameters
    assert found[SGD] == (1, 0, gradient)
    assert found[WHOLE] == (2, 1, 2 * gradient + 24)
    assert found[DEVICE] == found[PART] == (1, 2, gradient + 112)
    assert all(len(way.seconds) == 2 for way in places)


def test_an_m_is_one_that_the_division_knows() -> None:
    for place in scaling_runs.PLACES:
        on_each = Task().batch // place.devices
        assert division(Task().m(WHOLE, place.devices), on_each, place.devices).group == place.devices
        assert division(Task().m(DEVICE, place.devices), on_each, place.devices) == (1, 1)
        assert division(Task().m(PART, place.devices), on_each, place.devices) == (4, 1)


def test_workers_that_fail_or_hang_are_named_and_stopped() -> None:
    begin = time.monotonic()
    with pytest.raises(RuntimeError, match=r"no_such_module.*ended with status 1(?s:.*)No module named"):
        answers([Worker("this"), Worker("benchmarks.no_such_module")], limit=60)
    with pytest.raises(RuntimeError, match=r"http.server with 0 not done within 1\.5 s"):
        answers([Worker("http.server", 0)], limit=1.5)
    assert time.monotonic() - begin < 30
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "-m http.server 0" not in running


# ---------------------------------------------------------------------------------------------------------------- model

LINK = Link(bandwidth=25e9, latency=14e-6)
sizes = st.floats(1.0, 1e11)
numbers = st.integers(2, 10_000)


@given(sizes)
def test_one_device_sends_nothing(size: float) -> None:
    assert ring(1, size, LINK) == tree(1, size, LINK) == 0
    assert all(machine.all_reduce(1, size) == 0 for machine in MACHINES)


@given(numbers, sizes)
def test_half_the_bytes_or_twice_the_bandwidth_is_half_the_time_but_for_latency(devices: int, size: float) -> None:
    for all_reduce in (ring, tree):
        waiting = all_reduce(devices, 0.0, LINK)
        sending = all_reduce(devices, size, LINK) - waiting
        assert all_reduce(devices, size / 2, LINK) - waiting == pytest.approx(sending / 2, rel=1e-6, abs=1e-12)
        doubled = LINK._replace(bandwidth=2 * LINK.bandwidth)
        assert all_reduce(devices, size, doubled) - waiting == pytest.approx(sending / 2, rel=1e-6, abs=1e-12)


@given(numbers, sizes)
def test_more_devices_and_more_bytes_take_longer(devices: int, size: float) -> None:
    for link in (LINK, *(machine.inside for machine in MACHINES)):
        assert ring(devices, size, link) <= ring(devices, 2 * size, link)
        assert tree(devices, size, link) <= tree(devices, 2 * size, link)
    assert MACHINES[0].all_reduce(devices, size) <= MACHINES[0].all_reduce(devices, 2 * size)
    assert ring(devices, size, LINK) < ring(devices + 1, size, LINK)
    assert tree(devices, size, LINK) <= tree(devices + 1, size, LINK)
    assert tree(devices, size, LINK) <= ring(devices, size, LINK)
    assert tree(devices, size, LINK) < 2 * size / LINK.bandwidth + 2 * 14 * LINK.latency


def test_a_node_is_a_ring_and_nodes_of_one_are_a_tree() -> None:
    machine = MACHINES[0]
    assert machine.all_reduce(8, 1e9) == ring(8, 1e9, machine.inside)
    assert Machine("", 1, machine.inside, LINK).all_reduce(64, 1e9) == tree(64, 1e9, LINK)
    # Links that are all alike and have no latency: a hierarchy sends what one ring would.
    alike = Link(1e9, 0.0)
    assert Machine("", 8, alike, alike).all_reduce(64, 1e9) == pytest.approx(ring(64, 1e9, alike))


@given(st.integers(1, 40), st.floats(1e-6, 1.0), st.floats(0.0, 3.0))
def test_waiting_is_what_a_simulation_finds(number: int, size: float, backward: float) -> None:
    """Bucket after bucket: each is sent when it is ready, and those before it are sent."""
    pair = Machine("", 1, LINK, Link(bandwidth=1.0, latency=0.01))
    free = 0.0
    for i in range(1, number + 1):
        free = max(free, i / number * backward) + pair.all_reduce(2, size)
    found = waited(pair, 2, number * size, backward, bucket=size * (1 + 1e-9))
    assert found == pytest.approx(free - backward, rel=1e-6, abs=1e-9)


@given(st.sampled_from(WORKS), st.sampled_from(MACHINES), st.sampled_from(DEVICES), st.integers(1, 1024))
def test_steps_compare_as_they_must(work: Work, machine: Machine, devices: int, examples: int) -> None:
    there = work._replace(examples=examples)
    whole, apart = (step(machine, devices, there, averages, overlapped=True) for averages in (2, 1))
    late = step(machine, devices, there, 1, overlapped=False)
    assert whole.waits == 2 * apart.waits > 0
    assert 0 < apart.saves(whole) < 0.5
    assert late.saves(step(machine, devices, there, 2, overlapped=False)) > 0
    one_bucket = machine.all_reduce(devices, there.size / buckets(there.size))
    hides = examples >= hidden_from(machine, devices, there)
    assert (apart.waits == pytest.approx(one_bucket)) is hides
    if hides:  # what is sent at the end then waits longer than two averages that are hidden
        assert late.time > whole.time


def test_buckets_are_as_many_as_it_takes() -> None:
    assert [buckets(size) for size in (0.0, BUCKET, BUCKET + 1, 10 * BUCKET)] == [1, 1, 2, 10]


# ----------------------------------------------------------------------------------------------------------------- page


def test_the_tables_the_figures_and_the_plots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = [
        Measured(way, sent, [0.01 * (i + 1), 0.02 * (i + 1), 0.03 * (i + 1)])
        for i, (way, sent) in enumerate(zip(WAYS, ([60_000], [30_000, 30_000, 24], [60_000, 72], []), strict=True))
    ]
    monkeypatch.setattr(Place, "measure", lambda *_: told)
    output = io.StringIO()
    arguments = argparse.Namespace(paper=False, quick=False, out=tmp_path / "new", rounds=3)
    page = scaling.make(arguments, Console(file=output, width=120), TINY).read_text(encoding="utf-8")
    assert "| 8, b = 2 | SGD | 1 | 0 | 0.06 | 1, 20.0 ms |" in page
    assert "|  | SAM, no m | 2 | 1 | 0.06 | 2.00 (2.00 to 2.00) |" in page
    for part in ("SAM, m = b/4", "JAX, processes", "PyTorch, processes", "from b", "20.0 ms"):
        assert part in output.getvalue()
    kept = json.loads((tmp_path / "new" / "scaling.json").read_text(encoding="utf-8"))
    assert [place["devices"] for place in kept["measured"]] == [1, 2, 4, 8, 2, 1, 2]
    assert kept["measured"][0]["ways"][1]["sent"] == [30_000, 30_000, 24]
    for name in ("measured.png", "on-paper.png"):
        assert (tmp_path / "new" / name).stat().st_size > 10_000


def test_the_page_in_docs_has_the_models_numbers() -> None:
    text = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    for title, headings, rows in scaling_paper.tables():
        assert title in text
        assert tables.markdown(headings, rows) in text
    for line in scaling_paper.assumptions():
        assert line in text


def test_the_page_in_docs_counts_what_is_counted_here() -> None:
    text = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    gradient = f"{4 * Task().parameters / 1e6:.2f}"
    assert len(re.findall(rf"\| SAM, m = b \| 1 \| [02] \| {gradient} \|", text)) == 5


def test_the_model_alone_measures_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Place, "measure", None)
    assert main(["scaling", "--paper"]) == 0
    shown = capsys.readouterr().out
    assert "4096" in shown
    assert max(map(len, shown.splitlines())) <= 120
    assert milliseconds(0.0012345) == "1.2 ms"


@pytest.mark.parametrize(("option", "value"), [("--rounds", "0"), ("--out", __file__)])
def test_bad_values_are_named(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["scaling", option, value])
    assert stopped.value.code == 2
    assert value in capsys.readouterr().err
