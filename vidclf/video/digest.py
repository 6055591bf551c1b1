"""Which bytes a video is: so that a file changed under the same name and exact duplicates are noticed.

XXH3 (128 bit, xxhash.com) at memory speed: it tells contents apart, it does not defend against
somebody who makes two that collide.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import xxhash

from vidclf.video.remote_file import BLOCK_BYTES, RangedFile
from vidclf.video.source import Source

SAMPLED_BLOCKS = 4

SAMPLED_BLOCK_BYTES = 64 * 1024
"""Of a remote file of more than a block only this much is hashed, evenly spread from the first to the
last byte: hashing all of it would fetch what ranged reads are there to leave out."""


@dataclass(frozen=True, kw_only=True)
class FileFingerprint:
    """A file as it was when it was decoded."""

    size_bytes: int
    modified: datetime | None
    """None where the storage does not tell"""
    digest: str
    """`xxh3:` of all bytes, or `xxh3-sampled:` of the size and some blocks of a remote file"""


def identify(source: Source) -> FileFingerprint:
    """The content of a located video. Raises OSError where it cannot be read."""
    size_bytes, modified = _entry(source)
    return FileFingerprint(size_bytes=size_bytes, modified=modified, digest=_digest(source))


def is_same(source: Source, before: FileFingerprint) -> bool:
    """Whether a located video still is what it was. Its bytes are read only where its size is the same
    and its time of modification is not, or is unknown."""
    size_bytes, modified = _entry(source)
    if size_bytes != before.size_bytes:
        return False
    return (modified is not None and modified == before.modified) or _digest(source) == before.digest


def _entry(source: Source) -> tuple[int, datetime | None]:
    if not isinstance(source, str):
        return source.size_bytes, source.modified
    entry = os.stat(source)
    # In whole microseconds, which is what the shards keep.
    return entry.st_size, datetime.fromtimestamp(0, UTC) + timedelta(microseconds=entry.st_mtime_ns // 1000)


def _digest(source: Source) -> str:
    if not isinstance(source, str):
        return _sampled(source)
    digest = xxhash.xxh3_128()
    with open(source, "rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return f"xxh3:{digest.hexdigest()}"


def _sampled(file: RangedFile) -> str:
    digest = xxhash.xxh3_128(f"{file.size_bytes}:".encode())
    if file.size_bytes <= BLOCK_BYTES:
        file.seek(0)
        digest.update(file.read())
    else:
        last = file.size_bytes - SAMPLED_BLOCK_BYTES
        for number in range(SAMPLED_BLOCKS):
            start = last * number // (SAMPLED_BLOCKS - 1)
            digest.update(file.read_range(start, start + SAMPLED_BLOCK_BYTES))
    return f"xxh3-sampled:{digest.hexdigest()}"
