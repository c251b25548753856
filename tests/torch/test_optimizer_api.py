"""What torch.optim users rely on: shared groups, schedulers, one state_dict, rho in the groups."""

import io
from typing import Any

import pytest
import torch

from samfamily import ASAM, FAMILY, SAM, VaSSO, biases
from samfamily_torch import SharpnessAware
from tests.torch.conftest import Task, make_task, norm, same


def steps(task: Task, optimizer: Any, n: int) -> None:
    for _ in range(n):
        optimizer.step(task.closure(optimizer))


def test_groups_and_state_are_the_base_optimizers_own(task: Task) -> None:
    optimizer = task.optimizer(SAM())
    steps(task, optimizer, 1)
    assert optimizer.param_groups is optimizer.base.param_groups
    assert optimizer.state is optimizer.base.state
    assert optimizer.defaults is optimizer.base.defaults
    assert "SharpnessAware" in repr(optimizer)
    optimizer.load_state_dict(optimizer.state_dict())
    assert optimizer.param_groups is optimizer.base.param_groups
    optimizer.base.load_state_dict(optimizer.base.state_dict())
    assert optimizer.param_groups is optimizer.base.param_groups


def test_any_scheduler_drives_both(task: Task) -> None:
    optimizer = task.optimizer(SAM(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    for expected in (0.5, 0.25):
        steps(task, optimizer, 1)
        scheduler.step()
        assert optimizer.base.param_groups[0]["lr"] == expected


def test_step_hooks_run_once_per_step(task: Task) -> None:
    optimizer = task.optimizer(SAM())
    calls: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("pre"))
    optimizer.register_step_post_hook(lambda *_: calls.append("post"))
    steps(task, optimizer, 2)
    assert calls == ["pre", "post"] * 2


def test_rho_stands_in_the_groups_and_is_read_at_every_step(task: Task) -> None:
    optimizer = task.optimizer(SAM(rho=0.05))
    assert [group["rho"] for group in optimizer.param_groups] == [0.05]
    optimizer.param_groups[0]["rho"] = 0.2
    steps(task, optimizer, 1)
    assert float(optimizer.info.radius) == 0.2
    optimizer.param_groups[0]["rho"] = 0.0
    steps(task, optimizer, 1)
    assert not bool(optimizer.info.active)
    assert float(optimizer.info.gradient_evaluations) == 1


def test_groups_may_differ_in_rho(task: Task) -> None:
    first, last = task.model[0].parameters(), task.model[2].parameters()
    groups: list[dict[str, Any]] = [{"params": first, "rho": 0.3}, {"params": last}]
    base = torch.optim.SGD(groups, lr=0.1)
    optimizer = SharpnessAware(base, SAM(rho=0.1))
    gradient = torch.autograd.grad(task.loss(), list(task.model.parameters()))
    n = norm(gradient)
    steps(task, optimizer, 1)
    for rho, w, q, g in zip((0.3, 0.3, 0.1, 0.1), *task.visited, gradient, strict=True):
        torch.testing.assert_close(q, w + rho * g / n, rtol=0, atol=1e-15)
    assert float(optimizer.info.radius) == 0.3


def test_a_group_may_come_later(task: Task) -> None:
    base = torch.optim.SGD(task.model[0].parameters(), lr=0.1, momentum=0.9)
    optimizer = SharpnessAware(base, SAM(rho=0.1))
    steps(task, optimizer, 1)
    before = task.weights()
    optimizer.add_param_group({"params": task.model[2].parameters()})
    assert [group["rho"] for group in optimizer.param_groups] == [0.1, 0.1]
    steps(task, optimizer, 1)
    assert not any(torch.equal(a, b) for a, b in zip(before, task.weights(), strict=True))


AVERAGED = VaSSO(rho=0.1, theta=0.1)
"""A row with memory: it climbs a running mean of gradients."""


@pytest.mark.parametrize(
    "variant",
    [SAM(rho=0.1), ASAM(), SAM(rho=lambda step: 0.05 * step), AVERAGED],
    ids=["SAM", "ASAM", "schedule", "memory"],
)
@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.AdamW])
def test_resuming_is_bitwise(variant: Any, base: Any) -> None:
    whole, broken, resumed = make_task(), make_task(), make_task(seed=5)
    steps(whole, optimizer := whole.optimizer(variant, base), 7)
    steps(broken, optimizer := broken.optimizer(variant, base), 4)
    file = io.BytesIO()
    torch.save({"model": broken.model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed.x, resumed.y = whole.x, whole.y
    resumed.model.load_state_dict(saved["model"])
    optimizer = resumed.optimizer(variant, base)
    optimizer.load_state_dict(saved["optimizer"])
    steps(resumed, optimizer, 3)
    assert same(resumed.weights(), whole.weights())


@pytest.mark.parametrize("name", FAMILY)
def test_every_row_resumes_bitwise_in_the_middle_of_an_interval(name: str) -> None:
    """Over a network with a normalisation layer, through a file, at a step that is no multiple of any period."""

    def network(seed: int) -> Task:
        task = make_task(seed=seed)
        task.model.insert(1, torch.nn.LayerNorm(8, dtype=torch.float64))
        return task

    variant = FAMILY[name]() if "every" not in FAMILY[name].__code__.co_varnames else FAMILY[name](every=3)
    whole, broken, resumed = network(0), network(0), network(5)
    steps(whole, whole.optimizer(variant), 8)
    steps(broken, optimizer := broken.optimizer(variant), 4)
    file = io.BytesIO()
    torch.save({"model": broken.model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed.x, resumed.y = whole.x, whole.y
    resumed.model.load_state_dict(saved["model"])
    optimizer = resumed.optimizer(variant)
    optimizer.load_state_dict(saved["optimizer"])
    steps(resumed, optimizer, 4)
    assert same(resumed.weights(), whole.weights())


@pytest.mark.parametrize("variant", [SAM(rho=lambda step: 0.05 * step), AVERAGED], ids=["schedule", "memory"])
def test_forgetting_the_state_would_show(variant: Any) -> None:
    """Negative control of the test above: the schedule's counter and the memory matter."""
    whole, broken = make_task(), make_task()
    steps(whole, whole.optimizer(variant, momentum=0.0), 7)
    steps(broken, broken.optimizer(variant, momentum=0.0), 4)
    steps(broken, broken.optimizer(variant, momentum=0.0), 3)
    assert not same(broken.weights(), whole.weights())


def test_a_checkpoint_of_something_else_is_refused_and_nothing_changes(task: Task) -> None:
    optimizer = task.optimizer(AVERAGED)
    steps(task, optimizer, 1)
    before = repr(optimizer.state_dict())
    plain = torch.optim.SGD(task.model.parameters(), lr=0.1).state_dict()
    with pytest.raises(ValueError, match=r"plain optimizer: load it with optimizer\.base"):
        optimizer.load_state_dict(plain)
    other = task.optimizer(SAM())
    with pytest.raises(ValueError, match="written by SAM, and this run follows VaSSO"):
        optimizer.load_state_dict(other.state_dict())
    narrow = Task(torch.nn.Sequential(torch.nn.Linear(4, 2)).double(), task.x, task.y)
    foreign = narrow.optimizer(AVERAGED)
    steps(narrow, foreign, 1)
    with pytest.raises(ValueError, match="2 entries where this optimizer's has 4"):
        optimizer.load_state_dict(foreign.state_dict())
    wide = Task(torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2)).double(), task.x, task.y)
    foreign = wide.optimizer(AVERAGED)
    steps(wide, foreign, 1)
    with pytest.raises(ValueError, match=r"shape \(3, 4\) where this optimizer's has \(8, 4\)"):
        optimizer.load_state_dict(foreign.state_dict())
    assert repr(optimizer.state_dict()) == before


@pytest.mark.parametrize("source", ["model", "named groups"])
def test_the_authors_asam_leaves_the_biases_euclidean(task: Task, source: str) -> None:
    variant = ASAM(rho=0.5, euclidean=biases)
    named = SharpnessAware(torch.optim.SGD(task.model.named_parameters(), lr=0.1), variant)
    optimizer = task.optimizer(variant) if source == "model" else named
    gradient = torch.autograd.grad(task.loss(), list(task.model.parameters()))
    w = task.weights()
    T = [torch.ones_like(x) if x.ndim == 1 else x.abs() + 0.01 for x in w]
    n = norm([t * g for t, g in zip(T, gradient, strict=True)])
    steps(task, optimizer, 1)
    for x, q, t, g in zip(w, task.visited[1], T, gradient, strict=True):
        torch.testing.assert_close(q, x + 0.5 * t**2 * g / n, rtol=0, atol=1e-14)


def test_another_variant_round_the_same_base_has_its_own_rho(task: Task) -> None:
    """The groups hold what the wrapper before put there, which is not the user's."""
    base = torch.optim.SGD(task.model.parameters(), lr=0.1)
    for variant, expected in ((SAM(rho=0.05), 0.05), (ASAM(rho=0.5), 0.5), (SAM(rho=0.1), 0.1)):
        assert SharpnessAware(base, variant).param_groups[0]["rho"] == expected
    scheduled = SharpnessAware(base, SAM(rho=lambda step: 0.3 + step))
    assert "rho" not in base.param_groups[0]
    scheduled.step(task.closure(scheduled))
    assert float(scheduled.info.radius) == pytest.approx(0.3)


def test_a_rho_of_the_users_outlives_a_wrapper(task: Task) -> None:
    """Negative control of the test above."""
    base = torch.optim.SGD(task.model.parameters(), lr=0.1)
    SharpnessAware(base, SAM(rho=0.05)).param_groups[0]["rho"] = 0.07
    assert SharpnessAware(base, ASAM(rho=0.5)).param_groups[0]["rho"] == 0.07


def test_a_schedule_rules_after_a_checkpoint_of_a_constant_radius(task: Task) -> None:
    saved = task.optimizer(SAM(rho=0.05)).state_dict()
    optimizer = task.optimizer(SAM(rho=lambda step: 0.3))
    optimizer.load_state_dict(saved)
    optimizer.step(task.closure(optimizer))
    assert float(optimizer.info.radius) == pytest.approx(0.3)
    constant = task.optimizer(SAM(rho=0.2))  # negative control: a constant comes back as it was saved
    constant.load_state_dict(saved)
    assert constant.param_groups[0]["rho"] == 0.05
