"""Closing of jumps in a video's clock: joined recordings, clocks that start again, and single wild times.

A player shows such frames in the order in which they were recorded, without a pause where the clock jumps. So do we:
every part of the video between two jumps is moved to where the part before it ends.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

MAX_STEP_S = 10
"""Time from one frame to the next, in seconds, up to which it is never a jump. FFmpeg's program has the same limit."""
MAX_STEPS = 10
"""Multiple of the usual time from one frame to the next up to which it is never a jump: slide shows have no jumps."""
MAX_REORDERED = 100
"""Multiple of the usual time from one frame to the next for which a frame may wait between decoding and display."""


@dataclass(frozen=True, kw_only=True)
class PacketTimes:
    """Times of the P packets of a video in decoding order, as the file has them; each array has shape [P]."""

    pts_ticks: npt.NDArray[np.int64]
    """presentation time in ticks of `time_base` seconds; it does not count if the packet has none"""
    dts_ticks: npt.NDArray[np.int64]
    """decoding time; it does not count if the packet has none"""
    has_dts: npt.NDArray[np.bool_]
    has_pts: npt.NDArray[np.bool_]
    durations_ticks: npt.NDArray[np.int64]
    """time for which the packet's frame is shown; 0 if it is not known"""
    is_keyframe: npt.NDArray[np.bool_]
    is_shown: npt.NDArray[np.bool_]
    """false for a frame that the file's edit list cuts from display"""
    time_base: Fraction
    """length of a tick in seconds"""
    may_restart: bool
    """whether the clock of this container may start again anywhere, as in broadcasts (MPEG-TS, MPEG-PS, Ogg)"""


@dataclass(frozen=True, kw_only=True)
class ClosedClock:
    """Times of the P packets of a video in decoding order, after the jumps of its clock were closed."""

    pts_ticks: npt.NDArray[np.int64]
    """[P]; presentation time of each packet"""
    has_pts: npt.NDArray[np.bool_]
    """[P]; whether the packet has a presentation time that can be true"""
    last_duration_ticks: int = 0
    """time for which the frame that is shown last is shown; 0 if it is not known"""
    num_jumps: int = 0
    """number of jumps that were closed"""


def close_jumps(times: PacketTimes) -> ClosedClock:
    """Close the jumps in the times of packets; at least one packet must be shown and have a presentation time.

    A step of the decoding times backwards is a jump. A step forwards is one if it exceeds both `MAX_STEP_S` and
    `MAX_STEPS` usual steps. In a container whose clock does not start again, a frame may stand still for long. There
    the step must also exceed the playing time of all ordinary steps together. The same holds for the duration of the
    last frame. A presentation time that lies much later than its decoding time is wrong, and counts as missing.
    """
    timed = np.flatnonzero(times.has_pts)
    pts_ticks = times.pts_ticks[timed]
    dts_ticks = _with_missing_filled(times.dts_ticks[timed], times.has_dts[timed], pts_ticks)
    steps = np.diff(dts_ticks)
    ordinary = steps[steps > 0]
    usual = int(np.median(ordinary)) if len(ordinary) else max(1, int(times.durations_ticks.max()))
    second = 1 / times.time_base
    limit = max(int(MAX_STEP_S * second), MAX_STEPS * usual)
    playing = int(ordinary[ordinary <= limit].sum())
    longest = limit if times.may_restart else max(limit, playing)
    if times.may_restart:
        # A recording that is joined to another one begins with a keyframe. Elsewhere, small steps backwards come from
        # FFmpeg, which guesses some decoding times.
        is_back = (steps <= -usual) | (times.is_keyframe[timed][1:] & (steps <= 0))
    else:
        # No frame is shown before the frame that is decoded before it.
        is_back = (steps < -usual) & (pts_ticks[1:] < dts_ticks[:-1])
    is_jump = is_back | (steps > longest)
    is_wild = pts_ticks - dts_ticks > max(int(MAX_STEP_S * second), MAX_REORDERED * usual)

    closed = pts_ticks.copy()
    starts = [0, *(np.flatnonzero(is_jump) + 1).tolist(), len(closed)]
    end = _end(closed[: starts[1]], is_wild[: starts[1]], usual)
    for first, last in itertools.pairwise(starts[1:]):
        part = slice(first, last)
        if not is_wild[part].all():
            closed[part] += end - closed[part][~is_wild[part]].min()
            end = _end(closed[part], is_wild[part], usual)

    result_ticks, has_pts = times.pts_ticks.copy(), times.has_pts.copy()
    result_ticks[timed], has_pts[timed] = closed, ~is_wild
    shown = np.flatnonzero(has_pts & times.is_shown)
    last_duration = int(times.durations_ticks[shown[np.argmax(result_ticks[shown])]]) if len(shown) else 0
    is_last_wild = last_duration > max(limit, playing)
    return ClosedClock(
        pts_ticks=result_ticks,
        has_pts=has_pts,
        last_duration_ticks=usual if is_last_wild else last_duration,
        num_jumps=int(is_jump.sum()) + int(is_wild.sum()) + int(is_last_wild),
    )


def _end(pts_ticks: npt.NDArray[np.int64], is_wild: npt.NDArray[np.bool_], usual: int) -> int:
    """Return the time at which a part of the video ends, in ticks."""
    times_ticks = pts_ticks if is_wild.all() else pts_ticks[~is_wild]
    return int(times_ticks.max()) + usual


def _with_missing_filled(
    dts_ticks: npt.NDArray[np.int64], has_dts: npt.NDArray[np.bool_], pts_ticks: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return decoding times where each missing one is replaced by a time shortly before the next one that is known.

    FFmpeg does not know the first decoding times of a Matroska file with reordered frames. After the last known one,
    the presentation times take their place.
    """
    numbers = np.arange(len(dts_ticks))
    known = np.flatnonzero(has_dts)
    following = np.searchsorted(known, numbers)
    is_followed = following < len(known)
    filled = pts_ticks.copy()
    after = known[following[is_followed]]
    filled[is_followed] = dts_ticks[after] - (after - numbers[is_followed])
    return filled
