"""The line on videos that changed side between two ensembles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from tests.support.features import pair
from vidclf import storage
from vidclf.training.changed_sides import changed_sides


def test_videos_that_changed_side_are_counted_by_their_move(tmp_path: Path) -> None:
    features = pair()[0]
    assert changed_sides(features, str(tmp_path)) is None
    record = pa.table({"video_id": features.video_ids, "split": features.splits})
    storage.publish_table(f"{tmp_path}/splits.parquet", record)
    assert changed_sides(features, str(tmp_path)) is None
    moved = replace(features, splits=["val", "test", *features.splits[2:-1], "train"])
    assert changed_sides(moved, str(tmp_path)) == (
        "splits: 3 videos changed side since the ensemble that this one replaces (1 from train to test, 1 from train "
        "to val, 1 from val to train; one is train00); the scores of the two ensembles are not of the same videos"
    )
