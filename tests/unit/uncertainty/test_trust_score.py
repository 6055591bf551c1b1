"""The trust score and its signs, with literal answers."""

from __future__ import annotations

import numpy as np
import pytest

from vidclf.uncertainty import folds, trust_score
from vidclf.uncertainty.trust_score import TrustScore


def test_disagreement_is_none_among_equals_and_half_between_opposites() -> None:
    agreeing, opposed = np.array([[0.9, 0.1]] * 2), np.array([[1.0, 0.0], [0.0, 1.0]])
    votes_NBC = np.stack([agreeing, opposed], axis=1)
    assert trust_score.disagreement(votes_NBC).tolist() == [0.0, 0.5]
    assert trust_score.disagreement(votes_NBC, np.array([1.0, 0.0])).tolist() == [0.0, 0.0]


def test_the_signs_of_two_videos() -> None:
    certain, undecided = [1.0, 0.0], [0.5, 0.5]
    members = np.array([[certain, [1.0, 0.0]], [certain, [0.0, 1.0]]])
    views = np.array([[certain, undecided]])
    signs_BK = trust_score.signs(
        np.array([certain, undecided]), members, views, np.array([1.0, 0.25]), np.array([np.exp(-1), 1.0])
    )
    by_sign = [dict(zip(trust_score.SIGNS, row, strict=True)) for row in signs_BK.tolist()]
    assert by_sign[0] == pytest.approx(dict.fromkeys(trust_score.SIGNS[:5], 1.0) | {"closeness": 1.0}, abs=1e-6)
    expected = dict(zip(trust_score.SIGNS, (0.0, 0.0, 0.5, 1.0, 0.25, 0.0), strict=True))
    assert by_sign[1] == pytest.approx(expected, abs=1e-6)


def labelled_videos(num_videos: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Constant confidences, random signs, and right predictions if frame agreement is high."""
    generator = np.random.default_rng(seed)
    signs_BK = generator.uniform(size=(num_videos, len(trust_score.SIGNS)))
    agreement_B = signs_BK[:, trust_score.SIGNS.index("frame_agreement")]
    return np.full(num_videos, 0.8), signs_BK, agreement_B > 0.25


def test_the_trust_score_learns_which_sign_tells() -> None:
    score = TrustScore.fit(*labelled_videos(400))
    assert score.weights["frame_agreement"] > 1
    assert all(weight < 0.4 for name, weight in score.weights.items() if name != "frame_agreement")
    confidence_B, signs_BK, correct_B = labelled_videos(400, seed=1)
    trust_B = score(confidence_B, signs_BK)
    assert trust_B[correct_B].mean() > 0.9 > 0.4 > trust_B[~correct_B].mean()


def test_no_sign_counts_against_trust() -> None:
    confidence_B, signs_BK, correct_B = labelled_videos(400)
    assert min(TrustScore.fit(confidence_B, signs_BK, ~correct_B).weights.values()) == 0


def test_without_an_error_trust_stays_near_the_confidence() -> None:
    confidence_B, signs_BK, _ = labelled_videos(10)
    score = TrustScore.fit(confidence_B, signs_BK, np.ones(10, bool))
    trust_B = score(confidence_B, signs_BK)
    assert 0.8 < trust_B.min() <= trust_B.max() < 0.95


def test_folds_keep_sources_whole_and_classes_spread() -> None:
    groups = ["a", "a", "b", "c", "d", "d"]
    assert folds.group_folds([0, 0, 0, 1, 1, 1], groups, 2).tolist() == [0, 0, 1, 0, 1, 1]
