"""Measurements of finished trainings: an instrument, put to the weights that a training had after some epoch."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

import samfamily
from benchmarks.paper.store import Found, Store
from benchmarks.paper.task import landscape
from benchmarks.paper.training import Row, Training, final_weights, one_hot
from samfamily import Landscape, bound, curvature, sharpness
from samfamily.program import drive


class Look(Protocol):
    """Makes the landscape that is measured: on this many training examples, or test examples; of this loss."""

    def __call__(self, examples: int | None = None, loss: str = "cross-entropy", *, test: bool = False) -> Landscape:
        """The landscape."""
        ...


class Instrument(Protocol):
    """What is measured, and how; `cost` is about how many gradients over all training data it takes."""

    @property
    def cost(self) -> float:
        """Gradients over all training data, about."""
        ...

    def __call__(self, look: Look) -> dict[str, Any]:
        """The figures, each a number or a list of numbers."""
        ...


@dataclass(frozen=True)
class Measurement:
    """This instrument on the weights of a training after an epoch; None is the last."""

    training: Training
    instrument: Instrument
    epoch: int | None = None

    @property
    def needs(self) -> tuple[Training, ...]:
        """What must be finished before."""
        return (self.training,)

    @property
    def kind(self) -> Hashable:
        """What measurements have in common that compile to the same."""
        return self.instrument, self.training.backend, self.training.network, self.training.recipe.data

    @property
    def own_evaluations(self) -> float:
        """The cost, in gradients of a batch."""
        return self.instrument.cost * self.training.steps_per_epoch

    def run(self, store: Store) -> Found:
        """Measure."""
        data, training = self.training.dataset(), self.training
        weights = final_weights(store.load(training), self.epoch)

        def look(examples: int | None = None, loss: str = "cross-entropy", *, test: bool = False) -> Landscape:
            inputs, labels = (data.evaluation_inputs, data.evaluation_labels) if test else (data.inputs, data.labels)
            shown = inputs[:examples], one_hot(labels[:examples])
            return landscape(training.backend, training.network, weights, *shown, loss)

        return {name: np.asarray(value) for name, value in self.instrument(look).items()}

    def __str__(self) -> str:
        return f"{type(self.instrument).__name__} of {self.training}, epoch {self.epoch or self.training.recipe.epochs}"


@dataclass(frozen=True)
class Spectrum:
    """The largest eigenvalues of the Hessian of the training loss."""

    top: int = 5
    examples: int = 1000
    products: int = 200

    @property
    def cost(self) -> float:
        """Two gradients for each product, on the share of the data that is looked at."""
        return 60.0

    def __call__(self, look: Look) -> dict[str, Any]:
        """Descending."""
        found = curvature.eigenvalues(look(self.examples), top=self.top, products=self.products, tolerance=1e-2)
        return {"values": found.values, "converged": float(found.converged)}


@dataclass(frozen=True)
class MSharpness:
    """Worst-case sharpness with m examples to a perturbation, for several m, on the first training examples."""

    sizes: tuple[int, ...]
    rho: float
    examples: int = 512

    @property
    def cost(self) -> float:
        """Calls dominate: one for each shard, as long as the pass over a batch."""
        return sum(self.examples / m for m in self.sizes) / 10

    def __call__(self, look: Look) -> dict[str, Any]:
        """The rise of the loss for each m."""
        where, sam = look(self.examples), samfamily.SAM(rho=self.rho)
        return {"rises": [sharpness.worst_case(where, sam.sharded(m)).value for m in self.sizes]}


@dataclass(frozen=True)
class Climb:
    """How far the loss rises where this row climbs to, on shards of a batch's size."""

    row: Row
    examples: int = 1024

    @property
    def cost(self) -> float:
        """Eight shards."""
        return 10.0

    def __call__(self, look: Look) -> dict[str, Any]:
        """The mean rise."""
        return {"rise": sharpness.worst_case(look(self.examples), self.row.variant().sharded(128)).value}


@dataclass(frozen=True)
class UpdateCosine:
    """The cosine of SAM's gradient with the one that keeps the second-order term, the mean over batches."""

    rho: float
    examples: int = 1024

    @property
    def cost(self) -> float:
        """Eight shards, twice."""
        return 20.0

    def __call__(self, look: Look) -> dict[str, Any]:
        """The mean cosine."""
        variants = [samfamily.SAM(rho=self.rho, second_order=second) for second in (False, True)]
        return {"cosine": np.mean([self.between(shard, *variants) for shard in look(self.examples).shards(128)])}

    @staticmethod
    def between(where: Landscape, one: samfamily.Variant, other: samfamily.Variant) -> float:
        """The cosine of the gradients that two variants tell the base optimizer to follow."""
        a, b = (drive(v.program(where.w, v.init(where.w)), where.answer).gradient for v in (one, other))
        return float(a.inner(b)) / (float(a.norm(2)) * float(b.norm(2)))


@dataclass(frozen=True)
class TheoremTwo:
    """The bound of Theorem 2, for one less the probability of the right class."""

    rho: float

    @property
    def cost(self) -> float:
        """A search with restarts."""
        return 90.0

    def __call__(self, look: Look) -> dict[str, Any]:
        """The bound, its two parts, the largest norm at which it could say something, and the proviso's margin."""
        found = bound.of(look(loss="miss"), samfamily.SAM(rho=self.rho), held_out=look(loss="miss", test=True))
        return {
            "value": found.value,
            "worst": found.worst_loss,
            "complexity": found.complexity,
            "largest": found.largest_norm,
            "margin": found.margin,
        }
