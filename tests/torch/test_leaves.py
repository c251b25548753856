"""What a module tells of its parameters: which belong to a normalisation layer."""

import pytest
import torch
from torch import nn

from samfamily_torch.leaves import describe

LAYERS = [
    nn.BatchNorm1d(4), nn.BatchNorm2d(4), nn.BatchNorm3d(4), nn.SyncBatchNorm(4), nn.InstanceNorm1d(4, affine=True),
    nn.InstanceNorm2d(4, affine=True), nn.LayerNorm(4), nn.GroupNorm(2, 4), nn.RMSNorm(4),
]  # fmt: skip


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_every_normalisation_layer_is_told_from_others(layer: nn.Module) -> None:
    """Kills the mutants that leave one of them out."""
    leaves = describe(nn.Sequential(nn.Linear(4, 4), layer, nn.Conv1d(4, 4, 1)))
    told = [leaf.normalisation for leaf in leaves.values()]
    count = len(list(layer.parameters()))
    assert count > 0
    assert told == [False, False, *[True] * count, False, False]


def test_a_shared_parameter_has_its_first_name() -> None:
    layer = nn.Linear(2, 2, bias=False)
    model = nn.Sequential(layer, nn.Sequential(layer))
    assert [leaf.name for leaf in describe(model).values()] == ["0.weight"]
    assert isinstance(layer.weight, torch.nn.Parameter)
