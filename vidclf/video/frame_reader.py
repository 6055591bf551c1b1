"""Interface of the readers, which decode chosen frames of one video and keep them for the caller.

Implementations: `PlannedReader` decodes only the packets that the frames need, `SequentialReader` decodes the whole
video.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av.error
import numpy as np
import numpy.typing as npt

from vidclf.video import frame_quality
from vidclf.video.cropping import NO_CROPPING, Cropping
from vidclf.video.frame_transform import Transform
from vidclf.video.shown_picture import ShownPictures
from vidclf.video.source import frame_rate


class DamagedPacket(Exception):
    """A packet that its decoder cannot decode; the message is that of FFmpeg."""


def frames_of(codec: Any, packet: Any) -> list[Any]:
    """Return the frames that the decoder `codec` gives when it is fed `packet`, or its last frames for None.

    Raises DamagedPacket if it cannot decode the packet. Most decoders then report invalid data. Some report -1, which
    PyAV takes for a denied permission, or a feature that they do not have. FFmpeg's program goes on after all of them.
    """
    try:
        frames: list[Any] = codec.decode(packet)
    except (MemoryError, LookupError):  # of the machine, and of a codec without a decoder
        raise
    except av.error.FFmpegError as error:
        raise DamagedPacket(str(error.strerror)) from error
    return frames


@dataclass(frozen=True, kw_only=True)
class VideoTimeline:
    """Times of all N frames of a video in order of presentation, with the frame rate that the video states."""

    times_ticks: npt.NDArray[np.int64]
    """[N]; presentation time of each frame, strictly increasing, in ticks of `time_base` seconds"""
    is_keyframe: npt.NDArray[np.bool_]
    """[N]; whether each frame is a keyframe, which can be decoded without other frames"""
    end_ticks: int
    """time at which the last frame ends, in ticks"""
    time_base: Fraction
    """length of a tick in seconds"""
    duration_s: float
    framerate: float | None
    """average frames per second; None if the video file does not state the rate"""
    video_codec: str
    pixel_aspect: Fraction | None
    """width divided by height of a pixel as stored; None if the video file does not state it"""
    cropping: Cropping = NO_CROPPING
    """pixels that the container cuts from the stored pictures"""
    time_jumps: int = 0
    """number of jumps of the clock that were closed"""


class FrameReader(ABC):
    """Reader that decodes chosen frames of one video; a frame is named by its index in order of presentation.

    `read` may be called several times. Frames stay in memory after `transform` has scaled and cropped them.
    """

    num_damaged = 0
    """number of packets and frames that were passed over because they are damaged"""

    def __init__(self, timeline: VideoTimeline, transform: Transform) -> None:
        self.timeline = timeline
        self.size = (0, 0)
        """(width, height) of the last decoded frame in pixels, as displayed"""
        self._transform = transform
        self._frames: dict[int, npt.NDArray[np.uint8]] = {}
        self._is_black: dict[int, bool] = {}
        self._pictures = ShownPictures(timeline.pixel_aspect, timeline.cropping)

    @abstractmethod
    def read(self, indices: list[int]) -> bool:
        """Decode the frames at `indices` and keep them; returns whether all of them could be decoded undamaged."""

    def frame(self, index: int) -> npt.NDArray[np.uint8]:
        """Return the frame number `index`, scaled and cropped. `read` must have decoded it before."""
        return self._frames[index]

    def is_black(self, index: int) -> bool:
        """Return whether the frame number `index` was black before scaling. `read` must have decoded it before."""
        return self._is_black[index]

    def _notice(self, frame: Any) -> None:
        """Take from a decoded frame what holds for those that follow it; to be called for each, in order."""
        self._pictures.notice(frame)

    def _collect(self, index: int, frame: Any) -> None:
        """Convert a decoded frame to RGB, scale and crop it, and keep the result as frame number `index`."""
        rgb_HWC = self._pictures.picture(frame)
        self.size = (rgb_HWC.shape[1], rgb_HWC.shape[0])
        self._frames[index] = self._transform(rgb_HWC)
        self._is_black[index] = frame_quality.is_black(rgb_HWC)


def average_framerate(stream: Any) -> float | None:
    """Return the average frames per second that a video stream states, or None if it states none."""
    rate = frame_rate(stream)
    return float(rate) if rate else None
