"""Times of the frames of a video that must be decoded from its first to its last packet, before and after decoding."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vidclf.video import packets
from vidclf.video.clock import MAX_STEP_S
from vidclf.video.frame_reader import VideoTimeline, average_framerate
from vidclf.video.indexed_video import IndexedVideo
from vidclf.video.shown_picture import pixel_aspect
from vidclf.video.source import codec_name, frame_rate

MAX_LACKING = 2
"""Number of frames that may be lacking at the end of a video of any length, so that it still ends as expected."""
MAX_LACKING_SHARE = 50
"""One of this number of frames may be lacking at the end of a longer video."""


@dataclass(frozen=True)
class DecodedTime:
    """Time of a frame that was decoded undamaged."""

    ticks: int | None
    """presentation time that the decoder gives the frame; None if it gives none"""
    slot: int
    """number of frames before it, damaged ones included"""
    is_keyframe: bool
    duration_ticks: int = 0
    """time for which it is shown; 0 if it is not known"""


@dataclass(frozen=True, kw_only=True)
class ExpectedTimes:
    """Times at which the packets let expect the frames of a video."""

    timeline: VideoTimeline
    are_slots: bool
    """whether the packets do not give the times of their frames, so that frame number n is expected at `at_slot(n)`"""
    step_ticks: int
    """time from one frame to the next at the average rate, or the median of them if the file states no rate"""

    @classmethod
    def of(cls, video: IndexedVideo) -> ExpectedTimes:
        """Return the times that the packets of `video` let expect; it must have at least one packet."""
        table = video.table
        rate = frame_rate(video.stream)
        is_timed = table.is_shown & table.has_pts
        distances = np.diff(np.unique(table.pts_ticks[is_timed]))
        step = round(1 / (rate * table.time_base)) if rate else int(np.median(distances)) if len(distances) else 1
        step = max(1, step)
        are_slots = table.are_times_guessed or not is_timed.any()
        if video.index is not None:
            timeline = timeline_of(video)
        elif are_slots:
            slots_ticks = table.slot_ticks
            if slots_ticks is None:
                slots_ticks = np.arange(len(table.sizes), dtype=np.int64) * step
            elif len(distances):
                step = max(1, int(np.median(distances)))  # some ASF files state a rate of 1000 frames per second
            timeline = _timeline(video, slots_ticks, table.is_keyframe, int(slots_ticks[-1]) + step)
        else:
            times_ticks, first = np.unique(table.pts_ticks[is_timed], return_index=True)
            end_ticks = packets.end_of(times_ticks, 0)
            timeline = _timeline(video, times_ticks, table.is_keyframe[is_timed][first], end_ticks)
        return cls(timeline=timeline, are_slots=are_slots, step_ticks=step)

    def at_slot(self, slot: int) -> int:
        """Return the time of the frame that `slot` frames precede, for a video whose packets do not give times."""
        times_ticks = self.timeline.times_ticks
        last = len(times_ticks) - 1
        return int(times_ticks[min(slot, last)]) + max(0, slot - last) * self.step_ticks

    def decoded(self, frames: Sequence[DecodedTime]) -> VideoTimeline:
        """Return the times of the frames that were decoded, at least one, in order of presentation.

        A frame without a time gets one between those of its neighbours. If most times are missing or they do not
        increase, all frames get evenly spaced times at the average rate.
        """
        expected = self.timeline
        times_ticks = None if self.are_slots else _increasing([frame.ticks for frame in frames])
        if times_ticks is None:
            slots = [frame.slot for frame in frames]
            if self.are_slots:
                times_ticks = np.array([self.at_slot(slot) for slot in slots], dtype=np.int64)
            else:
                times_ticks = np.array(slots, dtype=np.int64) * self.step_ticks
            end_ticks = int(times_ticks[-1]) + self.step_ticks
            if self.are_slots and self._lacks_only_the_last_frames(int(times_ticks[-1])):
                end_ticks = expected.end_ticks
        elif times_ticks[-1] == expected.times_ticks[-1]:
            end_ticks = expected.end_ticks
        else:
            # The last frames are lacking. A frame that would stay on screen for long proves nothing (`clock`).
            duration = frames[-1].duration_ticks
            end_ticks = packets.end_of(times_ticks, duration if duration * expected.time_base <= MAX_STEP_S else 0)
        is_keyframe = np.array([frame.is_keyframe for frame in frames], dtype=np.bool_)
        if not is_keyframe.any():
            # Some decoders never say so, for example that of QuickTime Animation.
            is_keyframe = np.isin(times_ticks, expected.times_ticks[expected.is_keyframe])
        return replace(
            expected,
            times_ticks=times_ticks,
            is_keyframe=is_keyframe,
            end_ticks=end_ticks,
            duration_s=float((end_ticks - int(times_ticks[0])) * expected.time_base),
        )

    def _lacks_only_the_last_frames(self, last_ticks: int) -> bool:
        """Return whether a video without times, whose last frame is at `last_ticks`, is as long as its packets say.

        At most a few frames may be lacking. The last packets of a file that was cut often give none. The frame before
        them then stays on screen, as before every other frame that is lost.
        """
        expected_ticks = self.timeline.times_ticks
        num_lacking = int((expected_ticks > last_ticks).sum())
        is_within = expected_ticks[0] <= last_ticks <= expected_ticks[-1]
        return bool(is_within) and num_lacking <= max(MAX_LACKING, len(expected_ticks) // MAX_LACKING_SHARE)


def timeline_of(video: IndexedVideo) -> VideoTimeline:
    """Return the times of the shown frames of a video whose packets give them, in order of presentation."""
    index = video.index
    assert index is not None
    order = np.argsort(index.pts_ticks[index.is_shown])
    times_ticks = index.pts_ticks[index.is_shown][order]
    return _timeline(video, times_ticks, index.is_keyframe[index.is_shown][order], index.end_ticks)


def _timeline(
    video: IndexedVideo, times_ticks: npt.NDArray[np.int64], is_keyframe: npt.NDArray[np.bool_], end_ticks: int
) -> VideoTimeline:
    time_base = video.table.time_base
    return VideoTimeline(
        times_ticks=times_ticks,
        is_keyframe=is_keyframe,
        end_ticks=end_ticks,
        time_base=time_base,
        duration_s=float((end_ticks - int(times_ticks[0])) * time_base),
        framerate=average_framerate(video.stream),
        video_codec=codec_name(video.stream),
        pixel_aspect=pixel_aspect(video.stream),
        cropping=video.cropping,
        time_jumps=video.table.time_jumps,
    )


def _increasing(ticks: Sequence[int | None]) -> npt.NDArray[np.int64] | None:
    """Return strictly increasing times with the missing ones filled in, or None if that is not possible.

    A missing time lies evenly between its neighbours. At least half of the times must be known.
    """
    numbers = [number for number, time in enumerate(ticks) if time is not None]
    known = [time for time in ticks if time is not None]
    if 2 * len(known) < len(ticks) or any(after <= before for before, after in itertools.pairwise(known)):
        return None
    if len(known) == len(ticks):
        return np.array(known, dtype=np.int64)
    step = max(1, int(np.median(np.diff(known) / np.diff(numbers)))) if len(known) > 1 else 1
    numbers = [numbers[0] - 1, *numbers, numbers[-1] + 1]
    numbers[0], numbers[-1] = min(numbers[0], -1), max(numbers[-1], len(ticks))
    known = [
        known[0] - step * (numbers[1] - numbers[0]),
        *known,
        known[-1] + step * (numbers[-1] - numbers[-2]),
    ]
    filled = np.rint(np.interp(np.arange(len(ticks)), numbers, np.array(known, dtype=np.float64))).astype(np.int64)
    return filled if bool(np.all(np.diff(filled) > 0)) else None
