"""inner_gap: how good the first-order step is for a model and a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from samfamily.inner import InnerGap, measure
from samfamily.program import drive
from samfamily.search import Effort
from samfamily.space import Vec
from samfamily.variant import Variant
from samfamily_torch.leaves import describe
from samfamily_torch.live import LiveParameters
from samfamily_torch.run import call
from samfamily_torch.space import TorchSpace


def inner_gap(
    closure: Callable[..., Any],
    model: torch.nn.Module | Iterable[Tensor],
    variant: Variant,
    *,
    batch: Sequence[Any] = (),
    beta: float | None = None,
    iterations: int = 20,
    restarts: int = 3,
    seed: int = 0,
) -> InnerGap:
    r"""Compare the loss at the first-order step with the highest loss that can be found in the variant's ball.

    $$ \text{ratio} = \frac{L(w + \hat\epsilon) - L(w)}
                          {\max_{\lVert T^{-1}\epsilon\rVert_p \le \rho} L(w + \epsilon) - L(w)} $$

    Near 1, rho is small enough for the first-order step; far below 1, the step misses most of what the ball holds.
    Costs up to `iterations * restarts` gradients, and reads numbers to the host: for looking now and
    then, not for every step.  Weights, `.grad` and the random state come back as they were; put batch norm and dropout
    into `eval()`, since a loss that changes between two looks has no maximum.

    Args:
        closure: zero_grad, forward, backward, return the loss, as for `SharpnessAware.step`; called `closure(*batch)`.
        model: the module, or its parameters.
        variant: any row whose radius is one number, such as `SAM(rho=0.05)`: its ball and its rho are looked at.
        batch: the closure's arguments.
        beta: the gradient's Lipschitz constant on the ball, in the ball's norms, if it is known: with one, `upper` is
            a proven bound, and at p = 2 and x < 1/2 `best` is the proven maximum.
        iterations: points visited from one start, at most.
        restarts: starts of the search: the first-order step's point, and random ones.
        seed: of the random starts.

    Returns:
        The comparison.

    Raises:
        TypeError: `variant` is not a Variant or has a radius for each leaf, or the closure returned no loss.
        ValueError: a negative beta, a variant with an `m` or a mask.

    Example:
        >>> import torch
        >>> from samfamily_torch import SAM, inner_gap
        >>> w = torch.nn.Parameter(torch.tensor([1.0, 0.1], dtype=torch.float64))
        >>> def closure():
        ...     w.grad = None
        ...     loss = 0.5 * (w[0] ** 2 + 10 * w[1] ** 2)
        ...     loss.backward()
        ...     return loss
        >>> for rho in (0.01, 1.0):
        ...     print(inner_gap(closure, [w], SAM(rho=rho), beta=10.0))
        rho = 0.01: the first-order step takes the loss from 0.55 to 0.564417; the maximum is 0.564424; ratio 0.999...
        rho = 1: the first-order step takes the loss from 0.55 to 4.71421; the best found is 6.59999; ratio 0.688...
    """
    if not isinstance(variant, Variant):
        raise TypeError(f"variant must be a Variant, got {variant!r}: pass a row of the family such as SAM(rho=0.05)")
    told = describe(model) if isinstance(model, torch.nn.Module) else {}
    given = model.parameters() if isinstance(model, torch.nn.Module) else model
    parameters = [p for p in given if p.requires_grad]
    if not parameters:
        raise ValueError("no parameter requires a gradient: there is nothing to move")
    space = TorchSpace([told[id(p)] for p in parameters] if told else len(parameters))
    live = LiveParameters(parameters, space)
    before = [p.grad for p in parameters]

    def answer(point: Vec) -> tuple[Any, Vec]:
        live.clear_gradients()
        live.go(point, again=True)
        return call(lambda: closure(*batch), live), live.bring_gradients_home()

    try:
        devices = {p.device for p in parameters if p.device.type == "cuda"}
        with torch.no_grad(), torch.random.fork_rng(devices):
            return drive(measure(variant, live.w, beta, Effort(iterations, restarts, 1e-6, seed)), answer)
    finally:
        live.abandon()
        for p, gradient in zip(parameters, before, strict=True):
            p.grad = gradient
