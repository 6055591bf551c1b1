"""Calibration, the last step of training: fits of the ensemble's probabilities and scores to the validation split.

Fitted are the temperature (which makes probabilities match the accuracy), the weights of the views (test-time variants
of a video), the trust score (probability that the answer is right) and the OOD line (limit beyond which a video counts
as out of distribution, unlike the training videos).

Everything fitted here is evaluated by cross-fitting: each source (videos cut from one recording) is scored by a fit on
the other sources. Cross-fitting does not allow for one more choice: the validation split has also chosen the best
epoch of each member (model of the ensemble), so scores measured on it are slightly too high. Only test videos are free
of that.

Shape suffixes: B videos, T frames, D features, C classes, M members, V views, K signs (indicators that enter the trust
score), S backbones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vidclf.ensemble import calibration_file
from vidclf.ensemble.bf16 import PrecisionProbe
from vidclf.ensemble.calibration_file import TrustData
from vidclf.ensemble.fold_confidence import folds_left_out
from vidclf.ensemble.info import EnsembleCalibration, EnsembleInfo, LookInfo, MembersInfo, TrustInfo, mode
from vidclf.ensemble.linear_member import LinearInfo, member_weights, write_linear
from vidclf.ensemble.views import PLAIN, VIEWS, ViewWeight, fit_weights
from vidclf.features.computed_frames import ComputedFrames, lengths, select
from vidclf.features.feature_set import FeatureSet
from vidclf.features.spec import FeatureSpec
from vidclf.metrics.scores import evaluate
from vidclf.schema import Look
from vidclf.training import segment_calibration
from vidclf.training.calibration_fit import CalibrationFit, CalibrationFitter, LabelledVideos, VideoSequences
from vidclf.training.linear_crossing import fit_linear_members
from vidclf.training.linear_fit import STANDARD_ERRORS, WeighedVotes, weigh
from vidclf.training.member_folds import MemberFolds, out_of_fold
from vidclf.training.member_votes import RunVotes, VoteRequest, Voting
from vidclf.training.segment_calibration import SegmentSample
from vidclf.training.sublabel_calibration import FittedSublabels, fit_sublabels, look_votes
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
    prior_temperature: float = 1.0,
    has_linear_member: bool = False,
    member_folds: MemberFolds | None = None,
) -> EnsembleInfo:
    """Calibrate the ensemble of the trained models (members) in `directory`, and return its description.

    `trust.safetensors` is written next to the members. `features_S` holds the features from each of the ensemble's
    backbones, all of the same videos. `first_look_S` holds their features of a few keyframes per video, for fast first
    predictions; without them the ensemble cannot make such predictions. `run_votes` computes the members'
    probabilities; by default they are computed in this process on the CPU. `prior_temperature` is the temperature that
    corrects the loss with which the members were trained. With `has_linear_member`, a linear member is fitted too, and
    its file is written. With `member_folds`, the calibration is a cross calibration: it is fitted to the out-of-fold
    probabilities of all train and validation videos instead of the validation split.
    """
    if member_folds is None:
        videos = LabelledVideos.of(features_S[0], info.classes)
    else:
        videos = LabelledVideos.of_folds(features_S[0], info.classes, member_folds)
    fitter = _fitter(videos, [features.features for features in features_S], prior_temperature)
    sequences = {
        Look.FULL: [features.features for features in features_S],
        **_early_sequences(features_S, first_look_S),
    }
    samples = segment_calibration.samples(videos.validation(sequences[Look.FULL]))
    temporal_votes = _votes(directory, info, fitter, sequences, samples, run_votes or Voting(0.0))
    if has_linear_member:
        votes, linear = _join_linear(directory, info, fitter, sequences, samples, temporal_votes)
    else:
        votes, linear = temporal_votes, None
    full = _full_look(fitter, sequences[Look.FULL], votes.looks[Look.FULL], votes.whole)
    specs = {Look.KEYFRAMES: [features.spec for features in first_look_S or ()], Look.SUBSET: []}
    early = {
        look: _early_look(fitter, sequences[look], votes.looks[look], specs[look])
        for look in sequences
        if look != Look.FULL
    }
    sublabels = _calibrated_sublabels(info, features_S[0], videos, votes.sublabels, full, early)
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
            sublabels=sublabels.scores,
            leaves=sublabels.leaves,
            truth={mode(False): fitter.truth_scores(full.plain), mode(True): fitter.truth_scores(full.tta)},
            probe=full.probe,
        ),
    )
    members = {field.name: getattr(info, field.name) for field in fields(MembersInfo)}
    return EnsembleInfo(
        **{**members, "training": {**info.training, **_validation_figures(videos, full.plain.top_B, info.classes)}},
        views=full.view_weights,
        calibration=EnsembleCalibration.of(len(videos.labels_B), full.plain.calibration, full.tta.calibration),
        trust=TrustInfo(digest=digest, ood=full.ood, plain=full.plain.score, tta=full.tta.score),
        stages={look: fitted.info for look, fitted in early.items()},
        segments=segment_calibration.fit_segments(fitter, samples, votes.segments),
        linear=linear,
        sublabels=sublabels.info,
    )


def _fitter(
    videos: LabelledVideos, sequences_S: Sequence[VideoSequences], prior_temperature: float
) -> CalibrationFitter:
    """The fitter of the calibration, with its classifiers of single frames. `sequences_S` holds, per backbone, the
    features of all videos."""
    labels_B = np.array(videos.train_labels)

    def discriminants(inside: npt.NDArray[np.bool_]) -> list[FrameDiscriminant]:
        """Per backbone, the classifier fitted to the train videos for which `inside` is true."""
        rows, labels = videos.in_train[inside], labels_B[inside].tolist()
        return [FrameDiscriminant.fit(select(sequences, rows), labels) for sequences in sequences_S]

    return CalibrationFitter(
        videos=videos,
        discriminants=discriminants(np.ones(len(labels_B), bool)),
        fold_discriminants={fold: discriminants(videos.train_folds_B != fold) for fold in videos.member_folds.tolist()},
        prior_temperature=prior_temperature,
    )


def _early_sequences(
    features_S: Sequence[FeatureSet], first_look_S: Sequence[FeatureSet] | None
) -> dict[Look, list[VideoSequences]]:
    """The features for predictions from only a part of each video: per look (keyframes, or some of the frames) and per
    backbone, the features of every video."""
    looks: dict[Look, list[VideoSequences]] = {}
    if first_look_S is not None:
        looks[Look.KEYFRAMES] = [features.features for features in first_look_S]
    if features_S[0].spec.plan.num_frames >= 2 * early_exit.SUBSET_FRAMES:
        looks[Look.SUBSET] = [ComputedFrames(features.features, _subset) for features in features_S]
    return looks


def _subset(features_TD: npt.NDArray[np.float16]) -> npt.NDArray[np.float16]:
    """The frames of a video that a prediction from some of its frames uses."""
    return features_TD[evenly_spread(len(features_TD), early_exit.SUBSET_FRAMES)]


@dataclass(frozen=True, kw_only=True)
class _AllVotes:
    """Votes of the members for the validation videos, per look (full or partial view of a video's frames), and for
    their segments, per sample. In a cross calibration they are out of fold."""

    looks: dict[Look, WeighedVotes]
    segments: list[WeighedVotes]
    whole: WeighedVotes
    """votes of all members for the full look, in a cross calibration too"""
    sublabels: dict[Look, npt.NDArray[np.float32]]
    """conditional probabilities of the sublabels [V, M, B, L] by look; empty without sublabels"""


def _votes(
    directory: str,
    info: MembersInfo,
    fitter: CalibrationFitter,
    sequences: Mapping[Look, list[VideoSequences]],
    samples: Sequence[SegmentSample],
    run_votes: RunVotes,
) -> _AllVotes:
    """The votes of the temporal members. One call computes all, so that a GPU worker starts only once."""
    videos = fitter.videos
    requests = [
        VoteRequest(sequences_S=videos.validation(sequences_S), views=tuple(VIEWS if look == Look.FULL else PLAIN))
        for look, sequences_S in sequences.items()
    ]
    requests += [VoteRequest(sequences_S=sample.sequences_S, views=PLAIN) for sample in samples]
    outputs = run_votes(directory, info, requests)
    num_classes, num_looks = len(info.classes), len(sequences)
    whole = WeighedVotes.equal(outputs[list(sequences).index(Look.FULL)][..., :num_classes])
    if videos.is_crossed:
        left_out_M = folds_left_out(len(info.members), len(videos.member_folds))
        folds = [videos.folds_B] * num_looks + [videos.folds_B[sample.video_P] for sample in samples]
        outputs = [out_of_fold(found, fold_B, left_out_M) for found, fold_B in zip(outputs, folds, strict=True)]
    votes = [WeighedVotes.equal(probabilities[..., :num_classes]) for probabilities in outputs]
    sublabels = [probabilities[..., num_classes:] for probabilities in outputs[:num_looks]]
    return _AllVotes(
        looks=dict(zip(sequences, votes[:num_looks], strict=True)),
        segments=votes[num_looks:],
        whole=whole,
        sublabels=dict(zip(sequences, sublabels, strict=True)) if info.taxonomy else {},
    )


def _join_linear(
    directory: str,
    info: MembersInfo,
    fitter: CalibrationFitter,
    sequences: Mapping[Look, list[VideoSequences]],
    samples: Sequence[SegmentSample],
    temporal: _AllVotes,
) -> tuple[_AllVotes, LinearInfo]:
    """Fit the linear member to the training videos, write its file, and join its votes to those of the temporal
    members."""
    videos, prior = fitter.videos, fitter.prior_temperature
    labels_B, train = videos.labels_B, videos.training(sequences[Look.FULL])
    temporal_BC = temporal.looks[Look.FULL].probabilities_VMBC[0].mean(axis=0)
    # Scaled such that the temperature of the temporal members calibrates the linear member too.
    fits = fit_linear_members(videos, train, len(info.classes), scale=fit_temperature(temporal_BC, labels_B, prior))
    looks, look_weights, segments, segment_weights = {}, {}, [], []
    standard_errors = 0.0 if videos.is_crossed else STANDARD_ERRORS
    for look, votes in temporal.looks.items():
        views = tuple(VIEWS if look == Look.FULL else PLAIN)
        linear_V1BC = fits.in_views(videos.validation(sequences[look]), views, videos.folds_B)
        looks[look], look_weights[str(look)] = weigh(
            linear_V1BC, votes, labels_B, videos.groups, prior, standard_errors
        )
    for sample, votes in zip(samples, temporal.segments, strict=True):
        groups = [videos.groups[video] for video in sample.video_P]
        linear_V1PC = fits.in_views(sample.sequences_S, PLAIN, videos.folds_B[sample.video_P])
        joined, fitted_weight = weigh(linear_V1PC, votes, labels_B[sample.video_P], groups, prior, standard_errors)
        segments.append(joined)
        segment_weights.append(fitted_weight.weight)
    top_B = looks[Look.FULL].probabilities_VMBC[0, -1].argmax(axis=1)
    linear = LinearInfo(
        digest=write_linear(directory, fits.member),
        looks=look_weights,
        segments=segment_weights,
        best=_validation_figures(videos, top_B, info.classes),
        members_val_accuracy=float((temporal_BC.argmax(axis=1) == labels_B).mean()),
    )
    linear_V1BC = fits.member.in_views(videos.validation(sequences[Look.FULL]), tuple(VIEWS))
    num_temporal = temporal.whole.probabilities_VMBC.shape[1]
    whole = WeighedVotes(
        probabilities_VMBC=np.concatenate([temporal.whole.probabilities_VMBC, linear_V1BC], axis=1),
        weights_M=member_weights(num_temporal, look_weights[str(Look.FULL)].weight),
    )
    return replace(temporal, looks=looks, segments=segments, whole=whole), linear


@dataclass(frozen=True, kw_only=True)
class _FullLook:
    """Everything that is fitted for predictions from all frames of a video."""

    view_weights: list[ViewWeight]
    """weights of the views (test-time variants of a video)"""
    plain: CalibrationFit
    """temperature and trust score without test-time augmentation"""
    tta: CalibrationFit
    """temperature and trust score with test-time augmentation"""
    spaces: list[FeatureSpace]
    """per backbone, the distribution of the training videos' features"""
    ood: OodLine
    """limit beyond which a video counts as unlike the training videos"""
    ood_score_B: npt.NDArray[np.floating[Any]]
    """how unlike the training videos each validation video is; the limit is at 1"""
    probe: PrecisionProbe
    """some validation videos with their float32 probabilities, on which half precision is checked later"""


@dataclass(frozen=True, kw_only=True)
class _EarlyLook:
    """Everything that is fitted for predictions from only a part of a video's frames."""

    info: LookInfo
    spaces: list[FeatureSpace]
    """per backbone, the distribution of the training videos' features"""
    scores: ValidationScores
    """results of the validation videos, from which thresholds are chosen later"""
    fit: CalibrationFit
    """temperature and trust score"""


def _full_look(
    fitter: CalibrationFitter, sequences_S: list[VideoSequences], votes: WeighedVotes, whole: WeighedVotes
) -> _FullLook:
    """Everything fitted for predictions from all frames: weights of the views (test-time variants of a video),
    temperature and trust score (probability that the answer is right) with and without those views, limit of
    out-of-distribution scores, and videos for a check of half precision. `votes` are out of fold in a cross
    calibration, `whole` are those of all members."""
    videos = fitter.videos
    view_VBC = _views(votes)
    temperature = fit_temperature(view_VBC[0], videos.labels_B, fitter.prior_temperature)
    view_weights = fit_weights(tempered(view_VBC, temperature), videos.labels_B, videos.groups)
    spaces, ood, ood_score_B = fitter.ood(sequences_S)
    val_sequences_S = videos.validation(sequences_S)
    weights_V = np.array([view.weight for view in view_weights], np.float32)
    plain = fitter.fit(
        replace(votes, probabilities_VMBC=votes.probabilities_VMBC[:1]),
        np.ones(1, np.float32),
        val_sequences_S,
        ood_score_B,
    )
    tta = fitter.fit(votes, weights_V, val_sequences_S, ood_score_B)
    return _FullLook(
        view_weights=view_weights,
        plain=plain,
        tta=tta,
        spaces=spaces,
        ood=ood,
        ood_score_B=ood_score_B,
        probe=PrecisionProbe.of_least_sure(val_sequences_S, tempered(_views(whole), tta.calibration.temperature)),
    )


def _views(votes: WeighedVotes) -> npt.NDArray[np.float64]:
    """The average of the members' votes in each view, an array [views, videos, classes]."""
    view_VBC: npt.NDArray[np.float64] = np.tensordot(votes.weights_M, votes.probabilities_VMBC, axes=(0, 1))
    return view_VBC


def _early_look(
    fitter: CalibrationFitter,
    sequences_S: list[VideoSequences],
    votes: WeighedVotes,
    specs: list[FeatureSpec],
) -> _EarlyLook:
    """Everything fitted for predictions from only a part of a video's frames.

    It consists of temperature, trust score (probability that the answer is right) and limit of out-of-distribution
    scores. `specs` describe how the features of that part were extracted, one per backbone; they are empty if the
    features are a selection of the full video's.
    """
    spaces, ood, ood_score_B = fitter.ood(sequences_S)
    fit = fitter.fit(votes, np.ones(1, np.float32), fitter.videos.validation(sequences_S), ood_score_B)
    info = LookInfo(
        num_frames=max(lengths(sequences_S[0])),
        feature_specs=specs,
        calibration=fit.calibration,
        ood=ood,
        trust=fit.score,
        val_accuracy=float((fit.top_B == fitter.videos.labels_B).mean()),
    )
    return _EarlyLook(info=info, spaces=spaces, scores=fitter.validation_scores(fit, ood_score_B), fit=fit)


def _calibrated_sublabels(
    info: MembersInfo,
    features: FeatureSet,
    videos: LabelledVideos,
    conditional_VMBL: Mapping[Look, npt.NDArray[np.float32]],
    full: _FullLook,
    early: Mapping[Any, _EarlyLook],
) -> FittedSublabels:
    """Calibration of the sublabels, which is empty without votes on sublabels."""
    if not conditional_VMBL:
        return FittedSublabels()
    weights_V = np.array([view.weight for view in full.view_weights], np.float32)
    early_fits = {look: fitted.fit for look, fitted in early.items()}
    votes = look_votes(conditional_VMBL, weights_V, full.plain, full.tta, early_fits)
    return fit_sublabels(info.hierarchy, features, videos, votes)


def _validation_figures(videos: LabelledVideos, top_B: npt.NDArray[np.intp], classes: list[str]) -> dict[str, Any]:
    """Accuracy and F1 scores on the validation split, by name as in `ensemble.json`, from the most probable class of
    each video."""
    scores = evaluate(videos.labels_B.tolist(), top_B.tolist(), classes)
    return {
        "val_accuracy": scores.accuracy,
        "val_macro_f1": scores.macro_f1,
        "val_weighted_f1": scores.weighted_f1,
        "val_f1": {name: values.f1 for name, values in scores.per_class.items()},
    }
