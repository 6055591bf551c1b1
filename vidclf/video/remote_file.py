"""Remote videos as files that FFmpeg can read: ranged requests, with a few blocks in memory.

`s3://`, `gs://` and the other stores of pyarrow are read through pyarrow, `http(s)://` through fsspec.
From a server that cannot send ranges, the video is downloaded into a temporary file. Failed reads are
retried for a while (`retry.py`) before the video is rejected.
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

import fsspec
from pyarrow import fs

from vidclf import storage
from vidclf.errors import ConfigError
from vidclf.schema import RejectReason
from vidclf.video.rejection import VideoRejected
from vidclf.video.retry import http_errors, with_retries

BLOCK_BYTES = 1024**2
"""Bytes per request to remote storage: a few seconds of video.

With this size, neither the wait for the first byte nor the unneeded bytes around the wanted ones make up most of the
cost.
"""

CACHED_BLOCKS = 8
"""Number of blocks kept in memory, because reading a video file jumps between a few places (index, audio, video)."""

MERGE_GAP_BYTES = 64 * 1024
"""Largest gap of unneeded bytes between two wanted ranges that is downloaded too, to save a request.

Such a gap is, for example, the sound between two pictures.
"""

ByteRanges = list[tuple[int, int]]
"""Ranges of bytes (start, stop) that exclude `stop`, sorted and without overlap."""


class RangedFile(io.RawIOBase):
    """Read-only file whose bytes are in remote storage and are downloaded in blocks when they are read.

    `fetch(start, stop)` must return the bytes from `start` up to but not including `stop`. `bytes_fetched` counts the
    downloaded bytes. `modified` is the modification time, None if the storage reports none.
    """

    def __init__(self, fetch: Callable[[int, int], bytes], size_bytes: int, modified: datetime | None = None) -> None:
        self.size_bytes = size_bytes
        self.modified = modified
        self.bytes_fetched = 0
        self._fetch = fetch
        self._fetched_ranges: ByteRanges | None = None
        """ranges of bytes that are downloaded; all other bytes are read as zeros; None if any byte may be downloaded"""
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
        content = self._read(self._position, end) if end > self._position else b""
        self._position += len(content)
        return content

    def readinto(self, buffer: Any) -> int:
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    @contextmanager
    def fetching_only(self, ranges: ByteRanges) -> Iterator[None]:
        """Context in which bytes outside `ranges` are read as zeros instead of being downloaded.

        It serves files whose header gives the position of every packet: most packets are skipped anyway.
        """
        self._fetched_ranges = ranges
        try:
            yield
        finally:
            self._fetched_ranges = None

    def read_range(self, start: int, stop: int) -> bytes:
        """Download exactly the bytes from `start` up to but not including `stop`, bypassing the cached blocks."""
        return self._fetch_with_retries(start, stop)

    def _read(self, start: int, stop: int) -> bytes:
        if self._fetched_ranges is None:
            return self._read_blocks(start, stop)
        content = bytearray(stop - start)
        next_range = bisect.bisect_right(self._fetched_ranges, start, key=lambda span: span[1])
        for first, last in itertools.takewhile(lambda span: span[0] < stop, self._fetched_ranges[next_range:]):
            first, last = max(first, start), min(last, stop)
            content[first - start : last - start] = self._read_blocks(first, last)
        return bytes(content)

    def _read_blocks(self, start: int, stop: int) -> bytes:
        first, last = start // BLOCK_BYTES, (stop - 1) // BLOCK_BYTES
        content = b"".join(self._block(number) for number in range(first, last + 1))
        return content[start - first * BLOCK_BYTES : stop - first * BLOCK_BYTES]

    def _block(self, number: int) -> bytes:
        if number in self._blocks:
            self._blocks.move_to_end(number)
            return self._blocks[number]
        start = number * BLOCK_BYTES
        block = self._fetch_with_retries(start, min(start + BLOCK_BYTES, self.size_bytes))
        self._blocks[number] = block
        if len(self._blocks) > CACHED_BLOCKS:
            self._blocks.popitem(last=False)
        return block

    def _fetch_with_retries(self, start: int, stop: int) -> bytes:
        content = with_retries(lambda: self._fetch_checked(start, stop))
        self.bytes_fetched += len(content)
        return content

    def _fetch_checked(self, start: int, stop: int) -> bytes:
        content = self._fetch(start, stop)
        if len(content) != stop - start:
            raise OSError(f"requested bytes {start} to {stop}, got {len(content)} of them")
        return content


def merged_ranges(spans: list[tuple[int, int]]) -> ByteRanges:
    """Return the byte ranges to download for the wanted `spans`: sorted, and joined where they are close together.

    `spans` are pairs (start, stop) in any order; the byte at `stop` is excluded.
    """
    ranges: ByteRanges = []
    for start, stop in sorted(spans):
        if ranges and start <= ranges[-1][1] + MERGE_GAP_BYTES:
            ranges[-1] = (ranges[-1][0], max(stop, ranges[-1][1]))
        else:
            ranges.append((start, stop))
    return ranges


@contextmanager
def open_ranged(uri: str, max_bytes: int) -> Iterator[RangedFile]:
    """Open the video at a URI that is not local, as a file that downloads its bytes when they are read.

    Raises VideoRejected with not_found, permission_denied, not_a_video, empty_file, too_large or read_error.
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
    """Connect to a web server for the video at `uri`.

    Returns the server's file system object, the file size that it reports, and the open file; the file is None if the
    server does not send parts of files.
    """
    with _as_rejections():
        server = fsspec.filesystem("http", skip_instance_cache=True)
        info = server.info(uri)
        if info["size"] is not None:
            check_size(info["size"], max_bytes)
        return server, info["size"], _open_if_ranged(server, uri, info)


def _open_store(uri: str, max_bytes: int) -> tuple[Any, fs.FileInfo]:
    """Open a video in an object store; returns the open object and the store's entry for it (size, time)."""
    with _as_rejections():
        filesystem, path = storage.resolve(uri)
        entry = filesystem.get_file_info(path)
        check_is_file(entry)
        check_size(entry.size, max_bytes)
        return filesystem.open_input_file(path), entry


def check_is_file(entry: fs.FileInfo) -> None:
    """Raise VideoRejected (not_found, not_a_video) if `entry` is missing or is not a regular file."""
    if entry.type == fs.FileType.NotFound:
        raise VideoRejected(RejectReason.NOT_FOUND, "no such file")
    if entry.type != fs.FileType.File:
        raise VideoRejected(RejectReason.NOT_A_VIDEO, "not a regular file")


def check_size(size_bytes: int, max_bytes: int) -> None:
    """Raise VideoRejected (empty_file, too_large) if a file is empty or larger than `max_bytes`."""
    if size_bytes == 0:
        raise VideoRejected(RejectReason.EMPTY_FILE, "0 bytes")
    if size_bytes > max_bytes:
        raise VideoRejected(RejectReason.TOO_LARGE, f"{size_bytes} bytes, the limit is {max_bytes}")


@contextmanager
def _as_rejections() -> Iterator[None]:
    """Context in which an error of opening or downloading a video becomes VideoRejected with a reason."""
    try:
        yield
    except VideoRejected:
        raise
    except FileNotFoundError as error:
        # fsspec raises FileNotFoundError for every failure; the server's response is its cause.
        status = getattr(error.__cause__, "status", 404)
        if status in (401, 403):
            raise VideoRejected(RejectReason.PERMISSION_DENIED, f"HTTP status {status}") from error
        if status in (404, 410) and (error.__cause__ is None or hasattr(error.__cause__, "status")):
            raise VideoRejected(RejectReason.NOT_FOUND, f"HTTP status {status}") from error
        raise VideoRejected(RejectReason.READ_ERROR, str(error.__cause__)) from error
    except PermissionError as error:
        raise VideoRejected(RejectReason.PERMISSION_DENIED, str(error)) from error
    except http_errors(OSError, ConfigError) as error:
        if "ACCESS_DENIED" in str(error):  # pyarrow's text for the response of an object store
            raise VideoRejected(RejectReason.PERMISSION_DENIED, str(error)) from error
        raise VideoRejected(RejectReason.READ_ERROR, f"{type(error).__name__}: {error}") from error


def _open_if_ranged(server: Any, uri: str, info: dict[str, Any]) -> Any | None:
    """Open a file on an HTTP server that sends parts of files; returns None if the server sends only whole files.

    Few servers announce that they send parts, so one byte is requested as a trial.
    """
    if info["size"] is None or info.get("partial") is False:
        return None
    file = server.open(uri, "rb", size=info["size"], cache_type="none")
    try:
        file.read(1)
    except ValueError:  # raised by fsspec if more bytes arrive than it requested
        file.close()
        return None
    return file


def _download(server: Any, uri: str, spool: IO[bytes], max_bytes: int) -> int:
    """Download the whole file at `uri` into the temporary file `spool`, and return its size in bytes."""
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
    except http_errors(TimeoutError) as error:
        raise OSError(f"bytes {start} to {stop}: {error}") from error
