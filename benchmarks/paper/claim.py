"""A claim of the paper: what it says, what must be done to see whether it holds here, and what follows from that."""

from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks.paper.lab import Asking, Lab, Results
from benchmarks.paper.section import Section


class Claim(NamedTuple):
    """A claim.

    Attributes:
        letter: by which it is asked for.
        title: what it says.
        paper: the paper's figures.
        ask: the work, in rounds; returns what the judge needs besides results.
        judge: what is to be shown of the results.
    """

    letter: str
    title: str
    paper: str
    ask: Callable[[Lab], Asking[Any]]
    judge: Callable[[Lab, Any, Results], Section]
