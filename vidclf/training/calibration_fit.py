"""Fits of one calibration to the validation videos, with cross-fitted results of each video.

Fitted are the OOD line (limit beyond which a video counts as unlike the training videos), the temperature, and the
trust score (probability that the answer is right), for one look (full or partial view of a video's frames).
Cross-fitted means: each video's results come from a fit without the videos of its source (cut from the same recording).

Shape suffixes: B videos, T frames, D features, C classes, M members, V views (test-time variants of a video), K signs
(indicators that enter the trust score), S backbones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from vidclf.ensemble.inference import BySpace, Votes, vote
from vidclf.ensemble.info import Calibration
from vidclf.features.computed_frames import select
from vidclf.features.feature_set import FeatureSet
from vidclf.metrics.scores import expected_calibration_error
from vidclf.training.linear_fit import WeighedVotes
from vidclf.training.member_folds import NO_FOLD, MemberFolds
from vidclf.uncertainty import folds, trust_score
from vidclf.uncertainty.early_exit import ValidationScores
from vidclf.uncertainty.folds import cross_fitted
from vidclf.uncertainty.frame_agreement import FrameDiscriminant, frame_agreement
from vidclf.uncertainty.ood import FeatureSpace, OodLine, fit_line, fit_space
from vidclf.uncertainty.prediction_sets import TruthScores
from vidclf.uncertainty.temperature import fit_temperature
from vidclf.uncertainty.trust_score import SIGNS, TrustScore

NUM_FOLDS = 5
"""Parts into which the videos are divided for cross-fitting; fewer if there are fewer sources (recordings)."""

VideoSequences = Sequence[npt.NDArray[np.float16]]
"""A list with the features of each video, as an array [T frames, D features].

A `VideoFrames` or `ComputedFrames` has them on the disk.
"""


@dataclass(frozen=True, kw_only=True)
class LabelledVideos:
    """Row numbers of the train and the validation videos in a feature set, with their labels as class indices, their
    sources (recordings that videos were cut from) and their cross-fitting folds.

    In a cross calibration (`of_folds`) all of them are both: each is a train video of the members that do not leave it
    out, and a validation video of those that do.
    """

    in_train: npt.NDArray[np.intp]
    """row numbers of the train videos in the feature set"""
    train_labels: list[int]
    train_folds_B: npt.NDArray[np.int64]
    """cross-fitting fold of each train video"""
    in_val: npt.NDArray[np.intp]
    """row numbers of the validation videos in the feature set"""
    labels_B: npt.NDArray[np.int64]
    """class index of each validation video; the fields below are about validation videos too"""
    groups: list[str]
    """name of each video's source"""
    source_B: npt.NDArray[np.int64]
    """each video's source as a number, from 0"""
    folds_B: npt.NDArray[np.int64]
    """cross-fitting fold of each video; in a cross calibration the fold that members leave out"""
    is_crossed: bool = False
    """whether the calibration is a cross calibration"""

    @classmethod
    def of_folds(cls, features: FeatureSet, classes: list[str], member_folds: MemberFolds) -> LabelledVideos:
        """The videos of a cross calibration: all that are in a fold."""
        rows = np.flatnonzero(member_folds.fold_N != NO_FOLD)
        labels, fold_B = [classes.index(str(features.labels[index])) for index in rows], member_folds.fold_N[rows]
        groups = [member_folds.groups[index] for index in rows]
        return cls(
            in_train=rows,
            train_labels=labels,
            train_folds_B=fold_B,
            in_val=rows,
            labels_B=np.array(labels),
            groups=groups,
            source_B=np.unique(groups, return_inverse=True)[1],
            folds_B=fold_B,
            is_crossed=True,
        )

    @classmethod
    def of(cls, features: FeatureSet, classes: list[str]) -> LabelledVideos:
        """The train and validation videos of a feature set, with class indices into `classes`."""
        splits = np.array(features.splits)
        in_train, in_val = np.flatnonzero(splits == "train"), np.flatnonzero(splits == "val")
        train_labels, labels = (
            [classes.index(str(features.labels[index])) for index in rows] for rows in (in_train, in_val)
        )
        train_groups, groups = ([features.groups[index] for index in rows] for rows in (in_train, in_val))
        return cls(
            in_train=in_train,
            train_labels=train_labels,
            train_folds_B=folds.group_folds(train_labels, train_groups, NUM_FOLDS),
            in_val=in_val,
            labels_B=np.array(labels),
            groups=groups,
            source_B=np.unique(groups, return_inverse=True)[1],
            folds_B=folds.group_folds(labels, groups, min(NUM_FOLDS, len(set(groups)))),
        )

    @property
    def member_folds(self) -> npt.NDArray[np.int64]:
        """The folds that members leave out, in a cross calibration; empty otherwise."""
        return np.unique(self.folds_B) if self.is_crossed else self.folds_B[:0]

    def training(self, sequences_S: Sequence[VideoSequences]) -> list[VideoSequences]:
        """The feature arrays of the train videos only, taken from `sequences_S` (per backbone, the arrays of all
        videos)."""
        return [select(sequences, self.in_train) for sequences in sequences_S]

    def validation(self, sequences_S: Sequence[VideoSequences]) -> list[VideoSequences]:
        """The feature arrays of the validation videos only, taken from `sequences_S` (per backbone, the arrays of all
        videos)."""
        return [select(sequences, self.in_val) for sequences in sequences_S]


@dataclass(frozen=True, kw_only=True)
class CalibrationFit:
    """Temperature and trust score (probability that the answer is right) for one look (full or partial view of a
    video's frames), with the cross-fitted results of the validation videos."""

    calibration: Calibration
    score: TrustScore
    """trust score fitted on all validation videos"""
    trust_B: npt.NDArray[np.float32]
    """trust score of each validation video, from a fit without its source"""
    top_B: npt.NDArray[np.intp]
    """index of the most probable class of each validation video"""
    truth_B: npt.NDArray[np.float32]
    """probability of the true class of each validation video, with a temperature fitted without its source"""
    confidence_B: npt.NDArray[np.float32]
    """probability of its most probable class, likewise"""


@dataclass(frozen=True, kw_only=True)
class CalibrationFitter:
    """Fits temperature, trust score and OOD line (limit for videos unlike the training videos) to the validation
    videos, once per look (full or partial view of a video's frames). Holds the data that all looks share."""

    videos: LabelledVideos
    discriminants: list[FrameDiscriminant]
    """per backbone, the classifier of single frames, whose agreement with the ensemble enters the trust score"""
    fold_discriminants: dict[int, list[FrameDiscriminant]] = field(default_factory=dict)
    """in a cross calibration, per fold the classifiers of single frames that were fitted without it"""
    prior_temperature: float = 1.0
    """temperature that corrects the loss of training, the centre of the prior of every temperature"""

    def ood(
        self, sequences_S: Sequence[VideoSequences]
    ) -> tuple[list[FeatureSpace], OodLine, npt.NDArray[np.floating[Any]]]:
        """Fit of the out-of-distribution (OOD) score, which says how unlike the training videos a video is.

        Returns the distribution of the training videos' features per backbone, the OOD line (limit of the score), and
        the OOD scores [B] of the validation videos. `sequences_S` holds, per backbone, the features of all videos,
        because the distributions are fitted on the train split.
        """
        videos = self.videos
        in_val = videos.in_val[:0] if videos.is_crossed else videos.in_val
        fitted = [
            fit_space(sequences, videos.train_labels, videos.train_folds_B, videos.in_train, in_val)
            for sequences in sequences_S
        ]
        line, unseen_score_B = fit_line([distances_B for _, distances_B in fitted])
        spaces = [space for space, _ in fitted]
        if not videos.is_crossed:
            return spaces, line, unseen_score_B[: len(videos.in_val)]
        # `fit_space` returns the cross-fitted distances fold by fold.
        score_B = np.empty_like(unseen_score_B)
        score_B[np.argsort(videos.train_folds_B, kind="stable")] = unseen_score_B
        return spaces, line, score_B

    def fit(
        self,
        member_votes: WeighedVotes,
        weights_V: npt.NDArray[np.float32],
        sequences_S: BySpace,
        ood_score_B: npt.NDArray[np.floating[Any]],
    ) -> CalibrationFit:
        """Temperature and trust score (probability that the answer is right), fitted on the members' votes for the
        validation videos, with the views (test-time variants of a video) weighted by `weights_V`."""
        labels_B, folds_B = self.videos.labels_B, self.videos.folds_B
        # Cross-fitted, so that signs and confidences belong to videos that the temperature was not fitted on.
        calibration, votes = fit_calibration(member_votes, weights_V, labels_B, folds_B, self.prior_temperature)
        top_B = votes.probabilities_BC.argmax(axis=1)
        agreement_B = self._frame_agreement(sequences_S, top_B)
        signs_BK = trust_score.signs(
            votes.probabilities_BC,
            votes.member_MBC,
            votes.view_VBC,
            agreement_B,
            ood_score_B,
            member_votes.weights_M,
        )
        if self.videos.is_crossed:
            # One member judges a video here, and all together do later: the agreement of members is another one.
            signs_BK[:, SIGNS.index("member_agreement")] = 1.0
        confidence_B = votes.probabilities_BC.max(axis=1)
        score, trust_B = fit_trust(confidence_B, signs_BK, top_B == labels_B, folds_B)
        truth_B = np.take_along_axis(votes.probabilities_BC, labels_B[:, None], axis=1)[:, 0]
        return CalibrationFit(
            calibration=calibration,
            score=score,
            trust_B=trust_B,
            top_B=top_B,
            truth_B=truth_B,
            confidence_B=confidence_B,
        )

    def _frame_agreement(self, sequences_S: BySpace, top_B: npt.NDArray[np.intp]) -> npt.NDArray[np.floating[Any]]:
        """The share of each validation video's frames that classifiers of single frames assign to its most probable
        class `top_B`; in a cross calibration by the classifiers that were fitted without its fold."""
        if not self.videos.is_crossed:
            return frame_agreement(self.discriminants, sequences_S, top_B.tolist())
        agreement_B = np.empty(len(top_B))
        for fold, discriminants in self.fold_discriminants.items():
            rows = np.flatnonzero(self.videos.folds_B == fold)
            chosen_S = [select(sequences, rows) for sequences in sequences_S]
            agreement_B[rows] = frame_agreement(discriminants, chosen_S, top_B[rows].tolist())
        return agreement_B

    def truth_scores(self, fit: CalibrationFit) -> TruthScores:
        """The probabilities of the true classes, from which prediction sets are made."""
        return TruthScores(truth_B=fit.truth_B, label_B=self.videos.labels_B, source_B=self.videos.source_B)

    def validation_scores(self, fit: CalibrationFit, ood_score_B: npt.NDArray[np.floating[Any]]) -> ValidationScores:
        """Trust score, correctness, OOD score (how unlike the training videos) and source of each validation video.
        Thresholds are chosen from them later."""
        return ValidationScores(
            trust_B=fit.trust_B,
            correct_B=fit.top_B == self.videos.labels_B,
            ood_B=ood_score_B.astype(np.float32),
            source_B=self.videos.source_B,
            confidence_B=fit.confidence_B if self.videos.is_crossed else None,
        )


def fit_calibration(
    member_votes: WeighedVotes,
    weights_V: npt.NDArray[np.float32],
    labels_B: npt.NDArray[np.int64],
    folds_B: npt.NDArray[np.int64],
    prior_temperature: float = 1.0,
) -> tuple[Calibration, Votes]:
    """The fitted temperature with the calibration error before and after, and the votes with cross-fitted temperatures.

    Votes are the probabilities of the average, of each member (model of the ensemble) and of each view (test-time
    variant of a video). The temperature in each video's votes is fitted without the videos of its source (cut from the
    same recording).
    """
    probabilities_VMBC, weights_M = member_votes.probabilities_VMBC, member_votes.weights_M
    pooled_BC = np.tensordot(weights_M, np.tensordot(weights_V, probabilities_VMBC, axes=1), axes=1)

    def fit(inside: npt.NDArray[np.bool_]) -> float:
        """The temperature fitted on the videos for which `inside` is true."""
        return fit_temperature(pooled_BC[inside], labels_B[inside], prior_temperature)

    def ece(votes: Votes) -> float:
        """The expected calibration error of the averaged probabilities, a number."""
        top_B = votes.probabilities_BC.argmax(axis=1)
        return expected_calibration_error(votes.probabilities_BC.max(axis=1), top_B == labels_B)

    crossed_B = cross_fitted(folds_B, fit, lambda temperature, inside: temperature)
    crossed = vote(probabilities_VMBC, weights_V, crossed_B[:, None], weights_M)
    calibration = Calibration(
        temperature=fit(np.ones(len(labels_B), bool)),
        ece_before=ece(vote(probabilities_VMBC, weights_V, 1.0, weights_M)),
        ece_after=ece(crossed),
    )
    return calibration, crossed


def fit_trust(
    confidence_B: npt.NDArray[np.float32],
    signs_BK: npt.NDArray[np.floating[Any]],
    correct_B: npt.NDArray[np.bool_],
    folds_B: npt.NDArray[np.int64],
) -> tuple[TrustScore, npt.NDArray[np.float32]]:
    """The trust score (function that estimates the probability that an answer is right) fitted on all videos, and each
    video's score as an array [B], from a fit without its source (videos cut from the same recording)."""

    def fit(inside: npt.NDArray[np.bool_]) -> TrustScore:
        """The trust score fitted on the videos for which `inside` is true."""
        return TrustScore.fit(confidence_B[inside], signs_BK[inside], correct_B[inside])

    crossed_B = cross_fitted(folds_B, fit, lambda score, inside: score(confidence_B[inside], signs_BK[inside]))
    return fit(np.ones(len(correct_B), bool)), crossed_B.astype(np.float32)
