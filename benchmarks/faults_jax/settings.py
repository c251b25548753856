"""Settings that mean no SAM."""

import functools
from typing import Any

import optax

from benchmarks.fault_table import Outcome, fault
from benchmarks.faults_jax.libraries import Library, Trainer
from benchmarks.faults_jax.task import BATCHES, LR, fit, network, same, steps

BASE = optax.sgd(LR, momentum=0.9)


@fault("rho = 0 is bitwise the base optimizer", "google-deepmind/optax#1788, davda54/sam#80")
def no_radius(library: Library) -> Outcome:
    """A perturbation of zero that is added and taken away, or a second optimizer whose state moves."""
    return _is_plain(library, lambda base: library.trainer(fit, base, 0.0))


@fault("The setting for no ascent is bitwise the base optimizer", "google-deepmind/optax#1788")
def no_climbing(library: Library) -> Outcome:
    """`sync_period=1` undoes the step before."""
    one_turn = Library()  # as many turns of the loop as steps
    return _is_plain(one_turn, lambda base: library.without_climbing(fit, base))


def _is_plain(library: Library, build: Any) -> Outcome:
    return same(_path(library, build(BASE)), _plain())


def _path(library: Library, trainer: Trainer) -> Any:
    return steps(library, trainer, network(), *BATCHES[:4])[0]


@functools.cache
def _plain() -> Any:
    return _path(Library(), Library().trainer(fit, BASE, 0.0))  # a loop with the base optimizer alone
