"""The standard deviation of a half-precision array, computed without a copy of the array in full precision.

The sums equal numpy's to the last bit, because the noise that a training adds to its features depends on them, and so
do its weights.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

VALUES_AT_A_TIME = 2**20
"""Number of values that are converted to float32 together; they take 4 MiB."""

Halves = npt.NDArray[np.float16]


def standard_deviation(values: Halves) -> float:
    """The population standard deviation of all values, a number equal to `values.astype("float32").std()`."""
    flat = np.ascontiguousarray(values).reshape(-1)
    count = np.float32(len(flat))
    mean = pairwise_sum(flat, lambda part: part.astype(np.float32)) / count
    squares = pairwise_sum(flat, lambda part: np.square(part.astype(np.float32) - mean))
    return float(np.sqrt(squares / count))


def pairwise_sum(
    flat: Halves, converted: Callable[[Halves], npt.NDArray[np.float32]], most: int = VALUES_AT_A_TIME
) -> np.float32:
    """The sum of `converted(flat)`, added up by numpy's pairwise summation (Higham 1993, doi:10.1137/0914050).

    The array is halved here until a part has at most `most` values; each such part is converted and summed by numpy.
    """
    if len(flat) <= most:
        return np.float32(converted(flat).sum())
    half = len(flat) // 2
    half -= half % 8
    return np.float32(pairwise_sum(flat[:half], converted, most) + pairwise_sum(flat[half:], converted, most))
