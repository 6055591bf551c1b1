"""Uploads on their way to the disk: a private folder, random names, and a limit that holds while writing."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from contextlib import suppress
from typing import IO, Any

from flask import Request

from vidclf.schema import RejectReason
from vidclf.server.refusals import Refused

FORM_BYTES = 1024**2
"""What a request may hold beside its video: the parts' headers, and a little more."""

MAX_PARTS = 8

MAX_NAME = 120
"""Characters of a video's name that are shown."""


class PrivateFolder:
    """A new folder that nobody else on the machine may look into; its files' names tell nothing."""

    def __init__(self) -> None:
        self._path = tempfile.mkdtemp(prefix="vidclf-serve-")

    def new_path(self) -> str:
        return os.path.join(self._path, secrets.token_hex(16))

    def delete(self, path: str) -> None:
        """Delete a file that may be gone already."""
        with suppress(FileNotFoundError):
            os.remove(path)

    def names(self) -> list[str]:
        return os.listdir(self._path)

    def close(self) -> None:
        shutil.rmtree(self._path, ignore_errors=True)


class LimitedFile:
    """A new file that takes at most `max_bytes`: writing more raises Refused (too_large)."""

    def __init__(self, path: str, max_bytes: int) -> None:
        self.path = path
        self.size_bytes = 0
        self._max_bytes = max_bytes
        self._file: IO[bytes] = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")

    def write(self, content: bytes) -> int:
        self.check(len(content))
        self.size_bytes += len(content)
        return self._file.write(content)

    def check(self, num_bytes: int) -> None:
        """Raise Refused unless so many more would fit."""
        if self.size_bytes + num_bytes > self._max_bytes:
            raise Refused(RejectReason.TOO_LARGE)

    def close(self) -> None:
        self._file.close()

    # What a form's parser wants of a stream beside writing.

    def read(self, size: int = -1) -> bytes:
        raise OSError("an upload is written here and read elsewhere")

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._file.flush()
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


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
            file.close()
            self.folder.delete(file.path)
        self.arrived.clear()


def shown_name(filename: str | None) -> str:
    """The last part of a name that a client gave, without control characters; for display only."""
    last = (filename or "").replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(character for character in last if character.isprintable())[:MAX_NAME] or "video"
