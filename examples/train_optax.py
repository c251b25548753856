"""Train a small convolutional network on MNIST-1D with SAM as one optax transformation.

    python examples/train_optax.py --epochs 5

For loops that hand everything to optax: the transformation is given the gradient function, one call a step. Where the
loop calls the gradient itself, `value_and_grad` as in train_jax.py is simpler, and knows m.
"""

import argparse
from collections.abc import Iterator
from itertools import islice
from typing import Any

import jax
import jax.numpy as jnp
import optax

from benchmarks.data import epochs, load
from benchmarks.network import initial_weights
from benchmarks.network_jax import cross_entropy, logits
from samfamily_jax import SAM
from samfamily_jax.bridge import gradient_transformation


def main() -> None:
    """Train, and print loss and test error after each epoch."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--epochs", type=int, default=5, help="times through the training data")
    parser.add_argument("--steps", type=int, help="stop each epoch after so many steps")
    parser.add_argument("--batch", type=int, default=64, help="examples to a step")
    parser.add_argument("--rho", type=float, default=0.1, help="radius of the neighbourhood")
    parser.add_argument("--lr", type=float, default=0.1, help="learning rate")
    options = parser.parse_args()

    data = load("mnist1d")
    sharpness_aware = gradient_transformation(optax.identity(), SAM(rho=options.rho))  # hands on the gradient to follow
    tx = optax.chain(sharpness_aware, optax.sgd(options.lr, momentum=0.9))

    @jax.jit
    def step(weights: Any, opt_state: Any, batch: Any) -> Any:
        def vg(weights: Any) -> Any:
            return jax.value_and_grad(cross_entropy)(weights, batch)

        loss, gradients = vg(weights)
        updates, opt_state = tx.update(gradients, opt_state, weights, value_and_grad_fn=vg)
        return optax.apply_updates(weights, updates), opt_state, loss

    @jax.jit
    def test_error(weights: Any, inputs: Any, labels: Any) -> Any:
        return jnp.mean(jnp.argmax(logits(weights, inputs), axis=1) != labels)

    weights: Any = initial_weights(data.inputs.shape[1], seed=0)
    opt_state, steps = tx.init(weights), 0
    order: Iterator[Any] = islice(epochs(len(data.labels), options.batch, seed=0), options.epochs)
    for epoch, batches in enumerate(order, start=1):
        losses = []
        for chosen in batches[: options.steps]:
            weights, opt_state, loss = step(weights, opt_state, (data.inputs[chosen], data.labels[chosen]))
            losses.append(loss)
        steps += len(losses)
        error = test_error(weights, data.evaluation_inputs, data.evaluation_labels)
        print(f"epoch {epoch}: loss {sum(map(float, losses)) / len(losses):.4f}, test error {100 * error:.1f} %")
    print(f"{steps} steps")


if __name__ == "__main__":
    main()
