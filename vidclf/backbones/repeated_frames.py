"""Detection of repeated frames in a video, so that a CNN computes each picture once.

Slides, menus and screen recordings do not move, and encoders keep unchanged parts bit for bit. Recordings of a screen
are less exact. For them there is a tolerance: a frame that is close to the last new frame counts as its repetition.

Shape suffixes: B videos, T frames, H W pixels, C channels, U distinct frames.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
import xxhash


def distinct(
    frames_THWC: npt.NDArray[np.uint8], num_frames_B: Sequence[int], tolerance: float = 0.0
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Find the frames of B videos that show a new picture, and for every frame the earlier frame that it repeats.

    `frames_THWC`: frames of all videos, one video after the other; `num_frames_B`: number of frames of each video.
    `tolerance`: the largest mean absolute difference over pixels and channels, in grey levels, that counts as a
    repetition.

    Returns `firsts_U`, increasing indices of the frames that show a new picture, and `source_T`, indices into
    `firsts_U`. `frames[firsts_U][source_T]` equals `frames`, or is within `tolerance` of it.

    Frames are compared by a 128-bit digest of their pixels, within one video. With a tolerance, a frame with a new
    digest is then compared with the last new frame of its video, so that slow changes add up to a new picture.
    """
    position_of: dict[tuple[int, bytes], int] = {}
    firsts: list[int] = []
    source_T = np.empty(len(frames_THWC), np.intp)
    last_video: int | None = None
    for index, video in enumerate(np.repeat(np.arange(len(num_frames_B)), num_frames_B).tolist()):
        picture = video, xxhash.xxh3_128_digest(np.ascontiguousarray(frames_THWC[index]).data)
        if picture not in position_of:
            is_near = (
                tolerance > 0
                and last_video == video
                and difference(frames_THWC[firsts[-1]], frames_THWC[index]) <= tolerance
            )
            if not is_near:
                firsts.append(index)
                last_video = video
            position_of[picture] = len(firsts) - 1
        source_T[index] = position_of[picture]
    return np.array(firsts, np.intp), source_T


def difference(one_HWC: npt.NDArray[np.uint8], other_HWC: npt.NDArray[np.uint8]) -> float:
    """Return the mean absolute difference of two frames over pixels and channels, in grey levels (0 to 255)."""
    return float(cv2.norm(one_HWC, other_HWC, cv2.NORM_L1)) / one_HWC.size
