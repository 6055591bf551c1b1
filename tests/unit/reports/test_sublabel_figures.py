"""Figures of sublabels in a report, with literal answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa
import pytest

from tests.support.predictions import CLASSES, Predicted, manifest, table
from vidclf.reports import sublabel_figures
from vidclf.reports.figures import detail, split_metrics
from vidclf.reports.labelled_predictions import ScoredVideos, score
from vidclf.reports.report_page import class_blocks, sublabel_chart
from vidclf.reports.sublabel_figures import AnswerableShares

ROWS = [
    Predicted("1", "A", 0.9, top_sublabel="a1", answer_level="sublabel"),
    Predicted("2", "A", 0.8, top_sublabel="a1", answer_level="sublabel"),
    Predicted("3", "A", 0.7, top_sublabel="a2", answer_level="class"),
    Predicted("4", "B", 0.9, answer_level="class"),
    Predicted("5", "A", 0.6, top_sublabel="a2", answer_level="sublabel"),
    Predicted("6", "A", 0.5, is_accepted=False, top_sublabel="a1", answer_level="abstained"),
]
TRUTH = {"1": ("A", "a1"), "2": ("A", "a2"), "3": ("B", None), "4": ("B", None), "5": ("A", None), "6": ("A", "a1")}


def videos(rows: Sequence[Predicted] = ROWS) -> ScoredVideos:
    """Class A has the sublabels a1 and a2, class B none; the sublabel of video 5 is not known."""
    truth = manifest({name: (label, "test") for name, (label, _) in TRUTH.items()})
    sublabels = pa.array([sublabel for _, sublabel in TRUTH.values()], pa.string())
    truth = truth.set_column(truth.column_names.index("sublabel"), "sublabel", sublabels)
    return score([table(list(rows))], truth, CLASSES).videos


def test_each_sublabel_is_scored_on_the_videos_whose_own_one_is_known() -> None:
    found = sublabel_figures.of_videos(videos(), CLASSES)
    assert found is not None
    assert (found.num_videos, found.num_correct, found.accuracy) == (3, 2, pytest.approx(2 / 3))
    assert [(one.sublabel, one.num_videos, one.accuracy) for one in found.per_sublabel] == [("a1", 2, 1), ("a2", 1, 0)]
    # a1: 2 hits, predicted for 3 and true for 2 videos: F1 is 2 · 2 / (3 + 2).
    assert [one.f1 for one in found.per_sublabel] == [pytest.approx(0.8), 0]
    assert found.macro_f1 == pytest.approx(0.4)
    assert found.leaves == [("A", "a1"), ("A", "a2"), ("B", "")]
    # Videos 1 and 6; video 2; videos 3 (wrong class) and 4.
    assert found.confusion == [[2, 0, 0], [1, 0, 0], [0, 1, 1]]
    assert class_blocks(found) == [("A", 2), ("B", 1)]


def test_answers_are_judged_at_their_level() -> None:
    found = sublabel_figures.of_videos(videos(), CLASSES)
    assert found is not None
    assert [(row.level, row.num_videos, row.num_wrong, row.num_judged) for row in found.levels] == [
        ("sublabel", 3, 1, 2),
        ("class", 2, 1, 2),
        ("abstained", 1, 0, 0),
    ]
    assert [row.share for row in found.levels] == [0.5, pytest.approx(1 / 3), pytest.approx(1 / 6)]
    assert found.words == (
        "0.667 right (2 of 3 videos); answered with: sublabel 50.0 %, class 33.3 %, abstained 16.7 %"
    )
    # By trust: video 1 is right, 2 wrong, 3 wrong (its class has no sublabels), 6 right.
    # Of all videos by class: 1 and 4 (equal trust), 2, 3 (wrong), 5, 6.
    assert found.by_risk[0] == AnswerableShares(risk=0.01, sublabel=0.25, label=0.5)
    assert found.by_risk[-1] == AnswerableShares(risk=0.2, sublabel=0.25, label=1.0)


def test_sets_of_sublabels_are_judged_on_known_leaves() -> None:
    # Video 5 is left out. The set of video 2 holds another sublabel, that of video 3 not its class.
    sets = [("A/a1",), ("A/a1",), ("A/a2", "A/a1"), ("B",), ("A/a2",), ("A/a2", "A/a1", "B")]
    rows = [replace(video, sublabel_set=found) for video, found in zip(ROWS, sets, strict=True)]
    found = sublabel_figures.of_videos(videos(rows), CLASSES)
    assert found is not None
    assert found.sets is not None
    assert (found.sets.num_videos, found.sets.coverage, found.sets.mean_size) == (5, 0.6, pytest.approx(8 / 5))
    assert found.sets.words("sublabel", "sublabels").startswith(
        "the prediction sets hold the true sublabel of 0.600 of the videos, 95 % interval"
    )
    without = sublabel_figures.of_videos(videos(), CLASSES)
    assert without is not None
    assert without.sets is None


def test_a_report_without_sublabels_has_no_figures_of_them() -> None:
    rows = [Predicted("1", "A", 0.9), Predicted("2", "B", 0.8)]
    flat = score([table(rows)], manifest({"1": ("A", "test"), "2": ("A", "test")}), CLASSES).videos
    measured = detail(flat, split_metrics(flat, CLASSES), CLASSES, ["member 0"], ["original"])
    assert (measured.sublabels, sublabel_chart(measured), class_blocks(None)) == (None, None, [])
