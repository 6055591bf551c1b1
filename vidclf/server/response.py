"""A classified video as the server's answer: its prediction row, the timeline, the frames it rests on, and
why it is trusted or not. Plain values, ready for JSON.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vidclf import schema
from vidclf.pages.thumbnails import data_uri, most_attended
from vidclf.uncertainty.explanation import trust_parts
from vidclf.uncertainty.ood import is_out_of_distribution
from vidclf.uncertainty.trust_score import TrustScore

MAX_SEGMENTS = 24
"""Of a timeline, unless a length is asked for."""

FRAMES_PER_SEGMENT = 2
"""Sampled frames that a segment should hold, so that one odd frame does not colour it alone."""

SEGMENT_LENGTHS_S = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)

NOT_ANSWERED = (schema.VIDEO_ID, "video_uri", "modified", schema.SEGMENTS_COLUMN, schema.SIGNS_FIELD.name)
"""Columns of a prediction that say where a video lies on this machine, or are told otherwise."""


@dataclass(frozen=True, kw_only=True)
class ResponseContext:
    """What an answer is read against."""

    classes: list[str]
    trust_score: TrustScore
    trust_threshold: float
    """trust score from which on a video is accepted"""
    segment_length_s: float


def segment_length_s(duration_s: float, num_frames: int) -> float:
    """The length of a timeline's segments, a round one: at most MAX_SEGMENTS, and no more than frames allow."""
    most = min(MAX_SEGMENTS, max(num_frames // FRAMES_PER_SEGMENT, 1))
    longest = float(SEGMENT_LENGTHS_S[-1])
    return next((float(length) for length in SEGMENT_LENGTHS_S if duration_s <= length * most), longest)


def answer(row: dict[str, Any], frames_THWC: npt.NDArray[np.uint8], explained: ResponseContext) -> dict[str, Any]:
    """The answer for a row of `schema.predictions` with `SIGNS_FIELD` and segments; `frames_THWC` are its
    sampled frames as the model saw them."""
    chosen = most_attended(row["attention"])
    parts = trust_parts(explained.trust_score, row["confidence"], row[schema.SIGNS_FIELD.name])
    return {
        "prediction": {name: value for name, value in row.items() if name not in NOT_ANSWERED},
        "classes": explained.classes,
        "trust": {
            "score": row["trust_score"],
            "threshold": explained.trust_threshold,
            "is_out_of_distribution": bool(is_out_of_distribution(row["ood_score"])),
            "parts": [asdict(part) for part in parts],
        },
        "timeline": {"segment_length_s": explained.segment_length_s, "segments": row[schema.SEGMENTS_COLUMN]},
        "attended_frames": [
            {
                "index": index,
                "pts_s": row["pts_s"][index],
                "weight": row["attention"][index],
                "image": data_uri(frames_THWC[index]),
            }
            for index in chosen
        ],
        "quality": quality_flags(row),
    }


def quality_flags(row: dict[str, Any]) -> list[str]:
    """What is wrong with the pictures, in words that stay the same: `all_black`, `some_black`, `blurry`,
    `mostly_repeated`."""
    is_black, is_repeated = np.array(row["is_black"]), np.array(row["is_near_duplicate"])
    found = {
        "all_black": row["all_black"],
        "some_black": bool(is_black.any()) and not row["all_black"],
        "blurry": row["is_blurry"],
        # Of the frames that have one before them.
        "mostly_repeated": len(is_repeated) > 1 and bool(is_repeated[1:].mean() > 0.5),
    }
    return [name for name, holds in found.items() if holds]
