"""Writing a pipeline's rows as shards, committed together. [Ray Data]

Without torch, which would cost every process that writes a second and 400 MB.
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
    """The column of a job's target between stages 3 and 4: its row as a struct, null where rejected."""
    return f"target_{index}"


def written_columns(output_schemas: Sequence[pa.Schema]) -> pa.Schema:
    """What travels from stage 3 to 4 for targets of these schemas."""
    targets = [
        pa.field(target_column(index), pa.struct(list(output_schema)))
        for index, output_schema in enumerate(output_schemas)
    ]
    reject = [pa.field(name, pa.string()) for name in ("reject_reason", "reject_message")]
    return pa.schema([schema.MANIFEST.field(schema.VIDEO_ID), schema.MANIFEST.field("video_uri"), *targets, *reject])


class RunSink(BlockBasedFileDatasink):
    """Stage 4: one task's rows to `part-*.parquet` and `quarantine/part-*.parquet` of each run.

    All these files carry the name that Ray Data's checkpoint knows the task by. Where a task is run
    again, it leaves what it would have left alone; where it was killed between two files, the next
    start of the job sees that in the shards (`vidclf/reconcile.py`).
    """

    def __init__(
        self,
        output: str,
        runs: dict[str, pa.Schema],
        rows_per_shard: int,
        attempts: list[Any],
        segments: dict[str, pa.Schema] | None = None,
    ) -> None:
        """`runs` are the directories to fill in a job's `output` and their schemas, `segments` the schemas
        of the segments of those that have any; `attempts` holds one reference to the attempts before this
        job, by video id."""
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
            rows = (
                _masked(pa.Table.from_struct_array(arrow.combined(ok[target_column(index)]))) if ok.num_rows else None
            )
            if run in self._segments:
                # Before the videos' rows: what is done has its segments, and segments without their video
                # are what a killed task left (`vidclf/reconcile.py` removes them).
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


def _masked(rows: pa.Table) -> pa.Table:
    """Rows that may be shared. What reads a video again takes its location from the run's manifest."""
    found = rows["video_uri"].to_pylist()
    if not any(map(credentials.has_credentials, found)):
        return rows
    place = rows.column_names.index("video_uri")
    return rows.set_column(place, "video_uri", pa.array(map(credentials.masked, found), pa.string()))


def _segments(rows: pa.Table) -> pa.Table:
    """The segments of some videos, one row each, with the ids and locations of their videos."""
    nested = arrow.combined(rows[schema.SEGMENTS_COLUMN])
    of_video = pc.list_parent_indices(nested)
    flat = pa.Table.from_struct_array(pc.list_flatten(nested))
    for position, name in enumerate((schema.VIDEO_ID, "video_uri")):
        flat = flat.add_column(position, name, rows[name].take(of_video))
    return flat


def _publish(location: str, rows: pa.Table | None, output_schema: pa.Schema) -> None:
    """Publish a shard; where there are no rows, make sure that none is left of an attempt before."""
    if rows is not None:
        storage.publish_table(location, arrow.conform(rows, output_schema, "shard"))
    elif storage.exists(location):
        storage.delete_file(location)


class _PartNames(FilenameProvider):
    def get_filename_for_task(self, write_uuid: str, task_index: int) -> str:
        return shard_name(write_uuid, task_index)
