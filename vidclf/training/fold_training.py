"""Cross-validation of the recipe of an ensemble: members are trained once per fold and classify the videos left out.

The sources (recordings that videos are cut from) are divided into K folds, class by class. For each fold, new members
(models) are trained on K - 2 other folds. The next fold selects their best epochs, as the val split does. The members
then classify the videos of the fold. So no video is classified by a member that has seen its source, and every source
is tested once, however large it is.

The splits of the ensemble itself do not matter here, and its own members stay as they are. The members of the folds are
deleted after they have classified. They need no calibration, because a temperature does not change the most probable
class.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from vidclf import storage
from vidclf.arrow import conform
from vidclf.config import TrainConfig
from vidclf.ensemble.cross_validation import RECORD, CrossValidation
from vidclf.ensemble.info import read_info, write_info
from vidclf.ensemble.views import PLAIN
from vidclf.errors import ConfigError
from vidclf.features.feature_set import FeatureSet
from vidclf.json_text import json_text
from vidclf.runs import lease
from vidclf.schema import FOLD_TABLE, VIDEO_ID
from vidclf.training import leakage
from vidclf.training.calibration_fit import LabelledVideos
from vidclf.training.dataset import training_data
from vidclf.training.feature_sources import found_sources
from vidclf.training.leakage import SplitAssignment
from vidclf.training.linear_fit import WeighedVotes, fit_linear, weigh
from vidclf.training.member_plan import MemberPlan, plan_members
from vidclf.training.member_votes import RunVotes, VoteRequest
from vidclf.training.member_worker import marker, read_record
from vidclf.training.publish import members_info, publish_card
from vidclf.training.ray_members import train_members
from vidclf.training.sublabels import taxonomy_of
from vidclf.uncertainty.folds import group_folds
from vidclf.uncertainty.temperature import fit_temperature

FOLDS_FILE = "folds.parquet"
"""File with the class that each video got in the cross-validation; its columns are `schema.FOLD_TABLE`. The figures are
in its metadata."""

FOLDS_DIR = "_folds"
"""Directory in the output for the members of the folds, until the cross-validation is complete."""

METADATA = b"vidclf.cross_validation"
"""Key of the figures in the metadata of `folds.parquet`."""


@dataclass(frozen=True, kw_only=True)
class Folds:
    """Division of all videos into folds, such that videos of one source and near duplicates stay together."""

    num_folds: int
    fold_B: npt.NDArray[np.int64]
    """fold of each video, from 0"""
    groups: list[str]
    """source (recording) of each video; sources that share near duplicates are joined"""
    recipe: str
    """digest of the settings, the data and the folds"""

    def splits(self, fold: int) -> list[str | None]:
        """The split of each video when `fold` is tested: the next fold is val, all others are train."""
        names = np.full(len(self.fold_B), "train", dtype=object)
        names[self.fold_B == (fold + 1) % self.num_folds] = "val"
        names[self.fold_B == fold] = "test"
        return [str(name) for name in names]


def plan_folds(config: TrainConfig, assignment: SplitAssignment, members: Sequence[MemberPlan]) -> Folds | None:
    """The folds of `--folds`, or None if no cross-validation is wanted.

    `members` are the members of the ensemble. Raises ConfigError if a class has fewer sources than there are folds,
    because each fold must test every class.
    """
    if not config.folds:
        return None
    features = assignment.features
    groups = leakage.join_groups(features.groups, assignment.clusters)
    groups = leakage.join_groups(groups, found_sources(features).clusters)
    labels = [str(label) for label in features.labels]
    classes = sorted(set(labels))
    for name in classes:
        num_sources = len({group for group, label in zip(groups, labels, strict=True) if label == name})
        if num_sources < config.folds:
            raise ConfigError(
                f"--folds must be at most the number of sources of each class, got {config.folds}; class {name!r} has "
                f"{num_sources} (near duplicates count as one source); give a lower number, or add sources"
            )
    fold_B = group_folds([classes.index(label) for label in labels], groups, config.folds)
    decisive: list[Any] = [[member.recipe for member in members], config.folds, features.video_ids, fold_B.tolist()]
    if config.fits_linear_member:
        decisive.append("linear member")
    folds = Folds(
        num_folds=config.folds,
        fold_B=fold_B,
        groups=groups,
        recipe=hashlib.sha256(json_text(decisive).encode()).hexdigest(),
    )
    for fold in range(config.folds):
        absent = set(classes) - {
            label for label, split in zip(labels, folds.splits(fold), strict=True) if split == "train"
        }
        if absent:
            raise ConfigError(
                f"--folds {config.folds}: class {min(absent)!r} cannot be in the training videos of every fold, since "
                "its sources hold other classes too; add sources of this class alone"
            )
    return folds


def recorded(output: str, folds: Folds) -> CrossValidation | None:
    """The figures of a finished cross-validation with these folds, settings and data in `output`; None if there is
    none."""
    location = storage.join(output, FOLDS_FILE)
    if not storage.exists(location):
        return None
    filesystem, path = storage.resolve(location)
    metadata = pq.read_schema(path, filesystem=filesystem).metadata or {}
    record = CrossValidation.read(json.loads(metadata[METADATA])) if METADATA in metadata else None
    return record if record is not None and record.recipe == folds.recipe else None


def cross_validate(
    config: TrainConfig,
    folds: Folds,
    features: Sequence[FeatureSet],
    weights: Sequence[str],
    gpus: float,
    run_votes: RunVotes,
) -> None:
    """Train and test the members of each fold, unless `config.output` holds the result already, and add the figures to
    `ensemble.json`.

    A job that is submitted again continues with the members that are missing. `features` and `weights` (where each
    backbone's weights were) have one entry per backbone. Each member is trained on the fraction `gpus` of a GPU.
    `run_votes` computes the probabilities of the finished members.
    """
    record = recorded(config.output, folds)
    if record is None:
        top_B = np.empty(len(folds.fold_B), np.int64)
        for fold in range(folds.num_folds):
            print(f"cross-validation: fold {fold + 1} of {folds.num_folds}", flush=True)
            top_B[folds.fold_B == fold] = _tested(config, folds, fold, features, weights, gpus, run_votes)
        record = _publish(config.output, folds, features[0], top_B)
    storage.delete_tree(storage.join(config.output, FOLDS_DIR))
    info = read_info(config.output)
    if CrossValidation.read(info.training.get(RECORD)) != record:
        lease.guard(config.output).check()
        info = replace(info, training={**info.training, RECORD: asdict(record)})
        publish_card(config.output, info)
        write_info(config.output, info)


def _tested(
    config: TrainConfig,
    folds: Folds,
    fold: int,
    features: Sequence[FeatureSet],
    weights: Sequence[str],
    gpus: float,
    run_votes: RunVotes,
) -> npt.NDArray[np.int64]:
    """Index of the most probable class of each video in a fold, by members trained on other folds."""
    directory = storage.join(config.output, FOLDS_DIR, f"fold_{fold}")
    # These members are no part of the ensemble, so they are not logged to MLflow.
    config = replace(config, output=directory, mlflow=None)
    fold_features = [replace(space, groups=folds.groups, splits=folds.splits(fold)) for space in features]
    taxonomy = taxonomy_of(fold_features[0]) if config.fits_sublabels else {}
    data = [training_data(space, taxonomy=taxonomy) for space in fold_features]
    members = plan_members(config, fold_features, data, None)
    missing = [index for index, member in enumerate(members) if not _is_finished(directory, index, member)]
    if missing:
        storage.create_dir(directory)
        train_members(config, data, members, missing, gpus)
    info = members_info(config, fold_features, data[0], weights)
    inside = np.flatnonzero(folds.fold_B == fold).tolist()
    tested_S = [[space.features[index] for index in inside] for space in features]
    videos, sequences_S = LabelledVideos.of(fold_features[0], info.classes), [space.features for space in features]
    requests = [
        VoteRequest(sequences_S=one_S, views=tuple(PLAIN)) for one_S in (tested_S, videos.validation(sequences_S))
    ]
    tested_VMBC, validated_VMBC = (votes[..., : len(info.classes)] for votes in run_votes(directory, info, requests))
    pooled_BC = tested_VMBC[0].mean(axis=0)
    if config.fits_linear_member:
        prior = info.training["prior_temperature"]
        fitted = fit_linear(videos.training(sequences_S), videos.train_labels, videos.train_folds_B, len(info.classes))
        linear = fitted.scaled(fit_temperature(validated_VMBC[0].mean(axis=0), videos.labels_B, prior))
        _, found = weigh(
            linear.in_views(videos.validation(sequences_S), PLAIN),
            WeighedVotes.equal(validated_VMBC),
            videos.labels_B,
            videos.groups,
            prior,
        )
        pooled_BC = (1 - found.weight) * pooled_BC + found.weight * linear(tested_S)
    top_B: npt.NDArray[np.int64] = pooled_BC.argmax(axis=1)
    return top_B


def _is_finished(directory: str, index: int, member: MemberPlan) -> bool:
    """Whether a member of a fold has been trained with the present settings on the present data."""
    return storage.exists(marker(directory, index)) and read_record(directory, index).recipe == member.recipe


def _publish(output: str, folds: Folds, features: FeatureSet, top_B: npt.NDArray[np.int64]) -> CrossValidation:
    """Write `folds.parquet` and return the figures that it holds."""
    classes = sorted({str(label) for label in features.labels})
    top_labels = [classes[top] for top in top_B]
    is_correct_B = np.array(top_labels) == np.array(features.labels)
    record = CrossValidation.of(is_correct_B, folds.groups, folds.num_folds, folds.recipe)
    table = pa.table(
        {
            VIDEO_ID: features.video_ids,
            "video_uri": features.video_uris,
            "label": pa.array(features.labels, pa.string()),
            "group": folds.groups,
            "fold": pa.array(folds.fold_B, pa.int32()),
            "top_label": top_labels,
        }
    )
    lease.guard(output).check()
    table = conform(table, FOLD_TABLE, "folds").replace_schema_metadata({METADATA: json_text(asdict(record))})
    storage.publish_table(storage.join(output, FOLDS_FILE), table)
    return record
