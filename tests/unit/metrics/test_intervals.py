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


def test_a_few_large_sources_count_for_no_more_than_they_are() -> None:
    sizes = [60] + [3] * 7
    groups = [str(source) for source, size in enumerate(sizes) for _ in range(size)]
    # 81² / (60² + 7 · 3²) = 1.79 effective sources, though there are 8.
    assert intervals.effective_sources(np.array(sizes, float)) == pytest.approx(1.791, abs=1e-3)
    assert SourceIntervals(groups).share(np.arange(81) > 0) is None
    assert SourceIntervals(groups).difference(np.arange(81) > 0, np.ones(81, bool)) is None
    # 12 large and 88 small ones: the variance is made by the large ones, which leave 11.4 degrees of freedom.
    assert intervals.degrees_of_freedom(np.array([60.0] * 12 + [3] * 88)) == pytest.approx(11.44, abs=0.01)


def test_an_interval_allows_for_sources_that_are_wrong_and_were_not_seen() -> None:
    """One video each of three sources is wrong. At a true accuracy of 0.9, no source of 25 is wrong as a whole with a
    probability of 0.07."""
    right_GV = np.ones((25, 10), bool)
    right_GV[:3, 0] = False
    low, high = SourceIntervals([str(i // 10) for i in range(250)]).share(right_GV.ravel()) or (0, 0)
    # The exact interval of 24.7 of 25. That of the variance alone begins at 0.96.
    assert (low, high) == pytest.approx((0.8413, 1.0), abs=1e-3)


def test_a_difference_is_made_of_the_shares_gained_and_lost() -> None:
    groups = [str(i) for i in range(100)]
    one_B, other_B = np.arange(100) < 90, np.arange(100) >= 20
    # 20 gained and 10 lost of 100. Student's interval of the difference is 0.1 ± 0.108.
    low, high = SourceIntervals(groups).difference(one_B, other_B) or (0, 0)
    assert (low, high) == pytest.approx((-0.0142, 0.2122), abs=1e-3)
    # An observed difference of 0 is uncertain too: as wide as the interval of a share of 0 of 10 sources.
    high = stats.binomtest(0, 10).proportion_ci(method="exact").high
    assert SourceIntervals([str(i % 10) for i in range(100)]).difference(one_B, one_B) == pytest.approx((-high, high))


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


FEW_LARGE = (3, 3, 3, 3, 3, 3, 3, 60)


@pytest.mark.parametrize(
    ("num_sources", "sizes", "correlation", "share"),
    [
        (5, (10,), 0.9, 0.8),
        (8, (10,), 0.5, 0.8),
        (8, (10,), 0.0, 0.8),
        (20, (10,), 0.5, 0.9),
        (60, (10,), 0.5, 0.97),
        (100, FEW_LARGE, 0.5, 0.9),
        (200, FEW_LARGE, 0.9, 0.97),
    ],
)
def test_intervals_cover(num_sources: int, sizes: tuple[int, ...], correlation: float, share: float) -> None:
    """95 % intervals contain the true share in 94 % of the samples. With few large sources, intervals by Kish's number
    of effective sources alone contain it in 83 % and 65 %; with 60 sources in 85 %."""
    generator = np.random.default_rng(0)
    num_DG = generator.choice(sizes, (400, num_sources))
    num_copies_DG = generator.binomial(num_DG, correlation**0.5)
    right_DG = generator.binomial(num_DG - num_copies_DG, share)
    right_DG += num_copies_DG * (generator.uniform(size=num_DG.shape) < share)
    found = [intervals.of_ratio(right_G * 1.0, num_G * 1.0) for right_G, num_G in zip(right_DG, num_DG, strict=True)]
    given = [interval for interval in found if interval is not None]
    assert len(given) >= 390
    assert np.mean([low <= share <= high for low, high in given]) >= 0.94
