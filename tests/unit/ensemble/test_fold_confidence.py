"""Confidence by the members of one fold: literal values, and false alarms of drift after a cross calibration."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from vidclf.ensemble.fold_confidence import FoldConfidence, fold_of_run
from vidclf.ensemble.inference import vote
from vidclf.training.calibration_fit import fit_calibration
from vidclf.training.linear_fit import WeighedVotes
from vidclf.uncertainty import drift
from vidclf.uncertainty.drift import Scores, compare

ONE_VIEW = np.ones(1, np.float32)
NUM_MEMBERS = 4


def test_the_members_of_the_fold_and_the_linear_member_judge() -> None:
    # Members 0 and 2 leave out fold 0, member 1 leaves out fold 1; then the linear member.
    first_class_MB = np.array([[0.9, 0.9], [0.2, 0.2], [0.7, 0.7], [0.4, 0.4]])
    votes_MBC = np.stack([first_class_MB, 1 - first_class_MB], axis=2)
    confidence = FoldConfidence(num_members=3, num_folds=2, linear_weight=0.5, temperature=1.0)
    # (0.9 + 0.7) / 2 and 0.4 for the first video; 0.8 of the second class and 0.6 for the other.
    np.testing.assert_allclose(confidence(votes_MBC, np.array([0, 1])), [0.6, 0.7], atol=1e-6)
    alone = FoldConfidence(num_members=3, num_folds=2, linear_weight=None, temperature=1.0)
    np.testing.assert_allclose(alone(votes_MBC[:3], np.array([0, 1])), [0.8, 0.8], atol=1e-6)


def test_members_are_averaged_before_the_temperature() -> None:
    plain_MBC = np.array([[[0.8, 0.2]], [[0.4, 0.6]]], np.float32)
    votes = vote(plain_MBC[None], ONE_VIEW, 2.0, np.array([0.5, 0.5]))
    confidence = FoldConfidence(num_members=2, num_folds=1, linear_weight=None, temperature=2.0)
    np.testing.assert_allclose(confidence(votes.member_MBC, np.zeros(1, int)), votes.probabilities_BC.max(axis=1))


def test_a_video_keeps_its_fold_and_folds_are_about_equally_large() -> None:
    ids = [f"video {index}" for index in range(4000)]
    folds_B = fold_of_run(ids, 4)
    assert folds_B[:5].tolist() == fold_of_run(ids[:5], 4).tolist()
    assert all(900 < count < 1100 for count in np.bincount(folds_B, minlength=4))


def members_of(generator: np.random.Generator, num_videos: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes of videos and probabilities [members, videos, classes] by members that differ much."""
    labels_B = generator.integers(0, 4, num_videos)
    shared_BC = 3 * np.eye(4)[labels_B] + generator.normal(0, 1.5, (num_videos, 4))
    own_MBC = generator.normal(0, 1.5, (NUM_MEMBERS, num_videos, 4))
    return labels_B, softmax(shared_BC + own_MBC, axis=2).astype(np.float32)


@pytest.mark.parametrize(("is_by_fold", "least", "most"), [(True, 0, 6), (False, 50, 50)])
def test_an_archive_like_that_of_a_cross_calibration_is_no_drift(is_by_fold: bool, least: int, most: int) -> None:
    """The average of all members, which is less confident than one member, would raise a false alarm each time."""
    generator, alarms = np.random.default_rng(0), 0
    for _ in range(50):
        labels_B, held_out_MBC = members_of(generator, 200)
        folds_B = np.arange(200) % NUM_MEMBERS
        crossed = WeighedVotes.equal(held_out_MBC[folds_B, np.arange(200)][None, None])
        calibration, votes = fit_calibration(crossed, ONE_VIEW, labels_B, folds_B)
        _, run_MBC = members_of(generator, 1000)
        run = vote(run_MBC[None], ONE_VIEW, calibration.temperature, np.full(NUM_MEMBERS, 1 / NUM_MEMBERS))
        confidence = FoldConfidence(
            num_members=NUM_MEMBERS, num_folds=NUM_MEMBERS, linear_weight=None, temperature=calibration.temperature
        )
        folds_of_run_B = fold_of_run([f"video {index}" for index in range(1000)], NUM_MEMBERS)
        seen_B = confidence(run.member_MBC, folds_of_run_B) if is_by_fold else run.probabilities_BC.max(axis=1)
        known, archive = (
            Scores.of(confidence_B, generator.uniform(0, 1, len(confidence_B)), range(len(confidence_B)), measure)
            for confidence_B, measure in (
                (votes.probabilities_BC.max(axis=1), drift.CONFIDENCE),
                (seen_B, drift.CONFIDENCE),
            )
        )
        alarms += drift.CONFIDENCE in compare(known, archive, 0.95, 200).found
    assert least <= alarms <= most
