"""What a run was made of, so that it can be run again: versions, machine, command."""

import argparse
import importlib.metadata
import os
import platform
import shlex
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

PACKAGES = ("samfamily", "torch", "jax", "jaxlib", "optax", "numpy", "mnist1d", "scikit-learn", "matplotlib")


def versions(packages: Iterable[str] = PACKAGES) -> str:
    """Python and these packages with their versions."""
    found = [f"Python {platform.python_version()}"]
    for package in packages:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{package} (from its source tree)")
    return ", ".join(found)


def machine() -> str:
    """The processor, how many of them, and the operating system."""
    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = information.read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    return f"{os.cpu_count()} × {model}, {platform.system()}"


def today() -> str:
    """The date and time of the run, in universal time."""
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


def command_line(name: str, arguments: argparse.Namespace, options: Iterable[str]) -> str:
    """The command with every option spelt out, also those that were left to their defaults."""
    parts = ["python", "-m", "benchmarks", *name.split()]
    for option in options:
        parts += [f"--{option}", str(getattr(arguments, option))]
    return shlex.join(parts)
