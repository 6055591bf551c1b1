"""Repeated frames of a video."""

from __future__ import annotations

import numpy as np

from vidclf.backbones.agreement import Features, Frames
from vidclf.backbones.engine import Engine
from vidclf.backbones.repeated_frames import distinct

RED, BLUE, NEARLY_BLUE = (np.full((4, 6, 3), colour, np.uint8) for colour in ((200, 0, 0), (0, 0, 200), (0, 0, 201)))


def test_distinct_frames_are_in_the_order_of_their_first_showing() -> None:
    firsts_U, source_T = distinct(np.stack([BLUE, RED, RED, BLUE, NEARLY_BLUE, RED]), [6])
    assert firsts_U.tolist() == [0, 1, 4]
    assert source_T.tolist() == [0, 1, 1, 0, 2, 1]


def test_each_video_has_its_own_pictures() -> None:
    firsts_U, source_T = distinct(np.stack([BLUE, RED, RED, BLUE, BLUE]), [2, 3])
    assert firsts_U.tolist() == [0, 1, 2, 3]
    assert source_T.tolist() == [0, 1, 2, 3, 3]


def test_with_a_tolerance_a_frame_may_repeat_one_that_is_near() -> None:
    # One of three channels changes by one level, so the mean difference is a third.
    fade = [np.full((4, 6, 3), (0, 0, 100 + level), np.uint8) for level in range(5)]
    firsts_U, source_T = distinct(np.stack(fade), [5], 0.34)
    assert (firsts_U.tolist(), source_T.tolist()) == ([0, 2, 4], [0, 0, 1, 1, 2])
    assert distinct(np.stack(fade), [5], 0.33)[0].tolist() == [0, 1, 2, 3, 4]
    # Compared is the last new frame of the same video, not the frame before.
    firsts_U, source_T = distinct(np.stack([BLUE, RED, NEARLY_BLUE, NEARLY_BLUE]), [3, 1], 1.0)
    assert (firsts_U.tolist(), source_T.tolist()) == ([0, 1, 2, 3], [0, 1, 2, 3])
    firsts_U, source_T = distinct(np.stack([BLUE, NEARLY_BLUE, RED, NEARLY_BLUE]), [4], 1.0)
    assert (firsts_U.tolist(), source_T.tolist()) == ([0, 2], [0, 0, 1, 0])


def test_a_cnn_computes_a_picture_once() -> None:
    calls: list[Frames] = []

    def mean_colours(frames_THWC: Frames) -> Features:
        calls.append(frames_THWC)
        return frames_THWC.mean(axis=(1, 2), dtype=np.float32)

    cnn = Engine(name="means", run=mean_colours)
    features_TD = cnn(np.stack([BLUE, RED, RED, NEARLY_BLUE, BLUE]))
    assert features_TD.tolist() == [[0, 0, 200], [200, 0, 0], [200, 0, 0], [0, 0, 201], [0, 0, 200]]
    cnn(np.stack([RED, BLUE]))
    assert [len(frames_THWC) for frames_THWC in calls] == [3, 2]
