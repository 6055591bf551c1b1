"""Bootstrap over sources with answers that can be worked out."""

from __future__ import annotations

import numpy as np
import pytest

from vidclf.metrics.bootstrap import GroupBootstrap, interval_95, ratio


def test_a_single_source_cannot_vary() -> None:
    bootstrap = GroupBootstrap(["a", "a", "a"], num_resamples=5)
    assert bootstrap.num_groups == 1
    assert bootstrap.sums(np.array([[1], [0], [1]])).tolist() == [[2.0]] * 5


def test_whole_sources_are_drawn_as_many_as_there_are() -> None:
    # Source a has three videos, b one: a resample holds a-a (6 videos), a-b (4) or b-b (2).
    sums_RK = GroupBootstrap(["a", "b", "a", "a"], num_resamples=2000).sums(np.array([[1], [1], [1], [1]]))
    totals, counts = np.unique(sums_RK[:, 0], return_counts=True)
    assert totals.tolist() == [2, 4, 6]
    assert counts / 2000 == pytest.approx([0.25, 0.5, 0.25], abs=0.04)


def test_sums_of_one_call_and_of_two_are_of_the_same_resamples() -> None:
    values_BK = np.random.default_rng(0).integers(0, 2, (50, 3))
    bootstrap = GroupBootstrap([f"s{i % 20}" for i in range(50)], num_resamples=30)
    apart = [bootstrap.sums(values_BK[:, [column]])[:, 0].tolist() for column in range(3)]
    assert bootstrap.sums(values_BK).T.tolist() == apart


def test_the_interval_of_a_share_is_about_two_standard_errors() -> None:
    right_B = np.arange(400) % 10 < 8
    sums_RK = GroupBootstrap([str(i) for i in range(400)]).sums(np.stack([right_B, np.ones(400)], axis=1))
    # 1.96 × sqrt(0.8 × 0.2 / 400) = 0.0392
    assert interval_95(ratio(sums_RK[:, 0], sums_RK[:, 1])) == pytest.approx((0.7608, 0.8392), abs=0.006)


def test_resamples_without_the_class_do_not_count() -> None:
    share_R = ratio(np.array([1.0, 0.0, 1.0]), np.array([1.0, 0.0, 2.0]))
    assert np.isnan(share_R).tolist() == [False, True, False]
    assert interval_95(share_R) == pytest.approx((0.5125, 0.9875))
    assert interval_95(np.array([np.nan])) is None


def test_no_video_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one video"):
        GroupBootstrap([])
