"""What `scaling` measures in JAX: devices that XLA simulates in one process, or one device in each of some processes.

`python -m benchmarks.scaling_jax` is one of these processes: XLA asks for the number of devices when it starts.
"""

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import jax
import optax
from jax.sharding import NamedSharding, PartitionSpec

from benchmarks import overhead_jax_tasks
from benchmarks.collectives_jax import line
from benchmarks.contest import in_turn
from benchmarks.counting_jax import sent
from benchmarks.overhead_jax_steps import Method, ours, plain
from benchmarks.overhead_jax_tasks import MLP
from benchmarks.scaling_task import LEARNING_RATE, MOMENTUM, RHO, SGD, WAYS, Measured, Task
from benchmarks.workers import told
from samfamily_jax import SAM

PATIENCE = 30
"""Seconds that a process waits for the others."""


def measured(task: Task, rounds: int) -> list[Measured]:
    """Count and time every way to take a step, in turn, on all devices there are."""
    steps, counts = {}, {}
    for way in WAYS:
        steps[way], counts[way] = step(task, way)
    seconds = in_turn(steps, rounds)
    return [Measured(way, counts[way], seconds[way]) for way in WAYS]


def step(task: Task, way: str) -> tuple[Callable[[], object], list[int]]:
    """A compiled step on all devices, which owns its weights and memory, and what each of them sends in it."""
    network = trained(task)
    how = method(network, way, task.m(way, jax.device_count()))
    whole, split = (NamedSharding(line(), PartitionSpec(*axes)) for axes in ((), ("data",)))
    weights = jax.jit(network.weights, out_shardings=whole)()
    memory = jax.jit(how.init, out_shardings=whole)(weights)
    inputs = jax.jit(network.inputs, out_shardings=split)()
    update = jax.jit(how.update, donate_argnums=(0, 1), in_shardings=(whole, whole, split), out_shardings=whole)
    compiled: Any = update.lower(weights, memory, inputs).compile()
    held = [weights, memory]

    def take() -> None:
        held[0], held[1], _ = compiled(*held, inputs)
        jax.block_until_ready(held)

    return take, sent(compiled)


def trained(task: Task) -> overhead_jax_tasks.Task:
    """The task in JAX."""
    shapes = tuple(pairwise(task.widths))
    signal = (task.widths[0],)
    return overhead_jax_tasks.Task("", MLP.loss, shapes, signal, sgd, "SGD", target=1, rounds=1, batch=task.batch)


def sgd() -> optax.GradientTransformation:
    """The base optimizer."""
    return optax.sgd(LEARNING_RATE, momentum=MOMENTUM)


def method(network: overhead_jax_tasks.Task, way: str, m: int | None) -> Method:
    """A way to take a step; without an m the compiler alone divides the work, from where the batch lies."""
    if way == SGD:
        return plain(network)
    if m is None:
        return ours(network, lambda _: SAM(RHO))
    return ours(network, lambda _: SAM(RHO).sharded(m), mesh=line(), axis_name="data")


def main() -> None:
    """Be the process, or one of them."""
    asked = told()
    if asked["size"] > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(asked["address"], asked["size"], asked["rank"], initialization_timeout=PATIENCE)
    found = measured(Task(tuple(asked["widths"]), asked["batch"]), asked["rounds"])
    print(json.dumps([way._asdict() for way in found]))
    if asked["size"] > 1:
        jax.distributed.shutdown()


if __name__ == "__main__":
    main()
