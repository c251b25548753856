"""Losses that come back, batch norm, dropout."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.fault_table import Outcome, all_of, fault
from benchmarks.faults_jax.libraries import RHO, Library, PyTree
from benchmarks.faults_jax.task import BATCHES, SGD, agree, fit, length, network, same


@fault("Every value that the loop logs is the loss at w", "google-research/sam, optax 0.2.8")
def returned_loss(library: Library) -> Outcome:
    """Every second value is the loss at a perturbed point, where nobody will evaluate."""
    trainer = library.trainer(_half_square, SGD, RHO)
    params, state, logged, truth = network(), trainer.init(network()), [], []
    for _ in range(2):
        at_w = length(params) ** 2 / 2
        for _ in range(library.calls):
            params, state, value = trainer.call(params, state)
            logged.append(float(value))
            truth.append(at_w)
    return agree(logged, truth, what="the loss")


def _half_square(params: PyTree) -> jax.Array:
    """Half the squared norm."""
    return 0.5 * sum((jnp.sum(w**2) for w in jax.tree.leaves(params)), jnp.zeros(()))


def _with_statistics(params: PyTree, statistics: Any, x: Any, y: Any) -> tuple[jax.Array, Any]:
    """The loss, and the running average of a layer's output, as flax returns it."""
    mean = jnp.mean(jnp.tanh(x @ params["hidden"]), axis=0)
    return fit(params, x, y), 0.9 * statistics + 0.1 * mean


@fault(
    "Statistics that the loss returns (`has_aux`) move once a step, at w",
    "davda54/sam#17, davda54/sam#30, davda54/sam#40, team-approx-bayes/bayesian-sam#2",
)
def statistics_move_once(library: Library) -> Outcome:
    """Both passes move the running averages, one of them at weights that nobody will evaluate."""
    trainer = library.trainer(_with_statistics, SGD, RHO, has_aux=True)
    params, state, statistics = network(), trainer.init(network()), jnp.asarray(np.zeros(8, np.float32))
    outcomes = []
    for batch in BATCHES[:2]:
        _, expected = jax.jit(_with_statistics)(params, statistics, *batch)
        for _ in range(library.calls):
            params, state, (_, statistics) = trainer.call(params, state, statistics, *batch)
        outcomes.append(agree(statistics, expected, what="the statistics"))
    return all_of(*outcomes)


class Normalised(nnx.Module):
    """A module of flax with batch norm."""

    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.hidden, self.norm = nnx.Linear(4, 8, rngs=rngs), nnx.BatchNorm(8, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return jnp.mean(self.norm(self.hidden(x)), axis=1, keepdims=True)


@fault(
    "An nnx module with batch norm, in a functional loop, moves its statistics once",
    "google/flax#5050, AI-Hypercomputer/maxtext#4734",
)
def nnx_statistics(library: Library) -> Outcome:
    """Since flax 0.12 a merged module that is changed inside a gradient must be a copy."""
    parts: Any = nnx.split(Normalised(), nnx.Param, nnx.BatchStat)
    graph, params, rest = parts

    def loss(params: Any, rest: Any, x: Any, y: Any) -> tuple[jax.Array, Any]:
        model = nnx.merge(graph, params, rest, copy=True)
        value = jnp.mean((model(x) - y) ** 2)
        return value, nnx.state(model, nnx.BatchStat)

    trainer = library.trainer(loss, SGD, RHO, has_aux=True)
    _, expected = jax.jit(loss)(params, rest, *BATCHES[0])
    state, start = trainer.init(params), params
    for _ in range(library.calls):
        params, state, (_, rest) = trainer.call(params, state, rest, *BATCHES[0])
    moved = Outcome(not same(params, start).ok, "the weights are trained")
    return all_of(agree(rest, expected, what="the statistics"), moved)


@fault("Dropout has one mask in both passes, and a new one in the next step", "google-research/sam, optax 0.2.8")
def dropout_masks(library: Library) -> Outcome:
    """Every turn of a loop brings the next key; with another mask the second pass differentiates another function."""
    masks: list[bytes] = []

    def loss(params: PyTree, key: Any, x: Any, y: Any) -> jax.Array:
        mask = jax.random.bernoulli(key, 0.5, x.shape)
        jax.debug.callback(lambda drawn: masks.append(np.asarray(drawn).tobytes()), mask)
        return fit(params, x * mask, y)

    trainer = library.trainer(loss, SGD, RHO)
    params, state = network(), trainer.init(network())
    for turn in range(2 * library.calls):
        params, state, _ = trainer.call(params, state, jax.random.key(turn), *BATCHES[0])
    jax.effects_barrier()
    distinct = len(set(masks))
    return Outcome(len(masks) == 4 and distinct == 2, f"{distinct} masks in {len(masks)} passes of 2 steps")
