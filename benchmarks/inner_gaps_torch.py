"""`inner_gap` of the network in PyTorch."""

from typing import Any

import torch
from torch.nn.functional import cross_entropy

from benchmarks.network import Weights
from benchmarks.network_torch import Network
from samfamily import InnerGap, Variant
from samfamily_torch import inner_gap


def compare(weights: Weights, batch: tuple[Any, Any], variant: Variant) -> InnerGap:
    """Compare at these weights on this batch."""
    network = Network(batch[0].shape[1], weights).double()

    def closure(inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        network.zero_grad()
        loss = cross_entropy(network(inputs), labels)
        loss.backward()
        return loss

    return inner_gap(closure, network, variant, batch=tuple(map(torch.from_numpy, batch)), iterations=40, restarts=3)
