"""The machines that `scaling` measures on: simulated devices, and processes that talk over the loopback device."""

import socket
import tempfile
from collections.abc import Callable
from typing import NamedTuple

from benchmarks.scaling_task import Measured, Task
from benchmarks.workers import Worker, answers, simulated

LIMIT = 240
"""Seconds for one machine."""


class Place(NamedTuple):
    """Where steps are measured.

    Attributes:
        name: of the kind of devices.
        devices: how many share a global batch.
        workers: from a task, a number of rounds and a folder to the processes that measure.
    """

    name: str
    devices: int
    workers: Callable[[Task, int, str], list[Worker]]

    def measure(self, task: Task, rounds: int) -> list[Measured]:
        """What the first of the processes finds for each way to take a step."""
        with tempfile.TemporaryDirectory() as folder:
            found = answers(self.workers(task, rounds, folder), LIMIT)[0]
        return [Measured(**way) for way in found]


SIMULATED, JAX_PROCESSES, TORCH_PROCESSES = "JAX, simulated devices", "JAX, processes", "PyTorch, processes"


def simulated_devices(devices: int) -> Place:
    """Devices that XLA simulates in one process."""

    def workers(task: Task, rounds: int, _: str) -> list[Worker]:
        told = {**task._asdict(), "rounds": rounds, "size": 1}
        return [Worker("benchmarks.scaling_jax", told, simulated(devices))]

    return Place(SIMULATED, devices, workers)


def jax_processes(size: int) -> Place:
    """Processes of one JAX device each."""

    def workers(task: Task, rounds: int, _: str) -> list[Worker]:
        told = {**task._asdict(), "rounds": rounds, "size": size, "address": f"127.0.0.1:{free_port()}"}
        return [Worker("benchmarks.scaling_jax", {**told, "rank": rank}, simulated(1)) for rank in range(size)]

    return Place(JAX_PROCESSES, size, workers)


def torch_processes(size: int) -> Place:
    """Processes under DistributedDataParallel."""

    def workers(task: Task, rounds: int, folder: str) -> list[Worker]:
        told = {**task._asdict(), "rounds": rounds, "size": size, "store": f"{folder}/store"}
        return [Worker("benchmarks.scaling_torch", {**told, "rank": rank}) for rank in range(size)]

    return Place(TORCH_PROCESSES, size, workers)


PLACES = (
    *(simulated_devices(devices) for devices in (1, 2, 4, 8)),
    jax_processes(2),
    torch_processes(1),
    torch_processes(2),
)


def free_port() -> int:
    """A port of the loopback device that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
