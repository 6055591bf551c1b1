"""A pair of ensembles for progressive classification: a cheap one takes the first look, another one the later looks.

Both are ordinary ensembles, trained and calibrated by themselves, each with a backbone of its own. The risk is that of
the whole cascade: its thresholds are chosen on the videos that neither ensemble was trained on, with the scores that
each ensemble's calibration gave them. So the later looks are judged on what the first look leaves undecided.

The rows of an ensemble's scores are the held-out videos in the order of its `splits.parquet`.

Shape suffixes: B held-out videos, N videos in both ensembles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vidclf.ensemble.calibration_file import TrustData
from vidclf.ensemble.info import EnsembleInfo, LookInfo, mode
from vidclf.ensemble.split_record import SplitRecord, read_record
from vidclf.errors import ConfigError
from vidclf.features.near_pairs import components
from vidclf.schema import VIDEO_ID, Look
from vidclf.uncertainty.early_exit import ValidationScores
from vidclf.uncertainty.sublabel_threshold import SublabelScores

MIN_SHARED = 0.9
"""Smallest share of the second ensemble's held-out videos that the first one holds out too. A few are missing where
the two extractions reject different files."""


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """An ensemble with what its calibration left behind."""

    location: str
    """directory of the ensemble, for messages"""
    info: EnsembleInfo
    trust: TrustData
    record: SplitRecord

    @classmethod
    def read(cls, location: str, info: EnsembleInfo, trust: TrustData, flag: str) -> Calibrated:
        """The ensemble of `info` and `trust` with its record of the splits. `flag` names it in messages."""
        return cls(location=location, info=info, trust=trust, record=read_record(location, flag))


@dataclass(frozen=True, kw_only=True)
class EnsemblePair:
    """Two ensembles as one cascade, described like one ensemble with early looks."""

    first: EnsembleInfo
    """the ensemble that takes the look `keyframes`"""
    info: EnsembleInfo
    """the second ensemble; its early look `keyframes` is that of the first"""
    trust: TrustData
    """scores of the held-out videos that both ensembles share, at each look of the cascade"""

    @classmethod
    def of(cls, first: Calibrated, second: Calibrated) -> EnsemblePair:
        """Join two ensembles. Raises ConfigError if they do not answer alike, or are not held out alike."""
        _check_alike(first, second)
        rows_1, rows_2 = _shared_rows(first, second)
        plain = mode(False)
        sources = _joined_sources(first.trust.full[plain].source_B[rows_1], second.trust.full[plain].source_B[rows_2])
        modes = list(second.trust.full)
        later = {name: scores for name, scores in second.trust.stages.items() if name != Look.KEYFRAMES}
        first_sublabels = {str(Look.KEYFRAMES): first.trust.sublabels[plain]} if first.trust.sublabels else {}
        trust = replace(
            second.trust,
            full={name: _taken(second.trust.full[name], rows_2, sources) for name in modes},
            stages={
                Look.KEYFRAMES: _taken(first.trust.full[plain], rows_1, sources),
                **{name: _taken(scores, rows_2, sources) for name, scores in later.items()},
            },
            sublabels={
                **_sublabels_taken(second.trust.sublabels, rows_2),
                **_sublabels_taken(first_sublabels, rows_1),
            },
            # Prediction sets are of one look only.
            truth={},
            leaves={},
        )
        looks = {name: look for name, look in second.info.stages.items() if name != Look.KEYFRAMES}
        info = replace(second.info, stages={Look.KEYFRAMES: _look_of(first.info), **looks})
        return cls(first=first.info, info=info, trust=trust)


def _look_of(info: EnsembleInfo) -> LookInfo:
    """The full look of an ensemble, described as an early look of another one."""
    specs = [backbone.feature_spec for backbone in info.backbones]
    return LookInfo(
        num_frames=specs[0].plan.num_frames,
        feature_specs=specs,
        calibration=info.calibration.of_mode(False),
        ood=info.trust.ood,
        trust=info.trust.plain,
        val_accuracy=float(info.training.get("val_accuracy", np.nan)),
    )


def _check_alike(first: Calibrated, second: Calibrated) -> None:
    """Raise ConfigError unless the ensembles have the same classes and sublabels and the same kind of calibration, and
    the first one classifies keyframes."""
    flag = f"--first-ensemble {first.location}"
    sampling = first.info.backbones[0].feature_spec.plan.mode
    if sampling != "keyframes":
        raise ConfigError(
            f"{flag}: must be trained on keyframes, is trained on {sampling} frames; extract them with jobs/extract.py "
            "--sampling keyframes --num-frames 8, and run jobs/train.py with these --features"
        )
    for name, one, other, shared in (
        ("classes", first.info.classes, second.info.classes, "with one manifest"),
        ("sublabels", first.info.taxonomy, second.info.taxonomy, "with one manifest and the same --sublabels"),
        ("calibration", _kind(first.info), _kind(second.info), "with the same --calibration"),
    ):
        if one != other:
            raise ConfigError(f"{flag}: must have the {name} of --ensemble, {other}, has {one}; train both {shared}")
    for calibrated, name in ((first, "--first-ensemble"), (second, "--ensemble")):
        if calibrated.record.doubt:
            raise ConfigError(
                f"{name} {calibrated.location}: {calibrated.record.doubt}; two ensembles need records of their splits, "
                "so train it again"
            )


def _kind(info: EnsembleInfo) -> str:
    """The value of --calibration with which the ensemble was trained."""
    return "cross" if info.is_cross_calibrated else "validation"


def _shared_rows(first: Calibrated, second: Calibrated) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Rows of the held-out videos that both ensembles share, in the scores of the first and of the second one.

    Raises ConfigError if the first was trained or calibrated on a video that is not in the same split of the second, or
    if too few are shared.
    """
    split_of = {row[VIDEO_ID]: row["split"] for row in second.record.rows.select([VIDEO_ID, "split"]).to_pylist()}
    used = first.record.rows.select([VIDEO_ID, "video_uri", "split"]).to_pylist()
    strays = [
        row["video_uri"]
        for row in used
        if row["split"] in ("train", "val") and split_of.get(row[VIDEO_ID]) != row["split"]
    ]
    flag, remedy = f"--first-ensemble {first.location}", "train both with one manifest that holds the splits"
    if strays:
        raise ConfigError(
            f"{flag}: its train and validation videos must be in the same splits of --ensemble, {len(strays)} are not "
            f"(for example {strays[0]}); {remedy}"
        )
    keys_1, keys_2 = _held_out(first, "--first-ensemble"), _held_out(second, "--ensemble")
    row_1 = {key: row for row, key in enumerate(keys_1)}
    pairs = [(row_1[key], row_2) for row_2, key in enumerate(keys_2) if key in row_1]
    if not pairs or len(pairs) < MIN_SHARED * len(keys_2):
        raise ConfigError(
            f"{flag}: must share at least {MIN_SHARED:.0%} of the {len(keys_2)} held-out videos of --ensemble (equal "
            f"in id, content and label), shares {len(pairs)}; {remedy}"
        )
    rows = np.array(pairs, np.intp)
    return rows[:, 0], rows[:, 1]


def _held_out(calibrated: Calibrated, flag: str) -> list[tuple[str, str, str]]:
    """Id, content digest and label of the videos that the calibration was fitted to, in the order of its scores."""
    # A cross calibration is fitted to all videos of the training and the validation split.
    splits = ("train", "val") if calibrated.info.is_cross_calibrated else ("val",)
    rows = [row for row in calibrated.record.rows.to_pylist() if row["split"] in splits]
    keys = [(row[VIDEO_ID], row["content_digest"], row["label"]) for row in rows]
    remedy = "run jobs/train.py again with the same flags, which keeps the members"
    num_scores = len(calibrated.trust.full[mode(False)].trust_B)
    if len(keys) != num_scores:
        raise ConfigError(
            f"{flag} {calibrated.location}: splits.parquet must hold the {num_scores} videos of the calibration, holds "
            f"{len(keys)}; {remedy}"
        )
    truth = calibrated.trust.truth.get(mode(False))
    if truth is not None:
        labels = [calibrated.info.classes[index] for index in truth.label_B.tolist()]
        if labels != [label for _, _, label in keys]:
            raise ConfigError(
                f"{flag} {calibrated.location}: splits.parquet must hold the videos of the calibration in their order, "
                f"but labels differ; {remedy}"
            )
    return keys


def _joined_sources(one_N: npt.NDArray[Any], other_N: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Number of the source of each video, where videos are of one source if either ensemble takes them for that."""
    one_N, other_N = (np.unique(values, return_inverse=True)[1].astype(np.int64) for values in (one_N, other_N))
    num_ones = int(one_N.max()) + 1
    component_of = components(one_N, num_ones + other_N, num_ones + int(other_N.max()) + 1)
    return np.unique(component_of[one_N], return_inverse=True)[1].astype(np.int64)


def _taken(scores: ValidationScores, rows: npt.NDArray[np.intp], source_N: npt.NDArray[np.int64]) -> ValidationScores:
    """The scores of the videos in `rows`, with other numbers of their sources."""
    return ValidationScores(
        trust_B=scores.trust_B[rows],
        correct_B=scores.correct_B[rows],
        ood_B=scores.ood_B[rows],
        source_B=source_N,
        confidence_B=scores.confidence_B[rows] if scores.confidence_B is not None else None,
    )


def _sublabels_taken(sublabels: Mapping[str, SublabelScores], rows: npt.NDArray[np.intp]) -> dict[str, SublabelScores]:
    """The scores of the sublabels of the videos in `rows`, by mode or look."""
    return {
        str(name): SublabelScores(trust_B=scores.trust_B[rows], right_B=scores.right_B[rows])
        for name, scores in sublabels.items()
    }
