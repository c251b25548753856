"""What `overhead` measures in PyTorch: networks, base optimizers, and the steps that are compared on them.

*The limit* of a sharpness-aware step is two gradients and one step of the base optimizer: what it takes if perturbing
and restoring take nothing.

On a CUDA device some steps are taken one after the other, so that the host may run ahead, between two events that the
device itself times; products of float32 are in float32, and convolutions in TensorFloat-32, as PyTorch has it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.comparison import Compared, Contest, Counted, Device, Goal, Step
from benchmarks.counting import Count
from samfamily import Variant
from samfamily_torch import ASAM, MSAM, SAM, LookSAM, SharpnessAware

PACKAGES = ("samfamily", "torch", "pytorch_optimizer", "numpy")

PEER = "pytorch_optimizer"
ABSENT = "" if find_spec(PEER) else "not installed"
"""Why the peer does not take part; empty where it does."""

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


class Residual(nn.Module):
    """Two convolutions with batch normalisation round which the input is added."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        stride = 1 if before == after else 2
        self.inner = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, 1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, 1, 1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.outer = nn.Identity() if stride == 1 else nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.relu(self.inner(x) + self.outer(x))
        return y


def resnet() -> tuple[nn.Module, Tensor]:
    """A residual network as ResNet-18, with 11 million weights, and a batch of 128 images of 32 x 32."""
    widths = (64, 64, 64, 128, 128, 256, 256, 512, 512)
    stem = (nn.Conv2d(3, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU())
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 10))
    return nn.Sequential(*stem, *(Residual(*pair) for pair in pairwise(widths)), *head), torch.randn(128, 3, 32, 32)


def transformer() -> tuple[nn.Module, Tensor]:
    """Four layers of a transformer of width 1024, with 50 million weights, and a batch of 8 sequences of 128."""
    layers = [nn.TransformerEncoderLayer(1024, 16, 4096, dropout=0.0, batch_first=True) for _ in range(4)]
    return nn.Sequential(*layers), torch.randn(8, 128, 1024)


def device(name: str | None) -> Device:
    """The CPU, where no other is asked for, or the CUDA device with its own clock."""
    if name in {None, "cpu"}:
        return Device()
    if not torch.cuda.is_available():
        raise SystemExit(f"PyTorch finds no CUDA device here, and --device is {name}: leave it out to measure the CPU")
    return Device(torch.cuda.get_device_name(), partial(replace, device="cuda"), Events())


class Events:
    """A clock that waits for the device and counts what it has timed between two looks."""

    def __init__(self) -> None:
        self.now, self._last = 0.0, self._event()

    def __call__(self) -> float:
        """Return the seconds since it was made."""
        event = self._event()
        self.now += self._last.elapsed_time(event) / 1e3
        self._last = event
        return self.now

    @staticmethod
    def _event() -> Any:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        event.synchronize()
        return event


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
        together: how many steps are timed together on a CUDA device.
        device: where it is trained.
    """

    name: str
    network: Callable[[], tuple[nn.Module, Tensor]]
    base: Base
    base_name: str
    target: float
    rounds: int
    cheap: bool = False
    together: int = 10
    device: str = "cpu"

    @property
    def times(self) -> str:
        """How many steps are timed together, for a title."""
        return f": {self.together} steps together" if self.device == "cuda" else ""

    def timed(self, step: Step) -> Step:
        """What is timed in the place of a step."""
        return repeated(step, self.together) if self.device == "cuda" else step

    @property
    def kinds(self) -> Mapping[str, dict[str, bool]]:
        """Ways to run the base optimizer: each has a limit of its own."""
        return {"foreach": {"foreach": True}, "fused": {"fused": True}} if self.device == "cuda" else KINDS


TASKS = {
    "mlp": Task("MLP 1024-2048-2048-2048-10, batch 32", mlp, adamw, "AdamW", 1.08, 25),
    "conv": Task("small convolutional net, batch 32", conv, sgd, "SGD", 1.02, 60, cheap=True),
    "narrow": Task("100 layers of width 64, batch 32", narrow, adamw, "AdamW", 1.05, 60),
    "transformer": Task(
        "transformer of 4 layers, 8 sequences of 128", transformer, adamw, "AdamW", 1.05, 15, together=5
    ),
    "resnet": Task("residual network, batch 128", resnet, sgd, "SGD", 1.05, 15, together=5),
}

CHEAP = {"LookSAM": (LookSAM(k=PERIOD), 1.3), "MSAM": (MSAM(), 1.1)}
"""Variants that are measured by the base optimizer's plain step, with their targets."""


class Training:
    """One network in training, always from the same weights, on the same batch."""

    @staticmethod
    def normalises(task: Task) -> bool:
        """Whether the network has buffers, such as batch normalisation's statistics."""
        with torch.device("meta"):
            return any(True for _ in task.network()[0].buffers())

    def __init__(self, task: Task) -> None:
        torch.manual_seed(0)
        model, inputs = task.network()
        self.model, self.inputs = model.to(task.device), inputs.to(task.device)
        self.parameters = list(self.model.parameters())

    def gradient(self) -> Tensor:
        """Empty `.grad`, compute the loss and its gradient: a closure."""
        for p in self.parameters:
            p.grad = None
        loss: Tensor = (self.model(self.inputs) ** 2).mean()
        loss.backward()
        return loss


KINDS = {"loop": {"foreach": False}, "foreach": {"foreach": True}}
"""A base optimizer that loops has a limit of its own, and so has one that does not."""


def contests(task: Task) -> Iterator[Contest]:
    """What is timed on a task."""
    who = ("base step", "samfamily", *([] if ABSENT else [PEER]))
    pairs = [
        Compared(f"{kind}: {name}", f"{kind}: limit", Goal(task.target) if name == "samfamily" else None)
        for kind in task.kinds
        for name in (*who, *(["samfamily, model given"] if Training.normalises(task) else []))
    ]
    absent = {f"{kind}: {PEER}": ABSENT for kind in task.kinds} if ABSENT else {}
    title = f"{task.name}, {task.base_name}"
    yield Contest(f"{title}{task.times}", partial(contenders, task), pairs, task.rounds, absent)
    if task.cheap:
        pairs = [Compared(name, "plain", Goal(target)) for name, (_, target) in CHEAP.items()]
        yield Contest(f"{title}: {PERIOD} steps together", partial(cheap_contenders, task), pairs, task.rounds)


def contenders(task: Task) -> Iterator[tuple[str, Step]]:
    """The steps that are compared."""
    for kind, options in task.kinds.items():
        yield f"{kind}: limit", task.timed(limit(task, Training(task), **options))
        yield f"{kind}: base step", task.timed(base_step(task, Training(task), **options))
        yield f"{kind}: samfamily", task.timed(ours(task, Training(task), SAM(), **options))
        if Training.normalises(task):
            step = ours(task, Training(task), SAM(), given=True, **options)
            yield f"{kind}: samfamily, model given", task.timed(step)
        if not ABSENT:
            yield f"{kind}: {PEER}", task.timed(peer(task, Training(task), **options))


def cheap_contenders(task: Task) -> Iterator[tuple[str, Step]]:
    """Some steps with the plain optimizer and with variants that take little more than one gradient each."""
    yield "plain", repeated(plain(task, Training(task)))
    for name, (variant, _) in CHEAP.items():
        yield name, repeated(ours(task, Training(task), variant))


def repeated(step: Step, times: int = PERIOD) -> Step:
    def steps() -> None:
        for _ in range(times):
            step()

    return steps


def plain(task: Task, training: Training) -> Step:
    base = task.base(training.parameters)

    def step() -> None:
        training.gradient()
        base.step()

    return step


def limit(task: Task, training: Training, **kind: bool) -> Step:
    base = task.base(training.parameters, **kind)

    def step() -> None:
        training.gradient()
        training.gradient()
        base.step()

    return step


def base_step(task: Task, training: Training, **kind: bool) -> Step:
    training.gradient()
    return task.base(training.parameters, **kind).step


def ours(task: Task, training: Training, variant: Variant, *, given: bool = False, **kind: bool) -> Step:
    optimizer = SharpnessAware(task.base(training.parameters, **kind), variant, training.model if given else None)
    return lambda: optimizer.step(training.gradient)


def peer(task: Task, training: Training, **kind: bool) -> Step:
    import pytorch_optimizer

    base: Any = task.base  # it hands `kind` on to the base optimizer
    optimizer = pytorch_optimizer.SAM(training.parameters, base, rho=0.05, **kind)

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
    rows: dict[str, tuple[Callable[[Any], Any], str]] = {
        "samfamily SAM": (lambda p: SharpnessAware(_Still(p), SAM()), "cpu"),
        "samfamily SAM, scalars not read": (lambda p: SharpnessAware(_Still(p), SAM()), "meta"),
        "samfamily ASAM": (lambda p: SharpnessAware(_Still(p), ASAM()), "cpu"),
    }
    if not ABSENT:
        import pytorch_optimizer

        sam = partial(pytorch_optimizer.SAM, rho=0.05)
        rows |= {
            "pytorch_optimizer SAM, foreach": (lambda p: sam(p, still, foreach=True), "cpu"),
            "pytorch_optimizer SAM, loop": (lambda p: sam(p, still, foreach=False), "cpu"),
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
