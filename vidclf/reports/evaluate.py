"""The `evaluate` job: compares predictions with true labels and writes metrics.json, the page and lists of errors."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import pyarrow as pa

from vidclf import preflight, schema, storage
from vidclf.archive.manifest import read_manifest
from vidclf.classification import stored_features
from vidclf.classification.passes import plans_of
from vidclf.config import EvaluateConfig
from vidclf.credentials import common_base, relative_text
from vidclf.ensemble.held_out import Decision, decide
from vidclf.ensemble.info import EnsembleInfo, read_info
from vidclf.ensemble.known_sources import caveat_of
from vidclf.ensemble.split_record import SplitRecord, read_record
from vidclf.ensemble.views import VIEWS
from vidclf.errors import ConfigError
from vidclf.features.spec import specs_of
from vidclf.metrics.intervals import TOO_FEW_SOURCES
from vidclf.number_words import counted
from vidclf.pages.render import risk_words
from vidclf.reports import ensemble_facts, error_lists, figures, left_out, provenance, report_page
from vidclf.reports.attended_frames import strips
from vidclf.reports.figures import Evaluation
from vidclf.reports.labelled_predictions import (
    UNSPLIT,
    ScoredVideos,
    check_labels,
    columns_of_report,
    score,
    with_digests,
)
from vidclf.reports.stage_costs import PassCosts, progress
from vidclf.reports.stated_locations import stated_first_ensemble, stated_means
from vidclf.runs import lease, output_allowlist, outputs, state
from vidclf.runs.layout import Run
from vidclf.schema import Look
from vidclf.uncertainty.risk_threshold import risk_statement
from vidclf.video.sampling import SamplingPlan

METRICS_FILE = "metrics.json"
"""File name of the figures; the file is written last and marks the report as complete."""

PAGE_FILE = "index.html"
"""File name of the HTML page."""

MISCLASSIFIED_FILE = "misclassified.csv"
"""File name of the list of misclassified videos."""

ABSTAINED_FILE = "abstained.csv"
"""File name of the list of videos that the ensemble gave no class."""

PREDICTIONS_FILE = "predictions.parquet"
"""File name of the predictions that the job made from stored features."""


@dataclass(frozen=True, kw_only=True)
class _Source:
    """Predictions to evaluate and the facts about them, from a classification job or made from stored features."""

    files: list[str]
    """Parquet files of `schema.stored_predictions`"""
    manifest: pa.Table
    """table with the true labels of the videos, and their splits by the record of the ensemble"""
    decision: Decision
    """how these splits were decided"""
    concerned: Collection[str] | None
    """ids of the videos in the split to evaluate, by the record of the ensemble or by the features; None for those that
    are scored"""
    classes: list[str]
    ensemble_id: str
    ensemble: str | None
    """directory of the ensemble; None if it is unknown"""
    note: str
    """why the directory of the ensemble is unknown; empty if it is known"""
    info: EnsembleInfo | None
    """content of the ensemble's `ensemble.json`; None if its directory is unknown"""
    summary: dict[str, Any] | None
    """content of `summary.json` of the job that read the videos; None if there is none"""
    plans: dict[str, SamplingPlan]
    """sampling plan by stage (set of frames that decided a video); empty if unknown"""
    quarantined_in: str | None
    """output directory whose rejected videos the report lists; None for no list"""
    rejected: Collection[str]
    """ids of the videos that have a reject reason instead of a prediction"""
    facts: dict[str, str]
    """rows of the report's table about how the predictions were made"""
    risk: dict[str, Any] | None
    """`risk_threshold.risk_statement`: how far validation supports the trust threshold; None for predictions by an
    earlier version"""
    progress: PassCosts | None = None
    """costs of the stages of a progressive classification; None for one that is not progressive"""


def evaluate(config: EvaluateConfig) -> Evaluation | None:
    """Compare predictions with the true labels, write the report and return its figures; None after a dry run.

    Raises ConfigError if the predictions are not a finished classification, if the manifest shares no labelled video
    with them, or if the ensemble was fitted on other features than those to classify.
    """
    preflight.check_outputs(config)
    source = _from_predictions(config) if config.predictions is not None else _from_features(config)
    if source is None:
        return None
    tables = storage.iter_tables_of(source.files, columns_of_report(len(source.classes)))
    scoring = score(tables, source.manifest, source.classes, source.rejected, source.ensemble_id)
    if config.strict:
        left_out.check_none(scoring.left_out, f"--manifest {config.manifest}")
    uris = source.manifest["video_uri"].to_pylist()
    base = storage.canonical(config.base_uri) if config.base_uri is not None else common_base(uris)
    videos = scoring.videos.relative_to(base)
    in_split = {split: videos.splits == split for split in (*schema.SPLITS, UNSPLIT)}
    per_split = {
        split: figures.split_metrics(videos.take(inside), source.classes)
        for split, inside in in_split.items()
        if inside.any()
    }
    headline = "test" if "test" in per_split else next(reversed(per_split))
    if config.dry_run:
        print(f"would score {counted(len(videos), 'video')} into {config.output}")
        return None
    member_names = ensemble_facts.member_names(source.info, videos.member_top_BM.shape[1])
    view_names = list(VIEWS)[: videos.view_top_BV.shape[1]]
    has_views = len(view_names) > 1
    concerned = videos.video_ids.tolist() if source.concerned is None else source.concerned
    result = Evaluation(
        headline=headline,
        split_facts=source.decision.facts(concerned),
        per_split=per_split,
        detail=figures.detail(
            videos.take(in_split[headline]), per_split[headline], source.classes, member_names, view_names
        ),
        classes=source.classes,
        num_unlabelled=scoring.num_left_out(left_out.NO_LABEL),
        num_unmatched=scoring.num_left_out(left_out.NOT_IN_MANIFEST),
        left_out=[entry.words(base) for entry in scoring.left_out],
        summary=source.summary,
        ensemble_id=source.ensemble_id,
        calibration=ensemble_facts.calibration(source.info, has_views),
        view_weights=ensemble_facts.view_weights(source.info) if has_views else {},
        training=ensemble_facts.histories(source.ensemble, source.info) if source.ensemble and source.info else [],
        training_note=source.note,
        provenance=_provenance(config, source.facts),
        risk=source.risk,
        drift=(source.summary or {}).get("drift"),
        progress=source.progress,
        cross_validation=ensemble_facts.cross_validation(source.info),
        linear=ensemble_facts.linear_weight(source.info),
    )
    _write(config, source, result, videos, base)
    return result


def _provenance(config: EvaluateConfig, facts: dict[str, str]) -> dict[str, Any]:
    """How the report was made, by name: command, date, versions and the `facts` of what it was made from."""
    return {
        "command": provenance.command("evaluate", config),
        "paths": "absolute paths are relative to this report, paths of videos to their common directory",
        "date": provenance.now(),
        **facts,
        "versions": provenance.versions(),
    }


def table(evaluation: Evaluation, output: str) -> str:
    """Text of a few lines for a terminal: the main figures of an evaluation and where its page is."""
    summary, headline, detail = evaluation.summary, evaluation.per_split[evaluation.headline], evaluation.detail
    interval = TOO_FEW_SOURCES
    if headline.accuracy_interval_95 is not None:
        interval = "95 % interval {:.2f} to {:.2f}".format(*headline.accuracy_interval_95)
    facts = evaluation.split_facts
    accuracy_name = "accuracy on held-out sources" if evaluation.is_held_out else f"accuracy ({evaluation.headline})"
    rows = []
    if summary is not None:
        reasons = ", ".join(f"{reason} {count}" for reason, count in summary["reasons"].items())
        rows += [
            ("videos", str(summary["num_input_videos"])),
            ("ok", str(summary["num_ok"])),
            ("quarantined", f"{summary['num_quarantined']}{f' ({reasons})' if reasons else ''}"),
            ("videos per second", f"{summary['videos_per_s']:.2f}"),
        ]
        if summary.get("num_with_time_jumps"):
            rows.append(("clock jumps closed", counted(summary["num_with_time_jumps"], "video")))
    rows.append(
        (
            accuracy_name,
            f"{headline.accuracy:.3f} ({headline.num_correct} of {counted(headline.num_videos, 'video')}, "
            f"{interval}; chance {1 / len(evaluation.classes):.2f})",
        )
    )
    rows += [("not scored", words) for words in evaluation.left_out]
    rows += [("splits", words) for words in (facts.moved_words, facts.unsearched_words) if words]
    if evaluation.headline == "test" and facts.doubt:
        rows.append(("held out", f"not known: {facts.doubt}"))
    rows.append(("mean of the sources", f"{detail.source_accuracy:.3f} ({counted(detail.num_sources, 'source')})"))
    if evaluation.cross_validation is not None:
        rows.append(("cross-validation", evaluation.cross_validation.text))
    if evaluation.linear is not None:
        rows.append(("linear member", evaluation.linear_words))
    if detail.num_accepted < headline.num_videos:
        share = f" {detail.num_accepted_correct} of them right" if detail.num_accepted else ""
        rows.append(
            ("accepted", f"{detail.num_accepted} of {counted(headline.num_videos, 'video')},{share}".rstrip(","))
        )
    if detail.sets is not None:
        rows.append(("prediction sets", detail.sets.words()))
    if detail.sublabels is not None:
        rows.append(("sublabels", detail.sublabels.words))
        if detail.sublabels.sets is not None:
            rows.append(("sublabel sets", detail.sublabels.sets.words("sublabel", "sublabels")))
    if evaluation.risk is not None:
        rows.append(("risk basis", risk_words(evaluation.risk)))
    if summary is not None and "calibration_note" in summary:
        rows.append(("calibration", summary["calibration_note"]))
    if evaluation.drift is not None:
        rows.append(("drift", evaluation.drift["sentence"].removeprefix("drift: ")))
    rows.append(("report", storage.join(output, PAGE_FILE)))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _write(config: EvaluateConfig, source: _Source, result: Evaluation, videos: ScoredVideos, base: str) -> None:
    """Write the files of a report: the page, the lists of errors and, last, metrics.json."""
    wrong, undecided = error_lists.misclassified(videos, source.classes), error_lists.abstained(videos, source.classes)
    # Videos in both lists show their frames once, with the misclassified ones.
    only_undecided = [video for video in undecided if video.label == video.top_label]
    shown = [*wrong[: config.max_examples], *only_undecided[: config.max_examples]]
    strip_of = strips(source.files, {video.video_id for video in shown}, source.plans, source.manifest)
    html = report_page.report(
        result,
        wrong=wrong,
        undecided=undecided,
        strips={
            video_id: replace(strip, reason=relative_text(strip.reason, base) if strip.reason else None)
            for video_id, strip in strip_of.items()
        },
        quarantine=error_lists.rejected(source.quarantined_in, base),
    )
    lease.guard(config.output).check()
    outputs.begin(output_allowlist.REPORT, config.output)
    for name, content in (
        (MISCLASSIFIED_FILE, error_lists.to_csv(wrong)),
        (ABSTAINED_FILE, error_lists.to_csv(undecided)),
        (PAGE_FILE, html.encode()),
    ):
        storage.publish_bytes(storage.join(config.output, name), content)
    # metrics.json is written last: it marks the report as complete.
    storage.publish_json(storage.join(config.output, METRICS_FILE), asdict(result))


def _from_predictions(config: EvaluateConfig) -> _Source:
    """Predictions and facts from the finished classification at `--predictions`."""
    assert config.predictions is not None  # EvaluateConfig checks this and the manifest.
    assert config.manifest is not None
    identity, summary = _finished(config.predictions)
    state.check_unique_rows(config.predictions, "--predictions")
    manifest = read_manifest(config.manifest)
    specs = specs_of(config.predictions, identity)
    directory, note = ensemble_facts.find_ensemble(config.predictions, config.ensemble, identity["ensemble_id"])
    info = read_info(directory) if directory is not None else None
    record = read_record(directory) if directory is not None else SplitRecord.unknown(note)
    files = Run(config.predictions).shards()
    means_of = stated_means(config.predictions, record.feature_key)
    decision = decide(with_digests(manifest, files), record, means_of)
    settings = identity.get("settings", {})
    shown = partial(provenance.shown, output=config.output)
    return _Source(
        files=files,
        manifest=decision.corrected(manifest),
        decision=decision,
        concerned=None,
        classes=identity["classes"],
        ensemble_id=identity["ensemble_id"],
        ensemble=directory,
        note=note,
        info=info,
        summary=summary,
        plans=plans_of(config.predictions, specs[0].plan),
        quarantined_in=config.predictions,
        rejected=state.rejected_ids(config.predictions),
        facts={
            "ensemble": f"{identity['ensemble_id']}{f' in {shown(directory)}' if directory else ''}",
            "predictions": shown(config.predictions),
            "settings": provenance.settings_text(settings),
            "manifest": f"{shown(config.manifest)}, {counted(manifest.num_rows, 'video')}",
            **ensemble_facts.feature_facts(specs),
        },
        risk=summary.get("risk"),
        progress=progress(summary, settings, directory, info, stated_first_ensemble(config.predictions)),
    )


def _from_features(config: EvaluateConfig) -> _Source | None:
    """Classify the features at `--features` into predictions.parquet, and return the predictions with facts about them.

    Returns None after a dry run.
    """
    assert config.ensemble is not None  # checked by EvaluateConfig
    info = read_info(config.ensemble)
    features = stored_features.open_features(config.features, config.split, info, read_record(config.ensemble))
    check_labels(features.manifest, info.classes, f"--features {config.features[0]}", strict=config.strict)
    if config.dry_run:
        print(f"would classify and score {counted(features.manifest.num_rows, 'video')} into {config.output}")
        return None
    risk_threshold = stored_features.threshold(config)
    head = stored_features.make_head(config, risk_threshold)  # refuses a wrong --gpus, so before the first write
    outputs.begin(output_allowlist.REPORT, config.output)
    file = storage.join(config.output, PREDICTIONS_FILE)
    predictions = stored_features.predictions(features, head, len(info.classes))
    lease.guard(config.output).check()
    storage.publish_table(file, predictions)
    shown = partial(provenance.shown, output=config.output)
    num_videos = counted(features.manifest.num_rows, "video")
    spec_facts = (
        ensemble_facts.feature_facts(features.specs)
        if features.specs
        else {
            "feature key": "unknown: HDF5 files record neither how features were made nor which videos share a source"
        }
    )
    return _Source(
        files=[file],
        manifest=features.manifest,
        decision=features.decision,
        concerned=features.decision.in_split(config.split) if features.specs else None,
        classes=info.classes,
        ensemble_id=info.ensemble_id,
        ensemble=config.ensemble,
        note="",
        info=info,
        summary=features.summary,
        plans={Look.FULL: features.specs[0].plan} if features.specs else {},
        quarantined_in=config.features[0] if features.summary is not None else None,
        rejected=(),
        facts={
            "ensemble": f"{info.ensemble_id} in {shown(config.ensemble)}",
            "features": f"{', '.join(map(shown, config.features))}, split {config.split}, {num_videos}",
            **spec_facts,
        },
        risk=risk_statement(risk_threshold, config.abstain_risk, caveat_of(info.training)),
    )


def _finished(predictions: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Identity (settings that must not change) and summary of a finished classification, both as dicts.

    Raises ConfigError if `predictions` is not the directory of a classification, or if the job has not ended.
    """
    run = Run(predictions)
    identity = run.identity() if storage.exists(run.identity_file) else {}
    if not identity.get("ensemble_id"):
        raise ConfigError(f"--predictions must be a directory that jobs/classify.py wrote, got {predictions!r}")
    if not run.is_finished():
        raise ConfigError(f"--predictions {predictions}: the job has not ended; run jobs/classify.py again")
    return identity, run.summary()
