"""Layer 4: ten steps equal independent packages, where those are right: pytorch_optimizer 4.1.0 and optax.contrib.

pytorch_optimizer's LookSAM and bSAM compute something else and are not used.  It takes norms in float32 even of float64
gradients, hence the tolerance.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
import pytorch_optimizer
import torch
from torch import Tensor

from samfamily import GSAM, SAM, WSAM, FriendlySAM
from samfamily_jax import value_and_grad
from tests.published.task import LR, MOMENTUM, batches, distance, flat, loss, network, ours, sgd


def two_steps(make: Callable[[Any], Any]) -> Tensor:
    """Walk with a package's first_step and second_step."""
    model = network()
    optimizer = make(model)
    for batch in batches():
        loss(model, batch).backward()
        optimizer.first_step(zero_grad=True)
        loss(model, batch).backward()
        optimizer.second_step(zero_grad=True)
    return flat(model)


def with_closure(make: Callable[[Any], Any]) -> Tensor:
    """Walk with a package's step(closure)."""
    model = network()
    optimizer = make(model)
    for batch in batches():

        def closure(batch: Any = batch) -> Any:
            optimizer.zero_grad()
            value = loss(model, batch)
            value.backward()
            return value.detach()

        optimizer.step(closure)
    return flat(model)


def gsam(model: Any) -> Any:
    """GSAM's closure returns outputs and loss, and its rho comes from a scheduler."""

    class Constant:
        def step(self) -> float:
            return 0.1

    return pytorch_optimizer.GSAM(model.parameters(), sgd(model), model, Constant(), alpha=0.4)


def gsam_walk() -> Tensor:
    model = network()
    optimizer = gsam(model)
    for batch in batches():
        optimizer.set_closure(torch.nn.functional.cross_entropy, *batch)
        optimizer.step()
    return flat(model)


def wsam(model: Any, *, decouple: bool) -> Any:
    options: dict[str, Any] = {
        "rho": 0.1,
        "gamma": 0.8,
        "decouple": decouple,
        "max_norm": None,
        "lr": LR,
        "momentum": MOMENTUM,
    }
    return pytorch_optimizer.WSAM(model, model.parameters(), torch.optim.SGD, **options)


WALKS: dict[str, tuple[Any, Callable[[], Tensor]]] = {
    "SAM": (
        SAM(rho=0.1),
        lambda: two_steps(
            lambda model: pytorch_optimizer.SAM(model.parameters(), torch.optim.SGD, rho=0.1, lr=LR, momentum=MOMENTUM)
        ),
    ),
    "WSAM, decoupled": (WSAM(rho=0.1, gamma=0.8), lambda: with_closure(lambda model: wsam(model, decouple=True))),
    "WSAM, coupled": (
        WSAM(rho=0.1, gamma=0.8, decoupled=False),
        lambda: with_closure(lambda model: wsam(model, decouple=False)),
    ),
    "GSAM": (GSAM(rho=0.1, alpha=0.4), gsam_walk),
    "FriendlySAM": (
        FriendlySAM(rho=0.1, sigma=1.0, lmbda=0.9),
        lambda: two_steps(
            lambda model: pytorch_optimizer.FriendlySAM(
                model.parameters(), torch.optim.SGD, rho=0.1, sigma=1.0, lmbda=0.9, lr=LR, momentum=MOMENTUM
            )
        ),
    ),
}


@pytest.mark.parametrize("case", WALKS)
def test_pytorch_optimizer(case: str) -> None:
    variant, walk = WALKS[case]
    theirs = walk()
    assert distance(ours(variant), theirs) <= 1e-7
    assert distance(ours(SAM(rho=0.11)), theirs) > 1e-4  # negative control


def test_optax_contrib_sam() -> None:
    """In opaque mode, normalised, with the same base optimizer."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        x, y = jnp.asarray(rng.normal(size=(16, 4))), jnp.asarray(rng.normal(size=(16, 2)))
        start = {"a": jnp.asarray(rng.normal(size=(4, 8))), "b": jnp.asarray(rng.normal(size=(8, 2)))}

        def objective(w: Any) -> Any:
            return jnp.mean((jnp.tanh(x @ w["a"]) @ w["b"] - y) ** 2)

        def walk(rho: float) -> Any:
            w, tx = start, optax.sgd(LR, MOMENTUM)
            state = tx.init(w)
            for _ in range(10):
                _, g = value_and_grad(objective, SAM(rho=rho))(w)
                updates, state = tx.update(g, state, w)
                w = optax.apply_updates(w, updates)
            return w

        adversary = optax.chain(optax.contrib.normalize(), optax.sgd(0.1))
        tx = optax.contrib.sam(optax.sgd(LR, MOMENTUM), adversary, sync_period=2, opaque_mode=True)
        w: Any = start
        state = tx.init(w)
        for _ in range(10):
            updates, state = tx.update(jax.grad(objective)(w), state, w, grad_fn=lambda w, _: jax.grad(objective)(w))
            w = optax.apply_updates(w, updates)
        for name in w:
            np.testing.assert_allclose(walk(0.1)[name], w[name], rtol=1e-11)
            assert not np.allclose(walk(0.11)[name], w[name], rtol=1e-4)  # negative control
