"""The network's landscape in PyTorch."""

import torch
from torch.nn.functional import cross_entropy

from benchmarks.data import Floats, Integers
from benchmarks.network import Weights
from benchmarks.network_torch import Network
from samfamily_torch import Landscape


def landscape(weights: Weights, inputs: Floats, labels: Integers) -> Landscape:
    """The mean loss on these examples around these weights."""
    network = Network(inputs.shape[1], weights).eval()
    data = torch.from_numpy(inputs), torch.from_numpy(labels)
    return Landscape(lambda x, y: cross_entropy(network(x), y), network, data)
