"""Cost, and what is told of a step."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.fault_table import Outcome, all_of, fault
from benchmarks.faults_jax.libraries import RHO, Library, PyTree
from benchmarks.faults_jax.task import (
    BATCHES,
    SGD,
    agree,
    at_worst,
    fit,
    length,
    network,
    quadratic,
    slope,
    steps,
    vectors,
)


@fault("A step of SAM costs two gradients, as XLA counts operations", "davda54/sam#69")
def operations_of_sam(library: Library) -> Outcome:
    """A gradient that is thrown away is paid for."""

    def loss(params: PyTree, x: Any) -> jax.Array:
        for w in params:
            x = jnp.tanh(x @ w)
        return jnp.mean(x**2)

    params, x = [np.ones((64, 64), np.float32)] * 4, np.ones((256, 64), np.float32)
    trainer = library.trainer(loss, SGD, RHO)

    def step(params: PyTree, state: Any, x: Any) -> PyTree:
        return steps(library, trainer, params, (x,), state=state)

    ratio = _operations(step, params, trainer.init(params), x) / _operations(jax.value_and_grad(loss), params, x)
    return Outcome(abs(ratio - 2) < 0.1, f"{ratio:.2f} gradients")


def _operations(function: Any, *arguments: Any) -> float:
    analysis: Any = jax.jit(function).lower(*arguments).compile().cost_analysis()
    return float(analysis["flops"])


@fault("Three values of rho compile once", "optax 0.2.8")
def compiles_once(library: Library) -> Outcome:
    """A search over rho must not wait for the compiler at every value."""
    traced = []

    @jax.jit
    def step(params: PyTree, rho: Any) -> PyTree:
        traced.append(rho)
        return steps(library, library.trainer(quadratic, SGD, rho), params, ())[0]

    found = [step(vectors(), rho) for rho in (0.0, 0.1, 0.2)]
    apart = Outcome(not agree(found[0], found[2]).ok, "each of them counts")
    return all_of(Outcome(len(traced) == 1, f"compiled {len(traced)} times"), apart)


@fault("LookSAM(k=5) costs one gradient where it does not climb", "davda54/sam#69, dydjw9/Efficient_SAM#4")
def idle_steps(library: Library) -> Outcome:
    """A cheap variant that computes both branches saves nothing."""
    passes: list[int] = []

    def loss(params: PyTree, x: Any, y: Any) -> jax.Array:
        jax.debug.callback(lambda: passes.append(1))
        return fit(params, x, y)

    trainer = library.looksam(loss, SGD, RHO, k=5)
    params, state = network(), trainer.init(network())
    for _ in range(10):
        params, state, _ = trainer.call(params, state, *BATCHES[0])
    jax.effects_barrier()
    return Outcome(len(passes) == 12, f"{len(passes) / 10:g} gradients a step")


@fault(
    "A step tells dual norm, radius, perturbed loss and whether it climbed",
    "broadinstitute/permutect#243, HomebrewNLP/Olmax#59",
)
def figures(library: Library) -> Outcome:
    """SAM that was never switched on looks like SAM that does not help."""
    on, off = (jax.jit(library.figures(fit, rho))(network(), *BATCHES[0]) for rho in (RHO, 0.0))
    dual_norm = length(slope(fit, network(), *BATCHES[0]))
    perturbed = fit(at_worst(fit, network(), *BATCHES[0]), *BATCHES[0])
    told = [on.loss, on.dual_norm, on.radius, on.perturbed_loss]
    return all_of(
        agree(told, [fit(network(), *BATCHES[0]), dual_norm, RHO, perturbed], what="the figures"),
        Outcome(bool(on.active) and not bool(off.active), f"active at rho = {RHO}: {on.active}; at 0: {off.active}"),
    )
