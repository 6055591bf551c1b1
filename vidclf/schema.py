"""Arrow schemas of all Parquet files, and the closed lists of reject reasons, verdicts, looks and trial states.

Every file that one stage writes and another reads has its schema here. Each table is checked with `arrow.conform`
before it is written, so that a changed column shows up in the stage that changed it and not two stages later.
All types are plain Arrow (no extension types): pandas, DuckDB and Polars read the files without vidclf.

Shapes: T sampled frames, D features, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import pyarrow as pa

SPLITS = ("train", "val", "test")
"""Names of the splits, in this order wherever they are listed."""


class Verdict(StrEnum):
    """Whether a video's predicted label is used."""

    ACCEPTED = "accepted"
    """Trust score and OOD score pass their thresholds: the label counts."""
    ABSTAINED = "abstained"
    """The prediction is too uncertain: the row has no label."""


VERDICTS = tuple(Verdict)


class Look(StrEnum):
    """How much of a video a prediction is based on (column `stage`), from the cheapest look to the full one."""

    KEYFRAMES = "keyframes"
    """A few keyframes (`--first-look` of training)."""
    SUBSET = "subset"
    """Some of the sampled frames."""
    FULL = "full"
    """All sampled frames."""


SEGMENTS_COLUMN = "segments"
"""Column with the segments of a video as a list of structs, until the sink writes them as rows of their own."""

VIDEO_ID = "video_id"
"""Column with the id of a video: uuid5 of `video_uri` in the URL namespace. It is unique in a manifest and the same
each time the job is submitted."""


class RejectReason(StrEnum):
    """Reasons why a video has no features and no prediction. `jobs/audit.py` reports any other value as an error."""

    NOT_FOUND = "not_found"
    PERMISSION_DENIED = "permission_denied"
    EMPTY_FILE = "empty_file"
    TOO_LARGE = "too_large"
    NOT_A_VIDEO = "not_a_video"
    NO_VIDEO_STREAM = "no_video_stream"
    UNSUPPORTED_CODEC = "unsupported_codec"
    TRUNCATED = "truncated"
    DECODE_ERROR = "decode_error"
    TOO_FEW_FRAMES = "too_few_frames"
    READ_ERROR = "read_error"
    OUT_OF_MEMORY = "out_of_memory"
    DECODE_TIMEOUT = "decode_timeout"
    DECODER_CRASHED = "decoder_crashed"
    FEATURES_NOT_FINITE = "features_not_finite"


MANIFEST = pa.schema(
    [
        pa.field(VIDEO_ID, pa.string(), nullable=False),
        pa.field("video_uri", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("sublabel", pa.string()),
        pa.field("group", pa.string(), nullable=False),
        pa.field("split", pa.string()),
        pa.field("size_bytes", pa.int64()),
    ]
)
"""Manifest: one row per video. `group` is the source of the video; all videos of a source are in one split. `label`,
`sublabel`, `split` and `size_bytes` are null if unknown, as in an unlabelled archive or a remote list."""

QUARANTINE = pa.schema(
    [
        pa.field(VIDEO_ID, pa.string(), nullable=False),
        pa.field("video_uri", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("message", pa.string(), nullable=False),
        pa.field("attempts", pa.int32(), nullable=False),
    ]
)
"""Quarantine: one row per rejected video. `attempts` is the number of times it was processed, 1 without
`--retry-quarantined`."""

_VIDEO_FIELDS = [
    pa.field("size_bytes", pa.int64(), nullable=False),
    pa.field("modified", pa.timestamp("us", tz="UTC")),
    pa.field("content_digest", pa.string(), nullable=False),
    pa.field("num_frames", pa.int32(), nullable=False),
    pa.field("duration_s", pa.float64(), nullable=False),
    pa.field("width", pa.int32(), nullable=False),
    pa.field("height", pa.int32(), nullable=False),
    pa.field("framerate", pa.float64()),
    pa.field("video_codec", pa.string(), nullable=False),
    pa.field("pts_s", pa.list_(pa.float64()), nullable=False),
    pa.field("is_black", pa.list_(pa.bool_()), nullable=False),
    pa.field("all_black", pa.bool_(), nullable=False),
]
"""Facts about a video from decoding it. Lists have one entry per sampled frame (T). `size_bytes`, `modified` (null if
the storage does not report it) and `content_digest` (`vidclf/video/digest.py`) describe the file at the time of
decoding."""

_PICTURE_FIELDS = [
    pa.field("luma_mean", pa.list_(pa.float32()), nullable=False),
    pa.field("sharpness", pa.list_(pa.float32()), nullable=False),
    pa.field("is_near_duplicate", pa.list_(pa.bool_()), nullable=False),
    pa.field("is_blurry", pa.bool_(), nullable=False),
]
"""Quality of the sampled frames, measured at model resolution. `vidclf/video/frame_quality.py` defines the values."""

DUPLICATES = pa.schema(
    [
        pa.field(VIDEO_ID, pa.string(), nullable=False),
        pa.field("video_uri", pa.string(), nullable=False),
        pa.field("split", pa.string()),
        pa.field("duplicate_of", pa.string(), nullable=False),
        pa.field("duplicate_of_uri", pa.string(), nullable=False),
        pa.field("duplicate_of_split", pa.string()),
        pa.field("content_digest", pa.string(), nullable=False),
    ]
)
"""Duplicates: one row per video whose file content equals that of an earlier video, in the order of locations."""

SPLIT_TABLE = pa.schema(
    [
        pa.field(VIDEO_ID, pa.string(), nullable=False),
        pa.field("video_uri", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("split", pa.string()),
        pa.field("group", pa.string(), nullable=False),
        pa.field("cluster", pa.int32()),
    ]
)
"""Splits of an ensemble: one row per video that it was trained or measured on. `group` is kept in one split, and so is
`cluster`, the group of its near duplicates (null without near duplicates)."""

LEAKAGE = pa.schema(
    [
        *[
            pa.field(f"{prefix}{name}", pa.string(), nullable=name == "label")
            for prefix in ("", "other_")
            for name in (VIDEO_ID, "video_uri", "label", "split")
        ],
        pa.field("cosine", pa.float32(), nullable=False),
        pa.field("same_content", pa.bool_(), nullable=False),
    ]
)
"""Leakage: one row per pair of near duplicates in different splits, the most similar first. `cosine` compares their
mean features; `same_content` is true if the files are identical, byte for byte."""


def frames_name(index: int) -> str:
    """Name of the column with the frames after the job's transform number `index`."""
    return f"view_{index}"


def frames_at(side: int) -> pa.Schema:
    """The frames of a video at one model resolution, side × side pixels, with their quality.

    `frames` is a list of T fixed-size binaries of side² × 3 bytes (RGB, row-major uint8). With this layout T may differ
    from row to row, the bytes are contiguous over a block, and no extension type is needed."""
    return pa.schema([*_PICTURE_FIELDS, pa.field("frames", pa.list_(pa.binary(side * side * 3)), nullable=False)])


def decoded(sides: Sequence[int]) -> pa.Schema:
    """Output rows of the decode stage: manifest columns, then either a decoded video or a reject reason.

    A decoded video has its facts and one struct `view_<i>` of frames per model resolution in `sides`. A rejected one
    has `reject_reason` and `reject_message`, and nulls elsewhere."""
    return pa.schema(
        [
            *[field for field in MANIFEST if field.name != "size_bytes"],
            *[field.with_nullable(True) for field in _VIDEO_FIELDS],
            *[pa.field(frames_name(index), pa.struct(list(frames_at(side)))) for index, side in enumerate(sides)],
            pa.field("reject_reason", pa.string()),
            pa.field("reject_message", pa.string()),
        ]
    )


def features(feature_dim: int) -> pa.Schema:
    """Features: one row per video. `features` is [T, D] float16, stored as list<fixed_size_list<D>>."""
    return pa.schema(
        [
            *[field for field in MANIFEST if field.name != "size_bytes"],
            *_VIDEO_FIELDS,
            *_PICTURE_FIELDS,
            pa.field("features", pa.list_(pa.list_(pa.float16(), feature_dim)), nullable=False),
            pa.field("feature_key", pa.string(), nullable=False),
        ]
    )


def predictions(num_classes: int) -> pa.Schema:
    """Predictions: one row per classified video.

    `top_label` is the most probable class. `label` is the same, or null if `verdict` is `abstained`. `probabilities`
    [C] are calibrated and in the class order of the ensemble; `confidence` is their maximum. `trust_score` in [0, 1] is
    the estimated probability that `top_label` is right. `ood_score` is the distance of the video from the training data
    (`vidclf/uncertainty/ood.py` defines the unit). `member_disagreement` is the mean total-variation distance of the
    members from their average: 0 if all agree, 1 if they share nothing. `member_probabilities` holds one [C] per
    member, averaged over the views of test-time augmentation; `view_probabilities` holds one [C] per view, averaged
    over the members. `attention` [T] is the pooling weight of each sampled frame, whose time is in `pts_s`; the weights
    sum to 1. `stage` is the `Look` that decided, always `full` unless the job was progressive; the frames in the row
    are those of this look. `sharpened` is true if the frames were sharpened (`--sharpen-blurry`).
    """
    return pa.schema(
        [
            pa.field(VIDEO_ID, pa.string(), nullable=False),
            pa.field("video_uri", pa.string(), nullable=False),
            pa.field("label", pa.string()),
            pa.field("verdict", pa.string(), nullable=False),
            pa.field("top_label", pa.string(), nullable=False),
            pa.field("confidence", pa.float32(), nullable=False),
            pa.field("probabilities", pa.list_(pa.float32(), num_classes), nullable=False),
            pa.field("trust_score", pa.float32(), nullable=False),
            pa.field("ood_score", pa.float32(), nullable=False),
            pa.field("member_disagreement", pa.float32(), nullable=False),
            pa.field("member_probabilities", pa.list_(pa.list_(pa.float32(), num_classes)), nullable=False),
            pa.field("view_probabilities", pa.list_(pa.list_(pa.float32(), num_classes)), nullable=False),
            pa.field("attention", pa.list_(pa.float32()), nullable=False),
            pa.field("stage", pa.string(), nullable=False),
            pa.field("sharpened", pa.bool_(), nullable=False),
            *_VIDEO_FIELDS,
            *_PICTURE_FIELDS,
            pa.field("ensemble_id", pa.string(), nullable=False),
        ]
    )


def _segment_fields(num_classes: int) -> list[pa.Field]:
    return [
        pa.field("segment_index", pa.int32(), nullable=False),
        pa.field("start_s", pa.float64(), nullable=False),
        pa.field("end_s", pa.float64(), nullable=False),
        pa.field("num_frames", pa.int32(), nullable=False),
        pa.field("top_label", pa.string(), nullable=False),
        pa.field("confidence", pa.float32(), nullable=False),
        pa.field("probabilities", pa.list_(pa.float32(), num_classes), nullable=False),
    ]


def segments(num_classes: int) -> pa.Schema:
    """Segments: one row per segment of a classified video that contains a sampled frame; at least one per video.

    Segment `segment_index` covers the half-open range [`start_s`, `end_s`) of the video, the last one up to its
    end. `probabilities` [C] are computed from its `num_frames` frames alone and calibrated like those of the video."""
    return pa.schema(
        [
            pa.field(VIDEO_ID, pa.string(), nullable=False),
            pa.field("video_uri", pa.string(), nullable=False),
            *_segment_fields(num_classes),
        ]
    )


def segments_field(num_classes: int) -> pa.Field:
    """The extra column of a prediction with `--segments`: its segments, until they are written to their own files."""
    return pa.field(SEGMENTS_COLUMN, pa.list_(pa.struct(_segment_fields(num_classes))), nullable=False)


SIGNS_FIELD = pa.field("trust_signs", pa.list_(pa.float64()), nullable=False)
"""The extra column of a prediction that is to be explained: the `SIGNS` (`vidclf/uncertainty/trust_score.py`) from
which its trust score is computed."""


def stored_predictions(num_classes: int) -> pa.Schema:
    """Predictions that were made from stored features instead of videos: as `predictions`, with more nullable columns.

    Facts from decoding are null if the features do not contain them. An HDF5 file contains only `num_frames`. It does
    not name its videos either, so `video_uri` is the file and the row number (`FILE#ROW`)."""
    unknown = {field.name for field in (*_VIDEO_FIELDS, *_PICTURE_FIELDS)} - {"num_frames"}
    return pa.schema(
        [field.with_nullable(field.nullable or field.name in unknown) for field in predictions(num_classes)]
    )


FLIPS = pa.schema(
    [
        pa.field(VIDEO_ID, pa.string(), nullable=False),
        pa.field("video_uri", pa.string(), nullable=False),
        pa.field("label_before", pa.string(), nullable=False),
        pa.field("label_after", pa.string(), nullable=False),
        pa.field("confidence_before", pa.float32(), nullable=False),
        pa.field("confidence_after", pa.float32(), nullable=False),
        pa.field("trust_before", pa.float32(), nullable=False),
        pa.field("trust_after", pa.float32(), nullable=False),
        pa.field("verdict_before", pa.string(), nullable=False),
        pa.field("verdict_after", pa.string(), nullable=False),
        pa.field("codec", pa.string(), nullable=False),
        pa.field("resolution", pa.string(), nullable=False),
    ]
)
"""Flips: one row per video on which two classifications differ. Videos with another most probable class (`label_*`)
come before those with another verdict only; within each kind the highest confidence of the second classification
comes first. `codec` and `resolution` are from the first classification, 'unknown' if it did not decode the video."""


class TrialStatus(StrEnum):
    """How a trial of a search ended. A running trial has no status."""

    FINISHED = "finished"
    """The trial reached its last epoch or ran out of patience."""
    STOPPED = "stopped"
    """The scheduler or the time budget ended the trial."""
    FAILED = "failed"
    OUT_OF_MEMORY = "out_of_memory"


def trials(parameters: dict[str, pa.DataType]) -> pa.Schema:
    """Trials of a search: one row per trial, the best first.

    Trials are ordered by macro F1, then by accuracy, then by number; failed trials come last. `macro_f1`, `accuracy`
    and `val_loss` are those of the validation split at `best_epoch`. This number counts from 1 into the `epoch_…`
    lists, which continue through restarts after a collapse. They are null if the trial failed in its first epoch.
    `started_s` and `ended_s` (one entry per epoch) are seconds of Unix time. `duration_s` excludes the time between a
    kill and the resubmission. `settings` is JSON with all fields of `FitConfig`; `parameters` are the searched ones."""
    return pa.schema(
        [
            pa.field("trial_id", pa.string(), nullable=False),
            pa.field("status", pa.string(), nullable=False),
            pa.field("error", pa.string()),
            pa.field("macro_f1", pa.float64()),
            pa.field("accuracy", pa.float64()),
            pa.field("val_loss", pa.float64()),
            pa.field("best_epoch", pa.int32()),
            pa.field("num_epochs", pa.int32(), nullable=False),
            pa.field("started_s", pa.float64()),
            pa.field("duration_s", pa.float64(), nullable=False),
            pa.field("features", pa.string()),
            *[pa.field(name, kind) for name, kind in parameters.items()],
            pa.field("settings", pa.string()),
            pa.field("epoch_macro_f1", pa.list_(pa.float64()), nullable=False),
            pa.field("epoch_val_loss", pa.list_(pa.float64()), nullable=False),
            pa.field("epoch_train_loss", pa.list_(pa.float64()), nullable=False),
            pa.field("ended_s", pa.list_(pa.float64()), nullable=False),
        ]
    )
