"""Videos of known and of unknown sources, and the sentence about them."""

from __future__ import annotations

from typing import Any

import pytest

from vidclf.ensemble.known_sources import KnownSources, are_counts, caveat_of

URIS = ["s3://key:secret@bucket/a.mp4", "/data/b.mp4", "/data/c.mp4", "/data/d.mp4"]
LOCATIONS = ["s3://***@bucket/a.mp4", "/data/b.mp4", "/data/c.mp4", "/data/d.mp4"]


def test_a_video_whose_group_is_its_location_has_no_known_source() -> None:
    groups = [LOCATIONS[0], "film", "film", LOCATIONS[3]]
    assert KnownSources.of(URIS, groups, ["train", "train", "val", "test"]) == KnownSources(num_videos=3, num_unknown=1)
    # A digest tells videos apart that differ only in hidden credentials.
    groups = [f"{LOCATIONS[0]}#1f2e", "film", "film", "film"]
    assert KnownSources.of(URIS, groups, ["train"] * 4).num_unknown == 1
    # Near duplicates were joined under the location of one of them.
    assert KnownSources.of(URIS, [LOCATIONS[1]] * 4, ["train"] * 4).num_unknown == 4


def test_the_sentence() -> None:
    assert caveat_of({"sources": {"num_videos": 215, "num_unknown": 37}}) == (
        "this holds for videos of known sources only: the sources of 37 of the 215 training and validation videos are "
        "unknown, and parts of one recording among them make accuracy and risk look too good; name sources in the "
        "column group or with --group-pattern of jobs/index.py"
    )
    assert caveat_of({"sources": {"num_videos": 215, "num_unknown": 0}}) == ""
    assert caveat_of({"num_train_videos": 8}) == ""  # written by an earlier version


@pytest.mark.parametrize(
    "value", [3, {}, {"num_videos": 1}, {"num_videos": 1, "num_unknown": -1}, {"num_videos": 1.5, "num_unknown": 1}]
)
def test_other_values_are_no_counts(value: Any) -> None:
    assert not are_counts(value)
