"""Temperatures of segments between the numbers of frames at which they were fitted."""

from __future__ import annotations

import pytest

from vidclf.ensemble.segment_temperature import SegmentCalibration, segment_temperatures


def fitted(num_frames: int, temperature: float) -> SegmentCalibration:
    return SegmentCalibration(
        num_frames=num_frames, num_segments=9, temperature=temperature, ece_before=0.0, ece_after=0.0
    )


def test_the_temperature_is_interpolated_on_a_logarithmic_scale() -> None:
    known = [fitted(1, 8.0), fitted(4, 4.0)]
    # From 4 frames (temperature 4) to 64 frames (temperature 1), 16 is halfway: temperature 2.
    found_B = segment_temperatures(known, 64, 1.0, [1, 2, 4, 16, 64, 100])
    assert found_B.tolist() == pytest.approx([8.0, 4 * 2**0.5, 4.0, 2.0, 1.0, 1.0])


def test_a_whole_video_has_the_temperature_of_videos() -> None:
    # A fit at as many frames as are sampled is not used.
    assert segment_temperatures([fitted(4, 9.0)], 4, 1.5, [4, 1]).tolist() == pytest.approx([1.5, 1.5])
    assert segment_temperatures([], 73, 1.5, [1, 73]).tolist() == pytest.approx([1.5, 1.5])
