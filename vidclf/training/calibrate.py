"""The end of training: temperature, views' weights, trust score and OOD line, fitted on validation.

Validation has also chosen each member's epoch, so what is measured on it flatters a little; whatever is
fitted here is therefore judged by cross-fitting over its sources.

Shape suffixes: B videos, T frames, D features, C classes, M members, V views, K signs, S backbones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vidclf import schema, torch_gpu
from vidclf.ensemble import calibration_file, files, inference
from vidclf.ensemble.bf16 import PrecisionProbe
from vidclf.ensemble.calibration_file import TrustData
from vidclf.ensemble.inference import BySpace, Votes, vote
from vidclf.ensemble.info import (
    Calibration,
    EnsembleCalibration,
    EnsembleInfo,
    LookInfo,
    MembersInfo,
    TrustInfo,
    mode,
)
from vidclf.ensemble.views import PLAIN, VIEWS, fit_weights
from vidclf.features.feature_set import FeatureSet
from vidclf.metrics.scores import evaluate, expected_calibration_error
from vidclf.uncertainty import early_exit, folds, trust_score
from vidclf.uncertainty.early_exit import ValidationScores
from vidclf.uncertainty.folds import cross_fitted
from vidclf.uncertainty.frame_agreement import FrameDiscriminant, frame_agreement
from vidclf.uncertainty.ood import FeatureSpace, fit_line, fit_space
from vidclf.uncertainty.temperature import fit_temperature, tempered
from vidclf.uncertainty.trust_score import TrustScore
from vidclf.video.sampling import evenly_spread

NUM_FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class Look:
    """What members are to vote on."""

    sequences_S: list[list[npt.NDArray[np.float16]]]
    """for each backbone the videos' features [T, D]"""
    views: tuple[str, ...]


RunVotes = Callable[[str, MembersInfo, Sequence[Look]], list[npt.NDArray[np.float32]]]
"""Directory and `ensemble.json` of members, and looks; each look's probabilities [V, M, B, C]."""


class Voting:
    """Lets members vote, one after the other, on the CPU or with a share of a GPU."""

    def __init__(self, gpus: float) -> None:
        self._device = torch_gpu.take_share(gpus)

    def __call__(self, directory: str, info: MembersInfo, looks: Sequence[Look]) -> list[npt.NDArray[np.float32]]:
        """As `RunVotes`."""
        votes: list[list[torch.Tensor]] = [[] for _ in looks]
        for index, space in enumerate(info.spaces_M):
            # No more than one in memory: a share of a GPU is for one member.
            member = files.load_member(directory, info, index).eval().to(self._device)
            for own, look in zip(votes, looks, strict=True):
                logits_V1BC, _ = inference.run_members([member], [space], look.sequences_S, look.views, self._device)
                own.append(logits_V1BC.softmax(dim=3))
        return [torch.cat(own, dim=1).numpy() for own in votes]


def calibrate(
    directory: str,
    info: MembersInfo,
    features_S: Sequence[FeatureSet],
    first_look_S: Sequence[FeatureSet] | None = None,
    run_votes: RunVotes | None = None,
) -> EnsembleInfo:
    """`info` with its views, calibration, trust, early stages and validation scores, after writing
    `trust.safetensors` beside the members that `directory` holds. `features_S` are those of the
    ensemble's backbones, of the same videos; `first_look_S` those of the `keyframes` stage, without which
    the cascade has no such stage. `run_votes` lets the members vote, here and on the CPU by default."""
    features = features_S[0]
    splits = np.array(features.splits)
    in_train, in_val = np.flatnonzero(splits == "train"), np.flatnonzero(splits == "val")
    labels = [info.classes.index(str(features.labels[index])) for index in in_val]
    labels_B, groups = np.array(labels), [features.groups[index] for index in in_val]
    folds_B = folds.group_folds(labels, groups, min(NUM_FOLDS, len(set(groups))))
    looks = {schema.Look.FULL: [own.features for own in features_S], **_early_looks(features_S, first_look_S)}
    of_train = [info.classes.index(str(features.labels[index])) for index in in_train]
    train_folds_B = folds.group_folds(of_train, [features.groups[index] for index in in_train], NUM_FOLDS)
    discriminants = [FrameDiscriminant.fit([own.features[index] for index in in_train], of_train) for own in features_S]
    source_B = np.unique(groups, return_inverse=True)[1]
    fits = _CalibrationFitter(
        info=info, labels_B=labels_B, source_B=source_B, folds_B=folds_B, discriminants=discriminants
    )

    # All at once, since a worker is to be started once.
    questions = [
        Look(
            sequences_S=[[own[index] for index in in_val.tolist()] for own in look_S],
            views=tuple(VIEWS if name == schema.Look.FULL else PLAIN),
        )
        for name, look_S in looks.items()
    ]
    votes = dict(zip(looks, (run_votes or Voting(0.0))(directory, info, questions), strict=True))
    probabilities_VMBC = votes[schema.Look.FULL]
    view_VBC = probabilities_VMBC.mean(axis=1)
    view_weights = fit_weights(tempered(view_VBC, fit_temperature(view_VBC[0], labels_B)), labels_B, groups)
    spaces: dict[str, list[FeatureSpace]] = {}
    stages: dict[str, LookInfo] = {}
    stage_data: dict[str, ValidationScores] = {}
    for name, look_S in looks.items():
        sequences_S = [[own[index] for index in in_val] for own in look_S]
        fitted = [fit_space(own, of_train, train_folds_B, in_train, in_val) for own in look_S]
        spaces[name] = [space for space, _ in fitted]
        ood, seen_score_B = fit_line([distances_B for _, distances_B in fitted])
        ood_score_B = seen_score_B[: len(in_val)]
        if name == schema.Look.FULL:
            full_ood, full_ood_B = ood, ood_score_B
            weights_V = np.array([view.weight for view in view_weights], np.float32)
            plain = fits.of(probabilities_VMBC[:1], np.ones(1, np.float32), sequences_S, ood_score_B)
            tta = fits.of(probabilities_VMBC, weights_V, sequences_S, ood_score_B)
            probe = PrecisionProbe.of_least_sure(sequences_S, tempered(view_VBC, tta.calibration.temperature))
            continue
        early = fits.of(votes[name], np.ones(1, np.float32), sequences_S, ood_score_B)
        stages[name] = LookInfo(
            num_frames=max(len(rows_TD) for rows_TD in look_S[0]),
            feature_specs=[own.spec for own in first_look_S or ()] if name == schema.Look.KEYFRAMES else [],
            calibration=early.calibration,
            ood=ood,
            trust=early.score,
            val_accuracy=float((early.top_B == labels_B).mean()),
        )
        stage_data[name] = fits.stage(early, ood_score_B)
    by_mode = {mode(False): plain, mode(True): tta}
    digest = calibration_file.write_trust(
        directory,
        TrustData(
            spaces=spaces,
            discriminants=discriminants,
            full={name: fits.stage(fit, full_ood_B) for name, fit in by_mode.items()},
            stages=stage_data,
            probe=probe,
        ),
    )
    scores = evaluate(labels, plain.top_B.tolist(), info.classes)
    training = {
        **info.training,
        "val_accuracy": scores.accuracy,
        "val_macro_f1": scores.macro_f1,
        "val_weighted_f1": scores.weighted_f1,
        "val_f1": {name: values.f1 for name, values in scores.per_class.items()},
    }
    members = {field.name: getattr(info, field.name) for field in fields(MembersInfo)}
    return EnsembleInfo(
        **{**members, "training": training},
        views=view_weights,
        calibration=EnsembleCalibration.of(len(labels_B), plain.calibration, tta.calibration),
        trust=TrustInfo(digest=digest, ood=full_ood, plain=plain.score, tta=tta.score),
        stages=stages,
    )


def _early_looks(
    features_S: Sequence[FeatureSet], first_look_S: Sequence[FeatureSet] | None
) -> dict[str, list[list[npt.NDArray[np.float16]]]]:
    """What the early stages of the cascade see of every video, by backbone."""
    looks: dict[str, list[list[npt.NDArray[np.float16]]]] = {}
    if first_look_S is not None:
        looks[schema.Look.KEYFRAMES] = [own.features for own in first_look_S]
    if features_S[0].spec.plan.num_frames >= 2 * early_exit.SUBSET_FRAMES:
        looks[schema.Look.SUBSET] = [
            [rows_TD[evenly_spread(len(rows_TD), early_exit.SUBSET_FRAMES)] for rows_TD in own.features]
            for own in features_S
        ]
    return looks


@dataclass(frozen=True, kw_only=True)
class _CalibrationFit:
    """The fits to one look at validation's videos; values of these are by fits that had not seen their source."""

    calibration: Calibration
    score: TrustScore
    trust_B: npt.NDArray[np.float32]
    top_B: npt.NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class _CalibrationFitter:
    """What fits to validation's videos have in common."""

    info: MembersInfo
    labels_B: npt.NDArray[np.int64]
    source_B: npt.NDArray[np.int64]
    folds_B: npt.NDArray[np.int64]
    discriminants: list[FrameDiscriminant]

    def of(
        self,
        probabilities_VMBC: npt.NDArray[np.float32],
        weights_V: npt.NDArray[np.float32],
        sequences_S: BySpace,
        ood_score_B: npt.NDArray[np.floating[Any]],
    ) -> _CalibrationFit:
        # Cross-fitted, so that signs and confidences are those of videos the temperature has not seen.
        calibration, votes = fit_calibration(probabilities_VMBC, weights_V, self.labels_B, self.folds_B)
        top_B = votes.probabilities_BC.argmax(axis=1)
        agreement_B = frame_agreement(self.discriminants, sequences_S, top_B.tolist())
        signs_BK = trust_score.signs(votes.probabilities_BC, votes.member_MBC, votes.view_VBC, agreement_B, ood_score_B)
        confidence_B = votes.probabilities_BC.max(axis=1)
        score, trust_B = fit_trust(confidence_B, signs_BK, top_B == self.labels_B, self.folds_B)
        return _CalibrationFit(calibration=calibration, score=score, trust_B=trust_B, top_B=top_B)

    def stage(self, fit: _CalibrationFit, ood_score_B: npt.NDArray[np.floating[Any]]) -> ValidationScores:
        return ValidationScores(
            trust_B=fit.trust_B,
            correct_B=fit.top_B == self.labels_B,
            ood_B=ood_score_B.astype(np.float32),
            source_B=self.source_B,
        )


def fit_calibration(
    probabilities_VMBC: npt.NDArray[np.float32],
    weights_V: npt.NDArray[np.float32],
    labels_B: npt.NDArray[np.int64],
    folds_B: npt.NDArray[np.int64],
) -> tuple[Calibration, Votes]:
    """Temperature with its errors before and after, and the votes at temperatures that were fitted without
    a video's source."""
    pooled_BC = np.tensordot(weights_V, probabilities_VMBC, axes=1).mean(axis=0)

    def fit(inside: npt.NDArray[np.bool_]) -> float:
        return fit_temperature(pooled_BC[inside], labels_B[inside])

    def ece(votes: Votes) -> float:
        top_B = votes.probabilities_BC.argmax(axis=1)
        return expected_calibration_error(votes.probabilities_BC.max(axis=1), top_B == labels_B)

    crossed_B = cross_fitted(folds_B, fit, lambda temperature, inside: temperature)
    crossed = vote(probabilities_VMBC, weights_V, crossed_B[:, None])
    calibration = Calibration(
        temperature=fit(np.ones(len(labels_B), bool)),
        ece_before=ece(vote(probabilities_VMBC, weights_V, 1.0)),
        ece_after=ece(crossed),
    )
    return calibration, crossed


def fit_trust(
    confidence_B: npt.NDArray[np.float32],
    signs_BK: npt.NDArray[np.floating[Any]],
    correct_B: npt.NDArray[np.bool_],
    folds_B: npt.NDArray[np.int64],
) -> tuple[TrustScore, npt.NDArray[np.float32]]:
    """The trust score, and validation's trust scores [B] by fits that had not seen a video's source."""

    def fit(inside: npt.NDArray[np.bool_]) -> TrustScore:
        return TrustScore.fit(confidence_B[inside], signs_BK[inside], correct_B[inside])

    crossed_B = cross_fitted(folds_B, fit, lambda score, inside: score(confidence_B[inside], signs_BK[inside]))
    return fit(np.ones(len(correct_B), bool)), crossed_B.astype(np.float32)
