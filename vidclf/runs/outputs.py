"""Checks of outputs before a job writes there, and deletion of their files for `--overwrite`.

A job deletes and replaces only files from the closed list for its kind of output (`runs/output_allowlist.py`), and only
in a directory with a mark of that kind (a file that proves that such a job wrote it). All other files are foreign: a
refusal names them, and no job touches them. Symbolic links are always foreign, because no job makes any. An output that
is itself a link to a directory counts as that directory.
"""

from __future__ import annotations

import os
import posixpath
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from pyarrow import fs

from vidclf import storage
from vidclf.errors import ConfigError
from vidclf.runs import signed_text
from vidclf.runs.output_allowlist import OUTPUT_FILE, TEMPORARY, FileKind, Kind, Part, is_lease, matches

NUM_NAMED = 3
"""Number of foreign files (not written by the job) that an error message names. The others are counted."""

MAX_MARKS = 16
"""Upper bound on the number of marks (files that prove who wrote a directory) in an output and the directories inside
it."""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The files in an output directory, sorted by who wrote them. Each list holds sorted paths relative to the
    directory."""

    job_files: list[str] = field(default_factory=list)
    """files that the job wrote; the marks, which prove that, come last"""
    foreign: list[str] = field(default_factory=list)
    """all other files, and all symbolic links"""
    in_the_way: list[str] = field(default_factory=list)
    """those of `foreign` that the job would read or replace as if it had written them"""


def contents(kind: Kind, location: str) -> Contents:
    """Sort the files in the directory at `location` into those that a job of this kind wrote and all others (foreign).

    If there is no directory, all lists are empty. Raises ConfigError if the directory cannot be listed.
    """
    entries = dict(_entries(location))
    has_mark = _marked_parts(kind, location, entries)
    is_output = any(has_mark.values())
    job_files, foreign, in_the_way = [], [], []
    for path, is_file in sorted(entries.items()):
        listing_parts = [key for key in _parts(kind, path) if matches(key[0].files, path.removeprefix(key[1]))]
        is_temporary = bool(listing_parts) and re.search(rf"{TEMPORARY}$", path) is not None
        is_shared = is_output and matches(kind.shared, path)
        is_own = is_lease(path) or is_temporary or is_shared or any(has_mark.get(key) for key in listing_parts)
        if is_file and (is_own or _is_signed(kind, location, path, has_mark)):
            job_files.append(path)
            continue
        foreign.append(path)
        would_be_read = bool(listing_parts) or bool(kind.reads and re.fullmatch(kind.reads, path))
        if is_output and (would_be_read or (not is_file and _names_job_directory(kind, path))):
            in_the_way.append(path)
    mark_names = {mark.name for part in kind.parts for mark in part.marks}
    job_files.sort(key=lambda path: (posixpath.basename(path) in mark_names, path))
    return Contents(job_files=job_files, foreign=foreign, in_the_way=in_the_way)


def _marked_parts(kind: Kind, location: str, entries: Mapping[str, bool]) -> dict[tuple[Part, str], bool]:
    """For each part of an output (itself or a directory inside it), whether a file proves that the job wrote that part.

    The keys are the parts with their directories. `entries` maps relative paths to whether they are plain files, as
    from `_entries`.
    """
    has_mark: dict[tuple[Part, str], bool] = {}
    for path, is_file in entries.items():
        for part, directory in _parts(kind, path):
            if is_file and (part, directory) not in has_mark:
                has_mark[part, directory] = any(
                    entries.get(directory + mark.name)
                    and mark.is_genuine(storage.join(location, directory + mark.name))
                    for mark in part.marks
                )
    return has_mark


def _is_signed(kind: Kind, location: str, path: str, has_mark: Mapping[tuple[Part, str], bool]) -> bool:
    """Whether `path` is a signed file that the job wrote and nobody edited, or a temporary file of one.

    `has_mark` tells which parts of the output a job wrote (`_marked_parts`).
    """
    if not any(has_mark.get(key) and matches(key[0].signed, path.removeprefix(key[1])) for key in _parts(kind, path)):
        return False
    is_temporary = re.search(rf"{TEMPORARY}$", path) is not None
    return is_temporary or signed_text.is_unchanged(storage.join(location, path))


def check(kind: Kind, flag: str, location: str, *, overwrite: bool = False, can_overwrite: bool = True) -> Contents:
    """Check that a job may write into the output directory at `location`, and return the files in it.

    Raises ConfigError if `location` is a file, if the directory holds foreign files (not written by such a job) and is
    not an output of this kind, or if the job would take foreign files for its own. With `overwrite`, any foreign file
    is an error. `can_overwrite` only changes the message: whether the job has the flag `--overwrite`.
    """
    if storage.exists(location) and not storage.is_dir(location):
        raise ConfigError(f"{flag} {location}: must be a directory, is a file; choose another name")
    try:
        files = contents(kind, location)
    except ConfigError as error:  # names a directory that cannot be listed, without the flag
        raise ConfigError(f"{flag} {error}") from None
    is_begun = any(not is_lease(path) and not re.search(rf"{TEMPORARY}$", path) for path in files.job_files)
    verb = "to continue or to overwrite" if can_overwrite else "to replace"
    if files.foreign and not is_begun:
        raise ConfigError(
            f"{flag} {location}: must be empty or {kind.name} {verb}, holds {named(files.foreign)}; choose another "
            "directory"
        )
    if overwrite and files.foreign:
        raise ConfigError(
            f"{flag} {location}: --overwrite deletes only what this job wrote, and the directory also holds "
            f"{named(files.foreign)}; choose another directory, or move that away"
        )
    if files.in_the_way:
        raise ConfigError(
            f"{flag} {location}: holds {named(files.in_the_way)}, which this job did not write and would take for its "
            "own; choose another directory, or move that away"
        )
    return files


def check_file(kind: FileKind, flag: str, location: str) -> None:
    """Raise ConfigError if a job must not write a file at `location`, because a directory or another program's file is
    there."""
    if storage.is_dir(location):
        raise ConfigError(f"{flag} {location}: must be a file, is a directory; choose another name")
    if storage.exists(location) and not kind.is_genuine(location):
        raise ConfigError(f"{flag} {location}: exists and is not {kind.name}; choose another name")


def clear(kind: Kind, flag: str, location: str) -> None:
    """Delete the job's files from an output directory, and the directories inside it that become empty.

    The output directory itself and the job's lease (its write lock) stay. Raises ConfigError, before anything is
    deleted, if the directory holds any foreign file (not written by such a job).
    """
    files = check(kind, flag, location, overwrite=True)
    _delete(location, [path for path in files.job_files if not is_lease(path)])


def clear_part(kind: Kind, location: str, under: str) -> None:
    """Delete the job's files from the subdirectory `under` of its output. Foreign files (not written by such a job)
    stay."""
    job_files = contents(kind, location).job_files
    _delete(location, [path for path in job_files if path.startswith(f"{under.rstrip('/')}/")])


def remedy(kind: Kind, location: str) -> str:
    """Advice for the end of an error message: to choose another directory, or else `--overwrite`.

    `--overwrite` is named only if the directory holds only files that such a job wrote, because otherwise the flag
    would be refused too.
    """
    return "choose another directory" + ("" if contents(kind, location).foreign else " or --overwrite")


def would_delete(kind: Kind, location: str) -> str:
    """Text for `--dry-run` with one line per file that `--overwrite` would delete; empty if there are none."""
    job_files = [path for path in contents(kind, location).job_files if not is_lease(path)]
    return "\n".join(f"would delete {shown(storage.join(location, path))}" for path in job_files)


def begin(kind: Kind, location: str) -> None:
    """Write the file that marks a directory as an output of this kind. Must be called before any other file is written
    there."""
    storage.publish_json(storage.join(location, OUTPUT_FILE), {"kind": kind.name})


def real(location: str) -> str:
    """The location with symbolic links resolved, so that a write replaces the file and not a link that points to it."""
    location = storage.canonical(location)
    return location if storage.is_uri(location) else os.path.realpath(location)


def lies_in(location: str, directory: str) -> bool:
    """Whether `location` equals `directory` or is inside it. Symbolic links are resolved."""
    inner, outer = (real(each).split("?", 1)[0].rstrip("/") for each in (location, directory))
    return inner == outer or inner.startswith(f"{outer}/")


def probe(flag: str, location: str, *, is_file: bool = False) -> None:
    """Test that an output can be written: write a temporary file at its place and delete it. Raises ConfigError if that
    fails.

    With `is_file` the output is a single file, and the temporary file is written beside it.
    """
    name = f".vidclf-{uuid.uuid4().hex}.probe"
    try:
        if storage.is_uri(storage.canonical(location)):
            probed = storage.appended(location, name) if is_file else storage.join(location, name)
            storage.publish_bytes(probed, b"\n")
            storage.delete_file(probed)
            return
        folder = os.path.dirname(real(location)) if is_file else storage.canonical(location)
        while not os.path.lexists(folder):
            folder = os.path.dirname(folder)
        if not os.path.isdir(folder):
            raise ConfigError(f"{flag} {location}: is below {folder}, which is not a directory; choose another place")
        path = os.path.join(folder, name)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(handle, b"\n")
        finally:
            os.close(handle)
            os.remove(path)
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        raise ConfigError(f"{flag} {location}: cannot be written ({reason}); choose another place") from None


def named(paths: Iterable[str]) -> str:
    """Text for a message: the first `NUM_NAMED` paths and the number of the others."""
    first, *others = list(paths)
    more = others[NUM_NAMED - 1 :]
    text = ", ".join(shown(path) for path in (first, *others[: NUM_NAMED - 1]))
    return f"{text} and {len(more)} more" if more else text


def shown(path: str) -> str:
    """The path as text in which unprintable characters are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in path)


def _parts(kind: Kind, path: str) -> Iterator[tuple[Part, str]]:
    """Each part of an output that contains `path`, with the directory of the part (empty, or with a slash at the
    end)."""
    for part in kind.parts:
        match = re.match(part.at, path)
        if match is not None:
            yield part, match[0]


def _names_job_directory(kind: Kind, path: str) -> bool:
    """Whether `path`, a symbolic link in an output, has the name of a directory into which the job writes."""
    top = path.split("/", 1)[0]
    directories = "_checkpoint|_passes|_state|_ray_train|_ray_tune|quarantine|segments|tensorboard|trials|ensemble"
    return re.fullmatch(directories, top) is not None or any(re.fullmatch(part.at, f"{path}/") for part in kind.parts)


def _entries(location: str) -> Iterator[tuple[str, bool]]:
    """Relative paths of all files and links in a directory and below, each with True for a plain file and False for a
    link or special file.

    Raises ConfigError if a directory cannot be listed.
    """
    location = storage.canonical(location)
    if storage.is_uri(location):
        filesystem, base = storage.resolve(location)
        for info in filesystem.get_file_info(fs.FileSelector(base, recursive=True, allow_not_found=True)):
            if info.type == fs.FileType.File:
                yield info.path[len(base.rstrip("/")) + 1 :], True
        return
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(os.path.join(location, folder)) as entries:
                for entry in entries:
                    path = f"{folder}{entry.name}"
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(f"{path}/")
                    else:
                        yield path, entry.is_file(follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            continue  # also for a path below a file, which `probe` refuses later
        except OSError as error:
            raise ConfigError(f"{location}/{shown(folder)}: cannot be listed ({error.strerror})") from None


def _delete(location: str, paths: list[str]) -> None:
    """Delete the files at the relative `paths` of an output in this order, then the directories inside it that have
    become empty."""
    location = storage.canonical(location)
    if storage.is_uri(location):
        # Each deletion is a round trip, so they run in parallel. The marks come last in `paths`: they are deleted after
        # all other files, one by one, so that an interrupted deletion leaves a directory that is still marked.
        unmarked, marks = paths[:-MAX_MARKS], paths[-MAX_MARKS:]
        with ThreadPoolExecutor(storage.READ_THREADS) as pool:
            list(pool.map(lambda path: storage.delete_file(storage.join(location, path)), unmarked))
        for path in marks:
            storage.delete_file(storage.join(location, path))
        return
    for path in paths:
        os.remove(os.path.join(location, path))
    folders = {parent for path in paths for parent in _parents(path)}
    for folder in sorted(folders, key=len, reverse=True):
        with os.scandir(os.path.join(location, folder)) as entries:
            is_empty = next(entries, None) is None
        if is_empty:
            os.rmdir(os.path.join(location, folder))


def _parents(path: str) -> Iterator[str]:
    """The directories above a relative path, deepest first, without the empty path."""
    while path := posixpath.dirname(path):
        yield path
