"""Figures of prediction sets in a report: how often they hold the true class or sublabel, and how large they are.

Shape suffixes: B videos, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vidclf.metrics.intervals import Interval, SourceIntervals
from vidclf.reports.labelled_predictions import ScoredVideos


@dataclass(frozen=True, kw_only=True)
class SetFigures:
    """Prediction sets of the videos of one split."""

    coverage: float
    """share of the videos whose set holds the true class, or the true sublabel"""
    interval_95: Interval | None
    mean_size: float
    """mean number of classes or sublabels in a set"""
    num_videos: int
    """number of videos whose truth is known"""

    def words(self, noun: str = "class", plural: str = "classes") -> str:
        """A sentence with these figures. `noun` and `plural` are what the sets hold."""
        between = "" if self.interval_95 is None else ", 95 % interval {:.2f} to {:.2f}".format(*self.interval_95)
        return (
            f"the prediction sets hold the true {noun} of {self.coverage:.3f} of the videos{between}; they have "
            f"{self.mean_size:.2f} {plural} on average"
        )


def of_videos(videos: ScoredVideos) -> SetFigures | None:
    """The figures of these videos; None if they have no prediction sets."""
    inside_BC = videos.in_set_BC
    if not inside_BC.any():
        return None
    is_held_B = inside_BC[np.arange(len(videos)), videos.label_B]
    return measured(is_held_B, inside_BC.sum(axis=1), videos.groups)


def measured(
    is_held_B: npt.NDArray[np.bool_], size_B: npt.NDArray[np.int64], groups: npt.NDArray[np.str_]
) -> SetFigures:
    """The figures from whether each set holds the truth, its size, and the source of its video."""
    return SetFigures(
        coverage=float(is_held_B.mean()),
        interval_95=SourceIntervals(groups.tolist()).share(is_held_B),
        mean_size=float(size_B.mean()),
        num_videos=len(is_held_B),
    )
