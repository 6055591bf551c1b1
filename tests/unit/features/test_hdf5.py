"""Feature files of the reference system: export for a reader that knows only the format, and import."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pytest

from tests.support.ensembles import write_small_ensemble
from tests.support.lost_lease import lost_lease
from vidclf import schema, storage
from vidclf.classification import stored_features
from vidclf.ensemble.info import read_info
from vidclf.ensemble.split_record import SplitRecord
from vidclf.errors import ConfigError
from vidclf.features import hdf5
from vidclf.features.columns import features_column
from vidclf.features.spec import FeatureSpec
from vidclf.runs.lease import LeaseLost
from vidclf.video.sampling import SamplingPlan

SPEC = FeatureSpec.of("efficientnet_lite0", "DEFAULT", "digest", SamplingPlan(num_frames=3))
VIDEOS = [("Gaming", "train", 3), ("Animation", "train", 1), ("Gaming", "test", 2), ("Animation", "train", 2)]
"""label, split, frames"""


def features_of(index: int, num_frames: int) -> np.ndarray[Any, np.dtype[np.float16]]:
    return np.full((num_frames, 1280), index + 1, np.float16) + np.arange(num_frames, dtype=np.float16)[:, None] / 4


@pytest.fixture
def run(tmp_path: Path) -> str:
    """A features directory of two shards, with only the files and columns that the export reads."""
    identity = {"feature_specs": [vars(SPEC)]}
    storage.publish_json(f"{tmp_path}/run_identity.json", identity)
    labels, splits, frames = (list(column) for column in zip(*VIDEOS, strict=True))
    storage.publish_table(
        f"{tmp_path}/manifest.parquet", pa.table({"video_id": list("abcd"), "label": labels, "split": splits})
    )
    # The rows were written before a label and a split changed: the manifest holds.
    table = pa.table(
        {
            "video_id": list("abcd"),
            "label": ["Animation", *labels[1:]],
            "split": ["val", *splits[1:]],
            "num_frames": pa.array(frames, pa.int32()),
            "features": features_column([features_of(i, n) for i, n in enumerate(frames)], 1280),
        }
    )
    storage.publish_table(f"{tmp_path}/part-0.parquet", table.slice(0, 2))
    storage.publish_table(f"{tmp_path}/part-1.parquet", table.slice(2))
    return str(tmp_path)


def test_a_reader_that_knows_only_the_contract_reads_ours(run: str) -> None:
    assert hdf5.export(run) == [f"{run}/test_features_multiscale.h5", f"{run}/train_features_multiscale.h5"]
    with h5py.File(f"{run}/train_features_multiscale.h5") as file:
        assert (file["features"].shape, file["features"].dtype) == ((3, 3, 1280), np.float32)
        assert (file["features"].compression, file["features"].compression_opts) == ("gzip", 4)
        assert file["features"][:, :, 7].tolist() == [[1, 1.25, 1.5], [2, 0, 0], [4, 4.25, 0]]
        assert (file["labels"][:].tolist(), file["labels"].dtype) == ([1, 0, 0], np.int64)
        assert (file["num_frames"][:].tolist(), file["num_frames"].dtype) == ([3, 1, 2], np.int32)
        attributes = dict(file.attrs)
    assert json.loads(attributes.pop("category_mapping")) == {"Animation": 0, "Gaming": 1}
    assert len(attributes.pop("content_digest")) == 64
    assert attributes == {"num_videos": 3, "max_frames": 3, "feature_dim": 1280, "multi_scale": False}


def test_what_we_wrote_we_read_without_the_padding(run: str) -> None:
    hdf5.export(run)
    content = hdf5.read(f"{run}/train_features_multiscale.h5")
    assert content.classes == ("Animation", "Gaming")
    assert content.labels.tolist() == [1, 0, 0]
    for rows, (index, num_frames) in zip(content.features, [(0, 3), (1, 1), (3, 2)], strict=True):
        assert np.array_equal(rows, features_of(index, num_frames).astype(np.float32))


def write_reference_file(path: Path, **changes: Any) -> None:
    """Write a file like the scripts of the reference system."""
    with h5py.File(path, "w") as file:
        features = changes.get("features", np.arange(12, dtype=np.float32).reshape(2, 3, 2))
        file.create_dataset("features", data=features, compression="gzip", compression_opts=4)
        file.create_dataset("labels", data=changes.get("labels", np.array([1, 0])))
        if "num_frames" not in changes or changes["num_frames"] is not None:
            file.create_dataset("num_frames", data=changes.get("num_frames", np.array([3, 1], np.int32)))
        mapping = changes.get("category_mapping", {"Gaming": 1, "Animation": 0})
        file.attrs.update(num_videos=2, max_frames=3, feature_dim=2, multi_scale=True)
        file.attrs["category_mapping"] = json.dumps(mapping)


def test_we_read_theirs(tmp_path: Path) -> None:
    write_reference_file(tmp_path / "f.h5")
    content = hdf5.read(str(tmp_path / "f.h5"))
    assert [rows.tolist() for rows in content.features] == [[[0, 1], [2, 3], [4, 5]], [[6, 7]]]
    assert (content.labels.tolist(), content.classes) == ([1, 0], ("Animation", "Gaming"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_frames": None}, r"must hold a dataset 'num_frames', found \['features', 'labels'\]"),
        ({"num_frames": np.array([4, 1])}, r"num_frames must be between 1 and 3, found \(1, 4\)"),
        ({"num_frames": np.array([0, 1])}, r"num_frames must be between 1 and 3, found \(0, 1\)"),
        ({"labels": np.array([2, 0])}, "labels must be below 2, found 2"),
        ({"labels": np.array([0])}, r"must have the same number of videos, found \(2, 1, 2\)"),
        ({"features": np.zeros((2, 3))}, r"features must be \[videos, frames, dimension\], found \(2, 3\)"),
        ({"category_mapping": {"A": 1, "B": 2}}, "category_mapping must number the classes from 0"),
    ],
)
def test_a_file_that_breaks_the_contract_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_reference_file(tmp_path / "f.h5", **changes)
    with pytest.raises(ConfigError, match=message):
        hdf5.read(str(tmp_path / "f.h5"))


def test_what_is_no_hdf5_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f.h5").write_text("text")
    with pytest.raises(ConfigError, match="not an HDF5 file"):
        hdf5.read(str(tmp_path / "f.h5"))


def test_videos_without_split_or_label_cannot_be_exported() -> None:
    row = {"video_id": "a", "video_uri": "a", "label": "A", "group": "g"}
    manifest = pa.Table.from_pylist([row, {**row, "video_id": "b", "split": "train"}], schema=schema.MANIFEST)
    with pytest.raises(ConfigError, match="--format hdf5 needs a split for every video, 1 of 2 have none"):
        hdf5.check_exportable(manifest)


def replaced(path: Path, name: str, make: Callable[[h5py.File, Any], object]) -> str:
    """Write a valid file in which `make` has written one dataset anew."""
    write_reference_file(path)
    with h5py.File(path, "a") as file:
        values = file[name][:]
        del file[name]
        make(file, values)
    return str(path)


def external(file: h5py.File, values: Any) -> None:
    file.create_dataset("features", values.shape, values.dtype, external=[("/etc/passwd", 0, values.nbytes)])


def virtual(file: h5py.File, values: Any) -> None:
    layout = h5py.VirtualLayout(values.shape, values.dtype)
    layout[:] = h5py.VirtualSource("elsewhere.h5", "features", values.shape)
    file.create_virtual_dataset("features", layout)


def soft_link(file: h5py.File, values: Any) -> None:
    file.create_dataset("other", data=values)
    file["features"] = h5py.SoftLink("/other")


def external_link(file: h5py.File, values: Any) -> None:
    file["features"] = h5py.ExternalLink("elsewhere.h5", "features")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (external, "features must be stored in this file, is stored in other files"),
        (virtual, "features must be stored in this file, is virtual"),
        (soft_link, "features must be a dataset of this file, is a link"),
        (external_link, "features must be a dataset of this file, is a link"),
        (lambda file, values: file.create_group("features"), "features must be a dataset, is a group"),
        (
            lambda file, values: file.create_dataset("features", data=[b"a"], dtype=h5py.string_dtype()),
            r"features must be \[videos, frames, dimension\], found \(1,\)",
        ),
        (
            lambda file, values: file.create_dataset("features", (1, 1, 1), dtype=h5py.string_dtype()),
            "features must hold numbers, found object",
        ),
        (
            lambda file, values: file.create_dataset("features", (2, 10**9, 2), "f4", chunks=(1, 1, 2)),
            r"features must be at most \(100000000, 100000, 65536\), found \(2, 1000000000, 2\)",
        ),
        (
            lambda file, values: file.create_dataset("features", (2, 73, 60_000), "f4", chunks=(1, 73, 60_000)),
            None,
        ),
        (
            lambda file, values: file.create_dataset("features", (90_000_000, 90_000, 2), "f4", chunks=(1, 100, 2)),
            "features must be stored whole, found 64800000000000 bytes of numbers in 0 stored bytes",
        ),
        (
            lambda file, values: file.create_dataset(
                "features", (2, 3, 2), "f4", chunks=(1, 20_000, 2000), maxshape=(None, None, None)
            ),
            "features must be stored whole, found 160000000 bytes of numbers in 0 stored bytes",
        ),
    ],
)
def test_numbers_from_elsewhere_or_from_nowhere_are_refused_before_reading(
    tmp_path: Path, make: Callable[[h5py.File, Any], object], message: str | None
) -> None:
    # The other file exists, so following the link would succeed.
    with h5py.File(tmp_path / "elsewhere.h5", "w") as file:
        file["features"] = np.zeros((2, 3, 2), np.float32)
    path = replaced(tmp_path / "f.h5", "features", make)
    if message is None:  # small enough to be read whatever its compression
        assert len(hdf5.read(path).features) == 2
        return
    with pytest.raises(ConfigError, match=message):
        hdf5.read(path)


def test_labels_from_elsewhere_are_refused(tmp_path: Path) -> None:
    path = replaced(
        tmp_path / "f.h5", "labels", lambda file, _: file.create_dataset("labels", (2,), "i8", external=[("x", 0, 16)])
    )
    with pytest.raises(ConfigError, match="labels must be stored in this file, is stored in other files"):
        hdf5.read(path)


@pytest.mark.parametrize("mapping", ["[" * 100_000, "[1]", '{"A": "B", "C": 1}', "7"])
def test_classes_that_are_no_mapping_are_refused(tmp_path: Path, mapping: str) -> None:
    write_reference_file(tmp_path / "f.h5")
    with h5py.File(tmp_path / "f.h5", "a") as file:
        del file.attrs["category_mapping"]
        file.attrs["category_mapping"] = mapping[:60_000]
    with pytest.raises(ConfigError, match="category_mapping must be a JSON object"):
        hdf5.read(str(tmp_path / "f.h5"))


def test_a_job_that_has_lost_its_lease_exports_nothing(run: str) -> None:
    with pytest.raises(LeaseLost), lost_lease(run):
        hdf5.export(run)
    assert storage.list_files(run, ".h5") == []


def test_a_file_is_stale_when_its_run_was_continued_or_relabelled(run: str) -> None:
    assert hdf5.stale_exports(run) == []
    files = hdf5.export(run)
    assert hdf5.stale_exports(run) == []
    columns = storage.read_table(f"{run}/manifest.parquet").to_pydict()
    storage.publish_table(f"{run}/manifest.parquet", pa.table({**columns, "label": ["Animation"] * 4}))
    assert sorted(hdf5.stale_exports(run)) == files
    hdf5.export(run)
    assert hdf5.stale_exports(run) == []
    storage.delete_file(f"{run}/part-1.parquet")
    assert hdf5.is_stale(f"{run}/train_features_multiscale.h5")


def test_evaluation_refuses_a_stale_file(run: str, tmp_path: Path) -> None:
    hdf5.export(run)
    location = f"{run}/test_features_multiscale.h5"
    storage.delete_file(f"{run}/part-0.parquet")
    info = read_info(write_small_ensemble(tmp_path / "e", ["Animation", "Gaming"], num_frames=3))
    with pytest.raises(ConfigError) as error:
        stored_features.open_features([location], "test", info, SplitRecord.unknown(""))
    assert str(error.value) == (
        f"--features {location}: was exported before its run was continued or relabelled; export it again with "
        f"jobs/extract.py --format hdf5, or evaluate --features {run}"
    )
