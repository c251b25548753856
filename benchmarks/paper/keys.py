"""Names of pieces of work: a hash of all that determines one, so that the same work is never done twice."""

import dataclasses
import hashlib
import json
from typing import Any

FORMAT = 1
"""Counts changes of what a piece of work means; raising it lets everything be done anew."""


def described(work: Any) -> Any:
    """Work as JSON can hold it: dataclasses by their name and fields, all else as it is."""
    if dataclasses.is_dataclass(work):
        fields = {field.name: described(getattr(work, field.name)) for field in dataclasses.fields(work)}
        return {"kind": type(work).__name__, **fields}
    if isinstance(work, tuple):
        return [described(part) for part in work]
    return work


def key(work: Any) -> str:
    """The name of this work: 32 hexadecimal digits."""
    text = json.dumps({"format": FORMAT, "work": described(work)}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
