"""The plan of a run: every cell is one training, told apart by backend, label noise, method and seed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.data import Dataset, load
from benchmarks.methods import METHODS, NOISE_LEVELS, Method
from benchmarks.network import Weights


@dataclass(frozen=True)
class Recipe:
    """What all cells of a run have in common: stochastic gradient descent with a cosine schedule down to zero."""

    data: str = "mnist1d"
    epochs: int = 50
    batch_size: int = 128
    learning_rate: float = 0.2
    momentum: float = 0.9
    weight_decay: float = 5e-4
    validation: bool = False


@dataclass(frozen=True)
class Cell:
    """One training: this method, from this seed's weights, on labels of which `noise` is replaced."""

    recipe: Recipe
    backend: str
    noise: float
    method: str
    rho: float
    seed: int

    @property
    def how(self) -> Method:
        """The method's row in the table of methods."""
        return METHODS[self.method]

    @property
    def epochs(self) -> int:
        """Passes over the training data."""
        return self.recipe.epochs * self.how.epoch_factor

    @property
    def steps(self) -> int:
        """Steps of the whole training: one for each full batch."""
        return self.epochs * (len(self.dataset().inputs) // self.recipe.batch_size)

    @property
    def gradient_evaluations(self) -> int:
        """Gradients of a batch that the whole training takes."""
        return round(self.steps * self.how.gradients_per_step(self.rho))

    def dataset(self) -> Dataset:
        """The data that this cell trains on and is evaluated on."""
        data = load(self.recipe.data).with_noise(self.noise, self.seed)
        return data.validation() if self.recipe.validation else data

    def __str__(self) -> str:
        labels = f"{self.noise:.0%} labels replaced" if self.noise else "clean labels"
        return f"{self.backend}, {labels}, {self.how.name}, seed {self.seed}"


@dataclass(frozen=True)
class Result:
    """What one training gave: the mean training loss and the evaluation error of each epoch, and the last weights."""

    cell: Cell
    losses: tuple[float, ...]
    errors: tuple[float, ...]
    weights: Weights
    seconds: float


def plan(recipe: Recipe, backends: Iterable[str], methods: Iterable[str], seeds: Iterable[int]) -> list[Cell]:
    """All cells, the most expensive first, so that the workers finish together."""
    cells = [
        Cell(recipe, backend, noise, method, METHODS[method].radii[noise], seed)
        for seed in seeds
        for method in methods
        for noise in NOISE_LEVELS
        for backend in backends
    ]
    return costliest_first(cells)


def costliest_first(cells: Sequence[Cell]) -> list[Cell]:
    """The cells by falling number of gradient evaluations; sharded ones, which split their batches, count double."""
    return sorted(cells, key=lambda cell: -cell.gradient_evaluations * (2 if cell.method == "sam-sharded" else 1))
