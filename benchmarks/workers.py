"""Processes that are given a task and answer in JSON: all at once, bounded in time, and none left behind."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

PAUSE = 0.05


class Worker(NamedTuple):
    """A process: the module that it runs, what it is told, and what its environment has besides this one's."""

    module: str
    told: Any = None
    environment: Mapping[str, str] = {}


def answers(workers: Sequence[Worker], limit: float) -> list[Any]:
    """What these processes, which run at the same time, write as the last line of their output.

    Args:
        workers: the processes.
        limit: how many seconds they have together.

    Returns:
        What each has written.

    Raises:
        RuntimeError: one of them failed or was not done in time; the others are stopped too.
    """
    with tempfile.TemporaryDirectory() as folder:
        end, running = time.monotonic() + limit, []
        outputs = [Path(folder) / f"{i}.out" for i in range(len(workers))]
        errors = [Path(folder) / f"{i}.err" for i in range(len(workers))]
        try:
            running = [_started(*each) for each in zip(workers, outputs, errors, strict=True)]
            while not _settled([process.poll() for process in running]) and time.monotonic() < end:
                time.sleep(PAUSE)
            found = [process.poll() for process in running]
        finally:
            for process in running:
                process.kill()
                process.wait()
        failed = [i for i, status in enumerate(found) if status] or [i for i, s in enumerate(found) if s is None]
        if failed:
            first = failed[0]
            how = f"not done within {limit:g} s" if found[first] is None else f"ended with status {found[first]}"
            said = errors[first].read_text(encoding="utf-8").strip()
            raise RuntimeError(f"{workers[first].module} with {workers[first].told} {how}:\n{said[-3000:]}")
        return [json.loads(output.read_text(encoding="utf-8").splitlines()[-1]) for output in outputs]


def simulated(devices: int) -> dict[str, str]:
    """The environment in which XLA takes a processor for so many devices."""
    return {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}


def told() -> Any:
    """What this process was told by the one that started it."""
    return json.loads(sys.argv[1])


def _started(worker: Worker, output: Path, errors: Path) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **worker.environment}
    command = [sys.executable, "-m", worker.module, json.dumps(worker.told)]
    with output.open("wb") as out, errors.open("wb") as err:
        return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err)


def _settled(statuses: Sequence[int | None]) -> bool:
    return all(status is not None for status in statuses) or any(statuses)
