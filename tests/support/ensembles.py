"""Small ensembles with random weights, in the layout that `jobs/train.py` writes."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from tests.support.tiny_cnn import TINY
from vidclf.backbones import weights
from vidclf.config import ModelConfig
from vidclf.ensemble import calibration_file, files, views
from vidclf.ensemble.calibration_file import TrustData
from vidclf.ensemble.info import (
    Calibration,
    EnsembleCalibration,
    EnsembleInfo,
    FittedBackbone,
    TrustInfo,
    write_info,
)
from vidclf.ensemble.member_record import MemberRecord
from vidclf.ensemble.model_kinds import build_model
from vidclf.ensemble.views import ViewWeight
from vidclf.features.spec import FeatureSpec
from vidclf.schema import Look
from vidclf.uncertainty.early_exit import ValidationScores
from vidclf.uncertainty.frame_agreement import FrameDiscriminant
from vidclf.uncertainty.ood import FeatureSpace, OodLine
from vidclf.uncertainty.trust_score import SIGNS, TrustScore
from vidclf.video.sampling import SamplingPlan

MODEL = ModelConfig(hidden_dim=4, num_lstm_layers=1, num_attention_heads=2, classifier_dims=(4,))


NEUTRAL_TRUST = TrustScore(
    intercept=0.0,
    slope=1.0,
    weights=dict.fromkeys(SIGNS, 0.0),
    means=dict.fromkeys(SIGNS, 0.0),
    sds=dict.fromkeys(SIGNS, 1.0),
)
"""A trust score equal to the confidence."""

EVEN_VIEWS = [ViewWeight(name=name, weight=0.25, gain=0.0, gain_se=0.0) for name in views.VIEWS]

MEASURED = Calibration(temperature=1.0, ece_before=0.2, ece_after=0.1)


def ood_line(*distances: float, line: float = 1.0) -> OodLine:
    """One distance per backbone; by default so large that no video is out of distribution."""
    return OodLine(distances=list(distances or (1e6,)), line=line, level=0.95, num_videos=20)


def with_digest(info: EnsembleInfo, digest: str) -> EnsembleInfo:
    """The info for another content of `trust.safetensors`."""
    return replace(info, trust=replace(info.trust, digest=digest))


def even_space(num_classes: int, dim: int, inverse_variance: float = 1.0) -> FeatureSpace:
    """Classes around the first unit vectors, equally wide in every direction. Motion has no weight."""
    return FeatureSpace(
        centres_CD=np.eye(num_classes, dim, dtype=np.float32),
        directions_CRD=np.zeros((num_classes, 0, dim), np.float32),
        inverse_variance_C=np.full(num_classes, inverse_variance),
        motion_means_CK=np.zeros((num_classes, 2)),
        motion_precision_CKK=np.tile(np.eye(2), (num_classes, 1, 1)),
        motion_weight=np.array(0.0),
    )


def even_discriminant(num_classes: int, dim: int) -> FrameDiscriminant:
    """A discriminant in which each class has a dimension of its own."""
    return FrameDiscriminant(
        towards_DC=np.eye(dim, num_classes, dtype=np.float32), offset_C=np.full(num_classes, 0.5, np.float32)
    )


@cache
def lite0_digest() -> str:
    """Digest of the packaged weights of efficientnet_lite0. Reading them takes some tenths of a second."""
    return weights.weights_digest(weights.load_weights("efficientnet_lite0", "DEFAULT"))


def tiny_digest(backbone: str = TINY[0]) -> str:
    """Digest of the weights of the tiny CNN that has the place of a backbone (`tiny_cnn.use_tiny_cnn`)."""
    return weights.weights_digest(weights.load_weights(backbone, TINY[1]))


def write_small_ensemble(
    directory: Path,
    classes: list[str],
    num_frames: int,
    num_members: int = 2,
    *,
    is_tiny: bool = False,
    model: ModelConfig = MODEL,
    backbone: str = TINY[0],
    sampling: str = "uniform",
) -> str:
    """Write an ensemble for efficientnet_lite0 with its packaged weights and return its directory.

    Its trust score is close to the confidence, and no video is out of distribution. With `is_tiny` it is for the tiny
    CNN in the place of `backbone`.
    """
    name, location = (backbone, TINY[1]) if is_tiny else ("efficientnet_lite0", "DEFAULT")
    digest = tiny_digest(name) if is_tiny else lite0_digest()
    spec = FeatureSpec.of(name, location, digest, SamplingPlan(mode=sampling, num_frames=num_frames))
    members = []
    for index in range(num_members):
        torch.manual_seed(index)
        state = build_model(spec.feature_dim, len(classes), model).state_dict()
        digest = files.write_member(str(directory), index, state)
        members.append(MemberRecord(file=files.member_file(index), backbone=spec.backbone, digest=digest))
    trust_B = np.linspace(0.5, 1, 20, dtype=np.float32)
    scores = ValidationScores(
        trust_B=trust_B, correct_B=trust_B > 0.6, ood_B=np.zeros(20, np.float32), source_B=np.arange(20)
    )
    trust_score = replace(
        NEUTRAL_TRUST, weights={**NEUTRAL_TRUST.weights, "margin": 0.5}, means=dict.fromkeys(SIGNS, 0.5)
    )
    data = TrustData(
        spaces={Look.FULL: [even_space(len(classes), spec.feature_dim)]},
        discriminants=[even_discriminant(len(classes), spec.feature_dim)],
        full=dict.fromkeys(("plain", "tta"), scores),
    )
    digest = calibration_file.write_trust(str(directory), data)
    info = EnsembleInfo(
        classes=classes,
        backbones=[FittedBackbone.of(spec, location)],
        model=model,
        members=members,
        training={},
        versions={},
        views=EVEN_VIEWS,
        calibration=EnsembleCalibration.of(20, MEASURED, MEASURED),
        trust=TrustInfo(digest=digest, ood=ood_line(), plain=trust_score, tta=trust_score),
    )
    write_info(str(directory), info)
    return str(directory)
