"""FiftyOne: a directory in the format `FiftyOneDataset`, which its importer reads.

Each sample has a classification and, if the run has segments, temporal detections. The directory is in the form without
`version`, which FiftyOne migrates by itself, so it does not depend on the installed version of FiftyOne:

    import fiftyone as fo
    dataset = fo.Dataset.from_dir(dataset_dir="DIR", dataset_type=fo.types.FiftyOneDataset)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vidclf import storage
from vidclf.errors import ConfigError
from vidclf.export import json_entries
from vidclf.export.change import KEYS, Change, Present
from vidclf.export.rows import RunRows
from vidclf.export.target import Existing

SAMPLES_FILE, METADATA_FILE, FRAMES_FILE = "samples.json", "metadata.json", "frames/none.json"
"""Files of the directory. All samples name the same file of frame labels, which has none."""

_FIELDS = (
    *(*KEYS, "verdict", "trust_score", "ood_score", "member_disagreement"),
    *("sublabel", "true_sublabel", "split", "group"),
)
"""Columns of a row that become fields of a sample. Null values are left out."""


class FiftyOneDirectory:
    """A directory that FiftyOne imports. `samples.json` is written last and makes the samples visible."""

    def __init__(self, location: str) -> None:
        self._location = location
        self._samples: list[dict[str, Any]] = []

    def read(self) -> Existing | None:
        """Keys of the samples; None if there are none."""
        path = storage.join(self._location, SAMPLES_FILE)
        content = json_entries.load(path)
        if content is None:
            return None
        present = Present()
        for sample in content.get("samples", []):
            if not set(KEYS) <= sample.keys():
                raise ConfigError(f"--output {path}: has samples of other programs; choose another directory")
            present.add(*(sample[name] for name in KEYS))
        self._samples = content["samples"]
        return Existing(present)

    def write(self, rows: RunRows, change: Change) -> None:
        """Write the samples that stay, then the new ones."""
        metadata = {"media_type": "video", "info": {"classes": list(rows.classes)}}
        storage.publish_json(storage.join(self._location, METADATA_FILE), metadata)
        storage.publish_json(storage.join(self._location, *FRAMES_FILE.split("/")), {"frames": {}})
        kept = [] if change.removes_all else self._samples
        path = storage.join(self._location, SAMPLES_FILE)
        json_entries.publish(path, '{"samples": [', _samples(kept, rows, change), "\n]}\n")


def _samples(kept: list[dict[str, Any]], rows: RunRows, change: Change) -> Iterator[str]:
    """The lines of `samples.json`."""
    for entry in kept:
        if entry["video_id"] not in change.removed:
            yield json_entries.text(entry)
    segments = rows.segments()
    for row in json_entries.values(rows, change):
        yield json_entries.text(sample(row, segments.get(row["video_id"], [])))


def sample(row: dict[str, Any], segments: list[dict[str, Any]]) -> dict[str, Any]:
    """The sample of one video.

    FiftyOne counts the frames of a temporal detection from 1. Without a frame rate the seconds of the segments cannot
    be converted; then the sample has them as `segment_seconds` only.
    """
    metadata = {
        "frame_width": row["width"],
        "frame_height": row["height"],
        "frame_rate": row["framerate"],
        "duration": row["duration_s"],
        "encoding_str": row["video_codec"],
        "size_bytes": row["size_bytes"],
    }
    result = {
        "filepath": row["video_uri"],
        "tags": [row["verdict"]],
        "metadata": {"_cls": "VideoMetadata", **{name: value for name, value in metadata.items() if value is not None}},
        "frames": FRAMES_FILE,
        **{name: row[name] for name in _FIELDS if row[name] is not None},
        "prediction": _classification(row["top_label"], row["confidence"]),
    }
    if row["true_label"] is not None:
        result["ground_truth"] = _classification(row["true_label"], None)
    if segments and row["framerate"]:
        result["segments"] = {
            "_cls": "TemporalDetections",
            "detections": [_detection(segment, row["framerate"]) for segment in segments],
        }
    if segments:
        result["segment_seconds"] = [[segment["start_s"], segment["end_s"]] for segment in segments]
    return result


def _classification(label: str, confidence: float | None) -> dict[str, Any]:
    """A field of the type Classification."""
    value = {"_cls": "Classification", "tags": [], "label": label}
    return value if confidence is None else {**value, "confidence": confidence}


def _detection(segment: dict[str, Any], framerate: float) -> dict[str, Any]:
    """A temporal detection; `support` is its first and last frame, counted from 1."""
    first = round(segment["start_s"] * framerate) + 1
    last = max(round(segment["end_s"] * framerate), first)
    label = segment["top_label"]
    return {
        "_cls": "TemporalDetection",
        "tags": [],
        "label": label,
        "confidence": segment["confidence"],
        "support": [first, last],
    }
