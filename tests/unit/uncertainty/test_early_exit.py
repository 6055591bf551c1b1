from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vidclf.uncertainty.early_exit import ValidationScores, outcome, stage_thresholds


def stage(trust: list[float], correct: list[bool], ood: list[float] | None = None) -> ValidationScores:
    return ValidationScores(
        trust_B=np.array(trust, np.float32),
        correct_B=np.array(correct),
        ood_B=np.array(ood or [0.5] * len(trust), np.float32),
    )


def sure(num: int) -> ValidationScores:
    """A full look that is right about everything, so that it keeps any risk that so many videos can show."""
    return stage([1.0] * num, [True] * num)


def test_a_later_stage_is_judged_on_what_is_left_to_it() -> None:
    # 40 sure videos, all right; 40 unsure ones, of which the keyframes get half wrong and the subset one.
    keyframes = stage([0.95] * 40 + [0.5] * 40, [True] * 60 + [False] * 20)
    subset = stage([0.955] * 40 + [0.855] * 40, [True] * 79 + [False])
    found = stage_thresholds({"keyframes": keyframes, "subset": subset}, sure(80), 0.05)
    assert list(found) == ["keyframes", "subset"]
    # Down to 0.51 nothing but the 40 is accepted: (0 + 1) / (40 + 2) = 0.024, by 45 too few to certify 0.05.
    assert (found["keyframes"].threshold, found["keyframes"].num_accepted) == (0.51, 40)
    assert found["keyframes"].basis == "estimated"
    # Judged on the other 40 alone: (1 + 1) / (40 + 2) = 0.0476.
    assert (found["subset"].num_videos, found["subset"].num_errors) == (40, 1)
    assert found["subset"].threshold == 0.0


def test_a_stage_that_cannot_keep_the_risk_is_left_out() -> None:
    # (1 + 1) / (40 + 2) is above 0.04, and 20 videos without an error give 1 / 22 at best.
    keyframes = stage([0.95] * 20 + [0.5] * 20, [True] * 20 + [True] * 19 + [False])
    assert stage_thresholds({"keyframes": keyframes}, sure(40), 0.04) == {}
    assert stage_thresholds({}, sure(40), 0.5) == {}


def test_videos_that_are_out_of_distribution_go_on() -> None:
    keyframes = stage([0.9] * 30 + [0.99] * 30, [True] * 30 + [False] * 30, [0.9] * 30 + [1.1] * 30)
    found = stage_thresholds({"keyframes": keyframes}, sure(60), 0.05)
    assert (found["keyframes"].num_videos, found["keyframes"].num_errors) == (30, 0)


def test_errors_that_the_full_look_makes_too_stop_no_stage() -> None:
    # The surest video is wrong at both looks: neither gets under (1 + 1) / (32 + 2) = 0.059, so there is nothing
    # to go on for. Where the full look is right about it, or abstains, the stage is left out.
    trust = [0.99] + [0.9] * 31 + [0.6] * 5
    keyframes = stage(trust, [False] + [True] * 31 + [False] * 5)
    full = stage([0.97] + [0.9] * 31 + [0.5] * 5, [False] + [True] * 33 + [False] + [True] * 2)
    found = stage_thresholds({"keyframes": keyframes}, full, 0.05)["keyframes"]
    assert (found.basis, found.threshold, found.num_accepted, found.num_errors) == ("as full", 0.61, 32, 1)
    assert found.num_spared == 0

    is_first_B = np.arange(37) == 0
    for other in (
        replace(full, correct_B=full.correct_B | is_first_B),
        replace(full, trust_B=np.where(is_first_B, np.float32(0.1), full.trust_B)),
        replace(full, ood_B=np.where(is_first_B, np.float32(1.1), full.ood_B)),
    ):
        assert stage_thresholds({"keyframes": keyframes}, other, 0.05) == {}


def test_no_stage_begins_below_the_threshold_of_the_full_look() -> None:
    # Alike at both looks, and no more errors at the keyframes; but the full look begins at 0.81.
    full = stage([0.99] + [0.9] * 30 + [0.8] * 4, [False] + [True] * 30 + [False] * 4)
    keyframes = stage([0.99] + [0.9] * 34, [False] + [True] * 34)
    found = stage_thresholds({"keyframes": keyframes}, full, 0.05)["keyframes"]
    assert (found.basis, found.threshold, found.num_accepted) == ("as full", 0.81, 35)


def test_the_outcome_counts_each_video_where_it_is_decided() -> None:
    keyframes = stage([0.9, 0.9, 0.1, 0.9], [True, False, False, True], [0.5, 0.5, 0.5, 2.0])
    subset = stage([0.1, 0.1, 0.8, 0.1], [True, True, True, True])
    full_correct_B = np.array([True, True, False, False])
    found = outcome({"keyframes": keyframes, "subset": subset}, full_correct_B, {"keyframes": 0.5, "subset": 0.5})
    # Right at keyframes, wrong there, right at the subset; the fourth is strange to the keyframes, and wrong in full.
    assert found.share == {"keyframes": 0.5, "subset": 0.25, "full": 0.25}
    assert found.accuracy == pytest.approx(0.5)
    alone = outcome({"keyframes": keyframes}, full_correct_B, {})
    assert (alone.share, alone.accuracy) == ({"full": 1.0}, 0.5)


def test_errors_that_the_full_look_makes_too_are_counted_among_the_accepted_alone() -> None:
    # The full look begins at 0.51. From there on the keyframes have 20 videos, one of which it would get right:
    # (1 + 1) / (20 + 2). That it is one of 41 with those below does not help.
    full = stage([0.99] + [0.9] * 30 + [0.5] * 10, [False] + [True] * 30 + [False] * 10)
    keyframes = stage([0.99, 0.95] + [0.9] * 18 + [0.4] * 21, [False, False] + [True] * 39)
    assert stage_thresholds({"keyframes": keyframes}, full, 0.05) == {}


def test_errors_that_the_full_look_would_spare_are_told() -> None:
    # In full (2 + 1) / (70 + 2) is above 0.04, at the keyframes (3 + 1) / 72; of these (1 + 1) / 72 is what counts.
    keyframes = stage([0.9] * 70, [False] * 3 + [True] * 67)
    full = stage([0.9] * 70, [False] * 2 + [True] * 68)
    found = stage_thresholds({"keyframes": keyframes}, full, 0.04)["keyframes"]
    assert (found.basis, found.num_accepted, found.num_errors, found.num_spared) == ("as full", 70, 3, 1)
    # A risk that the full look keeps, the keyframes must keep by themselves.
    assert stage_thresholds({"keyframes": keyframes}, full, 0.05) == {}
    assert stage_thresholds({"keyframes": keyframes}, full, 0.06)["keyframes"].basis == "estimated"


def test_a_full_look_accepts_no_video_that_is_out_of_distribution() -> None:
    full = stage([0.9] * 30 + [0.99] * 30, [True] * 30 + [False] * 30, [0.9] * 30 + [1.1] * 30)
    found = full.threshold(0.05)
    assert (found.basis, found.num_accepted, found.num_errors, found.num_videos) == ("estimated", 30, 0, 30)
