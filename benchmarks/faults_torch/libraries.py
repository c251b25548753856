"""The libraries, each behind the few verbs that a probe needs, in the way that its own documentation uses them."""

import importlib
import importlib.util
from collections.abc import Callable, Iterable
from importlib.metadata import version
from typing import Any

import torch

from benchmarks.fault_table import NotOfferedError
from samfamily_torch import SAM, LookSAM, SharpnessAware

Closure = Callable[[], Any]
Base = type[torch.optim.Optimizer]


class Library:
    """A library that follows torch.optim's conventions; what one does otherwise, its subclass says.

    Attributes:
        name: its heading in the table.
        package: what is installed under that name.
        module: what is imported.
    """

    name = "a library"
    package = ""
    module = ""

    def build(
        self, parameters: Iterable[Any], rho: float, base: Base, model: torch.nn.Module | None, **options: Any
    ) -> Any:
        """SAM of this radius round `base(parameters, **options)`; `model` is what owns the parameters, if one does."""
        raise NotImplementedError

    def looksam(self, parameters: Iterable[Any], k: int) -> Any:
        """LookSAM round SGD, with a full step every `k` steps."""
        raise NotOfferedError("no LookSAM")

    def step(self, optimizer: Any, closure: Closure) -> Any:
        """One step with a closure that does zero_grad, forward, backward, and returns the loss."""
        return optimizer.step(closure)

    def manual(self, optimizer: Any, closure: Closure, before_step: Closure | None = None) -> None:
        """One step in a loop of the user's; `before_step` is called when the gradients of the second pass are there."""
        raise NotOfferedError("no manual two-step")

    def scaled(self, optimizer: Any, closure: Closure, scaler: torch.amp.GradScaler) -> Any:
        """One step with a closure that does `scaler.scale(loss).backward()`; the scaler is updated by the caller."""
        raise NotImplementedError("no step with a stock GradScaler")

    def scaled_manual(self, optimizer: Any, closure: Closure, scaler: torch.amp.GradScaler) -> None:
        """As `scaled`, in a loop of the user's."""
        raise NotOfferedError("no manual two-step")

    def base_of(self, optimizer: Any) -> torch.optim.Optimizer:
        """The optimizer inside."""
        raise NotImplementedError

    def set_rho(self, optimizer: Any, rho: float) -> None:
        """Change the radius between two steps."""
        for group in optimizer.param_groups:
            group["rho"] = rho

    def scheduled(self, optimizer: Any) -> Any:
        """What a learning-rate scheduler is given."""
        return optimizer

    def statistics_switches(self) -> tuple[Callable[[torch.nn.Module], Any], Callable[[torch.nn.Module], Any]] | None:
        """The helpers that stop and start batch-norm statistics, where that is left to the user."""
        return None


class Ours(Library):
    """samfamily."""

    name, package, module = "samfamily", "samfamily", "samfamily_torch"

    def build(
        self, parameters: Iterable[Any], rho: float, base: Base, model: torch.nn.Module | None, **options: Any
    ) -> Any:
        return SharpnessAware(base(parameters, **options), SAM(rho=rho), model=model)

    def base_of(self, optimizer: Any) -> torch.optim.Optimizer:
        return optimizer.base

    def looksam(self, parameters: Iterable[Any], k: int) -> Any:
        return SharpnessAware(torch.optim.SGD(parameters, lr=0.1), LookSAM(rho=0.05, k=k))

    def manual(self, optimizer: Any, closure: Closure, before_step: Closure | None = None) -> None:
        closure()
        with optimizer.perturbed():
            closure()
        if before_step:
            before_step()
        optimizer.step()

    def scaled(self, optimizer: Any, closure: Closure, scaler: torch.amp.GradScaler) -> Any:
        return optimizer.step(closure, scaler=scaler)

    def scaled_manual(self, optimizer: Any, closure: Closure, scaler: torch.amp.GradScaler) -> None:
        closure()
        with optimizer.perturbed(scaler=scaler):
            closure()
        optimizer.step(scaler=scaler)


class PytorchOptimizer(Library):
    """pytorch_optimizer: the gradients at w are computed before `step(closure)`, which makes the second pass."""

    name, package, module = "pytorch_optimizer", "pytorch_optimizer", "pytorch_optimizer"

    def build(
        self, parameters: Iterable[Any], rho: float, base: Base, model: torch.nn.Module | None, **options: Any
    ) -> Any:
        return importlib.import_module(self.module).SAM(list(parameters), base, rho=rho, **options)

    def base_of(self, optimizer: Any) -> torch.optim.Optimizer:
        return optimizer.base_optimizer

    def looksam(self, parameters: Iterable[Any], k: int) -> Any:
        library = importlib.import_module(self.module)
        return library.LookSAM(list(parameters), torch.optim.SGD, rho=0.05, k=k, lr=0.1, momentum=0.9)

    def step(self, optimizer: Any, closure: Closure) -> Any:
        closure()
        return optimizer.step(closure)

    def manual(self, optimizer: Any, closure: Closure, before_step: Closure | None = None) -> None:
        closure()
        optimizer.first_step(zero_grad=True)
        closure()
        if before_step:
            before_step()
        optimizer.second_step(zero_grad=True)

    def scaled_manual(self, optimizer: Any, closure: Closure, scaler: torch.amp.GradScaler) -> None:
        # Not documented; what works without an overflow: the scale cancels in the first pass.
        self.manual(optimizer, closure, before_step=lambda: scaler.unscale_(optimizer))

    def statistics_switches(self) -> tuple[Callable[[torch.nn.Module], Any], Callable[[torch.nn.Module], Any]]:
        helpers = importlib.import_module("pytorch_optimizer.optimizer.utils.model")
        return helpers.disable_running_stats, helpers.enable_running_stats


class SamPytorch(Library):
    """sam-pytorch: moskomule's SAM round any optimizer."""

    name, package, module = "sam-pytorch", "sam-pytorch", "sam"

    def build(
        self, parameters: Iterable[Any], rho: float, base: Base, model: torch.nn.Module | None, **options: Any
    ) -> Any:
        parameters = list(parameters)
        return importlib.import_module(self.module).SAM(parameters, base(parameters, **options), rho=rho)

    def base_of(self, optimizer: Any) -> torch.optim.Optimizer:
        return optimizer.optim


class Temperon(Library):
    """temperon: SAM in the last part of training, here in all of it."""

    name, package, module = "temperon", "temperon", "temperon"

    def build(
        self, parameters: Iterable[Any], rho: float, base: Base, model: torch.nn.Module | None, **options: Any
    ) -> Any:
        library = importlib.import_module(self.module)
        return library.Temperon(base(parameters, **options), total_steps=1000, tail_frac=1.0, rho=rho)

    def base_of(self, optimizer: Any) -> torch.optim.Optimizer:
        return optimizer.optimizer

    def set_rho(self, optimizer: Any, rho: float) -> None:
        optimizer.rho = rho

    def scheduled(self, optimizer: Any) -> Any:
        return optimizer.optimizer


def libraries() -> list[Library]:
    """The libraries that are installed, ours first; each name tells its version."""
    known: list[Library] = [Ours(), PytorchOptimizer(), SamPytorch(), Temperon()]
    installed = [library for library in known if importlib.util.find_spec(library.module)]
    for library in installed[1:]:
        library.name = f"{library.package} {version(library.package)}"
    return installed
