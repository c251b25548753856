"""Which examples share a perturbation, on one device or on many.

m is a property of the algorithm.  The examples of a global batch are numbered through, device after device, and each m
that follow one another share a perturbation; how many devices there are decides only where that happens.
"""

from __future__ import annotations

from typing import NamedTuple


class Division(NamedTuple):
    """How a global batch is cut into shards of m examples.

    Attributes:
        shards: how many shards a device works through, one after the other; 1 where a shard is its whole batch or more.
        group: how many devices that follow one another work on one shard, and average every gradient of it.
    """

    shards: int
    group: int


def division(m: int | None, examples: int, devices: int = 1) -> Division:
    r"""Return how shards of \(m\) examples lie on devices of \(b\) examples each.

    | | inside a device | between devices |
    |---|---|---|
    | \(m < b\) | \(b / m\) shards | nothing is averaged but the result |
    | \(m = b\) | one shard | nothing is averaged but the result |
    | \(m > b\) | a part of a shard | every gradient is averaged over groups of \(m / b\) devices |
    | no \(m\) | a part of the batch | every gradient is averaged over all devices |

    Args:
        m: examples to a perturbation; None for the whole global batch.
        examples: \(b\), how many examples each device has.
        devices: how many there are.

    Returns:
        The division.

    Raises:
        ValueError: `m` does not divide the global batch in one of these ways.

    Example:
        >>> division(8, examples=32), division(64, examples=32, devices=4), division(None, examples=32, devices=4)
        (Division(shards=4, group=1), Division(shards=1, group=2), Division(shards=1, group=4))
    """
    if m is None:
        return Division(1, devices)
    valid = [k for k in range(1, examples + 1) if examples % k == 0]
    valid += [examples * k for k in range(2, devices + 1) if devices % k == 0]
    if m not in valid:
        where = f"on each of {devices} devices" if devices > 1 else ""
        raise ValueError(
            f"m = {m} does not divide the batch of {examples} examples{where and ' ' + where}: use one of m = {valid}, "
            f"or a batch size that is a multiple of {m} (drop or pad the last, smaller batch)"
        )
    return Division(examples // m, 1) if m <= examples else Division(1, m // examples)
