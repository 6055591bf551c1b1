"""Configuration of the jobs `index` (list videos in a manifest) and `audit` (check an output directory)."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Annotated, Literal

from vidclf.config.fields import at_least, parse_fractions, require
from vidclf.config.options import DryRunOptions, LimitOptions, Options
from vidclf.errors import ConfigError

SplitDirectories = Literal["auto", "never"]
"""Values of `--split-directories`, whether directories such as `train` are splits."""


_OF_LISTING = ("group_pattern", "split_directories", "include", "exclude", "sniff", "strict", "root")
"""Fields of `IndexConfig` that are about the listing of an archive."""


@dataclass(frozen=True, kw_only=True)
class IndexConfig(LimitOptions, DryRunOptions):
    """List the videos of an archive in a manifest (a table with one row per video), and split them into train, val and
    test.

    Videos of one source (cut from the same recording) get the same split.
    """

    input: str = ""
    """Videos to list: a directory, a URI, or a list file (.csv, .jsonl, .json, .txt or .parquet). Required unless
    --labels is given. (default: with --labels, the videos of the earlier manifest, without listing any directory)"""
    output: str
    """Manifest file to write: a Parquet table with one row per video. Its name must end in .parquet."""
    split: str = "0.7,0.2,0.1"
    """Fractions of the videos for train, val and test, or 'none' for no split. Videos of one source (cut from the same
    recording, see --group-pattern) get the same split. Splits that the list file or the directory names already give
    are kept. An archive without labels gets no splits."""
    seed: int = 0
    """Random seed for assigning the videos to splits."""
    group_pattern: str = "auto"
    """Regular expression that is searched in each file name without extension. The text in its first pair of brackets
    names the source of the video, for example the recording from which it was cut. All videos of a source get the same
    split. auto: sources are found in file names (film_001, v_Biking_g01_c02, ID_000010_000020) and in directories of
    clips, unless the list file names sources; a line says what was found. none: every video without a source in the
    list file is its own source."""
    split_directories: SplitDirectories = "auto"
    """Whether directories above the labels are splits. auto: train, training, val, valid, validation, dev, test and
    testing, in any case; refused if other directories stand beside them. never: all directories are labels."""
    include: tuple[str, ...] = ()
    """Glob patterns; only files of the directory that match one of them are listed. A pattern without a slash is
    compared with every name in the path below the directory, one with a slash with the whole path. (default: all
    videos)"""
    exclude: tuple[str, ...] = ()
    """Glob patterns of files and directories that are passed over, compared like --include. (default: none)"""
    sniff: bool = False
    """Recognise the videos of a directory by their first bytes, not by their file name extensions."""
    strict: bool = False
    """Refuse a directory in which a directory cannot be read. Without it, such directories are counted and named."""
    taxonomy: str | None = None
    """YAML file that renames and groups labels. A line has a class and its names in the archive, such as
    'Music: [Musik, Concerts]', or with sublabels 'Sport: {ball games: [Sport/soccer, Sport/tennis]}', where a name is
    label or label/sublabel. Labels that it does not name stay. Features stay valid, so nothing is decoded again.
    (default: labels and sublabels as they are)"""
    keep_label_spelling: bool = False
    """Allow classes whose names differ only in case or spaces."""
    limit: Annotated[int, at_least(1, "video")] | None = None
    """Number of videos to list for a trial, spread evenly over the classes. (default: all videos)"""
    continue_from: str = ""
    """Earlier manifest of the archive. Its videos keep their ids and their splits, and new videos fill what is lacking
    in each split. A file that was moved is recognised by name and size. 'none' draws all splits anew. (default: the
    file at --output, if there is one)"""
    root: str | None = None
    """Old and new directory, as OLD=NEW, of an archive that is now mounted elsewhere than in the earlier manifest.
    (default: none)"""
    labels: str = ""
    """File with labels that replace those of the listed videos: the answers of Label Studio in JSON, or a list, such as
    a CSV file with the lines 'video_uri,label' and '/archive/a.mp4,goal'. Videos are matched by video_id where the
    list has it, otherwise by location. Features stay valid, so nothing is decoded again. (default: none)"""
    overwrite: bool = False
    """Replace an existing manifest whose content differs from the new one. A file that is not a manifest is never
    replaced."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.output.endswith(".parquet"), "output", "a .parquet file", self.output)
        parse_fractions(self.split)
        require(bool(self.input or self.labels), "input", "given, or --labels", self.input or None)
        for name in _OF_LISTING if not self.input else ():
            default = next(field.default for field in fields(self) if field.name == name)
            value = getattr(self, name)
            require(value == default, name, "left out without --input, because no archive is listed", value)
        rule = "OLD=NEW, two directories or URIs"
        require(self.root is None or all(self.root.partition("=")), "root", rule, self.root)
        if self.group_pattern not in ("auto", "none"):
            try:
                groups = re.compile(self.group_pattern).groups
            except re.error as error:
                raise ConfigError(
                    f"--group-pattern must be a regular expression, got {self.group_pattern!r} ({error})"
                ) from error
            require(groups >= 1, "group_pattern", "a pattern with one (group), auto or none", self.group_pattern)


@dataclass(frozen=True, kw_only=True)
class AuditConfig(Options):
    """Prove from the output files alone that every video has exactly one result: a row of output or a reject reason."""

    run: str
    """Directory to check: the output of jobs/extract.py or jobs/classify.py."""
    stale: bool = False
    """Also read the video files again, and list those that have changed since they were processed."""
