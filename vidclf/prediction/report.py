"""Predictions against a manifest's labels: metrics.json and a page to look at.

Shape suffixes: B videos, C classes.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import jinja2
import matplotlib.figure
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vidclf import ledger, schema, storage
from vidclf.archive.decode import decode_video
from vidclf.archive.manifest import read_manifest
from vidclf.archive.rejected import VideoRejected
from vidclf.archive.sampling import SamplingPlan
from vidclf.config import ConfigError, EvaluateConfig
from vidclf.features.store import FeatureSpec
from vidclf.learning import metrics
from vidclf.learning.metrics import Metrics
from vidclf.ledger import IDENTITY_FILE

METRICS_FILE = "metrics.json"
PAGE_FILE = "index.html"
UNSPLIT = "all"
THUMBNAIL_WIDTH = 320
MAX_QUARANTINE_ROWS = 50


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One classified video whose true label is known."""

    video_id: str
    video_uri: str
    split: str
    label: str
    predicted: str
    confidence: float
    attended: int
    """index of the sampled frame with the most pooling weight"""
    attended_s: float
    """its time, in seconds"""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What the report says. `headline` names the split whose figures stand for the ensemble: test
    where there is one, since training has seen train and chosen by val."""

    headline: str
    per_split: dict[str, Metrics]
    classes: list[str]
    num_unlabelled: int
    num_unmatched: int
    """predicted videos that the manifest does not hold"""
    summary: dict[str, Any]
    """`summary.json` of the predictions"""
    ensemble_id: str


def evaluate(config: EvaluateConfig) -> Evaluation | None:
    """Score the predictions, write the report and return what it says; None after a dry run.

    Raises ConfigError where the predictions are no finished classification, or the manifest shares
    no labelled video with them.
    """
    identity, summary = _finished(config.predictions)
    manifest = read_manifest(config.manifest)
    classes: list[str] = identity["classes"]
    scored, num_unlabelled, num_unmatched = _score(config.predictions, manifest)
    if not scored:
        raise ConfigError(f"--manifest {config.manifest}: holds no labelled video that is in {config.predictions}")
    foreign = sorted({video.label for video in scored} - set(classes))
    if foreign:
        raise ConfigError(f"--manifest {config.manifest}: labels {foreign} are not classes of the ensemble ({classes})")
    per_split = {
        split: _metrics([video for video in scored if video.split == split], classes)
        for split in (*schema.SPLITS, UNSPLIT)
        if any(video.split == split for video in scored)
    }
    evaluation = Evaluation(
        headline="test" if "test" in per_split else next(reversed(per_split)),
        per_split=per_split,
        classes=classes,
        num_unlabelled=num_unlabelled,
        num_unmatched=num_unmatched,
        summary=summary,
        ensemble_id=identity["ensemble_id"],
    )
    if config.dry_run:
        print(f"would score {len(scored)} videos into {config.output}")
        return None
    storage.publish_json(storage.join(config.output, METRICS_FILE), asdict(evaluation))
    page = _page(evaluation, scored, FeatureSpec(**identity["feature_spec"]).plan, config)
    storage.publish_bytes(storage.join(config.output, PAGE_FILE), page.encode())
    return evaluation


def table(evaluation: Evaluation, output: str) -> str:
    """The report in six lines for a terminal."""
    summary, headline = evaluation.summary, evaluation.per_split[evaluation.headline]
    low, high = headline.accuracy_interval_95
    reasons = ", ".join(f"{reason} {count}" for reason, count in summary["reasons"].items())
    what = "accuracy on held-out sources" if evaluation.headline == "test" else f"accuracy ({evaluation.headline})"
    rows = [
        ("videos", str(summary["num_input_videos"])),
        ("ok", str(summary["num_ok"])),
        ("quarantined", f"{summary['num_quarantined']}{f' ({reasons})' if reasons else ''}"),
        ("videos per second", f"{summary['videos_per_s']:.2f}"),
        (
            what,
            f"{headline.accuracy:.3f} ({headline.num_correct} of {headline.num_videos} videos, "
            f"95 % interval {low:.2f} to {high:.2f}; chance {1 / len(evaluation.classes):.2f})",
        ),
        ("report", storage.join(output, PAGE_FILE)),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _finished(predictions: str) -> tuple[dict[str, Any], dict[str, Any]]:
    identity_file = storage.join(predictions, IDENTITY_FILE)
    summary_file = storage.join(predictions, ledger.SUMMARY_FILE)
    identity = storage.read_json(identity_file) if storage.exists(identity_file) else {}
    if not identity.get("ensemble_id"):
        raise ConfigError(f"--predictions must be a directory that jobs/classify.py wrote, got {predictions!r}")
    if not storage.exists(summary_file):
        raise ConfigError(f"--predictions {predictions}: the job has not ended; run jobs/classify.py again")
    return identity, storage.read_json(summary_file)


def _score(predictions: str, manifest: pa.Table) -> tuple[list[Scored], int, int]:
    """The labelled videos among the predictions, and how many had no label or were not listed."""
    rows = manifest.select([schema.VIDEO_ID, "label", "split"]).to_pylist()
    truth = {row[schema.VIDEO_ID]: (row["label"], row["split"]) for row in rows}
    scored: list[Scored] = []
    num_unlabelled = num_unmatched = 0
    columns = [schema.VIDEO_ID, "video_uri", "top_label", "confidence", "attention", "pts_s"]
    for part in storage.iter_tables(ledger.part_files(predictions), columns):
        for row in part.to_pylist():
            if row[schema.VIDEO_ID] not in truth:
                num_unmatched += 1
                continue
            label, split = truth[row[schema.VIDEO_ID]]
            if label is None:
                num_unlabelled += 1
                continue
            attended = int(np.argmax(row["attention"]))
            scored.append(
                Scored(
                    video_id=row[schema.VIDEO_ID],
                    video_uri=row["video_uri"],
                    split=split or UNSPLIT,
                    label=label,
                    predicted=row["top_label"],
                    confidence=row["confidence"],
                    attended=attended,
                    attended_s=row["pts_s"][attended],
                )
            )
    scored.sort(key=lambda video: video.video_uri)
    return scored, num_unlabelled, num_unmatched


def _metrics(videos: list[Scored], classes: list[str]) -> Metrics:
    return metrics.evaluate(
        [classes.index(video.label) for video in videos],
        [classes.index(video.predicted) for video in videos],
        classes,
        np.array([video.confidence for video in videos]),
    )


def _page(evaluation: Evaluation, scored: list[Scored], plan: SamplingPlan, config: EvaluateConfig) -> str:
    wrong = [video for video in scored if video.label != video.predicted]
    # Held-out mistakes first: those say something about videos to come; then the surest ones.
    order = {split: rank for rank, split in enumerate(("test", UNSPLIT, "val", "train"))}
    wrong.sort(key=lambda video: (order[video.split], -video.confidence))
    headline = [video for video in scored if video.split == evaluation.headline]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vidclf.prediction", "templates"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page: str = environment.get_template("report.html.j2").render(
        evaluation=evaluation,
        headline=evaluation.per_split[evaluation.headline],
        heat=_heat(evaluation.per_split[evaluation.headline].confusion),
        reliability_svg=_reliability_svg(headline),
        num_wrong=len(wrong),
        mistakes=[(video, _thumbnail(video, plan)) for video in wrong[: config.max_examples]],
        quarantine=_quarantine(config.predictions),
        max_quarantine_rows=MAX_QUARANTINE_ROWS,
    )
    return page


def _heat(confusion: list[list[int]]) -> list[list[float]]:
    """Each row of the confusion matrix as shares of its class, for colouring."""
    return [[count / max(sum(row), 1) for count in row] for row in confusion]


def _reliability_svg(videos: list[Scored]) -> str:
    """Accuracy against confidence in ten bins, the number of videos in each beside it."""
    confidence_B = np.array([video.confidence for video in videos])
    correct_B = np.array([video.label == video.predicted for video in videos])
    edges = np.linspace(0, 1, 11)
    bins_B = np.clip(np.digitize(confidence_B, edges, right=True) - 1, 0, 9)
    figure = matplotlib.figure.Figure(figsize=(7.2, 2.8), layout="constrained")
    reliability, histogram = figure.subplots(1, 2)
    reliability.plot([0, 1], [0, 1], color="#9aa5b1", linestyle="--", linewidth=1)
    filled = [bins_B == index for index in range(10) if np.any(bins_B == index)]
    # Points, not bars: a bin in which every video is wrong must be seen as well.
    reliability.scatter(
        [float(confidence_B[inside].mean()) for inside in filled],
        [float(correct_B[inside].mean()) for inside in filled],
        s=[20 + 180 * float(inside.mean()) for inside in filled],
        color="#2f6fb2",
    )
    reliability.set(
        xlim=(0, 1), ylim=(-0.05, 1.05), xlabel="confidence", ylabel="accuracy", title="Reliability (one point a bin)"
    )
    histogram.hist(confidence_B, bins=list(edges), color="#2f6fb2", rwidth=0.9)
    histogram.set(xlim=(0, 1), xlabel="confidence", ylabel="videos", title="Confidence")
    histogram.yaxis.get_major_locator().set_params(integer=True)
    for axes in (reliability, histogram):
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _thumbnail(video: Scored, plan: SamplingPlan) -> str:
    """The most attended frame as a data URI; empty where the video cannot be read any more."""
    try:
        frame_HWC = decode_video(video.video_uri, plan, _shrink, video.video_id).frames_THWC[video.attended]
    except (VideoRejected, IndexError):
        return ""
    encoded = cv2.imencode(".jpg", cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}"


def _shrink(frame_HWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    height, width, _ = frame_HWC.shape
    size = (THUMBNAIL_WIDTH, max(1, round(height * THUMBNAIL_WIDTH / width)))
    shrunk: npt.NDArray[np.uint8] = cv2.resize(frame_HWC, size, interpolation=cv2.INTER_AREA)
    return shrunk


def _quarantine(predictions: str) -> list[dict[str, Any]]:
    rows: Iterable[pa.Table] = storage.iter_tables(ledger.quarantine_files(predictions), schema.QUARANTINE.names)
    listed = [row for part in rows for row in part.to_pylist()]
    return sorted(listed, key=lambda row: (row["reason"], row["video_uri"]))
