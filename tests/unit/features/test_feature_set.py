"""Features on disk: their columns, their key, and the directories that are refused."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vidclf import schema, storage
from vidclf.errors import ConfigError
from vidclf.features.columns import features_column, features_TD
from vidclf.features.feature_set import read_features
from vidclf.features.matching import check_specs
from vidclf.features.spec import FeatureSpec
from vidclf.runs.layout import Run
from vidclf.video.sampling import SamplingPlan

SPEC = FeatureSpec.of("efficientnet_lite0", "DEFAULT", "digest", SamplingPlan(num_frames=4))


def write_run(run: Path, keys: list[str], uris: list[str] | None = None, num_pending: int = 0) -> str:
    """Write a finished features directory with one row per key in `keys`."""
    uris = uris or [f"/v/{number}.mp4" for number in range(len(keys))]
    ids = [f"id{number}" for number in range(len(keys) + num_pending)]
    storage.publish_json(str(run / "run_identity.json"), {"feature_specs": [asdict(SPEC)]})
    places = [*uris, *["/v/pending"] * num_pending]
    texts = {"label": ["A"] * len(ids), "sublabel": ["a"] * len(ids), "group": places, "split": ["train"] * len(ids)}
    storage.publish_table(Run(str(run)).manifest_file, pa.table({"video_id": ids, "video_uri": places, **texts}))
    arrays = [np.full((2, 1280), number, np.float16) for number in range(len(keys))]
    columns = {
        "video_id": ids[: len(keys)],
        "video_uri": uris,
        "label": ["A"] * len(keys),
        "sublabel": ["a"] * len(keys),
        "group": uris,
        "split": ["train"] * len(keys),
        "content_digest": [f"digest of {uri}" for uri in uris],
        "feature_key": keys,
        "features": features_column(arrays, 1280),
    }
    storage.publish_table(str(run / "part-0.parquet"), pa.table(columns))
    return str(run)


def test_rows_of_any_length_survive_a_file(tmp_path: Path) -> None:
    rows = [np.arange(6, dtype=np.float16).reshape(3, 2), None, np.ones((1, 2), np.float16)]
    column = features_column(rows, 2)
    assert column.type == schema.features(2).field("features").type
    pq.write_table(pa.table({"features": column}), tmp_path / "f.parquet")
    column = pq.read_table(tmp_path / "f.parquet")["features"]
    assert features_TD(column[0]).tolist() == [[0, 1], [2, 3], [4, 5]]
    assert column[1].as_py() is None
    assert features_TD(column[2]).tolist() == [[1, 1]]


def test_plain_readers_see_plain_lists(tmp_path: Path) -> None:
    pq.write_table(pa.table({"features": features_column([np.ones((2, 3), np.float16)], 3)}), tmp_path / "f.parquet")
    frame = pq.read_table(tmp_path / "f.parquet").to_pandas()
    assert np.stack(frame["features"][0]).tolist() == [[1, 1, 1], [1, 1, 1]]


def test_a_key_stands_for_everything_that_decides_a_feature() -> None:
    others = [
        FeatureSpec.of("efficientnet_lite0", "DEFAULT", "digest", SamplingPlan(num_frames=5)),
        FeatureSpec.of("efficientnet_lite0", "DEFAULT", "digest", SamplingPlan(num_frames=4, mode="keyframes")),
        FeatureSpec.of("efficientnet_lite0", "DEFAULT", "other", SamplingPlan(num_frames=4)),
        FeatureSpec.of("resnet50", "random", "digest", SamplingPlan(num_frames=4)),
        FeatureSpec.of("efficientnet_lite0", "DEFAULT", "digest", SamplingPlan(num_frames=4), repeat_tolerance=1.0),
        replace(SPEC, decoder="another"),
        replace(SPEC, decoder=SPEC.decoder.removesuffix("/pictures-4")),
    ]
    assert len({spec.key for spec in [SPEC, *others]}) == 8
    assert SPEC.differences(others[0]) == "sampling.num_frames: 4 != 5"
    assert SPEC.differences(others[2]) == "weights_digest: digest != other"
    assert SPEC.differences(SPEC) == ""


def test_earlier_features_keep_their_key_and_do_not_mix_with_others() -> None:
    # As version 1 of the rules for pictures wrote it.
    earlier = replace(SPEC, decoder="pyav-18.1.0/libavcodec-62.28.102")
    assert earlier.key == "91117816eaab5967"
    new = replace(earlier, decoder="pyav-18.1.0/libavcodec-62.28.102/pictures-4")
    assert new.key != earlier.key
    assert earlier.differences(new) == (
        "decoder: pyav-18.1.0/libavcodec-62.28.102 != pyav-18.1.0/libavcodec-62.28.102/pictures-4"
    )
    with pytest.raises(ConfigError, match=r"pictures-4.* is not "):
        check_specs(["old", "new"], [replace(earlier, backbone="resnet50"), new])


def test_features_are_read_in_order_of_their_location(tmp_path: Path) -> None:
    features = read_features(write_run(tmp_path, [SPEC.key] * 3, uris=["/v/c", "/v/a", "/v/b"]))
    assert features.video_ids == ["id1", "id2", "id0"]
    assert (features.video_uris, features.sublabels) == (["/v/a", "/v/b", "/v/c"], ["a"] * 3)
    assert features.content_digests == ["digest of /v/a", "digest of /v/b", "digest of /v/c"]
    assert [float(array[0, 0]) for array in features.features] == [1.0, 2.0, 0.0]
    assert features.features[0].shape == (2, 1280)


def test_what_is_no_features_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must be a directory that jobs/extract\.py wrote"):
        read_features(str(tmp_path))


def test_pending_videos_are_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path, [SPEC.key], num_pending=2)
    with pytest.raises(ConfigError, match=r"2 videos are pending; run jobs/extract\.py again"):
        read_features(run)


def test_mixed_keys_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"must hold one feature key {SPEC.key}, holds"):
        read_features(write_run(tmp_path, [SPEC.key, "another"]))


def test_a_run_of_predictions_or_of_another_version_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path, [SPEC.key])
    for identity, message in (
        (
            {"feature_specs": [asdict(SPEC)], "ensemble_id": "e"},
            "must be a directory of features, .* holds predictions",
        ),
        ({"feature_spec": asdict(SPEC)}, "was written by another version of this software; run the job anew"),
    ):
        storage.publish_json(f"{run}/run_identity.json", identity)
        with pytest.raises(ConfigError, match=message):
            read_features(run)


def test_features_with_a_video_twice_are_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path, [SPEC.key] * 2)
    storage.publish_table(f"{run}/part-1.parquet", storage.read_table(f"{run}/part-0.parquet").slice(0, 1))
    with pytest.raises(ConfigError, match=r"every video must have one row, 1 have several .* `jobs/audit\.py --run"):
        read_features(run)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    run = write_run(tmp_path, [SPEC.key] * 2)
    table = pq.read_table(tmp_path / "part-0.parquet")
    spoilt = np.zeros((2, 1280), np.float16)
    spoilt[1, 7] = value
    position = table.column_names.index("features")
    column = features_column([np.zeros((2, 1280), np.float16), spoilt], 1280)
    storage.publish_table(str(tmp_path / "part-0.parquet"), table.set_column(position, "features", column))
    with pytest.raises(ConfigError, match=r"every value must be finite, is not for 1 videos \(one is /v/1\.mp4\); "):
        read_features(run)


def test_labels_splits_and_locations_are_those_of_the_newest_manifest(tmp_path: Path) -> None:
    run = write_run(tmp_path, [SPEC.key] * 2)
    manifest = {"video_uri": ["/v/z.mp4", "/v/1.mp4"], "label": ["B", "A"], "sublabel": [None, "a"]}
    manifest |= {"group": ["film", "g"], "split": ["val", None], "video_id": ["id0", "id1"]}
    storage.publish_table(Run(run).manifest_file, pa.table(manifest))
    features = read_features(run)
    assert (features.video_ids, features.video_uris) == (["id1", "id0"], ["/v/1.mp4", "/v/z.mp4"])
    assert (features.labels, features.sublabels) == (["A", "B"], ["a", None])
    assert (features.groups, features.splits) == (["g", "film"], [None, "val"])
    assert [int(rows[0, 0]) for rows in features.features] == [1, 0]
