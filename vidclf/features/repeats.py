"""Frames that are shown again, so that a CNN sees each picture once.

Slides, menus and screen recordings stand still, and encoders leave what does not change as it is, to
the last bit.

Shape suffixes: T frames, H W pixels, U distinct frames.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import xxhash


def distinct(frames_THWC: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Which frames show each picture first, [U] in increasing order, and which of those every frame
    repeats, [T]: `frames[firsts][place]` equals `frames`.

    Pictures are told apart by a digest of 128 bits over all their pixels.
    """
    seen: dict[bytes, int] = {}
    firsts: list[int] = []
    place = np.empty(len(frames_THWC), np.intp)
    for index, frame in enumerate(frames_THWC):
        digest = xxhash.xxh3_128_digest(np.ascontiguousarray(frame).data)
        if digest not in seen:
            seen[digest] = len(firsts)
            firsts.append(index)
        place[index] = seen[digest]
    return np.array(firsts, np.intp), place
