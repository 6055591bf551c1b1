"""Scores of a classification, with literal answers."""

from __future__ import annotations

import numpy as np
import pytest

from vidclf.metrics import scores

CLASSES = ["A", "B", "C"]


def test_confusion_accuracy_and_f1() -> None:
    measured = scores.evaluate([0, 0, 0, 1, 1], [0, 0, 1, 1, 0], CLASSES)
    assert measured.confusion == [[2, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert (measured.num_videos, measured.num_correct, measured.accuracy) == (5, 3, 0.6)
    assert measured.per_class["A"].f1 == pytest.approx(2 / 3)
    assert measured.per_class["B"].precision == pytest.approx(0.5)
    assert measured.per_class["B"].support == 2
    assert measured.expected_calibration_error is None


def test_a_class_that_is_neither_present_nor_predicted_does_not_enter_the_macro_average() -> None:
    assert scores.evaluate([0, 1], [0, 1], CLASSES).macro_f1 == 1.0


def test_a_class_that_is_never_predicted_counts_as_zero() -> None:
    # A collapsed model: A has F1 2/3, B has 0.
    assert scores.evaluate([0, 1], [0, 0], CLASSES).macro_f1 == pytest.approx(1 / 3)


def test_no_video_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one video"):
        scores.evaluate([], [], CLASSES)


def test_calibration_error_is_the_weighted_gap_over_bins() -> None:
    # Bin (0.7, 0.8] holds half the videos, with confidence 0.75 and accuracy 0.5: gap 0.25. Bin (0.9, 1] has no gap.
    confidence = np.array([0.75, 0.75, 1.0, 1.0])
    correct = np.array([True, False, True, True])
    assert scores.expected_calibration_error(confidence, correct) == pytest.approx(0.125)
