"""The model card of an ensemble: `README.md` in its directory, in the format of the Hugging Face Hub.

https://huggingface.co/docs/hub/model-cards describes the format: Markdown after a head in YAML. Every number comes from
the records of the ensemble. A number that they lack is stated as missing. The card is no part of `ensemble_id`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import yaml

from vidclf import storage
from vidclf.ensemble import card_data, card_reliability, card_weights
from vidclf.ensemble.card_text import NOT_RECORDED
from vidclf.ensemble.info import EnsembleInfo
from vidclf.runs import signed_text
from vidclf.uncertainty.early_exit import ValidationScores

CARD_FILE = "README.md"
"""Name of the card in an ensemble's directory."""


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
    counts = card_data.counts(videos)
    sections = {
        "Classes": card_data.classes(info, counts),
        "Data": card_data.data(info, videos),
        "Accuracy": card_reliability.accuracy(info, scores),
        "Calibration": card_reliability.calibration(info),
        "Abstention": card_reliability.abstention(info, scores),
        "Backbone": card_weights.backbones(info.backbones),
        "Weights": card_weights.weights(info),
        "Licence": card_weights.licence(info.backbones),
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
