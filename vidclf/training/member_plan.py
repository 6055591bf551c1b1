"""Which member is trained on which features, with which settings and seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields

from vidclf.config import FitConfig, TrainConfig
from vidclf.ensemble.reference_checkpoints import ReferenceEnsemble
from vidclf.errors import ConfigError
from vidclf.features.feature_set import FeatureSet
from vidclf.training.dataset import TrainingData


@dataclass(frozen=True, kw_only=True)
class MemberPlan:
    """What a member is trained on."""

    space: int
    """index of its features"""
    backbone: str
    recipe: str
    """digest of everything but its index that decides its weights"""


def plan_members(
    config: TrainConfig,
    features: Sequence[FeatureSet],
    data: Sequence[TrainingData],
    imported: ReferenceEnsemble | None,
) -> list[MemberPlan]:
    """Every member's features and recipe; ConfigError where `--member-backbones` names others, or not all."""
    names = [own.spec.backbone for own in features]
    given = config.member_backbones or tuple(names[index % len(names)] for index in range(config.members))
    if set(given) != set(names):
        raise ConfigError(
            f"--member-backbones must name those of --features ({', '.join(names)}), each at least once, "
            f"got {','.join(given)}"
        )
    recipes = []
    for own, of_own in zip(features, data, strict=True):
        recipe = {field.name: getattr(config, field.name) for field in fields(FitConfig)}
        recipe.update(classes=of_own.classes, data=data_digest([own]))
        if imported is not None:
            recipe["imported"] = imported.digest
        recipes.append(hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest())
    spaces = [names.index(name) for name in given]
    return [MemberPlan(space=space, backbone=names[space], recipe=recipes[space]) for space in spaces]


def data_digest(features: Sequence[FeatureSet]) -> str:
    """SHA-256 of what training sees: how the features were made, and each video's id, label and split."""
    first = features[0]
    rows = [*(own.spec.key for own in features), *zip(first.video_ids, first.labels, first.splits, strict=True)]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
