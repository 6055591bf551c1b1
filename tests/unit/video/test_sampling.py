"""Literal indices of the frames that a sampling plan picks."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest

from vidclf.video import sampling
from vidclf.video.sampling import SamplingPlan


def uniform(pts_ticks: npt.NDArray[np.int64], end_ticks: int, num_frames: int) -> npt.NDArray[np.intp]:
    no_keyframes = np.zeros(len(pts_ticks), dtype=bool)
    plan = SamplingPlan(num_frames=num_frames)
    return sampling.choose(pts_ticks, end_ticks, no_keyframes, Fraction(1), plan, seed="")


@pytest.mark.parametrize(
    ("pts_ticks", "end_ticks", "num_frames", "expected"),
    [
        # Even rate, midpoints between frame times: 1.25, 3.75, 6.25, 8.75.
        (range(10), 10, 4, [1, 3, 6, 8]),
        (range(10), 10, 1, [5]),
        (range(0, 1200, 100), 1200, 4, [1, 4, 7, 10]),
        # As many as the video has frames: every frame once.
        (range(5), 5, 5, [0, 1, 2, 3, 4]),
        # The first time need not be zero, nor positive.
        (range(1000, 1010), 1010, 4, [1, 3, 6, 8]),
        (range(-3, 7), 7, 4, [1, 3, 6, 8]),
        # Variable rate: a long frame that several midpoints pick is returned once.
        ([0, 100, 1000], 1100, 4, [1]),
        ([0, 100, 200, 1000, 1100], 1200, 4, [1, 2, 3]),
        ([0, 10, 20, 30, 1000], 2000, 2, [3, 4]),
        # The last frame's own duration counts: midpoints 25 and 75.
        ([0, 10], 100, 2, [1]),
        # Fewer frames than requested.
        ([0, 10, 20], 30, 8, [0, 1, 2]),
        # One frame.
        ([7], 8, 1, [0]),
        ([7], 8, 16, [0]),
    ],
)
def test_frames_on_screen_at_the_midpoints_are_taken(
    pts_ticks: range | list[int], end_ticks: int, num_frames: int, expected: list[int]
) -> None:
    assert uniform(np.array(pts_ticks, dtype=np.int64), end_ticks, num_frames).tolist() == expected


def test_a_midpoint_at_a_frames_own_time_takes_that_frame() -> None:
    # Midpoints 1, 3, 5, 7, 9 are frame times.
    assert uniform(np.arange(10), 10, 5).tolist() == [1, 3, 5, 7, 9]


def test_a_tie_is_not_lost_to_rounding_at_large_times() -> None:
    # Three ticks per frame, starting at 2**52: the midpoints of three spans fall on the frames 1, 3 and 5.
    pts = 2**52 + 3 * np.arange(6, dtype=np.int64)
    assert uniform(pts, 2**52 + 18, 3).tolist() == [1, 3, 5]


def test_one_tick_before_a_frames_time_the_frame_before_it_is_on_screen() -> None:
    assert uniform(np.array([0, 50]), 100, 1).tolist() == [1]
    assert uniform(np.array([0, 51]), 100, 1).tolist() == [0]


def test_indices_of_a_long_video_stay_exact() -> None:
    # Ten hours at 25 frames/s in nanoseconds.
    pts = np.arange(900_000, dtype=np.int64) * 40_000_000
    assert uniform(pts, 900_000 * 40_000_000, 2).tolist() == [225_000, 675_000]


def test_no_frames_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^pts_ticks must hold at least one frame$"):
        uniform(np.array([], dtype=np.int64), 10, 4)


@pytest.mark.parametrize(
    ("pts_ticks", "end_ticks"),
    [([0, 1, 1], 3), ([0, 2, 1], 3), ([0, 1, 2], 2), ([0, 1, 2], 1)],
    ids=["repeated", "decreasing", "ends at the last frame", "ends before it"],
)
def test_times_that_do_not_increase_are_refused(pts_ticks: list[int], end_ticks: int) -> None:
    with pytest.raises(ValueError, match=r"^pts_ticks must be strictly increasing and end before end_ticks$"):
        uniform(np.array(pts_ticks, dtype=np.int64), end_ticks, 4)


def chosen(plan: SamplingPlan, seed: str = "", keyframes: tuple[int, ...] = ()) -> list[int]:
    """Return the indices that `plan` picks from 100 frames, at one frame per second."""
    is_keyframe = np.isin(np.arange(100), keyframes)
    return sampling.choose(np.arange(100), 100, is_keyframe, Fraction(1), plan, seed).tolist()


def test_middle_samples_a_clip_around_the_middle() -> None:
    # The clip is [45, 55), its midpoints 46, 48, 50, 52, 54.
    assert chosen(SamplingPlan(mode="middle", num_frames=5, clip_duration_s=10)) == [46, 48, 50, 52, 54]


def test_random_samples_a_clip_that_the_seed_places() -> None:
    plan = SamplingPlan(mode="random", num_frames=5, clip_duration_s=10)
    assert chosen(plan, seed="a") == chosen(plan, seed="a")
    starts = {chosen(plan, seed=str(number))[0] for number in range(200)}
    assert min(starts) == 1
    assert max(starts) == 91
    assert all(np.diff(chosen(plan, seed=str(number))).tolist() == [2, 2, 2, 2] for number in range(20))


@pytest.mark.parametrize("mode", ["middle", "random"])
def test_a_video_shorter_than_the_clip_is_taken_whole(mode: str) -> None:
    assert chosen(SamplingPlan(mode=mode, num_frames=4, clip_duration_s=1000)) == [12, 37, 62, 87]


def test_skipped_edges_are_left_out_of_every_mode() -> None:
    assert chosen(SamplingPlan(num_frames=4, skip_edges=0.1)) == [20, 40, 60, 80]
    assert chosen(SamplingPlan(mode="middle", num_frames=2, clip_duration_s=1000, skip_edges=0.4)) == [45, 55]
    keyframes = (0, 10, 50, 89, 90, 99)
    assert chosen(SamplingPlan(mode="keyframes", num_frames=9, skip_edges=0.1), keyframes=keyframes) == [10, 50, 89]


def test_keyframes_are_evenly_chosen_by_their_order() -> None:
    keyframes = tuple(range(0, 100, 10))
    assert chosen(SamplingPlan(mode="keyframes", num_frames=3), keyframes=keyframes) == [10, 50, 80]
    assert chosen(SamplingPlan(mode="keyframes", num_frames=10), keyframes=keyframes) == list(keyframes)


def test_without_a_keyframe_in_range_the_middle_frame_is_taken() -> None:
    assert chosen(SamplingPlan(mode="keyframes", num_frames=3, skip_edges=0.2), keyframes=(0,)) == [50]


def test_alternatives_are_nearer_to_their_frame_than_to_its_neighbours_and_nearest_first() -> None:
    pts = np.arange(0, 300, 10)
    chosen = np.array([5, 15, 25])
    every = np.ones(30, bool)
    # Candidates are frames 11 to 19 without 15; every second one of them is taken.
    assert sampling.alternatives(pts, chosen, every, 15) == [14, 17, 12, 19]
    # The first chosen frame has no neighbour before it, so candidates start at frame 0. Frame 10, in the middle
    # between two chosen frames, is a candidate of neither.
    assert sampling.alternatives(pts, chosen, every, 5) == [6, 3, 8, 1]
    assert sampling.alternatives(pts, chosen, every, 25) == [24, 27, 22, 29]


def test_alternatives_are_eligible_and_may_be_none() -> None:
    pts = np.arange(10)
    keyframes = np.isin(np.arange(10), [0, 2, 4, 6, 8])
    assert sampling.alternatives(pts, np.array([2, 8]), keyframes, 2) == [0, 4]
    assert sampling.alternatives(pts, np.arange(10), np.ones(10, bool), 3) == []
