"""How many sums over devices a step takes, on eight simulated ones.

`python -m benchmarks.collectives_jax` is a process of its own: XLA asks for the number of devices when it starts.
"""

import json

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from benchmarks.counting_jax import all_reduces
from benchmarks.overhead_jax_steps import Method, ours, plain
from benchmarks.overhead_jax_tasks import MLP, Task
from benchmarks.workers import Worker, answers, simulated
from samfamily_jax import SAM

DEVICES = 8
LIMIT = 300
"""Seconds."""


def counted() -> dict[str, int]:
    """The sums over devices of each step in `steps`, counted in a process with eight devices."""
    counts: dict[str, int] = answers([Worker("benchmarks.collectives_jax", None, simulated(DEVICES))], LIMIT)[0]
    return counts


def steps(task: Task) -> dict[str, Method]:
    """The steps whose sums are counted: without an m, the whole batch shares a perturbation; with one, a device's."""
    of_a_device = len(jax.eval_shape(task.inputs)) // DEVICES
    return {
        "plain": plain(task),
        "SAM, the whole batch": ours(task, SAM),
        "SAM, m of a device": ours(task, lambda rho: SAM(rho).sharded(of_a_device), mesh=line(), axis_name="data"),
    }


def line() -> jax.sharding.Mesh:
    """All devices in a row."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def on_devices(task: Task, method: Method) -> jax.stages.Compiled:
    """A step's program for a batch that lies on all devices, and weights that lie on each."""
    mesh = line()
    whole, split = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("data",)))
    weights = jax.eval_shape(task.weights)
    step = jax.jit(method.update, donate_argnums=(0, 1), in_shardings=(whole, whole, split), out_shardings=whole)
    lowered = step.lower(weights, jax.eval_shape(method.init, weights), jax.eval_shape(task.inputs))
    compiled: jax.stages.Compiled = lowered.compile()
    return compiled


if __name__ == "__main__":
    print(json.dumps({name: all_reduces(on_devices(MLP, method)) for name, method in steps(MLP).items()}))
