"""Confidence of the members that leave out one fold, by which drift compares a run with a cross calibration.

In a cross calibration a video is judged by the members that left out its fold. In a run all members judge it together.
Their average is less confident than one member wherever members differ, so trust scores would show drift in an archive
like that of calibration. Here each video of a run is judged by the members of one fold too, drawn at random.

Shape suffixes: B videos, M members, C classes.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vidclf.ensemble.info import EnsembleInfo
from vidclf.schema import Look
from vidclf.uncertainty.temperature import tempered


def folds_left_out(num_members: int, num_folds: int) -> npt.NDArray[np.int64]:
    """The fold that each temporal member of an ensemble leaves out, as an array [members]."""
    return np.arange(num_members) % num_folds


def fold_of_run(video_ids: Sequence[str], num_folds: int) -> npt.NDArray[np.int64]:
    """A fold for each video of a run, by a checksum of its id, so that the same video always gets the same one."""
    return np.array([zlib.crc32(video_id.encode()) % num_folds for video_id in video_ids], np.int64)


@dataclass(frozen=True, kw_only=True)
class FoldConfidence:
    """Confidence (probability of the most probable class) by the members of one fold and the linear member, at one look
    (partial or full selection of a video's frames)."""

    num_members: int
    """number of temporal members"""
    num_folds: int
    linear_weight: float | None
    """weight of the linear member in the average; None if there is none"""
    temperature: float
    """calibration temperature"""

    @classmethod
    def of(cls, info: EnsembleInfo, look: str, *, tta: bool) -> FoldConfidence | None:
        """That of an ensemble at `look`, with test-time augmentation or without; None unless its calibration is a cross
        calibration."""
        num_folds, num_members = info.training.get("num_left_out_folds"), len(info.members)
        if not info.is_cross_calibrated or not isinstance(num_folds, int) or not 1 <= num_folds <= num_members:
            return None
        calibration = info.calibration.of_mode(tta) if look == Look.FULL else info.stages[look].calibration
        return cls(
            num_members=num_members,
            num_folds=num_folds,
            linear_weight=info.linear.looks[look].weight if info.linear is not None else None,
            temperature=calibration.temperature,
        )

    def __call__(
        self, member_probabilities_MBC: npt.NDArray[np.floating], fold_B: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        """The confidence of each video by the members that leave out the fold `fold_B` of the video.

        `member_probabilities_MBC` are calibrated, as in the predictions: the temporal members, then the linear member.
        """
        left_out_M = folds_left_out(self.num_members, self.num_folds)
        weights_MB = np.where(left_out_M[:, None] == fold_B, 1.0, 0.0)
        weights_MB /= weights_MB.sum(axis=0)
        if self.linear_weight is not None:
            linear_B = np.full((1, len(fold_B)), self.linear_weight)
            weights_MB = np.concatenate([(1 - self.linear_weight) * weights_MB, linear_B])
        # The temperature belongs to the average, so it is taken out of the members before they are averaged.
        plain_MBC = tempered(member_probabilities_MBC, 1 / self.temperature)
        confidence_B: npt.NDArray[np.float32] = tempered(
            np.einsum("mb,mbc->bc", weights_MB, plain_MBC), self.temperature
        ).max(axis=1)
        return confidence_B
