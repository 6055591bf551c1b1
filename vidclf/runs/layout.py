"""Names and locations of the files in a run directory.

A run directory is the output of one extraction or classification for one backbone or ensemble. `Run` knows where each
file is; `vidclf/runs/state.py` says what the files mean.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import Any

from vidclf import storage
from vidclf.errors import ConfigError

MANIFEST_FILE = "manifest.parquet"
"""One row per video that the run must process. A directory with this file is a run."""

IDENTITY_FILE = "run_identity.json"
"""How the run's rows are made: the feature spec per backbone, the ensemble id (predictions only), the column types."""

SUMMARY_FILE = "summary.json"
"""Counts and rates. Written last, so that its presence means that the job has ended."""

DUPLICATES_FILE = "duplicates.parquet"
"""Videos with the same content as another video of the run. Absent if there are none."""

QUARANTINE_DIR = "quarantine"
"""Shards with one row per rejected video and its reject reason."""

SEGMENTS_DIR = "segments"
"""Segments of the classified videos. The segments of a shard's videos are in the file of the same name."""

SHARD_PATTERN = r"part-[0-9a-f]{32}-\d{6}\.parquet"
"""Regular expression of the names that `shard_name` makes."""


def shard_name(write_id: str, index: int) -> str:
    """File name of one shard. `write_id` is 32 hexadecimal digits, unique per write; `index` counts its shards."""
    return f"part-{write_id}-{index:06d}.parquet"


def file_name(location: str) -> str:
    """The last part of a location, without the options at the end of a URI."""
    path = re.sub(r"\?\w+=[^?]*$", "", location) if storage.is_uri(location) else location
    return posixpath.basename(path.rstrip("/"))


@dataclass(frozen=True)
class Run:
    """A run directory and the locations of its files."""

    location: str
    """local path or URI"""

    @property
    def manifest_file(self) -> str:
        return storage.join(self.location, MANIFEST_FILE)

    @property
    def identity_file(self) -> str:
        return storage.join(self.location, IDENTITY_FILE)

    @property
    def summary_file(self) -> str:
        return storage.join(self.location, SUMMARY_FILE)

    @property
    def duplicates_file(self) -> str:
        return storage.join(self.location, DUPLICATES_FILE)

    @property
    def quarantine_dir(self) -> str:
        return storage.join(self.location, QUARANTINE_DIR)

    @property
    def segments_dir(self) -> str:
        return storage.join(self.location, SEGMENTS_DIR)

    def shards(self) -> list[str]:
        """Shards of the ok rows (features or predictions), sorted by name."""
        return _shards_in(self.location)

    def quarantine_shards(self) -> list[str]:
        """Shards of the quarantine rows, sorted by name."""
        return _shards_in(self.quarantine_dir)

    def segment_shards(self) -> list[str]:
        """Shards of the segment rows, sorted by name."""
        return _shards_in(self.segments_dir)

    def exists(self) -> bool:
        """Whether a job was started in this directory."""
        return storage.exists(self.manifest_file)

    def is_finished(self) -> bool:
        """Whether the last job in this directory has ended with no video pending."""
        return storage.exists(self.summary_file)

    def identity(self) -> dict[str, Any]:
        """The content of `run_identity.json`. Raises FileNotFoundError if the run has none."""
        return dict(storage.read_json(self.identity_file))

    def summary(self) -> dict[str, Any]:
        """The content of `summary.json`. Raises FileNotFoundError before the job has ended."""
        return dict(storage.read_json(self.summary_file))


def _shards_in(directory: str) -> list[str]:
    return [path for path in storage.list_files(directory, ".parquet") if file_name(path).startswith("part-")]


def runs_in(location: str) -> list[str]:
    """The run at `location` itself, or else the runs in its directories (one per backbone).

    Raises ConfigError if there is none.
    """
    if Run(location).exists():
        return [location]
    runs = [path for path in storage.list_dirs(location) if Run(path).exists()]
    if not runs:
        raise ConfigError(
            f"--run must be an output directory of extract or classify, got {location!r} (no {MANIFEST_FILE})"
        )
    return runs
