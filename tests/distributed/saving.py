"""What every rank does in the tests of checkpoints: save in the middle of a walk, and go on from there."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from samfamily_torch import SharpnessAware
from tests.distributed.walks import BATCH, ROWS, Wrap, batches, network, remembered, sharded, whole

Walk = tuple[list[Tensor], list[Tensor]]


class Training:
    """A walk that can be saved and gone on with, on any number of ranks."""

    def __init__(
        self, name: str, m: int | None, wrap: Wrap = lambda model: model, base: Any = torch.optim.AdamW
    ) -> None:
        self.model = network()
        self.wrapped = wrap(self.model)
        self.optimizer = SharpnessAware(base(self.model.parameters(), lr=0.05), sharded(ROWS[name], m), self.wrapped)

    def closure(self, x: Tensor, y: Tensor) -> Tensor:
        self.optimizer.zero_grad()
        loss = nn.functional.mse_loss(self.wrapped(x), y)
        loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
        return loss

    def go(self, begin: int, end: int) -> Training:
        size, rank = (distributed.get_world_size(), distributed.get_rank()) if distributed.is_initialized() else (1, 0)
        mine = slice(rank * BATCH // size, (rank + 1) * BATCH // size)
        for x, y in batches(end)[begin:]:
            self.optimizer.step(self.closure, batch=(x[mine], y[mine]))
        return self

    def save(self, folder: Path) -> Training:
        weights, state = get_state_dict(self.wrapped, self.optimizer)
        save({"model": weights, "optimizer": state}, checkpoint_id=folder)
        return self

    def load(self, folder: Path) -> Training:
        weights, state = get_state_dict(self.wrapped, self.optimizer)
        load({"model": weights, "optimizer": state}, checkpoint_id=folder)
        set_state_dict(self.wrapped, self.optimizer, model_state_dict=weights, optim_state_dict=state)
        return self

    def where(self) -> Walk:
        return [whole(p) for p in self.model.parameters()], remembered(self.optimizer)


def saved(rank: int, folder: Path, cases: list[tuple[str, int | None]], wrap: Wrap) -> list[Walk]:
    """Four steps, saved after two."""
    return [Training(name, m, wrap).go(0, 2).save(folder / f"{name} {m}").go(2, 4).where() for name, m in cases]


def resumed(rank: int, folder: Path, cases: list[tuple[str, int | None]], wrap: Wrap) -> list[Walk]:
    """The last two of them."""
    return [Training(name, m, wrap).load(folder / f"{name} {m}").go(2, 4).where() for name, m in cases]


def refused(rank: int, folder: Path, wrap: Wrap) -> str:
    """What it says to another m."""
    try:
        Training("SAM", 16, wrap).load(folder / "SAM 8")
    except ValueError as error:
        return str(error)
    return "nothing"


def killed(rank: int, folder: Path, wrap: Wrap) -> Walk:
    """Rank 1 dies in the perturbed pass of the fourth step."""
    training = Training("LookSAM", 16, wrap).go(0, 3).save(folder / "killed")
    passes = []
    closure = training.closure

    def dying(x: Tensor, y: Tensor) -> Tensor:
        passes.append(rank)
        if rank == 1 and len(passes) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return closure(x, y)

    training.closure = dying  # type: ignore[method-assign]
    return training.go(3, 6).where()


def not_killed(rank: int, wrap: Wrap) -> Walk:
    return Training("LookSAM", 16, wrap).go(0, 6).where()


def after_it(rank: int, folder: Path, wrap: Wrap) -> Walk:
    return Training("LookSAM", 16, wrap).load(folder / "killed").go(3, 6).where()
