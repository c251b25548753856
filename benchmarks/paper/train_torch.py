"""Training and measuring in PyTorch: the bare optimizer, or wrapped by `SharpnessAware`."""

import functools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.data import Floats
from benchmarks.network import Weights
from benchmarks.paper.networks import NETWORKS, Ops
from benchmarks.paper.task import Task
from samfamily_torch import Landscape, SharpnessAware

OPS = Ops(
    relu=functional.relu,
    softmax=functools.partial(functional.softmax, dim=-2),
    pad=lambda x, n: functional.pad(x, (0, 0, n, n)),
    concatenate=lambda xs: torch.cat(list(xs)),
)


class Model(nn.Module):
    """A network of `networks` with these weights."""

    def __init__(self, network: str, weights: Weights) -> None:
        super().__init__()
        self.network = NETWORKS[network]
        self.weights = nn.ParameterList(nn.Parameter(torch.tensor(weight)) for weight in weights)

    def forward(self, inputs: Tensor) -> Tensor:
        """The outputs, of shape (batch, classes)."""
        outputs: Tensor = self.network.logits(OPS, list(self.weights), inputs)
        return outputs


def mean_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean cross-entropy over a batch's examples."""
    return functional.cross_entropy(outputs, targets)


def mean_miss(outputs: Tensor, targets: Tensor) -> Tensor:
    """One less the probability of the right class, the mean over a batch's examples: a loss in [0, 1]."""
    return 1 - (targets * functional.softmax(outputs, dim=1)).sum(1).mean()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"cross-entropy": mean_cross_entropy, "miss": mean_miss}


def lion(weights: nn.ParameterList, task: Task) -> torch.optim.Optimizer:
    """Lion, whose library is loaded where it is asked for."""
    from pytorch_optimizer import Lion

    return Lion(weights, lr=1.0, weight_decay=task.weight_decay)


BASES: dict[str, Callable[[nn.ParameterList, Task], torch.optim.Optimizer]] = {
    "SGD": lambda weights, task: torch.optim.SGD(
        weights, lr=0.0, momentum=task.momentum, weight_decay=task.weight_decay
    ),
    "AdamW": lambda weights, task: torch.optim.AdamW(weights, lr=0.0, weight_decay=task.weight_decay),
    "Lion": lion,
}
"""The base optimizers by name; their learning rate is set at each step."""


class Trainer:
    """A training in progress."""

    def __init__(self, task: Task) -> None:
        self.model = Model(task.network, task.weights)
        self.base = BASES[task.optimizer](self.model.weights, task)
        self.sharp = None if task.variant is None else SharpnessAware(self.base, task.variant)

    def closure(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """The loss on a batch, its gradient left in the parameters."""
        self.base.zero_grad()
        loss = mean_cross_entropy(self.model(inputs), targets)
        loss.backward()
        return loss.detach()

    def step(self, inputs: Tensor, targets: Tensor, rate: float) -> Tensor:
        """One step; returns the loss before it."""
        self.base.param_groups[0]["lr"] = rate
        if self.sharp is not None:
            loss = self.sharp.step(self.closure, batch=(inputs, targets))
        else:
            loss = self.closure(inputs, targets)
            self.base.step()
        return loss

    def run(self, inputs: Floats, targets: Floats, rates: Floats) -> float:
        """See `task.Trainer`."""
        batches = zip(torch.from_numpy(inputs), torch.from_numpy(targets), rates.tolist(), strict=True)
        return float(torch.stack([self.step(*batch) for batch in batches]).mean())

    @torch.no_grad()
    def losses(self, inputs: Floats, targets: Floats) -> Floats:
        """See `task.Trainer`."""
        outputs = self.model(torch.from_numpy(inputs))
        found: Floats = functional.cross_entropy(outputs, torch.from_numpy(targets), reduction="none").numpy()
        return found

    @torch.no_grad()
    def outputs(self, inputs: Floats) -> Floats:
        """See `task.Trainer`."""
        found: Floats = self.model(torch.from_numpy(inputs)).numpy()
        return found

    def weights(self) -> Weights:
        """See `task.Trainer`."""
        return [np.array(weight.detach().numpy()) for weight in self.model.weights]


def landscape(network: str, loss: str, weights: Weights, inputs: Floats, targets: Floats) -> Landscape:
    """See `task.landscape`."""
    model, mean = Model(network, weights), LOSSES[loss]
    batch = torch.from_numpy(inputs), torch.from_numpy(targets)
    return Landscape(lambda x, y: mean(model(x), y), model, batch)
