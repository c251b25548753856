"""What `python -m benchmarks rho` asks for: a function that trains a model with a variant and scores it.

python -m benchmarks rho examples.tune_rho:torch --steps 1000
"""

from itertools import chain, islice
from typing import Any

import numpy as np

from benchmarks.data import epochs, load
from samfamily import Variant

DATA = load("mnist1d").with_noise(0.2, seed=0).validation()
"""The last fifth of the training data is held out and scores; the test data are not touched."""
WIDTHS = ((40, 128), (128, 128), (128, 10))


def batches(steps: int, seed: int) -> Any:
    """So many batches of 128."""
    return islice(chain.from_iterable(epochs(len(DATA.labels), 128, seed)), steps)


def weights(seed: int) -> list[Any]:
    """The same for both frameworks."""
    random = np.random.default_rng(seed)
    return [(random.normal(size=s) / s[0] ** 0.5).astype(np.float32) for s in WIDTHS]


def torch(variant: Variant, steps: int, seed: int) -> dict[str, float]:
    """Train in PyTorch, and say what rounding left of the last perturbation."""
    import torch
    from torch.nn.functional import cross_entropy, relu

    from samfamily_torch import SharpnessAware

    x, y, held_x, held_y = map(torch.from_numpy, vars(DATA).values())
    w = [torch.nn.Parameter(torch.from_numpy(u)) for u in weights(seed)]

    def logits(x: torch.Tensor) -> torch.Tensor:
        return relu(relu(x @ w[0]) @ w[1]) @ w[2]

    base = torch.optim.SGD(w, lr=0.2, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(base, steps)
    optimizer = SharpnessAware(base, variant)

    def closure(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        loss = cross_entropy(logits(x), y)
        loss.backward()
        return loss

    for chosen in map(torch.from_numpy, batches(steps, seed)):
        optimizer.step(closure, batch=(x[chosen], y[chosen]))
        schedule.step()
    info = optimizer.info
    with torch.no_grad():
        error = float((logits(held_x).argmax(1) != held_y).double().mean())
    effective = float(info.effective_radius / info.radius) if float(info.radius) > 0 else 1.0
    return {"score": error, "effective": effective}


def jax(variant: Variant, steps: int, seed: int) -> float:
    """Train in JAX."""
    import jax
    import jax.numpy as jnp
    import optax

    from samfamily_jax import sharpness_aware

    def logits(w: Any, x: Any) -> Any:
        return jax.nn.relu(jax.nn.relu(x @ w[0]) @ w[1]) @ w[2]

    def loss_fn(w: Any, x: Any, y: Any) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(logits(w, x), y).mean()

    x, y, held_x, held_y = map(jnp.asarray, vars(DATA).values())
    tx = optax.sgd(optax.cosine_decay_schedule(0.2, steps), momentum=0.9)
    sa = sharpness_aware(loss_fn, variant, batch_argnums=(1, 2))

    def step(carry: Any, chosen: Any) -> Any:
        w, opt_state, state = carry
        (_, grads), state = sa.value_and_grad(w, state, x[chosen], y[chosen])
        updates, opt_state = tx.update(grads, opt_state, w)
        return (optax.apply_updates(w, updates), opt_state, state), None

    w: Any = [jnp.asarray(u) for u in weights(seed)]
    chosen = jnp.asarray(np.stack(list(batches(steps, seed))))
    (w, *_), _ = jax.jit(lambda carry: jax.lax.scan(step, carry, chosen))((w, tx.init(w), sa.init(w)))
    return float(jnp.mean(logits(w, held_x).argmax(1) != held_y))
