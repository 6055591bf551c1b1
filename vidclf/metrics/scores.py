"""What a classification is worth: accuracy with its interval, F1 per class, calibration error.

Shape suffixes: B videos, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from vidclf.metrics.intervals import Interval, SourceIntervals


@dataclass(frozen=True, kw_only=True)
class ClassMetrics:
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """Of one set of videos. `confusion[i][j]` counts videos of class i that were taken for j."""

    num_videos: int
    num_correct: int
    accuracy: float
    accuracy_interval_95: Interval | None
    """that counts sources; None where these are too few or not known"""
    macro_f1: float
    """every class counts the same"""
    weighted_f1: float
    """every video counts the same"""
    per_class: dict[str, ClassMetrics]
    confusion: list[list[int]]
    expected_calibration_error: float | None


def evaluate(
    truth_B: Sequence[int],
    predicted_B: Sequence[int],
    classes: Sequence[str],
    confidence_B: npt.NDArray[np.floating] | None = None,
    groups: Sequence[str] | None = None,
) -> Metrics:
    """Metrics of predictions against truth, both as class indices; at least one video. `groups`
    names the source of each.

    A class that is neither present nor predicted does not enter the macro average; one that is
    present and never predicted has F1 0.
    """
    if len(truth_B) == 0:
        raise ValueError("metrics need at least one video")
    indices = range(len(classes))
    precision, recall, f1, support = precision_recall_fscore_support(
        truth_B, predicted_B, labels=list(indices), zero_division=0.0
    )
    seen = sorted({*truth_B, *predicted_B})
    correct_B = np.equal(truth_B, predicted_B)
    num_correct = int(correct_B.sum())
    return Metrics(
        num_videos=len(truth_B),
        num_correct=num_correct,
        accuracy=num_correct / len(truth_B),
        accuracy_interval_95=SourceIntervals(groups).share(correct_B) if groups is not None else None,
        macro_f1=float(np.mean([f1[i] for i in seen])),
        weighted_f1=float(np.average(f1, weights=support)),
        per_class={
            classes[i]: ClassMetrics(
                precision=float(precision[i]), recall=float(recall[i]), f1=float(f1[i]), support=int(support[i])
            )
            for i in indices
        },
        confusion=confusion_matrix(truth_B, predicted_B, labels=list(indices)).tolist(),
        expected_calibration_error=None
        if confidence_B is None
        else expected_calibration_error(confidence_B, correct_B),
    )


def expected_calibration_error(
    confidence_B: npt.NDArray[np.floating], correct_B: npt.NDArray[np.bool_], num_bins: int = 10
) -> float:
    """Mean gap between confidence and accuracy over equal-width bins (Guo et al. 2017, arXiv:1706.04599).

    Bins are (lower, upper], so that a confidence of exactly 1 falls into the last.
    """
    bins = np.clip(np.ceil(confidence_B * num_bins).astype(int) - 1, 0, num_bins - 1)
    error = 0.0
    for index in np.unique(bins):
        inside = bins == index
        error += inside.mean() * abs(correct_B[inside].mean() - confidence_B[inside].mean())
    return float(error)
