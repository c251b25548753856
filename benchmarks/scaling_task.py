"""What `scaling` trains, on every framework and any number of devices: one network, one global batch, four ways."""

from typing import NamedTuple

WIDTHS = (512, 512, 512, 10)
"""Of the layers of a multilayer perceptron: half a million weights."""
BATCH = 128
"""The examples of a global batch, however many devices share it."""
CUT = 4
RHO = 0.05
LEARNING_RATE, MOMENTUM = 1e-4, 0.9

SGD, WHOLE, DEVICE, PART = "SGD", "SAM, no m", "SAM, m = b", f"SAM, m = b/{CUT}"
WAYS = (SGD, WHOLE, DEVICE, PART)
"""To take a step, where b examples lie on each device: without a perturbation; with one for the whole global batch, one
for each device, and some for each device."""
JIT_SGD, JIT_WHOLE = "SGD, by jit", "SAM, no m, by jit"
JAX_WAYS = (*WAYS, JIT_SGD, JIT_WHOLE)
"""In JAX those run in `shard_map`, so that they compare like with like; in two more the compiler divides the work."""


class Task(NamedTuple):
    """How a network is trained.

    Attributes:
        widths: of its layers.
        batch: how many examples a global batch has.
    """

    widths: tuple[int, ...] = WIDTHS
    batch: int = BATCH

    @property
    def parameters(self) -> int:
        """How many weights and biases there are.

        Example:
            >>> Task().parameters, Task((2, 3)).parameters
            (530442, 9)
        """
        return sum(n * m + m for n, m in zip(self.widths, self.widths[1:], strict=False))

    def m(self, way: str, devices: int) -> int | None:
        """The examples to a perturbation, on so many devices; None for the whole global batch.

        Example:
            >>> [Task().m(way, 8) for way in (WHOLE, DEVICE, PART)]
            [None, 16, 4]
        """
        on_each = self.batch // devices
        return {DEVICE: on_each, PART: max(1, on_each // CUT)}.get(way)


class Measured(NamedTuple):
    """What one way to take a step was found to cost.

    Attributes:
        way: of `WAYS`.
        sent: the bytes that a device puts into each all-reduce of a step.
        seconds: what a step took, in each round.
    """

    way: str
    sent: list[int]
    seconds: list[float]

    @property
    def gradients(self) -> int:
        """How many all-reduces are of gradients."""
        return len(self.sent) - self.small

    @property
    def small(self) -> int:
        """How many all-reduces are of a few numbers, such as losses."""
        return sum(size < SMALL for size in self.sent)


SMALL = 1024
"""Bytes: what is less holds no layer's gradient."""
