"""Faults of sharpness-aware training in JAX: a probe for each, and the libraries that they are looked for in."""

from benchmarks.fault_table import Probe, probes_of
from benchmarks.faults_jax import ascent, cost, devices, loops, models, nonfinite, precision, settings, shards, trees
from benchmarks.faults_jax.libraries import libraries

__all__ = ["libraries", "probes"]


def probes() -> list[Probe]:
    """Every probe, in the order of the table."""
    return probes_of([loops, settings, ascent, nonfinite, precision, models, trees, shards, devices, cost])
