"""SAM for the tests of the probes: once with everything right, slowly, and once with everything wrong."""

import math
import threading
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from benchmarks.faults_torch.libraries import Library


def total(tensors: list[Tensor]) -> float:
    """The 2-norm over all tensors, in float64, shards included; one number is read, however many tensors there are."""
    sums = [t.abs().double().square().sum() for t in tensors]
    whole = [s.full_tensor() if isinstance(s, DTensor) else s for s in sums]
    return float(torch.stack(whole).sum().sqrt()) if whole else 0.0


class Careful(torch.optim.Optimizer):
    """SAM with copies of everything."""

    _step_supports_amp_scaling = True  # so that a scaler leaves a mark on the optimizer, by which it is recognised

    base: torch.optim.Optimizer
    rho: float
    model: Any
    k: int
    count: int
    home: dict[Tensor, Tensor]
    climbed = False

    def __init__(self, base: torch.optim.Optimizer, rho: float, model: Any = None, k: int = 1) -> None:
        self.__setstate__({"base": base, "rho": rho, "model": model, "k": k, "count": 0, "home": {}})
        self.offer_rho()

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("base", "rho", "model", "k", "count", "home")}

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        return self.base.param_groups

    @property
    def state(self) -> Any:  # type: ignore[override]
        return self.base.state

    @property
    def defaults(self) -> dict[str, Any]:  # type: ignore[override]
        return self.base.defaults

    def offer_rho(self) -> None:
        for group in self.base.param_groups:
            group.setdefault("rho", self.rho)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        self.base.add_param_group(param_group)
        self.offer_rho()

    def state_dict(self) -> dict[str, Any]:
        return self.base.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.base.load_state_dict(state_dict)

    def step(self, closure: Callable[[], Any] | None = None, *, scaler: Any = None) -> Any:
        if "grad_scale" in vars(self):
            for mark in ("grad_scale", "found_inf"):
                vars(self).pop(mark)
            raise RuntimeError("give the scaler to the optimizer: step(closure, scaler=scaler)")
        if closure is None:
            return self.finish(scaler)
        self.count += 1
        before = torch.get_rng_state()
        with torch.enable_grad():
            loss = closure()
        if not self.finite(float(loss.detach())):
            return self.descend(scaler) if scaler else None
        buffers, after = self.buffers(), torch.get_rng_state()
        if (self.count - 1) % self.k == 0:
            self.climb()
            try:
                torch.set_rng_state(before)
                with torch.enable_grad():
                    there = closure()
            finally:
                self.come_home()
                self.hold(buffers)
                torch.set_rng_state(after)
            if not scaler and not self.finite(float(there.detach())):
                return loss.detach()
        self.descend(scaler)
        return loss.detach()

    def gradients(self) -> dict[Tensor, Tensor]:
        members = [p for group in self.param_groups for p in group["params"]]
        return {p: p.grad.to_dense().clone() for p in members if p.grad is not None}

    def finite(self, loss: float) -> bool:
        return math.isfinite(loss) and math.isfinite(total(list(self.gradients().values())))

    def norm(self, gradients: dict[Tensor, Tensor]) -> float:
        return total(list(gradients.values()))

    @torch.no_grad()
    def climb(self) -> None:
        gradients = self.gradients()
        norm = self.norm(gradients)
        if not math.isfinite(norm):
            return
        self.home = {p: p.detach().clone() for p in gradients}
        for group in self.param_groups:
            for p in group["params"]:
                if p in gradients and norm > 0:
                    p.add_(gradients[p] * (group["rho"] / norm))
        arrived = total([p - w for p, w in self.home.items()])
        if arrived < 0.5 * min(group["rho"] for group in self.param_groups):
            warnings.warn("most of the perturbation was rounded away", stacklevel=2)
        torch.clear_autocast_cache()
        self.base.zero_grad()

    @torch.no_grad()
    def come_home(self) -> None:
        for p, w in self.home.items():
            p.copy_(w)
        self.home = {}

    def descend(self, scaler: Any = None) -> None:
        scaler.step(self.base) if scaler else self.base.step()

    def finish(self, scaler: Any = None) -> None:
        if not self.climbed:
            raise RuntimeError("nothing to step on: call step(closure)")
        self.climbed = False
        self.descend(scaler)

    def buffers(self) -> dict[str, Tensor]:
        return {name: b.clone() for name, b in self.model.named_buffers()} if self.model is not None else {}

    @torch.no_grad()
    def hold(self, buffers: dict[str, Tensor]) -> None:
        for name, b in buffers.items():
            self.model.get_buffer(name).copy_(b)


class Careless:
    """Everything that went wrong somewhere, in one."""

    def __init__(self, base: torch.optim.Optimizer, rho: float, model: Any = None, k: int = 1) -> None:
        if rho <= 0:
            raise ValueError(f"rho must be positive, got {rho}")
        self.base, self.rho, self.model = base, rho, model
        self.param_groups = [dict(group) for group in base.param_groups]
        self.state: dict[str, Any] = {"perturbation": {}, "lock": threading.Lock()}

    def zero_grad(self) -> None:
        self.base.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        return {"perturbation": list(self.state["perturbation"].values()), "rho": self}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.param_groups = state["rho"].param_groups

    @torch.no_grad()
    def step(self, closure: Callable[[], Any]) -> None:
        perturbation = self.state["perturbation"]
        parameters = [p for m in self.model.modules() for p in m.parameters(recurse=False)]  # tied ones twice
        with_gradient = [p for p in parameters if p.grad is not None and p.grad.max() != 0]  # no maximum of nothing
        norm = torch.stack([p.grad.flatten().pow(2).sum().float() for p in with_gradient]).sum().sqrt()
        for p in with_gradient:
            perturbation[p] = p.grad.mul_(self.rho / norm.to(p.grad.dtype).item())
            p.add_(perturbation[p])
        with torch.enable_grad():
            closure()
        for p in parameters:
            if p.grad is not None:
                p.sub_(perturbation[p])
        self.base.step()


class Toy(Library):
    """A toy behind the verbs of a library, with a manual loop if it has one."""

    def __init__(self, toy: Any) -> None:
        self.toy, self.name = toy, toy.__name__

    def build(self, parameters: Any, rho: float, base: Any, model: Any, **options: Any) -> Any:
        return self.toy(base(parameters, **options), rho, model)

    def looksam(self, parameters: Any, k: int) -> Any:
        parameters = list(parameters)
        return self.toy(torch.optim.SGD(parameters, lr=0.1), 0.05, torch.nn.ParameterList(parameters), k)

    def base_of(self, optimizer: Any) -> torch.optim.Optimizer:
        return optimizer.base

    def step(self, optimizer: Any, closure: Callable[[], Any]) -> Any:
        if issubclass(self.toy, Careless):
            closure()
        return optimizer.step(closure)

    def manual(self, optimizer: Any, closure: Any, before_step: Any = None) -> None:
        closure()
        optimizer.climb()
        closure()
        optimizer.come_home()
        (before_step or list)()
        optimizer.climbed = True
        optimizer.step()

    def scaled(self, optimizer: Any, closure: Any, scaler: Any) -> Any:
        return optimizer.step(closure, scaler=scaler)

    def scaled_manual(self, optimizer: Any, closure: Any, scaler: Any) -> None:
        closure()
        optimizer.climb()
        closure()
        optimizer.come_home()
        optimizer.climbed = True
        optimizer.step(scaler=scaler)
