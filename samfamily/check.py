"""Checks of hyper-parameters, each with an error that names the value and the remedy."""

from __future__ import annotations

from math import inf, isfinite
from numbers import Integral, Real
from typing import Any


def nonnegative(name: str, value: float) -> None:
    """Raise ValueError unless `value` is a finite number of at least 0."""
    if not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r} of type {type(value).__name__}")
    if not (value >= 0 and isfinite(value)):
        raise ValueError(f"{name} must be finite and at least 0, got {value!r}: choose a value such as {name}=0.05")


def radius(name: str, value: Any) -> Any:
    """Return `value` if it can be a radius: a finite number of at least 0, or an array whose value is not known yet."""
    if isinstance(value, Real):
        nonnegative(name, float(value))
        return value
    if getattr(value, "ndim", 0) != 0:
        raise ValueError(f"{name} must be one number, got an array of shape {value.shape}: pass a 0-d array")
    try:
        if not bool((value >= 0) & (value < inf)):
            raise ValueError(f"{name} must be finite and at least 0, got {value!r}: choose a value such as {name}=0.05")
    except TypeError as error:
        # An array that is being traced has no truth value yet and says so with a TypeError of its own.
        if not hasattr(value, "dtype"):
            raise TypeError(f"{name} must be a number or a schedule step -> {name}, got {value!r}") from error
    return value


def norm_order(name: str, value: float) -> None:
    """Raise ValueError unless `value` is in [1, inf]."""
    if not isinstance(value, Real):
        raise TypeError(f"{name} must be a number in [1, inf], got {value!r} of type {type(value).__name__}")
    if not value >= 1:
        raise ValueError(f"{name} must be in [1, inf] to be a norm, got {value!r}: use 1, 2 or float('inf')")


def fraction(name: str, value: float) -> None:
    """Raise unless `value` is a number in (0, 1]."""
    if not isinstance(value, Real):
        raise TypeError(f"{name} must be a number in (0, 1], got {value!r} of type {type(value).__name__}")
    if not 0 < value <= 1:
        raise ValueError(f"{name} must be in (0, 1], got {value!r}: choose a value such as 0.5")


def number(name: str, value: float) -> None:
    """Raise unless `value` is a finite number."""
    if not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r} of type {type(value).__name__}")
    if not isfinite(value):
        raise ValueError(f"{name} must be finite, got {value!r}: choose a value such as {name}=0.5")


def positive_integer(name: str, value: int) -> None:
    """Raise unless `value` is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be a whole number, got {value!r} of type {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}: use {name}=1 or more")
