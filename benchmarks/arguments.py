"""Command-line arguments that several benchmarks share, with errors that name the value and the remedy."""

import argparse
import os
from pathlib import Path

BACKENDS = ("torch", "jax")
DATASETS = ("mnist1d", "digits")


def positive_integer(text: str) -> int:
    """A whole number of at least one."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1; give for example 3")
    return value


def folder(text: str) -> Path:
    """A folder, there already or to be made."""
    path = Path(text)
    for place in (path, *path.parents):
        if place.exists() and not place.is_dir():
            raise argparse.ArgumentTypeError(f"{str(place)!r} is a file, not a folder; give a folder for the page")
    return path


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add the options of every benchmark that trains: data, backend, workers."""
    parser.add_argument("--data", choices=DATASETS, default="mnist1d", help="the data set")
    parser.add_argument("--backend", choices=(*BACKENDS, "both"), default="both", help="the framework that trains")
    parser.add_argument(
        "--workers", type=positive_integer, default=os.cpu_count() or 1, help="processes, of one thread each"
    )


def backends(choice: str) -> tuple[str, ...]:
    """The backends that `--backend CHOICE` stands for."""
    return BACKENDS if choice == "both" else (choice,)
