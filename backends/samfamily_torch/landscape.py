r"""A loss on data as a function of a PyTorch model's weights: what is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.parallel import DistributedDataParallel

from samfamily.landscape import Batch, Composed, Euclidean, Matrix, Product
from samfamily.landscape import Landscape as AnyLandscape
from samfamily.program import GaussNewtonVector, each
from samfamily.space import Leaves, Scalar, Vec
from samfamily_torch.batch import cut, examples_in
from samfamily_torch.leaves import describe
from samfamily_torch.live import LiveParameters
from samfamily_torch.ranks import Ranks
from samfamily_torch.scene import Stage
from samfamily_torch.space import TorchSpace


class WideSpace(Euclidean, TorchSpace):
    """The PyTorch space with sums in float64, whatever the tensors are."""

    def inner(self, x: Leaves, y: Leaves) -> Scalar:
        """See `Space.inner`."""
        pairs = zip(x, y, strict=True)
        return torch.stack([torch.sum((u.conj() * v).real, dtype=torch.float64) for u, v in pairs]).sum()


class Landscape(AnyLandscape):
    r"""A loss on data as a function of a model's weights, for `samfamily.curvature` and `samfamily.sharpness`.

    $$ L(w) = \frac1n \sum_{j} n_j L_j(w), $$

    the mean over all \(n\) examples of batches of \(n_j\).  The weights that are measured are those that the model has
    when it is asked; they and their `.grad` come back as they were.  Products differentiate the gradient once more, so
    every operation of the model needs a second derivative (attention is computed in the plain way, which has one).

    Args:
        loss: `loss(*batch)`, the mean over the batch's examples of the model's loss, a 0-d tensor on which nobody has
            called `backward`; or `Composed(outputs, loss)`, with which Gauss-Newton products are there too.
        model: the module, in `eval()` where it has batch normalisation or dropout; what is frozen is not looked at.
            Or `DistributedDataParallel(module)`: its processes have a part of the data each, and measure the mean.
        data: a tuple of tensors, which is one batch, or a list or loader of batches.  A batch is a list or tuple of the
            loss's arguments, or anything else that is its one argument; the first axis of tensors counts examples.
        evaluating: whether the model is put into `eval()` for every look, and each of its modules back into its mode
            after it, as a loop that measures while it trains wants.

    Raises:
        TypeError: a model that is none; data that is no batch and no batches, or can be gone through once only.
        ValueError: no parameter requires a gradient; when asked: a layer is in training mode where that makes the loss
            another at every look, or has sparse gradients, a batch without tensors, no batch in the data.
        RuntimeError: parameters that are spread over processes.

    Example:
        >>> import torch
        >>> from samfamily import curvature
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> x, y = torch.tensor([[1.0, 0.0], [0.0, 3.0]]), torch.zeros(2, 1)
        >>> landscape = Landscape(lambda x, y: ((model(x) - y) ** 2).mean(), model, (x, y))
        >>> print(curvature.eigenvalues(landscape, top=1, bottom=1))
        9 ± ..., 1 ± ... in 2 products
    """

    def __init__(
        self, loss: Callable[..., Any] | Composed, model: torch.nn.Module, data: Any, *, evaluating: bool = False
    ) -> None:
        super().__init__(data)
        if not isinstance(model, torch.nn.Module):
            raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}: its modes are looked at")
        parameters = [p for p in model.parameters() if p.requires_grad]
        if not parameters:
            raise ValueError("no parameter of the model requires a gradient: there is nothing to measure along")
        if any(hasattr(p, "device_mesh") for p in parameters):
            raise RuntimeError(
                "the parameters are spread over processes, and products with their curvature are not: measure a whole "
                "copy of the model, from torch.distributed.checkpoint.state_dict.get_model_state_dict"
            )
        self._loss, self._model, self._evaluating = loss, model, evaluating
        self._ranks = Ranks(model, parameters)
        told = describe(model)
        self._stage = Stage(model)
        self._live = LiveParameters(parameters, WideSpace([told[id(p)] for p in parameters]))

    @property
    def w(self) -> Vec:  # type: ignore[override]
        """The weights as they stand."""
        self._live.stand()
        return Vec(self._live.space, self._live.w.leaves)

    def examples(self, batch: Batch) -> int:
        """See `samfamily.Landscape.examples`."""
        return examples_in(arguments(batch), "a batch without examples: pass tensors whose first axis counts them")

    def cut(self, batch: Batch, shards: int) -> Sequence[Batch]:
        """See `samfamily.Landscape.cut`."""
        return cut(arguments(batch), shards)

    def among(self, mean: Any, examples: int) -> Any:
        """See `samfamily.Landscape.among`."""
        if self._ranks.size == 1:
            return mean
        total, number = self._ranks.mean((each(lambda x: examples * x, mean), float(examples)))
        return each(lambda x: x * (1 / number), total)

    def shards(self, m: int | None) -> Iterator[AnyLandscape]:
        """See `samfamily.Landscape.shards`."""
        if m is not None and self._ranks.size > 1:
            raise RuntimeError(
                f"m = {m} with data on {self._ranks.size} processes, which measure the mean of all their examples: "
                "measure with an m in one process, on the module that DistributedDataParallel wraps"
            )
        yield from super().shards(m)

    def loss_on(self, batch: Batch, point: Vec) -> Any:
        """See `samfamily.Landscape.loss_on`."""
        with self._at(point), torch.no_grad():
            return self._value(batch)[1].double()

    def gradient_on(self, batch: Batch, point: Vec) -> tuple[Any, Vec]:
        """See `samfamily.Landscape.gradient_on`."""
        with self._at(point):
            loss = self._value(batch)[1]
            return loss.detach().double(), self._vec(self._derivative(loss))

    def linear_on(self, batch: Batch, point: Vec, of: Product) -> Matrix:
        """See `samfamily.Landscape.linear_on`; at the weights it holds on to the graph of the batch's gradient."""
        if not self._is_home(point):  # a graph does not outlive the parameters' return
            return lambda v: self._apart(batch, point, of, v)
        with self._at(point):
            return self._linear(batch, of)

    def _apart(self, batch: Batch, point: Vec, of: Product, v: Vec) -> Vec:
        with self._at(point):
            return self._linear(batch, of)(v)

    def _linear(self, batch: Batch, of: Product) -> Matrix:
        z, loss = self._value(batch)
        if of is GaussNewtonVector:
            return self._gauss_newton(z, loss)
        gradient = _edges(self._derivative(loss, create_graph=True))
        return lambda v: self._vec(_derivative(gradient, self._live.parameters, v.collapse()))

    def _gauss_newton(self, z: Tensor | None, loss: Tensor) -> Matrix:
        r"""Return \(v \mapsto J^\top\nabla^2\ell(z)\,J v\); \(Jv\) is the derivative of \(u \mapsto J^\top u\)."""
        if z is None:
            raise TypeError(
                "a Gauss-Newton product needs the model's outputs: pass Landscape(Composed(outputs, loss), ...)"
            )
        u = torch.zeros_like(z, requires_grad=True)
        pulled = _edges(self._derivative(z, u, create_graph=True))
        slope = torch.autograd.grad(loss, z, create_graph=True, allow_unused=True)
        if slope[0] is None:
            raise ValueError("Composed.loss does not look at the outputs that it is given: compute the loss from them")
        bend, out = _edges(slope), _edges([z])

        def product(v: Vec) -> Vec:
            bent = _derivative(bend, [z], _derivative(pulled, [u], v.collapse()))
            return self._vec(_derivative(out, self._live.parameters, bent))

        return product

    def _derivative(self, x: Tensor, u: Tensor | None = None, *, create_graph: bool = False) -> tuple[Tensor, ...]:
        by = self._live.parameters
        found: Any = [None]
        if x.requires_grad:
            found = torch.autograd.grad(x, by, u, create_graph=create_graph, allow_unused=True)
        if all(g is None for g in found):
            raise ValueError(
                "the loss does not depend on the model's weights in a way that can be differentiated: return a tensor "
                "computed from this model's parameters, not detached, rounded or taken by argmax"
            )
        return tuple(torch.zeros_like(p) if g is None else g for g, p in zip(found, by, strict=True))

    def _vec(self, leaves: Sequence[Tensor]) -> Vec:
        return Vec(self._live.space, tuple(x.detach() for x in leaves))

    def _is_home(self, point: Vec) -> bool:
        return point.leaves is self._live.w.leaves and point.alpha == 1

    @contextmanager
    def _at(self, point: Vec) -> Iterator[None]:
        """Have the parameters stand at a point, with attention that can be differentiated twice."""
        with in_eval(self._model) if self._evaluating else nullcontext():
            refuse(self._model)
            with self._standing(point), torch.inference_mode(mode=False), torch.enable_grad():
                yield

    @contextmanager
    def _standing(self, point: Vec) -> Iterator[None]:
        training = any(module.training for module in self._model.modules())
        view = self._stage.look(()) if training else None  # a layer that counts what it sees moves its buffers
        try:
            if not self._is_home(point):
                self._live.go(point, again=True)
            with _alone(self._model), sdpa_kernel(SDPBackend.MATH):
                yield
        finally:
            self._live.come_home()
            if view is not None:
                self._stage.restore(view._replace(buffers=[x for x in view.buffers if x.moved]))

    def _value(self, batch: Batch) -> tuple[Tensor | None, Tensor]:
        """Return the model's outputs, where they are told, and the loss."""
        given = arguments(batch)
        outputs = None
        if isinstance(self._loss, Composed):
            outputs = self._loss.outputs(*given)
            if not isinstance(outputs, Tensor):
                raise TypeError(f"Composed.outputs returned {type(outputs).__name__}: it must return one tensor")
            loss = self._loss.loss(outputs, *given)
        else:
            loss = self._loss(*given)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            kind = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise TypeError(f"the loss returned {kind}: it must return the mean over the batch's examples, one number")
        return outputs, loss.reshape(())


def arguments(batch: Batch) -> tuple[Any, ...]:
    """Return what a loss is called with."""
    return tuple(batch) if isinstance(batch, list | tuple) else (batch,)


@contextmanager
def _alone(model: torch.nn.Module) -> Iterator[None]:
    """Have a wrapper send nothing: neither gradients nor, before a pass, buffers, which a graph may hold."""
    if not isinstance(model, DistributedDataParallel):
        yield
        return
    sends = model.require_forward_param_sync
    model.require_forward_param_sync = False
    try:
        with model.no_sync():
            yield
    finally:
        model.require_forward_param_sync = sends


def refuse(model: torch.nn.Module) -> None:
    """Raise ValueError where a layer makes the loss depend on more than weights and an example, or has no products."""
    for name, module in model.named_modules():
        if getattr(module, "sparse", False) is True:
            raise ValueError(
                f"{name or 'the model'} is a sparse {type(module).__name__}, whose gradients have no derivative: "
                "measure with module.sparse = False"
            )
        if module.training and (isinstance(module, _BatchNorm) or (isinstance(module, _DropoutNd) and module.p > 0)):
            raise ValueError(
                f"{name or 'the model'} is a {type(module).__name__} in training mode, with which the loss is another "
                "for every batch or at every look: call model.eval() before measuring, or pass evaluating=True"
            )


@contextmanager
def in_eval(model: torch.nn.Module) -> Iterator[None]:
    """Have a model in `eval()`, and put each of its modules back into its own mode."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _edges(x: Sequence[Tensor]) -> list[GradientEdge | None]:
    """Return where the graph made these tensors, all that their derivatives need of them; None if it did not."""
    return [get_gradient_edge(y) if y.requires_grad else None for y in x]


def _derivative(x: Sequence[GradientEdge | None], by: Sequence[Tensor], along: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return the vector-Jacobian product, and keep the graph; 0 where x does not depend on `by`."""
    pairs = [(y, u) for y, u in zip(x, along, strict=True) if y is not None]
    if not pairs:
        return tuple(map(torch.zeros_like, by))
    found: tuple[Tensor, ...] = torch.autograd.grad(
        [y for y, _ in pairs], by, [u for _, u in pairs], retain_graph=True, materialize_grads=True
    )
    return found
