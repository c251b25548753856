"""Faults of sharpness-aware optimizers for PyTorch: a probe for each, and the libraries that they are looked for in."""

from benchmarks.fault_table import Probe, probes_of
from benchmarks.faults_torch import (
    closures,
    cost,
    gradients,
    groups,
    loops,
    modules,
    nonfinite,
    parameters,
    precision,
    ranks,
    scaling,
    state,
)
from benchmarks.faults_torch.libraries import libraries

__all__ = ["libraries", "probes"]


def probes() -> list[Probe]:
    """Every probe, in the order of the table."""
    steps = [closures, loops, gradients, nonfinite, scaling, precision, modules]
    return probes_of([*steps, state, groups, parameters, ranks, cost])
