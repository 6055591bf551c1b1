"""Held-out videos by the record of the ensemble, not by the manifest."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.support.split_records import record, recorded, unit
from tests.unit.training.test_leakage import feature_set
from vidclf.ensemble.held_out import Decision, decide, held_out_rows
from vidclf.ensemble.split_record import SplitRecord
from vidclf.features.near_duplicates import Means


def videos(**values: dict[str, Any]) -> pa.Table:
    """Videos to decide, by id. By default the manifest has a video in test, with a source and content of its own."""
    rows = [
        {
            "video_id": name,
            "group": value.get("group", f"source of {name}"),
            "split": value.get("split", "test"),
            "content_digest": value.get("content_digest", f"digest of {name}"),
        }
        for name, value in values.items()
    ]
    types = [(name, pa.string()) for name in ("video_id", "group", "split", "content_digest")]
    return pa.Table.from_pylist(rows, pa.schema(types))


def moved(decision: Decision) -> dict[str, tuple[str | None, str]]:
    """Split and reason of each video whose split is another than in the manifest."""
    rows = zip(decision.video_ids, decision.splits, decision.reasons, strict=True)
    return {video_id: (split, reason) for video_id, split, reason in rows if reason}


def test_the_ensembles_record_decides() -> None:
    known = record(recorded("trained", "train"), recorded("chosen", "val"), recorded("tested", "test"))
    decision = decide(videos(trained={}, chosen={}, tested={"split": "train"}, new={}, other={"split": None}), known)
    assert decision.splits == ["train", "val", "test", "test", None]
    assert moved(decision) == {
        "trained": ("train", "recorded"),
        "chosen": ("val", "recorded"),
        "tested": ("test", "recorded"),
    }


def test_a_copy_under_another_name_is_not_held_out() -> None:
    known = record(
        recorded("trained", "train"), recorded("chosen", "val"), recorded("tested", "test"), recorded("kept", "test")
    )
    copies = videos(
        a={"content_digest": "digest of trained"},
        b={"content_digest": "digest of chosen", "split": None},
        c={"content_digest": "digest of kept"},
        # The manifest and the record have this video in test, but its file now has the content of a training video.
        tested={"content_digest": "digest of trained"},
    )
    assert moved(decide(copies, known)) == {
        "a": ("train", "content"),
        "b": ("val", "content"),
        "tested": ("train", "content"),
    }


def test_a_source_is_not_held_out_under_any_of_its_names() -> None:
    # Training kept the sources s1 and s2 together, under the name s1.
    known = record(recorded("trained", "train", source="s2", group="s1"), recorded("tested", "test", source="s3"))
    siblings = videos(a={"group": "s1"}, b={"group": "s2"}, c={"group": "s3"})
    assert moved(decide(siblings, known)) == {"a": ("train", "source"), "b": ("train", "source")}


def test_a_near_duplicate_in_the_record_is_not_held_out() -> None:
    # The splits of a manifest may divide a cluster of near duplicates.
    known = record(
        recorded("trained", "train", cluster=0),
        recorded("copy", "test", cluster=0, source="s"),
        recorded("sibling", "test", source="s"),
        recorded("chosen", "val", cluster=0),
    )
    decision = decide(videos(copy={}, sibling={}, chosen={"split": "val"}), known)
    # The sibling shares its source with a copy of a training video. What validation used stays validation.
    assert decision.splits == ["train", "train", "val"]
    assert moved(decision) == {"copy": ("train", "near_duplicate"), "sibling": ("train", "source")}


def test_a_new_near_duplicate_is_not_held_out_where_features_are_at_hand() -> None:
    # The mean of all means is 0, and cos 10° = 0.985, cos 20° = 0.940.
    known = record(
        recorded("trained", "train", mean_features=unit(0)),
        recorded("tested", "test", mean_features=unit(180)),
        recorded("chosen", "val", mean_features=unit(90)),
        recorded("other", "test", mean_features=unit(270)),
    )
    angles = {"a": 10.0, "b": 20.0, "c": 100.0, "d": 180.0}
    asked: list[str] = []

    def means_of(video_ids: Collection[str]) -> Means:
        asked.extend(video_ids)
        found = [video_id for video_id in video_ids if video_id in angles]
        return found, np.array([unit(angles[video_id]) for video_id in found], np.float32)

    new = videos(a={}, b={}, c={}, d={}, sibling={"group": "source of a"}, tested={}, trained={"split": "train"})
    decision = decide(new, known, means_of)
    assert moved(decision) == {
        "a": ("train", "near_duplicate"),
        "c": ("val", "near_duplicate"),
        "sibling": ("train", "source"),
    }
    # Videos of the record need no features.
    assert asked == ["a", "b", "c", "d", "sibling"]
    facts = decision.facts(decision.video_ids)
    assert (facts.doubt, facts.num_unsearched) == ("", 0)
    without = decide(new, known)
    assert without.splits[:3] == ["test", "test", "test"]
    assert without.facts(without.video_ids).num_unsearched == 5
    assert without.facts(["b"]).unsearched_words == (
        "1 video of the test split is new to the record and not compared with it for near duplicates, because their "
        "features are not at hand (classify --save-features keeps them)"
    )


def test_the_facts_say_how_many_videos_the_manifest_has_wrong() -> None:
    known = record(recorded("1", "train"), recorded("2", "val"), recorded("3", "test"), recorded("4", "train"))
    found = videos(
        **{"1": {}, "2": {}, "3": {"split": "train"}, "4": {"split": "train"}},
        copy={"content_digest": "digest of 1"},
        sibling={"group": "source of 4"},
    )
    facts = decide(found, known).facts(["1", "2", "3", "4", "copy", "sibling"])
    assert (facts.num_moved, facts.num_no_test) == (5, 4)
    assert facts.reasons == {"recorded": 3, "content": 1, "source": 1}
    assert facts.moved_words == (
        "5 videos have another split by the ensemble's own record than in the manifest, 4 of them no longer test "
        "(recorded with that split: 3, content of a video with that split: 1, source of one or of a copy of one: 1)"
    )
    assert decide(found, known).facts(["4"]).moved_words == ""


@pytest.mark.parametrize("digest", ["digest of new", None])
def test_videos_without_a_name_and_a_content_are_not_known_to_be_held_out(digest: str | None) -> None:
    facts = decide(videos(new={"content_digest": digest}), record(recorded("trained", "train"))).facts(["new"])
    assert bool(facts.doubt) is (digest is None)


def test_without_a_record_the_manifest_decides_and_nothing_is_claimed() -> None:
    decision = decide(videos(a={}, b={"split": "train"}, c={"split": None}), SplitRecord.unknown("no ensemble"))
    assert decision.splits == ["test", "train", None]
    facts = decision.facts(["a", "b", "c"])
    assert (facts.doubt, facts.num_moved, facts.moved_words) == ("no ensemble", 0, "")


def test_the_rows_of_a_feature_set_are_decided_alike() -> None:
    features = feature_set(splits=["train", "test", "val"] * 4)
    near_7 = [float(number == 7) for number in range(12)]
    known = record(
        recorded("id1", "train", content_digest="digest1", mean_features=[1.0] * 12),
        recorded("x", "train", content_digest="digest4", mean_features=[0.0] * 12),
        recorded("y", "val", mean_features=near_7),
    )
    assert held_out_rows(features, known) == [7, 10]
    # Only features of the same kind are compared.
    assert held_out_rows(features, replace(known, feature_key=features.spec.key)) == [10]
