"""Confusions of classes in a report."""

from __future__ import annotations

import numpy as np
import pytest

from vidclf.reports import confusion


def test_the_most_frequent_confusions_come_first() -> None:
    pairs = confusion.confused_pairs([[5, 1, 0], [3, 1, 0], [0, 1, 9]], ["x", "y", "z"])
    assert [(pair.label, pair.predicted, pair.num_videos, pair.share) for pair in pairs] == [
        ("y", "x", 3, 0.75),
        ("x", "y", 1, pytest.approx(1 / 6)),
        ("z", "y", 1, 0.1),
    ]


def test_few_classes_keep_their_order_and_many_stand_by_what_they_are_taken_for() -> None:
    matrix = (np.eye(13, dtype=int) * 10).tolist()
    assert confusion.class_order(matrix) == list(range(13))
    matrix[0][12] = matrix[12][0] = 6
    matrix[3][9] = 4
    order = confusion.class_order(matrix)
    assert sorted(order) == list(range(13))
    assert abs(order.index(0) - order.index(12)) == abs(order.index(3) - order.index(9)) == 1
    assert confusion.class_order([row[:12] for row in matrix[:12]]) == list(range(12))
