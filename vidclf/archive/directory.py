"""The videos of a directory: every file below it becomes a row or a count.

In a local directory, links are followed. Each real directory is listed once, under its own path if it has one in the
archive. Its device and inode numbers identify it, so that a link to a parent directory does not lead in circles.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from pyarrow import fs

from vidclf import storage
from vidclf.archive.video_names import HIDDEN, VIDEO_EXTENSIONS, extension, matches, system_kind
from vidclf.container_signature import SIGNATURE_BYTES, looks_like_a_video, unopened_format
from vidclf.errors import ConfigError
from vidclf.number_words import counted

UNREADABLE = "directories that cannot be read"
LISTED_ELSEWHERE = "links to directories that are listed elsewhere"
DEAD_LINKS = "links that lead nowhere"
EXCLUDED = "excluded by --exclude"
NOT_INCLUDED = "not matched by --include"

_SINGULARS = {
    HIDDEN: "hidden file or directory",
    "recycle bins": "recycle bin",
    "previews of a NAS": "preview of a NAS",
    "system directories": "system directory",
    "snapshots": "snapshot",
    UNREADABLE: "directory that cannot be read",
    LISTED_ELSEWHERE: "link to a directory that is listed elsewhere",
    DEAD_LINKS: "link that leads nowhere",
    "videos without an answer": "video without an answer",
}
"""Reasons to pass over one file or directory, by the reason to pass over several. Other reasons are no nouns."""

_NUM_EXAMPLES = 3


@dataclass(frozen=True, kw_only=True)
class FileRules:
    """Rules that decide which files of a directory are videos."""

    include: tuple[str, ...] = ()
    """glob patterns; only files that match one of them are listed; empty for all files"""
    exclude: tuple[str, ...] = ()
    """glob patterns of files and directories that are passed over"""
    sniff: bool = False
    """recognise videos by their first bytes, not by their file name extensions"""
    strict: bool = False
    """refuse an archive with directories that cannot be read"""


@dataclass
class PassedOver:
    """Number of files and directories that were passed over for one reason, with the paths of the first three."""

    count: int = 0
    """number of files and directories; what is inside a directory is not counted"""
    examples: list[str] = field(default_factory=list)
    """paths of the first three, relative to the archive"""

    def __str__(self) -> str:
        more = f" and {self.count - len(self.examples)} more" if self.count > len(self.examples) else ""
        return ", ".join(map(repr, self.examples)) + more


def counted_reason(reason: str, entry: PassedOver) -> str:
    """Return how many files and directories were passed over for a reason, such as "1 recycle bin"."""
    return counted(entry.count, _SINGULARS.get(reason, reason), reason)


@dataclass
class Contents:
    """Videos of a directory, and what else is in it."""

    videos: list[tuple[str, int | None]] = field(default_factory=list)
    """path of each video relative to the directory, and its size in bytes; None if it is no readable file"""
    ignored: Counter[str] = field(default_factory=Counter)
    """number of files that are no videos, by file name extension"""
    passed_over: dict[str, PassedOver] = field(default_factory=dict)
    """files and directories that were passed over, by reason"""

    def pass_over(self, reason: str, relative: str) -> None:
        """Count a file or directory that is passed over."""
        entry = self.passed_over.setdefault(reason, PassedOver())
        entry.count += 1
        if len(entry.examples) < _NUM_EXAMPLES:
            entry.examples.append(_printable(relative))

    def ignore(self, relative: str) -> None:
        """Count a file that is no video."""
        self.ignored[_printable(extension(relative)) or "no extension"] += 1


def list_directory(location: str, filesystem: fs.FileSystem, root: str, rules: FileRules) -> Contents:
    """List the videos of the directory at `location`, which is `root` in `filesystem`.

    Raises ConfigError if the directory itself cannot be read, the name of a video is not UTF-8, or, with
    `rules.strict`, a directory in it cannot be read.
    """
    try:
        if isinstance(filesystem, fs.LocalFileSystem):
            contents = _Walk(root, rules).run()
        else:
            contents = _list_store(filesystem, root, rules)
    except OSError as error:
        raise ConfigError(
            f"--input {location}: cannot be listed ({error}); make it readable, or list the videos in a file"
        ) from None
    not_utf8 = [relative for relative, _ in contents.videos if not _is_utf8(relative)]
    if not_utf8:
        names = ", ".join(repr(os.fsencode(os.path.join(root, relative))) for relative in not_utf8[:_NUM_EXAMPLES])
        raise ConfigError(f"--input {location}: file names must be UTF-8, rename {names}")
    unreadable = contents.passed_over.get(UNREADABLE)
    if unreadable is not None and rules.strict:
        raise ConfigError(
            f"--input {location}: holds {counted(unreadable.count, _SINGULARS[UNREADABLE], UNREADABLE)}: {unreadable}; "
            "make them readable, --exclude them, or leave out --strict"
        )
    return contents


class _Walk:
    """Walk through the directories below a local directory."""

    def __init__(self, root: str, rules: FileRules) -> None:
        self._root = root
        self._rules = rules
        self._contents = Contents()
        self._directories = [""]
        """directories to visit, relative to the root"""
        self._links: list[str] = []
        """links to directories, relative to the root; visited after all directories, so that these keep their paths"""
        self._visited: set[tuple[int, int] | str] = set()

    def run(self) -> Contents:
        while self._directories or self._links:
            is_link = not self._directories
            relative = self._links.pop(0) if is_link else self._directories.pop()
            try:
                if self._is_visited(relative):
                    self._contents.pass_over(LISTED_ELSEWHERE, relative)
                    continue
                with os.scandir(os.path.join(self._root, relative)) as scan:
                    entries = sorted(scan, key=lambda entry: entry.name)
            except OSError:
                if relative == "":
                    raise
                self._contents.pass_over(UNREADABLE, relative)
                continue
            if not entries and extension(relative) in VIDEO_EXTENSIONS:
                self._contents.videos.append((relative, None))
            num_directories = len(self._directories)
            for entry in entries:
                self._visit(entry, f"{relative}/{entry.name}".removeprefix("/"))
            self._directories[num_directories:] = reversed(self._directories[num_directories:])
        return self._contents

    def _is_visited(self, relative: str) -> bool:
        path = os.path.join(self._root, relative)
        status = os.stat(path)
        # Some network file systems give every directory the inode number 0.
        identity = (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(path)
        is_visited = identity in self._visited
        self._visited.add(identity)
        return is_visited

    def _visit(self, entry: os.DirEntry[str], relative: str) -> None:
        """Count one entry of a directory, take it as a video, or remember it as a directory to visit."""
        try:
            status = os.stat(entry.path)
            is_directory, is_file = stat.S_ISDIR(status.st_mode), stat.S_ISREG(status.st_mode)
            is_dead = False
        except OSError as error:
            is_directory, is_file = entry.is_dir(follow_symlinks=False), False
            is_dead = error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR)
        reason = _reason_to_pass_over(entry.name, relative, self._rules, is_directory=is_directory)
        if reason is not None:
            self._contents.pass_over(reason, relative)
        elif is_directory:
            (self._links if entry.is_symlink() else self._directories).append(relative)
        elif is_dead and not extension(relative):
            self._contents.pass_over(DEAD_LINKS, relative)
        elif self._rules.include and not matches(relative, self._rules.include):
            self._contents.pass_over(NOT_INCLUDED, relative)
        elif self._is_video(entry, status.st_size if is_file else None):
            self._contents.videos.append((relative, status.st_size if is_file else None))
        else:
            self._contents.ignore(relative)

    def _is_video(self, entry: os.DirEntry[str], size_bytes: int | None) -> bool:
        """Return whether a file is a video. What has no bytes to read is judged by its name: it may be a lost video.

        `size_bytes` is None if `entry` is no regular file.
        """
        if self._rules.sniff and size_bytes:
            try:
                with open(entry.path, "rb") as file:
                    return _has_signature(file.read(SIGNATURE_BYTES))
            except OSError:
                pass  # its row will have the reason
        return extension(entry.name) in VIDEO_EXTENSIONS


def _list_store(filesystem: fs.FileSystem, root: str, rules: FileRules) -> Contents:
    """List the videos below `root` in an object store, which has no links."""
    contents = Contents()
    infos = list(_files_below(filesystem, root, rules, contents))

    def is_video(info: fs.FileInfo) -> bool:
        if not rules.sniff or not info.size:
            return extension(info.path) in VIDEO_EXTENSIONS
        with filesystem.open_input_stream(info.path, compression=None) as stream:
            return _has_signature(stream.read(SIGNATURE_BYTES))

    with ThreadPoolExecutor(storage.READ_THREADS) as pool:
        for info, is_taken in zip(infos, pool.map(is_video, infos), strict=True):
            relative = _relative(info.path, root)
            if is_taken:
                contents.videos.append((relative, info.size))
            else:
                contents.ignore(relative)
    return contents


def _files_below(filesystem: fs.FileSystem, root: str, rules: FileRules, contents: Contents) -> Iterator[fs.FileInfo]:
    """Yield the files below `root` in an object store that the rules do not pass over. The others are counted."""
    passed_over: set[str] = set()
    for info in sorted(filesystem.get_file_info(fs.FileSelector(root, recursive=True)), key=lambda info: info.path):
        relative = _relative(info.path, root)
        if info.type != fs.FileType.File or not relative:
            continue
        names = relative.split("/")
        for end in range(1, len(names) + 1):
            part = "/".join(names[:end])
            reason = _reason_to_pass_over(names[end - 1], part, rules, is_directory=end < len(names))
            if reason is not None:
                if part not in passed_over:
                    contents.pass_over(reason, part)
                passed_over.add(part)
                break
        else:
            if rules.include and not matches(relative, rules.include):
                contents.pass_over(NOT_INCLUDED, relative)
            else:
                yield info


def _has_signature(head: bytes) -> bool:
    """Return whether a file's first bytes are those of a video, also of a format that is not opened."""
    return looks_like_a_video(head) or unopened_format(head) is not None


def _relative(path: str, root: str) -> str:
    """Return the path of a file of an object store relative to `root`; stores differ in slashes at the ends."""
    return path.strip("/").removeprefix(root.strip("/") + "/")


def _reason_to_pass_over(name: str, relative: str, rules: FileRules, *, is_directory: bool) -> str | None:
    """Return the reason to pass over a file or directory because of its name; None if there is none."""
    reason = system_kind(name, is_directory=is_directory)
    return reason or (EXCLUDED if rules.exclude and matches(relative, rules.exclude) else None)


def _printable(text: str) -> str:
    """Return a file name as text that can be printed, also if it is not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
