"""`scaling` on paper: what one all-reduce less is worth on hundreds and thousands of devices.

Every number that goes in is an assumption, and is given with its source.
"""

from collections.abc import Sequence
from math import ceil

from benchmarks.scaling_model import Link, Machine, Step, Work, hidden_from, step

NODE = 8
INSIDE = Link(bandwidth=235e9, latency=3.4e-6)
"""A100: NVLink's 300 GB/s each way are 235 to NCCL, whose tuning also says how long a message of its rings takes."""
HOP = 14e-6
"""A message between nodes, in the same table."""
NETWORKS = {"1600 Gb/s": 1600e9, "400 Gb/s": 400e9, "100 Gb/s": 100e9}
"""Of a node, nominal: eight adapters of 200 Gb/s as in a DGX A100, four of 100 Gb/s as in EC2's p4d, and one."""
MACHINES = tuple(Machine(name, NODE, INSIDE, Link(bits / 8 / NODE, HOP)) for name, bits in NETWORKS.items())
TOKENS = 2048
"""In a sequence."""
WORKS = (
    Work("ResNet-50", 25.6e6, 32, "images", 1 / 2470),
    Work("MPT 350M", 356e6, 8, "sequences", TOKENS / 58_782),
    Work("MPT 7B", 6.66e9, 4, "sequences", TOKENS / 4_641),
)
"""With what an A100 of 80 GB was measured to train a second in mixed precision; gradients are float32."""
DEVICES = (8, 256, 4096)
LOSSES = 80
"""Bytes: two losses, whether all was finite, and how long the batches were, as ten numbers of eight bytes."""

HEADINGS = ("devices", "network", "nothing overlaps", "both overlap", "only no m does", "hidden from b")
Row = tuple[str, ...]
Figures = tuple[str, Sequence[str], Sequence[Row]]
"""A title, headings and rows."""


def tables() -> list[Figures]:
    """For each model, what one all-reduce less is worth: time that m = b saves of a step without an m."""
    return [(title(work), HEADINGS, rows(work)) for work in WORKS]


def title(work: Work) -> str:
    """What is trained, and how long a gradient takes."""
    millions = f"{work.parameters / 1e6:.4g} million parameters"
    gradient = milliseconds(work.gradient)
    return f"{work.name}: {millions}, b = {work.examples} {work.unit}, {gradient} a gradient"


def rows(work: Work) -> list[Row]:
    """A row for each number of devices, and each network if there is more than one node."""
    return [
        row(work, devices, machine) for devices in DEVICES for machine in (MACHINES if devices > NODE else MACHINES[:1])
    ]


def row(work: Work, devices: int, machine: Machine) -> Row:
    """What m = b saves there, by what is sent during backward passes and what after them."""
    return (
        f"{devices}",
        machine.name if devices > NODE else "one node",
        *(saved(step(machine, devices, work, 2, a), step(machine, devices, work, 1, b)) for a, b in OVERLAPS),
        f"{ceil(hidden_from(machine, devices, work))}",
    )


OVERLAPS = ((False, False), (True, True), (True, False))
"""Whether a step without an m sends during its backward passes, and whether one with m = b does: three columns."""


def saved(whole: Step, apart: Step) -> str:
    """What the second step saves of the first."""
    return f"{milliseconds(whole.time - apart.time)} ({100 * apart.saves(whole):.0f}%)"


def milliseconds(seconds: float) -> str:
    """A time, to two figures.

    Example:
        >>> milliseconds(0.0012345), milliseconds(1.2345)
        ('1.2 ms', '1200 ms')
    """
    figures = f"{seconds * 1e3:.2g}"
    return f"{float(figures):.0f} ms" if "e" in figures else f"{figures} ms"


def assumptions() -> list[str]:
    """What goes in, and the small all-reduce that PyTorch adds to every step of SAM."""
    small = max(machine.all_reduce(DEVICES[-1], LOSSES) for machine in MACHINES)
    return [
        f"Nodes of {NODE} devices, links of {INSIDE.bandwidth / 1e9:g} GB/s and {INSIDE.latency * 1e6:g} us a hop.",
        f"A device has an {NODE}th of its node's network, {HOP * 1e6:g} us a hop.",
        "Gradients are float32, in buckets of 25 MiB where they overlap with a backward pass, 2/3 of a gradient.",
        f"PyTorch's all-reduce of {LOSSES} bytes: {milliseconds(small)} on {DEVICES[-1]} devices.",
    ]
