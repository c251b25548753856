"""Loops and trainers."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from flax.training.train_state import TrainState

from benchmarks.fault_table import Outcome, fault
from benchmarks.faults_jax.libraries import RHO, Library, Trainer, looped
from benchmarks.faults_jax.task import (
    BATCHES,
    LR,
    SGD,
    agree,
    at_worst,
    either,
    fit,
    length,
    network,
    norm,
    one_step,
    quadratic,
    sam,
    slope,
    steps,
    vectors,
)

TEN = (BATCHES * 2)[:10]


@fault("Six turns of a loop are six steps for the base optimizer", "optax 0.2.8")
def turns_are_steps(library: Library) -> Outcome:
    """Learning-rate schedules, averages of the weights and checkpoints count turns of the loop."""
    trainer = library.trainer(quadratic, optax.adam(LR), RHO)
    params, state = vectors(), trainer.init(vectors())
    for _ in range(6):
        params, state, _ = trainer.call(params, state)
    counted = int(optax.tree.get(state, "count"))
    return Outcome(counted == 6, f"Adam counted {counted} of 6")


@fault("A loop over batches is SAM: both gradients of a step are of one batch", "optax 0.2.8")
def one_batch_for_a_step(library: Library) -> Outcome:
    """Every turn of a loop brings the next batch; a step that takes two turns climbs on another than it descends on."""
    trainer = library.trainer(fit, SGD, RHO)
    params, state = network(), trainer.init(network())
    for batch in BATCHES[:4]:
        params, state, _ = trainer.call(params, state, *batch)
    return agree(params, sam(fit, network(), *BATCHES[:4]))


@fault(
    "flax's `TrainState.apply_gradients` is enough",
    "google/flax#4471, google/flax#4545, google/flax#4144, google-deepmind/penzai#126",
)
def train_state(library: Library) -> Outcome:
    """`apply_gradients(grads=...)` hands no keyword on to `update`."""
    gradient = library.value_and_grad(fit, RHO)
    step = jax.jit(lambda state, *batch: state.apply_gradients(grads=gradient(state.params, *batch)[1]))
    state: Any = TrainState.create(apply_fn=fit, params=network(), tx=library.optimizer(SGD, RHO))
    for batch in BATCHES[:2]:
        for _ in range(library.calls):
            state = step(state, *batch)
    return agree(state.params, sam(fit, network(), *BATCHES[:2]))


class Network(nnx.Module):
    """The network of `fit`, as a module."""

    def __init__(self) -> None:
        self.hidden, self.out = (nnx.Param(network()[name]) for name in ("hidden", "out"))

    def weights(self) -> Any:
        return {"hidden": self.hidden[...], "out": self.out[...]}


@fault("flax's `nnx.Optimizer.update(model, grads)` is enough", "google/flax#4545, google/flax#4144")
def nnx_optimizer(library: Library) -> Outcome:
    """What `update` needs besides the gradient must be made of the model's parts by the user."""
    model = Network()
    graph, params = nnx.split(model)

    def loss(params: Any, x: Any, y: Any) -> Any:
        return fit(nnx.merge(graph, params, copy=True).weights(), x, y)

    optimizer = nnx.Optimizer(model, library.optimizer(SGD, RHO), wrt=nnx.Param)
    gradient = jax.jit(library.value_and_grad(loss, RHO))
    for batch in BATCHES[:2]:
        for _ in range(library.calls):
            params = nnx.state(model, nnx.Param)
            optimizer.update(model, gradient(params, *batch)[1])
    return agree(model.weights(), sam(fit, network(), *BATCHES[:2]))


@fault("`jax.lax.scan` carries parameters and state", "optax 0.2.8")
def scanned(library: Library) -> Outcome:
    """A carry must keep its structure and its dtypes for ever."""
    trainer = library.trainer(quadratic, optax.adam(LR), RHO)
    start = (vectors(), trainer.init(vectors()))
    (params, _), _ = jax.lax.scan(lambda c, _: (trainer.call(*c)[:2], None), start, length=2 * library.calls)
    return agree(params, _two_steps_of_adam())


@fault("Parameters and state can be donated", "google-deepmind/optax#1059, optax 0.2.8")
def donation(library: Library) -> Outcome:
    """A state that holds the parameters themselves donates one buffer twice."""
    trainer = library.trainer(quadratic, optax.adam(LR), RHO)
    call: Any = jax.jit(lambda params, state: trainer.call(params, state)[:2], donate_argnums=(0, 1))
    params = vectors()
    carry = (params, trainer.init(params))
    for _ in range(2 * library.calls):
        carry = call(*carry)
    return agree(carry[0], _two_steps_of_adam())


@functools.cache
def _two_steps_of_adam() -> Any:
    return sam(quadratic, vectors(), (), (), base=optax.adam(LR))


@fault("`optax.multi_transform` of one optimizer a group", "optax 0.2.8")
def multi_transform(library: Library) -> Outcome:
    """Each transformation is shown the leaves of its group alone, with placeholders for the others."""
    groups = {"hidden": "fast", "out": "slow"}
    rates: Any = {"fast": optax.sgd(LR), "slow": optax.sgd(LR / 10)}
    inside: Any = {name: library.optimizer(base, RHO) for name, base in rates.items()}
    tx = optax.multi_transform(inside, groups)
    params = one_step(library, _loop(library, tx), network(), *BATCHES[0])
    base = optax.multi_transform(rates, groups)
    return either(params, [sam(fit, network(), BATCHES[0], base=base), _perturbed_by_group(base)])


def _loop(library: Library, tx: Any) -> Trainer:
    """The loop round a transformation that has the library's optimizer inside."""
    return looped(library.value_and_grad(fit, RHO), tx, library.keywords(fit))


def _perturbed_by_group(base: Any) -> Any:
    """One step in which each group has a perturbation of length rho: right too, where SAM is inside the groups."""
    first = slope(fit, network(), *BATCHES[0])
    worst = jax.tree.map(lambda w, g: w + RHO * np.asarray(g) / length(g), network(), first)
    updates, _ = base.update(slope(fit, worst, *BATCHES[0]), base.init(network()), network())
    return optax.apply_updates(network(), updates)


@fault("Clipping before the optimizer in a chain clips the step and not the radius", "google-research/sam, optax 0.2.8")
def clipping_in_a_chain(library: Library) -> Outcome:
    """`chain(clip, optimizer)` clips what it is handed; a gradient that is taken inside the optimizer it never sees."""
    clip = optax.clip_by_global_norm(0.1)
    trainer = _loop(library, optax.chain(clip, library.optimizer(SGD, RHO)))
    params = one_step(library, trainer, network(), *BATCHES[0])
    return agree(params, sam(fit, network(), BATCHES[0], base=optax.chain(clip, SGD)))


@fault(
    "`optax.MultiSteps` accumulates both gradients over the micro-batches",
    "davda54/sam#3, davda54/sam#62, nblt/F-SAM#3, google-deepmind/optax#320, google-deepmind/optax#596",
)
def accumulation(library: Library) -> Outcome:
    """The first gradient is a mean over micro-batches and the second that of the last one alone."""
    tx: Any = optax.MultiSteps(library.optimizer(SGD, RHO), every_k_schedule=2)
    trainer = _loop(library, optax.GradientTransformationExtraArgs(tx.init, tx.update))
    params, state = network(), trainer.init(network())
    for batch in BATCHES[:2] * library.calls:
        params, state, _ = trainer.call(params, state, *batch)
    alone = [sam(fit, network(), batch) for batch in BATCHES[:2]]
    for_each = jax.tree.map(lambda a, b: (np.asarray(a) + np.asarray(b)) / 2, *alone)
    return either(params, [for_each, sam(_fit_both, network(), BATCHES[:2])])


def _fit_both(params: Any, one: Any, two: Any) -> Any:
    return (fit(params, *one) + fit(params, *two)) / 2


@fault("Ten steps equal google-research/sam's, written out", "google-research/sam#5, google-research/sam#12")
def official_update(library: Library) -> Outcome:
    """The official repository does not run any more: weight decay inside the loss, clipping last, then momentum."""
    base = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(LR, momentum=0.9, nesterov=True))
    trainer = library.trainer(_decayed, base, RHO)
    found, _ = steps(library, trainer, network(), *TEN)
    return agree(found, _official())


def _decayed(params: Any, x: Any, y: Any) -> Any:
    return fit(params, x, y) + 0.001 / 2 * sum(jnp.sum(w**2) for w in jax.tree.leaves(params))


@functools.cache
def _official() -> Any:
    """The update of flax_training.py on one device: clipping to length 1 comes last, then Nesterov's momentum."""

    @jax.jit
    def update(w: Any, momentum: Any, *batch: Any) -> Any:
        h = jax.grad(_decayed)(at_worst(_decayed, w, *batch), *batch)
        shorter = jnp.minimum(1.0, 1.0 / norm(h))
        clipped = jax.tree.map(lambda x, by=shorter: x * by, h)
        momentum = jax.tree.map(lambda m, x: 0.9 * m + x, momentum, clipped)
        return jax.tree.map(lambda p, m, x: p - LR * (x + 0.9 * m), w, momentum, clipped), momentum

    w, momentum = network(), jax.tree.map(jnp.zeros_like, network())
    for batch in TEN:
        w, momentum = update(w, momentum, *batch)
    return w
