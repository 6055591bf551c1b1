"""Configuration of `index` and `audit`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vidclf.config.fields import parse_fractions, require
from vidclf.config.options import DryRunOptions, LimitOptions
from vidclf.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class IndexConfig(LimitOptions, DryRunOptions):
    """List the videos of an archive in a manifest, and split them into train, val and test by source."""

    input: str
    """Videos to list: a directory, a URI, or a list file (.csv, .jsonl, .json, .txt or .parquet)."""
    output: str
    """Manifest file to write. Its name must end in .parquet."""
    split: str = "0.7,0.2,0.1"
    """Fractions of the videos for train, val and test, or 'none' for no split. Videos of one source stay in one
    split. If the archive already names splits, these are kept."""
    seed: int = 0
    """Random seed of the split."""
    group_pattern: str | None = None
    """Regular expression for the file name without extension; its first group is the name of the source. All videos
    of a source get the same split. (default: every video is its own source)"""
    overwrite: bool = False
    """Replace an existing manifest that differs. A file that is not a manifest is never replaced."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.output.endswith(".parquet"), "output", "a .parquet file", self.output)
        parse_fractions(self.split)
        if self.group_pattern is not None:
            try:
                groups = re.compile(self.group_pattern).groups
            except re.error as error:
                raise ConfigError(
                    f"--group-pattern must be a regular expression, got {self.group_pattern!r} ({error})"
                ) from error
            require(groups >= 1, "group_pattern", "a pattern with one (group)", self.group_pattern)


@dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """Prove from the files alone that every video is accounted for exactly once."""

    run: str
    """Output directory of jobs/extract.py or jobs/classify.py."""
    stale: bool = False
    """Also check whether the source videos have changed since they were processed."""
