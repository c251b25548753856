"""A function in several processes: bounded in time, with the error of each shown, and none left behind.

Knows no framework, and imports none: a child loads what its function needs.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

LIMIT = 300.0
"""Seconds for all processes together, imports included."""
GRACE = 5.0
"""Seconds that the others have once one has failed: they may be waiting for it in a collective."""


def in_processes(function: Callable[..., Any], *arguments: Any, size: int = 2, limit: float = LIMIT) -> list[Any]:
    """Return what `function(i, *arguments)` returns in each process; for one that failed a string that says how.

    For an error that is its traceback, for a process that died or had to be stopped what it wrote last.
    """
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder) / str(i) for i in range(size)]
        processes = [
            context.Process(target=_one, args=(places[i], function, i, *arguments), daemon=True) for i in range(size)
        ]
        try:
            for process in processes:
                process.start()
            _wait(processes, limit)
        finally:
            for process in processes:
                if process.is_alive():
                    process.kill()
                process.join()
        return [_found(place, process) for place, process in zip(places, processes, strict=True)]


@contextmanager
def free_port() -> Iterator[int]:
    """Reserve a port of the loopback device, for a server that shares ports (as gRPC's do): nobody else is given it."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def _wait(processes: Sequence[BaseProcess], limit: float) -> None:
    """Return when all have ended, when the time is up, or a little after one has failed."""
    end = time.monotonic() + limit
    failed = False
    while any(process.is_alive() for process in processes) and time.monotonic() < end:
        if not failed and any(process.exitcode for process in processes):
            failed, end = True, min(end, time.monotonic() + GRACE)
        time.sleep(0.05)


def _one(place: Path, function: Callable[..., Any], *arguments: Any) -> None:
    """Be one process: keep what it writes, and what the function returns or raises."""
    log = os.open(place.with_suffix(".log"), os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        place.write_bytes(pickle.dumps(function(*arguments)))
    except BaseException:  # noqa: BLE001  to be shown by whoever asked
        place.write_bytes(pickle.dumps(traceback.format_exc()))
        os._exit(1)  # at once: an orderly end may wait for the others
    sys.stdout.flush()


def _found(place: Path, process: BaseProcess) -> Any:
    if place.exists():
        return pickle.loads(place.read_bytes())
    log = place.with_suffix(".log")
    written = log.read_text(encoding="utf-8", errors="replace")[-4000:] if log.exists() else ""
    code = process.exitcode or 0
    how = f"stopped by signal {-code}" if code < 0 else f"exit code {code}"
    return f"no answer, {how}; written last:\n{written}"
