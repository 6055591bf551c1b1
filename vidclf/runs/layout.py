"""Names and locations of the files in a run directory.

A run directory is the output of an extract or classify job for one backbone or one ensemble. `Run` knows the location
of each file; `vidclf/runs/state.py` explains what the files mean.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import Any

from vidclf import storage
from vidclf.errors import ConfigError

MANIFEST_FILE = "manifest.parquet"
"""File with one row per video that the job must process. A directory with this file counts as a run directory."""

IDENTITY_FILE = "run_identity.json"
"""File that says how the result rows are made: the feature spec (all settings that decide the features) of each
backbone, the ensemble id (predictions only), the column types."""

SUMMARY_FILE = "summary.json"
"""File with the counts and rates of a job. Written last, so its presence means that the job has ended."""

DUPLICATES_FILE = "duplicates.parquet"
"""File that lists the videos with the same content as another video in the same run directory. Absent if there are
none."""

LABEL_NEXT_FILE = "label_next.csv"
"""List of the videos to label next (`classify --label-next`). Absent if it was not asked for."""

QUARANTINE_DIR = "quarantine"
"""Directory of the Parquet files with one row per rejected video and its reject reason."""

SEGMENTS_DIR = "segments"
"""Directory of the Parquet files with the segments (time spans) of the classified videos.

The segments of the videos in a result file are in the file of the same name in this directory.
"""

SHARD_PATTERN = r"part-[0-9a-f]{32}-\d{6}\.parquet"
"""Regular expression that matches the file names made by `shard_name`."""


def shard_name(write_id: str, index: int) -> str:
    """File name of one shard (a Parquet file with part of the rows).

    `write_id` is 32 hexadecimal digits, unique for each write task; `index` numbers the shards of that task.
    """
    return f"part-{write_id}-{index:06d}.parquet"


def file_name(location: str) -> str:
    """The last part of a location (a path or URI), without the options `?name=value` at the end of a URI."""
    path = re.sub(r"\?\w+=[^?]*$", "", location) if storage.is_uri(location) else location
    return posixpath.basename(path.rstrip("/"))


@dataclass(frozen=True)
class Run:
    """A run directory (output of an extract or classify job), with the locations of its files."""

    location: str
    """local path or URI of the directory"""

    @property
    def manifest_file(self) -> str:
        """Location of `manifest.parquet`, the list of videos to process."""
        return storage.join(self.location, MANIFEST_FILE)

    @property
    def identity_file(self) -> str:
        """Location of `run_identity.json`, which says how the rows are made."""
        return storage.join(self.location, IDENTITY_FILE)

    @property
    def summary_file(self) -> str:
        """Location of `summary.json`, which is present after the job has ended."""
        return storage.join(self.location, SUMMARY_FILE)

    @property
    def duplicates_file(self) -> str:
        """Location of `duplicates.parquet`, the list of videos with the same content."""
        return storage.join(self.location, DUPLICATES_FILE)

    @property
    def label_next_file(self) -> str:
        """Location of `label_next.csv`, the list of the videos to label next."""
        return storage.join(self.location, LABEL_NEXT_FILE)

    @property
    def quarantine_dir(self) -> str:
        """Location of the directory with the rows of rejected videos."""
        return storage.join(self.location, QUARANTINE_DIR)

    @property
    def segments_dir(self) -> str:
        """Location of the directory with the rows of the videos' segments (time spans)."""
        return storage.join(self.location, SEGMENTS_DIR)

    def shards(self) -> list[str]:
        """Locations of the Parquet files with the result rows (features or predictions) of the ok videos, sorted by
        name."""
        return _shards_in(self.location)

    def quarantine_shards(self) -> list[str]:
        """Locations of the Parquet files with the rows of the rejected videos, sorted by name."""
        return _shards_in(self.quarantine_dir)

    def segment_shards(self) -> list[str]:
        """Locations of the Parquet files with the rows of the videos' segments (time spans), sorted by name."""
        return _shards_in(self.segments_dir)

    def exists(self) -> bool:
        """Whether a job was started in this directory: it holds a manifest."""
        return storage.exists(self.manifest_file)

    def is_finished(self) -> bool:
        """Whether the last job in this directory has ended with no video pending: it holds a summary."""
        return storage.exists(self.summary_file)

    def identity(self) -> dict[str, Any]:
        """The content of `run_identity.json` as a dictionary. Raises FileNotFoundError if the file is absent."""
        return dict(storage.read_json(self.identity_file))

    def summary(self) -> dict[str, Any]:
        """The content of `summary.json` as a dictionary. Raises FileNotFoundError if the job has not ended."""
        return dict(storage.read_json(self.summary_file))


def _shards_in(directory: str) -> list[str]:
    """Locations of the Parquet files in a directory whose names begin with `part-`."""
    return [path for path in storage.list_files(directory, ".parquet") if file_name(path).startswith("part-")]


def runs_in(location: str) -> list[str]:
    """Locations of the run directories at `location`: itself if it is one, else its subdirectories that are (one per
    backbone).

    Raises ConfigError if none is a run directory.
    """
    if Run(location).exists():
        return [location]
    runs = [path for path in storage.list_dirs(location) if Run(path).exists()]
    if not runs:
        raise ConfigError(
            f"--run must be an output directory of extract or classify, got {location!r} (no {MANIFEST_FILE})"
        )
    return runs
