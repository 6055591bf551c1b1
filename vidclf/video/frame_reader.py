"""Interface for decoding chosen frames of one video, and the collection of these frames.

Implementations: `PlannedReader` decodes only the packets that the frames need, `SequentialReader`
decodes the whole video.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

from vidclf.video import frame_quality
from vidclf.video.frame_transform import Transform


@dataclass(frozen=True, kw_only=True)
class VideoTimeline:
    """Times of all N frames of a video in order of presentation, and the facts that its stream states."""

    times_ticks: npt.NDArray[np.int64]
    """[N]; presentation times, strictly increasing"""
    is_keyframe: npt.NDArray[np.bool_]
    """[N]"""
    end_ticks: int
    """end of the last frame"""
    time_base: Fraction
    """seconds per tick"""
    duration_s: float
    framerate: float | None
    """average, in frames per second; None if the container does not state it"""
    video_codec: str


class FrameReader(ABC):
    """Decoder of frames that are chosen by their index in order of presentation.

    `read` may be called several times. The transformed frames stay in memory.
    """

    def __init__(self, timeline: VideoTimeline, transform: Transform) -> None:
        self.timeline = timeline
        self.size = (0, 0)
        """(width, height) of the last decoded frame, as displayed, in pixels"""
        self._transform = transform
        self._frames: dict[int, npt.NDArray[np.uint8]] = {}
        self._is_black: dict[int, bool] = {}
        self._reformatter = VideoReformatter()

    @abstractmethod
    def read(self, indices: list[int]) -> bool:
        """Decode the frames at `indices`, and return whether all of them could be decoded undamaged."""

    def frame(self, index: int) -> npt.NDArray[np.uint8]:
        """Return the transformed frame at `index`, which must have been read."""
        return self._frames[index]

    def is_black(self, index: int) -> bool:
        """Return whether the frame at `index`, which must have been read, was black before the transform."""
        return self._is_black[index]

    def _collect(self, index: int, frame: Any) -> None:
        """Convert, transform and keep a frame that the decoder returned."""
        rgb_HWC = _upright(frame, self._reformatter)
        self.size = (rgb_HWC.shape[1], rgb_HWC.shape[0])
        self._frames[index] = self._transform(rgb_HWC)
        self._is_black[index] = frame_quality.is_black(rgb_HWC)


def average_framerate(stream: Any) -> float | None:
    """Return the average frames per second that a stream states, or None if it states none."""
    return float(stream.average_rate) if stream.average_rate else None


def _upright(frame: Any, reformatter: VideoReformatter) -> npt.NDArray[np.uint8]:
    """Return a frame as RGB [H, W, 3] with the container's display rotation applied, which PyAV does not do."""
    # One reformatter per video, with one thread: by default every frame sets up its own reformatter and
    # threads, which costs as much as the conversion. The plane is viewed, not copied.
    plane = reformatter.reformat(frame, format="rgb24", threads=1).planes[0]
    rows: npt.NDArray[np.uint8] = np.frombuffer(cast("Any", plane), np.uint8).reshape(plane.height, plane.line_size)
    rgb = rows[:, : plane.width * 3].reshape(plane.height, plane.width, 3)
    quarter_turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(rgb, quarter_turns))
