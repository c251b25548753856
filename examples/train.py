"""Train a small convolutional network on MNIST-1D with SAM, m examples to a perturbation.

python examples/train.py --m 16 --epochs 5
"""

import argparse
from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from benchmarks.data import epochs, load
from benchmarks.network import initial_weights
from benchmarks.network_torch import Network
from samfamily_torch import SAM, SharpnessAware


def main() -> None:
    """Train, and print loss and test error after each epoch."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--epochs", type=int, default=5, help="times through the training data")
    parser.add_argument("--steps", type=int, help="stop each epoch after so many steps")
    parser.add_argument("--batch", type=int, default=64, help="examples to a step, over all processes")
    parser.add_argument("--m", type=int, default=16, help="examples to a perturbation")
    parser.add_argument("--rho", type=float, default=0.1, help="radius of the neighbourhood")
    parser.add_argument("--lr", type=float, default=0.1, help="learning rate")
    options = parser.parse_args()

    data = load("mnist1d")
    inputs, labels, test_inputs, test_labels = map(torch.from_numpy, vars(data).values())
    model: torch.nn.Module = Network(inputs.shape[1], initial_weights(inputs.shape[1], seed=0))
    order: Iterator[Any] = islice(epochs(len(labels), options.batch, seed=0), options.epochs)
    base = torch.optim.SGD(model.parameters(), lr=options.lr, momentum=0.9)
    optimizer = SharpnessAware(base, SAM(rho=options.rho).sharded(options.m), model)

    def closure(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        return loss

    for epoch, batches in enumerate(order, start=1):
        chosen = torch.from_numpy(batches)[: options.steps]
        losses = [optimizer.step(closure, batch=(inputs[batch], labels[batch])) for batch in chosen]
        with torch.no_grad():
            error = (model(test_inputs).argmax(1) != test_labels).float().mean()
        print(f"epoch {epoch}: loss {torch.stack(losses).mean():.4f}, test error {100 * error:.1f} %")


if __name__ == "__main__":
    main()
