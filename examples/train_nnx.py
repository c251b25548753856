"""Train a small convolutional network of flax's nnx, with batch norm and dropout, on MNIST-1D with SAM.

    python examples/train_nnx.py --epochs 5

Batch statistics and dropout's counts move once a step, as in one pass.
"""

import argparse
from collections.abc import Iterator
from itertools import islice
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from benchmarks.data import CLASSES, epochs, load
from samfamily_jax import SAM
from samfamily_jax.nnx import value_and_grad


class Network(nnx.Module):
    """Two convolutions with batch norm and a linear layer, for signals of shape (batch, length)."""

    def __init__(self, length: int, rngs: nnx.Rngs) -> None:
        self.first, self.second = (nnx.Conv(n, 25, 5, strides=2, rngs=rngs) for n in (1, 25))
        self.norm, self.drop = nnx.BatchNorm(25, rngs=rngs), nnx.Dropout(0.1, rngs=rngs)
        self.linear = nnx.Linear(25 * (length // 4), CLASSES, rngs=rngs)

    def __call__(self, inputs: Any) -> Any:
        """The outputs, of shape (batch, classes)."""
        hidden = jax.nn.relu(self.norm(self.first(inputs[..., None])))
        return self.linear(self.drop(jax.nn.relu(self.second(hidden)).reshape(len(inputs), -1)))


def main() -> None:
    """Train, and print loss and test error after each epoch."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--epochs", type=int, default=5, help="times through the training data")
    parser.add_argument("--steps", type=int, help="stop each epoch after so many steps")
    parser.add_argument("--batch", type=int, default=64, help="examples to a step")
    parser.add_argument("--rho", type=float, default=0.1, help="radius of the neighbourhood")
    parser.add_argument("--lr", type=float, default=0.1, help="learning rate")
    options = parser.parse_args()

    def cross_entropy(model: Any, inputs: Any, labels: Any) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(model(inputs), labels).mean()

    data = load("mnist1d")
    model: Any = Network(data.inputs.shape[1], nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.sgd(options.lr, momentum=0.9), wrt=nnx.Param)
    vg = value_and_grad(cross_entropy, SAM(rho=options.rho))

    @nnx.jit
    def step(model: Any, optimizer: Any, inputs: Any, labels: Any) -> Any:
        loss, gradients = vg(model, inputs, labels)
        optimizer.update(model, gradients)
        return loss

    @nnx.jit
    def test_error(model: Any, inputs: Any, labels: Any) -> Any:
        return jnp.mean(jnp.argmax(model(inputs), axis=1) != labels)

    order: Iterator[Any] = islice(epochs(len(data.labels), options.batch, seed=0), options.epochs)
    for epoch, batches in enumerate(order, start=1):
        model.train()
        losses = [step(model, optimizer, data.inputs[b], data.labels[b]) for b in batches[: options.steps]]
        model.eval()
        error = test_error(model, data.evaluation_inputs, data.evaluation_labels)
        print(f"epoch {epoch}: loss {sum(map(float, losses)) / len(losses):.4f}, test error {100 * error:.1f} %")
    print(f"{optimizer.step.get_value()} steps, dropout drew {model.drop.rngs.count.get_value()} masks")


if __name__ == "__main__":
    main()
