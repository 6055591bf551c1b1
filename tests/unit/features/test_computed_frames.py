"""Feature arrays that are computed at each access."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vidclf.features.computed_frames import ComputedFrames, lengths, select
from vidclf.features.video_frames import VideoFrames

VIDEOS = [np.full((length, 2), length, np.float16) for length in (1, 2, 3, 5)]


def every_other(features_TD: npt.NDArray[np.float16]) -> npt.NDArray[np.float16]:
    return features_TD[::2] + np.float16(1)


def test_an_array_is_computed_when_it_is_read() -> None:
    computed = ComputedFrames(VIDEOS, every_other)
    assert len(computed) == 4
    assert computed[3].tolist() == [[6, 6], [6, 6], [6, 6]]
    assert [rows_TD.tolist() for rows_TD in computed[:2]] == [[[2, 2]], [[3, 3]]]
    assert computed[3] is not computed[3]


def test_lengths_need_no_features() -> None:
    assert ComputedFrames(VIDEOS, every_other).lengths == [1, 1, 2, 3]
    assert lengths(VideoFrames.of(VIDEOS)) == lengths(VIDEOS) == [1, 2, 3, 5]


def test_selected_videos_stay_where_they_are() -> None:
    stored = VideoFrames.of(VIDEOS)
    chosen = select(ComputedFrames(stored, every_other), np.array([2, 2, 0]))
    assert [rows_TD.tolist() for rows_TD in chosen] == [[[4, 4], [4, 4]], [[4, 4], [4, 4]], [[2, 2]]]
    selected = select(stored, [1])
    assert isinstance(selected, VideoFrames)
    assert selected.frames_ND is stored.frames_ND
    assert select(VIDEOS, [3])[0] is VIDEOS[3]
