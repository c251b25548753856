"""Several devices."""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from benchmarks.fault_table import Outcome, Probe, all_of, fault
from benchmarks.faults_jax.libraries import RHO, Library, PyTree
from benchmarks.faults_jax.task import BATCHES, SGD, agree, at_worst, fit, network, one_step, sam, slope

DEVICES = 4
M = len(BATCHES[0][0]) // DEVICES  # examples on a device
LIMIT = 120  # seconds for the process, imports included


@fault("Without an m, four devices share one perturbation", "davda54/sam#18, davda54/sam#38, davda54/sam#83")
def one_perturbation(library: Library) -> Outcome:
    """Whether the first gradient is averaged over devices must not depend on who wrote the loop."""
    return _found(library)["one_perturbation"]


@fault("With an m, one device and four take the same step", "google-research/sam#8")
def m_of_its_own(library: Library) -> Outcome:
    """An m that is the batch over the number of devices makes a result that four devices cannot reproduce."""
    return _found(library)["m_of_its_own"]


@fault("Under `jax.shard_map` a gradient is the device's own", "jax-ml/jax#3970, jax-ml/jax#19175, jax-ml/jax#18711")
def under_shard_map(library: Library) -> Outcome:
    """The gradient with respect to what all devices share is summed over them, unasked: four times global SAM."""
    return _found(library)["under_shard_map"]


PROBES: list[Probe] = [one_perturbation, m_of_its_own, under_shard_map]


@functools.cache
def _found(library: Library) -> dict[str, Outcome]:
    return on_four_devices([library])[0]


def on_four_devices(libraries: Sequence[Library]) -> list[dict[str, Outcome]]:
    """What the probes find in a process whose CPU poses as four devices, a number that is fixed when JAX starts."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "found.json"
        arguments = (list(libraries), str(path))
        process = multiprocessing.get_context("spawn").Process(target=_child, args=arguments, daemon=True)
        process.start()
        process.join(LIMIT)
        if process.is_alive():
            process.kill()
            process.join()
        if not path.exists():
            late = Outcome(False, f"no result within {LIMIT} s")
            return [{probe.name: late for probe in PROBES} for _ in libraries]
        found = json.loads(path.read_text(encoding="utf-8"))
        return [{name: Outcome(*outcome) for name, outcome in each.items()} for each in found]


def _child(libraries: Sequence[Library], path: str) -> None:
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", DEVICES)
    looks = {"one_perturbation": _one_perturbation, "m_of_its_own": _m_of_its_own, "under_shard_map": _under_shard_map}
    found = [{name: Probe("", "", look)(library) for name, look in looks.items()} for library in libraries]
    Path(path).write_text(json.dumps(found), encoding="utf-8")
    os._exit(0)


def _mesh() -> Any:
    return jax.make_mesh((DEVICES,), ("data",), axis_types=(AxisType.Auto,))


def _placed() -> list[Any]:
    """The batch, a quarter of it on each device."""
    return [jax.device_put(part, NamedSharding(_mesh(), P("data"))) for part in BATCHES[0]]


def _one_perturbation(library: Library) -> Outcome:
    found = one_step(library, library.trainer(fit, SGD, RHO), network(), *_placed())
    return agree(found, sam(fit, network(), BATCHES[0]))


def _quarters() -> list[Any]:
    return [tuple(part[i * M : (i + 1) * M] for part in BATCHES[0]) for i in range(DEVICES)]


def _m_of_its_own(library: Library) -> Outcome:
    trainer = library.sharded(fit, SGD, RHO, M)
    expected = jax.tree.map(lambda *w: np.mean(w, axis=0), *(sam(fit, network(), part) for part in _quarters()))
    here, there = (one_step(library, trainer, network(), *batch) for batch in (BATCHES[0], _placed()))
    return all_of(agree(here, expected, what="w on one device"), agree(there, expected, what="w on four"))


def _under_shard_map(library: Library) -> Outcome:
    gradient = library.per_device(fit, RHO, "data")
    each = [slope(fit, at_worst(fit, network(), *part), *part) for part in _quarters()]
    expected = jax.tree.map(lambda *g: np.mean(g, axis=0), *each)

    def body(params: PyTree, *batch: Any) -> PyTree:
        return jax.lax.pmean(gradient(params, *batch), "data")

    specs: Any = {"mesh": _mesh(), "in_specs": (P(), P("data"), P("data")), "out_specs": P()}
    outcomes = []
    for check in (True, False):
        found = jax.jit(jax.shard_map(body, check_vma=check, **specs))(network(), *BATCHES[0])
        outcomes.append(agree(found, expected, what=f"the gradient with check_vma={check}"))
    return all_of(*outcomes)
