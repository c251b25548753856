"""Train at the paper's own scale: CIFAR with WRN-28-10, ImageNet with ResNet-50, by the configs in benchmarks/configs.

The images are read from --data-dir, and nothing is downloaded. A run is resumed by giving the same command again. With
several GPUs start it with torchrun in PyTorch; JAX takes all devices that it finds. docs/full-scale.md says more.
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks.arguments import BACKENDS, folder, positive_integer
from benchmarks.full import folders, synthetic
from benchmarks.full.config import METHODS, Config, available, load
from benchmarks.full.run import Run, trainer

EXAMPLES = 16
"""Of each part of the data that `--smoke` makes up."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `full`."""
    parser.add_argument("config", metavar="CONFIG", help=f"{', '.join(available())}, or the path of such a file")
    parser.add_argument("--backend", choices=BACKENDS, default="torch", help="the framework that trains")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="where the images lie")
    parser.add_argument("--method", choices=METHODS, default="sam", help="SAM, or its base optimizer alone")
    parser.add_argument("--augmentation", help="one of the config's kinds (default: its first)")
    parser.add_argument("--epochs", type=positive_integer, metavar="N", help="(default: the config's first)")
    parser.add_argument("--steps", type=positive_integer, metavar="N", help="stop after so many steps, and test")
    parser.add_argument("--device", help="cpu, cuda, ... (default: an accelerator if there is one)")
    parser.add_argument("--devices", type=positive_integer, metavar="N", help="in JAX, how many (default: all)")
    parser.add_argument("--threads", type=positive_integer, default=8, metavar="N", help="that read images")
    parser.add_argument("--out", type=folder, metavar="DIR", help="for checkpoints (default: full/ and the run's name)")
    parser.add_argument(
        "--smoke", action="store_true", help="a tiny network and batch, on made-up images where --data-dir is left out"
    )


def main(arguments: argparse.Namespace) -> int:
    """Train, and say what the paper reports."""
    if arguments.data_dir is None and not arguments.smoke:
        raise SystemExit("full: --data-dir is missing: name the folder with the images, or try --smoke")
    try:
        config = load(
            arguments.config, arguments.method, arguments.augmentation, arguments.epochs, smoke=arguments.smoke
        )
        with tempfile.TemporaryDirectory() as made:
            place = arguments.data_dir or synthetic.write(Path(made), config, EXAMPLES)
            train(arguments, config, place)
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(f"full: {error}") from error
    return 0


def train(arguments: argparse.Namespace, config: Config, place: Path) -> None:
    """Train on the images in this place."""
    form, classes = config.data["format"], config.data["classes"]
    images, tests = (folders.read(place, form, classes, train=part) for part in (True, False))
    run = Run(config, images, tests, arguments.threads, arguments.steps, say)
    out = arguments.out or Path("full") / name(config, arguments.backend)
    model = trainer(arguments.backend, config, out, arguments.device, arguments.devices)
    if model.part[0] == 0:
        say(f"{name(config, arguments.backend)}: {model.parameters:,} weights, {run.steps} steps, in {out}")
    run(model)
    model.close()
    if model.part[0] == 0 and config.published is not None:
        say(f"the paper's test error after all {config.epochs} epochs: {config.published} %")


def name(config: Config, backend: str) -> str:
    """The run's name."""
    return f"{config.name}-{config.method}-{config.augmentation}-{config.epochs}-{backend}"


def say(line: str) -> None:
    """Print a line at once, so that a file of them can be watched."""
    print(line, flush=True)
