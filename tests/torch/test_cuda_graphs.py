"""On a CUDA device: a whole step captured as a graph, and models behind torch.compile."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from samfamily_torch import ASAM, GSAM, SAM, SharpnessAware
from tests.torch.conftest import ON_CUDA, make_task

DEVICE = "cuda"
pytestmark = ON_CUDA

BASES: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, fused=True),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True, capturable=True),
}
"""Fused: they learn on the device whether all was finite, and nothing is read."""


class Training:
    """A model in training on a batch that others are copied into."""

    def __init__(self, variant: Any, base: str = "SGD", **options: Any) -> None:
        self.task = make_task().to(DEVICE)
        options = {"replay_random": False} | options
        self.optimizer = SharpnessAware(BASES[base](self.task.model.parameters()), variant, self.task.model, **options)

    def step(self) -> Tensor:
        loss: Tensor = self.optimizer.step(self.task.closure(self.optimizer))
        return loss

    def on(self, batch: Tensor, step: Callable[[], Any]) -> None:
        self.task.x.copy_(batch)
        step()


def batches(count: int) -> Tensor:
    return torch.randn(count, 12, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).to(DEVICE)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("variant", [SAM(rho=0.1), SAM(rho=0.1, steps=2), ASAM(rho=0.5), GSAM(rho=0.1)], ids=str)
def test_a_captured_step_replays_as_it_runs(variant: Any, base: str) -> None:
    eager, captured = Training(variant, base), Training(variant, base)
    first, later = batches(7).split([3, 4])
    for batch in first:
        eager.on(batch, eager.step)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # as PyTorch asks for before a capture
        for batch in first:
            captured.on(batch, captured.step)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = captured.step()
    assert "being captured" in captured.optimizer._live.in_place
    torch.testing.assert_close(captured.task.weights(), eager.task.weights(), rtol=1e-12, atol=1e-14)
    losses = []
    for batch in later:
        before = eager.task.weights()
        eager.on(batch, lambda: losses.append(eager.step()))
        captured.on(batch, graph.replay)
        torch.testing.assert_close(loss, losses[-1], rtol=1e-12, atol=0)
        torch.testing.assert_close(captured.task.weights(), eager.task.weights(), rtol=1e-12, atol=1e-14)
        assert all(float((a - b).norm()) > 1e-6 for a, b in zip(before, eager.task.weights(), strict=True))
    told, known = captured.optimizer.info, eager.optimizer.info
    torch.testing.assert_close(told.perturbed_loss, known.perturbed_loss, rtol=1e-12, atol=0)
    assert float(told.perturbed_loss) > float(told.loss)


def test_a_captured_step_skips_what_is_not_finite() -> None:
    training = Training(SAM(rho=0.1))
    first = batches(3)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for batch in first:
            training.on(batch, training.step)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        training.step()
    before = training.task.weights()
    training.on(first[0] * torch.nan, graph.replay)
    torch.testing.assert_close(training.task.weights(), before, rtol=0, atol=0)
    assert int(training.optimizer.info.skipped) == 1
    training.on(first[0], graph.replay)
    assert not torch.equal(training.task.weights()[0], before[0])


def test_what_a_capture_cannot_do_is_told() -> None:
    training = Training(SAM(rho=0.1), replay_random=True)
    training.step()
    with pytest.raises(RuntimeError, match="replay_random=False"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        training.step()
    training.step()  # and it goes on


# ------------------------------------------------------------------------------------------------------- torch.compile


def compiled_walk(compiling: Callable[[Any], Any], variant: Any) -> tuple[list[Tensor], list[float]]:
    """Return the weights after four steps, and how far the perturbation raised the loss in each."""
    task = make_task(torch.float32).to(DEVICE)
    optimizer = SharpnessAware(torch.optim.SGD(task.model.parameters(), lr=0.1, momentum=0.9), variant, task.model)
    run, rises = compiling(task.model), []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(run(task.x), task.y)
        loss.backward()
        return loss

    for _ in range(4):
        optimizer.step(closure)
        rises.append(float(optimizer.info.perturbed_loss - optimizer.info.loss))
    return task.weights(), rises


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_a_compiled_model_sees_the_perturbation(mode: str) -> None:
    """With CUDA graphs too (reduce-overhead), which know parameters by their addresses: swapped or not."""
    torch._dynamo.reset()
    compiled: Callable[[Any], Any] = lambda model: torch.compile(model, mode=mode)  # noqa: E731
    weights, rises = compiled_walk(compiled, SAM(rho=0.1))
    expected, truly = compiled_walk(lambda model: model, SAM(rho=0.1))
    assert min(rises) > 0
    assert rises == pytest.approx(truly, rel=1e-2)
    torch.testing.assert_close(weights, expected, rtol=1e-4, atol=1e-5)
