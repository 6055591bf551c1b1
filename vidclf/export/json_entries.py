"""JSON files with one entry per video: reading, and writing in one step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from vidclf import storage
from vidclf.errors import ConfigError
from vidclf.export.change import Change
from vidclf.export.csv_file import short
from vidclf.export.rows import RunRows
from vidclf.json_text import json_text


def load(location: str) -> Any:
    """The content of a JSON file; None if there is none. Raises ConfigError if it is not JSON.

    The file may be of any size: an export of 100,000 videos has 60 MB and more.
    """
    if not storage.exists(location):
        return None
    try:
        return storage.read_json(location, is_bounded=False)
    except ValueError as error:
        raise ConfigError(f"--output {location}: is not JSON ({error}); choose another name") from error


def values(rows: RunRows, change: Change) -> Iterator[dict[str, Any]]:
    """The new rows as dictionaries, numbers with the digits that their type needs."""
    for batch in rows.batches(change.written):
        columns = [
            [short(value, column.type) for value in column.to_pylist()]
            if "float" in str(column.type)
            else column.to_pylist()
            for column in batch.columns
        ]
        for row in zip(*columns, strict=True):
            yield dict(zip(batch.schema.names, row, strict=True))


def publish(location: str, head: str, entries: Iterable[str], tail: str) -> None:
    """Write a JSON file: `head`, the entries with commas between, `tail`. It is visible as a whole only."""

    def content(stream: Any) -> None:
        stream.write(head.encode())
        for number, entry in enumerate(entries):
            stream.write((",\n" if number else "\n").encode() + entry.encode())
        stream.write(tail.encode())

    storage.publish(location, content)


def text(value: Any) -> str:
    """A value as JSON on one line."""
    return json_text(value, ensure_ascii=False)
