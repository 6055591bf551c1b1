"""Frames that are shown again, so that a CNN sees each picture once.

Slides, menus and screen recordings stand still, and encoders leave what does not change as it is, to
the last bit.

Shape suffixes: T frames, H W pixels, U distinct frames.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import xxhash


def distinct(
    frames_THWC: npt.NDArray[np.uint8], num_frames_B: Sequence[int]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Which frames show each picture of each video first, [U] in increasing order, and which of those every
    frame repeats, [T]: `frames[firsts][place]` equals `frames`.

    The frames are those of B videos, one after the other. Pictures are told apart by a digest of 128 bits
    over all their pixels.
    """
    seen: dict[tuple[int, bytes], int] = {}
    firsts: list[int] = []
    place = np.empty(len(frames_THWC), np.intp)
    for index, video in enumerate(np.repeat(np.arange(len(num_frames_B)), num_frames_B).tolist()):
        picture = video, xxhash.xxh3_128_digest(np.ascontiguousarray(frames_THWC[index]).data)
        if picture not in seen:
            seen[picture] = len(firsts)
            firsts.append(index)
        place[index] = seen[picture]
    return np.array(firsts, np.intp), place
