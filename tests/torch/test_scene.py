"""To the model a step looks like one pass, the one at w: buffers move once, and random numbers are drawn once."""

import copy
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from samfamily_torch import FAMILY, MSAM, SAM, EigenSAM, SharpnessAware
from tests.torch.conftest import same


class Averaging(nn.Module):
    """A module with buffers of its own kind: one counted in place, one not saved and replaced at every pass."""

    count: Tensor
    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(4), persistent=False)
        self.register_buffer("nothing", None)

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        return x


def network(normalisation: Callable[[], nn.Module] = lambda: nn.BatchNorm1d(4)) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), normalisation(), nn.Tanh(), nn.Dropout(0.5), nn.Linear(4, 1))


X, Y = torch.randn(16, 3, generator=torch.Generator().manual_seed(1)), torch.ones(16, 1)


def closure_of(model: nn.Module, optimizer: torch.optim.Optimizer, seen: list[Any] | None = None) -> Callable[[], Any]:
    def closure() -> Any:
        optimizer.zero_grad()
        out = model(X)
        if seen is not None:
            seen.append((torch.get_rng_state(), out.detach()))
        loss = nn.functional.mse_loss(out, Y)
        loss.backward()
        return loss

    return closure


def buffers(model: nn.Module) -> list[Tensor]:
    return [b.clone() for m in model.modules() for b in m._buffers.values() if b is not None]


def passes(model: nn.Sequential) -> int:
    """Return how many passes batch normalisation has counted."""
    return int(model[1].num_batches_tracked)  # type: ignore[arg-type]


def after_one_pass(model: nn.Module) -> list[Tensor]:
    """Return the buffers as one pass at these weights leaves them."""
    model = copy.deepcopy(model)
    model(X)
    return buffers(model)


KINDS: dict[str, Callable[[], nn.Module]] = {
    "batch norm": lambda: nn.BatchNorm1d(4),
    "cumulative batch norm": lambda: nn.BatchNorm1d(4, momentum=None),
    "own": Averaging,
    "spectral": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variant", [SAM(rho=0.5), SAM(rho=0.5, steps=3), EigenSAM(rho=0.5, every=1)], ids=range(3))
def test_buffers_are_those_of_the_pass_at_w(kind: str, variant: Any) -> None:
    model = network(KINDS[kind])
    optimizer = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), variant, model)
    for _ in range(3):
        expected = after_one_pass(model)
        addresses = [b.data_ptr() for b in model.buffers()]
        optimizer.step(closure_of(model, optimizer))
        assert same(buffers(model), expected)
        assert kind == "own" or [b.data_ptr() for b in model.buffers()] == addresses


def test_without_the_model_they_are_not() -> None:
    """Negative control: the statistics move once for each pass where nobody says whose they are."""
    model = network()
    optimizer = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), SAM(rho=0.5))
    expected = after_one_pass(model)
    optimizer.step(closure_of(model, optimizer))
    assert not same(buffers(model), expected)
    assert passes(model) == 2


def test_where_nobody_asks_at_w_the_first_pass_counts() -> None:
    model = network()
    optimizer = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), MSAM(rho=0.5), model)
    for step in range(3):
        optimizer.step(closure_of(model, optimizer))
        assert passes(model) == step + 1


def test_shards_count_once_each() -> None:
    model = network()
    optimizer = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), SAM(rho=0.5).sharded(4), model)

    def closure(x: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure, batch=(X,))
    assert passes(model) == 4


@pytest.mark.parametrize("variant", [SAM(rho=0.5), MSAM(rho=0.5)], ids=lambda v: v.name)
def test_a_manual_loop_moves_buffers_once(variant: Any) -> None:
    model = network()
    optimizer = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), variant, model)
    for step in range(3):
        if variant.name == "SAM":
            nn.functional.mse_loss(model(X), Y).backward()
        at_w = buffers(model)
        with optimizer.perturbed():
            nn.functional.mse_loss(model(X), Y).backward()
        optimizer.step()
        assert passes(model) == step + 1
        assert variant.name == "MSAM" or same(buffers(model), at_w)


def test_the_two_step_interface_moves_buffers_once() -> None:
    model = network()
    optimizer = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), SAM(rho=0.5), model)
    for step in range(3):
        nn.functional.mse_loss(model(X), Y).backward()
        at_w = buffers(model)
        optimizer.first_step()
        nn.functional.mse_loss(model(X), Y).backward()
        optimizer.second_step()
        assert same(buffers(model), at_w)
        assert passes(model) == step + 1


@pytest.mark.parametrize("fails_at", [1, 2])
def test_an_exception_brings_buffers_and_random_state_back(fails_at: int) -> None:
    model = network()
    optimizer = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), SAM(rho=0.5), model)
    before, state, calls = buffers(model), torch.get_rng_state(), 0

    def closure() -> Any:
        nonlocal calls
        calls += 1
        out = model(X)
        if calls == fails_at:
            raise ConnectionError
        out.mean().backward()
        return out.mean()

    with pytest.raises(ConnectionError):
        optimizer.step(closure)
    assert same(buffers(model), before)
    assert torch.equal(torch.get_rng_state(), state)
    optimizer.step(closure)
    assert passes(model) == 1


@pytest.mark.parametrize("trouble", [ConnectionError, FloatingPointError, None])
@pytest.mark.parametrize("at", [1, 3, 6])  # the first shard at w, the second at w, the third at its perturbed point
def test_trouble_in_any_shard_brings_back_what_all_shards_before_it_did(trouble: Any, at: int) -> None:
    """An exception, a loss that is not finite and raised, and one that is skipped."""
    model, calls = network(), 0
    how: Any = {"on_nonfinite": "raise"} if trouble is FloatingPointError else {}
    base = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer = SharpnessAware(base, SAM(rho=0.5).sharded(len(X) // 4), model, **how)
    before, state = buffers(model), torch.get_rng_state()

    def closure(x: Any, y: Any) -> Any:
        nonlocal calls
        calls += 1
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        if calls == at and trouble is ConnectionError:
            raise ConnectionError
        loss = loss * (float("nan") if calls == at else 1.0)
        loss.backward()
        return loss

    with pytest.raises(trouble) if trouble else nullcontext():
        optimizer.step(closure, batch=(X, Y))
    assert same(buffers(model), before)
    assert torch.equal(torch.get_rng_state(), state)
    calls = at
    optimizer.step(closure, batch=(X, Y))
    assert passes(model) > 0


def test_an_exception_in_a_manual_loop_brings_buffers_back() -> None:
    model = network()
    optimizer = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), SAM(rho=0.5), model)
    nn.functional.mse_loss(model(X), Y).backward()
    at_w = buffers(model)

    def lost() -> None:
        with optimizer.perturbed():
            model(X)
            raise ConnectionError

    with pytest.raises(ConnectionError):
        lost()
    assert same(buffers(model), at_w)


@pytest.mark.parametrize("name", [name for name in FAMILY if name not in {"SAMON", "RandomSmoothing"}])
def test_every_pass_draws_the_same_masks_and_the_step_counts_as_one(name: str) -> None:
    model = network()
    optimizer = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.0), FAMILY[name](), model)
    for _ in range(2):
        torch.manual_seed(7)
        model(X)
        once = torch.get_rng_state()
        torch.manual_seed(7)
        seen: list[Any] = []
        optimizer.step(closure_of(model, optimizer, seen))
        assert all(torch.equal(state, once) for state, _ in seen)
        assert torch.equal(torch.get_rng_state(), once)


def test_fresh_masks_can_be_had() -> None:
    """Negative control, and the switch."""
    model = network()
    optimizer = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.0), SAM(rho=0.0001), model, replay_random=False)
    seen: list[Any] = []
    optimizer.step(closure_of(model, optimizer, seen))
    assert not torch.equal(seen[0][0], seen[1][0])
    assert not torch.allclose(seen[0][1], seen[1][1], atol=1e-2)
    assert torch.equal(torch.get_rng_state(), seen[1][0])


def test_at_rho_zero_buffers_and_random_state_are_the_base_optimizers() -> None:
    plain, wrapped = network(), network()
    sgd = torch.optim.SGD(plain.parameters(), lr=0.1)
    optimizer = SharpnessAware(torch.optim.SGD(wrapped.parameters(), lr=0.1), SAM(rho=0.0), wrapped)
    states = []
    for model, stepped in ((plain, sgd), (wrapped, optimizer)):
        torch.manual_seed(3)
        for _ in range(3):
            stepped.step(closure_of(model, stepped))
        states.append(torch.get_rng_state())
    assert torch.equal(*states)
    assert same(buffers(plain), buffers(wrapped))
    assert same([*plain.parameters()], [*wrapped.parameters()])


def test_buffers_that_do_not_change_are_copied_once() -> None:
    """A large constant costs its copy at the first step, and nothing at the others."""
    model = nn.Linear(3, 1)
    model.register_buffer("constant", torch.randn(100_000))
    optimizer = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), SAM(rho=0.5), model)
    optimizer.step(closure_of(model, optimizer))
    first = optimizer._stage._copies
    optimizer.step(closure_of(model, optimizer))
    assert [kept.copy.data_ptr() for kept in first.values()] == [
        kept.copy.data_ptr() for kept in optimizer._stage._copies.values()
    ]


class Large(nn.Module):
    """Counts its passes in a large buffer, in place."""

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(X.shape[1], Y.shape[1])
        self.register_buffer("seen", torch.zeros(1 << 16))

    def forward(self, x: Any) -> Any:
        self.seen += 1
        return self.linear(x)


@pytest.mark.parametrize("lost", [False, True])
def test_large_buffers_that_change_are_those_of_the_pass_at_w(lost: bool) -> None:
    model, calls = Large(), 0
    optimizer = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), SAM(rho=0.5), model)

    def closure() -> Any:
        nonlocal calls
        calls += 1
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(X), Y)
        loss.backward()
        if lost and calls == 2:
            raise ConnectionError
        return loss

    with pytest.raises(ConnectionError) if lost else nullcontext():
        optimizer.step(closure)
    assert model.seen.unique().tolist() == [0.0 if lost else 1.0]


def test_large_statistics_of_batch_normalisation_move_once() -> None:
    """They are written without a version."""
    size = 1 << 16
    model = nn.Sequential(nn.Linear(1, 1), nn.Flatten(0), nn.Unflatten(0, (2, size)), nn.BatchNorm1d(size)).double()
    x = torch.randn(2 * size, 1, dtype=torch.float64)
    optimizer = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), SAM(rho=0.5), model)
    once = copy.deepcopy(model)
    once(x)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = (model(x) ** 3).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert same(buffers(model), buffers(once))
