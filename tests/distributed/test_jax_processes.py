"""m means the same on one device, on eight, and in two processes of JAX, and the same as in PyTorch."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch

from tests.distributed import walks
from tests.distributed.launch import LIMIT, free_port, in_processes
from tests.distributed.walks import MS, ROWS, sharded
from tests.distributed.walks_jax import Problem, Walk, everything, mesh_for, noisy_step, restore, save, unequal, walk

HALF = walks.STEPS // 2  # in the middle of LookSAM's interval of three


@cache
def problem() -> Problem:
    inputs, targets = zip(*walks.batches(), strict=True)
    weights = [p.detach().numpy() for p in walks.network().parameters()]
    return Problem(weights, torch.stack(inputs).numpy(), torch.stack(targets).numpy())


@cache
def in_torch(name: str, m: int | None) -> list[Any]:
    """Return weights, losses and memory of the walk that all others are held to: PyTorch's, in one process."""
    weights, losses, (*memory, step) = walks.walk(sharded(ROWS[name], m))
    return [[w.numpy() for w in weights], np.array(losses), [x.numpy() for x in (step, *memory)]]


@cache
def alone(name: str, m: int | None) -> Walk:
    return walk(sharded(ROWS[name], m), problem())


def distance(found: Walk, expected: list[Any]) -> float:
    """Return the largest difference, relative to 1 + the expected number, in weights, losses and memory."""
    pairs = zip(jax.tree.leaves(figures(found)), jax.tree.leaves(expected), strict=True)
    return max(float(np.max(np.abs(a - b) / (1 + np.abs(b)), initial=0.0)) for a, b in pairs)


def figures(found: Walk) -> list[Any]:
    plain = found.plain()
    return [plain.weights, plain.losses, plain.memory]


@pytest.mark.parametrize("m", MS)
@pytest.mark.parametrize("name", ROWS)
def test_one_and_eight_devices_walk_as_pytorch(name: str, m: int | None) -> None:
    one, eight = alone(name, m), walk(sharded(ROWS[name], m), problem(), mesh_for(m))
    assert distance(one, in_torch(name, m)) <= 1e-10
    assert distance(eight, in_torch(name, m)) <= 1e-10
    assert distance(eight, figures(one)) <= 1e-10


def test_another_m_is_another_walk() -> None:
    """Negative control of the tests above and below, and what memory is compared with is not empty."""
    for m in MS:
        for other in MS[: MS.index(m)]:
            assert distance(alone("SAM", m), figures(alone("SAM", other))) > 1e-4
    assert [len(in_torch(name, 8)[2]) for name in ROWS] == [1, 1, 1, 7, 7]


# ------------------------------------------------------------------------------------------------- in several processes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the two processes leave a checkpoint."""
    return tmp_path_factory.mktemp("checkpoint")


@pytest.fixture(scope="module")
def two(folder: Path) -> list[dict[str, Any]]:
    """Return what each of two processes has found, all in one start."""
    with free_port() as port:
        found = in_processes(everything, port, ROWS, MS, problem(), folder)
    for process in found:
        assert not isinstance(process, str), process
    return found


def test_two_processes_walk_as_one(two: list[dict[str, Any]]) -> None:
    for process in two:
        for name in ROWS:
            for m in MS:
                assert distance(process[f"{name} {m}"], in_torch(name, m)) <= 1e-10, (name, m)


def test_a_shard_may_lie_in_one_process_or_in_two(two: list[dict[str, Any]]) -> None:
    for process in two:
        for where in ("a shard on two devices of a process", "a shard on two devices of two processes"):
            assert distance(process[where], in_torch("LookSAM", 32)) <= 1e-10, where


def test_a_key_draws_the_same_masks_anywhere(two: list[dict[str, Any]]) -> None:
    expected = jax.tree.leaves(noisy_step(problem()))
    for noisy in (two[0]["noisy"], two[1]["noisy"], noisy_step(problem(), mesh_for(16))):
        for found, value in zip(jax.tree.leaves(noisy), expected, strict=True):
            np.testing.assert_allclose(found, value, rtol=1e-12, atol=1e-12)


def test_one_all_reduce_where_shards_are_inside_processes_and_two_without_m(two: list[dict[str, Any]]) -> None:
    """A step stands once in the program, in a loop; whoever rests does so in a branch of the same step."""
    for process in two:
        for name in ROWS:
            counts = [process[f"{name} {m}"].all_reduces for m in MS]
            assert counts == [1, 1, 1, 2], name


def test_an_error_in_one_process_is_shown_and_stops_the_other() -> None:
    """The other is in an all-reduce by then, and would stay there."""
    begun = time.monotonic()
    with free_port() as port:
        one, two = in_processes(unequal, port, problem())
    assert "ConnectionError: the data went away" in two
    assert isinstance(one, str)
    assert "ConnectionError" not in one
    assert time.monotonic() - begun < LIMIT / 2


# ---------------------------------------------------------------------------------------------------------- checkpoints


def test_a_run_goes_on_elsewhere(tmp_path: Path) -> None:
    """From eight devices: on the same, bitwise; on one device, to where it would have come without interruption."""
    variant, weights = ROWS["LookSAM"].sharded(16), problem().weights
    later = problem().part(HALF, 2 * HALF)
    mesh = mesh_for(16)
    halfway = walk(variant, problem().part(0, HALF), mesh)
    save(tmp_path, halfway.end, variant)
    again = walk(variant, later, mesh, restore(tmp_path, variant, weights, mesh))
    assert same(again, walk(variant, later, mesh, halfway.end))
    elsewhere = walk(variant, later, None, restore(tmp_path, variant, weights, None))
    for found in (again, elsewhere):
        assert distance(found, expected_later()) <= 1e-10
    begun = restore(tmp_path, variant, weights, None)
    forgetful = walk(variant, later, None, (*begun[:2], walk(variant, later.part(0, 0)).end[2]))
    assert distance(forgetful, expected_later()) > 1e-4  # negative control: without the memory it climbs anew


def expected_later() -> list[Any]:
    """Return the second half of LookSAM's walk with m = 16."""
    weights, losses, memory = in_torch("LookSAM", 16)
    return [weights, losses[HALF:], memory]


def same(a: Any, b: Any) -> bool:
    """Tell whether two walks are bitwise equal."""
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_what_two_processes_wrote_goes_on_in_both_and_on_one_device(two: list[dict[str, Any]], folder: Path) -> None:
    for process in two:
        assert same(process["resumed"], process["not interrupted"])
        assert distance(process["resumed"], expected_later()) <= 1e-10
    variant, later = ROWS["LookSAM"].sharded(16), problem().part(HALF, 2 * HALF)
    begun = restore(folder, variant, problem().weights, None)
    assert distance(walk(variant, later, None, begun), expected_later()) <= 1e-10


def test_another_run_is_refused(two: list[dict[str, Any]], folder: Path) -> None:
    look, sam = ROWS["LookSAM"], ROWS["SAM"]
    for variant, message in (
        (look.sharded(32), r"written with m = 16, and this run has m = 32: use LookSAM\(...\).sharded\(16\)"),
        (look, r"written with m = 16, and this run has no m"),
        (sam.sharded(16), r"written by LookSAM, and this run follows SAM"),
    ):
        with pytest.raises(ValueError, match=message):
            restore(folder, variant, problem().weights, None)
