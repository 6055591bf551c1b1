"""The threshold of the sublabels for a stated risk."""

from __future__ import annotations

import numpy as np
from scipy.stats import binom

from tests.support.sublabel_world import certified_errors, drawn
from vidclf.uncertainty import sublabel_threshold
from vidclf.uncertainty.early_exit import ValidationScores, stage_thresholds
from vidclf.uncertainty.sublabel_threshold import SublabelScores


def class_scores(num_videos: int, num_wrong: int = 0) -> ValidationScores:
    """Videos of as many sources, all with trust 0.9; the last ones have a wrong class."""
    return ValidationScores(
        trust_B=np.full(num_videos, 0.9, np.float32),
        correct_B=np.arange(num_videos) < num_videos - num_wrong,
        ood_B=np.zeros(num_videos, np.float32),
        source_B=np.arange(num_videos),
    )


def sublabels(trust: list[float], right: list[int]) -> SublabelScores:
    return SublabelScores(trust_B=np.array(trust, np.float32), right_B=np.array(right))


def test_sublabels_are_answered_down_to_the_trust_that_keeps_the_risk() -> None:
    scores = class_scores(100)
    # 80 sure sublabels, all right; 20 unsure ones, all wrong.
    found = sublabels([0.8] * 80 + [0.4] * 20, [1] * 80 + [0] * 20)
    classes = scores.threshold(0.05)
    chosen = sublabel_threshold.choose(classes, (scores, found), {}, 0.05)
    assert (chosen.threshold, chosen.basis) == (0.41, "certified")
    assert (chosen.num_accepted, chosen.num_errors, chosen.num_videos) == (80, 0, 100)
    # 20 wrong of 100: so many are too unlikely at 0.3 (probability 0.02), but not at 0.25 (0.15).
    lax = sublabel_threshold.choose(scores.threshold(0.3), (scores, found), {}, 0.3)
    assert (lax.threshold, lax.num_accepted, lax.num_errors) == (0.0, 100, 20)


def test_a_video_without_a_known_sublabel_or_without_sublabels_does_not_count() -> None:
    scores = class_scores(100)
    found = sublabels([0.8] * 80 + [0.0] * 20, [1] * 60 + [-1] * 20 + [0] * 20)
    chosen = sublabel_threshold.choose(scores.threshold(0.1), (scores, found), {}, 0.1)
    assert (chosen.num_accepted, chosen.num_errors, chosen.num_videos) == (60, 0, 80)


def test_finer_answers_must_not_make_all_answers_together_less_reliable() -> None:
    # 4 of 100 classes are wrong, which an estimate of (4 + 1) / 102 supports at 0.05. Their class has no sublabels, and
    # one wrong sublabel among the 96 others would be supported by itself: (1 + 1) / 98.
    scores = class_scores(100, num_wrong=4)
    alone = sublabels([0.8] * 95 + [0.4] + [0.0] * 4, [1] * 95 + [0] * 5)
    classes = scores.threshold(0.05)
    assert (classes.num_accepted, classes.num_errors) == (100, 4)
    chosen = sublabel_threshold.choose(classes, (scores, alone), {}, 0.05)
    # All answers: 4 + 1 wrong, (5 + 1) / 102 is above 0.05. So the unsure sublabel is not answered.
    assert (chosen.threshold, chosen.num_accepted, chosen.num_errors) == (0.41, 95, 0)


def test_errors_do_not_hide_behind_videos_whose_sublabel_is_not_known() -> None:
    # 7.5 % of the classes and 6 % of the sublabels of the others are wrong: with sublabels 13 % of answers would be.
    generator = np.random.default_rng(1)
    scores = class_scores(2000, num_wrong=150)
    is_right_B = scores.correct_B & (generator.random(2000) > 0.06)
    for share_known in (1.0, 0.2):
        is_known_B = generator.random(2000) < share_known
        found = sublabels([0.8] * 2000, np.where(is_known_B, is_right_B, -1).tolist())
        chosen = sublabel_threshold.choose(scores.threshold(0.1), (scores, found), {}, 0.1)
        assert chosen.abstains_on_all
        assert chosen.num_videos == is_known_B.sum()


def test_no_sublabel_is_answered_where_no_class_is() -> None:
    scores = class_scores(3)
    chosen = sublabel_threshold.choose(scores.threshold(0.05), (scores, sublabels([0.8] * 3, [1] * 3)), {}, 0.05)
    assert (chosen.abstains_on_all, chosen.num_accepted) == (True, 0)
    assert "none is answered" in sublabel_threshold.text(chosen, 0.05)


def test_an_early_look_decides_sublabels_with_its_own_scores() -> None:
    full, early = class_scores(100), class_scores(100)
    wrong, right = sublabels([0.8] * 100, [0] * 100), sublabels([0.7] * 100, [1] * 100)
    classes = stage_thresholds({"keyframes": early}, full, 0.05)
    chosen = sublabel_threshold.choose(classes, (full, wrong), {"keyframes": (early, right)}, 0.05)
    assert (chosen.num_accepted, chosen.num_errors) == (100, 0)


def test_class_and_sublabel_hold_together_with_the_stated_confidence() -> None:
    """Each is certified with 90 % confidence, so all statements about both are false together in at most 20 %."""
    risk, num_repeats = 0.15, 40
    population, generator = drawn(np.random.default_rng(99), 200_000), np.random.default_rng(0)
    num_certified = num_false = 0
    for _ in range(num_repeats):
        errors = certified_errors(drawn(generator, 400), population, risk)
        num_certified += errors[1] is not None
        num_false += any(error is not None and error > risk for error in errors)
    assert (num_certified, num_false) == (6, 4)
    assert binom.cdf(num_false, num_repeats, 0.2) < 0.99
