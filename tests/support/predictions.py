"""Predictions and runs of predictions written by hand, for the tests of reports."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from vidclf import schema, storage
from vidclf.features.spec import FeatureSpec
from vidclf.runs.layout import Run
from vidclf.video.sampling import SamplingPlan

CLASSES = ["A", "B"]
SPEC = FeatureSpec.of("efficientnet_lite0", "DEFAULT", "digest", SamplingPlan(num_frames=2))
SUMMARY: dict[str, Any] = {
    "num_input_videos": 6,
    "num_ok": 5,
    "num_quarantined": 1,
    "reasons": {"truncated": 1},
    "videos_per_s": 2.5,
    "total_video_duration_s": 60.0,
}


@dataclass(frozen=True)
class Predicted:
    """The values of one prediction that tests choose."""

    video: str
    top_label: str
    confidence: float
    is_accepted: bool = True
    codec: str | None = "h264"
    views: tuple[str, ...] | None = None
    """class by view; None: one view, which votes for the top label"""
    stage: str = "full"
    prediction_set: tuple[str, ...] | None = None
    top_sublabel: str | None = None
    answer_level: str | None = None
    sublabel_set: tuple[str, ...] | None = None


def row(video: Predicted) -> dict[str, Any]:
    """One row of `schema.predictions`."""

    def probabilities(label: str) -> list[float]:
        return [video.confidence if name == label else 1 - video.confidence for name in CLASSES]

    has_facts = video.codec is not None
    return {
        schema.VIDEO_ID: video.video,
        "video_uri": f"/none/{video.video}",
        "label": video.top_label if video.is_accepted else None,
        "verdict": schema.VERDICTS[0 if video.is_accepted else 1],
        "top_label": video.top_label,
        "confidence": video.confidence,
        "probabilities": probabilities(video.top_label),
        "prediction_set": list(video.prediction_set) if video.prediction_set is not None else None,
        "top_sublabel": video.top_sublabel,
        "sublabel": video.top_sublabel if video.answer_level == "sublabel" else None,
        "sublabel_trust": video.confidence / 4 if video.top_sublabel is not None else None,
        "answer_level": video.answer_level,
        "sublabel_set": list(video.sublabel_set) if video.sublabel_set is not None else None,
        "trust_score": video.confidence / 2,
        "ood_score": 0.5,
        "member_disagreement": 0.0,
        "member_probabilities": [probabilities(video.top_label)] * 2,
        "view_probabilities": [probabilities(name) for name in video.views or (video.top_label,)],
        "attention": [0.25, 0.75],
        "stage": video.stage,
        "sharpened": False,
        "size_bytes": 1 if has_facts else None,
        "content_digest": f"digest of {video.video}" if has_facts else None,
        "num_frames": 2,
        "duration_s": 10.0 if has_facts else None,
        "width": 640 if has_facts else None,
        "height": 360 if has_facts else None,
        "sample_aspect_ratio": 1.0 if has_facts else None,
        "video_codec": video.codec,
        "time_jumps": 0 if has_facts else None,
        "missing_s": 0.0 if has_facts else None,
        "pts_s": [0.0, 1.5] if has_facts else None,
        "is_black": [False, False] if has_facts else None,
        "all_black": False if has_facts else None,
        "luma_mean": [0.5, 0.5] if has_facts else None,
        "sharpness": [1.0, 1.0] if has_facts else None,
        "is_near_duplicate": [False, False] if has_facts else None,
        "is_blurry": False if has_facts else None,
        "ensemble_id": "e0",
    }


def table(videos: list[Predicted]) -> pa.Table:
    """One row of `schema.stored_predictions` per video."""
    return pa.Table.from_pylist([row(video) for video in videos], schema.stored_predictions(len(CLASSES)))


def write_run(run: Path, videos: list[Predicted], *, rejected: bool = True) -> str:
    """Write a finished classification of `videos` and, unless `rejected` is false, of the quarantined video q; return
    its location."""
    identity = {"feature_specs": [asdict(SPEC)], "ensemble_id": "e0", "classes": CLASSES}
    storage.publish_json(Run(str(run)).identity_file, identity)
    storage.publish_json(Run(str(run)).summary_file, SUMMARY)
    storage.publish_table(str(run / "part-0.parquet"), table(videos))
    values = {"video_uri": "/none/q", "reason": "truncated", "message": "cut <b>off</b>", "attempts": 1}
    rows = [{schema.VIDEO_ID: "q", **values}] if rejected else []
    quarantine = pa.Table.from_pylist(rows, schema.QUARANTINE)
    storage.publish_table(str(run / "quarantine/part-0.parquet"), quarantine)
    return str(run)


def manifest(labels: dict[str, tuple[str | None, str | None]]) -> pa.Table:
    """A manifest from (label, split) by video id; each video is its own source."""
    rows = [
        {schema.VIDEO_ID: v, "video_uri": f"/none/{v}", "label": label, "sublabel": "s", "group": v, "split": split}
        for v, (label, split) in labels.items()
    ]
    return pa.Table.from_pylist(rows, schema.MANIFEST)
