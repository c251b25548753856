"""Where a parameter is known by its memory it is perturbed there; everywhere else its tensor is swapped."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from samfamily import ASAM, FAMILY, RSAM, SAM
from samfamily_torch import SharpnessAware, live
from samfamily_torch.live import why_in_place
from tests.torch.conftest import Task, make_task, same


@pytest.fixture(params=["swapped", "in place"])
def placed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "in place":
        monkeypatch.setattr(live, "why_in_place", lambda leaves: "the test says so")
    return str(request.param)


def in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "why_in_place", lambda leaves: "the test says so")


# ------------------------------------------------------------------------------------------------------------ decision


def flat(*shapes: tuple[int, ...]) -> list[nn.Parameter]:
    """Return parameters that are views of one storage, as an RNN's are on an accelerator."""
    sizes = [torch.Size(shape).numel() for shape in shapes]
    parts = torch.randn(sum(sizes)).split(sizes)
    return [nn.Parameter(part.view(shape)) for part, shape in zip(parts, shapes, strict=True)]


class Marked(torch.Tensor):
    """A tensor of a class of its own."""


def test_plain_tensors_are_swapped() -> None:
    plain = (torch.ones(2, 3), torch.ones(()), torch.ones(0), torch.ones(2, 3).t())
    assert why_in_place(plain) == ""
    assert why_in_place(()) == ""


def test_parts_of_a_storage_are_not_and_the_reason_is_told() -> None:
    shared = tuple(p.data for p in flat((2, 3), (4,)))
    assert "a part of memory that others know as a whole" in why_in_place(shared)
    assert "a part of memory" in why_in_place((torch.ones(2), shared[0]))


def test_tensors_of_another_class_are_not() -> None:
    assert "a Marked is more than" in why_in_place((torch.ones(2), torch.ones(2).as_subclass(Marked)))


def test_while_a_graph_is_captured_nothing_is_swapped(monkeypatch: pytest.MonkeyPatch, task: Task) -> None:
    optimizer = task.optimizer(SAM())
    optimizer.step(task.closure(optimizer))
    assert optimizer._live.in_place == ""
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    addresses = set()

    def closure() -> torch.Tensor:
        addresses.add(next(task.model.parameters()).data_ptr())
        return task.closure(optimizer)()

    optimizer.step(closure)
    assert "being captured" in optimizer._live.in_place
    assert len(addresses) == 1
    monkeypatch.undo()
    optimizer.step(closure)
    assert len(addresses) == 1  # the graph may be replayed


# ------------------------------------------------------------------------------------------------- both do the same


def walk(variant: Any, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    task = make_task(dtype)
    task.model.insert(1, nn.LayerNorm(8, dtype=dtype))
    optimizer = task.optimizer(variant)
    for _ in range(4):
        optimizer.step(task.closure(optimizer))
    return task.weights()


@pytest.mark.parametrize("name", FAMILY)
def test_every_row_walks_the_same_path_in_place(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variant = FAMILY[name]()
    swapped = walk(variant)
    in_place(monkeypatch)
    torch.testing.assert_close(walk(variant), swapped, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("variant", [SAM(rho=0.5), SAM(rho=0.5, steps=3), ASAM(rho=1.0), RSAM(rho=0.5)], ids=str)
def test_restoring_is_bitwise(dtype: torch.dtype, variant: Any, placed: str) -> None:
    task = make_task(dtype)
    optimizer = task.optimizer(variant, lr=0.0, momentum=0.0)
    home, addresses = task.weights(), [p.data_ptr() for p in task.model.parameters()]
    seen = []

    def closure() -> torch.Tensor:
        seen.append([p.data_ptr() for p in task.model.parameters()])
        return task.closure(optimizer)()

    for _ in range(3):
        optimizer.step(closure)
    assert same(task.weights(), home)
    assert [p.data_ptr() for p in task.model.parameters()] == addresses
    assert not same(task.visited[-1], home)  # negative control: they were away
    assert all(at == addresses for at in seen) == (placed == "in place")


def test_an_error_away_from_home_restores(placed: str) -> None:
    task = make_task(torch.bfloat16)
    optimizer = task.optimizer(SAM(rho=0.5))
    home = task.weights()
    task.fail_at = 2
    with pytest.raises(ConnectionError):
        optimizer.step(task.closure(optimizer))
    assert not same(task.visited[-1], home)
    assert same(task.weights(), home)


def test_a_manual_loop(placed: str) -> None:
    manual, closed = make_task(torch.float32), make_task(torch.float32)
    for task in (manual, closed):
        optimizer = task.optimizer(SAM(rho=0.3))
        for _ in range(3):
            if task is closed:
                optimizer.step(task.closure(optimizer))
                continue
            task.loss().backward()
            with optimizer.perturbed():
                task.loss().backward()
            optimizer.step()
            optimizer.zero_grad()
    assert same(manual.weights(), closed.weights())


def test_gradients_with_a_graph_leave_none_on_the_weights(placed: str) -> None:
    task = make_task()
    optimizer = task.optimizer(SAM(rho=0.3))

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = task.loss()
        parameters = list(task.model.parameters())
        for p, g in zip(parameters, torch.autograd.grad(loss, parameters, create_graph=True), strict=True):
            p.grad = g
        return loss

    optimizer.step(closure)
    assert all(p.is_leaf and not p.data.requires_grad for p in task.model.parameters())
    twin = make_task()
    again = twin.optimizer(SAM(rho=0.3))
    again.step(twin.closure(again))
    torch.testing.assert_close(task.weights(), twin.weights(), rtol=1e-13, atol=0)


def test_a_gradient_that_is_the_parameter_itself_survives(placed: str) -> None:
    w = nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = SharpnessAware(torch.optim.SGD([w], lr=1.0), SAM(rho=5.0))

    def closure() -> torch.Tensor:
        w.grad = w.data  # of |w|^2 / 2
        return (w.detach() ** 2).sum() / 2

    optimizer.step(closure)
    torch.testing.assert_close(w.data, torch.tensor([-3.0, -4.0]))  # w - 2 w


# ------------------------------------------------------------------------------------------------------- real reasons


def test_flat_parameters_keep_their_storage() -> None:
    """As one who holds the whole storage sees them: perturbed, and back."""
    ours, alone = flat((2, 3), (4,)), []
    whole = ours[0].data.view(-1).as_strided((10,), (1,))
    alone = [nn.Parameter(p.detach().clone()) for p in ours]
    seen = []
    for parameters in (ours, alone):
        optimizer = SharpnessAware(torch.optim.SGD(parameters, lr=0.1), SAM(rho=0.5))

        def closure(parameters: Any = parameters) -> torch.Tensor:
            for p in parameters:
                p.grad = None
            seen.append(whole.clone())
            loss = torch.stack([(p**4).sum() for p in parameters]).sum()
            loss.backward()
            return loss

        for _ in range(2):
            optimizer.step(closure)
    assert same([p.data for p in ours], [p.data for p in alone])
    assert not torch.equal(seen[0], seen[1])
    assert torch.equal(seen[4], seen[5])  # negative control: the others' perturbation is not seen here


def test_memory_that_moved_between_steps_is_found_again() -> None:
    task, twin = make_task(), make_task()
    for t in (task, twin):
        optimizer = t.optimizer(SAM(rho=0.3), momentum=0.0)
        optimizer.step(t.closure(optimizer))
        if t is task:
            for p in t.model.parameters():
                p.data = p.data.clone()
            weight = next(t.model.parameters())
            weight.data = weight.data.t().contiguous().t()
        optimizer.step(t.closure(optimizer))
    torch.testing.assert_close(task.weights(), twin.weights(), rtol=1e-13, atol=1e-15)
    assert not next(task.model.parameters()).is_contiguous()


def lstm() -> nn.Module:
    torch.manual_seed(0)

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.out = nn.LSTM(3, 5, num_layers=2, bidirectional=True), nn.Linear(10, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.out(self.lstm(x)[0][-1])
            return y

    return Last()


def train(model: nn.Module, run: Any, x: torch.Tensor) -> tuple[list[torch.Tensor], list[float]]:
    optimizer = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), SAM(rho=0.1))
    rises = []

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss: torch.Tensor = (run(x) ** 2).mean()
        loss.backward()
        return loss

    for _ in range(3):
        optimizer.step(closure)
        rises.append(float(optimizer.info.perturbed_loss - optimizer.info.loss))
    return [p.detach().clone() for p in model.parameters()], rises


def test_a_recurrent_network(placed: str) -> None:
    """Its weights come home, at their place, and its perturbation is seen."""
    model, plain = lstm(), lstm()
    x = torch.randn(4, 2, 3)
    _, rises = train(model, model, x)
    assert min(rises) > 0

    def functional(x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = torch.func.functional_call(plain, dict(plain.named_parameters()), (x,))
        return y

    torch.testing.assert_close([p.data for p in model.parameters()], train(plain, functional, x)[0])


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_model_sees_the_perturbation(backend: str, placed: str) -> None:
    model, plain = (make_task(torch.float32).model for _ in range(2))
    x = torch.randn(6, 4)
    compiled: Any = torch.compile(model, backend=backend)
    weights, rises = train(model, compiled, x)
    assert min(rises) > 0
    torch.testing.assert_close(weights, train(plain, plain, x)[0])


def test_a_model_that_does_not_see_the_perturbation_shows() -> None:
    """Negative control: what reads the weights' memory at home, as a graph captured before does, sees no rise."""
    model = make_task(torch.float32).model
    home = {name: p.data for name, p in model.named_parameters()}

    class Captured(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
            with torch.enable_grad():
                ctx.leaves = [h.detach().requires_grad_() for h in home.values()]
                ctx.y = torch.func.functional_call(model, dict(zip(home, ctx.leaves, strict=True)), (x,))
            return ctx.y.detach()

        @staticmethod
        def backward(ctx: Any, *up: torch.Tensor) -> Any:
            return None, *torch.autograd.grad(ctx.y, ctx.leaves, up)

    apply: Any = Captured.apply
    assert train(model, lambda x: apply(x, *model.parameters()), torch.randn(6, 4))[1] == [0, 0, 0]


@pytest.fixture
def mesh() -> Iterator[Any]:
    from torch.distributed.device_mesh import init_device_mesh

    dist: Any = torch.distributed

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield init_device_mesh("cpu", (1,))
    finally:
        dist.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this build of PyTorch has no distributed package")
def test_sharded_parameters_of_one_process(mesh: Any) -> None:
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    model, plain = (make_task(torch.float32).model for _ in range(2))
    fully_shard(model, mesh=mesh)
    optimizer = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), SAM())
    assert "a DTensor is more than" in why_in_place(tuple(p.data for p in optimizer.param_groups[0]["params"]))
    x = torch.randn(6, 4)
    weights, rises = train(model, model, x)
    assert min(rises) > 0
    whole = [w.full_tensor() if isinstance(w, DTensor) else w for w in weights]
    torch.testing.assert_close(whole, train(plain, plain, x)[0])
