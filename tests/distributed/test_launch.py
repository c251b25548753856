"""Functions in several processes: what they return, and how it ends when one does not."""

from __future__ import annotations

import multiprocessing
import os
import socket
import time
from typing import Any

import pytest

from tests.distributed import launch
from tests.distributed.launch import free_port, in_processes

HANG, QUICK = 600.0, 1.0


def told(process: int, factor: int) -> int:
    return process * factor


def test_what_each_returns_comes_back() -> None:
    assert in_processes(told, 7, size=3) == [0, 7, 14]


def one_raises(process: int) -> None:
    if process == 1:
        raise ConnectionError("the data went away")
    time.sleep(HANG)


def one_dies(process: int) -> None:
    if process == 1:
        os.write(2, b"out of memory")
        os._exit(3)
    time.sleep(HANG)


def late(process: int) -> None:
    time.sleep(HANG)


@pytest.mark.parametrize(
    ("function", "limit", "first", "second"),
    [
        (one_raises, HANG, "no answer, stopped by signal 9", "ConnectionError: the data went away"),
        (one_dies, HANG, "no answer, stopped by signal 9", "no answer, exit code 3; written last:\nout of memory"),
        (late, QUICK, "no answer, stopped by signal 9", "no answer, stopped by signal 9"),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_it_ends_and_says_why(
    function: Any, limit: float, first: str, second: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "GRACE", QUICK)
    others = set(multiprocessing.active_children())  # that tests of other files keep
    begun = time.monotonic()
    one, two = in_processes(function, limit=limit)
    assert first in one
    assert second in two
    assert time.monotonic() - begun < HANG / 10
    assert set(multiprocessing.active_children()) <= others


def test_a_port_is_reserved() -> None:
    with free_port() as port, socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))
