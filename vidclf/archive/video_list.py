"""Lists of videos: Parquet, CSV, JSON Lines, JSON, plain text and answers of Label Studio, as rows of a manifest
without ids.

The location of a video is in a column `video_uri`, `uri`, `path`, `filepath` or `url`. The columns `label`, `sublabel`,
`group` and `split` are read too, whatever the case of their names.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vidclf import storage
from vidclf.archive import label_studio, text_list
from vidclf.archive.directory_labels import split_of
from vidclf.archive.list_values import (
    LOCATION_COLUMNS,
    TEXT_COLUMNS,
    column_name,
    location_of,
    text_of,
    twice,
    without_fractions,
)
from vidclf.archive.parquet_list import bounded_batches
from vidclf.archive.video_names import extension
from vidclf.errors import ConfigError
from vidclf.schema import VIDEO_ID


@dataclass
class VideoList:
    """Content of a list of videos."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    """one row per video with `video_uri` and those of `TEXT_COLUMNS` that have a value; in a list of labels, the
    `video_id` may stand for the location"""
    unread_columns: dict[str, None] = field(default_factory=dict)
    """names of the columns that are not read, in the order of the list"""
    unanswered: list[str] = field(default_factory=list)
    """locations of the tasks of Label Studio without an answer, which give no row"""
    flag: str = "--input"
    """flag that names the list, for error messages"""
    is_of_labels: bool = False
    """whether the list changes labels of videos that are known, so that their ids are read too"""

    @property
    def naming(self) -> tuple[str, ...]:
        """Columns that may name a video; the list must have one of them."""
        return (*LOCATION_COLUMNS, VIDEO_ID) if self.is_of_labels else LOCATION_COLUMNS


def read_list(location: str, files: list[str], *, labelled: bool) -> VideoList:
    """Read the list of videos at `location`, which consists of one or several files.

    Without `labelled`, only the locations are read. Raises ConfigError if a location is listed more than once, or a
    value cannot be read.
    """
    return _read(VideoList(), location, files, labelled=labelled)


def read_labels(location: str) -> VideoList:
    """Read the list of labels at `location`, one file, which may name a video several times.

    A row also has the `video_id` that the list gives. Raises ConfigError if a value cannot be read.
    """
    return _read(VideoList(flag="--labels", is_of_labels=True), location, [location], labelled=True)


def _read(content: VideoList, location: str, files: list[str], *, labelled: bool) -> VideoList:
    """Read the list of videos at `location` into `content`, and return it."""
    base = location if location not in files else posixpath.dirname(location)
    listed_uris: set[str] = set()
    number = 0
    for file in files:
        for records in _records(file, content):
            repeated: list[str] = []
            for record in records:
                number += 1
                row = _listed_row(location, number, record, base, content, labelled=labelled)
                content.rows.append(row)
                if content.is_of_labels:
                    continue
                if row["video_uri"] in listed_uris:
                    repeated.append(row["video_uri"])
                listed_uris.add(row["video_uri"])
            if repeated:
                raise repeated_error(location, list(dict.fromkeys(repeated)))
    for column in ("label", "sublabel"):
        without_fractions(content.rows, column)
    return content


def parquet_files(directory: str) -> list[str]:
    """Return the Parquet files of a directory that is one list, as Spark and `extract` write it."""
    files = storage.list_files(directory, ".parquet")
    return [file for file in files if not posixpath.basename(file).startswith((".", "_"))]


def repeated_error(location: str, repeated: list[str]) -> ConfigError:
    """Return the error for locations that a list holds more than once."""
    return ConfigError(
        f"--input {location}: lists {first_uris(repeated)} more than once; every video must be listed once"
    )


def first_uris(uris: list[str]) -> str:
    """Return the first three locations and the number of the others as text for an error message."""
    return ", ".join(repr(uri) for uri in uris[:3]) + (f" and {len(uris) - 3} more" if len(uris) > 3 else "")


def _listed_row(
    location: str, number: int, record: Any, base: str, content: VideoList, *, labelled: bool
) -> dict[str, Any]:
    """Return the manifest row for one entry `record` of the list file at `location`.

    `number` counts the entries from 1, for the error message. Columns that are not read are noted in `content`. Without
    `labelled`, only locations are wanted.
    """
    ids = (VIDEO_ID,) if content.is_of_labels else ()
    read = {*content.naming, *TEXT_COLUMNS}
    record = {"video_uri": record} if isinstance(record, str) else record
    values = {column_name(name): value for name, value in record.items()} if isinstance(record, dict) else {}
    row: dict[str, Any] = {}
    column = "video_uri"
    try:
        column = next((name for name in content.naming if text_of(values.get(name)) is not None), "")
        if not column:
            raise ConfigError(
                f"{content.flag} {location}: row {number} names no video in any of {', '.join(content.naming)}"
            )
        if column != VIDEO_ID:
            row["video_uri"] = location_of(values[column], base)
        for column in (*ids, *TEXT_COLUMNS) if labelled else ():
            text = text_of(values.get(column))
            if text is not None:
                row[column] = (split_of(text) or text) if column == "split" else text
    except ConfigError as error:
        text = str(error)
        raise (
            error if text.startswith(content.flag) else ConfigError(f"{content.flag} {location}: row {number}: {text}")
        ) from None
    except ValueError as error:
        raise ConfigError(f"{content.flag} {location}: row {number}: {column} {error}") from None
    if labelled and len(values.keys() - read):
        content.unread_columns.update({name: None for name in record if column_name(name) not in read})
    return row


def _records(location: str, content: VideoList) -> Iterator[list[Any]]:
    """Yield the entries of a list file in batches; a Parquet file is never in memory as a whole.

    An entry is a text with the video's location or a dictionary of columns. Unread columns of a Parquet file are noted
    in `content`.
    """
    form = extension(location)
    try:
        if form == "parquet":
            names = _parquet_columns(location, content.naming)
            wanted = {*content.naming, *TEXT_COLUMNS}
            read = tuple(name for name in names if column_name(name) in wanted)
            content.unread_columns.update({name: None for name in names if name not in read})
            key = tuple(name for name in read if column_name(name) in content.naming)
            for batch in bounded_batches(location, read, key, flag=content.flag):
                yield batch.to_pylist()
            return
        text = text_list.decoded(storage.read_bytes(location), posixpath.basename(location))
    except (ValueError, pa.ArrowInvalid) as error:
        raise _fault(location, error, content.flag) from error
    except OSError as error:
        raise ConfigError(f"{content.flag} {location}: cannot be read ({error})") from None
    try:
        records: Any
        if form in ("csv", "tsv"):
            records = text_list.read_table(text, "\t" if form == "tsv" else None, content.naming)
        elif form == "txt":
            records = text_list.read_lines(text, content.naming)
        elif form == "json":
            records = json.loads(text, object_pairs_hook=_object)
        else:
            records = [json.loads(line, object_pairs_hook=_object) for line in text.split("\n") if line.strip()]
    except (ValueError, RecursionError) as error:
        raise _fault(location, error, content.flag) from error
    if not isinstance(records, list):
        raise ConfigError(f"{content.flag} {location}: must hold a list of videos, holds {type(records).__name__}")
    if label_studio.is_export(records):
        try:
            answers = label_studio.read_answers(records)
        except ValueError as error:
            raise _fault(location, error, content.flag) from error
        content.unanswered += answers.unanswered
        records = answers.records
    yield records


def _fault(location: str, error: Exception, flag: str) -> ConfigError:
    """Return the error for a list that cannot be read; our own messages name the remedy and stay as they are."""
    if isinstance(error, ConfigError):
        return error
    if type(error) is ValueError:
        return ConfigError(f"{flag} {location}: {error}")
    return ConfigError(f"{flag} {location}: not readable as {extension(location)} ({error})")


def _parquet_columns(location: str, naming: tuple[str, ...]) -> list[str]:
    """Return the names of the columns of a Parquet file. Raises ValueError if a column that is read is there twice, or
    if none of `naming` is there."""
    filesystem, path = storage.resolve(location)
    with filesystem.open_input_file(path) as stream:
        names = [str(name) for name in pq.read_schema(stream).names]
    name = twice(name for name in names if column_name(name) in (*naming, *TEXT_COLUMNS))
    if name is not None:
        raise ValueError(f"names the column {name!r} twice; rename or remove one")
    if not any(column_name(name) in naming for name in names):
        shown = ", ".join(map(repr, names))
        raise ValueError(f"must have a column {', '.join(naming)}, has {shown}; rename the column")
    return names


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object as a dictionary. Raises ValueError if it has a name twice: the first value would be lost."""
    name = twice(name for name, _ in pairs)
    if name is not None:
        raise ValueError(f"names the column {name!r} twice; rename or remove one")
    return dict(pairs)
