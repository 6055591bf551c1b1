"""Publishing a trained ensemble: calibration, then its files, with `ensemble.json` last."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from importlib import metadata

import vidclf
from vidclf.config import ModelConfig, TrainConfig
from vidclf.ensemble.info import FittedBackbone, MembersInfo, write_info
from vidclf.features.feature_set import FeatureSet
from vidclf.gpu_worker import OnWorker
from vidclf.runs import lease
from vidclf.training.calibrate import calibrate
from vidclf.training.dataset import TrainingData
from vidclf.training.member_plan import data_digest
from vidclf.training.member_votes import RunVotes, Voting
from vidclf.training.member_worker import read_record


def publish_ensemble(
    config: TrainConfig,
    features: Sequence[FeatureSet],
    data: TrainingData,
    weights: Sequence[str],
    first_looks: Sequence[FeatureSet] = (),
    *,
    gpus: float,
) -> None:
    """Calibrate the trained members (models of the ensemble) in `config.output`, and write `ensemble.json`.

    Each member must have its marker file. `features`, `weights` (where each backbone's weights were) and `first_looks`
    (features of a few keyframes per video; may be empty) have one entry per backbone. The members classify the
    validation split in this process, or in a worker with the fraction `gpus` of a GPU.
    """
    uncalibrated = members_info(config, features, data, weights)
    info = calibrate(config.output, uncalibrated, features, first_looks or None, votes_on(gpus))
    lease.guard(config.output).check()
    write_info(config.output, info)


def members_info(
    config: TrainConfig, features: Sequence[FeatureSet], data: TrainingData, weights: Sequence[str]
) -> MembersInfo:
    """What is known of the trained members (models) in `config.output` before calibration.

    `features` and `weights` (where each backbone's weights were) have one entry per backbone. Each member must have its
    marker file.
    """
    return MembersInfo(
        classes=data.classes,
        backbones=[
            FittedBackbone.of(backbone.spec, source) for backbone, source in zip(features, weights, strict=True)
        ],
        model=ModelConfig(**{field.name: getattr(config, field.name) for field in fields(ModelConfig)}),
        members=[read_record(config.output, index) for index in range(config.members)],
        training={
            "num_train_videos": len(data.train.labels),
            "num_val_videos": len(data.val.labels),
            "data_digest": data_digest(features),
            "recipe": config.recipe if config.import_reference is None else "imported",
        },
        versions={
            "vidclf": vidclf.__version__,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("torch", "torchvision", "numpy", "ray")},
        },
    )


def votes_on(gpus: float) -> RunVotes:
    """Function that computes the probabilities of members in a worker with the fraction `gpus` of a GPU, or, if it is
    0, in this process on the CPU."""
    return OnWorker(gpus, partial(Voting, gpus)) if gpus else Voting(0.0)
