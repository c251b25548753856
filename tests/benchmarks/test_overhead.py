"""`python -m benchmarks overhead`: its counter, its way of timing, its contenders and its page. No time is asserted."""

import argparse
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

from benchmarks import contest, overhead, overhead_torch
from benchmarks.__main__ import main
from benchmarks.comparison import Compared, Counted, Goal, absent_rows, compared_row, counted_row, unit_rows
from benchmarks.contest import Ratio, in_turn, relative
from benchmarks.counting import Count
from benchmarks.overhead_torch import CHEAP, TASKS, Task, Training, cheap_contenders, contenders, contests, counts
from samfamily import SAM

# ------------------------------------------------------------------------------------------------------------- counting

X, Y = torch.ones(10), torch.ones(10)
LISTS = [torch.ones(10), torch.ones(5)]


CALLS: dict[str, tuple[Callable[[], object], int, int]] = {
    "sum": (lambda: X + Y, 1, 30),
    "in place": (lambda: X.add_(Y), 1, 30),
    "into": (lambda: torch.add(X, Y, out=torch.empty(10)), 1, 30),
    "copy": (lambda: X.copy_(Y), 1, 20),
    "clone": (X.clone, 1, 20),
    "fill": (lambda: X.fill_(1.0), 1, 10),
    "zeros": (lambda: torch.zeros(10), 1, 10),
    "norm": (lambda: torch.linalg.vector_norm(X), 1, 11),
    "read": (lambda: float(X.sum()), 2, 12),
    "lists in place": (lambda: torch._foreach_add_(LISTS, LISTS, alpha=2.0), 1, 45),
    "clones, and a copy of lists": (lambda: torch._foreach_copy_(LISTS, [x.clone() for x in LISTS]), 3, 60),
    "norms of lists": (lambda: torch._foreach_norm(LISTS), 1, 17),
    "views": (lambda: X.view(2, 5).t()[0], 0, 0),
    "fresh memory": (lambda: torch.empty(10), 0, 0),
}
"""Each with its calls and the numbers of four bytes that it reads and writes."""


@pytest.mark.parametrize("name", CALLS)
def test_calls_and_bytes(name: str) -> None:
    call, calls, numbers = CALLS[name]
    with Count() as count:
        call()
    assert count.calls == calls
    assert count.bytes == 4 * numbers


def test_reading_a_value_is_seen() -> None:
    with Count() as count:
        assert X.sum() > 0
    assert count.reads == 1
    with count:
        assert float(X[0]) == X[0].item()
    assert count.reads == 3
    with Count() as none:
        X.sum()
    assert none.reads == 0


def test_passes_are_bytes_over_the_memory_of_the_parameters() -> None:
    with Count() as count:
        X.clone()
    assert count.passes([X]) == 2
    assert count.passes([X, Y]) == 1


def test_ours_takes_the_fewest_calls_and_passes() -> None:
    counted: dict[str, dict[str, float]] = {}
    for who, what, value, _ in counts():
        counted.setdefault(who, {})[what] = value
    ours = counted["samfamily SAM"]
    for name, theirs in counted.items():
        if "SAM, scalars" not in name and name != "samfamily SAM":
            assert theirs["calls"] > 5 * ours["calls"]
            assert theirs["passes over memory"] >= 1.5 * ours["passes over memory"]
    assert counted["samfamily SAM, scalars not read"]["values read to the host"] == 0  # as the test above would see


# --------------------------------------------------------------------------------------------------------------- timing


class Clock:
    """A clock that stands still unless somebody works."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def work(self, seconds: float) -> Callable[[], None]:
        def step() -> None:
            self.now += seconds

        return step


def test_contenders_are_timed_in_turn() -> None:
    order: list[str] = []
    rounds = in_turn({name: lambda name=name: order.append(name) for name in "abc"}, 4)  # type: ignore[misc]
    assert [len(seconds) for seconds in rounds.values()] == [4] * 3
    assert len(order) == 3 * (4 + contest.WARM_UP)
    turns = ["".join(order[i : i + 3]) for i in range(0, len(order), 3)]
    assert all(sorted(turn) == list("abc") for turn in turns)
    assert len(set(turns)) == 3  # nobody is always first


def test_ratios_are_of_the_same_round() -> None:
    clock = Clock()
    seconds = in_turn({"slow": clock.work(3.0), "fast": clock.work(2.0)}, 8, clock)
    assert relative(seconds, "slow", "fast") == Ratio(1.5, 1.5, 1.5)
    drifting = {"a": [1.0, 10.0, 100.0], "b": [2.0, 20.0, 200.0]}
    assert relative(drifting, "b", "a").median == 2


def test_the_interval_is_that_of_the_sign_test() -> None:
    """For 20 values, P(at most 5 heads) = 0.0207: the sixth from either end."""
    assert Ratio.of(list(range(1, 21))) == Ratio(10.5, 6, 15)
    assert Ratio.of([1.0, 2.0, 3.0]) == Ratio(2.0, 1.0, 3.0)  # too few to say more
    assert str(Ratio(1.0, 0.5, 2.0)) == "1.000 (0.500 to 2.000)"


@pytest.mark.parametrize(
    ("low", "high", "told"), [(0.9, 1.05, "reached"), (1.15, 1.3, "missed"), (1.0, 1.2, "cannot be told")]
)
def test_a_goal_is_called_reached_only_where_the_interval_says_so(low: float, high: float, told: str) -> None:
    assert Goal(1.1).verdict(low, high) == told
    row = compared_row(Compared("ours", "limit", Goal(1.1)), Ratio(1.0, low, high))
    assert row.target == f"at most 1.1: {told}"


@pytest.mark.parametrize(("value", "told"), [(1.9, "missed"), (1.98, "reached"), (2.02, "reached"), (2.1, "missed")])
def test_a_goal_may_have_two_ends(value: float, told: str) -> None:
    row = counted_row(Counted("ours", "flops", value, Goal(2.02, 1.98)))
    assert row.target == f"1.98 to 2.02: {told}"
    assert counted_row(Counted("ours", "compilations", 2, Goal(1, 1))).target == "1: missed"
    assert counted_row(Counted("theirs", "flops", value)).target == ""


def test_units_show_their_best_time_once() -> None:
    rows = unit_rows([Compared("a", "limit"), Compared("b", "limit"), Compared("a", "b")], {"limit": [2, 1], "b": [3]})
    assert [(row.who, row.figure) for row in rows] == [("limit", "1000.0 ms at best"), ("b", "3000.0 ms at best")]


# ----------------------------------------------------------------------------------------------------------- contenders


def tiny() -> tuple[nn.Module, torch.Tensor]:
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), torch.randn(5, 3)


def descent(parameters: Any, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, **options)


TINY = Task("tiny", tiny, descent, "SGD", target=1.0, rounds=9, cheap=True)


@pytest.fixture
def backwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts gradients."""
    counted = [0]
    before = Training.gradient

    def gradient(self: Training) -> torch.Tensor:
        counted[0] += 1
        return before(self)

    monkeypatch.setattr(Training, "gradient", gradient)
    return counted


def test_everyone_takes_two_gradients_and_the_same_step(backwards: list[int]) -> None:
    steps = dict(contenders(TINY))
    for name, step in steps.items():
        backwards[0] = 0
        step()
        assert backwards[0] == (0 if "base step" in name else 2)
    assert len(steps) == 8


def test_cheap_variants_take_the_gradients_that_they_declare(backwards: list[int]) -> None:
    for name, step in cheap_contenders(TINY):
        backwards[0] = 0
        step()
        declared = 1 if name == "plain" else CHEAP[name][0].gradients_per_step
        assert backwards[0] == overhead_torch.PERIOD * declared


@pytest.mark.parametrize("name", TASKS)
def test_the_networks_are_those_that_their_names_say(name: str) -> None:
    model, inputs = TASKS[name].network()
    assert len(inputs) == {"transformer": 8, "resnet": 128}.get(name, 32)
    millions = {"mlp": 10.5, "conv": 0.095, "narrow": 0.416, "transformer": 50.4, "resnet": 11.2}
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions[name], rel=0.02)
    tensors = {"mlp": 8, "conv": 8, "narrow": 200, "transformer": 48}
    assert len(list(model.parameters())) == tensors.get(name, 56)


def test_the_peer_takes_the_same_steps() -> None:
    trainings = [Training(TINY) for _ in range(3)]
    steps = [
        overhead_torch.ours(TINY, trainings[0], SAM(), foreach=False),
        overhead_torch.peer(TINY, trainings[1], foreach=False),
        overhead_torch.limit(TINY, trainings[2], foreach=False),
    ]
    for step in steps * 50:
        step()
    ours, theirs, plain = (torch.cat([p.detach().flatten() for p in t.parameters]) for t in trainings)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    assert not torch.allclose(ours, plain, rtol=1e-6, atol=1e-6)  # negative control: without a perturbation


# ------------------------------------------------------------------------------------------------------ other machines


def test_on_a_cuda_device_steps_are_timed_together(backwards: list[int]) -> None:
    """And the base optimizers are those that one would take there; the network itself stays here in this test."""
    assert set(replace(TINY, device="cuda").kinds) == {"foreach", "fused"}
    assert set(TINY.kinds) == {"loop", "foreach"}
    step = replace(TINY, device="cuda").timed(overhead_torch.limit(TINY, Training(TINY)))
    step()
    assert backwards[0] == 2 * TINY.together


def test_buffers_are_looked_after_where_there_are_any() -> None:
    assert Training.normalises(TASKS["resnet"])
    assert not Training.normalises(TASKS["transformer"])
    task = replace(TINY, network=lambda: (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), torch.randn(5, 3)))
    names = dict(contenders(task))
    for pair in next(iter(contests(task))).compared:
        assert {pair.step, pair.unit} <= set(names)
    assert "foreach: samfamily, model given" in names


def test_a_peer_that_is_not_installed_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overhead_torch, "ABSENT", "not installed")
    contest = next(iter(contests(TINY)))
    assert not any("pytorch_optimizer" in name for name, _ in contest.contenders())
    assert not any("pytorch_optimizer" in pair.step for pair in contest.compared)
    assert [(row.who, row.figure) for row in absent_rows(contest)] == [
        ("loop: pytorch_optimizer", "not installed"),
        ("foreach: pytorch_optimizer", "not installed"),
    ]
    assert not any("pytorch_optimizer" in counted.who for counted in counts())


def test_a_device_that_is_not_there_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="no CUDA device here, and --device is cuda"):
        overhead_torch.device("cuda")
    assert overhead_torch.device(None).name == overhead_torch.device("cpu").name == "the CPU"


# ----------------------------------------------------------------------------------------------------------------- page


def test_the_page_and_the_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overhead_torch, "TASKS", {"conv": TINY})
    output = io.StringIO()
    arguments = argparse.Namespace(backend="torch", tasks=["conv"], rounds=3, out=tmp_path / "new", clock="cpu")
    path = overhead.make(arguments, Console(file=output, width=120))
    page, shown = path.read_text(encoding="utf-8"), output.getvalue()
    for told in ("samfamily SAM", "pytorch_optimizer", "LookSAM", "MSAM", "in units of plain", "passes over memory"):
        assert told in page
        assert told in shown
    assert f"torch {torch.__version__}" in page
    assert "cpu time" in page
    found = json.loads((tmp_path / "new" / "overhead.json").read_text(encoding="utf-8"))
    assert found["counts"]["samfamily SAM"]["passes over memory"] <= 8.1
    timed = found["timed"]["tiny, SGD"]
    assert len(timed["seconds"]["loop: samfamily"]) == 3
    ours = next(pair for pair in timed["compared"] if pair["step"] == "loop: samfamily")
    assert ours["unit"] == "loop: limit"
    assert ours["goal"]["high"] == 1.0
    assert {
        pair["step"] for pair in found["timed"][f"tiny, SGD: {overhead_torch.PERIOD} steps together"]["compared"]
    } == set(CHEAP)


def test_a_contest_compares_only_those_who_take_part() -> None:
    for held in contests(TINY):
        names = dict(held.contenders())
        for pair in held.compared:
            assert {pair.step, pair.unit} <= set(names)
        assert held.rounds == 9
    assert len(list(contests(TINY))) == 2
    assert len(list(contests(replace(TINY, cheap=False)))) == 1


@pytest.mark.parametrize(
    ("option", "value"), [("--rounds", "0"), ("--tasks", "vgg"), ("--threads", "many"), ("--backend", "numpy")]
)
def test_bad_values_are_named(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["overhead", option, value])
    assert stopped.value.code == 2
    assert value in capsys.readouterr().err
