"""The standard deviation of an array in half precision, without a copy of the array in full precision.

The sums equal numpy's to the last bit, because the noise of a training, and so its weights, depend on them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

VALUES_AT_A_TIME = 2**20
"""Values that are converted together: 4 MiB in float32."""

Halves = npt.NDArray[np.float16]


def standard_deviation(values: Halves) -> float:
    """The population standard deviation, equal to `values.astype("float32").std()`."""
    flat = np.ascontiguousarray(values).reshape(-1)
    count = np.float32(len(flat))
    mean = pairwise_sum(flat, lambda part: part.astype(np.float32)) / count
    squares = pairwise_sum(flat, lambda part: np.square(part.astype(np.float32) - mean))
    return float(np.sqrt(squares / count))


def pairwise_sum(
    flat: Halves, converted: Callable[[Halves], npt.NDArray[np.float32]], most: int = VALUES_AT_A_TIME
) -> np.float32:
    """The sum of the converted values, by numpy's pairwise summation (Higham 1993, doi:10.1137/0914050).

    Parts of at most `most` values are converted and summed by numpy; the halvings above that size are made here.
    """
    if len(flat) <= most:
        return np.float32(converted(flat).sum())
    half = len(flat) // 2
    half -= half % 8
    return np.float32(pairwise_sum(flat[:half], converted, most) + pairwise_sum(flat[half:], converted, most))
