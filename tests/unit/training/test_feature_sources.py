"""Sources that are found by features, on literal mean features of few dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np

from vidclf.features.feature_set import FeatureSet
from vidclf.training.feature_sources import found_sources

AROUND = [[1, 0], [1, 0.1], [-1, 0], [0, 1], [0, -1.1]]
"""Mean features of five videos of a class; the first two point in nearly the same direction from their mean."""


def features_of(rows: list[list[float]], splits: str, groups: list[str] | None = None, labels: str = "") -> FeatureSet:
    """A set of videos with one frame each; each letter of `splits` is t, v or e for train, val or test."""
    uris = [f"/v/{number}.mp4" for number in range(len(rows))]
    spec: Any = None
    return FeatureSet(
        spec=spec,
        video_ids=uris,
        video_uris=uris,
        labels=list(labels or "A" * len(rows)),
        sublabels=[None] * len(rows),
        groups=groups or uris,
        splits=[{"t": "train", "v": "val", "e": "test"}[letter] for letter in splits],
        content_digests=uris,
        features=[np.array([row], np.float16) for row in rows],
    )


def test_alike_videos_of_a_class_are_one_source() -> None:
    found = found_sources(features_of(AROUND, "tvttt"))
    assert found.clusters == [0, 0, None, None, None]
    assert found.num_crossing == 1
    assert found.line == (
        "sources by features: 2 videos without a named source look like parts of 1 recording; 1 of them are in "
        "val or test with a part in train, which makes the accuracy look too good; --split assigns splits that keep "
        "them together"
    )


def test_the_mean_of_the_class_is_subtracted() -> None:
    # Far from zero all cosines are near 1.
    shifted = [[100 + first, 100 + second] for first, second in AROUND]
    assert found_sources(features_of(shifted, "ttttt")).clusters == [0, 0, None, None, None]


def test_videos_with_a_named_source_and_of_other_classes_are_left_out() -> None:
    groups = ["film", *(f"/v/{number}.mp4" for number in range(1, 5))]
    assert found_sources(features_of(AROUND, "tvttt", groups)).clusters == [None] * 5
    assert found_sources(features_of(AROUND, "tvttt", labels="BAAAA")).clusters == [None] * 5


def test_a_class_keeps_three_sources() -> None:
    pairs = [[1, 0], [1, 0.1], [-1, 0], [-1, 0.1]]
    found = found_sources(features_of(pairs, "tvtv"))
    assert found.clusters == [None] * 4
    assert found.line == ""


def test_sources_within_a_split_flatter_nothing() -> None:
    found = found_sources(features_of(AROUND, "tteee"))
    assert found.num_crossing == 0
    assert found.line.endswith("; no source is in train and in another split")
