"""Audits of run directories written by hand: every difference has its literal message."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.support.audited_runs import write_audited_run
from vidclf import schema, storage
from vidclf.errors import ConfigError
from vidclf.runs import audit as audit_module
from vidclf.runs import layout
from vidclf.runs.layout import Run
from vidclf.runs.state import RunState, check_finished, check_unique_rows, read_state
from vidclf.runs.summary import summary_text

CLEAN_SUMMARY: dict[str, Any] = {
    "num_input_videos": 3,
    "num_ok": 2,
    "num_quarantined": 1,
    "num_pending": 0,
    "reasons": {"truncated": 1},
    "num_processed": 3,
}


def write_run(
    run: Path,
    *,
    manifest: Sequence[str] = ("a", "b", "c"),
    parts: Sequence[Sequence[str]] = (("a",), ("b",)),
    quarantine: Sequence[Sequence[tuple[str, str]]] = ((("c", "truncated"),),),
    summary: dict[str, Any] | None = CLEAN_SUMMARY,
) -> str:
    """Write a run directory: ids of the manifest, ok ids by shard, (id, reason) by quarantine shard."""
    ids = pa.array(manifest, pa.string())
    storage.publish_table(f"{run}/manifest.parquet", pa.table({"video_id": ids, "video_uri": ids}))
    for number, ids in enumerate(parts):
        storage.publish_table(f"{run}/part-{number}.parquet", pa.table({"video_id": pa.array(ids, pa.string())}))
    for number, rows in enumerate(quarantine):
        values = [
            {"video_id": i, "video_uri": i, "reason": reason, "message": "m", "attempts": 1} for i, reason in rows
        ]
        table = pa.Table.from_pylist(values, schema=schema.QUARANTINE)
        storage.publish_table(f"{run}/quarantine/part-{number}.parquet", table)
    if summary is not None:
        storage.publish_json(f"{run}/summary.json", summary)
    storage.publish_json(f"{run}/run_identity.json", {"columns": {"video_id": "string"}})
    return str(run)


def test_a_finished_run_whose_numbers_add_up_has_no_differences(tmp_path: Path) -> None:
    audit = audit_module.audit(write_run(tmp_path))
    assert audit.differences == []
    assert audit.state == RunState(
        num_input_videos=3, num_ok=2, num_quarantined=1, num_pending=0, reasons={"truncated": 1}
    )
    assert read_state(str(tmp_path)) == audit.state


def test_a_missing_video_is_pending(tmp_path: Path) -> None:
    audit = audit_module.audit(
        write_run(tmp_path, parts=[["a"]], summary={**CLEAN_SUMMARY, "num_ok": 1, "num_pending": 1})
    )
    assert audit.differences == ["1 video(s) pending: neither done nor quarantined: b"]
    assert audit.state.num_pending == 1
    assert audit.state.num_ok == 1


def test_three_videos_are_named_and_the_others_counted(tmp_path: Path) -> None:
    run = write_run(tmp_path, manifest=["e", "d", "c", "b", "a"], parts=[], quarantine=[], summary=None)
    assert audit_module.audit(run).differences == [
        "5 video(s) pending: neither done nor quarantined: a, b, c and 2 more",
        "no summary.json: the job has not ended",
    ]


def test_a_video_in_two_shards_is_done_more_than_once(tmp_path: Path) -> None:
    audit = audit_module.audit(write_run(tmp_path, parts=[["a", "b"], ["b"]]))
    assert audit.differences == ["1 video(s) done more than once: b"]
    assert audit.state.num_ok == 2


def test_a_video_quarantined_twice_is_reported(tmp_path: Path) -> None:
    run = write_run(
        tmp_path,
        quarantine=[[("c", "truncated")], [("c", "truncated")]],
        summary={**CLEAN_SUMMARY, "reasons": {"truncated": 2}},
    )
    assert audit_module.audit(run).differences == ["1 video(s) quarantined more than once: c"]


def test_a_video_both_done_and_quarantined_is_reported_and_counts_as_done(tmp_path: Path) -> None:
    audit = audit_module.audit(write_run(tmp_path, parts=[["a", "b", "c"]]))
    assert audit.differences == [
        "1 video(s) both done and quarantined: c",
        "summary.json says num_ok = 2, the files say 3",
        "summary.json says num_quarantined = 1, the files say 0",
    ]
    state = audit.state
    assert state.num_input_videos == state.num_ok + state.num_quarantined + state.num_pending == 3


def test_a_video_twice_in_the_manifest_is_reported(tmp_path: Path) -> None:
    run = write_run(tmp_path, manifest=["a", "b", "c", "c"])
    assert audit_module.audit(run).differences == ["1 video(s) in the manifest more than once: c"]


def test_a_video_nobody_asked_for_is_reported_and_not_counted(tmp_path: Path) -> None:
    run = write_run(
        tmp_path,
        parts=[["a", "b", "x"]],
        quarantine=[[("c", "truncated"), ("y", "empty_file")]],
        summary={**CLEAN_SUMMARY, "reasons": {"empty_file": 1, "truncated": 1}},
    )
    audit = audit_module.audit(run)
    assert audit.differences == ["2 video(s) done or quarantined but not in the manifest: x, y"]
    assert (audit.state.num_ok, audit.state.num_quarantined) == (2, 1)


def test_a_reason_outside_the_closed_list_is_reported(tmp_path: Path) -> None:
    run = write_run(tmp_path, quarantine=[[("c", "bad_luck")]], summary={**CLEAN_SUMMARY, "reasons": {"bad_luck": 1}})
    assert audit_module.audit(run).differences == ["reject reason 'bad_luck' is not in the closed list"]


def test_a_shard_that_cannot_be_read_is_named_and_its_videos_are_pending(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    (tmp_path / "part-1.parquet").write_bytes(b"half a shard")
    shard, pending, ok, num_pending = audit_module.audit(run).differences
    assert shard.startswith(f"shard {run}/part-1.parquet cannot be read: ")
    assert pending == "1 video(s) pending: neither done nor quarantined: b"
    assert ok == "summary.json says num_ok = 2, the files say 1"
    assert num_pending == "summary.json says num_pending = 0, the files say 1"


@pytest.mark.parametrize("name", ["part-1.parquet", "quarantine/part-0.parquet"])
def test_a_shard_without_the_columns_is_named(tmp_path: Path, name: str) -> None:
    run = write_run(tmp_path)
    storage.publish_table(f"{run}/{name}", pa.table({"other": ["b"]}))
    assert audit_module.audit(run).differences[0].startswith(f"shard {run}/{name} cannot be read: ")


@pytest.mark.parametrize("name", ["part-7.parquet.0123.tmp", "quarantine/part-7.parquet.0123.tmp"])
def test_a_leftover_temporary_file_is_reported(tmp_path: Path, name: str) -> None:
    run = write_run(tmp_path)
    (tmp_path / name).touch()
    assert audit_module.audit(run).differences == [f"leftover temporary file {run}/{name}"]


def test_a_run_without_a_summary_has_not_ended(tmp_path: Path) -> None:
    run = write_run(tmp_path, summary=None)
    assert audit_module.audit(run).differences == ["no summary.json: the job has not ended"]


def test_a_summary_that_counts_otherwise_is_reported_number_by_number(tmp_path: Path) -> None:
    run = write_run(
        tmp_path,
        summary={"num_input_videos": 4, "num_ok": 3, "num_quarantined": 0, "num_pending": 1, "reasons": {}},
    )
    assert audit_module.audit(run).differences == [
        "summary.json says num_input_videos = 4, the files say 3",
        "summary.json says num_ok = 3, the files say 2",
        "summary.json says num_quarantined = 0, the files say 1",
        "summary.json says num_pending = 1, the files say 0",
        "summary.json says reasons = {}, the files say {'truncated': 1}",
    ]


def test_a_summary_without_a_count_is_reported(tmp_path: Path) -> None:
    run = write_run(tmp_path, summary={key: CLEAN_SUMMARY[key] for key in CLEAN_SUMMARY if key != "num_ok"})
    assert audit_module.audit(run).differences == ["summary.json says num_ok = None, the files say 2"]


def test_a_shard_of_other_columns_is_reported(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    storage.publish_table(f"{run}/part-1.parquet", pa.table({"video_id": ["b"], "size": [1]}))
    assert audit_module.audit(run).differences == [
        f"shard {run}/part-1.parquet has other columns than the run: size is int64, not None"
    ]


def test_features_of_another_key_are_reported(tmp_path: Path) -> None:
    run = write_run(tmp_path, parts=[])
    columns = {"video_id": "string", "feature_key": "string"}
    storage.publish_json(f"{run}/run_identity.json", {"columns": columns, "feature_key": "k1"})
    for name, key in (("a", "k1"), ("b", "k2")):
        storage.publish_table(f"{run}/part-{name}.parquet", pa.table({"video_id": [name], "feature_key": [key]}))
    assert audit_module.audit(run).differences == ["feature_key of this run is k1, shards hold k2"]


def test_a_run_without_its_identity_is_reported(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    (tmp_path / "run_identity.json").unlink()
    (difference,) = audit_module.audit(run).differences
    assert difference.startswith("run_identity.json cannot be read: ")


def test_the_runs_of_several_backbones_are_found_in_their_directories(tmp_path: Path) -> None:
    for name in ("resnet50", "efficientnet_lite0"):
        write_run(tmp_path / name)
    (tmp_path / "_checkpoint").mkdir()
    assert layout.runs_in(str(tmp_path)) == [f"{tmp_path}/efficientnet_lite0", f"{tmp_path}/resnet50"]
    assert layout.runs_in(f"{tmp_path}/resnet50") == [f"{tmp_path}/resnet50"]


def test_other_files_of_the_run_are_not_shards(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"a": 1}))
    storage.publish_table(f"{run}/_checkpoint/part-0.parquet", pa.table({"video_id": ["x"]}))
    assert Run(run).shards() == [f"{run}/part-0.parquet", f"{run}/part-1.parquet"]
    assert Run(run).quarantine_shards() == [f"{run}/quarantine/part-0.parquet"]
    assert audit_module.audit(run).differences == []


def test_a_run_of_no_videos_is_clean(tmp_path: Path) -> None:
    nothing = {"num_input_videos": 0, "num_ok": 0, "num_quarantined": 0, "num_pending": 0, "reasons": {}}
    assert (
        audit_module.audit(write_run(tmp_path, manifest=[], parts=[], quarantine=[], summary=nothing)).differences == []
    )


@pytest.mark.parametrize("name", ["", "absent"])
def test_a_directory_without_a_manifest_is_not_a_run(tmp_path: Path, name: str) -> None:
    run = str(tmp_path / name)
    assert not Run(run).exists()
    with pytest.raises(ConfigError) as error:
        audit_module.audit(run)
    assert str(error.value) == (
        f"--run must be an output directory of extract or classify, got {run!r} (no manifest.parquet)"
    )


def test_summaries_for_people_name_the_reasons_and_the_rate() -> None:
    summary = {**CLEAN_SUMMARY, "videos_per_s": 12.345, "binding_resource": "CPU"}
    assert summary_text("out", summary) == (
        "out: 3 videos, 2 ok, 1 quarantined (truncated 1); 12.35 videos/s, bound by CPU"
    )
    repeated = {**summary, "num_duplicates": 2, "num_duplicates_across_splits": 0}
    assert "(truncated 1), 2 duplicates of another video; 12.35 videos/s" in summary_text("out", repeated)
    leaking = {**repeated, "num_duplicates_across_splits": 1}
    assert "2 duplicates of another video (1 of them in another split, see duplicates.parquet);" in (
        summary_text("out", leaking)
    )
    joined = {**summary, "num_with_time_jumps": 2}
    assert "(truncated 1), 2 with jumps of their clock closed (column time_jumps); 12.35" in summary_text("out", joined)
    clean = {**CLEAN_SUMMARY, "num_ok": 3, "num_quarantined": 0, "reasons": {}, "num_processed": 0}
    assert summary_text("out", clean) == "out: 3 videos, 3 ok, 0 quarantined; everything was done already"


@pytest.mark.parametrize(
    ("parts", "quarantine", "num_twice"),
    [([["a", "b"], ["b"]], [], 1), ([["a", "b"]], [[("b", "truncated")]], 1), ([["b"], ["b", "c"], ["c"]], [], 2)],
)
def test_readers_refuse_a_run_in_which_a_video_stands_twice(
    tmp_path: Path, parts: list[list[str]], quarantine: list[list[tuple[str, str]]], num_twice: int
) -> None:
    run = write_run(tmp_path, parts=parts, quarantine=quarantine)
    with pytest.raises(ConfigError) as refused:
        check_unique_rows(run, "--features")
    assert str(refused.value) == (
        f"--features {run}: every video must have one row, {num_twice} have several (for example b); `jobs/audit.py "
        f"--run {run}` names them. Submit the job that wrote the run again: it removes the additional rows"
    )


def test_readers_take_a_run_in_which_every_video_stands_once(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    check_unique_rows(run, "--features")
    assert check_finished(run, "--features", "jobs/extract.py") == read_state(run)


def test_readers_refuse_a_run_with_pending_videos_and_name_the_job_to_run(tmp_path: Path) -> None:
    run = write_run(tmp_path, parts=[["a"]])
    with pytest.raises(ConfigError) as refused:
        check_finished(run, "--features", "jobs/extract.py")
    assert str(refused.value) == f"--features {run}: 1 video is pending; run jobs/extract.py again"


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("confidence", float("nan")),
        ("ood_score", float("inf")),
        ("probabilities", [0.5, float("nan")]),
        ("member_probabilities", [[0.5, 0.5], [float("-inf"), 0.5]]),
    ],
)
def test_a_prediction_that_is_not_finite_is_reported(column: str, value: Any, tmp_path: Path) -> None:
    run = write_audited_run(tmp_path / "run", with_segments=True)
    assert audit_module.audit(run).differences == []
    run = write_audited_run(tmp_path / "other", changes={"v1": {column: value}})
    assert audit_module.audit(run).differences == ["1 video(s) with a prediction that is NaN or infinite: /none/v1"]
