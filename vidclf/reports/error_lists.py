"""The videos of a report to look at: taken for another class, or not decided.

Shape suffixes: B videos, C classes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from vidclf import schema
from vidclf.reports.labelled_predictions import UNSPLIT, ScoredVideos

SPLIT_ORDER = ("test", UNSPLIT, "val", "train")
"""Held-out videos first: their mistakes say something about videos to come."""

NUM_PROBABILITIES = 3
"""Probabilities shown of a video."""

FORMULA_STARTS = ("=", "+", "-", "@")
"""Characters with which a spreadsheet's formula begins (OWASP, CSV injection)."""


@dataclass(frozen=True, kw_only=True)
class ListedVideo:
    """One video; the fields up to `video_uri` are the columns of its CSV."""

    split: str
    label: str
    """what it is"""
    top_label: str
    """what it was taken for"""
    verdict: str
    confidence: float
    trust_score: float
    ood_score: float
    sublabel: str
    codec: str
    resolution: str
    duration: str
    group: str
    video_id: str
    video_uri: str
    probabilities: list[tuple[str, float]]
    """the most probable classes, and the true one"""


def misclassified(videos: ScoredVideos, classes: Sequence[str]) -> list[ListedVideo]:
    """Held-out ones first, the surest first among them, whether accepted or not."""
    return _cases(videos, ~videos.is_correct_B, -videos.confidence_B, classes)


def abstained(videos: ScoredVideos, classes: Sequence[str]) -> list[ListedVideo]:
    """Held-out ones first, those that came nearest to being accepted first among them."""
    return _cases(videos, ~videos.is_accepted_B, -videos.trust_B, classes)


def to_csv(cases: Sequence[ListedVideo]) -> bytes:
    """UTF-8 with a header. Text that a spreadsheet would run as a formula begins with an apostrophe."""
    names = [field.name for field in fields(ListedVideo) if field.name != "probabilities"]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([[_shown(getattr(case, name)) for name in names] for case in cases])
    return stream.getvalue().encode()


def _cases(
    videos: ScoredVideos, chosen_B: npt.NDArray[np.bool_], rank_B: npt.NDArray[np.float32], classes: Sequence[str]
) -> list[ListedVideo]:
    chosen = np.flatnonzero(chosen_B)
    splits = np.array([SPLIT_ORDER.index(videos.splits[index]) for index in chosen])
    return [_case(videos, int(index), classes) for index in chosen[np.lexsort((rank_B[chosen], splits))]]


def _case(videos: ScoredVideos, index: int, classes: Sequence[str]) -> ListedVideo:
    probabilities_C = videos.probabilities_BC[index]
    top = np.argsort(-probabilities_C, kind="stable")[:NUM_PROBABILITIES].tolist()
    if videos.label_B[index] not in top:
        top[-1] = videos.label_B[index]
    return ListedVideo(
        split=videos.splits[index],
        label=classes[videos.label_B[index]],
        top_label=classes[videos.top_B[index]],
        verdict=schema.Verdict.ACCEPTED if videos.is_accepted_B[index] else schema.Verdict.ABSTAINED,
        confidence=float(videos.confidence_B[index]),
        trust_score=float(videos.trust_B[index]),
        ood_score=float(videos.ood_B[index]),
        sublabel=videos.sublabels[index],
        codec=videos.codecs[index],
        resolution=videos.resolutions[index],
        duration=videos.durations[index],
        group=videos.groups[index],
        video_id=videos.video_ids[index],
        video_uri=videos.video_uris[index],
        probabilities=[(classes[i], float(probabilities_C[i])) for i in top],
    )


def _shown(value: str | float) -> str:
    if not isinstance(value, str):
        return f"{value:.6f}"
    # Leading white space does not stop a spreadsheet from reading a formula behind it.
    return f"'{value}" if value.lstrip().startswith(FORMULA_STARTS) or value.startswith(("\t", "\r")) else value
