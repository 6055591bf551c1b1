"""Storage of uploads: a private folder with random file names, and a size limit that is checked while writing."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

from flask import Request

from vidclf.private_folder import PrivateFolder
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

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers of the operating system for a full disk or an exceeded quota."""


class UploadFolder(PrivateFolder):
    """Private folder for uploads, with random file names.

    Raises ConfigError if the temporary directory is not writable.
    """

    def __init__(self) -> None:
        super().__init__(PREFIX, purpose="uploads")

    def new_path(self) -> str:
        """Unused path in the folder, with a random file name."""
        return os.path.join(self.path, secrets.token_hex(16))

    def delete(self, path: str) -> None:
        """Delete the file at `path`; do nothing if it does not exist."""
        with suppress(FileNotFoundError):
            os.remove(path)


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

    folder: UploadFolder
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
