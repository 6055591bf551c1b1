"""The result of decoding one video: sampled frames, facts about the video, fingerprint of its file.

Only NumPy is imported, so that a process can receive decoded videos without loading a decoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
class FileFingerprint:
    """Size, modification time and digest of a video file at the time of decoding."""

    size_bytes: int
    modified: datetime | None
    """None if the storage reports no modification time"""
    digest: str
    """`xxh3:` and the hash of all bytes, or `xxh3-sampled:` and the hash of the size and some blocks of a remote
    file"""


@dataclass(frozen=True, kw_only=True)
class DecodedVideo:
    """Sampled frames of one video, with the facts that decoding found out about the video."""

    frames_THWC: npt.NDArray[np.uint8]
    """RGB at model resolution, in order of presentation; the axes after T have the shape that the transform returns"""
    is_black: npt.NDArray[np.bool_]
    """[T]; whether each frame was black before the transform"""
    pts_s: npt.NDArray[np.float64]
    """[T]; presentation time of each frame, counted from the first frame of the video"""
    duration_s: float
    """from the time of the first frame to the end of the last frame"""
    width: int
    """as displayed, in pixels"""
    height: int
    """as displayed, in pixels"""
    framerate: float | None
    """average, in frames per second; None if the container does not state it"""
    video_codec: str
    content: FileFingerprint | None = None
    """fingerprint of the file; None until decoding has succeeded"""
