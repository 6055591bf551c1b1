"""Columns between the stages of the pipeline: computed rows of several runs, side by side, with a video's reject
reason."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from vidclf import schema


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
