"""The ensemble as the pipeline's head: embedded videos in, predictions out.

Shape suffixes: B videos, T frames, C classes, M members, V views, S backbones, P parts of videos.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from vidclf import schema
from vidclf.arrow import nested_list, vectors
from vidclf.classification.segments import segments_column
from vidclf.ensemble import files
from vidclf.features.columns import features_TD
from vidclf.schema import Look, Verdict
from vidclf.uncertainty.risk_threshold import is_accepted
from vidclf.uncertainty.trust_score import disagreement


@dataclass(frozen=True, kw_only=True)
class HeadSettings:
    """What decides a prediction beside the ensemble."""

    tta: bool
    trust_threshold: float
    """trust score below which a video is abstained on"""
    segments_s: float | None
    """length of segments, in seconds; None for no segments"""
    stage: str = Look.FULL
    """of the cascade, that the head's videos are seen at"""
    subset_threshold: float | None = None
    """trust score from which on the `subset` stage accepts a video; None without that stage"""


class EnsembleHead:
    """In: `schema.features` of each of the ensemble's backbones. Out: `schema.predictions`, one row per
    row, with segments also `schema.segments_field`, and with `shows_signs` `schema.SIGNS_FIELD`.

    A video is abstained on where its trust score is below the threshold, or its OOD score above 1. With
    `subset_threshold` it is a `StagedHead`.
    """

    def __init__(
        self, directory: str, settings: HeadSettings, device: str, *, precision: str, shows_signs: bool = False
    ) -> None:
        """`device` is `cpu` or `cuda`, as `device.claim` gives it. `precision` is a job's: members compute in it on
        CPUs, in one that they choose where it is int8."""
        torch.set_num_threads(1)  # of a worker for each core
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
        """The rows of the `subset` stage, by its frames."""
        assert self.settings.subset_threshold is not None
        return self._rows(embedded_S, Look.SUBSET, self.settings.subset_threshold, tta=False)

    def _rows(self, embedded_S: Sequence[pa.Table], stage: str, trust_threshold: float, tta: bool) -> pa.Table:
        info, settings = self._ensemble.info, self.settings
        sequences_S = [[features_TD(row) for row in table["features"]] for table in embedded_S]
        embedded = embedded_S[0]
        output = self._ensemble(sequences_S, tta=tta, stage=stage)
        top = [info.classes[index] for index in output.probabilities_BC.argmax(axis=1)]
        is_accepted_B = is_accepted(output.trust_score_B, output.ood_score_B, trust_threshold)
        columns = {name: embedded[name] for name in schema.predictions(1).names if name in embedded.column_names}
        columns["label"] = pa.array(
            [name if accepted else None for name, accepted in zip(top, is_accepted_B, strict=True)], pa.string()
        )
        columns["verdict"] = pa.array(
            [Verdict.ACCEPTED if accepted else Verdict.ABSTAINED for accepted in is_accepted_B]
        )
        columns["top_label"] = pa.array(top)
        columns["confidence"] = pa.array(output.probabilities_BC.max(axis=1))
        columns["probabilities"] = vectors(output.probabilities_BC)
        columns["trust_score"] = pa.array(output.trust_score_B)
        columns["ood_score"] = pa.array(output.ood_score_B)
        columns["member_disagreement"] = pa.array(disagreement(output.member_probabilities_MBC))
        columns["member_probabilities"] = _votes(output.member_probabilities_MBC)
        columns["view_probabilities"] = _votes(output.view_probabilities_VBC)
        columns["attention"] = nested_list(
            [len(row) for row in output.attention], pa.array(np.concatenate(output.attention))
        )
        columns["stage"] = pa.array([stage] * embedded.num_rows)
        columns["sharpened"] = pa.array([False] * embedded.num_rows)
        columns["ensemble_id"] = pa.array([info.ensemble_id] * embedded.num_rows)
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


def _votes(values_NBC: npt.NDArray[np.float32]) -> pa.Array:
    """[N, B, C] as a list of N vectors a row."""
    num_votes, num_videos, num_classes = values_NBC.shape
    return nested_list([num_votes] * num_videos, vectors(values_NBC.transpose(1, 0, 2).reshape(-1, num_classes)))
