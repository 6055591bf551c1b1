"""Confidence intervals over sources, compared with scipy in the cases that it covers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from vidclf.metrics import intervals
from vidclf.metrics.intervals import F1Intervals, SourceIntervals


def test_below_five_sources_there_is_no_interval() -> None:
    right_B = np.array([True] * 39 + [False])
    assert SourceIntervals([str(i % 4) for i in range(40)]).share(right_B) is None
    assert SourceIntervals([str(i % 5) for i in range(40)]).share(right_B) is not None
    # Four of the five sources contribute.
    of_five = SourceIntervals([str(i % 5) for i in range(40)])
    assert of_five.share(right_B, np.arange(40) % 5 > 0) is None
    with pytest.raises(ValueError, match="at least one video"):
        SourceIntervals([])


def test_where_every_video_is_right_a_source_counts_once() -> None:
    exact = stats.binomtest(20, 20).proportion_ci(method="exact")
    found = SourceIntervals([str(i % 20) for i in range(200)]).share(np.ones(200, bool))
    assert found == pytest.approx((exact.low, exact.high))
    exact = stats.binomtest(0, 20).proportion_ci(method="exact")
    found = SourceIntervals([str(i % 20) for i in range(200)]).share(np.zeros(200, bool))
    assert found == pytest.approx((exact.low, exact.high))


def test_videos_that_agree_within_their_source_tell_no_more_than_one_of_it() -> None:
    groups = [str(i // 10) for i in range(1000)]
    right_B = np.arange(1000) // 10 < 80
    of_videos = SourceIntervals(groups).share(right_B)
    of_sources = SourceIntervals(groups[::10]).share(right_B[::10])
    assert of_sources == pytest.approx(stats.binomtest(80, 100).proportion_ci(method="exact"), abs=2e-3)
    low, high = of_videos or (0, 0)
    assert (low, high) == pytest.approx(of_sources, abs=5e-3)
    by_videos = stats.binomtest(800, 1000).proportion_ci(method="exact")
    assert high - low > 3 * (by_videos.high - by_videos.low)


def test_the_mean_of_sources_counts_large_ones_as_small_ones() -> None:
    groups = ["large"] * 80 + [str(i) for i in range(20)]
    right_B = np.array([False] * 80 + [True] * 20)
    mean, found = SourceIntervals(groups).mean_of_sources(right_B)
    assert mean == pytest.approx(20 / 21)
    low, high = found or (0, 0)
    assert low < 20 / 21 < high


def test_a_difference_is_students_of_the_sources() -> None:
    groups = [str(i // 4) for i in range(40)]
    generator = np.random.default_rng(0)
    one_B, other_B = generator.uniform(size=(2, 40)) < [[0.9], [0.5]]
    gain_G = (one_B.astype(float) - other_B).reshape(10, 4).mean(axis=1)
    expected = stats.t.interval(0.95, 9, loc=gain_G.mean(), scale=stats.sem(gain_G))
    assert SourceIntervals(groups).difference(one_B, other_B) == pytest.approx(expected)
    # An observed difference of 0 is uncertain too: as wide as the interval of a share of 0 of 10 sources.
    high = stats.binomtest(0, 10).proportion_ci(method="exact").high
    assert SourceIntervals(groups).difference(one_B, one_B) == pytest.approx((-high, high))


def test_f1_has_an_interval_where_its_class_is_seen() -> None:
    label_B = np.arange(100) % 2
    top_B = np.where(np.arange(100) < 10, 1 - label_B, label_B)
    sources = SourceIntervals([str(i // 2) for i in range(100)])
    found = F1Intervals.of(sources, label_B[:, None] == np.arange(3), top_B[:, None] == np.arange(3))
    low, high = found.per_class[0] or (0, 0)
    assert low < 0.9 < high
    assert found.per_class[2] is None
    # Both classes have the same errors, so each mean equals the accuracy.
    accuracy = sources.share(label_B == top_B)
    assert found.macro == pytest.approx(accuracy)
    assert found.weighted == pytest.approx(accuracy)


@pytest.mark.parametrize(("num_sources", "correlation"), [(5, 0.9), (8, 0.5), (8, 0.0), (15, 0.9)])
def test_intervals_cover(num_sources: int, correlation: float) -> None:
    """95 % intervals contain the true share in 93 % of the samples. The percentile bootstrap reaches 70 % with 5
    sources and 81 % with 8."""
    generator = np.random.default_rng(0)
    contains_share = []
    for _ in range(400):
        independent_GV = generator.uniform(size=(num_sources, 10)) < 0.8
        is_copy_GV = generator.uniform(size=(num_sources, 10)) < correlation**0.5
        right_GV = np.where(is_copy_GV, generator.uniform(size=(num_sources, 1)) < 0.8, independent_GV)
        low, high = intervals.of_ratio(right_GV.sum(axis=1) * 1.0, np.full(num_sources, 10.0)) or (0, 0)
        contains_share.append(low <= 0.8 <= high)
    assert np.mean(contains_share) >= 0.93
