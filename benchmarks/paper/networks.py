"""The networks, each stated once for every framework: shapes, and outputs as a function of a list of weights.

A framework supplies four operations; the rest is arithmetic that arrays of all frameworks have. No network normalises
over a batch, so that the loss is a function of the weights and one example. Inside of the convolutional network and of
the transformer the batch is the last axis, along which everything is the same: on a CPU two to three times as fast.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from benchmarks import network
from benchmarks.data import CLASSES

Array = Any
Shapes = list[tuple[int, ...]]

HIDDEN = (128, 128)
TOKEN, WIDTH, HEADS, BLOCKS = 8, 24, 4, 2
EPSILON = 1e-5


class Ops(NamedTuple):
    """What a framework supplies.

    Attributes:
        relu: max(x, 0).
        softmax: along the last axis but one.
        pad: `pad(x, n)`, n zeros before and after along the last axis but one.
        concatenate: `concatenate(xs)`, along the first axis.
    """

    relu: Callable[[Array], Array]
    softmax: Callable[[Array], Array]
    pad: Callable[[Array, int], Array]
    concatenate: Callable[[Sequence[Array]], Array]


class Network(NamedTuple):
    """A network: the shapes of its weights for signals of some length, and its outputs, of shape (batch, classes)."""

    title: str
    shapes: Callable[[int], Shapes]
    logits: Callable[[Ops, Sequence[Array], Array], Array]


def linear(weight: Array, hidden: Array) -> Array:
    """The product of (outputs, inputs) with (inputs, ...): one of matrices, whatever follows the first axis."""
    return (weight @ hidden.reshape(len(hidden), -1)).reshape(len(weight), *hidden.shape[1:])


def convolution(ops: Ops, signal: Array, kernel: Array, bias: Array) -> Array:
    """The strided convolution of (channels, length, batch) with (outputs, channels, width), as a matrix product."""
    outputs, _, width = kernel.shape
    padded = ops.pad(signal, network.PADDING)
    span = (padded.shape[1] - width) // network.STRIDE * network.STRIDE + 1
    patches = ops.concatenate([padded[:, start : start + span : network.STRIDE] for start in range(width)])
    return linear(kernel.swapaxes(1, 2).reshape(outputs, -1), patches) + bias[:, None, None]


def cnn(ops: Ops, weights: Sequence[Array], inputs: Array) -> Array:
    """Three convolutions and one linear layer: `benchmarks.network`."""
    hidden = inputs.T[None]
    for layer in range(len(network.KERNELS)):
        hidden = ops.relu(convolution(ops, hidden, weights[2 * layer], weights[2 * layer + 1]))
    return (weights[-2] @ hidden.reshape(-1, len(inputs))).T + weights[-1]


def mlp_shapes(length: int) -> Shapes:
    """Linear layers, PyTorch's layout: (outputs, inputs), (outputs,), ..."""
    widths = (length, *HIDDEN, CLASSES)
    pairs = zip(widths[1:], widths, strict=False)
    return [shape for after, before in pairs for shape in ((after, before), (after,))]


def mlp(ops: Ops, weights: Sequence[Array], inputs: Array) -> Array:
    """Linear layers with ReLU between them."""
    hidden = inputs
    for layer in range(0, len(weights) - 2, 2):
        hidden = ops.relu(hidden @ weights[layer].T + weights[layer + 1])
    return hidden @ weights[-2].T + weights[-1]


def transformer_shapes(length: int) -> Shapes:
    """An embedding, places, for each block queries with keys and values, output, two linear layers, and the last."""
    block: Shapes = [(3 * WIDTH, WIDTH), (WIDTH, WIDTH), (2 * WIDTH, WIDTH), (2 * WIDTH,), (WIDTH, 2 * WIDTH), (WIDTH,)]
    return [(WIDTH, TOKEN), (length // TOKEN, WIDTH), *BLOCKS * block, (CLASSES, WIDTH), (CLASSES,)]


def transformer(ops: Ops, weights: Sequence[Array], inputs: Array) -> Array:
    """A transformer over pieces of the signal, normalised before each part, whose mean token is classified."""
    embedding, places = weights[:2]
    pieces = inputs.T.reshape(-1, TOKEN, len(inputs)).swapaxes(0, 1)
    hidden = linear(embedding, pieces) + places.T[:, :, None]
    for block in range(BLOCKS):
        mixing, out, up, up_bias, down, down_bias = weights[2 + 6 * block : 8 + 6 * block]
        hidden = hidden + linear(out, attention(ops, linear(mixing, normalised(hidden))))
        inner = ops.relu(linear(up, normalised(hidden)) + up_bias[:, None, None])
        hidden = hidden + linear(down, inner) + down_bias[:, None, None]
    return (weights[-2] @ normalised(hidden).mean(1)).T + weights[-1]


def attention(ops: Ops, mixed: Array) -> Array:
    """What each token takes from the others: (3 width, tokens, batch) to (width, tokens, batch)."""
    _, tokens, batch = mixed.shape
    queries, keys, values = mixed.reshape(3, HEADS, WIDTH // HEADS, tokens, batch)
    likeness = (queries[:, :, :, None] * keys[:, :, None]).sum(1)  # for matrices this small faster than products
    shares = ops.softmax(likeness * (WIDTH // HEADS) ** -0.5)
    return (shares[:, None] * values[:, :, None]).sum(3).reshape(WIDTH, tokens, batch)


def normalised(hidden: Array) -> Array:
    """Each token, along the first axis, with mean zero and variance one."""
    centred = hidden - hidden.mean(0)
    return centred / ((centred * centred).mean(0) + EPSILON) ** 0.5


NETWORKS = {
    "cnn": Network("CNN", network.shapes, cnn),
    "mlp": Network("MLP", mlp_shapes, mlp),
    "transformer": Network("transformer", transformer_shapes, transformer),
}
