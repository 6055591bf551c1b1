"""The reference system's feature files, written and read: one HDF5 file a split.

`{split}_features_multiscale.h5` holds `features` [N, T_max, D] float32 (gzip 4, zeros behind a
video's last frame), `labels` [N] int64, `num_frames` [N] int32, and the attributes `num_videos`,
`max_frames`, `feature_dim`, `category_mapping` (JSON, class name to label) and `multi_scale`.

Shape suffixes: N videos, T frames, D features.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vidclf import storage
from vidclf.errors import ConfigError
from vidclf.features.columns import features_TD
from vidclf.features.spec import read_spec
from vidclf.runs.layout import Run

GZIP_LEVEL = 4

MAX_SHAPE = (100_000_000, 100_000, 65_536)
"""Most videos, frames of a video and dimensions that a file may state."""

MOST_COMPRESSION = 1100
"""Bytes that a stored byte may stand for: deflate reaches 1,032 (zlib, Technical Details), so that more has
never been written, and reading it would make zeros from nothing."""

UNSTORED_BYTES = 64 * 1024**2
"""Bytes of a dataset up to which the compression does not matter."""


@dataclass(frozen=True, kw_only=True)
class SplitFeatures:
    """One file's content."""

    features: list[npt.NDArray[np.float32]]
    """[T, D] each, without the padding"""
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    """class names in the order of their labels"""


def file_name(split: str) -> str:
    return f"{split}_features_multiscale.h5"


def check_exportable(manifest: pa.Table) -> None:
    """ConfigError unless every video of the manifest has the label and the split that the files need."""
    for column in ("label", "split"):
        missing = manifest[column].null_count
        if missing:
            raise ConfigError(
                f"--format hdf5 needs a {column} for every video, {missing} of {manifest.num_rows} have none"
            )


def export(features: str) -> list[str]:
    """Write a finished features directory as one HDF5 file a split beside its shards; their locations.

    A shard at a time is in memory. Videos are in the order of their shards; the files of an earlier
    export are replaced.
    """
    spec = read_spec(features)
    classes = sorted(set(storage.read_table(Run(features).manifest_file, ["label"])["label"].to_pylist()))
    columns = ["label", "split", "num_frames", "features"]
    counts: dict[str, int] = {}
    longest: dict[str, int] = {}
    for table in storage.iter_tables(Run(features).shards(), columns[1:3]):
        for split, num_frames in zip(*(table[name].to_pylist() for name in columns[1:3]), strict=True):
            counts[split] = counts.get(split, 0) + 1
            longest[split] = max(longest.get(split, 0), num_frames)
    written = []
    for split in sorted(counts):
        location = storage.join(features, file_name(split))
        # HDF5 is written by seeking, which object stores cannot; so here first, then there whole.
        with tempfile.NamedTemporaryFile(suffix=".h5") as local:
            with h5py.File(local.name, "w") as file:
                _create(file, counts[split], longest[split], spec.feature_dim, classes)
                position = 0
                for table in storage.iter_tables(Run(features).shards(), columns):
                    position = _append(file, position, table, split, classes)
            storage.publish(location, lambda stream: shutil.copyfileobj(local, stream))
        written.append(location)
    return written


def _create(file: h5py.File, num_videos: int, max_frames: int, feature_dim: int, classes: list[str]) -> None:
    shape = (num_videos, max_frames, feature_dim)
    file.create_dataset(
        "features", shape, "float32", chunks=(1, *shape[1:]), compression="gzip", compression_opts=GZIP_LEVEL
    )
    file.create_dataset("labels", (num_videos,), "int64")
    file.create_dataset("num_frames", (num_videos,), "int32")
    file.attrs.update(
        num_videos=num_videos,
        max_frames=max_frames,
        feature_dim=feature_dim,
        category_mapping=json.dumps({name: index for index, name in enumerate(classes)}),
        multi_scale=False,
    )


def _append(file: h5py.File, position: int, table: pa.Table, split: str, classes: list[str]) -> int:
    """Write the rows of `split`, the first at `position`; the position behind the last."""
    for row in range(table.num_rows):
        if table["split"][row].as_py() != split:
            continue
        rows_TD = features_TD(table["features"][row])
        file["features"][position, : len(rows_TD)] = rows_TD.astype(np.float32)
        file["labels"][position] = classes.index(table["label"][row].as_py())
        file["num_frames"][position] = len(rows_TD)
        position += 1
    return position


def read(location: str) -> SplitFeatures:
    """Read one file, ours or the reference system's.

    Raises ConfigError naming what of the contract it does not keep, before any of its data is read where that
    lies elsewhere (links, external storage, virtual datasets) or is more than the file can hold.
    """
    filesystem, path = storage.resolve(location)
    with filesystem.open_input_file(path) as stream:
        try:
            file = h5py.File(stream, "r")
        except OSError as error:
            raise ConfigError(f"{location}: not an HDF5 file ({error})") from error
        with file:
            return _checked(location, file)


def read_classes(location: str) -> list[str]:
    """The class names of a file in the order of their labels; its features are left alone.

    Raises ConfigError where it is no HDF5 file or maps no classes.
    """
    filesystem, path = storage.resolve(location)
    try:
        with filesystem.open_input_file(path) as stream, h5py.File(stream, "r") as file:
            mapping = json.loads(file.attrs.get("category_mapping", "{}"))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ConfigError(f"{location}: not an HDF5 file that maps classes ({error})") from error
    if not isinstance(mapping, dict) or not mapping or sorted(mapping.values()) != list(range(len(mapping))):
        raise ConfigError(f"{location}: must number its classes from 0 in category_mapping, has {mapping}")
    return sorted(mapping, key=lambda name: int(mapping[name]))


_DATASETS = {
    "features": ("videos", "frames", "dimension"),
    "labels": ("videos",),
    "num_frames": ("videos",),
}
"""The axes of each dataset."""


def _own_dataset(location: str, file: h5py.File, name: str, ndim: int) -> h5py.Dataset:
    """A dataset whose numbers are stored in the file itself; ConfigError for any other. Reads none of them."""
    # The names first, then the link: asking for the object would follow a link into another file.
    names = sorted(file.keys())
    if name not in names:
        raise ConfigError(f"{location}: must hold a dataset {name!r}, found {names}")
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ConfigError(f"{location}: {name} must be a dataset of this file, is a link")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise ConfigError(f"{location}: {name} must be a dataset, is a group")
    for is_elsewhere, kind in ((dataset.is_virtual, "virtual"), (dataset.external, "stored in other files")):
        if is_elsewhere:
            raise ConfigError(f"{location}: {name} must be stored in this file, is {kind}")
    axes, shape = _DATASETS[name], dataset.shape
    if shape is None or len(shape) != ndim:
        raise ConfigError(f"{location}: {name} must be [{', '.join(axes)}], found {shape}")
    if dataset.dtype.kind not in ("fiu" if name == "features" else "iu"):
        kind = "numbers" if name == "features" else "whole numbers"
        raise ConfigError(f"{location}: {name} must hold {kind}, found {dataset.dtype}")
    most = MAX_SHAPE[:ndim]
    if any(size > bound for size, bound in zip(shape, most, strict=True)):
        raise ConfigError(f"{location}: {name} must be at most {most}, found {shape}")
    # HDF5 unpacks a chunk whole, and one may be larger than what a dataset that can grow holds by now.
    chunk_bytes = math.prod(dataset.chunks or ()) * dataset.dtype.itemsize
    num_bytes, stored_bytes = max(int(dataset.nbytes), chunk_bytes), dataset.id.get_storage_size()
    if num_bytes > max(UNSTORED_BYTES, MOST_COMPRESSION * stored_bytes):
        raise ConfigError(
            f"{location}: {name} must be stored whole, found {num_bytes} bytes of numbers in {stored_bytes} "
            "stored bytes"
        )
    return dataset


def _checked(location: str, file: Any) -> SplitFeatures:
    def need(holds: bool, rule: str, value: object) -> None:
        if not holds:
            raise ConfigError(f"{location}: {rule}, found {value}")

    datasets = {name: _own_dataset(location, file, name, len(shape)) for name, shape in _DATASETS.items()}
    need("category_mapping" in file.attrs, "must hold the attribute 'category_mapping'", sorted(file.attrs))
    try:
        mapping: dict[str, int] = json.loads(file.attrs["category_mapping"])
        is_numbered = sorted(mapping.values()) == list(range(len(mapping)))
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{location}: category_mapping must be a JSON object of numbers ({error})") from error
    need(is_numbered, "category_mapping must number the classes from 0", mapping)
    padded_NTD = datasets["features"]
    counts = tuple(len(dataset) for dataset in datasets.values())
    need(len(set(counts)) == 1, "features, labels and num_frames must be equally many", counts)
    labels, num_frames = datasets["labels"][:], datasets["num_frames"][:]
    if len(labels):
        need(labels.min() >= 0 and labels.max() < len(mapping), f"labels must be below {len(mapping)}", labels.max())
        need(
            num_frames.min() >= 1 and num_frames.max() <= padded_NTD.shape[1],
            f"num_frames must be between 1 and {padded_NTD.shape[1]}",
            (int(num_frames.min()), int(num_frames.max())),
        )
    return SplitFeatures(
        features=[padded_NTD[index, :count].astype(np.float32) for index, count in enumerate(num_frames)],
        labels=labels.astype(np.int64),
        classes=tuple(sorted(mapping, key=lambda name: mapping[name])),
    )
