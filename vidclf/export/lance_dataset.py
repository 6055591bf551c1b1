"""Lance datasets: rows appended in one version; any other change writes the rows of the dataset anew as one version."""

from __future__ import annotations

from collections.abc import Iterator

import lance
import pyarrow as pa
import pyarrow.compute as pc

from vidclf import storage
from vidclf.export.change import KEYS, Change, Present
from vidclf.export.delta import location_of, storage_options
from vidclf.export.rows import RunRows
from vidclf.export.target import Existing
from vidclf.schema import VIDEO_ID


class LanceOutput:
    """A Lance dataset at a path or URI.

    `merge_insert` is not used: it inserts an id twice if its source has it twice, as segments do, and new columns would
    need a commit of their own.
    """

    def __init__(self, location: str) -> None:
        self._location = location_of(location)
        self._options = storage_options(self._location)
        self._columns: pa.Schema | None = None

    def read(self) -> Existing | None:
        """Keys and columns of the newest version; None if there is no dataset."""
        if not storage.exists(storage.join(self._location, "_versions")):
            return None
        dataset = lance.dataset(self._location, storage_options=self._options)
        self._columns = dataset.schema
        if not set(KEYS) <= set(self._columns.names):
            return Existing(Present(), self._columns)
        return Existing(Present.of(dataset.to_table(columns=list(KEYS))), self._columns)

    def write(self, rows: RunRows, change: Change) -> None:
        """Write the change as one version, which names the run."""
        properties = {"vidclf.run_id": rows.run_id}
        there = self._columns
        if there is None:
            stream = rows.reader(change.written)
            self._write(stream, "create", properties)
            return
        new = [column for column in rows.columns if column.name not in there.names]
        columns = pa.schema([*there, *new])
        is_appended = not (new or change.removed or change.removes_all)
        batches = _aligned(rows.batches(change.written), columns)
        if not is_appended:
            batches = _both(_aligned(self._kept(change), columns), batches)
        stream = pa.RecordBatchReader.from_batches(columns, batches)
        mode = "append" if is_appended else "overwrite"
        self._write(stream, mode, properties)

    def _write(self, stream: pa.RecordBatchReader, mode: str, properties: dict[str, str]) -> None:
        lance.write_dataset(
            stream, self._location, mode=mode, transaction_properties=properties, storage_options=self._options
        )

    def _kept(self, change: Change) -> Iterator[pa.RecordBatch]:
        """The rows of the newest version that stay."""
        if change.removes_all:
            return
        removed = pa.array(sorted(change.removed), pa.string())
        for batch in lance.dataset(self._location, storage_options=self._options).to_batches():
            yield batch.filter(pc.invert(pc.is_in(batch[VIDEO_ID], removed)))


def _both(first: Iterator[pa.RecordBatch], second: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield from first
    yield from second


def _aligned(batches: Iterator[pa.RecordBatch], columns: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The batches with the columns `columns`, null where a batch lacks one."""
    for batch in batches:
        values = [
            batch[column.name].cast(column.type)
            if column.name in batch.schema.names
            else pa.nulls(batch.num_rows, column.type)
            for column in columns
        ]
        yield pa.RecordBatch.from_arrays(values, schema=columns)
