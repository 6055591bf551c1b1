"""Prediction sets in a report."""

from __future__ import annotations

from tests.support.predictions import CLASSES, Predicted, manifest, table
from vidclf.reports import error_lists, set_figures
from vidclf.reports.labelled_predictions import score

TRUTH = {"1": ("A", "test"), "2": ("A", "test"), "3": ("B", "test"), "4": ("A", "test")}


def test_coverage_and_size_are_counted_and_an_abstained_video_names_its_set() -> None:
    rows = [
        Predicted("1", "A", 0.9, prediction_set=("A",)),
        Predicted("2", "B", 0.8, prediction_set=("B",)),
        Predicted("3", "A", 0.6, is_accepted=False, prediction_set=("A", "B")),
        Predicted("4", "A", 0.9, prediction_set=("A",)),
    ]
    videos = score([table(rows)], manifest(TRUTH), CLASSES).videos
    found = set_figures.of_videos(videos)
    assert found is not None
    assert (found.coverage, found.mean_size, found.interval_95) == (0.75, 1.25, None)
    assert found.words() == (
        "the prediction sets hold the true class of 0.750 of the videos; they have 1.25 classes on average"
    )
    (case,) = error_lists.abstained(videos, CLASSES)
    assert case.prediction_set == "A or B"


def test_predictions_without_sets_have_no_figures() -> None:
    videos = score([table([Predicted("1", "A", 0.9)])], manifest(TRUTH), CLASSES).videos
    assert set_figures.of_videos(videos) is None
