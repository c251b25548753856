"""What `overhead` measures in JAX: compiled steps that own their weights and memory, which are donated.

*The limit* of a sharpness-aware step is one compiled function that takes two gradients at the same weights, the second
not before the first is whole, and one step of the base optimizer: what it takes if perturbing takes nothing.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache, partial

import jax

import samfamily_jax
from benchmarks import collectives_jax
from benchmarks.comparison import Compared, Contest, Counted, Device, Goal, Step
from benchmarks.counting_jax import Traced, flops, temporary_bytes, tree_bytes
from benchmarks.overhead_jax_steps import RHO, Method, Training, limit, ours, ours_with_memory, peer, plain, program
from benchmarks.overhead_jax_tasks import CONV, MLP, TASKS, Task
from samfamily import Variant
from samfamily_jax import SAM, LookSAM

__all__ = ["COUNTS", "PACKAGES", "TASKS", "contests", "counts", "device", "threads"]

PACKAGES = ("samfamily", "jax", "jaxlib", "optax", "numpy")

PERIOD = 5
"""LookSAM's k, and how many steps are timed together where a variant does not climb at every step."""
SHARD, SHARDS = 32, 4
"""The examples to a perturbation of m-sharded SAM, and how many perturbations a batch has."""


def threads(number: int | None) -> int:
    """Set the number of threads, if one is given, and return it; XLA asks for it once, when it starts."""
    if number is not None:
        os.environ["NPROC"] = str(number)
    return number or len(os.sched_getaffinity(0))


def device(name: str | None) -> Device:
    """The device that JAX finds; every step waits for it."""
    found = jax.devices()[0]
    if name is not None and (name == "cpu") != (found.platform == "cpu"):
        raise SystemExit(f"JAX works on {found.device_kind} here, and --device is {name}: set JAX_PLATFORMS={name}")
    return Device(found.device_kind)


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
SUMS = {"plain": Goal(1, 1), "SAM, the whole batch": Goal(2, 2), "SAM, m of a device": Goal(1, 1)}
"""One for each gradient of the whole batch; and one for the result where perturbations are apart."""


def counts(tasks: Sequence[Task] = (MLP, CONV)) -> list[Counted]:
    """What SAM costs on these tasks, whatever the machine."""
    sums = [
        Counted(f"{MLP.title}: {name}", f"sums over {collectives_jax.DEVICES} devices", value, SUMS[name])
        for name, value in collectives_jax.counted().items()
    ]
    return [*(counted for task in tasks for counted in _counts(task)), *sums]


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


def compilations(task: Task, method: Method) -> int:
    """How often a step is compiled while it is taken with three radii, one after the other."""
    update = Traced(method.update)
    training = Training(task, method._replace(update=update))
    for rho in (0.01, 0.05, 0.2):
        training.step(rho)
    return update.times
