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
MAX_WAIT_STEPS = 100
"""Number of usual steps for which a frame may wait between decoding and display."""
MAX_REORDERED = 32
"""Number of packets that may come between a frame and one that is shown before it: 16 frames in two fields each."""


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
    the step from one frame on screen to the next counts, and it must also exceed the playing time of all ordinary
    steps together. The same holds for the duration of the last frame. A time that cannot be closed counts as missing.
    """
    timed = np.flatnonzero(times.has_pts & times.is_shown)
    pts_ticks = times.pts_ticks[timed]
    dts_ticks = _with_missing_filled(times.dts_ticks[timed], times.has_dts[timed], pts_ticks)
    steps = np.diff(dts_ticks)
    ordinary = steps[steps > 0]
    usual = int(np.median(ordinary)) if len(ordinary) else max(1, int(times.durations_ticks.max()))
    limit = max(int(MAX_STEP_S / times.time_base), MAX_STEPS * usual)
    playing = int(ordinary[ordinary <= limit].sum())
    if times.may_restart:
        # A recording that is joined to another one begins with a keyframe. Elsewhere, small steps backwards come from
        # FFmpeg, which guesses some decoding times.
        is_jump = (steps <= -2 * usual) | (times.is_keyframe[timed][1:] & (steps <= 0)) | (steps > limit)
        is_wild = pts_ticks - dts_ticks > max(limit, MAX_WAIT_STEPS * usual)
        pts_ticks, is_wild = _with_borrowed_replaced(pts_ticks, dts_ticks, is_jump, is_wild, usual)
        closed = _joined(pts_ticks, is_jump, usual, is_wild)
        num_jumps = int(is_jump.sum()) + int(is_wild.sum())
    else:
        # No frame is shown before the frame that is decoded before it.
        is_jump = (steps < -usual) & (pts_ticks[1:] < dts_ticks[:-1])
        closed, is_wild, num_gaps = _without_gaps(_joined(pts_ticks, is_jump, usual, None), max(limit, playing), usual)
        num_jumps = int(is_jump.sum()) + num_gaps

    # The time of a frame that the edit list cuts does not belong to the shown clock; once jumps are closed it is wrong.
    result_ticks, has_pts = times.pts_ticks.copy(), times.has_pts & (times.is_shown | (num_jumps == 0))
    result_ticks[timed], has_pts[timed] = closed, ~is_wild
    shown = np.flatnonzero(has_pts & times.is_shown)
    last_duration = int(times.durations_ticks[shown[np.argmax(result_ticks[shown])]]) if len(shown) else 0
    is_last_wild = last_duration > max(limit, playing)
    # Many files state no duration for the last frame but that of a frame at the nominal rate, even in a slide show.
    is_last_short = MAX_STEPS * last_duration < usual
    return ClosedClock(
        pts_ticks=result_ticks,
        has_pts=has_pts,
        last_duration_ticks=usual if is_last_wild or is_last_short else last_duration,
        num_jumps=num_jumps + int(is_last_wild),
    )


def _with_borrowed_replaced(
    pts_ticks: npt.NDArray[np.int64],
    dts_ticks: npt.NDArray[np.int64],
    is_jump: npt.NDArray[np.bool_],
    is_wild: npt.NDArray[np.bool_],
    usual: int,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return the times where the last frame of a part has its own place on screen, and which times are still wild.

    In a program stream the last picture ends where the next one begins. At a joint that is in the next recording, and
    FFmpeg takes the picture's time from there. Its own time is the first one from its decoding time on that no other
    frame of the part has.
    """
    replaced, is_still_wild = pts_ticks.copy(), is_wild.copy()
    firsts = np.flatnonzero(is_jump) + 1
    wild = np.flatnonzero(is_wild)
    places = np.searchsorted(firsts, wild, side="right")
    distances = np.append(firsts, len(pts_ticks) + MAX_REORDERED + 1)[places] - wild
    # A damaged file may have a million wild times; only a few of them are near a joint.
    is_near = distances <= MAX_REORDERED
    for packet, place in zip(wild[is_near].tolist(), places[is_near].tolist(), strict=True):
        first = int(firsts[place])
        if abs(pts_ticks[packet] - dts_ticks[first]) > MAX_WAIT_STEPS * usual:
            continue
        near = np.arange(max(int(firsts[place - 1]) if place else 0, packet - MAX_REORDERED), first)
        others = replaced[near[near != packet]]
        slots = dts_ticks[packet] + usual * np.arange(MAX_REORDERED + 1)
        is_free = (np.abs(others[:, None] - slots) >= usual / 2).all(axis=0)
        if is_free.any():
            replaced[packet], is_still_wild[packet] = slots[is_free.argmax()], False
    return replaced, is_still_wild


def _joined(
    pts_ticks: npt.NDArray[np.int64],
    is_jump: npt.NDArray[np.bool_],
    usual: int,
    is_wild: npt.NDArray[np.bool_] | None,
) -> npt.NDArray[np.int64]:
    """Return the times where each part of the video begins one usual step after the last frame of the part before it.

    `is_jump` [P - 1] says of each packet but the first whether a part begins with it. The wild times of `is_wild`, if
    given, do not count for where a part begins and ends.
    """
    closed = pts_ticks.copy()
    counts = np.ones(len(closed), np.bool_) if is_wild is None else ~is_wild
    starts = [0, *(np.flatnonzero(is_jump) + 1).tolist(), len(closed)]
    last = None
    for first, end in itertools.pairwise(starts):
        part = closed[first:end][counts[first:end]]
        if last is not None and len(part):
            closed[first:end] += last + usual - part.min()
        if len(part):
            last = closed[first:end][counts[first:end]].max()
    return closed


def _without_gaps(
    pts_ticks: npt.NDArray[np.int64], longest: int, usual: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], int]:
    """Close the gaps of more than `longest` ticks between frames that follow each other on screen.

    Returns the times, which frames have a wild time, and the number of gaps. A frame has a wild time if it lies behind
    a gap, but frames from before the gap are still decoded long after it: its place on screen is unknown.
    """
    order = np.argsort(pts_ticks, kind="stable")
    closed, is_wild, num_gaps = pts_ticks.copy(), np.zeros(len(pts_ticks), np.bool_), 0
    gaps = np.diff(pts_ticks[order])
    for place in np.flatnonzero(gaps > longest).tolist():
        before, after = order[: place + 1], order[place + 1 :]
        num_gaps += 1
        if before.max() - after.min() <= MAX_REORDERED:
            closed[after] -= gaps[place] - usual
        elif len(after) <= len(before):
            is_wild[after] = True
        else:
            is_wild[before] = True
    return closed, is_wild, num_gaps


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
