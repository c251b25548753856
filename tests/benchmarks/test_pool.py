"""Processes that work in parallel: what they share, and what they leave behind."""

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.pool import ONE_THREAD, processes, shared

COMPILE = """
import jax

hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name) if name.endswith("cache_hits") else None)
jax.jit(lambda x: jax.lax.fori_loop(0, 9, lambda i, y: jax.numpy.linalg.qr(y)[0], x))(jax.numpy.eye(9))
print(len(hits))
"""


def found(environment: dict[str, str]) -> int:
    """How much a new process finds compiled."""
    command = [sys.executable, "-c", COMPILE]
    ended = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=True, timeout=120
    )
    return int(ended.stdout)


def test_what_a_process_compiles_the_next_one_finds(tmp_path: Path) -> None:
    environment = ONE_THREAD | shared(str(tmp_path))
    assert found(environment) == 0
    assert found(environment) > 0
    assert found(ONE_THREAD) == 0


def test_processes_share_a_folder_that_goes_with_them() -> None:
    before = dict(os.environ)
    with processes(1) as executor:
        folder = Path(executor.submit(os.getenv, "JAX_COMPILATION_CACHE_DIR").result() or "")
        assert folder.is_dir()
    assert not folder.exists()
    assert dict(os.environ) == before
