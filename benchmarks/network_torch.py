"""The network in PyTorch, its convolutions written as products of kernels with patches, as in `network_jax`.

For signals this small that is faster than `torch.nn.Conv1d`, above all on the small shards of m-sharded SAM.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from benchmarks.network import PADDING, STRIDE, shapes


class Convolution(nn.Module):
    """The strided convolution of signals of shape (batch, length, channels), padded with zeros.

    Its weight has the shape (outputs, channels, width), as in `torch.nn.Conv1d`.
    """

    def __init__(self, outputs: int, channels: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, channels, width))
        self.bias = nn.Parameter(torch.empty(outputs))

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        """The convolved signals, of shape (batch, shorter length, outputs)."""
        outputs, _, width = self.weight.shape
        padded = functional.pad(signal, (0, 0, PADDING, PADDING))
        span = (padded.shape[1] - width) // STRIDE * STRIDE + 1
        patches = torch.cat([padded[:, start : start + span : STRIDE] for start in range(width)], dim=2)
        return functional.linear(patches, self.weight.transpose(1, 2).reshape(outputs, -1), self.bias)


class Network(nn.Module):
    """The network of `benchmarks.network` for signals of shape (batch, length), with the given weights."""

    def __init__(self, length: int, weights: Sequence[npt.NDArray[np.floating]]) -> None:
        super().__init__()
        *kernels, (classes, features) = [shape for shape in shapes(length) if len(shape) > 1]
        self.convolutions = nn.ModuleList(Convolution(*kernel) for kernel in kernels)
        self.linear = nn.Linear(features, classes)
        self.put(weights)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """The outputs, of shape (batch, classes)."""
        hidden = inputs[:, :, None]
        for convolution in self.convolutions:
            hidden = functional.relu(convolution(hidden))
        logits: torch.Tensor = self.linear(hidden.transpose(1, 2).flatten(1))
        return logits

    @torch.no_grad()
    def put(self, weights: Sequence[npt.NDArray[np.floating]]) -> None:
        """Copy these weights into the network."""
        for parameter, weight in zip(self.parameters(), weights, strict=True):
            parameter.copy_(torch.from_numpy(np.asarray(weight)))
