"""Training in PyTorch: the bare optimizer for SGD, wrapped by `SharpnessAware` for the rest."""

import copy
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import cross_entropy

from benchmarks.cells import Cell
from benchmarks.data import Floats, Integers
from benchmarks.network import Weights, initial_weights
from benchmarks.network_torch import Network
from samfamily_torch import SharpnessAware

PIECE = 1000  # examples whose intermediate results stay in the processor's cache


class Trainer:
    """One cell's network, optimizer and data."""

    def __init__(self, cell: Cell) -> None:
        data, recipe = cell.dataset(), cell.recipe
        self.inputs, self.labels = torch.from_numpy(data.inputs), torch.from_numpy(data.labels)
        self.evaluation = torch.from_numpy(data.evaluation_inputs), torch.from_numpy(data.evaluation_labels)
        length = data.inputs.shape[1]
        self.network = Network(length, initial_weights(length, cell.seed))
        self.base = torch.optim.SGD(
            self.network.parameters(),
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
        )
        build = cell.how.build
        self.optimizer = None if build is None else SharpnessAware(self.base, build(cell.rho))
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.base, T_max=cell.steps)

    def closure(self, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The loss on a batch, its gradient left in the parameters."""
        self.base.zero_grad()
        loss = cross_entropy(self.network(inputs), labels)
        loss.backward()
        return loss.detach()

    def step(self, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """One step on a batch; returns the loss before it."""
        if self.optimizer is not None:
            loss = self.optimizer.step(self.closure, batch=(inputs, labels))
        else:
            loss = self.closure(inputs, labels)
            self.base.step()
        self.schedule.step()
        return loss

    def run_epoch(self, batches: Integers) -> float:
        """Take a step on each batch and return the mean loss."""
        losses = [self.step(self.inputs[batch], self.labels[batch]) for batch in torch.from_numpy(batches)]
        return float(torch.stack(losses).mean())

    @torch.no_grad()
    def error(self) -> float:
        """The fraction of the evaluation examples that the network gets wrong."""
        inputs, labels = self.evaluation
        return float((self.network(inputs).argmax(1) != labels).float().mean())

    def weights(self) -> Weights:
        """The weights as they stand."""
        return [copy.deepcopy(parameter.detach().numpy()) for parameter in self.network.parameters()]


class Objective:
    """The mean loss on these examples as a function of NumPy weights."""

    def __init__(self, inputs: Floats, labels: Integers) -> None:
        self.inputs, self.labels = torch.from_numpy(inputs), torch.from_numpy(labels)
        length = inputs.shape[1]
        self.network = Network(length, initial_weights(length, seed=0))

    @torch.no_grad()
    def loss(self, weights: Sequence[npt.NDArray[np.floating]]) -> float:
        """The loss at these weights."""
        self.network.put(weights)
        pieces = zip(self.inputs.split(PIECE), self.labels.split(PIECE), strict=True)
        total = sum(float(cross_entropy(self.network(x), y, reduction="sum")) for x, y in pieces)
        return total / len(self.labels)

    def value_and_grad(
        self, weights: Sequence[npt.NDArray[np.floating]]
    ) -> tuple[np.float64, list[npt.NDArray[np.float64]]]:
        """The loss and its gradient at these weights."""
        self.network.put(weights)
        loss = cross_entropy(self.network(self.inputs), self.labels)
        gradients = torch.autograd.grad(loss, list(self.network.parameters()))
        return np.float64(loss.detach()), [gradient.double().numpy() for gradient in gradients]
