"""What every rank does in the tests of what is sent during a backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.amp import GradScaler

from samfamily import AESAM
from samfamily_torch import SharpnessAware
from tests.distributed.walks import BATCH, ROWS, Wrap, batches, network, sharded, whole

Back = Callable[[Tensor, Tensor, list[Any]], None]
SMALL = 20
"""An all-reduce of no more numbers than these is not of gradients."""


def once(loss: Tensor, x: Tensor, parameters: list[Any]) -> None:
    loss.backward()  # type: ignore[no-untyped-call, unused-ignore]


def twice(loss: Tensor, x: Tensor, parameters: list[Any]) -> None:
    """In two backward passes."""
    (0.25 * loss).backward(retain_graph=True)  # type: ignore[no-untyped-call, unused-ignore]
    (0.75 * loss).backward()  # type: ignore[no-untyped-call, unused-ignore]


def clipped(loss: Tensor, x: Tensor, parameters: list[Any]) -> None:
    """And clip for some shards, so that there are steps in which only one of two ranks does for its last."""
    once(loss, x, parameters)
    if float(x.sum()) > 0:
        nn.utils.clip_grad_norm_(parameters, 0.1)


def replaced(loss: Tensor, x: Tensor, parameters: list[Any]) -> None:
    """And put other tensors into `.grad`."""
    once(loss, x, parameters)
    for p in parameters:
        p.grad = p.grad.sign()


class Steps:
    """Steps on this rank's part of every batch, whose closures end in `back`."""

    def __init__(
        self, variant: Any, back: Back = once, wrap: Wrap = lambda model: model, scaler: GradScaler | None = None
    ) -> None:
        self.model = network()
        self.wrapped = wrap(self.model)
        self.parameters = list(self.model.parameters())
        self.optimizer = SharpnessAware(torch.optim.SGD(self.parameters, lr=0.1), variant, self.wrapped)
        self.back, self.scaler = back, scaler

    def closure(self, x: Tensor, y: Tensor) -> Tensor:
        self.optimizer.zero_grad()
        loss = nn.functional.mse_loss(self.wrapped(x), y)
        self.back(loss if self.scaler is None else self.scaler.scale(loss), x, [*self.model.parameters()])
        return loss

    def take(self, steps: int) -> list[Tensor]:
        size, rank = (distributed.get_world_size(), distributed.get_rank()) if distributed.is_initialized() else (1, 0)
        mine = slice(rank * BATCH // size, (rank + 1) * BATCH // size)
        for x, y in batches(steps):
            self.optimizer.step(self.closure, batch=(x[mine], y[mine]), scaler=self.scaler)
            if self.scaler is not None:
                self.scaler.update()
        return [whole(p).clone() for p in self.model.parameters()]


def strange(rank: int, wrap: Wrap = lambda model: model) -> dict[str, list[Tensor]]:
    """Where closures lead that do more than one backward pass, and variants that climb on some ranks alone."""
    found = {back.__name__: Steps(ROWS["SAM"].sharded(16), back, wrap).take(4) for back in (twice, clipped, replaced)}
    found |= {f"AESAM {m}": Steps(AESAM(rho=0.2).sharded(m), once, wrap).take(6) for m in (16, 32)}
    return found | {"scaled": Steps(ROWS["SAM"].sharded(16), once, wrap, GradScaler("cpu", 64.0)).take(4)}


def order(rank: int, name: str, m: int | None, back: Back, wrap: Wrap, steps: int) -> list[str]:
    """What is sent of gradients, and when the first layer has its own, in this order, through some steps."""
    found = []
    original = distributed.all_reduce

    def noted(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        if tensor.numel() > SMALL:
            found.append("sent")
        return original(tensor, *args, **kwargs)

    distributed.all_reduce = noted
    try:
        taken = Steps(sharded(ROWS[name], m), back, wrap)
        taken.parameters[0].register_hook(lambda _: found.append("first layer"))
        taken.take(steps)
    finally:
        distributed.all_reduce = original
    return found
