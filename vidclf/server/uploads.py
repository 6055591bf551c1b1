"""Storage of uploads: a private folder with random file names, and a size limit that is checked while writing."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

from flask import Request

from vidclf.errors import ConfigError
from vidclf.schema import RejectReason
from vidclf.server.refusals import Problem, Refused

FORM_BYTES = 1024**2
"""Bytes that a request may contain besides its video, mainly headers of the form's parts."""

MAX_PARTS = 8
"""Largest number of parts of an HTTP form."""

MAX_NAME = 120
"""Largest number of characters of a video's name that are displayed."""

PREFIX = "vidclf-serve-"
"""Beginning of the names of private folders."""

LOCK_FILE = "lock"
"""Name of the file in its folder that a server keeps locked while it runs.

The kernel releases the lock however the process ends.
"""

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers of the operating system for a full disk or an exceeded quota."""

log = logging.getLogger("vidclf.serve")


class PrivateFolder:
    """New folder for uploads that no other user may read. Its file names are random.

    Making one first deletes the folders of servers that ended without closing theirs. Raises ConfigError if the
    temporary directory is not writable.
    """

    def __init__(self) -> None:
        try:
            sweep_orphans()
            self._path = tempfile.mkdtemp(prefix=PREFIX)
            self._lock = _locked(self._path)
        except OSError as error:
            raise ConfigError(
                f"the directory for uploads must be writable, {tempfile.gettempdir()!r} is not ({error.strerror}); "
                "TMPDIR names another one"
            ) from error

    def new_path(self) -> str:
        """Unused path in the folder, with a random file name."""
        return os.path.join(self._path, secrets.token_hex(16))

    def delete(self, path: str) -> None:
        """Delete the file at `path`; do nothing if it does not exist."""
        with suppress(FileNotFoundError):
            os.remove(path)

    def names(self) -> list[str]:
        """File names of the videos in the folder."""
        return [name for name in os.listdir(self._path) if name != LOCK_FILE]

    def close(self) -> None:
        """Delete the folder and release its lock."""
        shutil.rmtree(self._path, ignore_errors=True)
        os.close(self._lock)


def sweep_orphans() -> None:
    """Delete the private folders of this user's servers that no longer run.

    The folder of a running server is locked and stays. A folder without a lock file stays too: it belongs to another
    version or is being made.
    """
    parent = tempfile.gettempdir()
    for name in os.listdir(parent):
        path = os.path.join(parent, name)
        if not name.startswith(PREFIX) or not _is_own_folder(path):
            continue
        try:
            lock = os.open(os.path.join(path, LOCK_FILE), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            log.warning("deleting %s, the folder of a server that has ended", path)
            shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(lock)


def _is_own_folder(path: str) -> bool:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def _locked(folder: str) -> int:
    """Make the lock file of a private folder, lock it, and return its file descriptor.

    The file is locked before it gets the name that other servers look for.
    """
    new, path = os.path.join(folder, f"{LOCK_FILE}.new"), os.path.join(folder, LOCK_FILE)
    lock = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.rename(new, path)
    return lock


class LimitedFile:
    """New file for a video, with at most `max_bytes`.

    Writing raises Refused: too_large beyond the limit, insufficient_storage on a full disk, and cancelled once
    `is_wanted` returns False.
    """

    def __init__(self, path: str, max_bytes: int, is_wanted: Callable[[], bool] = lambda: True) -> None:
        self.path = path
        self.size_bytes = 0
        self._max_bytes = max_bytes
        self._is_wanted = is_wanted
        with _full_disk_refused():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file: IO[bytes] = os.fdopen(descriptor, "wb")

    def write(self, content: bytes) -> int:
        self.check(len(content))
        if not self._is_wanted():
            raise Refused(Problem.CANCELLED)
        self.size_bytes += len(content)
        with _full_disk_refused():
            return self._file.write(content)

    def check(self, num_bytes: int) -> None:
        """Raise Refused (too_large) if `num_bytes` more bytes would exceed the limit."""
        if self.size_bytes + num_bytes > self._max_bytes:
            raise Refused(RejectReason.TOO_LARGE)

    def close(self) -> None:
        with _full_disk_refused():
            self._file.close()

    def abandon(self) -> None:
        """Close the file and ignore errors of writing, because its content is no longer needed."""
        with suppress(OSError):
            self._file.close()

    # What a form's parser wants of a stream beside writing.

    def read(self, size: int = -1) -> bytes:
        raise OSError("an upload is written here and read elsewhere")

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with _full_disk_refused():
            self._file.flush()
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


@contextmanager
def _full_disk_refused() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        raise Refused(Problem.INSUFFICIENT_STORAGE) from error


class UploadRequest(Request):
    """HTTP request whose uploaded files are written to a private folder while they are read.

    `arrived` lists these files. They are deleted at the end of the request, except those that were removed from the
    list.
    """

    folder: PrivateFolder
    """set by a subclass for each server"""
    max_bytes: int
    """largest size of an uploaded file"""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.arrived: list[LimitedFile] = []

    def _get_file_stream(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None = None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        file = LimitedFile(self.folder.new_path(), self.max_bytes)
        self.arrived.append(file)
        return file  # type: ignore[return-value]

    def discard_uploads(self) -> None:
        """Close and delete the files that are still in `arrived`."""
        for file in self.arrived:
            file.abandon()
            self.folder.delete(file.path)
        self.arrived.clear()


def shown_name(filename: str | None) -> str:
    """Name of a video for display: the last part of the client's file name, without control characters."""
    last = (filename or "").replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(character for character in last if character.isprintable())[:MAX_NAME] or "video"
