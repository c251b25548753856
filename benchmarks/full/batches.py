"""Batches for either framework: in an order and with changes that depend on seed, epoch and example alone.

So a run that is resumed sees what it would have seen, on any number of processes, however many threads read.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np

from benchmarks.data import Floats, Integers
from benchmarks.full import augmentation
from benchmarks.full.config import Config
from benchmarks.full.folders import Images

ORDER, CHANGE, SQUARE = range(3)
AHEAD = 2
"""Batches that are read while one is trained on."""

Batch = tuple[Floats, Integers]


def steps_in(images: Images, config: Config) -> int:
    """Steps of an epoch: one for each full batch."""
    steps = len(images.labels) // int(config.training["batch"])
    if not steps:
        raise ValueError(
            f"{len(images.labels)} images do not fill one batch of {config.training['batch']}: try --smoke, or more"
        )
    return steps


def epoch(
    images: Images, config: Config, number: int, start: int, part: tuple[int, int], threads: int
) -> Iterator[Batch]:
    """This epoch's batches from its step `start` on, of which `part` is (which, of how many) a process takes."""
    which, parts = part
    order = _generator(config, ORDER, number).permutation(len(images.labels))
    batch, steps = int(config.training["batch"]), steps_in(images, config)
    chosen = [order[i * batch : (i + 1) * batch].reshape(parts, -1)[which] for i in range(start, steps)]

    def one(place: int) -> Any:
        return augmentation.trained_on(images[place], config, _generator(config, CHANGE, number, place))

    for i, (pixels, places) in enumerate(_ahead(one, chosen, threads), start):
        changed = augmentation.normalised(pixels, config)
        yield augmentation.cut_out(changed, config, _generator(config, SQUARE, number, i)), images.labels[places]


def test(images: Images, config: Config, part: tuple[int, int], threads: int) -> Iterator[Batch]:
    """All test images that fall to a process, in batches, of which the last may be smaller."""
    which, parts = part
    mine, size = np.arange(len(images.labels))[which::parts], max(1, int(config.training["batch"]) // parts)

    def one(place: int) -> Any:
        return augmentation.tested_on(images[place], config)

    for pixels, places in _ahead(one, [mine[i : i + size] for i in range(0, len(mine), size)], threads):
        yield augmentation.normalised(pixels, config), images.labels[places]


def _generator(config: Config, *purpose: int) -> np.random.Generator:
    return np.random.default_rng([config.training["seed"], *purpose])


def _ahead(one: Any, chosen: list[Any], threads: int) -> Iterator[tuple[Any, Any]]:
    """What `one` makes of each place, batch after batch, some batches ahead of who asks for them."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[tuple[list[Future[Any]], Any]] = deque()
        coming = iter(chosen)
        try:
            while True:
                for places in islice(coming, AHEAD + 1 - len(waiting)):
                    waiting.append(([pool.submit(one, int(place)) for place in places], places))
                if not waiting:
                    return
                futures, places = waiting.popleft()
                yield np.stack([future.result() for future in futures]), places
        finally:
            pool.shutdown(cancel_futures=True)
