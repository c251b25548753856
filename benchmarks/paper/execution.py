"""Doing the work: planned as a whole, the costliest first, in processes, and never twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.paper.claim import Claim
from benchmarks.paper.lab import Lab, Results, Work, together
from benchmarks.paper.measure import Measurement
from benchmarks.paper.store import Found, Store
from benchmarks.paper.training import Training
from benchmarks.pool import each

SECONDS = {"cnn": 0.0012, "mlp": 0.0005, "transformer": 0.004}
"""For a gradient of a batch in JAX, on one core of a laptop; PyTorch takes some three times as long."""
SLOWER = {"jax": 1.0, "torch": 3.0}
STARTING = 0.2
"""Seconds before the first step."""
COMPILING = 5.0
"""Seconds that the first of a kind takes besides."""


def estimate(work: Work) -> float:
    """How long this takes, in seconds of one core, what is compiled aside."""
    training = work.training if isinstance(work, Measurement) else work
    seconds = SECONDS[training.network] * SLOWER[training.backend] * training.recipe.batch_size / 128
    return STARTING + seconds * work.own_evaluations * spread(training)


def estimates(works: Iterable[Work]) -> float:
    """How long all of this takes, in seconds of one core."""
    works = list(works)
    return sum(map(estimate, works)) + COMPILING * len({work.kind for work in works})


def spread(training: Training) -> float:
    """By how much shards prolong a gradient: all at once in JAX, one after another in PyTorch."""
    if training.row is None or training.row.m is None:
        return 1.0
    shards = training.recipe.batch_size / training.row.m
    return 1 + shards / 60 if training.backend == "jax" else 0.5 + shards / 2


class Guess:
    """Results as far as there are any, and the same error for all else: what is asked for costs the same anyhow."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def load(self, work: Work) -> Found:
        """What is stored, or a guess."""
        return self.store.load(work) if work in self.store else {"evaluation": np.array([0.5, 0.5])}


def closure(works: Iterable[Work]) -> list[Work]:
    """These pieces of work and all that they need, each once, what is needed before what needs it."""
    found: dict[Work, None] = {}

    def add(work: Work) -> None:
        if work not in found:
            for needed in work.needs:
                add(needed)
            found[work] = None

    for work in works:
        add(work)
    return list(found)


def plan(claims: Sequence[Claim], lab: Lab, store: Store) -> list[Work]:
    """All the work of these claims, as far as it can be known before held-out data have chosen."""
    works: list[Work] = []
    everything(claims, lab, works.extend, Guess(store))
    return closure(works)


def everything(
    claims: Sequence[Claim], lab: Lab, finish: Callable[[Sequence[Work]], None], results: Results
) -> list[Any]:
    """Have all that these claims ask for finished, round by round, and return what their judges need."""
    asking = together([claim.ask(lab) for claim in claims])
    try:
        wanted = next(asking)
        while True:
            finish(wanted)
            wanted = asking.send(results)
    except StopIteration as stop:
        found: list[Any] = stop.value
        return found


class Execution:
    """A run: its store, its processes, and how far it has come."""

    def __init__(self, store: Store, executor: Executor, workers: int, console: Console) -> None:
        self.store, self.executor, self.workers, self.console = store, executor, workers, console
        self.begin, self.done, self.total = time.perf_counter(), 0.0, 0.0
        self.kinds: set[Hashable] = set()

    def carry_out(self, claims: Sequence[Claim], lab: Lab) -> list[Any]:
        """Do all that these claims ask for and is not done; return what each claim's judge needs."""
        planned = plan(claims, lab, self.store)
        self.total = estimates(work for work in planned if work not in self.store)
        finished = sum(work in self.store for work in planned)
        self.console.print(
            f"{len(planned)} pieces of work, {finished} of them done before; about "
            f"{duration(self.total / self.workers)} on {self.workers} free cores",
            highlight=False,
        )
        return everything(claims, lab, self.finish, self.store)

    def finish(self, works: Iterable[Work]) -> None:
        """Do what of this is not done, what is needed first."""
        missing = [work for work in closure(works) if work not in self.store]
        while missing:
            ready = [work for work in missing if all(needed in self.store for needed in work.needs)]
            tasks = [(str(self.store.folder), work) for work in ordered(ready)]
            for number, ((_, work), _) in enumerate(each(self.executor, do, tasks), 1):
                self.done += estimate(work) if work.kind in self.kinds else estimates([work])
                self.kinds.add(work.kind)
                self.tell(f"{number}/{len(ready)}", work)
            missing = [work for work in missing if work not in self.store]

    def tell(self, count: str, work: Work) -> None:
        """Say what is finished, and how long the rest will take at this pace."""
        elapsed = time.perf_counter() - self.begin
        left = max(self.total - self.done, 0) * elapsed / self.done
        share = min(100 * self.done / max(self.total, 1e-9), 100)
        self.console.print(
            f"{share:3.0f} %, {duration(left)} left, {count}: {work}", highlight=False, soft_wrap=True, markup=False
        )


def ordered(works: Sequence[Work]) -> list[Work]:
    """The costliest first; but before all others one of each kind, which compiles what they find compiled."""
    falling = sorted(works, key=estimate, reverse=True)
    first: dict[Hashable, Work] = {}
    for work in falling:
        first.setdefault(work.kind, work)
    return [*first.values(), *(work for work in falling if work is not first[work.kind])]


def do(task: tuple[str, Work]) -> None:
    """Do one piece of work and store it, unless somebody has."""
    folder, work = task
    store = Store(Path(folder))
    if work not in store:
        store.save(work, work.run(store))


def duration(seconds: float) -> str:
    """In words."""
    return f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"
