"""`splits.parquet`: an ensemble's record of the videos that it was trained, calibrated or tested on, and their splits.

`ensemble.json` holds the SHA-256 of the file, so that a swapped or edited record is refused. The module imports no
torch: jobs that only compare predictions start without it.

Shape suffixes: N videos, D features.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from vidclf import arrow, schema, storage
from vidclf.errors import ConfigError
from vidclf.features.spec import FeatureSpec

SPLITS_FILE = "splits.parquet"
"""Name of the file in an ensemble's directory; its columns are `schema.SPLIT_TABLE`."""

ENSEMBLE_FILE = "ensemble.json"
"""Name of the file that describes the ensemble in the same directory (`vidclf/ensemble/info.py`)."""

NO_RECORD = "the ensemble has no record of its splits"
EARLIER_VERSION = "an earlier version of vidclf trained the ensemble, and its record of the splits cannot be checked"
IMPORTED = "the ensemble's members were imported, and the videos that they were trained on are not known"

_COLUMNS = [name for name in schema.SPLIT_TABLE.names if name != "mean_features"]


@dataclass(frozen=True, kw_only=True)
class SplitsInfo:
    """The entry `splits` of `ensemble.json`, which describes `splits.parquet`."""

    digest: str
    """SHA-256 of `splits.parquet`"""
    near_duplicate_cosine: float
    """cosine similarity from which training took two videos for near duplicates"""


@dataclass(frozen=True, kw_only=True)
class SplitRecord:
    """An ensemble's record of its videos and their splits."""

    rows: pa.Table
    """columns of `schema.SPLIT_TABLE` but `mean_features`, one row per video; without rows if there is no record"""
    means_ND: npt.NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))
    """mean features of the videos in `rows`; empty if the record has none"""
    near_duplicate_cosine: float = 1.0
    """cosine similarity of mean features from which two videos are near duplicates"""
    feature_key: str = ""
    """key of the features whose means are `means_ND`"""
    doubt: str = ""
    """reason why a video that is not in the record may still have been trained on; empty if the record is complete"""

    @classmethod
    def unknown(cls, doubt: str) -> SplitRecord:
        """A record without rows, because of the reason `doubt`."""
        return cls(rows=schema.SPLIT_TABLE.empty_table().select(_COLUMNS), doubt=doubt)

    @classmethod
    def of(cls, table: pa.Table, near_duplicate_cosine: float, feature_key: str, doubt: str = "") -> SplitRecord:
        """The record in `table`, which has the columns `schema.SPLIT_TABLE`."""
        num_videos = table.num_rows
        values: npt.NDArray[np.float16] = (
            table["mean_features"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        )
        return cls(
            rows=table.select(_COLUMNS),
            means_ND=values.astype(np.float32).reshape(num_videos, len(values) // max(num_videos, 1)),
            near_duplicate_cosine=near_duplicate_cosine,
            feature_key=feature_key,
            doubt=doubt,
        )


def write(directory: str, table: pa.Table) -> None:
    """Write `splits.parquet` into an ensemble's directory; `table` has the columns `schema.SPLIT_TABLE`."""
    stream = io.BytesIO()
    pq.write_table(table, stream)
    storage.publish_bytes(storage.join(directory, SPLITS_FILE), stream.getvalue())


def describe(directory: str, near_duplicate_cosine: float) -> SplitsInfo:
    """The entry `splits` of `ensemble.json` for the `splits.parquet` in this directory."""
    content = storage.read_bytes(storage.join(directory, SPLITS_FILE))
    return SplitsInfo(digest=hashlib.sha256(content).hexdigest(), near_duplicate_cosine=near_duplicate_cosine)


def read_record(directory: str, flag: str = "--ensemble", ensemble_id: str | None = None) -> SplitRecord:
    """Read the record of the finished ensemble in a directory; unknown if that has another id than `ensemble_id`.

    Raises ConfigError, which names `flag`, if `splits.parquet` is missing or not the file that `ensemble.json` lists,
    or if one of the two cannot be read. The record of an earlier version, whose digest is not listed, is read with a
    `doubt`.
    """
    path, description = storage.join(directory, SPLITS_FILE), storage.join(directory, ENSEMBLE_FILE)
    try:
        values = storage.read_json(description)
        listed = SplitsInfo(**values["splits"]) if values.get("splits") is not None else None
        first_spec = FeatureSpec(**values["backbones"][0]["feature_spec"])
        current_id = values["ensemble_id"]
        is_imported = any(member.get("imported_from") is not None for member in values["members"])
    except (OSError, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ConfigError(f"{flag} {description}: not an ensemble that jobs/train.py wrote ({error!r})") from error
    if ensemble_id not in (None, current_id):
        return SplitRecord.unknown(f"{directory} now holds another ensemble ({current_id})")
    if listed is None and not storage.exists(path):
        return SplitRecord.unknown(IMPORTED if is_imported else NO_RECORD)
    content = _checked_content(path, listed, flag)
    try:
        table = pq.read_table(io.BytesIO(content))
        if listed is None:
            return SplitRecord(rows=_of_earlier_version(table), doubt=IMPORTED if is_imported else EARLIER_VERSION)
        table = arrow.conform(table, schema.SPLIT_TABLE, SPLITS_FILE)
    except (pa.ArrowInvalid, KeyError, ValueError) as error:
        raise ConfigError(f"{flag} {path}: not a record of splits ({str(error).splitlines()[0]})") from error
    return SplitRecord.of(table, listed.near_duplicate_cosine, first_spec.key, doubt=IMPORTED if is_imported else "")


def recorded_splits(directory: str) -> dict[str, str]:
    """The split of each video, by its id, in the `splits.parquet` of a directory; empty if there is no such file.

    For a line to the user: the ensemble need not be finished, and the record is not checked.
    """
    path = storage.join(directory, SPLITS_FILE)
    if not storage.exists(path):
        return {}
    record = storage.read_table(path, [schema.VIDEO_ID, "split"])
    return dict(zip(record[schema.VIDEO_ID].to_pylist(), record["split"].to_pylist(), strict=True))


def check_record(directory: str, listed: SplitsInfo | None) -> None:
    """Raise ConfigError unless `splits.parquet` is the file that `ensemble.json` in the same directory lists."""
    if listed is None:
        raise ConfigError(f"--ensemble {directory}: {EARLIER_VERSION}")
    read_record(directory)


def _checked_content(path: str, listed: SplitsInfo | None, flag: str) -> bytes:
    """Bytes of `splits.parquet`. ConfigError if it cannot be read or has another digest than `listed`."""
    remedy = "restore it from a copy, or run jobs/train.py again with the same flags, which keeps the members"
    try:
        content = storage.read_bytes(path)
    except OSError as error:
        raise ConfigError(f"{flag} {path}: cannot be read ({str(error).splitlines()[0]}); {remedy}") from error
    if listed is not None and hashlib.sha256(content).hexdigest() != listed.digest:
        raise ConfigError(f"{flag} {path}: is not the file that {ENSEMBLE_FILE} lists (digest differs); {remedy}")
    return content


def _of_earlier_version(table: pa.Table) -> pa.Table:
    """The record of an earlier version with the columns of this one: the group as source, and no content digests."""
    earlier = table.select(schema.EARLIER_SPLIT_TABLE.names)
    added: Sequence[tuple[str, Any]] = (
        ("source", earlier["group"]),
        ("content_digest", pa.nulls(len(earlier), "string")),
    )
    for name, values in added:
        earlier = earlier.append_column(name, values)
    return earlier.select(_COLUMNS)
