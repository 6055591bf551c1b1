"""Figures of a report, with literal answers."""

from __future__ import annotations

import csv
from dataclasses import replace

import pytest

from tests.support.predictions import CLASSES, Predicted, manifest, table
from vidclf.errors import ConfigError
from vidclf.reports import error_lists, figures
from vidclf.reports.figures import Detail
from vidclf.reports.labelled_predictions import ScoredVideos, score
from vidclf.reports.top_votes import NO_VOTE

VIDEOS = [
    Predicted("1", "A", 0.9, views=("A", "B")),
    Predicted("2", "B", 0.8, codec="vp9", views=("B", "A")),
    Predicted("3", "B", 0.7, is_accepted=False, views=("A", "B")),
    Predicted("4", "A", 0.6, is_accepted=False, codec=None, views=("A", "A")),
]
MEMBERS = ["member 0", "member 1"]
TRUTH = {"1": ("A", "test"), "2": ("A", "test"), "3": ("B", "test"), "4": ("A", "val")}


@pytest.fixture(scope="module")
def videos() -> ScoredVideos:
    return score([table(VIDEOS[:1]), table(VIDEOS[1:])], manifest(TRUTH), CLASSES).videos


@pytest.fixture(scope="module")
def detail(videos: ScoredVideos) -> Detail:
    measured = figures.split_metrics(videos, CLASSES)
    return figures.detail(videos, measured, CLASSES, MEMBERS, ["original", "reverse"])


def test_predictions_are_joined_with_the_truth_across_shards(videos: ScoredVideos) -> None:
    assert videos.video_ids.tolist() == ["1", "2", "3", "4"]
    assert videos.is_correct_B.tolist() == [True, False, True, True]
    assert videos.is_accepted_B.tolist() == [True, True, False, False]
    assert videos.view_top_BV.tolist() == [[0, 1], [1, 0], [0, 1], [0, 0]]
    assert videos.codecs.tolist() == ["h264", "vp9", "h264", "unknown"]
    assert videos.durations.tolist() == ["5 to 15 s"] * 3 + ["unknown"]


def test_accepted_videos_are_counted_apart(detail: Detail) -> None:
    assert (detail.num_accepted, detail.num_accepted_correct) == (2, 1)
    assert detail.accepted_interval_95 is None
    assert {name: more.num_abstained for name, more in detail.per_class.items()} == {"A": 1, "B": 1}


def test_classes_have_areas_and_intervals(detail: Detail) -> None:
    # Probabilities of B are 0.1, 0.8, 0.7 and 0.4; only the video with 0.7 is of class B. One of three pairs is wrong.
    assert {name: curve.auc for name, curve in detail.roc.items()} == pytest.approx({"A": 2 / 3, "B": 2 / 3})
    assert detail.macro_auc == pytest.approx(2 / 3)
    # Four sources are too few for an interval.
    assert detail.per_class["A"].recall_interval_95 is None


def test_views_are_compared_with_the_original_one(detail: Detail) -> None:
    assert [(voter.name, voter.accuracy, voter.gain) for voter in detail.views] == [
        ("original", 0.5, 0.0),
        ("reverse", 0.75, 0.25),
        ("all, weighted", 0.75, 0.25),
    ]
    assert [voter.gain_interval_95 for voter in detail.views] == [None] * 3


def test_one_view_is_none_to_compare(videos: ScoredVideos) -> None:
    plain = score([table([Predicted("1", "A", 0.9)])], manifest(TRUTH), CLASSES).videos
    measured = figures.split_metrics(plain, CLASSES)
    assert figures.detail(plain, measured, CLASSES, MEMBERS, ["original"]).views == []


def test_kinds_of_video(detail: Detail) -> None:
    assert [(row.name, row.num_videos, row.num_correct, row.num_abstained) for row in detail.by["codec"]] == [
        ("h264", 2, 2, 1),
        ("vp9", 1, 0, 0),
        ("unknown", 1, 1, 1),
    ]
    assert set(detail.by) == {"sublabel", "codec", "resolution", "duration"}


def test_cases_are_sorted_and_written(videos: ScoredVideos) -> None:
    (wrong,) = error_lists.misclassified(videos, CLASSES)
    assert (wrong.label, wrong.top_label, wrong.probabilities[0]) == ("A", "B", ("B", pytest.approx(0.8)))
    assert [case.video_id for case in error_lists.abstained(videos, CLASSES)] == ["3", "4"]
    assert error_lists.to_csv([wrong]).decode().splitlines() == [
        "split,label,top_label,verdict,confidence,trust_score,ood_score,sublabel,codec,resolution,duration,group,"
        "video_id,video_uri,prediction_set",
        "test,A,B,accepted,0.800000,0.400000,0.500000,s,vp9,360p,5 to 15 s,2,2,/none/2,",
    ]


def test_a_cell_of_text_is_no_formula_to_a_spreadsheet(videos: ScoredVideos) -> None:
    (wrong,) = error_lists.misclassified(videos, CLASSES)
    names = {
        "sublabel": "=1+2",
        "codec": "+1",
        "group": '@SUM(A1)"',
        "video_uri": "-2",
        "resolution": " =3",
        "label": "a=b",
    }
    (row,) = list(csv.DictReader(error_lists.to_csv([replace(wrong, ood_score=-0.5, **names)]).decode().splitlines()))
    assert {name: row[name] for name in names} == {
        "sublabel": "'=1+2",
        "codec": "'+1",
        "group": "'@SUM(A1)\"",
        "video_uri": "'-2",
        "resolution": "' =3",
        "label": "a=b",
    }
    # A number stays a number.
    assert row["ood_score"] == "-0.500000"


def test_rows_of_different_numbers_of_views_are_refused() -> None:
    mixed = [Predicted("1", "A", 0.9, views=("A",)), Predicted("2", "B", 0.8, views=("B", "A"))]
    with pytest.raises(ConfigError, match=r"mix rows of \[1, 2\]"):
        score([table(mixed)], manifest(TRUTH), CLASSES)
    with pytest.raises(ConfigError, match=r"mix rows of \[1, 2\] views"):
        score([table(mixed[:1]), table(mixed[1:])], manifest(TRUTH), CLASSES)


def test_votes_of_an_early_look_or_of_another_ensemble_are_not_counted() -> None:
    """An early look has no test-time views, and --first-ensemble has other members."""
    rows = [
        Predicted("1", "A", 0.9, views=("A", "B")),
        Predicted("2", "B", 0.8, stage="keyframes"),
        Predicted("3", "A", 0.7, views=("B", "B")),
    ]
    for tables in ([table(rows)], [table(rows[1:2]), table([rows[0], rows[2]])]):
        videos = score(tables, manifest(TRUTH), CLASSES).videos
        assert videos.view_top_BV.tolist() == [[0, 1], [NO_VOTE, NO_VOTE], [1, 1]]
        assert videos.member_top_BM.tolist() == [[0, 0], [1, 1], [0, 0]]
    measured = figures.detail(videos, figures.split_metrics(videos, CLASSES), CLASSES, MEMBERS, ["original", "reverse"])
    # TRUTH: the first video is A, the third is B.
    assert [(voter.name, voter.accuracy) for voter in measured.views[:2]] == [("original", 1.0), ("reverse", 0.5)]
    videos = score([table(rows)], manifest(TRUTH), CLASSES, ensemble_id="another").videos
    assert (videos.member_top_BM.shape, videos.view_top_BV.shape) == ((3, 0), (3, 0))
    measured = figures.detail(videos, figures.split_metrics(videos, CLASSES), CLASSES, MEMBERS, [])
    assert (measured.members, measured.views) == ([], [])


def test_intervals_are_by_sources_where_there_are_five() -> None:
    predicted = [Predicted(str(i), "A", 0.9, views=("A", "B" if i == 9 else "A")) for i in range(10)]
    truth = {str(i): ("A" if i else "B", "test") for i in range(10)}
    videos = score([table(predicted)], manifest(truth), CLASSES).videos
    measured = figures.split_metrics(videos, CLASSES)
    measured_detail = figures.detail(videos, measured, CLASSES, MEMBERS, ["original", "reverse"])
    assert measured.accuracy_interval_95 == measured_detail.accuracy_interval_95 == measured_detail.accepted_interval_95
    low, high = measured_detail.accuracy_interval_95 or (0, 0)
    # 9 of 10 sources with one video each: Clopper and Pearson's interval, by scipy.stats.binomtest.
    assert (low, high) == pytest.approx((0.555, 0.9975), abs=1e-3)
    assert (measured_detail.source_accuracy, measured_detail.source_accuracy_interval_95) == (
        0.9,
        pytest.approx((low, high)),
    )
    assert measured_detail.per_class["B"].recall_interval_95 is None
    low, high = measured_detail.views[1].gain_interval_95 or (0, 0)
    assert low < -0.1 < 0 < high
