"""Labels, sources, splits and locations of a run's videos, as the run's newest manifest states them.

They are no part of features. A result row keeps the values of the day on which it was written, and every reader
replaces them by those of `manifest.parquet`, which each job that continues the run brings up to date. So a corrected
label, a new split or a moved file needs no decoding, and one file decides.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from vidclf import storage
from vidclf.credentials import masked
from vidclf.runs.layout import Run
from vidclf.schema import CARRIED, VIDEO_ID


class NewestManifest:
    """The columns of a run's manifest that its result rows repeat, in memory, and their join with such rows."""

    def __init__(self, run: str, columns: Sequence[str] = CARRIED) -> None:
        """`columns`: those of `schema.CARRIED` that are wanted."""
        table = storage.read_table(Run(run).manifest_file, [VIDEO_ID, *columns])
        if "video_uri" in columns:
            uris = pa.array(map(masked, table["video_uri"].to_pylist()), pa.string())
            table = table.set_column(table.column_names.index("video_uri"), "video_uri", uris)
        self._table = table
        self._ids = table[VIDEO_ID].combine_chunks()

    def join(self, rows: pa.Table) -> pa.Table:
        """Return `rows` with the wanted columns taken from the manifest, credentials masked.

        Rows of videos that the manifest does not hold are left out.
        """
        position = pc.index_in(rows[VIDEO_ID], self._ids)
        is_held = pc.is_valid(position)
        rows, position = rows.filter(is_held), position.filter(is_held)
        for name in set(self._table.column_names[1:]).intersection(rows.column_names):
            values = self._table[name].take(position)
            rows = rows.set_column(rows.column_names.index(name), rows.schema.field(name), values)
        return rows
