"""What a step asks of a CUDA device besides gradients and the base optimizer: memory and kernels, never time."""

from collections.abc import Callable
from itertools import pairwise
from math import ceil
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.counting import Count
from samfamily_torch import SAM, USAM, SharpnessAware, foreach
from tests.torch.conftest import ON_CUDA
from tests.torch.test_cost import Still

DEVICE = "cuda"
pytestmark = ON_CUDA

# -------------------------------------------------------------------------------------------------------------- memory


def peak(variant: Any, keeping: list[Any] | None = None) -> tuple[int, int]:
    """Return the most memory that is in use during a step, and the parameters' own; plain SGD without a variant."""
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    layers = [nn.Linear(*sizes, bias=False, device=DEVICE) for sizes in pairwise((1024, 2048, 2048, 2048, 1024))]
    model, x = nn.Sequential(*layers), torch.ones(8, 1024, device=DEVICE)
    optimizer: Any = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    if variant is not None:
        optimizer = SharpnessAware(optimizer, variant, model)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = model(x).square().mean()
        loss.backward()
        if keeping is not None:
            keeping[:] = [*keeping[-1:], [p.grad for p in model.parameters()]]
        return loss

    for _ in range(3):
        torch.cuda.reset_peak_memory_stats()
        optimizer.step(closure)
    torch.cuda.synchronize()
    own = sum(p.numel() * p.element_size() for p in model.parameters())
    return torch.cuda.max_memory_allocated() - before, own


def copies(variant: Any, keeping: list[Any] | None = None) -> float:
    """Return how much more memory a step takes than plain SGD's, in copies of the parameters."""
    (plain, own), (ours, _) = peak(None), peak(variant, keeping)
    return (ours - plain) / own


@pytest.mark.parametrize("variant", [SAM(), USAM()], ids=lambda v: v.name)
def test_one_copy_of_the_parameters_at_most(variant: Any) -> None:
    assert 0 < copies(variant) <= 1.02


def test_a_gradient_that_somebody_keeps_is_seen() -> None:
    """Negative control of the test above."""
    assert copies(SAM(), keeping=[]) > 1.5


# ------------------------------------------------------------------------------------------------------------- kernels

TENSORS_A_KERNEL = 30
"""What the kernel of a call on five lists takes at once, the fewest of all; one on fewer lists takes more."""


def half_steps(tensors: int) -> Callable[[Any], None]:
    """Return what perturbs and restores this many parameters, within a context, and has been run three times."""
    parameters = [nn.Parameter(torch.ones(64, 64, device=DEVICE)) for _ in range(tensors)]
    optimizer = SharpnessAware(Still(parameters), SAM())

    def run(context: Any) -> None:
        for half in (optimizer.first_step, optimizer.second_step):
            for p in parameters:
                p.grad = torch.full((64, 64), 0.1, device=DEVICE)
            torch.cuda.synchronize()
            with context():
                half(zero_grad=False)
                torch.cuda.synchronize()

    for _ in range(3):
        run(Count)
    return run


def calls(tensors: int) -> Count:
    counted = Count()
    half_steps(tensors)(lambda: counted)
    return counted


def most_kernels(tensors: int) -> int:
    """Return how many there may be: one for each call, and for one that takes lists as many as their lengths need.

    With two more for a call that returns a norm of each: it clears its sums before, and takes the roots after.
    """
    names = calls(tensors).names
    lists = sum(number for name, number in names.items() if name.startswith(("_foreach", "stack", "cat")))
    return names.total() - lists + lists * (ceil(tensors / TENSORS_A_KERNEL) + 2)


def kernels(tensors: int) -> list[str]:
    """Return the names of all that is launched."""
    found: list[str] = []
    run = half_steps(tensors)

    def profiled() -> Any:
        profiles.append(profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]))
        return profiles[-1]

    for _ in range(2):  # the first profile of a process is not always whole
        profiles: list[Any] = []
        run(profiled)
        events = [event for each in profiles for event in each.events() if event.device_type == DeviceType.CUDA]
        found = [event.name for event in events if not event.name.startswith(("Optimizer.", "ProfilerStep"))]
    return found


def test_the_number_of_kernels_hardly_depends_on_the_number_of_tensors() -> None:
    few, many = kernels(50), kernels(200)
    assert few
    assert calls(200).names == calls(50).names
    assert len(many) <= most_kernels(200) < 200, many
    assert len(many) <= 2 * len(few), (few, many)


def test_a_loop_over_tensors_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control of the test above."""
    most = most_kernels(200)

    def looping(out: Any, x: Any) -> None:
        for o, u in zip(out, x, strict=True):
            o.copy_(u)

    monkeypatch.setattr(foreach, "copy_into", looping)
    assert len(kernels(200)) > most
