"""The linear member of an ensemble, with its votes for the videos that calibration is fitted to.

Shape suffixes: B videos, V views (test-time variants of a video), S backbones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from vidclf.ensemble.inference import BySpace
from vidclf.ensemble.linear_member import LinearMember
from vidclf.features.computed_frames import select
from vidclf.training.calibration_fit import NUM_FOLDS, LabelledVideos
from vidclf.training.linear_fit import fit_linear
from vidclf.uncertainty.folds import group_folds


@dataclass(frozen=True, kw_only=True)
class LinearFits:
    """The linear member, and in a cross calibration the same fit without each fold."""

    member: LinearMember
    """the member of the ensemble, fitted to all train videos"""
    without_fold: dict[int, LinearMember] = field(default_factory=dict)
    """by fold, the fit to the videos of the other folds; empty unless the calibration is a cross calibration"""

    def in_views(
        self, sequences_S: BySpace, views: Sequence[str], fold_B: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        """Class probabilities as an array [views, 1, videos, classes], in a cross calibration of each video by the fit
        without its fold. `sequences_S` holds, per backbone, the features of each video; `fold_B` its fold."""
        if not self.without_fold:
            return self.member.in_views(sequences_S, views)
        parts, rows = [], []
        for fold, member in self.without_fold.items():
            inside = np.flatnonzero(fold_B == fold)
            if not len(inside):  # no video of the fold is long enough for a segment of this length
                continue
            rows.append(inside)
            parts.append(member.in_views([select(sequences, inside) for sequences in sequences_S], views))
        return np.concatenate(parts, axis=2)[:, :, np.argsort(np.concatenate(rows))]


def fit_linear_members(
    videos: LabelledVideos, train_S: Sequence[Sequence[npt.NDArray[np.float16]]], num_classes: int, scale: float
) -> LinearFits:
    """Fit the linear member to the train videos and, in a cross calibration, also without each fold.

    `train_S` holds, per backbone, the features of the train videos. Logits are multiplied by `scale`.
    """
    labels_B = np.array(videos.train_labels)

    def without(fold: int) -> LinearMember:
        """The fit to the videos of the other folds, calibrated among them."""
        rows = np.flatnonzero(videos.train_folds_B != fold)
        labels = labels_B[rows].tolist()
        crossing_B = group_folds(labels, [videos.groups[row] for row in rows.tolist()], NUM_FOLDS)
        chosen_S = [select(sequences, rows) for sequences in train_S]
        return fit_linear(chosen_S, labels, crossing_B, num_classes).scaled(scale)

    return LinearFits(
        member=fit_linear(train_S, videos.train_labels, videos.train_folds_B, num_classes).scaled(scale),
        without_fold={fold: without(fold) for fold in videos.member_folds.tolist()},
    )
