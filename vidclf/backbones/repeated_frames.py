"""Frames that are shown again, so that a CNN sees each picture once.

Slides, menus and screen recordings stand still, and encoders leave what does not change as it is, to
the last bit. Recordings of them are not quite that still, for which there is a tolerance: a frame so near
to the one that was last new is taken for it.

Shape suffixes: T frames, H W pixels, U distinct frames.
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
    """Which frames show each picture of each video first, [U] in increasing order, and which of those every
    frame repeats, [T]: `frames[firsts][place]` equals `frames`, or is within `tolerance` of it: grey levels,
    the mean absolute difference over pixels and channels.

    The frames are those of B videos, one after the other. Pictures are told apart by a digest of 128 bits
    over all their pixels; with a tolerance, new ones then from the last new one of their video, so that slow
    changes add up to a new picture.
    """
    seen: dict[tuple[int, bytes], int] = {}
    firsts: list[int] = []
    place = np.empty(len(frames_THWC), np.intp)
    last: int | None = None
    for index, video in enumerate(np.repeat(np.arange(len(num_frames_B)), num_frames_B).tolist()):
        picture = video, xxhash.xxh3_128_digest(np.ascontiguousarray(frames_THWC[index]).data)
        if picture not in seen:
            is_near = (
                tolerance > 0 and last == video and difference(frames_THWC[firsts[-1]], frames_THWC[index]) <= tolerance
            )
            if not is_near:
                firsts.append(index)
                last = video
            seen[picture] = len(firsts) - 1
        place[index] = seen[picture]
    return np.array(firsts, np.intp), place


def difference(one_HWC: npt.NDArray[np.uint8], other_HWC: npt.NDArray[np.uint8]) -> float:
    """Mean absolute difference of two pictures, in grey levels."""
    return float(cv2.norm(one_HWC, other_HWC, cv2.NORM_L1)) / one_HWC.size
