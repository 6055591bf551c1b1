"""Interface of the outputs of an export, one class per format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from vidclf.errors import ConfigError
from vidclf.export.change import KEYS, Change, Present
from vidclf.export.rows import RunRows


@dataclass(frozen=True)
class Existing:
    """What an output has before the export."""

    present: Present
    """keys of its rows"""
    columns: pa.Schema | None = None
    """its columns; None if the format has no types"""


class Target(Protocol):
    """An output of an export."""

    def read(self) -> Existing | None:
        """What the output has; None if there is none yet. Raises ConfigError if it was not written by this job."""
        ...

    def write(self, rows: RunRows, change: Change) -> None:
        """Remove and add the rows of `change` in one commit. A job that is killed before leaves the output as it
        was."""
        ...


def check_columns(where: str, there: pa.Schema, ours: pa.Schema) -> None:
    """Raise ConfigError if rows with the columns `ours` do not fit into a table with the columns `there`.

    Columns that only one of them has are no obstacle: the others' rows are null there. The libraries would convert
    values of other types, and lose digits or texts.
    """
    missing = [name for name in KEYS if name not in there.names]
    if missing:
        raise ConfigError(
            f"--output {where}: has no column {', '.join(missing)}, so jobs/export.py did not write it; choose another "
            "place"
        )
    if ("segment_index" in there.names) != ("segment_index" in ours.names):
        kinds = ("videos", "segments") if "segment_index" in ours.names else ("segments", "videos")
        raise ConfigError(f"--output {where}: its rows are {kinds[0]}, not {kinds[1]}; choose another place")
    for column in ours:
        if column.name in there.names and plain(there.field(column.name).type) != plain(column.type):
            raise ConfigError(
                f"--output {where}: the column {column.name} is {plain(there.field(column.name).type)} there and "
                f"{plain(column.type)} in this run; choose another place"
            )


def plain(kind: pa.DataType) -> str:
    """Text of an Arrow type in which the variants of text, lists and field names do not show."""
    if pa.types.is_large_string(kind) or pa.types.is_string(kind) or str(kind) == "string_view":
        return "string"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or str(kind).startswith("list_view"):
        return f"list of {plain(kind.value_type)}"
    return str(kind)
