"""How far a run has come: bars in a terminal, and a line for each finished piece of work anywhere else."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Given = TypeVar("Given")
Found = TypeVar("Found")


def _one(_: object) -> float:
    return 1.0


class Display:
    """Shows the work of a run, phase by phase."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bars = Progress(
            TextColumn("{task.description:<20}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[last]}", style="dim"),
            console=console,
            disable=not console.is_terminal,
        )

    @contextlib.contextmanager
    def live(self) -> Iterator[None]:
        """Show the bars inside this block."""
        with self.bars:
            yield

    def follow(
        self,
        phase: str,
        work: Sequence[Given],
        finished: Iterable[tuple[Given, Found]],
        name: Callable[[Given], str] = str,
        cost: Callable[[Given], float] = _one,
    ) -> list[Found]:
        """Collect the results of this work as it is finished, saying so each time; `cost` weighs the bar."""
        bar = self.bars.add_task(phase, total=sum(map(cost, work)), last="", count=f"0/{len(work)}")
        results = []
        for given, found in finished:
            results.append(found)
            count = f"{len(results)}/{len(work)}"
            self.bars.update(bar, advance=cost(given), last=name(given), count=count)
            if not self.console.is_terminal:
                self.console.print(f"{phase} {count}: {name(given)}", highlight=False, soft_wrap=True)
        self.bars.update(bar, last="")
        return results
