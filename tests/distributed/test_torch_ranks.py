"""m means the same in one process and in several: with the same global batch and the same m, the same walk."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

from tests.distributed.early import once, order
from tests.distributed.ranks import in_ranks
from tests.distributed.walks import (
    MS,
    ROWS,
    STEPS,
    WHOLE,
    Wrap,
    collectives,
    everything,
    fully_sharded,
    hybrid,
    in_groups,
    of_default_meshes,
    replicated,
    sharded,
    walk,
    whole_batches,
)


@cache
def alone(name: str, m: int | None, steps: int = STEPS) -> Any:
    return walk(sharded(ROWS[name], m), steps=steps)


@pytest.fixture(scope="module", params=[replicated, fully_sharded], ids=["DDP", "FSDP2"])
def two(request: pytest.FixtureRequest) -> list[Any]:
    return in_ranks(everything, request.param)


@pytest.mark.parametrize("m", MS)
@pytest.mark.parametrize("name", ROWS)
def test_two_ranks_walk_as_one(name: str, m: int | None, two: list[Any]) -> None:
    for rank in two:
        assert not isinstance(rank, str), rank
        torch.testing.assert_close(rank[f"{name} {m}"], alone(name, m), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("wrap", [replicated, hybrid], ids=["DDP", "HSDP"])
def test_four_ranks_in_groups_walk_as_one(wrap: Wrap) -> None:
    """A shard of 32 examples lies on two ranks of 16 here, and every gradient of it is their mean."""
    found = in_ranks(in_groups, wrap, size=4)
    for name in ("SAM", "GSAM", "LookSAM"):
        for m in MS:
            for rank in found:
                assert not isinstance(rank, str), rank
                torch.testing.assert_close(rank[f"{name} {m}"], alone(name, m, 6), rtol=1e-10, atol=1e-10)


def test_ranks_that_share_a_shard_average_each_gradient_and_then_the_result() -> None:
    for rank in in_ranks(order, "SAM", 32, once, replicated, 1, size=4):
        assert rank == ["first layer", "sent", "first layer", "sent", "sent"]


@pytest.mark.parametrize("wrap", [replicated, fully_sharded], ids=["DDP", "FSDP2"])
def test_every_row_without_an_m_is_that_of_the_whole_batch(wrap: Wrap) -> None:
    expected = {name: walk(row, steps=4) for name, row in WHOLE.items()}
    for rank in in_ranks(whole_batches, wrap):
        assert not isinstance(rank, str), rank
        for name in WHOLE:
            torch.testing.assert_close(rank[name], expected[name], rtol=1e-10, atol=1e-10, msg=name)


def test_each_module_may_have_a_mesh_of_its_own() -> None:
    for rank in in_ranks(of_default_meshes):
        assert not isinstance(rank, str), rank
        torch.testing.assert_close(rank, alone("SAM", 8, 3), rtol=1e-10, atol=1e-10)


def test_another_m_is_another_walk() -> None:
    """Negative control of the tests above."""
    walks = [alone("SAM", m)[0] for m in MS]
    for i, a in enumerate(walks):
        for b in walks[:i]:
            assert max(float((u - v).abs().max()) for u, v in zip(a, b, strict=True)) > 1e-4


def test_a_shard_within_a_rank_takes_one_all_reduce_of_the_parameters() -> None:
    for rank in in_ranks(collectives):
        assert not isinstance(rank, str), rank
        for m, (parameters, sent) in rank.items():
            scalars = [n for n in sent if n < parameters]
            assert len(sent) - len(scalars) == (2 if m is None else 1)  # without m one for each gradient, the wrapper's
            # Losses, whether all was finite, and which parameters received a gradient; with an m how long batches are.
            assert len(scalars) == (1 if m is None else 2)
            assert max(scalars) <= 20
