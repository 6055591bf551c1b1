"""Search for NaN and infinite numbers in the values of a JSON file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


def names_where(is_found: Callable[[float], bool], value: Any, name: str) -> Iterator[str]:
    """Names of the numbers for which `is_found` holds inside `value`, a nested JSON value called `name`, with the
    levels joined by dots."""
    if isinstance(value, float) and is_found(value):
        yield name
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from names_where(is_found, item, f"{name}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from names_where(is_found, item, f"{name}.{index}")
