"""Values of a list of videos as text: column names, class names, locations, and what counts as missing."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable
from typing import Any

from vidclf import storage
from vidclf.archive.label_spelling import canonical_name
from vidclf.archive.video_names import VIDEO_EXTENSIONS, extension

LOCATION_COLUMNS = ("video_uri", "uri", "path", "filepath", "url")
"""Columns of a list file that may hold the location of a video; the first of them with a value is used."""

TEXT_COLUMNS = ("label", "sublabel", "group", "split")
"""Other columns of a list file that are read."""

_MISSING = frozenset(("", "nan", "n/a", "#n/a", "<na>", "null"))
"""Words, in lower case, that stand for a missing value. "NA" and "none" may be names of classes."""

_WINDOWS_PATH = re.compile(r"(file:/+)?[A-Za-z]:[\\/]|\\\\|//[^/]+/[A-Za-z]\$")
_WHOLE_NUMBER = re.compile(r"-?\d+\.0+")


def column_name(name: str) -> str:
    """Return the name of a column without spaces at its ends and in lower case, as columns are compared."""
    return name.strip().lower()


def twice(names: Iterable[str]) -> str | None:
    """Return the first name of a header that stands there twice; None if there is none. Empty names may repeat."""
    seen: set[str] = set()
    for name in map(column_name, names):
        if name and name in seen:
            return name
        seen.add(name)
    return None


def text_of(value: Any) -> str | None:
    """Return a value of a list as text; None if it is missing.

    Bytes are decoded, and whole numbers lose their fraction: pandas writes classes 0 and 1 as 0.0 and 1.0 if one is
    missing. Raises ValueError if the value is no single value, or bytes that are not UTF-8.
    """
    if isinstance(value, bytes):
        value = value.decode()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, (list, dict)):
        raise ValueError(f"must be one value, is {value!r}")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = canonical_name(str(value))
    return None if text.lower() in _MISSING else text


def without_fractions(rows: list[dict[str, Any]], column: str) -> None:
    """Write the class names of a column as `0` instead of `0.0`, if all of them are whole numbers with a fraction."""
    if all(_WHOLE_NUMBER.fullmatch(row[column]) for row in rows if row.get(column) is not None):
        for row in rows:
            if row.get(column) is not None:
                row[column] = row[column].split(".")[0]


def location_of(value: Any, base: str) -> str:
    """Return the canonical location of a video that a list names. Relative paths are below `base`.

    Spaces at the ends are no part of it, unless there is a file with them. Raises ValueError if it is no text, or a
    path of Windows; ConfigError if it is a `file://` URI of another machine.
    """
    if isinstance(value, bytes):
        value = value.decode()
    if not isinstance(value, str):
        raise ValueError(f"must be text, is {value!r}")
    stripped = value.strip()
    if stripped != value and not storage.is_uri(value) and os.path.lexists(storage.canonical(value, base=base)):
        return storage.canonical(value, base=base)
    backslashes = "\\" in stripped and "/" not in stripped and not os.path.lexists(storage.canonical(stripped, base))
    if _WINDOWS_PATH.match(stripped) or backslashes:
        raise ValueError(f"is a path of Windows, {stripped!r}; write the path under which this machine has the archive")
    return storage.canonical(stripped, base=base)


def looks_like_a_location(text: str) -> bool:
    """Return whether a text is probably the location of a video, and not a name of a column or a class."""
    return "/" in text or "\\" in text or extension(text.strip()) in VIDEO_EXTENSIONS
