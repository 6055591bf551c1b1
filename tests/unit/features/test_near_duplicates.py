"""Mean features of videos, and the nearest video of another set."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.split_records import unit
from vidclf.features.near_duplicates import nearest, unit_vectors, video_means


@pytest.mark.parametrize("tile", [1, 2, 100])
def test_the_nearest_video_is_found_whatever_the_tile(tile: int) -> None:
    units_ND, others_MD = (
        np.array([unit(a) for a in angles], np.float32) for angles in ((0, 90, 30), (100, 10, 5, 25))
    )
    # cos 5° = 0.996, cos 10° = 0.985.
    assert nearest(units_ND, others_MD, 0.98, tile).tolist() == [2, 0, 3]
    assert nearest(units_ND, others_MD, 0.99, tile).tolist() == [2, -1, 3]
    assert nearest(units_ND, others_MD[:0], 0.98, tile).tolist() == [-1, -1, -1]


def test_a_video_that_is_the_centre_is_near_to_nothing() -> None:
    means_ND = video_means([np.array([[0, 0], [2, 4]], np.float16), np.array([[3, 2]], np.float16)])
    assert means_ND.tolist() == [[1, 2], [3, 2]]
    units_ND = unit_vectors(means_ND, np.array([1, 2], np.float32))
    assert units_ND.tolist() == [[0, 0], [1, 0]]
    assert nearest(units_ND, units_ND, 0.95).tolist() == [-1, 1]
