"""Decoding of a whole video to get some of its frames, for videos whose packets do not give every frame.

This is slower than `planned_reader`, but it needs no frame times and gets past damaged packets.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from vidclf.video import sampling
from vidclf.video.anticipation import Anticipation, ExpectedFrame, expected_frames
from vidclf.video.expected_times import DecodedTime, ExpectedTimes
from vidclf.video.frame_reader import DamagedPacket, FrameReader, VideoTimeline, frames_of
from vidclf.video.frame_transform import Transform
from vidclf.video.indexed_video import IndexedVideo
from vidclf.video.packets import PacketRange
from vidclf.video.sampling import SamplingPlan
from vidclf.video.source import no_frames


class SequentialReader(FrameReader):
    """Reader that decodes the whole video once, and once more only if the frames are not those that were expected.

    Frames that are damaged or cannot be decoded do not count. If the times of the frames are missing or do not
    increase, the frames get evenly spaced times at the average rate.
    """

    def __init__(self, video: IndexedVideo, plan: SamplingPlan, seed: str, transform: Transform) -> None:
        """Decode the whole video and keep the frames that `plan` is expected to pick.

        Raises VideoRejected if no frame can be decoded. `seed` decides the position of a randomly placed clip.
        """
        expected = ExpectedTimes.of(video) if len(video.table.sizes) else None
        if expected is None:
            raise no_frames(video.source, [])
        super().__init__(expected.timeline, transform)
        self._video = video
        damage: list[str] = []
        decoded: list[DecodedTime] = []
        anticipation = Anticipation(_picked(expected.timeline, plan, seed), self._collect, self.is_black)
        for slot, frame in self._undamaged_frames(damage):
            ticks = expected.at_slot(slot) if expected.are_slots else frame.pts
            if ticks is not None:
                anticipation.offer(len(decoded), ticks, frame)
            decoded.append(DecodedTime(frame.pts, slot, bool(frame.key_frame), frame.duration or 0))
        if not decoded:
            raise no_frames(video.source, damage)
        anticipation.finish()
        self.timeline = expected.decoded(decoded)
        self.num_damaged = len(damage)

    def read(self, indices: list[int]) -> bool:
        missing = {index for index in indices if index not in self._frames}
        if missing:
            for index, (_, frame) in enumerate(self._undamaged_frames([])):
                if index in missing:
                    self._collect(index, frame)
                    missing.remove(index)
                if not missing:
                    break
        return not missing

    def _undamaged_frames(self, damage: list[str]) -> Iterator[tuple[int, Any]]:
        """Yield every frame that can be decoded undamaged, with the number of frames before it, damaged ones included.

        For each packet or frame that is damaged, a message is appended to `damage`.
        """
        slot = 0
        everything = [PacketRange(0, len(self._video.table.sizes) - 1)]
        with self._video.packets(everything) as (all_packets, codec):
            codec.skip_frame = "DEFAULT"
            for packet in itertools.chain(all_packets, [None]):
                try:
                    frames = frames_of(codec, packet)
                except DamagedPacket as error:
                    damage.append(str(error))
                    slot += 1
                    continue
                for frame in frames:
                    self._notice(frame)
                    if frame.is_corrupt:
                        damage.append("corrupt frame")
                    else:
                        yield slot, frame
                    slot += 1


def _picked(timeline: VideoTimeline, plan: SamplingPlan, seed: str) -> list[ExpectedFrame]:
    """Return the frames that `plan` picks from the expected times of a video."""
    times_ticks = timeline.times_ticks
    chosen = sampling.choose(times_ticks, timeline.end_ticks, timeline.is_keyframe, timeline.time_base, plan, seed)
    return expected_frames(times_ticks, timeline.is_keyframe, chosen, plan)
