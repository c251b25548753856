"""The command line: `python -m benchmarks NAME`, one module for each NAME."""

import argparse
import importlib
import sys
from collections.abc import Sequence

COMMANDS = {
    "report": "train with SGD, SAM, ASAM and m-sharded SAM in PyTorch and JAX, and write one page about it",
    "curvature": "measure the curvature of the solutions that SGD and SAM find",
    "agreement": "train with every row of the family in PyTorch and JAX, and show how far the weights come apart",
    "exact": "hold the exact inner maximum to sampling, and the first-order step to the exact maximum",
    "full": "train at the paper's own scale: CIFAR with WRN-28-10, ImageNet with ResNet-50",
    "overhead": "count and time what a sharpness-aware step costs beyond its gradients",
    "curvature-cost": "time a product with the curvature against a gradient, and count the vectors that are kept",
    "paper": "reproduce the claims of the SAM paper in kind, and say of each whether it holds here",
    "scaling": "count and time what is sent between devices, and carry it to thousands of them on paper",
    "rho": "recommend a radius for a model of your own, with the evidence",
    "tune": "choose each method's radius on validation data held out from the training data",
    "faults": "look for the reported faults of sharpness-aware libraries, in this one and in its peers",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` names and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(metavar="NAME", required=True)
    for name, summary in COMMANDS.items():
        module = importlib.import_module(f"benchmarks.{name.replace('-', '_')}")
        command = commands.add_parser(
            name, help=summary, description=module.__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        module.add_arguments(command)
        command.set_defaults(main=module.main)
    arguments = parser.parse_args(argv)
    return int(arguments.main(arguments))


if __name__ == "__main__":
    sys.exit(main())
