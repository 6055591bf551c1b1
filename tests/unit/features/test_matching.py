"""Checks of features that belong together, and lookup of a video's features in another run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.support.features import LITE0, RESNET, pair
from vidclf import storage
from vidclf.errors import ConfigError
from vidclf.features import lookup as lookup_module
from vidclf.features import matching
from vidclf.features.columns import features_column, features_TD
from vidclf.features.lookup import FeatureLookup

LOCATIONS = ("f/lite0", "f/resnet50")


def test_sets_of_the_same_videos_go_together() -> None:
    matching.check_sets(LOCATIONS, pair())
    matching.check_sets(LOCATIONS[:1], pair()[:1])


def shorter(values: list[Any]) -> dict[str, Any]:
    return {"features": [values[0][:1], *values[1:]]}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"labels": ["B", *"BA" * 11, "B"]},
            r"f/resnet50: label must equal that of f/lite0, differs for 1 videos \(for",
        ),
        (
            {"groups": ["g"] * 24},
            r"group must equal that of f/lite0, differs for 24 .*\(for example train00: 'g', there 'train",
        ),
        ({"splits": ["val"] * 24}, r"split must equal that of f/lite0, differs for 12 .*'val', there 'train'\)"),
        ({"content_digests": ["x"] * 24}, r"content_digest must equal that of f/lite0, differs for 24 videos"),
        (
            {"video_ids": ["other", *(f"{i}" for i in range(23))]},
            r"f/lite0: must hold the videos of f/resnet50, lacks 24",
        ),
        ({"spec": replace(RESNET, decoder="new")}, r"f/resnet50: must be of the same frames as f/lite0"),
        ({"spec": LITE0}, r"must be of different backbones, are of \['efficientnet_lite0', 'efficientnet_lite0'\]"),
        (shorter(pair()[1].features), r"num_frames must equal that of f/lite0, differs for 1 .*: 1, there 2\)"),
    ],
)
def test_what_differs_is_named(changed: dict[str, Any], message: str) -> None:
    first, second = pair()
    with pytest.raises(ConfigError, match=message):
        matching.check_sets(LOCATIONS, [first, replace(second, **changed)])


def write_shard(path: Path, numbers: list[int]) -> str:
    """Write a shard of videos whose features all equal their number."""
    rows = [np.full((1, 2), number, np.float16) for number in numbers]
    ids = [f"v{number}" for number in numbers]
    storage.publish_table(str(path), pa.table({"video_id": ids, "features": features_column(rows, 2)}))
    return str(path)


def test_rows_are_found_by_id_in_whatever_shard_and_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup_module, "MAX_CACHED_SHARDS", 1)
    shards = ([4, 0], [3], [1, 2])
    lookup = FeatureLookup([write_shard(tmp_path / f"part-{i}.parquet", shard) for i, shard in enumerate(shards)])
    for numbers in ([0, 1, 2, 3, 4], [4], [2, 0]):
        rows = lookup(pa.array([f"v{number}" for number in numbers]))
        assert rows["video_id"].to_pylist() == [f"v{number}" for number in numbers]
        assert [float(features_TD(row)[0, 1]) for row in rows["features"]] == numbers
    with pytest.raises(KeyError, match="lack v7"):
        lookup(pa.array(["v0", "v7"]))


def test_a_backbone_whose_files_moved_is_the_same_and_so_is_one_whose_licence_is_not_known() -> None:
    features = pair()[0]
    network = {"library": "timm", "feature_dim": 1280, "licence": "mit"}
    here = replace(features.spec, backbone="local-dir:/a/vit", network=network)
    there = replace(here, backbone="local-dir:/b/vit", network={**network, "licence": None})
    look = matching.first_look("look", replace(features, spec=there), replace(features, spec=here))
    assert look.video_ids == features.video_ids
