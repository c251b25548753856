"""What PyTorch code sends between processes, counted where every call goes past: the dispatcher.

`DistributedDataParallel` calls from C++ while a gradient is computed, and is seen here too.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

from torch.utils._python_dispatch import TorchDispatchMode


class Sent(TorchDispatchMode):
    """Keeps the bytes of each all-reduce inside its `with` block.

    Example:
        >>> import torch
        >>> from torch import distributed
        >>> distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
        >>> with Sent() as sent:
        ...     distributed.all_reduce(torch.ones(10))
        ...     _ = torch.ones(10).sum()  # not sent anywhere
        >>> sent.bytes
        [40]
        >>> distributed.destroy_process_group()
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes: list[int] = []

    def __enter__(self) -> Self:
        """Begin to count, or go on."""
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: object) -> None:
        """Stop."""
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Count one call and make it."""
        operation: Any = func
        if operation.namespace == "c10d" and operation._schema.name.endswith("allreduce_"):
            self.bytes.append(sum(x.numel() * x.element_size() for x in args[0]))
        return func(*args, **(kwargs or {}))
