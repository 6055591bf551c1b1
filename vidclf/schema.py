"""Arrow schemas (names and types of columns) of all Parquet files, and the lists of words that their columns may hold.

Every table that one job or pipeline stage writes and another reads has its schema here. It is checked with
`arrow.conform` before it is written, so that a changed column causes an error where it was changed, not where it is
read. All types are plain Arrow (no extension types): pandas, DuckDB and Polars read the files without vidclf.

Letters in array shapes: T sampled frames of a video, D features per frame, C classes.

The module is longer than 350 lines because all contracts between jobs are here, in one place.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import pyarrow as pa

SPLITS = ("train", "val", "test")
"""Names of the splits: for training, for validation and for the test. They are always listed in this order."""


class Verdict(StrEnum):
    """Decision about the predicted label of a video (column `verdict`): it counts, or the video gets no label."""

    ACCEPTED = "accepted"
    """The label counts: the trust score (estimated probability of being right) is high enough, and the OOD score
    (distance from the training data) low enough."""
    ABSTAINED = "abstained"
    """The video gets no label (null), because the prediction is too uncertain or the video unlike the training data."""


VERDICTS = tuple(Verdict)
"""All verdicts, in the order in which they are always listed."""


class AnswerLevel(StrEnum):
    """Level at which a video is answered (column `answer_level`): the deepest one that keeps the risk."""

    SUBLABEL = "sublabel"
    """Its sublabel (finer class) is accepted, and so is its class."""
    CLASS = "class"
    """Its class is accepted."""
    ABSTAINED = "abstained"
    """The video gets neither."""


class Look(StrEnum):
    """Part of a video's frames from which its prediction was made (column `stage`), from the smallest to all frames.

    Progressive classification begins with the smallest part and takes a larger one only if the prediction is uncertain.
    """

    KEYFRAMES = "keyframes"
    """A few keyframes, which are cheap to decode. The ensemble must have been trained with `--first-look`, unless
    `--first-ensemble` classifies them."""
    SUBSET = "subset"
    """Some of the sampled frames of the video."""
    FULL = "full"
    """All sampled frames of the video."""


SEGMENTS_COLUMN = "segments"
"""Name of the column with the classified segments (parts) of a video, as a list of structs. It exists only inside the
pipeline; the files have one row per segment instead."""

VIDEO_ID = "video_id"
"""Name of the column with the id of a video, the uuid5 of its `video_uri` in the URL namespace. An id is unique in a
manifest (table of videos), and the same in every job."""


class RejectReason(StrEnum):
    """Reasons for which a video is rejected, so that it has neither features nor a prediction.

    `jobs/audit.py` reports any other reason in a file as an error. The text below each reason states its cause, then
    the remedy; the page `docs/reference/reject-reasons.md` is generated from these texts.
    """

    NOT_FOUND = "not_found"
    """No file is at the location, or it was deleted while it was decoded. Correct the list or mount the storage, and
    retry."""
    PERMISSION_DENIED = "permission_denied"
    """The storage refuses access to the file. Give the job's user or its credentials the right to read, and retry."""
    EMPTY_FILE = "empty_file"
    """The file has 0 bytes. Copy it again."""
    TOO_LARGE = "too_large"
    """The file is larger than `--max-video-gib`. Raise the limit, and retry."""
    NOT_A_VIDEO = "not_a_video"
    """The file has no signature of a known container, or the location is not a regular file. Remove it from the
    archive."""
    NO_VIDEO_STREAM = "no_video_stream"
    """The container holds sound or data, but no video stream. Remove it from the archive."""
    UNSUPPORTED_CODEC = "unsupported_codec"
    """No decoder exists for the codec of the video stream. Convert the video."""
    UNSUPPORTED_CONTAINER = "unsupported_container"
    """The file is a video of a format that is not opened, or a picture that is made of tiles or layers. Convert it."""
    ENCRYPTED = "encrypted"
    """The video stream is encrypted or scrambled, so that a decoder sees noise. Decrypt it with the key, or remove it
    from the archive."""
    TRUNCATED = "truncated"
    """The file ends before its video does, and no frame could be decoded. Copy it again. A file that is cut but gives
    frames is not rejected; its row states the missing seconds in `missing_s`."""
    DECODE_ERROR = "decode_error"
    """The video is damaged: none of the needed frames could be decoded. Copy it again, or repair it."""
    TOO_FEW_FRAMES = "too_few_frames"
    """The file can be opened, but it holds no frame. Check the recording."""
    READ_ERROR = "read_error"
    """Reading failed, after up to five attempts for remote storage. Check the network, and retry."""
    OUT_OF_MEMORY = "out_of_memory"
    """Decoding takes more memory than `--decode-memory-gib`. Raise the limit, and retry."""
    DECODE_TIMEOUT = "decode_timeout"
    """Decoding took longer than `--decode-timeout` and one second per second of video. Raise the limit, and retry."""
    DECODER_CRASHED = "decoder_crashed"
    """The video ended the decoder's process, by a signal or an exit code. Convert the video, or report the file."""
    FEATURES_NOT_FINITE = "features_not_finite"
    """The CNN gave a value that is NaN or infinite. Extract with `--precision fp32`, and check the weights."""


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
"""Columns of a manifest, the table of the videos of an archive, with one row per video.

`group` names the source of the video, such as the recording from which it was cut; all videos of a source are in one
split. `label`, `sublabel` (a finer class), `split` and `size_bytes` are null if they are unknown."""

CARRIED = ("video_uri", "label", "sublabel", "group", "split")
"""Columns of the manifest that a row of the pipeline carries unchanged from reading to writing. No CNN and no ensemble
sees them; the sink adds them to the rows that it writes."""

QUARANTINE = pa.schema(
    [
        pa.field(VIDEO_ID, pa.string(), nullable=False),
        pa.field("video_uri", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("message", pa.string(), nullable=False),
        pa.field("attempts", pa.int32(), nullable=False),
    ]
)
"""Columns of the table of rejected videos (quarantine), with one row per video.

`attempts` is the number of times that the video was processed: 1 unless `--retry-quarantined` tried again."""

_VIDEO_FIELDS = [
    pa.field("size_bytes", pa.int64(), nullable=False),
    pa.field("modified", pa.timestamp("us", tz="UTC")),
    pa.field("content_digest", pa.string(), nullable=False),
    pa.field("num_frames", pa.int32(), nullable=False),
    pa.field("duration_s", pa.float64(), nullable=False),
    pa.field("width", pa.int32(), nullable=False),
    pa.field("height", pa.int32(), nullable=False),
    pa.field("sample_aspect_ratio", pa.float64()),
    pa.field("framerate", pa.float64()),
    pa.field("video_codec", pa.string(), nullable=False),
    pa.field("time_jumps", pa.int32()),
    pa.field("missing_s", pa.float64()),
    pa.field("pts_s", pa.list_(pa.float64()), nullable=False),
    pa.field("is_black", pa.list_(pa.bool_()), nullable=False),
    pa.field("all_black", pa.bool_(), nullable=False),
]
"""Columns with facts about a video that are known from decoding it. Lists have one entry per sampled frame.

`size_bytes`, `modified` (time of the last change; null if the storage does not report it) and `content_digest`
(`vidclf/video/digest.py`) describe the file at the time of decoding. `time_jumps` counts the jumps of the video's clock
that were closed, as in joined recordings. `duration_s` and `pts_s` (the time of each frame) are in seconds, without
these jumps. `missing_s` is the number of seconds, at least, that the file of an incomplete or damaged video promises or
once held, but that no frame shows; 0 if the file is whole, if it does not state how long the video is, and if jumps of
the clock were closed (`vidclf/video/completeness.py`). `width` and `height` are those of the picture as displayed.
`sample_aspect_ratio` is the width of a stored pixel divided by its height; null if the file does not state it. Files
of earlier versions lack `sample_aspect_ratio`, `time_jumps` and `missing_s`, which are null wherever such files are
read."""

_PICTURE_FIELDS = [
    pa.field("luma_mean", pa.list_(pa.float32()), nullable=False),
    pa.field("sharpness", pa.list_(pa.float32()), nullable=False),
    pa.field("is_near_duplicate", pa.list_(pa.bool_()), nullable=False),
    pa.field("is_blurry", pa.bool_(), nullable=False),
]
"""Columns with the quality of the sampled frames, measured at the resolution that the CNN sees.

`vidclf/video/frame_quality.py` defines the values."""

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
"""Columns of the table of duplicates: one row per video whose file has the same content as another video whose location
comes first in alphabetical order. The columns `duplicate_of…` describe that other video."""

SPLIT_TABLE = pa.schema(
    [
        pa.field(VIDEO_ID, pa.string(), nullable=False),
        pa.field("video_uri", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("split", pa.string()),
        pa.field("group", pa.string(), nullable=False),
        pa.field("cluster", pa.int32()),
        pa.field("source", pa.string(), nullable=False),
        pa.field("content_digest", pa.string(), nullable=False),
        pa.field("mean_features", pa.list_(pa.float16()), nullable=False),
    ]
)
"""Columns of the table of splits of an ensemble, with one row per video that training was given, whatever its split.

`source` names the source (recording) of the video in the manifest. `group` is the same, or the name of several sources
that training kept together because they share near duplicates. `cluster` numbers the set of near duplicates to which
the video belongs; null if it has none. `content_digest` is equal for files with the same content. `mean_features` is
the mean of the video's frame features from the ensemble's first backbone. New splits keep videos with the same group or
cluster together; those of a manifest need not."""

EARLIER_SPLIT_TABLE = pa.schema([SPLIT_TABLE.field(index) for index in range(6)])
"""Columns of the table of splits in ensembles of earlier versions."""

FOLD_TABLE = pa.schema(
    [
        pa.field(VIDEO_ID, pa.string(), nullable=False),
        pa.field("video_uri", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("group", pa.string(), nullable=False),
        pa.field("fold", pa.int32(), nullable=False),
        pa.field("top_label", pa.string(), nullable=False),
    ]
)
"""Columns of the table of a cross-validation, with one row per video.

`top_label` is the most probable class by members that were trained without the videos of the same `fold`. Videos with
the same `group` (source) are in the same fold."""

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
"""Columns of the table of leakage: one row per pair of almost identical videos in different splits, the most similar
first.

The columns `other_…` describe the second video of the pair. `cosine` is the similarity of the mean features of both;
`same_content` is true if their files are identical, byte for byte."""


def frames_name(index: int) -> str:
    """Name of the column with the frames of a video as resized for the CNN by transform number `index` of the job:
    `view_0`, `view_1` and so on."""
    return f"view_{index}"


def frames_at(side: int) -> pa.Schema:
    """Schema of the frames of a video at the resolution of one CNN, side × side pixels, with their quality.

    `frames` is a list with one binary of side² × 3 bytes per frame (RGB, row-major uint8). In this layout the number of
    frames may differ from row to row, the bytes of a whole table are contiguous, and no extension type is needed.
    """
    return pa.schema([*_PICTURE_FIELDS, pa.field("frames", pa.list_(pa.binary(side * side * 3)), nullable=False)])


def decoded(sides: Sequence[int]) -> pa.Schema:
    """Schema of the rows that decoding passes on to the CNN, one per video, decoded or rejected.

    Every row has the columns of the manifest (table of videos). A decoded video also has its facts, and one struct
    `view_<i>` of frames per CNN resolution in `sides` (pixels). A rejected video has `reject_reason` and
    `reject_message` instead, and nulls elsewhere.
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


def embedded(feature_dim: int) -> pa.Schema:
    """Schema of the rows that a CNN computes inside the pipeline: those of `features` without the columns `CARRIED`."""
    return pa.schema([field for field in features(feature_dim) if field.name not in CARRIED])


def features(feature_dim: int) -> pa.Schema:
    """Schema of the features that a CNN computed, with one row per video.

    `features` holds one vector of D = `feature_dim` float16 values per sampled frame. `feature_key` is a digest of all
    settings that influence features; only features with the same key may be mixed.
    """
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
    """Schema of predictions, with one row per classified video.

    `top_label` is the most probable class. `label` is the same, or null if `verdict` is `abstained`. `probabilities`
    [C] are calibrated and in the class order of the ensemble; `confidence` is their maximum. `prediction_set` lists the
    classes that hold the true one with the probability `--coverage`, the most probable first; null without that option.
    `trust_score` in [0, 1] is the estimated probability that `top_label` is right. `ood_score` is the distance of the
    video from the training data (`vidclf/uncertainty/ood.py` defines the unit). `member_disagreement` is the mean
    total-variation distance of the members (models of the ensemble) from their average: 0 if all agree, 1 if they share
    nothing. `member_probabilities` holds C probabilities per member, averaged over the views (versions of the video in
    test-time augmentation); `view_probabilities` holds C probabilities per view, averaged over the members. `attention`
    [T] is the weight of each sampled frame in the prediction, with its time in `pts_s`; the weights sum to 1. `stage`
    names the `Look` (part of the frames) that the prediction is based on, always `full` unless the job was progressive;
    the row holds these frames only. `ensemble_id` names the ensemble that decided: for `keyframes` that of
    `--first-ensemble`, if there was one. `sharpened` is true if the frames were sharpened (`--sharpen-blurry`).

    The columns of sublabels (finer classes) are null if the ensemble predicts none, or none for `top_label`.
    `top_sublabel` is the most probable sublabel of `top_label`. `sublabel` is the same, or null if it is not accepted.
    `sublabel_confidence` is its probability: P(`top_label`) · P(`top_sublabel` given `top_label`). `sublabel_trust` is
    the estimated probability that it is right: `trust_score` times the same conditional probability.
    `sublabel_probabilities` are the calibrated conditional probabilities of all sublabels, which sum to 1 within each
    class, in the order of `taxonomy` in `ensemble.json`. `answer_level` is the deepest level that keeps the risk
    (`AnswerLevel`); null in files of earlier versions. `sublabel_set` lists the sublabels, as `class/sublabel` or
    `class` for a class without any, that hold the true one with the probability `--coverage`, the most probable first;
    null without that option.
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
            pa.field("prediction_set", pa.list_(pa.string())),
            pa.field("sublabel", pa.string()),
            pa.field("top_sublabel", pa.string()),
            pa.field("sublabel_confidence", pa.float32()),
            pa.field("sublabel_trust", pa.float32()),
            pa.field("sublabel_probabilities", pa.list_(pa.float32())),
            pa.field("answer_level", pa.string()),
            pa.field("sublabel_set", pa.list_(pa.string())),
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


def uncalibrated_predictions(num_classes: int) -> pa.Schema:
    """Schema of predictions of labels from words without `--calibrate-with`.

    It is that of `predictions`, except that `trust_score` and `ood_score` are null: nothing is known of the labels'
    accuracy or of known videos. `confidence` and `probabilities` are not calibrated, and every verdict is `accepted`.
    """
    unknown = ("trust_score", "ood_score")
    return pa.schema(
        [field.with_nullable(field.nullable or field.name in unknown) for field in predictions(num_classes)]
    )


def _segment_fields(num_classes: int) -> list[pa.Field]:
    """Columns that describe a segment (part) of a video and its prediction; `segments` explains them."""
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
    """Schema of the predictions for segments (parts of equal length) of the classified videos, with one row per
    segment.

    A segment without a sampled frame has no row; every video has at least one. Segment `segment_index` covers the
    seconds from `start_s` to before `end_s`, the last one up to the end of the video. `probabilities` [C] are computed
    from the `num_frames` frames in the segment alone, and calibrated for segments of so many frames.
    """
    return pa.schema(
        [
            pa.field(VIDEO_ID, pa.string(), nullable=False),
            pa.field("video_uri", pa.string(), nullable=False),
            *_segment_fields(num_classes),
        ]
    )


def segments_field(num_classes: int) -> pa.Field:
    """Extra column of predictions inside the pipeline with `--segments`: the predictions for the segments of each
    video.

    They are written to files of their own, so the files with predictions lack this column.
    """
    return pa.field(SEGMENTS_COLUMN, pa.list_(pa.struct(_segment_fields(num_classes))), nullable=False)


SIGNS_FIELD = pa.field("trust_signs", pa.list_(pa.float64()), nullable=False)
"""Extra column of predictions whose trust score is to be explained: the numbers from which it is computed, in the order
of `SIGNS` in `vidclf/uncertainty/trust_score.py`."""


def stored_predictions(num_classes: int) -> pa.Schema:
    """Schema of predictions that were made from stored features instead of videos.

    It is that of `predictions`, except that the facts from decoding may be null, because the features may lack them. Of
    these facts an HDF5 file has only `num_frames`. It does not name its videos either, so `video_uri` is the file and
    the row number (`FILE#ROW`). Scores that `uncalibrated_predictions` lacks may be null too.
    """
    unknown = {field.name for field in (*_VIDEO_FIELDS, *_PICTURE_FIELDS)} - {"num_frames"}
    return pa.schema(
        [
            field.with_nullable(field.nullable or field.name in unknown)
            for field in uncalibrated_predictions(num_classes)
        ]
    )


FLIPS = pa.schema(
    [
        pa.field(VIDEO_ID, pa.string(), nullable=False),
        pa.field("video_uri", pa.string(), nullable=False),
        pa.field("label_before", pa.string(), nullable=False),
        pa.field("label_after", pa.string(), nullable=False),
        pa.field("confidence_before", pa.float32(), nullable=False),
        pa.field("confidence_after", pa.float32(), nullable=False),
        pa.field("trust_before", pa.float32()),
        pa.field("trust_after", pa.float32()),
        pa.field("verdict_before", pa.string(), nullable=False),
        pa.field("verdict_after", pa.string(), nullable=False),
        pa.field("codec", pa.string(), nullable=False),
        pa.field("resolution", pa.string(), nullable=False),
    ]
)
"""Columns of the table of flips: one row per video whose result differs between two classifications (`_before`,
`_after`).

Videos whose most probable class (`label_…`) differs come first, then those where only the verdict (accepted or
abstained) differs; both are sorted by `confidence_after`, the highest first. `codec` and `resolution` are from the
first classification, 'unknown' if it did not decode the video. `trust_…` is null in a classification by words that was
not calibrated."""


class TrialStatus(StrEnum):
    """Ways in which a trial (one training of a hyperparameter search) can end. A running trial has no status."""

    FINISHED = "finished"
    """The trial reached its last epoch, or stopped because its score had not improved for `--patience` epochs."""
    STOPPED = "stopped"
    """The trial was ended by the scheduler, because other trials were better, or by the time budget."""
    FAILED = "failed"
    """The trial raised an exception."""
    OUT_OF_MEMORY = "out_of_memory"
    """The memory was not enough for the trial."""


def trials(parameters: dict[str, pa.DataType]) -> pa.Schema:
    """Schema of the trials (trainings) of a hyperparameter search, with one row per trial, the best first.

    Trials are sorted by macro F1, then accuracy, then number; failed trials come last. `macro_f1`, `accuracy` and
    `val_loss` are measured on the validation split after epoch `best_epoch`; all four are null if the trial failed in
    its first epoch. Epochs are counted from 1, also for the lists `epoch_…`, and the count goes on when a training
    starts again after a collapse (a constant answer for all videos). `started_s` and `ended_s` (one entry per epoch)
    are Unix times in seconds. `duration_s` excludes the time during which the job was not running. `settings` is JSON
    with all fields of `FitConfig`; `parameters` holds the names and types of the columns for the varied settings. Both
    are those in force in epoch `best_epoch`. `schedule` is a JSON list of `first_epoch` and `settings`, which hold from
    that epoch on; it has several entries only if population-based training changed the settings.
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
            pa.field("schedule", pa.string()),
            pa.field("epoch_macro_f1", pa.list_(pa.float64()), nullable=False),
            pa.field("epoch_val_loss", pa.list_(pa.float64()), nullable=False),
            pa.field("epoch_train_loss", pa.list_(pa.float64()), nullable=False),
            pa.field("ended_s", pa.list_(pa.float64()), nullable=False),
        ]
    )
