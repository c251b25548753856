r"""Hessian-vector products through a closure that calls `backward()` itself."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class _KeepGraph(TorchFunctionMode):
    """Makes every `tensor.backward()` build the graph of the gradients that it writes."""

    seen = False

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.backward:
            kwargs["create_graph"] = self.seen = True
        return func(*args, **kwargs)


def hessian_vector_product(
    closure: Callable[[], Any], parameters: Sequence[Tensor], v: Sequence[Tensor]
) -> list[Tensor]:
    r"""Return \(\nabla^2 L(w)\,v\) at the parameters' present values, by differentiating the closure's own gradients.

    Args:
        closure: forward, `loss.backward()`.
        parameters: the parameters; their `.grad` is empty before and after.
        v: one tensor for each parameter.

    Returns:
        One tensor for each parameter, zero where the loss does not depend on it.

    Raises:
        RuntimeError: the closure's gradients cannot be differentiated, since it does not call `loss.backward()`.
    """
    with warnings.catch_warnings():
        # PyTorch warns of the reference cycle parameter -> grad -> graph; it is cut below.
        warnings.filterwarnings("ignore", message="Using backward\\(\\) with create_graph=True")
        with _KeepGraph() as mode, torch.enable_grad():
            closure()
    gradients = [p.grad for p in parameters]
    for p in parameters:
        p.grad = None
    pairs = [(g, u) for g, u in zip(gradients, v, strict=True) if g is not None]
    smooth = [(g, u) for g, u in pairs if g.requires_grad]
    if not mode.seen:
        raise RuntimeError(
            "a Hessian-vector product differentiates the closure's gradients, and these have no graph: "
            "call loss.backward() in the closure, and not torch.autograd.backward or a detached gradient"
        )
    if not smooth:  # a loss without curvature
        return [torch.zeros_like(p) for p in parameters]
    products = torch.autograd.grad([g for g, _ in smooth], parameters, [u for _, u in smooth], materialize_grads=True)
    return list(products)
