"""Rounding."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.fault_table import NotOfferedError, Outcome, all_of, fault, radius_is
from benchmarks.faults_jax.libraries import RHO, Library, PyTree
from benchmarks.faults_jax.task import (
    BATCHES,
    SGD,
    agree,
    fit,
    length,
    network,
    perturbation,
    quadratic,
    same,
    steps,
    vectors,
)


@fault(
    "The norm of float16 gradients may exceed 65504",
    "huggingface/pytorch-image-models#1366, dydjw9/Efficient_SAM#4, facebookresearch/fairscale#989",
)
def norm_in_float16(library: Library) -> Outcome:
    """A thousand gradients of 3000 have a norm beyond float16's range: rho / inf, and no perturbation."""

    def steep(w: jax.Array) -> jax.Array:
        return jnp.sum(3000 * w, dtype=jnp.float32)

    return _radius(library, steep, jnp.asarray(np.zeros(1000, np.float16)))


@fault("Gradients of 1e-25 are perturbed by rho", "optax 0.2.8")
def tiny_gradients(library: Library) -> Outcome:
    """Squared in float32 they vanish."""
    return _radius(library, lambda w: quadratic(w, 1e-25), vectors())


@fault("Gradients of 1e25 are perturbed by rho", "optax 0.2.8")
def huge_gradients(library: Library) -> Outcome:
    """Squared in float32 they are infinite."""
    return _radius(library, lambda w: quadratic(w, 1e25), vectors())


def _radius(library: Library, loss: Any, params: PyTree) -> Outcome:
    base = optax.sgd(0.0)
    return radius_is(
        length(perturbation(library, lambda watched: library.trainer(watched, base, RHO), loss, params)), RHO
    )


@fault(
    "A loss scale changes nothing, bit by bit", "huggingface/pytorch-image-models#1366, facebookresearch/fairscale#989"
)
def loss_scale(library: Library) -> Outcome:
    """The ascent has no use for the loss's scale, and the descent divides by it."""

    def path(scale: float) -> PyTree:
        base = optax.chain(optax.scale(1 / scale), SGD)
        trainer = library.trainer(lambda w, x, y: scale * fit(w, x, y), base, RHO)
        return steps(library, trainer, network(), *BATCHES[:2])[0]

    return same(path(2.0**15), path(1.0))


@fault("Leaves of several dtypes share one norm and keep their dtypes", "any mixed-precision model")
def several_dtypes(library: Library) -> Outcome:
    """A norm for each dtype, or a float32 scalar that promotes the rest."""
    params = {"a": vectors()["a"], "b": vectors(jnp.float16)["b"]}
    found = perturbation(library, lambda loss: library.trainer(loss, SGD, RHO), quadratic, params)
    trainer = library.trainer(quadratic, SGD, RHO)
    after, _ = steps(library, trainer, params, ())
    kept = Outcome(after["b"].dtype == jnp.float16, f"b is {after['b'].dtype}")
    return all_of(kept, radius_is(length(found), RHO))


@fault("A perturbation that bfloat16 rounds away arrives, or is told of", "any SAM on bfloat16 weights")
def perturbation_rounded_away(library: Library) -> Outcome:
    """A thousand weights at 1 move by less than half a unit in the last place: plain SGD, at twice the price."""
    rho, ones = 0.05, jnp.asarray(np.ones(1000, jnp.bfloat16))

    def loss(w: jax.Array) -> jax.Array:
        return jnp.sum(jnp.square(w.astype(jnp.float32)))

    share = length(perturbation(library, lambda watched: library.trainer(watched, SGD, rho), loss, ones)) / rho
    if share > 0.5:
        return Outcome(True, f"{share:.0%} of rho arrived")
    try:
        told = float(jax.jit(library.figures(loss, rho))(ones).effective_radius) / rho
    except NotOfferedError:
        return Outcome(False, f"{share:.0%} of rho arrived, and nothing tells")
    return agree([told], [share], tolerance=1e-2, what=f"{share:.0%} of rho arrived; what is told")


@fault("Weights come home bitwise", "optax 0.2.8")
def comes_home(library: Library) -> Outcome:
    """`w + eps` and then `+ (w - (w + eps))` rounds twice."""
    found, _ = steps(library, library.trainer(fit, optax.sgd(0.0), RHO), network(), *BATCHES)
    return same(found, network(), what=f"w after {len(BATCHES)} steps at lr = 0")
