"""The standard deviation of half-precision values, part by part, equals numpy's to the last bit."""

from __future__ import annotations

import numpy as np
import pytest

from vidclf.features.video_frames import VideoFrames
from vidclf.training import half_precision_std
from vidclf.training.half_precision_std import Halves


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (700, 31), (1700, 1280)])
def test_it_is_numpys(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(0).normal(0.3, 1.7, shape).astype(np.float16)
    videos = VideoFrames.of(np.array_split(values, min(len(values), 7)))
    assert half_precision_std.standard_deviation(videos) == float(values.astype("float32").std())


def test_it_is_that_of_the_selected_videos_in_their_order() -> None:
    values = np.random.default_rng(0).normal(0.3, 1.7, (12, 64)).astype(np.float16)
    selected = VideoFrames.of([values[:5], values[5:6], values[6:]]).select([2, 0])
    expected = np.concatenate([values[6:], values[:5]]).astype("float32").std()
    assert half_precision_std.standard_deviation(selected) == float(expected)


@pytest.mark.parametrize("most", [128, 1000, 4096])
def test_a_sum_does_not_depend_on_the_parts(most: int) -> None:
    flat = np.random.default_rng(1).normal(size=100_003).astype(np.float16)
    parts: list[int] = []

    def converted(part: Halves) -> np.ndarray:
        parts.append(len(part))
        return part.astype(np.float32)

    assert (
        half_precision_std.pairwise_sum(lambda first, end: flat[first:end], 0, len(flat), converted, most)
        == flat.astype(np.float32).sum()
    )
    assert max(parts) <= most
