"""Which frames stand for a video: a pure function of their presentation times.

Times are whole numbers of ticks of the stream's time base, so that no frame is won or lost to
rounding. A frame is on screen over the half-open range [its time, the next frame's time), the last
one up to the video's end.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def uniform(pts_ticks: npt.NDArray[np.int64], end_ticks: int, num_frames: int) -> npt.NDArray[np.intp]:
    """Indices of the frames on screen at the midpoints of `num_frames` equal spans of the video.

    The video reaches from the first frame's time to `end_ticks`. `pts_ticks` must be strictly
    increasing and not empty, and `end_ticks` beyond the last of them. A midpoint that falls on a
    frame's own time takes that frame. Where several midpoints see the same frame it is returned
    once, so up to `num_frames` indices come back, increasing.

    Raises ValueError for times that are empty or do not increase.
    """
    if len(pts_ticks) == 0:
        raise ValueError("pts_ticks must hold at least one frame")
    if np.any(np.diff(pts_ticks) <= 0) or end_ticks <= pts_ticks[-1]:
        raise ValueError("pts_ticks must be strictly increasing and end before end_ticks")
    start = int(pts_ticks[0])
    span = end_ticks - start
    # A midpoint is start + (2k + 1) * span / (2 * num_frames); both sides times 2 * num_frames.
    midpoints = (2 * np.arange(num_frames, dtype=np.int64) + 1) * span
    scaled = (pts_ticks - start) * (2 * num_frames)
    return np.unique(np.searchsorted(scaled, midpoints, side="right") - 1)
