"""What the probes share: two small tasks, plain SAM in a few lines as the truth, and comparisons with their size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.fault_table import Outcome
from benchmarks.faults_jax.libraries import RHO, Base, Library, Loss, PyTree, Trainer

LR = 0.1
TOLERANCE = 1e-5  # wider than ten steps in float32, far narrower than any of the faults
SGD = optax.sgd(LR)
BATCHES = [
    (rng.normal(size=(8, 4)).astype(np.float32), rng.normal(size=(8, 2)).astype(np.float32))
    for rng in map(np.random.default_rng, range(6))
]


def network() -> PyTree:
    """The weights of a small network, for `fit`."""
    rng = np.random.default_rng(7)
    shapes = {"hidden": (4, 8), "out": (8, 2)}
    return {name: jnp.asarray(0.5 * rng.normal(size=shape).astype(np.float32)) for name, shape in shapes.items()}


def fit(params: PyTree, x: Any, y: Any) -> jax.Array:
    """The network's mean squared error."""
    return jnp.mean((jnp.tanh(x @ params["hidden"]) @ params["out"] - y) ** 2)


def vectors(dtype: Any = jnp.float32) -> PyTree:
    """Two vectors of numbers between 2 and 3, for `quadratic`."""
    return {name: jnp.asarray(np.linspace(2, 3, size).astype(dtype)) for name, size in (("a", 3), ("b", 2))}


def quadratic(params: PyTree, scale: Any = 1.0) -> jax.Array:
    """Half the squared distance from 1, whose gradient is the distance itself."""
    return sum((scale / 2 * jnp.sum((p - 1) ** 2) for p in jax.tree.leaves(params)), jnp.zeros(()))


def steps(library: Library, trainer: Trainer, params: PyTree, *batches: Any, state: Any = None) -> tuple[PyTree, Any]:
    """A step of SAM on each batch, however often the library wants the loop's body to run for one."""
    state = trainer.init(params) if state is None else state
    for batch in batches:
        for _ in range(library.calls):
            params, state, _ = trainer.call(params, state, *batch)
    return params, state


def one_step(library: Library, trainer: Trainer, params: PyTree, *batch: Any) -> PyTree:
    """Where one step leads."""
    return steps(library, trainer, params, batch)[0]


def perturbation(
    library: Library, build: Callable[[Loss], Trainer], loss: Loss, params: PyTree, *batch: Any
) -> list[Any]:
    """How far from w one step looked at the loss, leaf by leaf: the farthest of the points at which it looked."""
    seen: list[Any] = []

    def watched(params: PyTree, *batch: Any) -> Any:
        jax.debug.callback(lambda *leaves: seen.append(leaves), *jax.tree.leaves(params))
        return loss(params, *batch)

    one_step(library, build(watched), params, *batch)
    jax.effects_barrier()
    home = jax.tree.leaves(params)
    moved = [[_wide(x) - _wide(w) for x, w in zip(leaves, home, strict=True)] for leaves in seen]
    return max(moved, key=length)


def length(tree: PyTree, q: float = 2) -> float:
    """The q-norm over all leaves."""
    return float(np.linalg.norm(np.concatenate([np.ravel(_wide(x)) for x in jax.tree.leaves(tree)]), q))


def _wide(x: Any) -> Any:
    x = np.asarray(x)
    return x.astype(np.complex128 if np.iscomplexobj(x) else np.float64)


def sam(loss: Loss, params: PyTree, *batches: Any, base: Base = SGD, rho: float = RHO) -> PyTree:
    """Where plain steps of SAM lead, one on each batch."""
    state = base.init(params)
    for batch in batches:
        params, state = _step(loss, base, rho, params, state, *batch)
    return params


@partial(jax.jit, static_argnums=(0, 1, 2))
def _step(loss: Loss, base: Base, rho: float, params: PyTree, state: Any, *batch: Any) -> tuple[PyTree, Any]:
    """The algebra of the paper, and no more."""
    gradient = jax.grad(loss)(at_worst(loss, params, *batch, rho=rho), *batch)
    updates, state = base.update(gradient, state, params)
    return optax.apply_updates(params, updates), state


@partial(jax.jit, static_argnums=0, static_argnames="rho")
def at_worst(loss: Loss, params: PyTree, *batch: Any, rho: float = RHO) -> PyTree:
    """The perturbed point."""
    g = jax.grad(loss)(params, *batch)
    return jax.tree.map(lambda w, d: w + rho * d / norm(g), params, g)


@partial(jax.jit, static_argnums=0)
def slope(loss: Loss, params: PyTree, *batch: Any) -> PyTree:
    """The gradient."""
    return jax.grad(loss)(params, *batch)


def moved(before: PyTree, after: PyTree) -> PyTree:
    """The gradient that a step of SGD followed."""
    return jax.tree.map(lambda w, v: (_wide(w) - _wide(v)) / LR, before, after)


def norm(tree: PyTree) -> jax.Array:
    """The 2-norm of a whole tree, for what is compiled."""
    return jnp.sqrt(sum((jnp.sum(x.astype(jnp.float32) ** 2) for x in jax.tree.leaves(tree)), jnp.zeros(())))


def agree(found: PyTree, expected: PyTree, tolerance: float = TOLERANCE, what: str = "w") -> Outcome:
    """Whether two trees agree to this absolute tolerance, and by how much they do not."""
    gaps = [float(np.max(np.abs(a - b))) for a, b in _pairs(found, expected) if a.size]
    gap = next((x for x in gaps if x != x), max(gaps, default=0.0))
    return Outcome(gap <= tolerance, f"{what} off by {gap:.1e}, tolerance {tolerance:.0e}")


def either(found: PyTree, expected: Sequence[PyTree]) -> Outcome:
    """Whether the tree agrees with one of several that would be right."""
    outcomes = [agree(found, each) for each in expected]
    return next((outcome for outcome in outcomes if outcome.ok), outcomes[0])


def same(found: PyTree, expected: PyTree, what: str = "w") -> Outcome:
    """Whether two trees are bitwise equal."""
    pairs = _pairs(found, expected)
    unequal = sum(int(np.sum(a != b)) for a, b in pairs)
    wild = sum(int(np.sum(~np.isfinite(a))) for a, _ in pairs)
    how = f"{wild} are not finite" if wild else f"{unequal} differ"
    total = sum(a.size for a, _ in pairs)
    return Outcome(not unequal, f"{what}: {how} of {total}" if unequal else f"{what} unchanged")


def _pairs(found: PyTree, expected: PyTree) -> list[tuple[Any, Any]]:
    leaves = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    return [(_wide(a), _wide(b)) for a, b in leaves]
