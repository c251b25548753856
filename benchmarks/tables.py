"""Tables of plain text, for the terminal and for a page."""

from collections.abc import Sequence

from rich import box
from rich.table import Table


def terminal(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table for the terminal."""
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0)
    )
    for i, heading in enumerate(headings):
        table.add_column(heading.replace(" ", "\n", 1), no_wrap=i > 0)
    for row in rows:
        table.add_row(*row)
    return table


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same table for a page."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headings, ["---"] * len(headings), *rows))
