"""The standard deviation of half-precision values, part by part, equals numpy's to the last bit."""

from __future__ import annotations

import numpy as np
import pytest

from vidclf.training import half_precision_std
from vidclf.training.half_precision_std import Halves


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (700, 31), (1700, 1280)])
def test_it_is_numpys(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(0).normal(0.3, 1.7, shape).astype(np.float16)
    assert half_precision_std.standard_deviation(values) == float(values.astype("float32").std())


@pytest.mark.parametrize("most", [128, 1000, 4096])
def test_a_sum_does_not_depend_on_the_parts(most: int) -> None:
    flat = np.random.default_rng(1).normal(size=100_003).astype(np.float16)
    parts: list[int] = []

    def converted(part: Halves) -> np.ndarray:
        parts.append(len(part))
        return part.astype(np.float32)

    assert half_precision_std.pairwise_sum(flat, converted, most) == flat.astype(np.float32).sum()
    assert max(parts) <= most
