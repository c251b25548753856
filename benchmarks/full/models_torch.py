"""The networks of `architecture` in PyTorch."""

import torch
from torch import nn
from torch.nn.functional import max_pool2d, relu

from benchmarks.full import architecture
from benchmarks.full.architecture import Plan

KEPT = 0.9


def convolution(c: architecture.Convolution) -> nn.Conv2d:
    """A convolution with its initial weights: normal, of variance 2 / (outputs times pixels of the kernel)."""
    made = nn.Conv2d(c.inputs, c.outputs, c.kernel, c.stride, c.kernel // 2, bias=False)
    nn.init.kaiming_normal_(made.weight, mode="fan_out", nonlinearity="relu")
    return made


class Block(nn.Module):
    """A residual block."""

    def __init__(self, block: architecture.Block, preactivated: bool) -> None:
        super().__init__()
        self.preactivated = preactivated
        self.convolutions, self.norms = nn.ModuleList(), nn.ModuleList()
        for c in block.convolutions:
            self.convolutions.append(convolution(c))
            self.norms.append(nn.BatchNorm2d(c.inputs if preactivated else c.outputs))
        self.shortcut = convolution(block.shortcut) if block.shortcut else None
        self.shortcut_norm = nn.BatchNorm2d(block.shortcut.outputs) if block.shortcut and not preactivated else None
        if not preactivated:
            nn.init.zeros_(self.norms[-1].weight)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The block's outputs."""
        hidden, last = x, len(self.convolutions) - 1
        for i, (convolve, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            if self.preactivated:
                hidden = relu(norm(hidden))
                if not i and self.shortcut is not None:
                    x = self.shortcut(hidden)
                hidden = convolve(hidden)
            else:
                hidden = norm(convolve(hidden))
                hidden = hidden if i == last else relu(hidden)
        if self.preactivated:
            return hidden + x
        if self.shortcut is not None and self.shortcut_norm is not None:
            x = self.shortcut_norm(self.shortcut(x))
        return relu(hidden + x)


class Network(nn.Module):
    """A residual network for images of shape (batch, 3, size, size).

    Its statistics keep 0.9 of what they were from step to step, through however many passes a step has, one after the
    other, of shards of the batch.
    """

    def __init__(self, plan: Plan, shards: int = 1) -> None:
        super().__init__()
        self.preactivated = plan.preactivated
        self.stem = convolution(plan.stem)
        self.norm = nn.BatchNorm2d(plan.features if plan.preactivated else plan.stem.outputs)
        self.blocks = nn.ModuleList(Block(block, plan.preactivated) for block in plan.blocks)
        self.output = nn.Linear(plan.features, plan.classes)
        bound = plan.classes**-0.5
        nn.init.uniform_(self.output.weight, -bound, bound)
        nn.init.zeros_(self.output.bias)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1 - KEPT ** (1 / shards)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The outputs, of shape (batch, classes)."""
        hidden = self.stem(images)
        if not self.preactivated:
            hidden = max_pool2d(relu(self.norm(hidden)), 3, 2, 1)
        for block in self.blocks:
            hidden = block(hidden)
        if self.preactivated:
            hidden = relu(self.norm(hidden))
        outputs: torch.Tensor = self.output(hidden.mean((2, 3)))
        return outputs
