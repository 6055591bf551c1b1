"""Outputs: what a job may write into, and what `--overwrite` deletes.

A job deletes and replaces only files that are in the closed list of its kind (`vidclf/owned.py`), in a directory that
carries the kind's mark. Everything else is foreign: it is named in a refusal and never touched. Symbolic links are
always foreign, since no job makes any; an output that is itself a link to a directory is that directory.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from pyarrow import fs

from vidclf import storage
from vidclf.errors import ConfigError
from vidclf.runs.output_files import OUTPUT_FILE, TEMPORARY, FileKind, Kind, Part, is_lease, matches

NUM_NAMED = 3
"""Foreign files that a refusal names; it counts the others."""

MAX_MARKS = 16
"""At least as many marks as an output has, counting those of its parts."""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The files in an output, as paths in it, sorted."""

    own: list[str] = field(default_factory=list)
    """of the job, the marks last"""
    foreign: list[str] = field(default_factory=list)
    in_the_way: list[str] = field(default_factory=list)
    """those foreign ones that the job would read or replace as its own"""


def contents(kind: Kind, location: str) -> Contents:
    """What is in a directory; nothing where there is none. ConfigError where it cannot be listed."""
    entries = dict(_entries(location))
    marked = {}
    for path, is_file in entries.items():
        for part, at in _parts(kind, path):
            key = (part, at)
            if is_file and key not in marked:
                marked[key] = any(
                    entries.get(at + mark.name) and mark.is_ours(storage.join(location, at + mark.name))
                    for mark in part.marks
                )
    is_any = any(marked.values())
    own, foreign, in_the_way = [], [], []
    for path, is_file in sorted(entries.items()):
        named = [key for key in _parts(kind, path) if matches(key[0].files, path.removeprefix(key[1]))]
        is_left_over = bool(named) and re.search(rf"{TEMPORARY}$", path) is not None
        is_shared = is_any and matches(kind.shared, path)
        if is_file and (is_lease(path) or is_left_over or is_shared or any(marked.get(key) for key in named)):
            own.append(path)
            continue
        foreign.append(path)
        would_be_taken = bool(named) or bool(kind.reads and re.fullmatch(kind.reads, path))
        if is_any and (would_be_taken or (not is_file and _is_folder(kind, path))):
            in_the_way.append(path)
    marks = {mark.name for part in kind.parts for mark in part.marks}
    own.sort(key=lambda path: (path.rsplit("/", 1)[-1] in marks, path))
    return Contents(own=own, foreign=foreign, in_the_way=in_the_way)


def check(kind: Kind, flag: str, location: str, *, overwrite: bool = False, can_overwrite: bool = True) -> Contents:
    """What is in an output; ConfigError where the job must not write there, or not delete what `overwrite` would."""
    if storage.exists(location) and not storage.is_dir(location):
        raise ConfigError(f"{flag} {location}: must be a directory, is a file; choose another name")
    found = contents(kind, location)
    is_begun = any(not is_lease(path) and not re.search(rf"{TEMPORARY}$", path) for path in found.own)
    verb = "to continue or to overwrite" if can_overwrite else "to replace"
    if found.foreign and not is_begun:
        raise ConfigError(
            f"{flag} {location}: must be empty or {kind.name} {verb}, holds {named(found.foreign)}; choose another "
            "directory"
        )
    if overwrite and found.foreign:
        raise ConfigError(
            f"{flag} {location}: --overwrite deletes only what this job wrote, and the directory also holds "
            f"{named(found.foreign)}; choose another directory, or move that away"
        )
    if found.in_the_way:
        raise ConfigError(
            f"{flag} {location}: holds {named(found.in_the_way)}, which this job did not write and would take for its "
            "own; choose another directory, or move that away"
        )
    return found


def check_file(kind: FileKind, flag: str, location: str) -> None:
    """ConfigError where a job must not replace the file at `location`, whatever the flags."""
    if storage.is_dir(location):
        raise ConfigError(f"{flag} {location}: must be a file, is a directory; choose another name")
    if storage.exists(location) and not kind.is_ours(location):
        raise ConfigError(f"{flag} {location}: is there and is not {kind.name}; choose another name")


def clear(kind: Kind, flag: str, location: str) -> None:
    """Delete what the job wrote into an output, and the directories that this leaves empty in it.

    The output itself stays, and so does the job's lease. Raises ConfigError, before anything is deleted, where it holds
    anything else.
    """
    found = check(kind, flag, location, overwrite=True)
    _delete(location, [path for path in found.own if not is_lease(path)])


def clear_part(kind: Kind, location: str, under: str) -> None:
    """Delete what the job wrote into the directory `under` of its output. Foreign files stay."""
    own = [path for path in contents(kind, location).own if path.startswith(f"{under.rstrip('/')}/")]
    _delete(location, own)


def remedy(kind: Kind, location: str) -> str:
    """What a refusal advises: `--overwrite` only where it would be let through."""
    return "choose another directory" + ("" if contents(kind, location).foreign else " or --overwrite")


def would_delete(kind: Kind, location: str) -> str:
    """The files that `--overwrite` would delete, a line each, for `--dry-run`; empty where there are none."""
    own = [path for path in contents(kind, location).own if not is_lease(path)]
    return "\n".join(f"would delete {shown(storage.join(location, path))}" for path in own)


def begin(kind: Kind, location: str) -> None:
    """Mark a directory as an output of this kind, before any of its other files is written."""
    storage.publish_json(storage.join(location, OUTPUT_FILE), {"kind": kind.name})


def real(location: str) -> str:
    """Where a file is that `location` may be a symbolic link to, so that it is replaced and not the link."""
    location = storage.canonical(location)
    return location if storage.is_uri(location) else os.path.realpath(location)


def lies_in(location: str, directory: str) -> bool:
    """Whether a location is a directory or is in it, symbolic links followed."""
    inner, outer = (real(each).split("?", 1)[0].rstrip("/") for each in (location, directory))
    return inner == outer or inner.startswith(f"{outer}/")


def probe(flag: str, location: str, *, is_file: bool = False) -> None:
    """ConfigError unless a file can be written where an output is to be: one is, and deleted again.

    `is_file` says that the output is a file, which is written to the directory that it is in.
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
            raise ConfigError(f"{flag} {location}: lies below {folder}, which is no directory; choose another place")
        path = os.path.join(folder, name)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(handle, b"\n")
        finally:
            os.close(handle)
            os.remove(path)
    except OSError as error:
        told = error.strerror or " ".join(str(error).split())
        raise ConfigError(f"{flag} {location}: cannot be written ({told}); choose another place") from None


def named(paths: Iterable[str]) -> str:
    """The first few paths, and how many more there are."""
    first, *others = list(paths)
    more = others[NUM_NAMED - 1 :]
    text = ", ".join(shown(path) for path in (first, *others[: NUM_NAMED - 1]))
    return f"{text} and {len(more)} more" if more else text


def shown(path: str) -> str:
    """A path that can be printed, whatever bytes its name has."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in path)


def _parts(kind: Kind, path: str) -> Iterator[tuple[Part, str]]:
    """The parts of an output that a path lies in, and their directories."""
    for part in kind.parts:
        found = re.match(part.at, path)
        if found is not None:
            yield part, found[0]


def _is_folder(kind: Kind, path: str) -> bool:
    """Whether a link has the name of a directory that the job writes into."""
    top = path.split("/", 1)[0]
    folders = "_checkpoint|_passes|_state|_ray_train|_ray_tune|quarantine|segments|tensorboard|trials|ensemble"
    return re.fullmatch(folders, top) is not None or any(re.fullmatch(part.at, f"{path}/") for part in kind.parts)


def _entries(location: str) -> Iterator[tuple[str, bool]]:
    """Paths in a directory of all that is no directory, and whether each is a plain file (links are none)."""
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
            continue  # below a file there is nothing either; `probe` refuses that
        except OSError as error:
            raise ConfigError(f"{location}/{shown(folder)}: cannot be listed ({error.strerror})") from None


def _delete(location: str, paths: list[str]) -> None:
    """Delete files of an output in this order, then the directories that are empty without them."""
    location = storage.canonical(location)
    if storage.is_uri(location):
        # Each is a round trip. The marks, few and at the end, go when all others are gone.
        most, last = paths[:-MAX_MARKS], paths[-MAX_MARKS:]
        with ThreadPoolExecutor(storage.READ_THREADS) as pool:
            list(pool.map(lambda path: storage.delete_file(storage.join(location, path)), most))
        for path in last:
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
    while "/" in path:
        path = path.rsplit("/", 1)[0]
        yield path
