"""ROC, reliability and risk against coverage, with literal answers."""

from __future__ import annotations

import numpy as np
import pytest

from vidclf.metrics import curves

SCORE = np.array([0.9, 0.8, 0.7, 0.6])


def test_roc_counts_the_pairs_in_the_right_order() -> None:
    # Of the four pairs of a video of the class and another video, one is in the wrong order: 0.8 before 0.7.
    found = curves.roc(np.array([0.9, 0.8, 0.7, 0.1]), np.array([True, False, True, False]))
    assert found is not None
    assert found.auc == 0.75
    assert list(zip(found.false_positive_rate, found.true_positive_rate, strict=True)) == [
        (0, 0),
        (0, 0.5),
        (0.5, 0.5),
        (0.5, 1),
        (1, 1),
    ]


@pytest.mark.parametrize("is_class", [True, False])
def test_there_is_no_roc_without_both_sides(is_class: bool) -> None:
    assert curves.roc(SCORE, np.full(4, is_class)) is None


def test_reliability_bins_include_their_upper_edge() -> None:
    bins = curves.reliability(np.array([0.75, 0.8, 1.0]), np.array([True, False, True]), ["a", "b", "c"])
    assert [(b.lower, b.upper, b.num_videos, b.accuracy) for b in bins] == [(0.7, 0.8, 2, 0.5), (0.9, 1.0, 1, 1.0)]
    assert bins[0].mean_confidence == pytest.approx(0.775)
    assert bins[0].accuracy_interval_95 is None


def test_risk_rises_where_a_wrong_video_is_accepted() -> None:
    found = curves.risk_coverage(SCORE, np.array([True, False, True, True]))
    assert found.coverage == [0.25, 0.5, 0.75, 1.0]
    assert found.risk == [0.0, 0.5, 0.33333, 0.25]
    assert found.area == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    # The best order accepts the wrong video last: risk 1/4 at full coverage and 0 before.
    assert found.perfect_area == pytest.approx(1 / 16)


def test_ties_are_accepted_together_in_any_order() -> None:
    scores, correct = np.array([0.9, 0.5, 0.5]), np.array([True, False, True])
    found = curves.risk_coverage(scores, correct)
    assert (found.coverage, found.risk) == ([0.33333, 1.0], [0.0, 0.33333])
    # The expected number of errors is 1/2 after two videos and 1 after three: (0 + 1/4 + 1/3) / 3.
    assert found.area == pytest.approx((0 + 1 / 4 + 1 / 3) / 3)
    assert curves.risk_coverage(scores[[0, 2, 1]], correct[[0, 2, 1]]) == found


def test_a_perfect_score_reaches_the_perfect_area() -> None:
    found = curves.risk_coverage(SCORE, np.array([True, True, False, False]))
    assert found.area == found.perfect_area == pytest.approx((1 / 3 + 1 / 2) / 4)


def test_long_curves_keep_their_ends_and_few_points() -> None:
    score = np.random.default_rng(0).permutation(5000) / 5000
    found = curves.risk_coverage(score, score > 0.3)
    assert len(found.coverage) == curves.MAX_POINTS
    assert (found.coverage[0], found.coverage[-1], found.risk[-1]) == (0.0002, 1.0, 0.3002)
