"""torchrun with an error in one process: it ends, says why, and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATIENCE = 120
"""Seconds that a process waits for the others, and that all have."""


def running(script: Path) -> list[str]:
    """Return the processes that were given this script."""
    listed = subprocess.run(["ps", "-Aww", "-o", "args="], capture_output=True, text=True, check=True)
    return [line for line in listed.stdout.splitlines() if str(script) in line]


def test_an_error_in_one_process_ends_all(tmp_path: Path) -> None:
    script = tmp_path / "losing_data.py"
    shutil.copy(ROOT / "tests" / "distributed" / script.name, script)
    process = subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", script, f"{PATIENCE}"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "backends")])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        assert running(script)  # negative control of the last line
        text, _ = process.communicate(timeout=PATIENCE)
    finally:
        process.terminate()  # it ends the others
        process.wait()
    assert process.returncode not in (0, None)
    assert "ConnectionError: the data went away" in text
    assert not running(script), text
