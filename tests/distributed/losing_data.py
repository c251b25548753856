"""A script for torchrun: the second of its processes raises in the perturbed pass of its first step."""

from __future__ import annotations

import sys
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from samfamily_torch import SAM, SharpnessAware


def main(patience: float) -> None:
    distributed.init_process_group("gloo", timeout=timedelta(seconds=patience))
    model = DistributedDataParallel(nn.Linear(4, 1))
    optimizer = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), SAM().sharded(8), model)
    passes: list[Tensor] = []

    def closure(x: Tensor) -> Tensor:
        passes.append(x)
        if distributed.get_rank() == 1 and len(passes) == 2:
            raise ConnectionError("the data went away")
        loss: Tensor = model(x).square().mean()
        loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
        return loss

    optimizer.step(closure, batch=(torch.ones(8, 4),))


if __name__ == "__main__":
    main(float(sys.argv[1]))
