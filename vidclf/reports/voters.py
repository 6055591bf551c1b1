"""Accuracy of each ensemble member and of each test-time view (variant of a video) alone.

Only videos whose votes are counted (`top_votes`) are considered.

Shape suffixes: B videos, N votes per video.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vidclf.metrics.intervals import Interval, SourceIntervals
from vidclf.reports.labelled_predictions import ScoredVideos
from vidclf.reports.top_votes import NO_VOTE

ORIGINAL_VIEW = 0
"""Index of the unchanged video among its test-time views (variants)."""


@dataclass(frozen=True, kw_only=True)
class Voter:
    """Accuracy of one ensemble member alone, or of one test-time view (variant of a video) alone.

    The gain over a baseline is measured on the same videos.
    """

    name: str
    num_videos: int
    """videos whose votes are counted"""
    accuracy: float
    interval_95: Interval | None
    gain: float
    """accuracy minus that of the baseline"""
    gain_interval_95: Interval | None
    """None if this member or view is itself the baseline"""


def member_voters(videos: ScoredVideos, names: Sequence[str]) -> list[Voter]:
    """Accuracy of each ensemble member alone, compared with the whole ensemble; empty if no vote is counted."""
    voting = videos.take((videos.member_top_BM != NO_VOTE).all(axis=1))
    if not voting.member_top_BM.size:
        return []
    intervals = SourceIntervals(voting.groups.tolist())
    is_right_BN = voting.member_top_BM == voting.label_B[:, None]
    return [_voter(name, is_right_BN[:, index], voting.is_correct_B, intervals) for index, name in enumerate(names)]


def view_voters(videos: ScoredVideos, names: Sequence[str]) -> list[Voter]:
    """Accuracy of each test-time view (variant of a video) alone, then of all views together.

    They are compared with the unchanged video. The list is empty if there is only one view, or no vote is counted.
    """
    voting = videos.take((videos.view_top_BV != NO_VOTE).all(axis=1))
    if voting.view_top_BV.shape[1] < 2 or not len(voting):
        return []
    intervals = SourceIntervals(voting.groups.tolist())
    is_right_BN = voting.view_top_BV == voting.label_B[:, None]
    base_B = is_right_BN[:, ORIGINAL_VIEW]
    single = [
        _voter(name, is_right_BN[:, index], base_B, intervals, is_base=index == ORIGINAL_VIEW)
        for index, name in enumerate(names)
    ]
    return [*single, _voter("all, weighted", voting.is_correct_B, base_B, intervals)]


def _voter(
    name: str,
    is_right_B: npt.NDArray[np.bool_],
    is_base_right_B: npt.NDArray[np.bool_],
    intervals: SourceIntervals,
    *,
    is_base: bool = False,
) -> Voter:
    """Accuracy of one ensemble member or test-time view (variant of a video), and its gain over a baseline.

    `is_right_B` and `is_base_right_B` tell for each video whether the member or view, and whether the baseline, is
    right.
    """
    return Voter(
        name=name,
        num_videos=len(is_right_B),
        accuracy=float(is_right_B.mean()),
        interval_95=intervals.share(is_right_B),
        gain=float(is_right_B.mean() - is_base_right_B.mean()),
        gain_interval_95=None if is_base else intervals.difference(is_right_B, is_base_right_B),
    )
