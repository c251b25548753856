"""Landscapes of the three backends: means over batches and shards, counts, and a model that is left as it was."""

from __future__ import annotations

import copy
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.sharding import NamedSharding, PartitionSpec
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss, scaled_dot_product_attention
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.counting import Count
from benchmarks.counting_jax import Traced, all_reduces
from samfamily import Composed, Landscape, curvature
from samfamily.program import GaussNewtonVector
from samfamily.reference import Landscape as NumpyLandscape
from samfamily.space import Vec
from samfamily_jax import Landscape as JaxLandscape
from samfamily_torch import Landscape as TorchLandscape
from tests.measuring.networks import jax_parts, mlp, torch_parts

RNG = np.random.default_rng(3)
X, Y, W = RNG.normal(size=(24, 3)), RNG.normal(size=24), [RNG.normal(size=(3, 4)), RNG.normal(size=4)]
V = [RNG.normal(size=(3, 4)), RNG.normal(size=4)]
ARRAYS: dict[Any, Any] = {"numpy": np.asarray, "torch": torch.tensor, "jax": jnp.asarray}
ARRAYS |= {NumpyLandscape: np.asarray, TorchLandscape: torch.tensor, JaxLandscape: jnp.asarray}
EACH = pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])


@pytest.fixture(autouse=True, scope="module")
def _float64() -> Any:
    with jax.enable_x64(True):
        yield


def in_numpy(w: Any, x: Any, y: Any) -> Any:
    a, b = w
    h = np.tanh(x @ a)
    r = (h @ b - y) / len(y)
    return (len(y) * (r @ r)).real, [2 * x.T @ (np.outer(r, b) * (1 - h * h)), 2 * h.T @ r]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = (nn.Parameter(torch.tensor(x)) for x in W)

    def forward(self, x: Any) -> Any:
        return torch.tanh(x @ self.a) @ self.b


def landscape(backend: str, *cuts: int) -> Landscape:
    """Return the same loss of the same weights in each backend, its 24 examples in batches that end at the cuts."""
    array = ARRAYS[backend]
    pieces = zip(np.split(X, cuts), np.split(Y, cuts), strict=True)
    batches = [(array(x), array(y)) for x, y in pieces]
    data: Any = batches if cuts else batches[0]
    if backend == "numpy":
        return NumpyLandscape(in_numpy, W, data)
    if backend == "jax":
        return JaxLandscape(lambda w, x, y: jnp.mean((jnp.tanh(x @ w[0]) @ w[1] - y) ** 2), W, data)
    net = Net()
    return TorchLandscape(lambda x, y: ((net(x) - y) ** 2).mean(), net, data)


def along(scape: Landscape) -> Any:
    """Return a direction, in the landscape's space."""
    parts = iter(V)
    return scape.w.map(lambda _, x: ARRAYS[type(scape)](next(parts)))


def numbers(v: Any) -> Any:
    return np.concatenate([np.ravel(np.asarray(x)) for x in v.collapse()])


def measured(scape: Landscape) -> Any:
    """Return loss, gradient and product at the weights, and the same elsewhere, as one array."""
    found = []
    for point in (None, scape.w + 0.3 * along(scape)):
        loss, gradient = scape.gradient(point)
        product = scape.product(along(scape), point=point)
        assert scape.loss(point) == pytest.approx(loss, rel=1e-14)
        found += [[loss], numbers(gradient), numbers(product)]
    return np.concatenate(found)


# -------------------------------------------------------------------------------------------------- batches and shards


@EACH
def test_uneven_batches_are_one_whole_batch_and_all_backends_agree(backend: str) -> None:
    whole = measured(landscape("numpy"))
    for cuts in ((), (5,), (1, 2, 20), (0, 12)):
        np.testing.assert_allclose(measured(landscape(backend, *cuts)), whole, rtol=1e-12, atol=1e-13)


@EACH
def test_held_products_are_the_same(backend: str) -> None:
    for cuts in ((), (5,)):
        scape = landscape(backend, *cuts)
        with scape.matrix() as A:
            held = numbers(A(along(scape)))
        np.testing.assert_allclose(held, numbers(scape.product(along(scape))), rtol=1e-12)


@EACH
def test_shards_average_to_the_whole_and_count_their_share(backend: str) -> None:
    scape = landscape(backend, 12)
    assert [scape] == list(scape.shards(None))
    for m in (1, 4, 12):
        scape = landscape(backend, 12)
        shards = list(scape.shards(m))
        assert len(shards) == 24 // m
        losses, gradients = zip(*(shard.gradient() for shard in shards), strict=True)
        products = [numbers(shard.product(along(scape))) for shard in shards]
        assert scape.spent.gradients == pytest.approx(1)
        assert scape.spent.products == pytest.approx(1)
        assert scape.spent.losses == 0
        loss, gradient = landscape("numpy").gradient()
        assert np.mean(losses) == pytest.approx(loss, rel=1e-13)
        np.testing.assert_allclose(np.mean([numbers(g) for g in gradients], 0), numbers(gradient), rtol=1e-12)
        np.testing.assert_allclose(np.mean(products, 0), numbers(scape.product(along(scape))), rtol=1e-12)


@EACH
def test_an_m_that_does_not_divide_a_batch(backend: str) -> None:
    scape = landscape(backend, 8)
    with pytest.raises(
        ValueError, match=r"m = 5 does not divide the batch of 8 examples: use one of m = \[1, 2, 4, 8\]"
    ):
        list(scape.shards(5))
    with pytest.raises(ValueError, match=r"m = 0 does not divide"):
        list(scape.shards(0))


@EACH
def test_what_was_spent_is_counted(backend: str) -> None:
    scape = landscape(backend, 8)
    scape.loss()
    for _ in range(2):
        scape.gradient()
    for _ in range(3):
        scape.product(along(scape))
    assert (scape.spent.losses, scape.spent.gradients, scape.spent.products) == (1, 2, 3)
    found = curvature.eigenvalues(scape)
    assert scape.spent.products == 3 + found.products
    found_moments = curvature.moments(scape, 9)
    assert scape.spent.products == 3 + found.products + found_moments.products


def test_a_batch_may_be_a_dict_and_data_a_loader() -> None:
    net, x, y = Net(), torch.tensor(X), torch.tensor(Y)
    whole = measured(landscape("torch"))
    loader = DataLoader(TensorDataset(x, y), batch_size=7, shuffle=True)
    dicts = [{"x": x[:5], "y": y[:5]}, {"x": x[5:], "y": y[5:]}]
    for data, loss in (
        (loader, lambda x, y: mse_loss(net(x), y)),
        (dicts, lambda b: mse_loss(net(b["x"]), b["y"])),
        ((dicts, 3), lambda b, _: mse_loss(net(torch.cat([z["x"] for z in b])), torch.cat([z["y"] for z in b]))),
    ):
        if isinstance(data, tuple):  # one batch with nested parts of different lengths cannot be counted
            with pytest.raises(ValueError, match=r"different lengths \[5, 19\]"):
                TorchLandscape(loss, net, data).loss()
            continue
        np.testing.assert_allclose(measured(TorchLandscape(loss, net, data)), whole, rtol=1e-12, atol=1e-13)
    in_jax = [{k: jnp.asarray(v.numpy()) for k, v in part.items()} for part in dicts]
    scape = JaxLandscape(lambda w, b: jnp.mean((jnp.tanh(b["x"] @ w[0]) @ w[1] - b["y"]) ** 2), W, in_jax)
    np.testing.assert_allclose(measured(scape), whole, rtol=1e-12, atol=1e-13)


# ----------------------------------------------------------------------------------------------------- Gauss and Newton


def test_gauss_newton_is_the_dense_product_on_both() -> None:
    c = mlp()
    leaves, x, y = [jnp.asarray(w) for w in c.leaves], jnp.asarray(c.x), jnp.asarray(c.y)
    parts = jax_parts(c)
    in_jax = JaxLandscape(parts, leaves, (x, y))
    in_torch = TorchLandscape(torch_parts(c), c.module, (torch.from_numpy(c.x), torch.from_numpy(c.y)))
    z = parts.outputs(leaves, x, y)
    H = jax.jit(jax.hessian(lambda z: parts.loss(z, x, y)))(z).reshape(z.size, z.size)
    J = np.concatenate(
        [np.reshape(j, (z.size, -1)) for j in jax.jit(jax.jacrev(lambda w: parts.outputs(w, x, y)))(leaves)], 1
    )
    rng = np.random.default_rng(0)
    for _ in range(3):
        v = [rng.normal(size=w.shape) for w in c.leaves]
        u = np.concatenate([np.ravel(p) for p in v])
        found = []
        for scape, array in ((in_jax, jnp.asarray), (in_torch, torch.tensor)):
            direction = Vec(scape.w.space, tuple(map(array, v)))
            found.append(numbers(scape.product(direction, GaussNewtonVector)))
            assert u @ found[-1] >= 0
            assert np.linalg.norm(found[-1] - numbers(scape.product(direction))) > 1e-3 * np.linalg.norm(found[-1])
        np.testing.assert_allclose(found[0], J.T @ (H @ (J @ u)), rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(found[1], found[0], rtol=1e-8, atol=1e-12)
    assert curvature.eigenvalues(in_torch, 0, 1, of=GaussNewtonVector, products=60).values[0] > -1e-12


def test_gauss_newton_is_the_hessian_of_a_linear_model() -> None:
    net = nn.Linear(3, 2).double()
    y = torch.arange(24) % 2
    scape = TorchLandscape(
        Composed(lambda x, y: net(x), lambda z, x, y: cross_entropy(z, y)), net, (torch.tensor(X), y)
    )
    v = scape.w.map(lambda _, x: torch.ones_like(x) + x)
    np.testing.assert_allclose(numbers(scape.product(v, GaussNewtonVector)), numbers(scape.product(v)), rtol=1e-12)


@EACH
def test_gauss_newton_needs_to_know_the_outputs(backend: str) -> None:
    with pytest.raises(TypeError, match=r"Gauss-Newton"):
        landscape(backend).product(along(landscape(backend)), GaussNewtonVector)


# ----------------------------------------------------------------------------------------------- the model that is left


class Everything(nn.Module):
    """Batch normalisation in eval mode, a counter, tied and frozen weights, attention, and an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(5, 4), nn.Linear(4, 5, bias=False)
        self.head.weight = self.embedding.weight
        self.attention, self.norm = nn.MultiheadAttention(4, 2, batch_first=True), nn.BatchNorm1d(4)
        self.frozen = nn.Parameter(torch.ones(4), requires_grad=False)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, i: Any) -> Any:
        x = self.embedding(i) * self.frozen
        x = x + self.attention(x, x, x, need_weights=False)[0]
        x = x + scaled_dot_product_attention(x, x, x)
        return self.head(self.norm(x.mean(1)))


def everything() -> tuple[Everything, Any]:
    torch.manual_seed(0)
    model = Everything().double().eval()
    i = torch.arange(18).reshape(6, 3) % 5
    return model, (i, torch.arange(6) % 5)


def kept(model: nn.Module) -> Any:
    """Return all that a model holds, with where it lies."""
    tensors = [*model.parameters(), *model.buffers()]
    return (
        [x.detach().clone() for x in tensors],
        [x.data_ptr() for x in tensors],
        [None if p.grad is None else (p.grad.clone(), p.grad.data_ptr()) for p in model.parameters()],
        [module.training for module in model.modules()],
    )


def same(a: Any, b: Any) -> bool:
    gradients = [
        g is h if g is None or h is None else torch.equal(g[0], h[0]) and g[1] == h[1]
        for g, h in zip(a[2], b[2], strict=True)
    ]
    return all(map(torch.equal, a[0], b[0])) and a[1] == b[1] and all(gradients) and a[3] == b[3]


def test_the_model_is_left_as_it_was() -> None:
    model, (i, y) = everything()
    cross_entropy(model(i), y).backward()
    before, fail = kept(model), [False]

    def loss(i: Any, y: Any) -> Any:
        if fail[0]:
            raise ConnectionError("the data went away")
        return cross_entropy(model(i), y)

    scape = TorchLandscape(loss, model, [(i[:4], y[:4]), (i[4:], y[4:])])
    point = scape.w + 0.1 * scape.gradient()[1]
    scape.loss(point)
    scape.gradient(point)
    scape.product(scape.w, point=point)
    assert curvature.eigenvalues(scape, 2, 1).converged
    assert same(kept(model), before)
    fail[0] = True
    for ask in (scape.loss, scape.gradient, lambda p: scape.product(scape.w, point=p)):
        for p in (None, point):
            with pytest.raises(ConnectionError):
                ask(p)
            assert same(kept(model), before)


def test_layers_that_count_in_training_mode_count_nothing() -> None:
    """Instance normalisation moves its statistics, and spectral normalisation its vectors, at every look."""
    linear = nn.utils.parametrizations.spectral_norm(nn.Linear(8, 2))
    model = nn.Sequential(nn.InstanceNorm1d(2, track_running_stats=True), nn.Flatten(), linear).double()
    x = torch.tensor(X.reshape(9, 2, 4))
    before = kept(model)
    scape = TorchLandscape(lambda x: model(x).pow(2).mean(), model, (x,))
    curvature.eigenvalues(scape)
    assert scape.loss() == scape.loss()
    assert same(kept(model), before)


def test_tied_weights_are_one_leaf_and_frozen_ones_none() -> None:
    model, batch = everything()
    scape = TorchLandscape(lambda i, y: cross_entropy(model(i), y), model, batch)
    names = [leaf.name for leaf in scape.w.space.leaves]
    assert "embedding.weight" in names
    assert not {"head.weight", "frozen"} & set(names)
    assert len(scape.w.leaves) == len(names) == 7
    dense = _dense(scape)
    np.testing.assert_allclose(dense, dense.T, atol=1e-12)
    h, v = 1e-5, scape.w.map(lambda _, x: x * 0 + 1.0)
    slope = (numbers(scape.gradient(scape.w + h * v)[1]) - numbers(scape.gradient(scape.w + (-h) * v)[1])) / (2 * h)
    np.testing.assert_allclose(dense @ np.ones(len(dense)), slope, atol=1e-8)


def _dense(scape: Landscape) -> Any:
    """Return the Hessian, column by column."""
    sizes, columns = [x.numel() for x in scape.w.leaves], []
    for row in torch.eye(scape.w.size, dtype=torch.float64):
        parts = zip(row.split(sizes), scape.w.leaves, strict=True)
        columns.append(numbers(scape.product(Vec(scape.w.space, tuple(e.reshape(x.shape) for e, x in parts)))))
    return np.stack(columns, 1)


def test_complex_weights_measure_as_their_two_parts() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3, 2))

    def in_parts(w: Any, x: Any) -> Any:
        return jnp.mean(jnp.abs(jnp.tanh(x @ (w[0] + 1j * w[1]))) ** 2)

    whole = JaxLandscape(lambda w, x: in_parts((w.real, w.imag), x), jnp.asarray(a + 1j * b), (jnp.asarray(X),))
    apart = JaxLandscape(in_parts, (jnp.asarray(a), jnp.asarray(b)), (jnp.asarray(X),))
    w = nn.Parameter(torch.tensor(a + 1j * b))
    model = nn.ParameterList([w])
    in_torch = TorchLandscape(lambda x: torch.tanh(x.to(w.dtype) @ w).abs().pow(2).mean(), model, (torch.tensor(X),))
    u, v = rng.normal(size=(2, 3, 2))
    expected = numbers(apart.product(Vec(apart.w.space, (jnp.asarray(u), jnp.asarray(v))))).reshape(2, 6)
    for scape, array in ((whole, jnp.asarray), (in_torch, torch.tensor)):
        found = numbers(scape.product(Vec(scape.w.space, (array(u + 1j * v),))))
        np.testing.assert_allclose((found.real, found.imag), expected, rtol=1e-10)
        for measure in (curvature.eigenvalues, curvature.density, curvature.moments):
            with pytest.raises(TypeError, match=r"are complex, and random directions among them are not"):
                measure(scape)


def test_weights_that_change_are_seen() -> None:
    net = Net()
    scape = TorchLandscape(lambda x, y: mse_loss(net(x), y), net, (torch.tensor(X), torch.tensor(Y)))
    first = scape.loss()
    with torch.no_grad():
        net.a.mul_(2)
    assert scape.loss() != first
    net.load_state_dict({"a": torch.tensor(W[0]), "b": torch.tensor(W[1])})
    assert scape.loss() == first
    net.float()
    assert scape.w.leaves[0].dtype is torch.float32


# ------------------------------------------------------------------------------------------------------------------ JAX


def test_other_weights_and_other_batches_of_a_shape_compile_nothing() -> None:
    traced = Traced(lambda w, x, y: jnp.mean((jnp.tanh(x @ w[0]) @ w[1] - y) ** 2))
    x, y = jnp.asarray(X), jnp.asarray(Y)
    scape = JaxLandscape(traced, W, [(x[:12], y[:12]), (x[12:], y[12:])])
    measured(scape)
    curvature.eigenvalues(scape)
    times = traced.times
    other = scape.at([2 * w for w in W])
    assert other.spent.gradients == 0
    values = measured(other)
    curvature.eigenvalues(other, seed=3)
    curvature.eigenvalues(other.over([(x[:12], y[:12])]))
    assert traced.times == times
    np.testing.assert_array_equal(measured(scape.at([2 * w for w in W])), values)
    assert np.max(abs(values - measured(scape))) > 1e-3


def test_leaves_that_are_no_floats_are_seen_at_other_parameters() -> None:
    scape = JaxLandscape(
        lambda p, x: jnp.mean((x @ p["w"]) ** 2) * p["n"], {"n": 2, "w": jnp.ones(3)}, (jnp.asarray(X),)
    )
    many = JaxLandscape(
        lambda p, x: jnp.mean((x @ p["w"]) ** 2) * p["n"], {"n": jnp.array(2), "w": jnp.ones(3)}, (jnp.asarray(X),)
    )
    assert many.loss() == pytest.approx(scape.loss())
    assert many.at({"n": jnp.array(6), "w": jnp.ones(3)}).loss() == pytest.approx(3 * scape.loss())


def test_a_batch_that_is_spread_over_devices() -> None:
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    batch = jax.device_put((jnp.asarray(X), jnp.asarray(Y)), NamedSharding(mesh, PartitionSpec("data")))
    weights = jax.device_put([jnp.asarray(w) for w in W], NamedSharding(mesh, PartitionSpec()))
    scape = JaxLandscape(lambda w, x, y: jnp.mean((jnp.tanh(x @ w[0]) @ w[1] - y) ** 2), weights, batch)
    np.testing.assert_allclose(measured(scape), measured(landscape("numpy")), rtol=1e-11, atol=1e-13)
    one, many = (curvature.eigenvalues(x, 2, 1, tolerance=1e-7) for x in (landscape("jax"), scape))
    np.testing.assert_allclose(many.values, one.values, rtol=1e-10)
    gradient = scape._gradient.lower(scape.w.leaves, scape._rest, *batch).compile()
    assert all_reduces(gradient) >= 1


# ------------------------------------------------------------------------------------------------------------- products


def test_a_held_batch_is_not_run_forward_again() -> None:
    """What many products cost on one batch: the graph of its gradient is made once."""
    scape = landscape("torch")
    with scape.matrix() as A, Count() as count:
        A(along(scape))
    assert count.names["tanh"] == 0
    with Count() as count:
        scape.product(along(scape))
    assert count.names["tanh"] == 1


def test_a_copy_of_the_model_measures_the_same() -> None:
    c = mlp()
    other = copy.deepcopy(c.module)
    x, y = torch.from_numpy(c.x), torch.from_numpy(c.y)
    a, b = (TorchLandscape(lambda x, y, m=m: cross_entropy(m(x), y), m, (x, y)).loss() for m in (c.module, other))
    assert a == b
