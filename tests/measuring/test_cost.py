"""What measuring costs: vectors of the weights' size that are kept, and passes over the data."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from benchmarks.counting import peak_bytes
from samfamily import curvature
from samfamily.landscape import Matrix
from samfamily.space import Vec
from samfamily_jax import Landscape as JaxLandscape
from samfamily_torch import Landscape as TorchLandscape

WIDTH = 160
RNG = np.random.default_rng(0)
SHAPES = [(WIDTH, WIDTH)] * 6 + [(WIDTH, 5)]
WEIGHTS = [RNG.normal(size=shape).astype(np.float32) / WIDTH**0.5 for shape in SHAPES]
BYTES = sum(w.nbytes for w in WEIGHTS)
X, Y = RNG.normal(size=(4, WIDTH)).astype(np.float32), np.arange(4)
ACTIVATIONS = 0.25
"""Copies of the weights that everything takes that belongs to four examples."""


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList(map(torch.tensor, WEIGHTS))

    def forward(self, x: Any) -> Any:
        *first, last = self.weights
        for w in first:
            x = torch.tanh(x @ w)
        return x @ last


def in_jax(weights: Any, x: Any, y: Any) -> Any:
    *first, last = weights
    for w in first:
        x = jnp.tanh(x @ w)
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(x @ last), y[:, None], 1))


@pytest.mark.parametrize("memory", [4, 9])
@pytest.mark.parametrize("batches", [1, 2])
def test_eigenvalues_take_the_memory_that_they_are_given_and_a_few_vectors(memory: int, batches: int) -> None:
    """Restarts included: the vector that leads out, two in an orthogonalisation, and a sum where batches are added.

    Kills the mutant that holds the gradient itself, and not only where the graph made it.
    """
    model = Layers()
    data = list(zip(torch.tensor(X).chunk(batches), torch.tensor(Y).chunk(batches), strict=True))
    landscape = TorchLandscape(lambda x, y: cross_entropy(model(x), y), model, data)
    landscape.gradient()
    found, most, left = peak_bytes(
        lambda: curvature.eigenvalues(landscape, memory=memory, products=3 * memory, tolerance=0)
    )
    assert found.products == 3 * memory == landscape.spent.products
    assert most <= (memory + 2 + batches + ACTIVATIONS) * BYTES
    assert left <= 1.01 * BYTES  # the eigenvector


@pytest.mark.parametrize(
    ("measure", "vectors"),
    [
        (lambda x: curvature.density(x, order=6, draws=2), 6),
        (lambda x: curvature.moments(x, products=12), 4 + 2),  # random signs are made of wider integers
    ],
    ids=["density", "moments"],
)
def test_density_and_moments_take_what_they_say(measure: Callable[[Any], Any], vectors: int) -> None:
    model = Layers()
    landscape = TorchLandscape(lambda x, y: cross_entropy(model(x), y), model, (torch.tensor(X), torch.tensor(Y)))
    landscape.gradient()
    _, most, left = peak_bytes(lambda: measure(landscape))
    assert most <= (vectors + 4 + ACTIVATIONS) * BYTES
    assert left <= 0.01 * BYTES


class Watched(JaxLandscape):
    """Sees how much memory there is at every product."""

    most = 0

    def linear_on(self, batch: Any, point: Vec, of: Any) -> Matrix:
        A = super().linear_on(batch, point, of)

        def watched(v: Vec) -> Vec:
            found = A(v)
            Watched.most = max(Watched.most, alive())
            return found

        return watched


def alive() -> int:
    return sum(x.nbytes for x in jax.live_arrays())


@pytest.mark.parametrize("memory", [4, 9])
def test_arrays_that_are_alive_in_jax(memory: int) -> None:
    gc.collect()
    before = alive()
    landscape = Watched(in_jax, [jnp.asarray(w) for w in WEIGHTS], (jnp.asarray(X), jnp.asarray(Y)))
    Watched.most = 0
    curvature.eigenvalues(landscape, memory=memory, products=2 * memory, tolerance=0)
    assert memory * BYTES <= Watched.most - before <= (memory + 4 + ACTIVATIONS) * BYTES
    del landscape
    gc.collect()
    assert alive() - before <= 0.01 * BYTES


def test_each_product_is_one_pass_over_the_data() -> None:
    model = Layers()
    seen = [0]

    def loss(x: Any, y: Any) -> Any:
        seen[0] += 1
        return cross_entropy(model(x), y)

    halves = list(zip(torch.tensor(X).chunk(2), torch.tensor(Y).chunk(2), strict=True))
    looks = 2
    for data, passes in ((halves, 2), ((torch.tensor(X), torch.tensor(Y)), 1)):
        seen[0] = 0
        landscape = TorchLandscape(loss, model, data)
        found = curvature.eigenvalues(landscape, products=7, memory=5, tolerance=0)
        held = 1 if passes == 1 else passes * found.products
        assert seen[0] == looks * passes + held
        assert landscape.spent.losses == looks
