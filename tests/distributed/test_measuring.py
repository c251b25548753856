"""Ranks with parts of the data measure what one process measures on all of it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from tests.distributed.measuring import measure, measured, model, sharded_model
from tests.distributed.ranks import in_ranks


@pytest.mark.parametrize(
    "parts", [[(0, 16, []), (16, 32, [])], [(0, 20, [7]), (20, 32, [1, 2, 9])]], ids=["halves", "uneven"]
)
def test_two_ranks_measure_as_one(parts: Sequence[tuple[int, int, list[int]]]) -> None:
    alone = measure(model(), [])
    for rank in in_ranks(measured, parts):
        assert not isinstance(rank, str), rank
        found, refusal, untouched = rank
        assert found.keys() == alone.keys()
        for name in alone:
            torch.testing.assert_close(found[name], alone[name], rtol=1e-9, atol=1e-11)
        assert refusal.startswith("m = 4 with data on 2 processes"), refusal
        assert untouched


def test_part_of_the_data_is_not_the_whole() -> None:
    """Negative control of the test above."""
    half, whole = measure(model(), [], 0, 16), measure(model(), [])
    assert float((half["eigenvalues"] - whole["eigenvalues"]).abs().max()) > 1e-3


def test_a_sharded_model_is_refused() -> None:
    for rank in in_ranks(sharded_model):
        assert rank.startswith("refused: the parameters are spread over processes"), rank
        assert "get_model_state_dict" in rank
