"""Functions in several processes of one group: bounded in time, with errors shown, and none left behind.

The processes are kept from call to call, since importing PyTorch takes longer than most of what is tested; where one
fails, all are ended, and the next call begins with new ones.
"""

from __future__ import annotations

import atexit
import multiprocessing
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import distributed

LIMIT = 120
"""Seconds for all ranks together, imports included."""
PATIENCE = timedelta(seconds=20)
"""How long a rank waits for the others."""


def in_ranks(function: Callable[..., Any], *arguments: Any, size: int = 2) -> list[Any]:
    """Return what `function(rank, *arguments)` returns on every rank; for an error its traceback, a string.

    Of a rank that ended without either it returns a string that tells how.
    """
    ranks = RUNNING.setdefault(size, [])
    if not ranks:
        ranks += [Rank(rank, size) for rank in range(size)]
    end = time.monotonic() + LIMIT
    fine = False
    try:
        with tempfile.TemporaryDirectory() as folder:
            for rank in ranks:
                rank.ask(folder, function, arguments)
            found = [rank.answer(end) for rank in ranks]
            fine = not any(isinstance(x, str) for x in found)
            return found
    finally:
        if not fine:
            stop(size)


class Rank:
    """One process."""

    def __init__(self, rank: int, size: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, rank, size), daemon=True)
        self._process.start()
        theirs.close()  # so that an end there is an end here

    def ask(self, *question: Any) -> None:
        """Begin a call."""
        self._pipe.send(question)

    def answer(self, end: float) -> Any:
        """Return what it returns until then."""
        try:
            if self._pipe.poll(max(0.0, end - time.monotonic())):
                path = self._pipe.recv()
                return torch.load(path)
        except EOFError:
            self._process.join(1)
            return f"ended with exit code {self._process.exitcode}"
        return f"no answer within {LIMIT} s"

    def stop(self) -> None:
        """End it."""
        if self._process.is_alive():
            self._process.kill()
        self._process.join()


RUNNING: dict[int, list[Rank]] = {}


@atexit.register
def stop(*sizes: int) -> None:
    """End the processes of groups of these sizes, or all."""
    for size in sizes or tuple(RUNNING):
        for rank in RUNNING.pop(size, []):
            rank.stop()


def _serve(pipe: Connection, rank: int, size: int) -> None:
    """One rank; for every call they meet in a file, so that no port need be free, and talk over the loopback device."""
    torch.set_num_threads(1)
    while True:
        try:
            folder, function, arguments = pipe.recv()
        except EOFError:
            return
        store = f"file://{folder}/store"
        distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=size, timeout=PATIENCE)
        try:
            found = function(rank, *arguments)
        except BaseException:  # noqa: BLE001  to be shown by whoever asked
            found = traceback.format_exc()
        path = Path(folder) / f"{rank}.pt"
        torch.save(found, path)
        if distributed.is_initialized() and not isinstance(found, str):
            distributed.destroy_process_group()
        pipe.send(path)
