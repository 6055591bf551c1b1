"""JSON text of everything that vidclf writes: files, HTTP answers, log lines and digests.

JSON has no NaN and no infinity. Python writes them all the same, and other programs then refuse the whole file. This is
the only module that makes JSON, so that none can be written (`tests/project/test_architecture.py`).
"""

from __future__ import annotations

import json
import math
from typing import Any


def json_text(value: Any, *, indent: int | None = None, sort_keys: bool = False, ensure_ascii: bool = True) -> str:
    """Return a value as JSON, with null for every number that is not finite: it is not known.

    `indent`, `sort_keys` and `ensure_ascii` are those of `json.dumps`. Raises TypeError if the value has no JSON form.
    """
    return json.dumps(finite(value), indent=indent, sort_keys=sort_keys, ensure_ascii=ensure_ascii, allow_nan=False)


def finite(value: Any) -> Any:
    """Return a nested value of dictionaries and lists with None for every number that is not finite."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, (list, tuple)) else value
