"""Figures of the sublabels (finer classes below a class) in a report.

A leaf is a sublabel of a class, or a class without sublabels. Videos whose class has sublabels but whose own sublabel
is not known are left out. A true sublabel that the ensemble does not predict counts as an error.

Shape suffixes: B videos, N leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vidclf.metrics.curves import RiskCoverage, risk_coverage
from vidclf.metrics.intervals import F1Intervals, Interval, SourceIntervals
from vidclf.metrics.scores import evaluate
from vidclf.number_words import counted
from vidclf.reports import set_figures, video_kinds
from vidclf.reports.labelled_predictions import ScoredVideos
from vidclf.reports.set_figures import SetFigures
from vidclf.schema import AnswerLevel

RISKS = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Shares of wrong answers for which the report states the share of videos that can be answered."""

Leaf = tuple[str, str]
"""Class and sublabel; the sublabel is an empty text for a class without sublabels."""


@dataclass(frozen=True, kw_only=True)
class SublabelMetrics:
    """Scores of one sublabel."""

    label: str
    sublabel: str
    num_videos: int
    accuracy: float | None
    """share of its videos that get it; None without videos"""
    accuracy_interval_95: Interval | None
    f1: float
    f1_interval_95: Interval | None


@dataclass(frozen=True, kw_only=True)
class LevelFigures:
    """The videos that are answered at one level."""

    level: str
    num_videos: int
    share: float
    num_wrong: int
    """number of wrong answers at this level"""
    num_judged: int
    """number of these videos whose true answer at this level is known"""
    error_interval_95: Interval | None
    """interval of the share of wrong answers among the judged videos"""


@dataclass(frozen=True, kw_only=True)
class AnswerableShares:
    """Largest shares of the videos that can be answered with at most one share of wrong answers."""

    risk: float
    sublabel: float
    label: float


@dataclass(frozen=True, kw_only=True)
class SublabelFigures:
    """Sublabels of the videos of one split."""

    num_videos: int
    """number of videos whose class has sublabels, and whose own one is known"""
    num_correct: int
    accuracy: float
    accuracy_interval_95: Interval | None
    macro_f1: float
    """unweighted mean of F1 over the sublabels"""
    per_sublabel: list[SublabelMetrics]
    leaves: list[Leaf]
    """rows and columns of the confusion matrix, class by class"""
    confusion: list[list[int]]
    """`confusion[i][j]` is the number of videos of leaf i that are predicted as leaf j"""
    levels: list[LevelFigures]
    """the levels of the answers, the deepest first; the abstained videos last"""
    curve: RiskCoverage
    """share of wrong sublabels among the most trusted ones against their number"""
    by_risk: list[AnswerableShares]
    sets: SetFigures | None
    """prediction sets of sublabels, of the videos whose leaf is known; None without such sets"""

    @property
    def words(self) -> str:
        """A sentence with the main figures."""
        between = ""
        if self.accuracy_interval_95 is not None:
            between = ", 95 % interval {:.2f} to {:.2f}".format(*self.accuracy_interval_95)
        levels = ", ".join(f"{one.level} {100 * one.share:.1f} %" for one in self.levels)
        return (
            f"{self.accuracy:.3f} right ({self.num_correct} of {counted(self.num_videos, 'video')}{between}); "
            f"answered with: {levels}"
        )


def of_videos(videos: ScoredVideos, classes: Sequence[str]) -> SublabelFigures | None:
    """The figures of these videos; None if no video has a predicted sublabel, or none with a known one."""
    has_top_B = videos.top_sublabels != ""
    parents = {classes[index] for index in videos.top_B[has_top_B].tolist()}
    is_below_B = np.array([classes[index] in parents for index in videos.label_B.tolist()], bool)
    is_known_B = ~is_below_B | (videos.sublabels != video_kinds.UNKNOWN)
    if not (is_below_B & is_known_B).any():
        return None
    kept = videos.take(is_known_B)
    is_scored_B = is_below_B[is_known_B]
    true = [_leaf(classes[i], name, parents) for i, name in zip(kept.label_B.tolist(), kept.sublabels, strict=True)]
    top = [_leaf(classes[i], name, parents) for i, name in zip(kept.top_B.tolist(), kept.top_sublabels, strict=True)]
    order = {name: index for index, name in enumerate(classes)}
    leaves = sorted({*true, *top}, key=lambda leaf: (order[leaf[0]], leaf[1]))
    true_B, top_B = (np.array([leaves.index(leaf) for leaf in values]) for values in (true, top))
    is_right_B = true_B == top_B
    intervals = SourceIntervals(kept.groups.tolist())
    per_sublabel, confusion = _per_sublabel(leaves, true_B, top_B, intervals)
    scored = SourceIntervals(kept.groups[is_scored_B].tolist())
    # A sublabel that is predicted for a video of a class without any is an error, too.
    is_trusted_B = kept.top_sublabels != ""
    is_on_curve_B = is_scored_B | is_trusted_B
    curve = risk_coverage(np.where(is_trusted_B, kept.sublabel_trust_B, 0.0)[is_on_curve_B], is_right_B[is_on_curve_B])
    return SublabelFigures(
        num_videos=int(is_scored_B.sum()),
        num_correct=int(is_right_B[is_scored_B].sum()),
        accuracy=float(is_right_B[is_scored_B].mean()),
        accuracy_interval_95=scored.share(is_right_B[is_scored_B]),
        macro_f1=float(np.mean([one.f1 for one in per_sublabel])),
        per_sublabel=per_sublabel,
        leaves=leaves,
        confusion=confusion,
        levels=_levels(videos, is_known_B),
        curve=curve,
        by_risk=_by_risk(curve, risk_coverage(videos.trust_B, videos.is_correct_B)),
        sets=_sets(kept, classes),
    )


def _sets(videos: ScoredVideos, classes: Sequence[str]) -> SetFigures | None:
    """The figures of the sets of sublabels. They hold a video by its class and sublabel, or by its class without
    sublabels."""
    if not any(videos.sublabel_sets):
        return None
    labels = [classes[index] for index in videos.label_B.tolist()]
    rows = zip(labels, videos.sublabels, videos.sublabel_sets, strict=True)
    held = [label in found or f"{label}/{sublabel}" in found for label, sublabel, found in rows]
    sizes = [len(found) for found in videos.sublabel_sets]
    return set_figures.measured(np.array(held), np.array(sizes), videos.groups)


def _leaf(name: str, sublabel: str, parents: set[str]) -> Leaf:
    """The leaf of a video of the class `name`; classes that are not in `parents` have no sublabels."""
    return (name, sublabel if name in parents else "")


def _per_sublabel(
    leaves: list[Leaf], true_B: npt.NDArray[np.int64], top_B: npt.NDArray[np.int64], intervals: SourceIntervals
) -> tuple[list[SublabelMetrics], list[list[int]]]:
    """Scores of each sublabel, and the confusion matrix of all leaves."""
    measured = evaluate(true_B.tolist(), top_B.tolist(), [str(index) for index in range(len(leaves))])
    is_true_BN, is_top_BN = (indices_B[:, None] == np.arange(len(leaves)) for indices_B in (true_B, top_B))
    f1 = F1Intervals.of(intervals, is_true_BN, is_top_BN)
    found = []
    for index, (name, sublabel) in enumerate(leaves):
        if not sublabel:
            continue
        scores = measured.per_class[str(index)]
        found.append(
            SublabelMetrics(
                label=name,
                sublabel=sublabel,
                num_videos=scores.support,
                accuracy=scores.recall if scores.support else None,
                accuracy_interval_95=intervals.share(is_top_BN[:, index], is_true_BN[:, index]),
                f1=scores.f1,
                f1_interval_95=f1.per_class[index],
            )
        )
    return found, measured.confusion


def _levels(videos: ScoredVideos, is_known_B: npt.NDArray[np.bool_]) -> list[LevelFigures]:
    """The videos that are answered at each level. An answer with a sublabel is wrong if class or sublabel is; it is
    judged where `is_known_B`."""
    intervals = SourceIntervals(videos.groups.tolist())
    is_class_right_B = videos.is_correct_B
    is_sublabel_right_B = is_class_right_B & (videos.top_sublabels == videos.sublabels)
    every_B = np.ones(len(videos), bool)
    rows = []
    for level, is_right_B, is_judged_B in (
        (AnswerLevel.SUBLABEL, is_sublabel_right_B, is_known_B),
        (AnswerLevel.CLASS, is_class_right_B, every_B),
        (AnswerLevel.ABSTAINED, every_B, ~every_B),
    ):
        inside_B = videos.levels == level
        judged_B = inside_B & is_judged_B
        rows.append(
            LevelFigures(
                level=str(level),
                num_videos=int(inside_B.sum()),
                share=float(inside_B.mean()),
                num_wrong=int((judged_B & ~is_right_B).sum()),
                num_judged=int(judged_B.sum()),
                error_interval_95=intervals.share(~is_right_B, judged_B),
            )
        )
    return rows


def _by_risk(sublabels: RiskCoverage, labels: RiskCoverage) -> list[AnswerableShares]:
    """For each of `RISKS` the largest shares of the videos on two curves of error against coverage."""

    def share(curve: RiskCoverage, most: float) -> float:
        return max((x for x, risk in zip(curve.coverage, curve.risk, strict=True) if risk <= most), default=0.0)

    return [AnswerableShares(risk=risk, sublabel=share(sublabels, risk), label=share(labels, risk)) for risk in RISKS]
