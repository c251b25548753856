"""What `overhead` measures in JAX: compiled steps that own their weights and memory, which are donated.

*The limit* of a sharpness-aware step is one compiled function that takes two gradients at the same weights, the second
not before the first is whole, and one step of the base optimizer: what it takes if perturbing takes nothing.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import samfamily_jax
from benchmarks.comparison import Compared, Contest, Counted, Goal, Step
from benchmarks.counting_jax import Traced, flops, temporary_bytes, tree_bytes
from benchmarks.overhead_jax_tasks import CONV, MLP, TASKS, Task, Weights
from samfamily import Variant
from samfamily_jax import SAM, LookSAM, sharpness_aware

__all__ = ["COUNTS", "PACKAGES", "TASKS", "contests", "counts", "threads"]

PACKAGES = ("samfamily", "jax", "jaxlib", "optax", "numpy")

RHO = 0.05
PERIOD = 5
"""LookSAM's k, and how many steps are timed together where a variant does not climb at every step."""
SHARD, SHARDS = 32, 4
"""The examples to a perturbation of m-sharded SAM, and how many perturbations a batch has."""


def threads(number: int | None) -> int:
    """Set the number of threads, if one is given, and return it; XLA asks for it once, when it starts."""
    if number is not None:
        os.environ["NPROC"] = str(number)
    return number or len(os.sched_getaffinity(0))


Memory = Any
Update = Callable[..., tuple[Weights, Memory, jax.Array]]


class Method(NamedTuple):
    """A way to take a step.

    Attributes:
        init: from weights to memory.
        update: from weights, memory, a batch and perhaps rho to new weights and memory and the loss before.
    """

    init: Callable[[Weights], Memory]
    update: Update


class Training:
    """One network in training, from the same weights and on the same batch, whose weights and memory are donated."""

    def __init__(self, task: Task, method: Method) -> None:
        self.weights, self.inputs = task.weights(), task.inputs()
        self.memory = jax.tree.map(jnp.copy, method.init(self.weights))  # nothing is donated twice
        self.update = donating(method)

    def step(self, *rho: float) -> None:
        """Take a step and wait for it."""
        self.weights, self.memory, _ = self.update(self.weights, self.memory, self.inputs, *rho)
        jax.block_until_ready((self.weights, self.memory))


def donating(method: Method) -> Any:
    """The compiled update, which writes new weights and memory over the old ones."""
    return jax.jit(method.update, donate_argnums=(0, 1))


# --- Timed ------------------------------------------------------------------------------------------------------------


def contests(task: Task) -> Iterator[Contest]:
    """What is timed on a task."""
    pairs = [
        Compared("plain", "limit"),
        Compared("samfamily", "limit", Goal(task.target)),
        Compared("optax opaque", "limit"),
        Compared("optax transparent", "limit"),
        Compared("samfamily", "optax opaque", Goal(1.0)),
    ]
    yield Contest(task.title, partial(contenders, task), pairs, task.rounds)
    if task.losses:
        pairs = [Compared(f"{name}: LookSAM", f"{name}: plain", Goal(1.3)) for name, _ in task.losses]
        title = f"{task.title}: {PERIOD} steps together"
        yield Contest(title, partial(cheap_contenders, task), pairs, task.rounds // 2)
        large = replace(task, batch=SHARD * SHARDS)
        pairs = [Compared(f"m = {SHARD}", "m = batch", Goal(1.5))]
        yield Contest(f"{large.title}: shards", partial(sharded_contenders, large), pairs, task.rounds // 2)


def contenders(task: Task) -> Iterator[tuple[str, Step]]:
    """SAM's steps, and what they are compared with."""
    yield "limit", Training(task, limit(task)).step
    yield "plain", Training(task, plain(task)).step
    yield "samfamily", Training(task, ours(task, SAM)).step
    yield "optax opaque", Training(task, peer(task, opaque=True)).step
    yield "optax transparent", repeated(Training(task, peer(task, opaque=False)).step, 2)


def cheap_contenders(task: Task) -> Iterator[tuple[str, Step]]:
    """Some plain steps, and some of a variant that takes little more than one gradient each."""
    for name, loss in task.losses:
        kind = replace(task, loss=loss)
        yield f"{name}: plain", repeated(Training(kind, plain(kind)).step, PERIOD)
        looking = Training(kind, ours_with_memory(kind, LookSAM(RHO, k=PERIOD)))
        yield f"{name}: LookSAM", repeated(looking.step, PERIOD)


def sharded_contenders(task: Task) -> Iterator[tuple[str, Step]]:
    """SAM with one perturbation for the batch, and with one for each shard of it."""
    yield "m = batch", Training(task, ours(task, SAM)).step
    yield f"m = {SHARD}", Training(task, ours(task, lambda rho: SAM(rho).sharded(SHARD))).step


def repeated(step: Step, times: int) -> Step:
    def steps() -> None:
        for _ in range(times):
            step()

    return steps


# --- Counted, not timed -----------------------------------------------------------------------------------------------

COUNTS = "By XLA's analysis of the compiled programs"


def counts(tasks: Sequence[Task] = (MLP, CONV)) -> list[Counted]:
    """What SAM costs on these tasks, whatever the machine."""
    return [counted for task in tasks for counted in _counts(task)]


def _counts(task: Task) -> Iterator[Counted]:
    ratio = flops_of_gradients(task, SAM(RHO))
    yield Counted(task.title, "flops of value_and_grad, in jax's", ratio, Goal(2.02, 1.98))
    above = "temporaries above plain's, in copies of w"
    yield Counted(task.title, above, copies(task, ours(task, SAM)), Goal(1.05))
    for name, method in (
        ("limit", limit(task)),
        ("optax opaque", peer(task, opaque=True)),
        ("optax transparent", peer(task, opaque=False)),
    ):
        yield Counted(f"{task.title}: {name}", above, copies(task, method))
    yield Counted(task.title, "compilations for three rhos", compilations(task, ours(task, SAM)), Goal(1, 1))


def flops_of_gradients(task: Task, variant: Variant) -> float:
    """The operations of a variant's `value_and_grad`, in units of those of `jax.value_and_grad`."""
    functions = (samfamily_jax.value_and_grad(task.loss, variant), jax.value_and_grad(task.loss))
    arguments = jax.eval_shape(task.weights), jax.eval_shape(task.inputs)
    theirs, plains = (flops(jax.jit(function).lower(*arguments).compile()) for function in functions)
    return theirs / plains


def copies(task: Task, method: Method) -> float:
    """The temporary memory of a step above that of a plain one, in copies of the parameters."""
    return (temporary_bytes(program(task, method)) - plain_bytes(task)) / tree_bytes(jax.eval_shape(task.weights))


@cache
def plain_bytes(task: Task) -> int:
    """The temporary memory of a plain step."""
    return temporary_bytes(program(task, plain(task)))


def program(task: Task, method: Method) -> jax.stages.Compiled:
    """The program that a step runs."""
    weights = jax.eval_shape(task.weights)
    compiled: jax.stages.Compiled = (
        donating(method).lower(weights, jax.eval_shape(method.init, weights), jax.eval_shape(task.inputs)).compile()
    )
    return compiled


def compilations(task: Task, method: Method) -> int:
    """How often a step is compiled while it is taken with three radii, one after the other."""
    update = Traced(method.update)
    training = Training(task, method._replace(update=update))
    for rho in (0.01, 0.05, 0.2):
        training.step(rho)
    return update.times


# --- The ways to take a step ------------------------------------------------------------------------------------------


def descended(base: optax.GradientTransformation, gradient: Any, memory: Any, weights: Weights) -> tuple[Weights, Any]:
    """The weights and the memory after one step of the base optimizer."""
    updates, memory = base.update(gradient, memory, weights)
    return optax.apply_updates(weights, updates), memory


def plain(task: Task) -> Method:
    """The base optimizer's step."""
    base, value_and_grad = task.base(), jax.value_and_grad(task.loss)

    def update(weights: Weights, memory: Memory, inputs: jax.Array) -> tuple[Weights, Memory, jax.Array]:
        loss, gradient = value_and_grad(weights, inputs)
        return *descended(base, gradient, memory, weights), loss

    return Method(base.init, update)


def limit(task: Task) -> Method:
    """Two gradients and the base optimizer's step.

    The second batch is the first one moved by nothing times an entry of every part of the first gradient, so that XLA
    can neither take the two gradients for one nor leave a part of the first out.
    """
    base, value_and_grad = task.base(), jax.value_and_grad(task.loss)

    def update(weights: Weights, memory: Memory, inputs: jax.Array) -> tuple[Weights, Memory, jax.Array]:
        loss, first = value_and_grad(weights, inputs)
        entries = sum(leaf[(0,) * leaf.ndim] for leaf in jax.tree.leaves(first))
        _, second = value_and_grad(weights, inputs + 0.0 * entries)
        return *descended(base, second, memory, weights), loss

    return Method(base.init, update)


def ours(task: Task, row: Callable[[Any], Variant]) -> Method:
    """This library's step with a row without memory."""
    base = task.base()

    def update(
        weights: Weights, memory: Memory, inputs: jax.Array, rho: Any = RHO
    ) -> tuple[Weights, Memory, jax.Array]:
        loss, gradient = samfamily_jax.value_and_grad(task.loss, row(rho))(weights, inputs)
        return *descended(base, gradient, memory, weights), loss

    return Method(base.init, update)


def ours_with_memory(task: Task, variant: Variant) -> Method:
    """This library's step with a row that remembers."""
    base, aware = task.base(), sharpness_aware(task.loss, variant)

    def init(weights: Weights) -> Memory:
        return base.init(weights), aware.init(weights)

    def update(weights: Weights, memory: Memory, inputs: jax.Array) -> tuple[Weights, Memory, jax.Array]:
        (loss, gradient), after = aware.value_and_grad(weights, memory[1], inputs)
        weights, before = descended(base, gradient, memory[0], weights)
        return weights, (before, after), loss

    return Method(init, update)


def peer(task: Task, opaque: bool) -> Method:
    """SAM as optax has it: opaque, with both gradients in one call, or transparent, one in each of two calls."""
    ascent = optax.chain(optax.contrib.normalize(), optax.sgd(RHO))
    base = optax.contrib.sam(task.base(), ascent, sync_period=2, opaque_mode=opaque)
    value_and_grad = jax.value_and_grad(task.loss)

    def update(weights: Weights, memory: Memory, inputs: jax.Array) -> tuple[Weights, Memory, jax.Array]:
        loss, gradient = value_and_grad(weights, inputs)
        updates, memory = base.update(
            gradient, memory, weights, grad_fn=lambda point, _: value_and_grad(point, inputs)[1]
        )
        return optax.apply_updates(weights, updates), memory, loss

    return Method(base.init, update)
