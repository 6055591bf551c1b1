"""Export and import of features as HDF5 files, one per split.

The format is that of the older system whose files vidclf reads (the reference system).

`{split}_features_multiscale.h5` holds the datasets

- `features` [N, T_max, D] float32, gzip level 4, zeros after the last frame of a video,
- `labels` [N] int64,
- `num_frames` [N] int32,

and the attributes `num_videos`, `max_frames`, `feature_dim`, `category_mapping` (JSON, class name to label) and
`multi_scale`. Our files also have `content_digest`, the state of the run that was exported. Files from others are
untrusted: location, shape and size of the data are checked before it is read.

Shape suffixes: N videos, T frames, D features.
"""

from __future__ import annotations

import hashlib
import json
import math
import posixpath
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
from vidclf.json_text import json_text
from vidclf.runs import lease
from vidclf.runs.layout import Run
from vidclf.runs.newest_manifest import NewestManifest
from vidclf.schema import SPLITS

GZIP_LEVEL = 4
"""Compression level of the exported features, the same as in the files of the older system whose format this is."""

MAX_SHAPE = (100_000_000, 100_000, 65_536)
"""Largest numbers of videos, of frames per video and of features per frame that are accepted in an HDF5 file."""

MAX_COMPRESSION = 1100
"""Largest allowed ratio of the size of a dataset to the bytes that are stored for it in the HDF5 file.

Deflate reaches at most 1,032 (zlib, Technical Details). With a larger ratio most of the data was never written, and
HDF5 would fill memory with zeros.
"""

CONTENT_DIGEST = "content_digest"
"""Name of the attribute with the digest of the state of the run that was exported."""

UNCHECKED_BYTES = 64 * 1024**2
"""Size in bytes up to which a dataset is read without a check of its compression ratio."""


@dataclass(frozen=True, kw_only=True)
class SplitFeatures:
    """The content of one HDF5 feature file, which holds the videos of one split."""

    features: list[npt.NDArray[np.float32]]
    """one array [frames, features] per video, without the padding"""
    labels: npt.NDArray[np.int64]
    """one index into `classes` per video"""
    classes: tuple[str, ...]
    """class names, each at the index that is its label"""


def file_name(split: str) -> str:
    """Name of the HDF5 file for a split, such as `train_features_multiscale.h5`; the older system whose format this is
    uses the same names."""
    return f"{split}_features_multiscale.h5"


def check_exportable(manifest: pa.Table) -> None:
    """Raise ConfigError unless every video of the manifest has a label and a split, which the HDF5 files need."""
    for column in ("label", "split"):
        missing = manifest[column].null_count
        if missing:
            raise ConfigError(
                f"--format hdf5 needs a {column} for every video, {missing} of {manifest.num_rows} have none"
            )


def export(features: str) -> list[str]:
    """Write the features of a finished extract output as HDF5 files, one per split, into the same directory; returns
    their locations.

    Replaces the files of an earlier export. Videos keep the order in which the result files list them. Only one result
    file at a time is in memory.
    """
    run, spec = Run(features), read_spec(features)
    classes = sorted(set(storage.read_table(run.manifest_file, ["label"])["label"].to_pylist()))
    num_videos: dict[str, int] = {}
    max_frames: dict[str, int] = {}
    newest = NewestManifest(features, ("label", "split"))
    for table in map(newest.join, storage.iter_tables(run.shards(), ["video_id", "split", "num_frames"])):
        for split, num_frames in zip(table["split"].to_pylist(), table["num_frames"].to_pylist(), strict=True):
            num_videos[split] = num_videos.get(split, 0) + 1
            max_frames[split] = max(max_frames.get(split, 0), num_frames)
    locations = []
    digest = content_digest(features)
    for split in sorted(num_videos):
        location = storage.join(features, file_name(split))
        # HDF5 seeks while it writes, which object stores cannot do: write a local file, then copy it as a whole.
        with tempfile.NamedTemporaryFile(suffix=".h5") as local:
            with h5py.File(local.name, "w") as file:
                _create(file, num_videos[split], max_frames[split], spec.feature_dim, classes)
                file.attrs[CONTENT_DIGEST] = digest
                row = 0
                columns = ["video_id", "label", "split", "num_frames", "features"]
                for table in map(newest.join, storage.iter_tables(run.shards(), columns)):
                    row = _append(file, row, table, split, classes)
            lease.guard(features).check()
            storage.publish(location, lambda stream: shutil.copyfileobj(local, stream))
        locations.append(location)
    return locations


def content_digest(features: str) -> str:
    """Digest of all that an export of an extract output holds: the feature key, and the id, label and split of each
    video with features.

    A file with another digest was exported before the run was continued or its manifest changed.
    """
    run = Run(features)
    newest = NewestManifest(features, ("label", "split"))
    digest = hashlib.sha256(read_spec(features).key.encode())
    lines: list[str] = []
    for table in map(newest.join, storage.iter_tables(run.shards(), ["video_id", "label", "split"])):
        columns = (table[name].to_pylist() for name in ("video_id", "label", "split"))
        lines += ["\t".join(map(str, row)) for row in zip(*columns, strict=True)]
    for line in sorted(lines):
        digest.update(f"{line}\n".encode())
    return digest.hexdigest()


def is_stale(location: str) -> bool:
    """Whether an HDF5 file in an extract output was exported from an earlier state of it.

    Of a file elsewhere, or without the attribute `content_digest`, this is not known: then it counts as current.
    """
    directory = posixpath.dirname(location)
    if not Run(directory).exists():
        return False
    filesystem, path = storage.resolve(location)
    try:
        with filesystem.open_input_file(path) as stream, h5py.File(stream, "r") as file:
            exported = file.attrs.get(CONTENT_DIGEST)
    except (OSError, ValueError, TypeError):
        return False  # `read` says what is wrong with the file
    return exported is not None and exported != content_digest(directory)


def stale_exports(features: str) -> list[str]:
    """Locations of the HDF5 files in an extract output that were exported from an earlier state of it."""
    files = (storage.join(features, file_name(split)) for split in SPLITS)
    return [location for location in files if storage.exists(location) and is_stale(location)]


def _create(file: h5py.File, num_videos: int, max_frames: int, feature_dim: int, classes: list[str]) -> None:
    """Create the datasets, still empty, and the attributes in the HDF5 file of one split."""
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
        category_mapping=json_text({name: index for index, name in enumerate(classes)}),
        multi_scale=False,
    )


def _append(file: h5py.File, row: int, table: pa.Table, split: str, classes: list[str]) -> int:
    """Write those videos of `table` that belong to `split` into the HDF5 file, at the rows from `row` on.

    Returns the number of the next free row.
    """
    for index in range(table.num_rows):
        if table["split"][index].as_py() != split:
            continue
        video_TD = features_TD(table["features"][index])
        file["features"][row, : len(video_TD)] = video_TD.astype(np.float32)
        file["labels"][row] = classes.index(table["label"][index].as_py())
        file["num_frames"][row] = len(video_TD)
        row += 1
    return row


def read(location: str) -> SplitFeatures:
    """Read one HDF5 feature file, written by `export` or by the older system whose format this is.

    Raises ConfigError naming the rule that the file breaks. Data outside the file (links, external storage, virtual
    datasets) and datasets that claim more data than is stored are refused before any data is read.
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
    """The class names in an HDF5 feature file, sorted by their label numbers. Does not read the features.

    Raises ConfigError if the file is no HDF5 file or does not number its classes from 0.
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


_AXES = {
    "features": ("videos", "frames", "dimension"),
    "labels": ("videos",),
    "num_frames": ("videos",),
}
"""Names of the axes of each dataset in an HDF5 feature file, for checks and messages."""


def _own_dataset(location: str, file: h5py.File, name: str) -> h5py.Dataset:
    """Return the dataset `name` of an HDF5 file after checks of its shape, its number type and that its numbers are
    stored in this file.

    Reads none of the numbers. Raises ConfigError if a check fails.
    """
    # First the names, then the kind of link: opening the object would follow a link into another file.
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
    axes, shape = _AXES[name], dataset.shape
    if shape is None or len(shape) != len(axes):
        raise ConfigError(f"{location}: {name} must be [{', '.join(axes)}], found {shape}")
    if dataset.dtype.kind not in ("fiu" if name == "features" else "iu"):
        kind = "numbers" if name == "features" else "whole numbers"
        raise ConfigError(f"{location}: {name} must hold {kind}, found {dataset.dtype}")
    max_shape = MAX_SHAPE[: len(axes)]
    if any(size > bound for size, bound in zip(shape, max_shape, strict=True)):
        raise ConfigError(f"{location}: {name} must be at most {max_shape}, found {shape}")
    # HDF5 unpacks whole chunks, and in a dataset that can grow one chunk may be larger than all of its numbers.
    chunk_bytes = math.prod(dataset.chunks or ()) * dataset.dtype.itemsize
    num_bytes, stored_bytes = max(int(dataset.nbytes), chunk_bytes), dataset.id.get_storage_size()
    if num_bytes > max(UNCHECKED_BYTES, MAX_COMPRESSION * stored_bytes):
        raise ConfigError(
            f"{location}: {name} must be stored whole, found {num_bytes} bytes of numbers in {stored_bytes} "
            "stored bytes"
        )
    return dataset


def _checked(location: str, file: Any) -> SplitFeatures:
    """Read the content of an open HDF5 feature file. Raises ConfigError naming the first rule that the file breaks."""

    def check(holds: bool, rule: str, value: object) -> None:
        if not holds:
            raise ConfigError(f"{location}: {rule}, found {value}")

    datasets = {name: _own_dataset(location, file, name) for name in _AXES}
    check("category_mapping" in file.attrs, "must hold the attribute 'category_mapping'", sorted(file.attrs))
    try:
        mapping: dict[str, int] = json.loads(file.attrs["category_mapping"])
        is_numbered = sorted(mapping.values()) == list(range(len(mapping)))
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{location}: category_mapping must be a JSON object of numbers ({error})") from error
    check(is_numbered, "category_mapping must number the classes from 0", mapping)
    padded_NTD = datasets["features"]
    counts = tuple(len(dataset) for dataset in datasets.values())
    check(len(set(counts)) == 1, "features, labels and num_frames must have the same number of videos", counts)
    labels, num_frames = datasets["labels"][:], datasets["num_frames"][:]
    if len(labels):
        check(labels.min() >= 0 and labels.max() < len(mapping), f"labels must be below {len(mapping)}", labels.max())
        check(
            num_frames.min() >= 1 and num_frames.max() <= padded_NTD.shape[1],
            f"num_frames must be between 1 and {padded_NTD.shape[1]}",
            (int(num_frames.min()), int(num_frames.max())),
        )
    return SplitFeatures(
        features=[padded_NTD[index, :count].astype(np.float32) for index, count in enumerate(num_frames)],
        labels=labels.astype(np.int64),
        classes=tuple(sorted(mapping, key=lambda name: mapping[name])),
    )
