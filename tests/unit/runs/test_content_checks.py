"""Videos of a run whose file has changed, and videos with identical content."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from vidclf import schema, storage
from vidclf.runs import content_checks
from vidclf.video import digest
from vidclf.video.source import LocalFile


def test_stale_videos_are_those_that_changed_under_their_name(tmp_path: Path) -> None:
    rows = []
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
        fingerprint = vars(digest.identify(LocalFile(str(tmp_path / name))))
        rows.append(
            {
                "video_id": name,
                "video_uri": str(tmp_path / name),
                **fingerprint,
                "content_digest": fingerprint["digest"],
            }
        )
    columns = [field for field in schema.features(1) if field.name in rows[0]]
    run = str(tmp_path / "run")
    storage.publish_table(f"{run}/part-0.parquet", pa.Table.from_pylist(rows, schema=pa.schema(columns)))
    places = {"video_id": ["a", "b", "c"], "video_uri": [str(tmp_path / name) for name in "abc"]}
    storage.publish_table(f"{run}/manifest.parquet", pa.table(places))
    assert content_checks.stale_videos(run) == ([], [])
    (tmp_path / "b").write_text("B")
    (tmp_path / "c").unlink()
    assert content_checks.stale_videos(run) == (["b"], ["c"])


def test_a_run_without_videos_has_no_stale_ones(tmp_path: Path) -> None:
    assert content_checks.stale_videos(str(tmp_path)) == ([], [])


def test_duplicates_name_the_first_by_location_and_both_splits(tmp_path: Path) -> None:
    run = str(tmp_path)
    manifest = {"video_id": ["1", "2", "3", "4", "5"], "split": ["train", "test", "train", None, "val"]}
    manifest["video_uri"] = ["e", "d", "c", "b", "a"]
    storage.publish_table(f"{run}/manifest.parquet", pa.table(manifest))
    rows = pa.table(
        {
            "video_id": ["1", "2", "3", "4", "5"],
            "video_uri": ["e", "d", "c", "b", "a"],
            "content_digest": ["x", "x", "y", "z", "x"],
        }
    )
    duplicates = content_checks.publish_duplicates(run, rows)
    assert duplicates.to_pylist() == storage.read_table(f"{run}/duplicates.parquet").to_pylist()
    facts = ("video_id", "video_uri", "split", "duplicate_of", "duplicate_of_uri", "duplicate_of_split")
    assert [tuple(row[name] for name in facts) for row in duplicates.to_pylist()] == [
        ("2", "d", "test", "5", "a", "val"),
        ("1", "e", "train", "5", "a", "val"),
    ]
    assert content_checks.publish_duplicates(run, rows.slice(2, 2)).num_rows == 0
    assert not storage.exists(f"{run}/duplicates.parquet")
