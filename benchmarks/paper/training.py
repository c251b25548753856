"""One training: all that determines it, what it costs, and how it is run."""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Hashable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

import samfamily
from benchmarks.cells import Recipe
from benchmarks.data import CLASSES, WEIGHT_STREAM, Dataset, Floats, Integers, epochs, generator, load
from benchmarks.network import Weights
from benchmarks.paper.networks import NETWORKS
from benchmarks.paper.store import Found, Store
from benchmarks.paper.task import OPTIMIZERS, Task, Trainer, trainer
from benchmarks.paper.treatments import PLAIN, Treatment

TREATMENT_STREAM = 3
FORWARD = 1 / 3
"""What a forward pass counts in gradient evaluations, each of which is a forward and a backward of twice the work."""
PRODUCT = 2
"""What a Hessian-vector product counts in gradient evaluations."""
LAST_LAYER = 2
"""A weight and a bias, in all networks."""


@dataclass(frozen=True)
class Row:
    """A row of the family with its keyword arguments, and the examples that share a perturbation."""

    name: str
    options: tuple[tuple[str, Any], ...] = ()
    m: int | None = None

    def variant(self) -> samfamily.Variant:
        """The variant."""
        built = samfamily.FAMILY[self.name](**dict(self.options))
        return built if self.m is None else built.sharded(self.m)


def row(name: str, m: int | None = None, **options: Any) -> Row:
    """The row of this name with these keyword arguments."""
    return Row(name, tuple(sorted(options.items())), m)


@dataclass(frozen=True)
class Training:
    """One training.

    Attributes:
        backend: the framework.
        seed: of the weights, the order of the examples, the label noise and the treatment.
        recipe: data, epochs, batches and base optimizer, and whether the last fifth of the training data is held out
            and takes the place of the test data.
        network: its name in `NETWORKS`.
        optimizer: the base optimizer's name in `OPTIMIZERS`.
        noise: the share of the training labels that is replaced.
        row: the row of the family; None is the base optimizer alone.
        treatment: what is done to each batch.
        classes: the first class and the one after the last; examples of others are left out.
        labels_from: a training whose final predictions take the labels' place.
        weights_from: a training whose final weights this one starts from; the last layer is drawn anew.
        snapshots: the epochs whose weights are kept besides the last one's.
    """

    backend: str
    seed: int
    recipe: Recipe = field(default_factory=Recipe)
    network: str = "cnn"
    optimizer: str = OPTIMIZERS[0]
    noise: float = 0.0
    row: Row | None = None
    treatment: Treatment = PLAIN
    classes: tuple[int, int] = (0, CLASSES)
    labels_from: Training | None = None
    weights_from: Training | None = None
    snapshots: tuple[int, ...] = ()

    def but(self, **changes: Any) -> Training:
        """The same training but for these fields, of it or of its recipe."""
        own = {name: changes.pop(name) for name in list(changes) if name in _FIELDS}
        recipe = dataclasses.replace(own.pop("recipe", self.recipe), **changes)
        return dataclasses.replace(self, recipe=recipe, **own)

    def across(self, **changes: Any) -> Training:
        """The same training but for these fields, such as the seed, and so the trainings that it comes from."""
        parents = {
            name: parent.across(**changes)
            for name in ("labels_from", "weights_from")
            if (parent := getattr(self, name)) is not None
        }
        return self.but(**changes, **parents)

    @property
    def needs(self) -> tuple[Training, ...]:
        """What must be finished before."""
        return tuple(parent for parent in (self.labels_from, self.weights_from) if parent is not None)

    @property
    def kind(self) -> Hashable:
        """What trainings have in common that compile to the same: all but numbers that a step is given."""
        variant = None if self.row is None else self.row.variant().with_rho(1.0)
        at_once = self.treatment.forwards == 0
        shapes = self.recipe.data, self.recipe.batch_size, self.steps_per_epoch if at_once else 1
        return self.backend, self.network, self.optimizer, variant, shapes

    @property
    def evaluations_per_step(self) -> float:
        """Gradient evaluations that a step takes, forward passes and Hessian-vector products counted as such."""
        forwards = FORWARD * self.treatment.forwards
        if self.row is None:
            return 1 + forwards
        variant = self.row.variant()
        return variant.gradients_per_step + PRODUCT * variant.hessian_vector_products_per_step + forwards

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch: one for each full batch."""
        clean = _only(self.recipe.data, self.classes)
        return len((clean.validation() if self.recipe.validation else clean).inputs) // self.recipe.batch_size

    @property
    def own_evaluations(self) -> float:
        """Gradient evaluations of this training alone."""
        return self.recipe.epochs * self.steps_per_epoch * self.evaluations_per_step

    @property
    def evaluations(self) -> float:
        """Gradient evaluations of this training, and of that which made its labels."""
        return self.own_evaluations + (0 if self.labels_from is None else self.labels_from.evaluations)

    def dataset(self) -> Dataset:
        """The data that this training trains on, labels aside that another training makes, and is evaluated on."""
        noisy = _only(self.recipe.data, self.classes).with_noise(self.noise, self.seed)
        return noisy.validation() if self.recipe.validation else noisy

    def run(self, store: Store) -> Found:
        """Train to the end; whatever a claim needs of it comes back."""
        return run(self, store)

    def __str__(self) -> str:
        how = self.optimizer if self.row is None else f"{self.row.name}{dict(self.row.options)}"
        return f"{self.recipe.data} {self.network} {how} {self.recipe.epochs} epochs, seed {self.seed}"


_FIELDS = {f.name for f in dataclasses.fields(Training)}


def final_weights(found: Found, epoch: int | None = None) -> Weights:
    """The weights after this epoch, the last by default."""
    name = "last" if epoch is None else f"{epoch}"
    return [found[f"weights-{name}-{i}"] for i in range(sum(key.startswith(f"weights-{name}-") for key in found))]


def initial_weights(training: Training, length: int) -> Weights:
    """Weights and biases uniform in ±1/sqrt(fan-in), as `benchmarks.network` draws them."""
    random = generator(training.seed, WEIGHT_STREAM)
    weights, bound = [], 0.0
    for shape in NETWORKS[training.network].shapes(length):
        bound = 1 / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 else bound
        weights.append(random.uniform(-bound, bound, size=shape).astype(np.float32))
    return weights


def one_hot(labels: Integers) -> Floats:
    """Labels as shares of classes."""
    return np.eye(CLASSES, dtype=np.float32)[labels]


def learning_rates(training: Training) -> Floats:
    """The rate of each step: a cosine that falls to zero."""
    steps = training.recipe.epochs * training.steps_per_epoch
    falling = 0.5 * (1 + np.cos(np.pi * np.arange(steps) / steps))
    return (training.recipe.learning_rate * falling).astype(np.float32)


def run(training: Training, store: Store) -> Found:
    """Train to the end."""
    data, recipe = training.dataset(), training.recipe
    length = data.inputs.shape[1]
    weights, before = initial_weights(training, length), training.weights_from
    if before is not None:
        weights = [*final_weights(store.load(before))[:-LAST_LAYER], *weights[-LAST_LAYER:]]
    variant = None if training.row is None else training.row.variant()
    settings = recipe.momentum, recipe.weight_decay, training.optimizer
    model = trainer(training.backend, Task(training.network, weights, variant, *settings))
    labels, teacher = data.labels, training.labels_from
    if teacher is not None:
        taught = Task(training.network, final_weights(store.load(teacher)), None, *settings)
        labels = trainer(training.backend, taught).outputs(data.inputs).argmax(1)
    targets, kept = one_hot(labels), {}
    losses, seconds, memory = [], [], None
    rates = learning_rates(training).reshape(recipe.epochs, -1)
    order = epochs(len(data.inputs), recipe.batch_size, training.seed)
    for epoch, batches in enumerate(islice(order, recipe.epochs)):
        began = time.process_time()
        loss, memory = run_epoch(training, model, (data.inputs[batches], targets[batches], rates[epoch]), epoch, memory)
        seconds.append(time.process_time() - began)
        losses.append(loss)
        if epoch + 1 in training.snapshots:
            kept[f"{epoch + 1}"] = model.weights()
    kept["last"] = model.weights()
    return {
        "losses": np.array(losses),
        "seconds": np.array(seconds),
        "train": np.array(fit(model, data.inputs, labels)),
        "evaluation": np.array(fit(model, data.evaluation_inputs, data.evaluation_labels)),
        **{f"weights-{name}-{i}": w for name, ws in kept.items() for i, w in enumerate(ws)},
    }


def run_epoch(
    training: Training, model: Trainer, batches: tuple[Floats, Floats, Floats], epoch: int, memory: Any
) -> tuple[float, Any]:
    """Take a step on each batch; all at once, unless the treatment asks for losses before each step."""
    inputs, targets, rates = batches
    losses, treated, together = [], [], training.treatment.forwards == 0
    for step in range(len(rates)):
        random = np.random.default_rng([training.seed, TREATMENT_STREAM, epoch * len(rates) + step])
        found = training.treatment(inputs[step], targets[step], random, model.losses, memory)
        memory = found.memory
        if together:
            treated.append(found)
        else:
            losses.append(model.run(found.inputs[None], found.targets[None], rates[step : step + 1]))
    if together:
        losses = [model.run(np.stack([t.inputs for t in treated]), np.stack([t.targets for t in treated]), rates)]
    return float(np.mean(losses)), memory


def error(model: Trainer, inputs: Floats, labels: Integers) -> float:
    """The share of these examples that the network gets wrong."""
    return float(np.mean(model.outputs(inputs).argmax(1) != labels))


def fit(model: Trainer, inputs: Floats, labels: Integers) -> tuple[float, float]:
    """The mean loss on these examples and the share that the network gets wrong."""
    return float(np.mean(model.losses(inputs, one_hot(labels)))), error(model, inputs, labels)


@functools.cache
def _only(name: str, classes: tuple[int, int]) -> Dataset:
    """The examples of these classes alone."""
    data, (first, end) = load(name), classes
    train, test = ((first <= labels) & (labels < end) for labels in (data.labels, data.evaluation_labels))
    return Dataset(data.inputs[train], data.labels[train], data.evaluation_inputs[test], data.evaluation_labels[test])
