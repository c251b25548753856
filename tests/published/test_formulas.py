"""Layer 4: ten steps on a LayerNorm network equal the authors' formulas, written out here in plain PyTorch.

Nothing of the library is used on this side: gradients by `torch.autograd.grad`, lists of tensors, SGD with momentum by
hand.  Official code adds 1e-12 to norms; the differences that this makes are far below the tolerance.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from samfamily import ASAM, GNP, GSAM, SAM, WSAM, FriendlySAM, LookSAM, StableSAM, VaSSO, biases
from tests.published.task import LR, MOMENTUM, batches, distance, flat, loss, network, ours

Gradients = list[Tensor]
Oracle = Callable[[Gradients], Gradients]
"""From a perturbation to the gradients at the perturbed weights."""


def norm(x: Gradients) -> Tensor:
    return torch.sqrt(sum(((u * u).sum() for u in x), torch.zeros(())))


def dot(x: Gradients, y: Gradients) -> Tensor:
    return sum(((u * v).sum() for u, v in zip(x, y, strict=True)), torch.zeros(()))


def written_out(rule: Callable[[nn.Module, Gradients, Oracle, dict[str, Any]], Any]) -> Tensor:
    """Walk with SGD and momentum along what `rule` makes of the gradients; it may return an addend, too."""
    model, memory = network(), {"step": 0}
    parameters = list(model.parameters())
    velocity = [torch.zeros_like(p) for p in parameters]
    for batch in batches():

        def at(epsilon: Gradients, batch: Any = batch) -> Gradients:
            with torch.no_grad():
                home = [p.clone() for p in parameters]
                for p, e in zip(parameters, epsilon, strict=True):
                    p.add_(e)
            gradients = torch.autograd.grad(loss(model, batch), parameters)
            with torch.no_grad():
                for p, w in zip(parameters, home, strict=True):
                    p.copy_(w)
            return list(gradients)

        g = at([torch.zeros_like(p) for p in parameters])
        with torch.no_grad():
            result = rule(model, g, at, memory)
            gradient, addend = result if isinstance(result, tuple) else (result, None)
            for p, v, d in zip(parameters, velocity, gradient, strict=True):
                v.mul_(MOMENTUM).add_(d)
                p.sub_(LR * v)
            for p, a in zip(parameters, addend or [], strict=False):
                p.sub_(LR * a)
        memory["step"] += 1
    return flat(model)


def along(d: Gradients, rho: float) -> Gradients:
    n = norm(d)
    return [rho * x / n for x in d]


def perturbed(g: Gradients, at: Oracle, rho: float) -> Gradients:
    with torch.enable_grad():
        return at(along(g, rho))


def sam(model: Any, g: Gradients, at: Oracle, memory: Any) -> Any:
    return perturbed(g, at, 0.1)


def asam(adaptive: Callable[[str, Tensor], bool]) -> Any:
    def rule(model: nn.Module, g: Gradients, at: Oracle, memory: Any) -> Any:
        named = list(model.named_parameters())
        T = [p.abs() + 0.01 if adaptive(name, p) else torch.ones_like(p) for name, p in named]
        scaled = [t * x for t, x in zip(T, g, strict=True)]
        n = norm(scaled)
        with torch.enable_grad():
            return at([0.5 * t * x / n for t, x in zip(T, scaled, strict=True)])

    return rule


def gsam(model: Any, g: Gradients, at: Oracle, memory: Any) -> Any:
    h = perturbed(g, at, 0.1)
    cosine = dot(g, h) / (norm(g) * norm(h))
    vertical = [x - cosine * norm(g) * y / norm(h) for x, y in zip(g, h, strict=True)]
    return [y - 0.4 * v for y, v in zip(h, vertical, strict=True)]


def gsam_of_the_loss(model: Any, g: Gradients, at: Oracle, memory: Any) -> Any:
    h = perturbed(g, at, 0.1)
    coefficient = dot(g, h) / norm(g) ** 2
    return [x + 0.4 * (y - coefficient * x) for x, y in zip(g, h, strict=True)]


def friendly(model: Any, g: Gradients, at: Oracle, memory: Any) -> Any:
    mean = memory.get("mean")
    d = g if mean is None else [x - 1.0 * m for x, m in zip(g, mean, strict=True)]
    memory["mean"] = g if mean is None else [0.9 * m + (1 - 0.9) * x for x, m in zip(g, mean, strict=True)]
    return perturbed(d, at, 0.1)


def vasso(model: Any, g: Gradients, at: Oracle, memory: Any) -> Any:
    last = memory.get("d", g)
    memory["d"] = [(1 - 0.4) * e + 0.4 * x for e, x in zip(last, g, strict=True)]
    return perturbed(memory["d"], at, 0.1)


def wsam(model: Any, g: Gradients, at: Oracle, memory: Any) -> Any:
    h, a = perturbed(g, at, 0.1), 0.8 / (1 - 0.8)
    return [(1 - a) * x + a * y for x, y in zip(g, h, strict=True)]


def wsam_decoupled(model: Any, g: Gradients, at: Oracle, memory: Any) -> Any:
    h, a = perturbed(g, at, 0.1), 0.8 / (1 - 0.8)
    return g, [a * (y - x) for x, y in zip(g, h, strict=True)]


def gnp(model: Any, g: Gradients, at: Oracle, memory: Any) -> Any:
    return [0.2 * x + 0.8 * y for x, y in zip(g, perturbed(g, at, 0.1), strict=True)]


def stable(model: Any, g: Gradients, at: Oracle, memory: Any) -> Any:
    h = perturbed(g, at, 0.1)
    return [norm(g) / norm(h) * y for y in h]


def look(model: Any, g: Gradients, at: Oracle, memory: Any) -> Any:
    if memory["step"] % 3 == 0:
        h = perturbed(g, at, 0.1)
        coefficient = dot(g, h) / norm(g) ** 2
        memory["v"] = [y - coefficient * x for x, y in zip(g, h, strict=True)]
        return h
    v = memory["v"]
    return [x + 0.7 * norm(g) / norm(v) * u for x, u in zip(g, v, strict=True)]


CASES = {
    "SAM": (SAM(rho=0.1), sam),
    "ASAM, plain": (ASAM(rho=0.5), asam(lambda name, p: True)),
    "ASAM, authors'": (ASAM(rho=0.5, euclidean=biases), asam(lambda name, p: "weight" in name)),
    "GSAM": (GSAM(rho=0.1, alpha=0.4), gsam),
    "GSAM of the loss": (GSAM(rho=0.1, alpha=0.4, minimize_fp=False), gsam_of_the_loss),
    "FriendlySAM": (FriendlySAM(rho=0.1, sigma=1.0, lmbda=0.9), friendly),
    "VaSSO": (VaSSO(rho=0.1, theta=0.4), vasso),
    "WSAM, coupled": (WSAM(rho=0.1, gamma=0.8, decoupled=False), wsam),
    "WSAM, decoupled": (WSAM(rho=0.1, gamma=0.8), wsam_decoupled),
    "GNP": (GNP(rho=0.1, alpha=0.8), gnp),
    "StableSAM": (StableSAM(rho=0.1), stable),
    "LookSAM": (LookSAM(rho=0.1, k=3, alpha=0.7), look),
}


@pytest.mark.parametrize("case", CASES)
def test_ten_steps_equal_the_authors_formula(case: str) -> None:
    variant, rule = CASES[case]
    assert distance(ours(variant), written_out(rule)) <= 1e-11


@pytest.mark.parametrize("case", [case for case in CASES if case != "SAM"])
def test_the_formulas_differ_from_sam(case: str) -> None:
    """Negative control: no two rows are told apart by the tolerance alone."""
    assert distance(written_out(CASES[case][1]), written_out(sam)) > 1e-6
