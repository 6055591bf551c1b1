"""Shards of a write task, also of one that runs a second time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from ray.data.block import BlockAccessor

from vidclf.pipeline.sink import RunSink, target_column, written_columns

COMPUTED = pa.schema([pa.field("video_id", pa.string(), False), pa.field("value", pa.string())])

WRITTEN = pa.schema([*COMPUTED, pa.field("video_uri", pa.string(), False)])


def write(tmp_path: Path, *rows: tuple[str, str | None]) -> None:
    """Write rows, given as id and reject reason, to the shards of task 7."""
    table = pa.Table.from_pylist(
        [
            {
                "video_id": video,
                "video_uri": f"{video}.mp4",
                "group": "g",
                **{
                    target_column(i): {"video_id": video, "value": name}
                    for i, name in enumerate(("x", "y"))
                    if not reason
                },
                "reject_reason": reason,
                "reject_message": reason and "cut",
            }
            for video, reason in rows
        ],
        schema=written_columns([COMPUTED, COMPUTED]),
    )
    context: Any = SimpleNamespace(kwargs={"write_uuid": "u"}, task_idx=7)
    sink = RunSink(str(tmp_path), {f"{tmp_path}/one": WRITTEN, f"{tmp_path}/two": WRITTEN}, 8, [ray.put({"2": 1})])
    sink.write_block(BlockAccessor.for_block(table), 0, context)


@pytest.mark.usefixtures("ray_session")
def test_the_sink_separates_ok_rows_from_rejected_ones_in_every_run_and_adds_their_locations(tmp_path: Path) -> None:
    write(tmp_path, ("1", None), ("2", "truncated"), ("3", None))
    for name, value in (("one", "x"), ("two", "y")):
        assert pq.read_table(tmp_path / name / "part-u-000007.parquet").to_pylist() == [
            {"video_id": "1", "value": value, "video_uri": "1.mp4"},
            {"video_id": "3", "value": value, "video_uri": "3.mp4"},
        ]
        assert pq.read_table(tmp_path / name / "quarantine/part-u-000007.parquet").to_pylist() == [
            {"video_id": "2", "video_uri": "2.mp4", "reason": "truncated", "message": "cut", "attempts": 2}
        ]


@pytest.mark.usefixtures("ray_session")
def test_a_task_that_is_run_again_leaves_no_row_of_its_first_attempt(tmp_path: Path) -> None:
    write(tmp_path, ("1", None), ("2", "decoder_crashed"))
    write(tmp_path, ("1", None), ("2", None))
    shards = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.parquet")}
    assert shards == {"one/part-u-000007.parquet", "two/part-u-000007.parquet"}
    write(tmp_path, ("1", "truncated"), ("2", "truncated"))
    shards = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.parquet")}
    assert shards == {"one/quarantine/part-u-000007.parquet", "two/quarantine/part-u-000007.parquet"}


def test_a_writing_process_works_without_torch() -> None:
    code = "import sys, vidclf.pipeline.sink; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
