"""Lists of the misclassified, the abstained and the rejected videos of a report, and the CSV files of the first two.

Abstained videos are those for which the ensemble gave no class. Shape suffixes: B videos, C classes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vidclf import schema, storage
from vidclf.credentials import relative, relative_text
from vidclf.csv_text import plain_text
from vidclf.reports.labelled_predictions import UNSPLIT, ScoredVideos
from vidclf.runs.layout import Run

SPLIT_ORDER = ("test", UNSPLIT, "val", "train")
"""Splits from first to last in a list: test videos come first, because their errors predict those on new videos."""

NUM_PROBABILITIES = 3
"""Number of class probabilities shown per video."""


@dataclass(frozen=True, kw_only=True)
class ListedVideo:
    """Entry for one video in a list of a report; all fields but `probabilities` are columns of the CSV file."""

    split: str
    label: str
    """true class"""
    top_label: str
    """most probable class"""
    verdict: str
    confidence: float
    trust_score: float | None
    ood_score: float | None
    """both None for labels from words that were not calibrated"""
    sublabel: str
    codec: str
    resolution: str
    duration: str
    group: str
    """name of the source, the recording that the video was cut from"""
    video_id: str
    video_uri: str
    probabilities: list[tuple[str, float]]
    """class names with probabilities: the most probable classes, and always the true class"""
    prediction_set: str
    """classes of the prediction set, joined by `or`, the most probable first; empty without prediction sets"""


def misclassified(videos: ScoredVideos, classes: Sequence[str]) -> list[ListedVideo]:
    """List of the misclassified videos, whether the ensemble accepted them or abstained (gave no class).

    Videos of the test split come first, then the list is sorted by falling confidence.
    """
    return _listed(videos, ~videos.is_correct_B, -videos.confidence_B, classes)


def abstained(videos: ScoredVideos, classes: Sequence[str]) -> list[ListedVideo]:
    """List of the videos that the ensemble gave no class (abstained on).

    Videos of the test split come first, then the list is sorted by falling trust score.
    """
    return _listed(videos, ~videos.is_accepted_B, -videos.trust_B, classes)


def to_csv(listed: Sequence[ListedVideo]) -> bytes:
    """CSV file of a list, as bytes in UTF-8 with a header.

    Text that looks like a spreadsheet formula gets an apostrophe in front.
    """
    names = [field.name for field in fields(ListedVideo) if field.name != "probabilities"]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([[_cell(getattr(video, name)) for name in names] for video in listed])
    return stream.getvalue().encode()


def rejected(run: str | None, base: str) -> list[dict[str, Any]]:
    """List of the rejected videos of the directory `run` as dicts, sorted by reason and location.

    Locations are relative to `base`. The list is empty if `run` is None.
    """
    if run is None:
        return []
    rows: Iterable[pa.Table] = storage.iter_tables(Run(run).quarantine_shards(), schema.QUARANTINE.names)
    listed = [
        {**row, "video_uri": relative(row["video_uri"], base), "message": relative_text(row["message"], base)}
        for part in rows
        for row in part.to_pylist()
    ]
    return sorted(listed, key=lambda row: (row["reason"], row["video_uri"]))


def _listed(
    videos: ScoredVideos, is_listed_B: npt.NDArray[np.bool_], rank_B: npt.NDArray[np.float32], classes: Sequence[str]
) -> list[ListedVideo]:
    """List entries of the videos where the mask `is_listed_B` is true, sorted by split and then by rising `rank_B`."""
    indices = np.flatnonzero(is_listed_B)
    splits = np.array([SPLIT_ORDER.index(videos.splits[index]) for index in indices])
    return [_listed_video(videos, int(index), classes) for index in indices[np.lexsort((rank_B[indices], splits))]]


def _listed_video(videos: ScoredVideos, index: int, classes: Sequence[str]) -> ListedVideo:
    """Entry for the video number `index` in a report's list of misclassified or abstained videos."""
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
        trust_score=_known(videos.trust_B[index]),
        ood_score=_known(videos.ood_B[index]),
        sublabel=videos.sublabels[index],
        codec=videos.codecs[index],
        resolution=videos.resolutions[index],
        duration=videos.durations[index],
        group=videos.groups[index],
        video_id=videos.video_ids[index],
        video_uri=videos.video_uris[index],
        probabilities=[(classes[i], float(probabilities_C[i])) for i in top],
        prediction_set=" or ".join(
            classes[i] for i in np.argsort(-probabilities_C, kind="stable") if videos.in_set_BC[index, i]
        ),
    )


def _known(score: np.float32) -> float | None:
    """A score as a number; None for NaN, which stands for a score that the predictions lack."""
    return None if np.isnan(score) else float(score)


def _cell(value: str | float | None) -> str:
    """Text of one CSV cell: numbers with six decimals, and an apostrophe before text that looks like a formula; empty
    for None."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return f"{value:.6f}"
    return plain_text(value)
