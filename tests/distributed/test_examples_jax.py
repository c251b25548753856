"""examples/train_jax.py in two processes: a few lines more, and the same figures."""

from __future__ import annotations

import ast
import difflib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.walk_jax import QUICK
from tests.distributed.launch import free_port

ROOT = Path(__file__).parents[2]
ALONE, TOGETHER = ROOT / "examples" / "train_jax.py", ROOT / "examples" / "train_jax_processes.py"
FEW = ["--epochs=1", "--steps=6", "--m=32", "--lr=0.5", "--rho=1.0"]
LIMIT = 240.0
QUICKLY = " ".join(f"--{name}={str(value).lower()}" for name, value in QUICK.items())


def changes(before: str, after: str) -> tuple[int, int]:
    """Return how many lines of code were added and how many removed; the docstring is not code."""
    found = [*difflib.ndiff(code(before), code(after))]
    return sum(line.startswith("+ ") for line in found), sum(line.startswith("- ") for line in found)


def code(source: str) -> list[str]:
    docstring = ast.parse(source).body[0]
    assert isinstance(docstring, ast.Expr)
    return source.splitlines()[docstring.end_lineno :]


def test_at_most_five_lines_are_added_and_none_changed() -> None:
    added, removed = changes(ALONE.read_text(encoding="utf-8"), TOGETHER.read_text(encoding="utf-8"))
    assert 0 < added <= 5
    assert removed == 0


def test_a_changed_line_is_found() -> None:
    """Negative control."""
    assert changes('"""One."""\na = 1\nb = 2\n', '"""Two."""\na = 1\nb = 3\nc = 4\n') == (2, 1)


def outputs(*runs: tuple[Path, list[str], dict[str, str]]) -> list[str]:
    """Return what scripts print that run at the same time, with these arguments and environments."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "backends")])
    environment = os.environ | {"PYTHONPATH": path, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": QUICKLY}
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), *arguments],
            env=environment | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for script, arguments, more in runs
    ]
    try:
        found = [process.communicate(timeout=LIMIT)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    for process, text in zip(processes, found, strict=True):
        assert process.returncode == 0, text
    return found


def figures(text: str) -> list[float]:
    """Return all numbers with decimals: losses and errors of each epoch, and what tells the weights."""
    return [float(x) for x in re.findall(r"\d+\.\d+", text[text.index("epoch 1") :])]


def test_two_processes_print_what_one_does() -> None:
    with free_port() as port:
        processes = [
            {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "PROCESSES": "2", "PROCESS": str(i)} for i in range(2)
        ]
        runs = [(TOGETHER, FEW, process) for process in processes]
        one, two, alone, other = outputs(*runs, (ALONE, FEW, {}), (ALONE, [*FEW, "--m=64"], {}))
    assert len(figures(alone)) == 3
    for text in (one, two):
        assert figures(text) == pytest.approx(figures(alone), abs=1.01e-4, rel=0)  # a unit of the last digit
    assert figures(other) != pytest.approx(figures(alone), abs=1e-3, rel=0)  # negative control: another m
