"""Near duplicates: finding them, listing those in different splits, and new splits that keep them together."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from vidclf.config import TrainConfig
from vidclf.errors import ConfigError
from vidclf.features.feature_set import FeatureSet
from vidclf.features.near_pairs import near_pairs
from vidclf.features.spec import FeatureSpec
from vidclf.training import leakage

SPEC = FeatureSpec(
    backbone="efficientnet_lite0", weights_digest="0", sampling={}, transform={}, decoder="d", dtype="float16"
)
NUM_VIDEOS = 12


def feature_set(**changes: Any) -> FeatureSet:
    """Six videos of label A and six of B; every third is in val.

    Each has its own source and looks like no other. It has two frames, of which only the mean matters.
    """
    features = []
    for number in range(NUM_VIDEOS):
        video_TD = np.zeros((2, NUM_VIDEOS), np.float16)
        video_TD[0, number] = 2.0
        features.append(video_TD)
    features_of_all = FeatureSet(
        spec=SPEC,
        video_ids=[f"id{number}" for number in range(NUM_VIDEOS)],
        video_uris=[f"/v/{number}.mp4" for number in range(NUM_VIDEOS)],
        labels=["A"] * 6 + ["B"] * 6,
        sublabels=[None] * NUM_VIDEOS,
        groups=[f"s{number:02}" for number in range(NUM_VIDEOS)],
        splits=["train", "train", "val"] * 4,
        content_digests=[f"digest{number}" for number in range(NUM_VIDEOS)],
        features=features,
    )
    return replace(features_of_all, **changes)


def with_copy(features: FeatureSet, of: int, at: int, noise: float = 0.1) -> FeatureSet:
    """The feature set with video `at` replaced by a near duplicate of video `of`."""
    copied = list(features.features)
    copied[at] = copied[of] + np.float16(noise) * copied[at]
    return replace(features, features=copied)


def config(**values: Any) -> TrainConfig:
    return TrainConfig(features=("f",), output="o", **values)


def test_means_are_centred_and_of_length_one() -> None:
    unit_ND = leakage.unit_means([np.array([[0, 0], [2, 4]], np.float16), np.array([[3, 2]], np.float16)])
    # Means (1, 2) and (3, 2); their mean (2, 2).
    assert unit_ND.tolist() == [[-1, 0], [1, 0]]


def test_a_video_that_is_the_mean_is_near_to_nothing() -> None:
    one = np.ones((1, 3), np.float16)
    assert leakage.unit_means([one, one]).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert list(near_pairs(leakage.unit_means([one, one]), 0.95, 2)) == []


@pytest.mark.parametrize("tile", [1, 2, 3, 100])
def test_near_pairs_are_the_same_whatever_the_tile(tile: int) -> None:
    angles = np.radians([0, 10, 90, 100, 15])
    unit_ND = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    # cos 5° = 0.996, cos 10° = 0.985, cos 15° = 0.966; everything else is beyond 70°.
    near = {
        (int(i), int(j)): round(float(cosine), 3)
        for pairs in near_pairs(unit_ND, 0.97, tile)
        for i, j, cosine in zip(*pairs, strict=True)
    }
    assert near == {(0, 1): 0.985, (1, 4): 0.996, (2, 3): 0.985}


def test_groups_are_joined_through_clusters_and_named_after_their_first() -> None:
    groups = ["c", "a", "b", "c", "d", "e"]
    clusters = [None, 0, 1, 0, 1, None]
    # Cluster 0 joins a and c, cluster 1 joins b and d.
    assert leakage.join_groups(groups, clusters) == ["a", "a", "b", "a", "b", "e"]


def test_a_near_duplicate_in_another_split_is_named() -> None:
    features = with_copy(with_copy(feature_set(), of=0, at=8), of=3, at=4)  # train and val, train and train
    assignment = leakage.assign_splits(features, config())
    assert assignment.features is features
    assert assignment.clusters == [0, None, None, 1, 1, None, None, None, 0, None, None, None]
    assert assignment.num_leaks == 1
    (row,) = assignment.leaks.to_pylist()
    assert row.pop("cosine") == pytest.approx(0.99, abs=0.01)
    assert row == {
        "video_id": "id0",
        "video_uri": "/v/0.mp4",
        "label": "A",
        "split": "train",
        "other_video_id": "id8",
        "other_video_uri": "/v/8.mp4",
        "other_label": "B",
        "other_split": "val",
        "same_content": False,
    }
    assert assignment.summary == ("leakage: 1 pair of near duplicates is in different splits, see leakage.parquet")


def test_the_threshold_decides_what_is_near() -> None:
    features = with_copy(feature_set(), of=0, at=8)
    assert leakage.assign_splits(features, config(near_duplicate_cosine=0.999)).num_leaks == 0


def test_files_of_the_same_content_are_near_whatever_their_features() -> None:
    digests = [f"digest{number}" for number in range(NUM_VIDEOS)]
    digests[1] = digests[2] = digests[11] = "same"  # train, val and val
    assignment = leakage.assign_splits(feature_set(content_digests=digests), config())
    named = [(row["video_id"], row["other_video_id"], row["same_content"]) for row in assignment.leaks.to_pylist()]
    assert named == [("id1", "id2", True), ("id1", "id11", True)]
    assert [index for index, cluster in enumerate(assignment.clusters) if cluster == 0] == [1, 2, 11]


def test_without_near_duplicates_nothing_is_named() -> None:
    assignment = leakage.assign_splits(feature_set(), config())
    assert (assignment.num_leaks, assignment.leaks.num_rows) == (0, 0)
    assert assignment.summary == "leakage: no near duplicates are in different splits"


def test_new_splits_keep_sources_and_near_duplicates_together() -> None:
    groups = [f"s{number:02}" for number in range(NUM_VIDEOS)]
    groups[5] = groups[1]
    features = with_copy(feature_set(groups=groups, splits=[None] * NUM_VIDEOS), of=0, at=8)
    for seed in range(5):
        assignment = leakage.assign_splits(features, config(split="0.5,0.3,0.2", seed=seed))
        names = assignment.features.splits
        assert names[0] == names[8]
        assert names[1] == names[5]
        for label in ("A", "B"):
            label_splits = {name for name, other in zip(names, features.labels, strict=True) if other == label}
            assert label_splits == {"train", "val", "test"}
        assert assignment.features.groups[8] == "s00"
        assert assignment.num_leaks == 0


def test_new_splits_replace_old_ones_and_depend_on_the_seed_alone() -> None:
    split_config = config(split="0.5,0.3,0.2")
    first = leakage.assign_splits(feature_set(), split_config).features.splits
    assert first == leakage.assign_splits(feature_set(splits=["test"] * NUM_VIDEOS), split_config).features.splits
    others = [leakage.assign_splits(feature_set(), config(split="0.5,0.3,0.2", seed=seed)) for seed in (1, 2, 3)]
    assert any(first != other.features.splits for other in others)


def test_near_duplicates_that_leave_too_few_sources_are_told() -> None:
    features = feature_set()
    for at in range(1, 6):
        features = with_copy(features, of=0, at=at)
    with pytest.raises(ConfigError) as error:
        leakage.assign_splits(features, config(split="0.5,0.3,0.2"))
    assert str(error.value) == (
        "--split: class 'A' must have at least 3 sources to be in train, val, test, has 1; "
        "add sources, or give a share of 0 to a split (near duplicates join 12 sources into 7; "
        "a higher --near-duplicate-cosine joins fewer)"
    )


def test_videos_without_a_label_cannot_be_split() -> None:
    with pytest.raises(ConfigError, match="must hold labelled videos, to be split by label"):
        leakage.assign_splits(feature_set(labels=[None] * NUM_VIDEOS), config(split="0.5,0.3,0.2"))


def test_what_is_written_is_the_split_that_was_used(tmp_path: Path) -> None:
    leakage.assign_splits(with_copy(feature_set(), of=0, at=8), config()).publish(str(tmp_path))
    rows = pq.read_table(tmp_path / "splits.parquet").to_pylist()
    assert rows[8] == {
        "video_id": "id8",
        "video_uri": "/v/8.mp4",
        "label": "B",
        "split": "val",
        "group": "s08",
        "cluster": 0,
        "source": "s08",
        "content_digest": "digest8",
        # Copied from video 0, with a tenth of the original.
        "mean_features": [1.0, *[0.0] * 7, float(np.float16(0.1)), *[0.0] * 3],
    }
    assert len(rows) == NUM_VIDEOS
    assert pq.read_table(tmp_path / "leakage.parquet")["other_video_id"].to_pylist() == ["id8"]


def test_what_is_written_keeps_the_source_of_a_joined_group(tmp_path: Path) -> None:
    features = with_copy(feature_set(splits=[None] * NUM_VIDEOS), of=0, at=8)
    leakage.assign_splits(features, config(split="0.5,0.3,0.2")).publish(str(tmp_path))
    row = pq.read_table(tmp_path / "splits.parquet").to_pylist()[8]
    assert (row["group"], row["source"]) == ("s00", "s08")


def test_many_links_are_reduced_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    features = feature_set()
    for at in range(1, 6):
        features = with_copy(features, of=0, at=at)
    whole = leakage.assign_splits(features, config())
    monkeypatch.setattr(leakage, "MAX_PAIRS_IN_MEMORY", 3)
    monkeypatch.setattr(leakage, "MAX_LISTED_PAIRS", 3)
    monkeypatch.setattr(leakage, "near_pairs", partial(near_pairs, tile=2))
    reduced = leakage.assign_splits(features, config())
    assert reduced.clusters == whole.clusters == [0] * 6 + [None] * 6
    # Four of the six are in train and two in val: eight pairs cross, the three nearest are named.
    assert (whole.num_leaks, whole.leaks.num_rows) == (8, 8)
    assert (reduced.num_leaks, reduced.leaks.num_rows) == (8, 3)
    nearest = whole.leaks["cosine"].to_pylist()[:3]
    assert reduced.leaks["cosine"].to_pylist() == pytest.approx(nearest, abs=1e-6)
