"""Record of a cross-validation of an ensemble's recipe, which `ensemble.json` and `folds.parquet` hold.

In a cross-validation every video is classified once, by members (models) whose training has seen no video of its source
(recording). So large sources are tested too, which a single test split may lack.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from vidclf.metrics.intervals import TOO_FEW_SOURCES, Interval, SourceIntervals
from vidclf.number_words import counted

RECORD = "cross_validation"
"""Name of the record among the training facts of `ensemble.json`."""


@dataclass(frozen=True, kw_only=True)
class CrossValidation:
    """Accuracy on videos whose sources (recordings) training had not seen, over all videos of the features."""

    num_folds: int
    """number of parts into which the sources were divided; the members of a part were trained on `num_folds` - 2 others
    and their best epochs selected on the remaining one"""
    num_videos: int
    num_correct: int
    accuracy: float
    """mean over the videos"""
    accuracy_interval_95: Interval | None
    num_sources: int
    source_accuracy: float
    """mean over the sources: each counts the same, however many videos it has"""
    source_accuracy_interval_95: Interval | None
    recipe: str
    """digest of the settings, the data and the folds"""

    @classmethod
    def of(
        cls, is_correct_B: npt.NDArray[np.bool_], groups: Sequence[str], num_folds: int, recipe: str
    ) -> CrossValidation:
        """Compute the figures. `is_correct_B` tells whether each video was classified right, `groups` names its
        source (recording)."""
        intervals = SourceIntervals(groups)
        source_accuracy, source_interval = intervals.mean_of_sources(is_correct_B)
        return cls(
            num_folds=num_folds,
            num_videos=len(is_correct_B),
            num_correct=int(is_correct_B.sum()),
            accuracy=float(is_correct_B.mean()),
            accuracy_interval_95=intervals.share(is_correct_B),
            num_sources=intervals.num_sources,
            source_accuracy=source_accuracy,
            source_accuracy_interval_95=source_interval,
            recipe=recipe,
        )

    @classmethod
    def read(cls, values: dict[str, Any] | None) -> CrossValidation | None:
        """Build the record from its JSON values; None if there are none."""
        if values is None:
            return None
        # JSON has no tuples.
        ends = {name: tuple(value) for name, value in values.items() if name.endswith("interval_95") and value}
        return cls(**{field.name: {**values, **ends}[field.name] for field in fields(cls)})

    @property
    def text(self) -> str:
        """One line for users with both means and their intervals."""
        return (
            f"{self.accuracy:.3f} ({self.num_correct} of {counted(self.num_videos, 'video')}, "
            f"{_interval_text(self.accuracy_interval_95)}); mean of the {self.num_sources} sources "
            f"{self.source_accuracy:.3f} ({_interval_text(self.source_accuracy_interval_95)}); {self.num_folds} folds"
        )


def _interval_text(interval: Sequence[float] | None) -> str:
    """A 95 % interval in words."""
    return TOO_FEW_SOURCES if interval is None else f"95 % interval {interval[0]:.2f} to {interval[1]:.2f}"
