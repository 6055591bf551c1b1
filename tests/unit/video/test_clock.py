"""Jumps of a video's clock are closed, with literal times."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from vidclf.video import clock
from vidclf.video.clock import ClosedClock, PacketTimes


def close(
    pts: list[int | None],
    dts: list[int | None] | None = None,
    *,
    keyframes: list[int] | None = None,
    last_duration: int = 100,
    may_restart: bool = False,
) -> ClosedClock:
    """Close the jumps between packets at these milliseconds; without `dts`, frames are shown as they are decoded."""
    decoding = pts if dts is None else dts
    return clock.close_jumps(
        PacketTimes(
            pts_ticks=np.array([time or 0 for time in pts]),
            dts_ticks=np.array([time or 0 for time in decoding]),
            has_dts=np.array([time is not None for time in decoding]),
            has_pts=np.array([time is not None for time in pts]),
            durations_ticks=np.array([100] * (len(pts) - 1) + [last_duration]),
            is_keyframe=np.isin(np.arange(len(pts)), keyframes or [0]),
            is_shown=np.ones(len(pts), bool),
            time_base=Fraction(1, 1000),
            may_restart=may_restart,
        )
    )


def test_an_even_clock_stays_as_it_is() -> None:
    closed = close([0, 300, 100, 200, 600, 400, 500], [-100, 0, 100, 200, 300, 400, 500])
    assert (closed.pts_ticks.tolist(), closed.num_jumps) == ([0, 300, 100, 200, 600, 400, 500], 0)
    assert closed.last_duration_ticks == 100


def test_first_decoding_times_that_nobody_knows_are_no_jump() -> None:
    closed = close([0, 300, 100, 200, 600, 400, 500], [None, None, 0, 100, 200, 300, 400])
    assert (closed.pts_ticks.tolist(), closed.num_jumps) == ([0, 300, 100, 200, 600, 400, 500], 0)


@pytest.mark.parametrize(
    ("pts", "num_jumps"),
    [
        ([0, 100, 200, 300, 400, 36_000_500], 1),  # the last frame ten hours later
        ([0, 1_700_100, 1_700_200, 1_700_300, 1_700_400, 1_700_500], 1),  # the first frame at zero
        ([0, 100, 200, 9_000_000, 400, 500], 2),  # a frame in the middle
        ([0, 100, 200, -9_000_000, 400, 500], 2),
    ],
)
def test_one_wild_time_becomes_the_time_of_its_place(pts: list[int | None], num_jumps: int) -> None:
    closed = close(pts)
    assert (closed.pts_ticks - closed.pts_ticks[0]).tolist() == [0, 100, 200, 300, 400, 500]
    assert closed.num_jumps == num_jumps


def test_a_last_frame_of_an_hour_lasts_as_long_as_the_others() -> None:
    closed = close([0, 100, 200], last_duration=3_600_000)
    assert (closed.last_duration_ticks, closed.num_jumps) == (100, 1)


def test_stills_are_no_jumps() -> None:
    two = close([0, 3_600_000], last_duration=3_600_000)
    assert (two.pts_ticks.tolist(), two.num_jumps) == ([0, 3_600_000], 0)
    slides = close([0, 20_000, 40_000, 140_000], last_duration=20_000)
    assert (slides.pts_ticks.tolist(), slides.num_jumps) == ([0, 20_000, 40_000, 140_000], 0)
    # The still in the middle lasts 11 s, and the rest of the video 12 s.
    times: list[int | None] = [*range(0, 6_000, 100), *range(17_000, 23_000, 100)]
    assert close(times).num_jumps == 0


@pytest.mark.parametrize("start", [0, 250, 380, 20_000])
def test_a_joined_recording_follows_the_one_before_it(start: int) -> None:
    pts: list[int | None] = [0, 100, 200, 300, 400, start, start + 100, start + 200]
    closed = close(pts, keyframes=[0, 5], may_restart=True)
    assert closed.pts_ticks.tolist() == [0, 100, 200, 300, 400, 500, 600, 700]
    assert closed.num_jumps == 1


@pytest.mark.parametrize(
    ("pts", "place"),
    [([100, 400, 200, 300, 60_000], 500), ([100, 500, 200, 300, 60_000], 400), ([100, 500, 300, 200, 60_000], 400)],
)
def test_the_last_frame_before_a_joint_has_its_own_time(pts: list[int | None], place: int) -> None:
    # In a program stream it gets the time of the recording behind the joint.
    decoding: list[int | None] = [0, 100, 200, 300, 400, 60_000, 60_100]
    closed = close([*pts, 60_100, 60_200], decoding, keyframes=[0, 5], may_restart=True)
    assert closed.pts_ticks.tolist() == [*pts[:4], place, 600, 700]
    assert (closed.num_jumps, closed.has_pts.all()) == (1, True)


def test_many_joints_with_a_wild_time_each_are_closed() -> None:
    starts = range(0, 20_000 * 20_000, 20_000)
    decoding: list[int | None] = [time for start in starts for time in (start, start + 100)]
    # The last frame of each part has the time of the next part.
    pts: list[int | None] = [time for start in starts for time in (start, start + 20_000)]
    closed = close([*pts[:-1], decoding[-1]], decoding, may_restart=True)
    assert closed.pts_ticks.tolist() == list(range(0, 4_000_000, 100))


def test_a_small_step_backwards_that_begins_no_recording_is_no_jump() -> None:
    closed = close([0, 100, 300, 200, 400], [0, 100, 140, 120, 300], may_restart=True)
    assert (closed.pts_ticks.tolist(), closed.num_jumps) == ([0, 100, 300, 200, 400], 0)
    # FFmpeg takes a picture of an MPEG-1 program stream for the one before it.
    closed = close([0, 100, 200, 300, 300, 400, 500], [0, 100, 200, 300, 200, 300, 400], may_restart=True)
    assert (closed.pts_ticks.tolist(), closed.num_jumps) == ([0, 100, 200, 300, 300, 400, 500], 0)


def test_a_time_whose_place_is_unknown_counts_as_missing() -> None:
    decoding: list[int | None] = list(range(0, 10_000, 100))
    pts: list[int | None] = [*range(200, 5_000, 100), 3_600_000, 5_000, *range(5_200, 10_200, 100)]
    for may_restart in (False, True):
        closed = close(pts, decoding, may_restart=may_restart)
        assert np.flatnonzero(~closed.has_pts).tolist() == [48]
        assert closed.num_jumps == 1


def test_a_last_still_lasts_as_long_as_the_others() -> None:
    closed = close([0, 1_800_000], last_duration=100)
    assert (closed.last_duration_ticks, closed.num_jumps) == (1_800_000, 0)
