"""Whatever is done to the optimizer, in whatever order, it stays what arithmetic by hand says: see `plain.py`."""

import copy
import io
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from itertools import cycle
from math import inf, nan
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from torch import Tensor
from torch.amp import GradScaler

from samfamily.space import Vec
from samfamily_torch import ASAM, GSAM, MSAM, SAM, USAM, WSAM, FriendlySAM, LookSAM, SAMPa, SharpnessAware, resuming
from samfamily_torch import optimizer as adapter
from samfamily_torch.live import LiveParameters
from tests.torch.memory import own, remembered
from tests.torch.plain import BATCHES, DECAY, FEATURES, GAMMA, MOMENTUM, ROWS, START, Group, Leaves, Pass, Plain, Wanted

VARIANTS = {
    "SAM": SAM(rho=0.1),
    "SAM of two climbs": SAM(rho=0.1, steps=2),
    "USAM": USAM(rho=0.1),
    "ASAM": ASAM(rho=0.2),
    "GSAM": GSAM(rho=0.1, alpha=0.4),
    "WSAM": WSAM(rho=0.1, gamma=0.6),
    "LookSAM": LookSAM(rho=0.1, k=3),
    "FriendlySAM": FriendlySAM(rho=0.1, sigma=0.7, lmbda=0.8),
    "MSAM": MSAM(rho=0.1),
    "SAMPa": SAMPa(rho=0.1, lr=0.05),
}
STEPS = 20
"""Rules to a sequence."""


class Model(torch.nn.Module):
    """The leaves as parameters; the loss is `plain.loss_and_gradients`'s."""

    def __init__(self, leaves: Leaves) -> None:
        super().__init__()
        for name, x in leaves.items():
            self.register_parameter(name, torch.nn.Parameter(torch.tensor(x)))

    def forward(self, x: Tensor, y: Tensor, used: frozenset[str]) -> Tensor:
        leaves = [(name, self.get_parameter(name)) for name in sorted(used)]
        error = sum((x[:, FEATURES[name]] @ p.reshape(-1) for name, p in leaves), -y)
        regular = sum(((torch.sin(p) + 0.1 * p**2).sum() for _, p in leaves), torch.zeros(()))
        return 0.5 * (error**2).mean() + regular

    def weights(self) -> dict[str, Tensor]:
        return {name: p.detach().clone() for name, p in self.named_parameters()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def close(got: Any, wanted: Any, what: str) -> None:
    """Assert agreement to ten digits; `assert_allclose` takes as long as a step."""
    got, wanted = np.asarray(got), np.asarray(wanted)
    with np.errstate(invalid="ignore"):  # of inf - inf
        near = abs(got - wanted) <= 1e-12 + 1e-10 * abs(wanted)
    agrees = near | (got == wanted) | (np.isnan(got) & np.isnan(wanted))
    assert got.shape == wanted.shape, what
    assert agrees.all(), f"{what}: {got} where arithmetic by hand says {wanted}"


def data(batch: int) -> tuple[Tensor, Tensor]:
    x, y = BATCHES[batch]
    return torch.tensor(x), torch.tensor(y)


def saved(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def loaded(value: bytes) -> Any:
    return torch.load(io.BytesIO(value), weights_only=True)


COMMON = frozenset("abcd")
USED = st.sampled_from([COMMON] * 5 + [frozenset(names) for names in ("bcd", "ad", "b", "abcdu", "au")])
FAULTS = [("", nan)] * 18 + [
    ("raises before", nan),
    ("raises after", nan),
    ("loss", nan),
    ("loss", inf),
    ("gradient", nan),
    ("gradient", -inf),
]
PASS = st.builds(lambda used, fault: Pass(used, *fault), USED, st.sampled_from(FAULTS))
PASSES = st.tuples(PASS, PASS, PASS)
BATCH = st.sampled_from(range(len(BATCHES)))
SCALER = st.sampled_from(["none", "on", "off"])
STEP = st.tuples(st.sampled_from(["closure", "context", "two steps"]), BATCH, PASSES, SCALER)
RHO = st.sampled_from([0.0, 0.05, 0.3])
OWN = [["a", "b"], ["u"]]
"""The groups that the optimizer begins with."""


def between(**strategies: Any) -> Callable[[Callable[..., None]], Any]:
    """Make a rule of what happens between two steps, and take none, one or two of them after it."""

    def decorate(happens: Callable[..., None]) -> Any:
        @rule(then=st.lists(STEP, max_size=2), **strategies)
        @wraps(happens)
        def and_on(self: "Machine", then: list[Any], **drawn: Any) -> None:
            happens(self, **drawn)
            for step in then:
                self.agree()
                self.step(*step)

        return and_on

    return decorate


class Machine(RuleBasedStateMachine):
    """Drives a `SharpnessAware` and a `Plain` through the same rules."""

    row: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.model = Model(START)
        self.scaler = GradScaler("cpu", init_scale=2.0**10, growth_interval=3)
        self.off = GradScaler("cpu", enabled=False)
        self.left_behind: list[tuple[Model, dict[str, Tensor]]] = []
        self.remembered: tuple[bytes, Plain] | None = None

    @initialize(
        m=st.sampled_from([None, 2, None]),
        on_nonfinite=st.sampled_from(["skip", "raise"]),
        knows_model=st.booleans(),
        rhos=st.sampled_from([(None, None), (0.3, 0.05), (0.0, 0.0)]),
    )
    def build(self, m: int | None, on_nonfinite: str, knows_model: bool, rhos: tuple[float | None, ...]) -> None:
        self.on_nonfinite, self.knows_model = on_nonfinite, knows_model
        row = ROWS[self.row]
        groups = [Group(names, 0.05, row.rho if rho is None else rho) for names, rho in zip(OWN, rhos, strict=True)]
        self.plain = Plain(row, m, on_nonfinite == "raise", groups)
        own = [{} if rho is None else {"rho": rho} for rho in rhos]
        self.adopt(self.model, self.wrap(self.model, own))

    def wrap(self, model: Model, own: list[dict[str, float]]) -> SharpnessAware:
        groups: list[dict[str, Any]] = [
            {"params": [model.get_parameter(name) for name in group.names]} | more
            for group, more in zip(self.plain.groups, own, strict=True)
        ]
        base = torch.optim.SGD(groups, lr=0.05, momentum=MOMENTUM, weight_decay=DECAY)
        variant = VARIANTS[self.row]
        options: Any = {"on_nonfinite": self.on_nonfinite, "model": model if self.knows_model else None}
        return SharpnessAware(base, variant.sharded(self.plain.m) if self.plain.m else variant, **options)

    def adopt(self, model: Model, optimizer: SharpnessAware) -> None:
        """Go on with these."""
        self.model, self.optimizer = model, optimizer
        self.scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, GAMMA)
        self.may_schedule = False
        optimizer.base.register_step_pre_hook(lambda *_: self.must_be_home())

    def must_be_home(self) -> None:
        assert same(self.model.weights(), self.home), "the base optimizer does not step from the weights, bitwise"

    def scaled(self, loss: Tensor, scaler: str) -> Tensor:
        return self.scaler.scale(loss) if scaler == "on" else loss

    def given(self, scaler: str) -> GradScaler | None:
        return {"none": None, "on": self.scaler, "off": self.off}[scaler]

    # --------------------------------------------------------------------------------------------------------- a pass

    def backward(self, here: Pass, x: Tensor, y: Tensor, scaler: str, *, manual: bool = False) -> Tensor:
        """Do what the closure does after it has emptied the gradients, and return the loss."""
        self.visited.append(self.model.weights())
        if here.fault == "raises before":
            raise ConnectionError
        loss: Tensor = self.model(x, y, here.used)
        if loss.requires_grad:
            self.scaled(loss, scaler).backward()
        if here.fault == "raises after":
            raise ConnectionError
        got = [p for p in map(self.model.get_parameter, self.plain.trainable) if p.grad is not None]
        if got and (here.fault == "gradient" or (here.fault == "loss" and manual)):
            got[-1].grad = torch.full_like(got[-1], here.value)
        return torch.full_like(loss, here.value) if here.fault == "loss" else loss

    @contextmanager
    def compared(self, wanted: Wanted) -> Iterator[None]:
        """Hold what is done inside to what the step by hand says, and its passes to their points."""
        self.visited: list[dict[str, Tensor]] = []
        self.home = self.model.weights()
        if wanted.raises is None:
            yield
        else:
            with pytest.raises(wanted.raises):
                yield
        for i, weights in enumerate(self.visited):
            point = self.plain.visited[i] if i < len(self.plain.visited) else self.home
            for name, x in weights.items():
                close(x, point[name], f"{name} at pass {i}")

    # ---------------------------------------------------------------------------------------------------------- steps

    @between(before=STEP)
    def steps(self, before: tuple[str, int, tuple[Pass, ...], str]) -> None:
        self.step(*before)

    @rule(batches=st.lists(BATCH, min_size=1, max_size=4), used=st.tuples(USED, USED, USED))
    def good_steps(self, batches: list[int], used: tuple[frozenset[str], ...]) -> None:
        for batch in batches:
            self.step("closure", batch, tuple(map(Pass, used)), "none")
            self.agree()

    @precondition(lambda self: self.plain.m is None)
    @rule(batch=BATCH, passes=PASSES, scaler=SCALER)
    def step_after_a_forgotten_one(self, batch: int, passes: tuple[Pass, ...], scaler: str) -> None:
        """A loop that went through a step's passes skips the batch; in between nothing but going on is allowed."""
        self.visited, self.home = [], self.model.weights()
        used = frozenset(self.plain.trainable)
        self.loop_with_a_context(batch, (Pass(used),) * (1 + ROWS[self.row].entries), scaler, finish=False)
        actions: list[Callable[[], Any]] = [
            self.optimizer.state_dict,
            lambda: self.optimizer.load_state_dict({}),
            lambda: copy.deepcopy(self.optimizer),
            lambda: self.optimizer.step(lambda: torch.zeros(())),
        ]
        for action in actions:
            with pytest.raises(RuntimeError, match="a manual step is in progress"):
                action()
        self.step("context", batch, passes, scaler)

    def step(self, how: str, batch: int, passes: tuple[Pass, ...], scaler: str) -> None:
        """Take a step here and by hand, and compare what came of it."""
        loop: Callable[..., Any] = self.loop_with_a_closure
        manual = how != "closure" and self.plain.m is None
        if manual:
            loop = self.loop_with_a_context if how == "context" else self.loop_of_two_steps
            passes = tuple(
                # what fails outside `perturbed` is not seen, and nobody brings the weights home after `first_step`
                here._replace(fault="") if "raises" in here.fault and (i == 0 or how == "two steps") else here
                for i, here in enumerate(passes[: 1 + ROWS[self.row].entries])
            )
        before = self.ours()
        wanted = self.plain.step(batch, passes, manual=manual, scaler=scaler)
        with self.compared(wanted):
            loss = loop(batch, passes, scaler)
            if not manual:
                close(loss, wanted.loss, "the loss that step returned")
                assert len(self.visited) == len(self.plain.visited)
        self.after(wanted, before, scaler)

    def loop_with_a_closure(self, batch: int, passes: tuple[Pass, ...], scaler: str) -> Tensor:
        calls = cycle(passes)

        def closure(x: Tensor, y: Tensor) -> Tensor:
            self.optimizer.zero_grad()
            return self.backward(next(calls), x, y, scaler)

        return self.optimizer.step(closure, batch=data(batch), scaler=self.given(scaler))

    def loop_with_a_context(self, batch: int, passes: tuple[Pass, ...], scaler: str, finish: bool = True) -> None:
        x, y = data(batch)
        self.optimizer.zero_grad()
        self.backward(passes[0], x, y, scaler, manual=True)
        for here in passes[1:]:
            with self.optimizer.perturbed(scaler=self.given(scaler)):
                self.backward(here, x, y, scaler, manual=True)
            assert same(self.model.weights(), self.home)
        assert not self.optimizer.unfinished
        if finish:
            self.optimizer.step(scaler=self.given(scaler))

    def loop_of_two_steps(self, batch: int, passes: tuple[Pass, ...], scaler: str) -> None:
        x, y = data(batch)
        self.optimizer.zero_grad()
        for here in passes[:-1]:
            self.backward(here, x, y, scaler, manual=True)
            self.optimizer.first_step(scaler=self.given(scaler))
        self.backward(passes[-1], x, y, scaler, manual=True)
        self.optimizer.second_step(scaler=self.given(scaler))

    def ours(self) -> Any:
        """Return what a step that is not taken must not change by a bit."""
        state = self.optimizer.base.state
        buffers = {name: state[p]["momentum_buffer"].clone() for name, p in self.model.named_parameters() if p in state}
        return self.model.weights(), buffers

    def after(self, wanted: Wanted, before: Any, scaler: str) -> None:
        """Look at what the step left besides what `agree` looks at."""
        self.may_schedule = self.may_schedule or wanted.raises is None
        if not wanted.taken:
            weights, buffers = self.ours()
            assert same(weights, before[0])
            assert same(buffers, before[1])
            assert all(self.model.get_parameter(name).grad is None for name in self.plain.trainable)
        if wanted.raises is None and scaler == "on":
            pickle.dumps(self.optimizer)  # it can be copied also before the update
            self.scaler.update()

    # ----------------------------------------------------------------------------------- what happens between two steps

    @between(name=st.sampled_from("abcdu"))
    def freeze_or_thaw(self, name: str) -> None:
        """But never freeze the last."""
        if self.plain.trainable != [name]:
            self.plain.frozen ^= {name}
            self.model.get_parameter(name).requires_grad_(name not in self.plain.frozen)

    @between(which=st.integers(0, 3), rho=RHO)
    def change_rho(self, which: int, rho: float) -> None:
        i = which % len(self.plain.groups)
        self.plain.groups[i].rho = self.optimizer.param_groups[i]["rho"] = rho

    @between(which=st.integers(0, 3), rho=st.sampled_from([-0.1, nan, inf]))
    def what_is_refused_changes_nothing(self, which: int, rho: float) -> None:
        with pytest.raises(RuntimeError, match="nothing to step on"):
            self.optimizer.step()
        if self.plain.m is not None:
            with pytest.raises(RuntimeError, match="call step"), self.optimizer.perturbed():
                pass
        name = self.plain.trainable[which % len(self.plain.trainable)]
        group = self.optimizer.param_groups[[name in group.names for group in self.plain.groups].index(True)]
        before, group["rho"] = group["rho"], rho
        with pytest.raises(ValueError, match="rho"):
            self.optimizer.step(lambda *_: pytest.fail(f"climbs {rho}"), batch=data(0))
        group["rho"] = before

    @precondition(lambda self: self.may_schedule)
    @between()
    def schedule(self) -> None:
        self.scheduler.step()
        for group in self.plain.groups:
            group.lr *= GAMMA

    @between(name=st.sampled_from("cd"), lr=st.sampled_from([0.02, 0.1]), rho=st.sampled_from([None, 0.0, 0.3]))
    def add_a_group(self, name: str, lr: float, rho: float | None) -> None:
        if all(name not in group.names for group in self.plain.groups):
            own: dict[str, Any] = {} if rho is None else {"rho": rho}
            self.optimizer.add_param_group({"params": [self.model.get_parameter(name)], "lr": lr} | own)
            self.plain.groups.append(Group([name], lr, ROWS[self.row].rho if rho is None else rho))

    @between()
    def save_and_go_on_elsewhere(self) -> None:
        """Write everything, and read it into a model and an optimizer that are made anew."""
        content = loaded(saved({"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}))
        model = Model(START)
        optimizer = self.wrap(model, [{} for _ in self.plain.groups])
        model.load_state_dict(content["model"])
        for name in self.plain.frozen:
            model.get_parameter(name).requires_grad_(False)
        optimizer.load_state_dict(content["optimizer"])
        self.plain.info = {}
        self.adopt(model, optimizer)

    @between()
    def remember(self) -> None:
        content = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        self.remembered = saved(content), copy.deepcopy(self.plain)

    @precondition(lambda self: self.remembered is not None)
    @between()
    def go_back(self) -> None:
        """Load what was remembered in place; not where groups were added since."""
        assert self.remembered is not None
        content, then = loaded(self.remembered[0]), self.remembered[1]
        if len(then.groups) != len(self.plain.groups):
            weights, buffers = self.ours()
            with pytest.raises(ValueError, match=r"parameter|memory"):
                self.optimizer.load_state_dict(content["optimizer"])
            assert same(self.model.weights(), weights)
            assert same(self.ours()[1], buffers)
            return
        self.model.load_state_dict(content["model"])
        for name, p in self.model.named_parameters():
            p.requires_grad_(name not in then.frozen)
        self.optimizer.load_state_dict(content["optimizer"])
        scale, growth = self.plain.scale, self.plain.growth
        self.plain = copy.deepcopy(then)
        self.plain.info, self.plain.scale, self.plain.growth = {}, scale, growth

    @between(by_pickle=st.booleans())
    def go_on_with_a_copy(self, by_pickle: bool) -> None:
        """The original stays where it was, whatever becomes of its copy."""
        self.left_behind = [(self.model, self.model.weights())]
        both = self.model, self.optimizer
        model, optimizer = pickle.loads(pickle.dumps(both)) if by_pickle else copy.deepcopy(both)
        self.adopt(model, optimizer)

    # ------------------------------------------------------------------------------------------------- after every rule

    @invariant()
    def agree(self) -> None:
        for name, x in self.model.weights().items():
            close(x, self.plain.leaves[name], f"the weights {name}")
            buffer = self.optimizer.base.state.get(self.model.get_parameter(name), {}).get("momentum_buffer")
            assert (buffer is None) == (name not in self.plain.buffers)
            if buffer is not None:
                close(buffer, self.plain.buffers[name], f"the base optimizer's momentum of {name}")
        groups = [(group["lr"], group["rho"]) for group in self.optimizer.param_groups]
        close(groups, [(group.lr, group.rho) for group in self.plain.groups], "learning rates and radii")
        self.memories_agree()
        self.infos_agree()
        assert self.scaler.get_scale() == self.plain.scale
        for model, weights in self.left_behind:
            assert same(model.weights(), weights), "the original of a copy was stepped"

    def memories_agree(self) -> None:
        told = own(self.optimizer)
        assert told["skipped"] == self.plain.skipped
        assert told["state"]["samfamily.step"] == self.plain.t
        if self.plain.t and ROWS[self.row].remembers:
            for x, (name, wanted) in zip(remembered(self.optimizer), self.plain.memory.items(), strict=True):
                close(x, wanted, f"the memory of {name}")

    def infos_agree(self) -> None:
        info = self.optimizer.info._asdict()
        for name, wanted in self.plain.info.items():
            close(float(info[name]), wanted, f"info.{name}")
        if self.plain.info:
            assert int(info["skipped"]) == self.plain.skipped


def machine(row: str) -> type[Machine]:
    return type(f"MachineOf{row.title().replace(' ', '')}", (Machine,), {"row": row})


@pytest.mark.parametrize("row", ROWS)
def test_every_sequence(row: str) -> None:
    fraction = settings(
        max_examples=max(1, settings().max_examples // 5),
        stateful_step_count=STEPS,
        suppress_health_check=[HealthCheck.too_slow],
    )
    run_state_machine_as_test(machine(row), settings=fraction)


# -------------------------------------------------------------------------------------------------- negative controls


def come_home_by_subtraction(patch: pytest.MonkeyPatch) -> None:
    go, come_home = LiveParameters.go, LiveParameters.come_home

    def away(self: LiveParameters, point: Vec) -> None:
        went[:] = [point - self.w]
        go(self, point)

    def home(self: LiveParameters) -> None:
        if self.away:
            point = Vec(self.space, tuple(p.data.clone() for p in self.parameters))
            for x, back in zip(self.w.leaves, (point - went[0]).collapse(), strict=True):
                x.copy_(back)
        come_home(self)

    went: list[Vec] = []
    patch.setattr(LiveParameters, "go", away)
    patch.setattr(LiveParameters, "come_home", home)


def stay_away_after_an_exception(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LiveParameters, "abandon", LiveParameters.clear_gradients)


def forget_the_memory_on_load(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(resuming, "unpack", lambda _vectors, _scalars, like: like)


def take_the_finite_part_of_a_gradient(patch: pytest.MonkeyPatch) -> None:
    bring = LiveParameters.bring_gradients_home

    def finite(self: LiveParameters, unscale: float | Tensor = 1.0) -> Vec:
        gradient = bring(self, unscale)
        return Vec(self.space, tuple(torch.nan_to_num(x, 0.0, 0.0, 0.0) for x in gradient.collapse()))

    patch.setattr(LiveParameters, "bring_gradients_home", finite)


def take_the_radius_of_the_first_group(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SharpnessAware, "_rho", lambda self, _: self.param_groups[0]["rho"])


def take_the_radii_in_another_order(patch: pytest.MonkeyPatch) -> None:
    rho = SharpnessAware._rho
    patch.setattr(SharpnessAware, "_rho", lambda self, groups: rho(self, groups[::-1]))


def step_what_received_nothing(patch: pytest.MonkeyPatch) -> None:
    put = LiveParameters.put_gradients

    def everywhere(self: LiveParameters, gradient: Vec) -> None:
        self.received = [True] * len(self.parameters)
        put(self, gradient)

    patch.setattr(LiveParameters, "put_gradients", everywhere)


def forget_the_memory_when_parameters_come_and_go(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        adapter, "carry", lambda memory, fresh, _: memory._replace(ascent=fresh.ascent, descent=fresh.descent)
    )


def count_a_skipped_step(patch: pytest.MonkeyPatch) -> None:
    skip = SharpnessAware._skip

    def skip_and_count(self: SharpnessAware, *arguments: Any) -> Tensor:
        loss = skip(self, *arguments)
        if self._state is not None:
            self._state = self._state._replace(step=self._state.step + 1)
        return loss

    patch.setattr(SharpnessAware, "_skip", skip_and_count)


def hide_an_overflow_from_the_scaler(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(adapter, "tell_overflow", lambda *_: None)


def forget_the_scale(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(adapter, "loss_scale", lambda *_: 1.0)


def weigh_the_last_shard_alone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(adapter, "over_shards", lambda parts, shard, *_: [shard(part) for part in parts][-1])


@pytest.mark.parametrize(
    ("mutant", "row"),
    [
        (come_home_by_subtraction, "SAM"),
        (stay_away_after_an_exception, "USAM"),
        (forget_the_memory_on_load, "MSAM"),
        (forget_the_memory_on_load, "FriendlySAM"),
        (take_the_finite_part_of_a_gradient, "ASAM"),
        (take_the_radius_of_the_first_group, "GSAM"),
        (take_the_radii_in_another_order, "WSAM"),
        (step_what_received_nothing, "SAM"),
        (forget_the_memory_when_parameters_come_and_go, "SAMPa"),
        (count_a_skipped_step, "LookSAM"),
        (hide_an_overflow_from_the_scaler, "SAM of two climbs"),
        (forget_the_scale, "USAM"),
        (weigh_the_last_shard_alone, "MSAM"),
    ],
    ids=lambda part: part.replace(" ", "_") if isinstance(part, str) else part.__name__,
)
def test_it_fails_for_a_mutant(mutant: Callable[[pytest.MonkeyPatch], None], row: str) -> None:
    """Negative control: one wrong line in the adapter, and some sequence is no longer what arithmetic says."""
    few = settings(
        max_examples=60,
        stateful_step_count=STEPS,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.too_slow],
    )
    with pytest.MonkeyPatch.context() as patch:
        mutant(patch)
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            run_state_machine_as_test(machine(row), settings=few)
