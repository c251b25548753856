"""The report's table in the terminal."""

from collections.abc import Sequence

from rich import box
from rich.table import Table

from benchmarks.methods import METHODS
from benchmarks.summary import Row

TITLES = {"torch": "PyTorch", "jax": "JAX"}


def terminal_table(rows: Sequence[Row], backends: Sequence[str]) -> Table:
    """The rows in groups by kind of labels; the lowest error of each group and backend is bold."""
    table = Table(
        title="Test error in %, and training time relative to SGD",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )
    table.add_column("Method", no_wrap=True)
    headings = ["Epochs", "Gradients"]
    headings += [f"{TITLES[backend]}\n{quantity}" for quantity in ("error", "time") for backend in backends]
    for heading in headings:
        table.add_column(heading, justify="right", vertical="bottom", no_wrap=True)
    for noise in dict.fromkeys(row.noise for row in rows):
        group = [row for row in rows if row.noise == noise]
        table.add_section()
        table.add_row(f"[italic]{f'{100 * noise:.0f} % replaced' if noise else 'Clean labels'}[/]")
        for row in group:
            errors = []
            for backend in backends:
                lowest = min(other.errors[backend].mean for other in group)
                shown = row.errors[backend].percent()
                errors.append(f"[bold]{shown}[/]" if row.errors[backend].mean == lowest else shown)
            times = [f"{row.relative_time[backend]:.2f}" for backend in backends]
            name = METHODS[row.method].name.replace("twice the epochs", "2x epochs")
            table.add_row(name, str(row.epochs), f"{row.gradient_evaluations:,}", *errors, *times)
    return table
