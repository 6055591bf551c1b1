"""Writing the pipeline's result rows as shards (Parquet files) that are committed together. [Ray Data]

This module works without torch, which would cost every writing process a second and 400 MB.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.data.block import BlockAccessor
from ray.data.datasource import BlockBasedFileDatasink, FilenameProvider

from vidclf import arrow, credentials, schema, storage
from vidclf.runs import lease
from vidclf.runs.layout import Run, shard_name


def target_column(index: int) -> str:
    """Return the name of the column that carries the rows for the run (output directory) number `index` of a job.

    The column exists between stages 3 (CNN) and 4 (writing). Each value is a struct with the columns `row_schema` of
    the run (`RunSpec`); null for a rejected video.
    """
    return f"target_{index}"


def written_columns(row_schemas: Sequence[pa.Schema]) -> pa.Schema:
    """Return the columns between stages 3 (CNN) and 4 (writing), for a job whose runs have the `row_schemas` given.

    A run is an output directory. The columns are `video_id`, those of `schema.CARRIED`, one `target_column` per run,
    and reject reason and message, which are null for videos that were not rejected.
    """
    manifest = [schema.MANIFEST.field(name) for name in (schema.VIDEO_ID, *schema.CARRIED)]
    targets = [
        pa.field(target_column(index), pa.struct(list(row_schema))) for index, row_schema in enumerate(row_schemas)
    ]
    reject = [pa.field(name, pa.string()) for name in ("reject_reason", "reject_message")]
    return pa.schema([*manifest, *targets, *reject])


class RunSink(BlockBasedFileDatasink):
    """Stage 4 of the pipeline: write rows to `part-*.parquet` and `quarantine/part-*.parquet` (rejected videos).

    All runs (output directories) of the job are written together. The files of a task have the name by which Ray
    Data's checkpoint knows the task. A task that runs again therefore replaces its own files. After a kill between
    two files, the next start of the job finds the difference in the files and repairs it
    (`vidclf/runs/reconcile.py`).
    """

    def __init__(
        self,
        output: str,
        runs: dict[str, pa.Schema],
        rows_per_shard: int,
        attempts: list[Any],
        segments: dict[str, pa.Schema] | None = None,
    ) -> None:
        """`output`: the job's output. `runs`: the columns of each run (output directory), by location.

        `rows_per_shard`: rows per Parquet file. `segments`: the columns of the segments, by location, for runs with
        segments. `attempts`: one reference to the number of earlier attempts by video id; in a list, so that Ray
        passes the reference on.
        """
        filesystem, path = storage.resolve(output)
        super().__init__(
            path,
            filesystem=filesystem,
            min_rows_per_file=rows_per_shard,
            file_format="parquet",
            filename_provider=_PartNames(),
        )
        self._runs = runs
        self._segments = segments or {}
        self._attempts = attempts
        self._guard = lease.guard(output)

    def write_block(self, block: BlockAccessor, block_index: int, ctx: Any) -> None:
        self._guard.check()
        table = _masked(block.to_arrow())
        name = self.filename_provider.get_filename_for_task(ctx.kwargs["write_uuid"], ctx.task_idx)
        is_ok = pc.is_null(table["reject_reason"])
        ok = table.filter(is_ok)
        for index, (run, output_schema) in enumerate(self._runs.items()):
            rows = _with_carried(ok, target_column(index), output_schema) if ok.num_rows else None
            if run in self._segments:
                # Segments are written before the rows of their videos. A finished video therefore has its segments.
                # Segments without a video come from a killed task; `vidclf/runs/reconcile.py` removes them.
                segments = None if rows is None else _segments(rows)
                _publish(storage.join(Run(run).segments_dir, name), segments, self._segments[run])
                rows = None if rows is None else rows.drop_columns([schema.SEGMENTS_COLUMN])
            _publish(storage.join(run, name), rows, output_schema)
        rejected = table.filter(pc.invert(is_ok)).select(["video_id", "video_uri", "reject_reason", "reject_message"])
        quarantined = None
        if rejected.num_rows:
            before = ray.get(self._attempts[0])
            attempts = [before.get(video, 0) + 1 for video in rejected["video_id"].to_pylist()]
            rejected = rejected.append_column("attempts", pa.array(attempts, pa.int32()))
            quarantined = rejected.rename_columns(schema.QUARANTINE.names)
        for run in self._runs:
            _publish(storage.join(Run(run).quarantine_dir, name), quarantined, schema.QUARANTINE)


def _with_carried(ok: pa.Table, target: str, output_schema: pa.Schema) -> pa.Table:
    """Return the rows of one run: the computed ones in the column `target`, with the carried columns of the run."""
    rows = pa.Table.from_struct_array(arrow.combined(ok[target]))
    for name in output_schema.names:
        if name not in rows.column_names:
            rows = rows.append_column(name, ok[name])
    return rows


def _masked(rows: pa.Table) -> pa.Table:
    """Return `rows` with credentials in `video_uri` masked, so that the rows may be shared.

    A later job that reads a video again takes its location from the run's manifest.
    """
    locations = rows["video_uri"].to_pylist()
    if not any(map(credentials.has_credentials, locations)):
        return rows
    position = rows.column_names.index("video_uri")
    return rows.set_column(position, "video_uri", pa.array(map(credentials.masked, locations), pa.string()))


def _segments(rows: pa.Table) -> pa.Table:
    """Return a table with 1 row per segment of the videos in `rows`, with the id and the location of its video."""
    nested = arrow.combined(rows[schema.SEGMENTS_COLUMN])
    video_index = pc.list_parent_indices(nested)
    flat = pa.Table.from_struct_array(pc.list_flatten(nested))
    for position, name in enumerate((schema.VIDEO_ID, "video_uri")):
        flat = flat.add_column(position, name, rows[name].take(video_index))
    return flat


def _publish(location: str, rows: pa.Table | None, output_schema: pa.Schema) -> None:
    """Write `rows` as a shard (Parquet file) at `location`, visible only when complete.

    If `rows` is None, delete a shard that an earlier attempt left there.
    """
    if rows is not None:
        storage.publish_table(location, arrow.conform(rows, output_schema, "shard"))
    elif storage.exists(location):
        storage.delete_file(location)


class _PartNames(FilenameProvider):
    """Names of shards (result files), made from the id of the write and the number of the task."""

    def get_filename_for_task(self, write_uuid: str, task_index: int) -> str:
        return shard_name(write_uuid, task_index)
