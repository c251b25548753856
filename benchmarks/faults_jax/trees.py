"""Kinds of parameters."""

import re

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.fault_table import Outcome, all_of, fault, shown
from benchmarks.faults_jax.libraries import RHO, Library, PyTree
from benchmarks.faults_jax.task import SGD, agree, one_step, perturbation, quadratic, sam, vectors


@fault("Leaves that are no floats (int, bool, key, None) pass through", "jax.grad's own rule")
def leaves_that_are_no_floats(library: Library) -> Outcome:
    """Models carry counters, flags and keys among their weights."""
    rest = {"n": jnp.array(2), "flag": jnp.array(True), "key": jax.random.key(0), "none": None}

    def loss(params: PyTree) -> jax.Array:
        noise = 0.0 * jax.random.uniform(params["key"])
        return jnp.where(params["flag"], 0.5 * jnp.sum((params["w"] - 1) ** params["n"]), 0.0) + noise

    found = one_step(library, library.trainer(loss, SGD, RHO), rest | {"w": vectors()["a"]})
    kept = all(found[name] is rest[name] or bool(jnp.all(found[name] == rest[name])) for name in rest)
    return all_of(
        Outcome(kept, "the rest is as it was" if kept else "the rest has changed"),
        agree(found["w"], sam(quadratic, vectors()["a"], ())),
    )


@fault("float0 leaves pass through", "jax.grad's own dtype for what has no gradient")
def float0_leaves(library: Library) -> Outcome:
    """No arithmetic is defined on float0, the gradient of an integer."""
    nothing = np.zeros(3, jax.dtypes.float0)
    params = {"w": vectors()["a"], "nothing": nothing}
    trainer = library.trainer(lambda p: quadratic(p["w"]), SGD, RHO)
    found = jax.jit(lambda w: one_step(library, trainer, params | {"w": w})["w"])(params["w"])
    return agree(found, sam(quadratic, vectors()["a"], ()))


@fault("Arrays without entries, and 0-d ones", "any pruned layer, any learned temperature")
def empty_and_scalar_leaves(library: Library) -> Outcome:
    """There is no maximum of nothing."""
    params = {"w": vectors()["a"], "empty": jnp.asarray(np.zeros((0, 3), np.float32)), "scalar": jnp.float32(2.5)}
    found = one_step(library, library.trainer(quadratic, SGD, RHO), params)
    shapes = all(found[name].shape == params[name].shape for name in params)
    return all_of(Outcome(shapes, "shapes are kept"), agree(found, sam(quadratic, params, ())))


@fault("An empty tree is left alone, or refused in plain words", "any model without parameters")
def empty_tree(library: Library) -> Outcome:
    """A sum or a maximum over nothing, three frames deep."""
    try:
        found = one_step(library, library.trainer(quadratic, SGD, RHO), {})
    except Exception as raised:  # noqa: BLE001  a refusal is a fair answer
        return Outcome(bool(re.search("parameters have no float leaf", str(raised))), shown(raised))
    return Outcome(found == {}, f"returned {found}")


@fault("Complex leaves climb", "jax.grad's own convention")
def complex_leaves(library: Library) -> Outcome:
    """JAX's gradient of a complex leaf is the conjugate of the direction of steepest ascent."""

    def loss(z: jax.Array) -> jax.Array:
        return jnp.sum(jnp.abs(z - 1j) ** 2)

    z = np.array([1.0 + 0.5j], np.complex64)
    (found,) = perturbation(library, lambda watched: library.trainer(watched, SGD, RHO), loss, z)
    start = float(np.sum(np.abs(z - 1j) ** 2))
    rise = float(np.sum(np.abs(z + found - 1j) ** 2)) - start
    best = (start**0.5 + RHO) ** 2 - start
    return Outcome(rise > 0.99 * best, f"the loss rises by {rise:.3f}; steepest ascent: {best:.3f}")
