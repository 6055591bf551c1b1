"""Publishing a trained ensemble: calibration, then its files, with `ensemble.json` last."""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from functools import partial
from importlib import metadata

import numpy as np

import vidclf
from vidclf import storage
from vidclf.config import FitConfig, ModelConfig, TrainConfig
from vidclf.ensemble import calibration_file, model_card, split_record
from vidclf.ensemble.info import EnsembleInfo, FittedBackbone, MembersInfo, check_finite, write_info
from vidclf.ensemble.known_sources import KnownSources
from vidclf.ensemble.member_record import MemberRecord
from vidclf.features.feature_set import FeatureSet
from vidclf.gpu_worker import OnWorker
from vidclf.runs import lease
from vidclf.training.calibrate import calibrate
from vidclf.training.dataset import TrainingData
from vidclf.training.member_folds import MemberFolds
from vidclf.training.member_plan import data_digest
from vidclf.training.member_votes import RunVotes, Voting
from vidclf.training.member_worker import read_record
from vidclf.uncertainty.focal_optimum import optimal_temperature


def publish_ensemble(
    config: TrainConfig,
    features: Sequence[FeatureSet],
    data: TrainingData,
    weights: Sequence[str],
    first_looks: Sequence[FeatureSet] = (),
    *,
    gpus: float,
    member_folds: MemberFolds | None = None,
) -> None:
    """Calibrate the trained members (models of the ensemble) in `config.output`, and write `ensemble.json`.

    The model card is written before it. Each member must have its marker file, and `splits.parquet` must be there.
    `features`, `weights` (where each backbone's weights were) and `first_looks` (features of a few keyframes per video;
    may be empty) have one entry per backbone. The members classify the validation split in this process, or in a worker
    with the fraction `gpus` of a GPU. With `member_folds`, they classify the videos that they left out instead.
    """
    uncalibrated = members_info(config, features, data, weights)
    if member_folds is not None:
        crossed = {
            "num_train_videos": member_folds.num_videos,
            "num_val_videos": 0,
            "calibration": "cross",
            "num_left_out_folds": member_folds.num_folds,
        }
        uncalibrated = replace(uncalibrated, training={**uncalibrated.training, **crossed})
    prior = uncalibrated.training["prior_temperature"]
    info = calibrate(
        config.output,
        uncalibrated,
        features,
        first_looks or None,
        votes_on(gpus),
        prior,
        has_linear_member=config.fits_linear_member,
        member_folds=member_folds,
    )
    lease.guard(config.output).check()
    info = replace(info, splits=split_record.describe(config.output, config.near_duplicate_cosine))
    publish_card(config.output, info)
    write_info(config.output, info)


def publish_card(directory: str, info: EnsembleInfo) -> None:
    """Write the model card of the ensemble that `info` describes into its directory. `trust.safetensors` and
    `splits.parquet` must be there. A card that was edited stays."""
    check_finite(info)
    videos = storage.read_table(storage.join(directory, split_record.SPLITS_FILE), ["label", "split", "source"])
    text = model_card.card(info, calibration_file.read_trust(directory, info).full, videos)
    if not model_card.publish(directory, text):
        print(f"{directory}: {model_card.CARD_FILE} was edited or is not of this job, so it stays as it is")


def members_info(
    config: TrainConfig, features: Sequence[FeatureSet], data: TrainingData, weights: Sequence[str]
) -> MembersInfo:
    """What is known of the trained members (models) in `config.output` before calibration.

    `features` and `weights` (where each backbone's weights were) have one entry per backbone. Each member must have its
    marker file.
    """
    members = [read_record(config.output, index) for index in range(config.members)]
    return MembersInfo(
        classes=data.classes,
        taxonomy=data.taxonomy,
        backbones=[
            FittedBackbone.of(backbone.spec, source) for backbone, source in zip(features, weights, strict=True)
        ],
        model=ModelConfig(**{field.name: getattr(config, field.name) for field in fields(ModelConfig)}),
        members=members,
        training={
            "num_train_videos": len(data.train.labels),
            "num_val_videos": len(data.val.labels),
            "sources": asdict(known_sources(features[0])),
            "class_videos": np.bincount([*data.train.labels, *data.val.labels], minlength=len(data.classes)).tolist(),
            "data_digest": data_digest(features),
            "recipe": config.recipe if config.import_reference is None else "imported",
            "prior_temperature": prior_temperature(config, members, len(data.classes)),
        },
        versions={
            "vidclf": vidclf.__version__,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("torch", "torchvision", "numpy", "ray")},
        },
    )


def known_sources(features: FeatureSet) -> KnownSources:
    """How many of the train and validation videos have a known source (recording)."""
    return KnownSources.of(features.video_uris, features.groups, features.splits)


def prior_temperature(config: FitConfig, members: Sequence[MemberRecord], num_classes: int) -> float:
    """The temperature that corrects the focal loss of the members: the geometric mean over them.

    A member that is a trial of a hyperparameter search was trained with settings of its own, all others with `config`.
    """
    logarithms = []
    for member in members:
        settings = {
            "focal_gamma": config.focal_gamma,
            "label_smoothing": config.label_smoothing,
            **(member.trial or {}),
        }
        temperature = optimal_temperature(settings["focal_gamma"], settings["label_smoothing"], num_classes)
        logarithms.append(math.log(temperature))
    return math.exp(sum(logarithms) / len(logarithms))


def votes_on(gpus: float) -> RunVotes:
    """Function that computes the probabilities of members in a worker with the fraction `gpus` of a GPU, or, if it is
    0, in this process on the CPU."""
    return OnWorker(gpus, partial(Voting, gpus)) if gpus else Voting(0.0)
