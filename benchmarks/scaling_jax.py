"""What `scaling` measures in JAX: devices that XLA simulates in one process, or one device in each of some processes.

`python -m benchmarks.scaling_jax` is one of these processes: XLA asks for the number of devices when it starts.
"""

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec

from benchmarks import overhead_jax_tasks
from benchmarks.collectives_jax import line
from benchmarks.contest import in_turn
from benchmarks.counting_jax import sent
from benchmarks.overhead_jax_steps import Method, descended, ours, plain
from benchmarks.overhead_jax_tasks import MLP
from benchmarks.scaling_task import JAX_WAYS, JIT_SGD, JIT_WHOLE, LEARNING_RATE, MOMENTUM, RHO, SGD, Measured, Task
from benchmarks.workers import told
from samfamily_jax import SAM

PATIENCE = 30
"""Seconds that a process waits for the others."""


def measured(task: Task, rounds: int) -> list[Measured]:
    """Count and time every way to take a step, in turn, on all devices there are."""
    steps, counts = {}, {}
    for way in JAX_WAYS:
        steps[way], counts[way] = step(task, way)
    seconds = in_turn(steps, rounds)
    return [Measured(way, counts[way], seconds[way]) for way in JAX_WAYS]


def step(task: Task, way: str) -> tuple[Callable[[], object], list[int]]:
    """A compiled step on all devices, which owns its weights and memory, and what each of them sends in it."""
    network = trained(task)
    how = method(network, way, task.m(way, jax.device_count()))
    whole, split = (NamedSharding(line(), PartitionSpec(*axes)) for axes in ((), ("data",)))
    weights = jax.device_put(network.weights(), whole)
    memory = jax.tree.map(jnp.copy, jax.device_put(how.init(weights), whole))  # nothing is donated twice
    inputs = jax.device_put(network.inputs(), split)
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
    """A way to take a step."""
    if way == JIT_SGD:
        return plain(network)
    if way == JIT_WHOLE:
        return ours(network, lambda _: SAM(RHO))
    if way == SGD:
        return averaged(network)
    shared = network.batch if m is None else m
    return ours(network, lambda _: SAM(RHO).sharded(shared), mesh=line(), axis_name="data")


def averaged(network: overhead_jax_tasks.Task) -> Method:
    """The base optimizer's step, in which each device takes a gradient of its own and all average them."""
    base, value_and_grad = network.base(), jax.value_and_grad(network.loss)

    def local(weights: Any, inputs: jax.Array) -> Any:
        own = jax.lax.pcast(weights, "data", to="varying")
        return jax.lax.pmean(value_and_grad(own, inputs), "data")

    whole, split = PartitionSpec(), PartitionSpec("data")
    average = jax.shard_map(local, mesh=line(), in_specs=(whole, split), out_specs=whole)

    def update(weights: Any, memory: Any, inputs: jax.Array) -> Any:
        loss, gradient = average(weights, inputs)
        return *descended(base, gradient, memory, weights), loss

    return Method(base.init, update)


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
