"""What cannot be measured: one error each, that says what was wrong and what to do, and leaves the model alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from samfamily import Composed, Landscape, curvature
from samfamily.program import GaussNewtonVector
from samfamily.reference import Landscape as NumpyLandscape
from samfamily_jax import Landscape as JaxLandscape
from samfamily_torch import Landscape as TorchLandscape

NAN = float("nan")
X = torch.from_numpy(np.random.default_rng(0).normal(size=(64, 6))).float()
Y = torch.arange(64) % 3


def network(*middle: nn.Module, dtype: Any = torch.float32) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), *middle, nn.ReLU(), nn.Linear(16, 3)).to(dtype)


def scape(model: nn.Module, loss: Callable[..., Any] | None = None, data: Any = None) -> TorchLandscape:
    return TorchLandscape(loss or (lambda x, y: F.cross_entropy(model(x), y)), model, (X, Y) if data is None else data)


def refused(measure: Callable[[], Any], model: nn.Module, error: type[Exception], message: str) -> None:
    """Measuring raises, and the model's state and modes are as before."""
    state, modes = model.state_dict(keep_vars=True), [module.training for module in model.modules()]
    before = {name: x.detach().clone() for name, x in state.items()}
    with pytest.raises(error, match=message):
        measure()
    for name, x in before.items():
        assert torch.equal(x.nan_to_num(), state[name].nan_to_num())
    assert modes == [module.training for module in model.modules()]
    assert all(p.grad is None for p in model.parameters())


NO_DERIVATIVE = r"does not depend on the model's weights in a way that can be differentiated: return a tensor computed"


@pytest.mark.parametrize(
    "loss",
    [
        lambda model: lambda x, y: (model(x).argmax(1) == y).float().mean(),
        lambda model: lambda x, y: F.cross_entropy(model(x).detach(), y),
        lambda model: lambda x, y: F.cross_entropy(network()(x), y),  # another model, though a differentiable one
    ],
    ids=["argmax", "detached", "another model"],
)
def test_a_loss_without_a_derivative(loss: Any) -> None:
    model = network()
    for measure in (curvature.eigenvalues, curvature.density, curvature.moments, Landscape.gradient):
        refused(partial(measure, scape(model, loss(model))), model, ValueError, NO_DERIVATIVE)


def test_parameters_that_the_model_no_longer_has() -> None:
    model = network()
    old = scape(model)
    model.load_state_dict({k: v.clone() for k, v in model.state_dict().items()}, assign=True)
    refused(lambda: curvature.eigenvalues(old), model, ValueError, NO_DERIVATIVE)


TRAINING = r"in training mode, with which the loss is another.*call model.eval\(\) before measuring"


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(16), nn.Dropout(0.1), nn.AlphaDropout(0.1)], ids=str)
def test_layers_in_training_mode(layer: nn.Module) -> None:
    model = network(layer)
    refused(lambda: curvature.eigenvalues(scape(model)), model, ValueError, "1 is a .*" + TRAINING)
    model.eval()
    assert curvature.eigenvalues(scape(model)).converged


ANOTHER = r"the loss is \S+ at one look and \S+ at the next: dropout or random augmentation"


@pytest.mark.parametrize(
    "model",
    [
        nn.LSTM(6, 3, 2, dropout=0.2),
        nn.MultiheadAttention(6, 2, dropout=0.2),
        nn.Sequential(nn.Linear(6, 3), nn.RReLU()),
    ],
    ids=lambda model: type(model).__name__,
)
def test_randomness_that_no_module_admits(model: nn.Module) -> None:
    def loss(x: Any, y: Any) -> Any:
        x = x.reshape(4, 16, 6)
        out = model(x, x, x) if isinstance(model, nn.MultiheadAttention) else model(x)
        return (out[0] if isinstance(out, tuple) else out).pow(2).mean()

    refused(lambda: curvature.eigenvalues(scape(model, loss)), model, ArithmeticError, ANOTHER)
    model.eval()
    assert curvature.eigenvalues(scape(model, loss)).converged


@pytest.mark.parametrize("batches", [1, 4])
@pytest.mark.parametrize("p", [0.05, 0.3])
def test_functional_dropout_and_augmentation(p: float, batches: int) -> None:
    """Also where one batch's graph is held, whose products never contradict each other."""
    model = network()
    data = list(zip(X.chunk(batches), Y.chunk(batches), strict=True))
    dropped = scape(model, lambda x, y: F.cross_entropy(model[2](F.dropout(model[:2](x), p)), y), data)
    moved = scape(model, lambda x, y: F.cross_entropy(model(x + p * torch.randn_like(x)), y), data)
    for landscape in (dropped, moved):
        for measure in (curvature.eigenvalues, curvature.density, curvature.moments):
            refused(partial(measure, landscape), model, ArithmeticError, ANOTHER)


def test_products_that_contradict_each_other() -> None:
    """Where the loss is the same at every look and the curvature is not."""
    rng = np.random.default_rng(0)

    def f(w: Any) -> Any:
        noise = rng.normal(size=5) * 0.01
        return 0.0, [w[0] * np.arange(5) + noise * w[0].sum()]

    with pytest.raises(ArithmeticError, match=r"contradict each other by \S+, where the matrix is of size .*autocast"):
        curvature.eigenvalues(NumpyLandscape(f, [np.ones(5)]), top=3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_rounding_is_no_contradiction(dtype: torch.dtype) -> None:
    model = network(nn.ReLU(), nn.Linear(16, 16), dtype=dtype)
    data = [(x.to(dtype), y) for x, y in zip(X.chunk(3), Y.chunk(3), strict=True)]
    exact = network(nn.ReLU(), nn.Linear(16, 16), dtype=torch.float64)
    exact.load_state_dict({k: v.double() for k, v in model.state_dict().items()})
    found = curvature.eigenvalues(scape(model, data=data), 3, 1)
    true = curvature.eigenvalues(scape(exact, data=[(x.double(), y) for x, y in data]), 3, 1, tolerance=1e-8)
    assert found.converged
    assert np.all(abs(found.values - true.values) <= 3 * (found.errors + true.errors))  # products round more than once


def test_a_type_narrower_than_the_weights() -> None:
    """Products under autocast are wrong by more than errors of float32 say, and are refused where that is seen."""
    model = network()

    def loss(x: Any, y: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return F.cross_entropy(model(x), y)

    refused(lambda: curvature.eigenvalues(scape(model, loss), 3), model, ArithmeticError, r"autocast: switch that off")


@pytest.mark.parametrize("empty", [[], (X[:0], Y[:0]), [(X[:0], Y[:0])]], ids=["no batch", "one", "list"])
def test_no_data(empty: Any) -> None:
    model = network()
    for landscape in (
        scape(model, data=empty),
        JaxLandscape(lambda w, x, y: w.sum() * x.mean(), jnp.ones(3), _in_jax(empty)),
        NumpyLandscape(lambda w, x, y: (0.0, w), [np.ones(3)], _in_numpy(empty)) if isinstance(empty, list) else None,
    ):
        if landscape is not None:
            for ask in (landscape.loss, landscape.gradient, partial(curvature.eigenvalues, landscape)):
                with pytest.raises(ValueError, match=r"the data holds no example: there is no loss to measure"):
                    ask()


def _in_jax(data: Any) -> Any:
    return type(data)(_in_jax(x) if isinstance(x, tuple) else jnp.asarray(x.numpy()) for x in data)


def _in_numpy(data: Any) -> Any:
    return [tuple(x.numpy() for x in batch) for batch in data]


def test_data_that_is_no_batches() -> None:
    model, w = network(), jnp.ones(3)
    for data in (X, {"x": X}, 3, None):
        with pytest.raises(TypeError, match=r"data is a \w+: pass one batch as a tuple of the loss's arguments"):
            scape(model, data=data) if data is not None else TorchLandscape(lambda x: x, model, None)
        with pytest.raises(TypeError, match=r"data is a \w+: pass one batch as a tuple of the loss's arguments"):
            JaxLandscape(lambda w, x: w.sum(), w, jnp.ones(3) if data is X else data)
    for build in (lambda d: scape(model, data=d), lambda d: JaxLandscape(lambda w, x: w.sum(), w, d)):
        with pytest.raises(TypeError, match=r"data is a list_iterator, which ends after one pass"):
            build(iter([(X, Y)]))


def test_weights_that_are_not_finite_are_named() -> None:
    model = network()
    landscape = scape(model)
    with torch.no_grad():
        model.get_parameter("2.bias")[1] = NAN
    in_jax = JaxLandscape(
        lambda w, x: (x @ w["b"]).mean(), {"a": jnp.ones(2), "b": jnp.array([1.0, NAN])}, (jnp.ones((3, 2)),)
    )
    for measure in (curvature.eigenvalues, curvature.density, curvature.moments):
        refused(partial(measure, landscape), model, ValueError, r"the weights 2.bias hold NaN or inf")
        with pytest.raises(ValueError, match=r"the weights b hold NaN or inf.*measure the weights of an earlier step"):
            measure(in_jax)
    assert landscape.spent.losses == 0


@pytest.mark.parametrize("value", [NAN, float("inf")])
def test_data_that_are_not_finite(value: float) -> None:
    model, bad = network(), X.clone()
    bad[3, 2] = value
    for measure in (curvature.eigenvalues, curvature.density, curvature.moments):
        message = r"a product with the curvature has the norm nan: the loss, its data or one of its derivatives"
        refused(partial(measure, scape(model, data=(bad, Y))), model, FloatingPointError, message)


@pytest.mark.parametrize(
    ("returned", "kind"),
    [
        (lambda z: z[:, 0], r"(a tensor|an array) of shape \(64,\)"),
        (lambda z: (z.mean(), z), "tuple"),
        (lambda z: None, "NoneType"),
    ],
    ids=["vector", "tuple", "nothing"],
)
def test_a_loss_that_is_no_number(returned: Callable[[Any], Any], kind: str) -> None:
    model = network()
    message = rf"the loss returned {kind}: it must return the mean over the batch's examples, one number"
    in_torch: Landscape = scape(model, lambda x, y: returned(model(x)))
    in_jax = JaxLandscape(lambda w, x: returned(x @ w), jnp.ones((6, 3)), (jnp.asarray(X.numpy()),))
    for landscape in (in_torch, in_jax):
        for ask in (landscape.loss, landscape.gradient, partial(curvature.eigenvalues, landscape)):
            refused(ask, model, TypeError, message)


@pytest.mark.parametrize("cast", [lambda z: z.sum().astype(int), lambda z: z.sum() + 0j], ids=["integer", "complex"])
def test_a_loss_that_is_no_real_number_in_jax(cast: Any) -> None:
    landscape = JaxLandscape(lambda w, x: cast(x @ w), jnp.ones((6, 3)), (jnp.asarray(X.numpy()),))
    for ask in (landscape.loss, landscape.gradient):
        with pytest.raises(TypeError, match=r"returned a number of type (int|complex)\d+: it must be real, and"):
            ask()


def test_parameters_that_are_none() -> None:
    with pytest.raises(ValueError, match=r"no parameter of the model requires a gradient"):
        scape(network().requires_grad_(requires_grad=False))
    with pytest.raises(ValueError, match=r"no float leaf to differentiate, found \['int32'\]: pass float arrays"):
        JaxLandscape(lambda w, x: x.sum(), {"n": jnp.arange(3)}, (jnp.ones(3),))
    with pytest.raises(ValueError, match=r"weights must be float arrays, got \['int64'\]"):
        NumpyLandscape(lambda w: (0.0, w), [np.arange(3)])


def test_a_model_of_another_framework() -> None:
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module, got dict"):
        TorchLandscape(lambda x: x, {"w": jnp.ones(3)}, (X,))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"no float leaf to differentiate, found \['torch.float32'\]"):
        JaxLandscape(lambda w, x: x.sum(), {"w": X}, (jnp.ones(3),))


def test_sparse_gradients() -> None:
    model = nn.Sequential(nn.Embedding(10, 4, sparse=True), nn.Flatten(), nn.Linear(4, 3))
    landscape = scape(model, data=(Y[:, None], Y))
    refused(lambda: curvature.eigenvalues(landscape), model, ValueError, r"0 is a sparse Embedding.*sparse = False")
    vars(model[0])["sparse"] = False
    assert curvature.eigenvalues(landscape).converged


def test_gauss_newton_outputs_that_do_not_serve() -> None:
    model = network()
    given = {
        r"Composed.outputs returned dict: it must return one tensor": Composed(
            lambda x, y: {"z": model(x)}, lambda z, x, y: F.cross_entropy(z["z"], y)
        ),
        r"Composed.loss does not look at the outputs": Composed(
            lambda x, y: model(x), lambda z, x, y: F.cross_entropy(model(x), y)
        ),
        NO_DERIVATIVE: Composed(lambda x, y: model(x).detach(), lambda z, x, y: F.cross_entropy(z, y)),
    }
    for message, parts in given.items():
        landscape = TorchLandscape(parts, model, (X, Y))
        error = TypeError if "one tensor" in message else ValueError
        refused(partial(curvature.eigenvalues, landscape, of=GaussNewtonVector), model, error, message)


def test_lightning_measures_in_inference_mode() -> None:
    """As trainers do around validation."""
    model = network()
    outside = curvature.eigenvalues(scape(model))
    with torch.inference_mode():
        assert str(curvature.eigenvalues(scape(model))) == str(outside)
    with torch.no_grad():
        assert str(curvature.eigenvalues(scape(model))) == str(outside)


def test_other_parameters_of_another_structure() -> None:
    landscape = JaxLandscape(lambda w, x: (x @ w["a"]).mean(), {"a": jnp.ones(6)}, (jnp.asarray(X.numpy()),))
    with pytest.raises(ValueError, match=r"the parameters have the structure .* where the first had"):
        landscape.at({"a": jnp.ones(6), "b": jnp.ones(2)})
