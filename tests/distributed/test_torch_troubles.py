"""What one rank has and the others have not: none goes on alone, none is left perturbed, none waits for ever."""

from __future__ import annotations

import re

import pytest
import torch

from tests.distributed.ranks import in_ranks
from tests.distributed.troubles import caught, copied, forked, interrupted, nan_on_one, not_told, refusal
from tests.distributed.walks import Wrap, fully_sharded, replicated

EACH_WRAPPER = pytest.mark.parametrize("wrap", [replicated, fully_sharded], ids=["DDP", "FSDP2"])


@EACH_WRAPPER
def test_a_nan_on_one_rank_is_skipped_by_all(wrap: Wrap) -> None:
    one, two = in_ranks(nan_on_one, wrap)
    assert not isinstance(one, str), one
    assert not isinstance(two, str), two
    for m in (16, 32, None):
        for rank in (one, two):
            untouched, skipped, skipped_after, weights = rank[m]
            assert untouched, m
            assert (skipped, skipped_after) == (1, 1)
            assert all(bool(w.isfinite().all()) for w in weights)
        assert all(map(torch.equal, one[m][3], two[m][3]))


UNEQUAL = r"this process has \d+ examples where the mean is \d+: with an m every process must have as many"
INDIVISIBLE = r"m = \d+ does not divide the batch of \d+ examples on each of 2 devices: use one of m = \[1, 2,"


@EACH_WRAPPER
@pytest.mark.parametrize(
    ("m", "examples", "messages"),
    [
        (8, (32, 24), (UNEQUAL, UNEQUAL)),
        (32, (32, 24), (UNEQUAL, UNEQUAL)),  # for the second more than its batch, which is another division
        (8, (32, 28), (UNEQUAL, UNEQUAL)),
        (5, (32, 32), (INDIVISIBLE, INDIVISIBLE)),
    ],
)
def test_batches_that_do_not_fit_are_refused_by_all(
    m: int, examples: tuple[int, int], messages: tuple[str, str], wrap: Wrap
) -> None:
    """Also where only one of the ranks could tell by itself."""
    for found, message in zip(in_ranks(refusal, m, examples, wrap), messages, strict=True):
        assert not isinstance(found, str), found
        assert re.search(message, found[0]), found[0]
        assert found[1]


def test_who_shares_the_batch_must_be_told() -> None:
    for rank in in_ranks(not_told, replicated):
        assert not isinstance(rank, str), rank
        assert "pass SharpnessAware(..., model=DistributedDataParallel(model))" in rank[0]
        assert "an m with a MixedPrecisionPolicy" in rank[1]
        assert "spread in another way than fully_shard alone does: leave out m" in rank[2]
        assert "some are not the model's" in rank[3]
    for rank in in_ranks(not_told, fully_sharded):
        assert "pass SharpnessAware(..., model=fully_shard(model))" in rank[0]


@EACH_WRAPPER
@pytest.mark.parametrize("m", [16, None])
def test_an_error_on_one_rank_stops_all_at_home(m: int | None, wrap: Wrap) -> None:
    one, two = in_ranks(interrupted, m, wrap)
    assert two == ("ConnectionError: the data went away", True)
    assert one[0].startswith("RuntimeError"), one  # from the collective that waited for the other
    assert one[1]


@EACH_WRAPPER
def test_an_error_that_is_caught_leaves_nothing(wrap: Wrap) -> None:
    alone = caught(0, lambda model: model)
    for rank in in_ranks(caught, wrap):
        assert not isinstance(rank, str), rank
        at_w, perturbed, again, *_ = rank
        assert torch.equal(at_w, again)
        assert not torch.equal(perturbed, again)  # negative control
        torch.testing.assert_close(rank, alone, rtol=1e-10, atol=1e-10)


def test_a_copy_is_whole() -> None:
    """Process groups cannot be copied, and are found again."""
    for rank in in_ranks(copied, 16, replicated):
        assert not isinstance(rank, str), rank
        assert all(map(torch.equal, *rank))


def test_what_any_rank_uses_all_step() -> None:
    (weights, moved), (others, _) = in_ranks(forked)
    assert moved == [False, False, True, True, True, True]
    assert all(map(torch.equal, weights, others))
