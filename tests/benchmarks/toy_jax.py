"""SAM for JAX by hand, with one thing wrong at a time, for the probes that every installed library passes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from benchmarks.faults_jax.libraries import Library, Ours, Trainer, looped
from benchmarks.faults_jax.task import norm
from samfamily_jax import SAM, StepInfo, value_and_grad


class ByHand(Library):
    """Right, but for what a subclass does otherwise."""

    def value_and_grad(self, loss: Any, rho: Any, has_aux: bool = False) -> Callable[..., Any]:
        gradient = jax.value_and_grad(loss, has_aux=has_aux)

        def vg(params: Any, *batch: Any) -> Any:
            value, g = gradient(params, *batch)
            return value, self.second(gradient, params, self.climb(g, rho), *batch)

        return vg

    def climb(self, g: Any, rho: Any) -> Any:
        n = norm(g)
        return jax.tree.map(lambda x: (jnp.where(n > 0, rho / n, 0.0) * x).astype(x.dtype), g)

    def second(self, gradient: Any, params: Any, epsilon: Any, *batch: Any) -> Any:
        return gradient(jax.tree.map(jnp.add, params, epsilon), *batch)[1]


class Idle(ByHand):
    """Never climbs."""

    def climb(self, g: Any, rho: Any) -> Any:
        return jax.tree.map(jnp.zeros_like, g)


class LeafByLeaf(ByHand):
    """Takes a norm for every leaf, and refuses one without entries."""

    def climb(self, g: Any, rho: Any) -> Any:
        if not all(x.size for x in jax.tree.leaves(g)) or not jax.tree.leaves(g):
            raise ValueError("zero-size array to reduction operation max which has no identity")
        return jax.tree.map(lambda x: rho * x / jnp.linalg.norm(x), g)


class Stabilised(ByHand):
    """Adds a constant to the norm, and to rho."""

    def climb(self, g: Any, rho: Any) -> Any:
        return jax.tree.map(lambda x: (rho + 1e-4) * x / (norm(g) + 1e-2), g)


class Hiding(ByHand):
    """Puts ones where a number is not finite, before anyone sees."""

    def climb(self, g: Any, rho: Any) -> Any:
        return super().climb(jax.tree.map(lambda x: jnp.where(jnp.isfinite(x), x, 1.0), g), rho)


class Thorough(ByHand):
    """Asks for the second gradient twice."""

    def second(self, gradient: Any, params: Any, epsilon: Any, *batch: Any) -> Any:
        half = jax.tree.map(lambda e: e / 2, epsilon)
        once, again = (super(Thorough, self).second(gradient, params, e, *batch) for e in (epsilon, half))
        return jax.tree.map(lambda a, b: (a + b) / 2, once, again)


class Literal(ByHand):
    """Takes rho for a Python number."""

    def climb(self, g: Any, rho: Any) -> Any:
        return super().climb(g, float(rho))


class Counting(Ours):
    """Counts the steps in a Python number, which a scan cannot carry."""

    def trainer(self, loss: Any, base: Any, rho: Any, has_aux: bool = False) -> Trainer:
        inner = super().trainer(loss, base, rho, has_aux)

        def call(params: Any, state: Any, *batch: Any) -> Any:
            params, after, value = inner.call(params, state[0], *batch)
            return params, (after, *state), value

        return Trainer(lambda params: (inner.init(params),), call)


class Swapped(Ours):
    """Offers rows under the names of others."""

    def value_and_grad(self, loss: Any, rho: Any, has_aux: bool = False) -> Callable[..., Any]:
        return value_and_grad(loss, SAM(rho=rho, second_order=True), has_aux=has_aux)

    def second_order(self, loss: Any, base: Any, rho: float) -> Trainer:
        return self._of(loss, base, SAM(rho=rho))

    def adaptive(self, loss: Any, base: Any, rho: float) -> Trainer:
        return self.second_order(loss, base, rho)

    def surrogate_gap(self, loss: Any, base: Any, rho: float, alpha: float) -> Trainer:
        halved = optax.chain(optax.scale(alpha), base)
        return self._of(loss, halved, SAM(rho=rho))

    def looksam(self, loss: Any, base: Any, rho: float, k: int) -> Trainer:
        return super().looksam(loss, base, rho, k=1)

    def sharded(self, loss: Any, base: Any, rho: float, m: int) -> Trainer:
        return self.second_order(loss, base, rho)

    def figures(self, loss: Any, rho: float) -> Callable[..., StepInfo]:
        return super().figures(loss, 0.0)


class Naive(Ours):
    """Differentiates with respect to what all devices share; has the m and the perturbation that the devices have."""

    def per_device(self, loss: Any, rho: Any, axis: str) -> Callable[..., Any]:
        gradient = self.value_and_grad(loss, rho)
        return lambda params, *batch: gradient(params, *batch)[1]

    def trainer(self, loss: Any, base: Any, rho: Any, has_aux: bool = False) -> Trainer:
        return self.sharded(loss, base, rho, 8 // jax.device_count())

    def sharded(self, loss: Any, base: Any, rho: float, m: int) -> Trainer:
        return super().sharded(loss, base, rho, 8 // m)


class Scanning(ByHand):
    """Takes the shards in a loop."""

    def sharded(self, loss: Any, base: Any, rho: float, m: int) -> Trainer:
        vg = self.value_and_grad(loss, rho)

        def over(params: Any, *batch: Any) -> Any:
            parts = jax.tree.map(lambda x: x.reshape(-1, m, *x.shape[1:]), batch)
            return jax.tree.map(lambda x: jnp.mean(x, 0), self.map_over(lambda part: vg(params, *part), parts))

        return looped(over, base, lambda *batch: {})

    def map_over(self, function: Any, parts: Any) -> Any:
        return jax.lax.map(function, parts)


class Mapping(Scanning):
    """Takes the shards under `vmap`."""

    def map_over(self, function: Any, parts: Any) -> Any:
        return jax.vmap(function)(parts)


MUTANTS: dict[str, Library] = {
    "scanned": Counting(),
    "official_update": Idle(),
    "one_norm": LeafByLeaf(),
    "gradient_at_the_perturbed_point": Swapped(),
    "second_order": Swapped(),
    "decoupled_decay": Idle(),
    "decay_in_the_loss": Idle(),
    "units_of_weights": Swapped(),
    "surrogate_gap": Swapped(),
    "nan_in_pass_one": Hiding(),
    "infinite_gradient_in_pass_one": Hiding(),
    "loss_scale": Stabilised(),
    "empty_and_scalar_leaves": LeafByLeaf(),
    "empty_tree": LeafByLeaf(),
    "shards_equal_a_loop": Swapped(),
    "no_convolution_in_a_loop": Scanning(),
    "no_grouped_convolution": Mapping(),
    "operations_of_sam": Thorough(),
    "compiles_once": Literal(),
    "idle_steps": Swapped(),
    "figures": Swapped(),
}
"""For each probe that no peer fails, a library that does."""
