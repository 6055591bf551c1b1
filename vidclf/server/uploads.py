"""Uploads on their way to the disk: a private folder, random names, and a limit that holds while writing."""

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
"""What a request may hold beside its video: the parts' headers, and a little more."""

MAX_PARTS = 8

MAX_NAME = 120
"""Characters of a video's name that are shown."""

PREFIX = "vidclf-serve-"

LOCK_FILE = "lock"
"""Locked as long as the process lives whose folder it is in: the kernel lets go of it, however that ends."""

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
"""What the operating system answers where the disk, or a share of it, is full."""

log = logging.getLogger("vidclf.serve")


class PrivateFolder:
    """A new folder that nobody else on the machine may look into; its files' names tell nothing.

    Whoever makes one sweeps those of servers first that ended without closing theirs.
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
        return os.path.join(self._path, secrets.token_hex(16))

    def delete(self, path: str) -> None:
        """Delete a file that may be gone already."""
        with suppress(FileNotFoundError):
            os.remove(path)

    def names(self) -> list[str]:
        return [name for name in os.listdir(self._path) if name != LOCK_FILE]

    def close(self) -> None:
        shutil.rmtree(self._path, ignore_errors=True)
        os.close(self._lock)


def sweep_orphans() -> None:
    """Delete the folders of this user's servers that are no more.

    A folder of a living server is locked. One without a lock file is another version's, or just being made: it is
    left alone.
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
            log.warning("deleting %s, which a server that has ended left", path)
            shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(lock)


def _is_own_folder(path: str) -> bool:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def _locked(folder: str) -> int:
    """The descriptor of a new lock file, locked before it has the name by which others look for it."""
    new, path = os.path.join(folder, f"{LOCK_FILE}.new"), os.path.join(folder, LOCK_FILE)
    lock = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.rename(new, path)
    return lock


class LimitedFile:
    """A new file that takes at most `max_bytes`: writing more raises Refused (too_large), as do a full disk
    (insufficient_storage) and `is_wanted` once it is False (cancelled)."""

    def __init__(self, path: str, max_bytes: int, is_wanted: Callable[[], bool] = lambda: True) -> None:
        self.path = path
        self.size_bytes = 0
        self._max_bytes = max_bytes
        self._is_wanted = is_wanted
        self._file: IO[bytes] = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")

    def write(self, content: bytes) -> int:
        self.check(len(content))
        if not self._is_wanted():
            raise Refused(Problem.CANCELLED)
        self.size_bytes += len(content)
        with _full_disk_refused():
            return self._file.write(content)

    def check(self, num_bytes: int) -> None:
        """Raise Refused unless so many more would fit."""
        if self.size_bytes + num_bytes > self._max_bytes:
            raise Refused(RejectReason.TOO_LARGE)

    def close(self) -> None:
        with _full_disk_refused():
            self._file.close()

    def abandon(self) -> None:
        """Close it without regard to what could not be written."""
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
    """A request whose files go to a private folder as they are read. Whoever takes one takes it out of
    `arrived`; what is left there is deleted with the request."""

    folder: PrivateFolder
    """set by the subclass that a server makes"""
    max_bytes: int

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
        """Close and delete what has not been taken."""
        for file in self.arrived:
            file.abandon()
            self.folder.delete(file.path)
        self.arrived.clear()


def shown_name(filename: str | None) -> str:
    """The last part of a name that a client gave, without control characters; for display only."""
    last = (filename or "").replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(character for character in last if character.isprintable())[:MAX_NAME] or "video"
