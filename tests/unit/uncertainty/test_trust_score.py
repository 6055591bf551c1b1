"""The pieces of trust, each with its answer."""

from __future__ import annotations

import numpy as np
import pytest

from vidclf.uncertainty import folds, trust_score
from vidclf.uncertainty.risk_threshold import risk_threshold, videos_to_certify
from vidclf.uncertainty.trust_score import TrustScore


def test_disagreement_is_none_among_equals_and_half_between_opposites() -> None:
    agreeing, opposed = np.array([[0.9, 0.1]] * 2), np.array([[1.0, 0.0], [0.0, 1.0]])
    votes_NBC = np.stack([agreeing, opposed], axis=1)
    assert trust_score.disagreement(votes_NBC).tolist() == [0.0, 0.5]
    assert trust_score.disagreement(votes_NBC, np.array([1.0, 0.0])).tolist() == [0.0, 0.0]


def test_the_signs_of_two_videos() -> None:
    sure, torn = [1.0, 0.0], [0.5, 0.5]
    members = np.array([[sure, [1.0, 0.0]], [sure, [0.0, 1.0]]])
    views = np.array([[sure, torn]])
    found = trust_score.signs(
        np.array([sure, torn]), members, views, np.array([1.0, 0.25]), np.array([np.exp(-1), 1.0])
    )
    named = [dict(zip(trust_score.SIGNS, row, strict=True)) for row in found.tolist()]
    assert named[0] == pytest.approx(dict.fromkeys(trust_score.SIGNS[:5], 1.0) | {"closeness": 1.0}, abs=1e-6)
    expected = dict(zip(trust_score.SIGNS, (0.0, 0.0, 0.5, 1.0, 0.25, 0.0), strict=True))
    assert named[1] == pytest.approx(expected, abs=1e-6)


def made(num_videos: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidences that say nothing, signs, and right answers where frame agreement is high."""
    generator = np.random.default_rng(seed)
    signs_BK = generator.uniform(size=(num_videos, len(trust_score.SIGNS)))
    agreement_B = signs_BK[:, trust_score.SIGNS.index("frame_agreement")]
    return np.full(num_videos, 0.8), signs_BK, agreement_B > 0.25


def test_the_trust_score_learns_which_sign_tells() -> None:
    score = TrustScore.fit(*made(400))
    assert score.weights["frame_agreement"] > 1
    assert all(weight < 0.4 for name, weight in score.weights.items() if name != "frame_agreement")
    confidence_B, signs_BK, correct_B = made(400, seed=1)
    trust_B = score(confidence_B, signs_BK)
    assert trust_B[correct_B].mean() > 0.9 > 0.4 > trust_B[~correct_B].mean()


def test_no_sign_counts_against_trust() -> None:
    confidence_B, signs_BK, correct_B = made(400)
    assert min(TrustScore.fit(confidence_B, signs_BK, ~correct_B).weights.values()) == 0


def test_without_an_error_trust_stays_near_the_confidence() -> None:
    confidence_B, signs_BK, _ = made(10)
    score = TrustScore.fit(confidence_B, signs_BK, np.ones(10, bool))
    trust_B = score(confidence_B, signs_BK)
    assert 0.8 < trust_B.min() <= trust_B.max() < 0.95


def test_folds_keep_sources_whole_and_classes_spread() -> None:
    groups = ["a", "a", "b", "c", "d", "d"]
    assert folds.group_folds([0, 0, 0, 1, 1, 1], groups, 2).tolist() == [0, 0, 1, 0, 1, 1]


def test_a_risk_needs_this_many_videos_without_an_error() -> None:
    assert [videos_to_certify(risk) for risk in (0.05, 0.1, 0.2)] == [45, 22, 11]


def test_with_enough_right_answers_the_risk_is_certified_and_all_are_accepted() -> None:
    found = risk_threshold(np.full(45, 0.9), np.ones(45, bool), 0.05)
    assert (found.basis, found.threshold, found.num_accepted, found.num_errors) == ("certified", 0.0, 45, 0)


def test_the_threshold_lies_above_the_errors() -> None:
    # 60 right from 0.505 on, then 10 wrong ones around 0.3: with all of them the risk is over 0.05.
    trust_B = np.r_[np.linspace(0.505, 0.995, 60), np.full(10, 0.305)]
    found = risk_threshold(trust_B, np.r_[np.ones(60, bool), np.zeros(10, bool)], 0.05)
    assert (found.basis, found.threshold, found.num_accepted, found.num_errors) == ("certified", 0.31, 60, 0)


def test_with_too_few_videos_the_risk_is_estimated() -> None:
    found = risk_threshold(np.full(44, 0.9), np.ones(44, bool), 0.05)
    assert (found.basis, found.threshold, found.num_accepted) == ("estimated", 0.0, 44)
    assert found.estimate == pytest.approx(1 / 46)


def test_with_hardly_any_videos_the_least_estimate_is_taken_and_said_to_be_none() -> None:
    found = risk_threshold(np.array([0.9, 0.8, 0.7, 0.205]), np.array([True, True, True, False]), 0.05)
    assert (found.basis, found.threshold, found.num_accepted, found.estimate) == ("unreached", 0.21, 3, 0.2)
