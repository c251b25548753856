"""The libraries, each behind the few verbs that a probe needs, in the way that its own documentation uses them."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, NamedTuple, TypeAlias

import equinox as eqx
import jax
import optax

from benchmarks.fault_table import NotOfferedError
from samfamily_jax import ASAM, GSAM, SAM, SAMON, LookSAM, StepInfo, sharpness_aware, value_and_grad

PyTree: TypeAlias = Any
Loss: TypeAlias = Callable[..., Any]
Base: TypeAlias = optax.GradientTransformation
Rho: TypeAlias = Any
"""A number, a traced number, or a schedule `step -> rho`."""


class Trainer(NamedTuple):
    """A training loop's two functions.

    Attributes:
        init: `params -> state`.
        call: the body of the loop, `(params, state, *batch) -> (params, state, value)`, where `value` is the loss, or
            `(loss, aux)`.
    """

    init: Callable[[PyTree], Any]
    call: Callable[..., tuple[PyTree, Any, Any]]


class Library:
    """A library for loops that take a value and a gradient, and hand the gradient to optax.

    Attributes:
        name: its heading in the table.
        calls: how often the body of a loop runs in one step of SAM.
    """

    name = "a library"
    calls = 1

    def value_and_grad(self, loss: Loss, rho: Rho, has_aux: bool = False) -> Callable[..., Any]:
        """What the loop differentiates with."""
        return jax.value_and_grad(loss, has_aux=has_aux)

    def optimizer(self, base: Base, rho: Rho) -> Base:
        """What the loop hands the gradient to."""
        return base

    def keywords(self, loss: Loss, has_aux: bool = False) -> Callable[..., dict[str, Any]]:
        """What `update` is given besides gradient, state and parameters, as a function of the batch."""
        return lambda *batch: {}

    def trainer(self, loss: Loss, base: Base, rho: Rho, has_aux: bool = False) -> Trainer:
        """SAM of this radius, a number or a schedule, round `base`."""
        gradient = self.value_and_grad(loss, rho, has_aux)
        return looped(gradient, self.optimizer(base, rho), self.keywords(loss, has_aux))

    def shortest(self, loss: Loss, base: Base, rho: float) -> Trainer:
        """SAM in the fewest words that run without an error."""
        return self.trainer(loss, base, rho)

    def masked(self, loss: Loss, base: Base, rho: float, mask: PyTree) -> Trainer:
        """SAM that perturbs only the leaves of which the mask says True."""
        raise NotOfferedError("no perturbation of some leaves alone")

    def signs(self, loss: Loss, base: Base, rho: float) -> Trainer:
        """An ascent along the signs of the gradient."""
        raise NotOfferedError("no ascent along signs")

    def without_climbing(self, loss: Loss, base: Base) -> Trainer:
        """The setting for no ascent at all."""
        return self.trainer(loss, base, 0.0)

    def adaptive(self, loss: Loss, base: Base, rho: float) -> Trainer:
        """ASAM without a stabilising constant."""
        raise NotOfferedError("no ASAM")

    def surrogate_gap(self, loss: Loss, base: Base, rho: float, alpha: float) -> Trainer:
        """GSAM."""
        raise NotOfferedError("no GSAM")

    def second_order(self, loss: Loss, base: Base, rho: float) -> Trainer:
        """SAM with the derivative through the perturbation."""
        raise NotOfferedError("no second order")

    def looksam(self, loss: Loss, base: Base, rho: float, k: int) -> Trainer:
        """LookSAM, with a full step every `k` steps."""
        raise NotOfferedError("no LookSAM")

    def sharded(self, loss: Loss, base: Base, rho: float, m: int) -> Trainer:
        """SAM in which `m` examples share one perturbation; the batch is the loss's arguments from the second on."""
        raise NotOfferedError("no m")

    def figures(self, loss: Loss, rho: float) -> Callable[..., StepInfo]:
        """What the library tells of a step at `(params, *batch)`."""
        raise NotOfferedError("reports nothing of a step")

    def per_device(self, loss: Loss, rho: Rho, axis: str) -> Callable[..., Any]:
        """What replaces `jax.grad` in a body under `jax.shard_map`, with one perturbation for each device."""
        raise NotOfferedError("nothing for shard_map")


def looped(gradient: Callable[..., Any], tx: Base, keywords: Callable[..., dict[str, Any]]) -> Trainer:
    """The loop of optax's documentation, its body compiled."""
    tx = optax.with_extra_args_support(tx)

    @jax.jit
    def call(params: PyTree, state: Any, *batch: Any) -> tuple[PyTree, Any, Any]:
        value, grads = gradient(params, *batch)
        updates, state = tx.update(grads, state, params, **keywords(*batch))
        return eqx.apply_updates(params, updates), state, value

    return Trainer(tx.init, call)


class Ours(Library):
    """samfamily."""

    name = "samfamily"

    def value_and_grad(self, loss: Loss, rho: Rho, has_aux: bool = False) -> Callable[..., Any]:
        return value_and_grad(loss, SAM(rho=rho), has_aux=has_aux)

    def trainer(self, loss: Loss, base: Base, rho: Rho, has_aux: bool = False) -> Trainer:
        if callable(rho):
            return self._with_memory(loss, base, SAM(rho=rho), has_aux)
        return super().trainer(loss, base, rho, has_aux)

    def _with_memory(self, loss: Loss, base: Base, variant: Any, has_aux: bool = False) -> Trainer:
        sa = sharpness_aware(loss, variant, has_aux)

        @jax.jit
        def call(params: PyTree, state: Any, *batch: Any) -> tuple[PyTree, Any, Any]:
            (value, grads), memory = sa.value_and_grad(params, state[1], *batch)
            updates, inner = base.update(grads, state[0], params)
            return eqx.apply_updates(params, updates), (inner, memory), value

        return Trainer(lambda params: (base.init(params), sa.init(params)), call)

    def _of(self, loss: Loss, base: Base, variant: Any, **options: Any) -> Trainer:
        return looped(value_and_grad(loss, variant, **options), base, lambda *batch: {})

    def masked(self, loss: Loss, base: Base, rho: float, mask: PyTree) -> Trainer:
        return self._of(loss, base, SAMON(rho=rho, size=None), normalisation=mask)

    def signs(self, loss: Loss, base: Base, rho: float) -> Trainer:
        return self._of(loss, base, SAM(rho=rho, p=float("inf")))

    def without_climbing(self, loss: Loss, base: Base) -> Trainer:
        return self._with_memory(loss, base, SAM(rho=lambda step: 0.0 * step))

    def adaptive(self, loss: Loss, base: Base, rho: float) -> Trainer:
        return self._of(loss, base, ASAM(rho=rho, eta=0.0))

    def surrogate_gap(self, loss: Loss, base: Base, rho: float, alpha: float) -> Trainer:
        return self._of(loss, base, GSAM(rho=rho, alpha=alpha))

    def second_order(self, loss: Loss, base: Base, rho: float) -> Trainer:
        return self._of(loss, base, SAM(rho=rho, second_order=True))

    def looksam(self, loss: Loss, base: Base, rho: float, k: int) -> Trainer:
        return self._with_memory(loss, base, LookSAM(rho=rho, k=k))

    def sharded(self, loss: Loss, base: Base, rho: float, m: int) -> Trainer:
        return self._of(loss, base, SAM(rho=rho).sharded(m), batch_argnums=(1, 2))

    def figures(self, loss: Loss, rho: float) -> Callable[..., StepInfo]:
        sa = sharpness_aware(loss, SAM(rho=rho))
        return lambda params, *batch: sa.with_info(params, sa.init(params), *batch)[2]

    def per_device(self, loss: Loss, rho: Rho, axis: str) -> Callable[..., Any]:
        gradient = self.value_and_grad(loss, rho)
        return lambda params, *batch: gradient(jax.lax.pcast(params, axis, to="varying"), *batch)[1]


class Optax(Library):
    """optax.contrib.sam, in which the ascent is an optimizer, and SAM is one too."""

    opaque = False

    def optimizer(self, base: Base, rho: Rho) -> Base:
        return self.round(base, optax.chain(optax.contrib.normalize(), optax.sgd(rho)))

    def round(self, base: Base, ascent: Base, **options: Any) -> Base:
        return optax.contrib.sam(base, ascent, opaque_mode=self.opaque, **options)

    def _of(self, loss: Loss, base: Base, ascent: Base, **options: Any) -> Trainer:
        return looped(jax.value_and_grad(loss), self.round(base, ascent, **options), self.keywords(loss))

    def shortest(self, loss: Loss, base: Base, rho: float) -> Trainer:
        return self._of(loss, base, optax.sgd(rho))

    def masked(self, loss: Loss, base: Base, rho: float, mask: PyTree) -> Trainer:
        return self._of(loss, base, optax.masked(optax.chain(optax.contrib.normalize(), optax.sgd(rho)), mask))

    def signs(self, loss: Loss, base: Base, rho: float) -> Trainer:
        return self._of(loss, base, optax.chain(optax.contrib.normalize(), optax.adam(rho)))

    def without_climbing(self, loss: Loss, base: Base) -> Trainer:
        return self._of(loss, base, optax.chain(optax.contrib.normalize(), optax.sgd(RHO)), sync_period=1)


RHO = 0.2


class Opaque(Optax):
    """Opaque mode: `update` is given the loss's gradient, and one call is one step."""

    name, opaque = "optax {version} opaque", True

    def keywords(self, loss: Loss, has_aux: bool = False) -> Callable[..., dict[str, Any]]:
        gradient = jax.grad(loss, has_aux=has_aux)

        def at(params: PyTree, *batch: Any) -> PyTree:
            found = gradient(params, *batch)
            return found[0] if has_aux else found

        return lambda *batch: {"grad_fn": lambda params, _: at(params, *batch)}


class Transparent(Optax):
    """Transparent mode: every second call climbs and leaves the loop at the perturbed point, every other descends."""

    name, calls = "optax {version} transparent", 2


def libraries() -> list[Library]:
    """The libraries that are installed, ours first; each name tells its version."""
    installed: list[Library] = [Ours()]
    if importlib.util.find_spec("optax"):
        installed += [Opaque(), Transparent()]
    for library in installed[1:]:
        library.name = library.name.format(version=version("optax"))
    return installed
