"""Scores of a classification: accuracy with its interval, F1 per class, confusion matrix, calibration error.

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
    """Precision, recall and F1 score of one class, with its number of videos."""

    precision: float
    recall: float
    f1: float
    support: int
    """number of videos whose true label is the class"""


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """Scores of a classification over one set of videos."""

    num_videos: int
    num_correct: int
    accuracy: float
    accuracy_interval_95: Interval | None
    """95 % interval, computed over sources (recordings); None if the sources are unknown or their
    effective number is below `intervals.MIN_SOURCES`"""
    macro_f1: float
    """unweighted mean of F1 over the classes that are present or predicted"""
    weighted_f1: float
    """mean of F1 over the classes, weighted by their numbers of videos"""
    per_class: dict[str, ClassMetrics]
    confusion: list[list[int]]
    """`confusion[i][j]` is the number of videos of class i that are predicted as class j"""
    expected_calibration_error: float | None
    """mean gap between confidence and accuracy; None without confidences"""


def evaluate(
    truth_B: Sequence[int],
    predicted_B: Sequence[int],
    classes: Sequence[str],
    confidence_B: npt.NDArray[np.floating] | None = None,
    groups: Sequence[str] | None = None,
) -> Metrics:
    """Compute the scores of predicted labels against true labels, both given as indices into `classes`.

    `groups` names the source (recording) of each video. A class that is neither present nor predicted does not count in
    the macro average. A class that is present and never predicted has F1 0. Raises ValueError if there is no video.
    """
    if len(truth_B) == 0:
        raise ValueError("metrics need at least one video")
    indices = range(len(classes))
    precision, recall, f1, support = precision_recall_fscore_support(
        truth_B, predicted_B, labels=list(indices), zero_division=0.0
    )
    counted = sorted({*truth_B, *predicted_B})
    correct_B = np.equal(truth_B, predicted_B)
    num_correct = int(correct_B.sum())
    return Metrics(
        num_videos=len(truth_B),
        num_correct=num_correct,
        accuracy=num_correct / len(truth_B),
        accuracy_interval_95=SourceIntervals(groups).share(correct_B) if groups is not None else None,
        macro_f1=float(np.mean([f1[i] for i in counted])),
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
    """Mean gap between confidence and accuracy over `num_bins` bins of equal width (Guo et al. 2017, arXiv:1706.04599).

    Each bin includes its upper end, so a confidence of exactly 1 belongs to the last one. `correct_B` says whether each
    label is right.
    """
    bins = np.clip(np.ceil(confidence_B * num_bins).astype(int) - 1, 0, num_bins - 1)
    error = 0.0
    for index in np.unique(bins):
        inside = bins == index
        error += inside.mean() * abs(correct_B[inside].mean() - confidence_B[inside].mean())
    return float(error)
