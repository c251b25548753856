r"""What an all-reduce takes on paper, and what a step of SAM waits for it: bandwidth, latency and overlap.

Of \(n\) bytes on \(p\) devices, each with a link of \(\beta\) bytes a second and \(\alpha\) seconds a message:

$$ T_\text{ring} = 2 \frac{p - 1}{p} \frac{n}{\beta} + 2 (p - 1) \alpha, \qquad
   T_\text{tree} = 2 \frac{p - 1}{p} \frac{n}{\beta} + 2 \lceil \log_2 p \rceil \alpha . $$

Times are in seconds and sizes in bytes throughout.
"""

from math import ceil, log2
from typing import NamedTuple

BUCKET = 25 * 2**20
"""Bytes that `DistributedDataParallel` sends together, as it is unless told otherwise."""
BACKWARD = 2 / 3
"""The share of a gradient's time that its backward pass takes: twice a forward pass's operations."""


class Link(NamedTuple):
    """What a device sends through.

    Attributes:
        bandwidth: bytes a second, each way.
        latency: seconds that a message takes however short it is.
    """

    bandwidth: float
    latency: float


def ring(devices: int, size: float, link: Link) -> float:
    """The time of an all-reduce whose messages go round all devices, twice.

    Example:
        >>> ring(4, 100.0, Link(bandwidth=10.0, latency=1.0))  # 15 to send, and 6 messages one after the other
        21.0
    """
    return _sending(devices, size, link) + 2 * (devices - 1) * link.latency


def tree(devices: int, size: float, link: Link) -> float:
    """The time of an all-reduce whose messages go up and down two trees, half of them in each, so that all links work.

    Example:
        >>> tree(4, 100.0, Link(bandwidth=10.0, latency=1.0))
        19.0
    """
    return _sending(devices, size, link) + 2 * ceil(log2(devices)) * link.latency


def _sending(devices: int, size: float, link: Link) -> float:
    """What no all-reduce can do without, whatever way its messages go."""
    return 2 * (devices - 1) / devices * size / link.bandwidth


class Machine(NamedTuple):
    """Nodes of some devices each.

    Attributes:
        name: of the network between them.
        node: how many devices a node has.
        inside: a device's link to the others of its node.
        between: a device's share of the network between nodes.
    """

    name: str
    node: int
    inside: Link
    between: Link

    def all_reduce(self, devices: int, size: float) -> float:
        """The time of an all-reduce: a half ring inside nodes, trees between nodes for each part, the other half.

        Example:
            >>> machine = Machine("", node=2, inside=Link(10.0, 0.0), between=Link(1.0, 0.0))
            >>> machine.all_reduce(2, 20.0), machine.all_reduce(4, 20.0)  # 10 bytes of each device go out of its node
            (2.0, 12.0)
        """
        within = min(devices, self.node)
        nodes = ceil(devices / within)
        return ring(within, size, self.inside) + tree(nodes, size / within, self.between)


class Work(NamedTuple):
    """What is trained on each device.

    Attributes:
        name: of the model.
        parameters: how many there are, of four bytes each.
        examples: how many a device has, b.
        unit: what an example is.
        seconds: what the gradient of one example takes.
    """

    name: str
    parameters: float
    examples: int
    unit: str
    seconds: float

    @property
    def size(self) -> float:
        """The bytes of a gradient."""
        return 4 * self.parameters

    @property
    def gradient(self) -> float:
        """The time of one gradient of a device's examples."""
        return self.examples * self.seconds


def buckets(size: float, bucket: float = BUCKET) -> int:
    """How many all-reduces a gradient takes that is sent in buckets while it is computed.

    Example:
        >>> buckets(1.0), buckets(BUCKET), buckets(BUCKET + 1.0)
        (1, 1, 2)
    """
    return max(1, ceil(size / bucket))


def bucketed(machine: Machine, devices: int, size: float, bucket: float = BUCKET) -> float:
    """The time of all buckets' all-reduces, one after the other."""
    number = buckets(size, bucket)
    return number * machine.all_reduce(devices, size / number)


def waited(machine: Machine, devices: int, size: float, backward: float, bucket: float = BUCKET) -> float:
    r"""How long after its backward pass a gradient's average is there, when buckets are sent during that pass.

    Of \(k\) buckets, each \(\tau\) long, the \(i\)-th is ready at \(i / k\) of the backward pass, and is sent after
    those before it.  The last one always waits for the end of the pass; if the network is slower, all wait for it:

    $$ \max\bigl(\tau, \; k \tau - (1 - 1 / k) \, T_\text{backward}\bigr) . $$
    """
    number = buckets(size, bucket)
    all_of_them = bucketed(machine, devices, size, bucket)
    return max(all_of_them / number, all_of_them - (1 - 1 / number) * backward)


class Step(NamedTuple):
    """A step of SAM: two gradients, and what devices stand still for the network.

    Attributes:
        gradients: the time of both.
        waits: for averages that are not there yet.
    """

    gradients: float
    waits: float

    @property
    def time(self) -> float:
        """The time of both together."""
        return self.gradients + self.waits

    def saves(self, other: "Step") -> float:
        """The share of the other step's time that this one does without; less than zero where it takes longer."""
        return (other.time - self.time) / other.time


def step(machine: Machine, devices: int, work: Work, averages: int, overlapped: bool) -> Step:
    """A step that averages two gradients, without an m, or one, with m = b or less.

    Each average can hide behind its own backward pass only: the first gradient's norm must be known before anybody
    climbs, and what is descended before the next step.
    """
    backward = BACKWARD * work.gradient
    one = waited(machine, devices, work.size, backward) if overlapped else machine.all_reduce(devices, work.size)
    return Step(2 * work.gradient, averages * one)


def hidden_from(machine: Machine, devices: int, work: Work) -> float:
    """The examples on a device from which on a backward pass takes as long as its all-reduces, and hides them."""
    return bucketed(machine, devices, work.size) / (BACKWARD * work.seconds)
