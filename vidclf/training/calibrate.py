"""The last step of training: temperature, view weights, trust score and OOD line, fitted on the validation split.

The validation split has also chosen each member's epoch, so scores measured on it are slightly too high. Everything
fitted here is therefore evaluated by cross-fitting over the sources of the validation split.

Shape suffixes: B videos, T frames, D features, C classes, M members, V views, K signs, S backbones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from vidclf.ensemble import calibration_file
from vidclf.ensemble.bf16 import PrecisionProbe
from vidclf.ensemble.calibration_file import TrustData
from vidclf.ensemble.info import EnsembleCalibration, EnsembleInfo, LookInfo, MembersInfo, TrustInfo, mode
from vidclf.ensemble.views import PLAIN, VIEWS, ViewWeight, fit_weights
from vidclf.features.feature_set import FeatureSet
from vidclf.features.spec import FeatureSpec
from vidclf.metrics.scores import evaluate
from vidclf.schema import Look
from vidclf.training.calibration_fit import CalibrationFit, CalibrationFitter, LabelledVideos, VideoSequences
from vidclf.training.member_votes import RunVotes, VoteRequest, Voting
from vidclf.uncertainty import early_exit
from vidclf.uncertainty.early_exit import ValidationScores
from vidclf.uncertainty.frame_agreement import FrameDiscriminant
from vidclf.uncertainty.ood import FeatureSpace, OodLine
from vidclf.uncertainty.temperature import fit_temperature, tempered
from vidclf.video.sampling import evenly_spread


def calibrate(
    directory: str,
    info: MembersInfo,
    features_S: Sequence[FeatureSet],
    first_look_S: Sequence[FeatureSet] | None = None,
    run_votes: RunVotes | None = None,
) -> EnsembleInfo:
    """The calibrated ensemble of the members in `directory`. Writes `trust.safetensors` next to them.

    `features_S` are the features of the ensemble's backbones, all of the same videos. `first_look_S` are their
    features at the `keyframes` look; without them the ensemble has no such look. `run_votes` computes the members'
    probabilities; by default they are computed in this process on the CPU.
    """
    videos = LabelledVideos.of(features_S[0], info.classes)
    fitter = CalibrationFitter(
        videos=videos,
        discriminants=[
            FrameDiscriminant.fit([features.features[index] for index in videos.in_train], videos.train_labels)
            for features in features_S
        ],
    )
    sequences = {
        Look.FULL: [features.features for features in features_S],
        **_early_sequences(features_S, first_look_S),
    }
    votes = _votes(directory, info, videos, sequences, run_votes or Voting(0.0))
    full = _full_look(fitter, sequences[Look.FULL], votes[Look.FULL])
    specs = {Look.KEYFRAMES: [features.spec for features in first_look_S or ()], Look.SUBSET: []}
    early = {
        look: _early_look(fitter, sequences[look], votes[look], specs[look]) for look in sequences if look != Look.FULL
    }
    digest = calibration_file.write_trust(
        directory,
        TrustData(
            spaces={Look.FULL: full.spaces, **{look: fitted.spaces for look, fitted in early.items()}},
            discriminants=fitter.discriminants,
            full={
                mode(False): fitter.validation_scores(full.plain, full.ood_score_B),
                mode(True): fitter.validation_scores(full.tta, full.ood_score_B),
            },
            stages={look: fitted.scores for look, fitted in early.items()},
            probe=full.probe,
        ),
    )
    members = {field.name: getattr(info, field.name) for field in fields(MembersInfo)}
    return EnsembleInfo(
        **{**members, "training": {**info.training, **_validation_figures(videos, full.plain, info.classes)}},
        views=full.view_weights,
        calibration=EnsembleCalibration.of(len(videos.labels_B), full.plain.calibration, full.tta.calibration),
        trust=TrustInfo(digest=digest, ood=full.ood, plain=full.plain.score, tta=full.tta.score),
        stages={look: fitted.info for look, fitted in early.items()},
    )


def _early_sequences(
    features_S: Sequence[FeatureSet], first_look_S: Sequence[FeatureSet] | None
) -> dict[Look, list[VideoSequences]]:
    """The features of every video at each early look, per backbone."""
    looks: dict[Look, list[VideoSequences]] = {}
    if first_look_S is not None:
        looks[Look.KEYFRAMES] = [features.features for features in first_look_S]
    if features_S[0].spec.plan.num_frames >= 2 * early_exit.SUBSET_FRAMES:
        looks[Look.SUBSET] = [
            [rows_TD[evenly_spread(len(rows_TD), early_exit.SUBSET_FRAMES)] for rows_TD in features.features]
            for features in features_S
        ]
    return looks


def _votes(
    directory: str,
    info: MembersInfo,
    videos: LabelledVideos,
    sequences: Mapping[Look, list[VideoSequences]],
    run_votes: RunVotes,
) -> dict[Look, npt.NDArray[np.float32]]:
    """Probabilities [V, M, B, C] of the validation videos at each look. All looks go into one call, so that a worker
    starts only once."""
    requests = [
        VoteRequest(sequences_S=videos.validation(sequences_S), views=tuple(VIEWS if look == Look.FULL else PLAIN))
        for look, sequences_S in sequences.items()
    ]
    return dict(zip(sequences, run_votes(directory, info, requests), strict=True))


@dataclass(frozen=True, kw_only=True)
class _FullLook:
    """Everything fitted for the full look."""

    view_weights: list[ViewWeight]
    plain: CalibrationFit
    """without test-time augmentation"""
    tta: CalibrationFit
    spaces: list[FeatureSpace]
    """one per backbone"""
    ood: OodLine
    ood_score_B: npt.NDArray[np.floating[Any]]
    probe: PrecisionProbe


@dataclass(frozen=True, kw_only=True)
class _EarlyLook:
    """Everything fitted for one early look."""

    info: LookInfo
    spaces: list[FeatureSpace]
    """one per backbone"""
    scores: ValidationScores


def _full_look(
    fitter: CalibrationFitter, sequences_S: list[VideoSequences], probabilities_VMBC: npt.NDArray[np.float32]
) -> _FullLook:
    """Fit view weights, both calibrations, OOD line and precision probe for the full look."""
    videos = fitter.videos
    view_VBC = probabilities_VMBC.mean(axis=1)
    temperature = fit_temperature(view_VBC[0], videos.labels_B)
    view_weights = fit_weights(tempered(view_VBC, temperature), videos.labels_B, videos.groups)
    spaces, ood, ood_score_B = fitter.ood(sequences_S)
    val_sequences_S = videos.validation(sequences_S)
    weights_V = np.array([view.weight for view in view_weights], np.float32)
    plain = fitter.fit(probabilities_VMBC[:1], np.ones(1, np.float32), val_sequences_S, ood_score_B)
    tta = fitter.fit(probabilities_VMBC, weights_V, val_sequences_S, ood_score_B)
    return _FullLook(
        view_weights=view_weights,
        plain=plain,
        tta=tta,
        spaces=spaces,
        ood=ood,
        ood_score_B=ood_score_B,
        probe=PrecisionProbe.of_least_sure(val_sequences_S, tempered(view_VBC, tta.calibration.temperature)),
    )


def _early_look(
    fitter: CalibrationFitter,
    sequences_S: list[VideoSequences],
    probabilities_VMBC: npt.NDArray[np.float32],
    specs: list[FeatureSpec],
) -> _EarlyLook:
    """Fit calibration, trust score and OOD line for an early look.

    `specs` describe its features, one per backbone; they are empty if the features come from the full look.
    """
    spaces, ood, ood_score_B = fitter.ood(sequences_S)
    fit = fitter.fit(probabilities_VMBC, np.ones(1, np.float32), fitter.videos.validation(sequences_S), ood_score_B)
    info = LookInfo(
        num_frames=max(len(rows_TD) for rows_TD in sequences_S[0]),
        feature_specs=specs,
        calibration=fit.calibration,
        ood=ood,
        trust=fit.score,
        val_accuracy=float((fit.top_B == fitter.videos.labels_B).mean()),
    )
    return _EarlyLook(info=info, spaces=spaces, scores=fitter.validation_scores(fit, ood_score_B))


def _validation_figures(videos: LabelledVideos, plain: CalibrationFit, classes: list[str]) -> dict[str, Any]:
    """Scores of the ensemble on the validation split, without test-time augmentation."""
    scores = evaluate(videos.labels_B.tolist(), plain.top_B.tolist(), classes)
    return {
        "val_accuracy": scores.accuracy,
        "val_macro_f1": scores.macro_f1,
        "val_weighted_f1": scores.weighted_f1,
        "val_f1": {name: values.f1 for name, values in scores.per_class.items()},
    }
