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
    """Size, modification time and hash of a video file when it was decoded; they reveal a later change."""

    size_bytes: int
    modified: datetime | None
    """modification time of the file; None if the storage reports none"""
    digest: str
    """hash of the content: `xxh3:` and the hash of all bytes, or `xxh3-sampled:` and the hash of the size and some
    blocks of a remote file"""


@dataclass(frozen=True, kw_only=True)
class DecodedVideo:
    """Sampled frames of one video, with the facts that decoding found out about the video."""

    frames_THWC: npt.NDArray[np.uint8]
    """RGB frames after scaling and cropping, in order of presentation: axis T counts frames, the other axes have the
    shape that the transform returns"""
    is_black: npt.NDArray[np.bool_]
    """[T]; whether each frame was black before it was scaled and cropped"""
    pts_s: npt.NDArray[np.float64]
    """[T]; presentation time of each frame in seconds after the first frame of the video"""
    duration_s: float
    """seconds from the time of the first frame to the end of the last frame"""
    width: int
    """width of the displayed picture in pixels: after any rotation, with square pixels"""
    height: int
    """height of the displayed picture in pixels: after any rotation, with square pixels"""
    sample_aspect_ratio: float | None
    """width divided by height of a pixel as stored; None if the video file does not state it"""
    framerate: float | None
    """average frames per second; None if the video file does not state the rate"""
    video_codec: str
    time_jumps: int = 0
    """number of jumps of the video's clock that were closed; 0 for a clock that runs evenly"""
    num_damaged: int = 0
    """number of packets and frames that were passed over because they are damaged"""
    gaps_s: float = 0.0
    """seconds in wide gaps between the frames, which also whole videos with a variable frame rate have"""
    missing_s: float = 0.0
    """seconds of the video, at least, that its file promises or once held, but that no frame shows"""
    content: FileFingerprint | None = None
    """fingerprint of the video file; None until decoding has succeeded"""
