"""The network's shape and its initial weights, stated once in NumPy for every backend.

Three convolutions of 25 channels with ReLU (kernels 5, 3, 3; stride 2; padding 1) and one linear layer: the small
convolutional baseline of MNIST-1D. There is no normalisation and no dropout, so the loss is a function of the weights.
"""

import math

import numpy as np

from benchmarks.data import CLASSES, WEIGHT_STREAM, Floats, generator

CHANNELS = 25
KERNELS = (5, 3, 3)
STRIDE = 2
PADDING = 1

Weights = list[Floats]


def output_length(length: int) -> int:
    """The length that a signal of this length has after the last convolution."""
    for kernel in KERNELS:
        length = (length + 2 * PADDING - kernel) // STRIDE + 1
    return length


def shapes(length: int) -> list[tuple[int, ...]]:
    """The shapes of the weights for signals of this length, in PyTorch's order and layout: weight, bias, weight, ..."""
    layers: list[tuple[int, ...]] = []
    channels = 1
    for kernel in KERNELS:
        layers += [(CHANNELS, channels, kernel), (CHANNELS,)]
        channels = CHANNELS
    return [*layers, (CLASSES, CHANNELS * output_length(length)), (CLASSES,)]


def initial_weights(length: int, seed: int) -> Weights:
    """Weights and biases uniform in ±1/sqrt(fan-in), PyTorch's default for these layers."""
    random = generator(seed, WEIGHT_STREAM)
    weights: Weights = []
    bound = 0.0
    for shape in shapes(length):
        if len(shape) > 1:
            bound = 1 / math.sqrt(math.prod(shape[1:]))
        weights.append(random.uniform(-bound, bound, size=shape).astype(np.float32))
    return weights
