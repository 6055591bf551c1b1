"""Buffers for the bodies of HTTP requests: one discards everything, one survives a full disk.

Both replace the buffers of waitress (the HTTP server library), and have their methods `append`, `__len__` and `close`.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from vidclf.server.uploads import NO_SPACE


class DiscardingBuffer:
    """Buffer for a request's body that counts the bytes and keeps none."""

    def __init__(self) -> None:
        self._num_bytes = 0

    def append(self, content: bytes) -> None:
        self._num_bytes += len(content)

    def __len__(self) -> int:
        return self._num_bytes

    def close(self) -> None:
        """Do nothing; the method is here because waitress closes every buffer."""


class SpaceGuard:
    """Buffer for a request's body that passes bytes on to `buffer`, and discards them once the disk is full.

    So the client can send its body to the end and then read the answer.
    """

    def __init__(self, buffer: Any) -> None:
        self._buffer = buffer
        self.is_full = False

    def append(self, content: bytes) -> None:
        try:
            self._buffer.append(content)
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            with suppress(OSError):  # closing tries again to write the buffered bytes
                self._buffer.close()
            self._buffer, self.is_full = DiscardingBuffer(), True

    def __len__(self) -> int:
        return len(self._buffer)

    def getfile(self) -> Any:
        return self._buffer.getfile()

    def close(self) -> None:
        self._buffer.close()
