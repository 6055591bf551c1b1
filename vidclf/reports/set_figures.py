"""Figures of prediction sets in a report: how often they hold the true class, and how many classes they hold.

Shape suffixes: B videos, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vidclf.metrics.intervals import Interval, SourceIntervals
from vidclf.reports.labelled_predictions import ScoredVideos


@dataclass(frozen=True, kw_only=True)
class SetFigures:
    """Prediction sets of the videos of one split."""

    coverage: float
    """share of the videos whose set holds the true class"""
    interval_95: Interval | None
    mean_size: float
    """mean number of classes in a set"""

    @property
    def words(self) -> str:
        """A sentence with these figures."""
        between = "" if self.interval_95 is None else ", 95 % interval {:.2f} to {:.2f}".format(*self.interval_95)
        return (
            f"the prediction sets hold the true class of {self.coverage:.3f} of the videos{between}; they have "
            f"{self.mean_size:.2f} classes on average"
        )


def of_videos(videos: ScoredVideos) -> SetFigures | None:
    """The figures of these videos; None if they have no prediction sets."""
    inside_BC = videos.in_set_BC
    if not inside_BC.any():
        return None
    is_held_B = inside_BC[np.arange(len(videos)), videos.label_B]
    return SetFigures(
        coverage=float(is_held_B.mean()),
        interval_95=SourceIntervals(videos.groups.tolist()).share(is_held_B),
        mean_size=float(inside_BC.sum(axis=1).mean()),
    )
