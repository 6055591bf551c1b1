"""The figures of a report: what the predictions of one split are worth, in which respects.

Shape suffixes: B videos, C classes, M members, V views, R resamples.
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
from vidclf.metrics.bootstrap import GroupBootstrap, Interval, interval_95, ratio
from vidclf.metrics.curves import ReliabilityBin, RiskCoverage, Roc
from vidclf.metrics.scores import Metrics, wilson_interval
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
    """How many of some videos are right; the interval is Wilson's."""

    name: str
    num_videos: int
    num_correct: int
    num_abstained: int
    accuracy: float
    interval_95: Interval


@dataclass(frozen=True, kw_only=True)
class ClassDetail:
    """Intervals by bootstrap over sources; None where no resample defines the figure."""

    precision_interval_95: Interval | None
    recall_interval_95: Interval | None
    f1_interval_95: Interval | None
    num_abstained: int
    auc: float | None
    """area under ROC, this class against all others; None where no video or every one is of it"""


@dataclass(frozen=True, kw_only=True)
class Voter:
    """A member or a view on its own, compared with `gain_over`; intervals by bootstrap over sources."""

    name: str
    accuracy: float
    interval_95: Interval | None
    gain: float
    gain_interval_95: Interval | None


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
    """by bootstrap over sources, as the next two"""
    macro_f1_interval_95: Interval | None
    weighted_f1_interval_95: Interval | None
    num_accepted: int
    num_accepted_correct: int
    accepted_interval_95: Interval | None
    """of the accuracy among accepted videos (Wilson); None where all abstain"""
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
    progress: PassCosts | None = None
    """the stages of a progressive classification"""


def split_metrics(videos: ScoredVideos, classes: Sequence[str]) -> Metrics:
    return scores.evaluate(videos.label_B.tolist(), videos.top_B.tolist(), classes, videos.confidence_B)


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
    is_member_right_BM = videos.member_top_BM == videos.label_B[:, None]
    is_view_right_BV = videos.view_top_BV == videos.label_B[:, None]
    columns = [
        np.ones((len(videos), 1)),
        correct_B[:, None],
        is_label_BC & is_top_BC,
        is_top_BC,
        is_label_BC,
        is_member_right_BM,
        is_view_right_BV,
    ]
    bootstrap = GroupBootstrap(videos.groups.tolist())
    sums_RK = bootstrap.sums(np.concatenate(columns, axis=1))
    ends = np.cumsum([part.shape[1] for part in columns])[:-1]
    num_R, right_R, hit_RC, taken_RC, present_RC, member_RM, view_RV = np.split(sums_RK, ends, axis=1)
    accuracy_R = ratio(right_R[:, 0], num_R[:, 0])
    f1_RC = ratio(2 * hit_RC, taken_RC + present_RC)
    precision_RC, recall_RC = ratio(hit_RC, taken_RC), ratio(hit_RC, present_RC)
    weighted_f1_R = ratio(np.nansum(f1_RC * present_RC, axis=1), present_RC.sum(axis=1))
    num_seen_R = (~np.isnan(f1_RC)).sum(axis=1).astype(np.float64)
    accepted, is_abstained = videos.is_accepted_B, ~videos.is_accepted_B
    num_accepted, num_accepted_correct = int(accepted.sum()), int(correct_B[accepted].sum())
    rocs = {
        name: curve
        for index, name in enumerate(classes)
        if (curve := curves.roc(videos.probabilities_BC[:, index], is_label_BC[:, index])) is not None
    }
    per_class = {
        name: ClassDetail(
            precision_interval_95=interval_95(precision_RC[:, index]),
            recall_interval_95=interval_95(recall_RC[:, index]),
            f1_interval_95=interval_95(f1_RC[:, index]),
            num_abstained=int((is_abstained & is_label_BC[:, index]).sum()),
            auc=rocs[name].auc if name in rocs else None,
        )
        for index, name in enumerate(classes)
    }
    return Detail(
        num_sources=bootstrap.num_groups,
        accuracy_interval_95=interval_95(accuracy_R),
        macro_f1_interval_95=interval_95(ratio(np.nansum(f1_RC, axis=1), num_seen_R)),
        weighted_f1_interval_95=interval_95(weighted_f1_R),
        num_accepted=num_accepted,
        num_accepted_correct=num_accepted_correct,
        accepted_interval_95=wilson_interval(num_accepted_correct, num_accepted) if num_accepted else None,
        per_class=per_class,
        macro_auc=float(np.mean([curve.auc for curve in rocs.values()])) if rocs else None,
        class_order=class_order(measured.confusion),
        confused_pairs=confused_pairs(measured.confusion, classes),
        roc=rocs,
        reliability=curves.reliability(videos.confidence_B, correct_B),
        risk_coverage={
            "trust_score": curves.risk_coverage(videos.trust_B, correct_B),
            "confidence": curves.risk_coverage(videos.confidence_B, correct_B),
        },
        by={kind: shares(kind, names_B, videos) for kind, names_B in videos.kinds().items()},
        members=[
            _voter(name, is_member_right_BM[:, index], member_RM[:, index], correct_B, right_R, num_R)
            for index, name in enumerate(member_names)
        ],
        views=_views(view_names, is_view_right_BV, view_RV, correct_B, right_R, num_R),
    )


def shares(kind: str, names_B: npt.NDArray[np.str_], videos: ScoredVideos) -> list[Share]:
    """Accuracy for each of the names that the videos have of a kind."""
    correct_B = videos.is_correct_B
    total = Counter(names_B.tolist())
    right = Counter(names_B[correct_B].tolist())
    abstained = Counter(names_B[~videos.is_accepted_B].tolist())
    return [
        Share(
            name=name,
            num_videos=total[name],
            num_correct=right[name],
            num_abstained=abstained[name],
            accuracy=right[name] / total[name],
            interval_95=wilson_interval(right[name], total[name]),
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
    right_R: npt.NDArray[np.float64],
    is_base_right_B: npt.NDArray[np.bool_],
    base_R: npt.NDArray[np.float64],
    num_R: npt.NDArray[np.float64],
) -> Voter:
    return Voter(
        name=name,
        accuracy=float(is_right_B.mean()),
        interval_95=interval_95(ratio(right_R, num_R[:, 0])),
        gain=float(is_right_B.mean() - is_base_right_B.mean()),
        gain_interval_95=interval_95((right_R - base_R.reshape(-1)) / num_R[:, 0]),
    )


def _views(
    names: Sequence[str],
    is_right_BV: npt.NDArray[np.bool_],
    view_RV: npt.NDArray[np.float64],
    correct_B: npt.NDArray[np.bool_],
    right_R: npt.NDArray[np.float64],
    num_R: npt.NDArray[np.float64],
) -> list[Voter]:
    """Each view alone, then all together, against the original one."""
    if is_right_BV.shape[1] < 2:
        return []
    base_B, base_R = is_right_BV[:, ORIGINAL_VIEW], view_RV[:, ORIGINAL_VIEW]
    alone = [
        _voter(name, is_right_BV[:, index], view_RV[:, index], base_B, base_R, num_R)
        for index, name in enumerate(names)
    ]
    return [*alone, _voter("all, weighted", correct_B, right_R[:, 0], base_B, base_R, num_R)]
