"""Search for NaN in the values of a JSON file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any


def nan_names(value: Any, name: str) -> Iterator[str]:
    """Names of the NaN values inside `value`, a nested JSON value called `name`, with the levels joined by dots."""
    if isinstance(value, float) and math.isnan(value):
        yield name
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from nan_names(item, f"{name}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from nan_names(item, f"{name}.{index}")
