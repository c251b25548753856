"""The networks of `agreement_task` in PyTorch, and their path."""

from typing import Any

import torch
from torch import nn

from benchmarks.agreement_task import EPSILON, LR, MOMENTUM, WIDTHS, Task
from benchmarks.data import CLASSES
from benchmarks.network_torch import Network
from benchmarks.walk_torch import walk
from samfamily import Variant


class Smooth(nn.Module):
    """Two layers with tanh, the second of them behind layer normalisation."""

    def __init__(self, length: int) -> None:
        super().__init__()
        inner, outer = WIDTHS
        self.first, self.second = nn.Linear(length, inner), nn.Linear(inner, outer)
        self.norm, self.output = nn.LayerNorm(outer, EPSILON), nn.Linear(outer, CLASSES)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """The outputs, of shape (batch, classes)."""
        outputs: torch.Tensor = self.output(torch.tanh(self.norm(self.second(torch.tanh(self.first(inputs))))))
        return outputs


def model(task: Task) -> nn.Module:
    """The task's network with its initial weights."""
    weights = task.weights()
    if task.network == "cnn":
        return Network(task.length, list(weights.values())).to(getattr(torch, task.dtype))
    smooth = Smooth(task.length).to(getattr(torch, task.dtype))
    smooth.load_state_dict({name: torch.from_numpy(x) for name, x in weights.items()})
    return smooth


def path(task: Task, variant: Variant, steps: int) -> list[Any]:
    """The weights after each step."""
    return walk(model(task), variant, task.batches(steps), LR, MOMENTUM)
