"""The paper's claims, reproduced in kind: `python -m benchmarks paper`."""

from benchmarks.paper.command import add_arguments, main

__all__ = ["add_arguments", "main"]
