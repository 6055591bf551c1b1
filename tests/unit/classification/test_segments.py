"""Segments of a video and the frames in each of them."""

from __future__ import annotations

import numpy as np

from vidclf.classification.segments import Segment, segments_of


def test_the_segments_of_a_video_of_70_seconds() -> None:
    segments = segments_of(np.array([0.0, 10.0, 29.9, 30.0, 65.0]), 70.0, 30.0)
    assert segments == [
        Segment(index=0, start_s=0.0, end_s=30.0, frames=slice(0, 3)),
        Segment(index=1, start_s=30.0, end_s=60.0, frames=slice(3, 4)),
        Segment(index=2, start_s=60.0, end_s=70.0, frames=slice(4, 5)),
    ]


def test_a_segment_without_a_frame_is_left_out() -> None:
    assert [segment.index for segment in segments_of(np.array([5.0, 95.0]), 100.0, 30.0)] == [0, 3]


def test_a_short_video_is_one_segment_up_to_its_end_or_its_last_frame() -> None:
    assert segments_of(np.array([0.0]), 0.04, 30.0) == [Segment(index=0, start_s=0.0, end_s=0.04, frames=slice(0, 1))]
    assert segments_of(np.array([0.0, 4.1]), 4.0, 30.0)[0].end_s == 4.1
