"""The careful toy with one thing wrong, for the probes that the careless one passes or fails by another fault."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from benchmarks.faults_torch.libraries import Library, PytorchOptimizer
from tests.benchmarks.toy_libraries import Careful, Toy, total


class Falsy(Careful):
    """Takes a loss of 0.0 for no loss."""

    def finite(self, loss: float) -> bool:
        return bool(loss) and super().finite(loss)


class Swapping(Careful):
    """Moves the weights behind autograd's back."""

    def climb(self) -> None:
        gradients = self.gradients()
        self.home = {p: p.data for p in gradients}
        for p, g in gradients.items():
            p.data = p.data + self.rho / self.norm(gradients) * g

    def come_home(self) -> None:
        for p, w in self.home.items():
            p.data = w


class LastBackward(Careful):
    """Sees the last backward's gradient, not what `.grad` has accumulated."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.seen: dict[Tensor, Tensor] = {}
        for group in self.param_groups:
            for p in group["params"]:
                p.register_hook(lambda g, p=p: self.seen.update({p: g}))

    def gradients(self) -> dict[Tensor, Tensor]:
        return dict(self.seen)


class Unnormalised(Careful):
    """Climbs by rho times the gradient, however long that is."""

    def norm(self, gradients: dict[Tensor, Tensor]) -> float:
        return 1.0


class Keeping(Careful):
    """Steps with the gradient as it was before the user changed it."""

    def come_home(self) -> None:
        super().come_home()
        self.kept = self.gradients()

    def descend(self, scaler: Any = None) -> None:
        for p, g in self.kept.items():
            p.grad = g
        super().descend(scaler)


class OneDtype(Careful):
    """Takes the norm over the first dtype for the whole."""

    def norm(self, gradients: dict[Tensor, Tensor]) -> float:
        first = next(iter(gradients.values()))
        return total([g for g in gradients.values() if g.dtype == first.dtype])


class LocalNorm(Careful):
    """Takes the norm of this rank's shard for the whole."""

    def norm(self, gradients: dict[Tensor, Tensor]) -> float:
        return total([g.to_local() if isinstance(g, DTensor) else g for g in gradients.values()])


class ZeroFilling(Careful):
    """Gives every parameter a gradient."""

    def descend(self, scaler: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        super().descend(scaler)


class Early(Careful):
    """Moves the weights before it asks for the first gradient."""

    def step(self, closure: Callable[[], Any] | None = None, *, scaler: Any = None) -> Any:
        home = {p: p.detach().clone() for group in self.param_groups for p in group["params"]}
        for p in home:
            p.data.add_(0.01)
        loss = closure() if closure else None
        for p, w in home.items():
            p.data.copy_(w)
        self.base.step()
        return loss


class Obliging(Careful):
    """Steps the base optimizer where there is no closure, scaler or not."""

    _step_supports_amp_scaling = False

    def step(self, closure: Callable[[], Any] | None = None, *, scaler: Any = None) -> Any:
        return super().step(closure, scaler=scaler) if closure else self.base.step()


class Thrice(Careful):
    """Asks for one gradient more than it uses."""

    def descend(self, scaler: Any = None) -> None:
        super().descend(scaler)
        self.last()

    def step(self, closure: Callable[[], Any] | None = None, *, scaler: Any = None) -> Any:
        self.last: Any = closure
        return super().step(closure, scaler=scaler)


class Adding(Careful):
    """Adds and subtracts."""

    def climb(self) -> None:
        before = {p: p.detach().clone() for p in self.gradients()}
        super().climb()
        self.added = {p: p.detach() - w for p, w in before.items()}

    @torch.no_grad()
    def come_home(self) -> None:
        for p, e in self.added.items():
            p.sub_(e)


class Unguarded(Careful):
    """Goes on whatever it gets."""

    def finite(self, loss: float) -> bool:
        return True


class Forgetful(Careful):
    """Saves its groups alone."""

    def state_dict(self) -> dict[str, Any]:
        return self.base.state_dict() | {"state": {}}


class Hoarding(Careful):
    """Saves the weights too."""

    def state_dict(self) -> dict[str, Any]:
        return self.base.state_dict() | {"home": [p.detach().clone() for g in self.param_groups for p in g["params"]]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({key: value for key, value in state_dict.items() if key != "home"})


class OneRadius(Careful):
    """Keeps the rho that it was built with."""

    def climb(self) -> None:
        for group in self.param_groups:
            group["rho"] = self.rho
        super().climb()


class TwoLists(Careful):
    """Has groups of its own once it has loaded."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.copies = [dict(group) for group in self.base.param_groups]

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        return getattr(self, "copies", self.base.param_groups)


class Twice(Careful):
    """Lets both passes move the buffers and draw masks."""

    def hold(self, buffers: dict[str, Tensor]) -> None:
        """Hold nothing."""


class Helped(Toy):
    """Leaves batch norm to helpers that cannot be entered twice."""

    statistics_switches = PytorchOptimizer.statistics_switches


MUTANTS: dict[str, Library] = {
    "loss_of_zero": Toy(Falsy),
    "reused_graph": Toy(Swapping),
    "autocast_round_the_step": Toy(Swapping),
    "accumulation": Toy(LastBackward),
    "clipping_in_the_closure": Toy(Unnormalised),
    "clipping_in_a_manual_loop": Toy(Keeping),
    "autocast_in_the_closure": Toy(Unnormalised),
    "unused_parameter": Toy(ZeroFilling),
    "frozen_parameters": Toy(ZeroFilling),
    "exception_in_pass_one": Toy(Early),
    "scaler_without_a_closure": Toy(Obliging),
    "several_dtypes": Toy(OneDtype),
    "passes_of_sam": Toy(Thrice),
    "comes_home_in_float32": Toy(Adding),
    "comes_home_in_bfloat16": Toy(Adding),
    "nan_in_pass_two": Toy(Unguarded),
    "infinite_gradient_in_pass_two": Toy(Unguarded),
    "base_state_in_state_dict": Toy(Forgetful),
    "bitwise_resume": Toy(Forgetful),
    "no_transient_buffers": Toy(Hoarding),
    "groups_after_loading": Toy(TwoLists),
    "rho_of_each_group": Toy(OneRadius),
    "changing_rho": Toy(OneRadius),
    "batch_norm_statistics": Toy(Twice),
    "cumulative_batch_norm_statistics": Toy(Twice),
    "batches_counted_twice": Toy(Twice),
    "statistics_after_an_exception": Toy(Twice),
    "statistics_held_still_twice": Helped(Careful),
}
