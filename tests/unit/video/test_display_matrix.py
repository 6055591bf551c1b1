"""The eight orientations of a picture by display matrices, and matrices that mean nothing."""

from __future__ import annotations

import numpy as np
import pytest

from vidclf.video.display_matrix import Orientation

PICTURE = np.repeat(np.array([[1, 2, 3], [4, 5, 6]], np.uint8)[:, :, None], 3, axis=2)
ONE = 1 << 16


def shown(a: int, b: int, c: int, d: int) -> list[list[int]]:
    matrix = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], np.int32)
    return Orientation.of(matrix.tobytes()).applied(PICTURE)[:, :, 0].tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((ONE, 0, 0, ONE), [[1, 2, 3], [4, 5, 6]]),
        ((-ONE, 0, 0, ONE), [[3, 2, 1], [6, 5, 4]]),
        ((ONE, 0, 0, -ONE), [[4, 5, 6], [1, 2, 3]]),
        ((-ONE, 0, 0, -ONE), [[6, 5, 4], [3, 2, 1]]),
        ((0, ONE, -ONE, 0), [[4, 1], [5, 2], [6, 3]]),
        ((0, -ONE, ONE, 0), [[3, 6], [2, 5], [1, 4]]),
        ((0, ONE, ONE, 0), [[1, 4], [2, 5], [3, 6]]),
        ((0, -ONE, -ONE, 0), [[6, 3], [5, 2], [4, 1]]),
    ],
)
def test_a_matrix_turns_and_reflects_as_ffmpeg_does(
    matrix: tuple[int, int, int, int], expected: list[list[int]]
) -> None:
    assert shown(*matrix) == expected


def test_a_matrix_without_an_inverse_changes_nothing() -> None:
    assert shown(0, 0, 0, 0) == PICTURE[:, :, 0].tolist()
    assert shown(-ONE, 0, 0, 0) == PICTURE[:, :, 0].tolist()
    assert shown(-ONE, -ONE, -ONE, -ONE) == PICTURE[:, :, 0].tolist()


def test_scale_is_ignored_and_an_angle_rounded_to_a_quarter_turn() -> None:
    assert shown(2 * ONE, 0, 0, 2 * ONE) == PICTURE[:, :, 0].tolist()
    tilted = [round(ONE * value) for value in (np.cos(0.1), np.sin(0.1), -np.sin(0.1), np.cos(0.1))]
    assert shown(*tilted) == PICTURE[:, :, 0].tolist()
