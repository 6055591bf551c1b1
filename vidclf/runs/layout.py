"""File names of a run's directory."""

from __future__ import annotations

from vidclf import storage
from vidclf.errors import ConfigError

MANIFEST_FILE = "manifest.parquet"

IDENTITY_FILE = "run_identity.json"
"""How a run's rows are made: the spec of each backbone's features, for predictions the ensemble; the columns."""

SUMMARY_FILE = "summary.json"

DUPLICATES_FILE = "duplicates.parquet"
"""Videos whose content is another one's; absent where there are none."""

QUARANTINE_DIR = "quarantine"

SEGMENTS_DIR = "segments"
"""The segments of a classification's videos: those of a shard are in the file of the same name."""


def part_files(run: str) -> list[str]:
    """The shards of a run's ok rows."""
    return [path for path in storage.list_files(run, ".parquet") if path.rsplit("/", 1)[-1].startswith("part-")]


def quarantine_files(run: str) -> list[str]:
    """The shards of a run's quarantine rows."""
    return part_files(storage.join(run, QUARANTINE_DIR))


def segment_files(run: str) -> list[str]:
    """The shards of a run's segments."""
    return part_files(storage.join(run, SEGMENTS_DIR))


def is_run(run: str) -> bool:
    """Whether a job has been started in this directory."""
    return storage.exists(storage.join(run, MANIFEST_FILE))


def runs_in(location: str) -> list[str]:
    """The run at `location`, or the runs in its directories (one a backbone).

    Raises ConfigError where there is none.
    """
    runs = [location] if is_run(location) else [path for path in storage.list_dirs(location) if is_run(path)]
    if not runs:
        raise ConfigError(
            f"--run must be an output directory of extract or classify, got {location!r} (no {MANIFEST_FILE})"
        )
    return runs
