"""Predictions joined with the true labels of their videos.

Shape suffixes: B videos, C classes, M ensemble members, V test-time views (variants of a video).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vidclf import arrow, credentials, schema, storage
from vidclf.reports import top_votes, video_kinds
from vidclf.reports.left_out import (
    NO_LABEL,
    NOT_CLASSIFIED,
    NOT_IN_MANIFEST,
    LeftOut,
    check_none,
    nothing_to_score,
    unknown_label,
)

UNSPLIT = "all"
"""Split name of labelled videos without a split."""

PREDICTION_COLUMNS = [
    schema.VIDEO_ID,
    "video_uri",
    "verdict",
    "top_label",
    "confidence",
    "probabilities",
    "prediction_set",
    "top_sublabel",
    "sublabel_trust",
    "answer_level",
    "sublabel_set",
    "trust_score",
    "ood_score",
    "member_probabilities",
    "view_probabilities",
    "width",
    "height",
    "duration_s",
    "video_codec",
    "stage",
    "ensemble_id",
]
"""Columns of the predictions that a report reads."""


def columns_of_report(num_classes: int) -> pa.Schema:
    """Schema of the columns of the predictions that a report reads."""
    columns = schema.stored_predictions(num_classes)
    return pa.schema([columns.field(name) for name in PREDICTION_COLUMNS])


@dataclass(frozen=True, kw_only=True)
class ScoredVideos:
    """Classified videos with known labels, stored as columns, so that a million of them fit into memory."""

    video_ids: npt.NDArray[np.str_]
    video_uris: npt.NDArray[np.str_]
    splits: npt.NDArray[np.str_]
    groups: npt.NDArray[np.str_]
    """name of the source, the recording that a video was cut from"""
    sublabels: npt.NDArray[np.str_]
    """true sublabel (finer class) of each video"""
    top_sublabels: npt.NDArray[np.str_]
    """most probable sublabel; an empty text if the ensemble predicts none for the most probable class"""
    levels: npt.NDArray[np.str_]
    """level at which each video is answered (`schema.AnswerLevel`); an empty text in predictions of earlier versions"""
    sublabel_sets: npt.NDArray[np.object_]
    """names of the leaves in the set of sublabels of each video, as a frozenset; empty without such sets"""
    codecs: npt.NDArray[np.str_]
    resolutions: npt.NDArray[np.str_]
    durations: npt.NDArray[np.str_]
    stages: npt.NDArray[np.str_]
    """set of frames that decided a video: `keyframes`, `subset` or `full`"""
    label_B: npt.NDArray[np.int64]
    """index of the true class in the ensemble's classes"""
    top_B: npt.NDArray[np.int64]
    """index of the most probable class"""
    is_accepted_B: npt.NDArray[np.bool_]
    confidence_B: npt.NDArray[np.float32]
    trust_B: npt.NDArray[np.float32]
    """trust score; NaN for labels from words that were not calibrated"""
    sublabel_trust_B: npt.NDArray[np.float32]
    """estimated probability that the most probable sublabel is right; NaN if there is none"""
    ood_B: npt.NDArray[np.float32]
    """OOD score; NaN likewise"""
    probabilities_BC: npt.NDArray[np.float32]
    in_set_BC: npt.NDArray[np.bool_]
    """whether each class is in the prediction set of each video; all False without prediction sets"""
    member_top_BM: npt.NDArray[np.int64]
    """index of the most probable class of each ensemble member; `NO_VOTE` for a video whose votes are not counted"""
    view_top_BV: npt.NDArray[np.int64]
    """index of the most probable class of each test-time view (variant of a video); `NO_VOTE` likewise"""

    def __len__(self) -> int:
        return len(self.video_ids)

    @property
    def is_correct_B(self) -> npt.NDArray[np.bool_]:
        """Whether the most probable class of each video is its true class: a boolean array [B]."""
        correct_B: npt.NDArray[np.bool_] = self.label_B == self.top_B
        return correct_B

    def take(self, selection: npt.NDArray[Any]) -> ScoredVideos:
        """The selected videos only; `selection` has their indices, or is a boolean mask."""
        return ScoredVideos(**{field.name: getattr(self, field.name)[selection] for field in fields(self)})

    def relative_to(self, base: str) -> ScoredVideos:
        """The same videos with locations relative to `base`, without credentials (`credentials.relative`)."""
        uris, groups = (
            _text([credentials.relative(one, base) for one in values]) for values in (self.video_uris, self.groups)
        )
        return replace(self, video_uris=uris, groups=groups)

    def kinds(self) -> dict[str, npt.NDArray[np.str_]]:
        """Group of each video, such as `1080p`: a dict with an array [B] of names for each of the groupings.

        The groupings are sublabel, codec, resolution and duration; also stage (the set of frames that decided a video)
        if several stages decided.
        """
        kinds = {
            "sublabel": self.sublabels,
            "codec": self.codecs,
            "resolution": self.resolutions,
            "duration": self.durations,
        }
        return {**kinds, "stage": self.stages} if len(set(self.stages.tolist())) > 1 else kinds


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """Videos that have a prediction and a label, sorted by location, and those that are left out."""

    videos: ScoredVideos
    left_out: list[LeftOut]
    """videos that are not scored, one entry per reason"""

    def num_left_out(self, reason: str) -> int:
        """Number of videos that are left out for one reason."""
        return sum(entry.num_videos for entry in self.left_out if entry.reason == reason)


def with_digests(manifest: pa.Table, files: list[str]) -> pa.Table:
    """A manifest with the column `content_digest` of the predictions in `files`; null for a video without one."""
    digest_of: dict[str, str | None] = {}
    for table in storage.iter_tables(files, [schema.VIDEO_ID, "content_digest"]):
        digest_of.update(zip(table[schema.VIDEO_ID].to_pylist(), table["content_digest"].to_pylist(), strict=True))
    digests = [digest_of.get(video_id) for video_id in manifest[schema.VIDEO_ID].to_pylist()]
    return manifest.append_column("content_digest", pa.array(digests, pa.string()))


def score(
    tables: Iterable[pa.Table],
    manifest: pa.Table,
    classes: Sequence[str],
    rejected: Collection[str] = (),
    ensemble_id: str | None = None,
) -> Scoring:
    """Join rows of `schema.predictions` (at least `PREDICTION_COLUMNS`) with the labels of a manifest, by video id.

    `rejected` has the ids of the videos that have a reject reason instead of a prediction. Videos whose label is no
    class of the ensemble are left out, like videos without a label. Votes are counted of the ensemble `ensemble_id`
    only, if that is given.

    Raises ConfigError if no video can be scored, or if rows of one stage have different numbers of ensemble members or
    test-time views (variants of a video).
    """
    columns = [schema.VIDEO_ID, "video_uri", "label", "sublabel", "group", "split"]
    truth: dict[str, Any] = {row[schema.VIDEO_ID]: row for row in manifest.select(columns).to_pylist()}
    index_of = {name: index for index, name in enumerate(classes)}
    unscored: dict[str, list[str]] = defaultdict(list)
    unclassified = {video_id for video_id, row in truth.items() if row["label"] is not None} - set(rejected)
    parts: list[ScoredVideos] = []
    for table in tables:
        ids, uris = table[schema.VIDEO_ID].to_pylist(), table["video_uri"].to_pylist()
        unclassified.difference_update(ids)
        matches: list[Any] = [truth.get(video_id) for video_id in ids]
        reasons = [_reason(row, index_of, classes) for row in matches]
        for uri, reason in zip(uris, reasons, strict=True):
            if reason is not None:
                unscored[reason].append(uri)
        indices = [index for index, reason in enumerate(reasons) if reason is None]
        if indices:
            parts.append(_joined(table.take(indices), [matches[index] for index in indices], index_of, ensemble_id))
    unscored[NOT_CLASSIFIED] = [credentials.masked(truth[video_id]["video_uri"]) for video_id in unclassified]
    left_out = _counted(unscored)
    if not parts:
        raise nothing_to_score(left_out, classes)
    votes = {"member_top_BM": "member", "view_top_BV": "view"}
    columns_of_all: dict[str, Any] = {
        f.name: (top_votes.joined if f.name in votes else np.concatenate)([getattr(part, f.name) for part in parts])
        for f in fields(ScoredVideos)
    }
    for name, kind in votes.items():
        columns_of_all[name] = top_votes.counted(columns_of_all[name], columns_of_all["stages"], kind)
    joined = ScoredVideos(**columns_of_all)
    return Scoring(videos=joined.take(np.argsort(joined.video_uris, kind="stable")), left_out=left_out)


def check_labels(manifest: pa.Table, classes: Sequence[str], flag: str, *, strict: bool) -> None:
    """Raise ConfigError if no video of a manifest can be scored, or, if `strict`, some cannot. `flag` names the labels.

    For videos that are yet to be classified.
    """
    index_of = {name: index for index, name in enumerate(classes)}
    unscored: dict[str, list[str]] = defaultdict(list)
    for row in manifest.select(["video_uri", "label"]).to_pylist():
        reason = _reason(row, index_of, classes)
        if reason is not None:
            unscored[reason].append(credentials.masked(row["video_uri"]))
    left_out = _counted(unscored)
    if sum(entry.num_videos for entry in left_out) == manifest.num_rows:
        raise nothing_to_score(left_out, classes)
    if strict:
        check_none(left_out, flag)


def _counted(unscored: dict[str, list[str]]) -> list[LeftOut]:
    """Return the videos that are left out, from their locations by reason."""
    return [
        LeftOut(reason=reason, num_videos=len(uris), video_uri=min(uris)) for reason, uris in unscored.items() if uris
    ]


def _reason(row: dict[str, Any] | None, index_of: dict[str, int], classes: Sequence[str]) -> str | None:
    """Return why a classified video with the manifest row `row` cannot be scored; None if it can be."""
    if row is None:
        return NOT_IN_MANIFEST
    if row["label"] is None:
        return NO_LABEL
    return None if row["label"] in index_of else unknown_label(row["label"], classes)


def _joined(table: pa.Table, truth: Sequence[Any], index_of: dict[str, int], ensemble_id: str | None) -> ScoredVideos:
    """Columns of labelled videos from prediction rows and the manifest rows `truth` of the same videos, in equal order.

    `index_of` gives the index of each class. Votes of another ensemble than `ensemble_id` are not counted, if that is
    given.
    """
    num_videos = table.num_rows
    is_of_run_B = np.array([ensemble_id in (None, each) for each in table["ensemble_id"].to_pylist()], bool)
    widths, heights = table["width"].to_pylist(), table["height"].to_pylist()
    return ScoredVideos(
        video_ids=_text(table[schema.VIDEO_ID].to_pylist()),
        video_uris=_text(table["video_uri"].to_pylist()),
        splits=_text([row["split"] or UNSPLIT for row in truth]),
        groups=_text([row["group"] for row in truth]),
        sublabels=_text([row["sublabel"] or video_kinds.UNKNOWN for row in truth]),
        top_sublabels=_text([name or "" for name in table["top_sublabel"].to_pylist()]),
        levels=_text([level or "" for level in table["answer_level"].to_pylist()]),
        sublabel_sets=_sublabel_sets(table["sublabel_set"]),
        codecs=_text([codec or video_kinds.UNKNOWN for codec in table["video_codec"].to_pylist()]),
        resolutions=_text([video_kinds.resolution(*size) for size in zip(widths, heights, strict=True)]),
        durations=_text([video_kinds.duration(seconds) for seconds in table["duration_s"].to_pylist()]),
        stages=_text(table["stage"].to_pylist()),
        label_B=np.array([index_of[row["label"]] for row in truth]),
        top_B=np.array([index_of[name] for name in table["top_label"].to_pylist()]),
        is_accepted_B=np.array([verdict == schema.Verdict.ACCEPTED for verdict in table["verdict"].to_pylist()]),
        confidence_B=table["confidence"].to_numpy(),
        trust_B=table["trust_score"].to_numpy(),
        sublabel_trust_B=table["sublabel_trust"].to_numpy(),
        ood_B=table["ood_score"].to_numpy(),
        probabilities_BC=_values(table["probabilities"]).reshape(num_videos, -1),
        in_set_BC=_in_sets(table["prediction_set"], index_of),
        member_top_BM=top_votes.top_votes(table["member_probabilities"], is_of_run_B),
        view_top_BV=top_votes.top_votes(table["view_probabilities"], is_of_run_B),
    )


def _in_sets(column: pa.ChunkedArray, index_of: dict[str, int]) -> npt.NDArray[np.bool_]:
    """Whether each class is in each prediction set, as an array [B, C]; rows without a set are all False."""
    inside_BC = np.zeros((len(column), len(index_of)), bool)
    for inside_C, names in zip(inside_BC, column.to_pylist(), strict=True):
        inside_C[[index_of[name] for name in names or ()]] = True
    return inside_BC


def _sublabel_sets(column: pa.ChunkedArray) -> npt.NDArray[np.object_]:
    """The set of sublabels of each video as a frozenset. Equal sets are stored once."""
    known: dict[frozenset[str], frozenset[str]] = {}
    sets = np.empty(len(column), object)
    for index, names in enumerate(column.to_pylist()):
        found = frozenset(names or ())
        sets[index] = known.setdefault(found, found)
    return sets


def _values(column: pa.ChunkedArray) -> npt.NDArray[np.float32]:
    """All numbers of a nested arrow column, as a flat array."""
    values: npt.NDArray[np.float32] = arrow.combined(column).flatten().to_numpy(zero_copy_only=False)
    return values


def _text(values: list[str]) -> npt.NDArray[np.str_]:
    """Texts as an array of Python objects."""
    # Objects instead of fixed-width text, in which one long location would make every entry that long.
    return np.array(values, dtype=object)
