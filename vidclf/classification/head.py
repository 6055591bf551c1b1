"""The ensemble as the last step of the pipeline (head): rows of video features become rows of predictions.

Shape suffixes: B videos, T frames, C classes, M ensemble members, V test-time variants of a video (views), N votes, S
backbones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vidclf import schema
from vidclf.arrow import nested_list, vectors
from vidclf.classification.segments import segments_column
from vidclf.classification.sublabel_columns import sublabel_columns, sublabel_sets_column
from vidclf.features.columns import features_TD
from vidclf.schema import Look, Verdict
from vidclf.uncertainty.prediction_sets import names_in_sets
from vidclf.uncertainty.risk_threshold import is_accepted
from vidclf.uncertainty.trust_score import disagreement

if TYPE_CHECKING:
    from vidclf.ensemble.inference import EnsembleOutput


@dataclass(frozen=True, kw_only=True)
class HeadSettings:
    """Settings that decide a prediction, besides the ensemble itself."""

    tta: bool
    """whether predictions from all sampled frames are averaged over variants of the video (test-time augmentation)"""
    trust_threshold: float
    """smallest trust score with which a video is accepted; below it the ensemble abstains"""
    segments_s: float | None
    """length in seconds of the parts of a video that are classified separately; None for no parts"""
    stage: str = Look.FULL
    """the set of frames that the ensemble receives: `keyframes` (a few), `subset` (24) or `full` (all sampled
    frames)"""
    set_thresholds: tuple[float, ...] | None = None
    """lowest probability with which each class is in the prediction set; None for no prediction sets"""
    sublabel_threshold: float | None = None
    """smallest trust with which a sublabel is answered; None if the ensemble predicts no sublabels"""
    sublabel_set_thresholds: tuple[float, ...] | None = None
    """lowest probability with which each leaf (sublabel, or class without sublabels) is in the set of sublabels; None
    for no such sets"""
    column_stage: str | None = None
    """value of the column `stage` if it is not `stage`: the full look of an ensemble that takes the first look of a
    job"""
    subset_threshold: float | None = None
    """smallest trust score with which a video is accepted from its `subset` of 24 frames; None to always use all
    frames"""


class EnsembleHead:
    """Last step of the pipeline: classifies videos from their features, one output row per input row.

    In: one table of `schema.embedded` or `schema.features` per backbone of the ensemble, all of the same videos. Out:
    a table of `schema.predictions`, without the facts about a video that the input lacks. It also has the column
    `schema.segments_field` if parts of a video are classified separately, and `schema.SIGNS_FIELD` (the indicators
    behind the trust score) with `shows_signs`.

    The ensemble abstains on a video if its trust score is below the threshold or its OOD score (distance from the
    training data) is above 1. With `subset_threshold` the object is a `StagedHead`: it can decide from 24 of the frames
    first.
    """

    def __init__(
        self, directory: str, settings: HeadSettings, device: str, *, precision: str, shows_signs: bool = False
    ) -> None:
        """Load the ensemble in `directory` onto `device`, which is `cpu` or `cuda` (see `device.claim`).

        `precision` is the number format of the job. On CPUs the members compute in it; for int8 they choose their own.
        """
        # Imported here, because the process of a job describes the head without loading torch.
        import torch

        from vidclf.ensemble import files

        torch.set_num_threads(1)  # There is one worker per core.
        self._ensemble = files.load(directory, torch.device(device), "auto" if precision == "int8" else precision)
        self.engine = f"torch {device} {self._ensemble.precision}"
        self.settings = settings
        self._shows_signs = shows_signs

    def __call__(self, embedded_S: Sequence[pa.Table]) -> pa.Table:
        settings = self.settings
        return self._rows(
            embedded_S, settings.stage, settings.trust_threshold, settings.tta and settings.stage == Look.FULL
        )

    def early(self, embedded_S: Sequence[pa.Table]) -> pa.Table:
        """Table of predictions of the stage `subset`: `embedded_S` has the features of 24 frames per video."""
        assert self.settings.subset_threshold is not None
        return self._rows(embedded_S, Look.SUBSET, self.settings.subset_threshold, tta=False)

    def _rows(self, embedded_S: Sequence[pa.Table], stage: str, trust_threshold: float, tta: bool) -> pa.Table:
        """Table of predictions from the frames of one `stage`; `tta` averages over test-time variants of a video."""
        info, settings, embedded = self._ensemble.info, self.settings, embedded_S[0]
        sequences_S = [[features_TD(row) for row in table["features"]] for table in embedded_S]
        output = self._ensemble(sequences_S, tta=tta, stage=stage)
        decided = _decision_columns(output, info.classes, trust_threshold, settings.set_thresholds)
        decided |= sublabel_columns(output, info.hierarchy, decided["verdict"], settings.sublabel_threshold)
        decided["sublabel_set"] = sublabel_sets_column(output, info.hierarchy, settings.sublabel_set_thresholds)
        decided["stage"] = pa.array([settings.column_stage or stage] * embedded.num_rows)
        decided["sharpened"] = pa.array([False] * embedded.num_rows)
        decided["ensemble_id"] = pa.array([info.ensemble_id] * embedded.num_rows)
        # Facts about the video come from the first backbone's table; stored features may lack some of them.
        names = [name for name in schema.predictions(1).names if name in decided or name in embedded.column_names]
        columns = {name: decided[name] if name in decided else embedded[name] for name in names}
        if self._shows_signs:
            columns[schema.SIGNS_FIELD.name] = pa.array(list(output.signs_BK))
        if settings.segments_s is not None:
            columns[schema.SEGMENTS_COLUMN] = segments_column(
                self._ensemble,
                sequences_S,
                [np.array(row.as_py()) for row in embedded["pts_s"]],
                embedded["duration_s"].to_pylist(),
                settings.segments_s,
            )
        return pa.table(columns)


def _decision_columns(
    output: EnsembleOutput, classes: Sequence[str], trust_threshold: float, set_thresholds: Sequence[float] | None
) -> dict[str, pa.Array]:
    """The columns of `schema.predictions` that come from the ensemble's output, as arrow arrays by column name."""
    top = [classes[index] for index in output.probabilities_BC.argmax(axis=1)]
    is_accepted_B = is_accepted(output.trust_score_B, output.ood_score_B, trust_threshold)
    sets: Sequence[list[str] | None] = [None] * len(top)
    if set_thresholds is not None:
        sets = names_in_sets(output.probabilities_BC, set_thresholds, classes)
    labels = [name if accepted else None for name, accepted in zip(top, is_accepted_B, strict=True)]
    attention = pa.array(np.concatenate(output.attention))
    return {
        "label": pa.array(labels, pa.string()),
        "verdict": pa.array([Verdict.ACCEPTED if accepted else Verdict.ABSTAINED for accepted in is_accepted_B]),
        "top_label": pa.array(top),
        "confidence": pa.array(output.probabilities_BC.max(axis=1)),
        "probabilities": vectors(output.probabilities_BC),
        "prediction_set": pa.array(sets, pa.list_(pa.string())),
        "trust_score": pa.array(output.trust_score_B),
        "ood_score": pa.array(output.ood_score_B),
        "member_disagreement": pa.array(disagreement(output.member_probabilities_MBC, output.member_weights_M)),
        "member_probabilities": _votes(output.member_probabilities_MBC),
        "view_probabilities": _votes(output.view_probabilities_VBC),
        "attention": nested_list([len(weights_T) for weights_T in output.attention], attention),
    }


def _votes(values_NBC: npt.NDArray[np.float32]) -> pa.Array:
    """Arrow column with a list of N vectors [C] per video, made from an array [N, B, C].

    The N vectors come from the ensemble's members, or from test-time variants of the video.
    """
    num_votes, num_videos, num_classes = values_NBC.shape
    return nested_list([num_votes] * num_videos, vectors(values_NBC.transpose(1, 0, 2).reshape(-1, num_classes)))
