"""Reading programs before they run: how many all-reduces there are, and how many follow one another."""

import re
from collections.abc import Sequence
from typing import Any

from jaxlib.mlir import ir


def all_reduces(compiled: str) -> int:
    """Count the all-reduces of a compiled HLO."""
    return len(re.findall(r" all-reduce(?:-start)?\(", compiled))


def rounds(module: Any) -> int:
    """Return the length of the longest chain of all-reduces of which each waits for the one before.

    In a program that is not compiled yet every leaf has an all-reduce of its own, and XLA combines those that wait for
    nothing of each other: what cannot be combined is a round.
    """
    functions = {f.name.value: f for f in module.body.operations if f.operation.name == "func.func"}
    return max(_through(functions["main"].regions[0], [0] * len(functions["main"].arguments), functions), default=0)


def _through(region: Any, arguments: Sequence[int], functions: dict[str, Any]) -> list[int]:
    """Return, for what a region hands over at its end, how many rounds came before."""
    known: dict[Any, int] = {}
    for block in region.blocks:
        first = max(arguments, default=0)
        for i, argument in enumerate(block.arguments):
            known[argument] = arguments[i] if i < len(arguments) else first
        outer: dict[Any, int] = known
        for op in block.operations:
            before = [outer.get(x, first) for x in op.operands]
            name = op.operation.name
            if name in {"func.return", "stablehlo.return", "sdy.return"}:
                return before
            if name == "func.call":
                callee = functions[ir.FlatSymbolRefAttr(op.attributes["callee"]).value]
                after = _through(callee.regions[0], before, functions)
            else:
                inside = [x for r in op.regions for x in _through(r, before or [first], functions)]
                after = [max([*before, *inside], default=0) + (name == "stablehlo.all_reduce")] * len(op.results)
            known.update(zip(op.results, after, strict=True))
    return []
