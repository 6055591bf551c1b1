"""Feature arrays that are computed from those of stored videos at each access, so that no list of copies is kept.

Shape suffixes: T frames of a video, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from vidclf.features.video_frames import VideoFrames

Halves = npt.NDArray[np.float16]


class ComputedFrames(Sequence[Halves]):
    """A list with the array `compute(features_TD)` for each video of `videos`.

    An array exists only while its user holds it. `compute` must return as many frames for every array of the same
    number of frames.
    """

    def __init__(self, videos: Sequence[Halves], compute: Callable[[Halves], Halves]) -> None:
        self._videos = videos
        self._compute = compute

    def select(self, rows: Sequence[int] | npt.NDArray[np.integer[Any]]) -> ComputedFrames:
        """The list of the videos at these positions, in this order. Nothing is computed."""
        return ComputedFrames(select(self._videos, rows), self._compute)

    @property
    def lengths(self) -> list[int]:
        """Number of frames per video. No features are read."""
        computed_length = cache(lambda length: len(self._compute(np.empty((length, 0), np.float16))))
        return [computed_length(length) for length in lengths(self._videos)]

    def __len__(self) -> int:
        return len(self._videos)

    @overload
    def __getitem__(self, index: int) -> Halves: ...
    @overload
    def __getitem__(self, index: slice) -> ComputedFrames: ...
    def __getitem__(self, index: int | slice) -> Halves | ComputedFrames:
        if isinstance(index, slice):
            return self.select(range(*index.indices(len(self))))
        return self._compute(self._videos[index])


def select(videos: Sequence[Halves], rows: Sequence[int] | npt.NDArray[np.integer[Any]]) -> Sequence[Halves]:
    """The feature arrays of the videos at these positions, in this order. Features on disk stay there."""
    if isinstance(videos, VideoFrames | ComputedFrames):
        return videos.select(rows)
    return [videos[int(row)] for row in rows]


def lengths(videos: Sequence[Halves]) -> list[int]:
    """Number of frames per video. No features are read."""
    if isinstance(videos, VideoFrames):
        return [int(length) for length in videos.lengths_B]
    return videos.lengths if isinstance(videos, ComputedFrames) else [len(rows_TD) for rows_TD in videos]
