"""Where a step's result is its last gradient, it is sent while the backward pass makes it, and is what it would be."""

from __future__ import annotations

import pytest
import torch

from samfamily_torch.buckets import pieces
from tests.distributed.early import Back, clipped, once, order, strange, twice
from tests.distributed.ranks import in_ranks
from tests.distributed.walks import Wrap, fully_sharded, replicated

PASS, SENT = "first layer", "sent"
AFTER = [PASS, PASS, PASS, PASS, SENT]
MEMORY = SENT


@pytest.mark.parametrize(
    ("name", "m", "back", "expected"),
    [
        ("SAM", 32, once, [PASS, SENT, PASS, SENT]),
        ("SAM", 16, once, [PASS, PASS, PASS, SENT, PASS, SENT]),
        ("GSAM", 16, once, AFTER),  # not its last gradient
        ("LookSAM", 16, once, [PASS, PASS, PASS, SENT, PASS, SENT, MEMORY, PASS, PASS, SENT, SENT, MEMORY]),  # rests
        ("SAM", 16, clipped, [PASS, PASS, PASS, SENT, PASS, SENT, SENT, *AFTER]),  # once for all in the second step
        ("SAM", 32, twice, [PASS, PASS, SENT, PASS, SENT, PASS, SENT, *AFTER]),
    ],
)
def test_the_last_layers_gradient_is_sent_before_the_first_has_one(
    name: str, m: int, back: Back, expected: list[str]
) -> None:
    steps = 2 if back is not once or name == "LookSAM" else 1
    for rank in in_ranks(order, name, m, back, replicated, steps):
        assert rank == expected


@pytest.mark.parametrize("wrap", [replicated, fully_sharded], ids=["DDP", "FSDP2"])
def test_whatever_a_closure_does_two_ranks_walk_as_one(wrap: Wrap) -> None:
    alone = strange(0)
    for rank in in_ranks(strange, wrap):
        assert not isinstance(rank, str), rank
        torch.testing.assert_close(rank, alone, rtol=1e-10, atol=1e-10)
    # Negative controls: what it does matters.
    ends = [alone[name] for name in ("twice", "clipped", "replaced", "AESAM 16", "AESAM 32")]
    for i, a in enumerate(ends):
        for b in ends[:i]:
            assert max(float((u - v).abs().max()) for u, v in zip(a, b, strict=True)) > 1e-4


def test_pieces_have_one_dtype_and_no_more_than_fits() -> None:
    shapes = [(5, torch.float32), (2, torch.float32), (2, torch.float32), (2, torch.float64), (1, torch.float64)]
    parameters = [torch.zeros(n, dtype=dtype) for n, dtype in shapes]
    assert pieces(parameters, 16) == [[4], [3], [2, 1], [0]]
    assert pieces(parameters, 24) == [[4, 3], [2, 1], [0]]
    assert pieces([], 16) == []
