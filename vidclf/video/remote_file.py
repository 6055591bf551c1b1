"""A remote video as a file that FFmpeg can read: ranged requests, a few blocks in memory.

`s3://`, `gs://` and the other stores of pyarrow are read through it, `http(s)://` through fsspec. A
server that cannot send ranges costs one download into a temporary file. What fails is tried again for a
while (`retry.py`) before it counts.
"""

from __future__ import annotations

import bisect
import io
import itertools
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import IO, Any

import aiohttp
import fsspec
from pyarrow import fs

from vidclf import storage
from vidclf.errors import ConfigError
from vidclf.schema import RejectReason
from vidclf.video.rejection import VideoRejected
from vidclf.video.retry import with_retries

BLOCK_BYTES = 1024**2
"""Bytes of a request: a few seconds of video, so that neither waiting for the first byte nor bytes
beside the wanted ones are most of the cost."""

CACHED_BLOCKS = 8
"""Blocks in memory: containers jump between a few places (index, audio, video)."""

JOINED_GAP_BYTES = 64 * 1024
"""Unneeded bytes, such as sound between two pictures, that are fetched rather than jumped over."""

ByteRanges = list[tuple[int, int]]
"""Half-open, sorted, disjoint."""


class RangedFile(io.RawIOBase):
    """Bytes 0 to `size_bytes` of something remote, read in blocks as they are asked for.

    `fetch(start, stop)` returns the bytes of a half-open range. Where `only` is set, bytes outside
    of its ranges are not fetched: zeros stand for them. That is for containers whose header says
    where everything is (see `decode.py`), of which most is skipped anyway.
    """

    def __init__(self, fetch: Callable[[int, int], bytes], size_bytes: int, modified: datetime | None = None) -> None:
        self.only: ByteRanges | None = None
        self.size_bytes = size_bytes
        self.modified = modified
        self.bytes_fetched = 0
        self._fetch = fetch
        self._position = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size_bytes}[whence]
        if base + offset < 0:
            raise OSError(f"seek to {base + offset}")
        self._position = base + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        end = self.size_bytes if size < 0 else min(self._position + size, self.size_bytes)
        content = self._range(self._position, end) if end > self._position else b""
        self._position += len(content)
        return content

    def readinto(self, buffer: Any) -> int:
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def _range(self, start: int, stop: int) -> bytes:
        if self.only is None:
            return self._fetched(start, stop)
        content = bytearray(stop - start)
        at = bisect.bisect_right(self.only, start, key=lambda span: span[1])
        for first, last in itertools.takewhile(lambda span: span[0] < stop, self.only[at:]):
            first, last = max(first, start), min(last, stop)
            content[first - start : last - start] = self._fetched(first, last)
        return bytes(content)

    def _fetched(self, start: int, stop: int) -> bytes:
        first, last = start // BLOCK_BYTES, (stop - 1) // BLOCK_BYTES
        content = b"".join(self._block(number) for number in range(first, last + 1))
        return content[start - first * BLOCK_BYTES : stop - first * BLOCK_BYTES]

    def read_range(self, start: int, stop: int) -> bytes:
        """Just the bytes of a half-open range, which leaves the blocks in memory as they are."""
        return self._whole(start, stop)

    def _block(self, number: int) -> bytes:
        if number in self._blocks:
            self._blocks.move_to_end(number)
            return self._blocks[number]
        start = number * BLOCK_BYTES
        block = self._whole(start, min(start + BLOCK_BYTES, self.size_bytes))
        self._blocks[number] = block
        if len(self._blocks) > CACHED_BLOCKS:
            self._blocks.popitem(last=False)
        return block

    def _whole(self, start: int, stop: int) -> bytes:
        content = with_retries(lambda: self._fetch_all(start, stop))
        self.bytes_fetched += len(content)
        return content

    def _fetch_all(self, start: int, stop: int) -> bytes:
        content = self._fetch(start, stop)
        if len(content) != stop - start:
            raise OSError(f"asked for bytes {start} to {stop}, got {len(content)} of them")
        return content


def joined(spans: ByteRanges) -> ByteRanges:
    """Spans of packets in any order as ranges to fetch: what lies close together is one range."""
    ranges: ByteRanges = []
    for start, stop in sorted(spans):
        if ranges and start <= ranges[-1][1] + JOINED_GAP_BYTES:
            ranges[-1] = (ranges[-1][0], max(stop, ranges[-1][1]))
        else:
            ranges.append((start, stop))
    return ranges


@contextmanager
def open_ranged(uri: str, max_bytes: int) -> Iterator[RangedFile]:
    """The video at a URI that is not local.

    Raises VideoRejected (not_found, permission_denied, empty_file, too_large, read_error).
    """
    if storage.is_http(uri):
        server, size_bytes, ranged = with_retries(lambda: _open_http(uri, max_bytes))
        if ranged is not None:
            with ranged:
                yield RangedFile(lambda start, stop: _read_at(ranged, start, stop), size_bytes)
            return
        with tempfile.TemporaryFile(prefix="vidclf-") as spool:
            size_bytes = with_retries(lambda: _download(server, uri, spool, max_bytes))
            yield RangedFile(lambda start, stop: _read_at(spool, start, stop), size_bytes)
    else:
        stream, entry = with_retries(lambda: _open_store(uri, max_bytes))
        with stream:
            yield RangedFile(lambda start, stop: bytes(stream.read_at(stop - start, start)), entry.size, entry.mtime)


def _open_http(uri: str, max_bytes: int) -> tuple[Any, int, Any | None]:
    """The server, the size that it says, and the file if it sends ranges of it."""
    with _as_rejections():
        server = fsspec.filesystem("http", skip_instance_cache=True)
        info = server.info(uri)
        if info["size"] is not None:
            check_size(info["size"], max_bytes)
        return server, info["size"], _ranged(server, uri, info)


def _open_store(uri: str, max_bytes: int) -> tuple[Any, fs.FileInfo]:
    """The object and what its store says of it."""
    with _as_rejections():
        filesystem, path = storage.resolve(uri)
        entry = filesystem.get_file_info(path)
        check_is_file(entry)
        check_size(entry.size, max_bytes)
        return filesystem.open_input_file(path), entry


def check_is_file(entry: fs.FileInfo) -> None:
    if entry.type == fs.FileType.NotFound:
        raise VideoRejected(RejectReason.NOT_FOUND, "no such file")
    if entry.type != fs.FileType.File:
        raise VideoRejected(RejectReason.NOT_A_VIDEO, "not a regular file")


def check_size(size_bytes: int, max_bytes: int) -> None:
    if size_bytes == 0:
        raise VideoRejected(RejectReason.EMPTY_FILE, "0 bytes")
    if size_bytes > max_bytes:
        raise VideoRejected(RejectReason.TOO_LARGE, f"{size_bytes} bytes, the limit is {max_bytes}")


@contextmanager
def _as_rejections() -> Iterator[None]:
    """Failures before the first byte of a video, by their reason."""
    try:
        yield
    except VideoRejected:
        raise
    except FileNotFoundError as error:
        # fsspec says this of every failure; what the server answered is the cause.
        status = getattr(error.__cause__, "status", 404)
        if status in (401, 403):
            raise VideoRejected(RejectReason.PERMISSION_DENIED, f"HTTP status {status}") from error
        if status in (404, 410) and (error.__cause__ is None or hasattr(error.__cause__, "status")):
            raise VideoRejected(RejectReason.NOT_FOUND, f"HTTP status {status}") from error
        raise VideoRejected(RejectReason.READ_ERROR, str(error.__cause__)) from error
    except PermissionError as error:
        raise VideoRejected(RejectReason.PERMISSION_DENIED, str(error)) from error
    except (OSError, ConfigError, aiohttp.ClientError) as error:
        if "ACCESS_DENIED" in str(error):  # pyarrow's words for what an object store answers
            raise VideoRejected(RejectReason.PERMISSION_DENIED, str(error)) from error
        raise VideoRejected(RejectReason.READ_ERROR, f"{type(error).__name__}: {error}") from error


def _ranged(server: Any, uri: str, info: dict[str, Any]) -> Any | None:
    """The file of an HTTP server that sends ranges, and None of one that does not: few of them say so
    beforehand, so a byte is asked for."""
    if info["size"] is None or info.get("partial") is False:
        return None
    file = server.open(uri, "rb", size=info["size"], cache_type="none")
    try:
        file.read(1)
    except ValueError:  # fsspec's answer to more bytes than it asked for
        file.close()
        return None
    return file


def _download(server: Any, uri: str, spool: IO[bytes], max_bytes: int) -> int:
    """Fetch the whole file; its size."""
    spool.seek(0)
    spool.truncate()
    size_bytes = 0
    with _as_rejections(), server.open(uri, "rb", block_size=0) as stream:
        while chunk := stream.read(BLOCK_BYTES):
            size_bytes += len(chunk)
            check_size(size_bytes, max_bytes)
            spool.write(chunk)
    check_size(size_bytes, max_bytes)
    return size_bytes


def _read_at(file: IO[bytes], start: int, stop: int) -> bytes:
    try:
        file.seek(start)
        return file.read(stop - start)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise OSError(f"bytes {start} to {stop}: {error}") from error
