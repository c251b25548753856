"""A function in several processes of one group: bounded in time, with an error shown, and none left behind."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed

LIMIT = 120
"""Seconds for all ranks together, imports included."""
PATIENCE = timedelta(seconds=20)
"""How long a rank waits for the others."""


def in_ranks(function: Callable[..., Any], *arguments: Any, size: int = 2) -> list[Any]:
    """Return what `function(rank, *arguments)` returns on every rank; for an error its traceback, a string."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        ranks = [
            context.Process(target=_one, args=(rank, size, folder, function, arguments), daemon=True)
            for rank in range(size)
        ]
        end = time.monotonic() + LIMIT
        try:
            for process in ranks:
                process.start()
            for process in ranks:
                process.join(max(0.0, end - time.monotonic()))
        finally:
            for process in ranks:
                if process.is_alive():
                    process.kill()
                process.join()
        found = [Path(folder) / f"{rank}.pt" for rank in range(size)]
        return [torch.load(path) if path.exists() else f"no answer within {LIMIT} s" for path in found]


def _one(rank: int, size: int, folder: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """One rank; they meet in a file, so that no port need be free, and talk over the loopback device."""
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=size, timeout=PATIENCE)
    try:
        found = function(rank, *arguments)
    except BaseException:  # noqa: BLE001  to be shown by whoever asked
        found = traceback.format_exc()
    torch.save(found, f"{folder}/{rank}.pt")
    if distributed.is_initialized() and not isinstance(found, str):
        distributed.destroy_process_group()
