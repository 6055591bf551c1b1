"""The server's answer for a classified video: prediction, timeline, attended frames and parts of the trust score.

All values are plain Python values, ready for JSON.
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
"""Largest number of segments (parts of equal length) in a video's timeline, unless --segments sets their length."""

FRAMES_PER_SEGMENT = 2
"""Sampled frames that a segment should contain, so that a single unusual frame does not decide its class."""

SEGMENT_LENGTHS_S = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)
"""Round segment lengths to choose from, in seconds."""

NOT_ANSWERED = (schema.VIDEO_ID, "video_uri", "modified", schema.SEGMENTS_COLUMN, schema.SIGNS_FIELD.name)
"""Columns of a prediction that the answer leaves out: places on this machine, and values it contains in
another form."""


@dataclass(frozen=True, kw_only=True)
class ResponseContext:
    """Facts about the ensemble and the job that an answer needs besides the video's prediction."""

    classes: list[str]
    taxonomy: dict[str, list[str]]
    """sublabels by class, in the order of the column `sublabel_probabilities`; empty if the ensemble predicts none"""
    trust_score: TrustScore
    trust_threshold: float
    """lowest trust score of an accepted video"""
    risk_basis: str
    """support of the threshold by the validation videos, one of `risk_threshold.BASES`"""
    segment_length_s: float
    used_contents: dict[str, str]
    """split train or val by content digest, of the videos that training and validation used"""


def segment_length_s(duration_s: float, num_frames: int) -> float:
    """Round length in seconds for the segments (parts) of a video's timeline.

    It gives at most MAX_SEGMENTS segments, and at most one per FRAMES_PER_SEGMENT frames.
    """
    most = min(MAX_SEGMENTS, max(num_frames // FRAMES_PER_SEGMENT, 1))
    longest = float(SEGMENT_LENGTHS_S[-1])
    return next((float(length) for length in SEGMENT_LENGTHS_S if duration_s <= length * most), longest)


def answer(row: dict[str, Any], frames_THWC: npt.NDArray[np.uint8], context: ResponseContext) -> dict[str, Any]:
    """Dict with everything that the server tells about a classified video, from its prediction `row`.

    `row` has the columns of `schema.predictions`, `SIGNS_FIELD` (the indicators behind the trust score) and segments
    (parts of the video). `frames_THWC` are the sampled frames at model resolution.
    """
    chosen = most_attended(row["attention"])
    parts = trust_parts(context.trust_score, row["confidence"], row[schema.SIGNS_FIELD.name])
    return {
        "prediction": {name: value for name, value in row.items() if name not in NOT_ANSWERED},
        "classes": context.classes,
        "taxonomy": context.taxonomy,
        "trust": {
            "score": row["trust_score"],
            "threshold": context.trust_threshold,
            "basis": context.risk_basis,
            "is_out_of_distribution": bool(is_out_of_distribution(row["ood_score"])),
            "parts": [asdict(part) for part in parts],
        },
        "timeline": {"segment_length_s": context.segment_length_s, "segments": row[schema.SEGMENTS_COLUMN]},
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
        "used_in": context.used_contents.get(row["content_digest"]),
    }


def quality_flags(row: dict[str, Any]) -> list[str]:
    """Names of the defects of a video's frames: `all_black`, `some_black`, `blurry`, `mostly_repeated`.

    Clients rely on these names, so they must not change.
    """
    is_black, is_repeated = np.array(row["is_black"]), np.array(row["is_near_duplicate"])
    holds_by_name = {
        "all_black": row["all_black"],
        "some_black": bool(is_black.any()) and not row["all_black"],
        "blurry": row["is_blurry"],
        # The first frame has none before it.
        "mostly_repeated": len(is_repeated) > 1 and bool(is_repeated[1:].mean() > 0.5),
    }
    return [name for name, holds in holds_by_name.items() if holds]
