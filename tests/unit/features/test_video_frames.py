"""Lists of videos' frame features that share one array, and their selections."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from vidclf.features.video_frames import VideoFrames


def videos() -> VideoFrames:
    """Frames (0, 1), (2, 3) and (4, 5); frame (6, 7); frames (8, 9) and (10, 11)."""
    values = np.arange(12, dtype=np.float16).reshape(6, 2)
    return VideoFrames.of([values[:3], values[3:4], values[4:]])


def test_a_list_of_arrays() -> None:
    assert [rows_TD.tolist() for rows_TD in videos()] == [
        [[0, 1], [2, 3], [4, 5]],
        [[6, 7]],
        [[8, 9], [10, 11]],
    ]
    assert videos()[-1].tolist() == [[8, 9], [10, 11]]
    assert [len(rows_TD) for rows_TD in videos()[1:]] == [1, 2]
    assert (len(videos()), videos().num_frames, videos().num_bytes) == (3, 6, 24)
    with pytest.raises(IndexError):
        videos()[3]


def test_a_selection_shares_the_frames() -> None:
    whole = videos()
    selected = whole.select([2, 1, 2])
    assert [rows_TD.tolist() for rows_TD in selected] == [[[8, 9], [10, 11]], [[6, 7]], [[8, 9], [10, 11]]]
    assert selected.frames_ND is whole.frames_ND
    assert selected.num_bytes == 20
    assert VideoFrames.of(selected) is selected


def test_values_as_if_the_videos_stood_one_after_the_other() -> None:
    selected = videos().select([2, 0])
    assert selected.values(0, 10).tolist() == [8, 9, 10, 11, 0, 1, 2, 3, 4, 5]
    assert selected.values(3, 5).tolist() == [11, 0]
    assert selected.values(4, 4).tolist() == []


def test_a_list_in_memory_is_pickled_with_its_features() -> None:
    copy = pickle.loads(pickle.dumps(videos().select([1])))
    assert [rows_TD.tolist() for rows_TD in copy] == [[[6, 7]]]
