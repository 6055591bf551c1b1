"""The figures of a report: what the predictions of one split are worth, in which respects.

Every interval is one of 95 % that counts sources (`learning/intervals.py`), None where too few sources have part in
the figure.

Shape suffixes: B videos, C classes, M members, V views.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.cluster import hierarchy

from vidclf.metrics import curves, scores
from vidclf.metrics.curves import ReliabilityBin, RiskCoverage, Roc
from vidclf.metrics.intervals import F1Intervals, Interval, SourceIntervals
from vidclf.metrics.scores import Metrics
from vidclf.reports import video_kinds
from vidclf.reports.labelled_predictions import ScoredVideos
from vidclf.reports.stage_costs import PassCosts

MAX_CONFUSED_PAIRS = 20

ALPHABETICAL_CLASSES = 12
"""Up to so many classes the confusion matrix keeps their order; above, confused ones stand together."""

ORIGINAL_VIEW = 0
"""Index of the view that is the video as it is."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """How many of some videos are right."""

    name: str
    num_videos: int
    num_correct: int
    num_abstained: int
    accuracy: float
    interval_95: Interval | None


@dataclass(frozen=True, kw_only=True)
class ClassDetail:
    """Of one class, what `ClassMetrics` does not say."""

    precision_interval_95: Interval | None
    recall_interval_95: Interval | None
    f1_interval_95: Interval | None
    num_abstained: int
    auc: float | None
    """area under ROC, this class against all others; None where no video or every one is of it"""


@dataclass(frozen=True, kw_only=True)
class Voter:
    """A member or a view on its own, compared with another vote on the same videos."""

    name: str
    accuracy: float
    interval_95: Interval | None
    gain: float
    gain_interval_95: Interval | None
    """None for the vote that others are compared with"""


@dataclass(frozen=True, kw_only=True)
class ConfusedPair:
    label: str
    predicted: str
    num_videos: int
    share: float
    """of the videos of `label`"""


@dataclass(frozen=True, kw_only=True)
class Detail:
    """Of one split, what `Metrics` does not say."""

    num_sources: int
    accuracy_interval_95: Interval | None
    source_accuracy: float
    """the mean over the sources of each source's accuracy: large sources count as small ones"""
    source_accuracy_interval_95: Interval | None
    macro_f1_interval_95: Interval | None
    weighted_f1_interval_95: Interval | None
    num_accepted: int
    num_accepted_correct: int
    accepted_interval_95: Interval | None
    """of the accuracy among accepted videos"""
    per_class: dict[str, ClassDetail]
    macro_auc: float | None
    class_order: list[int]
    """of the rows and columns of the confusion matrix, so that classes taken for each other are near"""
    confused_pairs: list[ConfusedPair]
    roc: dict[str, Roc]
    reliability: list[ReliabilityBin]
    risk_coverage: dict[str, RiskCoverage]
    """by `trust_score` and, to compare, by `confidence`"""
    by: dict[str, list[Share]]
    """sublabel, codec, resolution, duration"""
    members: list[Voter]
    """`gain` is over the whole ensemble"""
    views: list[Voter]
    """`gain` is over the original view; the last is all views together; empty without test-time views"""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What the report says. `headline` names the split whose figures stand for the ensemble: test
    where there is one, since training has seen train and chosen by val."""

    headline: str
    per_split: dict[str, Metrics]
    detail: Detail
    """of the headline split"""
    classes: list[str]
    num_unlabelled: int
    num_unmatched: int
    """predicted videos that the manifest does not hold"""
    summary: dict[str, Any] | None
    """`summary.json` of the run that read the videos; None where they came as HDF5"""
    ensemble_id: str
    calibration: dict[str, Any]
    """what `ensemble.json` says of it: temperature, ECE before and after; empty where that is not known"""
    view_weights: dict[str, float]
    """the votes of the test-time views, 0 for one that was dropped; empty without them"""
    training: list[list[dict[str, Any]]]
    """per member its epochs"""
    training_note: str
    """why there are no epochs, if there are none"""
    provenance: dict[str, str]
    risk: dict[str, Any] | None = None
    """`risk.risk_statement` of the run; None where an earlier version made it"""
    progress: PassCosts | None = None
    """the stages of a progressive classification"""


def split_metrics(videos: ScoredVideos, classes: Sequence[str]) -> Metrics:
    return scores.evaluate(
        videos.label_B.tolist(), videos.top_B.tolist(), classes, videos.confidence_B, videos.groups.tolist()
    )


def detail(
    videos: ScoredVideos,
    measured: Metrics,
    classes: Sequence[str],
    member_names: Sequence[str],
    view_names: Sequence[str],
) -> Detail:
    """The figures of `videos`, of which `measured` are the metrics; the same ones for the same videos."""
    num_classes, correct_B = len(classes), videos.is_correct_B
    is_label_BC = videos.label_B[:, None] == np.arange(num_classes)
    is_top_BC = videos.top_B[:, None] == np.arange(num_classes)
    intervals = SourceIntervals(videos.groups.tolist())
    f1 = F1Intervals.of(intervals, is_label_BC, is_top_BC)
    accepted, is_abstained = videos.is_accepted_B, ~videos.is_accepted_B
    source_accuracy, source_interval = intervals.mean_of_sources(correct_B)
    rocs = {
        name: curve
        for index, name in enumerate(classes)
        if (curve := curves.roc(videos.probabilities_BC[:, index], is_label_BC[:, index])) is not None
    }
    per_class = {
        name: ClassDetail(
            precision_interval_95=intervals.share(is_label_BC[:, index], is_top_BC[:, index]),
            recall_interval_95=intervals.share(is_top_BC[:, index], is_label_BC[:, index]),
            f1_interval_95=f1.per_class[index],
            num_abstained=int((is_abstained & is_label_BC[:, index]).sum()),
            auc=rocs[name].auc if name in rocs else None,
        )
        for index, name in enumerate(classes)
    }
    return Detail(
        num_sources=intervals.num_sources,
        accuracy_interval_95=intervals.share(correct_B),
        source_accuracy=source_accuracy,
        source_accuracy_interval_95=source_interval,
        macro_f1_interval_95=f1.macro,
        weighted_f1_interval_95=f1.weighted,
        num_accepted=int(accepted.sum()),
        num_accepted_correct=int(correct_B[accepted].sum()),
        accepted_interval_95=intervals.share(correct_B, accepted),
        per_class=per_class,
        macro_auc=float(np.mean([curve.auc for curve in rocs.values()])) if rocs else None,
        class_order=class_order(measured.confusion),
        confused_pairs=confused_pairs(measured.confusion, classes),
        roc=rocs,
        reliability=curves.reliability(videos.confidence_B, correct_B, videos.groups.tolist()),
        risk_coverage={
            "trust_score": curves.risk_coverage(videos.trust_B, correct_B),
            "confidence": curves.risk_coverage(videos.confidence_B, correct_B),
        },
        by={kind: shares(kind, names_B, videos) for kind, names_B in videos.kinds().items()},
        members=[
            _voter(name, videos.member_top_BM[:, index] == videos.label_B, correct_B, intervals)
            for index, name in enumerate(member_names)
        ],
        views=_views(view_names, videos.view_top_BV == videos.label_B[:, None], correct_B, intervals),
    )


def shares(kind: str, names_B: npt.NDArray[np.str_], videos: ScoredVideos) -> list[Share]:
    """Accuracy for each of the names that the videos have of a kind."""
    correct_B = videos.is_correct_B
    total = Counter(names_B.tolist())
    right = Counter(names_B[correct_B].tolist())
    abstained = Counter(names_B[~videos.is_accepted_B].tolist())
    intervals = SourceIntervals(videos.groups.tolist())
    return [
        Share(
            name=name,
            num_videos=total[name],
            num_correct=right[name],
            num_abstained=abstained[name],
            accuracy=right[name] / total[name],
            interval_95=intervals.share(correct_B, names_B == name),
        )
        for name in video_kinds.in_order(kind, set(total))
    ]


def confused_pairs(confusion: list[list[int]], classes: Sequence[str]) -> list[ConfusedPair]:
    """The most frequent confusions, at most MAX_CONFUSED_PAIRS."""
    pairs = [
        ConfusedPair(label=classes[i], predicted=classes[j], num_videos=count, share=count / sum(row))
        for i, row in enumerate(confusion)
        for j, count in enumerate(row)
        if i != j and count
    ]
    return sorted(pairs, key=lambda pair: (-pair.num_videos, -pair.share, pair.label))[:MAX_CONFUSED_PAIRS]


def class_order(confusion: list[list[int]]) -> list[int]:
    """Class indices such that classes taken for each other are neighbours (average linkage, its leaves in
    optimal order: Bar-Joseph et al. 2001); their own order for few classes or without a confusion."""
    counts_CC = np.array(confusion, dtype=np.float64)
    num_classes = len(counts_CC)
    share_CC = counts_CC / np.maximum(counts_CC.sum(axis=1, keepdims=True), 1)
    likeness_CC = share_CC + share_CC.T
    np.fill_diagonal(likeness_CC, 0)
    if num_classes <= ALPHABETICAL_CLASSES or not likeness_CC.any():
        return list(range(num_classes))
    distance = (1 - likeness_CC / likeness_CC.max())[np.triu_indices(num_classes, 1)]
    order: list[int] = hierarchy.leaves_list(hierarchy.linkage(distance, "average", optimal_ordering=True)).tolist()
    return order


def _voter(
    name: str,
    is_right_B: npt.NDArray[np.bool_],
    is_base_right_B: npt.NDArray[np.bool_],
    intervals: SourceIntervals,
    *,
    is_base: bool = False,
) -> Voter:
    return Voter(
        name=name,
        accuracy=float(is_right_B.mean()),
        interval_95=intervals.share(is_right_B),
        gain=float(is_right_B.mean() - is_base_right_B.mean()),
        gain_interval_95=None if is_base else intervals.difference(is_right_B, is_base_right_B),
    )


def _views(
    names: Sequence[str],
    is_right_BV: npt.NDArray[np.bool_],
    correct_B: npt.NDArray[np.bool_],
    intervals: SourceIntervals,
) -> list[Voter]:
    """Each view alone, then all together, against the original one."""
    if is_right_BV.shape[1] < 2:
        return []
    base_B = is_right_BV[:, ORIGINAL_VIEW]
    alone = [
        _voter(name, is_right_BV[:, index], base_B, intervals, is_base=index == ORIGINAL_VIEW)
        for index, name in enumerate(names)
    ]
    return [*alone, _voter("all, weighted", correct_B, base_B, intervals)]
