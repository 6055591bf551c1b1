"""Curves of a score over all thresholds: ROC, reliability, risk against coverage.

Reliability is accuracy against confidence. Risk is the error among the accepted videos, coverage their share.

Shape suffixes: B videos.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score, roc_curve

from vidclf.metrics.intervals import Interval, SourceIntervals

MAX_POINTS = 200
"""Largest number of points of a stored curve. A screen cannot show more."""


@dataclass(frozen=True, kw_only=True)
class Roc:
    """ROC curve of one class against all others, with the probability of the class as the score."""

    auc: float
    """area under the curve, from all videos"""
    false_positive_rate: list[float]
    true_positive_rate: list[float]


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """The videos whose confidence is above `lower` and at most `upper`, with their mean confidence and their
    accuracy."""

    lower: float
    upper: float
    num_videos: int
    mean_confidence: float
    accuracy: float
    accuracy_interval_95: Interval | None
    """95 % interval of the accuracy; None if the videos are from too few sources (recordings)"""


@dataclass(frozen=True, kw_only=True)
class RiskCoverage:
    """Share of wrong labels among the accepted videos against the share of accepted videos, over all thresholds of a
    score."""

    area: float
    """mean risk (share of wrong labels) over all coverages (AURC; Geifman & El-Yaniv 2017, arXiv:1705.08500); lower is
    better"""
    perfect_area: float
    """the lowest area possible at this accuracy: that of a score that ranks every right video above every wrong one"""
    coverage: list[float]
    """share of accepted videos at each point of the curve"""
    risk: list[float]
    """share of wrong labels among the accepted videos at each point"""


def roc(score_B: npt.NDArray[np.floating], is_class_B: npt.NDArray[np.bool_]) -> Roc | None:
    """ROC curve of one class: `score_B` is the score of each video for the class, `is_class_B` whether the video
    belongs to it.

    Returns None if all videos, or none, belong to the class.
    """
    if is_class_B.all() or not is_class_B.any():
        return None
    false_positive_rate, true_positive_rate, _ = roc_curve(is_class_B, score_B)
    indices = _thinned(len(false_positive_rate))
    return Roc(
        auc=float(roc_auc_score(is_class_B, score_B)),
        false_positive_rate=_rounded(false_positive_rate[indices]),
        true_positive_rate=_rounded(true_positive_rate[indices]),
    )


def reliability(
    confidence_B: npt.NDArray[np.floating],
    correct_B: npt.NDArray[np.bool_],
    groups: Sequence[str],
    num_bins: int = 10,
) -> list[ReliabilityBin]:
    """Compare confidence and accuracy in `num_bins` bins of equal width, the same as in
    `scores.expected_calibration_error`.

    `correct_B` says whether each label is right, `groups` names the source (recording) of each video. Bins without
    videos are left out.
    """
    intervals = SourceIntervals(groups)
    bins_B = np.clip(np.ceil(confidence_B * num_bins).astype(int) - 1, 0, num_bins - 1)
    bins = []
    for index in np.unique(bins_B):
        inside = bins_B == index
        num_videos, num_correct = int(inside.sum()), int(correct_B[inside].sum())
        bins.append(
            ReliabilityBin(
                lower=int(index) / num_bins,
                upper=(int(index) + 1) / num_bins,
                num_videos=num_videos,
                mean_confidence=float(confidence_B[inside].mean()),
                accuracy=num_correct / num_videos,
                accuracy_interval_95=intervals.share(correct_B, inside),
            )
        )
    return bins


def risk_coverage(score_B: npt.NDArray[np.floating], correct_B: npt.NDArray[np.bool_]) -> RiskCoverage:
    """Curve of the error among accepted videos if the videos with the highest scores are accepted first. Needs at least
    one video.

    Videos with equal scores are accepted together, so the curve has one point per distinct score. Within a tie the area
    counts the errors as evenly spread, which is their expectation over all orders.
    """
    num_videos = len(score_B)
    accepted_B = np.arange(1, num_videos + 1)
    order = np.argsort(-score_B, kind="stable")
    sorted_scores, is_wrong = score_B[order], ~correct_B[order]
    is_last_of_tie = np.append(sorted_scores[1:] != sorted_scores[:-1], True)
    ends = accepted_B[is_last_of_tie]
    errors_at_ends = np.cumsum(is_wrong)[is_last_of_tie]
    errors_B = np.interp(accepted_B, np.append(0, ends), np.append(0, errors_at_ends))
    num_wrong = int(errors_at_ends[-1])
    perfect_errors_B = np.maximum(accepted_B - (num_videos - num_wrong), 0)
    indices = _thinned(len(ends))
    return RiskCoverage(
        area=float((errors_B / accepted_B).mean()),
        perfect_area=float((perfect_errors_B / accepted_B).mean()),
        coverage=_rounded(ends[indices] / num_videos),
        risk=_rounded(errors_at_ends[indices] / ends[indices]),
    )


def _thinned(num_points: int) -> npt.NDArray[np.intp]:
    """Indices of at most MAX_POINTS of the `num_points` points of a curve, evenly spaced, including the first and the
    last."""
    return np.unique(np.linspace(0, num_points - 1, min(num_points, MAX_POINTS)).round().astype(np.intp))


def _rounded(values: npt.NDArray[np.floating]) -> list[float]:
    """The values as a list of floats with 5 decimals."""
    return [round(float(value), 5) for value in values]
