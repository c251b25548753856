"""What `overhead` measures in PyTorch: networks, base optimizers, and the steps that are compared on them.

*The limit* of a sharpness-aware step is two gradients and one step of the base optimizer: what it takes if perturbing
and restoring take nothing.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import pytorch_optimizer
import torch
from torch import Tensor, nn

from benchmarks.comparison import Compared, Contest, Counted, Goal, Step
from benchmarks.counting import Count
from samfamily import Variant
from samfamily_torch import ASAM, MSAM, SAM, LookSAM, SharpnessAware

PACKAGES = ("samfamily", "torch", "pytorch_optimizer", "numpy")

PERIOD = 5
"""LookSAM's k, and how many steps are timed together where a variant does not climb at every step."""


def mlp() -> tuple[nn.Module, Tensor]:
    """A multilayer perceptron with 10.5 million weights, and a batch of 32."""
    widths = (1024, 2048, 2048, 2048, 10)
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1]), torch.randn(32, widths[0])


def conv() -> tuple[nn.Module, Tensor]:
    """A small convolutional network with 95 thousand weights, and a batch of 32 images of 32 x 32."""
    channels = (3, 32, 64, 128)
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        layers += [nn.Conv2d(before, after, 3, stride=1 if before == 3 else 2, padding=1), nn.ReLU()]
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[-1], 10))
    return nn.Sequential(*layers, *head), torch.randn(32, 3, 32, 32)


def narrow() -> tuple[nn.Module, Tensor]:
    """A narrow network of 100 layers, 200 tensors, and a batch of 32.

    Its weights begin orthogonal: otherwise gradients vanish on their way through, and what is timed is the arithmetic
    of subnormal numbers, which is many times slower.
    """
    width = 64
    layers: list[nn.Module] = []
    for _ in range(100):
        layer = nn.Linear(width, width)
        nn.init.orthogonal_(layer.weight)
        layers += [layer, nn.Tanh()]
    return nn.Sequential(*layers), torch.randn(32, width)


def threads(number: int | None) -> int:
    """Set the number of threads, if one is given, and return it."""
    if number is not None:
        torch.set_num_threads(number)
    return torch.get_num_threads()


Base = Callable[..., torch.optim.Optimizer]


def adamw(parameters: Any, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=1e-4, **options)


def sgd(parameters: Any, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=1e-4, momentum=0.9, **options)


@dataclass(frozen=True)
class Task:
    """A network to train, and how far above its limit a step may be.

    Attributes:
        name: what the network is.
        network: makes it, and a batch.
        base: makes the base optimizer.
        base_name: which one it is.
        target: how long a step may take, in units of the limit.
        rounds: how often each contender is timed.
        cheap: whether variants that take little more than one gradient are timed on it too.
    """

    name: str
    network: Callable[[], tuple[nn.Module, Tensor]]
    base: Base
    base_name: str
    target: float
    rounds: int
    cheap: bool = False


TASKS = {
    "mlp": Task("MLP 1024-2048-2048-2048-10, batch 32", mlp, adamw, "AdamW", 1.08, 25),
    "conv": Task("small convolutional net, batch 32", conv, sgd, "SGD", 1.02, 60, cheap=True),
    "narrow": Task("100 layers of width 64, batch 32", narrow, adamw, "AdamW", 1.05, 60),
}

CHEAP = {"LookSAM": (LookSAM(k=PERIOD), 1.3), "MSAM": (MSAM(), 1.1)}
"""Variants that are measured by the base optimizer's plain step, with their targets."""


class Training:
    """One network in training, always from the same weights, on the same batch."""

    def __init__(self, task: Task) -> None:
        torch.manual_seed(0)
        self.model, self.inputs = task.network()
        self.parameters = list(self.model.parameters())

    def gradient(self) -> Tensor:
        """Empty `.grad`, compute the loss and its gradient: a closure."""
        for p in self.parameters:
            p.grad = None
        loss: Tensor = (self.model(self.inputs) ** 2).mean()
        loss.backward()
        return loss


KINDS = {"loop": False, "foreach": True}
"""A base optimizer that loops has a limit of its own, and so has one that does not."""


def contests(task: Task) -> Iterator[Contest]:
    """What is timed on a task."""
    pairs = [
        Compared(f"{kind}: {who}", f"{kind}: limit", Goal(task.target) if who == "samfamily" else None)
        for kind in KINDS
        for who in ("base step", "samfamily", "pytorch_optimizer")
    ]
    title = f"{task.name}, {task.base_name}"
    yield Contest(title, partial(contenders, task), pairs, task.rounds)
    if task.cheap:
        pairs = [Compared(name, "plain", Goal(target)) for name, (_, target) in CHEAP.items()]
        yield Contest(f"{title}: {PERIOD} steps together", partial(cheap_contenders, task), pairs, task.rounds)


def contenders(task: Task) -> Iterator[tuple[str, Step]]:
    """The steps that are compared."""
    for kind, foreach in KINDS.items():
        yield f"{kind}: limit", limit(task, Training(task), foreach)
        yield f"{kind}: base step", base_step(task, Training(task), foreach)
        yield f"{kind}: samfamily", ours(task, Training(task), SAM(), foreach)
        yield f"{kind}: pytorch_optimizer", peer(task, Training(task), foreach)


def cheap_contenders(task: Task) -> Iterator[tuple[str, Step]]:
    """Some steps with the plain optimizer and with variants that take little more than one gradient each."""
    yield "plain", repeated(plain(task, Training(task)))
    for name, (variant, _) in CHEAP.items():
        yield name, repeated(ours(task, Training(task), variant))


def repeated(step: Step) -> Step:
    def steps() -> None:
        for _ in range(PERIOD):
            step()

    return steps


def plain(task: Task, training: Training) -> Step:
    base = task.base(training.parameters)

    def step() -> None:
        training.gradient()
        base.step()

    return step


def limit(task: Task, training: Training, foreach: bool) -> Step:
    base = task.base(training.parameters, foreach=foreach)

    def step() -> None:
        training.gradient()
        training.gradient()
        base.step()

    return step


def base_step(task: Task, training: Training, foreach: bool) -> Step:
    training.gradient()
    return task.base(training.parameters, foreach=foreach).step


def ours(task: Task, training: Training, variant: Variant, foreach: bool | None = None) -> Step:
    optimizer = SharpnessAware(task.base(training.parameters, foreach=foreach), variant)
    return lambda: optimizer.step(training.gradient)


def peer(task: Task, training: Training, foreach: bool) -> Step:
    base: Any = task.base  # it hands `foreach` on to the base optimizer
    optimizer = pytorch_optimizer.SAM(training.parameters, base, rho=0.05, foreach=foreach)

    def step() -> None:
        training.gradient()
        optimizer.first_step()
        training.gradient()
        optimizer.second_step()

    return step


# --- Counted, not timed -----------------------------------------------------------------------------------------------


class _Still(torch.optim.Optimizer):
    """A base optimizer that stays where it is and costs nothing."""

    def __init__(self, parameters: Any, **_: Any) -> None:
        super().__init__(parameters, {})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Stay."""


COUNTS = "To perturb and to restore 50 tensors of 64 x 64 float32"
FIGURES = ("calls", "passes over memory", "values read to the host")


def counts(tensors: int = 50, shape: tuple[int, ...] = (64, 64)) -> list[Counted]:
    """What perturbing and restoring this many tensors takes."""
    still: Any = _Still
    rows: Mapping[str, tuple[Callable[[Any], Any], str]] = {
        "samfamily SAM": (lambda p: SharpnessAware(_Still(p), SAM()), "cpu"),
        "samfamily SAM, scalars not read": (lambda p: SharpnessAware(_Still(p), SAM()), "meta"),
        "samfamily ASAM": (lambda p: SharpnessAware(_Still(p), ASAM()), "cpu"),
        "pytorch_optimizer SAM, foreach": (lambda p: pytorch_optimizer.SAM(p, still, rho=0.05, foreach=True), "cpu"),
        "pytorch_optimizer SAM, loop": (lambda p: pytorch_optimizer.SAM(p, still, rho=0.05, foreach=False), "cpu"),
    }
    counted = {name: _count(make, device, tensors, shape) for name, (make, device) in rows.items()}
    return [
        Counted(name, what, value)
        for name, values in counted.items()
        for what, value in zip(FIGURES, values, strict=True)
    ]


def _count(make: Callable[[Any], Any], device: str, tensors: int, shape: tuple[int, ...]) -> tuple[int, float, int]:
    parameters = [nn.Parameter(torch.ones(shape, device=device)) for _ in range(tensors)]
    optimizer, counted = make(parameters), Count()
    for _ in range(3):  # the first steps make what the others keep
        counted = Count()
        for half in (optimizer.first_step, optimizer.second_step):
            for p in parameters:
                p.grad = torch.full(shape, 0.1, device=device)
            with counted:
                half(zero_grad=False)
    return counted.calls, counted.passes(parameters), counted.reads
