"""The frame features of many videos, as a list of arrays that share one array in memory or on disk.

Shape suffixes: N frames of all videos, T frames of a video, B videos, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from vidclf.features.frame_file import FrameFile, Halves


class VideoFrames(Sequence[Halves]):
    """A list with one feature array [T, D] per video. Each array is a view into `frames_ND`, without a copy.

    With a `file`, `frames_ND` is the array that is mapped from it, and a pickled list holds the file's path instead of
    the features.
    """

    def __init__(
        self,
        frames_ND: Halves,
        starts_B: npt.NDArray[np.int64],
        lengths_B: npt.NDArray[np.int64],
        file: FrameFile | None = None,
    ) -> None:
        self.frames_ND = frames_ND
        """features of the frames of these and maybe of other videos"""
        self.starts_B = starts_B
        """row of each video's first frame in `frames_ND`"""
        self.lengths_B = lengths_B
        """number of frames of each video"""
        self._file = file

    @classmethod
    def of(cls, features: Sequence[Halves]) -> VideoFrames:
        """The list of these arrays [T, D], which are copied into one array. A `VideoFrames` is returned as it is."""
        if isinstance(features, VideoFrames):
            return features
        lengths_B = np.array([len(rows_TD) for rows_TD in features], np.int64)
        return cls(np.concatenate(features), lengths_B.cumsum() - lengths_B, lengths_B)

    @classmethod
    def in_file(cls, file: FrameFile, starts: Sequence[int], lengths: Sequence[int]) -> VideoFrames:
        """The list of the videos in a file, each given by the row of its first frame and its number of frames."""
        return cls(file.frames_ND, np.array(starts, np.int64), np.array(lengths, np.int64), file)

    def select(self, rows: Sequence[int] | npt.NDArray[np.integer[Any]]) -> VideoFrames:
        """The list of the videos at these positions, in this order. Positions may repeat. Nothing is copied."""
        indices = np.asarray(rows, np.int64)
        return VideoFrames(self.frames_ND, self.starts_B[indices], self.lengths_B[indices], self._file)

    def values(self, first: int, end: int) -> Halves:
        """The values `first` to `end` (exclusive) of the array that all videos would make, one after the other, read in
        row-major order. They are copied."""
        dim = self.frames_ND.shape[1]
        ends_B = self.lengths_B.cumsum() * dim
        parts = []
        for index in range(int(np.searchsorted(ends_B, first, side="right")), len(self)):
            video = self[index].reshape(-1)
            begins_at = int(ends_B[index]) - len(video)
            if begins_at >= end:
                break
            parts.append(video[max(first - begins_at, 0) : end - begins_at])
        return np.concatenate(parts) if parts else np.empty(0, np.float16)

    @property
    def num_frames(self) -> int:
        """Number of frames of all videos."""
        return int(self.lengths_B.sum())

    @property
    def num_bytes(self) -> int:
        """Size of the features of all videos, in bytes."""
        return int(self.num_frames * self.frames_ND.shape[1] * self.frames_ND.itemsize)

    def __len__(self) -> int:
        return len(self.starts_B)

    @overload
    def __getitem__(self, index: int) -> Halves: ...
    @overload
    def __getitem__(self, index: slice) -> list[Halves]: ...
    def __getitem__(self, index: int | slice) -> Halves | list[Halves]:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        start = self.starts_B[index]
        return self.frames_ND[start : start + self.lengths_B[index]]

    def __reduce__(self) -> tuple[Any, ...]:
        if self._file is None:
            return VideoFrames, (self.frames_ND, self.starts_B, self.lengths_B)
        return _of_file, (self._file, self.starts_B, self.lengths_B)


def _of_file(file: FrameFile, starts_B: npt.NDArray[np.int64], lengths_B: npt.NDArray[np.int64]) -> VideoFrames:
    return VideoFrames(file.frames_ND, starts_B, lengths_B, file)
