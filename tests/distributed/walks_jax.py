"""The walk of walks.py in JAX, on one device or many, and what each of several processes does with it.

Imports no PyTorch: variants, initial weights and batches are given, as plain values.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks.counting_jax import all_reduces
from benchmarks.walk_jax import QUICK
from samfamily import SAM, Recipe, Variant
from samfamily_jax import scanned, sharpness_aware, value_and_grad

BATCH = 64
TX = optax.sgd(0.1, momentum=0.9)


class Problem(NamedTuple):
    """What a walk starts from and goes through.

    Attributes:
        weights: of a linear layer, its normalisation, and another linear layer, in PyTorch's order and layout.
        inputs: of shape (steps, examples, features).
        targets: of shape (steps, examples, outputs).
    """

    weights: list[Any]
    inputs: Any
    targets: Any

    def part(self, first: int, last: int) -> Problem:
        """Return the steps from one to another."""
        return Problem(self.weights, self.inputs[first:last], self.targets[first:last])


class Walk(NamedTuple):
    """Where a walk led: a pytree like what `start` makes, the loss of each step, and the all-reduces in the program."""

    end: Any
    losses: Any
    all_reduces: int

    @property
    def weights(self) -> list[Any]:
        found: list[Any] = self.end[0]
        return found

    @property
    def memory(self) -> list[Any]:
        """What the variant remembers, its step counter first."""
        return jax.tree.leaves(self.end[2])

    def plain(self) -> Walk:
        """Return the same in NumPy, which any process can read."""
        return jax.tree.map(np.asarray, self)


def loss_fn(weights: list[Any], batch: Any) -> Any:
    x, y = batch
    w, b, gain, shift, v, c = weights
    hidden = x @ w.T + b
    centred = hidden - hidden.mean(1, keepdims=True)
    hidden = centred / jnp.sqrt(hidden.var(1, keepdims=True) + 1e-5) * gain + shift
    return jnp.mean((jnp.tanh(hidden) @ v.T + c - y) ** 2)


def mesh_for(m: int | None, devices: list[Any] | None = None) -> Mesh:
    """Return a mesh of these devices for shards of m examples, with an axis for those that share one."""
    devices = devices or jax.devices()
    each = BATCH // len(devices)
    if m is None or m <= each:
        return jax.make_mesh((len(devices),), ("data",), devices=devices)
    return jax.make_mesh((BATCH // m, m // each), ("group", "inner"), devices=devices)


def start(variant: Variant, weights: list[Any], mesh: Mesh | None) -> Any:
    """Return weights, the optimizer's state and the variant's; on a mesh, the same on all its devices."""
    begun = (weights, TX.init(weights), sharpness_aware(loss_fn, variant).init(weights))
    return begun if mesh is None else jax.device_put(begun, NamedSharding(mesh, PartitionSpec()))


def spread(x: Any, mesh: Mesh | None) -> Any:
    """Return batches whose second axis lies on the devices of a mesh, made from this process's part of each."""
    if mesh is None:
        return x
    n = BATCH // jax.process_count()
    mine = x[:, jax.process_index() * n : (jax.process_index() + 1) * n]
    return jax.make_array_from_process_local_data(NamedSharding(mesh, PartitionSpec(None, mesh.axis_names)), mine)


def spread_anyhow(x: Any, mesh: Mesh) -> Any:
    """Return the same where a process's devices do not follow one another, so that its part is in pieces."""
    sharding = NamedSharding(mesh, PartitionSpec(None, mesh.axis_names))
    return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])


def axes(mesh: Mesh | None) -> dict[str, Any]:
    """Return what `value_and_grad` is told of a mesh."""
    return {} if mesh is None else {"mesh": mesh, "axis_name": mesh.axis_names}


@cache
def training(variant: Variant, mesh: Mesh | None) -> Any:
    """Return the function that goes through batches; in a loop over the shards, which is quick to compile."""
    sa = sharpness_aware(loss_fn, variant, shards=None if variant.m is None else scanned, **axes(mesh))

    def step(carry: Any, batch: Any) -> Any:
        weights, opt_state, state = carry
        (loss, gradients), state = sa.value_and_grad(weights, state, batch)
        updates, opt_state = TX.update(gradients, opt_state, weights)
        return (optax.apply_updates(weights, updates), opt_state, state), loss

    return jax.jit(lambda *arguments: jax.lax.scan(step, *arguments))


def walk(
    variant: Variant,
    problem: Problem,
    mesh: Mesh | None = None,
    begun: Any = None,
    spread: Callable[..., Any] = spread,
) -> Walk:
    """Train through all batches in one program; from where another walk ended if that is given."""
    with jax.enable_x64(True):
        begun = start(variant, problem.weights, mesh) if begun is None else begun
        batches = spread(problem.inputs, mesh), spread(problem.targets, mesh)
        program = training(variant, mesh).lower(begun, batches).compile(QUICK)
        end, losses = program(begun, batches)
        return Walk(end, losses, all_reduces(program))


def noisy_step(problem: Problem, mesh: Mesh | None = None) -> Any:
    """Return loss and gradient of a step whose inputs are masked at random, by another mask in each shard of 16."""

    def masked(weights: list[Any], batch: Any, key: Any) -> Any:
        x, y = batch
        return loss_fn(weights, (x * jax.random.bernoulli(key, 0.5, x.shape), y))

    with jax.enable_x64(True):
        vg = value_and_grad(masked, SAM(rho=0.2).sharded(16), shards=scanned, **axes(mesh))
        batches = spread(problem.inputs[:1], mesh), spread(problem.targets[:1], mesh)
        step = jax.jit(lambda weights, batches, key: vg(weights, jax.tree.map(lambda x: x[0], batches), key))
        arguments = problem.weights, batches, jax.random.key(1)
        return step.lower(*arguments).compile(QUICK)(*arguments)


# ---------------------------------------------------------------------------------------------------------- checkpoints


def save(folder: Path, end: Any, variant: Variant) -> None:
    """Write where a walk stands, and beside it what its run is."""
    recipe = Recipe.of(variant, BATCH)._asdict()
    with ocp.CheckpointManager(folder) as manager:
        manager.save(0, args=ocp.args.Composite(state=ocp.args.StandardSave(end), recipe=ocp.args.JsonSave(recipe)))
        manager.wait_until_finished()


def restore(folder: Path, variant: Variant, weights: list[Any], mesh: Mesh | None) -> Any:
    """Return where a run of `variant` stood, on the devices of this mesh; raise ValueError if it was of another."""
    with ocp.CheckpointManager(folder) as manager, jax.enable_x64(True):
        saved = manager.restore(0, args=ocp.args.Composite(recipe=ocp.args.JsonRestore()))
        Recipe.of(variant, BATCH).check(saved["recipe"])
        place = ocp.args.StandardRestore(start(variant, weights, mesh))
        return manager.restore(0, args=ocp.args.Composite(state=place))["state"]


# ------------------------------------------------------------------------------------------------- in several processes


def join(process: int, port: int, devices: int) -> None:
    """Become one of two processes that have so many CPU devices each and talk over the loopback device."""
    jax.config.update("jax_num_cpu_devices", devices)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    here = f"127.0.0.1:{port}"
    jax.distributed.initialize(
        here, num_processes=2, process_id=process, initialization_timeout=60, coordinator_bind_address=here
    )


def everything(
    process: int, port: int, rows: dict[str, Variant], ms: list[int | None], problem: Problem, folder: Path
) -> dict[str, Any]:
    """Walk with one device in each process, and with two, and write a checkpoint."""
    join(process, port, devices=2)
    a, b, c, d = jax.devices()
    assert (a.process_index, b.process_index, c.process_index, d.process_index) == (0, 0, 1, 1)
    found: dict[str, Any] = {}
    for name, variant in rows.items():
        for m in ms:
            sharded = variant if m is None else variant.sharded(m)
            found[f"{name} {m}"] = walk(sharded, problem, mesh_for(m, [a, c])).plain()
    shared = rows["LookSAM"].sharded(32)
    found["a shard on two devices of a process"] = walk(shared, problem, mesh_for(32)).plain()
    mesh = mesh_for(32, [a, c, b, d])
    found["a shard on two devices of two processes"] = walk(shared, problem, mesh, spread=spread_anyhow).plain()
    found["noisy"] = jax.tree.map(np.asarray, noisy_step(problem, mesh_for(16)))
    half = len(problem.inputs) // 2
    variant, mesh = rows["LookSAM"].sharded(16), mesh_for(16, [a, c])
    halfway = walk(variant, problem.part(0, half), mesh)
    save(folder, halfway.end, variant)
    later = problem.part(half, 2 * half)
    found["resumed"] = walk(variant, later, mesh, restore(folder, variant, problem.weights, mesh)).plain()
    found["not interrupted"] = walk(variant, later, mesh, halfway.end).plain()
    jax.distributed.shutdown()
    return found


def unequal(process: int, port: int, problem: Problem) -> float:
    """Take a step, and before the next one lose the data in one process alone."""
    join(process, port, devices=1)
    variant, mesh = SAM(rho=0.2).sharded(32), mesh_for(32)
    walk(variant, problem.part(0, 1), mesh).plain()
    if process == 1:
        raise ConnectionError("the data went away")
    return float(walk(variant, problem.part(0, 1), mesh).losses[0])
