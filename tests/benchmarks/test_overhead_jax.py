"""`python -m benchmarks overhead --backend jax`: its counters, its contenders and its page. No time is asserted."""

import argparse
import io
import json
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rich.console import Console

from benchmarks import collectives_jax, overhead, overhead_jax, overhead_torch
from benchmarks.counting_jax import Traced, all_reduces, flops, temporary_bytes, tree_bytes
from benchmarks.overhead_jax import SHARD, compilations, contests, copies, counts, flops_of_gradients, threads
from benchmarks.overhead_jax_steps import RHO, Method, Training, limit, ours, ours_with_memory, peer, plain, program
from benchmarks.overhead_jax_tasks import CONV, MLP, TASKS, Task, dense, operator, patches, sgd
from samfamily_jax import GSAM, SAM, LookSAM

LOSS = partial(dense, jnp.tanh)
TINY = Task("tiny", LOSS, ((3, 4), (4, 2)), (3,), sgd, "SGD", target=1.0, rounds=9, batch=8, losses=(("same", LOSS),))


def compiled(function: Callable[..., Any], *arguments: Any) -> jax.stages.Compiled:
    return jax.jit(function).lower(*arguments).compile()


# ------------------------------------------------------------------------------------------------------------- counting


def test_flops_and_temporaries_are_those_of_the_program() -> None:
    x = jnp.ones((64, 64))
    assert flops(compiled(lambda x: x @ x, x)) == 2 * 64**3
    assert flops(compiled(lambda x: x @ (x @ x), x)) == 4 * 64**3
    one, two = (temporary_bytes(compiled(f, x)) for f in (lambda x: x @ x, lambda x: x @ (x @ x)))
    assert two - one >= tree_bytes(x) == 4 * 64**2
    assert tree_bytes([jax.ShapeDtypeStruct((3,), jnp.float16), jnp.ones(())]) == 10


def test_sam_takes_the_operations_of_two_gradients() -> None:
    assert flops_of_gradients(CONV, SAM()) == pytest.approx(2, abs=0.02)
    assert flops_of_gradients(CONV, SAM(rho=0.0)) == pytest.approx(1, abs=0.02)  # negative control: no climb


def test_besides_it_takes_a_few_for_every_parameter() -> None:
    """They show on the MLP, whose gradient takes but 180 for each: a square, a product and two sums are 0.022 of it.

    XLA counts the norm's rare branch too, for squares that are out of range, as if it were taken.
    """
    parameters = sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(MLP.weights)))
    gradient = flops(compiled(jax.grad(MLP.loss), jax.eval_shape(MLP.weights), jax.eval_shape(MLP.inputs)))
    assert 2 + 4 * parameters / gradient < flops_of_gradients(MLP, SAM()) + 1e-3 < 2 + 10 * parameters / gradient
    assert flops_of_gradients(MLP, SAM(steps=2)) > 2.99  # negative control: three gradients


def test_memory_of_a_step_is_counted_in_copies() -> None:
    """A step that keeps its gradients from being fused into the update, and one that keeps three copies of them."""
    task = replace(TINY, shapes=((256, 256),) * 6, signal=(256,))
    assert copies(task, plain(task)) == 0
    assert copies(task, peer(task, opaque=False)) > copies(task, peer(task, opaque=True)) + 1


def test_a_step_of_sam_takes_one_copy_of_the_parameters() -> None:
    """The perturbed point or the first gradient: nothing more is written out."""
    assert copies(MLP, ours(MLP, SAM)) <= 1.05
    assert copies(MLP, ours(MLP, GSAM)) > 1.05  # negative control: it keeps the first gradient beside the second


def test_a_step_is_compiled_once_for_all_radii() -> None:
    assert compilations(TINY, ours(TINY, SAM)) == 1
    update = Traced(ours(TINY, SAM).update)
    static, method = jax.jit(update, static_argnums=3), ours(TINY, SAM)
    weights = TINY.weights()
    for rho in (0.01, 0.05, 0.2):
        static(weights, method.init(weights), TINY.inputs(), rho)
    assert update.times == 3  # negative control: a radius that belongs to the program


def test_sums_over_devices_are_counted_on_eight_of_them() -> None:
    assert collectives_jax.counted() == {"plain": 1, "SAM, the whole batch": 2, "SAM, m of a device": 1}


def test_a_program_of_one_device_has_no_sums_over_devices() -> None:
    """Negative control; and what stands for one sum in XLA's text, whatever the number of arrays in it."""
    assert all_reduces(compiled(LOSS, TINY.weights(), TINY.inputs())) == 0

    class Program:
        def as_text(self) -> str:
            return "%all-reduce.1 = (f32[2], f32[]) all-reduce(%a, %b)\n %r = f32[2] get-tuple-element(%all-reduce.1)"

    program: Any = Program()
    assert all_reduces(program) == 1


# ----------------------------------------------------------------------------------------------------------- contenders


@pytest.mark.parametrize("name", TASKS)
def test_the_networks_are_those_of_the_other_backend(name: str) -> None:
    task, (model, inputs) = TASKS[name], overhead_torch.TASKS[name].network()
    weights = jax.tree.leaves(jax.eval_shape(task.weights))
    assert sum(leaf.size for leaf in weights) == sum(p.numel() for p in model.parameters())
    assert len(weights) == len(list(model.parameters()))
    assert jax.eval_shape(task.inputs).size == inputs.numel()


def test_both_ways_to_convolve_are_one() -> None:
    images, kernel = (
        jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 8, 3))),
        jnp.arange(54.0).reshape(3, 3, 3, 2),
    )
    for stride in (1, 2):
        np.testing.assert_allclose(
            patches(images, kernel, stride), operator(images, kernel, stride), rtol=1e-4, atol=1e-3
        )
    shifted = operator(images[:, ::-1], kernel, 1)  # negative control
    assert not np.allclose(patches(images, kernel, 1), shifted, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("task", [replace(MLP, shapes=((64, 64),) * 3, signal=(64,)), CONV], ids=["mlp", "conv"])
def test_the_limit_takes_two_gradients(task: Task) -> None:
    gradient = flops(compiled(jax.grad(task.loss), jax.eval_shape(task.weights), jax.eval_shape(task.inputs)))
    two, one = (flops(program(task, method)) for method in (limit(task), plain(task)))
    assert two >= one + gradient


def test_two_gradients_at_one_place_are_one_to_xla() -> None:
    """What the limit would be if its second gradient did not wait for the first."""

    def shortened(weights: Any, memory: Any, inputs: jax.Array) -> Any:
        first, second = (jax.grad(TINY.loss)(weights, inputs) for _ in range(2))
        mean = jax.tree.map(lambda a, b: 0.5 * a + 0.5 * b, first, second)
        updates, memory = TINY.base().update(mean, memory, weights)
        return optax.apply_updates(weights, updates), memory, 0.0

    both, two, one = (flops(program(TINY, m)) for m in (Method(plain(TINY).init, shortened), limit(TINY), plain(TINY)))
    assert both - one < 0.5 * (two - one)


def walk(method: Method, steps: int, task: Task = TINY) -> np.ndarray[Any, Any]:
    training = Training(task, method)
    for _ in range(steps):
        training.step()
    return np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(training.weights)])


QUICK = replace(TINY, base=lambda: optax.sgd(0.1))


def test_the_peers_take_the_same_steps() -> None:
    ours_ = walk(ours(QUICK, SAM), 30)
    np.testing.assert_allclose(walk(peer(QUICK, opaque=True), 30), ours_, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(walk(peer(QUICK, opaque=False), 60), ours_, rtol=1e-5, atol=1e-6)
    plain_ = walk(plain(QUICK), 30)
    np.testing.assert_allclose(walk(limit(QUICK), 30), plain_, rtol=1e-5, atol=1e-6)
    assert not np.allclose(ours_, plain_, rtol=1e-3, atol=1e-3)  # negative control: without a perturbation


def test_rows_with_memory_and_shards_take_their_own_steps() -> None:
    large = replace(QUICK, batch=2 * SHARD)
    whole, halves = (walk(ours(large, row), 30, large) for row in (SAM, lambda rho: SAM(rho).sharded(SHARD)))
    assert not np.array_equal(whole, halves)
    every = walk(ours_with_memory(QUICK, LookSAM(RHO, k=1)), 30)
    np.testing.assert_allclose(every, walk(ours(QUICK, SAM), 30), rtol=1e-5, atol=1e-6)
    assert not np.allclose(walk(ours_with_memory(QUICK, LookSAM(RHO, k=5)), 30), every, atol=1e-5)


def test_nothing_is_held_after_it_is_donated() -> None:
    training = Training(TINY, peer(TINY, opaque=False))
    before = jax.tree.leaves((training.weights, training.memory))
    training.step()
    assert all(leaf.is_deleted() for leaf in before)
    assert not training.inputs.is_deleted()


def test_a_contest_compares_only_those_who_take_part() -> None:
    for held in contests(TINY):
        names = dict(held.contenders())
        for pair in held.compared:
            assert {pair.step, pair.unit} <= set(names)
        for step in names.values():
            step()
    assert len(list(contests(TINY))) == 3
    assert len(list(contests(replace(TINY, losses=())))) == 1


# ----------------------------------------------------------------------------------------------------------------- page


def test_the_page_and_the_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overhead_jax, "TASKS", {"conv": TINY})
    monkeypatch.setattr(overhead_jax, "counts", partial(counts, [TINY]))
    monkeypatch.setattr(collectives_jax, "counted", lambda: {"plain": 1, "SAM, the whole batch": 3})
    output = io.StringIO()
    arguments = argparse.Namespace(backend="jax", tasks=["conv"], rounds=3, out=tmp_path, clock="cpu")
    path = overhead.make(arguments, Console(file=output, width=160))
    page, shown = path.read_text(encoding="utf-8"), output.getvalue()
    for told in ("samfamily", "optax opaque", "optax transparent", "LookSAM", "m = 32", "in units of limit", "flops"):
        assert told in page
        assert told in shown
    assert f"jax {jax.__version__}" in page
    found = json.loads((tmp_path / "overhead.json").read_text(encoding="utf-8"))
    assert found["counts"]["tiny, batch 8, SGD"]["compilations for three rhos"] == 1
    assert "sums over 8 devices | 3 | 2: missed" in page
    timed = found["timed"]["tiny, batch 8, SGD"]
    assert len(timed["seconds"]["samfamily"]) == 3
    goals = {pair["unit"]: pair["goal"] and pair["goal"]["high"] for pair in timed["compared"] if "sam" in pair["step"]}
    assert goals == {"limit": 1.0, "optax opaque": 1.0}


def test_threads_are_told_to_xla(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NPROC", raising=False)
    assert threads(None) >= 1
    assert "NPROC" not in os.environ
    monkeypatch.setenv("NPROC", "7")
    assert threads(3) == 3
    assert os.environ["NPROC"] == "3"
