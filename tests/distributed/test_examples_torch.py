"""The PyTorch examples: five lines more than the one for a single process, and the same figures."""

import difflib
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
FEW = ["--epochs", "2", "--steps", "4"]


def code(name: str) -> list[str]:
    """The lines of an example after its docstring."""
    return (EXAMPLES / name).read_text(encoding="utf-8").split('"""\n', 1)[1].splitlines()


@cache
def printed(*command: str) -> list[str]:
    """The epochs that it prints, each once."""
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return sorted(
        set(re.findall(r"epoch \d+: loss [\d.]+, test error [\d.]+ %", done.stdout))
    )  # lines may run together


@pytest.mark.parametrize("name", ["train_ddp.py", "train_fsdp.py"])
def test_two_processes_take_five_lines_and_print_the_same(name: str) -> None:
    told = list(difflib.ndiff(code("train.py"), code(name)))
    assert not [line for line in told if line.startswith("- ")]
    assert len([line for line in told if line.startswith("+ ")]) <= 5
    alone = printed(str(EXAMPLES / "train.py"), *FEW)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    assert printed(*launch, str(EXAMPLES / name), *FEW) == alone
    assert printed(str(EXAMPLES / "train.py"), *FEW, "--m", "32") != alone  # negative control
