"""Configuration of `index` and `audit`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vidclf.config.fields import parse_fractions, require
from vidclf.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class IndexConfig:
    """List an archive into a manifest and split it by source."""

    input: str
    """directory, URI or list file (.csv .jsonl .json .txt .parquet) of the videos"""
    output: str
    """manifest to write (.parquet)"""
    split: str = "0.7,0.2,0.1"
    """train,val,test fractions of the videos, by source; 'none' for no split (an archive that
    already names splits keeps them)"""
    seed: int = 0
    """seed of the split"""
    group_pattern: str | None = None
    """regular expression on the file name without extension; its first group names the source,
    which never crosses splits (default: every video is its own source)"""
    limit: int | None = None
    """use only the first N videos"""
    overwrite: bool = False
    """replace the manifest if it is there and differs; another file is never replaced"""
    dry_run: bool = False
    """say what would be done and stop"""

    def __post_init__(self) -> None:
        require(self.output.endswith(".parquet"), "output", "a .parquet file", self.output)
        require(self.limit is None or self.limit > 0, "limit", "at least 1 video", self.limit)
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
    """output directory of extract or classify"""
    stale: bool = False
    """look also at the videos themselves, whether they have changed since they were done"""
