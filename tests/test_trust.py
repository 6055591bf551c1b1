"""The pieces of trust, each with its answer."""

from __future__ import annotations

import numpy as np
import pytest

from vidclf.learning import trust
from vidclf.learning.trust import FeatureSpace, TrustScore, risk_threshold

SPACE = FeatureSpace(means_CD=np.eye(2, dtype=np.float32), precision_DD=np.diag([1.0, 0.25]).astype(np.float32))


def test_a_video_is_the_mean_of_its_frames_signed_roots_at_unit_length() -> None:
    sequences = [np.array([[0.0, 64.0], [36.0, 0.0]]), np.array([[9.0, -16.0]])]
    np.testing.assert_allclose(trust.video_features(sequences), [[0.6, 0.8], [0.6, -0.8]], rtol=1e-6)


def test_the_distance_is_to_the_nearest_class() -> None:
    # (0.6, 0.8): 0.4² + 0.8² / 4 to the first class, 0.6² + 0.2² / 4 to the other.
    sequences = [np.array([[0.0, 64.0], [36.0, 0.0]]), np.array([[0.0, 7.0]])]
    np.testing.assert_allclose(SPACE.distances(sequences), np.sqrt([0.32, 0.0]), rtol=1e-6)


def test_frame_agreement_is_the_share_of_frames_nearest_to_the_top_class() -> None:
    sequence = np.array([[1.0, 0.0], [5.0, 1.0], [0.0, 2.0], [3.0, 0.0]])
    assert SPACE.frame_agreement([sequence, sequence[:3]], [0, 1]).tolist() == pytest.approx([0.75, 1 / 3])


def test_a_precision_is_shrunk_to_the_mean_in_every_direction() -> None:
    # Variance 2 along the first of four dimensions, 0.5 on average: a twentieth of it stays where it is.
    along, across = 1 / (0.05 * 2 + 0.95 * 0.5), 1 / (0.95 * 0.5)
    rows_BD = np.sqrt(2) * np.array([[1.0, 0, 0, 0], [-1.0, 0, 0, 0]])
    np.testing.assert_allclose(trust.shrunk_precision(rows_BD), np.diag([along, across, across, across]), rtol=1e-9)


def signed_square(value: float) -> float:
    return float(value * abs(value))


def test_a_space_is_fitted_around_the_class_means() -> None:
    labels = [0, 1] * 50
    # Unit vectors at ± 0.1 rad around each axis: the spread across the axis is sin² 0.1.
    angles = [label * np.pi / 2 + (0.1 if index % 4 < 2 else -0.1) for index, label in enumerate(labels)]
    space = FeatureSpace.fit(
        [5 * np.array([[signed_square(np.cos(a)), signed_square(np.sin(a))]]) for a in angles], labels, 2
    )
    np.testing.assert_allclose(space.means_CD, np.cos(0.1) * np.eye(2), atol=1e-6)
    # Half of the videos spread along each dimension, so the shrunk covariance has half of it on the diagonal.
    np.testing.assert_allclose(space.precision_DD, np.eye(2) * 2 / np.sin(0.1) ** 2, rtol=1e-4)


def test_disagreement_is_none_among_equals_and_half_between_opposites() -> None:
    agreeing, opposed = np.array([[0.9, 0.1]] * 2), np.array([[1.0, 0.0], [0.0, 1.0]])
    votes_NBC = np.stack([agreeing, opposed], axis=1)
    assert trust.disagreement(votes_NBC).tolist() == [0.0, 0.5]
    assert trust.disagreement(votes_NBC, np.array([1.0, 0.0])).tolist() == [0.0, 0.0]


def test_the_signs_of_two_videos() -> None:
    sure, torn = [1.0, 0.0], [0.5, 0.5]
    members = np.array([[sure, [1.0, 0.0]], [sure, [0.0, 1.0]]])
    views = np.array([[sure, torn]])
    found = trust.signs(np.array([sure, torn]), members, views, np.array([1.0, 0.25]), np.array([np.exp(-1), 1.0]))
    named = [dict(zip(trust.SIGNS, row, strict=True)) for row in found.tolist()]
    assert named[0] == pytest.approx(dict.fromkeys(trust.SIGNS[:5], 1.0) | {"closeness": 1.0}, abs=1e-6)
    expected = dict(zip(trust.SIGNS, (0.0, 0.0, 0.5, 1.0, 0.25, 0.0), strict=True))
    assert named[1] == pytest.approx(expected, abs=1e-6)


def made(num_videos: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidences that say nothing, signs, and right answers where frame agreement is high."""
    generator = np.random.default_rng(seed)
    signs_BK = generator.uniform(size=(num_videos, len(trust.SIGNS)))
    agreement_B = signs_BK[:, trust.SIGNS.index("frame_agreement")]
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
    assert trust.group_folds([0, 0, 0, 1, 1, 1], groups, 2).tolist() == [0, 0, 1, 0, 1, 1]


@pytest.mark.parametrize(
    ("num", "quantile", "level"),
    [(9, 9.0, 0.9), (99, 99.0, 0.99), (100, 100.0, 0.99), (199, 198.0, 0.99)],
)
def test_the_conformal_quantile(num: int, quantile: float, level: float) -> None:
    assert trust.conformal_quantile(np.arange(1.0, num + 1), 0.99) == (quantile, level)


def test_a_risk_needs_this_many_videos_without_an_error() -> None:
    assert [trust.videos_to_certify(risk) for risk in (0.05, 0.1, 0.2)] == [45, 22, 11]


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
