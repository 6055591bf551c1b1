"""Drift of a finished classification: the entry `drift` of its `summary.json`.

The rows of the run are read shard by shard. The comparison uses a sample of at most `MAX_VIDEOS` videos: those with the
smallest ids. Ids are uniformly distributed digests, so this sample is random, and it does not depend on the order of
the rows.

Shape suffixes: B videos, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from vidclf import storage
from vidclf.ensemble import info as info_module
from vidclf.ensemble.calibration_file import TrustData
from vidclf.ensemble.fold_confidence import FoldConfidence, fold_of_run
from vidclf.ensemble.info import EnsembleInfo
from vidclf.runs.layout import Run
from vidclf.schema import VIDEO_ID, Look
from vidclf.uncertainty import drift
from vidclf.uncertainty.drift import Scores
from vidclf.uncertainty.early_exit import EARLY_LOOKS, ValidationScores
from vidclf.uncertainty.label_shift import shares_with_intervals
from vidclf.uncertainty.risk_threshold import RiskThreshold

MAX_VIDEOS = 10_000
"""Largest number of videos that are compared."""

MAX_PROBABILITIES = 100_000
"""Largest number of class probabilities from which class shares are estimated; it bounds the time of the bootstrap."""

_COLUMNS = [VIDEO_ID, "ood_score", "probabilities"]

_VOTE_COLUMNS = ["member_probabilities", "stage"]


@dataclass(frozen=True, kw_only=True)
class RunDrift:
    """Comparison of a finished run with the calibration of the ensemble that made it. A call returns the entries for
    the run's `summary.json`."""

    info: EnsembleInfo
    calibration: Scores
    """scores of the validation videos"""
    basis: str
    """basis of the threshold for the stated risk: certified, estimated or none"""
    confidences: Mapping[str, FoldConfidence] = field(default_factory=dict)
    """after a cross calibration, the confidence of the members of one fold by look; otherwise empty"""

    @classmethod
    def of(
        cls,
        info: EnsembleInfo,
        trust: TrustData,
        threshold: RiskThreshold,
        *,
        tta: bool,
        first: EnsembleInfo | None = None,
    ) -> RunDrift:
        """For runs of the ensemble of `info` and `trust` with this trust threshold, with test-time augmentation or
        without. `first` takes the look `keyframes`, if that is another ensemble."""
        looks = [str(look) for look in (Look.FULL, *info.stages) if first is None or look != Look.KEYFRAMES]
        found = {look: FoldConfidence.of(info, look, tta=tta) for look in looks}
        if first is not None:
            found[str(Look.KEYFRAMES)] = FoldConfidence.of(first, Look.FULL, tta=False)
        return cls(
            info=info,
            calibration=calibration_scores(
                trust, threshold, info_module.mode(tta), is_crossed=info.is_cross_calibrated
            ),
            basis=threshold.basis,
            confidences={look: confidence for look, confidence in found.items() if confidence is not None},
        )

    def __call__(self, run: str) -> dict[str, Any]:
        rows = self._sampled(run)
        if rows.num_rows == 0:
            return {}
        groups = _groups(run, rows[VIDEO_ID])
        measure = drift.CONFIDENCE if self.confidences else drift.TRUST
        archive = Scores.of(rows[measure].to_numpy(), rows["ood_score"].to_numpy(), groups, measure)
        line = self.info.trust.ood
        found = drift.compare(self.calibration, archive, line.level, line.num_videos)
        return {"drift": {**found.as_json(self.basis), "class_shares": self._class_shares(rows, groups)}}

    def _sampled(self, run: str) -> pa.Table:
        """The rows of at most `MAX_VIDEOS` videos of a run, sorted by id, with the column of the score of trust."""
        kept: pa.Table | None = None
        scored_from = _VOTE_COLUMNS if self.confidences else [drift.TRUST]
        for table in storage.iter_tables(Run(run).shards(), [*_COLUMNS, *scored_from]):
            if kept is not None and kept.num_rows == MAX_VIDEOS:
                table = table.filter(pc.less(table[VIDEO_ID], kept[VIDEO_ID][-1]))
            if self.confidences:
                confidence_B = pa.array(fold_confidences(table, self.confidences))
                table = table.select(_COLUMNS).append_column(drift.CONFIDENCE, confidence_B)
            both = table if kept is None else pa.concat_tables([kept, table])
            kept = both.sort_by(VIDEO_ID).slice(0, MAX_VIDEOS).combine_chunks()
        return kept if kept is not None else pa.table({name: [] for name in _COLUMNS})

    def _class_shares(self, rows: pa.Table, groups: list[str]) -> dict[str, dict[str, Any]] | None:
        """Share of each class in training and validation, and its estimate for the run with a 95 % interval.

        None if an earlier version wrote the ensemble, without the numbers of videos per class.
        """
        classes, counts = self.info.classes, self.info.training.get("class_videos")
        if not isinstance(counts, list) or len(counts) != len(classes):
            return None
        prior_C = np.array(counts, np.float64) / sum(counts)
        rows = rows.slice(0, max(MAX_PROBABILITIES // len(classes), 1))
        flat = rows["probabilities"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        probabilities_BC = flat.astype(np.float64).reshape(rows.num_rows, len(classes))
        shares = shares_with_intervals(probabilities_BC, prior_C, groups[: rows.num_rows])
        values = zip(prior_C, shares.estimated_C, shares.low_C, shares.high_C, strict=True)
        return {
            name: {
                "calibration": round(float(prior), 4),
                "estimated": round(float(estimated), 4),
                "interval_95": [round(float(low), 4), round(float(high), 4)],
            }
            for name, (prior, estimated, low, high) in zip(classes, values, strict=True)
        }


def fold_confidences(rows: pa.Table, confidences: Mapping[str, FoldConfidence]) -> npt.NDArray[np.float32]:
    """For each row of predictions, the confidence of the members of one fold. `confidences` holds it by look.

    Raises ValueError if the rows have a look that `confidences` lacks.
    """
    looks_B, found_B = np.array(rows["stage"].to_pylist()), np.empty(rows.num_rows, np.float32)
    unknown = set(looks_B.tolist()) - set(confidences)
    if unknown:
        raise ValueError(f"stage must be one of {', '.join(confidences)}, the rows have {', '.join(sorted(unknown))}")
    for look, confidence in confidences.items():
        inside = np.flatnonzero(looks_B == look)
        if len(inside):
            chosen = rows.take(pa.array(inside))
            folds_B = fold_of_run(chosen[VIDEO_ID].to_pylist(), confidence.num_folds)
            votes = chosen["member_probabilities"].combine_chunks().flatten().flatten()
            num_members = confidence.num_members + (confidence.linear_weight is not None)
            votes_BMC = votes.to_numpy(zero_copy_only=False).reshape(len(inside), num_members, -1)
            found_B[inside] = confidence(votes_BMC.transpose(1, 0, 2), folds_B)
    return found_B


def calibration_scores(trust: TrustData, threshold: RiskThreshold, mode: str, *, is_crossed: bool) -> Scores:
    """Scores of the validation videos, each from the look that decides it: an early one where `threshold` has one.
    With `is_crossed`, the confidence of the members that left a video out stands in place of the trust score."""

    def score_of_trust(scores: ValidationScores) -> npt.NDArray[np.float32]:
        found_B = scores.confidence_B if is_crossed else scores.trust_B
        return found_B if found_B is not None else np.full(len(scores.trust_B), np.nan, np.float32)

    full = trust.full[mode]
    trust_B, ood_B = score_of_trust(full).copy(), full.ood_B.copy()
    is_open_B = np.ones(len(trust_B), bool)
    for look in [look for look in EARLY_LOOKS if look in threshold.early]:
        scores = trust.stages[look]
        decides_B = is_open_B & scores.accepts(threshold.early[look])
        trust_B[decides_B], ood_B[decides_B] = score_of_trust(scores)[decides_B], scores.ood_B[decides_B]
        is_open_B &= ~decides_B
    measure, is_known = drift.CONFIDENCE if is_crossed else drift.TRUST, not np.isnan(trust_B).any()
    return Scores.of(trust_B if is_known else None, ood_B, full.source_B.tolist(), measure)


def _groups(run: str, video_ids: pa.ChunkedArray) -> list[str]:
    """The source of each of these videos, by the manifest of the run."""
    manifest = storage.read_table(Run(run).manifest_file, [VIDEO_ID, "group"])
    rows = manifest.filter(pc.is_in(manifest[VIDEO_ID], pa.array(video_ids.to_pylist(), pa.string())))
    group_of = dict(zip(rows[VIDEO_ID].to_pylist(), rows["group"].to_pylist(), strict=True))
    return [group_of[video] for video in video_ids.to_pylist()]
