"""What a piece of PyTorch code asks of the machine: calls of the dispatcher, and bytes read and written.

Bytes are those of the tensors that a call reads and of those that it writes, so that a copy counts twice. A call
stands for a kernel's launch, or for a few where it takes whole lists of tensors; one that touches no byte, such as a
view, fresh memory or a profiler's mark, is not counted.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, Self, TypeVar

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

T = TypeVar("T")

ONLY_WRITES = ("copy_", "_foreach_copy_", "fill_", "zero_", "_foreach_zero_", "normal_", "uniform_")
"""Calls that write into a tensor without reading it."""
READS = ("_local_scalar_dense", "equal", "nonzero", "is_nonzero")
"""Calls that bring a value to the host."""


class Count(TorchDispatchMode):
    """Counts what is called inside its `with` block.

    Example:
        >>> x, y = torch.zeros(10), torch.ones(10)
        >>> with Count() as count:
        ...     _ = x.add_(y, alpha=2.0)
        >>> count.calls, count.bytes, dict(count.names)
        (1, 120, {'add_': 1})
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0
        self.names: Counter[str] = Counter()

    def __enter__(self) -> Self:
        """Begin to count, or go on."""
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: object) -> None:
        """Stop."""
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    @property
    def calls(self) -> int:
        """How many calls there were."""
        return sum(self.names.values())

    @property
    def reads(self) -> int:
        """How many of them brought a value to the host."""
        return sum(self.names[name] for name in READS)

    def passes(self, over: Iterable[torch.Tensor]) -> float:
        """Bytes in units of the memory of these tensors."""
        return self.bytes / sum(x.numel() * x.element_size() for x in over)

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Count one call and make it."""
        kwargs = dict(kwargs or {})
        result = func(*args, **kwargs)
        traffic = _traffic(func, args, kwargs, result)
        self.names[func.__name__.partition(".")[0]] += traffic > 0
        self.bytes += traffic
        return result


def peak_bytes(function: Callable[[], T]) -> tuple[T, int, int]:
    """What a function on the CPU returns; the memory that tensors took at most meanwhile; and what it left.

    Example:
        >>> _, most, left = peak_bytes(lambda: (torch.zeros(1000) + 1)[:1])
        >>> most, left
        (8000, 4000)
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiled:
        found = function()
    results: Any = profiled.profiler
    events = [event for event in results.kineto_results.events() if event.name() == "[memory]"]
    sizes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return found, max(accumulate(sizes), default=0), sum(sizes)


def _traffic(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> int:
    """The bytes that one call reads and writes."""
    schema = func._schema
    if func.is_view or "empty" in schema.name:
        return 0
    name = schema.name.partition("::")[2]
    written, read = 0, 0
    for place, argument in enumerate(schema.arguments):
        value = args[place] if place < len(args) else kwargs.get(argument.name)
        size = sum(map(_size, _tensors(value)))
        if argument.alias_info is not None and argument.alias_info.is_write:
            written += size
            if not argument.is_out and name not in ONLY_WRITES:
                read += size
        else:
            read += size
    if not written:
        written = sum(map(_size, _tensors(result)))
    return read + written


def _size(x: torch.Tensor) -> int:
    return x.numel() * x.element_size()


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)
