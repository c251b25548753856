"""The two networks as plans that `models_torch` and `models_jax` build, so that both build the same one.

WRN-28-10 (arXiv 1605.07146) normalises before it convolves, ResNet-50 (arXiv 1512.03385) after; in the latter the 3x3
convolutions stride. Layers have the same names in both frameworks.
"""

from collections.abc import Sequence
from typing import NamedTuple


class Convolution(NamedTuple):
    """A convolution without a bias, padded so that a stride of 1 keeps the size."""

    kernel: int
    stride: int
    inputs: int
    outputs: int


class Block(NamedTuple):
    """A residual block: convolutions, each with its normalisation, beside a shortcut that is one where sizes differ."""

    convolutions: tuple[Convolution, ...]
    shortcut: Convolution | None


class Plan(NamedTuple):
    """A residual network.

    Attributes:
        stem: the first convolution.
        preactivated: whether blocks normalise before they convolve; if not, the stem is normalised and pooled.
        blocks: the residual blocks.
        features: of the linear layer.
        classes: which it tells apart.
    """

    stem: Convolution
    preactivated: bool
    blocks: tuple[Block, ...]
    features: int
    classes: int

    @property
    def parameters(self) -> int:
        """How many weights it has."""
        convolutions = [self.stem, *(c for block in self.blocks for c in block.convolutions)]
        shortcuts = [block.shortcut for block in self.blocks if block.shortcut]
        weights = sum(c.kernel**2 * c.inputs * c.outputs for c in (*convolutions, *shortcuts))
        if self.preactivated:
            normalised = [c.inputs for block in self.blocks for c in block.convolutions] + [self.features]
        else:
            normalised = [c.outputs for c in (*convolutions, *shortcuts)]
        return weights + 2 * sum(normalised) + (self.features + 1) * self.classes


def wide(depth: int, width: int, classes: int) -> Plan:
    """A wide residual network of this many layers, and so many times the usual channels."""
    each, rest = divmod(depth - 4, 6)
    if rest or each < 1:
        raise ValueError(f"a wide residual network has 6n + 4 layers, and depth is {depth}: take for example 28")
    blocks, channels = [], 16
    for group in range(3):
        outputs = 16 * 2**group * width
        for i in range(each):
            stride = 2 if group and not i else 1
            convolutions = Convolution(3, stride, channels, outputs), Convolution(3, 1, outputs, outputs)
            blocks.append(Block(convolutions, _shortcut(stride, channels, outputs)))
            channels = outputs
    return Plan(Convolution(3, 1, 3, 16), True, tuple(blocks), channels, classes)


def bottleneck(stages: Sequence[int], width: int, classes: int) -> Plan:
    """A residual network of bottlenecks: so many in each stage, the first of them this narrow."""
    blocks, channels = [], width
    for stage, count in enumerate(stages):
        inner = width * 2**stage
        for i in range(count):
            stride = 2 if stage and not i else 1
            convolutions = (
                Convolution(1, 1, channels, inner),
                Convolution(3, stride, inner, inner),
                Convolution(1, 1, inner, 4 * inner),
            )
            blocks.append(Block(convolutions, _shortcut(stride, channels, 4 * inner)))
            channels = 4 * inner
    return Plan(Convolution(7, 2, 3, width), False, tuple(blocks), channels, classes)


def _shortcut(stride: int, inputs: int, outputs: int) -> Convolution | None:
    return None if stride == 1 and inputs == outputs else Convolution(1, stride, inputs, outputs)
