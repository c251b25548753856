"""Work in parallel: processes of one thread each, so that a step's time means the same in all of them."""

import contextlib
import multiprocessing
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from typing import Any, TypeVar

Given = TypeVar("Given")
Found = TypeVar("Found")

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NPROC": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "JAX_PLATFORMS": "cpu",
    "MPLBACKEND": "agg",
}


class ThisProcess(Executor):
    """An executor that does the work at once, in this process: for tests and debuggers."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Do it, and return its result as a future that is done."""
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@contextlib.contextmanager
def processes(workers: int) -> Iterator[Executor]:
    """A pool of `workers` new processes of one thread each; work not begun is dropped where this block is left.

    What one of them has compiled in JAX, the others read: they share a folder, for as long as the pool is.
    """
    with tempfile.TemporaryDirectory() as compiled, environment(**ONE_THREAD, **shared(compiled)):
        executor = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=one_thread)
        try:
            yield executor
        finally:
            executor.shutdown(cancel_futures=True)


def shared(folder: str) -> dict[str, str]:
    """What tells JAX to keep there all that takes it longer than a tenth of a second to compile."""
    return {
        "JAX_COMPILATION_CACHE_DIR": folder,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


@contextlib.contextmanager
def environment(**values: str) -> Iterator[None]:
    """These variables as they are given, for this process's children, and afterwards as they were."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def one_thread() -> None:
    """Hold PyTorch in this process to one thread; the environment does the same for all else."""
    import torch

    torch.set_num_threads(1)
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    """End this process when that which started it has ended, however: a killed one cannot say goodbye."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def each(
    executor: Executor, function: Callable[[Given], Found], work: Sequence[Given]
) -> Iterator[tuple[Given, Found]]:
    """Do `function` for each piece of work, and yield the pieces with their results as they are finished."""
    futures = {executor.submit(function, piece): piece for piece in work}
    for future in as_completed(futures):
        yield futures[future], future.result()
