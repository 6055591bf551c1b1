"""Parts of the server's answer: trust parts, segment lengths, quality flags, reasons."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.split_records import record, recorded
from vidclf.ensemble.held_out import used_contents
from vidclf.schema import RejectReason
from vidclf.server.refusals import STATUS, WORDS, Problem
from vidclf.server.response import ResponseContext, answer, quality_flags, segment_length_s
from vidclf.uncertainty.explanation import trust_parts
from vidclf.uncertainty.trust_score import SIGNS, TrustScore

NONE = dict.fromkeys(SIGNS, 0.0)
SCORE = TrustScore(
    intercept=0.25,
    slope=0.5,
    weights={**NONE, "margin": 2.0, "closeness": 1.0},
    means={**NONE, "margin": 0.6, "closeness": 1.0},
    sds={**dict.fromkeys(SIGNS, 1.0), "margin": 0.2, "closeness": 0.5},
)


def test_parts_of_trust_add_up_to_it_and_the_lowest_comes_first() -> None:
    signs = {**NONE, "margin": 0.5, "closeness": 2.0}
    parts = trust_parts(SCORE, 0.5, [signs[name] for name in SIGNS])
    # 2 × (0.5 - 0.6) / 0.2, 0.5 × logit(0.5), 1 × (2 - 1) / 0.5
    assert [(part.name, part.effect) for part in parts] == [
        ("margin", pytest.approx(-1.0)),
        ("confidence", 0.0),
        ("closeness", pytest.approx(2.0)),
    ]
    assert (parts[0].value, parts[0].typical) == (0.5, 0.6)
    assert parts[1].typical is None


@pytest.mark.parametrize(
    ("duration_s", "num_frames", "length_s"),
    [(5.0, 73, 0.5), (5.0, 16, 1.0), (60.0, 73, 5.0), (3600.0, 73, 300.0), (0.04, 1, 0.5), (60.0, 1, 60.0)],
)
def test_segments_are_few_and_hold_frames(duration_s: float, num_frames: int, length_s: float) -> None:
    assert segment_length_s(duration_s, num_frames) == length_s


def test_a_video_that_never_ends_has_the_longest_segments() -> None:
    assert segment_length_s(1e9, 73) == 3600.0


def test_quality_flags_say_what_is_wrong_with_the_pictures() -> None:
    fine = {"is_black": [False] * 4, "all_black": False, "is_blurry": False, "is_near_duplicate": [False] * 4}
    assert quality_flags(fine) == []
    assert quality_flags({**fine, "is_black": [True] * 4, "all_black": True}) == ["all_black"]
    assert quality_flags({**fine, "is_black": [True, False, False, False]}) == ["some_black"]
    assert quality_flags({**fine, "is_blurry": True}) == ["blurry"]
    assert quality_flags({**fine, "is_near_duplicate": [False, True, True, False]}) == ["mostly_repeated"]
    assert quality_flags({**fine, "is_near_duplicate": [False]}) == []


@pytest.mark.parametrize(("digest", "split"), [("digest of 1", "train"), ("digest of 2", "val"), ("new", None)])
def test_the_answer_says_whether_training_used_the_video(digest: str, split: str | None) -> None:
    known = record(
        recorded("1", "train"),
        recorded("2", "val"),
        recorded("3", "test", content_digest="new"),
        recorded("copy", "val", content_digest="digest of 1"),
    )
    row = {
        **{"attention": [0.25, 0.75], "pts_s": [0.0, 1.5], "confidence": 0.5, "trust_score": 0.5, "ood_score": 0.5},
        **{"is_black": [False] * 2, "all_black": False, "is_blurry": False, "is_near_duplicate": [False] * 2},
        **{"trust_signs": [0.0] * len(SIGNS), "segments": [], "content_digest": digest},
    }
    context = ResponseContext(
        classes=["A"],
        taxonomy={"A": ["a1", "a2"]},
        trust_score=SCORE,
        trust_threshold=0.5,
        risk_basis="estimated",
        segment_length_s=1.0,
        used_contents=used_contents(known),
    )
    found = answer(row, np.zeros((2, 8, 8, 3), np.uint8), context)
    assert found["used_in"] == split
    assert found["taxonomy"] == {"A": ["a1", "a2"]}
    assert (found["trust"]["threshold"], found["trust"]["basis"]) == (0.5, "estimated")


def test_every_reason_has_its_status_and_words() -> None:
    assert set(STATUS) == set(WORDS) == {*Problem, *RejectReason}
