"""The contracts between stages: column names, Arrow schemas and the closed list of reject reasons.

Every file that one stage writes and another reads has its schema here, and `conform` is called on
each table before it is written, so that a drift in a stage shows up there and not two stages later.
Everything is plain Arrow (no extension types): pandas, DuckDB and Polars read it without vidclf.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import pyarrow as pa

SPLITS = ("train", "val", "test")


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
"""A video's rows of `segment_fields`, as a list of structs, until its shard is written."""

VIDEO_ID = "video_id"
"""uuid5 of `video_uri` in the URL namespace: unique in a manifest, stable over resubmissions."""


class RejectReason(StrEnum):
    """Why a video has no features and no prediction. Closed: audit refuses any other value."""

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
"""One row per video. `group` is what must not cross splits (the source); `label`, `sublabel`,
`split` and `size_bytes` are null where unknown (an unlabelled archive, a remote list)."""

QUARANTINE = pa.schema(
    [
        pa.field(VIDEO_ID, pa.string(), nullable=False),
        pa.field("video_uri", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("message", pa.string(), nullable=False),
        pa.field("attempts", pa.int32(), nullable=False),
    ]
)
"""One row per rejected video; `attempts` counts how often it was tried, once without
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
"""What decoding learns of a video; lists have one entry per sampled frame (T). `size_bytes`,
`modified` (null where the storage does not tell) and `content_digest` (`vidclf/archive/content.py`)
are the file's when it was decoded."""

_PICTURE_FIELDS = [
    pa.field("luma_mean", pa.list_(pa.float32()), nullable=False),
    pa.field("sharpness", pa.list_(pa.float32()), nullable=False),
    pa.field("is_near_duplicate", pa.list_(pa.bool_()), nullable=False),
    pa.field("is_blurry", pa.bool_(), nullable=False),
]
"""What is measured of the frames at model resolution; `vidclf/archive/quality.py` says what they mean."""

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
"""One row per video whose content is that of another one before it, in order of location."""

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
"""One row per video that an ensemble was trained or measured on: the split it was in, the group that
was kept together, and its cluster of near duplicates (null where nothing is near it)."""

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
"""One row per pair of near duplicates in different splits, the nearest first: the cosine of their mean
features, and whether their files are the same, byte for byte."""


def frames_name(index: int) -> str:
    """The column of the frames as one of a job's transforms leaves them."""
    return f"view_{index}"


def frames_at(side: int) -> pa.Schema:
    """A video's frames at one model resolution, side × side pixels, and what is measured of them.

    `frames` is a list of T fixed-size binaries of side² × 3 bytes (RGB, row-major uint8), so T varies
    freely between rows, the bytes are contiguous over a block, and no extension type is needed.
    """
    return pa.schema([*_PICTURE_FIELDS, pa.field("frames", pa.list_(pa.binary(side * side * 3)), nullable=False)])


def decoded(sides: Sequence[int]) -> pa.Schema:
    """Rows that leave a decode worker: manifest columns, video facts, a struct (`view`) for each
    model resolution, or a reject reason.

    Where there is a reject reason there are no views and no facts, and the other way round.
    """
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
    """One row per embedded video: `features` is [T, D] float16 as list<fixed_size_list<D>>."""
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
    """One row per classified video.

    `top_label` is the most probable class and `label` the same, or null where `verdict` is `abstained`
    rather than `accepted`. `probabilities` [C] are calibrated, in the ensemble's class order, and
    `confidence` is their maximum. `trust_score` in [0, 1] is the estimated probability that `top_label`
    is right, `ood_score` how far the video is from what training saw (`vidclf/learning/ood.py` says in
    what unit). `member_disagreement` is the members' mean total-variation distance from their average (0:
    all agree, 1: nothing shared); `member_probabilities` holds one [C] a member, averaged over the views
    of test-time augmentation, `view_probabilities` one [C] a view, averaged over the members.
    `attention` [T] is the pooling weight of each sampled frame (sums to 1), at `pts_s`. `stage` is the look
    that decided (`vidclf/learning/cascade.py`; `full` unless the job was progressive), whose frames the row
    is of; `sharpened` says that these were sharpened (`--sharpen-blurry`).
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
    """One row per segment of a classified video that holds a sampled frame, at least one a video.

    Segment `segment_index` reaches over the half-open range [`start_s`, `end_s`) of the video, the
    last one up to its end. `probabilities` [C] are those of its `num_frames` frames alone, calibrated
    as the video's.
    """
    return pa.schema(
        [
            pa.field(VIDEO_ID, pa.string(), nullable=False),
            pa.field("video_uri", pa.string(), nullable=False),
            *_segment_fields(num_classes),
        ]
    )


def segments_field(num_classes: int) -> pa.Field:
    """What a prediction carries beside its own columns until it is written, with `--segments`."""
    return pa.field(SEGMENTS_COLUMN, pa.list_(pa.struct(_segment_fields(num_classes))), nullable=False)


SIGNS_FIELD = pa.field("trust_signs", pa.list_(pa.float64()), nullable=False)
"""What a prediction carries beside its own columns where it is to be explained: the `SIGNS` of
`vidclf/learning/trust.py` that its trust score is made of."""


def stored_predictions(num_classes: int) -> pa.Schema:
    """`predictions` made from stored features instead of videos. What only decoding tells is null where
    the features do not hold it: all of it but `num_frames` for an HDF5 file, which names no videos
    either, so that `video_uri` is the file and the row (`FILE#ROW`)."""
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
"""One row per video that two classifications differ on: in its most probable class (`label_*`), which
come first, or in its verdict only; the surest in the second one first among each. `codec` and
`resolution` are as the first one decoded the video, 'unknown' where it did not."""


class TrialStatus(StrEnum):
    """How a trial of a search ended. A trial that is not over has none."""

    FINISHED = "finished"
    """by its own epochs or patience"""
    STOPPED = "stopped"
    """by the scheduler or the time budget"""
    FAILED = "failed"
    OUT_OF_MEMORY = "out_of_memory"


def trials(parameters: dict[str, pa.DataType]) -> pa.Schema:
    """One row per trial of a search, the best first: by macro F1, then by accuracy, then the earlier one; failed
    ones last.

    `macro_f1`, `accuracy` and `val_loss` are validation's at `best_epoch`, an index from 1 into the lists of
    what each epoch had, fresh starts after a collapse counted on; null where a trial failed before its
    first epoch ended. `ended_s` is when each epoch ended and `started_s` when the trial began, in seconds
    since the epoch of Unix; `duration_s` leaves out the time between a kill and the resubmission.
    `settings` is JSON of all fields of `FitConfig`; `parameters` are the ones that were searched.
    """
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
