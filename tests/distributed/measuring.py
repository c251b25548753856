"""What a rank measures on its part of the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from samfamily import curvature
from samfamily_torch import Landscape
from tests.distributed.walks import batches, fully_sharded, network


def model() -> nn.Sequential:
    """Return a network with statistics of its own, which stay as they are."""
    return nn.Sequential(*network(), nn.BatchNorm1d(3, affine=False).double()).eval()


def measure(wrapped: nn.Module, cuts: Sequence[int], start: int = 0, end: int = 32) -> dict[str, Any]:
    """Return what is measured on these of the 32 examples, in batches that end at the cuts."""
    x, y = (part[start:end] for part in batches(1)[0])
    data = list(zip(x.tensor_split(cuts), y.tensor_split(cuts), strict=True))
    landscape = Landscape(lambda x, y: nn.functional.mse_loss(wrapped(x), y), wrapped, data)
    loss, gradient = landscape.gradient(landscape.w + 0.1 * landscape.w)
    density = curvature.density(landscape, order=5, draws=2)
    moments = curvature.moments(landscape, 9)
    return {
        "loss": landscape.loss(),
        "loss elsewhere": loss,
        "gradient": _flat(gradient.collapse()),
        "eigenvalues": torch.tensor(curvature.eigenvalues(landscape, 2, 1, tolerance=1e-7).values),
        "density": torch.tensor(np.concatenate([*density.nodes, *density.weights])),
        "moments": torch.tensor([moments.trace, moments.frobenius]),
    }


def _flat(leaves: Sequence[Tensor]) -> Tensor:
    return torch.cat([x.reshape(-1) for x in leaves])


def measured(rank: int, parts: Sequence[tuple[int, int, list[int]]]) -> Any:
    """Measure under DDP, and tell what an m is answered, and whether the wrapper and the model are as before."""
    wrapped = DistributedDataParallel(model())
    before = [x.clone() for x in wrapped.state_dict().values()], wrapped.require_forward_param_sync
    start, end, cuts = parts[rank]
    found = measure(wrapped, cuts, start, end)
    x, y = (part[start:end] for part in batches(1)[0])
    landscape = Landscape(lambda x, y: nn.functional.mse_loss(wrapped(x), y), wrapped, (x, y))
    try:
        refusal = str(list(landscape.shards(4)))
    except RuntimeError as error:
        refusal = str(error)
    untouched = all(map(torch.equal, before[0], wrapped.state_dict().values()))
    return found, refusal, untouched and before[1] == wrapped.require_forward_param_sync


def sharded_model(rank: int) -> str:
    """Return what a landscape of a sharded model is refused with."""
    wrapped = fully_sharded(network())
    try:
        Landscape(lambda x: wrapped(x).mean(), wrapped, (batches(1)[0][0],))
    except RuntimeError as error:
        return f"refused: {error}"
    return "no error"
