"""Curves of a score over all thresholds: ROC, reliability, risk against coverage.

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
"""Most points of a stored curve. A screen cannot show more."""


@dataclass(frozen=True, kw_only=True)
class Roc:
    """ROC curve of one class against all others, by the probability of the class."""

    auc: float
    false_positive_rate: list[float]
    true_positive_rate: list[float]


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """Videos whose confidence is in (lower, upper]."""

    lower: float
    upper: float
    num_videos: int
    mean_confidence: float
    accuracy: float
    accuracy_interval_95: Interval | None


@dataclass(frozen=True, kw_only=True)
class RiskCoverage:
    """Error among the accepted videos against the share of accepted videos, over all thresholds."""

    area: float
    """mean risk over all coverages (AURC; Geifman & El-Yaniv 2017, arXiv:1705.08500); lower is better"""
    perfect_area: float
    """the lowest area possible at this accuracy: the score ranks every right video above every wrong one"""
    coverage: list[float]
    risk: list[float]


def roc(score_B: npt.NDArray[np.floating], is_class_B: npt.NDArray[np.bool_]) -> Roc | None:
    """ROC curve of a score for one class; None if all videos, or none, are of the class."""
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
    """The non-empty bins of `scores.expected_calibration_error`; `groups` are the sources of the videos."""
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
    """Selective classification that accepts the videos with the highest scores first; needs at least one video.

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
    """Indices of at most MAX_POINTS points, including the first and the last."""
    return np.unique(np.linspace(0, num_points - 1, min(num_points, MAX_POINTS)).round().astype(np.intp))


def _rounded(values: npt.NDArray[np.floating]) -> list[float]:
    return [round(float(value), 5) for value in values]
