"""The networks of `curvature-cost` in PyTorch."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.counting import peak_bytes
from benchmarks.curvature_cost import Task
from samfamily import Landscape as AnyLandscape
from samfamily_torch import Landscape

CLASSES = 10


class Transformer(nn.Module):
    """Two encoder blocks and a linear head on the mean over places."""

    def __init__(self) -> None:
        super().__init__()
        block = nn.TransformerEncoderLayer(128, 4, 512, 0.0, batch_first=True)
        self.blocks = nn.TransformerEncoder(block, 2, enable_nested_tensor=False)
        self.head = nn.Linear(128, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.head(self.blocks(x).mean(1))
        return logits


def mlp() -> nn.Module:
    """10.5 million weights, as in `overhead`."""
    widths = (1024, 2048, 2048, 2048)
    layers = [m for a, b in pairwise(widths) for m in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(2048, CLASSES))


def cnn() -> nn.Module:
    """95 thousand weights, and images of 32 x 32."""
    layers: list[nn.Module] = []
    for stride, (a, b) in ((1, (3, 32)), (2, (32, 64)), (2, (64, 128))):
        layers += [nn.Conv2d(a, b, 3, stride, 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, CLASSES))


def landscape(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> AnyLandscape:
    """A loss on one batch."""
    torch.manual_seed(0)
    model = build().eval()
    batch: Any = torch.randn(shape), torch.arange(shape[0]) % CLASSES
    return Landscape(lambda x, y: cross_entropy(model(x), y), model, batch)


def tasks() -> list[Task]:
    """The networks, each with its batch."""
    shapes: list[tuple[str, Callable[[], nn.Module], tuple[int, ...]]] = [
        ("MLP", mlp, (128, 1024)),
        ("CNN", cnn, (32, 3, 32, 32)),
        ("transformer", Transformer, (16, 32, 128)),
    ]
    return [
        Task(name, partial(landscape, build, shape), lambda _: None, lambda f, _: peak_bytes(f)[1])
        for name, build, shape in shapes
    ]
