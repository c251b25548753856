"""Train a small convolutional network of equinox on MNIST-1D with SAM, m examples to a perturbation.

python examples/train_equinox.py --m 16 --epochs 5
"""

import argparse
from collections.abc import Iterator
from itertools import islice
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from benchmarks.data import CLASSES, epochs, load
from samfamily_jax import SAM, value_and_grad


def network(length: int, key: Any) -> eqx.nn.Sequential:
    """Return two convolutions and a linear layer, for one signal of this length."""
    keys = jax.random.split(key, 3)
    layers: list[Any] = [
        eqx.nn.Lambda(lambda signal: signal[None]),  # one channel
        eqx.nn.Conv1d(1, 25, 5, stride=2, padding=2, key=keys[0]),
        eqx.nn.Lambda(jax.nn.relu),
        eqx.nn.Conv1d(25, 25, 3, stride=2, padding=1, key=keys[1]),
        eqx.nn.Lambda(jax.nn.relu),
        eqx.nn.Lambda(jnp.ravel),
        eqx.nn.Linear(25 * (length // 4), CLASSES, key=keys[2]),
    ]
    return eqx.nn.Sequential(layers)


def main() -> None:
    """Train, and print loss and test error after each epoch."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--epochs", type=int, default=5, help="times through the training data")
    parser.add_argument("--steps", type=int, help="stop each epoch after so many steps")
    parser.add_argument("--batch", type=int, default=64, help="examples to a step")
    parser.add_argument("--m", type=int, default=16, help="examples to a perturbation")
    parser.add_argument("--rho", type=float, default=0.1, help="radius of the neighbourhood")
    parser.add_argument("--lr", type=float, default=0.1, help="learning rate")
    options = parser.parse_args()

    data = load("mnist1d")
    model: Any = network(data.inputs.shape[1], jax.random.key(0))
    tx = optax.sgd(options.lr, momentum=0.9)

    def cross_entropy(model: Any, inputs: Any, labels: Any) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(jax.vmap(model)(inputs), labels).mean()

    vg = value_and_grad(cross_entropy, SAM(rho=options.rho).sharded(options.m), batch_argnums=(1, 2))

    @eqx.filter_jit
    def step(model: Any, opt_state: Any, inputs: Any, labels: Any) -> Any:
        loss, gradients = vg(model, inputs, labels)
        updates, opt_state = tx.update(gradients, opt_state)
        return eqx.apply_updates(model, updates), opt_state, loss

    @eqx.filter_jit
    def test_error(model: Any, inputs: Any, labels: Any) -> Any:
        return jnp.mean(jnp.argmax(jax.vmap(model)(inputs), axis=1) != labels)

    opt_state, steps = tx.init(eqx.filter(model, eqx.is_inexact_array)), 0
    order: Iterator[Any] = islice(epochs(len(data.labels), options.batch, seed=0), options.epochs)
    for epoch, batches in enumerate(order, start=1):
        losses = []
        for chosen in batches[: options.steps]:
            model, opt_state, loss = step(model, opt_state, data.inputs[chosen], data.labels[chosen])
            losses.append(loss)
        steps += len(losses)
        error = test_error(model, data.evaluation_inputs, data.evaluation_labels)
        print(f"epoch {epoch}: loss {sum(map(float, losses)) / len(losses):.4f}, test error {100 * error:.1f} %")
    print(f"{steps} steps")


if __name__ == "__main__":
    main()
