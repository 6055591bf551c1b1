"""Figures of a report on one split: accuracy, intervals, confusions, ROC, calibration, and each ensemble member alone.

Every interval is a 95 % interval that counts sources (recordings that videos are cut from; `metrics/intervals.py`). It
is None if too few sources contribute to the figure.

Shape suffixes: B videos, C classes, M ensemble members, V views (test-time variants of a video).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vidclf.ensemble.cross_validation import CrossValidation
from vidclf.ensemble.held_out import SplitFacts
from vidclf.ensemble.linear_member import LinearWeight
from vidclf.metrics import curves, scores
from vidclf.metrics.curves import ReliabilityBin, RiskCoverage, Roc
from vidclf.metrics.intervals import F1Intervals, Interval, SourceIntervals
from vidclf.metrics.scores import Metrics
from vidclf.number_words import counted
from vidclf.pages.render import points
from vidclf.reports import set_figures, sublabel_figures, video_kinds
from vidclf.reports.confusion import ConfusedPair, class_order, confused_pairs
from vidclf.reports.labelled_predictions import ScoredVideos
from vidclf.reports.set_figures import SetFigures
from vidclf.reports.stage_costs import PassCosts
from vidclf.reports.sublabel_figures import SublabelFigures
from vidclf.reports.voters import Voter, member_voters, view_voters


@dataclass(frozen=True, kw_only=True)
class Share:
    """Accuracy of one group of videos, such as all videos of one codec."""

    name: str
    num_videos: int
    num_correct: int
    num_abstained: int
    accuracy: float
    interval_95: Interval | None


@dataclass(frozen=True, kw_only=True)
class ClassDetail:
    """Figures of one class, in addition to those of `ClassMetrics`."""

    precision_interval_95: Interval | None
    recall_interval_95: Interval | None
    f1_interval_95: Interval | None
    num_abstained: int
    """videos of this true class that the ensemble gave no class"""
    auc: float | None
    """area under the ROC curve, this class against all others; None if all videos or no video belong to the class"""


@dataclass(frozen=True, kw_only=True)
class Detail:
    """Figures of one split beyond `Metrics`: by class, by kind of video, by member and view, and of accepted videos."""

    num_sources: int
    accuracy_interval_95: Interval | None
    source_accuracy: float
    """mean of the accuracies of the sources (recordings): every source has the same weight"""
    source_accuracy_interval_95: Interval | None
    macro_f1_interval_95: Interval | None
    weighted_f1_interval_95: Interval | None
    num_accepted: int
    num_accepted_correct: int
    accepted_interval_95: Interval | None
    """interval of the accuracy among accepted videos"""
    per_class: dict[str, ClassDetail]
    macro_auc: float | None
    """mean of the area under the ROC curve (AUC) over the classes that have one; None if no class has"""
    class_order: list[int]
    """class indices from first to last row and column of the confusion matrix: confused classes are neighbours"""
    confused_pairs: list[ConfusedPair]
    roc: dict[str, Roc]
    reliability: list[ReliabilityBin]
    risk_coverage: dict[str, RiskCoverage]
    """error among accepted videos against their share, as one curve for `trust_score` and, for comparison, one for
    `confidence`"""
    by: dict[str, list[Share]]
    """accuracy by sublabel, codec, resolution and duration; after a progressive classification also by stage (the set
    of frames that decided)"""
    members: list[Voter]
    """each ensemble member alone; `gain` is relative to the whole ensemble"""
    sets: SetFigures | None
    """figures of the prediction sets; None without them"""
    sublabels: SublabelFigures | None
    """figures of the sublabels; None if none are predicted, or none are known"""
    views: list[Voter]
    """each test-time view (variant of a video) alone, and as the last entry their weighted average; `gain` is relative
    to the unchanged video; empty without test-time views
    """


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """All content of a report, as `metrics.json` holds it."""

    headline: str
    """the split that represents the ensemble: test if there is one, because training saw train and selected by val"""
    split_facts: SplitFacts
    """how the splits were decided, and whether the test videos are known to be held out"""
    per_split: dict[str, Metrics]
    detail: Detail
    """further figures of the headline split"""
    classes: list[str]
    num_unlabelled: int
    """predicted videos without a label in the manifest"""
    num_unmatched: int
    """predicted videos that are not in the manifest"""
    left_out: list[str]
    """a sentence per reason for which videos are not scored: their number, the reason and one location"""
    summary: dict[str, Any] | None
    """`summary.json` of the job that read the videos; None for HDF5 features"""
    ensemble_id: str
    calibration: dict[str, Any]
    """temperature, and expected calibration error (ECE) before and after, from `ensemble.json`; empty if the ensemble
    is unknown"""
    view_weights: dict[str, float]
    """weight of each test-time view (variant of a video) in the average, 0 for a dropped view; empty without test-time
    views"""
    training: list[list[dict[str, Any]]]
    """training epochs of each ensemble member"""
    training_note: str
    """why there are no epochs; empty if there are some"""
    provenance: dict[str, str]
    risk: dict[str, Any] | None = None
    """`risk_threshold.risk_statement`: how far validation supports the trust threshold; None for predictions by an
    earlier version"""
    drift: dict[str, Any] | None = None
    """the entry `drift` of `summary.json`: whether the videos are like those of calibration; None if it was not
    measured"""
    progress: PassCosts | None = None
    """costs of the stages of a progressive classification; None for one that is not progressive"""
    cross_validation: CrossValidation | None = None
    """cross-validation of the ensemble's recipe by `jobs/train.py --folds`; None if there was none, or the ensemble is
    unknown"""
    linear: LinearWeight | None = None
    """weight of the linear member, which is the last of `detail.members`; None if the ensemble has none, or is
    unknown"""

    @property
    def linear_words(self) -> str:
        """A sentence that compares the linear member with the whole ensemble; empty without a linear member."""
        if self.linear is None or not self.detail.members:
            return ""
        alone = self.detail.members[-1]
        is_of_all = alone.num_videos == self.per_split[self.headline].num_videos
        of_these = "" if is_of_all else f" ({counted(alone.num_videos, 'video')} of the run's own ensemble)"
        interval = alone.gain_interval_95
        between = f", 95 % interval {points(-interval[1])} to {points(-interval[0])}" if interval is not None else ""
        return (
            f"the linear member alone (mean and spread of the frames) is right on {alone.accuracy:.3f}"
            f"{of_these}; the whole ensemble, in which it has weight {self.linear.weight:.2f}, adds "
            f"{points(-alone.gain)} percentage points{between}"
        )

    @property
    def is_held_out(self) -> bool:
        """Whether the headline split holds only sources that the ensemble's record shows to be held out."""
        return self.headline == "test" and not self.split_facts.doubt


def split_metrics(videos: ScoredVideos, classes: Sequence[str]) -> Metrics:
    """Accuracy, F1, calibration error and confusion matrix of the videos of one split."""
    return scores.evaluate(
        videos.label_B.tolist(), videos.top_B.tolist(), classes, videos.confidence_B, videos.groups.tolist()
    )


@dataclass(frozen=True, kw_only=True)
class _Sums:
    """Boolean arrays over the videos of one split, and intervals, from which the figures of the split are computed."""

    classes: Sequence[str]
    is_label_BC: npt.NDArray[np.bool_]
    is_top_BC: npt.NDArray[np.bool_]
    is_correct_B: npt.NDArray[np.bool_]
    is_accepted_B: npt.NDArray[np.bool_]
    intervals: SourceIntervals
    f1: F1Intervals

    @classmethod
    def of(cls, videos: ScoredVideos, classes: Sequence[str]) -> _Sums:
        """Make the boolean arrays and intervals from the videos of one split."""
        is_label_BC = videos.label_B[:, None] == np.arange(len(classes))
        is_top_BC = videos.top_B[:, None] == np.arange(len(classes))
        intervals = SourceIntervals(videos.groups.tolist())
        return cls(
            classes=classes,
            is_label_BC=is_label_BC,
            is_top_BC=is_top_BC,
            is_correct_B=videos.is_correct_B,
            is_accepted_B=videos.is_accepted_B,
            intervals=intervals,
            f1=F1Intervals.of(intervals, is_label_BC, is_top_BC),
        )

    def rocs(self, probabilities_BC: npt.NDArray[np.float32]) -> dict[str, Roc]:
        """ROC curve by class name; classes to which all videos or no video belong have none and are missing."""
        return {
            name: curve
            for index, name in enumerate(self.classes)
            if (curve := curves.roc(probabilities_BC[:, index], self.is_label_BC[:, index])) is not None
        }

    def per_class(self, rocs: dict[str, Roc]) -> dict[str, ClassDetail]:
        """Per class: intervals of precision, recall and F1, number of abstentions, area under the ROC curve (AUC)."""
        return {
            name: ClassDetail(
                precision_interval_95=self.intervals.share(self.is_label_BC[:, index], self.is_top_BC[:, index]),
                recall_interval_95=self.intervals.share(self.is_top_BC[:, index], self.is_label_BC[:, index]),
                f1_interval_95=self.f1.per_class[index],
                num_abstained=int((~self.is_accepted_B & self.is_label_BC[:, index]).sum()),
                auc=rocs[name].auc if name in rocs else None,
            )
            for index, name in enumerate(self.classes)
        }


def detail(
    videos: ScoredVideos,
    measured: Metrics,
    classes: Sequence[str],
    member_names: Sequence[str],
    view_names: Sequence[str],
) -> Detail:
    """Further figures of the videos of one split, whose metrics are `measured`; equal videos give equal figures."""
    sums = _Sums.of(videos, classes)
    is_correct_B, is_accepted_B, intervals = sums.is_correct_B, sums.is_accepted_B, sums.intervals
    source_accuracy, source_interval = intervals.mean_of_sources(is_correct_B)
    rocs = sums.rocs(videos.probabilities_BC)
    return Detail(
        num_sources=intervals.num_sources,
        accuracy_interval_95=intervals.share(is_correct_B),
        source_accuracy=source_accuracy,
        source_accuracy_interval_95=source_interval,
        macro_f1_interval_95=sums.f1.macro,
        weighted_f1_interval_95=sums.f1.weighted,
        num_accepted=int(is_accepted_B.sum()),
        num_accepted_correct=int(is_correct_B[is_accepted_B].sum()),
        accepted_interval_95=intervals.share(is_correct_B, is_accepted_B),
        per_class=sums.per_class(rocs),
        macro_auc=float(np.mean([curve.auc for curve in rocs.values()])) if rocs else None,
        class_order=class_order(measured.confusion),
        confused_pairs=confused_pairs(measured.confusion, classes),
        roc=rocs,
        reliability=curves.reliability(videos.confidence_B, is_correct_B, videos.groups.tolist()),
        risk_coverage={
            # Without calibration there is no trust score, and videos can only be ranked by their confidence.
            "trust_score": curves.risk_coverage(
                np.where(np.isnan(videos.trust_B), videos.confidence_B, videos.trust_B), is_correct_B
            ),
            "confidence": curves.risk_coverage(videos.confidence_B, is_correct_B),
        },
        by={kind: shares(kind, names_B, videos) for kind, names_B in videos.kinds().items()},
        members=member_voters(videos, member_names),
        sets=set_figures.of_videos(videos),
        sublabels=sublabel_figures.of_videos(videos, classes),
        views=view_voters(videos, view_names),
    )


def shares(kind: str, names_B: npt.NDArray[np.str_], videos: ScoredVideos) -> list[Share]:
    """Accuracy of each group of videos; `names_B` has the name of each video's group.

    The list is sorted for display by `kind`, the type of group, such as `resolution`.
    """
    correct_B = videos.is_correct_B
    total = Counter(names_B.tolist())
    correct = Counter(names_B[correct_B].tolist())
    abstained = Counter(names_B[~videos.is_accepted_B].tolist())
    intervals = SourceIntervals(videos.groups.tolist())
    return [
        Share(
            name=name,
            num_videos=total[name],
            num_correct=correct[name],
            num_abstained=abstained[name],
            accuracy=correct[name] / total[name],
            interval_95=intervals.share(correct_B, names_B == name),
        )
        for name in video_kinds.in_order(kind, set(total))
    ]
