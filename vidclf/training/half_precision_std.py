"""The standard deviation of a half-precision array, computed without a copy of the array in full precision.

The sums equal numpy's to the last bit, because the noise that a training adds to its features depends on them, and so
do its weights.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from vidclf.features.video_frames import VideoFrames

VALUES_AT_A_TIME = 2**20
"""Number of values that are converted to float32 together; they take 4 MiB."""

Halves = npt.NDArray[np.float16]


def standard_deviation(videos: VideoFrames) -> float:
    """The population standard deviation of all values of the videos, a number equal to that of the array that they make
    one after the other, in float32 (`values.astype("float32").std()`)."""
    num_values = videos.num_frames * videos.frames_ND.shape[1]
    count = np.float32(num_values)
    mean = pairwise_sum(videos.values, 0, num_values, lambda part: part.astype(np.float32)) / count
    squares = pairwise_sum(videos.values, 0, num_values, lambda part: np.square(part.astype(np.float32) - mean))
    return float(np.sqrt(squares / count))


def pairwise_sum(
    values: Callable[[int, int], Halves],
    first: int,
    end: int,
    converted: Callable[[Halves], npt.NDArray[np.float32]],
    most: int = VALUES_AT_A_TIME,
) -> np.float32:
    """The sum of `converted(values(first, end))`, added up by numpy's pairwise summation (Higham 1993,
    doi:10.1137/0914050).

    `values` returns the values between two places of a long array, which never is in memory as a whole. The range is
    halved here until a part has at most `most` values; each such part is converted and summed by numpy.
    """
    if end - first <= most:
        return np.float32(converted(values(first, end)).sum())
    half = (end - first) // 2
    half -= half % 8
    parts = ((first, first + half), (first + half, end))
    return np.float32(sum((pairwise_sum(values, *part, converted, most) for part in parts), start=np.float32(0)))
