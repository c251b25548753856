"""A step of several processes writes no tensor out as text, which would read every entry of a gradient to the host."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from samfamily import SAM
from samfamily_torch import SharpnessAware
from tests.distributed.ranks import in_ranks


def written(rank: int) -> dict[str, int]:
    """How many tensors a step with each m writes out, and how many a line of text with one in it does."""
    calls: list[int] = []
    original: Any = torch.Tensor.__repr__

    def counted(self: Tensor, **options: Any) -> str:
        calls.append(rank)
        return original(self, **options)

    torch.Tensor.__repr__ = counted  # type: ignore[method-assign, assignment]
    model = nn.Linear(6, 3)
    wrapped = DistributedDataParallel(model)
    found = {}
    for m in (8, 16, None):
        variant = SAM() if m is None else SAM().sharded(m)
        optimizer = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), variant, wrapped)

        def closure(x: Tensor, optimizer: SharpnessAware = optimizer) -> Tensor:
            optimizer.zero_grad()
            loss: Tensor = wrapped(x).square().mean()
            loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
            return loss

        calls.clear()
        optimizer.step(closure, batch=(torch.ones(16, 6),))
        found[f"{m}"] = len(calls)
    calls.clear()
    str((torch.float32, [model.weight]))
    return {**found, "a tensor in a tuple": len(calls)}


def test_a_step_writes_no_tensor_out() -> None:
    for rank in in_ranks(written):
        assert not isinstance(rank, str), rank
        assert rank.pop("a tensor in a tuple") == 1  # negative control
        assert set(rank.values()) == {0}, rank
