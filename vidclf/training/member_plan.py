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
from vidclf.training.member_folds import MemberFolds


@dataclass(frozen=True, kw_only=True)
class MemberPlan:
    """The features and the settings that one member (model of the ensemble) is trained with."""

    space: int
    """position of its features in `--features`, from 0"""
    backbone: str
    data: int
    """position of its training data in the list of the job"""
    recipe: str
    """digest of settings and data, which together with the member's index decide its weights"""


def plan_members(
    config: TrainConfig,
    features: Sequence[FeatureSet],
    data: Sequence[TrainingData],
    imported: ReferenceEnsemble | None,
    member_folds: MemberFolds | None = None,
) -> list[MemberPlan]:
    """The features and the digest of the settings for each member (model of the ensemble).

    `data` has one entry per backbone, or with `member_folds` one per backbone and fold.

    Raises ConfigError unless `--member-backbones` names exactly the backbones of `--features`.
    """
    names = [feature_set.spec.backbone for feature_set in features]
    backbones = config.member_backbones or tuple(names[index % len(names)] for index in range(config.members))
    if set(backbones) != set(names):
        raise ConfigError(
            f"--member-backbones must name those of --features ({', '.join(names)}), each at least once, "
            f"got {','.join(backbones)}"
        )
    num_folds = member_folds.num_folds if member_folds is not None else 1
    recipes = []
    for position, member_data in enumerate(data):
        recipe = {field.name: getattr(config, field.name) for field in fields(FitConfig)}
        if config.model == "bilstm":
            del recipe["model"]  # the only kind of earlier versions, whose unfinished trainings continue
        recipe.update(classes=member_data.classes, data=data_digest([features[position // num_folds]]))
        # Left out without sublabels, so that members of earlier versions keep their digest.
        if member_data.taxonomy:
            splits = (member_data.train, member_data.val)
            recipe["sublabels"] = [member_data.taxonomy, [split.sublabels for split in splits]]
        if imported is not None:
            recipe["imported"] = imported.digest
        if member_folds is not None:
            recipe.update(left_out=position % num_folds, folds=member_folds.fold_N.tolist())
        recipes.append(hashlib.sha256(json_text(recipe, sort_keys=True).encode()).hexdigest())
    members = []
    for index, name in enumerate(backbones):
        space = names.index(name)
        place = space * num_folds + (member_folds.left_out_by(index) if member_folds is not None else 0)
        members.append(MemberPlan(space=space, backbone=name, data=place, recipe=recipes[place]))
    return members


def data_digest(features: Sequence[FeatureSet]) -> str:
    """SHA-256 of the training data: of the key of each feature set, and of each video's id, label and split."""
    first = features[0]
    rows = [
        *(feature_set.spec.key for feature_set in features),
        *zip(first.video_ids, first.labels, first.splits, strict=True),
    ]
    return hashlib.sha256(json_text(rows).encode()).hexdigest()
