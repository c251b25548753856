"""Several processes."""

import json
import multiprocessing
import os
import socket
import tempfile
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from benchmarks.fault_table import Outcome, fault, shown
from benchmarks.faults_torch.libraries import Library
from benchmarks.faults_torch.task import agree, network, sam

RANKS = 2
LIMIT = 90  # seconds for both ranks together, imports included


@fault(
    "FSDP2 (`fully_shard`, 2 ranks) perturbs by the norm of the whole model",
    "davda54/sam, pytorch_optimizer 4.1.0 with foreach",
)
def fully_sharded(library: Library) -> Outcome:
    """The norm of a shard, an error, or weights that are swapped under the one who sharded them."""
    return fully_sharded_in([library])[0]


def fully_sharded_in(libraries: Sequence[Library]) -> list[Outcome]:
    """The same for several libraries, in one pair of processes: starting those is what takes the time."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        arguments = (list(libraries), folder)
        ranks = [context.Process(target=_rank, args=(rank, *arguments), daemon=True) for rank in range(RANKS)]
        deadline = time.monotonic() + LIMIT
        try:
            for process in ranks:
                process.start()
            for process in ranks:
                process.join(max(0.0, deadline - time.monotonic()))
        finally:
            for process in ranks:
                if process.is_alive():
                    process.kill()
                process.join()
        found = Path(folder) / "found.json"
        if not found.exists():
            return [Outcome(False, f"no result within {LIMIT} s")] * len(libraries)
        return [Outcome(ok, detail) for ok, detail in json.loads(found.read_text(encoding="utf-8"))]


def _rank(rank: int, libraries: Sequence[Library], folder: str) -> None:
    """One rank; the ranks meet in a file, so that no port need be free, and talk over the loopback device."""
    loopback = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback[0] if loopback else "")
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=RANKS,
        timeout=timedelta(seconds=LIMIT / 3),
    )
    found = [_step_of(library) for library in libraries]
    distributed.barrier()
    if rank == 0:
        (Path(folder) / "found.json").write_text(json.dumps(found), encoding="utf-8")
    os._exit(0)  # a collective that an error cut short leaves threads that cannot be joined


def _step_of(library: Library) -> Outcome:
    """Two steps on a sharded model; every rank has the same data, so one process takes the same steps."""
    task = network()
    expected = sam(task.copy(), steps=2)
    fully_shard(task.model, mesh=init_device_mesh("cpu", (RANKS,)))
    try:
        optimizer = task.build(library)
        for _ in range(2):
            library.step(optimizer, task.closure(optimizer))
    except Exception as raised:  # noqa: BLE001  it is raised on every rank, since all do the same
        return Outcome(False, shown(raised))
    weights = [w.full_tensor() if isinstance(w, DTensor) else w for w in task.weights()]
    return agree(weights, expected)
