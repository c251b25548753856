"""The perturbation."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.fault_table import Outcome, all_of, fault, radius_is
from benchmarks.faults_jax.libraries import RHO, Library, PyTree
from benchmarks.faults_jax.task import (
    BATCHES,
    SGD,
    agree,
    at_worst,
    fit,
    length,
    moved,
    network,
    norm,
    one_step,
    perturbation,
    quadratic,
    sam,
    same,
    slope,
    steps,
    vectors,
)


@fault("What runs without an error is normalised", "optax 0.2.8")
def normalised_by_default(library: Library) -> Outcome:
    """Four files in the wild build `sam(optimizer, sgd(rho))`, whose perturbation is rho times the gradient's norm."""
    found = perturbation(library, lambda loss: library.shortest(loss, SGD, RHO), quadratic, vectors())
    return radius_is(length(found), RHO)


@fault("An ascent along signs is as long along every coordinate with a gradient", "optax 0.2.8, its example notebook")
def signs(library: Library) -> Outcome:
    """Adam as the adversary is nearly the ball of p = inf, and neither says so nor keeps to its radius."""

    def sloped(params: PyTree) -> jax.Array:
        return params["a"] @ jnp.array([1.0, -1e-9, 0.0]) + 0.0 * jnp.sum(params["b"])

    found = perturbation(library, lambda loss: library.signs(loss, SGD, RHO), sloped, vectors())
    return agree(found, [RHO * np.array([1, -1, 0]), np.zeros(2)], what="the perturbation")


@fault("Leaves that a mask excludes are trained and not perturbed", "google-research/sam#13, mueller-mp/SAM-ON#1")
def masked_ascent(library: Library) -> Outcome:
    """A masked ascent hands the raw gradient through where the mask says False."""
    found = perturbation(
        library, lambda loss: library.masked(loss, SGD, RHO, {"a": True, "b": False}), quadratic, vectors()
    )
    return all_of(same([found[1]], [np.zeros(2)], what="b"), radius_is(length(found), RHO))


@fault("One norm is taken over the whole tree", "google-research/sam#13, mueller-mp/SAM-ON#1")
def one_norm(library: Library) -> Outcome:
    """A norm for each tensor makes the perturbation longer than rho, the more so the more tensors there are."""
    found = perturbation(library, lambda loss: library.trainer(loss, SGD, RHO), fit, network(), *BATCHES[0])
    worst = at_worst(fit, network(), *BATCHES[0])
    expected = jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), worst, network())
    return all_of(radius_is(length(found), RHO), agree(found, jax.tree.leaves(expected), what="the perturbation"))


@fault("Frozen leaves stay bitwise", "any fine-tuning")
def frozen_leaves(library: Library) -> Outcome:
    """A loop that adds the perturbation and takes it away rounds twice."""
    base = optax.multi_transform({"moved": SGD, "frozen": optax.set_to_zero()}, {"hidden": "frozen", "out": "moved"})
    trainer = library.trainer(fit, base, RHO)
    found, _ = steps(library, trainer, network(), *BATCHES)
    moved = Outcome(bool((found["out"] != network()["out"]).all()), "the others are trained")
    return all_of(same(found["hidden"], network()["hidden"], what="the frozen leaf"), moved)


@fault("A schedule of rho is followed from step to step", "optax 0.2.8")
def schedule_of_rho(library: Library) -> Outcome:
    """The ascent's state is made anew at every step, and its counter with it."""
    trainer = library.trainer(quadratic, SGD, lambda step: 0.1 * (step + 1))
    params, state, reached = vectors(), trainer.init(vectors()), []
    for _ in range(4):
        before = params
        params, state = steps(library, trainer, before, (), state=state)
        followed = moved(before, params)  # it is w + eps - 1
        reached.append(length(jax.tree.map(lambda w, g: g - np.asarray(w) + 1, before, followed)))
    return agree(reached, [0.1, 0.2, 0.3, 0.4], tolerance=1e-4, what="rho")


@fault("The gradient is that at w + eps, with eps held fixed", "google-research/sam#14")
def gradient_at_the_perturbed_point(library: Library) -> Outcome:
    """Differentiating through the perturbation is another algorithm."""
    found = one_step(library, library.trainer(fit, SGD, RHO), network(), *BATCHES[0])
    return agree(found, sam(fit, network(), BATCHES[0]))


@fault("The derivative through eps can be asked for", "google-research/sam#14")
def second_order(library: Library) -> Outcome:
    """The second-order term that the paper drops."""
    trainer = library.second_order(fit, SGD, RHO)
    found, _, _ = trainer.call(network(), trainer.init(network()), *BATCHES[0])
    full = jax.jit(jax.grad(lambda w: fit(at_worst(fit, w, *BATCHES[0]), *BATCHES[0])))(network())
    return agree(moved(network(), found), full, what="the gradient")


@fault("Decoupled weight decay shrinks w and is not climbed", "davda54/sam#52")
def decoupled_decay(library: Library) -> Outcome:
    """A decay that is applied in both passes, or at the perturbed point."""
    base = optax.chain(optax.add_decayed_weights(0.5), SGD)
    found, _ = steps(library, library.trainer(fit, base, RHO), network(), *BATCHES[:2])
    return agree(found, sam(fit, network(), *BATCHES[:2], base=base))


@fault("Weight decay in the loss enters both passes", "davda54/sam#52")
def decay_in_the_loss(library: Library) -> Outcome:
    """Decay as a part of the loss is climbed like the rest of it."""

    def decayed(params: PyTree, x: Any, y: Any) -> jax.Array:
        return fit(params, x, y) + 0.25 * norm(params) ** 2

    found, _ = steps(library, library.trainer(decayed, SGD, RHO), network(), *BATCHES[:2])
    return agree(found, sam(decayed, network(), *BATCHES[:2]))


@fault(
    "ASAM: the units of a weight do not matter",
    "keras-team/keras#16335, davda54/sam#22, kozistr/pytorch_optimizer#424",
)
def units_of_weights(library: Library) -> Outcome:
    """A layer that is written twice as large and divided by two is the same layer."""
    units = {"hidden": 4.0, "out": 0.5}

    def scaled(params: PyTree, x: Any, y: Any) -> jax.Array:
        return fit(jax.tree.map(lambda w, unit: w / unit, params, units), x, y)

    build = partial(library.adaptive, base=SGD, rho=RHO)
    same_layers = jax.tree.map(lambda w, unit: np.asarray(w) * np.float32(unit), network(), units)
    one = perturbation(library, build, fit, network(), *BATCHES[0])
    other = perturbation(library, build, scaled, same_layers, *BATCHES[0])
    return agree([e / unit for e, unit in zip(other, units.values(), strict=True)], one, what="the perturbation")


@fault("GSAM: what is added lies across the perturbed gradient", "davda54/sam#72, keras-team/keras#16335")
def surrogate_gap(library: Library) -> Outcome:
    """A correction along the perturbed gradient is another learning rate."""
    after = one_step(library, library.surrogate_gap(fit, SGD, RHO, alpha=0.5), network(), *BATCHES[0])
    h = slope(fit, at_worst(fit, network(), *BATCHES[0]), *BATCHES[0])
    added = jax.tree.map(lambda followed, x: followed - np.asarray(x), moved(network(), after), h)
    along = sum(np.vdot(a, x) for a, x in zip(*map(jax.tree.leaves, (added, h)), strict=True))
    cosine = float(along) / (length(added) * length(h))
    return Outcome(abs(cosine) < 1e-3, f"cosine {cosine:.1e} with the perturbed gradient")
