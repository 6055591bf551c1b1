"""Decoding of a whole video to get some of its frames, for videos whose packets do not give the frame times.

This is slower than `planned_reader`, but it needs no frame times and gets past damaged packets.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av.error
import numpy as np

from vidclf.video import packets
from vidclf.video.frame_reader import FrameReader, VideoTimeline, average_framerate
from vidclf.video.frame_transform import Transform
from vidclf.video.source import Source, codec_name, frame_rate, no_frames, open_video


class SequentialReader(FrameReader):
    """Reader that decodes the whole video once to learn the frame times, and once more per call of `read`.

    Frames that are damaged or cannot be decoded do not count. If the times of the frames are missing or do not
    increase, the frames get evenly spaced times at the average rate.
    """

    def __init__(self, source: Source, transform: Transform) -> None:
        """Decode the whole video for its frame times. Raises VideoRejected if no frame can be decoded."""
        damage: list[str] = []
        with open_video(source) as (container, stream):
            frames = [(frame.pts, bool(frame.key_frame)) for frame in _undamaged_frames(container, stream, damage)]
            time_base = stream.time_base or Fraction(1, 1000)
            rate = frame_rate(stream)
            framerate, video_codec = average_framerate(stream), codec_name(stream)
        if not frames:
            raise no_frames(source, damage)
        times = [pts for pts, _ in frames]
        if None in times or any(after <= before for before, after in itertools.pairwise(times)):
            step = max(1, round(1 / (rate * time_base))) if rate else 1
            times = [step * number for number in range(len(frames))]
        times_ticks = np.array(times, dtype=np.int64)
        end_ticks = packets.end_of(times_ticks, 0)
        timeline = VideoTimeline(
            times_ticks=times_ticks,
            is_keyframe=np.array([is_keyframe for _, is_keyframe in frames], dtype=np.bool_),
            end_ticks=end_ticks,
            time_base=time_base,
            duration_s=float(end_ticks - times_ticks[0]) * float(time_base),
            framerate=framerate,
            video_codec=video_codec,
        )
        super().__init__(timeline, transform)
        self._source = source
        self.num_damaged = len(damage)

    def read(self, indices: list[int]) -> bool:
        missing = set(indices)
        with open_video(self._source) as (container, stream):
            for index, frame in enumerate(_undamaged_frames(container, stream, [])):
                if index in missing:
                    self._collect(index, frame)
                    missing.remove(index)
                if not missing:
                    break
        return not missing


def _undamaged_frames(container: Any, stream: Any, damage: list[str]) -> Iterator[Any]:
    """Yield every frame of the stream that can be decoded undamaged.

    For each packet or frame that is damaged, a message is appended to `damage`.
    """
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError as error:
            damage.append(str(error.strerror))
            continue
        for frame in frames:
            if frame.is_corrupt:
                damage.append("corrupt frame")
            else:
                yield frame
