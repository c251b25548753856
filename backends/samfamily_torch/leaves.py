"""What a module tells of its parameters."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from samfamily.space import Leaf

NORMALISATIONS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
"""Batch and instance normalisation in all dimensions, layer, group and root-mean-square normalisation."""


def describe(model: nn.Module) -> dict[int, Leaf]:
    """Return a `Leaf` for each parameter of `model`, by the parameter's id.

    Args:
        model: the module.

    Returns:
        Each parameter's first name, and whether the module that owns it is a normalisation layer, told by its type.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False), torch.nn.LayerNorm(2, bias=False))
        >>> [(leaf.name, leaf.normalisation) for leaf in describe(model).values()]
        [('0.weight', False), ('1.weight', True)]
    """
    leaves: dict[int, Leaf] = {}
    for path, module in model.named_modules():
        for name, p in module.named_parameters(path, recurse=False):
            leaves.setdefault(id(p), Leaf(name, normalisation=isinstance(module, NORMALISATIONS)))
    return leaves
