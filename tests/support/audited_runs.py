"""Finished classifications written by hand that pass the audit, for the tests of exports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.support.predictions import CLASSES, SPEC, Predicted, row
from vidclf import schema, storage
from vidclf.arrow import column_types, conform
from vidclf.runs.layout import Run

VIDEOS = (
    Predicted("v0", "A", 0.9),
    Predicted("v1", "B", 0.6, is_accepted=False),
    Predicted("v2", "B", 0.8),
)
"""One accepted video, one on which the ensemble abstained, and one more accepted video."""

LABELS = {"v0": "A", "v1": "B", "v2": "A"}
"""True labels; that of v2 differs from its prediction."""


def write_audited_run(
    run: Path,
    videos: Sequence[Predicted] = VIDEOS,
    *,
    labels: dict[str, str] | None = None,
    changes: dict[str, dict[str, Any]] | None = None,
    ensemble_id: str = "e0",
    with_segments: bool = False,
    uris: dict[str, str] | None = None,
) -> str:
    """Write a run with two shards.

    By video id: `labels`, none without it; `changes`, values that differ from those of `predictions.row`; `uris`,
    locations in the manifest. With segments, each video has two of 5 s.
    """
    columns, parts = schema.predictions(len(CLASSES)), schema.segments(len(CLASSES))
    rows = [
        {**row(video), "ensemble_id": ensemble_id, "framerate": 25.0, **(changes or {}).get(video.video, {})}
        for video in videos
    ]
    run.mkdir(parents=True, exist_ok=True)
    for number in range(2):
        table = pa.Table.from_pylist(rows[number::2], columns)
        storage.publish_table(str(run / f"part-{number}.parquet"), conform(table, columns, "predictions"))
        if with_segments:
            segments = [_segment(each, index) for each in rows[number::2] for index in range(2)]
            storage.publish_table(str(run / f"segments/part-{number}.parquet"), pa.Table.from_pylist(segments, parts))
    manifest = [
        {
            schema.VIDEO_ID: video.video,
            "video_uri": (uris or {}).get(video.video, f"/none/{video.video}"),
            "label": (labels or {}).get(video.video),
            "group": f"source of {video.video}",
            "split": "test" if labels else None,
        }
        for video in videos
    ]
    storage.publish_table(Run(str(run)).manifest_file, pa.Table.from_pylist(manifest, schema.MANIFEST))
    identity = {
        "feature_key": SPEC.key,
        "feature_specs": [asdict(SPEC)],
        "ensemble_id": ensemble_id,
        "classes": CLASSES,
        "settings": {},
        "columns": column_types(columns),
        **({"segment_columns": column_types(parts)} if with_segments else {}),
    }
    storage.publish_json(Run(str(run)).identity_file, identity)
    counts = {"num_input_videos": len(videos), "num_ok": len(videos), "num_quarantined": 0, "num_pending": 0}
    storage.publish_json(Run(str(run)).summary_file, {**counts, "reasons": {}})
    return str(run)


def _segment(video: dict[str, Any], index: int) -> dict[str, Any]:
    """Segment number `index` of a video, 5 seconds long, of which the class is that of the video, then the other."""
    label = video["top_label"] if index == 0 else next(name for name in CLASSES if name != video["top_label"])
    return {
        schema.VIDEO_ID: video[schema.VIDEO_ID],
        "video_uri": video["video_uri"],
        "segment_index": index,
        "start_s": 5.0 * index,
        "end_s": 5.0 * (index + 1),
        "num_frames": 1,
        "top_label": label,
        "confidence": 0.75,
        "probabilities": [0.75 if name == label else 0.25 for name in CLASSES],
    }
