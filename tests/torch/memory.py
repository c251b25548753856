"""What a variant remembers, as a checkpoint has it."""

from typing import Any

from torch import Tensor


def remembered(optimizer: Any) -> list[Tensor]:
    """The memory of every parameter, in order."""
    entries = sorted(optimizer.state_dict()["state"].items())
    return [x for _, entry in entries for name, x in entry.items() if str(name).startswith("samfamily.")]


def own(optimizer: Any) -> dict[str, Any]:
    """What no parameter owns."""
    entry: dict[str, Any] = optimizer.state_dict()["param_groups"][0]["samfamily"]
    return entry
