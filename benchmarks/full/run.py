"""The loop over epochs, whatever the framework: train, test, keep, and go on where an earlier run has stopped.

A framework is a module `train_NAME` with a class `Trainer(config, place, device, devices)`.
"""

import importlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from benchmarks.full import batches
from benchmarks.full.batches import Batch
from benchmarks.full.config import Config
from benchmarks.full.folders import Images


class Trainer(Protocol):
    """A network in training.

    Attributes:
        done: how many steps have been taken, those before it was resumed among them.
        part: which part of each batch falls to this process, and of how many.
        parameters: how many weights the network has.
    """

    done: int
    part: tuple[int, int]
    parameters: int

    def step(self, batch: Batch, learning_rate: float) -> Any:
        """Take a step and return the loss before it, as a number or as what becomes one."""
        ...

    def wrong(self, found: Iterable[Batch]) -> int:
        """How many of these images, and those of the other processes, the network gets wrong."""
        ...

    def save(self) -> None:
        """Keep everything that a run needs to go on."""
        ...

    def close(self) -> None:
        """Leave the other processes."""
        ...


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        config: what is trained.
        train: its images.
        test: those that it is tested on.
        threads: that read images.
        limit: after how many steps, those of earlier runs among them, it stops; None for its end.
        say: where lines go.
    """

    config: Config
    train: Images
    test: Images
    threads: int
    limit: int | None
    say: Callable[[str], None]

    @property
    def steps(self) -> int:
        """Of the whole training."""
        return self.config.epochs * batches.steps_in(self.train, self.config)

    def __call__(self, trainer: Trainer) -> float | None:
        """Train to the end or the limit, test after every epoch, and return the last test error in %, if any."""
        each, end = batches.steps_in(self.train, self.config), min(self.limit or self.steps, self.steps)
        error, main = None, trainer.part[0] == 0
        if trainer.done and main:
            self.say(f"goes on after step {trainer.done}")
        while trainer.done < end:
            number, first = divmod(trainer.done, each)
            begin = time.perf_counter()
            coming = batches.epoch(self.train, self.config, number, first, trainer.part, self.threads)
            losses = [self._step(trainer, batch) for batch in islice(coming, end - trainer.done)]
            tested = batches.test(self.test, self.config, trainer.part, self.threads)
            error = 100 * trainer.wrong(tested) / len(self.test.labels)
            trainer.save()
            if main:
                self.say(
                    f"epoch {number + 1} of {self.config.epochs}, step {trainer.done} of {self.steps}: loss "
                    f"{sum(map(float, losses)) / len(losses):.4f}, test error {error:.2f} %, "
                    f"{time.perf_counter() - begin:.0f} s"
                )
        return error

    def _step(self, trainer: Trainer, batch: Batch) -> Any:
        loss = trainer.step(batch, self.config.learning_rate(trainer.done, self.steps))
        trainer.done += 1
        return loss


def trainer(backend: str, config: Config, place: Path, device: str | None, devices: int | None) -> Trainer:
    """The network in this framework, as the last run in `place` has left it, or new."""
    module: Any = importlib.import_module(f"benchmarks.full.train_{backend}")
    built: Trainer = module.Trainer(config, place, device, devices)
    return built


def same_run(saved: Any, config: Config, place: Path) -> None:
    """Raise where what lies in `place` is of another run."""
    if saved != config.plain():
        other = sorted(key for key, value in config.plain().items() if saved.get(key) != value)
        raise ValueError(f"{place} holds a run with other {', '.join(other)}: give another folder with --out")
