"""Reading programs before they are compiled: what they choose between, and how many all-reduces follow one another."""

from collections.abc import Iterator, Sequence
from typing import Any

from jax._src.interpreters.mlir import make_ir_context  # knows all dialects; there is no public one
from jaxlib.mlir import ir

PRODUCT = "stablehlo.dot_general"


def choices(text: str) -> int:
    """Count the conditionals of a StableHLO module that have a gradient in a branch: a matrix product."""
    with make_ir_context():
        return sum(
            op.operation.name == "stablehlo.case" and any(o.operation.name == PRODUCT for o in _inside(op))
            for op in _inside(ir.Module.parse(text).operation)
        )


def _inside(op: Any) -> Iterator[Any]:
    for region in op.regions:
        for block in region.blocks:
            for inner in block.operations:
                yield inner
                yield from _inside(inner)


def rounds(text: str) -> int:
    """Return the length of a StableHLO module's longest chain of all-reduces of which each waits for the one before.

    In a program that is not compiled yet every leaf has an all-reduce of its own, and XLA combines those that wait for
    nothing of each other: what cannot be combined is a round.
    """
    with make_ir_context():
        module: Any = ir.Module.parse(text)
        functions = {f.name.value: f for f in module.body.operations if f.operation.name == "func.func"}
        return _chain(functions)


def _chain(functions: dict[str, Any]) -> int:
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
