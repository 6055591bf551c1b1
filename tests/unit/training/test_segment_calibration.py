"""Segments of the validation videos, and their temperatures."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vidclf.training import segment_calibration
from vidclf.training.linear_fit import WeighedVotes


def numbered(length: int) -> np.ndarray:
    """A video whose only feature is the number of the frame."""
    return np.arange(length, dtype=np.float16)[:, None]


def test_segments_lie_apart_and_are_spread_over_the_video() -> None:
    samples = segment_calibration.samples([[numbered(9), numbered(2)]])
    found = {
        sample.num_frames: [rows_TD[:, 0].astype(int).tolist() for rows_TD in sample.sequences_S[0]]
        for sample in samples
    }
    assert found == {
        1: [[0], [4], [8], [0], [1]],
        2: [[0, 1], [3, 4], [7, 8]],
        4: [[0, 1, 2, 3], [5, 6, 7, 8]],
        8: [[0, 1, 2, 3, 4, 5, 6, 7]],
    }
    assert [sample.video_P.tolist() for sample in samples] == [[0, 0, 0, 1, 1], [0] * 3, [0] * 2, [0]]


def test_a_video_of_one_frame_has_no_segments() -> None:
    assert segment_calibration.samples([[numbered(1)]]) == []


def test_segments_of_few_frames_that_are_too_sure_get_a_high_temperature() -> None:
    # 2,000 videos of 3 frames. Their segments of 1 frame say 98 % and are right in 3 of 4 cases; those of 2 frames are
    # right as often as they say.
    labels_B, folds_B = np.array([0, 0, 0, 1] * 500), np.arange(2000) % 5
    fitter: Any = SimpleNamespace(videos=SimpleNamespace(labels_B=labels_B, folds_B=folds_B), prior_temperature=1.0)
    samples = segment_calibration.samples([[numbered(3)] * 2000])
    assert [(sample.num_frames, len(sample.video_P)) for sample in samples] == [(1, 6000), (2, 2000)]
    sure = 1 / (1 + np.exp(-4))
    votes = [
        WeighedVotes.equal(np.tile(np.array([p, 1 - p], np.float32), (1, 1, len(sample.video_P), 1)))
        for sample, p in zip(samples, (sure, 0.75), strict=True)
    ]
    one, two = segment_calibration.fit_segments(fitter, samples, votes)
    assert (one.num_frames, one.num_segments, two.num_frames, two.num_segments) == (1, 6000, 2, 2000)
    assert one.temperature == pytest.approx(4 / np.log(3), abs=1e-2)
    assert two.temperature == pytest.approx(1, abs=1e-2)
    assert one.ece_before == pytest.approx(sure - 0.75, abs=1e-5)
    assert one.ece_after == pytest.approx(0, abs=2e-3)
