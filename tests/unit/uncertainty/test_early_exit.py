"""Early exit: the thresholds of a cascade and its outcome, with literal answers."""

from __future__ import annotations

import numpy as np
import pytest

from vidclf.schema import Look
from vidclf.uncertainty.early_exit import ValidationScores, outcome, stage_thresholds
from vidclf.uncertainty.risk_threshold import ABSTAIN_ON_ALL, RiskThreshold, threshold_text


def scores(trust: list[float], correct: list[bool], ood: list[float] | None = None) -> ValidationScores:
    """Scores at one look of videos that are each a source of their own."""
    return ValidationScores(
        trust_B=np.array(trust, np.float32),
        correct_B=np.array(correct),
        ood_B=np.array(ood or [0.5] * len(trust), np.float32),
        source_B=np.arange(len(trust)),
    )


def sure(num: int) -> ValidationScores:
    """Certain and right predictions."""
    return scores([0.99] * num, [True] * num)


def thresholds(full: float, **early: float) -> RiskThreshold:
    """Thresholds of the full look and of early looks."""
    counts = dict.fromkeys(("num_accepted", "num_errors", "num_sources", "num_wrong_sources", "num_videos"), 0)
    return RiskThreshold(threshold=full, basis="certified", estimate=0.0, early=early, **counts)


def test_stages_that_are_right_all_decide() -> None:
    # With three paths 0.95 ** n must be at most 0.1 / 3: 67 sources.
    for num, basis in ((67, "certified"), (66, "estimated")):
        found = stage_thresholds({"keyframes": sure(num), "subset": sure(num)}, sure(num), 0.05)
        assert (found.basis, list(found.early), found.num_accepted) == (basis, ["keyframes", "subset"], num)


@pytest.mark.parametrize(
    ("early", "needed"), [((), 45), (("keyframes",), 59), (("keyframes", "subset"), 67)], ids=["full", "two", "three"]
)
def test_the_text_names_as_many_sources_as_certify_with_this_number_of_paths(
    early: tuple[str, ...], needed: int
) -> None:
    found = stage_thresholds(dict.fromkeys(early, sure(44)), sure(44), 0.05)
    assert f"certifying it takes at least {needed} accepted held-out sources" in threshold_text(found, 0.05)
    bases = [stage_thresholds(dict.fromkeys(early, sure(n)), sure(n), 0.05).basis for n in (needed - 1, needed)]
    assert bases == ["estimated", "certified"]
    wrong = scores([0.9], [False])
    assert f" {needed} accepted" in threshold_text(stage_thresholds(dict.fromkeys(early, wrong), wrong, 0.05), 0.05)


def test_the_risk_is_that_of_all_accepted_videos() -> None:
    # Each look alone stays below 0.05: keyframes accept the 100 easy videos with 2 errors (estimate 3 / 102), the full
    # look all 200 with 8 errors (9 / 202). Together the full look decides the 100 hard videos, which hold its errors:
    # 11 / 202 is above 0.05.
    keyframes = scores([0.995] * 100 + [0.005] * 100, [False] * 2 + [True] * 98 + [False] * 100)
    full = scores([0.995] * 200, [True] * 100 + [False] * 8 + [True] * 92)
    assert (keyframes.threshold(0.05).basis, full.threshold(0.05).basis) == ("estimated", "estimated")
    found = stage_thresholds({"keyframes": keyframes}, full, 0.05)
    assert (found.early, found.num_accepted, found.num_errors) == ({}, 200, 8)
    # With one error fewer at the keyframes the estimate is 10 / 202, below 0.05.
    keyframes = scores([0.995] * 100 + [0.005] * 100, [False] + [True] * 99 + [False] * 100)
    found = stage_thresholds({"keyframes": keyframes}, full, 0.05)
    assert (found.basis, found.num_accepted, found.num_errors) == ("estimated", 200, 9)
    assert list(found.early) == ["keyframes"]


def test_no_estimated_stage_decides_where_the_full_look_is_certified() -> None:
    # Three of the 100 videos that the keyframes are certain of are wrong. The full look is right.
    keyframes = scores([0.995] * 100, [False] * 3 + [True] * 97)
    assert keyframes.threshold(0.05).basis == "estimated"
    found = stage_thresholds({"keyframes": keyframes}, sure(100), 0.05)
    assert (found.basis, found.early, found.num_errors) == ("certified", {}, 0)


def test_a_stage_that_is_wrong_too_often_is_left_out() -> None:
    found = stage_thresholds({"keyframes": scores([0.99] * 80, [False] * 80), "subset": sure(80)}, sure(80), 0.05)
    assert (found.basis, list(found.early)) == ("certified", ["subset"])


def test_where_nothing_vouches_no_stage_decides() -> None:
    wrong = scores([0.99] * 40, [False] * 40)
    found = stage_thresholds({"keyframes": wrong, "subset": wrong}, wrong, 0.05)
    assert (found.basis, found.threshold, found.early) == ("none", ABSTAIN_ON_ALL, {})


def test_videos_that_are_out_of_distribution_go_on() -> None:
    keyframes = scores([0.99] * 140, [True] * 70 + [False] * 70, [0.9] * 70 + [1.1] * 70)
    found = stage_thresholds({"keyframes": keyframes}, sure(140), 0.05)
    assert (found.num_accepted, found.num_errors, list(found.early)) == (140, 0, ["keyframes"])


def test_the_outcome_counts_each_video_where_it_is_decided() -> None:
    keyframes = scores([0.9, 0.9, 0.1, 0.9], [True, False, False, True], [0.5, 0.5, 0.5, 2.0])
    subset = scores([0.1, 0.1, 0.8, 0.1], [True, True, True, True])
    full = scores([0.1, 0.1, 0.1, 0.9], [True, True, False, False])
    found = outcome({"keyframes": keyframes, "subset": subset}, full, thresholds(0.5, keyframes=0.5, subset=0.5))
    # The first is right at the keyframes, the second wrong there, the third right at the subset. The fourth is out of
    # distribution at the keyframes and wrong at the full look.
    assert found.share == {"keyframes": 0.5, "subset": 0.25, Look.FULL: 0.25}
    assert (found.accuracy, found.error_among_accepted) == (0.5, 0.5)
    alone = outcome({"keyframes": keyframes}, full, thresholds(0.5))
    assert (alone.share, alone.accuracy, alone.error_among_accepted) == ({Look.FULL: 1.0}, 0.5, 1.0)
    assert outcome({}, full, thresholds(ABSTAIN_ON_ALL)).error_among_accepted == pytest.approx(0.0)
