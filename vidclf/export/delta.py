"""Delta tables: rows appended, or replaced by video, in one commit."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, write_deltalake

from vidclf import storage
from vidclf.errors import ConfigError
from vidclf.export.change import KEYS, Change, Present
from vidclf.export.rows import BATCH_ROWS, RunRows
from vidclf.export.target import Existing
from vidclf.schema import VIDEO_ID

_IS_REMOVAL = "_vidclf_is_removal"
"""Column of the stream of a replacement: true for the id of a video whose rows are removed, false for a new row."""


class DeltaOutput:
    """A Delta table at a path or URI. A reader sees the version before the commit or the one after it."""

    def __init__(self, location: str) -> None:
        self._location = location_of(location)
        self._options = storage_options(self._location)

    def read(self) -> Existing | None:
        """Keys and columns of the newest version; None if there is no table."""
        if not DeltaTable.is_deltatable(self._location, self._options):
            return None
        table = DeltaTable(self._location, storage_options=self._options)
        columns = pa.schema(table.schema().to_arrow())
        if not set(KEYS) <= set(columns.names):
            return Existing(Present(), columns)
        return Existing(Present.of(table.to_pyarrow_table(columns=list(KEYS))), columns)

    def write(self, rows: RunRows, change: Change) -> None:
        """Write the change as one version of the table, which names the run in its commit."""
        # A transaction id would not help: the library records it and writes the same rows again.
        commit = CommitProperties(custom_metadata={"vidclf.run_id": rows.run_id})
        if not change.removed:
            write_deltalake(
                self._location,
                rows.reader(change.written),
                mode="overwrite" if change.removes_all else "append",
                schema_mode="merge",
                commit_properties=commit,
                storage_options=self._options,
            )
            return
        names = rows.columns.names
        stream = pa.RecordBatchReader.from_batches(
            rows.columns.append(pa.field(_IS_REMOVAL, pa.bool_())), _with_removals(rows, change)
        )
        # One video may have several rows, so a merge cannot update them: it removes those of the matched ids and
        # inserts the new rows, which match nothing.
        merger = DeltaTable(self._location, storage_options=self._options).merge(
            stream,
            predicate=f"s.{_IS_REMOVAL} AND t.{VIDEO_ID} = s.{VIDEO_ID}",
            source_alias="s",
            target_alias="t",
            merge_schema=True,
            commit_properties=commit,
        )
        insert = {f'"{name}"': f's."{name}"' for name in names}
        merger.when_matched_delete().when_not_matched_insert(insert, predicate=f"NOT s.{_IS_REMOVAL}").execute()


def location_of(location: str) -> str:
    """The location as the libraries of the table formats take it. Raises ConfigError for a URI with options."""
    location = storage.canonical(location)
    if storage.is_uri(location) and "?" in location:
        raise ConfigError(
            f"--output {location}: must be a URI without options; give region, endpoint and credentials by the "
            "environment (AWS_REGION, AWS_ENDPOINT_URL, AWS_PROFILE)"
        )
    return location


def storage_options(location: str) -> dict[str, str] | None:
    """Options of an object store for the libraries of the table formats, which read the rest from the environment.

    They refuse a server without TLS, such as a MinIO in a local network, unless the program allows it. The other jobs
    accept the address in `AWS_ENDPOINT_URL` as it is, so this one does too.
    """
    is_plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
    return {"allow_http": "true"} if location.startswith("s3://") and is_plain else None


def _with_removals(rows: RunRows, change: Change) -> Iterator[pa.RecordBatch]:
    """The ids of the videos whose rows are removed, then the new rows."""
    schema = rows.columns.append(pa.field(_IS_REMOVAL, pa.bool_()))
    ids = sorted(change.removed)
    for start in range(0, len(ids), BATCH_ROWS):
        part = pa.array(ids[start : start + BATCH_ROWS], pa.string())
        values = [
            part if name == VIDEO_ID else pa.nulls(len(part), rows.columns.field(name).type)
            for name in rows.columns.names
        ]
        yield pa.RecordBatch.from_arrays([*values, pa.array([True] * len(part), pa.bool_())], schema=schema)
    for batch in rows.batches(change.written):
        yield pa.RecordBatch.from_arrays(
            [*batch.columns, pa.array([False] * batch.num_rows, pa.bool_())], schema=schema
        )
