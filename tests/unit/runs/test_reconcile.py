"""Repair of run directories written by hand: afterwards each video has at most one row."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from vidclf import schema, storage
from vidclf.errors import ConfigError
from vidclf.runs import audit, reconcile
from vidclf.runs.layout import Run
from vidclf.runs.state import RunState


def quarantine(run: str, name: str, **rows: tuple[str, int]) -> None:
    table = [
        {"video_id": video, "video_uri": video, "reason": reason, "message": "m", "attempts": attempts}
        for video, (reason, attempts) in rows.items()
    ]
    storage.publish_table(f"{run}/quarantine/{name}", pa.Table.from_pylist(table, schema=schema.QUARANTINE))


def test_released_videos_are_pending_and_their_attempts_are_remembered(tmp_path: Path) -> None:
    run = str(tmp_path)
    quarantine(run, "part-0.parquet", a=("not_found", 1), b=("truncated", 1))
    quarantine(run, "part-1.parquet", c=("not_found", 2), d=("read_error", 1))
    assert reconcile.quarantined_for(run, frozenset({"not_found", "read_error"})) == 3
    reconcile.release(run, [run], frozenset({"not_found"}))
    assert [storage.read_table(path)["video_id"].to_pylist() for path in Run(run).quarantine_shards()] == [["b"], ["d"]]
    assert reconcile.read_attempts(run) == {"a": 1, "c": 2}
    reconcile.release(run, [run], frozenset({"truncated", "read_error"}))
    assert Run(run).quarantine_shards() == []
    assert reconcile.read_attempts(run) == {"a": 1, "b": 1, "c": 2, "d": 1}


def begin(run: str, *manifest: str) -> None:
    ids = pa.array(manifest, pa.string())
    storage.publish_table(f"{run}/manifest.parquet", pa.table({"video_id": ids, "video_uri": ids}))


def part(run: str, name: str, *ids: str) -> None:
    storage.publish_table(f"{run}/{name}", pa.table({"video_id": pa.array(ids, pa.string())}))


def ids(run: str) -> dict[str, list[str]]:
    """The ids in each shard of a run, by file name."""
    paths = Run(run).shards() + Run(run).quarantine_shards()
    return {path.removeprefix(f"{run}/"): storage.read_table(path)["video_id"].to_pylist() for path in paths}


def test_a_job_that_has_all_to_do_or_nothing_reads_the_manifest(tmp_path: Path) -> None:
    run = str(tmp_path)
    begin(run, "a", "b")
    reconcile.reconcile(run, [run])
    assert reconcile.to_read(run, [run]) == f"{run}/manifest.parquet"
    part(run, "part-0.parquet", "a")
    reconcile.reconcile(run, [run])
    assert reconcile.to_read(run, [run]) == f"{run}/pending.parquet"
    part(run, "part-1.parquet", "b")
    reconcile.reconcile(run, [run])
    assert reconcile.to_read(run, [run]) == f"{run}/manifest.parquet"
    assert not (tmp_path / "pending.parquet").exists()


def test_what_is_left_to_do_is_told_from_the_shards(tmp_path: Path) -> None:
    run = str(tmp_path)
    begin(run, "a", "b", "c")
    part(run, "part-0.parquet", "a")
    quarantine(run, "part-0.parquet", b=("truncated", 1))
    part(run, "_checkpoint/part-9.pending.parquet", "c")
    storage.publish_bytes(f"{run}/part-1.parquet.{'0' * 32}.tmp", b"half")
    state = reconcile.reconcile(run, [run])
    assert state == RunState(num_input_videos=3, num_ok=1, num_quarantined=1, num_pending=1, reasons={"truncated": 1})
    assert storage.list_files(f"{run}/_checkpoint") == []
    assert storage.read_table(reconcile.to_read(run, [run]))["video_id"].to_pylist() == ["c"]
    assert storage.list_files(run, ".tmp", recursive=True) == []


def test_a_video_that_was_written_twice_keeps_its_first_row(tmp_path: Path) -> None:
    run = str(tmp_path)
    begin(run, "a", "b", "c", "d")
    part(run, "part-0.parquet", "a", "b")
    part(run, "part-1.parquet", "b", "c", "c")
    part(run, "part-2.parquet", "b")
    quarantine(run, "part-0.parquet", c=("decoder_crashed", 1), d=("truncated", 1))
    state = reconcile.reconcile(run, [run])
    assert (state.num_ok, state.num_quarantined, state.num_pending) == (3, 1, 0)
    assert ids(run) == {"part-0.parquet": ["a", "b"], "part-1.parquet": ["c"], "quarantine/part-0.parquet": ["d"]}


def test_a_video_that_is_not_in_every_run_of_a_job_is_pending_in_all(tmp_path: Path) -> None:
    runs = [f"{tmp_path}/one", f"{tmp_path}/two"]
    for run in runs:
        begin(run, "a", "b", "c", "d")
    part(runs[0], "part-0.parquet", "a", "b")
    part(runs[1], "part-0.parquet", "a", "b")
    part(runs[0], "part-1.parquet", "c")
    quarantine(runs[0], "part-0.parquet", d=("truncated", 1))
    assert reconcile.unfinished(runs) == 2
    state = reconcile.reconcile(str(tmp_path), runs)
    assert (state.num_ok, state.num_quarantined, state.num_pending) == (2, 0, 2)
    assert [ids(run) for run in runs] == [{"part-0.parquet": ["a", "b"]}] * 2
    assert storage.read_table(reconcile.to_read(str(tmp_path), runs))["video_id"].to_pylist() == ["c", "d"]


def test_dropped_videos_are_pending(tmp_path: Path) -> None:
    run = str(tmp_path)
    begin(run, "a", "b", "c")
    part(run, "part-0.parquet", "a", "b")
    part(run, "part-1.parquet", "c")
    reconcile.drop(run, pa.array(["b", "c"]))
    assert ids(run) == {"part-0.parquet": ["a"]}


def test_a_run_with_an_unreadable_shard_is_not_continued(tmp_path: Path) -> None:
    begin(str(tmp_path), "a")
    (tmp_path / "part-0.parquet").write_text("no shard")
    with pytest.raises(ConfigError, match=r"shard .*part-0.parquet cannot be read: .*; remove it to have its videos"):
        reconcile.reconcile(str(tmp_path), [str(tmp_path)])


def test_segments_stay_with_the_shard_of_their_video_and_audit_sees_those_that_do_not(tmp_path: Path) -> None:
    run = str(tmp_path)
    begin(run, "a", "b", "c")
    part(run, "part-0.parquet", "a", "b")
    types = {"video_id": "string", "segment_index": "int64"}
    storage.publish_json(f"{run}/run_identity.json", {"columns": {"video_id": "string"}, "segment_columns": types})
    for name, videos, indices in (("part-0", "aab", [0, 0, 0]), ("part-1", "c", [0])):
        rows = pa.table({"video_id": list(videos), "segment_index": indices})
        storage.publish_table(f"{run}/segments/{name}.parquet", rows)
    part(run, "part-2.parquet", "c")
    assert audit.audit(run).differences[:3] == [
        "1 segment(s) twice in segments/part-0.parquet",
        "1 video(s) with segments in segments/part-1.parquet but not in part-1.parquet: c",
        "1 video(s) of part-2.parquet without segments: c",
    ]
    reconcile.reconcile(run, [run])
    segments = {path: storage.read_table(path).to_pydict() for path in Run(run).segment_shards()}
    assert segments == {f"{run}/segments/part-0.parquet": {"video_id": ["a", "b"], "segment_index": [0, 0]}}
