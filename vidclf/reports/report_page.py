"""The HTML page of an evaluation report, with its charts.

The page is a single file that contains its styles, script, drawings and video frames. It loads nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from vidclf.classification.passes import PASS_OF
from vidclf.metrics.curves import ReliabilityBin, RiskCoverage, Roc
from vidclf.pages import svg
from vidclf.pages.render import download, percent, render
from vidclf.pages.svg import Bar, Line, Mark
from vidclf.reports.attended_frames import FrameStrip
from vidclf.reports.error_lists import ListedVideo, to_csv
from vidclf.reports.figures import Detail, Evaluation
from vidclf.reports.stage_costs import PassCosts
from vidclf.reports.sublabel_figures import SublabelFigures

MAX_QUARANTINE_ROWS = 200
"""Largest number of rejected videos on the page."""

MAX_LISTED = 500
"""Largest number of rows of a list on the page; the CSV file has all rows."""

LARGE_MATRIX = 12
"""Largest number of classes of a confusion matrix with wide cells."""

SPLIT_MEANINGS = {
    "train": "training saw these or related videos, or the manifest keeps them for it: no evidence about new videos",
    "val": "selection and calibration used these or related videos, or the manifest keeps them for it: optimistic",
    "test": "sources that neither training nor validation used, by the ensemble's own record",
}
"""For each split, how far its figures tell about new videos, if the ensemble's record of its splits is known."""


def report(
    result: Evaluation,
    wrong: Sequence[ListedVideo],
    undecided: Sequence[ListedVideo],
    strips: dict[str, FrameStrip],
    quarantine: Sequence[dict[str, Any]],
) -> str:
    """The page as HTML text.

    `wrong` are misclassified and `undecided` abstained videos. `strips` holds the most attended frames by video id, for
    those of them that are shown with frames. `quarantine` lists rejected videos.
    """
    headline, doubt = result.per_split[result.headline], result.split_facts.doubt
    return render(
        "report.html.j2",
        result=result,
        headline=headline,
        detail=result.detail,
        shares=_shares(headline.confusion),
        is_large=len(result.classes) > LARGE_MATRIX,
        roc_chart=roc_chart(result.detail.roc),
        reliability_chart=reliability_chart(result.detail.reliability),
        confidence_chart=confidence_chart(result.detail.reliability),
        risk_chart=risk_chart(result.detail.risk_coverage),
        sublabel_blocks=class_blocks(result.detail.sublabels),
        sublabel_chart=sublabel_chart(result.detail),
        training_charts=training_charts(result.training),
        cost_chart=cost_chart(result.progress) if result.progress is not None else None,
        tones=[svg.tone(index) for index in range(max(len(result.classes), len(result.training)))],
        wrong=wrong,
        undecided=undecided,
        strips=strips,
        attention=attention_chart,
        max_listed=MAX_LISTED,
        wrong_csv=download(to_csv(wrong)),
        undecided_csv=download(to_csv(undecided)),
        quarantine=quarantine,
        max_quarantine_rows=MAX_QUARANTINE_ROWS,
        split_meanings={**SPLIT_MEANINGS, **({"test": f"not known to be held out: {doubt}"} if doubt else {})},
    )


def roc_chart(rocs: dict[str, Roc]) -> Markup:
    """Chart of the ROC curve of each class against all others.

    Many classes share one colour, since nobody can tell 46 colours apart.
    """
    has_tones = len(rocs) <= svg.NUM_TONES
    lines = [Line(name="chance", x=(0, 1), y=(0, 1), tone="muted", is_dashed=True)]
    lines += [
        Line(
            name=f"{name}: AUC {curve.auc:.3f}",
            x=curve.false_positive_rate,
            y=curve.true_positive_rate,
            tone=svg.tone(index) if has_tones else "many",
        )
        for index, (name, curve) in enumerate(rocs.items())
    ]
    x, y = svg.share_axis("false positive rate"), svg.share_axis("true positive rate")
    return svg.plot("ROC, one class against all others", x, y, lines)


def reliability_chart(bins: Sequence[ReliabilityBin]) -> Markup:
    """Chart of accuracy per confidence bin, as points, so that a bin with an accuracy of 0 is visible too."""
    most = max(entry.num_videos for entry in bins)
    marks = [
        Mark(
            name=f"{_videos(entry.num_videos)}: mean confidence {percent(entry.mean_confidence)}, "
            f"accuracy {percent(entry.accuracy)}",
            x=entry.mean_confidence,
            y=entry.accuracy,
            interval=entry.accuracy_interval_95,
            size=3.5 + 4.5 * (entry.num_videos / most) ** 0.5,
        )
        for entry in bins
    ]
    ideal = Line(name="calibrated", x=(0, 1), y=(0, 1), tone="muted", is_dashed=True)
    x, y = svg.share_axis("confidence"), svg.share_axis("accuracy")
    return svg.plot("Accuracy against confidence", x, y, [ideal], marks)


def confidence_chart(bins: Sequence[ReliabilityBin]) -> Markup:
    """Chart of the number of videos per confidence bin, as bars."""
    bars = [
        Bar(
            name=f"{_videos(entry.num_videos)} with confidence {percent(entry.lower, 0)} to {percent(entry.upper, 0)}",
            low=entry.lower,
            high=entry.upper,
            value=entry.num_videos,
        )
        for entry in bins
    ]
    y = svg.count_axis("videos", max(entry.num_videos for entry in bins))
    return svg.plot("Number of videos by confidence", svg.share_axis("confidence"), y, bars=bars, height=170)


def risk_chart(by_score: dict[str, RiskCoverage]) -> Markup:
    """Chart of the error among accepted videos against the share of accepted videos, one curve per score.

    The keys of `by_score` are `trust_score` and `confidence`: the scores by which videos are accepted.
    """
    highest = max(max(curve.risk) for curve in by_score.values())
    x, y = svg.share_axis("coverage"), svg.share_axis("error among accepted", 0, _error_limit(highest))
    lines = [
        Line(
            name=f"by {name.replace('_', ' ')}: area {curve.area:.4f}",
            # The curve starts at the videos with the highest score: no threshold accepts fewer than these.
            x=curve.coverage,
            y=curve.risk,
            tone=svg.tone(index),
            is_dashed=index > 0,
        )
        for index, (name, curve) in reversed(list(enumerate(by_score.items())))
    ]
    ends = [Mark(name="all accepted", x=curve.coverage[-1], y=curve.risk[-1]) for curve in by_score.values()]
    return svg.plot("Error among accepted videos against coverage", x, y, lines, ends[:1])


def class_blocks(figures: SublabelFigures | None) -> list[tuple[str, int]]:
    """Each class of the rows of the confusion matrix of sublabels, with its number of rows."""
    leaves = figures.leaves if figures is not None else []
    return [(name, len(list(block))) for name, block in itertools.groupby(leaves, key=lambda leaf: leaf[0])]


def sublabel_chart(detail: Detail) -> Markup | None:
    """Chart of the error among answers against the share of answered videos, with a curve for sublabels and one for
    classes; None without sublabels."""
    if detail.sublabels is None:
        return None
    by_level = {"sublabels": detail.sublabels.curve, "classes": detail.risk_coverage["trust_score"]}
    highest = max(max(curve.risk) for curve in by_level.values())
    x, y = svg.share_axis("answered"), svg.share_axis("error among answers", 0, _error_limit(highest))
    lines = [
        Line(name=name, x=curve.coverage, y=curve.risk, tone=svg.tone(index))
        for index, (name, curve) in enumerate(by_level.items())
    ]
    return svg.plot("Error among answers against the share answered", x, y, lines)


def cost_chart(progress: PassCosts) -> Markup:
    """Chart of accuracy on validation against cost, for a progressive classification.

    One point is the job as it ran. The others are its rounds (passes) alone, as if each had decided every video.
    """
    stage_of_pass = {PASS_OF[stage.name]: stage for stage in progress.stages}
    marks = [
        Mark(
            name=f"{stage.name} look at every video: {stage.pass_s_per_video:.2f} s per video, accuracy "
            f"{percent(stage.validation_accuracy)}",
            x=stage.pass_s_per_video,
            y=stage.validation_accuracy,
            tone="muted",
            label=f"{stage.name} alone",
        )
        for stage in stage_of_pass.values()
    ]
    job = f"this job: {progress.s_per_video:.2f} s per video, accuracy {percent(progress.validation_accuracy)}"
    marks.append(
        Mark(
            name=job,
            x=progress.s_per_video,
            y=progress.validation_accuracy,
            size=6,
            label="this job",
            is_label_below=True,
        )
    )
    x = svg.value_axis("worker seconds per video (decode and CNN)", max(mark.x for mark in marks))
    return svg.plot("Accuracy on validation against cost", x, svg.share_axis("accuracy on validation"), (), marks)


def training_charts(histories: Sequence[Sequence[dict[str, Any]]]) -> list[Markup]:
    """Charts of loss and of macro F1 by epoch, one colour per ensemble member; none without recorded epochs."""
    if not any(histories):
        return []
    x = svg.count_axis("epoch", max(len(history) for history in histories))

    def lines(key: str, is_dashed: bool = False) -> list[Line]:
        return [
            Line(
                name=f"member {index}, {key.replace('_', ' ')}",
                x=[epoch["number"] for epoch in history],
                y=[epoch[key] for epoch in history],
                tone=svg.tone(index),
                is_dashed=is_dashed,
            )
            for index, history in enumerate(histories)
            if history
        ]

    losses = [*lines("train_loss", is_dashed=True), *lines("val_loss")]
    loss_axis = svg.value_axis("loss", max(max(line.y) for line in losses))
    return [
        svg.plot("Training and validation loss by epoch", x, loss_axis, losses),
        svg.plot("Macro F1 on validation by epoch", x, svg.share_axis("macro F1"), lines("val_macro_f1")),
    ]


def attention_chart(weights: Sequence[float], shown: Sequence[int]) -> Markup:
    """Bar chart of the attention weights of all sampled frames of a video; frames with indices `shown` are coloured."""
    width, height = 240, 26
    step, most = width / len(weights), max(weights)
    bars = [
        Markup('<rect class="{}" x="{:.2f}" y="{:.1f}" width="{:.2f}" height="{:.1f}"/>').format(
            "seen" if index in shown else "unseen",
            index * step,
            height - (tall := max(height * weight / most, 0.8)),
            max(step - 0.6, 0.4),
            tall,
        )
        for index, weight in enumerate(weights)
    ]
    head = Markup(
        '<svg class="attention" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" '
        'aria-label="attention over the video">'
    ).format(width, height)
    return head + Markup("").join(bars) + Markup("</svg>")


def _error_limit(risk: float) -> float:
    """Upper end of a chart's axis of error rates: the smallest round number at or above `risk`."""
    return next(limit for limit in (0.02, 0.04, 0.1, 0.2, 0.4, 0.6, 1.0) if risk <= limit)


def _videos(count: int) -> str:
    """Number of videos as text: `1 video`, `2 videos`."""
    return f"{count} video{'s' if count != 1 else ''}"


def _shares(confusion: Sequence[Sequence[int]]) -> list[list[float]]:
    """Confusion matrix whose rows are shares of the videos of their true class instead of counts."""
    return [[count / max(sum(row), 1) for count in row] for row in confusion]
