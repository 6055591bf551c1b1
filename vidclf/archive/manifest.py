"""Manifests: the table of the videos of an archive, made from a directory or a list, or read from a file.

A manifest has one row per video (`schema.MANIFEST`). It is made from a directory with the layout
`[train|val|test/]<label>/[<sublabel>/]video` (`directory.py`), or from a list (`video_list.py`).
"""

from __future__ import annotations

import posixpath
import re
import sys
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs

from vidclf import storage
from vidclf.archive.directory import Contents, FileRules, PassedOver, counted_reason, list_directory
from vidclf.archive.directory_labels import labels_of
from vidclf.archive.label_spelling import canonical_name, check_spelling
from vidclf.archive.list_values import TEXT_COLUMNS
from vidclf.archive.parquet_list import bounded_batches
from vidclf.archive.source_names import DIRECTORIES, find_sources
from vidclf.archive.video_list import VideoList, first_uris, parquet_files, read_list, repeated_error
from vidclf.archive.video_names import LIST_EXTENSIONS, VIDEO_EXTENSIONS, extension
from vidclf.arrow import conform
from vidclf.credentials import hidden_digest, masked
from vidclf.errors import ConfigError
from vidclf.number_words import counted
from vidclf.schema import MANIFEST, SPLITS, VIDEO_ID


@dataclass(frozen=True, kw_only=True)
class ListingOptions:
    """Choices about how an archive is read."""

    group_pattern: str | None = None
    """regular expression that is searched in each file name without extension; its first group names the source"""
    find_sources: bool = False
    """find sources in file names and directories, if no video has a group and there is no pattern"""
    take_sources: bool = True
    """take the sources that are found; without it, they are only described, and every video is its own source"""
    labelled: bool = True
    """read labels and splits; an archive to classify needs none, and its directories may have any layout"""
    find_splits: bool = True
    """take directories such as `train` and `Validation` above the labels as splits"""
    keep_label_spelling: bool = False
    """allow classes that differ only in case or spaces"""
    files: FileRules = field(default_factory=FileRules)
    """rules that decide which files of a directory are videos"""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A manifest (table of videos), with counts of the files that are not in it."""

    manifest: pa.Table
    """table with one row per video and the columns `schema.MANIFEST`, sorted by location"""
    ignored: dict[str, int]
    """number of files of the directory that are not videos, by file name extension"""
    passed_over: dict[str, PassedOver] = field(default_factory=dict)
    """files and directories that were passed over, by reason"""
    unread_columns: tuple[str, ...] = ()
    """names of the columns of a list that are not read"""
    source_lines: tuple[str, ...] | None = None
    """lines about the sources that file names show, empty if they show none; None if none were looked for"""

    def left_out(self) -> list[str]:
        """Return a line for each kind of file, directory and column that is not in the manifest."""
        lines = []
        if self.unread_columns:
            hint = "" if self.manifest["label"].null_count == 0 else "; classes must be in a column label"
            lines.append(f"columns not read: {', '.join(map(repr, self.unread_columns))}{hint}")
        lines += [
            f"passed over: {counted_reason(reason, entry)} ({entry})" for reason, entry in self.passed_over.items()
        ]
        if self.ignored:
            lines.append("ignored, by extension: " + ", ".join(f"{name} {n}" for name, n in self.ignored.items()))
        return lines


def list_archive(
    location: str,
    *,
    group_pattern: str | None = None,
    labelled: bool = True,
    options: ListingOptions | None = None,
) -> Listing:
    """Make a manifest (table of videos) of the videos of a directory, a list file or a single video.

    A row's `group` names the videos that must stay in one split, for example because they are cut from one recording.
    `group_pattern` is a regular expression that is searched in each file name without extension. The label, the
    sublabel and the first parenthesised part of the match form the `group`. A group that the list file gives takes
    precedence. A video for which neither gives a group is a group of its own.

    With `labelled=False` the directories are not read as labels, because an archive to classify may have any layout.
    `options` replaces both.

    Raises ConfigError if the location does not exist, the archive has no videos, a list has no location column, a
    location is listed twice, a split is unknown, or only some of the rows have a label or a split.
    """
    options = options or ListingOptions(group_pattern=group_pattern, labelled=labelled)
    location = storage.canonical(location)
    filesystem, path = storage.resolve(location)
    try:
        kind = filesystem.get_file_info(path).type
    except OSError as error:
        raise ConfigError(f"--input {location}: cannot be read ({error})") from error
    if kind == fs.FileType.NotFound:
        raise ConfigError(f"--input {location}: no such directory or list file")
    contents = Contents()
    if kind == fs.FileType.Directory:
        contents = list_directory(location, filesystem, path, options.files)
        files = parquet_files(location) if not contents.videos and contents.ignored["parquet"] else []
        if files:
            listed = read_list(location, files, labelled=options.labelled)
            del contents.ignored["parquet"]
        else:
            listed = VideoList(rows=_directory_rows(location, contents, options))
    elif extension(path) in LIST_EXTENSIONS:
        listed = read_list(location, [location], labelled=options.labelled)
    elif extension(path) in VIDEO_EXTENSIONS:
        listed = VideoList(rows=[{"video_uri": location}])
    else:
        raise ConfigError(
            f"--input {location}: must be a directory, a video or a list ({', '.join(sorted(LIST_EXTENSIONS))})"
        )
    if listed.unanswered and not listed.rows:
        raise ConfigError(f"--input {location}: none of its {counted(len(listed.unanswered), 'video')} has an answer")
    if not listed.rows:
        raise ConfigError(f"--input {location}: holds no video ({_left_out_text(contents) or 'it is empty'})")
    unanswered = PassedOver(count=len(listed.unanswered), examples=listed.unanswered[:3])
    table, source_lines = _table(listed.rows, options, location, in_directories=bool(contents.videos))
    return Listing(
        manifest=table,
        ignored=dict(sorted(contents.ignored.items())),
        passed_over=contents.passed_over | ({"videos without an answer": unanswered} if unanswered.count else {}),
        unread_columns=tuple(listed.unread_columns),
        source_lines=source_lines,
    )


def list_unlabelled(location: str) -> pa.Table:
    """Return the manifest of an archive that needs no labels, and print on stderr what is not in it, a line each."""
    listing = list_archive(location, labelled=False)
    print("".join(f"{line}\n" for line in listing.left_out()), end="", file=sys.stderr)
    return listing.manifest


def read_manifest(location: str, flag: str = "--manifest") -> pa.Table:
    """Read a manifest (table of videos) that `jobs/index.py` wrote.

    `flag`: the flag that names the file, for error messages. Raises ConfigError if the file is not such a manifest.
    """
    if not storage.exists(location):
        raise ConfigError(f"{flag} {location}: no such file; `jobs/index.py` writes one")
    try:
        for _ in bounded_batches(location, (VIDEO_ID,), (VIDEO_ID,), flag=flag):
            pass  # only for the check: a small file that repeats one id could fill the memory
        table = conform(storage.read_table(location), MANIFEST, location)
    except ConfigError:
        raise
    except (pa.ArrowInvalid, ValueError, OSError) as error:
        raise ConfigError(f"{flag} {location}: not a manifest that jobs/index.py wrote ({error})") from error
    num_repeated = table.num_rows - pc.count_distinct(table[VIDEO_ID]).as_py()
    if num_repeated:
        count = Counter(table[VIDEO_ID].to_pylist())
        first = next(row for row, video in enumerate(table[VIDEO_ID].to_pylist()) if count[video] > 1)
        raise ConfigError(
            f"{flag} {location}: every {VIDEO_ID} must be unique, {num_repeated} rows repeat one (for one "
            f"{masked(table['video_uri'][first].as_py())}); index the archive again"
        )
    return table


def video_id(video_uri: str) -> str:
    """Return the id of a video: the uuid5 (RFC 9562, URL namespace) of its location without credentials, as text.

    Credentials are left out, so that a list with renewed signatures has the same video ids.
    """
    return _id_of_name(masked(video_uri))


def _id_of_name(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, name))


def _names(uris: list[str]) -> list[str]:
    """Return a name per location that shows no credentials: the masked location.

    In a list that has several videos of the same masked location, as in `/clip?key=1` and `/clip?key=2`, a digest of
    the hidden values follows it.
    """
    shown = [masked(uri) for uri in uris]
    count = Counter(shown)
    return [f"{name}#{hidden_digest(uri)}" if count[name] > 1 else name for uri, name in zip(uris, shown, strict=True)]


def _directory_rows(location: str, contents: Contents, options: ListingOptions) -> list[dict[str, Any]]:
    """Return one row per video below a directory. The rows lack ids and groups.

    With `options.labelled`, the names of the directories give split, label and sublabel.
    """
    path = storage.resolve(location)[1]
    rows: list[dict[str, Any]] = [
        {"video_uri": storage.sibling(location, posixpath.join(path, relative)), "size_bytes": size_bytes}
        for relative, size_bytes in contents.videos
    ]
    if options.labelled:
        relatives = [relative for relative, _ in contents.videos]
        for row, labels in zip(rows, labels_of(location, relatives, find_splits=options.find_splits), strict=True):
            row.update(labels)
    return rows


def _table(
    rows: list[dict[str, Any]], options: ListingOptions, location: str, *, in_directories: bool
) -> tuple[pa.Table, tuple[str, ...] | None]:
    """Check the rows of an archive, add video ids and groups, and return the manifest, sorted by video location, with
    lines about the sources in file names (see `Listing.source_lines`).

    `location`: the archive, named in error messages. `in_directories`: sublabels are names of directories.
    """
    rows.sort(key=lambda row: row["video_uri"])
    for row in rows:
        row.update({name: canonical_name(row[name]) for name in TEXT_COLUMNS if row.get(name) is not None})
    names = _names([row["video_uri"] for row in rows])
    # Names are equal for the same location, and for locations that differ only in user and password.
    count = Counter(names)
    repeated = list(
        dict.fromkeys(masked(row["video_uri"]) for row, name in zip(rows, names, strict=True) if count[name] > 1)
    )
    if repeated:
        raise repeated_error(location, repeated)
    _check_all_or_none(rows, "label", location)
    _check_all_or_none(rows, "split", location)
    if not options.keep_label_spelling:
        check_spelling(location, [row.get("label") for row in rows])
    unknown = [row["video_uri"] for row in rows if row.get("split") not in (None, *SPLITS)]
    if unknown:
        raise ConfigError(
            f"--input {location}: split must be one of {', '.join(SPLITS)}, is not for {first_uris(unknown)}"
        )
    lines = _found_sources(rows, options, in_directories=in_directories) if options.find_sources else None
    for row, name in zip(rows, names, strict=True):
        row[VIDEO_ID] = _id_of_name(name)
        row["group"] = row.get("group") or _group(row, options.group_pattern) or name
    return conform(pa.Table.from_pylist(rows, schema=MANIFEST), MANIFEST, "manifest"), lines


def _found_sources(
    rows: list[dict[str, Any]], options: ListingOptions, *, in_directories: bool
) -> tuple[str, ...] | None:
    """Find the sources that file names and directories show, and return lines about them. With `options.take_sources`,
    each row gets its source as group. If a row has a group already, none are looked for, and the result is None.

    A directory that is taken as a source is not part of the sublabel.
    """
    if any(row.get("group") for row in rows):
        return None
    names = find_sources(rows, in_directories=in_directories)
    if not options.take_sources:
        return tuple(names.lines)
    for row, source in zip(rows, names.found, strict=True):
        row["group"] = source.name if source is not None else None
        if source is not None and source.kind == DIRECTORIES:
            row["sublabel"] = posixpath.dirname(row["sublabel"]) or None
    return tuple(names.lines)


def _group(row: dict[str, Any], pattern: str | None) -> str | None:
    """Return `label:sublabel:match` for a file name that `pattern` matches, else None."""
    stem = posixpath.basename(row["video_uri"]).rsplit(".", 1)[0]
    match = re.search(pattern, stem) if pattern else None
    if match is None or match.group(1) is None:
        return None
    return ":".join(part for part in (row.get("label"), row.get("sublabel"), match.group(1)) if part)


def _check_all_or_none(rows: list[dict[str, Any]], column: str, location: str) -> None:
    """Raise ConfigError if only some of the videos have a value in `column`; all or none of them must have one."""
    without_value = [row["video_uri"] for row in rows if row.get(column) is None]
    if without_value and len(without_value) < len(rows):
        raise ConfigError(
            f"--input {location}: {column} must be given for every video or for none, is missing for "
            f"{first_uris(without_value)}; fill it in, or leave these videos out"
        )


def _left_out_text(contents: Contents) -> str:
    ignored = [f"{count} ignored with extension {name}" for name, count in sorted(contents.ignored.items())]
    return ", ".join([*ignored, *(counted_reason(reason, entry) for reason, entry in contents.passed_over.items())])


def sample_of(num_rows: int, size: int, seed: int) -> list[int]:
    """Draw a random sample of at most `size` of `num_rows` rows.

    Returns a list of row numbers without repetition, in random order.
    """
    sample = np.random.default_rng(seed).permutation(num_rows)[:size]
    return [int(row) for row in sample]
