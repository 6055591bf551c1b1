"""Held-out videos by the record of the ensemble, not by the manifest."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from tests.support.predictions import manifest
from vidclf import schema, storage
from vidclf.reports.held_out import by_record


def test_the_ensembles_record_decides(tmp_path: Path) -> None:
    manifest_rows = manifest(
        dict.fromkeys(("trained", "chosen", "tested", "sibling", "new"), ("A", "test"))
    ).to_pylist()
    groups = {"trained": "s", "sibling": "s"}
    rows = pa.Table.from_pylist(
        [{**row, "group": groups.get(row["video_id"], row["group"])} for row in manifest_rows], schema.MANIFEST
    )
    record = [
        {"video_id": name, "video_uri": name, "label": "A", "split": split, "group": f"joined-{name}", "cluster": None}
        for name, split in (("trained", "train"), ("chosen", "val"), ("tested", "test"))
    ]
    storage.publish_table(str(tmp_path / "splits.parquet"), pa.Table.from_pylist(record, schema.SPLIT_TABLE))
    corrected, num_changed = by_record(rows, str(tmp_path))
    # The sibling has the source of a training video.
    assert corrected["split"].to_pylist() == ["train", "val", "test", "train", "test"]
    assert num_changed == 3
    assert corrected.schema == rows.schema


def test_without_a_record_the_manifest_decides(tmp_path: Path) -> None:
    rows = manifest({"1": ("A", "test")})
    assert by_record(rows, str(tmp_path)) == (rows, 0)
    assert by_record(rows, None) == (rows, 0)
