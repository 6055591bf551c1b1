"""The features that each member (model of an ensemble) is trained on, and a digest of what decides its weights."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields

from vidclf.config import FitConfig, TrainConfig
from vidclf.ensemble.reference_checkpoints import ReferenceEnsemble
from vidclf.errors import ConfigError
from vidclf.features.feature_set import FeatureSet
from vidclf.json_text import json_text
from vidclf.training.dataset import TrainingData


@dataclass(frozen=True, kw_only=True)
class MemberPlan:
    """The features and the settings that one member (model of the ensemble) is trained with."""

    space: int
    """position of its features in `--features`, from 0"""
    backbone: str
    recipe: str
    """digest of settings and data, which together with the member's index decide its weights"""


def plan_members(
    config: TrainConfig,
    features: Sequence[FeatureSet],
    data: Sequence[TrainingData],
    imported: ReferenceEnsemble | None,
) -> list[MemberPlan]:
    """The features and the digest of the settings for each member (model of the ensemble).

    Raises ConfigError unless `--member-backbones` names exactly the backbones of `--features`.
    """
    names = [feature_set.spec.backbone for feature_set in features]
    backbones = config.member_backbones or tuple(names[index % len(names)] for index in range(config.members))
    if set(backbones) != set(names):
        raise ConfigError(
            f"--member-backbones must name those of --features ({', '.join(names)}), each at least once, "
            f"got {','.join(backbones)}"
        )
    recipes = []
    for feature_set, backbone_data in zip(features, data, strict=True):
        recipe = {field.name: getattr(config, field.name) for field in fields(FitConfig)}
        recipe.update(classes=backbone_data.classes, data=data_digest([feature_set]))
        # Left out without sublabels, so that members of earlier versions keep their digest.
        if backbone_data.taxonomy:
            splits = (backbone_data.train, backbone_data.val)
            recipe["sublabels"] = [backbone_data.taxonomy, [split.sublabels for split in splits]]
        if imported is not None:
            recipe["imported"] = imported.digest
        recipes.append(hashlib.sha256(json_text(recipe, sort_keys=True).encode()).hexdigest())
    spaces = [names.index(name) for name in backbones]
    return [MemberPlan(space=space, backbone=names[space], recipe=recipes[space]) for space in spaces]


def data_digest(features: Sequence[FeatureSet]) -> str:
    """SHA-256 of the training data: of the key of each feature set, and of each video's id, label and split."""
    first = features[0]
    rows = [
        *(feature_set.spec.key for feature_set in features),
        *zip(first.video_ids, first.labels, first.splits, strict=True),
    ]
    return hashlib.sha256(json_text(rows).encode()).hexdigest()
