"""CSV files: one line per row, lists as JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from vidclf import storage
from vidclf.csv_text import plain_text
from vidclf.errors import ConfigError
from vidclf.export.change import KEYS, Change, Present
from vidclf.export.rows import RunRows
from vidclf.export.target import Existing
from vidclf.json_text import json_text
from vidclf.runs import outputs


class CsvFile:
    """A CSV file in UTF-8 with a header. It is written anew beside the old one and takes its place by its name."""

    def __init__(self, location: str) -> None:
        self._location = outputs.real(location)
        self._names: list[str] = []

    def read(self) -> Existing | None:
        """Keys of the rows of the file; None if there is no file."""
        if not storage.exists(self._location):
            return None
        present = Present()
        for row in self._rows():
            present.add(*(row[name] for name in KEYS))
        return Existing(present)

    def write(self, rows: RunRows, change: Change) -> None:
        """Write the rows that stay, then the new ones. Columns that a row lacks are empty."""
        names = self._names + [name for name in rows.columns.names if name not in self._names]
        if self._names and ("segment_index" in self._names) != rows.is_of_segments:
            raise ConfigError(f"--output {self._location}: has rows of another sort (--rows); choose another name")

        def content(stream: Any) -> None:
            text = io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=True)
            writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
            writer.writeheader()
            if self._names and not change.removes_all:
                writer.writerows(row for row in self._rows() if row["video_id"] not in change.removed)
            for batch in rows.batches(change.written):
                writer.writerows(cells(batch))
            text.flush()
            text.detach()

        storage.publish(self._location, content)

    def _rows(self) -> Iterator[dict[str, str]]:
        """The rows of the file as texts. Raises ConfigError if it has not the columns `KEYS`."""
        filesystem, path = storage.resolve(self._location)
        with (
            filesystem.open_input_stream(path, compression=None) as stream,
            io.TextIOWrapper(stream, encoding="utf-8", newline="") as text,
        ):
            reader = csv.DictReader(text)
            self._names = list(reader.fieldnames or ())
            missing = [name for name in KEYS if name not in self._names]
            if missing:
                raise ConfigError(f"--output {self._location}: has no column {', '.join(missing)}; choose another name")
            yield from reader


def cells(batch: pa.RecordBatch) -> Iterator[dict[str, str]]:
    """The rows of a batch as texts: numbers with the digits that their type needs, lists as JSON, null as nothing.

    Text that looks like a spreadsheet formula gets an apostrophe in front.
    """
    columns = {name: [_cell(value, column.type) for value in column.to_pylist()] for name, column in _columns(batch)}
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))


def _columns(batch: pa.RecordBatch) -> Iterator[tuple[str, pa.Array]]:
    return zip(batch.schema.names, batch.columns, strict=True)


def _cell(value: Any, kind: pa.DataType) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return plain_text(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(short(value, kind))
    if isinstance(value, list):
        return json_text(short(value, kind), ensure_ascii=False)
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def short(value: Any, kind: pa.DataType) -> Any:
    """A number, or the numbers in a list, with as many digits as its type needs: 0.9 for the float32 next to it."""
    if isinstance(value, list):
        return [short(item, kind.value_type) for item in value]
    return float(str(np.float32(value))) if pa.types.is_float32(kind) else value
