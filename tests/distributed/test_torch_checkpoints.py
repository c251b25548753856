"""Checkpoints of `torch.distributed.checkpoint`: onto the same ranks bitwise, onto others, and after one was killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from samfamily_torch import AESAM, SAM, SharpnessAware
from tests.distributed.ranks import in_ranks
from tests.distributed.saving import Training, Walk, after_it, killed, not_killed, refused, resumed, saved
from tests.distributed.walks import Wrap, fully_sharded, replicated
from tests.torch.memory import own

CASES = [("SAM", 8), ("LookSAM", 16), ("FriendlySAM", None)]
ONE_PROCESS = pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Walk]]:
    """Checkpoints of two ranks under FSDP2 in the middle of four steps, and where these end."""
    folder = tmp_path_factory.mktemp("checkpoints")
    one, two = in_ranks(saved, folder, CASES, fully_sharded)
    assert not isinstance(one, str), one
    assert not isinstance(two, str), two
    return folder, one


def equal(a: Any, b: Any) -> bool:
    return all(torch.equal(u, v) for x, y in zip(a, b, strict=True) for u, v in zip(x, y, strict=True))


def test_on_the_same_ranks_it_goes_on_bitwise(written: tuple[Path, list[Walk]]) -> None:
    folder, walks = written
    for rank in in_ranks(resumed, folder, CASES, fully_sharded):
        assert not isinstance(rank, str), rank
        assert all(map(equal, rank, walks))


def test_on_other_ranks_it_goes_on(written: tuple[Path, list[Walk]]) -> None:
    """Four under DDP."""
    folder, walks = written
    for rank in in_ranks(resumed, folder, CASES, replicated, size=4):
        assert not isinstance(rank, str), rank
        torch.testing.assert_close(rank, walks, rtol=1e-10, atol=1e-10)


@ONE_PROCESS
def test_in_one_process_it_goes_on(written: tuple[Path, list[Walk]]) -> None:
    folder, walks = written
    found = [Training(name, m).load(folder / f"{name} {m}").go(2, 4).where() for name, m in CASES]
    torch.testing.assert_close(found, walks, rtol=1e-10, atol=1e-10)
    anew = Training("LookSAM", 16).go(2, 4).where()  # negative control
    assert max(float((u - v).abs().max()) for u, v in zip(anew[0], walks[1][0], strict=True)) > 1e-3


@ONE_PROCESS
def test_under_another_m_it_is_refused(written: tuple[Path, list[Walk]]) -> None:
    folder, _ = written
    assert "written with m = 8, and this run has m = 16: use SAM(...).sharded(8)" in refused(0, folder, lambda x: x)


@ONE_PROCESS
@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.Adagrad])
@pytest.mark.parametrize("name", ["SAM", "LookSAM"])
def test_a_base_with_little_to_remember(name: str, base: Any, tmp_path: Path) -> None:
    through = Training(name, 16, base=base).go(0, 2).save(tmp_path).go(2, 4)
    again = Training(name, 16, base=base).load(tmp_path)
    assert own(again.optimizer)["recipe"] == {"variant": name, "m": 16, "batch": 64}
    assert equal(again.go(2, 4).where(), through.where())


def test_only_what_moves_nothing_is_a_step_without_a_closure() -> None:
    w = torch.nn.Parameter(torch.ones(3))
    optimizer = SharpnessAware(torch.optim.Adam([w], lr=0.0), SAM())
    w.grad = torch.zeros(3)
    optimizer.step()
    assert torch.equal(w, torch.ones(3))
    assert "exp_avg" in optimizer.state[w]
    w.grad[0] = 1.0
    with pytest.raises(RuntimeError, match="there is nothing to step on"):
        optimizer.step()
    w.grad[0], optimizer.param_groups[0]["lr"] = 0.0, 0.1
    with pytest.raises(RuntimeError, match="there is nothing to step on"):
        optimizer.step()


def test_what_no_parameter_owns_is_kept() -> None:
    """AESAM remembers two numbers."""
    w = torch.nn.Parameter(torch.ones(3))
    optimizer = SharpnessAware(torch.optim.SGD([w], lr=0.1), AESAM())

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (w**4).sum()
        loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
        return loss

    optimizer.step(closure)
    told = own(optimizer)["state"]
    assert set(told) == {"samfamily.step", "samfamily.radius.mean", "samfamily.radius.variance"}
    again = SharpnessAware(torch.optim.SGD([w], lr=0.1), AESAM())
    again.load_state_dict(optimizer.state_dict())
    assert own(again)["state"] == told


@pytest.mark.parametrize("wrap", [replicated, fully_sharded], ids=["DDP", "FSDP2"])
def test_a_rank_that_is_killed_and_the_run_resumed_are_one_run(wrap: Wrap, tmp_path: Path) -> None:
    """Rank 1 dies between the two passes of a step; what was saved before goes on as if nothing had happened."""
    survivor, dead = in_ranks(killed, tmp_path, wrap)
    assert dead == "ended with exit code -9"
    assert "RuntimeError" in survivor  # from the collective that waited for rank 1
    through, again = in_ranks(not_killed, wrap), in_ranks(after_it, tmp_path, wrap)
    for a, b in zip(through, again, strict=True):
        assert not isinstance(b, str), b
        assert equal(a, b)
